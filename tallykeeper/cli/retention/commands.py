"""The command that deletes old rows of a source while what they count stays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from tallykeeper.cli.common import (
    INTERRUPTED,
    as_json,
    complain,
    example,
    named,
    open_database,
    say,
)

if TYPE_CHECKING:
    from tallykeeper import Pruned, PruneProgress

day = click.DateTime(formats=["%Y-%m-%d"])


@click.command(
    epilog=example(
        "tally prune shop.orders --before 2025-01-01 --dry-run",
        "tally prune shop.orders --before 2025-01-01 --by placed_at",
        "tally prune shop.orders --before 2025-01-01 --freeze --dry-run",
        "tally prune --due",
    )
)
@click.argument("source", required=False)
@click.option("--before", type=day, metavar="D", help="Delete what is older than this day, UTC.")
@click.option("--by", metavar="COLUMN", help="What says how old a row is, where several could.")
@click.option("--freeze", is_flag=True, help="Groups that lose rows may stay what they are.")
@click.option("--dry-run", is_flag=True, help="Say how many rows would go; change nothing.")
@click.option(
    "--batch-rows",
    type=click.IntRange(min=1),
    default=20_000,
    show_default=True,
    help="How many rows are deleted together.",
)
@click.option("--due", is_flag=True, help="What pyproject.toml says is kept no longer.")
@click.option(
    "--forget",
    metavar="NAME",
    help="Instead: give up what pruned rows count in this tally, which is then built anew.",
)
@as_json
def prune(
    source: str | None,
    before: datetime | None,
    by: str | None,
    freeze: bool,
    dry_run: bool,
    batch_rows: int,
    due: bool,
    forget: str | None,
    as_json: bool,
) -> int:
    """Delete old rows of a source table; what they count stays.

    SOURCE is a table with its schema. Of tallies of counts and sums over its single rows, what
    deleted rows had added is kept beside each. Of others, with --freeze, the groups that lose rows
    stay what they are, whatever changes later. Run again, an interrupted one goes on. Needs a role
    that may delete from the source and owns what is installed.
    """
    named_one = source is not None and before is not None
    if ((source or before) and not named_one) or [named_one, due, bool(forget)].count(True) != 1:
        raise click.UsageError(
            "a source and a day are needed, as in `tally prune shop.orders --before 2025-01-01`; or"
            " --due, or --forget, alone",
            ctx=click.get_current_context(),
        )
    if forget:
        return _forget(forget, as_json)
    from tallykeeper import prune as run
    from tallykeeper.cli.output.documents import emit
    from tallykeeper.discovery import all_systems
    from tallykeeper.maintain.pruning.retention import prune_due

    engine = open_database()
    done = []
    try:
        with _showing() as show:
            if source is None or before is None:
                for result in prune_due(engine, dry_run=dry_run, on_progress=show):
                    done.append(result)
                    say(_line(result))
            else:
                result = run(
                    engine,
                    source,
                    before.replace(tzinfo=UTC),
                    tallies=[tally for system in all_systems() for tally in system.tallies],
                    by=by,
                    freeze=freeze,
                    dry_run=dry_run,
                    batch_rows=batch_rows,
                    on_progress=show,
                )
                done.append(result)
                say(_line(result))
    except KeyboardInterrupt:
        complain("interrupted; the batches so far stay, and the same command goes on from there")
        return INTERRUPTED
    if as_json:
        emit(sources=[asdict(result) for result in done])
    return 0


@contextmanager
def _showing() -> Iterator[Callable[[PruneProgress], None]]:
    """What a pruning calls with its progress, one source after another."""
    from tallykeeper.cli.output.progress import working

    with working("prune") as work:

        def show(done: PruneProgress) -> None:
            said = f"{done.source}: {done.rows:,} of {done.total:,} rows deleted"
            work(done.rows, done.total, said)

        yield show


def _line(result: Pruned) -> str:
    did, stay = ("would be deleted", "would stay") if result.dry_run else ("deleted", "stay")
    late = f", {result.late:,} of them late: they came after rows as old had been deleted, and"
    late = f"{late} count twice where they repeat those" if result.late else ""
    groups = [f"{count:,} groups of {name}" for name, count in result.frozen.items()]
    would = "would be frozen" if result.dry_run else "were frozen"
    frozen = f"; {', '.join(groups)} {would}" if groups else ""
    return (
        f"{result.source}: {result.rows:,} rows with {result.by} before {result.before:%Y-%m-%d}"
        f" {did}{late}; they {stay} counted in {', '.join(result.tallies)}{frozen}"
    )


def _forget(name: str, as_json: bool) -> int:
    from tallykeeper.cli.output.documents import emit
    from tallykeeper.strategies import pruned_rows

    engine = open_database()
    (tally,) = named(engine, [name])
    with engine.begin() as connection:
        rows = pruned_rows.forget(connection, tally)
    say(f"{tally.name} counts {rows:,} pruned rows no more; its next refresh builds it anew")
    if as_json:
        emit(tally=tally.name, forgotten=rows)
    return 0
