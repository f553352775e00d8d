"""Hashtags, mentions and media of the posts whose content a batch has settled.

Invariants: the relations are those of the post's latest version, so that an edit takes
away what it no longer has. Rows of deleted posts stay, unless they are redacted. Hashtags are never
deleted, so that their numbers last, and say when any event first and last showed them.
"""

from __future__ import annotations

from sqlalchemy import Connection

from assets.fediverse.processing.functions import ID, WORD, tag_name
from tallykeeper.database.sql import execute

_WANTED = {
    "post_hashtags": (
        ("hashtag_id",),
        (),
        """SELECT t.instance_id, t.post_id, h.id AS hashtag_id FROM pg_temp.tagged AS t
  JOIN {real}.hashtags AS h ON h.instance_id = t.instance_id AND h.name = t.name""",
    ),
    "post_mentions": (
        ("account_id",),
        ("acct", "username", "url"),
        f"""SELECT DISTINCT ON (w.instance_id, w.post_id, {ID}(m.mention -> 'id'))
    w.instance_id, w.post_id, {ID}(m.mention -> 'id') AS account_id,
    m.mention ->> 'acct' AS acct, m.mention ->> 'username' AS username, m.mention ->> 'url' AS url
  FROM pg_temp.winners AS w
  CROSS JOIN LATERAL jsonb_array_elements(w.mentions) WITH ORDINALITY AS m (mention, place)
  WHERE w.content_wins AND w.mentions <> '[]' AND {ID}(m.mention -> 'id') IS NOT NULL
  ORDER BY w.instance_id, w.post_id, {ID}(m.mention -> 'id'), m.place""",
    ),
    "media_attachments": (
        ("id",),
        ("position", "type", "url", "preview_url", "description", "meta_json"),
        f"""SELECT DISTINCT ON (w.instance_id, w.post_id, {ID}(m.media -> 'id'))
    w.instance_id, w.post_id, {ID}(m.media -> 'id') AS id,
    least(m.place, 32767)::smallint AS position, {WORD}(m.media ->> 'type') AS type,
    CASE WHEN {{shown}} THEN m.media ->> 'url' END AS url,
    CASE WHEN {{shown}} THEN m.media ->> 'preview_url' END AS preview_url,
    CASE WHEN {{shown}} THEN m.media ->> 'description' END AS description,
    CASE WHEN {{shown}} THEN nullif(m.media -> 'meta', 'null') END AS meta_json
  FROM pg_temp.winners AS w
  CROSS JOIN LATERAL jsonb_array_elements(w.media) WITH ORDINALITY AS m (media, place)
  WHERE w.content_wins AND w.media <> '[]' AND {ID}(m.media -> 'id') IS NOT NULL
  ORDER BY w.instance_id, w.post_id, {ID}(m.media -> 'id'), m.place""",
    ),
}


def write_relations(connection: Connection, schema: str, real: str, *, redact: bool) -> None:
    """Bring the relations of the winners to what their content says.

    Hashtags are looked up, and made, in the schema `real`, whichever one is written to.
    """
    execute(connection, _hashtags(real))
    shown = "w.deleted_at IS NULL" if redact else "true"
    for table, (key, values, select) in _WANTED.items():
        wanted = select.format(real=real, shown=shown)
        _settle(connection, f"{schema}.{table}", key, values, wanted)
    if redact:
        for statement in _redact(schema):
            execute(connection, statement)


def _redact(schema: str) -> list[str]:
    """Statements that empty the relations of the posts that the batch deletes."""
    of_deleted = "FROM pg_temp.deletes AS d WHERE r.instance_id = d.instance_id"
    of_deleted += " AND r.post_id = d.post_id"
    cleared = ("url", "preview_url", "description", "meta_json")
    return [
        *(
            f"DELETE FROM {schema}.{name} AS r USING {of_deleted.removeprefix('FROM ')}"
            for name in ("post_hashtags", "post_mentions")
        ),
        f"UPDATE {schema}.media_attachments AS r SET"
        f" {', '.join(f'{name} = NULL' for name in cleared)} {of_deleted}"
        f" AND ({' OR '.join(f'r.{name} IS NOT NULL' for name in cleared)})",
    ]


def _hashtags(real: str) -> str:
    """Make the hashtags that the batch shows first, and note of the others when they were seen.

    All of its statuses count, also those that are not the latest version: so a hashtag is there,
    and its times are the same, whatever the batches.
    """
    return f"""
WITH used AS MATERIALIZED (
  SELECT instance_id, name, min(received_at) AS first_at, max(received_at) AS last_at FROM (
    SELECT s.instance_id, s.received_at, {tag_name("t.tag")} AS name
    FROM pg_temp.seen AS s CROSS JOIN LATERAL jsonb_array_elements(
      CASE WHEN jsonb_typeof(s.tags) = 'array' THEN s.tags ELSE '[]' END) AS t (tag)
    WHERE s.reblog_of_id IS NULL
  ) AS shown WHERE name <> '' GROUP BY instance_id, name
), made AS (
  INSERT INTO {real}.hashtags (instance_id, name, first_seen_at, last_seen_at)
  SELECT u.instance_id, u.name, u.first_at, u.last_at FROM used AS u
  WHERE NOT EXISTS (SELECT FROM {real}.hashtags AS h
    WHERE h.instance_id = u.instance_id AND h.name = u.name)
  ORDER BY u.instance_id, u.name
  ON CONFLICT (instance_id, name) DO NOTHING
)
UPDATE {real}.hashtags AS h SET first_seen_at = least(h.first_seen_at, u.first_at),
  last_seen_at = greatest(h.last_seen_at, u.last_at)
FROM used AS u WHERE h.instance_id = u.instance_id AND h.name = u.name
  AND (u.first_at >= h.first_seen_at AND u.last_at <= h.last_seen_at) IS NOT TRUE"""


def _settle(
    connection: Connection,
    table: str,
    key: tuple[str, ...],
    values: tuple[str, ...],
    wanted: str,
) -> None:
    """Delete, insert and update what differs between a relation and what it should hold."""
    names = ", ".join(("instance_id", "post_id", *key, *values))
    identity = ("instance_id", "post_id", *key)
    same = " AND ".join(f"r.{n} = wanted.{n}" for n in identity)
    execute(
        connection,
        f"""
DELETE FROM {table} AS r USING pg_temp.winners AS w
WHERE w.content_wins AND NOT w.is_new AND r.instance_id = w.instance_id AND r.post_id = w.post_id
  AND NOT EXISTS (SELECT FROM ({wanted}) AS wanted WHERE {same})""",
    )
    update = "NOTHING"
    if values:
        sets = ", ".join(f"{n} = excluded.{n}" for n in values)
        differ = ", ".join(f"r.{n}" for n in values), ", ".join(f"excluded.{n}" for n in values)
        update = f"UPDATE SET {sets} WHERE ({differ[0]}) IS DISTINCT FROM ({differ[1]})"
    execute(
        connection,
        f"INSERT INTO {table} AS r ({names})\nSELECT {names} FROM ({wanted}) AS wanted\n"
        f"ON CONFLICT ({', '.join(identity)}) DO {update}",
    )
