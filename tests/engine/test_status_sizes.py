"""What a tally takes on disk, as its status tells it: never waited for, partitions counted."""

from __future__ import annotations

from sqlalchemy import Engine

from tallykeeper import migrate, refresh, status
from tests.integration.support import DAILY_LOG, create, execute, scalar
from tests.library import system as media

DAILY, HOURLY = media.tallies
TABLE = "media.daily_contributions"
PARTITIONED = f"""
CREATE TABLE {TABLE} (id bigint GENERATED ALWAYS AS IDENTITY, date timestamptz PRIMARY KEY,
    count integer NOT NULL, created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now())
PARTITION BY RANGE (date);
CREATE TABLE media.daily_early PARTITION OF {TABLE} FOR VALUES FROM (MINVALUE) TO ('2024-01-01Z');
CREATE TABLE media.daily_late PARTITION OF {TABLE} DEFAULT;
"""


def add_files(engine: Engine) -> None:
    execute(
        engine,
        "INSERT INTO media.media_files (path, original_created_at) SELECT n::text,"
        " '2020-01-01Z'::timestamptz + n * interval '1 day' FROM generate_series(1, 3000) AS n",
    )


def test_table_with_indexes_and_log_are_distinguished(any_postgres_engine: Engine) -> None:
    create(any_postgres_engine, media)
    for tally in media.tallies:
        refresh(any_postgres_engine, tally)
    add_files(any_postgres_engine)
    before = status(any_postgres_engine, DAILY)
    assert before.log_bytes == scalar(
        any_postgres_engine, f"SELECT pg_total_relation_size('{DAILY_LOG}')"
    )
    refresh(any_postgres_engine, DAILY)
    after = status(any_postgres_engine, DAILY)
    assert after.table_bytes == scalar(
        any_postgres_engine,
        f"SELECT pg_table_size('{TABLE}') + pg_indexes_size('{TABLE}')",
    )
    assert (before.log_bytes or 0) > 100_000
    assert (after.table_bytes or 0) > 100_000


def test_of_a_partitioned_table_its_partitions_count(engine: Engine) -> None:
    execute(engine, "CREATE SCHEMA media", PARTITIONED)
    media.metadata.create_all(engine)
    migrate(engine, [media])
    add_files(engine)
    refresh(engine, DAILY)
    size = (
        "pg_total_relation_size('media.daily_early') + pg_total_relation_size('media.daily_late')"
    )
    found = status(engine, DAILY).table_bytes
    assert found is not None
    assert found >= scalar(engine, f"SELECT {size}") > 200_000


def test_a_table_that_another_session_has_to_itself_is_not_waited_for(engine: Engine) -> None:
    create(engine, media)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"LOCK TABLE {TABLE} IN ACCESS EXCLUSIVE MODE")
        found = status(engine, DAILY)
        assert (found.table_bytes, found.log_bytes) == (None, None)
    assert status(engine, DAILY).table_bytes is not None
