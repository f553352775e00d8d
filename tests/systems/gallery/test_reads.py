"""What an application reads of the gallery: counts, a tag cloud, pages without gap or double."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError, OperationalError, ProgrammingError

from assets.gallery.questions import pages
from assets.gallery.questions.plans import Plan
from assets.gallery.reads import (
    BadCursor,
    Item,
    content_page,
    tag_counts,
    unified_content_stats,
)
from assets.gallery.tallies import system
from tallykeeper import install, refresh
from tallykeeper.errors import NotInstalled
from tallykeeper.reads.live_reads import read
from tests.integration.support import create, execute, rows

USERS = [UUID(int=n) for n in range(1, 5)]
TAGS = [UUID(int=n) for n in range(100, 108)]
NAMES = ["red", "blue", "re%d", "re_d", "Red", "", "ünï", str(UUID(int=999))]
UNKNOWN = UUID(int=7_777)
SOURCES = ("regular", "auto")
TABLES = {"regular": "gallery.content_items", "auto": "gallery.content_items_auto"}
START = datetime(2025, 11, 20, 12, tzinfo=UTC)
FORCED = [Plan("walk", 3), Plan("gather", 3), Plan("gather", None), Plan("walk", None)]


@pytest.fixture
def gallery(engine: Engine) -> Engine:
    """Users and tags, no items; nothing was ever built."""
    create(engine, system)
    people(engine)
    return engine


def people(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO gallery.users VALUES (:id, :id)"), [{"id": user} for user in USERS]
        )
        connection.execute(
            text("INSERT INTO gallery.tags VALUES (:id, :name)"),
            [{"id": i, "name": n} for i, n in zip(TAGS, NAMES, strict=True)],
        )


def add(engine: Engine, source: str, count: int, seed: int = 1) -> None:
    """Items of random creators, tags and moments, of which many are equal."""
    chance = random.Random(seed)
    with engine.begin() as connection:
        for _ in range(count):
            connection.execute(
                text(
                    f"INSERT INTO {TABLES[source]} (creator_id, created_at, is_private, tags)"
                    " VALUES (:creator, :created_at, :private, CAST(:tags AS uuid[]))"
                ),
                {
                    "creator": chance.choice([*USERS, USERS[0], USERS[0]]),
                    "created_at": START + timedelta(microseconds=chance.randrange(25)),
                    "private": chance.random() < 0.3,
                    "tags": chance.choices([*TAGS, UNKNOWN, None], k=chance.randrange(6)),
                },
            )


def settle(engine: Engine) -> None:
    for tally in system.tallies:
        refresh(engine, tally)


def everything(connection: Connection, size: int = 4, **arguments: Any) -> list[Item]:
    """The items of all pages, one page after the other."""
    items: list[Item] = []
    cursor = None
    for _ in range(1_000):
        page = content_page(connection, page_size=size, cursor=cursor, **arguments)
        items += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return items
        assert len(page["items"]) == size
    raise AssertionError("pages without an end")


def brute(engine: Engine, keep: Callable[[str, Any], bool]) -> list[tuple[str, int]]:
    """The items that `keep` says yes to, newest first, worked out here."""
    return chosen(stored(engine), keep)


def stored(engine: Engine) -> list[tuple[str, Any]]:
    """The rows of both sources, in their order."""
    columns = "id, created_at, creator_id, is_private, tags"
    found = [
        (source, row)
        for source, table in TABLES.items()
        for row in rows(engine, f"SELECT {columns} FROM {table}")
    ]
    return sorted(found, key=lambda f: (f[1][1], f[1][0], -SOURCES.index(f[0])), reverse=True)


def chosen(items: list[tuple[str, Any]], keep: Callable[[str, Any], bool]) -> list[tuple[str, int]]:
    return [(source, row[0]) for source, row in items if keep(source, row)]


def places(items: list[Item]) -> list[tuple[str, int]]:
    return [(item["source"], item["id"]) for item in items]


def keeper(
    tags: list[UUID], match: str, sources: Any, creator: Any, user: UUID, private: bool | None
) -> Callable[[str, Any], bool]:
    def keep(source: str, row: Any) -> bool:
        _, _, creator_id, is_private, has = row
        tests = [tag in has for tag in tags]
        return (
            source in sources
            and (not tags or (any(tests) if match == "any" else all(tests)))
            and (creator != "user" or creator_id == user)
            and (creator != "community" or creator_id != user)
            and (private is None or is_private == private)
        )

    return keep


@pytest.mark.parametrize("plan", [None, *FORCED], ids=str)
@pytest.mark.parametrize("built", [False, True])
def test_every_question_is_answered_as_worked_out_by_hand(
    gallery: Engine, monkeypatch: pytest.MonkeyPatch, plan: Plan | None, built: bool
) -> None:
    add(gallery, "regular", 60)
    add(gallery, "auto", 40, seed=2)
    if built:
        settle(gallery)
    if plan is not None:
        monkeypatch.setattr(pages, "choose", lambda *_: plan)
    several: list[list[UUID]] = [[TAGS[0]], TAGS[2:4], TAGS]
    if plan is None or plan == Plan("walk", None):
        several.append([])
    items = stored(gallery)
    with gallery.connect() as connection:
        for tags, match, sources, creator, private in itertools.product(
            several,
            ("any", "all"),
            (("auto",), SOURCES),
            ("all", "user", "community"),
            (None, True, False),
        ):
            expected = chosen(items, keeper(tags, match, sources, creator, USERS[0], private))
            found = everything(
                connection,
                7,
                tags=tags,
                match=match,
                sources=sources,
                creator=creator,
                user_id=USERS[0],
                private=private,
            )
            assert places(found) == expected, (tags, match, sources, creator, private)


def test_any_page_size_returns_the_same_items(gallery: Engine) -> None:
    add(gallery, "regular", 12)
    add(gallery, "auto", 12, seed=2)
    expected = brute(gallery, lambda *_: True)
    with gallery.connect() as connection:
        for size in (1, 2, 23, 24, 25, 1_000):
            assert places(everything(connection, size)) == expected


def test_items_say_what_they_are(gallery: Engine) -> None:
    execute(
        gallery,
        "INSERT INTO gallery.content_items_auto (title, content_type, creator_id, created_at,"
        f" is_private, tags) VALUES ('A cat', 'image', '{USERS[1]}', '2025-11-20T12:00Z', true,"
        f" ARRAY['{TAGS[1]}', null, '{UNKNOWN}', '{TAGS[1]}']::uuid[])",
    )
    with gallery.connect() as connection:
        page = content_page(connection)
    assert page == {
        "items": [
            {
                "id": 1,
                "source": "auto",
                "title": "A cat",
                "content_type": "image",
                "creator_id": USERS[1],
                "created_at": START,
                "is_private": True,
                "tags": [TAGS[1], None, UNKNOWN, TAGS[1]],
            }
        ],
        "next_cursor": None,
        "prev_cursor": None,
    }


def test_pages_have_no_gap_and_nothing_twice_while_items_come(gallery: Engine) -> None:
    add(gallery, "regular", 60)
    add(gallery, "auto", 60, seed=2)
    settle(gallery)
    before = brute(gallery, keeper(TAGS[:3], "any", SOURCES, "all", USERS[0], None))
    found: list[Item] = []
    cursor = None
    for number in itertools.count(10):
        with gallery.connect() as connection:
            page = content_page(connection, tags=TAGS[:3], page_size=5, cursor=cursor)
        found += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
        # Before, among and behind what was read already.
        add(gallery, "regular", 3, seed=number)
        add(gallery, "auto", 3, seed=-number)
    assert len(places(found)) == len(set(places(found)))
    order = [(i["created_at"], i["id"], -SOURCES.index(i["source"])) for i in found]
    assert order == sorted(order, reverse=True)
    assert set(before) <= set(places(found))


def test_the_item_at_a_page_s_end_may_go_and_the_next_page_goes_on_behind_it(
    gallery: Engine,
) -> None:
    add(gallery, "regular", 20)
    expected = brute(gallery, lambda *_: True)
    with gallery.connect() as connection:
        page = content_page(connection, page_size=5)
    _, last = places(page["items"])[-1]
    execute(gallery, f"DELETE FROM gallery.content_items WHERE id = {last}")
    with gallery.connect() as connection:
        following = content_page(connection, page_size=5, cursor=page["next_cursor"])
    assert places(following["items"]) == expected[5:10]


def test_the_tags_of_an_item_count_the_moment_they_are_committed(gallery: Engine) -> None:
    add(gallery, "regular", 1)
    settle(gallery)

    def found(tag: UUID) -> int:
        with gallery.connect() as connection:
            return len(content_page(connection, tags=[tag])["items"])

    for tag in (TAGS[0], TAGS[1]):
        execute(gallery, f"UPDATE gallery.content_items SET tags = '{{{tag}}}'")
        assert [found(t) for t in TAGS[:2]] == [int(t == tag) for t in TAGS[:2]]
    execute(gallery, f"DELETE FROM gallery.tags WHERE id = '{TAGS[1]}'")
    assert found(TAGS[1]) == 0


def test_tags_are_named_by_id_or_name_and_an_id_comes_first(gallery: Engine) -> None:
    # Its name reads like the id of another.
    execute(gallery, f"INSERT INTO gallery.tags VALUES ('{UUID(int=998)}', '{TAGS[0]}')")
    add(gallery, "regular", 40)
    with gallery.connect() as connection:
        expected = content_page(connection, tags=[TAGS[0]])["items"]
        assert expected
        for tag in ("red", str(TAGS[0]), TAGS[0].hex, str(TAGS[0]).upper()):
            assert content_page(connection, tags=[tag])["items"] == expected
        by_name = content_page(connection, tags=[NAMES[-1]])["items"]
        assert by_name == content_page(connection, tags=[TAGS[-1]])["items"] != []
        assert content_page(connection, tags=[""])["items"] != []


@pytest.mark.parametrize("unknown", ["nothing", UNKNOWN, "re", "RED", "a\0b", "\ud800", "%"])
def test_what_is_no_tag_matches_nothing(gallery: Engine, unknown: Any) -> None:
    add(gallery, "regular", 40)
    nothing: Any = {"items": [], "next_cursor": None, "prev_cursor": None}
    with gallery.connect() as connection:
        for match in ("any", "all"):
            assert content_page(connection, tags=[unknown], match=match) == nothing
        assert content_page(connection, tags=[unknown, "red"], match="all") == nothing
        either = content_page(connection, tags=[unknown, "red"])["items"]
        assert either == content_page(connection, tags=["red"])["items"] != []


def test_both_creators_together_are_no_filter(gallery: Engine) -> None:
    add(gallery, "regular", 20)
    with gallery.connect() as connection:
        expected = content_page(connection)["items"]
        for creator in (["user", "community"], ["all"], {"all", "user"}):
            for user in (None, USERS[0]):
                found = content_page(connection, creator=creator, user_id=user)["items"]
                assert found == expected
        assert content_page(connection, creator="community")["items"] == expected
        assert content_page(connection, creator="user", user_id=UNKNOWN)["items"] == []


def test_a_cursor_that_was_altered_or_is_another_question_s_is_reported(gallery: Engine) -> None:
    add(gallery, "regular", 20)
    with gallery.connect() as connection:
        cursor = content_page(connection, page_size=5, tags=["red"])["next_cursor"]
        assert cursor is None
        cursor = content_page(connection, page_size=5)["next_cursor"]
        assert cursor is not None
        content_page(connection, cursor=cursor, page_size=7)
        for bad, arguments in (
            (cursor, {"tags": ["red"]}),
            (cursor, {"private": False}),
            (cursor[:-3], {}),
            (cursor[::-1], {}),
            ("", {}),
        ):
            with pytest.raises(BadCursor):
                content_page(connection, cursor=bad, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"page_size": 0}, "`page_size` from 1 to 1,000"),
        ({"page_size": 1_001}, "`page_size` from 1 to 1,000"),
        ({"page_size": True}, "`page_size`"),
        ({"match": "none"}, "`match`"),
        ({"creator": "user"}, "`user_id`"),
        ({"tags": "red"}, r"\['red'\]"),
    ],
)
def test_what_cannot_be_asked_is_reported_before_anything_is_read(
    engine: Engine, arguments: Any, message: str
) -> None:
    with engine.connect() as connection, pytest.raises(ValueError, match=message):
        content_page(connection, **arguments)


def test_moments_that_python_cannot_hold_keep_their_places(gallery: Engine) -> None:
    moments = [
        "infinity",
        "29496-01-01 Z",
        "10000-01-01 Z",
        "2025-11-20 Z",
        "0044-03-15 12:00Z BC",
        "4713-01-01 Z BC",
        "-infinity",
    ]
    for source in SOURCES:
        execute(
            gallery,
            "SET LOCAL timezone TO 'UTC'",
            *[
                f"INSERT INTO {TABLES[source]} (creator_id, created_at)"
                f" VALUES ('{USERS[0]}', '{moment}')"
                for moment in moments
            ],
        )
    with gallery.connect() as connection:
        connection.execute(text("SET LOCAL timezone TO 'Pacific/Kiritimati'"))
        connection.execute(text("SET LOCAL datestyle TO 'German, DMY'"))
        items = everything(connection, 1)
    assert places(items) == [(s, n) for n in range(1, len(moments) + 1) for s in SOURCES]
    assert items[0]["created_at"] == datetime.max.replace(tzinfo=UTC)
    assert items[-1]["created_at"] == datetime.min.replace(tzinfo=UTC)


def test_a_walk_does_not_use_the_index_over_the_tags_and_a_gathering_does(
    gallery: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(
        gallery,
        "INSERT INTO gallery.content_items (creator_id, created_at, tags)"
        f" SELECT '{USERS[0]}', now() - i * interval '1 s', CASE WHEN i % 100 = 0"
        f" THEN ARRAY['{TAGS[0]}'::uuid] ELSE ARRAY['{TAGS[1]}'::uuid] END"
        " FROM generate_series(1, 5000) AS i",
        "ANALYZE gallery.content_items",
    )
    indexes = {
        ("walk", "all"): "content_items_created",
        ("walk", "user"): "content_items_creator_created",
        ("gather", "all"): "content_items_tags",
        ("gather", "user"): "content_items_tags",
    }
    for (way, creator), index in indexes.items():
        used: list[str] = []

        def explained(
            connection: Connection, query: Any, wanted: str, used: list[str] = used
        ) -> list[Any]:
            if isinstance(query, str):
                plan = connection.exec_driver_sql(f"EXPLAIN {query}").scalars().all()
                used += [line for line in plan if "Index" in line]
            return read(connection, query, wanted)

        monkeypatch.setattr(pages, "read", explained)
        monkeypatch.setattr(pages, "choose", lambda *_, way=way: Plan(way, None))
        with gallery.connect() as connection:
            content_page(
                connection,
                tags=["red"],
                sources="regular",
                creator=creator,
                user_id=USERS[0],
                page_size=3,
            )
        assert any(index in line for line in used), (way, creator, used)
        if way == "walk":
            assert not any("content_items_tags" in line for line in used)


@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ", "AUTOCOMMIT"])
def test_a_role_that_may_only_read_gets_everything(gallery: Engine, level: Any) -> None:
    add(gallery, "regular", 30)
    settle(gallery)
    execute(
        gallery,
        "CREATE ROLE gallery_reader",
        "GRANT USAGE ON SCHEMA gallery TO gallery_reader",
        "GRANT SELECT ON ALL TABLES IN SCHEMA gallery TO gallery_reader",
    )
    with gallery.begin() as connection:
        install(connection, system.tallies)
    try:
        with gallery.connect().execution_options(isolation_level=level) as connection:
            connection.execute(text("SET ROLE gallery_reader"))
            connection.execute(text("SET default_transaction_read_only TO on"))
            connection.execute(text("SET statement_timeout TO '30s'"))
            if level != "AUTOCOMMIT":
                connection.commit()
            assert len(everything(connection)) == 30
            assert everything(connection, tags=["red"])
            assert tag_counts(connection, prefix="r")
            assert unified_content_stats(connection, USERS[0])["community_regular_count"] == 30
    finally:
        # The connection that is kept for the next to ask is still the reader's.
        gallery.dispose()
        execute(gallery, "DROP OWNED BY gallery_reader", "DROP ROLE gallery_reader")


def test_one_repeatable_transaction_sees_the_same_pages_whatever_is_committed(
    gallery: Engine,
) -> None:
    add(gallery, "regular", 30)
    with gallery.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        before = everything(connection, tags=["red"])
        add(gallery, "regular", 30, seed=5)
        assert everything(connection, tags=["red"]) == before


def test_items_of_a_partitioned_table_are_read_and_counted(engine: Engine) -> None:
    execute(engine, "CREATE SCHEMA gallery")
    with engine.begin() as connection:
        for name in ("users", "tags"):
            system.metadata.tables[f"gallery.{name}"].create(connection)
    execute(
        engine,
        "CREATE TABLE gallery.content_items_all (id integer NOT NULL, title text,"
        " content_type text, creator_id uuid NOT NULL REFERENCES gallery.users,"
        " created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz,"
        " is_private boolean NOT NULL DEFAULT false, tags uuid[] NOT NULL DEFAULT '{}',"
        " source_type text NOT NULL, PRIMARY KEY (id, source_type))"
        " PARTITION BY LIST (source_type)",
        *[
            f"CREATE TABLE {table} PARTITION OF gallery.content_items_all"
            f" FOR VALUES IN ('{source}')"
            for source, table in TABLES.items()
        ],
    )
    with engine.begin() as connection:
        system.metadata.create_all(connection)
        install(connection, system.tallies)
    people(engine)
    execute(
        engine,
        "INSERT INTO gallery.content_items_all (id, source_type, creator_id, tags)"
        f" SELECT i, (ARRAY['regular', 'auto'])[1 + i % 2], '{USERS[0]}', ARRAY['{TAGS[0]}'::uuid]"
        " FROM generate_series(1, 9) AS i",
    )
    for _ in range(2):
        with engine.connect() as connection:
            assert len(everything(connection, tags=["red"])) == 9
            assert unified_content_stats(connection, USERS[0]) == {
                "user_regular_count": 4,
                "user_auto_count": 5,
                "community_regular_count": 4,
                "community_auto_count": 5,
            }
            assert tag_counts(connection) == [{"id": TAGS[0], "name": "red", "count": 9}]
        settle(engine)


def test_counts_are_exact_before_and_after_refreshes(gallery: Engine) -> None:
    def counts(user: UUID | str | None = None) -> tuple[int, ...]:
        with gallery.connect() as connection:
            return tuple(unified_content_stats(connection, user).values())  # type: ignore[arg-type]

    assert counts() == counts(USERS[0]) == (0, 0, 0, 0)
    insert = "INSERT INTO {} (creator_id) SELECT '{}' FROM generate_series(1, {})"
    execute(gallery, insert.format(TABLES["regular"], USERS[0], 3))
    execute(gallery, insert.format(TABLES["auto"], USERS[1], 2))
    for _ in range(2):
        assert counts() == (0, 0, 3, 2)
        assert counts(USERS[0]) == counts(str(USERS[0])) == (3, 0, 3, 2)
        assert counts(UNKNOWN) == (0, 0, 3, 2)
        settle(gallery)
    execute(gallery, f"UPDATE gallery.content_items SET creator_id = '{USERS[1]}' WHERE id = 1")
    assert counts(USERS[1]) == (1, 2, 3, 2)


def test_counts_of_what_is_no_user_s_id_are_refused(engine: Engine) -> None:
    with engine.connect() as connection, pytest.raises(ValueError, match="to be a UUID"):
        unified_content_stats(connection, "Anna")


def test_the_most_used_tags_come_first_and_are_exact_before_refreshes(gallery: Engine) -> None:
    for source, number in (("regular", 3), ("auto", 2)):
        execute(
            gallery,
            f"INSERT INTO {TABLES[source]} (creator_id, tags) SELECT '{USERS[0]}',"
            f" (ARRAY{[str(t) for t in TAGS]}::uuid[])[1:i] FROM generate_series(1, {number}) AS i",
        )
    for _ in range(2):
        with gallery.connect() as connection:
            assert [(t["name"], t["count"]) for t in tag_counts(connection)] == [
                ("red", 5),
                ("blue", 3),
                ("re%d", 1),
            ]
            assert [t["count"] for t in tag_counts(connection, sources="auto")] == [2, 1]
            assert [t["id"] for t in tag_counts(connection, limit=1)] == [TAGS[0]]
        settle(gallery)


def test_a_prefix_means_its_very_characters(gallery: Engine) -> None:
    execute(
        gallery,
        f"INSERT INTO gallery.content_items (creator_id, tags)"
        f" VALUES ('{USERS[0]}', ARRAY{[str(t) for t in TAGS]}::uuid[])",
        f"INSERT INTO gallery.tags VALUES ('{UUID(int=500)}', 'never used')",
    )

    def found(prefix: str | None) -> set[str]:
        with gallery.connect() as connection:
            return {tag["name"] for tag in tag_counts(connection, prefix=prefix)}

    for _ in range(2):
        assert found("re") == {"red", "re%d", "re_d"}
        assert found("re_") == {"re_d"}
        assert found("re%") == {"re%d"}
        assert found("R") == {"Red"}
        assert found("\\") == found("a\0b") == found("never") == set()
        assert found("") == found(None) == set(NAMES)
        settle(gallery)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"limit": 0}, "`limit` from 1"),
        ({"limit": "5"}, "`limit` from 1"),
        ({"sources": []}, "`sources`"),
        ({"prefix": 7}, "`prefix`"),
    ],
)
def test_a_tag_cloud_that_cannot_be_asked_for_is_reported(
    engine: Engine, arguments: Any, message: str
) -> None:
    with engine.connect() as connection, pytest.raises(ValueError, match=message):
        tag_counts(connection, **arguments)


def test_a_database_without_a_gallery_is_asked_to_migrate(engine: Engine) -> None:
    asked: list[tuple[Callable[[Connection], Any], str]] = [
        (unified_content_stats, "gallery.gen_source_stats_live"),
        (tag_counts, "gallery.tag_cardinality_stats_live"),
        (content_page, "gallery.content_items"),
        (lambda connection: content_page(connection, tags=["red"]), "gallery.tag_cardinality"),
    ]
    for ask, name in asked:
        with engine.connect() as connection, pytest.raises(NotInstalled) as caught:
            ask(connection)
        assert name in str(caught.value)
        assert "`tally migrate`" in str(caught.value)


def test_a_failure_that_is_no_missing_table_is_let_through(gallery: Engine) -> None:
    with gallery.connect() as connection:
        connection.execute(text("SET LOCAL statement_timeout TO 1"))
        with pytest.raises(OperationalError, match="statement timeout"):
            read(connection, "SELECT pg_sleep(1)", "nothing")
    with gallery.connect() as connection, pytest.raises(ProgrammingError, match="syntax"):
        read(connection, "SELECT FROM FROM", "nothing")


def fail_once(engine: Engine) -> None:
    """A function that fails the first time, as a live view does whose source was truncated."""
    execute(
        engine,
        "CREATE SEQUENCE attempts",
        "CREATE FUNCTION breaks() RETURNS integer LANGUAGE plpgsql AS $$ BEGIN"
        " IF nextval('attempts') = 1 THEN RAISE SQLSTATE '40001'; END IF; RETURN 5; END $$",
    )


@pytest.mark.parametrize("begun", [False, True])
def test_a_read_across_a_truncation_is_repeated_where_each_statement_stands_alone(
    engine: Engine, begun: bool
) -> None:
    fail_once(engine)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if begun:
            with connection.begin():
                assert read(connection, "SELECT breaks()", "it") == [(5,)]
        else:
            assert read(connection, "SELECT breaks()", "it") == [(5,)]


def test_a_read_across_a_truncation_is_repeated_outside_a_transaction_of_the_caller_s(
    engine: Engine,
) -> None:
    fail_once(engine)
    with engine.connect() as connection:
        assert read(connection, "SELECT breaks()", "it") == [(5,)]


def test_a_read_across_a_truncation_within_the_caller_s_transaction_is_the_caller_s_to_repeat(
    engine: Engine,
) -> None:
    fail_once(engine)
    with engine.connect() as connection, connection.begin():
        with pytest.raises(DBAPIError) as caught:
            read(connection, "SELECT breaks()", "it")
        assert getattr(caught.value.orig, "sqlstate", None) == "40001"
        connection.rollback()
