"""What Dagster's event log tells of late, turned into incidents: checks and runs that failed.

Places in the log are given out before they are committed, so that an event may appear behind one
that was heard already. Hence no cursor alone: what was heard is written down, and everything behind
a mark is looked at each time; the mark moves on to an event only when that was heard long ago. All
of it is one transaction with the incidents, so that a process that dies loses and repeats nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
from dagster import DagsterEventType, EventLogRecord, EventRecordsFilter
from sqlalchemy import Connection, delete, func, insert, select

from tallykeeper.faults.incidents import heard

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
class Heard:
    """Events to act upon, in the order of the log, and the last evaluations heard before them.

    `known` has of each check the last evaluation behind the mark that was heard already: by it can
    be told whether one that appeared late is out of date.
    """

    fresh: Sequence[EventLogRecord]
    known: Mapping[dg.AssetCheckKey, EventLogRecord]

    @property
    def last(self) -> int | None:
        """The last place in the log that is acted upon; None: nothing was heard."""
        return max((record.storage_id for record in self.fresh), default=None)


def listen(instance: dg.DagsterInstance, connection: Connection) -> Heard:
    """The events that were not heard yet, `MOST_AT_ONCE` at most; from now on they are heard.

    Of a log that is listened to for the first time those are the latest evaluation of each check,
    and no runs: what is wrong now is found, and nothing is told of the past.
    """
    log: str = instance.run_storage.get_run_storage_id()  # type: ignore[attr-defined]
    mark = _mark(connection, log)
    if mark is None:
        return _first(instance, connection, log)
    known_ids = set(connection.scalars(select(heard.c.event).where(heard.c.log == log)))
    fresh: list[EventLogRecord] = []
    known: dict[dg.AssetCheckKey, EventLogRecord] = {}
    for kind in LISTENED_TO:
        found = 0
        for record in _behind(instance, kind, mark):
            if record.storage_id in known_ids:
                if kind is CHECKED:
                    known[evaluation_of(record).asset_check_key] = record
                continue
            fresh.append(record)
            found += 1
            if found == MOST_AT_ONCE:
                break
    # The first ones of all kinds, so that what is left is behind what was taken.
    fresh = sorted(fresh, key=_place)[:MOST_AT_ONCE]
    _remember(connection, log, [record.storage_id for record in fresh])
    connection.execute(delete(heard).where(heard.c.log == log, heard.c.event < mark))
    return Heard(fresh, known)


def _first(instance: dg.DagsterInstance, connection: Connection, log: str) -> Heard:
    mark = 0
    recent: list[int] = []
    before = (datetime.now(UTC) - LATE_BY_AT_MOST).timestamp()
    for kind in LISTENED_TO:
        older = instance.event_log_storage.get_event_records(
            EventRecordsFilter(kind, before_timestamp=before), 1
        )
        mark = max([mark, *(record.storage_id for record in older)])
    for kind in LISTENED_TO:
        recent += [record.storage_id for record in _behind(instance, kind, mark)]
    _remember(connection, log, [mark, *recent])
    return Heard(_latest_evaluations(instance), {})


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


def _mark(connection: Connection, log: str) -> int | None:
    """Behind which events may still appear: the latest of those that were heard long ago."""
    columns = heard.c
    # The database's clock alone: an event's own time is of another machine, and it may have waited
    # for long to be written.
    long_ago = columns.heard_at <= func.now() - LATE_BY_AT_MOST
    query = select(func.max(columns.event).filter(long_ago), func.min(columns.event))
    latest, first = connection.execute(query.where(columns.log == log)).one()
    mark: int | None = first if latest is None else latest
    return mark


def _behind(
    instance: dg.DagsterInstance, kind: DagsterEventType, mark: int
) -> Iterator[EventLogRecord]:
    while True:
        wanted = EventRecordsFilter(kind, after_cursor=mark)
        records = instance.event_log_storage.get_event_records(wanted, PAGE, ascending=True)
        yield from records
        if len(records) < PAGE:
            return
        mark = records[-1].storage_id


def _remember(connection: Connection, log: str, events: Sequence[int]) -> None:
    if events:
        rows: list[Mapping[str, Any]] = [{"log": log, "event": event} for event in set(events)]
        connection.execute(insert(heard), rows)


def _place(record: EventLogRecord) -> int:
    return record.storage_id
