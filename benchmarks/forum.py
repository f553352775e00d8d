"""A forum of a given size in a database of its own, with its tags counted by hour.

The tables and the declaration are the example that the tests prove exact: posts, their tags, and
distinct authors by tag and hour, which only recomputing keeps right.
"""

from __future__ import annotations

from sqlalchemy import Engine

import tallykeeper
from benchmarks.progress import announce
from benchmarks.report import count
from benchmarks.server import Server, execute, vacuum
from tallykeeper.database import sql
from tests.tag_hours import post_tags, posts, system, tag_hours, tally

POSTS, POST_TAGS, TAG_HOURS = (sql.name_of(table) for table in (posts, post_tags, tag_hours))
# A longer history, not a busier one: an hour holds as many uses at every size.
USES_PER_DAY = 13_700
USES_PER_POST, TAGS, AUTHORS = 2.5, 5_000, 50_000
# A few tags are used often, many seldom.
SOME_TAG = f"(1 + {TAGS} * random() ^ 3)::bigint"
SOME_AUTHOR = f"({AUTHORS} * random())::bigint"


class Forum:
    """About `uses` uses of tags up to now, 13,700 on a day: two years are 10 million."""

    def __init__(self, server: Server, uses: int) -> None:
        announce(f"making a forum of {count(uses)} tag uses")
        self.uses = uses
        self.engine: Engine = server.database(f"forum_{uses}")
        written = int(uses / USES_PER_POST)
        days = uses / USES_PER_DAY
        with self.engine.begin() as connection:
            sql.execute(connection, f"CREATE SCHEMA {sql.quote(posts.schema or 'public')}")
            system.metadata.create_all(connection)
        self.execute(
            "SELECT setseed(0.5)",
            f"INSERT INTO {POSTS} (author_id, created_at) SELECT {SOME_AUTHOR},"
            f" now() - interval '1 day' * {days} * (({written} - i + random()) / {written})"
            f" FROM generate_series(1, {written}) AS i",
            f"INSERT INTO {POST_TAGS} (post_id, tag_id)"
            f" SELECT 1 + floor(i / {USES_PER_POST})::bigint, {SOME_TAG}"
            f" FROM generate_series(0, {uses} - 1) AS i ON CONFLICT DO NOTHING",
            # What the tally's readers ask by.
            f"CREATE INDEX tag_hours_hour ON {TAG_HOURS} (hour)",
        )
        with self.engine.begin() as connection:
            tallykeeper.install(connection, system.tallies)
        self.vacuum()
        tallykeeper.rebuild(self.engine, tally)
        self.vacuum()

    def execute(self, *statements: str) -> None:
        """Run SQL in one transaction of its own."""
        execute(self.engine, *statements)

    def vacuum(self) -> None:
        """VACUUM and ANALYZE everything, and a checkpoint."""
        vacuum(self.engine)

    def change(self, changes: int) -> None:
        """One-row changes to posts of the last 48 hours, and one in a hundred to one of any age.

        Tags added and removed, posts written, deleted, and moved by an hour.
        """
        self.execute(
            f"""
DO $$
DECLARE
  highest CONSTANT bigint := (SELECT max(id) FROM {POSTS});
  newest CONSTANT timestamptz := (SELECT max(created_at) FROM {POSTS});
  recent CONSTANT bigint[] :=
    ARRAY(SELECT id FROM {POSTS} WHERE created_at > newest - interval '48 hours');
  post bigint;
BEGIN
  FOR i IN 1..{changes} LOOP
    IF i % 100 = 0 THEN
      post := 1 + floor(random() * highest);
    ELSE
      post := recent[1 + floor(random() * cardinality(recent))];
    END IF;
    CASE i % 10
      WHEN 1, 2, 3 THEN
        INSERT INTO {POST_TAGS} (post_id, tag_id) VALUES (post, {SOME_TAG})
        ON CONFLICT DO NOTHING;
      WHEN 4, 5, 6 THEN
        DELETE FROM {POST_TAGS} WHERE (post_id, tag_id) =
          (SELECT post_id, tag_id FROM {POST_TAGS} WHERE post_id = post LIMIT 1);
      WHEN 7 THEN
        INSERT INTO {POSTS} (author_id, created_at)
        VALUES ({SOME_AUTHOR}, newest - random() * interval '48 hours') RETURNING id INTO post;
        INSERT INTO {POST_TAGS} (post_id, tag_id) VALUES (post, {SOME_TAG});
      WHEN 8 THEN
        UPDATE {POSTS} SET deleted_at = now() WHERE id = post AND deleted_at IS NULL;
      ELSE
        UPDATE {POSTS} SET created_at = created_at - interval '1 hour' WHERE id = post;
    END CASE;
  END LOOP;
END
$$"""
        )
