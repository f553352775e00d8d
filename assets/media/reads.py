"""What an application asks of the media system: files per day, files per hour of a day.

Answers come from the live views, so they are exact as of the last commit that the connection sees,
before any refresh and on a database where nothing was ever built. What must stay true: days and
hours are UTC whatever the session's time zone, and a date that Python cannot hold (before the year
1, after 9999, infinity) is an answer like any other, since the text is made by the database.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TypedDict

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    DateTime,
    Table,
    Text,
    case,
    cast,
    column,
    func,
    literal,
    select,
    table,
)

from assets.media import tables
from assets.reading import read

_FIRST_YEAR = datetime(1, 1, 1, tzinfo=UTC)


class DailyCounts(TypedDict):
    """Files per day, newest day first; days without files are left out."""

    daily_counts: dict[str, int]
    total_files: int
    total_days: int


class HourlyCounts(TypedDict):
    """Files per hour, newest hour first; hours without files are left out."""

    hourly_counts: dict[str, int]
    total_files: int
    total_hours: int


def daily_counts(
    connection: Connection, start: date | None = None, end: date | None = None
) -> DailyCounts:
    """Files per UTC day, from the day of `start` to the day of `end`, both included; None is open.

    A datetime stands for the UTC day it falls in (without time zone: it is UTC). Days are
    "2025-11-20"; beyond the years that Python knows "10000-01-01", "0044-03-15 BC", "infinity".
    Raises ValueError where the start is after the end, NotInstalled where there is no live view.
    """
    first, last = _day(start), _day(end)
    if first is not None and last is not None and first > last:
        raise ValueError(
            f"Expected a start that is not after the end, but {first.date()} is after "
            f"{last.date()}; exchange the two."
        )
    counts = _counts(connection, tables.daily_contributions, "date", "YYYY-MM-DD", (first, last))
    return {
        "daily_counts": counts,
        "total_files": sum(counts.values()),
        "total_days": len(counts),
    }


def hourly_counts(connection: Connection, day: date) -> HourlyCounts:
    """Files per hour of one UTC day; hours are written by their beginning, "2025-11-20T14:00:00Z".

    A datetime stands for the UTC day it falls in (without time zone: it is UTC). Raises
    ValueError where that day lies outside the years 1 to 9999, NotInstalled where there is no
    live view.
    """
    first = _day(day)
    assert first is not None
    window = (first, first.replace(hour=23))
    form = 'YYYY-MM-DD"T"HH24:MI:SS"Z"'
    counts = _counts(connection, tables.hourly_contributions, "hour", form, window)
    return {
        "hourly_counts": counts,
        "total_files": sum(counts.values()),
        "total_hours": len(counts),
    }


def _counts(
    connection: Connection,
    derived: Table,
    key: str,
    form: str,
    window: tuple[datetime | None, datetime | None],
) -> dict[str, int]:
    """The live view's counts by its key as text, latest first; both ends of the window included."""
    name = f"{derived.name}_live"
    moment: Column[datetime] = Column(key, DateTime(timezone=True))
    live = table(name, moment, column("count", BigInteger), schema=derived.schema)
    count = cast(live.c.count, BigInteger)
    query = select(_written(moment, form), count).select_from(live).order_by(moment.desc())
    first, last = window
    if first is not None:
        query = query.where(moment >= first)
    if last is not None:
        query = query.where(moment <= last)
    where = f"{derived.schema}.{name}" if derived.schema else name
    rows = read(connection, query, f"the live view {where}")
    return dict(rows)


def _written(moment: ColumnElement[datetime], form: str) -> ColumnElement[str]:
    text = func.to_char(func.timezone("UTC", moment), form, type_=Text)
    return case(
        (func.isfinite(moment).is_(False), cast(moment, Text)),
        (moment < _FIRST_YEAR, text.concat(literal(" BC"))),
        else_=text,
    )


def _day(moment: date | None) -> datetime | None:
    """Midnight UTC of the day. Raises ValueError where that lies outside the years 1 to 9999."""
    if moment is None:
        return None
    if isinstance(moment, datetime):
        if moment.tzinfo is not None:
            try:
                moment = moment.astimezone(UTC)
            except OverflowError as error:
                raise ValueError(
                    f"Expected a moment within the years 1 to 9999 in UTC, but it is {moment}."
                ) from error
        moment = moment.date()
    return datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
