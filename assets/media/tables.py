"""The tables of the media system: one source, two derived.

Only their shape stands here. How the derived ones follow from the source is in `tallies.py`.
The schema is `media`, or what `TALLY_SCHEMA_MEDIA` names; the source may have other names
(`TALLY_NAMES`).
"""

from __future__ import annotations

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

from tallykeeper import MAY_BE_NULL
from tallykeeper.settings import schema_of
from tallykeeper.table_names import SourceTables

metadata = MetaData(schema=schema_of("media"))

_sources = SourceTables("media", metadata)

media_files = _sources.table(
    "media_files",
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("path", Text, nullable=False, unique=True),
    Column(
        "original_created_at",
        DateTime(timezone=True),
        comment="when the picture was taken, by its own metadata; null where it does not say",
    ),
    Column(
        "created_at",
        DateTime(timezone=True),
        nullable=False,
        server_default=func.now(),
        info=MAY_BE_NULL,
    ),
    Column("updated_at", DateTime(timezone=True)),
    comment="Every file of the media library.",
)

# A rebuild of one window reads that window's files, not all of them.
Index(
    "media_files_taken_at",
    func.coalesce(media_files.c.original_created_at, media_files.c.created_at),
)

_sources.require_known()

daily_contributions = Table(
    "daily_contributions",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column(
        "date",
        DateTime(timezone=True),
        nullable=False,
        unique=True,
        comment="midnight UTC of the day",
    ),
    Column("count", Integer, nullable=False, server_default="0", comment="files taken on that day"),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("updated_at", DateTime(timezone=True)),
    Index("daily_contributions_date", "date"),
    comment="Files per UTC day.",
)

hourly_contributions = Table(
    "hourly_contributions",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column(
        "hour",
        DateTime(timezone=True),
        nullable=False,
        unique=True,
        comment="start of the hour, UTC",
    ),
    Column(
        "count", Integer, nullable=False, server_default="0", comment="files taken in that hour"
    ),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("updated_at", DateTime(timezone=True)),
    Index("hourly_contributions_hour", "hour"),
    comment="Files per UTC hour.",
)
