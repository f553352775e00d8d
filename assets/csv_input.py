"""Reading a CSV file, perhaps compressed by gzip, row by row and in constant memory.

What a column means is the caller's business. What must stay true: a malformed row costs itself
alone. A quote that is never closed would make everything up to the next quote one field, so the
lines that a malformed row swallowed are read again as rows of their own.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from assets.loading import LoadError, Reject
from assets.text_input import TextFile

_LONGEST_HEADER = 100_000
_LONGEST_SHOWN = 80


class CsvFile:
    """A CSV file with a header line, in UTF-8 with or without byte order mark, split by commas.

    `header` is the list of column names, without surrounding blanks. Raises LoadError where the
    file cannot be opened, is empty, or breaks off (a damaged gzip file).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._text = TextFile(path)
        self._again: deque[str] = deque()
        self._record: list[str] = []
        self._line = 0
        self.size = self._text.size
        try:
            self.header = self._read_header()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._text.close()

    def consumed(self) -> int:
        """Bytes of the file that were read so far, as it is stored (compressed or not)."""
        return self._text.consumed()

    def columns(self, required: list[str], optional: list[str]) -> list[int | None]:
        """The places of these columns, required ones first; None where an optional one is missing.

        Raises LoadError where a required column is missing, or one of them is there twice.
        """
        missing = [name for name in required if name not in self.header]
        if missing:
            raise LoadError(
                f"{self.path} has no column {' and no column '.join(missing)}: expected a header "
                f"line with {', '.join(required + optional)}, "
                f"but it begins with {self._shown_header()}."
            )
        twice = [name for name in required + optional if self.header.count(name) > 1]
        if twice:
            raise LoadError(
                f"{self.path} has the column {twice[0]} more than once; keep one of them."
            )
        return [
            self.header.index(name) if name in self.header else None for name in required + optional
        ]

    def rows(self, reject: Reject) -> Iterator[tuple[int, list[str], str]]:
        """Each row below the header: its line number, its fields, and its raw text.

        A row has as many fields as the header; what has not is rejected. Empty lines are passed
        over.
        """
        reader = csv.reader(_Lines(self), strict=True)
        width = len(self.header)
        while True:
            self._record.clear()
            line = self._line + 1
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                reject(line, f"no valid CSV: {error}", self._give_back())
                continue
            if len(fields) == width:
                yield line, fields, "".join(self._record).rstrip("\r\n")
            elif fields:
                reason = f"expected {width} columns, found {len(fields)}"
                reject(line, reason, self._give_back())

    def next_line(self) -> str:
        """The next line of the record that is being read. Raises StopIteration at the end."""
        line = self._again.popleft() if self._again else self._text.read_line()
        if not line:
            raise StopIteration
        self._line += 1
        self._record.append(line)
        return line

    def _give_back(self) -> str:
        """Keep the first line of a malformed record, and have the others read again."""
        first, *others = self._record
        self._again.extendleft(reversed(others))
        self._line -= len(others)
        return first.rstrip("\r\n")

    def _read_header(self) -> list[str]:
        line = self._text.read_line(_LONGEST_HEADER)
        if not line:
            raise LoadError(f"{self.path} is empty: expected a header line and rows below it.")
        self._line = 1
        self._first_line = line
        try:
            return [name.strip() for name in next(csv.reader([line], strict=True))]
        except csv.Error as error:
            raise LoadError(
                f"{self.path} begins with {self._shown_header()}, which is no CSV header: {error}."
            ) from error

    def _shown_header(self) -> str:
        line = self._first_line.rstrip("\r\n")
        shown = line if len(line) <= _LONGEST_SHOWN else f"{line[:_LONGEST_SHOWN]}..."
        return ascii(shown) if "\0" in shown or not shown.isprintable() else repr(shown)


class _Lines:
    """The file's lines for csv.reader; a generator would not go on after lines are given back."""

    def __init__(self, file: CsvFile) -> None:
        self._file = file

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        return self._file.next_line()
