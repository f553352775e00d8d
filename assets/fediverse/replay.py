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

from sqlalchemy import Connection, Engine

from assets.fediverse.processing import rederive, write_posts
from assets.fediverse.processing.batches import process
from assets.fediverse.processing.reconcile import LogDifference, compare, settle
from assets.fediverse.settings import redact_deleted
from assets.fediverse.storage import redaction
from tallykeeper.catalog.transactions import retried
from tallykeeper.database.sql import execute, literal

__all__ = ["LogDifference", "LogVerification", "Replayed", "replay", "verify_log"]

Place = tuple[int, str]
"""An instance and a post of it."""


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
class _Found:
    posts: int = 0
    skipped: int = 0
    differing: int = 0
    rows: dict[str, int] = field(default_factory=dict)
    differences: list[LogDifference] = field(default_factory=list)


def replay(engine: Engine, start: datetime | None = None, end: datetime | None = None) -> Replayed:
    """Derive again every post that has an event received from `start` to before `end`.

    Events of that window that had failed are tried again. Writes only rows that differ. Without
    bounds everything that is kept is replayed. Raises TallyBusy, and SQLAlchemy's errors.
    """
    started = time.monotonic()
    schema, window = write_posts.raw_schema(), _window(start, end)
    failed = retried(
        lambda: _retry_failed(engine, schema, window),
        "the replay",
        engine,
        (),
        write_posts.LOCK_KEY,
    )
    if failed:
        process(engine)
    found = _Found()

    def repair(connection: Connection) -> None:
        if redact_deleted():
            redaction.redact_events(connection, _DELETED.format(schema=schema))
        for name, number in settle(connection, schema, thinned=True).items():
            found.rows[name] = found.rows.get(name, 0) + number

    _each_chunk(engine, schema, window, found, repair, commit=True)
    return Replayed(found.posts, found.skipped, failed, found.rows, time.monotonic() - started)


def verify_log(
    engine: Engine,
    start: datetime | None = None,
    end: datetime | None = None,
    *,
    limit: int = 100,
) -> LogVerification:
    """Compare what is stored of the posts in a window of receipt with what their events say.

    Changes nothing. Exact while events arrive and are processed. At most `limit` differing rows
    are named; all are counted.
    """
    started = time.monotonic()
    schema = write_posts.raw_schema()
    found = _Found()

    def look(connection: Connection) -> None:
        differing, differences = compare(connection, schema, limit - len(found.differences))
        found.differing += differing
        found.differences += differences

    _each_chunk(engine, schema, _window(start, end), found, look, commit=False)
    return LogVerification(
        found.posts,
        found.skipped,
        found.differing,
        tuple(found.differences),
        time.monotonic() - started,
    )


_DELETED = """
SELECT o.instance_id, o.post_id FROM pg_temp.scope_posts AS o JOIN {schema}.post_deletions AS d
  ON d.instance_id = o.instance_id AND d.post_id = o.post_id"""


def _window(start: datetime | None, end: datetime | None) -> str:
    bounds = []
    if start is not None:
        bounds.append(f"received_at >= {literal(start.isoformat())}::timestamptz")
    if end is not None:
        bounds.append(f"received_at < {literal(end.isoformat())}::timestamptz")
    return " AND ".join(bounds) or "true"


def _retry_failed(engine: Engine, schema: str, window: str) -> int:
    """Let the events of the window that failed be processed again; how many."""
    with engine.begin() as connection:
        execute(connection, write_posts.LOCK)
        return execute(
            connection,
            f"UPDATE {schema}.stream_events SET processed_at = NULL, process_error = NULL"
            f" WHERE process_error IS NOT NULL AND {window}",
        ).rowcount


def _each_chunk(
    engine: Engine,
    schema: str,
    window: str,
    found: _Found,
    work: Callable[[Connection], None],
    *,
    commit: bool,
) -> None:
    """Derive the window's posts into the copies, a transaction for each chunk, and do `work`."""
    with write_posts.session(engine) as connection:
        for column in ("payload_status_id", "payload_reblog_id"):
            last: Place | None = (0, "")
            while last is not None:
                last = _one_chunk(connection, schema, window, column, last, found, work, commit)


def _one_chunk(
    connection: Connection,
    schema: str,
    window: str,
    column: str,
    last: Place,
    found: _Found,
    work: Callable[[Connection], None],
    commit: bool,
) -> Place | None:
    """Do the posts after `last`; the last of them, or None where there are no more."""

    def attempt() -> tuple[Place, int, int] | None:
        with connection.begin() as transaction:
            write_posts.prepare(connection)
            chosen = rederive.choose(connection, schema, window, column, last)
            if chosen is not None:
                rederive.derive(connection, schema, redact=redact_deleted())
                work(connection)
            if not commit:
                transaction.rollback()
            return chosen

    chosen = retried(attempt, "the replay", connection.engine, (), write_posts.LOCK_KEY)
    if chosen is None:
        return None
    place, skipped, posts = chosen
    found.skipped += skipped
    found.posts += posts
    return place
