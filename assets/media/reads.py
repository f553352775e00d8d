"""What an application asks of the media system: files per day, files per hour of a day.

Answers come from the live views, so they are exact as of the last commit that the connection sees,
before any refresh and on a database where nothing was ever built. Invariants: days and
hours are UTC whatever the session's time zone, and a date that Python cannot hold (before the year
1, after 9999, infinity) is an answer like any other, since the text is made by the database.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import NotRequired, TypedDict

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
from assets.media.folder_reads import Files, FolderLibrary
from assets.media.tallies import daily_contributions
from tallykeeper.reads.grouping import MOST_GROUPS, PERIODS, after, grouped
from tallykeeper.reads.live_reads import day_of, days, read

SOURCE = "folder"
"""The word by which an answer says that no database was asked."""

_FIRST_YEAR = datetime(1, 1, 1, tzinfo=UTC)


class DailyCounts(TypedDict):
    """Files per day, newest day first; days without files are left out.

    `source` is "folder" where no database was asked; `unreadable` are then the files and folders
    that could not be read, and are not counted.
    """

    daily_counts: dict[str, int]
    total_files: int
    total_days: int
    source: NotRequired[str]
    unreadable: NotRequired[int]


class PeriodCounts(TypedDict):
    """Files per week, month or year, the newest first, by its first day.

    `source` is "folder" where no database was asked; `unreadable` are then the files and folders
    that could not be read, and are not counted.
    """

    period_counts: dict[str, int]
    total_files: int
    source: NotRequired[str]
    unreadable: NotRequired[int]


class HourlyCounts(TypedDict):
    """Files per hour, newest hour first; hours without files are left out.

    `source` is "folder" where no database was asked; `unreadable` are then the files and folders
    that could not be read, and are not counted.
    """

    hourly_counts: dict[str, int]
    total_files: int
    total_hours: int
    source: NotRequired[str]
    unreadable: NotRequired[int]


def daily_counts(
    connection: Connection | None = None,
    start: date | None = None,
    end: date | None = None,
    *,
    folder: Path | Files | None = None,
) -> DailyCounts:
    """Files per UTC day, from the day of `start` to the day of `end`, both included; None is open.

    Of the database, or without one of the pictures in a `folder`, found and dated as loading it
    would, or of the `Files` that a `FolderLibrary` returned, which remembers what it read.

    A datetime stands for the UTC day it falls in (without time zone: it is UTC). Days are
    "2025-11-20"; beyond the years that Python knows "10000-01-01", "0044-03-15 BC", "infinity".
    Raises ValueError where the start is after the end, NotInstalled where there is no live view,
    FolderUnreadable.
    """
    first, last = days(start, end)
    files = None if folder is None else _files(connection, folder)
    if files is not None:
        counts = files.per_day(first and first.date(), last and last.date())
    else:
        table = tables.daily_contributions
        counts = _counts(_asked(connection), table, "date", "YYYY-MM-DD", (first, last))
    answer: DailyCounts = {
        "daily_counts": counts,
        "total_files": sum(counts.values()),
        "total_days": len(counts),
    }
    if files is not None:
        answer |= {"source": SOURCE, "unreadable": files.unreadable}
    return answer


def period_counts(
    connection: Connection | None,
    unit: str,
    start: date | None = None,
    end: date | None = None,
    *,
    folder: Path | Files | None = None,
) -> PeriodCounts:
    """Files per week, month or year, of the days from `start` to `end`, both included.

    Of the database, or of the pictures in a `folder`, as `daily_counts`.

    A period is named by its first day, a week by its Monday; those without files are left out. Of
    one that is only partly within the days, these alone count. Raises what `daily_counts` raises,
    and ValueError for another unit.
    """
    if unit not in PERIODS:
        raise ValueError(f"Expected a unit, one of {', '.join(PERIODS)}, but it is {unit!r}.")
    first, last = days(start, end)
    if folder is not None:
        files = _files(connection, folder)
        of_folder = files.per_period(unit, first and first.date(), last and last.date())
        total = sum(of_folder.values())
        return {
            "period_counts": of_folder,
            "total_files": total,
            "source": SOURCE,
            "unreadable": files.unreadable,
        }
    found = grouped(
        _asked(connection),
        daily_contributions,
        [f"date:{unit}"],
        measures=["count"],
        start=first,
        end=None if last is None else after(last),
        limit=MOST_GROUPS,
    )
    counts = {group["date"]: group["count"] for group in reversed(found.groups)}
    return {"period_counts": counts, "total_files": sum(counts.values())}


def hourly_counts(
    connection: Connection | None = None,
    day: date | None = None,
    *,
    folder: Path | Files | None = None,
) -> HourlyCounts:
    """Files per hour of one UTC day; hours are written by their beginning, "2025-11-20T14:00:00Z".

    Of the database, or of the pictures in a `folder`, as `daily_counts`. A datetime stands for the
    UTC day it falls in (without time zone: it is UTC). Raises ValueError where that day lies
    outside the years 1 to 9999, NotInstalled where there is no live view, FolderUnreadable.
    """
    if day is None:
        raise TypeError("Expected a day whose hours are counted, but none was named; name one.")
    first = day_of(day)
    assert first is not None
    files = None if folder is None else _files(connection, folder)
    if files is not None:
        counts = files.per_hour(first.date())
    else:
        window = (first, first.replace(hour=23))
        form = 'YYYY-MM-DD"T"HH24:MI:SS"Z"'
        hours = tables.hourly_contributions
        counts = _counts(_asked(connection), hours, "hour", form, window)
    answer: HourlyCounts = {
        "hourly_counts": counts,
        "total_files": sum(counts.values()),
        "total_hours": len(counts),
    }
    if files is not None:
        answer |= {"source": SOURCE, "unreadable": files.unreadable}
    return answer


def _files(connection: Connection | None, folder: Path | Files) -> Files:
    if connection is not None:
        raise TypeError("Expected a connection or a folder, but both are there; leave one out.")
    return FolderLibrary(folder).files() if isinstance(folder, Path) else folder


def _asked(connection: Connection | None) -> Connection:
    if connection is None:
        raise TypeError("Expected a connection or a folder, but neither is there; name one.")
    return connection


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
