"""How the command line shows incidents: to people within 80 columns, to programs as JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime

from tallykeeper import Incident
from tallykeeper.cli.output.documents import document
from tallykeeper.operations.repair_answers import doing

WIDTH = 80
LABEL = 11
LONGEST = 2_000


def incidents_in_words(found: Sequence[Incident], width: int = WIDTH) -> Iterator[str]:
    """The lines that tell of `found`, open ones first, and last how many there are of each."""
    for incident in found:
        yield _heading(incident, width)
        for label, what in _paragraphs(incident):
            yield from _wrapped(label, what, width)
        yield ""
    opened = sum(incident.is_open for incident in found)
    yield f"{opened:,} open, {len(found) - opened:,} resolved" if found else "no incidents"


def incidents_as_json(found: Sequence[Incident]) -> str:
    """An object with `open`, a number, and `incidents`: their columns, times in ISO 8601."""
    listed = [asdict(i) | {"open": i.is_open, "doing": _doing(i)} for i in found]
    return document("incidents", open=sum(i.is_open for i in found), incidents=listed)


def open_hint(opened: int) -> str | None:
    """One line for `tally status`; None where no incident is open."""
    if not opened:
        return None
    what = "1 incident is" if opened == 1 else f"{opened:,} incidents are"
    return f"{what} open; see `tally incidents --open`"


def _heading(incident: Incident, width: int) -> str:
    state = "OPEN" if incident.is_open else "resolved"
    left = f"{_moment(incident.found_at)}  {incident.subject}"
    return f"{left:<{width - len(state) - 1}} {state}"


def _paragraphs(incident: Incident) -> Iterator[tuple[str, str]]:
    yield "what", incident.what
    if incident.cause:
        yield "cause", incident.cause
    if incident.differing is not None:
        yield "keys", f"{incident.differing:,} {'differs' if incident.differing == 1 else 'differ'}"
    if incident.times > 1:
        yield "found", f"{incident.times:,} times, the last {_moment(incident.last_found_at)}"
    if incident.repairs:
        yield "repairs", f"{incident.repairs:,}, the last {_moment(incident.repair_requested_at)}"
    if incident.is_open:
        yield "doing", doing(incident)
    else:
        yield "resolved", f"{_moment(incident.resolved_at)} ({incident.resolved_by})"


def _doing(incident: Incident) -> str | None:
    return doing(incident) if incident.is_open else None


def _wrapped(label: str, what: str, width: int) -> list[str]:
    return textwrap.wrap(
        textwrap.shorten(what, LONGEST, placeholder=" ..."),
        width,
        initial_indent=f"  {label:<{LABEL - 2}}",
        subsequent_indent=" " * LABEL,
        break_on_hyphens=False,
    )


def _moment(at: datetime | None) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M}" if at else "-"
