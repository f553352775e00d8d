"""What every system's loader shares: error, result, reject file, times, and COPY into a table.

Nothing here knows a system or a file format (those are in `csv_input.py`, `jsonl_input.py` and
`parquet_input.py`). Invariants: no row vanishes
silently. It is loaded, or it is in the reject file with the reason; a failure that stops a load is
a `LoadError` in one sentence.
"""

from __future__ import annotations

import csv
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Protocol, Self

import psycopg
from psycopg import sql
from sqlalchemy import Connection

_log = logging.getLogger(__name__)

Reject = Callable[[int, str, str], None]
"""Called with the line number (from 1), the reason, and the raw row."""

REJECT_HEADER = ["line", "reason", "row"]
LONGEST_INDEXED_TEXT = 2692
"""Bytes of text that any B-tree index of PostgreSQL takes: a third of a page, less headers."""

_ISO_8601 = re.compile(
    r"[0-9W-]{7,10}(?:[Tt ][0-9:]{2,8}(?:[.,][0-9]+)?(?:[Zz]|[+-][0-9:]{2,8})?)?"
)


class LoadError(Exception):
    """A load cannot begin or go on: says what was expected, what came, and what to do."""


class Table(Protocol):
    """Rows of text cells below a header: a CSV file, or what is read like one."""

    @property
    def path(self) -> Path: ...

    @property
    def header(self) -> list[str]: ...

    @property
    def size(self) -> int: ...

    def consumed(self) -> int: ...

    def columns(self, required: list[str], optional: list[str]) -> list[int | None]: ...

    def rows(self, reject: Reject) -> Iterator[tuple[int, list[str], str]]: ...


class ProgressCallback(Protocol):
    """Called now and then with how far a load is."""

    def __call__(self, rows: int, done: int, total: int | None) -> None:
        """`rows` were read so far, `done` of `total` (bytes or files; None: unknown) passed."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a load did. `read` is the sum of inserted, changed, unchanged, rejected and unreadable.

    Unchanged are the rows that altered nothing: in the table already just so, or overtaken by a
    later row of the same input. Rejected are malformed rows, unreadable are files; `reject_file`
    lists both and is None where there were none. `notes` are sentences about what was treated.
    """

    read: int
    inserted: int
    changed: int
    unchanged: int
    rejected: int
    unreadable: int
    seconds: float
    reject_file: Path | None
    notes: tuple[str, ...] = ()

    def summary(self, what: str = "files") -> str:
        """The result in one line, and each note in one of its own, for a terminal or a log."""
        parts = [f"{self.inserted:,} inserted", f"{self.changed:,} changed"]
        parts.append(f"{self.unchanged:,} unchanged")
        parts += [f"{self.rejected:,} rejected"] if self.rejected else []
        parts += [f"{self.unreadable:,} unreadable"] if self.unreadable else []
        rate = self.read / self.seconds if self.seconds else 0
        line = f"{self.read:,} {what} read in {self.seconds:,.1f} s ({rate:,.0f}/s): "
        listed = f" (listed in {self.reject_file})" if self.reject_file else ""
        return "\n".join([line + ", ".join(parts) + listed, *(f"  {n}" for n in self.notes)])


class RejectFile:
    """The list of what a load could not take: `<input>.rejects.csv` with line, reason and raw row.

    Of another `kind` it is another list of rows with reasons, as of files without a date.

    It stands beside the input; where that folder cannot be written, or its owner marked it
    read-only for everybody (which binds root too), in the current folder. It is created by the
    first reject. A load that ends without rejects removes the list that an earlier load of the same
    input left, so that the file always speaks of the latest load; a file of that name that is not
    such a list is never touched.
    """

    def __init__(self, source: Path, kind: str = "rejects") -> None:
        name = f"{source.name or 'input'}.{kind}.csv"
        self._candidates = list(dict.fromkeys([source.parent / name, Path.cwd() / name]))
        self._stream: IO[str] | None = None
        self.path: Path | None = None
        self.count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._stream is not None:
            self._stream.close()
        elif kind is None:
            self._remove_stale()

    def add(self, line: int | None, reason: str, row: str) -> None:
        """List one row (or, without line, one file). Raises LoadError where that fails."""
        if self._stream is None:
            self._open()
        fields = ["" if line is None else str(line), _writable(reason), _writable(row)]
        self._write(fields)
        self.count += 1

    def _open(self) -> None:
        faults = []
        for candidate in self._candidates:
            fault = _why_not_writable(candidate)
            if fault is None:
                try:
                    # surrogateescape: bytes that are not UTF-8 reach the list as they came.
                    self._stream = candidate.open(
                        "w", encoding="utf-8", errors="surrogateescape", newline=""
                    )
                except OSError as error:
                    fault = error.strerror or str(error)
            if self._stream is not None:
                self.path = candidate
                self._write(REJECT_HEADER)
                break
            faults.append(f"{candidate}: {fault}")
        if self.path is None:
            raise LoadError(
                "Rows had to be rejected, but the list of them cannot be written "
                f"({'; '.join(faults)}); run the load from a folder that you can write in."
            )
        if faults:
            _log.warning("Rejects go to %s (%s)", self.path, "; ".join(faults))

    def _write(self, fields: Sequence[str]) -> None:
        assert self._stream is not None
        # The module itself quotes no carriage return, at which every reader would end the row.
        breaks = any("\r" in field for field in fields)
        writer = csv.writer(
            self._stream,
            lineterminator="\n",
            quoting=csv.QUOTE_ALL if breaks else csv.QUOTE_MINIMAL,
        )
        writer.writerow(fields)

    def _remove_stale(self) -> None:
        for candidate in self._candidates:
            if candidate.is_file() and _why_not_writable(candidate) is None:
                candidate.unlink()


def _writable(text: str) -> str:
    """The text as the list can hold it: halves of pairs, as UTF-16 may have them, by their code."""
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
    return text


def _why_not_writable(candidate: Path) -> str | None:
    """Why the reject file must not be written there; None where it may be tried."""
    try:
        if not candidate.parent.stat().st_mode & 0o222:
            return "the folder is read-only"
        if candidate.exists() and not _is_reject_list(candidate):
            return "a file of that name is there that is no list of rejects"
    except OSError as error:
        return error.strerror or str(error)
    return None


def _is_reject_list(path: Path) -> bool:
    # A load that was killed just after it had made the list left it empty.
    with path.open("rb") as stream:
        line = stream.readline(100)
    return not line or line.strip() == ",".join(REJECT_HEADER).encode()


def parse_time(text: str) -> datetime:
    """The moment that an ISO 8601 time names, in UTC.

    Any offset is understood; without one the time is UTC, and a bare date is its midnight.
    Fractions beyond microseconds are cut off. Raises ValueError where the text is no such time, or
    lies outside the years 1 to 9999 in UTC.
    """
    text = text.strip()
    if not _ISO_8601.fullmatch(text):
        raise ValueError(_not_a_time(text))
    try:
        moment = datetime.fromisoformat(text.upper())
    except ValueError as error:
        raise ValueError(f"{_not_a_time(text)}: {error}") from error
    if moment.tzinfo is None:
        return moment.replace(tzinfo=UTC)
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{text!r} lies outside the years 1 to 9999 in UTC") from error


def _not_a_time(text: str) -> str:
    shown = text if len(text) <= 40 else f"{text[:40]}..."
    return f"{shown!r} is no ISO 8601 time (like 2020-07-29T05:29:42Z)"


def text_fault(text: str) -> str | None:
    """Why PostgreSQL could not keep this text; None where it can."""
    if "\0" in text:
        return "contains a NUL byte"
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return "is not UTF-8"
    return None


def indexed_text_fault(text: str) -> str | None:
    """Why PostgreSQL could not keep this text in an indexed column; None where it can."""
    fault = text_fault(text)
    if fault is not None:
        return fault
    size = len(text) if text.isascii() else len(text.encode())
    if size > LONGEST_INDEXED_TEXT:
        return f"is {size:,} bytes long, more than the {LONGEST_INDEXED_TEXT:,} that can be indexed"
    return None


def copy_rows(
    connection: Connection,
    table: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[str | int | bool | None]],
) -> None:
    """COPY rows into a table, in the connection's transaction.

    `table` is its bare name, found on the search path. Values cross as text, and
    PostgreSQL reads them as the columns' types.
    """
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    with driver.cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(row)
