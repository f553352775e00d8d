"""Deriving posts again from all their events that are kept, into temporary copies of the tables.

By the same statements that process events. The posts are those in the temporary table
`scope_posts`. Invariants: a post whose earliest events were dropped with their days cannot
be derived again, and never gets there.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from assets.fediverse.processing import parsing, posts, write_posts
from assets.fediverse.processing.functions import PROGRESS
from assets.fediverse.processing.reconcile import COPIED, settle
from tallykeeper.database.sql import execute, literal, quote

CHUNK_POSTS = 2_000


@dataclass(frozen=True)
class Log:
    """What posts are derived from: a relation of events, in SQL, that has all that are kept.

    `incomplete_before` is the column of the log's progress that says before when some are missing.
    """

    relation: str
    incomplete_before: str = "dropped_before"


def stored_log(schema: str) -> Log:
    """The events in the database. `schema` is the quoted schema of the raw tables."""
    return Log(f"{schema}.stream_events")


def set_aside_late(connection: Connection, schema: str) -> int:
    """Take out of the batch the posts of which later events were processed; how many.

    They are kept in `scope_posts`, to be derived from all their events. Where those are not all
    kept any more, the post stays in the batch, marked as late.
    """
    overtaken = execute(
        connection,
        f"SELECT EXISTS (SELECT FROM pg_temp.batch AS t, {PROGRESS} AS l"
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
    """Derive the posts that were set aside, and write what differs.

    With all their snapshots, as if the events had been processed in order of their receipt.
    """
    derive(connection, schema, stored_log(schema), redact=redact)
    settle(connection, schema, thinned=False)


def _create_scope(connection: Connection) -> None:
    ids = write_posts.id_type(connection)
    execute(
        connection,
        f"CREATE TEMPORARY TABLE scope_posts (instance_id bigint, post_id {ids},"
        " is_complete boolean NOT NULL, PRIMARY KEY (instance_id, post_id)) ON COMMIT DROP",
    )


def choose(
    connection: Connection, schema: str, log: Log, window: str, column: str, last: tuple[int, str]
) -> tuple[tuple[int, str], int, int] | None:
    """Put the next posts of some events into `scope_posts`; None where there are no more.

    `window` is a condition on the events, `column` that which names the post, `last` the instance
    and post after which to go on. Returns the last of them, and how many were skipped and chosen.
    """
    _create_scope(connection)
    # By bytes everywhere: the log may be in another collation, and pages have to follow each other.
    place = f'(instance_id, {column} COLLATE "C") > ({last[0]}, {literal(last[1])})'
    execute(
        connection,
        f"""
INSERT INTO pg_temp.scope_posts
SELECT c.instance_id, c.post_id, {_complete(schema, "c", log)} FROM (
  SELECT DISTINCT instance_id, {column} COLLATE "C" AS post_id FROM {log.relation} AS e
  WHERE {window} AND processed_at IS NOT NULL AND process_error IS NULL
    AND {column} IS NOT NULL AND {place}
  ORDER BY 1, 2 LIMIT {CHUNK_POSTS}
) AS c""",
    )
    end = execute(
        connection,
        "SELECT instance_id, post_id FROM pg_temp.scope_posts"
        ' ORDER BY instance_id DESC, post_id COLLATE "C" DESC LIMIT 1',
    ).one_or_none()
    if end is None:
        return None
    skipped = execute(connection, "DELETE FROM pg_temp.scope_posts WHERE NOT is_complete").rowcount
    kept = execute(connection, "SELECT count(*) FROM pg_temp.scope_posts").scalar_one()
    return (end.instance_id, end.post_id), skipped, int(kept)


def _complete(schema: str, alias: str, log: Log) -> str:
    """SQL: whether all events of a post are still in the log."""
    before = f"l.{log.incomplete_before}"
    known = " AND ".join(
        f"NOT EXISTS (SELECT FROM {schema}.{table} AS k WHERE k.instance_id = {alias}.instance_id"
        f" AND k.{post} = {alias}.post_id AND k.{at} < {before})"
        for table, post, at in (
            ("mastodon_posts", "id", "first_seen_at"),
            ("post_deletions", "post_id", "deleted_at"),
        )
    )
    return f"(SELECT {before} IS NULL OR ({known}) FROM {PROGRESS} AS l)"


def _late_posts(schema: str) -> str:
    def later(column: str) -> str:
        return (
            f"EXISTS (SELECT FROM {schema}.stream_events AS e"
            f' WHERE e.instance_id = c.instance_id AND e.{column} COLLATE "C" = c.post_id'
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
SELECT c.instance_id, c.post_id, {_complete(schema, "c", stored_log(schema))} FROM (
  SELECT DISTINCT ON (instance_id, post_id) * FROM ({stages}) AS s
  ORDER BY instance_id, post_id, received_at, event_id
) AS c
WHERE {later("payload_status_id")} OR {later("payload_reblog_id")}"""


def derive(connection: Connection, schema: str, log: Log, *, redact: bool) -> None:
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
    parsing.parse(connection, schema, _events(log))
    posts.write_accounts(connection, schema, again=True)
    for stage in ("seen", "listed", "deletes"):
        execute(
            connection,
            f"DELETE FROM pg_temp.{stage} AS s WHERE NOT EXISTS (SELECT FROM pg_temp.scope_posts"
            " AS o WHERE o.instance_id = s.instance_id AND o.post_id = s.post_id)",
        )
    write_posts.apply(connection, "pg_temp", schema, redact=redact)


def _events(log: Log) -> str:
    """All processed events of the posts in scope, also those that show them within a reblog."""
    chosen = "SELECT e.id, e.received_at, e.instance_id, e.event_type, e.payload::jsonb AS payload"
    done = "e.processed_at IS NOT NULL AND e.process_error IS NULL"
    return f"""
{chosen} FROM pg_temp.scope_posts AS o JOIN {log.relation} AS e
  ON e.instance_id = o.instance_id AND e.payload_status_id COLLATE "C" = o.post_id WHERE {done}
UNION ALL
{chosen} FROM pg_temp.scope_posts AS o JOIN {log.relation} AS e
  ON e.instance_id = o.instance_id AND e.payload_reblog_id COLLATE "C" = o.post_id
WHERE {done} AND NOT EXISTS (SELECT FROM pg_temp.scope_posts AS own
  WHERE own.instance_id = e.instance_id AND own.post_id = e.payload_status_id COLLATE "C")"""
