"""Writing what a query returns to a Parquet file, by COPY and in pieces.

Memory does not grow with the result, but with its longest row. Invariants: the file is whole or not
there; nothing is written to the database.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from sqlalchemy import Connection

from tallykeeper.database import sql
from tallykeeper.parquet.columns import BYTES, DAY, LIST, MOMENT, Column

PIECE_BYTES = 32 << 20
COMPRESSION = "zstd"


def write(connection: Connection, query: str, columns: Sequence[Column], path: Path) -> int:
    """Write the rows of `query` to a new file; return how many there were.

    `columns` are those of `columns_of`, in the same snapshot, or some of them; at least one. The
    session writes values as the engine's transactions do. Raises OSError, or SQLAlchemy's errors.
    """
    part = path.with_name(f".{path.name}.part")
    rows = 0
    try:
        with pq.ParquetWriter(part, schema_of(columns), compression=COMPRESSION) as writer:
            for table in read(connection, query, columns):
                writer.write_table(table)
                rows += table.num_rows
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return rows


def schema_of(columns: Sequence[Column]) -> pa.Schema:
    """The schema of a file with these columns."""
    return pa.schema([column.field for column in columns])


def read(connection: Connection, query: str, columns: Sequence[Column]) -> Iterator[pa.Table]:
    """The rows of `query` as tables of Arrow, a piece at a time."""
    values = [
        f"{column.shown(f'q.{sql.quote(column.name)}')} AS c{number}"
        for number, column in enumerate(columns)
    ]
    shown = ", ".join(values)
    driver: Any = connection.connection.driver_connection
    with (
        driver.cursor() as cursor,
        cursor.copy(
            f"COPY (SELECT {shown} FROM (\n{query}\n) AS q) TO STDOUT (FORMAT csv, FORCE_QUOTE *)"
        ) as copy,
    ):
        rows: list[bytes] = []
        size = 0
        for row in copy:
            # The server sends each row by itself.
            rows.append(bytes(row))
            size += len(row)
            if size >= PIECE_BYTES:
                yield _table(rows, size, columns)
                rows, size = [], 0
        if rows:
            yield _table(rows, size, columns)


def _table(rows: list[bytes], size: int, columns: Sequence[Column]) -> pa.Table:
    crossing = {f"c{number}": _crossing(column) for number, column in enumerate(columns)}
    found = pyarrow.csv.read_csv(
        io.BytesIO(b"".join(rows)),
        pyarrow.csv.ReadOptions(
            column_names=list(crossing), block_size=size + 1, use_threads=False
        ),
        pyarrow.csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
        pyarrow.csv.ConvertOptions(
            column_types=crossing,
            check_utf8=True,
            null_values=[""],
            true_values=["t"],
            false_values=["f"],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )
    if found.num_rows != len(rows):
        raise ValueError(f"expected {len(rows)} rows of CSV, but {found.num_rows} were read")
    arrays = [_converted(found.column(number), column) for number, column in enumerate(columns)]
    return pa.table(arrays, schema=schema_of(columns))


def _crossing(column: Column) -> pa.DataType:
    return {
        MOMENT: pa.int64(),
        DAY: pa.int32(),
        BYTES: pa.string(),
        LIST: pa.string(),
    }.get(column.encoding, column.arrow)


def _converted(crossed: pa.ChunkedArray, column: Column) -> Any:
    if column.encoding in (MOMENT, DAY):
        return crossed.cast(column.arrow)
    if column.encoding == BYTES:
        values = [None if v is None else bytes.fromhex(v) for v in crossed.to_pylist()]
        return pa.array(values, column.arrow)
    if column.encoding == LIST:
        assert column.element is not None
        values = [None if v is None else json.loads(v) for v in crossed.to_pylist()]
        return pa.array(values, pa.list_(_crossing(column.element))).cast(column.arrow)
    return crossed
