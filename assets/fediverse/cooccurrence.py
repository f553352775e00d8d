"""Which hashtags are used together, in the same posts.

Read from the posts themselves, so exact as of the last commit that the connection sees. Posts are
those that the tallies count: not deleted, and public or unlisted.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from assets.fediverse import asking, tables
from assets.fediverse.asking import written
from assets.fediverse.series import hashtag_id
from tallies import sql

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
    instance = asking.identifier("instance_id", instance_id)
    first, last = asking.span(start, end)
    asking.whole_number("limit", limit, MOST_PAIRS)
    if hashtag is None:
        pairs = "b.hashtag_id > a.hashtag_id"
        names = "least(ta.c_name, tb.c_name), greatest(ta.c_name, tb.c_name)"
    else:
        pairs = f"b.hashtag_id <> a.hashtag_id AND a.hashtag_id = {hashtag_id(instance, hashtag)}"
        names = "ta.c_name, tb.c_name"
    # By bytes, so that no database's collation changes the order.
    named = (
        f'(SELECT id, name COLLATE "C" AS c_name FROM {_hashtags} WHERE instance_id = {instance})'
    )
    query = f"""
SELECT {names}, c.posts, c.accounts
FROM (
  SELECT a.hashtag_id AS one, b.hashtag_id AS other, count(*) AS posts,
    count(DISTINCT p.account_id) AS accounts
  FROM {sql.name_of(tables.mastodon_posts)} AS p
  JOIN {_uses} AS a ON a.instance_id = p.instance_id AND a.post_id = p.id
  JOIN {_uses} AS b ON b.instance_id = p.instance_id AND b.post_id = p.id AND {pairs}
  WHERE p.instance_id = {instance} AND p.deleted_at IS NULL
    AND p.visibility IN ('public', 'unlisted')
    AND p.created_at >= {written(first)} AND p.created_at < {written(last)}
  GROUP BY a.hashtag_id, b.hashtag_id
) AS c
JOIN {named} AS ta ON ta.id = c.one
JOIN {named} AS tb ON tb.id = c.other
ORDER BY c.posts DESC, 1, 2 LIMIT {limit}"""
    return asking.answers(connection, query, f"the table {_uses}", Pair)


_uses = sql.name_of(tables.post_hashtags)
_hashtags = sql.name_of(tables.hashtags)
