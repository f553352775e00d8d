"""Bring real events into the classroom: a ProgSnap2 dataset, or the CSVs of the SERI-CS data.

What rows say is in `progsnap.py` and `sericss.py`, how names become ids in `entities.py`, and how
events get into the log in `staging.py` and `writing.py`. Invariants:
- An event is known by its id within its submission. Loading the same input again changes nothing.
- A load adds. It fills in what a known event left open, and never overwrites: an event that is
  known and says something else is rejected.
- Of events at one instant the one that came first gets the smaller id.
- Events are committed in chunks. A load that was killed left whole chunks, and can simply be run
  again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy import Connection, Engine

from assets.classroom.input import staging, writing
from assets.classroom.input.entities import check_tables
from assets.classroom.input.fields import Event, Notes
from assets.classroom.input.listing import open_listing
from tallykeeper.database.retry import Failure, Retry
from tallykeeper.database.sqlstates import DEADLOCK_DETECTED, FOREIGN_KEY_VIOLATION
from tallykeeper.input.frame_input import source_of
from tallykeeper.input.loader import Loader
from tallykeeper.input.loading import Loaded, ProgressCallback, RejectFile

if TYPE_CHECKING:
    import pandas as pd

CHUNK = 20_000
# A deadlock with the application; a submission that was deleted between being found and being used.
_WRITE_AGAIN = Retry({DEADLOCK_DETECTED, FOREIGN_KEY_VIOLATION}, attempts=5)

T = TypeVar("T")


def load_classroom(
    engine: Engine, path: Path | pd.DataFrame, *, progress: ProgressCallback | None = None
) -> Loaded:
    """Load the events of a ProgSnap2 folder, of its main table alone, or of a SERI-CS CSV.

    A DataFrame is read as a CSV of the same columns would be, without metadata beside it.

    Rows that cannot be loaded are listed in a reject file and do not stop the load; what was
    treated is named in the result's notes. Raises LoadError where the input is nothing of it,
    cannot be read, or lacks a column, and where there are no tables to load into.
    """
    started = time.monotonic()
    source = source_of(path)
    notes = Notes()
    # Each statement sees what another load committed before it.
    options = {"isolation_level": "READ COMMITTED"}
    with engine.connect().execution_options(**options) as connection:
        try:
            # An adopted table may hold times without time zone; they mean UTC.
            connection.exec_driver_sql("SET TIME ZONE 'UTC'")
            connection.commit()
            with RejectFile(source) as rejects:
                load = _Load(connection, rejects, notes, progress)
                load.gather(path)
                load.write()
        finally:
            # Nobody is to use it after this: temporary tables vanish with their connection alone.
            connection.invalidate()
    return Loaded(
        read=load.events + load.malformed,
        inserted=load.inserted,
        changed=load.changed,
        unchanged=load.events + load.malformed - load.inserted - load.changed - rejects.count,
        rejected=rejects.count,
        unreadable=0,
        seconds=time.monotonic() - started,
        reject_file=rejects.path,
        notes=notes.sentences(),
    )


class _Load:
    """A load under way: first all events are gathered, then they are written."""

    def __init__(
        self,
        connection: Connection,
        rejects: RejectFile,
        notes: Notes,
        progress: ProgressCallback | None,
    ) -> None:
        self._connection = connection
        self._rejects = rejects
        self._notes = notes
        self._progress = progress
        self._size = 0
        self.events = self.malformed = self.inserted = self.changed = 0

    def gather(self, source: Path | pd.DataFrame) -> None:
        """Read the events into temporary tables."""
        with self._connection.begin():
            check_tables(self._connection)
            staging.create(self._connection)
        with open_listing(source, self._rejects.add, self._notes) as listing:
            self._size = listing.total
            with self._connection.begin():
                staging.gather_roles(self._connection, listing.roles)
            for chunk in _chunks(listing):
                with self._connection.begin():
                    staging.gather(self._connection, chunk, self.events)
                self.events += len(chunk)
                self.malformed = self._rejects.count
                self._show(listing.done())
        self.malformed = self._rejects.count

    def write(self) -> None:
        """Write what was gathered, chunk by chunk."""
        with self._connection.begin():
            self._notes.count("reused", staging.keep_apart(self._connection))
            repeated, others = staging.take_out_repeated(self._connection)
            total = staging.put_in_order(self._connection)
        self._notes.count("repeated", repeated)
        self._reject(others)
        self._attempt(partial(writing.prepare, self._connection))
        for first in range(1, total + 1, CHUNK):
            last = min(first + CHUNK - 1, total)
            done = self._attempt(partial(writing.write_chunk, self._connection, first, last))
            self.inserted += done.inserted
            self.changed += done.changed
            self._reject(done.rejected)
            self._show(self._size + self._size * last // total)

    def _attempt(self, work: Callable[[bool], T]) -> T:
        """Commit the work, which receives whether it was tried before."""
        failures: list[Failure] = []

        def attempt() -> T:
            with self._connection.begin():
                return work(bool(failures))

        return _WRITE_AGAIN.call(attempt, failures.append)

    def _reject(self, rows: Iterable[staging.Rejected]) -> None:
        for row in rows:
            self._rejects.add(*row)

    def _show(self, done: int) -> None:
        # Reading is the first half, writing the second one.
        if self._progress is not None:
            self._progress(self.events + self.malformed, done, 2 * self._size)


def _chunks(events: Iterable[Event]) -> Iterator[list[Event]]:
    rest = iter(events)
    while chunk := list(islice(rest, CHUNK)):
        yield chunk


LOADER = Loader(
    load_classroom,
    "events",
    "A ProgSnap2 folder or its MainTable.csv, or the CSVs of the SERI-CS data."
    " Loading it again changes nothing.",
)
