"""Bringing a derived table up to date: by its pending changes, or by rebuilding windows of it.

Either is one transaction and one snapshot (see `transactions.py`). What dies half way leaves
nothing behind; a change whose transaction the snapshot does not see stays pending.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Engine, func, select, update

from tallies import sql, state
from tallies.additive import AdditiveTally
from tallies.errors import BadWindow, NotInstalled, TallyBusy
from tallies.install import install
from tallies.recomputed import RecomputedTally
from tallies.tally import LOGGED_AT, Between, Everything, Keys, Scope, Tally
from tallies.transactions import hold_referenced, retried, writing

FRESH = "pg_temp.tally_fresh"
PENDING = "pg_temp.tally_pending"
KEYS = "pg_temp.tally_keys"
SMALL_BYTES = 128 * 1024


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

    `pending_taken` counts change-log rows, `oldest_change` is when the oldest of them was logged,
    `rows` are those of the derived table now. `reason` says why a refresh had to rebuild.
    """

    tally: str
    how: str
    reason: str | None
    rows: int
    pending_taken: int
    oldest_change: datetime | None
    windows: tuple[Written, ...]
    as_of: datetime
    seconds: float = field(compare=False)

    @property
    def keys_changed(self) -> int:
        return sum(w.keys for w in self.windows)

    @property
    def inserted(self) -> int:
        return sum(w.inserted for w in self.windows)

    @property
    def deleted(self) -> int:
        return sum(w.deleted for w in self.windows)


@dataclass(frozen=True)
class _Outcome:
    taken: int
    oldest: datetime | None
    windows: tuple[Written, ...]


def refresh(engine: Engine, tally: Tally) -> Refreshed:
    """Take all pending changes of `tally` and apply them; the cost follows the changes.

    A tally that is stale, or whose declaration changed, is rebuilt instead.

    Raises NotInstalled, TallyBusy, or SQLAlchemy's errors; the derived table is then unchanged.
    """
    _adopt_declaration(engine, tally)
    started = time.perf_counter()

    def work(connection: Connection) -> Refreshed:
        _require_same_declaration(connection, tally)
        reasons = state.stale_reasons(connection, tally)
        if reasons:
            outcome = _rebuild(connection, tally, Everything())
            return _record(connection, tally, "rebuild", "; ".join(reasons), outcome, started, True)
        if isinstance(tally, AdditiveTally):
            _expect_growth(connection, tally)
            hold_referenced(connection, tally, tally.log_name)
            outcome = _outcome(connection, tally.take_and_apply())
        elif isinstance(tally, RecomputedTally):
            outcome = _recompute(connection, tally)
        else:
            raise TypeError(f"{tally!r} is kept in no way that refresh knows")
        return _record(connection, tally, "refresh", None, outcome, started, False)

    result = writing(engine, tally, work)
    _vacuum_log(engine, tally, result.pending_taken)
    return result


def rebuild(
    engine: Engine,
    tally: Tally,
    start: datetime | None = None,
    end: datetime | None = None,
) -> Refreshed:
    """Compute the keys of a window anew from the sources, and write those rows that differ.

    The window is half-open, [start, end), in aware datetimes; None is an open end, and two of
    them are everything. The window's pending deltas are consumed with it. Marks of a recomputed
    tally stay pending unless everything is rebuilt, for one may concern other windows too.

    Raises BadWindow, NotInstalled, TallyBusy, or SQLAlchemy's errors; nothing is changed then.
    """
    _check_window(tally, start, end)
    _adopt_declaration(engine, tally)
    everything = start is None and end is None
    scope: Scope = Everything()
    if not everything and tally.window is not None:
        scope = Between(tally.window, start, end)
    started = time.perf_counter()

    def work(connection: Connection) -> Refreshed:
        _require_same_declaration(connection, tally)
        outcome = _rebuild(connection, tally, scope)
        return _record(connection, tally, "rebuild", None, outcome, started, everything)

    result = writing(engine, tally, work)
    _vacuum_log(engine, tally, result.pending_taken)
    return result


def _check_window(tally: Tally, start: datetime | None, end: datetime | None) -> None:
    if (start or end) and tally.window is None:
        raise BadWindow(f"{tally.name} has no windows; rebuild all of it")
    for moment in (start, end):
        if moment is not None and moment.tzinfo is None:
            raise BadWindow(f"{moment} has no time zone; windows are in UTC")
        if moment is not None and moment != _midnight(moment):
            raise BadWindow(f"{moment} is not midnight UTC; windows are whole days")
    if start is not None and end is not None and start >= end:
        raise BadWindow(
            f"the window ends ({end:%Y-%m-%d}) at or before it starts ({start:%Y-%m-%d});"
            " the end is exclusive and must be later"
        )


def _midnight(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def _adopt_declaration(engine: Engine, tally: Tally) -> None:
    with engine.connect() as connection:
        installed = state.installed(connection, tally)
    if installed is None:
        raise NotInstalled(f"{tally.name} is not installed in this database; run `tally migrate`")
    if installed.declaration_hash == tally.declaration_hash():
        return

    def adopt() -> None:
        with engine.begin() as connection:
            install(connection, tally.siblings)

    retried(adopt, tally.name)


def _require_same_declaration(connection: Connection, tally: Tally) -> None:
    installed = state.installed(connection, tally)
    if installed is None or installed.declaration_hash != tally.declaration_hash():
        raise TallyBusy(
            f"{tally.name}: another process has installed another declaration of it just now;"
            " nothing was changed. Run only one version of the code against a database"
        )


def _rebuild(connection: Connection, tally: Tally, scope: Scope) -> _Outcome:
    whole = isinstance(scope, Everything)
    taken, oldest = 0, None
    if whole or isinstance(tally, AdditiveTally):
        taken, oldest = _forget(connection, tally, scope.condition(tally, "l"))
    if sql.execute(connection, f"SELECT FROM {sql.name_of(tally.table)} LIMIT 1").first() is None:
        windows = _fill(connection, tally, scope)
    else:
        sql.execute(
            connection,
            f"CREATE TEMPORARY TABLE {_unqualified(FRESH)} ON COMMIT DROP AS\n{tally.rows(scope)}",
        )
        sql.execute(connection, f"ANALYZE {FRESH}")
        windows = _write_differences(connection, tally, scope)
    if whole:
        state.clear_stale(connection, tally)
    return _Outcome(taken, oldest, windows)


def _fill(connection: Connection, tally: Tally, scope: Scope) -> tuple[Written, ...]:
    """Load an empty derived table, with nothing to compare, at the speed of INSERT ... SELECT."""
    hold_referenced(connection, tally)
    into, value = (", updated_at", ", now()") if tally.has_updated_at else ("", "")
    at, day = "at", "NULL::timestamptz"
    if tally.window is not None:
        at = sql.quote(tally.window.column)
        # Spelling a day out costs more than finding it, and there are fewer days than rows.
        day = f"date_trunc('day', d.{at}, 'UTC')"
    outcome = _outcome(
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
SELECT {tally.day_of("d")} AS day, NULL AS taken, sum(keys) AS inserted, 0 AS updated, 0 AS deleted,
       NULL AS oldest FROM d GROUP BY 1 ORDER BY 1""",
    )
    return outcome.windows


def _recompute(connection: Connection, tally: RecomputedTally) -> _Outcome:
    names = sql.columns([c.name for c in tally.log_columns()])
    sql.execute(
        connection,
        f"CREATE TEMPORARY TABLE {_unqualified(PENDING)} ON COMMIT DROP AS"
        f" SELECT {names}, {LOGGED_AT} FROM {tally.log_name}",
    )
    taken, oldest = _forget(connection, tally, "true")
    if not taken:
        return _Outcome(0, None, ())
    sql.execute(connection, f"ANALYZE {PENDING}")
    keys = sql.render(tally.pending_keys(PENDING))
    sql.execute(
        connection,
        f"CREATE TEMPORARY TABLE {_unqualified(KEYS)} ON COMMIT DROP AS\n{keys}",
    )
    sql.execute(connection, f"ANALYZE {KEYS}")
    sql.execute(
        connection,
        f"CREATE TEMPORARY TABLE {_unqualified(FRESH)} ON COMMIT DROP AS\n{tally.rows_of(KEYS)}",
    )
    sql.execute(connection, f"ANALYZE {FRESH}")
    return _Outcome(taken, oldest, _write_differences(connection, tally, Keys(tally, KEYS)))


def _forget(connection: Connection, tally: Tally, condition: str) -> tuple[int, datetime | None]:
    row = sql.execute(
        connection,
        f"WITH taken AS (DELETE FROM {tally.log_name} AS l WHERE {condition} RETURNING {LOGGED_AT})"
        f" SELECT count(*) AS entries, min({LOGGED_AT}) AS oldest FROM taken",
    ).one()
    return int(row.entries), row.oldest


def _expect_growth(connection: Connection, tally: Tally) -> None:
    """Keep the planner from searching an almost empty derived table once per row.

    The search would meet all rows that the same statement has put in already, which is quadratic.
    """
    size = f"SELECT pg_relation_size({sql.literal(sql.name_of(tally.table))})"
    if sql.execute(connection, size).scalar_one() < SMALL_BYTES:
        sql.execute(connection, "SET LOCAL enable_nestloop = off")


def _write_differences(connection: Connection, tally: Tally, scope: Scope) -> tuple[Written, ...]:
    """Make the derived table's rows in `scope` equal to the fresh ones; write only what differs."""
    _expect_growth(connection, tally)
    hold_referenced(connection, tally, FRESH)
    derived = sql.name_of(tally.table)
    same = tally.matches("d", "f")
    stored, fresh = (sql.columns(tally.measures, alias) for alias in ("d", "f"))
    assigned = ", ".join(f"{sql.quote(n)} = f.{sql.quote(n)}" for n in tally.measures)
    touch = ", updated_at = now()" if tally.has_updated_at else ""
    into = ", updated_at" if tally.has_updated_at else ""
    value = ", now()" if tally.has_updated_at else ""
    updated = f"""
), updated AS (
  UPDATE {derived} AS d SET {assigned}{touch} FROM {FRESH} AS f
  WHERE {same} AND ROW({stored}) IS DISTINCT FROM ROW({fresh})
  RETURNING {tally.day_of("d")} AS day"""
    changed = "\n  UNION ALL SELECT day, 0, 1, 0 FROM updated"
    outcome = _outcome(
        connection,
        f"""
WITH deleted AS (
  DELETE FROM {derived} AS d
  WHERE {scope.condition(tally, "d")} AND NOT EXISTS (SELECT FROM {FRESH} AS f WHERE {same})
  RETURNING {tally.day_of("d")} AS day{updated if tally.measures else ""}
), inserted AS (
  INSERT INTO {derived} AS d ({sql.columns(tally.columns)}{into})
  SELECT {sql.columns(tally.columns, "f")}{value} FROM {FRESH} AS f
  WHERE NOT EXISTS (SELECT FROM {derived} AS d WHERE {same})
  RETURNING {tally.day_of("d")} AS day
)
SELECT day, NULL AS taken, sum(i) AS inserted, sum(u) AS updated, sum(r) AS deleted, NULL AS oldest
FROM (
  SELECT day, 1 AS i, 0 AS u, 0 AS r FROM inserted{changed if tally.measures else ""}
  UNION ALL SELECT day, 0, 0, 1 FROM deleted
) AS written GROUP BY day ORDER BY day""",
    )
    return outcome.windows


def _outcome(connection: Connection, statement: str) -> _Outcome:
    taken, oldest = 0, None
    windows = []
    for row in sql.execute(connection, statement):
        if row.taken is not None:
            taken, oldest = int(row.taken), row.oldest
        else:
            windows.append(Written(row.day, int(row.inserted), int(row.updated), int(row.deleted)))
    return _Outcome(taken, oldest, tuple(windows))


def _record(
    connection: Connection,
    tally: Tally,
    how: str,
    reason: str | None,
    outcome: _Outcome,
    started: float,
    everything: bool,
) -> Refreshed:
    """Write the state in the same transaction, so that it tells of what was committed only."""
    changed = sum(w.keys for w in outcome.windows)
    grown = sum(w.inserted - w.deleted for w in outcome.windows)
    columns = state.tally_state.c
    rows: Any = func.coalesce(columns.rows, 0) + grown
    if everything:
        rows = select(func.count()).select_from(tally.table).scalar_subquery()
    seconds = time.perf_counter() - started
    values: dict[str, Any] = {
        "rows": rows,
        "refreshed_at": func.now(),
        "seconds": seconds,
        "pending_taken": outcome.taken,
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
    days = [w.day for w in outcome.windows if w.day is not None]
    # A rebuild of everything is verified whole, even where it found nothing to write.
    state.record_written(connection, tally, days, everything or (bool(changed) and not days))
    return Refreshed(
        tally=tally.name,
        how=how,
        reason=reason,
        rows=int(row.rows or 0),
        pending_taken=outcome.taken,
        oldest_change=outcome.oldest,
        windows=outcome.windows,
        as_of=row.refreshed_at,
        seconds=seconds,
    )


def _vacuum_log(engine: Engine, tally: Tally, taken: int) -> None:
    """Clear a log that was long, so that live reads do not wade through what was taken."""
    if taken < VACUUM_AFTER_ROWS:
        return
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        sql.execute(connection, f"VACUUM (SKIP_LOCKED, ANALYZE) {tally.log_name}")


VACUUM_AFTER_ROWS = 1_000


def _unqualified(name: str) -> str:
    return name.partition(".")[2]
