"""The rows of an application's tables that were not brought over, counted, and why.

Nothing is left out without a word: each kind of row is counted whole, the first ones are named.
What a row of a known post says beside the post is no such row: a known post is not touched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Row

from assets.fediverse.adoption import sql as statements
from assets.fediverse.adoption.tables import Old
from assets.fediverse.processing.functions import ID, TIME
from assets.fediverse.tables import mastodon_posts, stream_events
from tallykeeper.database.sql import name_of

SHOWN = 5

# What a table's rows are called.
KINDS = {
    "mastodon_posts": "posts",
    "mastodon_accounts": "accounts",
    "post_versions": "versions",
    "post_metric_snapshots": "snapshots",
    "post_sentiments": "sentiments",
    "stream_events": "raw events",
}
_ROW = "coalesce(to_jsonb(o) ->> 'id', to_jsonb(o) ->> 'post_id', 'without id')"


@dataclass
class LeftOut:
    """So many rows of a table, and of the first ones which and why, a sentence each."""

    rows: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, which: str, why: str) -> None:
        """Count a row, and name it where there is room."""
        self.rows += 1
        if len(self.first) < SHOWN:
            self.first.append(f"{which}: {why}")

    def add_counted(self, rows: Sequence[Row[Any]]) -> None:
        """Count what `counted` returned: all of it, and name these."""
        for row in rows:
            self.add(row.id, row.why)
        if rows:
            self.rows += rows[0].rows - len(rows)


class AllLeftOut(dict[str, LeftOut]):
    """What was left out, by the table's name."""

    def of(self, table: str) -> LeftOut:
        """What was left out of that table."""
        return self.setdefault(table, LeftOut())

    def sentences(self) -> Iterator[str]:
        """What is said of it."""
        for table, kind in KINDS.items():
            if table in self and self[table].rows:
                yield f"left out {self[table].rows:,} {kind}:"
                yield from (f"  {sentence}" for sentence in self[table].first)


def of_instance(old: Old, there: str | None, here: int) -> dict[str, str]:
    """SELECTs of the rows of an instance that were not brought over, by table."""
    queries: dict[str, Callable[[], str]] = {
        "mastodon_posts": lambda: _posts(old, there),
        "mastodon_accounts": lambda: _accounts(old, there),
        "post_versions": lambda: _versions(old, there),
        "post_metric_snapshots": lambda: _snapshots(old, there),
        "post_sentiments": lambda: _sentiments(old, there, here),
        "stream_events": lambda: _events(old, there),
    }
    return {table: query() for table, query in queries.items() if not old.lacks(table)}


def of_no_instance(old: Old) -> dict[str, str]:
    """SELECTs of the rows of no instance, and of all of a table of which nothing can be made."""
    queries = {}
    for table in KINDS:
        if table in old.columns and old.lacks(table):
            queries[table] = (
                f"SELECT 'all' AS id, 'there is no column {', '.join(old.lacks(table))}' AS why"
                f" FROM {old.table(table)}"
            )
        elif table in old.columns and old.knows_instances:
            queries[table] = _of_no_instance(old, table)
    return queries


def counted(queries: Callable[[Old], dict[str, str]], table: str, old: Old) -> str:
    """A SELECT of the first rows that a query of these returns, each with the number of all."""
    # OFFSET: else the reason would be looked for already where the row is found to be here.
    return (
        "SELECT id, why, count(*) OVER () AS rows"
        f" FROM ({queries(old)[table]} OFFSET 0) AS found WHERE why IS NOT NULL ORDER BY id, why"
        f" LIMIT {SHOWN}"
    )


def _of_no_instance(old: Old, table: str) -> str:
    return (
        f"SELECT {_ROW} AS id, 'instance_id: expected one of the table instances, came '"
        " || coalesce(quote_literal(o.instance_id::text), 'nothing') AS why"
        f" FROM {old.table(table)} AS o WHERE NOT EXISTS ("
        f"SELECT FROM {old.table('instances')} AS i WHERE i.id::text = o.instance_id::text)"
    )


def _posts(old: Old, there: str | None) -> str:
    """A SELECT of the posts there that are not here, and why."""
    events = name_of(stream_events)
    return f"""
SELECT coalesce(p.id::text, 'without id') AS id, coalesce(
  (SELECT e.process_error FROM {events} AS e WHERE e.instance_id = :here
    AND e.payload_status_id = p.id::text AND e.event_type = 'status'
    AND e.process_error IS NOT NULL ORDER BY e.received_at DESC, e.id DESC LIMIT 1),
  CAST(:refused AS jsonb) ->> p.id::text,
  CASE WHEN p.id IS NULL THEN 'id: expected one, came nothing'
    WHEN {ID}(to_jsonb(p.id::text)) IS NULL THEN 'no server has such an id' END,
  {_reblogs_unknown(old, there)}
  'it came meanwhile; run the command again') AS why
FROM {old.table("mastodon_posts")} AS p
WHERE {old.of("mastodon_posts", "p", there)} AND NOT EXISTS (
  SELECT FROM {name_of(mastodon_posts)} AS h WHERE h.instance_id = :here AND h.id = p.id::text)"""


def _reblogs_unknown(old: Old, there: str | None) -> str:
    if not old.has("mastodon_posts", "reblog_of_id"):
        return ""
    inner = old.same(("q", "mastodon_posts", "id"), ("p", "mastodon_posts", "reblog_of_id"))
    return f"""CASE WHEN p.reblog_of_id IS NOT NULL AND NOT EXISTS (
    SELECT FROM {old.table("mastodon_posts")} AS q
    WHERE {inner} AND {old.of("mastodon_posts", "q", there)})
    THEN 'it reblogs ' || p.reblog_of_id::text || ', which is not in the table' END,"""


def _accounts(old: Old, there: str | None) -> str:
    return (
        "SELECT coalesce(o.id::text, 'without id') AS id,"
        f" CASE WHEN {ID}(to_jsonb(o.id::text)) IS NULL THEN 'no server has such an id' END AS why"
        f" FROM {old.table('mastodon_accounts')} AS o"
        f" WHERE {old.of('mastodon_accounts', 'o', there)}"
    )


def _of_post(old: Old, table: str, there: str | None, more: str) -> str:
    """A SELECT of the rows of a table beside the posts, and why nothing is made of them."""
    posts = old.table("mastodon_posts")
    same = old.same(("p", "mastodon_posts", "id"), ("o", table, "post_id"))
    return f"""
SELECT {_ROW} AS id, CASE
    WHEN NOT EXISTS (SELECT FROM {posts} AS p
      WHERE {same} AND {old.of("mastodon_posts", "p", there)})
    THEN 'post_id: expected a post of the table, came '
      || coalesce(quote_literal(o.post_id::text), 'nothing')
    ELSE {more} END AS why
FROM {old.table(table)} AS o WHERE {old.of(table, "o", there)}"""


def _versions(old: Old, there: str | None) -> str:
    came = "to_jsonb(o.valid_from) #>> '{}'"
    why = (
        f"CASE WHEN {TIME}({came}) IS NULL THEN 'valid_from: expected an ISO 8601 time, came '"
        f" || coalesce(quote_literal({came}), 'nothing') END"
    )
    return _of_post(old, "post_versions", there, why)


def _snapshots(old: Old, there: str | None) -> str:
    return _of_post(old, "post_metric_snapshots", there, statements.unreadable("to_jsonb(o)"))


def _sentiments(old: Old, there: str | None, here: int) -> str:
    return (
        "SELECT coalesce(s ->> 'id', post_id, 'without id') AS id, 'no version of the post '"
        " || coalesce(post_id, '') || ' is known to be the one it was said of' AS why"
        f" FROM {statements.judged(old, there, here)} WHERE content_hash IS NULL"
    )


def _events(old: Old, there: str | None) -> str:
    """Those without an id: why others cannot come is seen when they are read."""
    return (
        "SELECT 'without id' AS id, 'id: expected one, came nothing' AS why"
        f" FROM {old.table('stream_events')} AS o"
        f" WHERE o.id IS NULL AND {old.of('stream_events', 'o', there)}"
    )
