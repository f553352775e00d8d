"""How a refresh consumes the pending changes of a tally that is declared by a SELECT.

In the caller's transaction and snapshot: the statement of the plan computes what they alter, and
writes the stored intermediate results; the derived table is then written by differences, like any
other. Where so much is pending that the whole SELECT is likely to take less time, that is computed
instead. Nothing is committed here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from typing import TypeGuard, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from tallykeeper.catalog import state
from tallykeeper.database import sql
from tallykeeper.database.sqlstates import QUERY_CANCELED, sqlstate_of
from tallykeeper.declarations.tally import LOGGED_AT, Everything, Keys, Tally
from tallykeeper.faults import quarantine
from tallykeeper.maintain.derived_rows import (
    KEYS,
    Outcome,
    compute,
    current_rows,
    differences,
    drop_temporary,
    forget,
    outcome_of,
    temporary,
    write_differences,
)
from tallykeeper.select import node_states, refresh_costs
from tallykeeper.select.plan import PART, TOTAL, clauses, render, statement
from tallykeeper.select.refresh_costs import Costs
from tallykeeper.select.statements.changes_function import settings_of
from tallykeeper.select.tally import SelectTally
from tallykeeper.strategies import pruned_rows

T = TypeVar("T")

CHANGES = "pg_temp.tally_changed"


def concern(tally: Tally) -> TypeGuard[SelectTally]:
    """Whether the tally is refreshed by the changes of a plan, and not by sums of its log."""
    return isinstance(tally, SelectTally) and tally.summed is None


def consume(connection: Connection, tally: SelectTally) -> Outcome:
    """Consume the pending changes, and write what they alter."""
    started = time.perf_counter()
    row = sql.execute(
        connection,
        f"SELECT (SELECT jsonb_object_agg(p.{PART}, p.rows) FROM ({_counted(tally)}) AS p)"
        f" AS pending, {quarantine.number_held(tally)} AS held,"
        f" {pruned_rows.any_frozen(tally)} AS frozen, {refresh_costs.columns(tally)}",
    ).one()
    pending = {int(part): int(rows) for part, rows in (row.pending or {}).items()}
    costs = refresh_costs.known(row)
    if not pending and not row.held:
        return Outcome(0, None, ())
    if not tally.plan.changes or costs.is_less_for_all(pending):
        return _write_all(connection, tally, pending) if pending else Outcome(0, None, ())
    outcome = _try_changes(connection, tally, pending, costs, bool(row.held), bool(row.frozen))
    if outcome is None:
        return _write_all(connection, tally)
    took = time.perf_counter() - started
    refresh_costs.record_changes(connection, tally, pending, took, costs)
    return outcome


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
    drop_temporary(connection)
    return outcome


def pending_parts(connection: Connection, tally: SelectTally) -> Mapping[int, int]:
    """How many changes are pending of each source, by its number."""
    return {row[0]: row.rows for row in sql.execute(connection, _counted(tally))}


def _counted(tally: SelectTally) -> str:
    return f"SELECT {PART}, count(*) AS rows FROM {tally.log_name} GROUP BY {PART}"


def _try_changes(
    connection: Connection,
    tally: SelectTally,
    pending: Mapping[int, int],
    costs: Costs,
    is_held: bool,
    is_frozen: bool,
) -> Outcome | None:
    """Write what pending changes alter; None, with nothing done, where that is no good.

    It can raise for rows that were never there together, where the SELECT does not. And it is ended
    where it takes longer than computing everything did: the planner may have been wrong about it.
    """
    started = time.perf_counter()
    most = costs.most_seconds

    def at_once() -> Outcome:
        return _write_changes(connection, tally, pending, most)

    def in_parts() -> bool:
        return _compute_changes(connection, tally, pending, most)

    try:
        # Keys in quarantine are tried again by themselves, frozen groups are left as they are, and
        # what a derived table refers to is locked before its rows are written.
        if not (is_held or is_frozen or tally.table.foreign_key_constraints):
            outcome = quarantine.attempt(connection, at_once)
            if outcome is not None:
                return outcome
        if not quarantine.attempt(connection, in_parts):
            return None
    except DBAPIError as error:
        took = time.perf_counter() - started
        if sqlstate_of(error) != QUERY_CANCELED or most is None or took < most:
            raise
        refresh_costs.record_changes(connection, tally, pending, took, costs)
        return None
    return _write_computed(connection, tally, is_held)


def _write_changes(
    connection: Connection, tally: SelectTally, pending: Mapping[int, int], most: float | None
) -> Outcome:
    """Do all of it in one statement.

    `most`: PostgreSQL ends the statement after so many seconds.
    """
    writes, written = differences(tally, "tally_desired", "tally_current")
    steps = ",\n".join(
        [
            *clauses(tally.plan, pending, apply=True),
            f"tally_altered AS MATERIALIZED (\n{render(tally.plan.changes, pending)}\n)",
            f"tally_keys AS MATERIALIZED ({tally.touched_groups('tally_altered')})",
            *state.touched_clauses(tally, "tally_keys"),
            f"tally_desired AS MATERIALIZED (\n{tally.changed_rows('tally_altered')}\n)",
            f"tally_current AS MATERIALIZED (\n{current_rows(tally, 'tally_keys')}\n)",
            f"tally_consumed AS (DELETE FROM {tally.log_name} RETURNING {LOGGED_AT})",
        ]
    )
    return _under_settings(
        connection,
        tally,
        most,
        lambda: outcome_of(
            connection,
            f"WITH {steps},\n{writes.removeprefix('WITH ')}\n({written})\nUNION ALL SELECT NULL,"
            f" count(*), 0, 0, 0, min({LOGGED_AT}) FROM tally_consumed",
        ),
    )


def _compute_changes(
    connection: Connection, tally: SelectTally, pending: Collection[int], most: float | None
) -> bool:
    """Put what pending changes alter into CHANGES, and bring the states up to date."""
    columns = "".join(f"{sql.quote(c.name)} {c.type}, " for c in tally.plan.columns)
    sql.execute(
        connection,
        f"CREATE TEMPORARY TABLE {CHANGES.partition('.')[2]} ({columns}{TOTAL} bigint)"
        " ON COMMIT DROP",
    )
    if not pending:
        return True
    compute_them = statement(tally.plan, pending, into=CHANGES, apply=True)
    _under_settings(connection, tally, most, lambda: sql.execute(connection, compute_them))
    sql.execute(connection, f"ANALYZE {CHANGES}")
    return True


def _under_settings(
    connection: Connection, tally: SelectTally, most: float | None, work: Callable[[], T]
) -> T:
    """Do `work` with the settings that the plan's statement needs, and reset them."""
    settings = dict(settings_of(tally.plan))
    if most is not None:
        settings["statement_timeout"] = str(max(1, int(most * 1000)))
    listed = (f"{name} = {sql.literal(value)}" for name, value in settings.items())
    sql.execute(connection, "; ".join(f"SET LOCAL {each}" for each in listed))
    result = work()
    # Without a time limit, as every transaction of the engine begins.
    limits = "join_collapse_limit = DEFAULT; SET LOCAL from_collapse_limit = DEFAULT"
    sql.execute(connection, f"SET LOCAL {limits}; SET LOCAL statement_timeout = 0")
    return result


def _write_computed(connection: Connection, tally: SelectTally, is_held: bool) -> Outcome:
    """Write what CHANGES has, and the keys in quarantine."""
    consumed, oldest = forget(connection, tally, "true")
    groups = tally.touched_groups(CHANGES)
    if is_held:
        groups = f"({groups})\nUNION {quarantine.keys(tally)}"
    temporary(connection, KEYS, groups)
    state.record_touched(connection, tally, KEYS)
    compute(connection, tally, tally.desired_rows(KEYS, CHANGES), lambda: KEYS)
    return Outcome(consumed, oldest, write_differences(connection, tally, Keys(tally, KEYS)))


def _write_all(
    connection: Connection, tally: SelectTally, untried: Collection[int] = ()
) -> Outcome:
    """Compute the states anew, from them the SELECT, and write what differs.

    `untried` are the sources whose pending changes were expected to take longer.
    """
    started = time.perf_counter()
    consumed, oldest = forget(connection, tally, "true")
    node_states.build(connection, tally)
    state.record_written(connection, tally, [], True)
    compute(connection, tally, tally.built_rows())
    written = write_differences(connection, tally, Everything())
    refresh_costs.record_all(connection, tally, time.perf_counter() - started, untried)
    return Outcome(consumed, oldest, written)
