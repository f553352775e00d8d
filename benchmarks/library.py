"""A media library of a given size in a database of its own, with both tallies installed and built.

All of it is made inside the server: the files' days lie at random over ten years, nine in ten know
their own date, and the rest count on the day that the library got them.
"""

from __future__ import annotations

from sqlalchemy import Engine

import tallykeeper
from assets.media import tables
from assets.media.tallies import daily_contributions, hourly_contributions, system
from benchmarks.progress import announce
from benchmarks.report import count
from benchmarks.server import Server, execute, vacuum
from tallykeeper.database import sql

FILES = sql.name_of(tables.media_files)
MOMENT = "timestamptz '2015-01-01Z' + random() * interval '3652 days'"


class Library:
    """`files` files in the database behind `engine`."""

    def __init__(self, server: Server, files: int, database: str = "") -> None:
        announce(f"making a library of {count(files)} files")
        self.files = files
        self.engine: Engine = server.database(database or f"media_{files}")
        with self.engine.begin() as connection:
            sql.execute(
                connection, f"CREATE SCHEMA {sql.quote(tables.metadata.schema or 'public')}"
            )
            tables.metadata.create_all(connection)
            for index in tables.media_files.indexes:
                index.drop(connection)
            sql.execute(connection, "SELECT setseed(0.5)")
            sql.execute(
                connection,
                f"INSERT INTO {FILES} (path, original_created_at, created_at)"
                f" SELECT 'album/' || lpad(i::text, 9, '0') || '.jpg',"
                f" CASE WHEN random() < 0.9 THEN {MOMENT} END, {MOMENT}"
                f" FROM generate_series(1, {files}) AS i",
            )
            for index in tables.media_files.indexes:
                index.create(connection)
            tallykeeper.install(connection, system.tallies)
        self.vacuum()
        for tally in system.tallies:
            tallykeeper.rebuild(self.engine, tally)

    def execute(self, *statements: str) -> None:
        """Run SQL in one transaction of its own."""
        execute(self.engine, *statements)

    def vacuum(self) -> None:
        """VACUUM and ANALYZE everything, and a checkpoint."""
        vacuum(self.engine)

    def change(self, changes: int) -> None:
        """Insert, move to another day, and delete: a third each, a statement each, random days."""
        some = f"(SELECT id FROM {FILES} WHERE id >= chosen ORDER BY id LIMIT 1)"
        self.execute(
            f"""
DO $$
DECLARE
  highest CONSTANT bigint := (SELECT max(id) FROM {FILES});
  chosen bigint;
BEGIN
  FOR i IN 1..{changes} LOOP
    chosen := 1 + floor(random() * highest);
    IF i % 3 = 0 THEN
      INSERT INTO {FILES} (path, original_created_at)
      VALUES ('added/' || gen_random_uuid(), {MOMENT});
    ELSIF i % 3 = 1 THEN
      UPDATE {FILES} SET original_created_at = {MOMENT} WHERE id = {some};
    ELSE
      DELETE FROM {FILES} WHERE id = {some};
    END IF;
  END LOOP;
END
$$"""
        )

    def forget_pending(self) -> None:
        """Bring both tallies up to date, so that nothing is pending."""
        tallykeeper.refresh(self.engine, daily_contributions)
        tallykeeper.refresh(self.engine, hourly_contributions)
