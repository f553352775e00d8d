"""What the documents' own statements made is adopted as it stands, and kept from then on.

Each document's installation (`installations/`), on the oldest and the newest PostgreSQL: `tally
migrate` takes it over, its application goes on writing, every read equals SQL by hand over the
sources, before and after a refresh, and verify finds nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime

import pytest
from sqlalchemy import Connection, Engine

from assets.classroom import reads as classroom
from assets.fediverse.processing.batches import process
from assets.fediverse.reads import engagement_velocity, hashtag_series, post_history
from assets.fediverse.replay import verify_log
from assets.gallery.reads import content_page, tag_counts, unified_content_stats
from assets.media.reads import daily_counts
from tallykeeper import DoesNotFit, refresh, verify
from tallykeeper.database.connections import open_engine
from tallykeeper.discovery import all_systems
from tallykeeper.installation.migrate import migrate
from tests.documents.installation import build, by_hand, command
from tests.integration.support import execute, rows, scalar
from tests.servers import VERSIONS, Servers

SYSTEMS = {system.name: system for system in all_systems()}
ANN, BOB = (f"00000000-0000-0000-0000-00000000000{last}" for last in "ab")


NEWEST, OLDEST = VERSIONS[0], VERSIONS[-1]


@pytest.fixture(params=(NEWEST, OLDEST))
def engine(request: pytest.FixtureRequest, postgres_servers: Servers) -> Iterator[Engine]:
    """An empty database, once on the newest PostgreSQL and once on the oldest."""
    with postgres_servers.fresh_database(request.param) as url:
        engine = open_engine(url)
        yield engine
        engine.dispose()


def keep(
    engine: Engine,
    system: str,
    writes: Sequence[str],
    is_right: Callable[[Connection], None],
    *,
    move_aside: bool = False,
) -> list[str]:
    """Adopt, write as the application does, and compare before and after a refresh.

    Returns what the migration says that it did.
    """
    migrated = migrate(engine, [SYSTEMS[system]], move_aside=move_aside)
    with engine.connect() as connection:
        is_right(connection)
    execute(engine, *(f"SET LOCAL search_path = {system}; {statement}" for statement in writes))
    if system == "fediverse":
        process(engine)
    with engine.connect() as connection:
        is_right(connection)
    for tally in SYSTEMS[system].tallies:
        if tally.name not in migrated.left_out:
            refresh(engine, tally)
            assert verify(engine, tally).ok, tally.name
    with engine.connect() as connection:
        is_right(connection)
    assert migrate(engine, [SYSTEMS[system]]).done == []
    return migrated.done


PER_DAY = (
    "SELECT to_char(coalesce(original_created_at, created_at), 'YYYY-MM-DD'), count(*)"
    " FROM media.media_files WHERE coalesce(original_created_at, created_at) IS NOT NULL"
    " GROUP BY 1 ORDER BY 1 DESC"
)


def test_contributions_are_adopted_with_a_key_that_nothing_fills(engine: Engine) -> None:
    build(engine, "media", "contributions")

    def is_right(connection: Connection) -> None:
        assert [*daily_counts(connection)["daily_counts"].items()] == by_hand(connection, PER_DAY)

    done = keep(
        engine,
        "media",
        [
            "INSERT INTO media_files (path, created_at) VALUES ('x', '2025-11-21 00:00')",
            "INSERT INTO media_files (path) VALUES ('another without a date')",
            "UPDATE media_files SET original_created_at = '2025-11-19' WHERE path = 'a3'",
            "UPDATE media_files SET original_created_at = NULL, created_at = NULL"
            " WHERE path = 'a4'",
            "DELETE FROM media_files WHERE path IN ('a5', 'without a date')",
        ],
        is_right,
    )
    assert "adopted the derived table media.daily_contributions" in done
    stored = "SELECT to_char(date, 'YYYY-MM-DD'), count FROM media.daily_contributions"
    assert rows(engine, f"{stored} WHERE count <> 0 ORDER BY 1 DESC") == rows(engine, PER_DAY)
    assert scalar(engine, "SELECT count(DISTINCT id) = count(*) FROM media.daily_contributions")


def counted_by_source(connection: Connection, user: str | None) -> dict[str, int]:
    """The four counts from the items, as the document's fallback counts them."""
    items = {
        "regular": "gallery.content_items",
        "auto": "gallery.content_items_auto",
    }
    of_user = f"creator_id = '{user}'" if user else "false"
    return {
        f"{who}_{source}_count": by_hand(connection, f"SELECT count(*) FROM {table} WHERE {which}")[
            0
        ][0]
        for who, which in (("user", of_user), ("community", "true"))
        for source, table in items.items()
    }


def test_counts_by_source_are_adopted_over_partitions_of_one_table(engine: Engine) -> None:
    build(engine, "gallery", "generation_sources")

    def is_right(connection: Connection) -> None:
        for user in (ANN, BOB, None):
            counts: Mapping[str, object] = unified_content_stats(connection, user)
            assert counts == counted_by_source(connection, user)

    done = keep(
        engine,
        "gallery",
        [
            f"INSERT INTO content_items_all (creator_id, source_type) VALUES ('{BOB}', 'items')",
            # An identity of the whole is none of its partitions before PostgreSQL 17.
            "INSERT INTO content_items_auto (id, creator_id, source_type)"
            f" VALUES (77, '{ANN}', 'auto')",
            f"UPDATE content_items_all SET creator_id = '{ANN}' WHERE id IN (1, 5, 9)",
            "UPDATE content_items_all SET source_type = 'auto' WHERE id = 2",
            "DELETE FROM content_items_all WHERE id IN (3, 4)",
        ],
        is_right,
    )
    assert "adopted the derived table gallery.gen_source_stats" in done


@pytest.mark.parametrize("engine", [NEWEST], indirect=True)
def test_statistics_with_the_flawed_composite_key_are_converted(engine: Engine) -> None:
    build(engine, "gallery", "generation_sources_flawed")

    def is_right(connection: Connection) -> None:
        counts: Mapping[str, object] = unified_content_stats(connection, ANN)
        assert counts == counted_by_source(connection, ANN)

    keep(engine, "gallery", ["DELETE FROM content_items_auto WHERE id = 2"], is_right)
    stats = "SELECT user_id IS NULL, source_type, count FROM gallery.gen_source_stats ORDER BY 1, 2"
    assert rows(engine, stats) == [
        (False, "auto", 1),
        (False, "regular", 1),
        (True, "auto", 1),
        (True, "regular", 1),
    ]


TAGGED = """
SELECT content_source, content_id, tag_id FROM (
  SELECT 'regular' AS content_source, id AS content_id, unnest(tags) AS tag_id
  FROM gallery.content_items
  UNION SELECT 'auto', id, unnest(tags) FROM gallery.content_items_auto
) AS pairs WHERE tag_id IN (SELECT id FROM gallery.tags) ORDER BY 1, 2, 3"""


def test_a_junction_whose_backfill_was_interrupted_is_adopted(engine: Engine) -> None:
    build(engine, "gallery", "tag_junction")

    def is_right(connection: Connection) -> None:
        live = "SELECT content_source, content_id, tag_id FROM gallery.content_tags_live ORDER BY"
        assert by_hand(connection, f"{live} 1, 2, 3") == by_hand(connection, TAGGED)
        page = content_page(connection, tags=["t2", "t3"], match="all", page_size=100)
        both = (
            "SELECT count(*) FROM (SELECT tags FROM gallery.content_items UNION ALL"
            " SELECT tags FROM gallery.content_items_auto) AS i WHERE tags @>"
            " ARRAY(SELECT id FROM gallery.tags WHERE name IN ('t2', 't3'))"
        )
        assert [(len(page["items"]),)] == by_hand(connection, both)
        counted = {t["name"]: t["count"] for t in tag_counts(connection)}
        named = f"SELECT name, count(*) FROM ({TAGGED}) AS p JOIN gallery.tags ON id = tag_id"
        assert counted == dict(by_hand(connection, f"{named} GROUP BY name"))

    done = keep(
        engine,
        "gallery",
        [
            "UPDATE content_items SET tags = NULL WHERE id = 6",
            "UPDATE content_items_auto SET tags = (SELECT array_agg(id) FROM tags) WHERE id = 5",
            "DELETE FROM content_items WHERE id = 18",
            "DELETE FROM tags WHERE name = 't4'",
            "INSERT INTO content_items (creator_id) SELECT id FROM users",
        ],
        is_right,
    )
    assert "adopted the derived table gallery.content_tags" in done


def counted_by_hand(connection: Connection) -> None:
    """The classroom's counts, by SQL over its rows."""
    events = "FROM classroom.submission_log WHERE submission_id = s.id AND event_type"
    found = by_hand(
        connection,
        f"SELECT s.id, (SELECT count(*) {events} = 'Run.Program'),"
        f" (SELECT count(*) {events} = 'Intervention' AND category = 'syntax'),"
        f" (SELECT count(*) {events} = 'Run.Program' AND category = 'Error')"
        " FROM classroom.submissions AS s",
    )
    for submission, *expected in found:
        counts = classroom.submission_counts(connection, submission)
        assert [counts["runs"], counts["syntax_errors"], counts["runtime_errors"]] == expected
    course = classroom.course_counts(connection, 1)
    ((users, submissions, last),) = by_hand(
        connection,
        "SELECT (SELECT count(DISTINCT user_id) FROM classroom.roles WHERE course_id = 1),"
        " count(*), max(date_created) FROM classroom.submissions WHERE course_id = 1",
    )
    assert (course["total_users"], course["total_submissions"]) == (users, submissions)
    assert course["date_last_submission"] == last.replace(tzinfo=UTC)
    ((reports, logged_in),) = by_hand(
        connection,
        "SELECT (SELECT count(*) FROM classroom.reports WHERE user_id = 1),"
        " (SELECT max(at) FROM classroom.login_events WHERE user_id = 1)",
    )
    user = classroom.user_counts(connection, 1)
    assert (user["total_reports"], user["last_logged_in"]) == (
        reports,
        logged_in.replace(tzinfo=UTC),
    )
    assert classroom.assignment_counts(connection, 1)["total_submissions"] == submissions


COURSE_WRITES = [
    "INSERT INTO submission_log (submission_id, course_id, subject_id, event_type, category,"
    " date_created) VALUES (1, 1, 2, 'Run.Program', 'Error', '2025-09-04 10:00:10'),"
    " (NULL, 1, NULL, 'Run.Program', NULL, '2025-09-04 12:00'),"
    " (2, NULL, 3, 'Run.Program', NULL, NULL)",
    "INSERT INTO roles (user_id, course_id, name) VALUES (NULL, 1, 'learner'), (2, 1, NULL)",
    "INSERT INTO reports (user_id) VALUES (1), (NULL)",
    "INSERT INTO submissions (assignment_id, course_id, user_id, date_created)"
    " VALUES (1, 1, 2, '2025-09-06')",
    "DELETE FROM submission_log WHERE submission_id = 1 AND category = 'syntax'",
]


@pytest.mark.parametrize("engine", [OLDEST], indirect=True)
def test_a_course_server_whose_columns_may_all_be_null_is_adopted(engine: Engine) -> None:
    build(engine, "classroom", "counts")
    keep(engine, "classroom", COURSE_WRITES, counted_by_hand)


@pytest.mark.parametrize("engine", [NEWEST], indirect=True)
def test_counters_in_seconds_give_way_to_counts_that_can_be_kept(engine: Engine) -> None:
    build(engine, "classroom", "counts", "counts_tables")
    with pytest.raises(DoesNotFit, match="tally migrate --move-aside"):
        migrate(engine, [SYSTEMS["classroom"]])
    done = keep(engine, "classroom", COURSE_WRITES, counted_by_hand, move_aside=True)
    assert (
        "moved classroom.submission_counts, which does not fit, to the schema classroom_aside"
        in done
    )
    assert rows(engine, "SELECT submission_id, runs FROM classroom_aside.submission_counts") == [
        (1, 2),
        (2, 7),
    ]


STREAM_WRITES = [
    "INSERT INTO stream_events (instance_id, received_at, event_type, payload) VALUES"
    " (1, '2025-11-20 10:45', 'update', json_build_object('id', '101', 'created_at',"
    "  '2025-11-20T09:51:00Z', 'visibility', 'public', 'content', '<p>late</p>',"
    "  'account', json_build_object('id', '8', 'acct', 'bob@b.example'),"
    "  'favourites_count', 7)), (1, '2025-11-20 13:00', 'update', '{\"id\": 1}'),"
    " (1, '2025-11-20 13:01', 'delete', '\"102\"')",
]


def test_a_raw_stream_in_the_documents_types_is_adopted_and_processed(engine: Engine) -> None:
    build(engine, "fediverse", "fediverse")

    def is_right(connection: Connection) -> None:
        deleted = "SELECT payload #>> '{}' FROM fediverse.stream_events WHERE event_type = 'delete'"
        processed = " AND processed_at IS NOT NULL ORDER BY 1"
        found = "SELECT id::text FROM fediverse.mastodon_posts WHERE deleted_at IS NOT NULL"
        assert by_hand(connection, f"{found} ORDER BY 1") == by_hand(
            connection, deleted + processed
        )
        sea = hashtag_series(
            connection,
            1,
            "sea",
            datetime(2025, 11, 20, 9, tzinfo=UTC),
            datetime(2025, 11, 20, 10, tzinfo=UTC),
        )
        tagged = (
            "SELECT count(*) FROM fediverse.mastodon_posts WHERE deleted_at IS NULL"
            " AND hashtags::text = '[\"sea\"]'"
        )
        assert [(sum(hour.posts for hour in sea),)] == by_hand(connection, tagged)

    keep(engine, "fediverse", STREAM_WRITES, is_right)
    faults = "SELECT count(*) FROM fediverse.stream_events WHERE process_error IS NOT NULL"
    assert scalar(engine, faults) == 1
    assert scalar(engine, "SELECT count(*) FROM fediverse.stream_events") == 12
    status = command(engine, "status")
    assert "hourly_stats" in status
    with engine.connect() as connection:
        span = datetime(2025, 11, 20, 10, 30, tzinfo=UTC), datetime(2025, 11, 20, 11, tzinfo=UTC)
        gained = engagement_velocity(connection, 1, *span, 50)
        assert [(v.post_id, v.gained) for v in gained] == [("100", 120), ("101", 120)]
        history = post_history(connection, 1, gained[1].post_id)
        assert history is not None
        assert [v.content_text for v in history.versions] == ["post 1 of 0", "post 1 of 1"]


@pytest.mark.parametrize("engine", [NEWEST], indirect=True)
def test_events_that_the_application_has_processed_itself_are_processed_again(
    engine: Engine,
) -> None:
    build(engine, "fediverse", "fediverse")
    execute(
        engine,
        "UPDATE fediverse.stream_events SET processed_at = received_at, payload_status_id ="
        " CASE WHEN id % 2 = 0 THEN payload_status_id END",
    )
    migrate(engine, [SYSTEMS["fediverse"]])
    command(engine, "refresh", code=None)
    assert scalar(engine, "SELECT count(*) FROM fediverse.mastodon_posts") == 4
    assert verify_log(engine).ok


@pytest.mark.parametrize("engine", [NEWEST], indirect=True)
def test_tables_of_the_documents_shape_make_room_for_those_derived_from_the_stream(
    engine: Engine,
) -> None:
    build(engine, "fediverse", "fediverse", "fediverse_tables")
    # A model's judgements are a source, which nothing but the application may move.
    execute(engine, "DROP TABLE fediverse.post_sentiments")
    with pytest.raises(DoesNotFit, match="--move-aside"):
        migrate(engine, [SYSTEMS["fediverse"]])
    migrate(engine, [SYSTEMS["fediverse"]], with_sources=True, move_aside=True)
    process(engine)
    assert scalar(engine, "SELECT count(*) FROM fediverse.mastodon_posts") == 4
    assert scalar(engine, "SELECT count(*) FROM fediverse_aside.mastodon_posts") == 6
    assert verify_log(engine).ok


@pytest.mark.parametrize(
    ("files", "first"),
    [(("fediverse_before_instances",), 300), (("fediverse", "fediverse_tables"), 200)],
    ids=["before it knew instances", "with composite keys"],
)
def test_an_applications_own_posts_are_brought_over_with_what_hangs_on_them(
    engine: Engine, files: tuple[str, ...], first: int
) -> None:
    build(engine, "forkalytics", *files)
    migrate(engine, [SYSTEMS["fediverse"]], with_sources=True)
    adopt = (
        "adopt",
        "fediverse",
        "--from-schema",
        "forkalytics",
        "--instance",
        "https://a.example",
    )
    for _ in range(2):
        command(engine, *adopt)
        # Those that its raw stream alone has come beside them.
        own = f"FROM fediverse.mastodon_posts WHERE id LIKE '{first // 100}0_'"
        assert scalar(engine, f"SELECT count(*) {own}") == 6
        assert scalar(engine, "SELECT count(*) FROM fediverse.post_mentions") == 6
    tagged = (
        "SELECT h.name, p.post_id::integer - {} FROM fediverse.post_hashtags AS p"
        " JOIN fediverse.hashtags AS h ON h.instance_id = p.instance_id AND h.id = p.hashtag_id"
        " WHERE p.post_id::integer BETWEEN {} AND {} ORDER BY 1, 2"
    )
    assert rows(engine, tagged.format(first, first, first + 4)) == [
        *(("sea", n) for n in range(5)),
        *((f"sky{m}", n) for m in range(2) for n in range(5) if n % 2 == m),
    ]
    for tally in SYSTEMS["fediverse"].tallies:
        refresh(engine, tally)
        assert verify(engine, tally).ok, tally.name
    domains = "SELECT domain, sum(post_count) FROM fediverse.hourly_domain_stats GROUP BY 1"
    assert {d for d, _ in rows(engine, domains)} == {"a.example", "b.example"}
