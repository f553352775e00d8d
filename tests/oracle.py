"""The oracle: whether at one snapshot all settled keys and all of a live view are right.

What the sources say is written out here by hand, so that it shares nothing with the engine's own
SQL; so are the pending keys. One READ COMMITTED statement looks at everything: it names the
sources, so they are locked against TRUNCATE before its snapshot is taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg

HOUR_OF = "date_trunc('hour', {} AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'"
DAY_OF = "date_trunc('day', {} AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'"


class OracleViolation(AssertionError):
    """At some snapshot a derived table or a live view was wrong.

    `kinds` names what was: `derived`, `live` or `pending`.
    """

    def __init__(self, message: str, kinds: frozenset[str]) -> None:
        super().__init__(message, kinds)
        self.message = message
        self.kinds = kinds

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True)
class Oracle:
    """A derived table and, in SQL by hand, what it must hold and which keys may be wrong yet.

    `truth` has `columns` from the sources, `pending` has `key` from the log (and what it
    takes to resolve it). `engine_pending` is the engine's own function for the latter, if any.
    """

    tally: str
    key: tuple[str, ...]
    measures: tuple[str, ...]
    derived: str
    truth: str
    pending: str
    engine_pending: str | None = None
    # The key columns that a pending change names, where it does not name all.
    group: tuple[str, ...] = ()
    # What the derived table itself follows, where that is another derived table: `truth` is then
    # the live view's alone.
    followed: str | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        return (*self.key, *self.measures)

    @property
    def log(self) -> str:
        return f"tallykeeper.{self.tally.replace('.', '_')}_log"

    def statement(self) -> str:
        """One row: (violations as JSON or null, stale, keys by the sources, pending, settled)."""
        columns, key = ", ".join(self.columns), ", ".join(self.group or self.key)
        same = " AND ".join(f"p.{n} IS NOT DISTINCT FROM r.{n}" for n in self.group or self.key)
        settled = f"NOT is_stale AND NOT EXISTS (SELECT FROM pending AS p WHERE {same})"
        engine = f"SELECT {key} FROM {self.engine_pending or 'pending'}"
        if self.engine_pending:
            engine += "()"
        return f"""
WITH truth AS MATERIALIZED (SELECT {columns} FROM (
{self.truth}
) AS t),
followed AS MATERIALIZED (SELECT {columns} FROM (
{self.followed or "SELECT * FROM truth"}
) AS f),
live AS MATERIALIZED (SELECT {columns} FROM {self.derived}_live),
pending AS MATERIALIZED (SELECT DISTINCT {key} FROM (
{self.pending}
) AS p),
engine_pending AS MATERIALIZED ({engine}),
stale AS MATERIALIZED (
  SELECT EXISTS (SELECT FROM tallykeeper.stale_marks WHERE tally = '{self.tally}') AS is_stale
),
settled_truth AS MATERIALIZED (SELECT r.* FROM followed AS r, stale WHERE {settled}),
settled_stored AS MATERIALIZED (
  SELECT {columns} FROM {self.derived} AS r, stale WHERE {settled}
),
violations AS (
  SELECT 'derived' AS kind, 'is stored, but not so' AS what, to_jsonb(r) AS found
  FROM (SELECT * FROM settled_stored EXCEPT ALL SELECT * FROM settled_truth) AS r
  UNION ALL
  SELECT 'derived', 'should be stored', to_jsonb(r)
  FROM (SELECT * FROM settled_truth EXCEPT ALL SELECT * FROM settled_stored) AS r
  UNION ALL
  SELECT 'live', 'is live, but not so', to_jsonb(r)
  FROM (SELECT * FROM live EXCEPT ALL SELECT * FROM truth) AS r
  UNION ALL
  SELECT 'live', 'should be live', to_jsonb(r)
  FROM (SELECT * FROM truth EXCEPT ALL SELECT * FROM live) AS r
  UNION ALL
  SELECT 'pending', 'is pending to the engine alone', to_jsonb(r)
  FROM (SELECT * FROM engine_pending EXCEPT ALL SELECT * FROM pending) AS r
  UNION ALL
  SELECT 'pending', 'is not pending to the engine', to_jsonb(r)
  FROM (SELECT * FROM pending EXCEPT ALL SELECT * FROM engine_pending) AS r
)
SELECT (SELECT jsonb_agg(to_jsonb(v)) FROM violations AS v) AS violations,
       (SELECT is_stale FROM stale) AS stale,
       (SELECT count(*) FROM truth) AS keys,
       (SELECT count(*) FROM pending) AS pending,
       (SELECT count(*) FROM settled_truth) AS settled"""


@dataclass(frozen=True)
class Snapshot:
    """What one look saw, where nothing was wrong. Counts are keys."""

    stale: bool
    keys: int
    pending: int
    settled: int


def look(connection: psycopg.Connection[Any], oracle: Oracle) -> Snapshot:
    """Take a snapshot and judge it. Raises OracleViolation with the keys that are wrong."""
    row = connection.execute(oracle.statement()).fetchone()
    assert row is not None
    violations, stale, keys, pending, settled = row
    if violations:
        shown = "\n".join(f"  {v['kind']}: {v['found']} {v['what']}" for v in violations[:20])
        raise OracleViolation(
            f"{oracle.tally}: {len(violations)} rows wrong at one snapshot ({keys} keys,"
            f" {pending} pending, {settled} settled):\n{shown}",
            frozenset(v["kind"] for v in violations),
        )
    return Snapshot(stale, keys, pending, settled)


def settle(connection: psycopg.Connection[Any], oracle: Oracle) -> Snapshot:
    """After the last refresh, with no writer left: nothing is pending, and all of it is right.

    Keys in quarantine are none that could be settled.

    Raises OracleViolation where that is not so.
    """
    seen = look(connection, oracle)
    row = connection.execute(
        f"SELECT (SELECT count(*) FROM {oracle.log}), (SELECT count(*)"
        f" FROM tallykeeper.quarantine WHERE tally = '{oracle.tally}')"
    ).fetchone()
    assert row is not None
    if seen.stale or row[0] or seen.settled + row[1] != seen.keys:
        raise OracleViolation(
            f"{oracle.tally} should be settled, but {row[0]} changes are pending; {seen}",
            frozenset({"pending"}),
        )
    return seen


DAILY = Oracle(
    tally="media.daily_contributions",
    key=("date",),
    measures=("count",),
    derived="media.daily_contributions",
    truth=f"""
SELECT {DAY_OF.format("coalesce(original_created_at, created_at)")} AS date,
       count(*)::integer AS count
FROM media.media_files GROUP BY 1""",
    pending="SELECT date FROM tallykeeper.media_daily_contributions_log",
)

HOURLY = Oracle(
    tally="media.hourly_contributions",
    key=("hour",),
    measures=("count",),
    derived="media.hourly_contributions",
    truth=f"""
SELECT {HOUR_OF.format("coalesce(original_created_at, created_at)")} AS hour,
       count(*)::integer AS count
FROM media.media_files GROUP BY 1""",
    pending="SELECT hour FROM tallykeeper.media_hourly_contributions_log",
)

# A key is pending if some post of the log ever had, by the log or by the sources, its hour and
# (at whatever other time) its tag.
TAG_HOURS = Oracle(
    tally="forum.tag_hours",
    key=("tag_id", "hour"),
    measures=("posts", "authors"),
    derived="forum.tag_hours",
    truth=f"""
SELECT t.tag_id, {HOUR_OF.format("p.created_at")} AS hour,
       count(*)::integer AS posts, count(DISTINCT p.author_id)::integer AS authors
FROM forum.post_tags AS t, forum.posts AS p
WHERE p.id = t.post_id AND p.deleted_at IS NULL GROUP BY 1, 2""",
    pending=f"""
SELECT tag_id, hour FROM (
  SELECT post_id, hour FROM tallykeeper.forum_tag_hours_log WHERE hour IS NOT NULL
  UNION SELECT id, {HOUR_OF.format("created_at")} FROM forum.posts
) AS hours JOIN (
  SELECT post_id, tag_id FROM tallykeeper.forum_tag_hours_log WHERE tag_id IS NOT NULL
  UNION SELECT post_id, tag_id FROM forum.post_tags
) AS tags USING (post_id)
WHERE post_id IN (SELECT post_id FROM tallykeeper.forum_tag_hours_log)""",
    engine_pending="tallykeeper.forum_tag_hours_pending_keys",
)

ITEM_TAGS = Oracle(
    tally="shelf.item_tags",
    key=("item_id", "tag_id"),
    measures=(),
    derived="shelf.item_tags",
    truth="""
SELECT i.id AS item_id, t AS tag_id FROM shelf.items AS i, unnest(i.tags) AS t
WHERE t IS NOT NULL GROUP BY 1, 2""",
    pending="SELECT item_id FROM tallykeeper.shelf_item_tags_log",
    engine_pending="tallykeeper.shelf_item_tags_pending_keys",
    group=("item_id",),
)

PERSON_SUMS = Oracle(
    tally="desk.person_sums",
    key=("shop_id", "person_id"),
    measures=("moves", "amount"),
    derived="desk.person_sums",
    truth="""
SELECT shop_id, person_id, count(*)::integer AS moves, sum(amount) AS amount FROM (
  SELECT shop_id, person_id, coalesce(amount, 0) AS amount FROM desk.sales WHERE NOT is_void
  UNION ALL SELECT shop_id, clerk_id, -amount FROM desk.refunds WHERE shop_id IS NOT NULL
) AS m WHERE person_id IS NOT NULL GROUP BY 1, 2
UNION ALL
SELECT shop_id, NULL, count(*)::integer, sum(amount) FROM (
  SELECT shop_id, coalesce(amount, 0) AS amount FROM desk.sales WHERE NOT is_void
  UNION ALL SELECT shop_id, -amount FROM desk.refunds WHERE shop_id IS NOT NULL
) AS m GROUP BY 1""",
    # Each row counts for its person and for the whole shop.
    pending="""
SELECT coalesce("1.shop_id", "2.shop_id") AS shop_id, person_id
FROM tallykeeper.desk_person_sums_log,
  LATERAL (VALUES (coalesce("1.person_id", "2.clerk_id")), (NULL)) AS p (person_id)""",
)

BEST_SALES = Oracle(
    tally="desk.best_sales",
    key=("shop_id", "person_id"),
    measures=("amount", "sales"),
    derived="desk.best_sales",
    truth="""
SELECT shop_id, person_id, max(amount)::numeric AS amount, count(*)::integer AS sales
FROM desk.sales GROUP BY 1, 2""",
    pending="SELECT shop_id, person_id FROM tallykeeper.desk_best_sales_log",
    engine_pending="tallykeeper.desk_best_sales_pending_keys",
)

# An order's shops with its items, then and now; and of a listed item, what is ordered now.
SHOP_ITEMS = Oracle(
    tally="mart.shop_items",
    key=("shop_id", "item_id"),
    measures=("pieces",),
    derived="mart.shop_items",
    truth="""
SELECT o.shop_id, l.item_id, sum(l.pieces) AS pieces FROM mart.order_lines AS l
JOIN mart.orders AS o ON o.id = l.order_id
WHERE l.item_id IN (SELECT item_id FROM mart.listed) GROUP BY 1, 2""",
    pending="""
SELECT shop_id, item_id FROM (
  SELECT order_id, shop_id FROM tallykeeper.mart_shop_items_log WHERE shop_id IS NOT NULL
  UNION SELECT id, shop_id FROM mart.orders
) AS shops JOIN (
  SELECT order_id, item_id FROM tallykeeper.mart_shop_items_log WHERE item_id IS NOT NULL
  UNION SELECT order_id, item_id FROM mart.order_lines
) AS items USING (order_id)
WHERE order_id IN (SELECT order_id FROM tallykeeper.mart_shop_items_log)
UNION
SELECT o.shop_id, l.item_id FROM mart.orders AS o JOIN mart.order_lines AS l ON l.order_id = o.id
WHERE l.item_id IN (SELECT item_id FROM tallykeeper.mart_shop_items_log WHERE order_id IS NULL)""",
    engine_pending="tallykeeper.mart_shop_items_pending_keys",
)

SHOP_SUMS = Oracle(
    tally="mart.shop_sums",
    key=("shop_id",),
    measures=("items", "pieces"),
    derived="mart.shop_sums",
    truth="""
SELECT o.shop_id, count(DISTINCT l.item_id)::integer AS items, sum(l.pieces) AS pieces
FROM mart.order_lines AS l JOIN mart.orders AS o ON o.id = l.order_id
JOIN mart.listed AS i ON i.item_id = l.item_id GROUP BY 1""",
    followed="""
SELECT shop_id, count(*)::integer AS items, sum(pieces) AS pieces
FROM mart.shop_items GROUP BY 1""",
    pending="SELECT shop_id FROM tallykeeper.mart_shop_sums_log",
)

GALLERY_ITEMS = """(
  SELECT id, 'regular' AS source, creator_id, tags FROM gallery.content_items
  UNION ALL SELECT id, 'auto', creator_id, tags FROM gallery.content_items_auto
) AS i"""

# An item is pending if the log marks it, or has a tag that its array names now.
ITEMS_PENDING = (
    """
SELECT "0.content_id" AS content_id, "0.content_source" AS content_source FROM {log}
WHERE "0.content_id" IS NOT NULL
UNION SELECT id, source FROM """
    + GALLERY_ITEMS
    + """
WHERE EXISTS (SELECT FROM {log} AS l WHERE l."3.id" = ANY (i.tags))"""
)

GEN_SOURCE_STATS = Oracle(
    tally="gallery.gen_source_stats",
    key=("user_id", "source_type"),
    measures=("count",),
    derived="gallery.gen_source_stats",
    truth=f"""
SELECT creator_id AS user_id, source AS source_type, count(*)::integer AS count
FROM {GALLERY_ITEMS} GROUP BY 1, 2
UNION ALL SELECT NULL, source, count(*)::integer FROM {GALLERY_ITEMS} GROUP BY 2""",
    pending="SELECT user_id, source_type FROM tallykeeper.gallery_gen_source_stats_log",
)

CONTENT_TAGS = Oracle(
    tally="gallery.content_tags",
    key=("content_id", "content_source", "tag_id"),
    measures=(),
    derived="gallery.content_tags",
    truth=f"""
SELECT i.id AS content_id, source AS content_source, t.id AS tag_id
FROM {GALLERY_ITEMS} JOIN gallery.tags AS t ON t.id = ANY (i.tags)""",
    pending=ITEMS_PENDING.format(log="tallykeeper.gallery_content_tags_log"),
    group=("content_id", "content_source"),
)

UNKNOWN_TAGS = """SELECT DISTINCT e FROM unnest(i.tags) AS e
  WHERE e IS NOT NULL AND e NOT IN (SELECT id FROM gallery.tags) ORDER BY e"""

CONTENT_TAGS_LEFT_OUT = Oracle(
    tally="gallery.content_tags_left_out",
    key=("content_id", "content_source"),
    measures=("unknown_tags", "null_elements"),
    derived="gallery.content_tags_left_out",
    truth=f"""
SELECT content_id, content_source, unknown_tags, null_elements FROM (
  SELECT i.id AS content_id, source AS content_source, ARRAY({UNKNOWN_TAGS}) AS unknown_tags,
         (SELECT count(*) FROM unnest(i.tags) AS e WHERE e IS NULL)::integer AS null_elements
  FROM {GALLERY_ITEMS}
) AS i WHERE unknown_tags <> '{{}}' OR null_elements > 0""",
    pending=ITEMS_PENDING.format(log="tallykeeper.gallery_content_tags_left_out_log"),
)

TAG_CARDINALITY_STATS = Oracle(
    tally="gallery.tag_cardinality_stats",
    key=("tag_id", "content_source"),
    measures=("cardinality",),
    derived="gallery.tag_cardinality_stats",
    truth=f"""
SELECT t.id AS tag_id, source AS content_source, count(*)::integer AS cardinality
FROM {GALLERY_ITEMS} JOIN gallery.tags AS t ON t.id = ANY (i.tags) GROUP BY 1, 2""",
    followed="""
SELECT tag_id, content_source, count(*)::integer AS cardinality
FROM gallery.content_tags GROUP BY 1, 2""",
    pending="SELECT tag_id, content_source FROM tallykeeper.gallery_tag_cardinality_stats_log",
)

GALLERY = (GEN_SOURCE_STATS, CONTENT_TAGS, CONTENT_TAGS_LEFT_OUT, TAG_CARDINALITY_STATS)
