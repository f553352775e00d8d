"""The command that compares tallies with what another query engine makes of their sources."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from tallykeeper.cli.common import (
    FAILED,
    as_json,
    complain,
    console,
    example,
    named,
    names_given,
    open_database,
)

if TYPE_CHECKING:
    from tallykeeper.engines.audit import EngineAudit

engine_given = click.option(
    "--engine",
    "name",
    type=click.Choice(("duckdb", "spark")),
    help="Which query engine: DuckDB in this process, or Spark.",
)


@click.command(
    epilog=example(
        "tally audit shop.revenue_daily --engine duckdb",
        "tally audit media.* --engine duckdb --json",
    )
)
@names_given
@engine_given
@as_json
def audit(names: Sequence[str], name: str | None, as_json: bool) -> int:
    """Compare the named tallies, or all, with what another query engine makes of their sources.

    The sources are exported in one snapshot, the SELECT is translated, and every row is compared,
    exactly while writers run. What has no translation that is known to be equal is refused with the
    reason. What differs is compared again by the next `tally verify`. A translation that was equal
    may be rebuilt by: `tally rebuild --engine`. Exits with 1 where anything differs or is refused.
    """
    from tallykeeper.cli.failures import explain_one
    from tallykeeper.cli.output.documents import emit
    from tallykeeper.cli.output.engine_audits import audit_fields, show_audit
    from tallykeeper.cli.output.progress import working
    from tallykeeper.engines.audit import audit_with

    if name is None:
        raise click.UsageError(
            "which query engine is to compute them? name one, as in `tally audit --engine duckdb`",
            ctx=click.get_current_context(),
        )
    engine = open_database()
    results: list[EngineAudit] = []
    errors: dict[str, str] = {}
    wanted = named(engine, names)
    for number, each in enumerate(wanted, 1):
        try:
            what = f"{each.name}: audit with {name}, {number} of {len(wanted)}"
            with working(what) as work:
                results.append(audit_with(engine, each, name, on_step=work.on_step))
        except ModuleNotFoundError:
            raise
        except Exception as error:  # noqa: BLE001 -- raised again where it is a bug
            errors[each.name] = explain_one(error, each.name)
            complain(errors[each.name])
            continue
        if not as_json:
            show_audit(results[-1], console())
    ok = not errors and all(result.ok for result in results)
    if as_json:
        emit(ok=ok, engine=name, tallies=[audit_fields(r) for r in results], errors=errors)
    return 0 if ok else FAILED
