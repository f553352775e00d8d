"""Reading a CSV file, perhaps compressed by gzip, row by row and in constant memory.

What a column means is the caller's business. Invariants: a malformed row costs itself alone, and
what is inside quotes is never read as rows. A cell may be as long as `LONGEST_CELL`; a row with a
longer one is rejected up to the end of its quotes. A quote that is never closed makes everything
up to the next quote one field: the lines in it are read again as rows of their own, but only where
each of them is a whole row by itself, as lines of a text hardly ever are.
"""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from tallykeeper.input.loading import LoadError, Reject
from tallykeeper.input.text_input import TextFile

LONGEST_CELL = 64 * 1024 * 1024
"""Characters that a cell may have."""

_LONGEST_HEADER = 100_000
_LONGEST_SHOWN = 80
_FIELD = r'(?:[^",]*|"(?:[^"]|"")*")'
_OPENING = re.compile(rf'(?:{_FIELD},)*"(?:[^"]|"")*')


class CsvFile(TextFile):
    """A CSV file with a header line, in UTF-8 with or without byte order mark, split by commas.

    `header` is the list of column names, without surrounding blanks. Raises LoadError where the
    file cannot be opened, is empty, or breaks off (a damaged gzip file).
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._again: deque[str] = deque()
        self._record: list[str] = []
        self._line = 0
        try:
            self.header = self._read_header()
            self._whole = re.compile(f"{_FIELD}(?:,{_FIELD}){{{len(self.header) - 1}}}")
        except BaseException:
            self.close()
            raise

    def columns(self, required: list[str], optional: list[str]) -> list[int | None]:
        """The places of these columns, required ones first; None where an optional one is missing.

        Raises LoadError where a required column is missing, or one of them is there twice.
        """
        begins = self._shown_header()
        return column_places(self.header, required, optional, str(self.path), begins)

    def rows(self, reject: Reject) -> Iterator[tuple[int, list[str], str]]:
        """Each row below the header: its line number, its fields, and its raw text.

        A row has as many fields as the header; what has not is rejected. Empty lines are passed
        over.
        """
        csv.field_size_limit(LONGEST_CELL)  # The module's own, for all readers of the process.
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
                if "field larger than" in str(error):
                    self._pass_over_quoted()
                    error = csv.Error(f"a cell is longer than {LONGEST_CELL:,} characters")
                self._reject(reject, line, f"no valid CSV: {error}")
                continue
            if len(fields) == width:
                yield line, fields, "".join(self._record).rstrip("\r\n")
            elif fields:
                self._reject(reject, line, f"expected {width} columns, found {len(fields)}")

    def next_line(self) -> str:
        """The next line of the record that is being read. Raises StopIteration at the end."""
        line = self._again.popleft() if self._again else self.read_line()
        if not line:
            raise StopIteration
        self._line += 1
        self._record.append(line)
        return line

    def _reject(self, reject: Reject, line: int, reason: str) -> None:
        """Reject a malformed record: its first line, or where it is one text, all of its lines."""
        first, *others = self._record
        if others and all(map(self._is_row, others)):
            self._again.extendleft(reversed(others))
            self._line -= len(others)
        elif self._line > line:
            reason = f"{reason} (lines {line:,} to {self._line:,})"
            first = "".join(self._record)
        reject(line, reason, first.rstrip("\r\n"))

    def _is_row(self, line: str) -> bool:
        """Whether the line is a row by itself, or begins one and opens a quote."""
        line = line.rstrip("\r\n")
        return not line or bool(self._whole.fullmatch(line) or _OPENING.fullmatch(line))

    def _pass_over_quoted(self) -> None:
        """Read on to where the quotes of the record are closed, and keep its first line alone."""
        quotes = sum(line.count('"') for line in self._record)
        del self._record[1:]
        self._record[0] = self._record[0][:_LONGEST_SHOWN]
        while quotes % 2:
            try:
                quotes += self.next_line().count('"')
            except StopIteration:
                return
            self._record.pop()

    def _read_header(self) -> list[str]:
        line = self.read_line(_LONGEST_HEADER)
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


def column_places(
    header: list[str], required: list[str], optional: list[str], what: str, begins: str
) -> list[int | None]:
    """The places of these columns in a header; `what` has it, and it `begins` so.

    Raises LoadError where a required column is missing, or one of them is there twice.
    """
    missing = [name for name in required if name not in header]
    if missing:
        raise LoadError(
            f"{what} has no column {' and no column '.join(missing)}: expected a header "
            f"line with {', '.join(required + optional)}, but it begins with {begins}."
        )
    twice = [name for name in required + optional if header.count(name) > 1]
    if twice:
        raise LoadError(f"{what} has the column {twice[0]} more than once; keep one of them.")
    return [header.index(name) if name in header else None for name in required + optional]


class _Lines:
    """The file's lines for csv.reader; a generator would not go on after lines are given back."""

    def __init__(self, file: CsvFile) -> None:
        self._file = file

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        return self._file.next_line()
