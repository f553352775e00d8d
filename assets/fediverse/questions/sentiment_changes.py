"""Posts of which a text model said something else after they were edited.

Exact as of the last commit that the connection sees. A sentiment belongs to a version by the
content that was analyzed: the number of a version moves when an earlier one becomes known.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from sqlalchemy import Connection

from assets.fediverse import tables
from assets.fediverse.questions import query_args
from assets.fediverse.questions.query_args import written
from tallykeeper.database import sql

MOST_CHANGES = 10_000


@dataclass(frozen=True)
class SentimentChange:
    """A version of which a model said something else than of the version it judged before."""

    post_id: str
    url: str | None
    model: str
    prompt_version: str
    version_before: int
    version_seq: int
    changed_at: datetime
    """When the version came: the time of the edit, or of its receipt."""
    label_before: str | None
    label: str | None
    score_before: Decimal | None
    score: Decimal | None


def sentiment_changes(
    connection: Connection,
    instance_id: int,
    start: datetime,
    end: datetime,
    *,
    model: str | None = None,
    prompt_version: str | None = None,
    limit: int = 100,
) -> list[SentimentChange]:
    """Edits from `start` up to `end` after which the label differs, the latest first.

    Each version that a model has judged is compared with the one it judged before, under the same
    prompt version: of those between, which nobody judged, nothing is known. Deleted posts, and
    those that not everybody may see, are left out. Raises ValueError for invalid arguments,
    NotInstalled where the tables are not there.
    """
    instance = query_args.one_of_many(query_args.identifier("instance_id", instance_id))
    first, last = query_args.span(start, end)
    query_args.whole_number("limit", limit, MOST_CHANGES)
    said = ""
    for name, value in (("model", model), ("prompt_version", prompt_version)):
        if value is not None:
            said += f" AND s.{name} = {sql.literal(query_args.storable(name, value))}"
    query = f"""
WITH edited AS MATERIALIZED (
  SELECT DISTINCT v.post_id FROM {_versions} AS v
  WHERE v.instance_id = {instance} AND v.version_seq > 1
    AND v.valid_from >= {written(first)} AND v.valid_from < {written(last)}
),
judged AS (
  SELECT v.post_id, v.version_seq, v.valid_from, s.model, s.prompt_version, s.label, s.score,
    lag(v.version_seq) OVER judgements AS version_before,
    lag(s.label) OVER judgements AS label_before, lag(s.score) OVER judgements AS score_before
  FROM edited AS e
  JOIN {_versions} AS v ON v.instance_id = {instance} AND v.post_id = e.post_id
  JOIN {_sentiments} AS s ON s.instance_id = {instance} AND s.post_id = e.post_id
    AND s.input_hash = v.content_hash{said}
  WINDOW judgements AS (PARTITION BY v.post_id, s.model, s.prompt_version ORDER BY v.version_seq)
)
SELECT j.post_id, p.url, j.model, j.prompt_version, j.version_before, j.version_seq, j.valid_from,
  j.label_before, j.label, j.score_before, j.score
FROM judged AS j
JOIN {_posts} AS p ON p.instance_id = {instance} AND p.id = j.post_id
WHERE j.version_before IS NOT NULL AND j.label IS DISTINCT FROM j.label_before
  AND j.valid_from >= {written(first)} AND j.valid_from < {written(last)}
  AND p.deleted_at IS NULL AND p.visibility IN ('public', 'unlisted')
ORDER BY j.valid_from DESC, j.post_id COLLATE "C", j.model COLLATE "C", j.prompt_version COLLATE "C"
LIMIT {limit}"""
    return query_args.answers(connection, query, f"the table {_sentiments}", SentimentChange)


_posts = sql.name_of(tables.mastodon_posts)
_versions = sql.name_of(tables.post_versions)
_sentiments = sql.name_of(tables.post_sentiments)
