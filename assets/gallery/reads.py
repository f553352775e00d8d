"""What an application asks of the gallery: counts by source, a tag cloud, pages of items.

Counts come from the live views, so they are exact as of the last commit that the connection sees,
before any refresh and on a database where nothing was ever built. Pages are in `pages.py`.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TypedDict
from uuid import UUID

from sqlalchemy import Connection, text

from assets.gallery import tables
from assets.gallery.questions.cursors import BadCursor
from assets.gallery.questions.filters import SOURCES, is_storable, sources_of, user_of, whole_number
from assets.gallery.questions.pages import Item, Page, content_page
from assets.gallery.tallies import gen_source_stats, tag_cardinality_stats
from tallykeeper.database import sql
from tallykeeper.reads.live_reads import read

__all__ = [
    "BadCursor",
    "ContentStats",
    "Item",
    "Page",
    "TagCount",
    "content_page",
    "tag_counts",
    "unified_content_stats",
]

MOST_TAGS = 1_000_000


class ContentStats(TypedDict):
    """Items by source, of one user and of the community, which is everybody."""

    user_regular_count: int
    user_auto_count: int
    community_regular_count: int
    community_auto_count: int


class TagCount(TypedDict):
    """A tag and how many items of the sources asked for have it."""

    id: UUID
    name: str
    count: int


def unified_content_stats(
    connection: Connection, user_id: UUID | str | None = None
) -> ContentStats:
    """Items of the user and of everybody, by source; 0 for a user that there is not, or for None.

    Raises ValueError where the user's id is none, NotInstalled where there is no live view.
    """
    # The two as equations, and not as one condition: each is then looked up by an index.
    counts = f"SELECT user_id IS NULL AS everybody, source_type, count AS items FROM {_live}"
    query = f"{counts} WHERE user_id IS NULL"
    user = user_of(user_id)
    if user is not None:
        query += f" UNION ALL {counts} WHERE user_id = uuid '{user}'"
    rows = read(connection, text(query), f"the live view {_live}")
    counted = {(row.everybody, row.source_type): row.items for row in rows}
    return {
        "user_regular_count": counted.get((False, tables.REGULAR), 0),
        "user_auto_count": counted.get((False, tables.AUTO), 0),
        "community_regular_count": counted.get((True, tables.REGULAR), 0),
        "community_auto_count": counted.get((True, tables.AUTO), 0),
    }


def tag_counts(
    connection: Connection,
    *,
    prefix: str | None = None,
    limit: int = 50,
    sources: str | Collection[str] = SOURCES,
) -> list[TagCount]:
    """The `limit` (1 to 1,000,000) tags most used, most used first, then by name.

    With `prefix` only tags whose names begin with that very text, capital letters and all; tags of
    no item are left out. Raises ValueError for invalid arguments, NotInstalled where there is no
    live view.
    """
    whole_number("limit", limit, MOST_TAGS)
    wanted = ", ".join(sql.literal(source) for source in sources_of(sources))
    if prefix is not None and not isinstance(prefix, str):
        raise ValueError(f"Expected `prefix` to be a text or None, but it is {prefix!r}.")
    if prefix and not is_storable(prefix):
        return []
    named = ""
    if prefix:
        # As an array, which the view takes into itself: it then counts these tags alone.
        named = f" AND tag_id = ANY (ARRAY(SELECT id FROM {_tags} WHERE name LIKE :pattern))"
    query = text(
        f"SELECT t.id, t.name, c.items FROM (SELECT tag_id, sum(cardinality) AS items"
        f" FROM {_live_tags} WHERE content_source IN ({wanted}){named} GROUP BY tag_id) AS c"
        f" JOIN {_tags} ON t.id = c.tag_id ORDER BY c.items DESC, t.name LIMIT {limit}"
    )
    if prefix:
        query = query.bindparams(pattern=_escaped(prefix) + "%")
    rows = read(connection, query, f"the live view {_live_tags}")
    return [{"id": row.id, "name": row.name, "count": row.items} for row in rows]


def _escaped(prefix: str) -> str:
    """`prefix` for LIKE, each of its characters meaning itself."""
    for special in ("\\", "%", "_"):
        prefix = prefix.replace(special, f"\\{special}")
    return prefix


_tags = sql.renamed(tables.tags, "t", ["id", "name"])
_live, _live_tags = gen_source_stats.live_name, tag_cardinality_stats.live_name
