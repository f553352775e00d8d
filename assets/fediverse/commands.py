"""What the command line has of the fediverse alone: to listen, to bring over, to partition."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from tallykeeper.cli.common import FAILED, as_json, example, open_database, say, tell
from tallykeeper.cli.output.documents import emit

if TYPE_CHECKING:
    from assets.fediverse.replay import LogVerification


@click.command(
    epilog=example(
        "tally adopt fediverse --from-schema public --instance https://mastodon.social",
        "tally adopt fediverse --from-schema fediverse_aside",
    )
)
@click.argument("system")
@click.option("--from-schema", "schema", required=True, help="The schema of its tables.")
@click.option(
    "--instance",
    metavar="URL",
    help="The server that they are of, where they do not say it; else the one to bring over.",
)
@as_json
def adopt(system: str, schema: str, instance: str | None, as_json: bool) -> int | None:
    """Adopt posts, accounts, sentiments and raw events of a fediverse application.

    What is brought over is processed, refreshed and compared; the tables in the schema are only
    read. It can be interrupted at any time: run it again, and it goes on. What is known already
    stays as it is. The other systems need no such thing: `tally migrate` adopts their tables where
    they are, also under other names (TALLY_NAMES).
    """
    from assets.fediverse.adoption.transfer import adopt as bring
    from assets.fediverse.tallies import system as fediverse
    from tallykeeper import refresh, verify
    from tallykeeper.cli.output.progress import loading, working
    from tallykeeper.discovery import left_out

    if system != "fediverse":
        raise click.UsageError(
            f"only fediverse is brought over, not {system!r}; tables of media, gallery and"
            " classroom stay where they are: say how they are named in TALLY_NAMES, and run"
            " `tally migrate`"
        )
    engine = open_database()
    with working(f"{schema}.mastodon_posts") as work:
        show = loading(work, "posts")
        done = bring(engine, schema, instance, progress=lambda seen, all_: show(seen, seen, all_))
    for sentence in done.sentences():
        say(sentence)
    wrong = []
    with engine.connect() as connection:
        without = left_out(connection, fediverse)
    kept = [tally for tally in fediverse.tallies if tally not in without]
    with working("refresh and verify") as work:
        for number, tally in enumerate(kept):
            work(number, len(kept), tally.name)
            refresh(engine, tally)
            if not verify(engine, tally).ok:
                wrong.append(tally.name)
    equal = [tally.name for tally in kept if tally.name not in wrong]
    say(f"refreshed and compared {len(equal)} tallies: equal")
    if wrong:
        say(f"not equal to their sources: {', '.join(wrong)}; see `tally verify`")
    if as_json:
        emit(ok=not wrong, **asdict(done), equal=equal, differing=wrong)
    return FAILED if wrong else None


@click.command(epilog=example("tally partition fediverse", "tally partition fediverse --ahead 12"))
@click.argument("system", type=click.Choice(["fediverse"]))
@click.option(
    "--ahead",
    type=click.IntRange(1, 240),
    default=24,
    show_default=True,
    metavar="MONTHS",
    help="How many months to make in advance.",
)
@as_json
def partition(system: str, ahead: int, as_json: bool) -> None:
    """Partition a system's big table by month.

    fediverse: mastodon_posts, by the month of creation. What is there becomes one partition, and
    each month from the next one on gets its own. An index is built beside writers first; then
    the table is locked while its rows are read once. The tallies over posts are built anew by their
    next refresh. `tally migrate` makes the months to come. Done already, it does nothing.
    """
    from assets.fediverse.storage.post_months import partition_posts
    from assets.fediverse.tallies import system as fediverse
    from tallykeeper.cli.output.progress import working

    engine = open_database()
    with working("fediverse.mastodon_posts: partition"):
        done = partition_posts(engine, fediverse.tallies, ahead)
    for sentence in done or [f"{system}: the posts are partitioned by month already"]:
        say(sentence)
    if as_json:
        emit(done=done)


_moment = click.DateTime(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"])


@click.command(
    epilog=example(
        "tally replay fediverse",
        "tally replay fediverse --from 2025-11-20 --to 2025-11-21",
        "tally replay fediverse --check",
    )
)
@click.argument("system", type=click.Choice(["fediverse"]))
@click.option("--from", "start", type=_moment, metavar="T", help="Events received from here on.")
@click.option("--to", "end", type=_moment, metavar="T", help="Events received before this, UTC.")
@click.option("--check", is_flag=True, help="Only compare, and say what differs.")
@click.option("--stored", is_flag=True, help="Leave the archive out.")
@as_json
def replay(
    system: str,
    start: datetime | None,
    end: datetime | None,
    check: bool,
    stored: bool,
    as_json: bool,
) -> int:
    """Derive what follows from raw events again, and write rows that differ.

    fediverse: posts that have an event received in the window, without bounds all; from the log,
    and from the archive where days of it are there alone. Interrupted, it goes on where it was
    when it is run again with the same window. Exit code 1 where --check finds a difference.
    """
    from assets.fediverse.replay import Replayed, verify_log
    from assets.fediverse.replay import replay as replay_stored
    from assets.fediverse.storage import archive_replay
    from tallykeeper.archive.store import open_store
    from tallykeeper.cli.output.progress import working

    engine = open_database()
    window = [None if each is None else each.replace(tzinfo=UTC) for each in (start, end)]
    done: Replayed | LogVerification
    with working("replay of fediverse") as work:
        if stored or not archive_replay.has_archived_days(engine):
            run = verify_log if check else replay_stored
            done = run(engine, *window, on_progress=work)
        else:
            run_archived = archive_replay.verify if check else archive_replay.replay
            done = run_archived(engine, open_store(), *window, say=tell, on_progress=work)
    if as_json:
        emit(**asdict(done))
    elif isinstance(done, Replayed):
        written = ", ".join(f"{name} {number:,}" for name, number in sorted(done.rows.items()))
        click.echo(
            f"{system}: {done.posts:,} posts derived again in {done.seconds:.1f} s,"
            f" {done.skipped:,} skipped, whose first events are lost; rows written:"
            f" {written or 'none, for none differed'}"
        )
    else:
        click.echo(
            f"{system}: {done.posts:,} posts compared in {done.seconds:.1f} s, {done.skipped:,}"
            f" skipped, whose first events are lost; rows that differ: {done.differing:,}"
        )
        for each in done.differences:
            click.echo(f"{each.table} {each.key}: {each.problem}")
    return FAILED if check and not isinstance(done, Replayed) and not done.ok else 0


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
@as_json
def listen(url: str, written: str, streaming_host: str | None, as_json: bool) -> None:
    """Listen to a live server of the fediverse, and record its events until interrupted.

    The access token is read from TALLY_MASTODON_TOKEN; most servers ask for one. A connection that
    ends is made again. Ctrl-C, or SIGTERM, ends it when all that was received is written.
    """
    from assets.fediverse.instances import BadInstance, base_url_of
    from assets.fediverse.settings import mastodon_token
    from assets.fediverse.streaming.listen import ListenError
    from assets.fediverse.streaming.listen import listen as run
    from assets.fediverse.streaming.stream import stream_of
    from assets.fediverse.tallies import system
    from tallykeeper.cli.load import prepare

    token = mastodon_token()
    try:
        base_url, stream = base_url_of(url), stream_of(written)
    except BadInstance as error:
        raise click.UsageError(str(error)) from error
    except ValueError as error:
        raise click.UsageError(f"--stream: {error}") from error
    engine = open_database()
    for sentence in prepare(engine, system):
        say(sentence)
    try:
        with _stopped_by_signals() as stop:
            received = run(
                engine,
                base_url,
                stream,
                token=token,
                streaming_host=streaming_host,
                stop=stop,
                say=(lambda _: None) if as_json else click.echo,
            )
    except ListenError as error:
        raise click.ClickException(str(error)) from error
    say(received.summary())
    if as_json:
        emit(**asdict(received))


@contextmanager
def _stopped_by_signals() -> Iterator[threading.Event]:
    """An event that the first SIGINT or SIGTERM sets; the second one ends the process at once."""
    stop = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def end(*_: object) -> None:
        stop.set()
        for each, handler in before.items():
            # Who started this process may have made it ignore a signal; the second one counts.
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


COMMANDS = (listen, adopt, partition, replay)
