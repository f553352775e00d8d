"""A gallery of a given number of links in a database of its own, made inside the server.

77 tags an item, of 100,000 tags used as tags are: a few on a third of all items, most on a few
hundred in a million. Three years of items, by 2,000 creators of whom some make much more than
others; six in ten are regular, the rest generated; one in ten is private.
"""

from __future__ import annotations

from sqlalchemy import Engine

import tallies
from assets.gallery import tables
from assets.gallery.tallies import system
from benchmarks.progress import announce
from benchmarks.report import count
from benchmarks.server import Server, execute, vacuum
from tallies import Tally, sql

USERS, TAGS = (sql.name_of(table) for table in (tables.users, tables.tags))
TAGS_PER_ITEM, TAG_COUNT, USER_COUNT = 77, 100_000, 2_000
DAYS = 1_095
# The share of the items, and how they lie in time: one after the other.
SHARES = {tables.REGULAR: 0.6, tables.AUTO: 0.4}


def some(most: int, even: int) -> str:
    """SQL for a number from 0 below `most`, each as likely as 1 / (itself + `even`)."""
    return (
        f"least({most} - 1, floor({even} * power(({most} + {even}) / {even}::float8, random()))"
        f" - {even})::integer"
    )


def uuid_of(number: str, kind: int) -> str:
    """SQL for the id of the tag (1) or user (2) of that number."""
    return f"('{kind:08d}-0000-4000-8000-' || lpad(to_hex({number}), 12, '0'))::uuid"


class Gallery:
    """About `links` links of items and tags; capture installed, nothing built yet."""

    def __init__(self, server: Server, links: int, database: str = "") -> None:
        announce(f"making a gallery of {count(links)} links")
        self.links = links
        self.items = links // TAGS_PER_ITEM
        self.engine: Engine = server.database(database or f"gallery_{links}")
        with self.engine.begin() as connection:
            sql.execute(
                connection, f"CREATE SCHEMA {sql.quote(tables.metadata.schema or 'public')}"
            )
            tables.metadata.create_all(connection)
            sql.execute(connection, "SELECT setseed(0.5)")
            sql.execute(
                connection,
                f"INSERT INTO {USERS} (id, username) SELECT {uuid_of('n', 2)}, 'user ' || n"
                f" FROM generate_series(0, {USER_COUNT - 1}) AS n",
            )
            sql.execute(
                connection,
                f"INSERT INTO {TAGS} (id, name) SELECT {uuid_of('n', 1)}, 'tag ' || n"
                f" FROM generate_series(0, {TAG_COUNT - 1}) AS n",
            )
        for source, share in SHARES.items():
            self._make_items(source, int(self.items * share))
        with self.engine.begin() as connection:
            tallies.install(connection, system.tallies)
        self.vacuum()

    def _make_items(self, source: str, items: int) -> None:
        """Indexes come after the rows, as in a restore."""
        table = tables.ITEMS[source]
        per_item = 2 * TAGS_PER_ITEM - 1
        with self.engine.begin() as connection:
            for index in table.indexes:
                index.drop(connection)
            sql.execute(
                connection,
                f"INSERT INTO {sql.name_of(table)}"
                " (title, content_type, creator_id, created_at, is_private, tags)"
                f" SELECT 'item ' || i, 'image', {uuid_of(some(USER_COUNT, 5), 2)},"
                f" now() - interval '1 day' * ({DAYS} * ({items} - i + random()) / {items}),"
                " random() < 0.1,"
                f" ARRAY(SELECT {uuid_of(some(TAG_COUNT, 20), 1)}"
                f"  FROM generate_series(1, 1 + (i * 61) % {per_item}))"
                f" FROM generate_series(1, {items}) AS i",
            )
        with self.engine.begin() as connection:
            sql.execute(connection, "SET LOCAL maintenance_work_mem = '1GB'")
            for index in table.indexes:
                index.create(connection)

    def build(self, *wanted: Tally) -> None:
        """Build the tallies (by default all), and vacuum."""
        for tally in wanted or system.tallies:
            announce(f"building {tally.name}")
            tallies.refresh(self.engine, tally)
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
            table = sql.name_of(tables.ITEMS[source])
            self.execute(
                f"""
DO $$
DECLARE
  highest CONSTANT integer := (SELECT max(id) FROM {table});
BEGIN
  FOR i IN 1..{int(items * share)} LOOP
    UPDATE {table} SET tags = tags[2:] || {uuid_of(some(TAG_COUNT, 20), 1)}, updated_at = now()
    WHERE id = 1 + floor(random() * highest)::integer;
  END LOOP;
END
$$"""
            )
