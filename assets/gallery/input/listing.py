"""Gallery items listed in a file: CSV, JSON Lines or Parquet, by the file's name.

What a row's fields mean is in `fields.py`, reading the formats in `tallykeeper/input`, writing to
the database in `load.py`. Invariants: a row that is not understood goes to the rejects,
with its line number and the reason.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assets.gallery.input.fields import (
    NOTHING,
    OPTIONAL,
    REQUIRED,
    Item,
    creators_in_cell,
    listed_in_cell,
    read_item,
)
from tallykeeper.input.csv_input import CsvFile
from tallykeeper.input.frame_input import FrameRows
from tallykeeper.input.jsonl_input import JsonLinesFile
from tallykeeper.input.loading import LoadError, Reject
from tallykeeper.input.parquet_input import ParquetFile

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = (".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".parquet")
_MAY_SAY_NOTHING = {"creator", "tags", "created_at", "content_type", "is_private"}
"""Not a title, which may be None, and not what names the item."""

_File = CsvFile | JsonLinesFile | ParquetFile | FrameRows

Fields = tuple[int, dict[str, Any], str | None]
"""Line or row number, the fields by name, and the raw row (None: `shown` makes it)."""


class Listing:
    """The items of an open file; iterating yields them and sends malformed rows to `reject`."""

    def __init__(self, file: _File, reject: Reject) -> None:
        self._file = file
        self._reject = reject
        self.total = file.size
        self._empty: Counter[str] = Counter()
        self._rows = _rows_of(file, reject, self._empty)

    def done(self) -> int:
        """How much was read so far, of `total`: bytes of the file, or rows of a Parquet file."""
        return self._file.consumed()

    def notes(self) -> tuple[str, ...]:
        """What was read as something else than it says, a sentence each."""
        return tuple(
            f"cells of {name} that say nan, None, NULL or the like, read as empty: {n:,}"
            for name, n in sorted(self._empty.items())
        )

    def __iter__(self) -> Iterator[Item]:
        for line, fields, raw in self._rows:
            try:
                item = read_item(fields)
            except ValueError as error:
                self._reject(line, str(error), shown(fields) if raw is None else raw)
                continue
            yield item


@contextmanager
def open_listing(path: Path | pd.DataFrame, reject: Reject) -> Iterator[Listing]:
    """The items that a file lists, which is read as its name says; or a DataFrame.

    Raises LoadError where it is no file of a kind that is known, cannot be read, or lacks a column.
    """
    if not isinstance(path, Path):
        yield Listing(FrameRows(path), reject)
        return
    path = path.absolute()
    name = path.name.lower()
    if not name.endswith(SUFFIXES) or path.is_dir():
        raise LoadError(
            f"{path} is no file that items can be loaded from; name one that ends with "
            f"{', '.join(SUFFIXES)}, with {', '.join(REQUIRED + OPTIONAL)} in each row."
        )
    if not path.exists():
        raise LoadError(f"{path} cannot be read: there is no such file.")
    kind: type[CsvFile | JsonLinesFile | ParquetFile] = ParquetFile
    if not name.endswith(".parquet"):
        kind = CsvFile if ".csv" in name[-7:] else JsonLinesFile
    with kind(path) as file:
        yield Listing(file, reject)


def _rows_of(file: _File, reject: Reject, empty: Counter[str]) -> Iterator[Fields]:
    if isinstance(file, JsonLinesFile):
        return file.rows(reject)
    if isinstance(file, CsvFile):
        places = file.columns(REQUIRED, OPTIONAL)
        return _named(file.rows(reject), places, empty)
    missing = [name for name in REQUIRED if name not in file.header]
    twice = [name for name in REQUIRED + OPTIONAL if file.header.count(name) > 1]
    if missing or twice:
        raise LoadError(
            f"{file.path} has the columns {', '.join(file.header)}; expected each of "
            f"{', '.join(REQUIRED)} once, and at most once {', '.join(OPTIONAL)}."
        )
    present = [name in file.header for name in OPTIONAL]
    rows = file.rows([*REQUIRED, *compress(OPTIONAL, present)])
    if isinstance(file, FrameRows):
        return ((number, _of_cells(fields, empty), None) for number, fields in rows)
    return ((number, fields, None) for number, fields in rows)


def _named(
    rows: Iterable[tuple[int, list[str], str]], places: list[int | None], empty: Counter[str]
) -> Iterator[Fields]:
    named = [
        (name, place)
        for name, place in zip(REQUIRED + OPTIONAL, places, strict=True)
        if place is not None
    ]
    for line, fields, raw in rows:
        yield line, _of_cells({name: fields[place] for name, place in named}, empty), raw


def _of_cells(values: dict[str, Any], empty: Counter[str]) -> dict[str, Any]:
    """What the texts among these values say as cells."""
    for name in _MAY_SAY_NOTHING & values.keys():
        if isinstance(values[name], str) and values[name].strip() in NOTHING:
            empty[name] += 1
            values[name] = ""
    if isinstance(values["creator"], str):
        values["creator"] = creators_in_cell(values["creator"])
    if isinstance(values["tags"], str):
        try:
            values["tags"] = listed_in_cell(values["tags"])
        except ValueError as error:
            # `read_item` rejects the row, with this as the reason.
            values["tags"] = error
    return values


def shown(fields: dict[str, Any]) -> str:
    """A row that has no text of its own, as JSON for the list of rejects."""
    return json.dumps(fields, default=str, ensure_ascii=False)
