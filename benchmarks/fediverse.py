"""An instance of a given size in a database of its own: posts and hashtags, made in the server.

The tables that processing derives are written here directly; `streams.py` makes events that are to
be processed. Posts come evenly, 16,000 on a day, so that a bigger size is a longer history and an
hour holds the same at every size. A tenth are reblogs, without hashtags; a few hashtags are used
often, many seldom (Zipf's law, flattened at the top as Mandelbrot has it).
"""

from __future__ import annotations

from sqlalchemy import Engine

import tallykeeper
from assets.fediverse import tables
from assets.fediverse.tallies import system
from benchmarks.gallery import ranked
from benchmarks.progress import announce
from benchmarks.report import count
from benchmarks.server import Server, execute, vacuum
from tallykeeper.catalog import state
from tallykeeper.database import sql

INSTANCES, EVENTS = sql.name_of(tables.instances), sql.name_of(tables.stream_events)
POSTS, HASHTAGS = sql.name_of(tables.mastodon_posts), sql.name_of(tables.hashtags)
POST_HASHTAGS = sql.name_of(tables.post_hashtags)
TAG_HOURS = sql.name_of(tables.hashtag_hourly_stats)

USES_PER_DAY, USES_PER_POST = 24_000, 1.5
POSTS_PER_HOUR = round(USES_PER_DAY / USES_PER_POST / 24)
TAGS, ACCOUNTS = 50_000, 200_000
# So many of the first ranks are about alike.
LEVEL_TAGS, LEVEL_ACCOUNTS = 20, 100
# Nine in ten posts are no reblogs, and have none to so many hashtags, evenly.
MOST_TAGS = round(2 * USES_PER_POST / 0.9, 1)
UPDATED_AT_ONCE = 1_000

# What a post says, as HTML and as text: about 300 and 250 characters.
_WORDS = "(SELECT string_agg(md5((i * 8 + w)::text), ' ') FROM generate_series(1, 7) AS w)"


class Fediverse:
    """One instance with about `uses` uses of hashtags up to now; all tallies installed and built.

    Without `uses` there is nothing but the tables, the functions and the capture.
    """

    def __init__(self, server: Server, uses: int = 0, database: str = "") -> None:
        self.uses = uses
        self.engine: Engine = server.database(database or f"fediverse_{uses}")
        with self.engine.begin() as connection:
            sql.execute(
                connection, f"CREATE SCHEMA {sql.quote(tables.metadata.schema or 'public')}"
            )
            tables.metadata.create_all(connection)
            state.create(connection)
            assert system.prepare is not None
            system.prepare(connection)
        self.execute(f"INSERT INTO {INSTANCES} (base_url) VALUES ('https://social.example')")
        if uses:
            announce(f"making an instance of {count(uses)} uses of hashtags")
            self._load()
        with self.engine.begin() as connection:
            tallykeeper.install(connection, system.tallies)
        self.vacuum()
        for tally in system.tallies:
            announce(f"building {tally.name}")
            tallykeeper.rebuild(self.engine, tally)
        self.vacuum()

    def execute(self, *statements: str) -> None:
        """Run SQL in one transaction of its own."""
        execute(self.engine, *statements)

    def vacuum(self) -> None:
        """VACUUM and ANALYZE everything, and a checkpoint."""
        vacuum(self.engine)

    def another_hour(self, count_changes: int) -> None:
        """An hour's posts, and count changes of posts of the last 48 hours.

        In statements of about a thousand rows, as processing writes them.
        """
        self.execute(
            f"""
DO $$
DECLARE
  highest CONSTANT bigint := (SELECT max(id::bigint) FROM {POSTS});
  newest CONSTANT timestamptz := (SELECT max(created_at) FROM {POSTS});
  recent CONSTANT text[] := ARRAY(
    SELECT id FROM {POSTS}
    WHERE created_at > newest - interval '48 hours' AND reblog_of_id IS NULL);
BEGIN
  {_insert(f"highest + 1 AND highest + {POSTS_PER_HOUR}", "newest + random() * interval '1 hour'")};
  FOR i IN 1..{count_changes // UPDATED_AT_ONCE} LOOP
    UPDATE {POSTS} SET favourites_count = favourites_count + 1,
      reblogs_count = reblogs_count + (id::bigint % 3 = 0)::int
    WHERE instance_id = 1 AND id IN (
      SELECT recent[1 + floor(random() * cardinality(recent))]
      FROM generate_series(1, {UPDATED_AT_ONCE}));
  END LOOP;
END
$$"""
        )

    def take(self) -> None:
        """Refresh all tallies, so that nothing is pending."""
        for tally in system.tallies:
            tallykeeper.refresh(self.engine, tally)

    def _load(self) -> None:
        written = int(self.uses / USES_PER_POST)
        days = self.uses / USES_PER_DAY
        loaded = (tables.mastodon_posts, tables.hashtags, tables.post_hashtags)
        with self.engine.begin() as connection:
            for table in loaded:
                for index in table.indexes:
                    index.drop(connection)
            sql.execute(connection, "SELECT setseed(0.5)")
            sql.execute(
                connection,
                f"INSERT INTO {HASHTAGS} (instance_id, name)"
                f" SELECT 1, 'tag' || i FROM generate_series(1, {TAGS}) AS i",
            )
            moment = f"now() - interval '1 day' * {days} * (({written} - i + random()) / {written})"
            for statement in _insert(f"1 AND {written}", moment).split(";\n"):
                sql.execute(connection, statement)
            sql.execute(connection, "SET LOCAL maintenance_work_mem = '1GB'")
            for table in loaded:
                for index in table.indexes:
                    index.create(connection)


def _insert(numbers: str, moment: str) -> str:
    """SQL that writes posts of the numbers `BETWEEN` which `numbers` says, and their hashtags.

    `moment` is SQL for when the post `i` was published.
    """
    low, high = numbers.split(" AND ")
    return f"""
INSERT INTO {POSTS} (instance_id, id, account_id, domain, url, uri, content, content_text,
  language, visibility, replies_count, reblogs_count, favourites_count, in_reply_to_id,
  reblog_of_id, created_at, first_seen_at)
SELECT 1, i, account, 'host' || account % 500 || '.example',
  'https://social.example/@user' || account || '/' || i,
  'https://social.example/users/user' || account || '/statuses/' || i,
  CASE WHEN reblog IS NULL THEN '<p>' || words || '</p>' END,
  CASE WHEN reblog IS NULL THEN words END,
  CASE WHEN reblog IS NULL THEN (ARRAY['en', 'en', 'en', 'de', 'ja', 'fr'])[1 + i % 6] END,
  CASE WHEN i % 10 = 3 THEN 'unlisted' WHEN i % 20 = 5 THEN 'private' ELSE 'public' END,
  floor(random() * 2), floor(4 * random() ^ 4), floor(10 * random() ^ 4),
  CASE WHEN i % 5 = 1 THEN i - 1 END, reblog, moment, moment
FROM (
  SELECT i, {ranked(ACCOUNTS, LEVEL_ACCOUNTS)} AS account, {moment} AS moment,
    CASE WHEN i % 10 = 0 THEN i - 7 END AS reblog, {_WORDS} AS words
  FROM generate_series({low}, {high}) AS i
) AS written;
INSERT INTO {POST_HASHTAGS} (instance_id, post_id, hashtag_id)
SELECT DISTINCT 1, i, 1 + {ranked(TAGS, LEVEL_TAGS)}
FROM generate_series({low}, {high}) AS i,
  generate_series(1, round(random() * {MOST_TAGS} + (i - i))::int) AS nth
WHERE i % 10 <> 0"""
