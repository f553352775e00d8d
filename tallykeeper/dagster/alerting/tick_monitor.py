"""What no event tells of, turned into incidents: ticks that failed or were missed, old changes.

Looked at again at every tick, so that each finding counts once: what is already recorded by an open
incident is not counted anew until it has lasted for a while, or another tick failed. While
Dagster's daemon is down nobody looks; that it was is found when it is back.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from tallykeeper import NotInstalled, Tally
from tallykeeper.catalog.state import installed
from tallykeeper.dagster._internals import (
    InstigatorState,
    InstigatorStatus,
    InstigatorTick,
    InstigatorType,
    ScheduleInstigatorData,
    TickStatus,
    latest_moment,
    most_tick_retries,
)
from tallykeeper.dagster.alerting.incident_rules import Place, one_line
from tallykeeper.dagster.assets import SystemAssets
from tallykeeper.dagster.automation.schedules import why_passed_over
from tallykeeper.dagster_names import asset_address
from tallykeeper.database.sqlstates import LOCK_NOT_AVAILABLE, sqlstate_of
from tallykeeper.declarations.tally import LOGGED_AT
from tallykeeper.faults import incidents
from tallykeeper.faults.incidents import Incident
from tallykeeper.maintain.audit import LATEST, late
from tallykeeper.operations.message_templates import DAEMON
from tallykeeper.settings import fresh_seconds

GRACE = timedelta(minutes=10)
# How often a change that still waits is counted.
COUNTED_EVERY = timedelta(hours=1)
MOST_OPEN = 10_000
# A table that is being changed is looked at the next time.
PATIENCE_MILLISECONDS = 500


@dataclass(frozen=True)
class Ages:
    """How long a change of each tally that was looked at has waited, where that is too long."""

    limit: timedelta
    too_old: dict[str, timedelta]
    looked_at: frozenset[str]


def ages(engine: Engine, systems: Sequence[SystemAssets]) -> Ages:
    """Look for changes that have been pending for longer than TALLY_FRESH_SECONDS.

    Systems and tallies that are not kept in this database are passed over, and so are those whose
    change log is locked just now. Raises SettingError.
    """
    limit = timedelta(seconds=fresh_seconds())
    too_old: dict[str, timedelta] = {}
    looked_at = set()
    for built in systems:
        if why_passed_over(engine, built.system):
            continue
        for tally in built.system.tallies:
            with engine.connect() as connection:
                try:
                    age = _age(connection, tally, limit)
                except NotInstalled:
                    continue
                except DBAPIError as error:
                    if sqlstate_of(error) != LOCK_NOT_AVAILABLE:
                        raise
                    continue
            looked_at.add(tally.name)
            if age is not None:
                too_old[tally.name] = age
    return Ages(limit, too_old, frozenset(looked_at))


def pending(connection: Connection, found: Ages) -> set[int]:
    """Open, count and resolve incidents of changes that wait too long; the ids of those found."""
    known = _open(connection, incidents.PENDING)
    reported = set()
    for subject, age in found.too_old.items():
        before = known.get(subject)
        if before is not None and before.last_found_at > datetime.now(UTC) - COUNTED_EVERY:
            continue
        what = (
            f"A pending change has waited for {_rounded(age)}; the limit is {found.limit}. Live"
            " reads are exact all the same. Does the hourly schedule run?"
        )
        details = {"asset": asset_address(subject), "to_resolve": f"tally refresh {subject}"}
        kind = incidents.PENDING
        reported.add(incidents.report(connection, subject, kind, what, details=details).id)
    for subject in known:
        if subject in found.looked_at and subject not in found.too_old:
            incidents.resolve(
                connection, subject, incidents.PENDING, "no change waits for long now"
            )
    return reported


def uncompared(connection: Connection, looked_at: Collection[str]) -> set[int]:
    """Open, count and resolve the incidents of tallies whose audit is late; the ids of those found.

    `looked_at` are the names of the tallies that this code location keeps.
    """
    known = _open(connection, incidents.UNCOMPARED)
    too_late = {name: since for name, since in late(connection).items() if name in looked_at}
    reported = set()
    for subject, since in too_late.items():
        before = known.get(subject)
        if before is not None and before.last_found_at > datetime.now(UTC) - COUNTED_EVERY:
            continue
        what = (
            f"Not every key was compared with the sources within {LATEST // COUNTED_EVERY} hours:"
            f" all were before {since.astimezone(UTC):%Y-%m-%d %H:%M} UTC. Does the hourly schedule"
            f" run? `tally verify {subject}` compares all of it now."
        )
        details = {"asset": asset_address(subject), "to_resolve": f"tally verify {subject}"}
        kind = incidents.UNCOMPARED
        reported.add(incidents.report(connection, subject, kind, what, details=details).id)
    for subject in known:
        if subject in looked_at and subject not in too_late:
            incidents.resolve(connection, subject, incidents.UNCOMPARED, "all keys were compared")
    return reported


def ticks(
    instance: dg.DagsterInstance, connection: Connection, place: Place, looking_since: datetime
) -> set[int]:
    """Open, count and resolve the incidents of schedules and sensors, but for `place.sensor`.

    `looking_since` is since when the daemon runs: what it had no time for yet is not missed.
    """
    known = _open(connection, incidents.SCHEDULE)
    reported = set()
    for state in instance.all_instigator_state():
        wrong = _wrong(instance, place, state, looking_since)
        if wrong is None:
            continue
        what, which = wrong
        before = known.get(state.name)
        if not what:
            if before is not None:
                incidents.resolve(connection, state.name, incidents.SCHEDULE, "its last tick")
        elif before is None or before.details.get("tick") != which:
            kind, details = incidents.SCHEDULE, {"tick": which}
            reported.add(incidents.report(connection, state.name, kind, what, details=details).id)
    return reported


def absence(connection: Connection, last_look: datetime, now: datetime, why: str) -> None:
    """Write down that nothing was watched for a while: resolved, for now it is again."""
    what = (
        f"Nothing was watched from {last_look:%Y-%m-%d %H:%M} to {now:%Y-%m-%d %H:%M} UTC: {why}."
        " What changed meanwhile is pending, and the next refreshes consume it."
    )
    incidents.record_resolved(
        connection, DAEMON, incidents.SCHEDULE, what, "it is watched again", found_at=last_look
    )


def _wrong(
    instance: dg.DagsterInstance, place: Place, state: InstigatorState, looking_since: datetime
) -> tuple[str, str] | None:
    """What is wrong with a schedule or sensor and which tick shows it; no text: nothing is.

    None: it is not ours, is switched off, or nothing can be said yet.
    """
    definition = _definition(place, state)
    if definition is None or not _is_on(state, definition):
        return None
    ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=5)
    done = next((tick for tick in ticks if tick.status is not TickStatus.STARTED), None)
    if isinstance(definition, dg.ScheduleDefinition):
        missed = _missed(definition, state, ticks[0] if ticks else None, looking_since)
        if missed is not None:
            return f"The tick of {missed:%Y-%m-%d %H:%M} UTC was missed.", missed.isoformat()
    if done is None:
        return None
    if done.status is not TickStatus.FAILURE:
        return "", str(done.tick_id)
    if isinstance(definition, dg.ScheduleDefinition) and _is_tried_again(instance, done):
        return None
    at = datetime.fromtimestamp(done.timestamp, UTC)
    error = one_line(done.error.message) if done.error else "without a word"
    return f"The tick of {at:%Y-%m-%d %H:%M:%S} UTC failed: {error}", str(done.tick_id)


def _is_tried_again(instance: dg.DagsterInstance, failed: InstigatorTick) -> bool:
    """Whether the scheduler will try that tick once more, and has not done so for long."""
    is_young = failed.timestamp > (datetime.now(UTC) - GRACE).timestamp()
    return is_young and failed.failure_count <= most_tick_retries(instance)


def _missed(
    schedule: dg.ScheduleDefinition,
    state: InstigatorState,
    last: InstigatorTick | None,
    looking_since: datetime,
) -> datetime | None:
    data = state.instigator_data
    # Until the daemon knows of another cron expression, it has missed none of its moments.
    if not isinstance(data, ScheduleInstigatorData) or data.cron_schedule != schedule.cron_schedule:
        return None
    now = datetime.now(UTC)
    due = latest_moment(schedule, (now - GRACE).timestamp())
    if due is None or now - looking_since < GRACE:
        return None
    seen = max(
        data.start_timestamp or 0.0,
        data.last_iteration_timestamp or 0.0,
        last.timestamp if last is not None else 0.0,
    )
    return due.astimezone(UTC) if due.timestamp() > seen else None


def _definition(place: Place, state: InstigatorState) -> Any:
    origin = state.origin.repository_origin
    if place.name is not None and origin.code_location_origin.location_name != place.name:
        return None
    if state.name not in place.own.names:
        return None
    repository = place.repository
    if state.instigator_type is InstigatorType.SCHEDULE:
        return next((s for s in repository.schedule_defs if s.name == state.name), None)
    return next((s for s in repository.sensor_defs if s.name == state.name), None)


def _is_on(state: InstigatorState, definition: Any) -> bool:
    if state.status is InstigatorStatus.DECLARED_IN_CODE:
        return bool(definition.default_status.value == InstigatorStatus.RUNNING.value)
    return state.status is InstigatorStatus.RUNNING


def _open(connection: Connection, kind: str) -> dict[str, Incident]:
    known = incidents.listed(connection, open_only=True, limit=MOST_OPEN)
    return {incident.subject: incident for incident in known if incident.kind == kind}


def _age(connection: Connection, tally: Tally, limit: timedelta) -> timedelta | None:
    """For how long a change has waited, if longer than `limit`; None: none has.

    Any old row will do: the rows of a log lie in the order in which they came, so the first one
    found is about the oldest, and where many are pending few are read.
    """
    if installed(connection, tally) is None:
        return None
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = {PATIENCE_MILLISECONDS}")
    age: timedelta | None = connection.exec_driver_sql(
        f"SELECT now() - {LOGGED_AT} FROM {tally.log_name} WHERE {LOGGED_AT} < now() - %s LIMIT 1",
        (limit,),
    ).scalar()
    return age


def _rounded(age: timedelta) -> timedelta:
    return timedelta(seconds=int(age.total_seconds()))
