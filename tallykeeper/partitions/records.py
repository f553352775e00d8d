"""What is archived: a record of each file, of what is to be redacted, and of replays under way.

A file is `writing` before its first byte is written, `current` once it was read back and compared,
and `replaced` once another one holds its rows. Invariants: a record is there before its file and
goes after it, so that a process that is killed leaves no file that nothing names; a partition has
one current file at most while it exists; only current files are ever read for their rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    DateTime,
    Identity,
    Index,
    Integer,
    RowMapping,
    Table,
    Text,
    and_,
    delete,
    func,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from tallykeeper.catalog.state import metadata
from tallykeeper.database import sql
from tallykeeper.errors import NotInstalled
from tallykeeper.partitions.sources import ArchivedSource, Partition

WRITING, CURRENT, REPLACED = "writing", "current", "replaced"

_when = DateTime(timezone=True)

archive_files = Table(
    "archive_files",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("source", Text, nullable=False, comment="system and table"),
    Column("partition", Text, nullable=False, comment="its name, with the schema"),
    Column("starts_at", _when, comment="from when on the partition has rows; null: from ever"),
    Column("ends_at", _when, nullable=False, comment="before when"),
    Column("address", Text, nullable=False, comment="where the file is, below TALLY_ARCHIVE"),
    Column("state", Text, nullable=False, comment="writing, current or replaced"),
    Column("rows", BigInteger, comment="how many it has"),
    Column("bytes", BigInteger, comment="its size"),
    Column("checksum", Text, comment="SHA-256 of the file, in hexadecimal digits"),
    Column("contents", Text, comment="number and digest of the partition's rows, as archived"),
    Column("columns", JSONB, comment="names and types of the columns, as archived"),
    Column("created_at", _when, nullable=False, server_default=func.now()),
    Column("verified_at", _when, comment="when the file was last found as recorded"),
    Column("dropped_at", _when, comment="since when the file alone has these rows"),
    Index(
        "archive_files_partition",
        "source",
        "partition",
        unique=True,
        postgresql_where=text("state = 'current' AND dropped_at IS NULL"),
    ),
    comment="Files in the archive, each of one partition of a source.",
)

archive_redactions = Table(
    "archive_redactions",
    metadata,
    Column("source", Text, primary_key=True),
    Column("subject", JSONB, primary_key=True, comment="values of what names it, in their order"),
    Column("requested_at", _when, nullable=False, server_default=func.now()),
    comment="Of what archived files may still hold more than they should.",
)

archive_replays = Table(
    "archive_replays",
    metadata,
    Column("source", Text, primary_key=True),
    Column("starts_at", _when, comment="of the window; null: from the beginning"),
    Column("ends_at", _when, comment="of the window; null: to the end"),
    Column("passes", Integer, nullable=False, comment="in how many parts the work is done"),
    Column("pass", Integer, nullable=False, comment="which of them is under way, from 0"),
    Column("staged", ARRAY(BigInteger), nullable=False, comment="files of which rows are loaded"),
    Column("position", JSONB, comment="up to where this pass is done; null: at the start"),
    Column("done", JSONB, nullable=False, comment="what was done so far"),
    Column("started_at", _when, nullable=False, server_default=func.now()),
    comment="A replay that reads the archive, to be gone on with after an interruption.",
)

_FILES, _REDACTIONS = archive_files.c, archive_redactions.c


@dataclass(frozen=True)
class ArchivedFile:
    """A file of the archive, as recorded; what is not known before it is written is None."""

    id: int
    source: str
    partition: str
    starts_at: datetime | None
    ends_at: datetime
    address: str
    state: str
    rows: int | None
    bytes: int | None
    checksum: str | None
    contents: str | None
    columns: list[list[str]] | None
    created_at: datetime
    verified_at: datetime | None
    dropped_at: datetime | None


def require_installed(connection: Connection) -> None:
    """Raise NotInstalled where this database has no records of archives yet."""
    name = sql.name_of(archive_files)
    if connection.scalar(text("SELECT to_regclass(:name)"), {"name": name}) is None:
        raise NotInstalled(f"there is no {name}; run `tally migrate` first")


def begin(connection: Connection, source: ArchivedSource, partition: Partition) -> ArchivedFile:
    """Record a file of the partition that is about to be written.

    A transaction that changes rows of the partition and has not seen the record ends before this
    returns: its redactions are in what is read for the file afterwards. Later ones are recorded.
    """
    if source.lock is not None:
        sql.execute(connection, f"SELECT pg_advisory_xact_lock({source.lock})")
    begun = "unbounded" if partition.starts_at is None else f"{partition.starts_at:%Y/%m}"
    name = f"{partition.shown}-{uuid4().hex[:12]}.parquet"
    inserted = (
        archive_files.insert()
        .values(
            source=source.name,
            partition=partition.name,
            starts_at=partition.starts_at,
            ends_at=partition.ends_at,
            address=f"{source.system}/{source.table.name}/{begun}/{name}",
            state=WRITING,
        )
        .returning(archive_files)
    )
    return _file(connection.execute(inserted).mappings().one())


def finish(connection: Connection, written: ArchivedFile, replaced: ArchivedFile | None) -> None:
    """Let a file that was compared take its place, and that of the one that it replaces.

    `written` is as `begin` returned it, with what is known by now.
    """
    if replaced is not None:
        connection.execute(
            update(archive_files).where(_FILES.id == replaced.id).values(state=REPLACED)
        )
    connection.execute(
        update(archive_files)
        .where(_FILES.id == written.id)
        .values(
            state=CURRENT,
            rows=written.rows,
            bytes=written.bytes,
            checksum=written.checksum,
            contents=written.contents,
            columns=written.columns,
            verified_at=func.now(),
            dropped_at=replaced and replaced.dropped_at,
        )
    )


def forget(connection: Connection, number: int) -> None:
    """Delete the record of a file that was deleted."""
    connection.execute(delete(archive_files).where(_FILES.id == number))


def note_verified(connection: Connection, number: int) -> None:
    """Record that the file was found as it was recorded."""
    connection.execute(
        update(archive_files).where(_FILES.id == number).values(verified_at=func.now())
    )


def files(
    connection: Connection, source: ArchivedSource, *states: str, dropped: bool | None = None
) -> list[ArchivedFile]:
    """The files of the source in these states, all without any, in the order of their partitions.

    `dropped`: only those whose partition is dropped, or only those whose partition is not.
    """
    query = select(archive_files).where(_FILES.source == source.name)
    if states:
        query = query.where(_FILES.state.in_(states))
    if dropped is not None:
        query = query.where(_FILES.dropped_at.is_not(None) == dropped)
    found = connection.execute(query.order_by(_FILES.ends_at, _FILES.id))
    return [_file(row) for row in found.mappings()]


def current_of(
    connection: Connection, source: ArchivedSource, partition: str
) -> ArchivedFile | None:
    """The file of a partition that is still there; None where it is not archived."""
    row = (
        connection.execute(
            select(archive_files).where(
                _FILES.source == source.name,
                _FILES.partition == partition,
                _FILES.state == CURRENT,
                _FILES.dropped_at.is_(None),
            )
        )
        .mappings()
        .one_or_none()
    )
    return None if row is None else _file(row)


def is_current(connection: Connection, number: int) -> bool:
    """Whether the file of that record is still the one that counts."""
    query = select(_FILES.state).where(_FILES.id == number)
    return connection.scalar(query) == CURRENT


@dataclass(frozen=True)
class Replay:
    """How far a replay that reads the archive is.

    The window of rows that it is about, in how many passes it is done and which of them, from 0, is
    under way; the files of which rows are loaded; up to where the pass is done (JSON; None: at its
    start), and what was done so far (JSON).
    """

    starts_at: datetime | None
    ends_at: datetime | None
    passes: int
    number: int
    staged: list[int]
    position: Any
    done: dict[str, Any]


def replay_of(connection: Connection, source: ArchivedSource) -> Replay | None:
    """The replay of the source that is under way; None where none is."""
    columns = archive_replays.c
    row = connection.execute(
        select(
            columns.starts_at,
            columns.ends_at,
            columns.passes,
            columns["pass"].label("number"),
            columns.staged,
            columns.position,
            columns.done,
        ).where(columns.source == source.name)
    )
    found = row.mappings().one_or_none()
    return None if found is None else Replay(**found)


def note_replay(connection: Connection, source: ArchivedSource, state: Replay | None) -> None:
    """Record how far the replay is; None: that none is under way any more."""
    connection.execute(delete(archive_replays).where(archive_replays.c.source == source.name))
    if state is not None:
        values = {
            "source": source.name,
            "starts_at": state.starts_at,
            "ends_at": state.ends_at,
            "passes": state.passes,
            "pass": state.number,
            "staged": state.staged,
            "position": state.position,
            "done": state.done,
        }
        connection.execute(archive_replays.insert().values(values))


def redactions(connection: Connection, source: ArchivedSource) -> list[list[Any]]:
    """The subjects of which archived files may hold more than they should."""
    query = select(_REDACTIONS.subject).where(_REDACTIONS.source == source.name)
    return list(connection.scalars(query.order_by(_REDACTIONS.requested_at)))


def end_redactions(
    connection: Connection, source: ArchivedSource, subjects: Sequence[list[Any]]
) -> None:
    """Delete the requests that were carried out."""
    for subject in subjects:
        connection.execute(
            delete(archive_redactions).where(
                and_(_REDACTIONS.source == source.name, _REDACTIONS.subject == subject)
            )
        )


def request_redaction(source: str, subject: str) -> str:
    """PL/pgSQL: request a redaction of archived files, where there are any; `subject` is jsonb.

    For what redacts rows of the source, by its name, in the same transaction.
    """
    named = sql.literal(source)
    return f"""
  IF EXISTS (SELECT FROM {sql.name_of(archive_files)} AS f WHERE f.source = {named}) THEN
    INSERT INTO {sql.name_of(archive_redactions)} (source, subject) VALUES ({named}, {subject})
    ON CONFLICT DO NOTHING;
  END IF;"""


def _file(row: RowMapping) -> ArchivedFile:
    return ArchivedFile(**row)
