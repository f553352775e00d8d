"""Which files of a folder were loaded, so that the next load need not open them again.

A file is known by its path, size and modification time, those of its sidecars, and the version of
the reader. Invariant: a file is passed over only while `media_files` has just what its load wrote.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    DateTime,
    Integer,
    MetaData,
    Table,
    Text,
    func,
    select,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError

from assets.media.tables import media_files
from tallykeeper.catalog import state
from tallykeeper.database import sql
from tallykeeper.database.sqlstates import INSUFFICIENT_PRIVILEGE, sqlstate_of

READER = 1
"""Counts up when dates are read otherwise, so that all files are opened once more."""

seen_files = Table(
    "media_loaded_files",
    MetaData(schema=sql.ENGINE_SCHEMA),
    Column("path", Text, primary_key=True),
    Column("size", BigInteger, nullable=False, comment="bytes"),
    Column("modified", BigInteger, nullable=False, comment="nanoseconds, the sidecars' with it"),
    Column("reader", Integer, nullable=False, comment="version of what read its dates"),
    Column("original_created_at", DateTime(timezone=True)),
    Column("created_at", DateTime(timezone=True)),
    comment="Files of folders that were loaded into media_files, as they were then.",
)


@dataclass(frozen=True)
class Stamp:
    """A file as its folder lists it: bytes, and nanoseconds of its last modification."""

    path: str
    size: int
    modified: int


def prepare(connection: Connection) -> bool:
    """Create the table where it is missing; False where the role may not, or may not write it."""
    try:
        with connection.begin_nested():
            state.create(connection)
            seen_files.create(connection, checkfirst=True)
    except DBAPIError as error:
        if sqlstate_of(error) != INSUFFICIENT_PRIVILEGE:
            raise
        return False
    allowed = func.has_table_privilege(sql.name_of(seen_files), "SELECT, INSERT, UPDATE")
    return bool(connection.scalar(select(allowed)))


def unchanged(connection: Connection, stamps: Sequence[Stamp]) -> set[str]:
    """Return the paths of those files that are as they were when they were loaded."""
    seen = seen_files.c
    dates = ("original_created_at", "created_at")
    found = connection.execute(
        select(seen.path, seen.size, seen.modified)
        .join(media_files, media_files.c.path == seen.path)
        .where(
            seen.path.in_([stamp.path for stamp in stamps]),
            seen.reader == READER,
            # What the file does not say may have been filled in at the moment of loading.
            *(seen[name].is_(None) | (media_files.c[name] == seen[name]) for name in dates),
            seen.original_created_at.is_not(None) | media_files.c.original_created_at.is_(None),
        )
    )
    known = {Stamp(*row) for row in found}
    return {stamp.path for stamp in stamps if stamp in known}


def record(
    connection: Connection,
    rows: Sequence[tuple[Stamp, str | None, str | None]],
) -> None:
    """Remember files with the dates that were loaded of them, ISO 8601 or None."""
    if not rows:
        return
    values = [
        {
            "path": stamp.path,
            "size": stamp.size,
            "modified": stamp.modified,
            "reader": READER,
            "original_created_at": original,
            "created_at": created,
        }
        for stamp, original, created in rows
    ]
    write = insert(seen_files)
    changed = {c.name: write.excluded[c.name] for c in seen_files.c if c.name != "path"}
    connection.execute(write.on_conflict_do_update(index_elements=["path"], set_=changed), values)
