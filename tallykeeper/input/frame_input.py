"""Reading a DataFrame in place of a file: as a table of cells, of values, or of JSON objects.

What a column means is the caller's business. Invariants: a row is read as the same row of a file
would be; what is missing (None, NaN, NaT, NA) says nothing; and a value that no file could hold
costs its own row.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from tallykeeper.input.csv_input import column_places
from tallykeeper.input.loading import Reject
from tallykeeper.input.reader import Reader

if TYPE_CHECKING:
    import pandas as pd

NAME = "frame"
"""What a list of rejects is called after, in the current folder."""


def source_of(given: Path | pd.DataFrame) -> Path:
    """Return the path of an input, with which that of its rejects begins."""
    return given.absolute() if isinstance(given, Path) else Path.cwd() / NAME


class FrameInput(Reader):
    """A DataFrame, whose rows are counted from 1."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self.path = source_of(frame)
        self.header = [str(name).strip() for name in frame.columns]
        self.size = len(frame)
        self._frame = frame
        self._read = 0

    def consumed(self) -> int:
        return self._read

    def columns(self, required: list[str], optional: list[str]) -> list[int | None]:
        """The places of these columns, as `CsvFile.columns`; raises LoadError as that does."""
        return column_places(self.header, required, optional, "The frame", str(self.header[:20]))

    def _values(self) -> Iterator[tuple[int, list[Any]]]:
        for row in self._frame.itertuples(index=False, name=None):
            self._read += 1
            yield self._read, [_plain(value) for value in row]


class FrameTable(FrameInput):
    """A DataFrame as a table of text cells, as `CsvFile` is one."""

    def rows(self, reject: Reject) -> Iterator[tuple[int, list[str], str]]:
        """Each row: its number, its cells, and the row as JSON."""
        for number, values in self._values():
            raw = _shown(dict(zip(self.header, values, strict=True)))
            try:
                yield number, [_cell(value) for value in values], raw
            except TypeError as error:
                reject(number, str(error), raw)


class FrameRows(FrameInput):
    """A DataFrame as rows of values, as `ParquetFile` is one."""

    def rows(self, names: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Each row: its number, and these of its fields."""
        places = [(name, self.header.index(name)) for name in names]
        for number, values in self._values():
            yield number, {name: values[place] for name, place in places}


class FrameObjects(FrameInput):
    """A DataFrame as JSON objects, as `JsonLinesFile` is one; what is missing is left out."""

    def rows(self, reject: Reject) -> Iterator[tuple[int, dict[str, Any], str]]:
        """Each row: its number, its fields, and the object as JSON."""
        for number, values in self._values():
            named = zip(self.header, values, strict=True)
            given = {name: value for name, value in named if value is not None}
            try:
                raw = json.dumps(given, default=_written, allow_nan=False)
            except (TypeError, ValueError, RecursionError) as error:
                reject(number, f"no JSON can say this: {error}", _shown(given))
                continue
            yield number, json.loads(raw), raw


def _plain(value: Any) -> Any:
    """A value as Python has it, without pandas' and numpy's kinds; None for what is missing."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple | set):
        return [_plain(each) for each in value]
    # NaN, NaT and NA are the values that do not equal themselves, or say nothing of it.
    same = value == value
    return value if same is True or isinstance(value, str | dict) else None


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list | dict):
        return json.dumps(value, default=_written, ensure_ascii=False)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        # A column of whole numbers is one of floats where some are missing.
        value = int(value)
    return str(value) if isinstance(value, int | float) else _written(value)


def _written(value: Any) -> str:
    """What is neither text nor number, as a file would say it. Raises TypeError."""
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, UUID | Decimal):
        return str(value)
    raise TypeError(f"expected text, a number or a time, found {type(value).__name__}")


def _shown(fields: dict[str, Any]) -> str:
    return json.dumps(fields, default=str, ensure_ascii=False)
