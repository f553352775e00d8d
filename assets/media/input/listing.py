"""Media files listed in a CSV: one's own list of paths and dates, or the media table of Camtrap DP.

Which columns there are, and what a row of them means. Reading CSV is in
`tallykeeper/input/csv_input.py`, writing to the database in `load.py`. Invariants: a row
that does not say for certain which file it is and when it was made goes to the rejects, never into
the table.

**A list** has the column `path`, and may have `original_created_at` and `created_at`; others are
ignored. Times are ISO 8601, without offset UTC. What a load writes of it stands in `load.py`.

**Camtrap DP** (the exchange format of camera-trap pictures) has `mediaID`, `timestamp`,
`deploymentID` and `filePath` or `fileName`; the timestamp is when the picture was taken. Its files
are known by
- `filePath`: a URL as it is; a relative path leads from the CSV's own folder, as the format has it,
  and becomes an absolute one, so that two packages with a `media/0001.jpg` each do not collide, and
  loading the folder itself finds the same files;
- or else `<deploymentID>/<mediaID>/<fileName>`. Names of files repeat among cameras; mediaID is the
  format's primary key. The same medium listed twice, by whatever source, is one file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tallykeeper.input.loading import Reject, Table, indexed_text_fault, parse_time

Row = tuple[str, str | None, str | None]
"""path, original_created_at, created_at; dates as ISO 8601 text in UTC, or None."""

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")


class Listing:
    """The files that a CSV lists; iterating yields `Row`s and sends malformed rows to `reject`.

    `columns` are the date columns that the file has, and so speaks of. Raises LoadError where the
    header is neither a list's nor Camtrap DP's.
    """

    chunk = 50_000

    def __init__(self, file: Table, reject: Reject) -> None:
        self._file = file
        self._reject = reject
        self.total = file.size
        if _is_camtrap(file.header):
            self.columns: Sequence[str] = ["original_created_at"]
            self._read = _camtrap_reader(file)
        else:
            names = ["original_created_at", "created_at"]
            places = file.columns(["path"], names)
            self.columns = [n for n, i in zip(names, places[1:], strict=True) if i is not None]
            self._read = _list_reader(places)

    def done(self) -> int:
        """Bytes of the file that were read so far."""
        return self._file.consumed()

    def __iter__(self) -> Iterator[Row]:
        read = self._read
        for line, fields, raw in self._file.rows(self._reject):
            try:
                row = read(fields)
            except ValueError as error:
                self._reject(line, str(error), raw)
                continue
            yield row


def _is_camtrap(header: list[str]) -> bool:
    return "path" not in header and {"mediaID", "timestamp"} <= set(header)


def _list_reader(places: list[int | None]) -> Callable[[list[str]], Row]:
    path_at, original_at, created_at = places
    assert path_at is not None

    def read(fields: list[str]) -> Row:
        return (
            _path(fields[path_at]),
            _time("original_created_at", fields, original_at),
            _time("created_at", fields, created_at),
        )

    return read


def _camtrap_reader(file: Table) -> Callable[[list[str]], Row]:
    places = file.columns(["mediaID", "timestamp"], ["deploymentID", "fileName", "filePath"])
    media_at, time_at, deployment_at, name_at, path_at = places
    folder = file.path.resolve().parent

    def read(fields: list[str]) -> Row:
        captured = _time("timestamp", fields, time_at)
        if captured is None:
            raise ValueError("no timestamp")
        file_path = _field(fields, path_at)
        if file_path:
            return _path(_absolute(folder, file_path)), captured, None
        media = _field(fields, media_at)
        if not media:
            raise ValueError("neither filePath nor mediaID")
        parts = (_field(fields, deployment_at), media, _field(fields, name_at))
        return _path("/".join(part for part in parts if part)), captured, None

    return read


def _absolute(folder: Path, file_path: str) -> str:
    if _URL.match(file_path):
        return file_path
    return os.path.normpath(folder / file_path)


def _field(fields: list[str], place: int | None) -> str:
    return "" if place is None else fields[place].strip()


def _path(text: str) -> str:
    if not text.strip():
        raise ValueError("no path")
    fault = indexed_text_fault(text)
    if fault is not None:
        raise ValueError(f"path {fault}")
    return text


def _time(name: str, fields: list[str], place: int | None) -> str | None:
    if place is None or not fields[place].strip():
        return None
    try:
        return parse_time(fields[place]).isoformat()
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
