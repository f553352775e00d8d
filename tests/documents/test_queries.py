"""The documents' own example queries beside the reads that answer them, over one set of odd data.

Each query is the document's in plain SQL over the tables, with the instance and the visibility
that every read looks at. The data are drawn from a hash of their numbers: ties, deletions, posts
that not everybody may see, counts that fall, snapshots and posts on the boundaries of windows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import exp
from random import Random
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, Engine

from assets.classroom.reads import submission_counts
from assets.fediverse.reads import (
    engagement_velocity,
    growing_hashtags,
    post_history,
    record_sentiment,
    sentiment_changes,
    top_domains,
    trending_hashtags,
)
from assets.fediverse.tallies import system as fediverse
from assets.gallery.reads import content_page, tag_counts, unified_content_stats
from assets.gallery.tallies import system as gallery
from assets.media.reads import daily_counts
from tallykeeper import refresh
from tests.documents.installation import by_hand, kept, run, undone
from tests.integration.support import execute
from tests.servers import Servers

AT = datetime(2025, 11, 20, 12, tzinfo=UTC)
HOUR, MICROSECOND = timedelta(hours=1), timedelta(microseconds=1)
SEEN = "p.deleted_at IS NULL AND p.visibility IN ('public', 'unlisted')"

# A number from 0 to below `n`, the same at every run.
DRAWN = "abs(hashtext({of}::text || '{salt}')) % {n}"


def drawn(of: str, n: int, salt: str = "") -> str:
    return DRAWN.format(of=of, n=n, salt=salt)


POSTS = f"""
INSERT INTO fediverse.mastodon_posts (instance_id, id, account_id, domain, visibility, content,
  content_text, created_at, first_seen_at, deleted_at, favourites_count, reblog_of_id)
SELECT 1 + (i % 11 = 0)::int, i, {drawn("i", 5, "who")},
  'd' || {drawn("i", 4, "domain")}, CASE WHEN i % 13 = 0 THEN 'private' ELSE 'public' END,
  'c', 'c', t, t, CASE WHEN i % 17 = 0 THEN t END, i, CASE WHEN i % 19 = 0 THEN 1 END
FROM (
  SELECT i, timestamptz '2025-11-20 12:00Z' - CASE
    WHEN i % 23 = 0 THEN interval '4 hours' WHEN i % 29 = 0 THEN interval '24 hours'
    ELSE ({drawn("i", 1800, "when")}) * interval '1 minute' END AS t
  FROM generate_series(1, 400) AS i
) AS p"""
HASHTAGS = f"""
INSERT INTO fediverse.hashtags (instance_id, name)
SELECT n, 'tag' || i FROM generate_series(1, 2) AS n, generate_series(1, 30) AS i;
INSERT INTO fediverse.post_hashtags (instance_id, post_id, hashtag_id)
SELECT p.instance_id, p.id, h.id FROM fediverse.mastodon_posts AS p
JOIN fediverse.hashtags AS h ON h.instance_id = p.instance_id
WHERE {drawn("(p.id::text || h.name)", 40)} < substr(h.name, 4)::int % 6;
-- One that a single post has used, and no other before.
INSERT INTO fediverse.hashtags (instance_id, name) VALUES (1, 'once');
INSERT INTO fediverse.post_hashtags (instance_id, post_id, hashtag_id)
SELECT 1, (SELECT id FROM fediverse.mastodon_posts AS p WHERE instance_id = 1 AND {SEEN}
  AND created_at < '2025-11-20 12:00Z' ORDER BY created_at DESC LIMIT 1), id
FROM fediverse.hashtags WHERE name = 'once'"""
SNAPSHOTS = f"""
INSERT INTO fediverse.post_metric_snapshots (instance_id, post_id, captured_at, favourites_count)
SELECT DISTINCT ON (1, 2, 3) p.instance_id, p.id, timestamptz '2025-11-20 11:00Z' + CASE
    WHEN n = 0 AND p.favourites_count % 3 = 0 THEN interval '0' WHEN n = 1 AND
      p.favourites_count % 5 = 0 THEN interval '-1 microsecond'
    ELSE ({drawn("(p.id::text || n)", 180)} - 120) * interval '1 minute' END,
  {drawn("(p.id::text || n)", 200, "count")}
FROM fediverse.mastodon_posts AS p, generate_series(0, 3) AS n
WHERE NOT (n < 2 AND p.favourites_count % 7 = 0) ORDER BY 1, 2, 3, 4"""


@pytest.fixture(scope="module")
def engine(postgres_servers: Servers) -> Iterator[Engine]:
    with kept(postgres_servers, "media", "gallery", "fediverse", "classroom") as engine:
        execute(
            engine,
            "INSERT INTO fediverse.instances (base_url) VALUES ('https://a'), ('https://b')",
            POSTS,
            HASHTAGS,
            SNAPSHOTS,
            *GALLERY,
            FILES,
            *COURSE,
        )
        yield engine


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    with undone(engine) as connection:
        yield connection


# The fediverse.


def velocity_by_hand(start: datetime, more_than: int) -> str:
    def last(which: str) -> str:
        return (
            "coalesce((SELECT s.favourites_count FROM fediverse.post_metric_snapshots AS s WHERE"
            f" s.instance_id = p.instance_id AND s.post_id = p.id AND s.captured_at {which}"
            f" '{start}' ORDER BY s.captured_at DESC LIMIT 1), 0)"
        )

    return (
        f"SELECT id::text, {last('>=')} - {last('<')} AS gained FROM fediverse.mastodon_posts AS p"
        f" WHERE p.instance_id = 1 AND {SEEN} AND {last('>=')} - {last('<')} > {more_than}"
        ' ORDER BY 2 DESC, p.id::text COLLATE "C"'
    )


@pytest.mark.parametrize("more_than", [0, 50])
def test_posts_that_gained_favourites_in_the_last_hour(
    connection: Connection, more_than: int
) -> None:
    expected = by_hand(connection, velocity_by_hand(AT - HOUR, more_than))
    # What is seen at the very beginning of the hour is of the hour for the document.
    start = AT - HOUR - MICROSECOND
    found = engagement_velocity(connection, 1, start, AT, more_than, baseline="zero", limit=10_000)
    assert len(expected) > 5
    gained = [(str(v.post_id), v.gained) for v in found]
    assert sorted(gained, key=lambda g: (-g[1], g[0])) == expected


TRENDING = f"""
SELECT h.name, count(*) FILTER (WHERE p.created_at >= '{AT - 4 * HOUR}') AS recent,
  count(*) FILTER (WHERE p.created_at >= '{AT - 24 * HOUR}'
    AND p.created_at < '{AT - 4 * HOUR}') AS baseline
FROM fediverse.hashtags AS h
JOIN fediverse.post_hashtags AS t ON t.instance_id = h.instance_id AND t.hashtag_id = h.id
JOIN fediverse.mastodon_posts AS p ON p.instance_id = t.instance_id AND p.id = t.post_id
WHERE h.instance_id = 1 AND {SEEN} AND p.created_at < '{AT}' GROUP BY h.name
HAVING count(*) FILTER (WHERE p.created_at >= '{AT - 4 * HOUR}')
  > 1.5 * count(*) FILTER (WHERE p.created_at >= '{AT - 24 * HOUR}'
    AND p.created_at < '{AT - 4 * HOUR}')
ORDER BY 2 DESC, h.name COLLATE "C\""""
"""With the windows half open: the document's BETWEEN counts a post at their boundary in both."""


@pytest.mark.parametrize("refreshed", [False, True])
def test_hashtags_used_more_in_four_hours_than_in_the_twenty_before(
    engine: Engine, refreshed: bool
) -> None:
    if refreshed:
        for tally in fediverse.tallies:
            refresh(engine, tally)
    with undone(engine) as connection:
        # Some more, so that there are several; and one that the document counts by a single use.
        run(connection, *rising("tag1", 70), *rising("tag7", 60))
        expected = by_hand(connection, TRENDING)
        everything: dict[str, Any] = {"minimum_posts": 1, "minimum_accounts": 1, "limit": 1000}
        growing = growing_hashtags(connection, 1, AT, above=0, **everything)
        found = [
            (trend.name, trend.posts, trend.baseline_posts)
            for trend in growing
            if trend.posts > 1.5 * trend.baseline_posts
        ]
        assert ("once", 1, 0) in expected
        assert len(expected) >= 3
        assert sorted(found, key=lambda t: (-t[1], t[0])) == expected
        # In uses per hour the document's 1.5 is 7.5, since the baseline is five times as long.
        by_rate = growing_hashtags(connection, 1, AT, above=7.5, **everything)
        assert {t.name for t in by_rate} == {name for name, *_ in expected} - {"once"}


def rising(tag: str, uses: int) -> list[str]:
    """So many new posts of the last hour with the hashtag."""
    numbers = f"{10_000 * uses} + n"
    return [
        "INSERT INTO fediverse.mastodon_posts (instance_id, id, account_id, domain, visibility,"
        f" created_at, first_seen_at) SELECT 1, {numbers}, n, 'd', 'public',"
        f" timestamptz '{AT}' - n * interval '30 seconds', now()"
        f" FROM generate_series(1, {uses}) AS n",
        "INSERT INTO fediverse.post_hashtags (instance_id, post_id, hashtag_id)"
        f" SELECT 1, {numbers}, id FROM fediverse.hashtags,"
        f" generate_series(1, {uses}) AS n WHERE instance_id = 1 AND name = '{tag}'",
    ]


def test_the_trending_formula_computes_for_each_hashtag_what_it_says(
    connection: Connection,
) -> None:
    run(connection, *rising("tag1", 70))
    found = trending_hashtags(connection, 1, AT, window_hours=1, baseline_hours=24, smoothing=0.5)
    assert found
    for trend in found:
        ((recent, before, latest),) = by_hand(
            connection,
            f"SELECT count(*) FILTER (WHERE created_at >= '{AT - HOUR}'),"
            f" count(*) FILTER (WHERE created_at < '{AT - HOUR}'), max(created_at)"
            " FROM fediverse.mastodon_posts AS p JOIN fediverse.post_hashtags AS t"
            " ON t.instance_id = p.instance_id AND t.post_id = p.id"
            f" WHERE hashtag_id = {trend.hashtag_id} AND {SEEN}"
            f" AND created_at >= '{AT - 25 * HOUR}' AND created_at < '{AT}'",
        )
        spike = (recent + 0.5) / (before / 24 + 0.5)
        decay = exp(-((AT - latest) / HOUR) / 6)
        assert trend.score == pytest.approx(spike * decay)


VERSIONS = """
INSERT INTO fediverse.post_versions (instance_id, post_id, version_seq, valid_from, content_text,
  edited_at, content_hash)
SELECT 1, p.id, n, timestamptz '2025-11-20 06:00Z' + n * interval '1 hour', 'v' || n, NULL,
  md5(p.id::text || n)
FROM fediverse.mastodon_posts AS p, generate_series(1, 3) AS n
WHERE p.instance_id = 1 AND p.favourites_count % 40 = 1"""
ANALYZED = f"""
INSERT INTO fediverse.post_sentiments (instance_id, post_id, model, prompt_version, input_hash,
  status_version_seq, label)
SELECT 1, post_id, model, '1', content_hash, version_seq,
  (ARRAY['positive', 'negative', NULL])[1 + {drawn("(post_id::text || version_seq || model)", 3)}]
FROM fediverse.post_versions, (VALUES ('m'), ('other')) AS m (model)
WHERE {drawn("(post_id::text || version_seq || model)", 5, "left out")} > 0"""


def test_what_models_said_of_edited_posts(connection: Connection) -> None:
    run(connection, VERSIONS, ANALYZED)
    expected = by_hand(
        connection,
        "SELECT p.id::text, v.version_seq, s.model, s.label FROM fediverse.mastodon_posts AS p"
        " JOIN fediverse.post_versions AS v ON v.instance_id = p.instance_id AND v.post_id = p.id"
        " JOIN fediverse.post_sentiments AS s ON s.instance_id = p.instance_id AND s.post_id = p.id"
        " AND s.status_version_seq = v.version_seq WHERE v.version_seq > 1",
    )
    found = []
    for (post,) in by_hand(connection, "SELECT DISTINCT post_id FROM fediverse.post_versions"):
        history = post_history(connection, 1, post)
        assert history is not None
        found += [
            (str(post), version.version_seq, said.model, said.label)
            for version in history.versions[1:]
            for said in version.sentiments
        ]
    assert len(expected) > 10
    assert sorted(found, key=repr) == sorted(expected, key=repr)


def test_posts_that_changed_sentiment_after_editing(connection: Connection) -> None:
    run(connection, VERSIONS, ANALYZED)
    expected = by_hand(
        connection,
        f"""
SELECT id::text, model, version_seq, was, label FROM (
  SELECT p.id, s.model, v.version_seq, s.label, v.valid_from,
    lag(s.label) OVER judged AS was, lag(v.version_seq) OVER judged AS before
  FROM fediverse.mastodon_posts AS p
  JOIN fediverse.post_versions AS v ON v.instance_id = p.instance_id AND v.post_id = p.id
  JOIN fediverse.post_sentiments AS s ON s.instance_id = p.instance_id AND s.post_id = p.id
    AND s.status_version_seq = v.version_seq
  WHERE {SEEN} WINDOW judged AS (PARTITION BY p.id, s.model ORDER BY v.version_seq)
) AS versions WHERE before IS NOT NULL AND was IS DISTINCT FROM label
ORDER BY 1, 2, 3""",
    )
    found = sentiment_changes(connection, 1, AT - 24 * HOUR, AT, limit=10_000)
    assert len(expected) > 3
    changes = [(str(c.post_id), c.model, c.version_seq, c.label_before, c.label) for c in found]
    assert sorted(changes, key=repr) == sorted(expected, key=repr)


def test_a_version_that_becomes_known_late_keeps_each_sentiment_with_its_content(
    connection: Connection,
) -> None:
    """By number alone the sentiment would move to a version of which nothing was said."""
    run(connection, VERSIONS)
    ((post,),) = by_hand(connection, "SELECT min(post_id) FROM fediverse.post_versions")
    history = post_history(connection, 1, post)
    assert history is not None
    second = history.versions[1]
    record_sentiment(
        connection,
        1,
        post,
        model="m",
        prompt_version="1",
        input_hash=second.content_hash,
        version_seq=2,
        label="positive",
    )
    of_post = f"WHERE instance_id = 1 AND post_id = '{post}'"
    run(
        connection,
        f"UPDATE fediverse.post_versions SET version_seq = version_seq + 1 {of_post}"
        " AND version_seq > 1",
        "INSERT INTO fediverse.post_versions (instance_id, post_id, version_seq, valid_from,"
        f" content_hash) VALUES (1, '{post}', 2, '2025-11-20 07:30Z', md5('late'))",
    )
    history = post_history(connection, 1, post)
    assert history is not None
    said = {version.version_seq: version.sentiments for version in history.versions}
    assert [s.label for s in said[3]] == ["positive"]
    assert said[2] == ()


def test_posts_and_engagement_by_hour_and_domain(engine: Engine) -> None:
    with undone(engine) as connection:
        expected = by_hand(
            connection,
            "SELECT domain, count(*), sum(3 * reblogs_count + 2 * favourites_count"
            " + replies_count)::bigint FROM fediverse.mastodon_posts AS p"
            f" WHERE instance_id = 1 AND {SEEN} AND reblog_of_id IS NULL"
            f" AND created_at >= '{AT - 24 * HOUR}' AND created_at < '{AT}'"
            ' GROUP BY domain ORDER BY 2 DESC, domain COLLATE "C"',
        )
        found = top_domains(connection, 1, AT - 24 * HOUR, AT)
        assert [(d.domain, d.post_count, d.total_engagement) for d in found] == expected
        view = (
            "SELECT instance_id, date_trunc('hour', created_at, 'UTC'), domain, count(*)"
            f" FROM fediverse.mastodon_posts AS p WHERE {SEEN} AND reblog_of_id IS NULL"
            " GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
        )
        live = "SELECT instance_id, hour, domain, post_count FROM fediverse.hourly_domain_stats"
        assert by_hand(connection, f"{live}_live ORDER BY 1, 2, 3") == by_hand(connection, view)


# The gallery.

TAG = {n: UUID(int=n) for n in range(1, 8)}
# Tag 7 is in arrays, but is none.
GALLERY = (
    "INSERT INTO gallery.users (id, username)"
    " SELECT lpad(n::text, 32, '0')::uuid, 'u' || n FROM generate_series(1, 3) AS n",
    "INSERT INTO gallery.tags (id, name)"
    " SELECT lpad(n::text, 32, '0')::uuid, 't' || n FROM generate_series(1, 6) AS n",
    *(
        f"INSERT INTO gallery.{table} (creator_id, created_at, tags)"
        f" SELECT lpad((1 + {drawn('n', 3, table)})::text, 32, '0')::uuid,"
        " timestamptz '2025-10-01Z' + (n / 4) * interval '1 hour',"
        " ARRAY(SELECT CASE WHEN t = 0 THEN NULL ELSE lpad(t::text, 32, '0')::uuid END"
        f" FROM generate_series(0, 7) AS t WHERE {drawn('(n * 8 + t)', 3, table)} = 0)"
        f" || CASE WHEN n % 5 = 0 THEN ARRAY[lpad('1', 32, '0'), lpad('1', 32, '0')]::uuid[]"
        f" ELSE '{{}}' END FROM generate_series(1, 60) AS n"
        for table in ("content_items", "content_items_auto")
    ),
)
ITEMS = {"regular": "gallery.content_items", "auto": "gallery.content_items_auto"}


@pytest.fixture(scope="module")
def edited(engine: Engine) -> Engine:
    """The gallery, with its junction built, after edits that the junction has, too."""
    execute(
        engine,
        "UPDATE gallery.content_items SET tags = tags[2:] WHERE id % 7 = 0",
        "DELETE FROM gallery.content_items_auto WHERE id % 9 = 0",
        f"DELETE FROM gallery.tags WHERE id = '{TAG[6]}'",
    )
    for tally in gallery.tallies:
        refresh(engine, tally)
    return engine


@pytest.mark.parametrize("tags", [(1,), (1, 2), (2, 3, 4), (1, 7), (6,), (2, 6)])
@pytest.mark.parametrize("source", ["regular", "auto"])
def test_items_with_any_or_all_tags_by_the_junction(
    edited: Engine, tags: tuple[int, ...], source: str
) -> None:
    named = ", ".join(f"'{TAG[tag]}'" for tag in tags)
    of_source = f"content_source = '{source}' AND tag_id IN ({named})"
    conditions = {
        "any": f"id IN (SELECT content_id FROM gallery.content_tags WHERE {of_source})",
        "all": f"id IN (SELECT content_id FROM gallery.content_tags WHERE {of_source}"
        f" GROUP BY content_id HAVING count(DISTINCT tag_id) = {len(tags)})",
    }
    with undone(edited) as connection:
        for match, condition in conditions.items():
            query = f"SELECT id FROM {ITEMS[source]} WHERE {condition}"
            page = content_page(
                connection,
                tags=[TAG[tag] for tag in tags],
                match=match,
                sources=[source],
                page_size=1000,
            )
            found = [(item["id"],) for item in page["items"]]
            expected = by_hand(connection, f"{query} ORDER BY created_at DESC, id DESC")
            assert found == expected, match


def test_links_by_source_and_items_by_tag(edited: Engine) -> None:
    with undone(edited) as connection:
        query = "SELECT content_source, count(*), min(content_id), max(content_id) FROM {} GROUP BY"
        stored = query.format("gallery.content_tags")
        live = query.format("gallery.content_tags_live")
        assert by_hand(connection, f"{stored} 1 ORDER BY 1") == by_hand(
            connection, f"{live} 1 ORDER BY 1"
        )
        counted = by_hand(
            connection,
            "SELECT name, count(*) FROM gallery.content_tags JOIN gallery.tags ON id = tag_id"
            " GROUP BY 1 ORDER BY 2 DESC, 1",
        )
        assert [(tag["name"], tag["count"]) for tag in tag_counts(connection)] == counted


@pytest.mark.parametrize("user", [1, 2, 9, None])
def test_counts_by_source_from_the_cache_and_from_the_items(
    edited: Engine, user: int | None
) -> None:
    with undone(edited) as connection:
        which = f"creator_id = '{UUID(int=user)}'" if user else "false"
        live = {
            f"{who}_{source}_count": by_hand(
                connection, f"SELECT count(*) FROM {table} WHERE {condition}"
            )[0][0]
            for who, condition in (("user", which), ("community", "true"))
            for source, table in ITEMS.items()
        }
        cached = dict.fromkeys(live, 0)
        rows = by_hand(
            connection, "SELECT user_id, source_type, count FROM gallery.gen_source_stats"
        )
        for user_id, source, count in rows:
            if user_id is None or (user is not None and user_id == UUID(int=user)):
                cached[f"{'community' if user_id is None else 'user'}_{source}_count"] = count
        found: dict[str, Any] = {
            **unified_content_stats(connection, UUID(int=user) if user else None)
        }
        assert found == live == cached


# Media.

FILES = f"""
INSERT INTO media.media_files (path, original_created_at, created_at)
SELECT 'f' || n, CASE WHEN n % 4 > 0 THEN
    timestamptz '2025-11-20Z' + ({drawn("n", 6000)} - 3000) * interval '1 minute' END,
  timestamptz '2025-11-20Z' - (n % 3) * interval '1 day' + (n % 2) * interval '-1 microsecond'
FROM generate_series(1, 300) AS n"""


def test_files_grouped_by_their_day_in_memory(connection: Connection) -> None:
    run(
        connection,
        "UPDATE media.media_files SET original_created_at = NULL WHERE path LIKE 'f1%'",
        "DELETE FROM media.media_files WHERE path LIKE '%7'",
    )
    grouped: dict[str, int] = {}
    files = "SELECT coalesce(original_created_at, created_at) FROM media.media_files"
    for (moment,) in by_hand(connection, files):
        day = moment.astimezone(UTC).date().isoformat()
        grouped[day] = grouped.get(day, 0) + 1
    counts = daily_counts(connection)
    assert counts["daily_counts"] == grouped
    assert counts["total_files"] == sum(grouped.values())


# The classroom.

COURSE = (
    "INSERT INTO classroom.users DEFAULT VALUES",
    "INSERT INTO classroom.courses DEFAULT VALUES",
    "INSERT INTO classroom.assignments (course_id) VALUES (1)",
    "INSERT INTO classroom.submissions (assignment_id, course_id, user_id)"
    " SELECT 1, 1, 1 FROM generate_series(1, 3)",
)
KINDS = (
    ("File.Edit", ""),
    ("File.Edit", ""),
    ("Run.Program", ""),
    ("Run.Program", "Error"),
    ("Intervention", "syntax"),
    ("Intervention", "instructor"),
    ("Submit", ""),
    ("Session.Start", ""),
)


@dataclass
class Counters:
    """A row of counters as the document's helpers keep it, event by event."""

    runs: int = 0
    syntax_errors: int = 0
    runtime_errors: int = 0
    failed_instructor_tests: int = 0
    edits: int = 0
    average_edit_time: float = 0
    last_edit: datetime | None = None

    def take(self, kind: str, category: str, at: datetime) -> None:
        self.runs += kind == "Run.Program"
        self.runtime_errors += (kind, category) == ("Run.Program", "Error")
        self.syntax_errors += category == "syntax"
        self.failed_instructor_tests += category == "instructor"
        if kind == "File.Edit":
            if self.last_edit is not None:
                self.edits += 1
                gap = (at - self.last_edit).total_seconds()
                self.average_edit_time += (gap - self.average_edit_time) / self.edits
            self.last_edit = at


def test_counters_kept_event_by_event_are_what_the_log_says(connection: Connection) -> None:
    rng = Random(3)
    counters = {submission: Counters() for submission in (1, 2, 3)}
    at = AT
    for _ in range(150):
        # Some at one instant, some after a night.
        at += timedelta(milliseconds=rng.choice((0, 250, 4_000, 61_000, 40_000_000)))
        submission, (kind, category) = rng.randint(1, 2), rng.choice(KINDS)
        counters[submission].take(kind, category, at)
        run(
            connection,
            "INSERT INTO classroom.submission_log (submission_id, course_id, subject_id,"
            f" event_type, category, date_created) VALUES ({submission}, 1, 1, '{kind}',"
            f" '{category}', '{at}')",
        )
    counts: dict[int, Any] = {**submission_counts(connection, [1, 2, 3])}
    for submission, kept_by_hand in counters.items():
        found = counts[submission]
        for name in ("runs", "syntax_errors", "runtime_errors", "failed_instructor_tests"):
            assert found[name] == getattr(kept_by_hand, name), name
        assert found["average_edit_time"] == pytest.approx(kept_by_hand.average_edit_time)
    assert counts[1]["runs"] > 5
