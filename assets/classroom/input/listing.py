"""Which input a path names, and its events: a ProgSnap2 dataset, or a CSV of the SERI-CS data.

What the rows mean is in `progsnap.py` and `sericss.py`. Invariants: a file is known by its
columns, not by its name, and one that is nothing of it is refused in one sentence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from assets.classroom.input import progsnap, sericss
from assets.classroom.input.fields import Event, Notes, ordered
from tallykeeper.input.csv_input import CsvFile
from tallykeeper.input.frame_input import FrameTable
from tallykeeper.input.loading import LoadError, Reject, Table

if TYPE_CHECKING:
    import pandas as pd

MAIN_TABLE = "MainTable.csv"
SUFFIXES = (".csv", ".csv.gz")


class Listing:
    """The events of an open file; iterating yields them and sends malformed rows to `reject`.

    `roles` are subjects with a role that the input says they have; a subject may have several.
    """

    def __init__(self, file: Table, reject: Reject, notes: Notes) -> None:
        self._file = file
        self.total = file.size
        self._look = ordered(notes)
        self._notes = notes
        self.roles: Iterable[tuple[str, str]] = ()
        columns = set(file.header)
        if columns.issuperset(sericss.SNAPSHOTS):
            self._events = sericss.read_snapshots(file, reject, notes)
        elif columns.issuperset(sericss.ERRORS):
            self._events = sericss.read_errors(file, reject, notes)
        else:
            _check_main_table(file)
            metadata = progsnap.Metadata()
            if isinstance(file, CsvFile):
                folder = file.path.parent
                metadata = progsnap.read_metadata(folder, notes)
                self.roles = progsnap.read_roles(folder, notes)
            self._events = progsnap.read_main_table(file, metadata, reject, notes)

    def done(self) -> int:
        """Bytes of the file that were read so far, of `total`."""
        return self._file.consumed()

    def __iter__(self) -> Iterator[Event]:
        for event in self._events:
            self._look(event)
            self._notes.count_type(event.event_type)
            yield event


@contextmanager
def open_listing(path: Path | pd.DataFrame, reject: Reject, notes: Notes) -> Iterator[Listing]:
    """The events that a folder, a file or a DataFrame holds.

    Raises LoadError where that is neither a ProgSnap2 dataset nor a CSV that is known, or cannot be
    read.
    """
    if not isinstance(path, Path):
        yield Listing(FrameTable(path), reject, notes)
        return
    path = path.absolute()
    with CsvFile(_main_table(path) if path.is_dir() else _file(path)) as file:
        yield Listing(file, reject, notes)


def _main_table(folder: Path) -> Path:
    for name in (MAIN_TABLE, f"{MAIN_TABLE}.gz"):
        if (folder / name).exists():
            return folder / name
    raise LoadError(
        f"{folder} has no {MAIN_TABLE} (or {MAIN_TABLE}.gz): expected a ProgSnap2 dataset; name the"
        " folder that has it, or a CSV."
    )


def _file(path: Path) -> Path:
    if not path.exists():
        raise LoadError(f"{path} cannot be read: there is no such file.")
    if not path.name.lower().endswith(SUFFIXES):
        raise LoadError(
            f"{path} is no file that events can be loaded from; name a ProgSnap2 folder, or a file"
            f" that ends with {' or '.join(SUFFIXES)}."
        )
    return path


def _check_main_table(file: Table) -> None:
    """Raises LoadError where the file has no column of a main table."""
    if not set(progsnap.REQUIRED) & set(file.header):
        raise LoadError(
            f"{file.path} is no table of events: expected the columns"
            f" {', '.join(progsnap.REQUIRED)} (ProgSnap2), {', '.join(sericss.SNAPSHOTS)}"
            f" (snapshots) or {', '.join(sericss.ERRORS)} (compiler errors), found"
            f" {', '.join(file.header)[:200]}."
        )
