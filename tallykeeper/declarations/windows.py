"""Windows of one unit in one time zone: months in Berlin, weeks in New York.

A window has a *label*, the day that it begins with in its zone (`2025-03-01`), or of an hour its
beginning in UTC (`2025-10-26T00:00Z`); labels sort as text as their windows do in time. Labels are
computed here and, by the SQL that is made here, in PostgreSQL, so that the zone data of both have
to agree only on which day it is. No database, no Dagster.

Invariants: the windows of one unit and zone cover all of time, each moment once. Where clocks are
put back over a midnight the later one begins the day, and where they skip it the day begins with
the hour after, as PostgreSQL's `date_trunc(unit, moment, zone)` has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from typing import Literal, get_args
from zoneinfo import ZoneInfo, available_timezones

from tallykeeper.database import sql
from tallykeeper.declarations.validation import nearest

Unit = Literal["hour", "day", "week", "month", "quarter", "year"]
UNITS: tuple[Unit, ...] = get_args(Unit)
Bounds = tuple[datetime | None, datetime | None]

# The labels of what lies before and after the dates that Python can hold.
FIRST_DAY = "0001-01-01"
LAST_DAY = "9999-12-31"

_FIRST, _LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
_HOUR = timedelta(hours=1)
_MONTHS: dict[Unit, int] = {"month": 1, "quarter": 3, "year": 12}
_STEPS: dict[Unit, str] = {"quarter": "3 months"}
# What is nearer than this to the ends of Python's dates counts as beyond, in any zone.
_NEAR_FIRST, _NEAR_LAST = "0001-01-03Z", "9999-12-29Z"
_FIRST_WITHIN, _LAST_WITHIN = date(1, 1, 4), date(9999, 12, 28)
# The minute at which hours begin is that of the zone at this moment.
_REFERENCE = datetime(2025, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Windows:
    """All windows of a unit in a time zone, by its name in the IANA data. Raises ValueError."""

    unit: Unit
    zone: str = "UTC"

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            hint = nearest(str(self.unit), UNITS)
            raise ValueError(
                f"{self.unit!r} is no unit of a window{hint}; expected one of {', '.join(UNITS)}"
            )
        require_zone(self.zone)

    def __str__(self) -> str:
        return f"{self.unit} in {self.zone}"

    def label(self, moment: datetime) -> str:
        """The label of the window that an aware moment lies in."""
        try:
            return self._label(moment)
        except OverflowError:
            return FIRST_DAY if moment.year == 1 else LAST_DAY

    def _label(self, moment: datetime) -> str:
        if self.unit == "hour":
            offset = timedelta(minutes=self.minute)
            at = (moment.astimezone(UTC) - offset).replace(minute=0, second=0, microsecond=0)
            return _written(at + offset)
        found = self.of_day(moment.astimezone(self.tzinfo).date())
        if found > FIRST_DAY and self.start(found) > moment:
            return self.of_day(date.fromisoformat(found) - timedelta(days=1))
        return found

    def of_day(self, day: date) -> str:
        """The label of the window that a day of the zone lies in; of hours, of its first."""
        if self.unit == "hour":
            return self.label(self.start_of_day(day))
        if self.unit == "week":
            return (day - timedelta(days=day.weekday())).isoformat()
        if self.unit == "day":
            return day.isoformat()
        months = _MONTHS[self.unit]
        return day.replace(month=(day.month - 1) // months * months + 1, day=1).isoformat()

    def last_of_day(self, day: date) -> str:
        """The label of the last window that has a moment of the day."""
        if self.unit == "hour":
            return self.label(self.start_of_day(day + timedelta(days=1)) - timedelta.resolution)
        return self.of_day(day)

    def next(self, label: str) -> str:
        """The label of the window after; of the last that Python's dates can hold, their end."""
        try:
            return self._next(label)
        except (OverflowError, ValueError):
            return LAST_DAY

    def _next(self, label: str) -> str:
        if self.unit == "hour":
            return _written(_read(label) + _HOUR)
        day = date.fromisoformat(label)
        if self.unit in _MONTHS:
            months = day.month - 1 + _MONTHS[self.unit]
            return day.replace(year=day.year + months // 12, month=months % 12 + 1).isoformat()
        return (day + timedelta(days=7 if self.unit == "week" else 1)).isoformat()

    def start(self, label: str) -> datetime:
        """The moment, in UTC, with which a window begins."""
        if self.unit == "hour":
            return _read(label)
        return self.start_of_day(date.fromisoformat(label))

    def start_of_day(self, day: date) -> datetime:
        """The moment, in UTC, with which a day begins in the zone."""
        return _begin(day, self.tzinfo)

    def bounds(self, first: str, last: str) -> Bounds:
        """From the window of one label to the end of that of another.

        The labels may be those of other windows: of days, where these are months now. What lies
        beyond Python's dates has no bound.
        """
        start = None if first == FIRST_DAY else self.start(self._own(first))
        end = None if last == LAST_DAY else self.start(self.next(self._own(last)))
        return start, end

    def between(self, first: str, last: str) -> list[str]:
        """The labels from the one to the other, both included."""
        found = [first]
        while found[-1] < last:
            found.append(self.next(found[-1]))
        return found

    def count(self, first: str, last: str) -> int:
        """How many windows the one label is after the other."""
        if self.unit == "hour":
            return (_read(last) - _read(first)) // _HOUR
        begin, end = date.fromisoformat(first), date.fromisoformat(last)
        if self.unit in _MONTHS:
            months = (end.year - begin.year) * 12 + end.month - begin.month
            return months // _MONTHS[self.unit]
        return (end - begin).days // (7 if self.unit == "week" else 1)

    def runs(self, labels: Iterable[str]) -> list[tuple[str, str]]:
        """The windows as unbroken runs, each by its first and its last label, in order."""
        runs: list[tuple[str, str]] = []
        for label in sorted(set(labels)):
            if runs and runs[-1][1] < LAST_DAY and self.next(runs[-1][1]) == label:
                runs[-1] = (runs[-1][0], label)
            else:
                runs.append((label, label))
        return runs

    def why_no_bound(self, moment: datetime) -> str:
        """Why no window begins with the moment, and which beginnings are near; empty if one does.

        The sentence goes on from `it`.
        """
        if moment.tzinfo is None:
            return f"has no time zone; the windows are each {self}"
        before = self.label(moment)
        if self.start(before) == moment.astimezone(UTC):
            return ""
        near = (self._shown(before), self._shown(self.next(before)))
        return f"begins no {self}; the nearest that do are {near[0]} and {near[1]}"

    @property
    def tzinfo(self) -> tzinfo:
        """The zone; UTC is known without time zone data."""
        return UTC if self.zone == "UTC" else ZoneInfo(self.zone)

    @property
    def minute(self) -> int:
        """The minute in UTC at which an hour begins."""
        offset = _REFERENCE.astimezone(self.tzinfo).utcoffset() or timedelta()
        return int(-offset.total_seconds() // 60 % 60)

    def sql_label(self, at: str) -> str:
        """SQL for the label of a `timestamptz`; a null is before all time."""
        return (
            f"CASE WHEN {at} IS NULL OR {at} < '{_NEAR_FIRST}'::timestamptz THEN '{FIRST_DAY}'"
            f" WHEN {at} >= '{_NEAR_LAST}'::timestamptz THEN '{LAST_DAY}'"
            f" ELSE {self._sql_label_within(f'({at})::timestamptz')} END"
        )

    def sql_start(self, label: str) -> str:
        """SQL for the moment with which the window of a label begins, given as SQL."""
        if self.unit == "hour":
            return f"({label})::timestamptz"
        return f"(({label})::timestamp AT TIME ZONE {sql.literal(self.zone)})"

    def sql_end(self, label: str) -> str:
        """SQL for the moment with which the window ends, and the next begins."""
        if self.unit == "hour":
            return f"(({label})::timestamptz + interval '1 hour')"
        step = _STEPS.get(self.unit, f"1 {self.unit}")
        return f"((({label})::timestamp + interval '{step}') AT TIME ZONE {sql.literal(self.zone)})"

    def _sql_label_within(self, at: str) -> str:
        if self.unit == "hour":
            shift = f"interval '{self.minute} minutes'"
            begun = f"(date_trunc('hour', {at} - {shift}, 'UTC') + {shift})"
            return f"to_char({begun} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI\"Z\"')"
        zone = sql.literal(self.zone)
        local = f"{at} AT TIME ZONE {zone}"
        if (self.unit, self.zone) == ("day", "UTC"):
            return f"to_char({local}, 'YYYY-MM-DD')"
        begun = f"date_trunc('{self.unit}', {local})"
        if self.zone != "UTC":
            # Where a midnight is there twice, what lies between the two belongs to the day before.
            before = f"date_trunc('{self.unit}', {begun} - interval '1 day')"
            begun = f"CASE WHEN {begun} AT TIME ZONE {zone} > {at} THEN {before} ELSE {begun} END"
        return f"to_char({begun}, 'YYYY-MM-DD')"

    def _own(self, label: str) -> str:
        """The label of the window in which that of another unit begins.

        Of what lies beyond all labels: of the first, or the last, that is within.
        """
        if "T" in label:
            return self.label(_read(label))
        return self.of_day(min(max(date.fromisoformat(label), _FIRST_WITHIN), _LAST_WITHIN))

    def _shown(self, label: str) -> str:
        if "T" in label or self.zone == "UTC" or not "0002" < label < "9999":
            return label
        return f"{label} ({self.start(label).astimezone(self.tzinfo).isoformat()})"


def require_zone(zone: str) -> None:
    """Raise ValueError where there is no time zone of that name, with the nearest."""
    if zone == "UTC":
        return
    known = _zones()
    if not known:
        raise ValueError(f"no time zone is known, {zone!r} neither; install the package tzdata")
    if zone not in known.values():
        near = known_zone(zone.replace(" ", "_"))
        hint = f"; did you mean {near!r}?" if near else nearest(zone, known.values())
        raise ValueError(f"{zone!r} is no time zone{hint}; write it as in 'Europe/Berlin'")


def known_zone(zone: str) -> str | None:
    """The name of a zone as it is spelled, of which PostgreSQL does not mind capitals."""
    return "UTC" if zone.upper() == "UTC" else _zones().get(zone.lower())


@lru_cache(maxsize=1)
def _zones() -> Mapping[str, str]:
    """The names of all zones, by the same in small letters."""
    return {zone.lower(): zone for zone in sorted(available_timezones())}


def _begin(day: date, zone: tzinfo) -> datetime:
    """The moment, in UTC, with which a day begins: of two midnights the later one."""
    midnight = datetime.combine(day, time())
    offsets = [midnight.replace(tzinfo=zone, fold=fold).utcoffset() for fold in (0, 1)]
    least = min(each or timedelta() for each in offsets)
    try:
        return (midnight - least).replace(tzinfo=UTC)
    except OverflowError:
        return _FIRST if day.year == 1 else _LAST


def _written(hour: datetime) -> str:
    return hour.strftime("%Y-%m-%dT%H:%MZ").rjust(17, "0")


def _read(hour: str) -> datetime:
    return datetime.fromisoformat(hour)


DAYS = Windows("day")
"""The windows of a tally that says no others: days in UTC."""
