"""Commands about tallies that are declared by a SELECT: what they cost, try them, suspend them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

from tallykeeper.cli.common import (
    FAILED,
    as_json,
    example,
    name_given,
    named,
    open_database,
    say,
    some_names_given,
)

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from tallykeeper.select.tally import SelectTally


@click.command(
    epilog=example("tally explain shop.revenue_daily", "tally explain revenue_daily --analyze")
)
@name_given
@click.option("--analyze", is_flag=True, help="Run the statement that computes pending changes.")
@as_json
def explain(name: str, analyze: bool, as_json: bool) -> None:
    """Show how a tally is maintained, what that costs, and what would make it cheaper.

    The intermediate results that it stores, each with its strategy and the reason; what is captured
    of each source; sizes; about how many rows one change is joined with; what refreshes took;
    indexes that are missing. Works before `tally migrate`, too. Changes nothing.
    """
    from tallykeeper.cli.output.explanations import as_json as to_json
    from tallykeeper.cli.output.explanations import in_words
    from tallykeeper.cli.output.progress import working
    from tallykeeper.maintain import durations
    from tallykeeper.maintain.explanation.explain import explain as find

    engine, tally = open_database(), _select_tally(name)
    with working(f"{tally.name}: explain", durations.of_refresh(engine, tally)):
        found = find(engine, tally, analyze=analyze)
    if as_json:
        click.echo(to_json(found))
        return
    for line in in_words(found):
        click.echo(line)


@click.command(epilog=example("tally check shop.revenue_daily"))
@name_given
@click.option(
    "--rows",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    help="How many rows of each source to change.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=60.0,
    show_default=True,
    help="After that no other change is tried.",
)
@as_json
def check(name: str, rows: int, seconds: float, as_json: bool) -> int:
    """Try a tally: change rows of its sources, and compare it after each change.

    In one transaction that is rolled back, so nothing is changed in the end; while it lasts, others
    wait who write the same rows. A few rows of each source are copied, each column that is used is
    set to other values, and rows are deleted; after each change the live view is compared with the
    SELECT. Says what was tried, and what could not be. Exits with 1 where anything differs.
    """
    from tallykeeper.cli.output.progress import working
    from tallykeeper.cli.output.trials import as_json as to_json
    from tallykeeper.cli.output.trials import in_words
    from tallykeeper.maintain.trial import trial

    engine, tally = open_database(), _select_tally(name)
    with working(f"{tally.name}: check") as work:
        found = trial(engine, tally, rows=rows, seconds=seconds, on_progress=work)
    if as_json:
        click.echo(to_json(found))
    else:
        for line in in_words(found):
            click.echo(line)
    return 0 if found.ok else FAILED


@click.command(epilog=example("tally suspend shop.revenue_daily"))
@some_names_given
@as_json
def suspend(names: Sequence[str], as_json: bool) -> None:
    """Have tallies stand aside while an application migrates its tables.

    Their views depend on nothing then, so that the columns which they use can be altered; reading
    them is an error until `tally resume`. In the migration's own transaction call the SQL function
    tallykeeper.suspend(tally) instead.
    """
    from tallykeeper.drift.suspension import suspend as run

    _each(names, run, as_json)


@click.command(epilog=example("tally resume shop.revenue_daily"))
@some_names_given
@as_json
def resume(names: Sequence[str], as_json: bool) -> None:
    """Put back tallies that were suspended; the next refresh rebuilds them.

    Fails where a column is missing that the SELECT uses. In the migration's own transaction call
    the SQL function tallykeeper.resume(tally) instead, which rolls the migration back then.
    """
    from tallykeeper.drift.suspension import resume as run

    _each(names, run, as_json)


def _select_tally(name: str) -> SelectTally:
    """The tally of that name, as it is declared. Raises DeclarationError, UsageError."""
    from tallykeeper.cli.selection import UnknownTally, find_tally
    from tallykeeper.maintain.explanation.explain import require_select

    try:
        return require_select(find_tally(name), name)
    except UnknownTally as error:
        raise click.UsageError(str(error), ctx=click.get_current_context()) from error


def _each(names: Sequence[str], run: Callable[[Engine, str], str], as_json: bool) -> None:
    from tallykeeper.cli.output.documents import emit

    engine = open_database()
    done = {}
    for tally in dict.fromkeys(tally.name for tally in named(engine, names)):
        done[tally] = run(engine, tally)
        say(done[tally])
    if as_json:
        emit(done=done)
