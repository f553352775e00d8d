"""Texts of the messages about incidents. It sends nothing and decides nothing.

Plain text that can be read on a phone. The title says what is wrong, the body what exactly, since
when, likely why, what is done about it, and where to look.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tallykeeper.faults import incidents
from tallykeeper.faults.incidents import Incident
from tallykeeper.operations.repair_answers import doing
from tallykeeper.settings import ui_url

FOUND, AGAIN, NOT_RESOLVED, RESOLVED = "found", "again", "not resolved", "resolved"
STORED, EXPECTED = " (stored)", " (expected)"
MOST_LISTED = 50
# The subject of the incident that nobody was there to find any.
DAEMON = "daemon"
_IN_SHORT = {
    incidents.DIFFERS: "differs from the sources",
    incidents.CAPTURE: "changes may be missed",
    incidents.PENDING: "a change waits too long",
    incidents.EDITED: "was written by hand",
    incidents.UNCOMPARED: "not every key was compared within a day",
    incidents.RUN: "a run failed",
    incidents.SCHEDULE: "does not run as it should",
    incidents.ARCHIVE: "archived files are missing or damaged",
}
_MIDNIGHT = "T00:00:00+00:00"


@dataclass(frozen=True)
class Text:
    """The text of a message."""

    title: str
    body: str


def message(incident: Incident, kind: str, *, is_first: bool = False) -> Text:
    """The message of that kind about the incident; `is_first`: no message was sent about it before.

    Raises SettingError for a bad TALLY_UI_URL.
    """
    short = _short(incident)
    said = {
        FOUND: short,
        AGAIN: f"still wrong, {short}",
        NOT_RESOLVED: f"not resolved, {short}",
        RESOLVED: f"recovered ({short})",
    }[kind]
    if kind == RESOLVED and is_first:
        said = short if incident.kind == incidents.STALE else f"{short}, resolved already"
    recovered = kind == RESOLVED and not is_first
    paragraphs = _resolved(incident) if recovered else _wrong(incident, kind)
    lines = [line for line in (*paragraphs, *_links(incident)) if line]
    return Text(f"{incident.subject}: {said}", "\n".join(lines))


def together(found: Sequence[Incident], kind: str) -> Text:
    """One message about many incidents."""
    verbs = {FOUND: "things are wrong", AGAIN: "things are still wrong"}
    verbs |= {NOT_RESOLVED: "things were not resolved", RESOLVED: "things recovered"}
    lines = [f"{incident.subject}: {_short(incident)}" for incident in found[:MOST_LISTED]]
    if len(found) > MOST_LISTED:
        lines.append(f"and {len(found) - MOST_LISTED:,} more")
    lines.append("`tally incidents` shows what is known of each.")
    lines.append(f"Runs: {ui_url()}/runs")
    return Text(f"{len(found):,} {verbs[kind]}", "\n".join(lines))


def unreachable(since: datetime, reason: str) -> Text:
    """The message while nothing can be recorded."""
    return Text(
        "tallykeeper: the database is not reachable",
        f"Since {_moment(since)}: {reason}\n"
        "No tally is refreshed or checked until it is back. A message follows when it is.",
    )


def reachable(since: datetime | None, now: datetime) -> Text:
    """The message when it is back."""
    return Text(
        "tallykeeper: recovered (the database is reachable again)",
        f"It was not reachable from {_moment(since)} to {_moment(now)}.",
    )


def _wrong(incident: Incident, kind: str) -> list[str]:
    lines = [*_keys(incident), *_what(incident), _since(incident)]
    if incident.cause and incident.cause not in incident.what:
        lines.append(f"Likely cause: {incident.cause}.")
    if kind == NOT_RESOLVED:
        lines.append("The repair did not resolve it.")
    if incident.is_open:
        lines.append(doing(incident))
    else:
        lines.append(f"Resolved at {_moment(incident.resolved_at)}: {incident.resolved_by}.")
    return lines


def _resolved(incident: Incident) -> list[str]:
    return [
        f"Resolved at {_moment(incident.resolved_at)}, as shown by: {incident.resolved_by}.",
        _since(incident),
        f"Repairs: {incident.repairs}." if incident.repairs else "",
        f"Likely cause: {incident.cause}." if incident.cause else "",
    ]


def _short(incident: Incident) -> str:
    if incident.kind == incidents.DIFFERS and incident.differing:
        keys = "key differs" if incident.differing == 1 else "keys differ"
        return f"{incident.differing:,} {keys} from the sources"
    if incident.kind == incidents.STALE:
        return f"was rebuilt: {incident.what}"
    if incident.subject == DAEMON:
        return "nothing was watched for a while"
    return _IN_SHORT.get(incident.kind, f"the check {incident.kind} failed")


def _what(incident: Incident) -> list[str]:
    return [] if incident.kind in (incidents.DIFFERS, incidents.STALE) else [incident.what]


def _keys(incident: Incident) -> list[str]:
    records: Sequence[Mapping[str, Any]] = incident.details.get("keys") or ()
    lines = [_key(record) for record in records]
    left = (incident.differing or 0) - len(records)
    return [*lines, f"and {left:,} more"] if lines and left > 0 else lines


def _key(record: Mapping[str, Any]) -> str:
    measures = [name.removesuffix(STORED) for name in record if name.endswith(STORED)]
    both = [(m, record[m + STORED], record.get(m + EXPECTED)) for m in measures]
    differing = [(m, s, e) for m, s, e in both if s != e] or both
    key = [v for name, v in record.items() if not name.endswith((STORED, EXPECTED))]
    named = ", ".join(str(value).removesuffix(_MIDNIGHT) for value in key)
    if len(measures) == 1:
        return f"{named}: stored {both[0][1]}, expected {both[0][2]}"
    return f"{named}: " + "; ".join(f"{m} stored {s}, expected {e}" for m, s, e in differing)


def _since(incident: Incident) -> str:
    if incident.is_first:
        return f"Found at {_moment(incident.found_at)}."
    return (
        f"Found {incident.times:,} times since {_moment(incident.found_at)}, the last at"
        f" {_moment(incident.last_found_at)}."
    )


def _links(incident: Incident) -> list[str]:
    base, details = ui_url(), incident.details
    run, asset = details.get("run"), details.get("asset")
    links = [f"Run: {base}/runs/{run}"] if run else []
    return [*links, f"Asset: {base}/assets/{asset}"] if asset else links


def _moment(at: datetime | None) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if at else "a time not known"
