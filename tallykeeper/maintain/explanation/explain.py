"""How a tally is maintained, what that costs, and what would make it cheaper.

All of it follows from the stored plan, the catalog's statistics and what refreshes took. A tally
that is not installed as it is declared is compiled in a transaction that is rolled back. Invariant:
nothing in the database is changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, Engine

from tallykeeper.database import sql
from tallykeeper.database.sessions import begin_computing
from tallykeeper.errors import DeclarationError, NotInstalled
from tallykeeper.installation import select_plans
from tallykeeper.maintain.explanation.lookups import (
    MissingIndex,
    TableFigures,
    figures,
    missing_indexes,
    rows_touched,
    table_of,
)
from tallykeeper.maintain.select_changes import pending_parts
from tallykeeper.select import refresh_costs
from tallykeeper.select.plan import CapturedSource, Plan, statement
from tallykeeper.select.statements.changes_function import settings_of
from tallykeeper.select.tally import SelectTally
from tallykeeper.strategies import pruned_rows
from tallykeeper.strategies.pruned_rows import Pruning

# So many rows for one change are worth a sentence.
MANY_ROWS = 1_000


@dataclass(frozen=True)
class SourceCost:
    """A source: what is captured, how much is pending, and what one changed row costs.

    `joined` is about how many rows a changed one is joined with, `row_seconds` what one took when
    it was last measured.
    """

    table: str
    columns: tuple[str, ...]
    condition: str | None
    rows: int | None
    pending: int | None
    joined: int
    row_seconds: float | None


@dataclass(frozen=True)
class StoredNode:
    """A stored intermediate result, with its strategy and the reason for it."""

    table: str
    strategy: str
    reason: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    rows: int | None
    bytes: int | None


@dataclass(frozen=True)
class Explanation:
    """How a tally is maintained. What there is in no database yet is None.

    `windows` are the unit and zone by which it is rebuilt, and has partitions in Dagster.
    `seconds` is what the last computation of everything took, `analysis` the plan of the statement
    that computes pending changes, as it ran, `pruned` the sources whose deleted rows count still.
    """

    tally: str
    installed: str
    strategy: str
    reasons: tuple[str, ...]
    key: tuple[str, ...]
    is_bag: bool
    windows: str | None
    sources: tuple[SourceCost, ...]
    nodes: tuple[StoredNode, ...]
    rows: int | None
    table_bytes: int | None
    pending: int | None
    log_bytes: int | None
    seconds: float | None
    missing_indexes: tuple[MissingIndex, ...]
    advice: tuple[str, ...]
    analysis: tuple[str, ...]
    pruned: tuple[Pruning, ...] = ()


def explain(engine: Engine, tally: SelectTally, *, analyze: bool = False) -> Explanation:
    """How the tally is maintained, and what that costs; with `analyze` as measured now.

    Raises DeclarationError where its SELECT is wrong, or SQLAlchemy's errors.
    """
    with engine.connect() as connection, connection.begin() as transaction:
        begin_computing(connection)
        found = _explain(connection, tally, analyze)
        transaction.rollback()
    return found


def _explain(connection: Connection, tally: SelectTally, analyze: bool) -> Explanation:
    installed = "as declared"
    try:
        # What fails in it would end the transaction.
        with connection.begin_nested():
            tally.bind(connection)
    except NotInstalled as error:
        installed = f"no: {str(error).removeprefix(f'{tally.name}: ')}"
        tally.bind_to(select_plans.try_plan(connection, tally), "")
    plan = tally.plan
    derived, log = sql.name_of(tally.table), tally.log_name
    names = [derived, log, *(node.state for node in plan.nodes)]
    names += [f"{sql.quote(s.schema)}.{sql.quote(s.table)}" for s in plan.captured]
    names += [table_of(lookup) for lookup in plan.lookups]
    tables = figures(connection, list(dict.fromkeys(names)))
    is_there = installed == "as declared"
    is_by_source = is_there and tally.summed is None
    pending = pending_parts(connection, tally) if is_by_source else None
    costs = refresh_costs.read(connection, tally) if is_there else None
    sources = tuple(_source(each, plan, tables, pending, costs) for each in plan.captured)
    missing = missing_indexes(plan, tables)
    table = tables.get(derived) if is_there else None
    return Explanation(
        tally=tally.name,
        installed=installed,
        strategy=plan.strategy,
        reasons=plan.reasons,
        key=plan.key,
        is_bag=plan.is_bag,
        windows=str(tally.windows) if tally.time_key is not None else None,
        sources=sources,
        nodes=tuple(_nodes(plan, tables)),
        rows=table.rows if table is not None else None,
        table_bytes=table.bytes if table is not None else None,
        pending=_pending(connection, tally) if is_there else None,
        log_bytes=tables[log].bytes if is_there and log in tables else None,
        seconds=costs.all_seconds if costs is not None else None,
        missing_indexes=tuple(missing),
        advice=tuple(_advice(plan, sources, missing)),
        analysis=tuple(_analyzed(connection, tally, pending or {})) if analyze else (),
        pruned=tuple(pruned_rows.pruned(connection, tally)) if is_there else (),
    )


def _source(
    source: CapturedSource,
    plan: Plan,
    tables: Mapping[str, TableFigures],
    pending: Mapping[int, int] | None,
    costs: refresh_costs.Costs | None,
) -> SourceCost:
    name = f"{sql.quote(source.schema)}.{sql.quote(source.table)}"
    table = tables.get(name)
    return SourceCost(
        table=name,
        columns=tuple(column.name for column in source.columns),
        condition=source.condition,
        rows=table.rows if table is not None else None,
        pending=pending.get(source.part, 0) if pending is not None else None,
        joined=round(rows_touched(plan, source.part, dict(tables))),
        row_seconds=costs.row_seconds.get(source.part) if costs is not None else None,
    )


def _nodes(plan: Plan, tables: Mapping[str, TableFigures]) -> list[StoredNode]:
    found = []
    for node in plan.nodes:
        table = tables.get(node.state)
        found.append(
            StoredNode(
                table=node.state,
                strategy=node.strategy,
                reason=node.reason,
                columns=tuple(column.name for column in node.columns),
                key=node.key,
                rows=table.rows if table is not None else None,
                bytes=table.bytes if table is not None else None,
            )
        )
    return found


def _advice(plan: Plan, sources: tuple[SourceCost, ...], missing: list[MissingIndex]) -> list[str]:
    """What would make it cheaper, a sentence each."""
    said = [
        f"{m.statement}; rows of {m.table} are looked up by {', '.join(m.columns)}"
        for m in missing
        if m.matters
    ]
    by_part = dict(zip((s.part for s in plan.captured), sources, strict=True))
    for lookup in plan.lookups:
        if not lookup.columns:
            asking = ", ".join(by_part[part].table for part in sorted(lookup.asked_by))
            said.append(
                f"{table_of(lookup)} is read whole for changes of {asking}: no equality joins it"
            )
    if plan.strategy == "whole":
        why = f": {plan.reasons[0]}" if plan.reasons else ""
        said.append(f"any pending change has the whole SELECT run anew{why}")
    said += [
        f"a changed row of {source.table} is joined with about {source.joined:,} others; where many"
        " change at once, everything is computed anew"
        for source in sources
        if source.joined >= MANY_ROWS and plan.strategy != "whole"
    ]
    if plan.is_bag:
        said.append(
            "nothing makes a row unique, so equal rows are numbered; where a key does, name it by"
            " `-- key: ...` above the SELECT"
        )
    return said


def _analyzed(connection: Connection, tally: SelectTally, pending: Mapping[int, int]) -> list[str]:
    """The plan of the statement that computes what is pending, run and measured."""
    if tally.summed is not None:
        return ["a refresh adds what the change log has to the derived table, and reads no source"]
    if not tally.plan.changes:
        query = f"SELECT * FROM {tally.definition_name}"
    elif not pending:
        return ["nothing is pending, so there is nothing to run"]
    else:
        query = statement(tally.plan, pending)
    for name, value in settings_of(tally.plan).items():
        sql.execute(connection, f"SET LOCAL {name} = {value}")
    rows = sql.execute(connection, f"EXPLAIN (ANALYZE, COSTS OFF, TIMING ON) {query}")
    return [row[0] for row in rows]


def _pending(connection: Connection, tally: SelectTally) -> int:
    """How many rows its change log has."""
    count = sql.execute(connection, f"SELECT count(*) FROM {tally.log_name}").scalar_one()
    return int(count)


def require_select(tally: object, name: str) -> SelectTally:
    """The tally, if it is declared by a SELECT. Raises DeclarationError."""
    if not isinstance(tally, SelectTally):
        raise DeclarationError(
            f"{name} is not declared by a SELECT, but by what each of its sources adds or marks;"
            " its triggers and live view show how it is maintained"
        )
    return tally
