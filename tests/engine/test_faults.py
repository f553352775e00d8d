"""Capture that was tampered with, and tallies edited by hand: named, and repaired.

Whatever let a change slip by leaves a tally wrong. `capture_faults` says where capture is broken,
`verify` which keys are wrong; an installation repairs capture and has the tally rebuilt, a rebuild
repairs the keys.
"""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import CreateSchema

from tallykeeper import DoesNotFit, capture_faults, install, rebuild, refresh, verify
from tallykeeper.database.sql import CLAIM_WRITING
from tallykeeper.installation.schema_check import source_mismatches
from tests import library as tables
from tests import tag_hours
from tests.integration.support import (
    DAILY_LOG,
    LOGGED_DAYS,
    create,
    execute,
    judge,
    rows,
    scalar,
    settled_media,
    stale_reasons,
)
from tests.library import system as media
from tests.oracle import DAILY, HOURLY, TAG_HOURS, OracleViolation
from tests.templates import fill

DAILY_TALLY, HOURLY_TALLY = media.tallies
ADD = "INSERT INTO media.media_files (path, original_created_at) VALUES"
FUNCTION = "tallykeeper.capture_media_media_files_update"
# Between two statements of a case.
NEXT = ";;"
JOINED = "belongs to the source now, and is not captured with it"
RESOLVED = "its capture was found broken and repaired"


def faults(engine: Engine) -> list[str]:
    with engine.begin() as connection:
        return capture_faults(connection, DAILY_TALLY)


def resolve(engine: Engine) -> list[str]:
    with engine.begin() as connection:
        return install(connection, media.tallies)


@pytest.fixture
def library(any_postgres_engine: Engine) -> Engine:
    fill(any_postgres_engine, "library_without_faults", _build)
    return any_postgres_engine


def _build(engine: Engine) -> None:
    create(engine, media)
    execute(engine, f"{ADD} ('a', '2024-03-01Z'), ('b', '2024-03-02Z')")
    for tally in media.tallies:
        refresh(engine, tally)
    assert faults(engine) == []


# By name: what was done, a write that then goes unnoticed, and what is said of it.
TAMPERING: dict[str, tuple[str, str, str]] = {
    "disabled": (
        "ALTER TABLE media.media_files DISABLE TRIGGER tallykeeper_update",
        "UPDATE media.media_files SET original_created_at = '2024-03-05Z' WHERE path = 'a'",
        "media.media_files: the update trigger is disabled, or not enabled always",
    ),
    "disabled with all others": (
        "ALTER TABLE media.media_files DISABLE TRIGGER ALL",
        "DELETE FROM media.media_files",
        "media.media_files: the delete trigger is disabled, or not enabled always",
    ),
    "enabled for ordinary sessions alone": (
        "ALTER TABLE media.media_files ENABLE TRIGGER tallykeeper_insert",
        f"SET LOCAL session_replication_role = replica{NEXT}{ADD} ('c', '2024-03-05Z')",
        "media.media_files: the insert trigger is disabled, or not enabled always",
    ),
    "dropped": (
        "DROP TRIGGER tallykeeper_delete ON media.media_files",
        "DELETE FROM media.media_files WHERE path = 'a'",
        "media.media_files: the delete trigger is missing",
    ),
    "dropped for truncate": (
        "DROP TRIGGER tallykeeper_truncate ON media.media_files",
        "TRUNCATE media.media_files",
        "media.media_files: the truncate trigger is missing",
    ),
    "dropped with its function": (
        f"DROP FUNCTION {FUNCTION} CASCADE",
        "UPDATE media.media_files SET original_created_at = '2024-03-05Z'",
        f"{FUNCTION}: the capture function is missing",
    ),
    "function replaced": (
        f"CREATE OR REPLACE FUNCTION {FUNCTION}() RETURNS trigger LANGUAGE plpgsql"
        " SECURITY DEFINER AS 'BEGIN RETURN NULL; END'",
        "UPDATE media.media_files SET original_created_at = '2024-03-05Z'",
        f"{FUNCTION}: the capture function is not the one that the declarations make",
    ),
    "trigger turned to another function": (
        "CREATE FUNCTION media.nothing() RETURNS trigger LANGUAGE plpgsql"
        f" AS 'BEGIN RETURN NULL; END'{NEXT}"
        "CREATE OR REPLACE TRIGGER tallykeeper_delete AFTER DELETE ON media.media_files"
        " FOR EACH STATEMENT EXECUTE FUNCTION media.nothing()"
        f"{NEXT}ALTER TABLE media.media_files ENABLE ALWAYS TRIGGER tallykeeper_delete",
        "DELETE FROM media.media_files WHERE path = 'a'",
        "media.media_files: the delete trigger calls another function",
    ),
}


@pytest.mark.parametrize("name", TAMPERING)
def test_broken_capture_is_named_and_resolved(name: str, library: Engine) -> None:
    tampering, unnoticed, sentence = TAMPERING[name]
    execute(library, *tampering.split(NEXT))
    assert sentence in faults(library)
    execute(library, *unnoticed.split(NEXT))
    with pytest.raises(OracleViolation):
        judge(library, [DAILY])
    found = verify(library, DAILY_TALLY)
    assert found.differing
    done = resolve(library)
    assert f"repaired {sentence}" in done
    assert "media.daily_contributions is stale: changes may have been missed" in done
    assert faults(library) == []
    for tally in media.tallies:
        assert stale_reasons(library, tally.name) == [RESOLVED]
    # Right at once, for the live view reads the sources until the rebuild.
    judge(library, [DAILY, HOURLY])
    assert refresh(library, DAILY_TALLY).reason == RESOLVED
    settled_media(library)


def test_a_function_that_lost_its_rights_is_named_and_resolved(library: Engine) -> None:
    execute(library, f"ALTER FUNCTION {FUNCTION}() SECURITY INVOKER")
    assert faults(library) == [f"{FUNCTION}: the capture function lost SECURITY DEFINER"]
    resolve(library)
    assert faults(library) == []


def test_a_source_that_was_replaced_is_captured_again(library: Engine) -> None:
    with pytest.raises(DBAPIError, match="other objects depend on it"):
        execute(library, "DROP TABLE media.media_files")
    execute(library, "DROP TABLE media.media_files CASCADE")
    with library.begin() as connection:
        tables.media_files.create(connection)
    assert faults(library) == [
        "media.media_files: is another table than the one that was captured, as after dropping and"
        " restoring it",
        "tallykeeper.media_daily_contributions_definition: does not exist any more",
    ]
    execute(library, f"{ADD} ('z', '2024-03-07Z')")
    resolve(library)
    judge(library, [DAILY, HOURLY])
    settled_media(library)


HAND_EDITS = {
    "a count changed": "UPDATE media.daily_contributions SET count = 7 WHERE date = '2024-03-01Z'",
    "a row deleted": "DELETE FROM media.daily_contributions WHERE date = '2024-03-01Z'",
    "a row invented": "INSERT INTO media.daily_contributions (date, count)"
    " VALUES ('2024-03-08Z', 1)",
    "a row of nothing": "INSERT INTO media.daily_contributions (date, count)"
    " VALUES ('2024-03-08Z', 0)",
    "a key moved": "UPDATE media.daily_contributions SET date = '2024-03-08Z'"
    " WHERE date = '2024-03-01Z'",
    "all of it gone": "TRUNCATE media.daily_contributions",
}


@pytest.mark.parametrize("name", HAND_EDITS)
def test_a_hand_edit_is_found_and_repaired_by_rebuilding_its_windows(
    name: str, library: Engine
) -> None:
    execute(library, CLAIM_WRITING, HAND_EDITS[name])
    with pytest.raises(OracleViolation):
        judge(library, [DAILY])
    found = verify(library, DAILY_TALLY)
    assert found.differing == len(found.differences) > 0
    for day in found.days:
        start = datetime.fromisoformat(day).replace(tzinfo=UTC)
        rebuild(library, DAILY_TALLY, start, start.replace(day=start.day + 1))
    assert verify(library, DAILY_TALLY).ok
    settled_media(library)


def test_a_log_emptied_by_hand_is_found(library: Engine) -> None:
    execute(library, CLAIM_WRITING, f"{ADD} ('c', '2024-03-05Z')", f"DELETE FROM {DAILY_LOG}")
    found = verify(library, DAILY_TALLY)
    assert [(d.day, d.stored, d.expected) for d in found.differences] == [
        ("2024-03-05", None, {"count": 1})
    ]
    rebuild(library, DAILY_TALLY)
    settled_media(library)


def test_a_hand_edit_of_a_recomputed_tally_is_found_with_both_values(engine: Engine) -> None:
    create(engine, tag_hours.system)
    execute(
        engine,
        "INSERT INTO forum.posts VALUES (1, 7, '2024-03-09 22:00Z')",
        "INSERT INTO forum.post_tags VALUES (1, 5)",
    )
    refresh(engine, tag_hours.tally)
    execute(engine, CLAIM_WRITING, "UPDATE forum.tag_hours SET authors = 3")
    (difference,) = verify(engine, tag_hours.tally).differences
    assert difference.day == "2024-03-09"
    assert difference.key["tag_id"] == 5
    assert difference.stored == {"posts": 1, "authors": 3}
    assert difference.expected == {"posts": 1, "authors": 1}
    rebuild(engine, tag_hours.tally)
    judge(engine, [TAG_HOURS])


@pytest.mark.parametrize(
    "lost",
    [
        "DROP VIEW media.daily_contributions_live",
        f"DROP TABLE {DAILY_LOG} CASCADE",
        f"ALTER TABLE {DAILY_LOG} DROP COLUMN count CASCADE",
        "DROP FUNCTION tallykeeper.media_daily_contributions_from_sources CASCADE",
    ],
)
def test_what_was_dropped_is_put_back(lost: str, library: Engine) -> None:
    execute(library, lost)
    assert resolve(library) != []
    execute(library, f"{ADD} ('c', '2024-03-05Z')")
    judge(library, [DAILY, HOURLY])
    settled_media(library)


def test_a_derived_table_that_was_replaced_is_built_anew(library: Engine) -> None:
    execute(library, "DROP TABLE media.daily_contributions CASCADE")
    with library.begin() as connection:
        tables.daily_contributions.table.create(connection)
    resolve(library)
    judge(library, [DAILY])
    settled_media(library)
    assert scalar(library, "SELECT count(*) FROM media.daily_contributions") == 2


@pytest.fixture
def partitioned(any_postgres_engine: Engine) -> Engine:
    engine = any_postgres_engine
    execute(
        engine,
        "CREATE SCHEMA media",
        "CREATE SEQUENCE media.ids",
        "CREATE TABLE media.media_files (id bigint NOT NULL DEFAULT nextval('media.ids'),"
        " path text NOT NULL, original_created_at timestamptz,"
        " created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz)"
        " PARTITION BY RANGE (created_at)",
        "CREATE TABLE media.march PARTITION OF media.media_files"
        " FOR VALUES FROM ('2024-03-01Z') TO ('2024-04-01Z')",
    )
    with engine.begin() as connection:
        media.metadata.create_all(connection)
        install(connection, media.tallies)
    execute(
        engine,
        "INSERT INTO media.media_files (path, created_at)"
        " VALUES ('a', '2024-03-01Z'), ('b', '2024-03-02Z')",
    )
    for tally in media.tallies:
        refresh(engine, tally)
    assert faults(engine) == []
    return engine


def test_a_partition_without_triggers_is_named_and_resolved(partitioned: Engine) -> None:
    execute(
        partitioned,
        "CREATE TABLE media.april PARTITION OF media.media_files"
        " FOR VALUES FROM ('2024-04-01Z') TO ('2024-05-01Z')",
        "INSERT INTO media.april (path, created_at) VALUES ('c', '2024-04-05Z')",
    )
    assert faults(partitioned) == [f"media.april: {JOINED}"]
    assert [d.day for d in verify(partitioned, DAILY_TALLY).differences] == ["2024-04-05"]
    resolve(partitioned)
    assert faults(partitioned) == []
    judge(partitioned, [DAILY, HOURLY])
    settled_media(partitioned)
    execute(partitioned, "INSERT INTO media.april (path, created_at) VALUES ('d', '2024-04-05Z')")
    assert rows(partitioned, LOGGED_DAYS) == [("04-05", 1)]
    settled_media(partitioned)


def test_a_partition_that_comes_with_rows_in_it_is_named_and_counted(partitioned: Engine) -> None:
    execute(
        partitioned,
        "CREATE TABLE media.april (LIKE media.media_files INCLUDING DEFAULTS)",
        "INSERT INTO media.april (path, created_at) VALUES ('c', '2024-04-05Z')",
        "ALTER TABLE media.media_files ATTACH PARTITION media.april"
        " FOR VALUES FROM ('2024-04-01Z') TO ('2024-05-01Z')",
    )
    assert faults(partitioned) == [f"media.april: {JOINED}"]
    resolve(partitioned)
    settled_media(partitioned)


def test_a_detached_partition_is_named_and_let_go(partitioned: Engine) -> None:
    execute(partitioned, "ALTER TABLE media.media_files DETACH PARTITION media.march")
    assert faults(partitioned) == [
        "media.march: was captured with the source, but does not belong to it any more"
    ]
    assert verify(partitioned, DAILY_TALLY).days == ("2024-03-01", "2024-03-02")
    resolve(partitioned)
    assert faults(partitioned) == []
    judge(partitioned, [DAILY, HOURLY])
    settled_media(partitioned)
    execute(partitioned, "INSERT INTO media.march (path, created_at) VALUES ('c', '2024-03-05Z')")
    assert rows(partitioned, LOGGED_DAYS) == []
    settled_media(partitioned)


def test_a_dropped_partition_is_named_and_let_go(partitioned: Engine) -> None:
    execute(partitioned, "DROP TABLE media.march")
    assert len(faults(partitioned)) == 1
    resolve(partitioned)
    assert faults(partitioned) == []
    settled_media(partitioned)


def test_a_disabled_trigger_of_one_partition_is_named(partitioned: Engine) -> None:
    execute(partitioned, "ALTER TABLE media.march DISABLE TRIGGER tallykeeper_delete")
    assert faults(partitioned) == [
        "media.march: the delete trigger is disabled, or not enabled always"
    ]


def test_the_guard_of_merges_is_on_later_partitions_and_missed_when_it_is_missing(
    partitioned: Engine,
) -> None:
    execute(
        partitioned,
        "CREATE TABLE media.april PARTITION OF media.media_files"
        " FOR VALUES FROM ('2024-04-01Z') TO ('2024-05-01Z')",
    )
    guards = "FROM pg_trigger WHERE tgname = 'tallykeeper_merge'"
    guarded = f"SELECT tgrelid::regclass::text {guards} ORDER BY 1"
    assert [name for (name,) in rows(partitioned, guarded)] == [
        "media.april",
        "media.march",
        "media.media_files",
    ]
    execute(partitioned, "DROP TRIGGER tallykeeper_merge ON media.media_files")
    assert "media.media_files: the merge trigger is missing" in faults(partitioned)
    resolve(partitioned)
    assert faults(partitioned) == []
    assert len(rows(partitioned, guarded)) == 3


def test_installing_twice_does_nothing_the_second_time(partitioned: Engine) -> None:
    assert resolve(partitioned) == []
    assert stale_reasons(partitioned, DAILY_TALLY.name) == []


def test_values_that_triggers_do_not_see_are_refused(engine: Engine) -> None:
    """A virtual column is null in the transition tables of PostgreSQL 18."""
    if int(scalar(engine, "SHOW server_version_num")) < 180000:
        pytest.skip("virtual generated columns came with PostgreSQL 18")
    with engine.begin() as connection:
        connection.execute(CreateSchema("media"))
        connection.execute(
            text(
                "CREATE TABLE media.media_files (id bigint PRIMARY KEY, path text NOT NULL,"
                " taken text, original_created_at timestamptz"
                " GENERATED ALWAYS AS (CASE WHEN taken <> '' THEN '2024-03-01Z'::timestamptz END)"
                " VIRTUAL, created_at timestamptz NOT NULL, updated_at timestamptz)"
            )
        )
        assert source_mismatches(connection, tables.media_files, media.tallies) == [
            "original_created_at is a virtual generated column, which triggers do not see;"
            " make it STORED"
        ]


def test_a_source_that_logical_replication_fills_is_refused_and_named(library: Engine) -> None:
    """Its changes are applied row by row, for which no trigger of a statement fires."""
    with library.connect() as connection, connection.begin() as transaction:
        connection.execute(
            text(
                "CREATE SUBSCRIPTION from_elsewhere CONNECTION 'dbname=elsewhere'"
                " PUBLICATION all_of_it WITH (connect = false, slot_name = NONE, enabled = false,"
                " create_slot = false)"
            )
        )
        connection.execute(
            text(
                "INSERT INTO pg_subscription_rel (srsubid, srrelid, srsubstate)"
                " SELECT oid, 'media.media_files'::regclass, 'r' FROM pg_subscription"
                " WHERE subname = 'from_elsewhere'"
            )
        )
        said = "media.media_files is filled by a subscription, which fires no trigger"
        assert capture_faults(connection, DAILY_TALLY) == [said.replace(" is", ": is", 1)]
        assert source_mismatches(connection, tables.media_files, media.tallies) == [said]
        # Nothing that an installation could repair, or should say it did.
        with pytest.raises(DoesNotFit, match="is filled by a subscription"):
            install(connection, media.tallies)
        transaction.rollback()
