"""A gallery of a given size in a database of its own, all of it made inside the server.

Tags are used as in life: a few by most items, many by a handful (Zipf's law, flattened at the top
as Mandelbrot has it). Items come over three years, with about 77 tags each, from creators of whom
a few make much. The arrays are loaded without indexes and triggers, which are made afterwards.
"""

from __future__ import annotations

from sqlalchemy import Engine

import tallies
from assets.gallery import tables
from assets.gallery.tallies import system
from benchmarks.progress import announce
from benchmarks.report import count
from benchmarks.server import Server, execute, vacuum
from tallies import sql

USERS, TAGS = sql.name_of(tables.users), sql.name_of(tables.tags)
ITEMS = {source: sql.name_of(items) for source, items in tables.ITEMS.items()}
CREATORS, NAMES, DAYS = 2_000, 50_000, 1_096
TAGS_PER_ITEM = 77
SHARES = {tables.REGULAR: 0.6, tables.AUTO: 0.4}
# How far the first ranks are alike; the most used tag is then on two items of three.
LEVEL = 60
# Some draws hit a tag that the item has already.
DRAWS = TAGS_PER_ITEM * 1.085


class Gallery:
    """Items with about `links` tags altogether, three in five of them regular, with all tallies.

    Where `built` is false nothing is built yet: the derived tables are empty.
    """

    def __init__(self, server: Server, links: int, *, built: bool = True) -> None:
        announce(f"making a gallery of {count(links)} links")
        self.links = links
        self.engine: Engine = server.database(f"gallery_{links}")
        self._create()
        for source, share in SHARES.items():
            self._load(source, round(links / TAGS_PER_ITEM * share))
        with self.engine.begin() as connection:
            for items in tables.ITEMS.values():
                for index in items.indexes:
                    index.create(connection)
            tallies.install(connection, system.tallies)
        self.vacuum()
        if built:
            for tally in system.tallies:
                announce(f"building {tally.name}")
                tallies.rebuild(self.engine, tally)
            self.vacuum()

    def execute(self, *statements: str) -> None:
        """Run SQL in one transaction of its own."""
        execute(self.engine, *statements)

    def vacuum(self) -> None:
        """VACUUM and ANALYZE everything, and a checkpoint."""
        vacuum(self.engine)

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
            "SELECT setseed(0.5)",
            f"INSERT INTO {USERS} (username)"
            f" SELECT 'user' || i FROM generate_series(1, {CREATORS}) AS i",
            f"INSERT INTO {TAGS} (name)"
            f" SELECT 'tag' || lpad(i::text, 5, '0') FROM generate_series(1, {NAMES}) AS i",
        )

    def _load(self, source: str, items: int) -> None:
        end = 1 - (LEVEL / (NAMES + LEVEL)) ** 0.5
        rank = f"(1 + {LEVEL} * ((1 - random() * {end}) ^ -2 - 1))::integer"
        self.execute(
            "SELECT setseed(0.25)",
            f"""
INSERT INTO {ITEMS[source]} (title, content_type, creator_id, created_at, is_private, tags)
SELECT 'item ' || i, (ARRAY['image', 'image', 'image', 'video'])[1 + i % 4],
  (SELECT array_agg(id ORDER BY username) FROM {USERS})[1 + floor({CREATORS} * random() ^ 3)],
  -- In order but for a few hours, as if some were sent in late.
  timestamptz '2022-11-20Z' + {DAYS} * interval '1 day' * (i::float8 / {items})
    - random() * interval '6 hours',
  random() < 0.1,
  (SELECT array_agg(DISTINCT (SELECT array_agg(id ORDER BY name) FROM {TAGS})[{rank}])
   -- A sum of three waits: seldom very few, seldom very many.
   FROM generate_series(1, 1 + (
     -ln((1 - random()) * (1 - random()) * (1 - random())) * {DRAWS / 3} + i * 0)::integer))
FROM generate_series(1, {items}) AS i""",
        )
