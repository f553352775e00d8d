"""The `tally` command line: what each command takes and says, and nothing of how it is done.

One place turns errors into sentences and exit codes (`main`): 0 done, 1 failed or found something
wrong, 2 called wrongly, 130 interrupted. What is heavy (Dagster, pandas, matplotlib, Alembic) is
imported by the commands that need it, so that the others start at once.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console
    from sqlalchemy import Engine

    from tallies import Tally

FAILED, INTERRUPTED = 1, 130

names = click.argument("names", nargs=-1, metavar="[NAME ...]")
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
day = click.DateTime(formats=["%Y-%m-%d"])


def _example(*lines: str) -> str:
    # Click would fill the lines up; the backspace is its mark for text to be left as it is.
    return "\b\n" + "\n".join(["Example:", *(f"    {line}" for line in lines)])


def main() -> None:
    """Run the command line, and end the process with its exit code."""
    try:
        code = tally.main(prog_name="tally", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "tally"
        _complain(f"{error.format_message().rstrip('.')}; see `{command} --help`")
        sys.exit(error.exit_code)
    except click.ClickException as error:
        _complain(error.format_message())
        sys.exit(error.exit_code)
    except click.Abort:
        _complain("interrupted; what was under way was undone")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has had enough; nor may the interpreter flush it at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
    except Exception as error:
        from pipelines.failures import explain

        sentence = explain(error)
        if sentence is None:
            raise
        _complain(sentence)
        sys.exit(FAILED)
    sys.exit(code if isinstance(code, int) else 0)


class _InOrder(click.Group):
    """Lists its commands as they stand here, not by the alphabet."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=_InOrder, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tallykeeper", prog_name="tally")
def tally() -> None:
    """Keep derived tables in PostgreSQL exactly equal to what their source tables say.

    The database is the one that TALLY_DATABASE_URL names; without it an embedded PostgreSQL is
    started. NAME is a tally: daily_contributions, media.daily_contributions or
    media/daily_contributions.
    """


@tally.command(
    epilog=_example(
        "tally migrate --with-sources",
        "TALLY_SYSTEMS=media TALLY_SCHEMA_MEDIA=public tally migrate",
    )
)
@click.option("--with-sources", is_flag=True, help="Also create source tables that are missing.")
def migrate(with_sources: bool) -> None:
    """Create or adopt the derived tables, and install capture.

    All of it happens, or nothing. An existing derived table is adopted where its columns fit. A
    source table is never altered or dropped; a system whose source tables are missing is skipped.
    """
    from pipelines.migrate import migrate as run

    result = run(_engine(), with_sources=with_sources)
    for sentence in result.done:
        click.echo(sentence)
    for system, missing in result.skipped.items():
        click.echo(f"skipped {system}: there is no {', '.join(missing)}")
    if not result.systems:
        raise click.ClickException(
            "no system has its source tables here, so nothing was changed; make them with"
            " `tally migrate --with-sources`, or name the schema that has them in"
            " TALLY_SCHEMA_<SYSTEM>"
        )
    if not result.done:
        click.echo("nothing to do")


@tally.command(
    epilog=_example("tally status", "tally status --json | jq '.tallies[] | {tally, pending}'")
)
@as_json
def status(as_json: bool) -> None:
    """Show what is known of each tally.

    Rows, the size on disk of the table with its indexes and its change log, when it was last
    refreshed, its pending changes, the age of the oldest, and what the last verify found.
    """
    from assets.systems import missing_sources
    from pipelines.incident_printing import open_hint
    from pipelines.names import named_tallies, number_open, systems_of
    from pipelines.printing import show_status, status_as_json
    from tallies import NotInstalled, Status
    from tallies import status as status_of

    engine = _engine()
    found: list[tuple[Tally, Status | None]] = []
    for each in named_tallies(engine, ()):
        try:
            found.append((each, status_of(engine, each)))
        except NotInstalled:
            found.append((each, None))
    waiting = {}
    with engine.connect() as connection:
        for system in systems_of([each for each, _ in found]):
            if system.waiting is not None and not missing_sources(connection, system):
                waiting[system.name] = system.waiting(connection)
    if as_json:
        click.echo(status_as_json(found, waiting))
    else:
        show_status(found, waiting, _console())
        hint = open_hint(number_open(engine))
        if hint:
            click.echo(hint)


@tally.command(epilog=_example("tally refresh", "tally refresh daily_contributions"))
@names
def refresh(names: Sequence[str]) -> None:
    """Bring the named tallies, or all, up to date.

    Takes all pending changes; the cost follows them, not the history. A tally that was never
    built, or whose declaration changed, is rebuilt. What waits in a raw log is processed before.
    """
    from pipelines.names import systems_of
    from pipelines.printing import refreshed_line
    from tallies import refresh as run

    engine = _engine()
    named = _named(engine, names)
    for system in systems_of(named):
        done = system.process(engine) if system.process else None
        if done:
            click.echo(f"{system.name}: {done}")
    for each in named:
        click.echo(refreshed_line(run(engine, each)))


@tally.command(
    epilog=_example("tally rebuild media.daily_contributions --from 2025-11-01 --to 2025-12-01")
)
@click.argument("name")
@click.option("--from", "start", type=day, metavar="D", help="First day, UTC, as in 2025-11-01.")
@click.option("--to", "end", type=day, metavar="D", help="Day after the last, UTC: not included.")
def rebuild(name: str, start: datetime | None, end: datetime | None) -> None:
    """Compute a tally, or some days of it, anew.

    The days are those from --from up to, but not including, --to. Without --from the window has
    no beginning, without --to no end. Only rows that differ are written.
    """
    from pipelines.printing import refreshed_line
    from tallies import rebuild as run

    engine = _engine()
    (each,) = _named(engine, [name])
    result = run(engine, each, _midnight(start), _midnight(end))
    click.echo(refreshed_line(result))


@tally.command(
    epilog=_example(
        "tally backfill gallery.content_tags",
        "tally backfill gallery.content_tags --lane auto --restart",
    )
)
@click.argument("name")
@click.option("--lane", "lanes", multiple=True, metavar="LANE", help="Only this; may be repeated.")
@click.option("--restart", is_flag=True, help="From the start, even if one was interrupted.")
@click.option(
    "--target-seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=2.0,
    show_default=True,
    help="How long a batch is meant to take.",
)
def backfill(name: str, lanes: Sequence[str], restart: bool, target_seconds: float) -> int:
    """Build a big tally in batches, which can be interrupted.

    Run again, it goes on where it was. What is finished is gone over again, and only rows that
    differ are written. Between batches it stands back for writers and replicas. Changes that are
    pending stay so: `tally refresh` takes them.
    """
    from pipelines.backfilling import backfilled_line, showing
    from tallies import BadLane
    from tallies import backfill as run
    from tallies import status as status_of

    engine = _engine()
    (each,) = _named(engine, [name])
    try:
        with showing(click.echo) as show:
            done = run(
                engine,
                each,
                lanes or None,
                restart=restart,
                target_seconds=target_seconds,
                on_progress=show,
            )
    except BadLane as error:
        raise click.UsageError(str(error), ctx=click.get_current_context()) from error
    except KeyboardInterrupt:
        _complain("interrupted; the batches so far stay, and the same command goes on from there")
        return INTERRUPTED
    click.echo(backfilled_line(done, status_of(engine, each)))
    return 0


@tally.command(epilog=_example("tally verify", "tally verify daily_contributions --json"))
@names
@as_json
def verify(names: Sequence[str], as_json: bool) -> int:
    """Compare the named tallies, or all, with their sources.

    Names every key that differs, with what is stored and what the sources say. Exact while
    writers run: a difference is a real fault. Ends with 1 where anything differs, and where a
    tally was never built.
    """
    from pipelines.printing import show_verification, verifications_as_json
    from tallies import verify as run

    engine = _engine()
    results = []
    for each in _named(engine, names):
        results.append(run(engine, each))
        if not as_json:
            show_verification(results[-1], _console())
    if as_json:
        click.echo(verifications_as_json(results))
    return 0 if all(result.ok for result in results) else FAILED


@tally.command(epilog=_example("tally incidents", "tally incidents --open daily_contributions"))
@names
@click.option("--open", "open_only", is_flag=True, help="Only what is still wrong; exit 1 if any.")
@as_json
def incidents(names: Sequence[str], open_only: bool, as_json: bool) -> int:
    """Tell what was found wrong, and what became of it.

    Open incidents first, then the latest hundred that were mended. When each was found, what it
    was, its cause if it is known, how many keys differed, what is being done or when it was mended.
    NAME may also be a job, schedule or check. With --open it ends with 1 where anything is open.
    """
    from pipelines.incident_printing import incidents_as_json, incidents_in_words
    from pipelines.names import UnknownTally, incidents_of

    try:
        found = incidents_of(_engine(), names, open_only=open_only)
    except UnknownTally as error:
        raise click.UsageError(str(error), ctx=click.get_current_context()) from error
    if as_json:
        click.echo(incidents_as_json(found))
    else:
        for line in incidents_in_words(found):
            click.echo(line)
    return FAILED if open_only and found else 0


@tally.command(
    epilog=_example(
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
    processing makes nothing. In the embedded database the tables are made first.
    """
    from assets.progress import progress_bar
    from pipelines.loaders import loader_of, prepare

    found = loader_of(system)
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
    engine = _engine()
    for sentence in prepare(engine, found):
        click.echo(sentence)
    with progress_bar(f"{path.name or path}", unit=found.unit) as progress:
        loaded = found.load(engine, path, progress=progress, **options)
    click.echo(loaded.summary(found.unit))


@tally.command(
    epilog=_example(
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
def listen(url: str, written: str) -> None:
    """Listen to a live Mastodon server, and record its events until interrupted.

    The access token is read from TALLY_MASTODON_TOKEN; most servers ask for one. A connection that
    ends is made again. Ctrl-C, or SIGTERM, ends it when all that was received is written.
    """
    from assets.fediverse.instances import BadInstance, base_url_of
    from assets.fediverse.listen import ListenError
    from assets.fediverse.listen import listen as run
    from assets.fediverse.stream import stream_of
    from pipelines.loaders import loader_of, prepare
    from resources.settings import mastodon_token

    token = mastodon_token()
    try:
        base_url, stream = base_url_of(url), stream_of(written)
    except BadInstance as error:
        raise click.UsageError(str(error)) from error
    except ValueError as error:
        raise click.UsageError(f"--stream: {error}") from error
    engine = _engine()
    for sentence in prepare(engine, loader_of("fediverse")):
        click.echo(sentence)
    try:
        with _stopped_by_signals() as stop:
            heard = run(engine, base_url, stream, token=token, stop=stop, say=click.echo)
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


@tally.command(epilog=_example("tally roles | psql -d app", "tally roles --reader reporting"))
@click.option("--owner", default="tallykeeper_owner", show_default=True, metavar="ROLE")
@click.option("--refresher", default="tallykeeper_refresher", show_default=True, metavar="ROLE")
@click.option("--reader", default="tallykeeper_reader", show_default=True, metavar="ROLE")
def roles(owner: str, refresher: str, reader: str) -> None:
    """Print SQL that divides the work among roles: who owns, who refreshes, who reads.

    For an administrator, to pipe into psql; nothing is changed here. It makes the roles, hands over
    what is installed, and may be run again. `tally migrate` keeps granting by it.
    """
    from assets.systems import chosen_systems
    from pipelines.roles import Wanted, roles_sql

    script = roles_sql(_engine(), chosen_systems(), Wanted(owner, refresher, reader))
    click.echo(script, nl=False)


@tally.command(epilog=_example('eval "$(tally env)"', "dagster dev"))
@click.argument("name", required=False)
def env(name: str | None) -> None:
    """Print shell exports for `dagster dev`, `psql` and friends.

    Starts the embedded server where that is in use, and leaves it running (`tally stop`).
    Passwords are not printed: their exports ask for them with `tally env NAME`, which prints the
    value of one variable.
    """
    from pipelines.environment import exports, value_of

    _check_settings()
    if name is None:
        for line in exports():
            click.echo(line)
        return
    try:
        click.echo(value_of(name))
    except KeyError as error:
        raise click.UsageError(f"there is no variable {name!r} to export") from error


@tally.command(epilog=_example("tally stop"))
def stop() -> None:
    """Stop the embedded server; one's own is left alone."""
    from resources import embedded

    click.echo("stopped" if embedded.stop() else "nothing was running")


@tally.command(
    epilog=_example("tally metrics --address 9464", "curl -s http://127.0.0.1:9464/metrics")
)
@click.option(
    "--address",
    metavar="HOST:PORT",
    help="Where to listen; a port alone is of this machine only  [default: TALLY_METRICS_ADDRESS]",
)
def metrics(address: str | None) -> None:
    """Serve figures about the tallies for Prometheus.

    Pending changes, refreshes, verifies, incidents and sizes, read from the database at each
    scrape. Ctrl-C, or SIGTERM, ends it. `tally up` serves them too where TALLY_METRICS_ADDRESS is
    set.
    """
    from pipelines.exporter import run_exporter
    from pipelines.up import stop_signals
    from resources.settings import SettingError, listening_address, metrics_address

    _check_settings()
    try:
        listening = listening_address("--address", address) if address else metrics_address()
    except SettingError as error:
        if error.variable != "--address":
            raise
        raise click.UsageError(str(error), ctx=click.get_current_context()) from error
    if listening is None:
        raise click.UsageError(
            "no address to listen at; name one, as in `tally metrics --address 127.0.0.1:9464`, or"
            " set TALLY_METRICS_ADDRESS",
            ctx=click.get_current_context(),
        )
    with stop_signals() as stopping:
        run_exporter(listening, stopping)


@tally.command(epilog=_example("tally up --port 3001"))
@click.option("--port", type=click.IntRange(1, 65535), default=3000, show_default=True)
def up(port: int) -> None:
    """Run the Dagster UI and daemon, hourly schedules on.

    The UI is at http://localhost:PORT; Ctrl-C ends both. Where TALLY_METRICS_ADDRESS is set,
    figures for Prometheus are served there.
    """
    from pipelines.up import run_up
    from resources.alerts import targets

    _check_settings()
    targets()
    run_up(port)


@tally.command(epilog=_example("tally serve --port 8001 --workers 2"))
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True)
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Processes that answer, each with connections of its own.",
)
def serve(host: str, port: int, workers: int) -> None:
    """Answer the reads over HTTP, read-only.

    The page is at http://localhost:PORT, the addresses are in /openapi.json. Ctrl-C, or SIGTERM,
    ends it when what is under way is answered. TALLY_SERVE_DATABASE_URL names a role that may
    read alone.
    """
    from serving.server import CannotListen, run_server

    _check_settings()
    try:
        run_server(host, port, workers, say=click.echo)
    except CannotListen as error:
        raise click.ClickException(str(error)) from error


@tally.command(epilog=_example("tally demo", "TALLY_SYSTEMS=gallery tally demo --size 20000000"))
@click.option(
    "--size",
    type=click.IntRange(1, 1_000_000_000),
    help="How much to make up of each system (media: files; gallery: links of items and tags;"
    " fediverse, classroom: events)  [default: 200000, of events 20000 and 100000]",
)
def demo(size: int | None) -> None:
    """Show it all on made-up data: build, check, summarize.

    Every tally is built through Dagster and checked; a summary says where to look next. It ends by
    itself.
    """
    from pipelines.demo import run_demo

    _check_settings()
    run_demo(size)


def _engine() -> Engine:
    from resources.database import open_engine

    _check_settings()
    return open_engine()


def _check_settings() -> None:
    """Tell of a malformed setting before anything is done, also where it is not needed yet."""
    from assets.systems import chosen_systems
    from resources.settings import (
        alert_repeat_hours,
        alert_urls,
        metrics_address,
        start_date,
        ui_url,
    )

    start_date()
    metrics_address()
    alert_urls()
    alert_repeat_hours()
    ui_url()
    chosen_systems()


def _named(engine: Engine, names: Sequence[str]) -> list[Tally]:
    from pipelines.names import UnknownTally, named_tallies

    try:
        return named_tallies(engine, names)
    except UnknownTally as error:
        raise click.UsageError(str(error), ctx=click.get_current_context()) from error


def _console() -> Console:
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 80)


def _midnight(day: datetime | None) -> datetime | None:
    return day.replace(tzinfo=UTC) if day is not None else None


def _complain(sentence: str) -> None:
    click.echo(f"tally: {sentence}", err=True)
