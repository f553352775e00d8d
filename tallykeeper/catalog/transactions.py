"""The transactions of the engine: one kind that writes derived tables, one that compares them.

The lock comes first. LOCK TABLE takes no snapshot, so the snapshot of a REPEATABLE READ
transaction begins after the lock is held, and every statement then sees the same state: what
the log says and what the sources say belong together. The sources are locked against TRUNCATE
alone, which would otherwise empty them under a snapshot that is older.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from tallykeeper.catalog import fk_locks
from tallykeeper.database import sessions, sql
from tallykeeper.database.lock_holders import READERS, ROWS, WRITERS, Holder, Wanted, holders, named
from tallykeeper.database.retry import Failure, Retry
from tallykeeper.database.sessions import PATIENCE
from tallykeeper.database.sqlstates import (
    DEADLOCK_DETECTED,
    LOCK_NOT_AVAILABLE,
    MISSING_RELATION,
    SERIALIZATION_FAILURE,
    sqlstate_of,
)
from tallykeeper.declarations.tally import Tally
from tallykeeper.errors import NotInstalled, TallyBusy

T = TypeVar("T")

PASSING = {SERIALIZATION_FAILURE, DEADLOCK_DETECTED, LOCK_NOT_AVAILABLE}

ATTEMPTS = 6
# How long is tried again, unless the engine's execution option PATIENCE says otherwise.
PATIENCE_SECONDS = 120.0
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 2.0

_MIGRATE = "run `tally migrate` first"
SNAPSHOT: dict[str, Any] = {"isolation_level": "REPEATABLE READ"}


def writing(engine: Engine, tally: Tally, work: Callable[[Connection], T]) -> T:
    """Run `work` in a transaction that alone may write the derived table, and commit.

    Readers of the derived table and writers of the sources are never blocked; who deletes what the
    derived table refers to waits while the transaction lasts. Lock timeouts, deadlocks and
    serialization failures are retried with growing pauses; TallyBusy after that.
    """
    return writing_together(engine, [tally], work, tally.name)


def writing_together(
    engine: Engine,
    tallies: Sequence[Tally],
    work: Callable[[Connection], T],
    what: str,
    *,
    rows_of: Sequence[str] = (),
) -> T:
    """The same in a transaction that alone may write all of these derived tables.

    `rows_of` are tables whose rows it deletes: who installs or alters anything over them waits.
    """
    wanted = [each for tally in tallies for each in _wanted_for_writing(tally)]
    wanted += [Wanted(name, ROWS) for name in rows_of]
    return retried(lambda: _write_once(engine, tallies, work, rows_of), what, engine, wanted)


def writing_on(
    connection: Connection,
    tally: Tally,
    work: Callable[[Connection, float], T],
    patience: float | None = None,
) -> T:
    """The same on a connection that the caller keeps: with SNAPSHOT, and in no transaction.

    `work` is also passed for how many seconds the locks were waited for. `patience`, in seconds,
    replaces that of the engine.
    """

    def attempt() -> T:
        with connection.begin():
            sessions.begin_computing(connection)
            started = time.perf_counter()
            _lock_for_writing(connection, [tally])
            return work(connection, time.perf_counter() - started)

    engine = connection.engine
    if patience is not None:
        engine = engine.execution_options(**{PATIENCE: patience})
    return retried(attempt, tally.name, engine, _wanted_for_writing(tally))


def retried(
    attempt: Callable[[], T],
    what: str,
    on: Engine,
    wanted: Sequence[Wanted] = (),
    advisory: str = "NULL",
) -> T:
    """Call `attempt` again while it fails for reasons that pass by themselves.

    Each attempt waits for a lock briefly (`sessions`), so that nobody queues behind it for long;
    all together for as long as the engine's option PATIENCE says, and at least ATTEMPTS times.
    Raises TallyBusy, which names who holds `wanted` or the `advisory` lock.
    """
    patience = float(on.get_execution_options().get(PATIENCE, PATIENCE_SECONDS))
    retry = Retry(PASSING, ATTEMPTS, patience, FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)
    found: tuple[Holder, ...] = ()

    def failed(failure: Failure) -> None:
        nonlocal found
        found = holders(on, wanted, advisory) or found
        if failure.is_last:
            raise TallyBusy(
                f"{what}: gave up after {failure.attempts} attempts in {failure.seconds:.0f} s;"
                f" {named(found)} (the server said: {_first_line(failure.error)})."
                " Nothing was changed; try later"
            ) from failure.error

    return retry.call(attempt, failed)


def _wanted_for_writing(tally: Tally) -> list[Wanted]:
    parents = (key.referred_table for key in tally.table.foreign_key_constraints)
    return [
        Wanted(sql.name_of(tally.table), WRITERS),
        *_wanted_for_reading(tally),
        *(Wanted(sql.name_of(parent), ROWS) for parent in parents),
    ]


def wanted_for_installing(tally: Tally) -> list[Wanted]:
    """What an installation locks: it waits for who writes the sources, too."""
    return [Wanted(sql.name_of(table), WRITERS) for table in (tally.table, *tally.sources)]


def _wanted_for_reading(tally: Tally) -> list[Wanted]:
    return [Wanted(sql.name_of(source), READERS) for source in tally.sources]


def _first_line(error: DBAPIError) -> str:
    return str(error.orig).strip().splitlines()[0]


def comparing_retried(engine: Engine, tally: Tally, attempt: Callable[[], T]) -> T:
    """Call `attempt`, which compares, again while it fails for reasons that pass by themselves."""
    return retried(attempt, tally.name, engine, _wanted_for_reading(tally))


@contextmanager
def comparing(engine: Engine, tally: Tally) -> Iterator[Connection]:
    """One snapshot, in UTC, in which no source can be truncated. It may make temporary tables."""
    with _snapshot(engine) as connection:
        _lock_sources(connection, tally)
        yield connection


def lock_referenced(connection: Connection, tally: Tally, rows: str | None = None) -> None:
    """Keep what rows of the derived table refer to from being deleted until the transaction ends.

    `rows` is the relation of the rows that will be written; None: any. Checked by a foreign key
    alone, a referenced row that is being deleted would be waited for, while its deletion waits for
    the derived table, and the application's transaction could be the one that is ended for it. So
    no lock is queued for (`fk_locks.py`): where rows are not free within a second, or their
    deletion waits for this very transaction, the attempt fails, lets go, and is made again. A role
    that may not lock the referenced rows has a function do it, or leaves it at the foreign key.
    """
    for key in tally.table.foreign_key_constraints:
        parent = key.referred_table
        function = f"to_regprocedure({sql.literal(fk_locks.signature(tally, key))})"
        may = sql.execute(
            connection,
            f"SELECT has_any_column_privilege({sql.literal(sql.name_of(parent))}, 'UPDATE')"
            f" AS lock, has_function_privilege({function}, 'EXECUTE') AS call",
        ).one()
        if may.lock:
            sql.execute(connection, fk_locks.block(key, rows))
        elif may.call:
            sql.execute(connection, fk_locks.call(tally, key, rows))


def _write_once(
    engine: Engine,
    tallies: Sequence[Tally],
    work: Callable[[Connection], T],
    rows_of: Sequence[str],
) -> T:
    with _snapshot(engine) as connection:
        if rows_of:
            sql.execute(connection, f"LOCK TABLE {', '.join(rows_of)} IN ROW EXCLUSIVE MODE")
        _lock_for_writing(connection, tallies)
        return work(connection)


def _lock_for_writing(connection: Connection, tallies: Sequence[Tally]) -> None:
    # The sources first: while they are waited for, nobody waits for the derived table.
    for tally in tallies:
        _lock_sources(connection, tally)
    for tally in tallies:
        _lock(connection, tally, [sql.name_of(tally.table)], "SHARE ROW EXCLUSIVE", _MIGRATE)
    # Takes the snapshot, so not before the locks are held.
    sql.execute(connection, sql.CLAIM_WRITING)


def _lock_sources(connection: Connection, tally: Tally) -> None:
    then = "the tally is left out until its source is there and `tally migrate` has run"
    if (view := tally.source_view) is not None:
        # With it, all that it reads is locked, whatever that is called by now.
        _lock(connection, tally, [view], "ACCESS SHARE", _MIGRATE)
    else:
        _lock(connection, tally, map(sql.name_of, tally.sources), "ACCESS SHARE", then)


def _lock(
    connection: Connection, tally: Tally, relations: Iterable[str], mode: str, then: str
) -> None:
    try:
        sql.execute(connection, f"LOCK TABLE {', '.join(relations)} IN {mode} MODE")
    except DBAPIError as error:
        if sqlstate_of(error) not in MISSING_RELATION:
            raise
        said = str(error.orig).splitlines()[0]
        raise NotInstalled(f"{tally.name}: {said}; {then}") from error


@contextmanager
def _snapshot(engine: Engine) -> Iterator[Connection]:
    with (
        engine.connect().execution_options(**SNAPSHOT) as connection,
        connection.begin(),
    ):
        sessions.begin_computing(connection)
        yield connection
