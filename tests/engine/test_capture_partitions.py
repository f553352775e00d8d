"""What capture records of writes to a partitioned table, whichever of its tables they name."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.schema import CreateSchema

from tallykeeper import install, refresh, verify
from tests.integration.support import (
    LOGGED_DAYS,
    Cases,
    check_each,
    execute,
    rows,
    settled_media,
    stale_reasons,
)
from tests.library import system as media
from tests.oracle import DAILY, HOURLY

DAILY_TALLY = media.tallies[0]
ADD = "INSERT INTO media.media_files (path, original_created_at) VALUES"


@pytest.fixture
def partitioned(any_postgres_engine: Engine) -> Engine:
    engine = any_postgres_engine
    execute(
        engine,
        "CREATE SCHEMA media",
        # Before PostgreSQL 17 partitions have no part in an identity.
        "CREATE SEQUENCE media.ids",
        "CREATE TABLE media.media_files (id bigint NOT NULL DEFAULT nextval('media.ids'),"
        " path text NOT NULL, original_created_at timestamptz,"
        " created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz,"
        " PRIMARY KEY (id, created_at), UNIQUE (path, created_at)) PARTITION BY RANGE (created_at)",
        "CREATE TABLE media.early PARTITION OF media.media_files"
        " FOR VALUES FROM (MINVALUE) TO ('2024-03-03Z')",
        "CREATE TABLE media.late PARTITION OF media.media_files"
        " FOR VALUES FROM ('2024-03-03Z') TO (MAXVALUE) PARTITION BY RANGE (created_at)",
        "CREATE TABLE media.late_march PARTITION OF media.late"
        " FOR VALUES FROM ('2024-03-03Z') TO ('2024-04-01Z')",
        "CREATE TABLE media.later PARTITION OF media.late DEFAULT",
    )
    with engine.begin() as connection:
        media.metadata.create_all(connection)
        install(connection, media.tallies)
    execute(
        engine,
        "INSERT INTO media.media_files (path, created_at) VALUES ('a', '2024-03-01Z'),"
        " ('b', '2024-03-02Z'), ('c', '2024-03-05Z'), ('d', '2024-04-05Z')",
    )
    for tally in media.tallies:
        refresh(engine, tally)
    return engine


PARTITION_WRITES: Cases = {
    "insert through the table": (
        "INSERT INTO media.media_files (path, created_at)"
        " VALUES ('e', '2024-03-01Z'), ('f', '2024-03-06Z')",
        [("03-01", 1), ("03-06", 1)],
    ),
    "insert into a leaf": (
        "INSERT INTO media.early (path, created_at) VALUES ('e', '2024-03-01Z')",
        [("03-01", 1)],
    ),
    "insert half way down": (
        "INSERT INTO media.late (path, created_at)"
        " VALUES ('e', '2024-03-06Z'), ('f', '2024-04-06Z')",
        [("03-06", 1), ("04-06", 1)],
    ),
    "update of a leaf": (
        "UPDATE media.late_march SET original_created_at = '2024-03-08Z'",
        [("03-05", -1), ("03-08", 1)],
    ),
    "move to another partition": (
        "UPDATE media.media_files SET created_at = '2024-03-08Z' WHERE path = 'a'",
        [("03-01", -1), ("03-08", 1)],
    ),
    "move of some, and not of others": (
        "UPDATE media.media_files SET created_at = created_at + interval '1 day'",
        [("03-01", -1), ("03-03", 1), ("03-05", -1), ("03-06", 1), ("04-05", -1), ("04-06", 1)],
    ),
    "move half way down": (
        "UPDATE media.late SET created_at = '2024-04-08Z' WHERE path = 'c'",
        [("03-05", -1), ("04-08", 1)],
    ),
    "delete through the table": (
        "DELETE FROM media.media_files WHERE path IN ('a', 'c')",
        [("03-01", -1), ("03-05", -1)],
    ),
    "delete from a leaf": ("DELETE FROM media.later", [("04-05", -1)]),
    "upsert": (
        "INSERT INTO media.media_files (path, created_at) VALUES ('a', '2024-03-01Z'),"
        " ('z', '2024-03-01Z') ON CONFLICT (path, created_at)"
        " DO UPDATE SET original_created_at = '2024-03-08Z'",
        [("03-01", -1), ("03-01", 1), ("03-08", 1)],
    ),
    # The server shows the inserted row again in place of the updated one, if it is let to.
    "merge that inserts before it updates": (
        "MERGE INTO media.media_files AS m USING (VALUES (1, 'y', '2024-03-06Z'),"
        " (2, 'a', '2024-03-08Z'), (3, 'c', '2024-03-09Z')) AS s (n, path, at) ON m.path = s.path"
        " WHEN MATCHED THEN UPDATE SET original_created_at = s.at::timestamptz"
        " WHEN NOT MATCHED THEN INSERT (path, created_at) VALUES (s.path, s.at::timestamptz)",
        [("03-01", -1), ("03-05", -1), ("03-06", 1), ("03-08", 1), ("03-09", 1)],
    ),
}


def test_each_write_to_partitions_is_recorded_once(partitioned: Engine) -> None:
    check_each(partitioned, PARTITION_WRITES, LOGGED_DAYS, [DAILY, HOURLY])


def test_a_truncate_at_any_level_makes_the_tally_stale(partitioned: Engine) -> None:
    for table in ("early", "late", "media_files"):
        execute(partitioned, f"TRUNCATE media.{table}")
        reasons = stale_reasons(partitioned, DAILY_TALLY.name)
        assert set(reasons) == {"media.media_files was truncated"}, table
        settled_media(partitioned)


def test_writes_through_the_table_are_seen_in_a_partition_that_came_later(
    partitioned: Engine,
) -> None:
    execute(
        partitioned,
        "CREATE TABLE media.latest PARTITION OF media.late"
        " FOR VALUES FROM ('2024-06-01Z') TO ('2024-07-01Z')",
        "INSERT INTO media.media_files (path, created_at) VALUES ('e', '2024-06-05Z')",
    )
    assert rows(partitioned, LOGGED_DAYS) == [("06-05", 1)]
    # It has rows and no triggers: that all of them came through the table nobody can tell.
    assert not verify(partitioned, DAILY_TALLY).ok
    with partitioned.begin() as connection:
        install(connection, media.tallies)
    settled_media(partitioned)


def test_heirs_count_with_their_table(any_postgres_engine: Engine) -> None:
    engine = any_postgres_engine
    with engine.begin() as connection:
        connection.execute(CreateSchema("media"))
        media.metadata.create_all(connection)
        connection.execute(text("CREATE TABLE media.more () INHERITS (media.media_files)"))
        install(connection, media.tallies)
    for tally in media.tallies:
        refresh(engine, tally)
    execute(
        engine,
        f"{ADD} ('a', '2024-03-01Z')",
        "INSERT INTO media.more (id, path, original_created_at) VALUES (9, 'b', '2024-03-02Z')",
        "UPDATE media.media_files SET original_created_at = original_created_at + interval '1 day'",
    )
    settled_media(engine)
    execute(engine, "DELETE FROM media.more")
    assert rows(engine, LOGGED_DAYS) == [("03-03", -1)]
    settled_media(engine)
