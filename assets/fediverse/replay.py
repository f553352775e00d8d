"""Deriving posts again from all their events that are kept, and comparing with what is stored.

The posts are derived into temporary copies of the tables, by the same statements that process
events, and then only rows that differ are written: nothing, where nothing was wrong. Invariants: a
post whose earliest events were dropped with their days cannot be derived again, and is left as it
is; snapshots that may have been thinned already are not compared.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from sqlalchemy import Connection, Engine

from assets.fediverse.processing import rederive, write_posts
from assets.fediverse.processing.batches import process
from assets.fediverse.processing.reconcile import LogDifference, compare, settle
from assets.fediverse.processing.rederive import Log
from assets.fediverse.settings import redact_deleted
from assets.fediverse.storage import redaction
from tallykeeper.catalog.transactions import retried
from tallykeeper.database.sql import execute, literal

__all__ = ["LogDifference", "LogVerification", "Replayed", "replay", "verify_log"]

Place = tuple[int, str]
"""An instance and a post of it."""
OnProgress = Callable[[int, int | None, str], object]
Position = tuple[str, int, str]
"""Up to where posts are derived: the column that names them in events, and a place."""


@dataclass(frozen=True)
class Replayed:
    """What a replay did: posts derived again, and rows written because they differed, by table.

    `skipped` posts have events that are no longer kept. `retried` events had failed before.
    """

    posts: int
    skipped: int
    retried: int
    rows: dict[str, int]
    seconds: float


@dataclass(frozen=True)
class LogVerification:
    """What a comparison with the log found: `differing` rows, of which some are named."""

    posts: int
    skipped: int
    differing: int
    differences: tuple[LogDifference, ...]
    seconds: float

    @property
    def ok(self) -> bool:
        return not self.differing


@dataclass
class Found:
    """What was found or done so far: posts, those skipped, rows written by table, differences."""

    posts: int = 0
    skipped: int = 0
    differing: int = 0
    rows: dict[str, int] = field(default_factory=dict)
    differences: list[LogDifference] = field(default_factory=list)

    def plus(self, other: Found) -> Found:
        """Both together."""
        tables = (*self.rows, *other.rows)
        return Found(
            self.posts + other.posts,
            self.skipped + other.skipped,
            self.differing + other.differing,
            {name: self.rows.get(name, 0) + other.rows.get(name, 0) for name in tables},
            self.differences + other.differences,
        )


def _as_before(*_: object) -> None:
    return None


@dataclass(frozen=True)
class Chunks:
    """How posts are derived again, some thousands in a transaction.

    Those of events in `log` that meet the SQL condition `window`, and of these those for which
    `part`, of the column that names the post, is true. `work` is done with each chunk's derived
    rows, and returns what it found; what it writes stays if `commit`. In the same transaction
    `begin` is called before a chunk is chosen, and `note` afterwards, with its place and all found.
    `show` is called with all found when that has ended.
    """

    schema: str
    log: Log
    window: str
    work: Callable[[Connection, Found], Found]
    commit: bool
    part: Callable[[str], str] = lambda _: "true"
    begin: Callable[[Connection], None] = _as_before
    note: Callable[[Connection, Position, Found], None] = _as_before
    show: Callable[[Found], object] = _as_before


def replay(
    engine: Engine,
    start: datetime | None = None,
    end: datetime | None = None,
    *,
    on_progress: OnProgress = _as_before,
) -> Replayed:
    """Derive again every post that has an event received from `start` to before `end`.

    `on_progress` is called with how many posts are done, of about how many, if that is known.

    Events of that window that had failed are tried again. Writes only rows that differ. Without
    bounds everything that is kept is replayed. Raises TallyBusy, and SQLAlchemy's errors.
    """
    started = time.monotonic()
    schema, window = write_posts.raw_schema(), window_of(start, end)
    failed = retry_failed(engine, start, end)
    show = showing(engine, start, end, on_progress)
    chunks = Chunks(schema, rederive.stored_log(schema), window, repair, commit=True, show=show)
    with write_posts.session(engine) as connection:
        found = each_chunk(connection, chunks, Found())
    return Replayed(found.posts, found.skipped, failed, found.rows, time.monotonic() - started)


def verify_log(
    engine: Engine,
    start: datetime | None = None,
    end: datetime | None = None,
    *,
    limit: int = 100,
    on_progress: OnProgress = _as_before,
) -> LogVerification:
    """Compare what is stored of the posts in a window of receipt with what their events say.

    Changes nothing. Exact while events arrive and are processed. At most `limit` differing rows
    are named; all are counted. `on_progress` is called as by `replay`.
    """
    started = time.monotonic()
    schema, window = write_posts.raw_schema(), window_of(start, end)
    work = partial(look, limit)
    show = showing(engine, start, end, on_progress)
    chunks = Chunks(schema, rederive.stored_log(schema), window, work, commit=False, show=show)
    with write_posts.session(engine) as connection:
        found = each_chunk(connection, chunks, Found())
    return LogVerification(
        found.posts,
        found.skipped,
        found.differing,
        tuple(found.differences),
        time.monotonic() - started,
    )


def repair(connection: Connection, _found: Found) -> Found:
    """Write the rows of a chunk that differ from the derived ones, and redact deleted posts."""
    schema = write_posts.raw_schema()
    if redact_deleted():
        redaction.redact_events(connection, _DELETED.format(schema=schema))
    return Found(rows=settle(connection, schema, thinned=True))


def look(limit: int, connection: Connection, found: Found) -> Found:
    """Count the rows of a chunk that differ, and name them, at most `limit` with those found."""
    schema = write_posts.raw_schema()
    differing, differences = compare(connection, schema, limit - len(found.differences))
    return Found(differing=differing, differences=differences)


_DELETED = """
SELECT o.instance_id, o.post_id FROM pg_temp.scope_posts AS o JOIN {schema}.post_deletions AS d
  ON d.instance_id = o.instance_id AND d.post_id = o.post_id"""


def window_of(start: datetime | None, end: datetime | None) -> str:
    """SQL: whether an event was received from `start` to before `end`."""
    bounds = []
    if start is not None:
        bounds.append(f"received_at >= {literal(start.isoformat())}::timestamptz")
    if end is not None:
        bounds.append(f"received_at < {literal(end.isoformat())}::timestamptz")
    return " AND ".join(bounds) or "true"


def showing(
    engine: Engine, start: datetime | None, end: datetime | None, on_progress: OnProgress
) -> Callable[[Found], object]:
    """What is called with all found, and passes on how far that is; of a window, only how much."""
    total = None
    if start is None and end is None:
        with engine.connect() as connection:
            about = execute(
                connection,
                "SELECT sum(greatest(c.reltuples, 0))::bigint FROM pg_partition_tree("
                f"'{write_posts.raw_schema()}.mastodon_posts') AS t JOIN pg_class AS c"
                " ON c.oid = t.relid WHERE t.isleaf",
            )
            total = about.scalar_one() or None

    def show(found: Found) -> None:
        done = found.posts + found.skipped
        on_progress(done, total, f"{done:,} posts")

    return show


def retry_failed(engine: Engine, start: datetime | None, end: datetime | None) -> int:
    """Process the events of the window that failed once more; how many."""
    schema, window = write_posts.raw_schema(), window_of(start, end)

    def attempt() -> int:
        with engine.begin() as connection:
            execute(connection, write_posts.LOCK)
            return execute(
                connection,
                f"UPDATE {schema}.stream_events SET processed_at = NULL, process_error = NULL"
                f" WHERE process_error IS NOT NULL AND {window}",
            ).rowcount

    failed = retried(attempt, "the replay", engine, (), write_posts.LOCK_KEY)
    if failed:
        process(engine)
    return failed


def each_chunk(
    connection: Connection, chunks: Chunks, found: Found, resumed: Position | None = None
) -> Found:
    """Derive the posts of the window into the copies, chunk by chunk; all that is found then.

    `resumed` is where an earlier derivation of the same posts was, which had `found` so much.
    """
    columns = ("payload_status_id", "payload_reblog_id")
    begun = columns.index(resumed[0]) if resumed is not None else 0
    for column in columns[begun:]:
        last: Place | None = (0, "")
        if resumed is not None and column == resumed[0]:
            last = (resumed[1], resumed[2])
        while last is not None:
            last, found = _one_chunk(connection, chunks, column, last, found)
            chunks.show(found)
    return found


def _one_chunk(
    connection: Connection, chunks: Chunks, column: str, last: Place, found: Found
) -> tuple[Place | None, Found]:
    """Do the posts after `last`: the last of them, None where there are no more; what is found."""

    def attempt() -> tuple[Place | None, Found]:
        with connection.begin() as transaction:
            write_posts.prepare(connection)
            chunks.begin(connection)
            window = f"{chunks.window} AND {chunks.part(column)}"
            chosen = rederive.choose(connection, chunks.schema, chunks.log, window, column, last)
            if chosen is None:
                return None, found
            place, skipped, posts = chosen
            rederive.derive(connection, chunks.schema, chunks.log, redact=redact_deleted())
            done = found.plus(Found(posts, skipped)).plus(chunks.work(connection, found))
            chunks.note(connection, (column, *place), done)
            if not chunks.commit:
                transaction.rollback()
            return place, done

    return retried(attempt, "the replay", connection.engine, (), write_posts.LOCK_KEY)
