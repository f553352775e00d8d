"""How a refresh consumes the pending changes of a tally that is declared by a SELECT.

In the caller's transaction and snapshot: the statement of the plan computes what they alter, and
writes the stored intermediate results; the derived table is then written by differences, like any
other. Nothing is committed here.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection

from tallykeeper.catalog import state
from tallykeeper.database import sql
from tallykeeper.declarations.tally import Everything, Keys
from tallykeeper.faults import quarantine
from tallykeeper.maintain.derived_rows import (
    Outcome,
    compute,
    forget,
    rewrite,
    temporary,
    write_differences,
)
from tallykeeper.select import node_states
from tallykeeper.select.changes_function import SETTINGS
from tallykeeper.select.plan import PART, TOTAL, statement
from tallykeeper.select.tally import SelectTally

CHANGES = "pg_temp.tally_changed"
KEYS = "pg_temp.tally_keys"


def consume(connection: Connection, tally: SelectTally) -> Outcome:
    """Consume the pending changes, and write what they alter."""
    pending = pending_parts(connection, tally)
    if not tally.plan.changes:
        return _write_whole(connection, tally) if pending else Outcome(0, None, ())
    held = quarantine.held(connection, tally)
    if not pending and not held:
        return Outcome(0, None, ())
    _compute_changes(connection, tally, pending)
    consumed, oldest = forget(connection, tally, "true")
    groups = tally.touched_groups(CHANGES)
    if held:
        groups = f"({groups})\nUNION {quarantine.keys(tally)}"
    temporary(connection, KEYS, groups)
    state.record_touched(connection, tally, KEYS)
    compute(connection, tally, tally.desired_rows(KEYS, CHANGES), KEYS)
    return Outcome(consumed, oldest, write_differences(connection, tally, Keys(tally, KEYS)))


def pending_parts(connection: Connection, tally: SelectTally) -> dict[int, int]:
    """How many changes are pending of each source, by its number."""
    rows = sql.execute(
        connection, f"SELECT {PART}, count(*) AS rows FROM {tally.log_name} GROUP BY {PART}"
    )
    return {row[0]: row.rows for row in rows}


def _compute_changes(connection: Connection, tally: SelectTally, pending: Collection[int]) -> None:
    """Put what pending changes alter into CHANGES, and bring the states up to date."""
    columns = "".join(f"{sql.quote(c.name)} {c.type}, " for c in tally.plan.columns)
    sql.execute(
        connection,
        f"CREATE TEMPORARY TABLE {CHANGES.partition('.')[2]} ({columns}{TOTAL} bigint)"
        " ON COMMIT DROP",
    )
    if not pending:
        return
    before = {
        name: sql.execute(connection, f"SELECT current_setting('{name}')").scalar_one()
        for name in SETTINGS
    }
    _set(connection, SETTINGS)
    sql.execute(connection, statement(tally.plan, pending, into=CHANGES, apply=True))
    _set(connection, before)
    sql.execute(connection, f"ANALYZE {CHANGES}")


def _set(connection: Connection, settings: dict[str, str]) -> None:
    sql.execute(connection, "; ".join(f"SET LOCAL {n} = {v}" for n, v in settings.items()))


def _write_whole(connection: Connection, tally: SelectTally) -> Outcome:
    """Compute the SELECT anew, and write what differs."""
    consumed, oldest = forget(connection, tally, "true")
    node_states.build(connection, tally)
    state.record_written(connection, tally, [], True)
    return Outcome(consumed, oldest, rewrite(connection, tally, Everything()))
