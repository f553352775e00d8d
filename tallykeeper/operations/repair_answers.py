"""How a failed check was answered, and what is being done about an incident, in words.

What is written into an incident's details for that stands here too, so that it is read without
Dagster, which takes its time to load. Nothing is decided here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tallykeeper import Incident
from tallykeeper.faults import incidents
from tallykeeper.operations.partition_windows import spelled_out

# In the details of an incident of a failed matches_source: the evaluation that found it last, and
# how that was answered.
EVALUATION = "evaluation"
ANSWERED, ANSWER = "answered", "answer"
REQUESTED, LIMIT, OFF = "requested", "limit reached", "switched off"


def doing(incident: Incident) -> str:
    """What is being done about an open incident, in a sentence or two.

    As `repair_requests` decided, if it is of those that are repaired: ask it first, and read the
    incident anew.
    """
    if is_repairable(incident):
        return _repairing(incident)
    if incident.kind == incidents.RUN:
        return "Its next run does what this one left undone; the run's page says why it failed."
    if incident.kind == incidents.PENDING:
        return f"The next hourly run takes the changes. If none comes, {_by_hand(incident)}."
    if incident.kind == incidents.DIFFERS and incidents.REPAIR in incident.details:
        return (
            "The next hourly run compares it again, and what differs then is repaired; or"
            f" {_by_hand(incident)}."
        )
    if incident.kind == incidents.EDITED:
        return (
            "Reads answer from the sources meanwhile. The next hourly run writes it anew; or"
            f" {_by_hand(incident)}."
        )
    if incident.kind == incidents.SCHEDULE:
        return "Nothing is done by itself: see that the daemon runs, and that it is switched on."
    return f"Nothing is done by itself: {_by_hand(incident)}."


def is_repairable(incident: Incident) -> bool:
    """Whether it is said what a repair has to rebuild."""
    details = incident.details
    return (
        incident.kind == incidents.DIFFERS and incidents.REPAIR in details and EVALUATION in details
    )


def is_answered(incident: Incident) -> bool:
    """Whether nothing is left to decide: also where there is nothing that a repair could do."""
    details = incident.details
    return not is_repairable(incident) or details.get(ANSWERED) == details[EVALUATION]


def _repairing(incident: Incident) -> str:
    if not is_answered(incident):
        return "The next tick of the sensor decides whether a repair is started."
    answer = incident.details[ANSWER]
    if answer == REQUESTED:
        rebuilt = _what_is_rebuilt(incident.details[incidents.REPAIR])
        return (
            f"A repair was requested: {rebuilt}; then it is checked again."
            f" It is repair {incident.repairs} of this incident."
        )
    if answer == OFF:
        return f"Repairs are switched off (TALLY_REPAIRS_PER_DAY is 0): {_by_hand(incident)}."
    return (
        "It is not repaired again: the tally was repaired as often as TALLY_REPAIRS_PER_DAY allows"
        f" in 24 hours, and differs again. Find the cause; then {_by_hand(incident)}."
    )


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
    command = incident.details.get("to_resolve")
    return (
        f"run `{command}`"
        if isinstance(command, str)
        else "the metadata of what found it says what to do"
    )
