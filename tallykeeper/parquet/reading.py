"""Rows of Parquet files as rows of PostgreSQL again, by COPY through a temporary table.

The values are those that `writing.py` read, or of a table of Arrow with the same columns.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from sqlalchemy import Connection

from tallykeeper.database import sql
from tallykeeper.parquet.columns import BYTES, DAY, LIST, MOMENT, Column, of_field

BATCH_ROWS = 20_000
_CSV = pyarrow.csv.WriteOptions(include_header=False, quoting_style="all_valid")


def columns_of_file(path: Path) -> list[Column]:
    """The columns of a file that `writing.write` wrote. Raises ValueError of any other, OSError."""
    with pq.ParquetFile(path) as file:
        return [of_field(field) for field in file.schema_arrow]


def batches_of_file(path: Path, names: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The rows of a file, or these columns of them, in pieces. Raises OSError, ArrowException."""
    with pq.ParquetFile(path) as file:
        yield from file.iter_batches(BATCH_ROWS, columns=names)


def load(
    connection: Connection,
    columns: Sequence[Column],
    batches: Iterable[pa.RecordBatch],
    temporary: str,
) -> str:
    """Put rows into a new temporary table of that name; return the SELECT of them as they were.

    The columns of `batches` are in the order of `columns`. The table goes with the transaction.
    Raises SQLAlchemy's errors.
    """
    listed = ", ".join(f"c{n} {column.crossing_type}" for n, column in enumerate(columns))
    sql.execute(connection, f"CREATE TEMPORARY TABLE {temporary} ({listed}) ON COMMIT DROP")
    driver: Any = connection.connection.driver_connection
    statement = f"COPY pg_temp.{temporary} FROM STDIN (FORMAT csv)"
    with driver.cursor() as cursor, cursor.copy(statement) as copy:
        for batch in batches:
            copy.write(_as_csv(batch, columns))
    sql.execute(connection, f"ANALYZE pg_temp.{temporary}")
    shown = ", ".join(
        f"{column.restored(f'r.c{n}')} AS {sql.quote(column.name)}"
        for n, column in enumerate(columns)
    )
    return f"SELECT {shown} FROM pg_temp.{temporary} AS r"


def _as_csv(batch: pa.RecordBatch, columns: Sequence[Column]) -> bytes:
    arrays = [_crossing(batch.column(number), column) for number, column in enumerate(columns)]
    written = io.BytesIO()
    names = [f"c{number}" for number in range(len(columns))]
    pyarrow.csv.write_csv(pa.record_batch(arrays, names=names), written, _CSV)
    return written.getvalue()


def _crossing(values: pa.Array, column: Column) -> pa.Array:
    """The values as they cross: in types that COPY reads."""
    values = values.cast(column.arrow)
    if column.encoding == MOMENT:
        return values.cast(pa.int64())
    if column.encoding == DAY:
        return values.cast(pa.int32())
    if column.encoding == BYTES:
        return pa.array([None if v is None else v.hex() for v in values.to_pylist()], pa.string())
    if column.encoding == LIST:
        assert column.element is not None
        of = {MOMENT: pa.int64(), DAY: pa.int32()}.get(column.element.encoding)
        lists = values if of is None else values.cast(pa.list_(of))
        return pa.array(
            [None if v is None else json.dumps(v) for v in lists.to_pylist()], pa.string()
        )
    return values
