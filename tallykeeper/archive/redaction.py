"""Redacting archived files: what has to go from the source goes from them too.

A file with rows of a subject is written anew, with these rows as the source's own redaction leaves
them, and takes the place of the other one, which is then deleted. Invariants: at every moment one
of the two is current, and whole; a request ends only when no current file holds rows that it
concerns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from sqlalchemy import Connection, Engine

from tallykeeper.archive import files
from tallykeeper.archive.store import Store, fetch, scratch
from tallykeeper.database import sql
from tallykeeper.database.sessions import begin_work
from tallykeeper.parquet import reading, writing
from tallykeeper.partitions import records
from tallykeeper.partitions.records import CURRENT, WRITING, ArchivedFile
from tallykeeper.partitions.sources import ArchivedSource, Partition

_LOADED, _ROWS = "archived_rows_read", "archived_rows"


def redact(
    engine: Engine, source: ArchivedSource, store: Store, still_alone: Callable[[], None]
) -> int:
    """Carry out what was requested until now; how many files were written anew.

    Files of partitions that are still there are among them. Raises ArchiveUnavailable and
    SQLAlchemy's errors; requests stay then.
    """
    if source.redact is None:
        return 0
    with engine.begin() as connection:
        subjects = records.redactions(connection, source)
        current = records.files(connection, source, CURRENT) if subjects else []
    done = sum(_redact_one(engine, source, store, each, subjects, still_alone) for each in current)
    with engine.begin() as connection:
        records.end_redactions(connection, source, subjects)
    return done


def _redact_one(
    engine: Engine,
    source: ArchivedSource,
    store: Store,
    file: ArchivedFile,
    subjects: list[list[Any]],
    still_alone: Callable[[], None],
) -> bool:
    """Write the file anew where rows of it change; whether any did."""
    with scratch() as folder:
        local, anew = folder / "archived.parquet", folder / "redacted.parquet"
        fetch(store, file, local)
        if not _holds_any(local, source, subjects):
            return False
        with engine.begin() as connection:
            begin_work(connection)
            if not _rewrite(connection, source, local, anew, subjects):
                return False
        _compare(local, anew, source, subjects)
        with engine.begin() as connection:
            begin_work(connection)
            partition = Partition(file.partition, file.starts_at, file.ends_at)
            begun = records.begin(connection, source, partition)
        assert begun.state == WRITING
        # The digest of the partition's rows as they were archived: a drop compares with that.
        known = replace(begun, rows=file.rows, contents=file.contents, columns=file.columns)
        written = files.put(store, known, anew, folder)
    still_alone()
    with engine.begin() as connection:
        records.finish(connection, written, file)
        if source.staged is not None:
            # What a replay has loaded of the file; it loads the new one in its place.
            sql.execute(connection, f"DELETE FROM {source.staged} WHERE archived_file = {file.id}")
    store.remove(file.address)
    with engine.begin() as connection:
        records.forget(connection, file.id)
    return True


def _holds_any(local: Path, source: ArchivedSource, subjects: list[list[Any]]) -> bool:
    """Whether a row of the file is of one of the subjects."""
    named = _named(local, source)
    return any(pc.any(_of_subjects(batch, source, subjects)).as_py() for batch in named)


def _named(local: Path, source: ArchivedSource) -> Any:
    names = list(dict.fromkeys(name for columns in source.subjects for name in columns))
    with pq.ParquetFile(local) as file:
        yield from file.iter_batches(columns=[n for n in names if n in file.schema_arrow.names])


def _of_subjects(
    batch: pa.RecordBatch, source: ArchivedSource, subjects: list[list[Any]]
) -> pa.Array:
    """For each row whether it is of one of the subjects; compared as texts."""
    wanted = pa.array(["\n".join(map(str, subject)) for subject in subjects])
    found = pa.array([False] * batch.num_rows)
    for columns in source.subjects:
        if set(columns) <= set(batch.schema.names):
            texts = [batch.column(name).cast(pa.string()) for name in columns]
            joined = pc.binary_join_element_wise(*texts, "\n")
            found = pc.or_(found, pc.fill_null(pc.is_in(joined, wanted), False))
    return found


def _rewrite(
    connection: Connection,
    source: ArchivedSource,
    local: Path,
    anew: Path,
    subjects: list[list[Any]],
) -> bool:
    """Write the file with its rows of the subjects redacted; whether any of them changed."""
    columns = reading.columns_of_file(local)
    changed = False
    with (
        pq.ParquetFile(local) as file,
        pq.ParquetWriter(anew, file.schema_arrow, compression=writing.COMPRESSION) as writer,
    ):
        for batch in file.iter_batches():
            concerned = _of_subjects(batch, source, subjects)
            if pc.any(concerned).as_py():
                redacted = _redacted(connection, source, columns, batch.filter(concerned))
                if redacted is not None:
                    changed = True
                    writer.write_batch(_replaced(batch, concerned, redacted))
                    continue
            writer.write_batch(batch)
    return changed


def _redacted(
    connection: Connection,
    source: ArchivedSource,
    columns: Any,
    batch: pa.RecordBatch,
) -> pa.Table | None:
    """The rows as the source's redaction leaves them, in their order; None where none changes."""
    assert source.redact is not None
    select = reading.load(connection, columns, [batch], _LOADED)
    sql.execute(
        connection, f"CREATE TEMPORARY TABLE {_ROWS} (LIKE {source.relation}) ON COMMIT DROP"
    )
    names = {column.name for column in columns}
    there = files.target_columns(connection, source.relation)
    wanted = {name: type_ for name, type_ in there.items() if name in names}
    shared = [column for column in columns if column.name in wanted]
    sql.execute(
        connection,
        f"INSERT INTO pg_temp.{_ROWS} ({sql.columns(list(wanted))})"
        f" SELECT {', '.join(files.cast_to(columns, wanted, 'f'))} FROM ({select}) AS f",
    )
    digest = f"SELECT md5(string_agg(r::text, '' ORDER BY {sql.columns(source.key)}))"
    before = sql.execute(connection, f"{digest} FROM pg_temp.{_ROWS} AS r").scalar_one()
    source.redact(connection, f"pg_temp.{_ROWS}")
    after = sql.execute(connection, f"{digest} FROM pg_temp.{_ROWS} AS r").scalar_one()
    found = None
    if before != after:
        order = sql.columns((source.column, *(k for k in source.key if k != source.column)))
        listed = sql.columns([column.name for column in shared])
        query = f"SELECT {listed} FROM pg_temp.{_ROWS} ORDER BY {order}"
        found = pa.concat_tables(list(writing.read(connection, query, shared)))
        for name in source.key:
            if found.column(name).combine_chunks() != batch.column(name):
                raise files.NotWhatWasWritten(
                    f"{source.name}: rows that were redacted came back in another order; nothing"
                    " was changed"
                )
    sql.execute(connection, f"DROP TABLE pg_temp.{_LOADED}, pg_temp.{_ROWS}")
    return found


def _replaced(batch: pa.RecordBatch, concerned: pa.Array, rows: pa.Table) -> pa.RecordBatch:
    """The batch with the rows concerned replaced, in their order."""
    columns = [
        pc.replace_with_mask(batch.column(name), concerned, rows.column(name).combine_chunks())
        if name in rows.schema.names
        else batch.column(name)
        for name in batch.schema.names
    ]
    return pa.record_batch(columns, schema=batch.schema)


def _compare(local: Path, anew: Path, source: ArchivedSource, subjects: list[list[Any]]) -> None:
    """Raise NotWhatWasWritten where a row that is of no subject is not what it was."""
    with pq.ParquetFile(local) as before, pq.ParquetFile(anew) as after:
        same = before.metadata.num_rows == after.metadata.num_rows
        for number, batch in enumerate(before.iter_batches()):
            others = pc.invert(_of_subjects(batch, source, subjects))
            read = after.read_row_group(number).combine_chunks().to_batches()[0]
            same = same and read.filter(others).equals(batch.filter(others))
    if not same:
        raise files.NotWhatWasWritten(
            f"{source.name}: a redacted file has other rows than the archived one; nothing was"
            " changed"
        )
