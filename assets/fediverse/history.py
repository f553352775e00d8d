"""What became of posts: their versions with what was said of each, and how fast they gained.

Read from what processing derives, so exact as of the last commit that the connection sees.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import groupby
from typing import Any

from sqlalchemy import Connection

from assets.fediverse import asking, tables
from assets.fediverse.asking import written
from assets.reading import read
from tallies import sql

MOST_POSTS = 10_000


@dataclass(frozen=True)
class Velocity:
    """A post and what it gained: `gained` is `favourites` less `favourites_before`."""

    post_id: int
    account_id: int
    url: str | None
    gained: int
    favourites_before: int
    favourites: int
    before_at: datetime
    """When the earlier of the two counts was seen."""
    seen_at: datetime


@dataclass(frozen=True)
class Sentiment:
    """What a model said of a content; `score` is from -1 to 1."""

    model: str
    prompt_version: str
    label: str | None
    score: Decimal | None
    analyzed_at: datetime


@dataclass(frozen=True)
class Version:
    """What a post said from `valid_from` up to `valid_to`, which is None for the latest."""

    version_seq: int
    valid_from: datetime
    valid_to: datetime | None
    edited_at: datetime | None
    content: str | None
    content_text: str | None
    spoiler_text: str | None
    sensitive: bool | None
    content_hash: str
    sentiments: tuple[Sentiment, ...]
    """By model and prompt version; of the same content in another version too."""


@dataclass(frozen=True)
class History:
    """A post's versions, oldest first, and its deletion.

    `created_at` is None and there are no versions where nothing but the deletion is known.
    """

    instance_id: int
    post_id: int
    created_at: datetime | None
    deleted_at: datetime | None
    versions: tuple[Version, ...]


def engagement_velocity(
    connection: Connection,
    instance_id: int,
    start: datetime,
    end: datetime,
    more_than: int,
    *,
    limit: int = 100,
) -> list[Velocity]:
    """Posts that gained more than `more_than` favourites from `start` to `end`, most first.

    The last snapshot at or before the end, less the last at or before the start; of a post not
    seen before, less its first in between. Counts may fall. Deleted posts, and those that not
    everybody may see, are left out; equal ones are ordered by id. Raises ValueError for what
    cannot be asked, NotInstalled where the tables are not there.
    """
    instance = asking.identifier("instance_id", instance_id)
    first, last = asking.span(start, end)
    asking.whole_number("more_than", more_than, asking.LARGEST_ID, least=0)
    asking.whole_number("limit", limit, MOST_POSTS)
    any_instance = asking.one_of_many(instance)
    # Snapshots of a span are read once, and others of a post by the post: thousands may share an
    # instant, as where a file does not say when its events were received.
    query = f"""
WITH seen AS (
  SELECT post_id, min(captured_at) AS first_at, max(captured_at) AS last_at,
    (array_agg(favourites_count ORDER BY captured_at))[1] AS first_count,
    (array_agg(favourites_count ORDER BY captured_at DESC))[1] AS last_count
  FROM {_snapshots} WHERE instance_id = {any_instance}
    AND captured_at > {written(first)} AND captured_at <= {written(last)}
  GROUP BY post_id
)
SELECT p.id, p.account_id, p.url, z.last_count - z.count_before, z.count_before, z.last_count,
  z.before_at, z.last_at
FROM (
  SELECT seen.*,
    CASE WHEN s.post_id = seen.post_id THEN s.captured_at ELSE first_at END AS before_at,
    CASE WHEN s.post_id = seen.post_id THEN s.favourites_count ELSE first_count END AS count_before
  FROM seen LEFT JOIN LATERAL (
    -- Compared as a row, for the index by posts alone can answer that.
    SELECT s.post_id, s.captured_at, s.favourites_count FROM {_snapshots} AS s
    WHERE s.instance_id = {any_instance}
      AND (s.post_id, s.captured_at) <= (seen.post_id, {written(first)})
    ORDER BY s.post_id DESC, s.captured_at DESC LIMIT 1
  ) AS s ON true
) AS z
JOIN {_posts} AS p ON p.instance_id = {any_instance} AND p.id = z.post_id
WHERE z.last_count - z.count_before > {more_than}
  AND p.deleted_at IS NULL AND p.visibility IN ('public', 'unlisted')
ORDER BY 4 DESC, p.id LIMIT {limit}"""
    return asking.answers(connection, query, f"the table {_snapshots}", Velocity)


def post_history(connection: Connection, instance_id: int, post_id: int) -> History | None:
    """A post's versions, what models said of each, and its deletion; None where nothing is known.

    A sentiment belongs to a version by the content that was analyzed. Raises ValueError where an
    id can be none, NotInstalled where the tables are not there.
    """
    instance = asking.identifier("instance_id", instance_id)
    post = asking.identifier("post_id", post_id)
    query = f"""
SELECT p.created_at AS post_created_at, coalesce(p.deleted_at, d.deleted_at) AS post_deleted_at,
  v.version_seq, v.valid_from, v.valid_to, v.edited_at, v.content, v.content_text,
  v.spoiler_text, v.sensitive, v.content_hash,
  s.model, s.prompt_version, s.label, s.score, s.analyzed_at
FROM (SELECT 1) AS one
LEFT JOIN {_posts} AS p ON p.instance_id = {instance} AND p.id = {post}
LEFT JOIN {sql.name_of(tables.post_deletions)} AS d
  ON d.instance_id = {instance} AND d.post_id = {post}
LEFT JOIN {sql.name_of(tables.post_versions)} AS v
  ON v.instance_id = {instance} AND v.post_id = {post}
LEFT JOIN {sql.name_of(tables.post_sentiments)} AS s
  ON s.instance_id = {instance} AND s.post_id = {post} AND s.input_hash = v.content_hash
WHERE p.id IS NOT NULL OR d.post_id IS NOT NULL OR v.version_seq IS NOT NULL
ORDER BY v.valid_from, s.model COLLATE "C", s.prompt_version COLLATE "C\""""
    rows = [
        tuple(asking.in_utc(value) for value in row)
        for row in read(connection, query, f"the table {_posts}")
    ]
    if not rows:
        return None
    created_at, deleted_at = rows[0][:2]
    by_version = groupby(rows, key=lambda row: row[2:11])
    versions = tuple(_version(v, list(said)) for v, said in by_version if v[0] is not None)
    return History(instance, post, created_at, deleted_at, versions)


def _version(version: tuple[Any, ...], rows: list[tuple[Any, ...]]) -> Version:
    said = tuple(Sentiment(*row[11:]) for row in rows if row[11] is not None)
    return Version(*(*version, said))


_posts = sql.name_of(tables.mastodon_posts)
_snapshots = sql.name_of(tables.post_metric_snapshots)
