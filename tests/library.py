"""A system of the tests' own: files of a library, counted by day and by hour, by counting rows.

Tables and names are those that the oracles `DAILY` and `HOURLY` look at. The engine's tests use it,
so that nothing in them depends on a system of the reference project.
"""

from __future__ import annotations

from typing import Literal

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
    cast,
    func,
    select,
)

from tallykeeper import MAY_BE_NULL, SelectTally, System

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


taken_at = func.coalesce(media_files.c.original_created_at, media_files.c.created_at)


def _counted(window: Literal["day", "hour"], column: str) -> SelectTally:
    """Files by the time in their metadata, else by when the library got them."""
    table = Table(
        f"{'daily' if window == 'day' else 'hourly'}_contributions",
        metadata,
        Column("id", BigInteger, Identity(), primary_key=True),
        Column(column, DateTime(timezone=True), nullable=False, unique=True),
        Column("count", Integer, nullable=False, server_default="0"),
        Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
        Column("updated_at", DateTime(timezone=True)),
    )
    start = func.date_trunc(window, taken_at, "UTC").label(column)
    files = select(start, cast(func.count(), Integer).label("count"))
    files = files.where(taken_at.is_not(None)).group_by(start)
    return SelectTally(f"media.{table.name}", select=files, table=table)


daily_contributions = _counted("day", "date")
hourly_contributions = _counted("hour", "hour")
system = System("media", metadata, [daily_contributions, hourly_contributions])
