"""How a refresh consumes the pending changes of a tally that is declared by a SELECT.

In the caller's transaction and snapshot: the statement of the plan computes what they alter, and
writes the stored intermediate results; the derived table is then written by differences, like any
other. Where so much is pending that the whole SELECT is likely to take less time, that is computed
instead. Nothing is committed here.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from typing import TypeGuard

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from tallykeeper.catalog import state
from tallykeeper.database import sql
from tallykeeper.database.sqlstates import QUERY_CANCELED, sqlstate_of
from tallykeeper.declarations.tally import Everything, Keys, Tally
from tallykeeper.faults import quarantine
from tallykeeper.maintain.derived_rows import (
    CURRENT_ROWS,
    DESIRED_ROWS,
    Outcome,
    compute,
    forget,
    rewrite,
    temporary,
    write_differences,
)
from tallykeeper.select import node_states, refresh_costs
from tallykeeper.select.plan import PART, TOTAL, statement
from tallykeeper.select.refresh_costs import Costs
from tallykeeper.select.statements.changes_function import settings_of
from tallykeeper.select.tally import SelectTally

CHANGES = "pg_temp.tally_changed"
KEYS = "pg_temp.tally_keys"


def concern(tally: Tally) -> TypeGuard[SelectTally]:
    """Whether the tally is refreshed by the changes of a plan, and not by sums of its log."""
    return isinstance(tally, SelectTally) and tally.summed is None


def consume(connection: Connection, tally: SelectTally) -> Outcome:
    """Consume the pending changes, and write what they alter."""
    started = time.perf_counter()
    pending = pending_parts(connection, tally)
    held = quarantine.held(connection, tally)
    if not pending and not held:
        return Outcome(0, None, ())
    costs = refresh_costs.read(connection, tally)
    if not tally.plan.changes or costs.is_less_for_all(pending):
        return _write_all(connection, tally) if pending else Outcome(0, None, ())
    if not _try_changes(connection, tally, pending, costs):
        return _write_all(connection, tally)
    consumed, oldest = forget(connection, tally, "true")
    groups = tally.touched_groups(CHANGES)
    if held:
        groups = f"({groups})\nUNION {quarantine.keys(tally)}"
    temporary(connection, KEYS, groups)
    state.record_touched(connection, tally, KEYS)
    compute(connection, tally, tally.desired_rows(KEYS, CHANGES), KEYS)
    written = write_differences(connection, tally, Keys(tally, KEYS))
    refresh_costs.record_changes(connection, tally, pending, time.perf_counter() - started)
    return Outcome(consumed, oldest, written)


def consume_before_scope(connection: Connection, tally: SelectTally) -> Outcome:
    """Consume what is pending before single keys or a window are computed anew.

    A pending change may concern other keys too, so none can be consumed with a scope alone. Then
    the states are built anew, all of them: what is wrong in the derived table may come of a state,
    and no condition on output columns says which of its rows that would be. Of a tally that is
    stale nothing can be consumed; its next refresh builds all of it.
    """
    if state.stale_reasons(connection, tally):
        return Outcome(0, None, ())
    outcome = consume(connection, tally)
    node_states.build(connection, tally)
    for name in (CHANGES, KEYS, DESIRED_ROWS, CURRENT_ROWS):
        sql.execute(connection, f"DROP TABLE IF EXISTS {name}")
    return outcome


def pending_parts(connection: Connection, tally: SelectTally) -> Mapping[int, int]:
    """How many changes are pending of each source, by its number."""
    rows = sql.execute(
        connection, f"SELECT {PART}, count(*) AS rows FROM {tally.log_name} GROUP BY {PART}"
    )
    return {row[0]: row.rows for row in rows}


def _try_changes(
    connection: Connection, tally: SelectTally, pending: Mapping[int, int], costs: Costs
) -> bool:
    """Compute what pending changes alter; False, with nothing done, where that is no good.

    It can raise for rows that were never there together, where the SELECT does not. And it is ended
    where it takes longer than computing everything did: the planner may have been wrong about it.
    """
    started = time.perf_counter()
    most = costs.most_seconds

    def work() -> bool:
        return _compute_changes(connection, tally, pending, most)

    try:
        return bool(quarantine.attempt(connection, work))
    except DBAPIError as error:
        took = time.perf_counter() - started
        if sqlstate_of(error) != QUERY_CANCELED or most is None or took < most:
            raise
        refresh_costs.record_changes(connection, tally, pending, took)
        return False


def _compute_changes(
    connection: Connection, tally: SelectTally, pending: Collection[int], most: float | None
) -> bool:
    """Put what pending changes alter into CHANGES, and bring the states up to date.

    `most`: PostgreSQL ends the statement after so many seconds.
    """
    columns = "".join(f"{sql.quote(c.name)} {c.type}, " for c in tally.plan.columns)
    sql.execute(
        connection,
        f"CREATE TEMPORARY TABLE {CHANGES.partition('.')[2]} ({columns}{TOTAL} bigint)"
        " ON COMMIT DROP",
    )
    if not pending:
        return True
    settings = dict(settings_of(tally.plan))
    if most is not None:
        settings["statement_timeout"] = str(_milliseconds(connection, most))
    names = ", ".join(f"current_setting('{name}')" for name in settings)
    before = sql.execute(connection, f"SELECT {names}").one()
    _set(connection, settings)
    sql.execute(connection, statement(tally.plan, pending, into=CHANGES, apply=True))
    _set(connection, dict(zip(settings, before, strict=True)))
    sql.execute(connection, f"ANALYZE {CHANGES}")
    return True


def _milliseconds(connection: Connection, most: float) -> int:
    """The time limit of a statement, no longer than the one that there is already."""
    query = "SELECT setting::bigint FROM pg_catalog.pg_settings WHERE name = 'statement_timeout'"
    before = int(sql.execute(connection, query).scalar_one())
    wanted = max(1, int(most * 1000))
    return min(before, wanted) if before else wanted


def _set(connection: Connection, settings: Mapping[str, str]) -> None:
    listed = (f"SET LOCAL {n} = {sql.literal(v)}" for n, v in settings.items())
    sql.execute(connection, "; ".join(listed))


def _write_all(connection: Connection, tally: SelectTally) -> Outcome:
    """Compute the SELECT anew, and write what differs."""
    started = time.perf_counter()
    consumed, oldest = forget(connection, tally, "true")
    node_states.build(connection, tally)
    state.record_written(connection, tally, [], True)
    written = rewrite(connection, tally, Everything())
    refresh_costs.record_all(connection, tally, time.perf_counter() - started)
    return Outcome(consumed, oldest, written)
