"""Commands that bring source rows in."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from pipelines.command_line.common import (
    example,
    open_database,
)


@click.command(
    epilog=example(
        "tally load media ~/Pictures",
        "tally load gallery items.jsonl.gz",
        "tally load fediverse events.jsonl.gz --instance https://mastodon.social",
    )
)
@click.argument("system")
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("--instance", metavar="URL", help="fediverse: the server whose events they are.")
@click.option("--by-host", is_flag=True, help="fediverse: a line with a `host` is that server's.")
def load(system: str, path: Path, instance: str | None, by_host: bool) -> None:
    """Load real input into a system's source tables.

    media: a folder of images and videos, or a CSV with path, original_created_at, created_at.
    gallery: CSV, JSON Lines or Parquet with id, source, creator, created_at, tags. classroom: a
    ProgSnap2 folder or its MainTable.csv, or the CSVs of the SERI-CS data. fediverse: JSON Lines
    with stream events, statuses or edit histories. What cannot be read is listed in a reject file
    beside the input. Loading it again changes nothing; fediverse appends the events again, of which
    processing makes nothing. In the embedded database the tables are made first. Where nothing
    could be read, the command ends with 1.
    """
    from assets.loading import LoadError
    from assets.progress import progress_bar
    from pipelines.command_line.loaders import loader_of, prepare

    try:
        found = loader_of(system)
    except LoadError as error:
        raise click.UsageError(str(error), ctx=click.get_current_context()) from error
    options: dict[str, object] = {}
    if found.of_instance:
        if instance is None:
            raise click.UsageError(
                f"{system} needs --instance, the server whose events they are, as in"
                " --instance https://mastodon.social"
            )
        options = {"instance": instance, "by_host": by_host}
    elif instance is not None or by_host:
        raise click.UsageError(f"{system} knows no --instance and no --by-host; leave them out")
    engine = open_database()
    for sentence in prepare(engine, found):
        click.echo(sentence)
    with progress_bar(f"{path.name or path}", unit=found.unit) as progress:
        loaded = found.load(engine, path, progress=progress, **options)
    click.echo(loaded.summary(found.unit))
    if loaded.read and loaded.read == loaded.rejected + loaded.unreadable:
        raise click.ClickException(f"nothing of {path} could be read; see the reasons in the list")


@click.command(
    epilog=example(
        "tally listen https://mastodon.social --stream hashtag:photography",
        "TALLY_MASTODON_TOKEN=... tally listen https://mastodon.social",
    )
)
@click.argument("url")
@click.option(
    "--stream",
    "written",
    default="public",
    show_default=True,
    metavar="STREAM",
    help="public, local, user, or hashtag:NAME.",
)
@click.option(
    "--streaming-host",
    metavar="HOST",
    help="Another host that may have the server's streams, and is sent the token.",
)
def listen(url: str, written: str, streaming_host: str | None) -> None:
    """Listen to a live server of the fediverse, and record its events until interrupted.

    The access token is read from TALLY_MASTODON_TOKEN; most servers ask for one. A connection that
    ends is made again. Ctrl-C, or SIGTERM, ends it when all that was received is written.
    """
    from assets.fediverse.instances import BadInstance, base_url_of
    from assets.fediverse.listen import ListenError
    from assets.fediverse.listen import listen as run
    from assets.fediverse.stream import stream_of
    from pipelines.command_line.loaders import loader_of, prepare
    from resources.settings import mastodon_token

    token = mastodon_token()
    try:
        base_url, stream = base_url_of(url), stream_of(written)
    except BadInstance as error:
        raise click.UsageError(str(error)) from error
    except ValueError as error:
        raise click.UsageError(f"--stream: {error}") from error
    engine = open_database()
    for sentence in prepare(engine, loader_of("fediverse")):
        click.echo(sentence)
    try:
        with _stopped_by_signals() as stop:
            heard = run(
                engine,
                base_url,
                stream,
                token=token,
                streaming_host=streaming_host,
                stop=stop,
                say=click.echo,
            )
    except ListenError as error:
        raise click.ClickException(str(error)) from error
    click.echo(heard.summary())


@contextmanager
def _stopped_by_signals() -> Iterator[threading.Event]:
    """An event that the first SIGINT or SIGTERM sets; the second one ends the process at once."""
    stop = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def end(*_: object) -> None:
        stop.set()
        for each, handler in before.items():
            # Who started this process may have told it to ignore a signal; the second one counts.
            signal.signal(each, signal.SIG_DFL if handler is signal.SIG_IGN else handler)
        # Not by print, which may be interrupted in the middle of itself.
        os.write(1, b"ending when all that was received is written; again to end at once\n")

    for number in before:
        signal.signal(number, end)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
