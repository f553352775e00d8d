"""`tally places`, and `tally migrate --distribute`: tallies whose rows lie in several databases."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from tallykeeper.cli.common import (
    FAILED,
    complain,
    example,
    names_given,
    open_database,
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
def migrate_(without: Sequence[str], dry_run: bool) -> int:
    """Install the tallies at each place. For a cluster, `tally migrate --distribute` does it."""
    from tallykeeper.places.columns import columns_at, kept_of
    from tallykeeper.places.work import install_everywhere

    failed = False
    for system, found in _divided(open_database()):
        # Refused before any place is changed.
        columns_at(system, found()[0], without)
        kept = kept_of(system, without)
        done = install_everywhere(kept, found, dry_run=dry_run)
        failed |= _show_installed(done)
    return FAILED if failed else 0


@click.command("status", epilog=example("tally places status"))
@names_given
def status_(names: Sequence[str]) -> int:
    """Show the state of each tally at each place: rows, pending changes, what is wrong."""
    from tallykeeper import status as run

    def line(result: Any) -> str:
        rows = "never built" if result.rows is None else f"{result.rows:,} rows"
        wrong = [*result.stale, *result.faults]
        said = f"; {'; '.join(wrong)}" if wrong else ""
        return f"{rows}, {result.pending:,} pending{said}"

    return _everywhere(names, run, line, lambda result: not result.faults)


@click.command("refresh", epilog=example("tally places refresh", "tally places refresh 'shop.*'"))
@names_given
def refresh_(names: Sequence[str]) -> int:
    """Bring the named tallies, or all, up to date at each place, several places at a time."""
    from tallykeeper import refresh as run

    return _everywhere(names, run, _refreshed, lambda result: not result.faults)


@click.command("rebuild", epilog=example("tally places rebuild shop.revenue_daily"))
@some_names_given
def rebuild_(names: Sequence[str]) -> int:
    """Compute tallies anew at each place."""
    from tallykeeper import rebuild as run

    return _everywhere(names, run, _refreshed, lambda result: not result.faults)


@click.command("verify", epilog=example("tally places verify"))
@names_given
def verify_(names: Sequence[str]) -> int:
    """Compare the named tallies, or all, with their sources at each place."""
    from tallykeeper import verify as run

    def line(result: Any) -> str:
        if result.stale:
            return f"nothing to compare: {'; '.join(result.stale)}"
        return f"{result.compared:,} keys compared, {result.differing:,} differ"

    return _everywhere(names, run, line, lambda result: result.ok)


@click.command("incidents", epilog=example("tally places incidents"))
def incidents_() -> int:
    """List the open incidents of each place."""
    from tallykeeper.faults import incidents as written

    def found(engine: Engine, tally: Tally) -> list[Any]:
        with engine.connect() as connection:
            return list(written.listed(connection, open_only=True, subject=tally.name, limit=100))

    def line(result: Any) -> str:
        return "; ".join(f"{each.kind}: {each.what}" for each in result) or "none"

    return _everywhere((), found, line, lambda result: not result)


for _command in (status_, migrate_, refresh_, rebuild_, verify_, incidents_):
    places.add_command(with_verbosity(_command))


def distribute(without: Sequence[str], dry_run: bool) -> int:
    """What `tally migrate --distribute` does: say what it takes, then do it where it is ready."""
    from tallykeeper.places.distribute import distribute as run
    from tallykeeper.places.distribute import examine

    engine = open_database()
    failed = False
    for system in _systems():
        report = examine(engine, system, without)
        for sentence in report.first:
            click.echo(f"{system.name}: to be done first: {sentence}")
        for tally, why in report.refused.items():
            click.echo(f"{tally}: refused: {why}; leave it out by `--without {tally}`")
        for sentence in report.planned:
            click.echo(f"{system.name}: {sentence}")
        if not report.is_ready:
            complain(f"{system.name}: nothing was changed; see what is to be done first")
            failed = True
        elif not dry_run:
            failed |= _show_installed(run(engine, system, without))
    if dry_run:
        click.echo("nothing was changed")
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
) -> int:
    """Do it at each place, and print a line for each; the exit code."""
    from tallykeeper.cli.selection import matching
    from tallykeeper.places.finding import tallies_at
    from tallykeeper.places.work import everywhere

    wanted = {tally for name in names for tally in matching(name)}
    failed = False
    for system, found in _divided(open_database()):
        kept = [t for t in system.tallies if t in wanted] if names else tallies_at(system, found)
        for done in everywhere(kept, found, work):
            right = done.error is None and is_right(done.result)
            failed |= not right
            said = str(done.error).splitlines()[0] if done.error else line(done.result)
            click.echo(f"{done.tally} at {done.place}: {said}", err=done.error is not None)
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
            click.echo(f"{each.place}: {sentence}")
    return any(each.error is not None for each in done)
