"""Reading a Parquet file in batches of rows, so that memory does not grow with the file.

What a column means is the caller's business. Invariants: a value that cannot be read (a time in the
year 20,000, bytes that are no text) costs its own row, and never becomes another value.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tallykeeper.input.loading import LoadError
from tallykeeper.input.reader import Reader

_BATCH_ROWS = 5_000
_BUFFER_BYTES = 1 << 20


class ParquetFile(Reader):
    """A Parquet file. Raises LoadError where it cannot be opened, is none, or is damaged."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            # Column by column and piece by piece: otherwise a row group is read all at once, and a
            # file may be one row group.
            self._file = pq.ParquetFile(path, buffer_size=_BUFFER_BYTES, pre_buffer=False)
        except (OSError, pa.ArrowException) as error:
            raise LoadError(f"{path} cannot be read as Parquet: {error}.") from error
        self.header: list[str] = list(self._file.schema_arrow.names)
        self.size = int(self._file.metadata.num_rows)
        self._read = 0

    def close(self) -> None:
        self._file.close()

    def consumed(self) -> int:
        return self._read

    def rows(self, names: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Each row: its number (from 1), and these of its fields.

        A field that cannot be read is a ValueError that says why.
        """
        batches = self._file.iter_batches(_BATCH_ROWS, columns=list(names))
        while True:
            try:
                batch = next(batches, None)
            except (OSError, pa.ArrowException) as error:
                raise LoadError(
                    f"{self.path} cannot be read beyond row {self._read:,} ({error}); get a "
                    "complete copy and load it again (rows before that may be loaded: that does "
                    "no harm)."
                ) from error
            if batch is None:
                return
            columns = [_values(column) for column in batch.columns]
            for values in zip(*columns, strict=True):
                self._read += 1
                yield self._read, dict(zip(batch.schema.names, values, strict=True))


def _values(column: Any) -> list[Any]:
    """A column's values; in place of one that cannot be read stands a ValueError."""
    if pa.types.is_timestamp(column.type):
        # In UTC, so that nothing depends on the zones that this machine knows.
        zone = None if column.type.tz is None else "UTC"
        column = column.cast(pa.timestamp("us", zone), safe=False)
    try:
        return list(column.to_pylist())
    except (OverflowError, ValueError):
        return [_value(scalar) for scalar in column]


def _value(scalar: Any) -> Any:
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        return ValueError("is not UTF-8")
    except (OverflowError, ValueError) as error:
        return ValueError(f"{scalar.type} that cannot be read ({error})")
