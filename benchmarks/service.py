"""What is served, to be measured: `tally serve` on a database of the run, and `tally refresh`."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine

from benchmarks.server import libpq

TALLY = Path(sys.executable).with_name("tally")
PATIENCE_SECONDS = 60


@dataclass(frozen=True)
class Place:
    """What is served: a database, its size in words, how it changes and how it is refreshed."""

    system: str
    engine: Engine
    size: str
    change: Callable[[], object]


@contextmanager
def running(place: Place) -> Iterator[int]:
    """`tally serve` on the place's database, on a free port, for as long as the block lasts."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    with tempfile.TemporaryDirectory(prefix="tally-benchmarks-") as home:
        environment = _environment(place, home)
        process = subprocess.Popen(
            [TALLY, "serve", "--port", str(port)], env=environment, stdout=subprocess.DEVNULL
        )
        try:
            _wait_for(f"http://127.0.0.1:{port}/health", process)
            yield port
        finally:
            process.terminate()
            process.wait(PATIENCE_SECONDS)


def refreshed(place: Place) -> None:
    """Run `tally refresh`, to its end."""
    with tempfile.TemporaryDirectory(prefix="tally-benchmarks-") as home:
        subprocess.run(
            [TALLY, "refresh"],
            env=_environment(place, home),
            check=True,
            stdout=subprocess.DEVNULL,
        )


def _environment(place: Place, home: str) -> dict[str, str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("TALLY_", "DAGSTER_", "PG"))}
    return clean | {
        "TALLY_DATABASE_URL": libpq(place.engine.url),
        "TALLY_HOME": home,
        "TALLY_SYSTEMS": place.system,
    }


def _wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until and process.poll() is None:
        try:
            urllib.request.urlopen(address, timeout=5).close()  # noqa: S310 -- our own
        except (urllib.error.URLError, TimeoutError):
            time.sleep(0.1)
        else:
            return
    raise RuntimeError("`tally serve` did not come up; see above")
