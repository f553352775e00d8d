"""The daily contributions: a row for each point of the document that asks for them.

The tests share one database. What they write they roll back, or it is on days of their own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, inspect

from assets.media.load import load_media
from assets.media.reads import daily_counts, hourly_counts
from assets.media.tallies import daily_contributions
from assets.media.tallies import system as media
from tallykeeper import rebuild, refresh, verify
from tallykeeper.database.sql import CLAIM_WRITING
from tallykeeper.http.app import create_app
from tallykeeper.installation.migrate import migrate
from tests.documents.installation import (
    benchmarked,
    by_hand,
    checks_of,
    command,
    kept,
    run,
    schedule,
    undone,
)
from tests.integration.serving_client import Client
from tests.integration.support import execute, rows, scalar, scans_of
from tests.servers import Servers

EXAMPLE = {
    "daily_counts": {"2025-11-20": 5, "2025-11-19": 6, "2025-11-18": 7},
    "total_files": 18,
    "total_days": 3,
}
FILES = (
    "INSERT INTO media.media_files (path, original_created_at)"
    " SELECT d || '/' || n, timestamptz '2025-11-20 12:00Z' - d * interval '1 day'"
    " FROM generate_series(0, 2) AS d, generate_series(1, 5 + d) AS n"
)
STORED = "SELECT count FROM media.daily_contributions WHERE date = '{} 00:00Z'"
NO_CHANGE = {"2025-11-20", "2025-11-19", "2025-11-18"}


@pytest.fixture(scope="module")
def engine(postgres_servers: Servers) -> Iterator[Engine]:
    """The document's example: 18 files on three days, built."""
    with kept(postgres_servers, "media") as engine:
        execute(engine, FILES)
        for tally in media.tallies:
            refresh(engine, tally)
        yield engine


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    with undone(engine) as connection:
        yield connection


@pytest.fixture(scope="module")
def client(engine: Engine) -> Client:
    return Client(create_app(engine, ["media"]))


def count_on(connection: Connection, day: date) -> int:
    return daily_counts(connection, day, day)["total_files"]


def add(path: str, taken: str, created: str = "2000-01-01Z") -> str:
    return (
        "INSERT INTO media.media_files (path, original_created_at, created_at)"
        f" VALUES ('{path}', {taken}, '{created}')"
    )


# The table.


def test_counts_of_files_per_day_are_stored_in_a_table_of_their_own(engine: Engine) -> None:
    stored = "SELECT to_char(date AT TIME ZONE 'UTC', 'YYYY-MM-DD'), count"
    query = f"{stored} FROM media.daily_contributions WHERE date > '2025-11-01'"
    assert dict(rows(engine, query)) == EXAMPLE["daily_counts"]


def test_the_table_has_the_columns_of_the_document(engine: Engine) -> None:
    columns = {
        c["name"]: c for c in inspect(engine).get_columns("daily_contributions", schema="media")
    }
    assert set(columns) == {"id", "date", "count", "created_at", "updated_at"}
    assert not columns["count"]["nullable"]
    assert columns["count"]["default"] == "0"


def test_a_day_is_there_once(engine: Engine) -> None:
    keys = inspect(engine).get_unique_constraints("daily_contributions", schema="media")
    assert [key["column_names"] for key in keys] == [["date"]]


def test_a_day_is_written_as_its_midnight_in_utc(engine: Engine) -> None:
    odd = "SELECT count(*) FROM media.daily_contributions WHERE date_trunc('day', date, 'UTC')"
    assert scalar(engine, f"{odd} <> date") == 0


def test_days_are_found_by_an_index(engine: Engine) -> None:
    indexes = inspect(engine).get_indexes("daily_contributions", schema="media")
    assert ["date"] in [index["column_names"] for index in indexes]


# Reading.


def test_the_graph_is_read_without_reading_the_files(engine: Engine) -> None:
    # Of a session that has done nothing else.
    engine.dispose()
    with scans_of(engine, "media_files") as scans, engine.begin() as connection:
        assert daily_counts(connection)["total_files"] >= 18
    assert scans == [0]


def test_the_gain_over_grouping_all_files_is_measured_and_documented() -> None:
    (row,) = benchmarked("`daily_counts`, 0 changes pending", "1 M")
    ratio = re.search(r"1 : (\d+)", row)
    assert ratio is not None
    assert int(ratio[1]) > 5


def test_the_endpoint_keeps_its_address_and_the_shape_of_its_answer(client: Client) -> None:
    asked = {"start": "2025-11-18", "end": "2025-11-20"}
    answer = client.get("/api/media/daily-counts", params=asked).json()
    answer.pop("as_of")
    assert answer == EXAMPLE
    assert list(answer["daily_counts"]) == list(EXAMPLE["daily_counts"])  # type: ignore[call-overload]


def test_all_days_are_given_with_their_counts(connection: Connection) -> None:
    counts = daily_counts(connection)
    assert set(counts["daily_counts"]) >= NO_CHANGE
    assert (
        counts["total_files"] == by_hand(connection, "SELECT count(*) FROM media.media_files")[0][0]
    )


# Ingestion.


def test_committing_a_file_counts_it(connection: Connection) -> None:
    run(connection, add("new", "'2025-11-20 23:59:59.999Z'"))
    assert count_on(connection, date(2025, 11, 20)) == 6


def test_committing_a_known_file_again_counts_it_once(connection: Connection) -> None:
    again = " ON CONFLICT (path) DO UPDATE SET original_created_at = excluded.original_created_at"
    run(connection, add("0/1", "'2025-11-20 12:00Z'") + again)
    assert count_on(connection, date(2025, 11, 20)) == 5


def test_a_file_counts_by_its_own_date_or_else_by_when_it_was_ingested(
    connection: Connection,
) -> None:
    run(
        connection,
        add("own", "'2025-11-20 12:00Z'", "2025-12-01 12:00Z"),
        add("none", "NULL", "2025-11-19 12:00Z"),
    )
    assert daily_counts(connection)["daily_counts"]["2025-11-20"] == 6
    assert daily_counts(connection)["daily_counts"]["2025-11-19"] == 7


def test_a_file_without_any_date_counts_on_no_day(postgres_servers: Servers) -> None:
    with kept(postgres_servers) as engine:
        nullable = " created_at timestamptz, updated_at timestamptz)"
        execute(
            engine,
            "CREATE SCHEMA media",
            "CREATE TABLE media.media_files (id serial PRIMARY KEY, path text UNIQUE NOT NULL,"
            f" original_created_at timestamptz,{nullable}",
            "INSERT INTO media.media_files (path) VALUES ('undated')",
        )
        migrate(engine, [media])
        execute(engine, "INSERT INTO media.media_files (path) VALUES ('undated too')")
        with engine.connect() as connection:
            assert daily_counts(connection)["daily_counts"] == {}
        refresh(engine, daily_contributions)
        assert verify(engine, daily_contributions).ok


def test_the_first_file_of_a_day_makes_its_row_and_others_raise_it(engine: Engine) -> None:
    execute(engine, add("first", "'2024-03-01 10:00Z'"))
    assert refresh(engine, daily_contributions).pending_consumed == 1
    assert rows(engine, STORED.format("2024-03-01")) == [(1,)]
    execute(engine, add("second", "'2024-03-01 23:00Z'"))
    refresh(engine, daily_contributions)
    assert rows(engine, STORED.format("2024-03-01")) == [(2,)]


def test_several_files_of_one_day_are_added_at_once(connection: Connection) -> None:
    run(connection, FILES.replace("d || '/'", "'x' || d"))
    assert daily_counts(connection)["daily_counts"]["2025-11-18"] == 14


def test_a_moment_in_any_time_zone_counts_on_its_day_in_utc(connection: Connection) -> None:
    run(connection, "SET LOCAL TimeZone = 'Pacific/Auckland'", add("far", "'2025-11-21 01:00'"))
    assert count_on(connection, date(2025, 11, 20)) == 6


def test_a_day_is_counted_anew_where_a_file_moves_or_goes(connection: Connection) -> None:
    run(
        connection,
        "UPDATE media.media_files SET original_created_at = '2025-11-18Z' WHERE path = '0/1'",
        "DELETE FROM media.media_files WHERE path = '0/2'",
    )
    assert daily_counts(connection)["daily_counts"]["2025-11-20"] == 3
    assert daily_counts(connection)["daily_counts"]["2025-11-18"] == 8


def test_files_are_ingested_whole_from_a_list(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "files.csv"
    path.write_text(
        "path,original_created_at\na.jpg,2024-05-01\nb.jpg,2024-05-01\nc.jpg,2024-05-02"
    )
    assert load_media(engine, path).inserted == 3
    with engine.connect() as connection:
        counts = daily_counts(connection, date(2024, 5, 1), date(2024, 5, 31))
    assert counts["daily_counts"] == {"2024-05-02": 1, "2024-05-01": 2}


# Rebuilding.


def test_a_rebuild_counts_everything_from_the_files(engine: Engine) -> None:
    execute(engine, "UPDATE media.daily_contributions SET count = 100 WHERE date = '2025-11-19Z'")
    execute(engine, "INSERT INTO media.daily_contributions (date, count) VALUES ('1990-01-01Z', 3)")
    rebuild(engine, daily_contributions)
    assert rows(engine, STORED.format("2025-11-19")) == [(6,)]
    assert rows(engine, STORED.format("1990-01-01")) == []
    assert verify(engine, daily_contributions).ok


def test_a_rebuild_says_how_many_days_it_wrote(engine: Engine) -> None:
    said = command(engine, "rebuild", "media.daily_contributions")
    assert "media.daily_contributions" in said
    assert "rebuil" in said


def test_100_files_on_ten_days_are_counted_alike_by_adding_and_by_rebuilding(
    engine: Engine,
) -> None:
    execute(
        engine,
        "INSERT INTO media.media_files (path, original_created_at) SELECT 'ten/' || n,"
        " timestamptz '2023-01-01 00:00Z' + n % 10 * interval '1 day' FROM generate_series(1, 100)"
        " AS n",
    )
    refresh(engine, daily_contributions)
    stored = "SELECT date, count FROM media.daily_contributions WHERE date < '2023-02-01Z'"
    added = sorted(rows(engine, stored))
    assert [count for _, count in added] == [10] * 10
    rebuild(engine, daily_contributions)
    assert sorted(rows(engine, stored)) == added


# Migration.


def test_a_new_database_gets_the_table_by_itself(postgres_servers: Servers) -> None:
    with kept(postgres_servers) as engine:
        done = migrate(engine, [media], with_sources=True).done
        assert "created the derived table media.daily_contributions" in done
        with engine.connect() as connection:
            assert daily_counts(connection)["total_files"] == 0


def test_an_existing_database_gets_what_is_missing_and_then_nothing(
    postgres_servers: Servers,
) -> None:
    with kept(postgres_servers) as engine:
        execute(
            engine,
            "CREATE SCHEMA media",
            "CREATE TABLE media.media_files (id int PRIMARY KEY, path text UNIQUE NOT NULL,"
            " original_created_at timestamp, created_at timestamp NOT NULL DEFAULT now())",
            "INSERT INTO media.media_files VALUES (1, 'old', '2020-02-29')",
        )
        migrate(engine, [media])
        with engine.connect() as connection:
            assert daily_counts(connection)["daily_counts"] == {"2020-02-29": 1}
        assert migrate(engine, [media]).done == []


# Keeping it right.


def test_the_sum_of_the_days_is_the_number_of_files(engine: Engine) -> None:
    refresh(engine, daily_contributions)
    stored = "SELECT sum(count) = (SELECT count(*) FROM media.media_files)"
    assert scalar(engine, f"{stored} FROM media.daily_contributions")


def test_counts_that_do_not_match_the_files_are_named_with_the_way_to_repair_them(
    engine: Engine,
) -> None:
    execute(engine, "UPDATE media.daily_contributions SET count = 9 WHERE date = '2025-11-18Z'")
    said = command(engine, "verify", "media.daily_contributions", code=None)
    assert "edited by hand: UPDATE" in said
    assert "tally refresh media.daily_contributions" in said
    refresh(engine, daily_contributions)
    # As if the engine itself had been wrong.
    execute(
        engine,
        CLAIM_WRITING,
        "UPDATE media.daily_contributions SET count = 9 WHERE date = '2025-11-18Z'",
    )
    (difference,) = verify(engine, daily_contributions).differences
    assert difference.day == "2025-11-18"
    assert (difference.stored, difference.expected) == ({"count": 9}, {"count": 7})
    assert "2025-11-18" in command(engine, "verify", "media.daily_contributions", code=1)
    rebuild(engine, daily_contributions)


def test_a_table_that_was_emptied_is_right_at_the_first_read_and_built_by_the_next_refresh(
    engine: Engine,
) -> None:
    execute(engine, "DELETE FROM media.daily_contributions")
    with engine.connect() as connection:
        assert daily_counts(connection, date(2025, 11, 1))["total_files"] == 18
    refresh(engine, daily_contributions)
    assert rows(engine, STORED.format("2025-11-20")) == [(5,)]
    assert verify(engine, daily_contributions).ok


def test_manual_edits_of_the_database_need_no_rebuild_to_be_read_right(engine: Engine) -> None:
    execute(engine, "UPDATE media.daily_contributions SET count = 0 WHERE date > '2025-11-01Z'")
    with engine.connect() as connection:
        assert daily_counts(connection, date(2025, 11, 1))["total_files"] == 18
    refresh(engine, daily_contributions)


def test_without_a_database_the_files_of_a_folder_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("no picture")
    (tmp_path / "a.mp4").write_text("a video")
    counts = daily_counts(folder=tmp_path)
    assert (counts["total_files"], counts["source"]) == (1, "folder")


def test_who_reads_the_table_itself_finds_it_as_it_was(engine: Engine) -> None:
    query = "SELECT date, count FROM media.daily_contributions WHERE date = '2025-11-20Z'"
    assert rows(engine, query) == [(datetime(2025, 11, 20, tzinfo=UTC), 5)]


# What the document calls future improvements.


def test_the_counts_are_checked_every_hour_in_the_background() -> None:
    assert "matches_source" in checks_of("media/daily_contributions")
    assert schedule("media_hourly").cron_schedule == "0 * * * *"


def test_a_rebuild_can_be_asked_for_over_http(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TALLY_SERVE_TOKEN", "0123456789abcdef")
    client = Client(create_app(engine, ["media"]))
    answer = client.post("/api/tallies/media.daily_contributions/rebuild")
    assert answer.status_code == 401, "it is there, for who has the token"


def test_days_that_did_not_change_are_not_read_again(client: Client) -> None:
    asked = {"start": "2025-11-18", "end": "2025-11-20"}
    first = client.get("/api/media/daily-counts", params=asked)
    again = client.get(
        "/api/media/daily-counts", params=asked, headers={"If-None-Match": first.headers["ETag"]}
    )
    assert (first.status_code, again.status_code) == (200, 304)


def test_files_are_counted_by_the_hour_as_well(client: Client, connection: Connection) -> None:
    expected = {"2025-11-20T12:00:00Z": 5}
    assert hourly_counts(connection, date(2025, 11, 20))["hourly_counts"] == expected
    answer = client.get("/api/media/hourly-counts", params={"day": "2025-11-20"}).json()
    assert answer["hourly_counts"] == expected
