"""The junction of items and tags: a row for each point of the document that asks for it.

The tests share one database of twelve regular and twelve auto items: item n has those of the tags
t1 to t4 whose number divides n. What they write they roll back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, Engine, inspect, select
from sqlalchemy.exc import IntegrityError

from assets.gallery import tables
from assets.gallery.reads import content_page, tag_counts
from assets.gallery.tallies import content_tags
from assets.gallery.tallies import system as gallery
from tallykeeper import BadLane, backfill, refresh, status, verify
from tallykeeper.http.app import create_app
from tests.documents.audit import differently
from tests.documents.installation import benchmarked, by_hand, checks_of, command, kept, run, undone
from tests.integration.serving_client import Client
from tests.integration.support import execute, rows, scalar
from tests.servers import Servers

ANN, BOB = UUID(int=10), UUID(int=11)
TAG = [UUID(int=0), *(UUID(int=100 + number) for number in range(1, 7))]
JUNCTION = "SELECT content_id, content_source, tag_id FROM gallery.content_tags"
BENCHMARKS = Path(__file__).parents[2] / "docs" / "reference" / "benchmarks.md"


@pytest.fixture(scope="module")
def engine(postgres_servers: Servers) -> Iterator[Engine]:
    with kept(postgres_servers, "gallery") as engine:
        execute(
            engine,
            f"INSERT INTO gallery.users VALUES ('{ANN}', 'ann'), ('{BOB}', 'bob')",
            *(f"INSERT INTO gallery.tags VALUES ('{TAG[n]}', 't{n}')" for n in range(1, 7)),
            *(
                add(table, creator, n, *(t for t in range(1, 5) if n % t == 0))
                for table, creator in (("content_items", ANN), ("content_items_auto", BOB))
                for n in range(1, 13)
            ),
        )
        backfill(engine, content_tags)
        for tally in gallery.tallies:
            refresh(engine, tally)
        yield engine


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    with undone(engine) as connection:
        yield connection


def array(*tags: int) -> str:
    named = ", ".join(f"'{TAG[tag]}'" for tag in tags)
    return f"ARRAY[{named}]::uuid[]"


def add(table: str, creator: UUID, hours: int, *tags: int) -> str:
    moment = datetime(2025, 10, 1) + timedelta(hours=hours)  # noqa: DTZ001
    return (
        f"INSERT INTO gallery.{table} (creator_id, created_at, tags) VALUES"
        f" ('{creator}', '{moment}Z', {array(*tags)})"
    )


def tags_of(connection: Connection, item: int, source: str = "regular") -> set[UUID]:
    of_item = f"content_id = {item} AND content_source = '{source}'"
    found = by_hand(connection, f"SELECT tag_id FROM gallery.content_tags_live WHERE {of_item}")
    return {tag for (tag,) in found}


def named(connection: Connection, **question: Any) -> list[tuple[str, int]]:
    page = content_page(connection, page_size=100, **question)
    return [(item["source"], item["id"]) for item in page["items"]]


# Schema.


def test_the_junction_has_a_row_for_each_item_and_tag(engine: Engine) -> None:
    columns = [c["name"] for c in inspect(engine).get_columns("content_tags", schema="gallery")]
    assert columns == ["content_id", "content_source", "tag_id"]
    expected = sum(1 for n in range(1, 13) for t in range(1, 5) if n % t == 0)
    counted = "SELECT content_source, count(*) FROM gallery.content_tags GROUP BY 1 ORDER BY 1"
    assert rows(engine, counted) == [("auto", expected), ("regular", expected)]


def test_tags_of_an_item_are_found_by_an_index(engine: Engine) -> None:
    key = inspect(engine).get_pk_constraint("content_tags", schema="gallery")
    assert key["constrained_columns"] == ["content_id", "content_source", "tag_id"]


def test_items_of_a_tag_are_found_by_an_index(engine: Engine) -> None:
    indexes = inspect(engine).get_indexes("content_tags", schema="gallery")
    found = [index["column_names"] for index in indexes]
    assert ["tag_id", "content_source", "content_id"] in found


def test_no_row_names_a_tag_that_there_is_not(connection: Connection) -> None:
    insert = "INSERT INTO gallery.content_tags VALUES (1, 'regular', gen_random_uuid())"
    with pytest.raises(IntegrityError, match="foreign key"):
        run(connection, insert)


def test_a_pair_is_there_once(connection: Connection) -> None:
    run(connection, f"UPDATE gallery.content_items SET tags = {array(1, 1, 2)} WHERE id = 1")
    live = by_hand(connection, "SELECT tag_id FROM gallery.content_tags_live WHERE content_id = 1")
    assert len([tag for (tag,) in live if tag == TAG[1]]) == 2, "one of each source"


def test_the_table_can_be_imported_and_asked_by_programs(connection: Connection) -> None:
    table = tables.content_tags
    query = select(table.c.tag_id).where(
        table.c.content_id == 1, table.c.content_source == tables.REGULAR
    )
    assert connection.execute(query).scalars().all() == [TAG[1]]


# Backfill.


def test_the_junction_is_built_in_batches(engine: Engine) -> None:
    done = backfill(engine, content_tags, target_seconds=0.001)
    assert done.keys_changed == 0
    assert verify(engine, content_tags).ok


def test_the_backfill_may_be_run_any_number_of_times(engine: Engine) -> None:
    before = sorted(rows(engine, JUNCTION))
    for _ in range(2):
        command(engine, "backfill", "gallery.content_tags")
    assert sorted(rows(engine, JUNCTION)) == before


def test_the_backfill_tells_how_far_it_is(engine: Engine) -> None:
    progress: list[str] = []
    backfill(engine, content_tags, on_progress=lambda p: progress.append(str(p)))
    assert progress


def test_how_far_each_source_is_can_be_looked_up_from_anywhere(engine: Engine) -> None:
    lanes = "SELECT lane, finished_at IS NOT NULL, items_done FROM tallykeeper.backfills"
    assert sorted(rows(engine, lanes)) == [("auto", True, 12), ("regular", True, 12)]


def test_one_source_is_backfilled_alone(engine: Engine) -> None:
    assert "content_tags" in command(
        engine, "backfill", "gallery.content_tags", "--lane", "auto", "--restart"
    )


def test_the_links_are_counted_by_source_with_first_and_last_item(engine: Engine) -> None:
    found = rows(
        engine,
        "SELECT content_source, count(*), min(content_id), max(content_id)"
        " FROM gallery.content_tags GROUP BY content_source ORDER BY 1",
    )
    assert [(source, first, last) for source, _, first, last in found] == [
        ("auto", 1, 12),
        ("regular", 1, 12),
    ]


def test_after_a_backfill_the_links_are_those_of_the_arrays(engine: Engine) -> None:
    of_arrays = (
        "SELECT count(*) FROM (SELECT id, 'regular', unnest(tags) FROM gallery.content_items"
        " UNION SELECT id, 'auto', unnest(tags) FROM gallery.content_items_auto) AS pairs"
    )
    assert scalar(engine, of_arrays) == scalar(engine, "SELECT count(*) FROM gallery.content_tags")


def test_ninety_million_links_are_built_in_minutes() -> None:
    (row,) = benchmarked("first build of `content_tags`", "89,600,000 links")
    seconds = re.search(r"\| ([0-9.]+) s \|", row)
    assert seconds is not None
    assert float(seconds[1]) < 600


def test_what_went_wrong_with_a_backfill_is_one_sentence(engine: Engine) -> None:
    with pytest.raises(BadLane, match="automatic"):
        backfill(engine, content_tags, ["automatic"])


def test_how_large_the_junction_is_on_disk_is_shown(engine: Engine) -> None:
    assert "content_tags" in command(engine, "status", code=None)
    assert status(engine, content_tags).rows == len(rows(engine, JUNCTION))


def test_the_backfill_runs_on_any_database(engine: Engine) -> None:
    assert "content_tags" in command(engine, "backfill", "gallery.content_tags")


# Queries.


def test_items_with_any_of_the_tags_are_found(connection: Connection) -> None:
    found = named(connection, tags=[TAG[3], TAG[4]], match="any", sources=["regular"])
    assert {item for _, item in found} == {3, 4, 6, 8, 9, 12}


def test_items_with_all_of_the_tags_are_found(connection: Connection) -> None:
    found = named(connection, tags=[TAG[3], TAG[4]], match="all")
    assert found == [("regular", 12), ("auto", 12)]


def test_a_filter_by_tags_goes_with_either_source(connection: Connection) -> None:
    for source in ("regular", "auto"):
        assert named(connection, tags=["t4"], sources=[source]) == [
            (source, 12),
            (source, 8),
            (source, 4),
        ]


@differently(
    "pages are found by an index over the arrays, which was measured to be quicker and"
    " smaller; the junction serves counts and joins"
)
def test_the_filter_does_not_take_arrays_apart_item_by_item(engine: Engine) -> None:
    indexes = "SELECT indexdef FROM pg_indexes WHERE tablename = 'content_items'"
    assert any("USING gin (tags)" in definition for (definition,) in rows(engine, indexes))


@differently("tests run on the real PostgreSQL, so there is no second way for SQLite")
def test_tests_need_no_fallback_for_another_database(engine: Engine) -> None:
    assert engine.dialect.name == "postgresql"


@pytest.mark.parametrize("links", ["20 M", "89,600,000"])
def test_pages_with_tags_take_well_under_a_second(links: str) -> None:
    (row,) = benchmarked(links, "`content_page`")
    p50, p95 = re.findall(r"([0-9.]+) ms", row)[:2]
    assert float(p50) < 1_000
    assert float(p95) < 3_000


def test_the_user_and_the_community_together_are_everybody(connection: Connection) -> None:
    both = named(connection, creator=["user", "community"], user_id=ANN)
    assert both == named(connection)
    assert len(both) == 24


def test_the_creator_is_one_condition_or_none(connection: Connection) -> None:
    assert {source for source, _ in named(connection, creator="user", user_id=ANN)} == {"regular"}
    others = named(connection, creator="community", user_id=ANN)
    assert {source for source, _ in others} == {"auto"}


def test_filters_of_creator_and_tags_go_together(connection: Connection) -> None:
    assert named(connection, creator="user", user_id=BOB, tags=["t4"]) == [
        ("auto", 12),
        ("auto", 8),
        ("auto", 4),
    ]


def test_a_tag_is_its_id_and_is_not_expanded(connection: Connection) -> None:
    assert named(connection, tags=[TAG[4]]) == named(connection, tags=[str(TAG[4])])
    assert named(connection, tags=["T4"]) == []


def test_a_tag_cloud_counts_items_by_the_junction(connection: Connection) -> None:
    counts = {tag["name"]: tag["count"] for tag in tag_counts(connection)}
    assert counts == {"t1": 24, "t2": 12, "t3": 8, "t4": 6}


def test_pages_are_asked_for_over_http(engine: Engine) -> None:
    client = Client(create_app(engine, ["gallery"]))
    asked = [("tag_names", "t3"), ("tag_names", "t4"), ("tag_match", "all")]
    items = client.get("/api/v1/content/unified", params=asked).json()["items"]
    assert [(item["source"], item["id"]) for item in items] == [("regular", 12), ("auto", 12)]


# Writing in two places.


def test_an_item_that_is_made_brings_its_links(connection: Connection) -> None:
    run(connection, add("content_items", ANN, 20, 5, 6))
    ((item,),) = by_hand(connection, "SELECT max(id) FROM gallery.content_items")
    assert tags_of(connection, item) == {TAG[5], TAG[6]}


def test_an_item_that_is_edited_gets_the_links_of_its_new_tags_alone(
    connection: Connection,
) -> None:
    run(connection, f"UPDATE gallery.content_items SET tags = {array(5)} WHERE id = 12")
    assert tags_of(connection, 12) == {TAG[5]}
    assert tags_of(connection, 12, "auto") == {TAG[n] for n in range(1, 5)}


def test_an_item_that_is_deleted_takes_its_links_along(connection: Connection) -> None:
    run(connection, "DELETE FROM gallery.content_items_auto WHERE id = 12")
    assert tags_of(connection, 12, "auto") == set()


def test_the_array_of_an_item_stays_as_it_was_written(connection: Connection) -> None:
    run(connection, f"UPDATE gallery.content_items SET tags = {array(2, 1, 2)} WHERE id = 1")
    ((tags,),) = by_hand(connection, "SELECT tags FROM gallery.content_items WHERE id = 1")
    assert tags == [TAG[2], TAG[1], TAG[2]]


def test_links_reach_the_table_with_the_next_refresh(engine: Engine) -> None:
    execute(engine, f"UPDATE gallery.content_items SET tags = {array(5)} WHERE id = 11")
    refresh(engine, content_tags)
    of_item = "WHERE content_id = 11 AND content_source = 'regular'"
    assert rows(engine, f"SELECT tag_id FROM gallery.content_tags {of_item}") == [(TAG[5],)]
    execute(engine, f"UPDATE gallery.content_items SET tags = {array(1)} WHERE id = 11")
    refresh(engine, content_tags)
    assert verify(engine, content_tags).ok


def test_a_tag_that_does_not_exist_is_no_link_and_is_reported(connection: Connection) -> None:
    unknown = UUID(int=999)
    run(
        connection,
        f"UPDATE gallery.content_items SET tags = tags || uuid '{unknown}' WHERE id = 1",
    )
    assert tags_of(connection, 1) == {TAG[1]}
    listed = "SELECT unknown_tags FROM gallery.content_tags_left_out_live WHERE content_id = 1"
    assert by_hand(connection, listed) == [([unknown],)]


# Keeping it right.


def test_the_links_are_compared_with_the_arrays_every_hour() -> None:
    assert {"matches_source", "nothing_left_out"} <= checks_of("gallery/content_tags")


def test_the_gain_is_documented() -> None:
    page = Path(__file__).parents[2] / "docs" / "explanation" / "gallery.md"
    assert "GIN index over the arrays" in page.read_text()


def test_benchmarks_keep_the_plans_of_their_queries() -> None:
    assert "EXPLAIN" in BENCHMARKS.read_text()
