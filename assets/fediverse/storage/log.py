"""The raw log as a system's: processing what waits in it, and how much that is."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import Connection, Engine, func, select

from assets.fediverse.tables import stream_events
from tallykeeper import Waiting


def process_log(engine: Engine) -> str | None:
    """Process all events that wait; what was done, or None where none waited."""
    from assets.fediverse.processing.batches import process

    done = process(engine)
    if not done.events:
        return None
    failed = f", {done.failed:,} of them could not be read" if done.failed else ""
    rate = f"{done.seconds:.2f} s ({done.events_per_second:,.0f}/s)"
    return f"processed {done.events:,} events in {rate}{failed}"


def waiting(connection: Connection) -> Waiting:
    """The events that are not processed yet."""
    counted = select(func.count(), func.min(stream_events.c.received_at)).where(
        stream_events.c.processed_at.is_(None)
    )
    rows, oldest = connection.execute(counted).one()
    return Waiting(rows, zoned(oldest))


def zoned(moment: datetime | None) -> datetime | None:
    """A moment of the log, which keeps its times in UTC where it was made without a zone."""
    return moment if moment is None or moment.tzinfo else moment.replace(tzinfo=UTC)
