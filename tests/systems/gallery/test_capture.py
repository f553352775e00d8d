"""The gallery's capture and live views, one connection at a time: what concurrency cannot show.

Marks that find their keys by reading the sources at refresh time; a tally that counts another's
derived table; a null in a key; items that are leaves of a partitioned table.
"""

from __future__ import annotations

import random
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError

from assets.gallery.tallies import (
    content_tags,
    content_tags_left_out,
    gen_source_stats,
    system,
    tag_cardinality_stats,
)
from tallykeeper import Tally, install, rebuild, refresh, verify
from tallykeeper.catalog.state import mark_stale
from tallykeeper.database.sql import CLAIM_WRITING
from tests.concurrency.subjects import SUBJECTS
from tests.concurrency.writers import COLLISIONS
from tests.integration.support import create, execute, judge, rows, scalar, scans_of
from tests.oracle import GALLERY, TAG_CARDINALITY_STATS, look, settle

ANNA = "00000000-0000-0000-0000-00000000000a"
BERT = "00000000-0000-0000-0000-00000000000b"
RED = "00000000-0000-0000-0000-0000000000ed"
BLUE = "00000000-0000-0000-0000-0000000000bb"
LATER = "00000000-0000-0000-0000-0000000000aa"
LOG = "tallykeeper.gallery_content_tags_log"
CHANGES = "tallykeeper.gallery_content_tags_changes()"
LINKS = (
    "SELECT content_source, content_id, right(tag_id::text, 2) FROM gallery.content_tags"
    " ORDER BY 1, 2, 3"
)
CARDINALITY = (
    "SELECT right(tag_id::text, 2), content_source, cardinality FROM"
    " gallery.tag_cardinality_stats_live ORDER BY 1, 2"
)
LATER_IS_A_TAG = f"INSERT INTO gallery.tags VALUES ('{LATER}', 'later')"
STATEMENTS = 70


@pytest.fixture
def unbuilt(any_postgres_engine: Engine) -> Engine:
    """Three items, of Anna's and Bert's; they name red, blue, a later tag, and nulls."""
    create(any_postgres_engine, system)
    execute(
        any_postgres_engine,
        f"INSERT INTO gallery.users VALUES ('{ANNA}', 'Anna'), ('{BERT}', 'Bert')",
        f"INSERT INTO gallery.tags VALUES ('{RED}', 'red'), ('{BLUE}', 'blue')",
        "INSERT INTO gallery.content_items (id, creator_id, tags) VALUES"
        f" (1, '{ANNA}', '{{{RED},{BLUE},{RED}}}'), (2, '{BERT}', '{{{LATER},NULL,{RED}}}')",
        "INSERT INTO gallery.content_items_auto (id, creator_id, tags) VALUES"
        f" (1, '{ANNA}', '{{{LATER},{LATER}}}')",
    )
    return any_postgres_engine


@pytest.fixture
def gallery(unbuilt: Engine) -> Engine:
    """The same, built."""
    keep(unbuilt)
    return unbuilt


def keep(engine: Engine) -> None:
    """Refresh all four: everything is right before and after."""
    judge(engine, GALLERY)
    for tally in system.tallies:
        refresh(engine, tally)
        assert verify(engine, tally).ok, tally
    judge(engine, GALLERY)


def pending(engine: Engine, log: str = LOG) -> int:
    return int(scalar(engine, f"SELECT count(*) FROM {log}"))


def test_live_views_of_a_database_that_was_never_built_are_exact(unbuilt: Engine) -> None:
    judge(unbuilt, GALLERY)
    for tally in system.tallies:
        assert scalar(unbuilt, f"SELECT count(*) FROM {tally.live_name}")
        assert scalar(unbuilt, f"SELECT count(*) FROM gallery.{tally.table.name}") == 0
        assert verify(unbuilt, tally).stale == ("never built",)


def test_live_views_of_an_empty_database_have_no_rows(any_postgres_engine: Engine) -> None:
    create(any_postgres_engine, system)
    keep(any_postgres_engine)
    for tally in system.tallies:
        assert scalar(any_postgres_engine, f"SELECT count(*) FROM {tally.live_name}") == 0


def test_what_is_built_first_may_be_built_in_any_order(unbuilt: Engine) -> None:
    for tally in reversed(system.tallies):
        refresh(unbuilt, tally)
        assert verify(unbuilt, tally).ok
        judge(unbuilt, GALLERY)
    # It was counted before there was anything to count, and is to be counted again.
    assert verify(unbuilt, tag_cardinality_stats).stale == ("gallery.content_tags was loaded",)
    keep(unbuilt)


def test_a_tag_that_appears_later_brings_its_links(gallery: Engine) -> None:
    assert rows(gallery, LINKS) == [
        ("regular", 1, "bb"),
        ("regular", 1, "ed"),
        ("regular", 2, "ed"),
    ]
    execute(gallery, LATER_IS_A_TAG)
    judge(gallery, GALLERY)
    done = refresh(gallery, content_tags)
    assert (done.how, done.pending_consumed, done.inserted, done.deleted) == ("refresh", 1, 2, 0)
    keep(gallery)
    assert ("auto", 1, "aa") in rows(gallery, LINKS)
    assert rows(
        gallery,
        "SELECT content_source, content_id, unknown_tags, null_elements"
        " FROM gallery.content_tags_left_out",
    ) == [("regular", 2, [], 1)]


def test_a_tag_that_nothing_names_costs_nothing(gallery: Engine) -> None:
    execute(gallery, "INSERT INTO gallery.tags (name) SELECT 't' || n FROM generate_series(1, 9) n")
    assert scalar(gallery, f"SELECT count(*) FROM {CHANGES}") == 0
    judge(gallery, GALLERY)
    for tally in (content_tags, content_tags_left_out):
        done = refresh(gallery, tally)
        assert (done.pending_consumed, done.keys_changed) == (9, 0)
    keep(gallery)


def test_another_name_for_a_tag_leaves_no_mark(gallery: Engine) -> None:
    execute(gallery, "UPDATE gallery.tags SET name = name || '!'")
    execute(gallery, f"UPDATE gallery.tags SET name = 'scarlet' WHERE id = '{RED}'")
    assert pending(gallery) == 0


def test_another_id_for_a_tag_takes_its_links_from_one_to_the_other(gallery: Engine) -> None:
    never = BLUE.replace("bb", "cc")
    execute(gallery, f"INSERT INTO gallery.tags VALUES ('{never}', 'moves')")
    execute(gallery, f"UPDATE gallery.tags SET id = '{LATER}' WHERE id = '{never}'")
    keep(gallery)
    assert ("auto", 1, "aa") in rows(gallery, LINKS)
    with pytest.raises(IntegrityError):
        execute(gallery, f"UPDATE gallery.tags SET id = '{never}' WHERE id = '{LATER}'")
    assert pending(gallery) == 0
    keep(gallery)


def test_a_tag_that_comes_and_goes_between_refreshes_changes_nothing(gallery: Engine) -> None:
    execute(gallery, LATER_IS_A_TAG)
    execute(gallery, f"DELETE FROM gallery.tags WHERE id = '{LATER}'")
    judge(gallery, GALLERY)
    assert refresh(gallery, content_tags).keys_changed == 0
    keep(gallery)


def test_a_tag_deleted_and_written_again_in_one_transaction_keeps_its_links(
    gallery: Engine,
) -> None:
    before = rows(gallery, LINKS)
    execute(
        gallery,
        f"DELETE FROM gallery.tags WHERE id = '{RED}'",
        f"INSERT INTO gallery.tags VALUES ('{RED}', 'red')",
    )
    judge(gallery, GALLERY)
    assert refresh(gallery, content_tags).inserted == 2
    keep(gallery)
    assert rows(gallery, LINKS) == before


def test_an_item_edited_and_its_tag_deleted_between_refreshes(gallery: Engine) -> None:
    execute(
        gallery,
        f"UPDATE gallery.content_items_auto SET tags = '{{{BLUE},{RED}}}'",
        f"DELETE FROM gallery.tags WHERE id = '{BLUE}'",
    )
    keep(gallery)
    assert rows(gallery, LINKS) == [
        ("auto", 1, "ed"),
        ("regular", 1, "ed"),
        ("regular", 2, "ed"),
    ]


def test_arrays_of_every_form_are_exploded(gallery: Engine) -> None:
    forms = ("{}", "{NULL}", "{{%r,%b},{%b,NULL}}", "[0:1]={%r,%l}", "[-1:0][7:7]={{%l},{%r}}")
    for form in forms:
        value = form.replace("%r", RED).replace("%b", BLUE).replace("%l", LATER)
        execute(gallery, f"UPDATE gallery.content_items SET tags = '{value}'")
        keep(gallery)
        execute(gallery, LATER_IS_A_TAG)
        keep(gallery)
        execute(gallery, f"DELETE FROM gallery.tags WHERE id = '{LATER}'")
        keep(gallery)


def test_tags_are_resolved_without_reading_all_items(engine: Engine) -> None:
    create(engine, system)
    execute(
        engine,
        f"INSERT INTO gallery.users VALUES ('{ANNA}', 'Anna')",
        "INSERT INTO gallery.tags (name) SELECT 't' || n FROM generate_series(1, 2000) AS n",
        *(
            f"INSERT INTO gallery.{items} (creator_id, tags)"
            f" SELECT '{ANNA}', (SELECT array_agg(id) FROM gallery.tags"
            " WHERE name IN ('t' || n % 2000 + 1, 't' || n * 7 % 2000 + 1))"
            " FROM generate_series(1, 8000) AS n"
            for items in ("content_items", "content_items_auto")
        ),
        f"UPDATE gallery.content_items SET tags = tags || uuid '{LATER}' WHERE id IN (5, 7000)",
    )
    for tally in system.tallies:
        refresh(engine, tally)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM (ANALYZE)")
    execute(engine, LATER_IS_A_TAG, "DELETE FROM gallery.tags WHERE name = 't77'")
    # The counts are those of a session, which may keep them over several transactions.
    engine.dispose()
    with scans_of(engine, "content_items", "content_items_auto", "tags") as scans:
        assert refresh(engine, content_tags).keys_changed == 2
        assert refresh(engine, content_tags_left_out).keys_changed == 2 + 4 * 4
        assert scalar(engine, f"SELECT count(*) FROM {CHANGES}") == 0
    assert scans
    assert set(scans) == {0}
    for tally in (content_tags, content_tags_left_out):
        assert verify(engine, tally).ok


def test_a_counted_table_s_pending_changes_show_at_once(gallery: Engine) -> None:
    assert rows(gallery, CARDINALITY) == [("bb", "regular", 1), ("ed", "regular", 2)]
    execute(gallery, LATER_IS_A_TAG)
    expected = [
        ("aa", "auto", 1),
        ("aa", "regular", 1),
        ("bb", "regular", 1),
        ("ed", "regular", 2),
    ]
    # Nothing of it is in the junction yet, nor in its own log.
    assert pending(gallery, TAG_CARDINALITY_STATS.log) == 0
    assert rows(gallery, CARDINALITY) == expected
    judge(gallery, GALLERY)
    # Refreshing it alone has nothing to take, and changes nothing that is live.
    assert refresh(gallery, tag_cardinality_stats).pending_consumed == 0
    assert rows(gallery, CARDINALITY) == expected
    refresh(gallery, content_tags)
    assert pending(gallery, TAG_CARDINALITY_STATS.log) == 2
    assert rows(gallery, CARDINALITY) == expected
    assert refresh(gallery, tag_cardinality_stats).inserted == 2
    assert rows(gallery, CARDINALITY) == expected
    keep(gallery)


def test_a_stale_counted_table_is_counted_from_the_sources(gallery: Engine) -> None:
    execute(gallery, f"UPDATE gallery.content_items SET tags = '{{{BLUE}}}'")
    with gallery.begin() as connection:
        mark_stale(connection, content_tags, "for a test")
    judge(gallery, GALLERY)
    assert rows(gallery, CARDINALITY) == [("bb", "regular", 2)]
    # It is right as long as it follows the junction, whatever becomes of that.
    assert verify(gallery, tag_cardinality_stats).ok
    execute(gallery, "TRUNCATE gallery.content_items_auto", LATER_IS_A_TAG)
    judge(gallery, GALLERY)
    keep(gallery)


def test_truncated_tags_take_the_junction_along(gallery: Engine) -> None:
    execute(gallery, "TRUNCATE gallery.tags CASCADE")
    judge(gallery, GALLERY)
    assert rows(gallery, CARDINALITY) == []
    execute(gallery, LATER_IS_A_TAG)
    judge(gallery, GALLERY)
    assert refresh(gallery, tag_cardinality_stats).how == "rebuild"
    keep(gallery)
    assert rows(gallery, CARDINALITY) == [("aa", "auto", 1), ("aa", "regular", 1)]


def test_truncated_users_leave_no_counts(gallery: Engine) -> None:
    execute(gallery, "TRUNCATE gallery.users CASCADE")
    judge(gallery, GALLERY)
    keep(gallery)
    assert scalar(gallery, "SELECT count(*) FROM gallery.gen_source_stats_live") == 0


def test_everybody_has_one_row_for_each_source(gallery: Engine) -> None:
    everybody = (
        "SELECT source_type, count FROM gallery.gen_source_stats WHERE user_id IS NULL ORDER BY 1"
    )
    assert rows(gallery, everybody) == [("auto", 1), ("regular", 2)]
    (before,) = rows(
        gallery,
        "SELECT id FROM gallery.gen_source_stats WHERE user_id IS NULL AND source_type = 'auto'",
    )
    execute(
        gallery,
        f"INSERT INTO gallery.content_items_auto (id, creator_id) VALUES (2, '{BERT}')",
        f"UPDATE gallery.content_items SET creator_id = '{ANNA}'",
    )
    judge(gallery, GALLERY)
    # Everybody has gained one item; the ones that changed hands are no more and no fewer.
    assert rows(
        gallery,
        "SELECT right(user_id::text, 1), source_type, sum(count)::int"
        " FROM tallykeeper.gallery_gen_source_stats_log GROUP BY 1, 2 ORDER BY 1, 2",
    ) == [("a", "regular", 1), ("b", "auto", 1), ("b", "regular", -1), (None, "auto", 1)]
    keep(gallery)
    assert rows(gallery, everybody) == [("auto", 2), ("regular", 2)]
    assert rows(
        gallery,
        "SELECT id FROM gallery.gen_source_stats WHERE user_id IS NULL AND source_type = 'auto'",
    ) == [before]


def test_no_second_row_of_the_same_user_or_of_everybody_can_be(gallery: Engine) -> None:
    for user in ("NULL", f"'{ANNA}'"):
        with pytest.raises(IntegrityError, match="gen_source_stats_"):
            execute(
                gallery,
                "INSERT INTO gallery.gen_source_stats (user_id, source_type, count)"
                f" VALUES ({user}, 'auto', 1)",
            )


FAULTS: dict[str, tuple[Tally, str, dict[str, Any], object, object]] = {
    "everybody's count": (
        gen_source_stats,
        "UPDATE gallery.gen_source_stats SET count = 7 WHERE user_id IS NULL AND source_type ="
        " 'regular'",
        {"user_id": None, "source_type": "regular"},
        {"count": 7},
        {"count": 2},
    ),
    "a count that is missing": (
        gen_source_stats,
        f"DELETE FROM gallery.gen_source_stats WHERE user_id = '{BERT}'",
        {"user_id": BERT, "source_type": "regular"},
        None,
        {"count": 1},
    ),
    "a link that is missing": (
        content_tags,
        f"DELETE FROM gallery.content_tags WHERE tag_id = '{BLUE}'",
        {"content_id": 1, "content_source": "regular", "tag_id": BLUE},
        None,
        {},
    ),
    "a link too many": (
        content_tags,
        f"INSERT INTO gallery.content_tags VALUES (3, 'auto', '{BLUE}')",
        {"content_id": 3, "content_source": "auto", "tag_id": BLUE},
        {},
        None,
    ),
    "another array": (
        content_tags_left_out,
        f"UPDATE gallery.content_tags_left_out SET unknown_tags = '{{{RED}}}'"
        " WHERE content_source = 'auto'",
        {"content_id": 1, "content_source": "auto"},
        {"unknown_tags": [RED], "null_elements": 0},
        {"unknown_tags": [LATER], "null_elements": 0},
    ),
    "a cardinality of nothing": (
        tag_cardinality_stats,
        f"INSERT INTO gallery.tag_cardinality_stats VALUES ('{LATER}', 'auto', 0)",
        {"tag_id": LATER, "content_source": "auto"},
        {"cardinality": 0},
        None,
    ),
}


def test_verify_names_what_was_changed_by_hand_and_a_rebuild_repairs_it(gallery: Engine) -> None:
    for name, (tally, statement, key, stored, expected) in FAULTS.items():
        execute(gallery, CLAIM_WRITING, statement)
        (found,) = verify(gallery, tally).differences
        assert (found.key, found.stored, found.expected) == (key, stored, expected), name
        rebuild(gallery, tally)
        keep(gallery)


def test_a_reader_needs_only_the_live_view(gallery: Engine) -> None:
    execute(gallery, LATER_IS_A_TAG)
    with gallery.connect() as connection, connection.begin() as transaction:
        connection.execute(text("CREATE ROLE gallery_reader"))
        connection.execute(text("GRANT USAGE ON SCHEMA gallery TO gallery_reader"))
        for tally in system.tallies:
            connection.execute(text(f"GRANT SELECT ON {tally.live_name} TO gallery_reader"))
        install(connection, system.tallies)
        connection.execute(text("SET LOCAL ROLE gallery_reader"))
        counts = {
            tally.table.name: connection.scalar(text(f"SELECT count(*) FROM {tally.live_name}"))
            for tally in system.tallies
        }
        transaction.rollback()
    assert counts == {
        "gen_source_stats": 5,
        "content_tags": 5,
        "content_tags_left_out": 1,
        "tag_cardinality_stats": 4,
    }


@pytest.mark.parametrize("name", ["gallery", "partitioned gallery"])
@pytest.mark.parametrize("seed", range(2))
def test_every_statement_is_seen_at_once_and_stays_right_over_refreshes(
    any_postgres_engine: Engine, name: str, seed: int
) -> None:
    engine, subject, rng = any_postgres_engine, SUBJECTS[name], random.Random(seed)
    with engine.begin() as connection:
        subject.create(connection)
    weights = [operation.weight for operation in subject.operations]
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        for number in range(STATEMENTS):
            operation = rng.choices(subject.operations, weights)[0]
            try:
                with driver.transaction(), driver.cursor() as cursor:
                    operation.run(cursor, rng)
            except COLLISIONS:
                continue
            look(driver, rng.choice(subject.oracles))
            if number % 3 == 2:
                tally = rng.choice(system.tallies)
                rng.choice((refresh, refresh, rebuild))(engine, tally)
                assert not verify(engine, tally).differing
        for oracle in subject.oracles:
            look(driver, oracle)
        for tally in system.tallies:
            refresh(engine, tally)
            assert verify(engine, tally).ok
        for oracle in subject.oracles:
            settle(driver, oracle)
