"""Deciding which incidents are repaired, how often, and saying so; the repairing itself is a job.

A failed `matches_source` says what to rebuild (`checks.repair_of`). Each such evaluation is
answered once: by a run of the job `repair`, or by leaving it to people, where a tally was repaired
so often within a day that doing it again would only hide what is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import dagster as dg
from sqlalchemy import Connection, func, select, update

from assets.checks import REPAIR
from assets.windows import spelled_out
from resources.settings import repairs_per_day
from tallies import Incident, incidents

REPAIR_JOB = "repair"
REPAIR_OP = "rebuild"
INCIDENT_TAG = "tallykeeper/incident"
A_DAY = timedelta(days=1)
MOST_OPEN = 1_000

# In an incident's details: the evaluation that found it last, and how it was answered.
EVALUATION = "evaluation"
ANSWERED, ANSWER = "answered", "answer"
REQUESTED, LIMIT, OFF = "requested", "limit reached", "switched off"

UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]


def repair_requests(instance: dg.DagsterInstance, connection: Connection) -> list[dg.RunRequest]:
    """Answer the failed evaluations that nobody answered yet: the runs of `repair` to start.

    What was decided is written down with the incident, in the caller's transaction; `doing` tells
    it. An incident whose repair is still under way is left for later. Raises SettingError.
    """
    most = repairs_per_day()
    requests = []
    for incident in incidents.listed(connection, open_only=True, limit=MOST_OPEN):
        if incident.kind != incidents.DIFFERS or _is_answered(incident):
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


def request_of(incident: Incident) -> dg.RunRequest:
    """The run that repairs the incident as its latest evaluation says."""
    return dg.RunRequest(
        job_name=REPAIR_JOB,
        run_key=f"{REPAIR_JOB} of incident {incident.id} for {incident.details[EVALUATION]}",
        run_config=config_of(incident.details[REPAIR], incident.id),
        tags={INCIDENT_TAG: str(incident.id)},
    )


def config_of(repair: Mapping[str, Any], incident: int | None) -> dict[str, Any]:
    """The run config of the job `repair`."""
    return {"ops": {REPAIR_OP: {"config": {**repair, "incident": incident}}}}


def doing(incident: Incident) -> str:
    """What is being done about an open incident, in a sentence or two.

    As `repair_requests` decided, if it is of those that are repaired: ask it first, and read the
    incident anew.
    """
    by_hand = _by_hand(incident)
    if not _is_repairable(incident):
        return f"Nothing is done by itself: {by_hand}."
    if not _is_answered(incident):
        return "It will be decided at the next look whether a repair is started."
    answer = incident.details[ANSWER]
    if answer == REQUESTED:
        return (
            f"A repair was requested: {_what_is_rebuilt(incident.details[REPAIR])}; then it is"
            f" checked again. It is repair {incident.repairs} of this incident."
        )
    if answer == OFF:
        return f"Repairs are switched off (TALLY_REPAIRS_PER_DAY is 0): {by_hand}."
    return (
        "It is not repaired again: the tally was repaired as often as TALLY_REPAIRS_PER_DAY allows"
        f" in 24 hours, and differs again. Find the cause; then {by_hand}."
    )


def _is_repairable(incident: Incident) -> bool:
    details = incident.details
    return incident.kind == incidents.DIFFERS and REPAIR in details and EVALUATION in details


def _is_answered(incident: Incident) -> bool:
    """Whether nothing is left to decide: also where there is nothing that a repair could do."""
    details = incident.details
    return not _is_repairable(incident) or details.get(ANSWERED) == details[EVALUATION]


def _answer(connection: Connection, incident: Incident, answer: str) -> None:
    told = {ANSWERED: incident.details[EVALUATION], ANSWER: answer}
    columns = incidents.incidents.c
    connection.execute(
        update(incidents.incidents)
        .where(columns.id == incident.id)
        .values(details={**incident.details, **told})
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
        job_name=REPAIR_JOB, tags={INCIDENT_TAG: str(incident.id)}, statuses=UNFINISHED
    )
    return instance.get_runs_count(of_it) > 0


def _what_is_rebuilt(repair: Mapping[str, Any]) -> str:
    days: Sequence[Sequence[str]] = repair["days"] or ()
    keys: Sequence[Any] = repair["keys"] or ()
    if days:
        return f"{repair['tally']} is rebuilt on {spelled_out([(d[0], d[1]) for d in days])}"
    if keys:
        which = "one key" if len(keys) == 1 else f"{len(keys):,} keys"
        return f"{which} of {repair['tally']} computed anew"
    return f"all of {repair['tally']} is rebuilt"


def _by_hand(incident: Incident) -> str:
    command = incident.details.get("to_mend")
    return f"run `{command}`" if isinstance(command, str) else "see what found it"
