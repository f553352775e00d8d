"""Which hashtags are used together, in the same posts.

Read from the posts themselves, so exact as of the last commit that the connection sees. Posts are
those that the tallies count: not deleted, and public or unlisted.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from assets.fediverse import tables
from assets.fediverse.processing.functions import HASHTAG
from assets.fediverse.questions import json_hashtags, query_args
from assets.fediverse.questions.query_args import written
from assets.fediverse.questions.series import hashtag_id
from tallykeeper.database import sql

MOST_PAIRS = 10_000


@dataclass(frozen=True)
class Pair:
    """Two hashtags, and how many posts have both, by how many accounts."""

    hashtag: str
    other: str
    posts: int
    accounts: int


def hashtag_cooccurrence(
    connection: Connection,
    instance_id: int,
    hashtag: str | None,
    start: datetime,
    end: datetime,
    *,
    limit: int = 20,
) -> list[Pair]:
    """What is used together with `hashtag`, or with None all pairs, most posts first.

    Of posts created from `start` up to `end`. Equal pairs are ordered by their names; with None
    the first of a pair is the one that comes first by name. Raises ValueError for what cannot be
    asked, NotInstalled where the tables are not there.
    """
    instance = query_args.identifier("instance_id", instance_id)
    first, last = query_args.span(start, end)
    query_args.whole_number("limit", limit, MOST_PAIRS)
    given = None if hashtag is None else sql.literal(query_args.storable("hashtag", hashtag))
    if json_hashtags.rows_are_missing(connection, instance, first, last):
        query = _from_json(instance, given, (first, last), limit)
        return query_args.answers(connection, query, f"the table {_uses}", Pair)
    any_of = query_args.one_of_many(instance)
    posts, pairs = f"{_posts} AS p", "b.id > a.id"
    names = "least(ta.c_name, tb.c_name), greatest(ta.c_name, tb.c_name)"
    which = (
        f"p.instance_id = {any_of} AND p.deleted_at IS NULL"
        " AND p.visibility IN ('public', 'unlisted')"
        f" AND p.created_at >= {written(first)} AND p.created_at < {written(last)}"
    )
    if hashtag is not None:
        one = hashtag_id(instance, hashtag)
        pairs, names = f"b.id <> a.id AND a.id = {one}", "ta.c_name, tb.c_name"
        # From the hashtag's uses to its posts, each by its id and not by the time of all of them.
        which = which.replace("p.created_at", "(p.created_at + interval '0')")
        posts = (
            f"{_uses} AS t CROSS JOIN LATERAL (SELECT p.id, p.account_id FROM {_posts} AS p"
            f" WHERE {which} AND p.id = t.post_id OFFSET 0) AS p"
        )
        which = f"t.instance_id = {any_of} AND t.hashtag_id = {one}"
    # By bytes, so that no database's collation changes the order.
    named = f'(SELECT id, name COLLATE "C" AS c_name FROM {_hashtags} WHERE instance_id = {any_of})'
    # The pairs of a post are made of its own hashtags and not by joining uses with uses: of an
    # instance that was loaded a moment ago the planner knows nothing, and would join one by one.
    query = f"""
SELECT {names}, c.posts, c.accounts
FROM (
  SELECT a.id AS one, b.id AS other, count(*) AS posts, count(DISTINCT p.account_id) AS accounts
  FROM (
    SELECT p.account_id, ARRAY(
      SELECT u.hashtag_id FROM {_uses} AS u
      WHERE u.instance_id = {any_of} AND u.post_id = p.id
    ) AS used
    FROM {posts} WHERE {which}
    OFFSET 0
  ) AS p, unnest(p.used) AS a (id), unnest(p.used) AS b (id)
  WHERE {pairs}
  GROUP BY a.id, b.id
) AS c
JOIN {named} AS ta ON ta.id = c.one
JOIN {named} AS tb ON tb.id = c.other
ORDER BY c.posts DESC, 1, 2 LIMIT {limit}"""
    return query_args.answers(connection, query, f"the table {_uses}", Pair)


def _from_json(
    instance: int, hashtag: str | None, span: tuple[datetime, datetime], limit: int
) -> str:
    """The same by names, of posts some of which have their hashtags in their JSON alone.

    `hashtag` is written as SQL.
    """
    pairs = "a.name < b.name"
    if hashtag is not None:
        pairs = f"a.name <> b.name AND a.name = {HASHTAG}({hashtag})"
    return f"""
WITH used AS MATERIALIZED (
  SELECT p.id, p.account_id, n.name COLLATE "C" AS name
  FROM {_posts} AS p CROSS JOIN LATERAL {json_hashtags.names_of()} AS n
  WHERE p.instance_id = {query_args.one_of_many(instance)} AND {json_hashtags.COUNTED}
    AND p.created_at >= {written(span[0])} AND p.created_at < {written(span[1])}
)
SELECT a.name, b.name, count(*), count(DISTINCT a.account_id)
FROM used AS a JOIN used AS b ON b.id = a.id WHERE {pairs}
GROUP BY a.name, b.name ORDER BY 3 DESC, 1, 2 LIMIT {limit}"""


_posts = sql.name_of(tables.mastodon_posts)
_uses = sql.name_of(tables.post_hashtags)
_hashtags = sql.name_of(tables.hashtags)
