"""A gallery of a given size in a database of its own, all of it made inside the server.

Tags are used as in life: a few by a third of all items, many by a handful (Zipf's law, flattened at
the top as Mandelbrot has it). Items come over three years, with about 77 tags each, from creators
of whom a few make much; three in five are regular. The arrays are loaded without indexes and
triggers, which are made afterwards.
"""

from __future__ import annotations

from sqlalchemy import Engine

import tallykeeper
from assets.gallery import tables
from assets.gallery.tallies import system
from benchmarks.progress import announce
from benchmarks.report import count
from benchmarks.server import Server, execute, vacuum
from tallykeeper.database import sql

USERS, TAGS = sql.name_of(tables.users), sql.name_of(tables.tags)
ITEMS = {source: sql.name_of(items) for source, items in tables.ITEMS.items()}
CREATORS, NAMES, DAYS = 2_000, 100_000, 1_096
TAGS_PER_ITEM = 77
SHARES = {tables.REGULAR: 0.6, tables.AUTO: 0.4}
# So many of the first ranks are about alike.
LEVEL_TAGS, LEVEL_CREATORS = 20, 5


def ranked(most: int, level: int) -> str:
    """SQL for a number from 0 below `most`, each about as likely as 1 / (itself + `level`)."""
    return (
        f"least({most} - 1, floor({level} * power(({most} + {level}) / {level}::float8, random()))"
        f" - {level})::integer"
    )


def uuid_of(number: str, kind: int) -> str:
    """SQL for the id of the tag (kind 1) or user (2) of that number: no look-up, so it is quick."""
    return f"('{kind:08d}-0000-4000-8000-' || lpad(to_hex({number}), 12, '0'))::uuid"


SOME_TAG = uuid_of(ranked(NAMES, LEVEL_TAGS), 1)
SOME_CREATOR = uuid_of(ranked(CREATORS, LEVEL_CREATORS), 2)


class Gallery:
    """Items with about `links` tags altogether, with all tallies installed, and `built` or not."""

    def __init__(
        self, server: Server, links: int, database: str = "", *, built: bool = True
    ) -> None:
        announce(f"making a gallery of {count(links)} links")
        self.links = links
        self.engine: Engine = server.database(database or f"gallery_{links}")
        self._create()
        for source, share in SHARES.items():
            self._load(source, round(links / TAGS_PER_ITEM * share))
        with self.engine.begin() as connection:
            sql.execute(connection, "SET LOCAL maintenance_work_mem = '1GB'")
            for items in tables.ITEMS.values():
                for index in items.indexes:
                    index.create(connection)
            tallykeeper.install(connection, system.tallies)
        self.vacuum()
        if built:
            for tally in system.tallies:
                announce(f"building {tally.name}")
                tallykeeper.refresh(self.engine, tally)
            self.vacuum()

    def execute(self, *statements: str) -> None:
        """Run SQL in one transaction of its own."""
        execute(self.engine, *statements)

    def vacuum(self) -> None:
        """VACUUM and ANALYZE everything, and a checkpoint."""
        vacuum(self.engine)

    def edit(self, items: int) -> None:
        """Edit the tags of that many items at random, a statement each: one on, one off."""
        for source, share in SHARES.items():
            self.execute(
                f"""
DO $$
DECLARE
  highest CONSTANT integer := (SELECT max(id) FROM {ITEMS[source]});
BEGIN
  FOR i IN 1..{int(items * share)} LOOP
    UPDATE {ITEMS[source]} SET tags = tags[2:] || {SOME_TAG}, updated_at = now()
    -- Drawn once: as a condition on each row it would be a scan of them all.
    WHERE id = (SELECT 1 + floor(random() * highest)::integer);
  END LOOP;
END
$$"""
            )

    def _create(self) -> None:
        with self.engine.begin() as connection:
            sql.execute(
                connection, f"CREATE SCHEMA {sql.quote(tables.metadata.schema or 'public')}"
            )
            tables.metadata.create_all(connection)
            for items in tables.ITEMS.values():
                for index in items.indexes:
                    index.drop(connection)
        self.execute(
            f"INSERT INTO {USERS} (id, username)"
            f" SELECT {uuid_of('i', 2)}, 'user' || i FROM generate_series(0, {CREATORS - 1}) AS i",
            f"INSERT INTO {TAGS} (id, name)"
            f" SELECT {uuid_of('i', 1)}, 'tag' || lpad(i::text, 6, '0')"
            f" FROM generate_series(0, {NAMES - 1}) AS i",
        )

    def _load(self, source: str, items: int) -> None:
        self.execute(
            "SELECT setseed(0.25)",
            f"""
INSERT INTO {ITEMS[source]} (title, content_type, creator_id, created_at, is_private, tags)
SELECT 'item ' || i, (ARRAY['image', 'image', 'image', 'video'])[1 + i % 4], {SOME_CREATOR},
  -- In order but for a few hours, as if some were sent in late.
  timestamptz '2022-11-20Z' + {DAYS} * interval '1 day' * (i::float8 / {items})
    - random() * interval '6 hours',
  random() < 0.1,
  ARRAY(
    SELECT {SOME_TAG}
    -- A sum of three waits: seldom very few, seldom very many.
    FROM generate_series(1, 1 + (
      -ln((1 - random()) * (1 - random()) * (1 - random())) * {TAGS_PER_ITEM / 3} + i * 0)::integer)
  )
FROM generate_series(1, {items}) AS i""",
        )
