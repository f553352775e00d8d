"""Deriving posts again from all their events that are kept, and comparing with what is stored.

The posts are derived into temporary copies of the tables, by the same statements that process
events, and then only rows that differ are written: nothing, where nothing was wrong. What must stay
true: a post whose earliest events were dropped with their days cannot be derived again, and is left
as it is; snapshots that may have been thinned already are not compared.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, Table

from assets.fediverse import parsing, posts, processing, tables, threads
from assets.fediverse.functions import PROGRESS
from resources.settings import redact_deleted
from tallies.sql import columns, execute, literal, quote

CHUNK_POSTS = 2_000
UNTHINNED = "interval '7 days'"
"""For how long all snapshots are kept."""

# What is derived from the events of a post alone, and the column that names the post.
COPIED: dict[Table, str] = {
    tables.post_deletions: "post_id",
    tables.mastodon_posts: "id",
    tables.post_hashtags: "post_id",
    tables.post_mentions: "post_id",
    tables.post_versions: "post_id",
    tables.media_attachments: "post_id",
    tables.post_metric_snapshots: "post_id",
}
# Derived from all posts together; compared and mended with them.
COMPARED = {**COPIED, tables.conversation_threads: "post_id"}


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
class LogDifference:
    """A row that is not what the log says: `problem` is missing, unexpected or different."""

    table: str
    key: dict[str, Any]
    problem: str
    stored: dict[str, Any] | None
    expected: dict[str, Any] | None


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
    schema = processing.raw_schema()
    window = _window(start, end)
    with engine.begin() as connection:
        execute(connection, processing.LOCK)
        failed = execute(
            connection,
            f"UPDATE {schema}.stream_events SET processed_at = NULL, process_error = NULL"
            f" WHERE process_error IS NOT NULL AND {window}",
        ).rowcount
    if failed:
        processing.process(engine)
    found = _Found()
    for connection in _chunks(engine, schema, window, found, commit=True):
        for name, number in _settle(connection, schema).items():
            found.rows[name] = found.rows.get(name, 0) + number
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
    schema = processing.raw_schema()
    found = _Found()
    for connection in _chunks(engine, schema, _window(start, end), found, commit=False):
        _compare(connection, schema, found, limit)
    return LogVerification(
        found.posts,
        found.skipped,
        found.differing,
        tuple(found.differences),
        time.monotonic() - started,
    )


def set_aside_late(connection: Connection, schema: str) -> int:
    """Take out of the batch the posts of which later events were processed; how many.

    They are kept in `scope_posts`, to be derived from all their events. Where those are not all
    kept any more, the post stays in the batch, marked as late.
    """
    overtaken = execute(
        connection,
        f"SELECT EXISTS (SELECT FROM pg_temp.taken AS t, {PROGRESS} AS l"
        " WHERE (t.received_at, t.event_id) < (l.processed_at, l.processed_id))",
    ).scalar_one()
    if not overtaken:
        return 0
    _create_scope(connection)
    execute(connection, _late_posts(schema))
    execute(
        connection,
        "UPDATE pg_temp.seen AS s SET late = true FROM pg_temp.scope_posts AS o"
        " WHERE NOT o.is_complete AND o.instance_id = s.instance_id AND o.post_id = s.post_id",
    )
    execute(connection, "DELETE FROM pg_temp.scope_posts WHERE NOT is_complete")
    for stage in ("seen", "listed", "deletes"):
        execute(
            connection,
            f"DELETE FROM pg_temp.{stage} AS s USING pg_temp.scope_posts AS o"
            " WHERE o.instance_id = s.instance_id AND o.post_id = s.post_id",
        )
    return int(execute(connection, "SELECT count(*) FROM pg_temp.scope_posts").scalar_one())


def derive_late(connection: Connection, schema: str, *, redact: bool) -> None:
    """Derive the posts that were set aside, and write what differs."""
    _derive(connection, schema, redact=redact)
    _settle(connection, schema)


def _window(start: datetime | None, end: datetime | None) -> str:
    bounds = []
    if start is not None:
        bounds.append(f"received_at >= {literal(start.isoformat())}::timestamptz")
    if end is not None:
        bounds.append(f"received_at < {literal(end.isoformat())}::timestamptz")
    return " AND ".join(bounds) or "true"


def _chunks(
    engine: Engine, schema: str, window: str, found: _Found, *, commit: bool
) -> Iterator[Connection]:
    """A transaction for each chunk of the window's posts, derived into the copies."""
    redact = redact_deleted()
    with processing.session(engine) as connection:
        for column in ("payload_status_id", "payload_reblog_id"):
            last = (0, -1)
            while True:
                with connection.begin() as transaction:
                    processing.prepare(connection)
                    chosen = _choose(connection, schema, window, column, last)
                    if chosen is None:
                        break
                    last, skipped, posts_chosen = chosen
                    found.skipped += skipped
                    found.posts += posts_chosen
                    _derive(connection, schema, redact=redact)
                    yield connection
                    if not commit:
                        transaction.rollback()


def _create_scope(connection: Connection) -> None:
    execute(
        connection,
        "CREATE TEMPORARY TABLE scope_posts (instance_id bigint, post_id bigint,"
        " is_complete boolean NOT NULL, PRIMARY KEY (instance_id, post_id)) ON COMMIT DROP",
    )


def _choose(
    connection: Connection, schema: str, window: str, column: str, last: tuple[int, int]
) -> tuple[tuple[int, int], int, int] | None:
    """Put the next posts of the window into `scope_posts`; the last of them, and how many."""
    _create_scope(connection)
    execute(
        connection,
        f"""
INSERT INTO pg_temp.scope_posts
SELECT c.instance_id, c.post_id, {_complete(schema, "c")} FROM (
  SELECT DISTINCT instance_id, {column} AS post_id FROM {schema}.stream_events
  WHERE {window} AND processed_at IS NOT NULL AND process_error IS NULL
    AND {column} IS NOT NULL AND (instance_id, {column}) > ({last[0]}, {last[1]})
  ORDER BY 1, 2 LIMIT {CHUNK_POSTS}
) AS c""",
    )
    end = execute(
        connection,
        "SELECT instance_id, post_id FROM pg_temp.scope_posts"
        " ORDER BY instance_id DESC, post_id DESC LIMIT 1",
    ).one_or_none()
    if end is None:
        return None
    skipped = execute(connection, "DELETE FROM pg_temp.scope_posts WHERE NOT is_complete").rowcount
    kept = execute(connection, "SELECT count(*) FROM pg_temp.scope_posts").scalar_one()
    return (end.instance_id, end.post_id), skipped, int(kept)


def _complete(schema: str, alias: str) -> str:
    """SQL: whether all events of a post are still in the log."""
    known = " AND ".join(
        f"NOT EXISTS (SELECT FROM {schema}.{table} AS k WHERE k.instance_id = {alias}.instance_id"
        f" AND k.{post} = {alias}.post_id AND k.{at} < l.dropped_before)"
        for table, post, at in (
            ("mastodon_posts", "id", "first_seen_at"),
            ("post_deletions", "post_id", "deleted_at"),
        )
    )
    return f"(SELECT l.dropped_before IS NULL OR ({known}) FROM {PROGRESS} AS l)"


def _late_posts(schema: str) -> str:
    def later(column: str) -> str:
        return (
            f"EXISTS (SELECT FROM {schema}.stream_events AS e"
            f" WHERE e.instance_id = c.instance_id AND e.{column} = c.post_id"
            " AND e.processed_at IS NOT NULL AND e.process_error IS NULL"
            " AND e.received_at >= c.received_at"
            " AND (e.received_at, e.id) > (c.received_at, c.event_id))"
        )

    stages = " UNION ALL ".join(
        f"SELECT instance_id, post_id, received_at, event_id FROM pg_temp.{stage}"
        for stage in ("seen", "listed", "deletes")
    )
    return f"""
INSERT INTO pg_temp.scope_posts
SELECT c.instance_id, c.post_id, {_complete(schema, "c")} FROM (
  SELECT DISTINCT ON (instance_id, post_id) * FROM ({stages}) AS s
  ORDER BY instance_id, post_id, received_at, event_id
) AS c
WHERE {later("payload_status_id")} OR {later("payload_reblog_id")}"""


def _derive(connection: Connection, schema: str, *, redact: bool) -> None:
    """Derive the posts in `scope_posts` from their events into temporary copies of the tables."""
    for stage in parsing.STAGES + posts.STAGES + ("versions",):
        execute(connection, f"DELETE FROM pg_temp.{stage}")
    for table in COPIED:
        execute(
            connection,
            f"CREATE TEMPORARY TABLE {quote(table.name)}"
            f" (LIKE {schema}.{quote(table.name)} INCLUDING ALL) ON COMMIT DROP",
        )
    execute(connection, "ANALYZE pg_temp.scope_posts")
    parsing.parse(connection, schema, _events(schema))
    posts.write_accounts(connection, schema, again=True)
    for stage in ("seen", "listed", "deletes"):
        execute(
            connection,
            f"DELETE FROM pg_temp.{stage} AS s WHERE NOT EXISTS (SELECT FROM pg_temp.scope_posts"
            " AS o WHERE o.instance_id = s.instance_id AND o.post_id = s.post_id)",
        )
    processing.apply(connection, "pg_temp", schema, redact=redact)


def _events(schema: str) -> str:
    """All processed events of the posts in scope, also those that show them within a reblog."""
    chosen = "SELECT e.id, e.received_at, e.instance_id, e.event_type, e.payload"
    done = "e.processed_at IS NOT NULL AND e.process_error IS NULL"
    return f"""
{chosen} FROM pg_temp.scope_posts AS o JOIN {schema}.stream_events AS e
  ON e.instance_id = o.instance_id AND e.payload_status_id = o.post_id WHERE {done}
UNION ALL
{chosen} FROM pg_temp.scope_posts AS o JOIN {schema}.stream_events AS e
  ON e.instance_id = o.instance_id AND e.payload_reblog_id = o.post_id
WHERE {done} AND NOT EXISTS (SELECT FROM pg_temp.scope_posts AS own
  WHERE own.instance_id = e.instance_id AND own.post_id = e.payload_status_id)"""


def _settle(connection: Connection, schema: str) -> dict[str, int]:
    """Bring the stored rows of the posts in scope to the derived ones; rows written, by table."""
    execute(connection, "DELETE FROM pg_temp.touched_posts")
    moved = threads.touch_changing(connection, schema)
    written = {}
    for table, post in COPIED.items():
        written[table.name] = _settle_table(
            connection, table, f"{schema}.{quote(table.name)}", f"pg_temp.{quote(table.name)}", post
        )
    execute(
        connection,
        "INSERT INTO pg_temp.touched_posts SELECT o.instance_id, o.post_id"
        " FROM pg_temp.scope_posts AS o ON CONFLICT DO NOTHING",
    )
    moved += threads.update(connection, schema)
    _expect_threads(connection, schema)
    threads_table = tables.conversation_threads
    written[threads_table.name] = moved + _settle_table(
        connection,
        threads_table,
        f"{schema}.{threads_table.name}",
        "pg_temp.conversation_threads",
        "post_id",
    )
    return {name: number for name, number in written.items() if number}


def _settle_table(
    connection: Connection, table: Table, stored: str, derived: str, post: str
) -> int:
    key, values = _key(table), _values(table)
    same = " AND ".join(f"r.{n} = d.{n}" for n in key)
    scope = _scope("r", post, table)
    changed = execute(
        connection,
        f"DELETE FROM {stored} AS r WHERE {scope}"
        f" AND NOT EXISTS (SELECT FROM {derived} AS d WHERE {same})",
    ).rowcount
    if values:
        changed += execute(
            connection,
            f"UPDATE {stored} AS r SET ({columns(values)}) = ROW({columns(values, 'd')})"
            f" FROM {derived} AS d WHERE {same} AND {_scope('d', post, table)}"
            f" AND ROW({columns(values, 'r')}) IS DISTINCT FROM ROW({columns(values, 'd')})",
        ).rowcount
    every = [*key, *values]
    changed += execute(
        connection,
        f"INSERT INTO {stored} ({columns(every)}) SELECT {columns(every, 'd')}"
        f" FROM {derived} AS d WHERE {_scope('d', post, table)}"
        f" AND NOT EXISTS (SELECT FROM {stored} AS r WHERE {same})",
    ).rowcount
    return int(changed)


def _compare(connection: Connection, schema: str, found: _Found, limit: int) -> None:
    """Note the rows that differ from the derived ones."""
    _expect_threads(connection, schema)
    for table, post in COMPARED.items():
        key, values = _key(table), _values(table)
        every = [*key, *values]
        same = " AND ".join(f"r.{n} = d.{n}" for n in key)
        sides = (
            f"(SELECT {columns(every, a)} FROM {where}.{quote(table.name)} AS {a}"
            f" WHERE {_scope(a, post, table)}) AS {a}"
            for a, where in (("r", schema), ("d", "pg_temp"))
        )
        differ = (
            f"ROW({columns(values, 'r')}) IS DISTINCT FROM ROW({columns(values, 'd')})"
            if values
            else "false"
        )
        differing = execute(
            connection,
            f"SELECT to_jsonb(r) AS stored, to_jsonb(d) AS expected, count(*) OVER () AS number"
            f" FROM {' FULL JOIN '.join(sides)}"
            f" ON {same} WHERE r.{key[0]} IS NULL OR d.{key[0]} IS NULL OR {differ}"
            f" ORDER BY {', '.join(f'coalesce(r.{n}, d.{n})' for n in key)} LIMIT {int(limit)}",
        ).all()
        found.differing += differing[0].number if differing else 0
        for row in differing[: max(0, limit - len(found.differences))]:
            found.differences.append(_difference(table, key, row.stored, row.expected))


def _difference(
    table: Table, key: list[str], stored: dict[str, Any] | None, expected: dict[str, Any] | None
) -> LogDifference:
    problem = "different"
    if stored is None:
        problem = "missing"
    elif expected is None:
        problem = "unexpected"
    known = stored or expected or {}
    return LogDifference(table.name, {n: known[n] for n in key}, problem, stored, expected)


def _key(table: Table) -> list[str]:
    return [c.name for c in table.primary_key]


def _values(table: Table) -> list[str]:
    return [c.name for c in table.c if not c.primary_key and c.computed is None]


def _scope(alias: str, post: str, table: Table) -> str:
    """SQL: whether a row is of a post in scope, and may be compared."""
    condition = (
        "EXISTS (SELECT FROM pg_temp.scope_posts AS o"
        f" WHERE o.instance_id = {alias}.instance_id AND o.post_id = {alias}.{post})"
    )
    if table is tables.post_metric_snapshots:
        condition += f" AND {alias}.captured_at >= now() - {UNTHINNED}"
    return condition


def _expect_threads(connection: Connection, schema: str) -> None:
    """Put into a copy what the posts in scope should have in `conversation_threads`.

    Each is followed upwards by itself, whatever is stored of the others.
    """
    execute(
        connection,
        f"CREATE TEMPORARY TABLE conversation_threads"
        f" (LIKE {schema}.conversation_threads INCLUDING ALL) ON COMMIT DROP",
    )
    execute(
        connection,
        f"""
WITH RECURSIVE up AS (
  SELECT o.instance_id, o.post_id, ARRAY[o.post_id] AS path, p.in_reply_to_id AS next_id
  FROM pg_temp.scope_posts AS o
  JOIN {schema}.mastodon_posts AS p ON p.instance_id = o.instance_id AND p.id = o.post_id
  UNION ALL
  SELECT u.instance_id, u.post_id, u.path || u.next_id, p.in_reply_to_id
  FROM up AS u
  LEFT JOIN {schema}.mastodon_posts AS p ON p.instance_id = u.instance_id AND p.id = u.next_id
  WHERE u.next_id IS NOT NULL AND u.next_id <> ALL (u.path)
), ended AS (
  SELECT DISTINCT ON (instance_id, post_id) instance_id, post_id, path,
    CASE WHEN next_id IS NULL THEN path[cardinality(path)] ELSE (
      SELECT min(c.id) FROM unnest(path[array_position(path, next_id):]) AS c (id)) END AS root
  FROM up ORDER BY instance_id, post_id, cardinality(path) DESC
)
INSERT INTO pg_temp.conversation_threads
SELECT e.instance_id, e.post_id, e.root, array_position(e.path, e.root) - 1, (
    SELECT count(*) FROM {schema}.mastodon_posts AS r
    WHERE r.instance_id = e.instance_id AND r.in_reply_to_id = e.post_id AND r.deleted_at IS NULL)
FROM ended AS e""",
    )
