"""A tally's rows as a file: Parquet, CSV or a spreadsheet, exact as of one moment.

The rows are those of the live view, read in one snapshot and in pieces, so that memory does not
grow with the table. Invariants: nothing is written to the database; and the file is whole or not
there at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import Connection, DateTime, Engine
from sqlalchemy.exc import DBAPIError

from tallykeeper import Tally
from tallykeeper.database import sql
from tallykeeper.database.sqlstates import MISSING_RELATION, sqlstate_of
from tallykeeper.errors import NotInstalled
from tallykeeper.reads.frames import MOMENT, frame, type_of_column

ROWS_AT_ONCE = 50_000
MOST_ROWS_OF_A_SHEET = 1_048_575
MOST_CHARACTERS_OF_A_CELL = 32_767
# Earlier times are no dates to a spreadsheet, and stand there as text.
_FIRST_YEAR_OF_A_SHEET = 1900
_ARROW = {
    "Int64": pa.int64(),
    "boolean": pa.bool_(),
    "float64": pa.float64(),
    MOMENT: pa.timestamp("us", "UTC"),
    "str": pa.string(),
}

Write = Callable[[pd.DataFrame], None]


class ExportError(Exception):
    """Nothing was exported: says what was expected, what came, and what to do."""


@dataclass(frozen=True)
class Exported:
    """How many rows were written, and as of when; `outside` times of years that files lack."""

    rows: int
    as_of: datetime
    outside: int


def tally_frame(connection: Connection, tally: Tally) -> pd.DataFrame:
    """Return the rows of a tally's live view as a DataFrame, exact at the moment of reading.

    Times outside the years 1 to 9999 are missing in it. Raises NotInstalled.
    """
    tally.bind(connection)
    types = _types(tally)
    with _installed(tally):
        rows = sql.execute(connection, _query(tally)).all()
    return frame(types, (row[:-1] for row in rows))


def export(
    engine: Engine,
    tally: Tally,
    form: str,
    path: Path,
    on_rows: Callable[[int], object] = lambda _rows: None,
) -> Exported:
    """Write the tally's rows to `path` in a form of `FORMS`; what is there is replaced.

    `on_rows` is called with how many are written so far. Raises ExportError, NotInstalled, and
    SQLAlchemy's errors.
    """
    with engine.connect() as connection:
        tally.bind(connection)
    part = path.with_name(f".{path.name}.part")
    try:
        with FORMS[form](part, _types(tally)) as write:
            done = _write(engine, tally, write, on_rows)
        part.replace(path)
    except OSError as error:
        raise ExportError(
            f"{path} cannot be written ({error.strerror}); name a file in a folder that you can"
            " write in."
        ) from error
    finally:
        part.unlink(missing_ok=True)
    return done


def _write(
    engine: Engine, tally: Tally, write: Write, on_rows: Callable[[int], object]
) -> Exported:
    types = _types(tally)
    rows = outside = 0
    options: Any = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    with _installed(tally), engine.connect().execution_options(**options) as connection:
        sql.execute(connection, "SET LOCAL timezone = 'UTC'; SET LOCAL jit = off")
        as_of = sql.execute(connection, "SELECT statement_timestamp()").scalar_one()
        streaming = connection.execution_options(yield_per=ROWS_AT_ONCE)
        for piece in sql.execute(streaming, _query(tally)).partitions():
            outside += sum(row[-1] for row in piece)
            rows += len(piece)
            write(frame(types, (row[:-1] for row in piece)))
            on_rows(rows)
        if not rows:
            write(frame(types, ()))
    return Exported(rows, as_of, outside)


def _types(tally: Tally) -> dict[str, str]:
    return {name: type_of_column(tally.table.c[name].type) for name in tally.columns}


def _query(tally: Tally) -> str:
    """The columns of the live view; then of each row how many times lie outside of those years."""
    within = "{0} >= '0001-01-01 00:00:00+00' AND {0} < '10000-01-01 00:00:00+00'"
    shown, outside = [], ["0"]
    for name in tally.columns:
        quoted = sql.quote(name)
        if isinstance(tally.table.c[name].type, DateTime):
            inside = within.format(quoted)
            shown.append(f"CASE WHEN {inside} THEN {quoted} END AS {quoted}")
            outside.append(f"CASE WHEN NOT ({inside}) THEN 1 ELSE 0 END")
        else:
            shown.append(quoted)
    keys = sql.columns(tally.key)
    return (
        f"SELECT {', '.join(shown)}, {' + '.join(outside)} FROM {tally.live_name} ORDER BY {keys}"
    )


@contextmanager
def _installed(tally: Tally) -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        if sqlstate_of(error) not in MISSING_RELATION:
            raise
        raise NotInstalled(
            f"Expected the live view {tally.live_name}, but it is not in this database; run"
            " `tally migrate`."
        ) from error


@contextmanager
def _parquet(path: Path, types: dict[str, str]) -> Iterator[Write]:
    schema = pa.schema([(name, _ARROW[type_]) for name, type_ in types.items()])
    with pq.ParquetWriter(path, schema) as writer:
        yield lambda rows: writer.write_table(
            pa.Table.from_pandas(rows, schema=schema, preserve_index=False)
        )


@contextmanager
def _csv(path: Path, _types: dict[str, str]) -> Iterator[Write]:
    with path.open("w", encoding="utf-8", newline="") as stream:

        def write(rows: pd.DataFrame) -> None:
            rows.to_csv(stream, index=False, header=stream.tell() == 0, lineterminator="\n")

        yield write


@contextmanager
def _xlsx(path: Path, types: dict[str, str]) -> Iterator[Write]:
    import xlsxwriter

    with path.open("wb") as stream, xlsxwriter.Workbook(stream, _SHEET) as book:
        moments = book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"})
        sheet = book.add_worksheet()
        sheet.write_row(0, 0, list(types))
        place = 0

        def write(rows: pd.DataFrame) -> None:
            nonlocal place
            if place + len(rows) > MOST_ROWS_OF_A_SHEET:
                raise ExportError(
                    f"Expected at most {MOST_ROWS_OF_A_SHEET:,} rows, which is all that a sheet"
                    " holds, but there are more; export parquet or csv."
                )
            for row in rows.astype(object).itertuples(index=False):
                place += 1
                for column, cell in enumerate(row):
                    if pd.isna(cell):
                        continue
                    if isinstance(cell, datetime) and cell.year >= _FIRST_YEAR_OF_A_SHEET:
                        # Spreadsheets have no time zones: it is UTC.
                        sheet.write_datetime(place, column, cell.replace(tzinfo=None), moments)
                        continue
                    shown = cell.isoformat() if isinstance(cell, datetime) else cell
                    if isinstance(shown, str) and len(shown) > MOST_CHARACTERS_OF_A_CELL:
                        raise ExportError(
                            f"Expected texts of at most {MOST_CHARACTERS_OF_A_CELL:,} characters,"
                            f" which is all that a cell holds, but {rows.columns[column]} has one"
                            f" of {len(shown):,}; export parquet or csv."
                        )
                    sheet.write(place, column, shown)

        yield write


_SHEET = {
    "constant_memory": True,
    "strings_to_formulas": False,
    "strings_to_urls": False,
    "strings_to_numbers": False,
}
FORMS: dict[str, Callable[[Path, dict[str, str]], AbstractContextManager[Write]]] = {
    "parquet": _parquet,
    "csv": _csv,
    "xlsx": _xlsx,
}
"""How a file of each kind is written."""
