"""Versions of posts: what they said, from when to when.

A version is known by its instant: when it was edited, or created. Invariants: each comes
once, with the content that was received first (servers render the same version in different
ways), in order of those instants, whatever order they arrive in. An edit that does not say when
it was counts from its receipt, unless a version with the same content is known.
"""

from __future__ import annotations

from sqlalchemy import Connection

from assets.fediverse.processing.functions import PLAIN_TEXT
from assets.fediverse.processing.parsing import EDIT
from tallykeeper.database.sql import execute

_STAGE = """CREATE TEMPORARY TABLE IF NOT EXISTS versions (
  instance_id bigint NOT NULL, post_id {id} NOT NULL, valid_from timestamptz NOT NULL,
  edited_at timestamptz, dated boolean NOT NULL, content text, spoiler_text text,
  sensitive boolean, redacted text) ON COMMIT DELETE ROWS"""

# As mastodon_posts computes it.
_HASH = "md5(coalesce({0}.spoiler_text, '') || E'\\n' || {1})"


def stage(ids: str) -> str:
    """CREATE TEMPORARY TABLE for the versions that the batch shows; `ids` is the ids' type."""
    return _STAGE.format(id=ids)


def write_versions(connection: Connection, schema: str, *, redact: bool) -> None:
    """Add the versions that the batch shows first, and number those of their posts anew."""
    execute(connection, _candidates(schema))
    execute(connection, _insert(schema, redact))
    execute(connection, _replace_undated(schema))
    execute(connection, _number(schema))
    if redact:
        execute(
            connection,
            f"UPDATE {schema}.post_versions AS v SET content_html = NULL, content_text = NULL,"
            " spoiler_text = NULL FROM pg_temp.deletes AS d"
            " WHERE v.instance_id = d.instance_id AND v.post_id = d.post_id"
            " AND (v.content_html IS NOT NULL OR v.spoiler_text IS NOT NULL)",
        )


def _candidates(schema: str) -> str:
    """The versions in the batch that are not stored, each instant once, as received first."""
    return f"""
INSERT INTO pg_temp.versions (instance_id, post_id, valid_from, edited_at, dated, content,
  spoiler_text, sensitive, redacted)
SELECT DISTINCT ON (c.instance_id, c.post_id, c.valid_from) c.instance_id, c.post_id, c.valid_from,
  c.edited_at, c.dated, c.content, c.spoiler_text, c.sensitive, c.redacted
FROM (
  SELECT s.instance_id, s.post_id, s.received_at, s.event_id,
    CASE WHEN s.event_type = '{EDIT}' AND s.edited_at IS NULL THEN s.received_at
      ELSE coalesce(s.edited_at, w.created_at) END AS valid_from,
    s.edited_at, s.event_type <> '{EDIT}' OR s.edited_at IS NOT NULL AS dated,
    s.content, s.spoiler_text, s.sensitive, s.redacted
  FROM pg_temp.seen AS s JOIN pg_temp.winners AS w
    ON w.instance_id = s.instance_id AND w.post_id = s.post_id
  WHERE s.reblog_of_id IS NULL
  UNION ALL
  SELECT instance_id, post_id, received_at, event_id, valid_from,
    CASE WHEN NOT first THEN valid_from END, true, content, spoiler_text, sensitive,
    redacted
  FROM pg_temp.listed
) AS c
WHERE NOT EXISTS (
  SELECT FROM {schema}.post_versions AS v WHERE v.instance_id = c.instance_id
    AND v.post_id = c.post_id AND v.valid_from = c.valid_from)
ORDER BY c.instance_id, c.post_id, c.valid_from, c.received_at, c.event_id"""


def _insert(schema: str, redact: bool) -> str:
    hidden = "d.post_id IS NOT NULL" if redact else "false"
    plain = f"coalesce({PLAIN_TEXT}(c.content), '')"
    return f"""
WITH hashed AS MATERIALIZED (
  SELECT c.instance_id, c.post_id, c.valid_from, c.edited_at, c.dated, c.content, c.spoiler_text,
    c.sensitive, CASE WHEN c.redacted IS NULL THEN t.content_text END AS content_text,
    coalesce(c.redacted, {_HASH.format("c", "t.content_text")}) AS content_hash
  FROM pg_temp.versions AS c
  LEFT JOIN pg_temp.winners AS w ON w.instance_id = c.instance_id AND w.post_id = c.post_id
    AND w.content = c.content
  CROSS JOIN LATERAL (SELECT coalesce(w.content_text, {plain}) AS content_text) AS t
), known AS MATERIALIZED (
  SELECT h.*, row_number() OVER (
      PARTITION BY h.instance_id, h.post_id, h.content_hash ORDER BY h.dated DESC, h.valid_from
    ) AS place, EXISTS (
      SELECT FROM {schema}.post_versions AS v WHERE v.instance_id = h.instance_id
        AND v.post_id = h.post_id AND v.content_hash = h.content_hash) AS stored
  FROM hashed AS h
), inserted AS (
  INSERT INTO {schema}.post_versions (instance_id, post_id, valid_from, version_seq, valid_to,
    edited_at, content_html, content_text, spoiler_text, sensitive, content_hash)
  SELECT k.instance_id, k.post_id, k.valid_from, 1, NULL, k.edited_at,
    CASE WHEN NOT {hidden} THEN k.content END, CASE WHEN NOT {hidden} THEN k.content_text END,
    CASE WHEN NOT {hidden} THEN k.spoiler_text END, k.sensitive, k.content_hash
  FROM known AS k
  LEFT JOIN {schema}.post_deletions AS d
    ON d.instance_id = k.instance_id AND d.post_id = k.post_id
  WHERE k.dated OR (k.place = 1 AND NOT k.stored)
  RETURNING instance_id, post_id
)
SELECT count(*) FROM inserted"""


def _replace_undated(schema: str) -> str:
    """Take away versions that counted from their receipt and whose time is known by now.

    Of a post's versions without a time of edit, all but the original are such.
    """
    return f"""
DELETE FROM {schema}.post_versions AS v
USING {schema}.mastodon_posts AS p, pg_temp.versions AS c, {schema}.post_versions AS dated
WHERE c.dated AND dated.instance_id = c.instance_id AND dated.post_id = c.post_id
  AND dated.valid_from = c.valid_from
  AND p.instance_id = c.instance_id AND p.id = c.post_id
  AND v.instance_id = c.instance_id AND v.post_id = c.post_id AND v.edited_at IS NULL
  AND v.valid_from <> p.created_at AND v.valid_from <> c.valid_from
  AND v.content_hash = dated.content_hash"""


def _number(schema: str) -> str:
    """Number the versions of the posts that got one, by time, and close each by the next."""
    return f"""
WITH concerned AS (
  SELECT instance_id, post_id, count(*) AS versions FROM pg_temp.versions GROUP BY 1, 2
), several AS (
  SELECT c.instance_id, c.post_id FROM concerned AS c
  LEFT JOIN pg_temp.winners AS w ON w.instance_id = c.instance_id AND w.post_id = c.post_id
  WHERE c.versions > 1 OR w.is_new IS NOT TRUE OR EXISTS (
    SELECT FROM {schema}.post_versions AS v
    WHERE v.instance_id = c.instance_id AND v.post_id = c.post_id OFFSET 1)
), numbered AS (
  SELECT v.instance_id, v.post_id, v.valid_from,
    row_number() OVER each AS version_seq, lead(v.valid_from) OVER each AS valid_to
  FROM several AS s JOIN {schema}.post_versions AS v
    ON v.instance_id = s.instance_id AND v.post_id = s.post_id
  WINDOW each AS (PARTITION BY v.instance_id, v.post_id ORDER BY v.valid_from)
)
UPDATE {schema}.post_versions AS v SET version_seq = n.version_seq, valid_to = n.valid_to
FROM numbered AS n
WHERE v.instance_id = n.instance_id AND v.post_id = n.post_id AND v.valid_from = n.valid_from
  AND (v.version_seq, v.valid_to) IS DISTINCT FROM (n.version_seq::integer, n.valid_to)"""
