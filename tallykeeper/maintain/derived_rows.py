"""Writing a derived table inside a transaction that may: whole, by differences, and on record.

What is written here is decided elsewhere (`refresh.py`, `run.py`). Every function works in
the caller's transaction and snapshot (see `transactions.py`) and commits nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import combinations
from typing import Any

from sqlalchemy import Connection, Engine, func, select, update
from sqlalchemy.exc import DBAPIError

from tallykeeper.catalog import state
from tallykeeper.catalog.privileges import may_maintain
from tallykeeper.catalog.transactions import lock_referenced
from tallykeeper.database import sql
from tallykeeper.database.sqlstates import QUERY_CANCELED, sqlstate_of
from tallykeeper.declarations.tally import LOGGED_AT, KeyFilter, Keys, Tally
from tallykeeper.faults import quarantine
from tallykeeper.faults.quarantine import attempt

PENDING = "pg_temp.tally_pending"
KEYS = "pg_temp.tally_keys"
DESIRED_ROWS = "pg_temp.tally_desired"
CURRENT_ROWS = "pg_temp.tally_current"
TRIED = "pg_temp.tally_tried"
SMALL_BYTES = 128 * 1024
VACUUM_AFTER_ROWS = 1_000
# In so many ways keys may have nulls, to be searched for separately.
MOST_WAYS = 16
# The same within one statement, which has them all.
MOST_NULLABLE = 3


@dataclass(frozen=True)
class Written:
    """How many keys of one day were inserted, updated and deleted.

    The day is None for a tally without windows.
    """

    day: str | None
    inserted: int
    updated: int
    deleted: int

    @property
    def keys(self) -> int:
        return self.inserted + self.updated + self.deleted


@dataclass(frozen=True)
class Refreshed:
    """What a refresh or rebuild did.

    `pending_consumed` counts change-log rows, `oldest_change` is when the oldest of them was
    logged, `rows` are those of the derived table now. `reason` says why a refresh had to rebuild,
    `faults` why its figures are not proven all the same.
    """

    tally: str
    how: str
    reason: str | None
    rows: int
    pending_consumed: int
    oldest_change: datetime | None
    changes_by_day: tuple[Written, ...]
    as_of: datetime
    seconds: float = field(compare=False)
    faults: tuple[str, ...] = ()

    @property
    def keys_changed(self) -> int:
        return sum(w.keys for w in self.changes_by_day)

    @property
    def inserted(self) -> int:
        return sum(w.inserted for w in self.changes_by_day)

    @property
    def deleted(self) -> int:
        return sum(w.deleted for w in self.changes_by_day)


@dataclass(frozen=True)
class Outcome:
    """How many change-log rows were consumed, the oldest of them, and what was written."""

    consumed: int
    oldest: datetime | None
    changes_by_day: tuple[Written, ...]


def fill(connection: Connection, tally: Tally, scope: KeyFilter) -> tuple[Written, ...]:
    """Load an empty derived table, with nothing to compare, at the speed of INSERT ... SELECT."""
    lock_referenced(connection, tally)
    windows = attempt(connection, lambda: _fill(connection, tally, scope))
    if windows is None:
        return rewrite(connection, tally, scope, empty=True)
    quarantine.lift(connection, tally, scope)
    return windows


def _fill(connection: Connection, tally: Tally, scope: KeyFilter) -> tuple[Written, ...]:
    into, value = (", updated_at", ", now()") if tally.has_updated_at else ("", "")
    at, day = "at", "NULL::timestamptz"
    if tally.time_key is not None:
        at = sql.quote(tally.time_key.column)
        # Spelling a day out costs more than finding it, and there are fewer days than rows.
        of = tally.stored_windows
        has_days = of.zone == "UTC" and of.unit != "hour"
        day = f"date_trunc('day', d.{at}, 'UTC')" if has_days else f"d.{at}"
    outcome = outcome_of(
        connection,
        f"""
WITH inserted AS (
  INSERT INTO {sql.name_of(tally.table)} AS d ({sql.columns(tally.columns)}{into})
  SELECT {sql.columns(tally.columns, "f")}{value} FROM (
{tally.rows(scope)}
  ) AS f RETURNING {day} AS {at}
), d AS (
  SELECT {at}, count(*) AS keys FROM inserted GROUP BY {at}
)
SELECT {tally.day_of("d")} AS day, NULL AS consumed, sum(keys) AS inserted, 0 AS updated,
       0 AS deleted, NULL AS oldest FROM d GROUP BY 1 ORDER BY 1""",
    )
    return outcome.changes_by_day


def added(written: Iterable[Written]) -> tuple[Written, ...]:
    """What was written to each day, all together."""
    by_day: dict[str | None, Written] = {}
    for w in written:
        b = by_day.get(w.day, Written(w.day, 0, 0, 0))
        by_day[w.day] = Written(
            w.day, b.inserted + w.inserted, b.updated + w.updated, b.deleted + w.deleted
        )
    return tuple(by_day.values())


def forget(connection: Connection, tally: Tally, condition: str) -> tuple[int, datetime | None]:
    """Delete the change-log rows (`l`) that meet the condition: how many, and the oldest."""
    row = sql.execute(
        connection,
        f"WITH consumed AS (DELETE FROM {tally.log_name} AS l WHERE {condition}"
        f" RETURNING {LOGGED_AT})"
        f" SELECT count(*) AS entries, min({LOGGED_AT}) AS oldest FROM consumed",
    ).one()
    return int(row.entries), row.oldest


def expect_growth(connection: Connection, tally: Tally) -> None:
    """Keep the planner from searching an almost empty derived table once per row.

    The search would meet all rows that the same statement has put in already, which is quadratic.
    """
    size = f"SELECT pg_relation_size({sql.literal(sql.name_of(tally.table))})"
    if sql.execute(connection, size).scalar_one() < SMALL_BYTES:
        sql.execute(connection, "SET LOCAL enable_nestloop = off")


def temporary(connection: Connection, name: str, query: str) -> None:
    """Put the rows of `query` into a temporary table that ends with the transaction."""
    create = f"CREATE TEMPORARY TABLE {name.partition('.')[2]} ON COMMIT DROP AS"
    sql.execute(connection, f"{create}\n{query}")
    sql.execute(connection, f"ANALYZE {name}")


def drop_temporary(connection: Connection) -> None:
    """Drop the temporary tables of a transaction that goes on to another tally, or does it again.

    Those whose rows are put aside have other names, and are made anew.
    """
    found = sql.execute(
        connection,
        "SELECT c.oid::regclass::text FROM pg_class AS c WHERE c.relkind = 'r'"
        " AND c.relnamespace = pg_my_temp_schema() AND starts_with(c.relname, 'tally_')",
    ).scalars()
    for name in found.all():
        sql.execute(connection, f"DROP TABLE {name}")


def rewrite(
    connection: Connection, tally: Tally, scope: KeyFilter, *, empty: bool = False
) -> tuple[Written, ...]:
    """Compute the rows of `scope` from the sources, and write those that differ.

    `empty`: the derived table is known to have none of them.
    """
    compute(connection, tally, tally.rows(scope), lambda: f"({tally.groups_of(scope)})")
    return write_differences(connection, tally, scope, empty=empty)


def compute(
    connection: Connection, tally: Tally, query: str, keys: Callable[[], str] | None = None
) -> None:
    """Put the rows of `query` into DESIRED_ROWS; keys that cannot be computed go into quarantine.

    `keys` is a relation of the groups that the query is about; None: those that it finds.
    """

    def computed() -> bool:
        temporary(connection, DESIRED_ROWS, query)
        return True

    if attempt(connection, computed):
        return
    found = f"(SELECT DISTINCT {sql.columns(tally.group, 'q')} FROM (\n{query}\n) AS q)"
    parts = tally.lenient_rows(keys() if keys is not None else found)
    if parts is None:
        # Its sums are those of a capture that did not fail: an expression of the key does.
        temporary(connection, DESIRED_ROWS, query)
        return
    temporary(connection, TRIED, parts)
    names = sql.columns(tally.columns)
    temporary(
        connection, DESIRED_ROWS, f"SELECT {names} FROM {TRIED} WHERE {quarantine.REASON} IS NULL"
    )
    quarantine.put_uncomputed_aside(connection, tally, TRIED)


def write_differences(
    connection: Connection, tally: Tally, scope: KeyFilter, *, empty: bool = False
) -> tuple[Written, ...]:
    """Make the derived table's rows in `scope` equal to the fresh ones; write only what differs.

    The rows that are held in the scope are read once, by its own condition, and then known by
    their place: the cost follows the scope and not the derived table. Keys that the derived table
    cannot hold go into quarantine.
    """
    temporary(
        connection,
        CURRENT_ROWS,
        f"SELECT d.ctid AS tally_place, d.tableoid AS tally_relation,"
        f" {sql.columns(tally.columns, 'd')}\nFROM {sql.name_of(tally.table)} AS d"
        f" WHERE {'false' if empty else _held(connection, tally, scope)}",
    )
    missing = f"NOT EXISTS (SELECT FROM {CURRENT_ROWS} AS h WHERE {tally.matches('h', 'f')})"
    lock_referenced(connection, tally, f"(SELECT f.* FROM {DESIRED_ROWS} AS f WHERE {missing})")

    def run(statement: str) -> list[Written]:
        return list(outcome_of(connection, statement).changes_by_day)

    write = partial(differences, tally)
    whole = "\n".join(write(DESIRED_ROWS, CURRENT_ROWS))
    windows = attempt(connection, lambda: run(whole))
    if windows is None:
        windows = quarantine.write_in_parts(
            connection, tally, DESIRED_ROWS, CURRENT_ROWS, write, run
        )
    quarantine.lift(connection, tally, scope)
    return added(windows)


def _held(connection: Connection, tally: Tally, scope: KeyFilter) -> str:
    """A condition on the derived table's rows `d`: those in the scope.

    Nulls compare equal by no operator that an index knows, so single keys that have nulls are
    searched for separately for each way in which they have them.
    """
    nullable = [n for n in tally.group if tally.table.c[n].nullable]
    if not tally.has_plain_table or not isinstance(scope, Keys) or not nullable:
        return scope.condition(tally, "d")
    are_null = ", ".join(f"k.{sql.quote(n)} IS NULL" for n in nullable)
    found = sql.execute(
        connection,
        f"SELECT DISTINCT ARRAY[{are_null}] FROM {scope.relation} AS k LIMIT {MOST_WAYS + 1}",
    ).scalars()
    ways = [{n for n, absent in zip(nullable, way, strict=True) if absent} for way in found]
    if len(ways) > MOST_WAYS:
        return scope.condition(tally, "d")
    searches = [
        f"SELECT x.ctid FROM {sql.name_of(tally.table)} AS x, {scope.relation} AS k"
        f" WHERE {_same_way(tally.group, absent, 'x')}"
        for absent in ways
    ]
    places = " UNION ALL ".join(searches) or "SELECT NULL::tid"
    return f"d.ctid = ANY (ARRAY({places}))"


def current_rows(tally: Tally, keys: str) -> str:
    """A SELECT of the derived table's rows of single keys, with their places.

    `keys` has each group once. Each is looked up by the index of the key: from a part of a
    statement the planner cannot tell how many there are, and might read the derived table instead.
    """
    listed = (
        f"d.ctid AS tally_place, d.tableoid AS tally_relation, {sql.columns(tally.columns, 'd')}"
    )
    derived = sql.name_of(tally.table)
    nullable = [n for n in tally.group if tally.table.c[n].nullable]
    ways = [tally.matches("k", "d", tally.group)]
    if nullable and tally.has_unique_index:
        if len(nullable) > MOST_NULLABLE or not tally.has_plain_table:
            return f"SELECT {listed} FROM {keys} AS k JOIN {derived} AS d ON {ways[0]}"
        absent = (set(c) for n in range(len(nullable) + 1) for c in combinations(nullable, n))
        ways = [_same_way(tally.group, each, "d") for each in absent]
    return "\nUNION ALL ".join(
        f"SELECT d.* FROM {keys} AS k CROSS JOIN LATERAL"
        f" (SELECT {listed} FROM {derived} AS d WHERE {way} OFFSET 0) AS d"
        for way in ways
    )


def _same_way(group: Sequence[str], absent: Collection[str], alias: str) -> str:
    """A condition: the same key as that of `k`, of which these columns are null."""
    return " AND ".join(
        f"{alias}.{sql.quote(n)} IS NULL AND k.{sql.quote(n)} IS NULL"
        if n in absent
        else f"{alias}.{sql.quote(n)} = k.{sql.quote(n)}"
        for n in group
    )


def differences(tally: Tally, fresh: str, stored: str) -> tuple[str, str]:
    """A WITH clause that writes the rows of `fresh` over those of `stored`, and what to select.

    Both relations are joined once, and fully: that is done by hashing or sorting, whatever the
    planner believes about how many rows they have.
    """
    derived = sql.name_of(tally.table)
    place = "d.ctid = m.tally_place AND d.tableoid = m.tally_relation"
    names = sql.columns(tally.columns, "f")
    differs = f" OR {tally.differ('h', 'f')}" if tally.measures else ""
    assigned = ", ".join(f"{sql.quote(n)} = m.{sql.quote(n)}" for n in tally.measures)
    touch = ", updated_at = now()" if tally.has_updated_at else ""
    into = ", updated_at" if tally.has_updated_at else ""
    value = ", now()" if tally.has_updated_at else ""
    updated = f"""
), tally_updated AS (
  UPDATE {derived} AS d SET {assigned}{touch} FROM tally_merged AS m
  WHERE {place} AND m.tally_fresh
  RETURNING {tally.day_of("d")} AS day"""
    changed = "\n  UNION ALL SELECT day, 0, 1, 0 FROM tally_updated"
    return (
        f"""WITH tally_merged AS MATERIALIZED (
  SELECT h.tally_place, h.tally_relation, f.tally_fresh, {names}
  FROM (SELECT g.*, true AS tally_fresh FROM {fresh} AS g) AS f
  FULL JOIN {stored} AS h ON {tally.matches("h", "f")}
  WHERE h.tally_place IS NULL OR f.tally_fresh IS NULL{differs}
), tally_deleted AS (
  DELETE FROM {derived} AS d USING tally_merged AS m
  WHERE {place} AND m.tally_fresh IS NULL
  RETURNING {tally.day_of("d")} AS day{updated if tally.measures else ""}
), tally_inserted AS (
  INSERT INTO {derived} AS d ({sql.columns(tally.columns)}{into})
  SELECT {sql.columns(tally.columns, "m")}{value} FROM tally_merged AS m
  WHERE m.tally_place IS NULL
  RETURNING {tally.day_of("d")} AS day
)""",
        f"""SELECT day, NULL::bigint AS consumed, sum(i) AS inserted, sum(u) AS updated,
  sum(r) AS deleted, NULL::timestamptz AS oldest
FROM (
  SELECT day, 1 AS i, 0 AS u, 0 AS r FROM tally_inserted{changed if tally.measures else ""}
  UNION ALL SELECT day, 0, 0, 1 FROM tally_deleted
) AS written GROUP BY day ORDER BY day""",
    )


def outcome_of(connection: Connection, statement: str) -> Outcome:
    """Run a statement that tells, a row each, what it took from the log and wrote to which day."""
    consumed, oldest = 0, None
    windows = []
    for row in sql.execute(connection, statement):
        if row.consumed is not None:
            consumed, oldest = int(row.consumed), row.oldest
        else:
            windows.append(Written(row.day, int(row.inserted), int(row.updated), int(row.deleted)))
    return Outcome(consumed, oldest, tuple(windows))


def record(
    connection: Connection,
    tally: Tally,
    how: str,
    reason: str | None,
    outcome: Outcome,
    started: float,
    everything: bool,
) -> Refreshed:
    """Write the state in the same transaction, so that it tells of what was committed only."""
    changed = sum(w.keys for w in outcome.changes_by_day)
    grown = sum(w.inserted - w.deleted for w in outcome.changes_by_day)
    columns = state.tally_state.c
    rows: Any = state.rows_without_cascaded(tally, grown)
    if everything:
        state.forget_cascaded(connection, tally)
        rows = select(func.count()).select_from(tally.table).scalar_subquery()
    seconds = time.perf_counter() - started
    values: dict[str, Any] = {
        "rows": rows,
        "refreshed_at": func.now(),
        "seconds": seconds,
        "pending_consumed": outcome.consumed,
        "keys_changed": changed,
    }
    if everything:
        values["built_at"] = func.now()
    row = connection.execute(
        update(state.tally_state)
        .where(columns.tally == tally.name)
        .values(values)
        .returning(columns.rows, columns.refreshed_at)
    ).one()
    days = [w.day for w in outcome.changes_by_day if w.day is not None]
    # A rebuild of everything is verified whole, even where it found nothing to write.
    state.record_written(connection, tally, days, everything)
    return Refreshed(
        tally=tally.name,
        how=how,
        reason=reason,
        rows=int(row.rows or 0),
        pending_consumed=outcome.consumed,
        oldest_change=outcome.oldest,
        changes_by_day=outcome.changes_by_day,
        as_of=row.refreshed_at,
        seconds=seconds,
    )


def record_batch(connection: Connection, tally: Tally, written: tuple[Written, ...]) -> None:
    """Keep the state true after a batch: how many rows there are, and what is to be verified."""
    if not any(w.keys for w in written):
        return
    columns = state.tally_state.c
    grown = sum(w.inserted - w.deleted for w in written)
    connection.execute(
        update(state.tally_state)
        .where(columns.tally == tally.name)
        .values(rows=state.rows_without_cascaded(tally, grown))
    )
    days = [w.day for w in written if w.day is not None]
    state.record_written(connection, tally, days, not days)


def vacuum_log(engine: Engine, tally: Tally, consumed: int) -> None:
    """Clear a log that was long, so that live reads do not wade through what was consumed.

    A role that may not, which before PostgreSQL 17 is any but its owner, leaves it to autovacuum.
    """
    if consumed >= VACUUM_AFTER_ROWS:
        maintain(engine, "VACUUM (SKIP_LOCKED, ANALYZE)", tally.log_name)


def maintain(engine: Engine, command: str, table: str) -> None:
    """Run a command of maintenance, which is not worth an error: autovacuum does it, too.

    Not where the role may not; and what a statement_timeout of the role ends is left at that.
    """
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        try:
            if may_maintain(connection, table):
                sql.execute(connection, f"{command} {table}")
        except DBAPIError as error:
            if sqlstate_of(error) != QUERY_CANCELED:
                raise
