"""The declarations of the media system, readable as its specification."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Integer, Select, cast, func, select

from assets.media import tables
from tallykeeper import SelectTally, System

files = tables.media_files


def taken_at() -> ColumnElement[object]:
    """When a file was taken: by its metadata, else when the library got it."""
    return func.coalesce(files.c.original_created_at, files.c.created_at)


def _files_by(unit: str, name: str) -> Select[tuple[object, int]]:
    """How many files were taken in each day or hour, UTC; those of no known time count nowhere."""
    start = func.date_trunc(unit, taken_at(), "UTC").label(name)
    return (
        select(start, cast(func.count(), Integer).label("count"))
        .where(taken_at().is_not(None))
        .group_by(start)
    )


daily_contributions = SelectTally(
    "media.daily_contributions",
    select=_files_by("day", "date"),
    table=tables.daily_contributions,
    formerly=["a7236bf1b463ffb5"],
)

hourly_contributions = SelectTally(
    "media.hourly_contributions",
    select=_files_by("hour", "hour"),
    table=tables.hourly_contributions,
    formerly=["3ebeaf0572b43822"],
)

system = System(
    "media",
    tables.metadata,
    [daily_contributions, hourly_contributions],
    package=__package__,
)
