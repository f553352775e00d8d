"""What posts gained in a span: a count at its end against the same count at its start.

Read from the snapshots, so exact as of the last commit that the connection sees. Invariants: a post
had nothing when it was created, so of one created within the span all is gained; of one that is
older, and was first seen within it, what it had by then is no gain.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

from sqlalchemy import Connection

from assets.fediverse import tables
from assets.fediverse.questions import query_args
from assets.fediverse.questions.query_args import written
from tallykeeper.database import sql

MOST_POSTS = 10_000

Baseline = Literal["creation", "first_seen", "zero"]
"""What stands for the count at the start of a post without any snapshot until then."""


@dataclass(frozen=True)
class Velocity:
    """A post and what it gained: `gained` is `favourites` less `favourites_before`."""

    post_id: str
    account_id: str
    url: str | None
    gained: int
    favourites_before: int
    favourites: int
    before_at: datetime
    """When the earlier of the two counts was seen; of a count from creation, the creation."""
    seen_at: datetime


@dataclass(frozen=True)
class Rise:
    """A post and how much its engagement grew: `growth` is `gained` / `engagement_before`.

    So 3.0 is an increase by 300 percent.
    """

    post_id: str
    account_id: str
    url: str | None
    growth: float
    gained: int
    engagement_before: int
    engagement: int
    before_at: datetime
    seen_at: datetime


def engagement_velocity(
    connection: Connection,
    instance_id: int,
    start: datetime,
    end: datetime,
    more_than: int,
    *,
    baseline: Baseline = "creation",
    limit: int = 100,
) -> list[Velocity]:
    """Posts that gained more than `more_than` favourites from `start` to `end`, most first.

    The last snapshot at or before the end, less the last at or before the start. Of a post without
    one until then `baseline` says what stands for it: "creation", 0 where it was created at or
    after the start, else its first snapshot in between; "first_seen", that snapshot always;
    "zero", 0 always. Counts may fall. Deleted posts, and those that not everybody may see, are
    left out; equal ones are ordered by the bytes of their ids. Raises ValueError for what cannot
    be asked, NotInstalled where the tables are not there.
    """
    query_args.whole_number("more_than", more_than, query_args.LARGEST_COUNT, least=0)
    compared = _compared(instance_id, (start, end), "favourites_count", baseline, limit)
    query = f"""
SELECT id, account_id, url, last_count - count_before, count_before, last_count, before_at, last_at
FROM ({compared}) AS z WHERE last_count - count_before > {more_than}
ORDER BY 4 DESC, id COLLATE "C" LIMIT {limit}"""
    return query_args.answers(connection, query, f"the table {_snapshots}", Velocity)


def rising_posts(
    connection: Connection,
    instance_id: int,
    start: datetime,
    end: datetime,
    *,
    above: float = 1.0,
    minimum_before: int = 10,
    limit: int = 100,
) -> list[Rise]:
    """Posts whose engagement grew by more than `above` times what it was, most first.

    From `start` to `end`, as `engagement_velocity` compares; `above=3.0` lists those that increased
    by more than 300 percent. Posts with less than `minimum_before` (1 or more) engagement before
    are left out: of nothing there is no percentage. Errors are those of `engagement_velocity`.
    """
    query_args.whole_number("minimum_before", minimum_before, query_args.LARGEST_COUNT)
    over = query_args.number("above", above, 0)
    compared = _compared(instance_id, (start, end), "engagement_score", "creation", limit)
    growth = "(last_count - count_before)::float8 / nullif(count_before, 0)"
    query = f"""
SELECT id, account_id, url, {growth}, last_count - count_before, count_before, last_count,
  before_at, last_at
FROM ({compared}) AS z WHERE count_before >= {minimum_before} AND {growth} > {over!r}
ORDER BY 4 DESC, id COLLATE "C" LIMIT {limit}"""
    return query_args.answers(connection, query, f"the table {_snapshots}", Rise)


def _compared(
    instance_id: int,
    span: tuple[datetime, datetime],
    column: str,
    baseline: Baseline,
    limit: int,
) -> str:
    """SQL: each post seen in the span with `count_before` and `last_count`. Raises ValueError."""
    instance = query_args.one_of_many(query_args.identifier("instance_id", instance_id))
    query_args.whole_number("limit", limit, MOST_POSTS)
    first, last = (written(moment) for moment in query_args.span(*span))
    if baseline not in _UNSEEN:
        raise ValueError(
            f"Expected `baseline` to be one of {', '.join(get_args(Baseline))}, but it is"
            f" {baseline!r}."
        )
    unseen, unseen_at = (each.format(start=first) for each in _UNSEEN[baseline])
    # Snapshots of a span are read once, and others of a post by the post: thousands may share an
    # instant, as where a file does not say when its events were received.
    return f"""
SELECT p.id, p.account_id, p.url, seen.last_at, seen.last_count,
  CASE WHEN s.post_id = seen.post_id THEN s.captured_at ELSE {unseen_at} END AS before_at,
  CASE WHEN s.post_id = seen.post_id THEN s.{column} ELSE {unseen} END AS count_before
FROM (
  SELECT post_id, min(captured_at) AS first_at, max(captured_at) AS last_at,
    (array_agg({column} ORDER BY captured_at))[1] AS first_count,
    (array_agg({column} ORDER BY captured_at DESC))[1] AS last_count
  FROM {_snapshots} WHERE instance_id = {instance}
    AND captured_at > {first} AND captured_at <= {last}
  GROUP BY post_id
) AS seen
LEFT JOIN LATERAL (
  -- Compared as a row, for the index by posts alone can answer that.
  SELECT s.post_id, s.captured_at, s.{column} FROM {_snapshots} AS s
  WHERE s.instance_id = {instance}
    AND (s.post_id, s.captured_at) <= (seen.post_id, {first})
  ORDER BY s.post_id DESC, s.captured_at DESC LIMIT 1
) AS s ON true
JOIN {_posts} AS p ON p.instance_id = {instance} AND p.id = seen.post_id
WHERE p.deleted_at IS NULL AND p.visibility IN ('public', 'unlisted')"""


# The count and its moment. A server's clock may be ahead: no post is seen before it is created.
_UNSEEN = {
    "creation": (
        "CASE WHEN p.created_at >= {start} THEN 0 ELSE first_count END",
        "CASE WHEN p.created_at >= {start} THEN least(p.created_at, first_at) ELSE first_at END",
    ),
    "first_seen": ("first_count", "first_at"),
    "zero": ("0", "{start}"),
}
_posts = sql.name_of(tables.mastodon_posts)
_snapshots = sql.name_of(tables.post_metric_snapshots)
