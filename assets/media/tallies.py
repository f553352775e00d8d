"""The declarations of the media system, readable as its specification."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func
from sqlalchemy.sql.elements import ColumnElement

from assets.media import tables
from tallykeeper import AdditiveTally, Contribution, System, TimeKey


def taken_at(file: Any) -> ColumnElement[Any]:
    """When a file was taken: by its metadata, else when the library got it."""
    return func.coalesce(file.original_created_at, file.created_at)


daily_contributions = AdditiveTally(
    system="media",
    table=tables.daily_contributions,
    time_key=TimeKey("date", "day"),
    contributions=[
        Contribution(
            tables.media_files,
            key=lambda file: {"date": taken_at(file)},
            measures=lambda file: {"count": 1},
        )
    ],
)

hourly_contributions = AdditiveTally(
    system="media",
    table=tables.hourly_contributions,
    time_key=TimeKey("hour", "hour"),
    contributions=[
        Contribution(
            tables.media_files,
            key=lambda file: {"hour": taken_at(file)},
            measures=lambda file: {"count": 1},
        )
    ],
)

system = System(
    "media",
    tables.metadata,
    [daily_contributions, hourly_contributions],
    package=__package__,
)
