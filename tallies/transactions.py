"""The transactions of the engine: one kind that writes derived tables, one that compares them.

The lock comes first. LOCK TABLE takes no snapshot, so the snapshot of a REPEATABLE READ
transaction begins after the lock is held, and every statement then sees the same state: what
the log says and what the sources say belong together. The sources are locked against TRUNCATE
alone, which would otherwise empty them under a snapshot that is older.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, Table
from sqlalchemy.exc import DBAPIError

from tallies import holding, sql
from tallies.errors import NotInstalled, TallyBusy
from tallies.tally import Tally

T = TypeVar("T")

SERIALIZATION_FAILURE = "40001"
DEADLOCK = "40P01"
LOCK_NOT_AVAILABLE = "55P03"
# No such table, no such schema.
MISSING = {"42P01", "3F000"}
RETRIED = {SERIALIZATION_FAILURE, DEADLOCK, LOCK_NOT_AVAILABLE}

ATTEMPTS = 6
LOCK_TIMEOUT_SECONDS = 10
FIRST_PAUSE_SECONDS = 0.1

SNAPSHOT: dict[str, Any] = {"isolation_level": "REPEATABLE READ"}


def writing(engine: Engine, tally: Tally, work: Callable[[Connection], T]) -> T:
    """Run `work` in a transaction that alone may write the derived table, and commit.

    Readers of the derived table and writers of the sources are never blocked. Lock timeouts,
    deadlocks and serialization failures are retried with growing pauses; TallyBusy after that.
    """
    return retried(lambda: _write_once(engine, tally, work), tally.name)


def writing_on(connection: Connection, tally: Tally, work: Callable[[Connection, float], T]) -> T:
    """The same on a connection that the caller keeps: with SNAPSHOT, and in no transaction.

    `work` is also told for how many seconds the locks were waited for.
    """

    def attempt() -> T:
        with connection.begin():
            _prepare(connection)
            started = time.perf_counter()
            _lock_for_writing(connection, tally)
            return work(connection, time.perf_counter() - started)

    return retried(attempt, tally.name)


def retried(attempt: Callable[[], T], what: str) -> T:
    """Call `attempt` again while it fails for reasons that pass by themselves."""
    for number in range(ATTEMPTS):
        try:
            return attempt()
        except DBAPIError as error:
            if sqlstate(error) not in RETRIED:
                raise
            if number == ATTEMPTS - 1:
                raise TallyBusy(
                    f"{what}: gave up after {ATTEMPTS} attempts of up to {LOCK_TIMEOUT_SECONDS} s;"
                    " another refresh, rebuild or migration holds it"
                    f" (the server said: {str(error.orig).strip()}). Nothing was changed; try later"
                ) from error
            spread = random.uniform(0.5, 1.5)  # noqa: S311 -- nothing secret about a pause
            time.sleep(FIRST_PAUSE_SECONDS * 2**number * spread)
    raise AssertionError("unreachable")


@contextmanager
def comparing(engine: Engine, tally: Tally) -> Iterator[Connection]:
    """One snapshot, in UTC, in which no source can be truncated. It may make temporary tables."""
    with _snapshot(engine) as connection:
        _lock(connection, tally, tally.sources, "ACCESS SHARE")
        yield connection


def hold_referenced(connection: Connection, tally: Tally, rows: str | None = None) -> None:
    """Keep what rows of the derived table refer to from being deleted until the transaction ends.

    `rows` is the relation of the rows that will be written; None: any. Checked by a foreign key
    alone, a referenced row that is being deleted would be waited for, while its deletion waits for
    the derived table, and the application's transaction could be the one that is ended for it. So
    nothing is waited for: the attempt fails, lets go, and is made again. A role that may not lock
    the referenced rows has a function do it (`holding.py`), or leaves it at the foreign key.
    """
    for key in tally.table.foreign_key_constraints:
        parent = key.referred_table
        function = f"to_regprocedure({sql.literal(holding.signature(tally, key))})"
        may = sql.execute(
            connection,
            f"SELECT has_any_column_privilege({sql.literal(sql.name_of(parent))}, 'UPDATE')"
            f" AS lock, has_function_privilege({function}, 'EXECUTE') AS call",
        ).one()
        if not may.lock:
            if may.call:
                sql.execute(connection, holding.call(tally, key, rows))
            continue
        condition = ""
        if rows is not None:
            referred = sql.columns([e.column.name for e in key.elements], "p")
            own = sql.columns([e.parent.name for e in key.elements], "r")
            condition = f" WHERE ({referred}) IN (SELECT {own} FROM {rows} AS r)"
        sql.execute(
            connection,
            f"SELECT count(*) FROM (SELECT FROM {sql.name_of(parent)} AS p{condition}"
            " FOR KEY SHARE NOWAIT) AS held",
        )


def sqlstate(error: DBAPIError) -> str:
    """PostgreSQL's five-letter code for what went wrong, or nothing."""
    return str(getattr(error.orig, "sqlstate", "") or "")


def _write_once(engine: Engine, tally: Tally, work: Callable[[Connection], T]) -> T:
    with _snapshot(engine) as connection:
        _lock_for_writing(connection, tally)
        return work(connection)


def _lock_for_writing(connection: Connection, tally: Tally) -> None:
    _lock(connection, tally, [tally.table], "SHARE ROW EXCLUSIVE")
    _lock(connection, tally, tally.sources, "ACCESS SHARE")


def _lock(connection: Connection, tally: Tally, tables: Sequence[Table], mode: str) -> None:
    names = ", ".join(sql.name_of(table) for table in tables)
    try:
        sql.execute(connection, f"LOCK TABLE {names} IN {mode} MODE")
    except DBAPIError as error:
        if sqlstate(error) not in MISSING:
            raise
        said = str(error.orig).splitlines()[0]
        raise NotInstalled(f"{tally.name}: {said}; run `tally migrate` first") from error


@contextmanager
def _snapshot(engine: Engine) -> Iterator[Connection]:
    with (
        engine.connect().execution_options(**SNAPSHOT) as connection,
        connection.begin(),
    ):
        _prepare(connection)
        yield connection


def _prepare(connection: Connection) -> None:
    sql.execute(connection, f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT_SECONDS}s'")
    # Everything that compares a time with or without zone does it in UTC.
    sql.execute(connection, "SET LOCAL timezone = 'UTC'")
    sql.execute(connection, "SET LOCAL jit = off")
    sql.execute(connection, f"SET LOCAL {sql.WRITING} = 'on'")
