"""The counts of one post over time, as its snapshots have them.

Exact as of the last commit that the connection sees. Snapshots that thinning has deleted are not
among them: all of the last 7 days, the last of each hour of 30, then the last of each day.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from assets.fediverse import tables
from assets.fediverse.questions import query_args
from assets.fediverse.questions.query_args import written
from tallykeeper.database import sql
from tallykeeper.reads.live_reads import read

MOST_COUNTS = 10_000


@dataclass(frozen=True)
class PostCounts:
    """What a post had when it was seen at `captured_at`."""

    captured_at: datetime
    replies_count: int
    reblogs_count: int
    favourites_count: int
    engagement_score: int


@dataclass(frozen=True)
class PostSeries:
    """A post's counts, oldest first. At `created_at` it had none; that is not one of them.

    `created_at` is None where nothing but the deletion is known.
    """

    instance_id: int
    post_id: str
    created_at: datetime | None
    deleted_at: datetime | None
    counts: tuple[PostCounts, ...]


def post_series(
    connection: Connection,
    instance_id: int,
    post_id: str,
    start: datetime | None = None,
    end: datetime | None = None,
    *,
    limit: int = 1_000,
) -> PostSeries | None:
    """The latest `limit` counts of a post from `start` up to `end`; None where nothing is known.

    Both ends are open where they are left out. Raises ValueError for invalid arguments,
    NotInstalled where the tables are not there.
    """
    instance = query_args.identifier("instance_id", instance_id)
    post = query_args.post_id(post_id)
    given = sql.literal(post)
    query_args.whole_number("limit", limit, MOST_COUNTS)
    query = f"""
SELECT p.created_at, coalesce(p.deleted_at, d.deleted_at), s.captured_at, s.replies_count,
  s.reblogs_count, s.favourites_count, s.engagement_score
FROM (SELECT 1) AS one
LEFT JOIN {_posts} AS p ON p.instance_id = {instance} AND p.id = {given}
LEFT JOIN {_deletions} AS d ON d.instance_id = {instance} AND d.post_id = {given}
LEFT JOIN (
  SELECT * FROM {_snapshots}
  WHERE instance_id = {instance} AND post_id = {given}{_within(start, end)}
  ORDER BY captured_at DESC LIMIT {limit}
) AS s ON p.id IS NOT NULL
WHERE p.id IS NOT NULL OR d.post_id IS NOT NULL
ORDER BY s.captured_at"""
    rows = [
        tuple(query_args.in_utc(value) for value in row)
        for row in read(connection, query, f"the table {_snapshots}")
    ]
    if not rows:
        return None
    counts = tuple(PostCounts(*row[2:]) for row in rows if row[2] is not None)
    created_at, deleted_at = rows[0][:2]
    return PostSeries(instance, post, created_at, deleted_at, counts)


def _within(start: datetime | None, end: datetime | None) -> str:
    """SQL: whether a snapshot lies in the span. Raises ValueError where nothing could."""
    if start is not None and end is not None:
        query_args.span(start, end)
    bounds = (("start", ">=", start), ("end", "<", end))
    return "".join(
        f" AND captured_at {sign} {written(query_args.instant(name, moment))}"
        for name, sign, moment in bounds
        if moment is not None
    )


_posts = sql.name_of(tables.mastodon_posts)
_deletions = sql.name_of(tables.post_deletions)
_snapshots = sql.name_of(tables.post_metric_snapshots)
