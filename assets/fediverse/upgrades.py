"""What tables of earlier releases need before they are compared with their declarations.

Each step finds out from the catalog whether it is needed, and leaves alone what is as it should be.
"""

from __future__ import annotations

from sqlalchemy import Connection, inspect

from assets.fediverse import tables
from assets.fediverse.storage import id_conversion
from tallykeeper.database.sql import execute, name_of


def upgrade(connection: Connection) -> list[str]:
    """Bring the tables up as far as that is more than adding to them; what was done.

    Raises HasDependents where something of others depends on a column that changes.
    """
    return [
        *id_conversion.convert(connection),
        *_name_the_content(connection),
        *_say_when_hashtags_were_seen(connection),
    ]


def _name_the_content(connection: Connection) -> list[str]:
    versions = tables.post_versions
    found = _columns(connection, versions.name)
    if "content" not in found or "content_html" in found:
        return []
    execute(connection, f"ALTER TABLE {name_of(versions)} RENAME COLUMN content TO content_html")
    return [f"renamed the column content of {name_of(versions)} to content_html"]


def _say_when_hashtags_were_seen(connection: Connection) -> list[str]:
    """A hashtag was seen with the posts that have it."""
    hashtags = name_of(tables.hashtags)
    found = _columns(connection, tables.hashtags.name)
    if not found or "first_seen_at" in found:
        return []
    execute(
        connection,
        f"ALTER TABLE {hashtags} ADD COLUMN first_seen_at timestamptz,"
        " ADD COLUMN IF NOT EXISTS last_seen_at timestamptz",
    )
    execute(
        connection,
        f"""
UPDATE {hashtags} AS h SET first_seen_at = s.first_at, last_seen_at = s.last_at
FROM (
  SELECT u.instance_id, u.hashtag_id,
         min(p.first_seen_at) AS first_at, max(p.first_seen_at) AS last_at
  FROM {name_of(tables.post_hashtags)} AS u
  JOIN {name_of(tables.mastodon_posts)} AS p
    ON p.instance_id = u.instance_id AND p.id = u.post_id
  GROUP BY 1, 2) AS s
WHERE s.instance_id = h.instance_id AND s.hashtag_id = h.id""",
    )
    return [f"added to {hashtags} when each was seen first and last"]


def _columns(connection: Connection, table: str) -> set[str]:
    inspector, schema = inspect(connection), tables.metadata.schema
    if not inspector.has_table(table, schema=schema):
        return set()
    return {column["name"] for column in inspector.get_columns(table, schema=schema)}
