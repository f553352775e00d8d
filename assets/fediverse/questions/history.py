"""What became of posts: their versions, with what models said of each, and their deletion.

Read from what processing derives, so exact as of the last commit that the connection sees.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, text

from assets.fediverse import tables
from assets.fediverse.questions import query_args
from tallykeeper.database import sql
from tallykeeper.reads.live_reads import read


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
    post_id: str
    created_at: datetime | None
    deleted_at: datetime | None
    versions: tuple[Version, ...]


def post_history(connection: Connection, instance_id: int, post_id: str) -> History | None:
    """A post's versions, what models said of each, and its deletion; None where nothing is known.

    A sentiment belongs to a version by the content that was analyzed. Raises ValueError where an
    id can be none, NotInstalled where the tables are not there.
    """
    instance = query_args.identifier("instance_id", instance_id)
    post = query_args.post_id(post_id)
    given = sql.literal(post)
    query = f"""
SELECT p.created_at AS post_created_at, coalesce(p.deleted_at, d.deleted_at) AS post_deleted_at,
  v.version_seq, v.valid_from, v.valid_to, v.edited_at, v.content_html, v.content_text,
  v.spoiler_text, v.sensitive, v.content_hash,
  s.model, s.prompt_version, s.label, s.score, s.analyzed_at
FROM (SELECT 1) AS one
LEFT JOIN {_posts} AS p ON p.instance_id = {instance} AND p.id = {given}
LEFT JOIN {sql.name_of(tables.post_deletions)} AS d
  ON d.instance_id = {instance} AND d.post_id = {given}
LEFT JOIN {sql.name_of(tables.post_versions)} AS v
  ON v.instance_id = {instance} AND v.post_id = {given}
{_said(connection, instance, given)}
WHERE p.id IS NOT NULL OR d.post_id IS NOT NULL OR v.version_seq IS NOT NULL
ORDER BY v.valid_from, s.model COLLATE "C", s.prompt_version COLLATE "C\""""
    rows = [
        tuple(query_args.in_utc(value) for value in row)
        for row in read(connection, query, f"the table {_posts}")
    ]
    if not rows:
        return None
    created_at, deleted_at = rows[0][:2]
    by_version = groupby(rows, key=lambda row: row[2:11])
    versions = tuple(_version(v, list(said)) for v, said in by_version if v[0] is not None)
    return History(instance, post, created_at, deleted_at, versions)


def _said(connection: Connection, instance: int, post: str) -> str:
    """What models said of the versions; nothing where there is no table of it."""
    name = sql.name_of(tables.post_sentiments)
    if connection.scalar(text("SELECT to_regclass(:name)"), {"name": name}) is None:
        return (
            "CROSS JOIN (SELECT NULL::text AS model, NULL::text AS prompt_version,"
            " NULL::text AS label, NULL::numeric AS score, NULL::timestamptz AS analyzed_at) AS s"
        )
    return (
        f"LEFT JOIN {name} AS s ON s.instance_id = {instance} AND s.post_id = {post}"
        " AND s.input_hash = v.content_hash"
    )


def _version(version: tuple[Any, ...], rows: list[tuple[Any, ...]]) -> Version:
    said = tuple(Sentiment(*row[11:]) for row in rows if row[11] is not None)
    return Version(*(*version, said))


_posts = sql.name_of(tables.mastodon_posts)
