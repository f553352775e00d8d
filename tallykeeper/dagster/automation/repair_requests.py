"""Deciding which incidents are repaired, and how often; the repairing itself is a job.

A failed `matches_source` says what to rebuild (`differences.repair_of`). Each such evaluation is
answered once: by a run of the job `repair`, or by leaving it to people, where a tally was repaired
so often within a day that doing it again would only hide what is wrong.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Any

import dagster as dg
from sqlalchemy import Connection, func, select, update

from tallykeeper import Incident
from tallykeeper.dagster._internals import RUN_KEY_TAG
from tallykeeper.dagster_names import REPAIR, prefixed
from tallykeeper.faults import incidents
from tallykeeper.operations.repair_answers import (
    ANSWER,
    ANSWERED,
    EVALUATION,
    LIMIT,
    OFF,
    REQUESTED,
    doing,
    is_answered,
)
from tallykeeper.settings import repairs_per_day

__all__ = ["REPAIR_OP", "config_of", "doing", "repair_requests", "request_of"]

REPAIR_OP = "rebuild"
INCIDENT_TAG = "tallykeeper/incident"
A_DAY = timedelta(days=1)
# By then Dagster has made a run of a request that reached it.
LOST_AFTER = timedelta(minutes=2)
MOST_OPEN = 1_000

UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]


def repair_requests(
    instance: dg.DagsterInstance, connection: Connection, tallies: Collection[str]
) -> list[dg.RunRequest]:
    """Answer the failed evaluations that nobody answered yet: the runs of `repair` to start.

    `tallies` are the names of those that this code location keeps; others have a job of their own.

    What was decided is written down with the incident, in the caller's transaction; `doing` tells
    it. An incident whose repair is still under way is left for later. Raises SettingError.
    """
    most = repairs_per_day()
    requests = []
    for incident in _open(connection, tallies):
        if incident.kind != incidents.DIFFERS or is_answered(incident):
            continue
        if most == 0:
            _answer(connection, incident, OFF)
        elif _repairs_today(connection, incident.subject) >= most:
            _answer(connection, incident, LIMIT)
        elif not _is_under_way(instance, incident):
            _answer(connection, incident, REQUESTED)
            incidents.request_repair(connection, incident)
            requests.append(request_of(incident))
    return requests


def lost_requests(
    instance: dg.DagsterInstance, connection: Connection, tallies: Collection[str]
) -> list[dg.RunRequest]:
    """Recorded requests of which no run came, since the process that made them died.

    Dagster starts no second run for the same key, so that asking again does no harm.
    """
    now = connection.execute(select(func.now())).scalar_one()
    return [
        request_of(incident)
        for incident in _open(connection, tallies)
        if incident.details.get(ANSWER) == REQUESTED
        and is_answered(incident)
        and incident.repair_requested_at is not None
        and LOST_AFTER <= now - incident.repair_requested_at <= A_DAY
        and not _has_run(instance, incident)
    ]


def _open(connection: Connection, tallies: Collection[str]) -> list[Incident]:
    found = incidents.listed(connection, open_only=True, limit=MOST_OPEN)
    return [incident for incident in found if incident.subject in tallies]


def _has_run(instance: dg.DagsterInstance, incident: Incident) -> bool:
    tags = {RUN_KEY_TAG: request_of(incident).run_key or ""}
    return instance.get_runs_count(dg.RunsFilter(job_name=prefixed(REPAIR), tags=tags)) > 0


def request_of(incident: Incident) -> dg.RunRequest:
    """The run that repairs the incident as its latest evaluation says."""
    return dg.RunRequest(
        job_name=prefixed(REPAIR),
        run_key=f"{REPAIR} of incident {incident.id} for {incident.details[EVALUATION]}",
        run_config=config_of(incident.details[incidents.REPAIR], incident.id),
        tags={INCIDENT_TAG: str(incident.id)},
    )


def config_of(repair: Mapping[str, Any], incident: int | None) -> dict[str, Any]:
    """The run config of the job `repair`."""
    return {"ops": {REPAIR_OP: {"config": {**repair, "incident": incident}}}}


def _answer(connection: Connection, incident: Incident, answer: str) -> None:
    answered = {ANSWERED: incident.details[EVALUATION], ANSWER: answer}
    columns = incidents.incidents.c
    connection.execute(
        update(incidents.incidents)
        .where(columns.id == incident.id)
        .values(details={**incident.details, **answered})
    )


def _repairs_today(connection: Connection, subject: str) -> int:
    """Repairs of a tally in the last 24 hours, or more where an incident lasts for longer."""
    columns = incidents.incidents.c
    query = select(func.coalesce(func.sum(columns.repairs), 0)).where(
        columns.subject == subject, columns.repair_requested_at > func.now() - A_DAY
    )
    return int(connection.execute(query).scalar_one())


def _is_under_way(instance: dg.DagsterInstance, incident: Incident) -> bool:
    of_it = dg.RunsFilter(
        job_name=prefixed(REPAIR), tags={INCIDENT_TAG: str(incident.id)}, statuses=UNFINISHED
    )
    return instance.get_runs_count(of_it) > 0
