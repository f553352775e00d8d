"""How the fediverse is asked: arguments checked before anything is read, rows made answers.

No SQL here but that of values. They stand in the text of a query and not beside it as parameters:
the driver would prepare a query that is asked often, and its one plan for every window is the
wrong one for most.
"""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import Connection

from assets.fediverse.processing.functions import LONGEST_ID
from tallykeeper.reads.live_reads import read

LARGEST_ID = 2**63 - 1
LARGEST_COUNT = 2**63 - 1
LONGEST_SERIES = timedelta(hours=100_000)
HOUR = timedelta(hours=1)

_Answer = TypeVar("_Answer")


def answers(connection: Connection, query: str, wanted: str, kind: type[_Answer]) -> list[_Answer]:
    """A `kind` of each row of a query, whose columns stand in the order of its fields.

    Instants are in UTC, whatever the session's time zone. Raises NotInstalled where `wanted`, what
    the query reads, is not in the database.
    """
    rows = read(connection, query, wanted)
    return [kind(*(in_utc(value) for value in row)) for row in rows]


def in_utc(value: Any) -> Any:
    """An instant in UTC, which one without a zone is in; anything else as it is."""
    if not isinstance(value, datetime):
        return value
    return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


def whole_number(name: str, value: int, most: int, least: int = 1) -> int:
    """`value`, from `least` to `most`. Raises ValueError."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ValueError(f"Expected `{name}` from {least:,} to {most:,}, but it is {value!r}.")
    return value


def identifier(name: str, value: int) -> int:
    """`value`, which an instance may have as its id. Raises ValueError."""
    return whole_number(name, value, LARGEST_ID, least=0)


def post_id(value: str) -> str:
    """`value`, which a post may have as its id on its server. Raises ValueError."""
    return some_id("post_id", value)


def some_id(name: str, value: str) -> str:
    """`value`, which a post or an account may have as its id on its server. Raises ValueError."""
    if len(storable(name, value)) > LONGEST_ID:
        raise ValueError(
            f"Expected `{name}` of up to {LONGEST_ID} characters, but it has {len(value):,}."
        )
    return value


def one_of_many(instance: int) -> str:
    """The instance's id as SQL, such that the planner takes it for any of the instances.

    Of one that was loaded a moment ago its statistics say that there is nothing. It would then plan
    for a single row, and any index whose first column is the instance would look like the best.
    """
    return f"(SELECT {instance}::bigint)"


def number(name: str, value: float, least: float, *, above: bool = False) -> float:
    """`value` as a finite float, at least `least`, or above it. Raises ValueError."""
    fits = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not fits or value < least or (above and value == least):
        bound = "above" if above else "of at least"
        raise ValueError(f"Expected `{name}` {bound} {least}, but it is {value!r}.")
    return float(value)


def storable(name: str, value: str) -> str:
    """`value`, a text that is not empty and that PostgreSQL could have. Raises ValueError."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"Expected `{name}` to be a text, but it is {value!r}.")
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError(
            f"Expected `{name}` without null characters and surrogates, but it is {value!r}."
        )
    return value


def instant(name: str, value: datetime) -> datetime:
    """`value` in UTC; without time zone it is UTC. Raises ValueError."""
    if not isinstance(value, datetime):
        raise ValueError(f"Expected `{name}` to be a datetime, but it is {value!r}.")
    if value.tzinfo is None:
        return value.replace(tzinfo=UTC)
    try:
        return value.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(
            f"Expected `{name}` within the years 1 to 9999 in UTC, but it is {value}."
        ) from error


def span(start: datetime, end: datetime) -> tuple[datetime, datetime]:
    """From `start` up to, not including, `end`. Raises ValueError where nothing lies between."""
    first, last = instant("start", start), instant("end", end)
    if first >= last:
        raise ValueError(
            f"Expected a `start` before the `end`, but {first} is not before {last}; the end is"
            " not part of what is asked for."
        )
    return first, last


def hours(start: datetime, end: datetime) -> tuple[datetime, datetime]:
    """The whole hours that `span` touches, at most 100,000. Raises ValueError."""
    first, last = span(start, end)
    first, last = hour_of(first), next_hour(last)
    if last - first > LONGEST_SERIES:
        most = LONGEST_SERIES // HOUR
        raise ValueError(
            f"Expected at most {most:,} hours, but from {first} to {last} are"
            f" {(last - first) // HOUR:,}; ask for them in parts."
        )
    return first, last


def days(start: datetime, end: datetime) -> tuple[datetime, datetime]:
    """The whole days that `span` touches. Raises ValueError."""
    first, last = span(start, end)
    midnight = day_of("end", last)
    if midnight != last:
        midnight = later("end", midnight, timedelta(days=1))
    return day_of("start", first), midnight


def day_of(name: str, day: date) -> datetime:
    """Midnight UTC of the day; a datetime stands for the UTC day it falls in. Raises ValueError."""
    if isinstance(day, datetime):
        return instant(name, day).replace(hour=0, minute=0, second=0, microsecond=0)
    if not isinstance(day, date):
        raise ValueError(f"Expected `{name}` to be a date, but it is {day!r}.")
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def hour_of(moment: datetime) -> datetime:
    """The start of the hour that `moment` falls in."""
    return moment.replace(minute=0, second=0, microsecond=0)


def next_hour(moment: datetime) -> datetime:
    """`moment` where an hour begins with it, else the start of the next. Raises ValueError."""
    start = hour_of(moment)
    return start if start == moment else later("end", start, HOUR)


def later(name: str, moment: datetime, by: timedelta) -> datetime:
    """`moment` moved `by`, back where that is negative. Raises ValueError at the ends of time."""
    try:
        return moment + by
    except OverflowError as error:
        raise ValueError(
            f"Expected `{name}` such that all asked for lies within the years 1 to 9999, but"
            f" {by} from {moment} does not."
        ) from error


def written(moment: datetime) -> str:
    """`moment` as SQL."""
    return f"timestamptz '{moment.isoformat()}'"
