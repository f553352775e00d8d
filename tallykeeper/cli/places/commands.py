"""`tally places`, and `tally migrate --distribute`: tallies whose rows lie in several databases."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from tallykeeper.cli.common import (
    FAILED,
    as_json,
    complain,
    example,
    names_given,
    open_database,
    say,
    some_names_given,
    with_verbosity,
)

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from tallykeeper import Tally
    from tallykeeper.installation.migrate import Migrated
    from tallykeeper.places.work import Done, Places
    from tallykeeper.system import System


@click.group()
def places() -> None:
    """Work on tallies at all of their places.

    Places are declared in the file that TALLY_PLACES names, or are the shard groups of the Citus
    cluster whose coordinator the database is. What fails at one place fails there alone, and the
    command exits with 1.
    """


@click.command("migrate", epilog=example("tally places migrate"))
@click.option("--without", multiple=True, metavar="NAME", help="Leave this tally out.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done; roll it back.")
@as_json
def migrate_(without: Sequence[str], dry_run: bool, as_json: bool) -> int:
    """Install the tallies at each place. For a cluster, `tally migrate --distribute` does it."""
    from tallykeeper.cli.output.documents import emit
    from tallykeeper.cli.output.progress import working
    from tallykeeper.places.columns import columns_at, kept_of
    from tallykeeper.places.work import install_everywhere

    failed = False
    installed = []
    for system, found in _divided(open_database()):
        # Refused before any place is changed.
        columns_at(system, found()[0], without)
        kept = kept_of(system, without)
        with working(f"{system.name}: migrate"):
            done = install_everywhere(kept, found, dry_run=dry_run)
        failed |= _show_installed(done)
        installed += _fields_installed(done)
    if as_json:
        emit(ok=not failed, dry_run=dry_run, places=installed)
    return FAILED if failed else 0


@click.command("status", epilog=example("tally places status"))
@names_given
@as_json
def status_(names: Sequence[str], as_json: bool) -> int:
    """Show the state of each tally at each place: rows, pending changes, what is wrong."""
    from tallykeeper import status as run

    def line(result: Any) -> str:
        rows = "never built" if result.rows is None else f"{result.rows:,} rows"
        wrong = [*result.stale, *result.faults]
        said = f"; {'; '.join(wrong)}" if wrong else ""
        return f"{rows}, {result.pending:,} pending{said}"

    return _everywhere(names, run, line, lambda result: not result.faults, as_json)


@click.command("refresh", epilog=example("tally places refresh", "tally places refresh 'shop.*'"))
@names_given
@as_json
def refresh_(names: Sequence[str], as_json: bool) -> int:
    """Bring the named tallies, or all, up to date at each place, several places at a time."""
    from tallykeeper import refresh as run

    return _everywhere(names, run, _refreshed, lambda result: not result.faults, as_json)


@click.command("rebuild", epilog=example("tally places rebuild shop.revenue_daily"))
@some_names_given
@as_json
def rebuild_(names: Sequence[str], as_json: bool) -> int:
    """Compute tallies anew at each place."""
    from tallykeeper import rebuild as run

    return _everywhere(names, run, _refreshed, lambda result: not result.faults, as_json)


@click.command("verify", epilog=example("tally places verify"))
@names_given
@as_json
def verify_(names: Sequence[str], as_json: bool) -> int:
    """Compare the named tallies, or all, with their sources at each place."""
    from tallykeeper import verify as run

    def line(result: Any) -> str:
        if result.stale:
            return f"nothing to compare: {'; '.join(result.stale)}"
        return f"{result.compared:,} keys compared, {result.differing:,} differ"

    return _everywhere(names, run, line, lambda result: result.ok, as_json)


@click.command("incidents", epilog=example("tally places incidents"))
@as_json
def incidents_(as_json: bool) -> int:
    """List the open incidents of each place."""
    from tallykeeper.faults import incidents as written

    def found(engine: Engine, tally: Tally) -> list[Any]:
        with engine.connect() as connection:
            return list(written.listed(connection, open_only=True, subject=tally.name, limit=100))

    def line(result: Any) -> str:
        return "; ".join(f"{each.kind}: {each.what}" for each in result) or "none"

    return _everywhere((), found, line, lambda result: not result, as_json)


for _command in (status_, migrate_, refresh_, rebuild_, verify_, incidents_):
    places.add_command(with_verbosity(_command))


def distribute(without: Sequence[str], dry_run: bool, as_json: bool) -> int:
    """What `tally migrate --distribute` does: say what it takes, then do it where it is ready."""
    from tallykeeper.cli.output.documents import emit
    from tallykeeper.cli.output.progress import working
    from tallykeeper.places.distribute import distribute as run
    from tallykeeper.places.distribute import examine

    engine = open_database()
    failed = False
    systems = []
    for system in _systems():
        report = examine(engine, system, without)
        for sentence in report.first:
            say(f"{system.name}: to be done first: {sentence}")
        for tally, why in report.refused.items():
            say(f"{tally}: refused: {why}; leave it out by `--without {tally}`")
        for sentence in report.planned:
            say(f"{system.name}: {sentence}")
        installed: list[dict[str, Any]] = []
        if not report.is_ready:
            complain(f"{system.name}: nothing was changed; see what is to be done first")
            failed = True
        elif not dry_run:
            with working(f"{system.name}: distribute"):
                done = run(engine, system, without)
            failed |= _show_installed(done)
            installed = _fields_installed(done)
        systems.append(
            {
                "system": system.name,
                "first": list(report.first),
                "refused": dict(report.refused),
                "planned": list(report.planned),
                "places": installed,
            }
        )
    if dry_run:
        say("nothing was changed")
    if as_json:
        emit(ok=not failed, dry_run=dry_run, distributed=systems)
    return FAILED if failed else 0


def _systems() -> list[System]:
    """The systems that say how they are divided. Raises ClickException where none does."""
    from tallykeeper.discovery import chosen_systems

    found = [system for system in chosen_systems() if any(system.distribution.values())]
    if not found:
        raise click.ClickException(
            "no system says how its rows are divided; name the column of each source table in"
            " `distribution` of the system"
        )
    return found


def _divided(engine: Engine) -> Iterator[tuple[System, Places]]:
    from tallykeeper.places.finding import places_for

    for system in _systems():
        yield system, places_for(engine, system)


def _everywhere(
    names: Sequence[str],
    work: Callable[[Engine, Tally], Any],
    line: Callable[[Any], str],
    is_right: Callable[[Any], bool],
    as_json: bool,
) -> int:
    """Do it at each place, and print a line for each; the exit code."""
    from tallykeeper.cli.output.documents import emit
    from tallykeeper.cli.output.progress import working
    from tallykeeper.cli.selection import matching
    from tallykeeper.places.finding import tallies_at
    from tallykeeper.places.work import everywhere

    wanted = {tally for name in names for tally in matching(name)}
    failed = False
    found_at = []
    for system, found in _divided(open_database()):
        kept = [t for t in system.tallies if t in wanted] if names else tallies_at(system, found)
        what = f"{system.name}: {click.get_current_context().info_name} at all places"
        with working(what) as shown:
            results = everywhere(kept, found, work, on_progress=shown)
        for done in results:
            right = done.error is None and is_right(done.result)
            failed |= not right
            said = str(done.error).splitlines()[0] if done.error else line(done.result)
            found_at.append(
                {
                    "tally": done.tally,
                    "place": done.place,
                    "ok": right,
                    "error": said if done.error else None,
                    "result": done.result,
                }
            )
            if done.error:
                click.echo(f"{done.tally} at {done.place}: {said}", err=True)
            else:
                say(f"{done.tally} at {done.place}: {said}")
    if as_json:
        emit(ok=not failed, places=found_at)
    return FAILED if failed else 0


def _refreshed(result: Any) -> str:
    return (
        f"{result.how}, {result.pending_consumed:,} changes consumed, {result.rows:,} rows,"
        f" {result.seconds:.1f} s"
    )


def _show_installed(done: Sequence[Done[Migrated]]) -> bool:
    """Print what was done at each place; whether it failed at any."""
    for each in done:
        if each.error is not None:
            complain(f"{each.tally} at {each.place}: {str(each.error).splitlines()[0]}")
        for sentence in each.result.done if each.result else ():
            say(f"{each.place}: {sentence}")
    return any(each.error is not None for each in done)


def _fields_installed(done: Sequence[Done[Migrated]]) -> list[dict[str, Any]]:
    """The same in JSON, an object for each place."""
    return [
        {
            "systems": each.tally,
            "place": each.place,
            "done": each.result.done if each.result else [],
            "error": None if each.error is None else str(each.error).splitlines()[0],
        }
        for each in done
    ]
