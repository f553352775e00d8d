"""A run of the archive: what an interrupted one left, what is due, what has to be redacted.

One at a time for each source. Invariants: whenever a run ends, in whatever way, the records say
which files there are; a file whose rows are in another one is deleted before the run ends, or by
the next one. Dropping needs no package that only files need.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import partial

from sqlalchemy import Connection, Engine

from tallykeeper.archive.store import ArchiveUnavailable, Store, fetch, scratch
from tallykeeper.catalog.transactions import retried
from tallykeeper.database import sql
from tallykeeper.database.lock_holders import WRITERS, Wanted
from tallykeeper.database.sessions import begin_work
from tallykeeper.errors import TallyBusy
from tallykeeper.partitions import drops, records, sources
from tallykeeper.partitions.records import REPLACED, WRITING, ArchivedFile
from tallykeeper.partitions.sources import ArchivedSource, Partition


@dataclass
class Archived:
    """What a run did for a source.

    `written` files with `rows` and `bytes`; `kept` are partitions that are due but could not be
    archived, and why; `redacted` files were written anew without what had to go; `removed` files
    were deleted, of interrupted runs and those that others replaced. `left_alone` says why nothing
    was done, and is None otherwise.
    """

    source: str
    written: list[str] = field(default_factory=list)
    rows: int = 0
    bytes: int = 0
    kept: dict[str, str] = field(default_factory=dict)
    redacted: int = 0
    removed: int = 0
    left_alone: str | None = None


Say = Callable[[str], object]
OnProgress = Callable[[int, int, str], object]


def archive(
    engine: Engine,
    source: ArchivedSource,
    store: Store,
    *,
    before: date | None = None,
    say: Say = lambda _: None,
    on_progress: OnProgress = lambda _done, _total, _partition: None,
) -> Archived:
    """Archive the partitions that are due, or all that end before a day; redact what has to be.

    A partition that is archived already is archived anew where its rows have changed. `say` is
    called with each file that was written, `on_progress` with how many of how many partitions are
    through, and the next one. Raises TallyBusy where another run is under way,
    ArchiveUnavailable, NotInstalled, and SQLAlchemy's errors; what was done until then stays.
    """
    from tallykeeper.archive import redaction

    result = Archived(source.name)
    with alone(engine, source) as still_alone:
        with _reading(engine) as connection:
            records.require_installed(connection)
            result.left_alone = sources.why_not_partitioned(connection, source)
        if result.left_alone is not None:
            return result
        result.removed += clean(engine, source, store)
        wanted = due(engine, source, before)
        for number, each in enumerate(wanted):
            on_progress(number, len(wanted), each.name)
            _archive_one(engine, source, store, each, result, still_alone, say)
        result.redacted = redaction.redact(engine, source, store, still_alone)
        result.removed += clean(engine, source, store)
    return result


@dataclass
class Dropped:
    """What was dropped, what was kept though it is due and why, and the bytes that are free now."""

    dropped: list[str] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)
    freed_bytes: int = 0


def drop_due(
    engine: Engine,
    source: ArchivedSource,
    store: Store | None,
    *,
    before: date | None = None,
    lost: bool = False,
    on_progress: OnProgress = lambda _done, _total, _partition: None,
) -> Dropped:
    """Drop the partitions that are due, each in a transaction of its own, if a file has its rows.

    The file is read once more before, the rows are compared once more by the drop. What has changed
    since is archived anew instead. `lost`: rows that no file has are declared to be lost.
    `on_progress` is called as by `archive`. Raises NotInstalled, TallyBusy where they are being
    archived, and SQLAlchemy's errors.
    """
    result = Dropped()
    wanted = due(engine, source, before)
    for number, each in enumerate(wanted):
        on_progress(number, len(wanted), each.name)
        freed, why = _drop_one(engine, source, store, each, lost)
        if why is None:
            result.dropped.append(each.name)
            result.freed_bytes += freed
        else:
            result.kept[each.name] = why
    return result


def _drop_one(
    engine: Engine, source: ArchivedSource, store: Store | None, partition: Partition, lost: bool
) -> tuple[int, str | None]:
    """Drop the partition: the bytes that are free now, or why it is kept."""
    with _reading(engine) as connection:
        file = records.current_of(connection, source, partition.name)
    try:
        if file is not None and not lost:
            if store is None:
                return 0, "is archived, but TALLY_ARCHIVE does not say where"
            with scratch() as folder:
                fetch(store, file, folder / "archived.parquet")
        done = retried(
            partial(_drop, engine, source, partition.name, lost),
            f"dropping {partition.name}",
            engine,
            [Wanted(source.relation, WRITERS)],
            source.lock or "NULL",
        )
    except (TallyBusy, ArchiveUnavailable) as error:
        return 0, str(error)
    if done.why == drops.CHANGED and store is not None:
        anew = Archived(source.name)
        with alone(engine, source) as still_alone:
            _archive_one(engine, source, store, partition, anew, still_alone, lambda _: None)
            clean(engine, source, store)
        then = "archived anew, to be dropped the next time" if anew.written else "not archived anew"
        return 0, f"{drops.CHANGED}; {then}"
    return done.freed, done.why


def _drop(engine: Engine, source: ArchivedSource, partition: str, lost: bool) -> drops.Drop:
    """In READ COMMITTED: what others committed is looked at again under the lock."""
    with (
        engine.connect().execution_options(isolation_level="READ COMMITTED") as connection,
        connection.begin(),
    ):
        begin_work(connection)
        return drops.drop(connection, source, partition, lost=lost)


def due(engine: Engine, source: ArchivedSource, before: date | None = None) -> Sequence[Partition]:
    """The partitions that are over and old enough, the oldest first, archived or not."""
    with _reading(engine) as connection:
        limit = before or last_day(connection, source)
        return sources.ending_by(connection, source, limit)


def last_day(connection: Connection, source: ArchivedSource) -> date:
    """The first day, in UTC, whose partition is not due yet."""
    today = sql.execute(connection, "SELECT (now() AT TIME ZONE 'UTC')::date").scalar_one()
    assert isinstance(today, date)
    return today - timedelta(days=source.after_days())


def clean(engine: Engine, source: ArchivedSource, store: Store) -> int:
    """Delete files that are not current, and then their records; how many.

    Of interrupted runs, and those of which another one has the rows.
    """
    with _reading(engine) as connection:
        left = records.files(connection, source, WRITING, REPLACED)
    for each in left:
        store.remove(each.address)
        with engine.begin() as connection:
            records.forget(connection, each.id)
    return len(left)


@contextmanager
def alone(
    engine: Engine, source: ArchivedSource, what: str = "archive"
) -> Iterator[Callable[[], None]]:
    """Keep other runs of that kind away; passes a function that fails if that has ended.

    The lock is one of a transaction, which a pooler keeps too. Raises TallyBusy.
    """
    with engine.connect() as connection, connection.begin():
        # It waits while files are written, and holds no snapshot meanwhile.
        sql.execute(connection, "SET LOCAL idle_in_transaction_session_timeout = 0")
        keys = (f"hashtext({sql.literal(key)})" for key in (f"tallykeeper.{what}", source.name))
        got = sql.execute(
            connection, f"SELECT pg_try_advisory_xact_lock({', '.join(keys)})"
        ).scalar_one()
        if not got:
            raise TallyBusy(
                f"{source.name}: another process runs its {what}; nothing was done, run the"
                " command again when that has ended"
            )
        yield lambda: _require_alive(connection)


def _require_alive(connection: Connection) -> None:
    sql.execute(connection, "SELECT 1")


def _archive_one(
    engine: Engine,
    source: ArchivedSource,
    store: Store,
    partition: Partition,
    result: Archived,
    still_alone: Callable[[], None],
    say: Say,
) -> None:
    from tallykeeper.archive import files

    with _reading(engine) as connection:
        present = records.current_of(connection, source, partition.name)
        if present is None:
            is_done = is_empty(connection, source, partition)
        else:
            is_done = drops.contents_of(connection, source, partition) == present.contents
    if is_done:
        return
    begun = retried(
        partial(_begin, engine, source, partition), f"archiving {partition.name}", engine
    )
    try:
        written = files.write(engine, source, store, partition, begun)
    except files.Unsettled as error:
        result.kept[partition.name] = str(error)
        return
    still_alone()
    with engine.begin() as connection:
        records.finish(connection, written, present)
    result.written.append(written.address)
    result.rows += written.rows or 0
    result.bytes += written.bytes or 0
    say(f"{partition.name}: {written.rows:,} rows in {written.bytes:,} bytes, {written.address}")


def _begin(engine: Engine, source: ArchivedSource, partition: Partition) -> ArchivedFile:
    with engine.begin() as connection:
        begin_work(connection)
        return records.begin(connection, source, partition)


def is_empty(connection: Connection, source: ArchivedSource, partition: Partition) -> bool:
    """Whether the partition has no row. In a transaction of the engine's."""
    query = f"SELECT NOT EXISTS (SELECT FROM {sources.rows_of(source, partition)} AS r)"
    return bool(sql.execute(connection, query).scalar_one())


@contextmanager
def _reading(engine: Engine) -> Iterator[Connection]:
    with engine.begin() as connection:
        begin_work(connection)
        yield connection
