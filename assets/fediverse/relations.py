"""Hashtags, mentions and media of the posts whose content a batch has settled.

What must stay true: the relations are those of the post's latest version, so that an edit takes
away what it no longer has. Rows of deleted posts stay. Hashtags themselves are never deleted, so
that their numbers last.
"""

from __future__ import annotations

from sqlalchemy import Connection

from assets.fediverse.functions import ID
from tallies.sql import execute

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
        ("position", "type", "url", "preview_url", "description"),
        f"""SELECT DISTINCT ON (w.instance_id, w.post_id, {ID}(m.media -> 'id'))
    w.instance_id, w.post_id, {ID}(m.media -> 'id') AS id,
    least(m.place, 32767)::smallint AS position, m.media ->> 'type' AS type,
    m.media ->> 'url' AS url, m.media ->> 'preview_url' AS preview_url,
    CASE WHEN {{shown}} THEN m.media ->> 'description' END AS description
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
    execute(
        connection,
        f"""
INSERT INTO {real}.hashtags (instance_id, name)
SELECT DISTINCT t.instance_id, t.name FROM pg_temp.tagged AS t
WHERE NOT EXISTS (SELECT FROM {real}.hashtags AS h
  WHERE h.instance_id = t.instance_id AND h.name = t.name)
ORDER BY 1, 2
ON CONFLICT (instance_id, name) DO NOTHING""",
    )
    shown = "w.deleted_at IS NULL" if redact else "true"
    for table, (key, values, select) in _WANTED.items():
        wanted = select.format(real=real, shown=shown)
        _settle(connection, f"{schema}.{table}", key, values, wanted)
    if redact:
        execute(
            connection,
            f"UPDATE {schema}.media_attachments AS m SET description = NULL"
            f" FROM pg_temp.deletes AS d WHERE m.instance_id = d.instance_id"
            " AND m.post_id = d.post_id AND m.description IS NOT NULL",
        )


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
