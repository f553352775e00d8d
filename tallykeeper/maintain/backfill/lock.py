"""One backfill of a tally at a time: a lock that lives as long as the process that holds it.

The lock belongs to a session and not to a transaction, for a backfill is many of these. A process
that is killed takes its session with it, within a second or so, and so releases the lock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from tallykeeper.catalog.transactions import SNAPSHOT
from tallykeeper.database import sql
from tallykeeper.database.retry import wait_until
from tallykeeper.database.sessions import is_pooled
from tallykeeper.database.sqlstates import INVALID_PARAMETER_VALUE, sqlstate_of
from tallykeeper.declarations.tally import Tally

# How often the server looks whether the client is still there; without it only when it answers.
LOOK_FOR_CLIENT = "SET client_connection_check_interval = '500ms'"
# As long as the session of a process that was killed may need to end.
PATIENCE_SECONDS = 3.0
LOOK_EVERY_SECONDS = 0.1


@contextmanager
def alone(
    engine: Engine, tally: Tally, refuse: Callable[[Connection, int | None], Exception]
) -> Iterator[Connection]:
    """A connection that alone may backfill `tally`, in no transaction.

    Where another holds the lock, `refuse` makes the error from the process id of its session.
    """
    connection = engine.connect().execution_options(**SNAPSHOT)
    # Out of the pool: once closed, the session ends, and with it whatever it holds.
    connection.detach()
    try:
        with connection.begin():
            pooled = is_pooled(connection)
        if pooled:
            with _in_a_transaction(engine, tally, refuse):
                yield connection
            return
        _wait_for_lock(connection, tally, refuse)
        _look_for_client(connection)
        yield connection
        with connection.begin():
            sql.execute(connection, f"SELECT pg_advisory_unlock({_key(tally)})")
    finally:
        connection.close()


@contextmanager
def _in_a_transaction(
    engine: Engine, tally: Tally, refuse: Callable[[Connection, int | None], Exception]
) -> Iterator[None]:
    """Hold the lock by a transaction that stays open: behind a pooler no session is ours for long.

    It has no snapshot, so that it keeps nothing from being cleared.
    """
    with engine.connect() as connection, connection.begin():
        sql.execute(connection, "SET LOCAL idle_in_transaction_session_timeout = 0")
        lock = f"SELECT pg_try_advisory_xact_lock({_key(tally)})"

        def locked() -> bool:
            return bool(sql.execute(connection, lock).scalar_one())

        if not wait_until(locked, PATIENCE_SECONDS, LOOK_EVERY_SECONDS):
            raise refuse(connection, holder(connection, tally))
        yield


def holder(connection: Connection, tally: Tally) -> int | None:
    """The process id of the session that backfills the tally, if one does."""
    first, second = _key(tally).split(", ")
    unsigned = "(({})::bigint & 4294967295)::oid"
    found = sql.execute(
        connection,
        "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2 AND granted"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        f" AND classid = {unsigned.format(first)} AND objid = {unsigned.format(second)}",
    ).scalar()
    return None if found is None else int(found)


def _wait_for_lock(
    connection: Connection, tally: Tally, refuse: Callable[[Connection, int | None], Exception]
) -> None:
    def locked() -> bool:
        with connection.begin():
            lock = f"SELECT pg_try_advisory_lock({_key(tally)})"
            return bool(sql.execute(connection, lock).scalar_one())

    if not wait_until(locked, PATIENCE_SECONDS, LOOK_EVERY_SECONDS):
        with connection.begin():
            raise refuse(connection, holder(connection, tally))


def _look_for_client(connection: Connection) -> None:
    with suppress(_Unsupported), connection.begin():
        try:
            sql.execute(connection, LOOK_FOR_CLIENT)
        except DBAPIError as error:
            if sqlstate_of(error) != INVALID_PARAMETER_VALUE:
                raise
            raise _Unsupported from error


class _Unsupported(Exception):
    """The server's system cannot tell whether a client is there."""


def _key(tally: Tally) -> str:
    name = sql.literal(tally.name)
    return f"hashtext('tallykeeper.backfill'), hashtext({name})"
