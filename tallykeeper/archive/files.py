"""Making a file of a partition: written, read back, compared row for row, and only then recorded.

All of it happens in one snapshot, but for the copy to the archive, which is read back byte for
byte. Invariants: a file that becomes current has exactly the rows of its partition as the snapshot
saw them, which was proven by loading it into the database again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import Connection, Engine

from tallykeeper.archive.store import Store, checksum_of, scratch
from tallykeeper.catalog.transactions import SNAPSHOT
from tallykeeper.database import sql
from tallykeeper.database.sessions import begin_work
from tallykeeper.errors import TallyError
from tallykeeper.parquet import columns as parquet_columns
from tallykeeper.parquet import reading, writing
from tallykeeper.parquet.columns import Column
from tallykeeper.partitions import drops
from tallykeeper.partitions.records import ArchivedFile
from tallykeeper.partitions.sources import ArchivedSource, Partition, rows_of

_COMPARED = "compared_rows"


class NotWhatWasWritten(TallyError):
    """What was read back of a file is not what was written; says how they differ."""


class Unsettled(TallyError):
    """A partition has rows that are still to change."""


def write(
    engine: Engine,
    source: ArchivedSource,
    store: Store,
    partition: Partition,
    begun: ArchivedFile,
) -> ArchivedFile:
    """Write the partition's rows to the file that `begun` records, and prove that it has them.

    Returns what is to be recorded of it. Raises Unsettled, NotWhatWasWritten, ArchiveUnavailable,
    and SQLAlchemy's errors.
    """
    with scratch() as folder:
        local = folder / "rows.parquet"
        with engine.connect().execution_options(**SNAPSHOT) as connection, connection.begin():
            begin_work(connection)
            written = _write(connection, source, partition, begun, local)
        return put(store, replace(written, address=begun.address), local, folder)


def put(store: Store, written: ArchivedFile, local: Path, folder: Path) -> ArchivedFile:
    """Copy a local file to the archive and read it back; what is to be recorded of it."""
    size, checksum = checksum_of(local)
    store.put(local, written.address)
    found = store.get(written.address, folder / "read.parquet")
    if found != (size, checksum):
        raise NotWhatWasWritten(
            f"{written.address}: {size:,} bytes were written, and {found[0]:,} others read back"
            " from the archive; look for its fault, and run `tally archive` again"
        )
    return replace(written, bytes=size, checksum=checksum)


def _write(
    connection: Connection,
    source: ArchivedSource,
    partition: Partition,
    begun: ArchivedFile,
    local: Path,
) -> ArchivedFile:
    # No partition is dropped meanwhile. Takes no snapshot, so that it sees what was dropped before.
    sql.execute(connection, f"LOCK TABLE ONLY {source.relation} IN ACCESS SHARE MODE")
    rows_there = rows_of(source, partition)
    waits = f"SELECT EXISTS (SELECT FROM {rows_there} AS r WHERE {source.unsettled})"
    if sql.execute(connection, waits).scalar_one():
        raise Unsettled("has rows that are still to be processed")
    query = f"SELECT * FROM {rows_there} AS r"
    columns = parquet_columns.columns_of(connection, query)
    order = sql.columns((source.column, *(k for k in source.key if k != source.column)))
    rows = writing.write(connection, f"{query} ORDER BY {order}", columns, local)
    compare(connection, source, rows_there, local, rows)
    found = drops.contents_of(connection, source, partition)
    return replace(
        begun, rows=rows, contents=found, columns=[[each.name, each.type] for each in columns]
    )


def compare(
    connection: Connection, source: ArchivedSource, relation: str, local: Path, rows: int
) -> None:
    """Load a file and compare it with a relation, row for row, as texts. Raises NotWhatWasWritten.

    Rows belong together by the primary key, which both have once, so that equal numbers and no
    different row are all there is to show.
    """
    columns = reading.columns_of_file(local)
    names = [column.name for column in columns]
    differing = 0
    for batch in batches(local):
        select = reading.load(connection, columns, [batch], _COMPARED)
        same = " AND ".join(f"p.{sql.quote(k)} = f.{sql.quote(k)}" for k in source.key)
        differing += sql.execute(
            connection,
            f"SELECT count(*) FROM ({select}) AS f LEFT JOIN {relation} AS p ON {same}"
            f" WHERE ROW({sql.columns(names, 'f')})::text"
            f" IS DISTINCT FROM ROW({sql.columns(names, 'p')})::text",
        ).scalar_one()
        sql.execute(connection, f"DROP TABLE pg_temp.{_COMPARED}")
    stored = sql.execute(connection, f"SELECT count(*) FROM {relation} AS r").scalar_one()
    with pq.ParquetFile(local) as file:
        read = file.metadata.num_rows
    if differing or not rows == read == stored:
        raise NotWhatWasWritten(
            f"{source.name}: of {stored:,} rows {rows:,} were written and {read:,} read back,"
            f" {differing:,} of them different; nothing was recorded"
        )


def batches(local: Path) -> Iterator[pa.RecordBatch]:
    """The rows of a file, some thousands at a time."""
    yield from reading.batches_of_file(local)


def target_columns(connection: Connection, relation: str) -> dict[str, str]:
    """The columns of a relation that can be written, with their types, in their order."""
    found = sql.execute(
        connection,
        "SELECT a.attname, format_type(a.atttypid, a.atttypmod) AS type FROM pg_attribute AS a"
        f" WHERE a.attrelid = {sql.literal(relation)}::regclass AND a.attnum > 0"
        " AND NOT a.attisdropped AND a.attgenerated = '' ORDER BY a.attnum",
    )
    return {row.attname: row.type for row in found}


def cast_to(columns: list[Column], wanted: dict[str, str], alias: str) -> list[str]:
    """SQL of the values of `wanted` columns: those of a file, cast; NULL for what it lacks.

    A file may be older than a column, and have others that are dropped by now.
    """
    known = {column.name for column in columns}
    return [
        f"{alias}.{sql.quote(name)}::{type_}" if name in known else f"NULL::{type_}"
        for name, type_ in wanted.items()
    ]
