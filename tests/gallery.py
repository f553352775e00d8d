"""A small gallery to backfill: what its junction must hold by SQL by hand, and what batches did.

Nothing here asks the engine what is right. The history of positions is kept by a trigger on the
engine's own table, so that it tells of committed batches alone.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine

from tests.integration.support import execute, rows, scalar

JUNCTION = "gallery.content_tags"
TRUTH = """
SELECT DISTINCT i.id, i.source, t.id FROM (
  SELECT id, 'regular' AS source, tags FROM gallery.content_items
  UNION ALL SELECT id, 'auto', tags FROM gallery.content_items_auto
) AS i CROSS JOIN unnest(i.tags) AS n (tag_id) JOIN gallery.tags AS t ON t.id = n.tag_id"""
STORED = "SELECT content_id, content_source, tag_id FROM {}"

KEEP_HISTORY = (
    "CREATE TABLE IF NOT EXISTS public.history (number int GENERATED ALWAYS AS IDENTITY,"
    " begun timestamptz, lane text, mode text, after bigint, upto bigint, last boolean)",
    "CREATE OR REPLACE FUNCTION public.keep_history() RETURNS trigger LANGUAGE plpgsql AS $$"
    " BEGIN INSERT INTO public.history (begun, lane, mode, after, upto, last)"
    " VALUES (new.started_at, new.lane, new.mode, old.position, new.position,"
    " new.finished_at IS NOT NULL);"
    " RETURN NULL; END $$",
    "CREATE OR REPLACE TRIGGER keep_history AFTER UPDATE ON tallykeeper.backfills FOR EACH ROW"
    " WHEN (old.position IS DISTINCT FROM new.position"
    " OR old.finished_at IS DISTINCT FROM new.finished_at)"
    " EXECUTE FUNCTION public.keep_history()",
)


def fill(engine: Engine, items: int, tags: int = 40) -> None:
    """Users, tags, and items in both lanes: doubled tags, nulls, unknown ids, and none at all."""
    insert = (
        "INSERT INTO gallery.{} (creator_id, tags) SELECT u.id, CASE WHEN i % 10 = 0 THEN '{{}}'"
        " ELSE (SELECT array_agg(t.id) FROM gallery.tags AS t"
        "  WHERE hashtext(t.name || i) % 10 = 0) || CASE WHEN i % 7 = 0 THEN"
        "  ARRAY[NULL, gen_random_uuid(), (SELECT id FROM gallery.tags WHERE name = 't1'),"
        "   (SELECT id FROM gallery.tags WHERE name = 't1')]::uuid[] ELSE '{{}}' END END"
        " FROM generate_series(1, {}) AS i, gallery.users AS u"
    )
    execute(
        engine,
        "INSERT INTO gallery.users (username) VALUES ('somebody')",
        f"INSERT INTO gallery.tags (name) SELECT 't' || i FROM generate_series(1, {tags}) AS i",
        insert.format("content_items", items),
        insert.format("content_items_auto", items),
    )


def differing(engine: Engine, relation: str = JUNCTION) -> int:
    """How many rows are in the relation or in the truth but not in both, in one snapshot."""
    stored = STORED.format(relation)
    return int(
        scalar(
            engine,
            f"SELECT count(*) FROM (({stored} EXCEPT ALL {TRUTH})"
            f" UNION ALL ({TRUTH} EXCEPT ALL {stored})) AS differing",
        )
    )


def built(engine: Engine) -> list[tuple[str, ...]]:
    """All that belongs to the junction: indexes, constraints, triggers, its replica identity."""
    return rows(
        engine,
        f"""
WITH t AS (SELECT '{JUNCTION}'::regclass AS oid)
SELECT 'index', pg_get_indexdef(indexrelid) FROM pg_index, t WHERE indrelid = oid
UNION ALL SELECT 'constraint ' || conname, pg_get_constraintdef(c.oid)
FROM pg_constraint AS c, t WHERE conrelid = t.oid
UNION ALL SELECT 'trigger ' || tgenabled::text, pg_get_triggerdef(g.oid)
FROM pg_trigger AS g, t WHERE tgrelid = t.oid AND NOT tgisinternal
UNION ALL SELECT 'inner triggers', count(*)::text
FROM pg_trigger AS g, t WHERE tgrelid = t.oid AND tgisinternal
UNION ALL SELECT 'column ' || attname, attnotnull::text
FROM pg_attribute AS a, t WHERE attrelid = t.oid AND attnum > 0
UNION ALL SELECT 'replica identity', relreplident::text FROM pg_class AS c JOIN t USING (oid)
ORDER BY 1, 2""",
    )


def require_each_batch_once(engine: Engine) -> dict[str, int]:
    """Each committed batch began where the one before it ended: how many there were, by lane.

    A lane that is begun anew begins at its start again.
    """
    history = rows(
        engine, "SELECT lane, begun, after, upto, last FROM public.history ORDER BY number"
    )
    counts: dict[str, int] = {}
    ends: dict[tuple[Any, ...], tuple[int | None, bool]] = {}
    for lane, begun, after, upto, last in history:
        ended, finished = ends.get((lane, begun), (None, False))
        assert not finished, f"{lane}: a batch from {after} after the last one"
        assert after == ended, f"{lane}: a batch began at {after}, the one before ended at {ended}"
        ends[lane, begun] = (upto, last)
        counts[lane] = counts.get(lane, 0) + 1
    return counts
