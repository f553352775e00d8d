"""Counts by generation source: a row for each point of the document that asks for them.

The tests share one database, in which two users have made five items of each kind, three and two.
What they write they roll back, or it belongs to a user who is deleted when they end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection, Engine, inspect
from sqlalchemy.exc import IntegrityError

from assets.gallery import tables
from assets.gallery.reads import unified_content_stats
from assets.gallery.tallies import gen_source_stats
from assets.gallery.tallies import system as gallery
from tallykeeper import rebuild, refresh, verify
from tallykeeper.http.app import create_app
from tallykeeper.installation.migrate import migrate
from tests.documents.installation import (
    build,
    by_hand,
    command,
    definitions,
    kept,
    run,
    schedule,
    undone,
)
from tests.integration.serving_client import Client
from tests.integration.support import execute, rows, scalar, scans_of
from tests.servers import Servers

ANN, BOB, NOBODY = (UUID(int=number) for number in (10, 11, 99))
COUNTS = {
    "user_regular_count": 3,
    "user_auto_count": 2,
    "community_regular_count": 5,
    "community_auto_count": 5,
}
STORED = "SELECT source_type, count FROM gallery.gen_source_stats WHERE user_id {} ORDER BY 1"


@pytest.fixture(scope="module")
def engine(postgres_servers: Servers) -> Iterator[Engine]:
    with kept(postgres_servers, "gallery") as engine:
        execute(engine, f"INSERT INTO gallery.users VALUES ('{ANN}', 'ann'), ('{BOB}', 'bob')")
        for table, of_ann in (("content_items", 3), ("content_items_auto", 2)):
            execute(
                engine,
                f"INSERT INTO gallery.{table} (creator_id) SELECT CASE WHEN n > {of_ann}"
                f" THEN '{BOB}' ELSE '{ANN}' END::uuid FROM generate_series(1, 5) AS n",
            )
        for tally in gallery.tallies:
            refresh(engine, tally)
        yield engine


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    with undone(engine) as connection:
        yield connection


@pytest.fixture
def visitor(engine: Engine) -> Iterator[UUID]:
    """A user who may make items, and is deleted with them when the test ends."""
    user = uuid4()
    execute(engine, f"INSERT INTO gallery.users VALUES ('{user}', 'visitor')")
    yield user
    execute(
        engine,
        f"DELETE FROM gallery.content_items WHERE creator_id = '{user}'",
        f"DELETE FROM gallery.content_items_auto WHERE creator_id = '{user}'",
        f"DELETE FROM gallery.users WHERE id = '{user}'",
    )


@pytest.fixture(scope="module")
def client(engine: Engine) -> Client:
    return Client(create_app(engine, ["gallery"]))


def add(creator: UUID, table: str = "content_items") -> str:
    return f"INSERT INTO gallery.{table} (creator_id) VALUES ('{creator}')"


# Sources and filters.


def test_regular_and_auto_items_are_counted_apart(connection: Connection) -> None:
    run(connection, add(ANN), add(ANN, "content_items_auto"), add(ANN, "content_items_auto"))
    counts = unified_content_stats(connection, ANN)
    assert (counts["user_regular_count"], counts["user_auto_count"]) == (4, 4)


def test_the_community_is_everybody_and_the_user_too(connection: Connection) -> None:
    assert unified_content_stats(connection, ANN) == COUNTS
    of_bob = unified_content_stats(connection, BOB)
    assert of_bob["community_regular_count"] == 5


@pytest.mark.parametrize(
    ("name", "of_ann", "source"),
    [
        ("user-regular", True, "regular"),
        ("user-auto", True, "auto"),
        ("community-regular", False, "regular"),
        ("community-auto", False, "auto"),
    ],
)
def test_pages_are_filtered_by_each_of_the_four_sources(
    client: Client, name: str, of_ann: bool, source: str
) -> None:
    asked = {"content_source_types": name, "user_id": str(ANN), "page_size": 100}
    items = client.get("/api/v1/content/unified", params=asked).json()["items"]
    assert items
    assert {item["source"] for item in items} == {source}
    assert {item["creator_id"] == str(ANN) for item in items} == {of_ann}


def test_a_page_brings_its_four_counts_along(client: Client) -> None:
    asked = {"user_id": str(ANN), "include_stats": "true", "page_size": 1}
    assert client.get("/api/v1/content/unified", params=asked).json()["stats"] == COUNTS


# The table.


def test_the_counts_are_stored_in_a_table(engine: Engine) -> None:
    assert rows(engine, STORED.format(f"= '{ANN}'")) == [("auto", 2), ("regular", 3)]


def test_the_table_holds_the_totals_of_the_community_under_no_user(engine: Engine) -> None:
    refresh(engine, gen_source_stats)
    everybody = [
        (kind, scalar(engine, f"SELECT count(*) FROM gallery.{table}"))
        for kind, table in (("auto", "content_items_auto"), ("regular", "content_items"))
    ]
    assert rows(engine, STORED.format("IS NULL")) == everybody


def test_the_table_holds_the_totals_of_each_user(engine: Engine) -> None:
    assert rows(engine, STORED.format(f"= '{BOB}'")) == [("auto", 3), ("regular", 2)]


def test_the_table_has_the_columns_of_the_corrected_design(engine: Engine) -> None:
    columns = {
        c["name"]: c for c in inspect(engine).get_columns("gen_source_stats", schema="gallery")
    }
    assert set(columns) == {"id", "user_id", "source_type", "count", "updated_at"}
    assert columns["user_id"]["nullable"]
    assert not columns["source_type"]["nullable"]
    assert columns["source_type"]["type"].length == 10  # type: ignore[attr-defined]
    assert not columns["count"]["nullable"]
    key = inspect(engine).get_pk_constraint("gen_source_stats", schema="gallery")
    assert key["constrained_columns"] == ["id"]


@pytest.mark.parametrize("user", [f"'{ANN}'", "NULL"])
def test_a_user_and_the_community_have_one_row_for_each_source(
    connection: Connection, user: str
) -> None:
    again = "INSERT INTO gallery.gen_source_stats (user_id, source_type, count)"
    with pytest.raises(IntegrityError, match="gen_source_stats_"):
        run(connection, f"{again} VALUES ({user}, 'regular', 1)")


def test_both_unique_indexes_are_partial(engine: Engine) -> None:
    found = "SELECT indexdef FROM pg_indexes WHERE tablename = 'gen_source_stats'"
    unique = [d for (d,) in rows(engine, found) if "UNIQUE" in d and "WHERE" in d]
    assert sorted("IS NOT NULL" in definition for definition in unique) == [False, True]


def test_rows_of_a_user_are_deleted_with_the_user(engine: Engine, visitor: UUID) -> None:
    execute(engine, add(visitor))
    refresh(engine, gen_source_stats)
    execute(
        engine,
        f"DELETE FROM gallery.content_items WHERE creator_id = '{visitor}'",
        f"DELETE FROM gallery.users WHERE id = '{visitor}'",
    )
    assert rows(engine, STORED.format(f"= '{visitor}'")) == []
    refresh(engine, gen_source_stats)
    assert verify(engine, gen_source_stats).ok


def test_the_counts_of_a_user_are_found_by_an_index(engine: Engine) -> None:
    engine.dispose()
    with scans_of(engine, "content_items", "content_items_auto") as scans, engine.begin() as reader:
        assert unified_content_stats(reader, ANN) == COUNTS
    assert scans == [0]


def test_the_table_says_which_user_a_row_belongs_to(engine: Engine) -> None:
    (key,) = inspect(engine).get_foreign_keys("gen_source_stats", schema="gallery")
    assert (key["constrained_columns"], key["referred_table"]) == (["user_id"], "users")
    assert key["options"]["ondelete"] == "CASCADE"
    assert {k.column.table.name for k in tables.gen_source_stats.c.user_id.foreign_keys} == {
        "users"
    }


def test_when_a_row_was_last_updated_is_kept(engine: Engine, visitor: UUID) -> None:
    execute(engine, add(visitor))
    refresh(engine, gen_source_stats)
    updated = f"SELECT updated_at FROM gallery.gen_source_stats WHERE user_id = '{visitor}'"
    before = scalar(engine, updated)
    execute(engine, add(visitor))
    refresh(engine, gen_source_stats)
    assert scalar(engine, updated) > before


def test_a_table_with_the_flawed_composite_key_is_converted(postgres_servers: Servers) -> None:
    with kept(postgres_servers) as engine:
        build(engine, "gallery", "generation_sources_flawed")
        migrate(engine, [gallery])
        refresh(engine, gen_source_stats)
        assert rows(engine, STORED.format("IS NULL")) == [("auto", 2), ("regular", 1)]


# Refreshing.


def test_a_refresh_says_how_many_rows_there_are(engine: Engine) -> None:
    stored = scalar(engine, "SELECT count(*) FROM gallery.gen_source_stats")
    assert refresh(engine, gen_source_stats).rows == stored


def test_a_refresh_from_nothing_counts_every_user_and_the_community(engine: Engine) -> None:
    rebuild(engine, gen_source_stats)
    expected = (
        "SELECT count(*) FROM (SELECT creator_id, 'regular' FROM gallery.content_items"
        " UNION SELECT creator_id, 'auto' FROM gallery.content_items_auto) AS kinds"
    )
    stored = "SELECT count(*) FROM gallery.gen_source_stats"
    assert scalar(engine, stored) == scalar(engine, expected) + 2
    assert verify(engine, gen_source_stats).ok


def test_the_counts_are_refreshed_every_hour_on_the_hour() -> None:
    assert schedule("gallery_hourly").cron_schedule == "0 * * * *"


def test_the_schedule_can_be_enabled_and_disabled() -> None:
    assert schedule("gallery_hourly").default_status.value == "RUNNING"


def test_the_hourly_task_can_be_run_by_hand() -> None:
    job = definitions().get_repository_def().get_job("gallery_hourly")
    assert "gallery__gen_source_stats" in {node.name for node in job.nodes}


def test_a_run_says_what_it_refreshed_and_how_long_it_took(engine: Engine, visitor: UUID) -> None:
    execute(engine, add(visitor), add(visitor))
    done = refresh(engine, gen_source_stats)
    assert done.pending_consumed > 0
    assert done.seconds > 0


def test_what_goes_wrong_is_named_and_ends_with_an_error(engine: Engine) -> None:
    execute(engine, "ALTER TABLE gallery.content_items DISABLE TRIGGER USER")
    said = command(engine, "refresh", "gallery.gen_source_stats", code=1)
    assert "content_items" in said
    assert "tally migrate" in said
    migrate(engine, [gallery])
    command(engine, "refresh", "gallery.gen_source_stats")
    sensors = definitions().get_repository_def().sensor_defs
    assert "alerts" in {sensor.name for sensor in sensors}


def test_one_command_refreshes_the_counts_by_hand_and_says_how_long_it_took(
    engine: Engine, visitor: UUID
) -> None:
    execute(engine, add(visitor), add(visitor, "content_items_auto"))
    said = command(engine, "refresh", "gallery.gen_source_stats")
    assert re.search(r"gallery\.gen_source_stats: .* in [0-9.]+ s", said)
    assert rows(engine, STORED.format(f"= '{visitor}'")) == [("auto", 1), ("regular", 1)]


def test_development_and_demo_and_test_databases_are_refreshed_alike(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TALLY_SYSTEMS", "gallery")
    assert "gallery.gen_source_stats" in command(engine, "refresh")


# Reading.


def test_the_four_counts_are_read_at_once(connection: Connection) -> None:
    counts: dict[str, Any] = {**unified_content_stats(connection, ANN)}
    assert list(counts) == list(COUNTS)


def test_the_user_may_be_left_out(connection: Connection) -> None:
    counts = unified_content_stats(connection)
    assert (counts["user_regular_count"], counts["user_auto_count"]) == (0, 0)
    assert counts["community_auto_count"] > 0


def test_what_has_no_items_counts_zero(connection: Connection) -> None:
    counts = unified_content_stats(connection, NOBODY)
    assert (counts["user_regular_count"], counts["user_auto_count"]) == (0, 0)


def test_an_empty_table_is_no_reason_for_a_wrong_answer(connection: Connection) -> None:
    run(connection, "DELETE FROM gallery.gen_source_stats")
    ((regular,),) = by_hand(connection, "SELECT count(*) FROM gallery.content_items")
    assert unified_content_stats(connection, ANN)["community_regular_count"] == regular
    assert unified_content_stats(connection, ANN)["user_auto_count"] == 2


def test_a_user_without_a_row_is_counted_at_once(connection: Connection) -> None:
    run(connection, f"INSERT INTO gallery.users VALUES ('{NOBODY}', 'new')", add(NOBODY))
    assert unified_content_stats(connection, NOBODY)["user_regular_count"] == 1


def test_the_endpoint_keeps_its_address_and_answers_for_a_user(client: Client) -> None:
    asked = {"user_id": str(ANN)}
    answer = client.get("/api/v1/content/stats/unified", params=asked).json()
    answer.pop("as_of")
    assert set(answer) == set(COUNTS)
    assert answer["user_regular_count"] == 3


def test_the_stored_counts_can_be_looked_at_in_sql(engine: Engine) -> None:
    assert rows(engine, "SELECT * FROM gallery.gen_source_stats LIMIT 10")


def test_scheduled_runs_can_be_watched() -> None:
    ticking = {s.name for s in definitions().get_repository_def().schedule_defs}
    assert "gallery_hourly" in ticking
