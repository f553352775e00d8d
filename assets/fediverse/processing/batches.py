"""From the raw log to posts and all that hangs on them: exactly once, in order of receipt.

A batch of events is one transaction: it parses them into temporary tables (`parsing.py`), writes
what follows (`write_posts.py` and the files that it names, `threads.py`), and marks them processed.
Invariants: what it writes depends on the events and their order, which is (received_at,
id), and on nothing else. So an event that was received before one of the same post that was
processed already makes that post derived again (`rederive.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from assets.fediverse.processing import parsing, posts, rederive, threads, write_posts
from assets.fediverse.processing.functions import JSON_OF, PROGRESS
from assets.fediverse.processing.parsing import DERIVED_FROM
from assets.fediverse.questions import follows
from assets.fediverse.settings import redact_deleted
from assets.fediverse.storage import redaction
from tallykeeper.catalog.transactions import retried
from tallykeeper.database.sql import execute, literal
from tallykeeper.faults.quarantine import is_refusal

BATCH_EVENTS = 10_000
LONGEST_REASON = 500


@dataclass(frozen=True)
class Processed:
    """What was done with events.

    `events` were processed; of them `failed` could not be read (`process_error` says why), and from
    `ignored` nothing is derived. They concerned `posts` posts, each counted once a batch; `late`
    of these were derived again, because the events came in another order than they were received.
    """

    events: int = 0
    failed: int = 0
    ignored: int = 0
    posts: int = 0
    late: int = 0
    batches: int = 0
    seconds: float = 0.0

    @property
    def events_per_second(self) -> float:
        return self.events / self.seconds if self.seconds else 0.0

    def plus(self, other: Processed) -> Processed:
        """Both together."""
        return Processed(
            self.events + other.events,
            self.failed + other.failed,
            self.ignored + other.ignored,
            self.posts + other.posts,
            self.late + other.late,
            self.batches + other.batches,
            self.seconds + other.seconds,
        )


def process(
    engine: Engine,
    *,
    batch_events: int = BATCH_EVENTS,
    on_batch: Callable[[Processed], None] | None = None,
    stop_after: int | None = None,
) -> Processed:
    """Process all events that are not yet, in batches of one transaction each.

    Ends when none is left, or after `stop_after` batches. `on_batch` is called with the sum so far.
    Two at a time take turns. Raises TallyBusy where the other holds on, and SQLAlchemy's errors.
    """
    done, size = Processed(), batch_events
    with write_posts.session(engine) as connection:
        while stop_after is None or done.batches < stop_after:
            batch = retried(
                partial(_one_batch, connection, size),
                "processing",
                engine,
                (),
                write_posts.LOCK_KEY,
            )
            if batch is None:
                size = max(1, size // 2)
                continue
            if not batch.events:
                break
            size = min(batch_events, 2 * size)
            done = done.plus(batch)
            if on_batch is not None:
                on_batch(done)
    return done


def _one_batch(connection: Connection, most: int) -> Processed | None:
    """Process the next events; None where the database refuses what several of them lead to.

    One that it refuses alone is marked with the reason: an event that nobody foresaw costs itself.
    """
    started = time.monotonic()
    schema = write_posts.raw_schema()
    with connection.begin():
        write_posts.prepare(connection)
        try:
            with connection.begin_nested():
                done = _process(connection, schema, most)
        except DBAPIError as error:
            if not is_refusal(error):
                raise
            if most > 1:
                return None
            done = _mark_refused(connection, schema, str(error.orig).splitlines()[0])
    return replace(done, seconds=time.monotonic() - started)


def _process(connection: Connection, schema: str, most: int) -> Processed:
    redact = redact_deleted()
    parsing.parse(connection, schema, _unprocessed(schema, most))
    counted = execute(connection, _COUNTED).one()
    if not counted.events:
        return Processed()
    late = rederive.set_aside_late(connection, schema)
    posts.write_accounts(connection, schema)
    follows.write_follows(connection, schema)
    write_posts.apply(connection, schema, schema, redact=redact)
    threads.update(connection, schema)
    _mark(connection, schema)
    if redact:
        redaction.note_posts(connection)
    if late:
        rederive.derive_late(connection, schema, redact=redact)
    if redact:
        redaction.redact_events(connection, _DELETED.format(schema=schema))
    return Processed(counted.events, counted.failed, counted.ignored, counted.posts, late, 1)


def _mark_refused(connection: Connection, schema: str, why: str) -> Processed:
    """Note on the next event that the database refuses what follows from it.

    And of which post it is, so that it is redacted with that, unless that is what is refused.
    """
    reason = literal(f"the database refuses what follows from it: {why}"[:LONGEST_REASON])
    try:
        with connection.begin_nested():
            shown = redaction.posts_shown("e.event_type", "e.payload")
            _mark_fault(connection, schema, reason, *shown)
            if redact_deleted():
                redaction.note_posts(connection)
                redaction.redact_events(connection, _DELETED.format(schema=schema))
    except DBAPIError as error:
        if not is_refusal(error):
            raise
        _mark_fault(connection, schema, reason, "NULL", "NULL")
    return Processed(events=1, failed=1, batches=1)


def _mark_fault(connection: Connection, schema: str, fault: str, post: str, reblog: str) -> None:
    execute(
        connection,
        "INSERT INTO pg_temp.batch"
        " (event_id, received_at, instance_id, event_type, post_id, reblog_id, fault)"
        f" SELECT id, received_at, instance_id, event_type, {post}, {reblog}, {fault}"
        f" FROM ({_unprocessed(schema, 1, f'{JSON_OF}(payload::text)')}) AS e",
    )
    _mark(connection, schema)


def _unprocessed(schema: str, most: int, payload: str = "payload::jsonb") -> str:
    # What of a payload in json cannot be jsonb fails, and must be one of those that are asked for.
    return (
        "SELECT id, received_at, instance_id, event_type,"
        f" {payload} AS payload FROM (\n"
        "SELECT id, received_at, instance_id, event_type, payload\n"
        f"FROM {schema}.stream_events WHERE processed_at IS NULL\n"
        f"ORDER BY received_at, id LIMIT {int(most)}) AS next"
    )


_DELETED = """
SELECT s.instance_id, s.post_id FROM pg_temp.shown_posts AS s JOIN {schema}.post_deletions AS d
  ON d.instance_id = s.instance_id AND d.post_id = s.post_id"""

_COUNTED = f"""
SELECT count(*) AS events, count(fault) AS failed,
  count(*) FILTER (WHERE event_type NOT IN ({", ".join(f"'{n}'" for n in DERIVED_FROM)}))
    AS ignored,
  (SELECT count(DISTINCT (instance_id, post_id)) FROM pg_temp.batch WHERE post_id IS NOT NULL)
    AS posts
FROM pg_temp.batch"""


def _mark(connection: Connection, schema: str) -> None:
    """Note on the events that they are done, and how far the log is."""
    execute(connection, "ANALYZE pg_temp.batch (event_id)")
    received = execute(
        connection,
        "SELECT min(received_at)::text AS first, max(received_at)::text AS last FROM pg_temp.batch",
    ).one()
    # Event by event through the primary key: the days between are known to the planner, but not
    # how few of their events these are.
    execute(connection, "SET LOCAL enable_hashjoin = off")
    execute(connection, "SET LOCAL enable_mergejoin = off")
    execute(
        connection,
        f"""
UPDATE {schema}.stream_events AS e SET processed_at = now(), process_error = t.fault,
  payload_status_id = coalesce(t.post_id, e.payload_status_id), payload_reblog_id = t.reblog_id
FROM pg_temp.batch AS t
WHERE e.id = t.event_id AND e.received_at = t.received_at
  AND e.received_at BETWEEN '{received.first}' AND '{received.last}'""",
    )
    execute(connection, "SET LOCAL enable_hashjoin = on")
    execute(connection, "SET LOCAL enable_mergejoin = on")
    execute(
        connection,
        f"""
UPDATE {PROGRESS} AS l SET processed_at = t.received_at, processed_id = t.event_id
FROM (
  SELECT received_at, event_id FROM pg_temp.batch ORDER BY received_at DESC, event_id DESC LIMIT 1
) AS t
WHERE l.processed_at IS NULL
  OR (t.received_at, t.event_id) > (l.processed_at, l.processed_id)""",
    )
