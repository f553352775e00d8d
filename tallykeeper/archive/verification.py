"""How the archive stands: which files there are, what is due, and whether each file is as recorded.

Nothing is changed but the moment at which a file was last found right, and incidents.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Engine

from tallykeeper.archive import runs
from tallykeeper.archive.store import FileDamaged, FileMissing, Store, fetch, scratch
from tallykeeper.database.sessions import begin_work
from tallykeeper.faults import incidents
from tallykeeper.partitions import records, sources
from tallykeeper.partitions.records import CURRENT, ArchivedFile
from tallykeeper.partitions.sources import ArchivedSource


@dataclass(frozen=True)
class ArchiveStatus:
    """How the archive of a source stands.

    `files` are current ones, `dropped` of them are of partitions that are dropped. `due` are
    partitions that should be archived and are not. `unfinished` files are left of interrupted
    runs, or are still to be deleted. `redactions` are still to be carried out in files.
    """

    source: str
    files: int
    rows: int
    bytes: int
    dropped: int
    due: Sequence[str]
    unfinished: int
    redactions: int
    left_alone: str | None


@dataclass(frozen=True)
class ArchiveVerification:
    """What was found of the files of a source: `faults` are sentences, each of one file."""

    source: str
    files: int
    bytes: int
    faults: Sequence[str]

    @property
    def ok(self) -> bool:
        return not self.faults


def status(engine: Engine, source: ArchivedSource) -> ArchiveStatus:
    """How the archive of the source stands, by the records alone. Raises NotInstalled."""
    with engine.begin() as connection:
        begin_work(connection)
        records.require_installed(connection)
        left_alone = sources.why_not_partitioned(connection, source)
        known = records.files(connection, source)
        current = [each for each in known if each.state == CURRENT]
        return ArchiveStatus(
            source.name,
            len(current),
            sum(each.rows or 0 for each in current),
            sum(each.bytes or 0 for each in current),
            sum(each.dropped_at is not None for each in current),
            [] if left_alone else _due(connection, source, current),
            len(known) - len(current),
            len(records.redactions(connection, source)),
            left_alone,
        )


def verify(
    engine: Engine,
    source: ArchivedSource,
    store: Store,
    *,
    most: int | None = None,
    say: Callable[[str], object] = lambda _: None,
    on_progress: runs.OnProgress = lambda _done, _total, _partition: None,
) -> ArchiveVerification:
    """Read every current file of the source, and compare it with its record, byte for byte.

    Or at most so many: those that were not found right for the longest, which faulty ones are among
    first. What is missing or damaged is an incident, which the next verification without a fault
    resolves. `say` is called with each fault, `on_progress` with how many of how many bytes are
    read, and the partition of the next file. Raises ArchiveUnavailable where the archive fails.
    """
    with engine.begin() as connection:
        records.require_installed(connection)
        current = records.files(connection, source, CURRENT)
    current.sort(key=lambda file: (file.verified_at or file.created_at, file.id))
    current = current[:most]
    faults = []
    done, total = 0, sum(each.bytes or 0 for each in current)
    for each in current:
        on_progress(done, total, each.partition)
        done += each.bytes or 0
        fault = _fault(engine, store, each)
        if fault is not None:
            faults.append(fault)
            say(fault)
    with engine.begin() as connection:
        if faults:
            incidents.report(
                connection,
                source.name,
                incidents.ARCHIVE,
                f"{len(faults)} of {len(current)} archived files are missing or damaged:"
                f" {faults[0]}",
                details={"files": faults, "to_resolve": "tally archive verify"},
            )
        else:
            incidents.resolve(connection, source.name, incidents.ARCHIVE, "verified")
    return ArchiveVerification(source.name, len(current), total, faults)


def _fault(engine: Engine, store: Store, file: ArchivedFile) -> str | None:
    try:
        with scratch() as folder:
            fetch(store, file, folder / "archived.parquet")
    except (FileMissing, FileDamaged) as error:
        with engine.begin() as connection:
            # A run that redacts files replaces them meanwhile.
            current = records.is_current(connection, file.id)
        return str(error) if current else None
    with engine.begin() as connection:
        records.note_verified(connection, file.id)
    return None


def _due(
    connection: Connection, source: ArchivedSource, current: Sequence[ArchivedFile]
) -> list[str]:
    archived = {each.partition for each in current if each.dropped_at is None}
    limit = runs.last_day(connection, source)
    due = sources.ending_by(connection, source, limit)
    return [
        each.name
        for each in due
        if each.name not in archived and not runs.is_empty(connection, source, each)
    ]
