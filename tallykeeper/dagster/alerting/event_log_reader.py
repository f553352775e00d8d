"""New events of Dagster's log, to be turned into incidents: checks and runs that failed.

Places in the log are given out before they are committed, so that an event may appear behind one
that was processed already. Hence no cursor alone: processed events are recorded, and everything
behind a low watermark is looked at each time; it moves on to an event only when that was processed
long ago. All of it is one transaction with the incidents, so that a process that dies loses and
repeats nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
from dagster import DagsterEventType, EventLogRecord, EventRecordsFilter
from sqlalchemy import Connection, delete, func, insert, select, update

from tallykeeper.faults.incidents import processed_events

CHECKED = DagsterEventType.ASSET_CHECK_EVALUATION
RUN_FAILED = DagsterEventType.RUN_FAILURE
RUN_SUCCEEDED = DagsterEventType.RUN_SUCCESS
LISTENED_TO = (CHECKED, RUN_FAILED, RUN_SUCCEEDED)

# Longer than any transaction of Dagster's storage takes to write an event.
LATE_BY_AT_MOST = timedelta(minutes=10)
PAGE = 500
MOST_AT_ONCE = 500
MOST_OF_THE_PAST = 2_000


@dataclass(frozen=True)
class NewEvents:
    """Events to act upon, in the order of the log, and the last evaluations processed before them.

    `known` has of each check the last evaluation behind the watermark that was processed already:
    they show whether one that appeared late is out of date.
    """

    fresh: Sequence[EventLogRecord]
    known: Mapping[dg.AssetCheckKey, EventLogRecord]

    @property
    def last(self) -> int | None:
        """The last place in the log that is acted upon; None: there was no new event."""
        return max((record.storage_id for record in self.fresh), default=None)


def listen(
    instance: dg.DagsterInstance, connection: Connection, location: str | None = None
) -> NewEvents:
    """The events not processed yet, `MOST_AT_ONCE` at most; from now on they count as processed.

    Each code location on the database processes all of them, and acts on its own. Of a log that
    `location` listens to for the first time those are the latest evaluation of each check, and no
    runs: what is wrong now is found, and the past is not reported.
    """
    log = _log_of(instance, connection, location)
    watermark = _watermark(connection, log)
    if watermark is None:
        return _first(instance, connection, log)
    known_ids = set(
        connection.scalars(select(processed_events.c.event).where(processed_events.c.log == log))
    )
    fresh: list[EventLogRecord] = []
    known: dict[dg.AssetCheckKey, EventLogRecord] = {}
    for kind in LISTENED_TO:
        found = 0
        for record in _behind(instance, kind, watermark):
            if record.storage_id in known_ids:
                if kind is CHECKED:
                    known[evaluation_of(record).asset_check_key] = record
                continue
            fresh.append(record)
            found += 1
            if found == MOST_AT_ONCE:
                break
    # The first ones of all kinds, so that what is left is behind what was read.
    fresh = sorted(fresh, key=_place)[:MOST_AT_ONCE]
    _remember(connection, log, [record.storage_id for record in fresh])
    connection.execute(
        delete(processed_events).where(
            processed_events.c.log == log, processed_events.c.event < watermark
        )
    )
    return NewEvents(fresh, known)


def _log_of(instance: dg.DagsterInstance, connection: Connection, location: str | None) -> str:
    """The name under which the events that this code location has processed are recorded."""
    log: str = instance.run_storage.get_run_storage_id()  # type: ignore[attr-defined]
    if location is None:
        return log
    own = f"{log} {location}"
    columns = processed_events.c
    # Release 0.2 kept one record for all code locations: the first one to look goes on with it.
    is_known = select(columns.event).where(columns.log == own).exists()
    connection.execute(
        update(processed_events).where(columns.log == log, ~is_known).values(log=own)
    )
    return own


def _first(instance: dg.DagsterInstance, connection: Connection, log: str) -> NewEvents:
    watermark = 0
    recent: list[int] = []
    before = (datetime.now(UTC) - LATE_BY_AT_MOST).timestamp()
    for kind in LISTENED_TO:
        older = instance.event_log_storage.get_event_records(
            EventRecordsFilter(kind, before_timestamp=before), 1
        )
        watermark = max([watermark, *(record.storage_id for record in older)])
    for kind in LISTENED_TO:
        recent += [record.storage_id for record in _behind(instance, kind, watermark)]
    _remember(connection, log, [watermark, *recent])
    return NewEvents(_latest_evaluations(instance), {})


def _latest_evaluations(instance: dg.DagsterInstance) -> list[EventLogRecord]:
    latest: dict[dg.AssetCheckKey, EventLogRecord] = {}
    before: int | None = None
    for _ in range(MOST_OF_THE_PAST // PAGE):
        records = instance.event_log_storage.get_event_records(
            EventRecordsFilter(CHECKED, before_cursor=before), PAGE
        )
        for record in records:
            latest.setdefault(evaluation_of(record).asset_check_key, record)
        if len(records) < PAGE:
            break
        before = records[-1].storage_id
    return sorted(latest.values(), key=_place)


def evaluation_of(record: EventLogRecord) -> dg.AssetCheckEvaluation:
    """What the check said, of a record that tells of one."""
    event = record.event_log_entry.get_dagster_event()
    evaluation: dg.AssetCheckEvaluation = event.asset_check_evaluation_data
    return evaluation


def kind_of(record: EventLogRecord) -> DagsterEventType | None:
    """What happened."""
    return record.event_log_entry.dagster_event_type


def time_of(record: EventLogRecord) -> datetime:
    """When it happened."""
    return datetime.fromtimestamp(record.timestamp, UTC)


def _watermark(connection: Connection, log: str) -> int | None:
    """Behind which events may still appear: the latest of those that were processed long ago."""
    columns = processed_events.c
    # The database's clock alone: an event's own time is of another machine, and it may have waited
    # for long to be written.
    long_ago = columns.processed_at <= func.now() - LATE_BY_AT_MOST
    query = select(func.max(columns.event).filter(long_ago), func.min(columns.event))
    latest, first = connection.execute(query.where(columns.log == log)).one()
    watermark: int | None = first if latest is None else latest
    return watermark


def _behind(
    instance: dg.DagsterInstance, kind: DagsterEventType, after: int
) -> Iterator[EventLogRecord]:
    while True:
        wanted = EventRecordsFilter(kind, after_cursor=after)
        records = instance.event_log_storage.get_event_records(wanted, PAGE, ascending=True)
        yield from records
        if len(records) < PAGE:
            return
        after = records[-1].storage_id


def _remember(connection: Connection, log: str, events: Sequence[int]) -> None:
    if events:
        rows: list[Mapping[str, Any]] = [{"log": log, "event": event} for event in set(events)]
        connection.execute(insert(processed_events), rows)


def _place(record: EventLogRecord) -> int:
    return record.storage_id
