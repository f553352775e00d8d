"""Commands that keep tallies right, and tell how they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING

import click

from tallykeeper.cli.common import (
    FAILED,
    INTERRUPTED,
    as_json,
    changed_given,
    check_settings,
    complain,
    console,
    example,
    name_given,
    named,
    names_given,
    open_database,
    say,
    some_names_given,
)

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from tallykeeper import Status, Tally
    from tallykeeper.cli.output.progress import Work
    from tallykeeper.maintain.verify import Progress as VerifyProgress

# An hour is named in UTC, as `tally verify` names it.
day = click.DateTime(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M%z"])


@click.command(
    epilog=example(
        "tally migrate --with-sources",
        "TALLY_SYSTEMS=media TALLY_SCHEMA_MEDIA=public tally migrate",
    )
)
@click.option("--with-sources", is_flag=True, help="Also create source tables that are missing.")
@click.option(
    "--move-aside",
    is_flag=True,
    help="Move derived tables that do not fit to a schema of their own, and make others.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be done; roll it back.")
@click.option(
    "--distribute",
    is_flag=True,
    help="Distribute tables and tallies over the workers of a Citus cluster.",
)
@click.option("--without", multiple=True, metavar="NAME", help="What --distribute leaves out.")
@as_json
def migrate(
    with_sources: bool,
    move_aside: bool,
    dry_run: bool,
    distribute: bool,
    without: Sequence[str],
    as_json: bool,
) -> int:
    """Create or adopt the derived tables, and install capture.

    All of it happens, or nothing. An existing derived table is adopted where its columns fit or
    can be made to. A source table is never moved or dropped, and none but a raw log altered. A
    tally whose source tables are missing is left out. With --dry-run all of it is done, and rolled
    back: what would be refused is refused, and locks are held as long.

    With --distribute it is first said what has to change in keys and constraints, and which tallies
    are refused; with --dry-run no more is done.
    """
    from tallykeeper.cli.output.documents import emit
    from tallykeeper.cli.output.progress import working
    from tallykeeper.installation.migrate import migrate as run

    if distribute:
        from tallykeeper.cli.places.commands import distribute as distribute_all

        return distribute_all(without, dry_run, as_json)

    engine = open_database()
    with working("migrate") as work:
        result = run(
            engine,
            with_sources=with_sources,
            move_aside=move_aside,
            dry_run=dry_run,
            on_progress=work,
        )
    for sentence in result.done:
        say(sentence)
    for system, missing in result.skipped.items():
        say(f"skipped {system}: there is no {', '.join(missing)}")
    for tally, missing in result.left_out.items():
        say(f"left out {tally}: there is no {', '.join(missing)}")
    if not result.systems:
        raise click.ClickException(
            "no system has its source tables here, so nothing was changed; make them with"
            " `tally migrate --with-sources`, or name the schema that has them in"
            " TALLY_SCHEMA_<SYSTEM>"
        )
    if as_json:
        emit(
            dry_run=dry_run,
            done=result.done,
            systems=[system.name for system in result.systems],
            skipped=result.skipped,
            left_out=result.left_out,
        )
        return 0
    if not result.done:
        say("nothing to do")
    elif dry_run:
        say("rolled back: nothing was changed")
    _name_undeclared(engine)
    return 0


def _name_undeclared(engine: Engine) -> None:
    """Name the tallies of the database whose declaration is missing, and what to do about it."""
    from tallykeeper.discovery import undeclared

    with engine.connect() as connection:
        for name in undeclared(connection):
            click.echo(
                f"{name} is installed here and declared nowhere: its changes are captured and never"
                f" consumed; declare it again, or take it out with `tally drop {name}`"
            )


@click.command(
    epilog=example("tally drop shop.revenue_daily", "tally drop shop.revenue_daily --dry-run")
)
@some_names_given
@click.option("--with-table", is_flag=True, help="Drop the derived tables, too.")
@click.option("--dry-run", is_flag=True, help="Only say what would be dropped.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json
def drop(names: Sequence[str], with_table: bool, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Take tallies out of the database: triggers, change log, views, functions, records.

    The derived table stays as it was refreshed last, unless --with-table. Works without the
    declaration, too; a tally that is still declared is installed again by `tally migrate`. Refused
    while another tally reads the derived table, or something of others depends on what would go.
    With --json nothing is asked, so that --yes or --dry-run is needed.
    """
    from tallykeeper import drop as run
    from tallykeeper.cli.output.documents import emit_if_json
    from tallykeeper.database.connections import open_engine

    if as_json and not (yes or dry_run):
        raise click.UsageError(
            "a program cannot be asked; add --yes, or --dry-run", ctx=click.get_current_context()
        )
    check_settings(needs_tallies=False)
    engine = open_engine()
    wanted, declared = _declared_or_not(names)
    if not yes or dry_run:
        found = run(engine, *wanted, with_table=with_table, dry_run=True)
        for verb, items in (("drops", found.removed), ("keeps", found.kept)):
            for item in items:
                say(f"{verb} {item}")
        if dry_run:
            emit_if_json(dry_run=True, **asdict(found))
            return
        click.confirm("Go on?", abort=True)
    done = run(engine, *wanted, with_table=with_table)
    say(f"dropped {', '.join(done.tallies)}")
    for name in declared:
        say(f"{name} is still declared: the next `tally migrate` installs it again")
    emit_if_json(dry_run=False, **asdict(done))


def _declared_or_not(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """The names of tallies as the database has them, and those of them that are declared."""
    from tallykeeper.cli.selection import UnknownTally, find_tally

    wanted, declared = [], []
    for name in names:
        try:
            declared.append(find_tally(name).name)
            wanted.append(declared[-1])
        except UnknownTally:
            wanted.append(name.replace("/", ".", 1))
    return wanted, list(dict.fromkeys(declared))


@click.command(
    epilog=example("tally status", "tally status --json | jq '.tallies[] | {tally, pending}'")
)
@as_json
def status(as_json: bool) -> int:
    """Show the state of each tally.

    Rows, the size on disk of the table with its indexes and its change log, when it was last
    refreshed, its pending changes, the age of the oldest, what the last verify found, and since
    when every key has been compared. Exits with 1 where something that a tally depends on is not as
    it was when it was installed.
    """
    from tallykeeper import NotInstalled
    from tallykeeper import status as status_of
    from tallykeeper.catalog import presence
    from tallykeeper.cli.output.incidents import open_hint
    from tallykeeper.cli.output.tallies import show_status, status_as_json
    from tallykeeper.cli.selection import kept_tallies, named_tallies, number_open, systems_of
    from tallykeeper.drift import event_triggers

    engine = open_database()
    found: list[tuple[Tally, Status | None]] = []
    for each in named_tallies(engine, ()):
        try:
            found.append((each, status_of(engine, each)))
        except NotInstalled:
            found.append((each, None))
    waiting = {}
    with engine.connect() as connection:
        triggers = event_triggers.faults(connection)
        for system in systems_of([each for each, _ in found]):
            if system.waiting is not None and not presence.missing(connection, system.raw):
                waiting[system.name] = system.waiting(connection)
    if as_json:
        click.echo(status_as_json(found, waiting))
    else:
        show_status(found, waiting, console())
        for tally, lacking in kept_tallies(engine).items():
            if lacking:
                click.echo(
                    f"{tally.name} is left out: there is no {', '.join(lacking)}; create it and run"
                    " `tally migrate`"
                )
        for fault in triggers:
            click.echo(f"{fault}: changes are found at the next comparison; run `tally migrate`")
        _name_undeclared(engine)
        hint = open_hint(number_open(engine))
        if hint:
            click.echo(hint)
    return FAILED if any(known is not None and known.faults for _, known in found) else 0


@click.command(epilog=example("tally refresh", "tally refresh daily_contributions"))
@names_given
@changed_given
@as_json
def refresh(names: Sequence[str], changed: bool, as_json: bool) -> int:
    """Bring the named tallies, or all, up to date.

    Consumes all pending changes; the cost follows them, not the history. A tally that was never
    built, or whose declaration changed, is rebuilt. What waits in a raw log is processed first.
    One that fails is named, and the others go on. Exits with 1 then, and where capture is not
    intact, so that the figures are not proven.
    """
    from tallykeeper import refresh as run
    from tallykeeper.cli.failures import explain_one
    from tallykeeper.cli.output.backfills import showing
    from tallykeeper.cli.output.documents import emit
    from tallykeeper.cli.output.progress import working
    from tallykeeper.cli.output.tallies import fault_lines, quarantine_line, refreshed_line
    from tallykeeper.cli.selection import systems_of
    from tallykeeper.faults import quarantine
    from tallykeeper.maintain import durations

    engine = open_database()
    wanted = named(engine, names, changed=changed)
    failed = 0
    refreshed, errors = [], {}
    for system in systems_of(wanted):
        try:
            with working(f"{system.name}: what waits in the raw log"):
                done = system.process(engine) if system.process else None
        except Exception as error:  # noqa: BLE001 -- raised again where it is a bug
            errors[system.name] = explain_one(error, system.name)
            complain(errors[system.name])
            failed += 1
            continue
        if done:
            say(f"{system.name}: {done}")
    for number, each in enumerate(wanted, 1):
        try:
            what = f"{each.name}: refresh, {number} of {len(wanted)}"
            with working(what, durations.of_refresh(engine, each)) as work:
                result = run(engine, each, on_progress=showing(work))
            with engine.connect() as connection:
                held = quarantine.held(connection, each)
        except Exception as error:  # noqa: BLE001 -- raised again where it is a bug
            errors[each.name] = explain_one(error, each.name)
            complain(errors[each.name])
            failed += 1
            continue
        failed += bool(result.faults)
        refreshed.append(asdict(result) | {"quarantined": held})
        for line in (refreshed_line(result), *fault_lines(each.name, result.faults)):
            say(line)
        if held:
            say(quarantine_line(each, held))
    if as_json:
        emit(ok=not failed, tallies=refreshed, errors=errors)
    return FAILED if failed else 0


@click.command(
    epilog=example(
        "tally rebuild media.daily_contributions --from 2025-11-01 --to 2025-12-01",
        "tally rebuild classroom.submission_counts --key 7 --key 8",
    )
)
@name_given
@click.option("--from", "start", type=day, metavar="D", help="First day, as in 2025-11-01.")
@click.option("--to", "end", type=day, metavar="D", help="Day after the last: not included.")
@click.option(
    "--key",
    "keys",
    multiple=True,
    metavar="KEY",
    help="Only this key: 7, or column=value with commas between; may be repeated.",
)
@click.option(
    "--engine",
    "by",
    type=click.Choice(("duckdb", "spark")),
    help="Have this query engine compute all of it; `tally audit` has to have found it equal.",
)
@as_json
def rebuild(
    name: str,
    start: datetime | None,
    end: datetime | None,
    keys: Sequence[str],
    by: str | None,
    as_json: bool,
) -> None:
    """Compute a tally, or some days or keys of it, anew.

    The days are those from --from up to, but not including, --to, in the time zone of the tally's
    windows, UTC by default; each begins a window of it. Without --from there is no beginning,
    without --to no end. Only rows that differ are written.
    """
    from tallykeeper import rebuild as run
    from tallykeeper import rebuild_keys
    from tallykeeper.cli.output.documents import emit
    from tallykeeper.cli.output.progress import working
    from tallykeeper.cli.output.tallies import refreshed_line
    from tallykeeper.maintain import durations
    from tallykeeper.reads.keys import key_of

    if start and end and (start.tzinfo is None) == (end.tzinfo is None) and end <= start:
        raise click.UsageError(
            f"the window ends ({end:%Y-%m-%d}) at or before it starts ({start:%Y-%m-%d});"
            " the end is exclusive and must be later",
            ctx=click.get_current_context(),
        )
    if keys and (start is not None or end is not None):
        raise click.UsageError(
            "days and keys were both named; name one or the other",
            ctx=click.get_current_context(),
        )
    if by is not None and (keys or start is not None or end is not None):
        raise click.UsageError(
            "another engine computes all of a tally; leave out days and keys, or --engine",
            ctx=click.get_current_context(),
        )
    engine = open_database()
    (each,) = named(engine, [name])
    if by is not None:
        from tallykeeper.engines.audit import rebuild_with

        with working(f"{each.name}: computing it anew by {by}") as work:
            result = rebuild_with(engine, each, by, on_step=work.on_step)
    elif keys:
        try:
            wanted = [key_of(each, key) for key in keys]
        except ValueError as error:
            raise click.UsageError(str(error), ctx=click.get_current_context()) from error
        with working(f"{each.name}: computing {len(wanted):,} keys anew"):
            result = rebuild_keys(engine, each, wanted)
    else:
        whole = durations.of_rebuild(engine, each) if start is None and end is None else None
        with working(f"{each.name}: computing it anew", whole):
            result = run(engine, each, _moment(each, start), _moment(each, end))
    if as_json:
        emit(tallies=[result])
    else:
        click.echo(refreshed_line(result))


@click.command(
    epilog=example(
        "tally backfill gallery.content_tags",
        "tally backfill gallery.content_tags --lane auto --restart",
    )
)
@name_given
@click.option("--lane", "lanes", multiple=True, metavar="LANE", help="Only this; may be repeated.")
@click.option("--restart", is_flag=True, help="From the start, even if one was interrupted.")
@click.option(
    "--target-seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=2.0,
    show_default=True,
    help="How long a batch is meant to take.",
)
@as_json
def backfill(
    name: str, lanes: Sequence[str], restart: bool, target_seconds: float, as_json: bool
) -> int:
    """Build a big tally in batches, which can be interrupted.

    Run again, it resumes where it stopped. What is finished is processed again, and only rows that
    differ are written. Between batches it waits for writers and replicas. Changes that are
    pending stay so: `tally refresh` takes them.
    """
    from tallykeeper import BadLane
    from tallykeeper import backfill as run
    from tallykeeper import status as status_of
    from tallykeeper.cli.output.backfills import backfilled_line, showing
    from tallykeeper.cli.output.documents import emit
    from tallykeeper.cli.output.progress import working

    engine = open_database()
    (each,) = named(engine, [name])
    try:
        with working(f"{each.name}: backfill") as work:
            done = run(
                engine,
                each,
                lanes or None,
                restart=restart,
                target_seconds=target_seconds,
                on_progress=showing(work),
            )
    except BadLane as error:
        raise click.UsageError(str(error), ctx=click.get_current_context()) from error
    except KeyboardInterrupt:
        complain("interrupted; the batches so far stay, and the same command goes on from there")
        return INTERRUPTED
    known = status_of(engine, each)
    if as_json:
        emit(tallies=[done], pending=known.pending, stale=known.stale)
    else:
        click.echo(backfilled_line(done, known))
    return 0


@click.command(epilog=example("tally verify", "tally verify daily_contributions --json"))
@names_given
@changed_given
@as_json
def verify(names: Sequence[str], changed: bool, as_json: bool) -> int:
    """Compare the named tallies, or all, with their sources.

    Names every key that differs, with what is stored and what the sources say. Exact while writers
    run: a difference is a real fault. A big tally is compared in stretches of a snapshot each, and
    how far that is goes to standard error. What it finds wrong is an incident, which it resolves
    when it finds it right. Exits with 1 where anything differs, and where a tally was never built.
    """
    from tallykeeper import verify as run
    from tallykeeper.cli.output.progress import working
    from tallykeeper.cli.output.tallies import show_verification, verifications_as_json
    from tallykeeper.maintain import durations
    from tallykeeper.operations.differences import record

    engine = open_database()
    results = []
    wanted = named(engine, names, changed=changed)
    for number, each in enumerate(wanted, 1):
        what = f"{each.name}: verify, {number} of {len(wanted)}"
        with working(what, durations.of_verify(engine, each)) as work:

            def show(progress: VerifyProgress, work: Work = work) -> None:
                keys = f"{progress.keys:,} keys compared, {progress.stretch}"
                work(progress.keys, progress.total, keys)

            results.append(run(engine, each, on_progress=show))
        with engine.begin() as connection:
            record(connection, each, results[-1])
        if not as_json:
            show_verification(results[-1], console())
    if as_json:
        click.echo(verifications_as_json(results))
    return 0 if all(result.ok for result in results) else FAILED


@click.command(epilog=example("tally incidents", "tally incidents --open daily_contributions"))
@names_given
@click.option("--open", "open_only", is_flag=True, help="Only what is still wrong; exit 1 if any.")
@as_json
def incidents(names: Sequence[str], open_only: bool, as_json: bool) -> int:
    """List what was found wrong, and what was done about it.

    Open incidents first, then the latest hundred that were resolved. When each was found, what it
    was, its cause if it is known, how many keys differed, what is being done or when it was
    resolved. NAME may also be a job, schedule or check. With --open it exits with 1 where anything
    is open.
    """
    from tallykeeper.cli.output.incidents import incidents_as_json, incidents_in_words
    from tallykeeper.cli.selection import UnknownTally, incidents_of

    try:
        found = incidents_of(open_database(), names, open_only=open_only)
    except UnknownTally as error:
        raise click.UsageError(str(error), ctx=click.get_current_context()) from error
    if as_json:
        click.echo(incidents_as_json(found))
    else:
        for line in incidents_in_words(found):
            click.echo(line)
    return FAILED if open_only and found else 0


def _moment(tally: Tally, day: datetime | None) -> datetime | None:
    if day is None or day.tzinfo is not None:
        return day
    return tally.windows.start_of_day(day.date())
