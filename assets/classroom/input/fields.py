"""An event as an input has it, and what its times mean, whatever the input's format.

Which formats there are is in `progsnap.py` and `sericss.py`. Invariants: what is treated
rather than rejected is counted, and named in a sentence of the load's summary (`Notes`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from assets.classroom.counting.events import counts
from tallykeeper.input.loading import parse_time

UNKNOWN = "unknown"
"""The course or assignment of an event that names none."""

APART = timedelta(hours=1)
"""Clocks that differ by more are reported."""

NOTHING = {"", "none", "null", "nan", "nat", "na", "n/a"}
"""What programs write, in capital or small letters, where there is no time or number."""

_FARTHEST = timedelta(hours=14)
_ZERO = {"z", "utc", "gmt", "0", "00", "0000", "00:00"}
_OFFSET = re.compile(
    r"(?:UTC|GMT)? ?([+-])(?:([0-9]{2}):?([0-5][0-9])|([0-9]{1,2}))", re.IGNORECASE
)
_SAYS_ITS_OFFSET = re.compile(r"[Tt ].*(?:[Zz]|[+-][0-9:]{2,8})$")

TREATED = {
    "no server time": "events without a server time, dated by the client's",
    "bad client time": "client times that cannot be read, left out",
    "bad order": "values of Order that are no integers, left out",
    "apart": "events with client and server clocks more than an hour apart, dated by the server's",
    "no assignment": f"events without an assignment, put under {UNKNOWN!r}",
    "no course": f"events without a course, put under {UNKNOWN!r}",
    "no snapshot time": "snapshots without a time of their own, dated by datetime_raw",
    "out of order": "events below a later one of the same submission, put in order by time",
    "repeated": "events that stand in the input more than once, loaded once",
    "reused": "events with the id of another event, kept apart by their time and name",
}
"""What a load does with what is not as it should be, by the word that `Notes.count` takes."""

MOST_TYPES = 10

Sequel = Callable[["Event"], None]


@dataclass(frozen=True, slots=True)
class Event:
    """What happened, as one row says it; of some inputs a row makes several.

    `course`, `group`, `assignment` and `subject` are names; `at` is the server's time, `client_at`
    the client's. `place` orders events of one instant, where the input says in which order they
    came. `event_id` is distinct from that of every other event of the input.
    """

    line: int
    course: str
    group: str | None
    assignment: str
    subject: str
    event_id: str
    event_type: str
    at: datetime
    category: str | None = None
    label: str | None = None
    message: str | None = None
    file_path: str | None = None
    client_at: datetime | None = None
    place: int | None = None


class Notes:
    """What was treated, and how often; and what else is to be said of the input."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._uncounted: Counter[str] = Counter()
        self._said: list[str] = []

    def count(self, what: str, times: int = 1) -> None:
        """Count something that is in `TREATED`."""
        self._counts[what] += times

    def count_type(self, event_type: str) -> None:
        """Count an event of a name that no figure counts."""
        if not counts(event_type):
            self._uncounted[event_type] += 1

    def say(self, sentence: str) -> None:
        """Add a sentence about the input as a whole."""
        self._said.append(sentence)

    def sentences(self) -> tuple[str, ...]:
        """All notes, in a fixed order."""
        counted = (
            f"{sentence}: {self._counts[what]:,}"
            for what, sentence in TREATED.items()
            if self._counts[what]
        )
        return (*self._said, *counted, *self._types_sentence())

    def _types_sentence(self) -> list[str]:
        if not self._uncounted:
            return []
        shown = [f"{name} ({n:,})" for name, n in self._uncounted.most_common(MOST_TYPES)]
        rest = len(self._uncounted) - len(shown)
        more = f" and {rest:,} other names" if rest else ""
        return [
            f"events of names that no figure counts, {self._uncounted.total():,} loaded:"
            f" {', '.join(shown)}{more}"
        ]


def given(text: str) -> bool:
    """Whether a cell holds a time or number, and not a word for none."""
    return text.strip().lower() not in NOTHING


def moment(text: str, zone: str = "") -> datetime:
    """The instant, in UTC, of an ISO 8601 time; one without offset is in `zone`, or else UTC.

    `zone` is an offset (+0100, +01:00, UTC+1) or a name (Europe/Berlin). Raises ValueError where
    one of them cannot be read, or lies outside the years 1 to 9999.
    """
    at = parse_time(text)
    if not given(zone) or _SAYS_ITS_OFFSET.search(text.strip()):
        return at
    try:
        return at.replace(tzinfo=zone_of(zone.strip())).astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{text!r} lies outside the years 1 to 9999 in UTC") from error


@lru_cache(maxsize=1000)
def zone_of(text: str) -> tzinfo:
    """The time zone of that offset or name. Raises ValueError where it is neither."""
    if text.lower() in _ZERO:
        return UTC
    found = _OFFSET.fullmatch(text)
    if found:
        sign, hours, minutes, alone = found.groups()
        offset = timedelta(hours=int(hours or alone), minutes=int(minutes or 0))
        if offset <= _FARTHEST:
            return timezone(-offset if sign == "-" else offset)
    elif text in _zone_names():
        return ZoneInfo(text)
    raise ValueError(f"{text!r} is no time zone (like +0100, -05:00 or Europe/Berlin)")


@lru_cache(maxsize=1)
def _zone_names() -> set[str]:
    return available_timezones()


def ordered(notes: Notes) -> Sequel:
    """A function to call with each event as it is read: counts those that come too late."""
    latest: dict[tuple[str, str, str], datetime] = {}

    def look(event: Event) -> None:
        submission = event.course, event.assignment, event.subject
        before = latest.get(submission)
        if before is not None and event.at < before:
            notes.count("out of order")
        else:
            latest[submission] = event.at

    return look
