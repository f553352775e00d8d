"""What several of the fediverse's questions are asked with, and what they make of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import Query
from sqlalchemy import BigInteger, DateTime, literal

from assets.fediverse.questions import query_args
from tallykeeper.http.parameters import Moment
from tallykeeper.http.problems import unaskable
from tallykeeper.http.routing import problem
from tallykeeper.maintain.fingerprint import Condition

LONGEST_SERIES = timedelta(hours=10_000)
LARGEST_LIST = 1_000
LONGEST_NAME = 500
DAY = timedelta(days=1)
NOT_FOUND: dict[int | str, dict[str, Any]] = {404: problem("Not found.")}

Instance = Annotated[
    int, Query(ge=0, le=query_args.LARGEST_ID, description="Its id; /api/instances lists them.")
]
Start = Annotated[Moment | None, Query(description="From when; by default a day before the end.")]
End = Annotated[Moment | None, Query(description="Up to when, not included; by default now.")]
At = Annotated[Moment | None, Query(description="As of when; by default now.")]
Limit = Annotated[int, Query(ge=1, le=LARGEST_LIST)]


def now() -> datetime:
    """This moment, in UTC."""
    return datetime.now(UTC)


def before(moment: datetime, by: timedelta) -> datetime:
    """The moment so much earlier. Raises Problem at the beginning of time."""
    return whole(lambda: query_args.later("start", moment, -by))


def whole(ask: Any, *moments: datetime) -> Any:
    """What `ask` makes of the moments. Raises Problem where they are not valid."""
    try:
        return ask(*moments)
    except ValueError as error:
        raise unaskable(str(error)) from error


def span(start: datetime | None, end: datetime | None) -> tuple[datetime, datetime]:
    """From when up to when, by default the last day. Raises Problem where nothing lies between."""
    until = end or now()
    since = start or before(until, DAY)
    first, last = whole(query_args.span, since, until)
    return first, last


def whole_hours(start: datetime | None, end: datetime | None) -> tuple[datetime, datetime]:
    """The whole hours asked for. Raises Problem where there are none, or too many."""
    until = end or now()
    since = start or before(until, DAY)
    first, last = whole(query_args.hours, since, until)
    if last - first > LONGEST_SERIES:
        most = LONGEST_SERIES // query_args.HOUR
        raise unaskable(f"Expected at most {most:,} hours; ask in parts.")
    return first, last


def of_instance(
    instance: int,
    column: str | None = None,
    first: datetime | None = None,
    last: datetime | None = None,
) -> Condition:
    """The instance's keys, of a span that `last` is not part of."""

    def conditions(row: Any) -> list[Any]:
        zoned = DateTime(timezone=True)
        found = [row.instance_id == literal(instance, BigInteger())]
        if column is not None:
            found += [
                row[column] >= literal(first, zoned),
                row[column] < literal(last, zoned),
            ]
        return found

    return conditions
