"""A system of the tests' own: files of a library, counted by day and by hour, by the additive way.

Tables and names are those that the oracles `DAILY` and `HOURLY` look at. The engine's tests use it,
so that nothing in them depends on a system of the reference project.
"""

from __future__ import annotations

from typing import Any, Literal

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Identity,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    func,
)
from sqlalchemy.sql.elements import ColumnElement

from tallykeeper import MAY_BE_NULL, AdditiveTally, Contribution, System, TimeKey

metadata = MetaData(schema="media")

media_files = Table(
    "media_files",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("path", Text, nullable=False, unique=True),
    Column("original_created_at", DateTime(timezone=True)),
    Column(
        "created_at",
        DateTime(timezone=True),
        nullable=False,
        server_default=func.now(),
        info=MAY_BE_NULL,
    ),
    Column("updated_at", DateTime(timezone=True)),
)
Index(
    "media_files_taken_at",
    func.coalesce(media_files.c.original_created_at, media_files.c.created_at),
)


def taken_at(file: Any) -> ColumnElement[Any]:
    """When a file was taken: by its metadata, else when the library got it."""
    return func.coalesce(file.original_created_at, file.created_at)


def _counted(window: Literal["day", "hour"], column: str) -> AdditiveTally:
    table = Table(
        f"{'daily' if window == 'day' else 'hourly'}_contributions",
        metadata,
        Column("id", BigInteger, Identity(), primary_key=True),
        Column(column, DateTime(timezone=True), nullable=False, unique=True),
        Column("count", Integer, nullable=False, server_default="0"),
        Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
        Column("updated_at", DateTime(timezone=True)),
    )
    return AdditiveTally(
        system="media",
        table=table,
        time_key=TimeKey(column, window),
        contributions=[
            Contribution(
                media_files,
                key=lambda file: {column: taken_at(file)},
                measures=lambda file: {"count": 1},
            )
        ],
    )


daily_contributions = _counted("day", "date")
hourly_contributions = _counted("hour", "hour")
system = System("media", metadata, [daily_contributions, hourly_contributions])
