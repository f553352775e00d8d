"""`tally metrics`: the figures for Prometheus over HTTP, until one ends it.

Every path answers with the same figures; `/metrics` is where Prometheus looks. What is measured is
in `tallykeeper/operations/metrics.py`. An unreachable database ends nothing: that is one of the
figures.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import click
from prometheus_client import start_http_server

from tallykeeper.database.connections import open_engine
from tallykeeper.discovery import chosen_systems
from tallykeeper.operations.metrics import registry


def run_exporter(address: tuple[str, int], stopping: threading.Event) -> None:
    """Serve the figures at host and port until stopped.

    Raises click.ClickException where nobody may listen there, SettingError, DatabaseUnavailable.
    """
    with exporting(address) as url:
        click.echo(f"Metrics are at {url}  (Ctrl-C ends it)")
        stopping.wait()


@contextmanager
def exporting(address: tuple[str, int]) -> Iterator[str]:
    """Serve the figures inside the block; yields their URL. Raises what `run_exporter` does."""
    host, port = address
    engine = open_engine()
    try:
        server, thread = start_http_server(port, host, registry(engine, chosen_systems()))
    except OSError as error:
        raise click.ClickException(
            f"cannot listen on port {port} of {host} ({error.strerror}); end what uses it, or name"
            " another address in TALLY_METRICS_ADDRESS or with `tally metrics --address`"
        ) from error
    try:
        shown = f"[{host}]" if ":" in host else host
        yield f"http://{shown}:{server.server_port}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        engine.dispose()
