"""How an application's questions reach the live views, and what it hears when they are not there.

The questions themselves are in the `reads.py` of each system. Invariants: a transaction
that the caller began is never ended or repeated here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, Executable, text
from sqlalchemy.exc import DBAPIError

from tallykeeper.database import sql
from tallykeeper.database.retry import Failure, Retry
from tallykeeper.database.sqlstates import MISSING_RELATION, SERIALIZATION_FAILURE, sqlstate_of
from tallykeeper.errors import NotInstalled

_UTC = ("UTC", "Etc/UTC")
_ONCE_MORE = Retry({SERIALIZATION_FAILURE}, attempts=2)


def read(
    connection: Connection,
    query: Executable | str,
    wanted: str,
    values: Mapping[str, Any] | None = None,
) -> list[Any]:
    """All rows of a query of `wanted`, the live view or table named.

    A text is run as it stands; with `values` it is in the driver's form, as `%(name)s`.

    A live view fails rather than answer wrongly where a source is truncated just then; outside a
    transaction of the caller's the query is then run once more. Raises NotInstalled where what it
    reads is not in the database.
    """
    begun = connection.in_transaction()

    def failed(failure: Failure) -> None:
        if begun and not commits_by_itself(connection):
            raise failure.error
        if not begun and not failure.is_last:
            connection.rollback()

    return _ONCE_MORE.call(lambda: _rows(connection, query, wanted, values), failed)


@contextmanager
def in_utc(connection: Connection) -> Iterator[None]:
    """Let the session be in UTC for a while, in which times without zone are to be read.

    The server says of itself in which time zone a session is, so that nothing is asked for it.
    """
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    before = driver.info.parameter_status("TimeZone")
    if before is None or before in _UTC:
        yield
        return
    setting = text("SELECT set_config('timezone', :zone, :local)")
    # Within a transaction for as long as that lasts: what fails is undone with it.
    local = not commits_by_itself(connection)
    connection.execute(setting, {"zone": "UTC", "local": local})
    try:
        yield
    finally:
        if driver.info.transaction_status != TransactionStatus.INERROR:
            connection.execute(setting, {"zone": before, "local": local})


def _rows(
    connection: Connection,
    query: Executable | str,
    wanted: str,
    values: Mapping[str, Any] | None,
) -> list[Any]:
    try:
        if isinstance(query, str) and values is not None:
            return list(connection.exec_driver_sql(query, dict(values)).all())
        if isinstance(query, str):
            return list(sql.execute(connection, query).all())
        return list(connection.execute(query).all())
    except DBAPIError as error:
        if sqlstate_of(error) not in MISSING_RELATION:
            raise
        raise NotInstalled(
            f"Expected {wanted}, but it is not in this database; run `tally migrate`."
        ) from error


def commits_by_itself(connection: Connection) -> bool:
    """Whether every statement is a transaction of its own, whatever SQLAlchemy began."""
    return bool(getattr(connection.connection.dbapi_connection, "autocommit", False))


def days(start: date | None, end: date | None) -> tuple[datetime | None, datetime | None]:
    """The midnights UTC of both days. Raises ValueError where the start is after the end."""
    first, last = day_of(start), day_of(end)
    if first is not None and last is not None and first > last:
        raise ValueError(
            f"Expected a start that is not after the end, but {first.date()} is after "
            f"{last.date()}; exchange the two."
        )
    return first, last


def day_of(moment: date | None) -> datetime | None:
    """Midnight UTC of the day. Raises ValueError where that lies outside the years 1 to 9999."""
    if moment is None:
        return None
    if isinstance(moment, datetime):
        if moment.tzinfo is not None:
            try:
                moment = moment.astimezone(UTC)
            except OverflowError as error:
                raise ValueError(
                    f"Expected a moment within the years 1 to 9999 in UTC, but it is {moment}."
                ) from error
        moment = moment.date()
    return datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
