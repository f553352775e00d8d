"""What is known of the rolling audit of each tally: the round under way, and the last one.

A round compares every key once, stretch by stretch. Invariant: the position moves in the
transaction that remembers what the stretch found to differ, so whatever dies between two stretches
loses no difference and repeats no stretch.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy import Connection, Row, func, select, update
from sqlalchemy.dialects.postgresql import insert

from tallykeeper.catalog.state import audits, is_there, tally_state
from tallykeeper.declarations.tally import Tally
from tallykeeper.maintain.stretches import Size

NO_ROUND: dict[str, Any] = {
    "position": None,
    "started_at": None,
    "keys": 0,
    "seconds": 0.0,
    "stretches": 0,
}


class Counted(Protocol):
    """What is counted of a comparison."""

    @property
    def compared(self) -> int:
        """How many keys were compared."""

    @property
    def seconds(self) -> float:
        """How long that took."""


def read(connection: Connection, tally: Tally) -> Row[Any] | None:
    """What is known of the tally's audit; None: nothing yet.

    With the database's time as `now`, and the rows of the derived table as `table_rows`.
    """
    if not is_there(connection, audits):
        return None
    known = select(audits, func.now().label("now"), tally_state.c.rows.label("table_rows"))
    known = known.outerjoin_from(audits, tally_state, tally_state.c.tally == audits.c.tally)
    return connection.execute(known.where(audits.c.tally == tally.name)).one_or_none()


def size_of(known: Row[Any] | None) -> Size:
    """The size that the next stretch is to have."""
    if known is None:
        return Size()
    return Size(known.rows, known.fixed_seconds, known.last_rows, known.last_seconds)


def begin(connection: Connection, tally: Tally) -> None:
    """Begin a round where none is under way."""
    start = {**NO_ROUND, "started_at": func.now()}
    statement = insert(audits).values(tally=tally.name, rows=Size().rows, **start)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["tally"], set_=start, where=audits.c.started_at.is_(None)
        )
    )


def advance(
    connection: Connection, tally: Tally, before: Row[Any], along: str, upto: str, found: Counted
) -> bool:
    """Move the round that `before` tells of up to the position; False: another session did."""
    moved = connection.execute(
        update(audits)
        .where(*_is_still(tally, before))
        .values(
            along=along,
            position=upto,
            keys=audits.c["keys"] + found.compared,
            seconds=audits.c.seconds + found.seconds,
            stretches=audits.c.stretches + 1,
        )
    )
    return moved.rowcount == 1


def finish(connection: Connection, tally: Tally, before: Row[Any], found: Counted) -> bool:
    """Complete the round that `before` tells of by its last stretch."""
    moved = connection.execute(
        update(audits)
        .where(*_is_still(tally, before))
        .values(
            **NO_ROUND,
            compared_since=audits.c.started_at,
            compared_at=func.now(),
            compared_keys=audits.c["keys"] + found.compared,
            compared_seconds=audits.c.seconds + found.seconds,
        )
    )
    return moved.rowcount == 1


def resize(connection: Connection, tally: Tally, size: Size) -> None:
    """Remember how many rows the next stretch is to have."""
    connection.execute(update(audits).where(audits.c.tally == tally.name).values(**asdict(size)))


def record_complete(
    connection: Connection, tally: Tally, since: datetime, found: Counted, size: Size
) -> None:
    """Record that all keys were compared at once, or in a row, since then; no round is under way.

    An installation of an earlier release has no place for it before `tally migrate`.
    """
    if not is_there(connection, audits):
        return
    values: dict[str, Any] = {
        **NO_ROUND,
        **asdict(size),
        "compared_since": since,
        "compared_at": func.now(),
        "compared_keys": found.compared,
        "compared_seconds": found.seconds,
    }
    statement = insert(audits).values(tally=tally.name, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["tally"], set_=values))


def _is_still(tally: Tally, before: Row[Any]) -> list[Any]:
    return [
        audits.c.tally == tally.name,
        audits.c.started_at == before.started_at,
        audits.c.position.is_not_distinct_from(before.position),
    ]
