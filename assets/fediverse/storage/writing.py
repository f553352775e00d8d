"""Writing events to the raw log, in their order, by COPY.

Where they come from is in `load.py` and `listen.py`. Invariants: the ids follow the order
of the events; and an event that the server cannot hold costs itself alone, and is reported with the
server's reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

import psycopg
from psycopg import errors, sql
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from assets.fediverse.tables import stream_events

_COLUMNS = ("instance_id", "received_at", "event_type", "payload")
# What JSON can be that jsonb cannot: invalid, beyond a number's range, too deep, too long.
_REFUSED = (psycopg.DataError, errors.StatementTooComplex, errors.ProgramLimitExceeded)


@dataclass(frozen=True, slots=True)
class Event:
    """An event to be written: `payload` is JSON, as it came; None where there is none.

    `line` is its line in a file, `raw` that line's text.
    """

    instance_id: int
    received_at: datetime
    event_type: str
    payload: str | None
    line: int = 0
    raw: str = ""


Refused = tuple[Event, str]
"""An event, and the server's reason for not holding it."""


def append(connection: Connection, events: Sequence[Event]) -> list[Refused]:
    """Append the events to the log, in the connection's transaction; returns those refused.

    Raises SQLAlchemy's errors.
    """
    if not events:
        return []
    try:
        with connection.begin_nested():
            _copy(connection, events)
    except _REFUSED as error:
        if len(events) == 1:
            return [(events[0], _reason(error))]
        half = len(events) // 2
        return append(connection, events[:half]) + append(connection, events[half:])
    except psycopg.Error as error:
        raise _wrapped(connection, error) from error
    return []


def days_of(events: Sequence[Event]) -> set[date]:
    """The UTC days of receipt."""
    return {event.received_at.astimezone(UTC).date() for event in events}


def _copy(connection: Connection, events: Sequence[Event]) -> None:
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    table = sql.Identifier(*filter(None, (stream_events.schema, stream_events.name)))
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
        table, sql.SQL(", ").join(map(sql.Identifier, _COLUMNS))
    )
    with driver.cursor() as cursor, cursor.copy(statement) as copy:
        for event in events:
            # In UTC: a column without time zone takes no notice of the offset.
            moment = event.received_at.astimezone(UTC).isoformat()
            copy.write_row((event.instance_id, moment, event.event_type, event.payload))


def _wrapped(connection: Connection, error: psycopg.Error) -> Exception:
    """The error as SQLAlchemy would raise it: COPY goes past it to the driver."""
    driver = connection.connection.driver_connection
    return DBAPIError.instance(
        "COPY",
        None,
        error,
        psycopg.Error,
        dialect=connection.dialect,
        connection_invalidated=bool(driver is not None and driver.closed),
    )


def _reason(error: psycopg.Error) -> str:
    said = [part for part in (error.diag.message_primary, error.diag.message_detail) if part]
    return f"PostgreSQL cannot hold it: {': '.join(said) or error}"
