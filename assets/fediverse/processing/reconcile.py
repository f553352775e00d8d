"""Stored rows of some posts against those derived from their events: written, or only named.

The posts are those in `scope_posts`, the derived rows are in temporary copies of the tables.
Invariants: rows that are right are not written; a snapshot that thinning may have deleted is not
missed, and one that it would delete is not expected.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table

from assets.fediverse import tables
from assets.fediverse.processing import threads
from assets.fediverse.storage.thinning import ALL_FOR, HOURLY_FOR, SUPERFLUOUS
from tallykeeper.database.sql import columns, execute, quote

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
# Derived from all posts together; compared and repaired with them.
COMPARED = {**COPIED, tables.conversation_threads: "post_id"}


_KEPT_LATER = ("meta_json",)


@dataclass(frozen=True)
class LogDifference:
    """A row that is not what the log says: `problem` is missing, unexpected or different."""

    table: str
    key: dict[str, Any]
    problem: str
    stored: dict[str, Any] | None
    expected: dict[str, Any] | None


def settle(connection: Connection, schema: str, *, thinned: bool) -> dict[str, int]:
    """Bring the stored rows of the posts in scope to the derived ones; rows written, by table.

    With `thinned`, snapshots are not added that thinning would delete again.
    """
    execute(connection, "DELETE FROM pg_temp.touched_posts")
    moved = threads.touch_changing(connection, schema)
    written = {}
    for table, post in COPIED.items():
        written[table.name] = _settle_table(
            connection,
            table,
            f"{schema}.{quote(table.name)}",
            f"pg_temp.{quote(table.name)}",
            post,
            thinned and table is tables.post_metric_snapshots,
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
    connection: Connection,
    table: Table,
    stored: str,
    derived: str,
    post: str,
    thinned: bool = False,
) -> int:
    key, values = _key(table), _values(table)
    same = " AND ".join(f"r.{n} = d.{n}" for n in key)
    scope = _scope("r", post)
    changed = execute(
        connection,
        f"DELETE FROM {stored} AS r WHERE {scope}"
        f" AND NOT EXISTS (SELECT FROM {derived} AS d WHERE {same})",
    ).rowcount
    if values:
        changed += execute(
            connection,
            f"UPDATE {stored} AS r SET ({columns(values)}) = ROW({columns(values, 'd')})"
            f" FROM {derived} AS d WHERE {same} AND {_scope('d', post)}"
            f" AND ROW({columns(values, 'r')}) IS DISTINCT FROM ROW({columns(values, 'd')})",
        ).rowcount
    every = [*key, *values]
    changed += execute(
        connection,
        f"INSERT INTO {stored} ({columns(every)}) SELECT {columns(every, 'd')}"
        f" FROM {_thinned(derived) if thinned else derived} AS d WHERE {_scope('d', post)}"
        f" AND NOT EXISTS (SELECT FROM {stored} AS r WHERE {same})",
    ).rowcount
    return int(changed)


def compare(connection: Connection, schema: str, limit: int) -> tuple[int, list[LogDifference]]:
    """How many rows differ from the derived ones, and at most `limit` of them."""
    differing = 0
    differences: list[LogDifference] = []
    _expect_threads(connection, schema)
    for table, post in COMPARED.items():
        key, values = _key(table), _values(table)
        every = [*key, *values]
        same = " AND ".join(f"r.{n} = d.{n}" for n in key)
        sides = (
            f"(SELECT {columns(every, a)} FROM {where}.{quote(table.name)} AS {a}"
            f" WHERE {_scope(a, post)})"
            for a, where in (("r", schema), ("d", "pg_temp"))
        )
        if table is tables.post_metric_snapshots:
            sides = (_thinned(side) for side in sides)
        left, right = sides
        differ = _differ(values) if values else "false"
        found = execute(
            connection,
            f"SELECT to_jsonb(r) AS stored, to_jsonb(d) AS expected, count(*) OVER () AS number"
            f" FROM {left} AS r FULL JOIN {right} AS d"
            f" ON {same} WHERE r.{key[0]} IS NULL OR d.{key[0]} IS NULL OR {differ}"
            f" ORDER BY {', '.join(f'coalesce(r.{n}, d.{n})' for n in key)}"
            f" LIMIT {max(1, int(limit))}",
        ).all()
        differing += found[0].number if found else 0
        differences += [
            _difference(table, key, row.stored, row.expected)
            for row in found[: max(0, limit - len(differences))]
        ]
    return differing, differences


def _differ(values: list[str]) -> str:
    """SQL: whether a stored row is not as derived; what earlier releases did not keep is no fault.

    A replay fills it in.
    """
    stored = (f"coalesce(r.{n}, d.{n})" if n in _KEPT_LATER else f"r.{quote(n)}" for n in values)
    return f"ROW({', '.join(stored)}) IS DISTINCT FROM ROW({columns(values, 'd')})"


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


def _scope(alias: str, post: str) -> str:
    """SQL: whether a row is of a post in scope."""
    return (
        "EXISTS (SELECT FROM pg_temp.scope_posts AS o"
        f" WHERE o.instance_id = {alias}.instance_id AND o.post_id = {alias}.{post})"
    )


def _thinned(snapshots: str) -> str:
    """SQL: those snapshots that thinning leaves now; a relation, which holds all of each post."""
    superfluous = SUPERFLUOUS
    for name, age in (("hourly", ALL_FOR), ("daily", HOURLY_FOR)):
        seconds = int(age.total_seconds())
        superfluous = superfluous.replace(f":{name}", f"(now() - interval '{seconds} seconds')")
    return (
        "(SELECT * FROM (SELECT *, lead(captured_at) OVER"
        " (PARTITION BY instance_id, post_id ORDER BY captured_at) AS next"
        f" FROM {snapshots} AS s) AS s WHERE ({superfluous}) IS NOT TRUE)"
    )


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
      SELECT min(c.id COLLATE "C")
      FROM unnest(path[array_position(path, next_id):]) AS c (id)) END AS root
  FROM up ORDER BY instance_id, post_id, cardinality(path) DESC
)
INSERT INTO pg_temp.conversation_threads
SELECT e.instance_id, e.post_id, e.root, array_position(e.path, e.root) - 1, (
    SELECT count(*) FROM {schema}.mastodon_posts AS r
    WHERE r.instance_id = e.instance_id AND r.in_reply_to_id = e.post_id AND r.deleted_at IS NULL)
FROM ended AS e""",
    )
