"""What capture records of each kind of write, on every supported PostgreSQL.

Each case names the log rows that one statement must leave, no more and no less. Whether the tally
is then right is what the oracle says after every one of them.
"""

from __future__ import annotations

import psycopg
import pytest
from psycopg.errors import InsufficientPrivilege, LockNotAvailable
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError, ProgrammingError
from sqlalchemy.schema import CreateSchema

from tallykeeper import install, refresh
from tallykeeper.database.sql import CLAIM_WRITING
from tests.integration.support import (
    DAILY_LOG,
    LOGGED_DAYS,
    Cases,
    check_each,
    create,
    execute,
    judge,
    rows,
    scalar,
    settled_media,
    stale_reasons,
)
from tests.library import system as media
from tests.oracle import DAILY, HOURLY

DAILY_TALLY = media.tallies[0]

# Two files on the first of March, one on the second, and one that is dated by its arrival.
FILES = """
INSERT INTO media.media_files (path, original_created_at, created_at) VALUES
  ('a', '2024-03-01 10:00Z', '2024-03-09Z'), ('b', '2024-03-01 11:00Z', '2024-03-09Z'),
  ('c', '2024-03-02 10:00Z', '2024-03-09Z'), ('d', NULL, '2024-03-03 10:00Z')"""
ADD = "INSERT INTO media.media_files (path, original_created_at) VALUES"
MERGE = """
MERGE INTO media.media_files AS m USING (VALUES ('a', '2024-03-05Z'), ('c', NULL),
  ('new', '2024-03-05Z')) AS s (path, at) ON m.path = s.path
WHEN MATCHED AND s.at IS NULL THEN DELETE
WHEN MATCHED THEN UPDATE SET original_created_at = s.at::timestamptz
WHEN NOT MATCHED THEN INSERT (path, original_created_at) VALUES (s.path, s.at::timestamptz)"""

# By name: a statement, and the rows it leaves in the daily log.
WRITES: Cases = {
    "insert": (f"{ADD} ('e', '2024-03-05Z')", [("03-05", 1)]),
    "insert of several, a row per key": (
        f"{ADD} ('e', '2024-03-05 01:00Z'), ('f', '2024-03-05 02:00Z'), ('g', '2024-03-06Z')",
        [("03-05", 2), ("03-06", 1)],
    ),
    "insert of none": (
        "INSERT INTO media.media_files (path) SELECT 'e' WHERE false",
        [],
    ),
    "insert twice in one statement": (
        f"WITH one AS ({ADD} ('e', '2024-03-05Z')) {ADD} ('f', '2024-03-05Z')",
        [("03-05", 2)],
    ),
    "update of one to another day": (
        "UPDATE media.media_files SET original_created_at = '2024-03-05Z' WHERE path = 'a'",
        [("03-01", -1), ("03-05", 1)],
    ),
    "update of several to another day": (
        "UPDATE media.media_files SET original_created_at = '2024-03-05Z' WHERE id <= 3",
        [("03-01", -2), ("03-02", -1), ("03-05", 3)],
    ),
    "update within the day": (
        "UPDATE media.media_files SET original_created_at = '2024-03-01 23:59Z' WHERE id = 1",
        [],
    ),
    "update that swaps days": (
        "UPDATE media.media_files SET original_created_at = original_created_at"
        " + (CASE path WHEN 'a' THEN 1 ELSE -1 END) * interval '1 day' WHERE path IN ('a', 'c')",
        [],
    ),
    "update to what it was": (
        "UPDATE media.media_files SET original_created_at = original_created_at",
        [],
    ),
    "update of what does not count": (
        "UPDATE media.media_files SET updated_at = now(), path = path || '!'",
        [],
    ),
    "update of an arrival that is not what counts": (
        "UPDATE media.media_files SET created_at = '2024-03-05Z' WHERE id = 1",
        [],
    ),
    "update of an arrival that counts": (
        "UPDATE media.media_files SET created_at = '2024-03-05Z' WHERE id = 4",
        [("03-03", -1), ("03-05", 1)],
    ),
    "update to null": (
        "UPDATE media.media_files SET original_created_at = NULL WHERE id = 1",
        [("03-01", -1), ("03-09", 1)],
    ),
    "update of the primary key": ("UPDATE media.media_files SET id = id + 100", []),
    "update of none": ("UPDATE media.media_files SET original_created_at = now() WHERE false", []),
    "delete of one": ("DELETE FROM media.media_files WHERE path = 'a'", [("03-01", -1)]),
    "delete of all": (
        "DELETE FROM media.media_files",
        [("03-01", -2), ("03-02", -1), ("03-03", -1)],
    ),
    "upsert that inserts": (
        f"{ADD} ('e', '2024-03-05Z') ON CONFLICT (path)"
        " DO UPDATE SET original_created_at = excluded.original_created_at",
        [("03-05", 1)],
    ),
    "upsert that updates": (
        f"{ADD} ('a', '2024-03-05Z') ON CONFLICT (path)"
        " DO UPDATE SET original_created_at = excluded.original_created_at",
        [("03-01", -1), ("03-05", 1)],
    ),
    "upsert of both": (
        f"{ADD} ('a', '2024-03-05Z'), ('e', '2024-03-05Z') ON CONFLICT (path)"
        " DO UPDATE SET original_created_at = excluded.original_created_at",
        [("03-01", -1), ("03-05", 1), ("03-05", 1)],
    ),
    "upsert that does nothing": (f"{ADD} ('a', '2024-03-05Z') ON CONFLICT DO NOTHING", []),
    # A trigger fires per event, so MERGE leaves a row per key and event.
    "merge": (MERGE, [("03-01", -1), ("03-02", -1), ("03-05", 1), ("03-05", 1)]),
    "delete and insert in one statement": (
        "WITH gone AS (DELETE FROM media.media_files WHERE path = 'a' RETURNING 1)"
        f" {ADD} ('e', '2024-03-05Z')",
        [("03-01", -1), ("03-05", 1)],
    ),
    "update from another table": (
        "UPDATE media.media_files AS m SET original_created_at = v.at::timestamptz"
        " FROM (VALUES (1, '2024-03-05Z'), (3, '2024-03-05Z')) AS v (id, at) WHERE m.id = v.id",
        [("03-01", -1), ("03-02", -1), ("03-05", 2)],
    ),
}


@pytest.fixture
def library(any_postgres_engine: Engine) -> Engine:
    create(any_postgres_engine, media)
    execute(any_postgres_engine, FILES)
    for tally in media.tallies:
        refresh(any_postgres_engine, tally)
    return any_postgres_engine


def test_each_write_leaves_just_what_it_changed(library: Engine) -> None:
    check_each(library, WRITES, LOGGED_DAYS, [DAILY, HOURLY])
    assert rows(library, LOGGED_DAYS) == []


@pytest.mark.parametrize("name", WRITES)
def test_the_tally_follows_each_write(name: str, engine: Engine) -> None:
    create(engine, media)
    execute(engine, FILES)
    for tally in media.tallies:
        refresh(engine, tally)
    execute(engine, WRITES[name][0])
    settled_media(engine)


def test_a_copy_is_one_statement(library: Engine) -> None:
    with library.begin() as connection:
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        with driver.cursor().copy(
            "COPY media.media_files (path, original_created_at) FROM STDIN"
        ) as copy:
            for number in range(1000):
                copy.write_row((f"copied {number}", f"2024-03-{5 + number % 2:02} 12:00Z"))
    assert rows(library, LOGGED_DAYS) == [("03-05", 500), ("03-06", 500)]
    settled_media(library)


def test_a_truncate_makes_every_tally_stale_and_its_live_view_right_at_once(
    library: Engine,
) -> None:
    execute(library, "TRUNCATE media.media_files", f"{ADD} ('e', '2024-03-05Z')")
    for tally in media.tallies:
        assert stale_reasons(library, tally.name) == ["media.media_files was truncated"]
    live = "SELECT to_char(date AT TIME ZONE 'UTC', 'MM-DD'), count FROM"
    assert rows(library, f"{live} media.daily_contributions_live") == [("03-05", 1)]
    judge(library, [DAILY, HOURLY])
    done = refresh(library, DAILY_TALLY)
    assert (done.how, done.reason) == ("rebuild", "media.media_files was truncated")
    assert rows(library, f"{live} media.daily_contributions") == [("03-05", 1)]
    settled_media(library)


def test_nothing_is_recorded_of_what_was_rolled_back(library: Engine) -> None:
    with library.connect() as connection, connection.begin() as transaction:
        connection.execute(text(f"{ADD} ('e', '2024-03-05Z')"))
        connection.execute(text("TRUNCATE media.media_files"))
        transaction.rollback()
    with library.begin() as connection:
        savepoint = connection.begin_nested()
        connection.execute(text("DELETE FROM media.media_files"))
        savepoint.rollback()
        connection.execute(text(f"{ADD} ('f', '2024-03-06Z')"))
    assert rows(library, LOGGED_DAYS) == [("03-06", 1)]
    assert stale_reasons(library, DAILY_TALLY.name) == []
    settled_media(library)


def test_a_failed_statement_records_nothing(library: Engine) -> None:
    with pytest.raises(Exception, match="media_files_path_key"), library.begin() as connection:
        connection.execute(text(f"{ADD} ('e', '2024-03-05Z'), ('a', '2024-03-05Z')"))
    assert rows(library, LOGGED_DAYS) == []


def test_a_transaction_reads_its_own_writes_live(library: Engine) -> None:
    with library.begin() as connection:
        connection.execute(text(f"{ADD} ('e', '2024-03-01Z')"))
        count = "SELECT count FROM media.daily_contributions_live WHERE date = '2024-03-01Z'"
        assert connection.execute(text(count)).scalar_one() == 3
        connection.execute(text("TRUNCATE media.media_files"))
        assert connection.execute(text(count)).one_or_none() is None


def test_capture_fires_for_replicas_and_whatever_the_session_is_set_to(library: Engine) -> None:
    execute(
        library,
        "SET LOCAL session_replication_role = replica",
        "SET LOCAL timezone = 'Pacific/Kiritimati'",
        "SET LOCAL search_path = pg_temp",
        "SET LOCAL datestyle = 'German'",
        f"{ADD} ('e', '2024-03-05 23:59:59Z')",
    )
    assert rows(library, LOGGED_DAYS) == [("03-05", 1)]
    settled_media(library)


def test_an_application_needs_no_new_grants(library: Engine) -> None:
    role = "tally_test_application"
    try:
        execute(
            library,
            f"CREATE ROLE {role}",
            f"GRANT USAGE ON SCHEMA media TO {role}",
            f"GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON media.media_files TO {role}",
        )
        become = f"SET LOCAL ROLE {role}"
        execute(library, become, f"{ADD} ('e', '2024-03-05Z')")
        execute(library, become, "UPDATE media.media_files SET original_created_at = '2024-03-06Z'")
        execute(library, become, "DELETE FROM media.media_files WHERE path = 'a'")
        judge(library, [DAILY, HOURLY])
        execute(library, become, "TRUNCATE media.media_files")
        judge(library, [DAILY, HOURLY])
        with pytest.raises(ProgrammingError) as denied:
            execute(library, CLAIM_WRITING, become, f"DELETE FROM {DAILY_LOG}")
        assert isinstance(denied.value.orig, InsufficientPrivilege)
    finally:
        execute(library, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def test_logs_survive_a_crash(library: Engine) -> None:
    """An unlogged table is emptied by one."""
    kinds = rows(
        library,
        "SELECT DISTINCT relpersistence::text FROM pg_class"
        " WHERE relnamespace = 'tallykeeper'::regnamespace AND relkind = 'r'",
    )
    assert kinds == [("p",)]


def test_a_publication_of_all_tables_does_not_stop_refreshes(library: Engine) -> None:
    execute(library, "CREATE PUBLICATION everything FOR ALL TABLES")
    execute(library, f"{ADD} ('e', '2024-03-05Z')")
    settled_media(library)


def test_times_at_and_beyond_the_ends_of_calendars_are_counted(library: Engine) -> None:
    far = ("infinity", "-infinity", "0044-03-15 12:00Z BC", "294000-01-01Z", "1904-01-01Z")
    for number, at in enumerate(far):
        execute(library, f"{ADD} ('far {number}', '{at}')")
        judge(library, [DAILY, HOURLY])
    settled_media(library)
    done = refresh(library, DAILY_TALLY)
    assert done.pending_consumed == 0
    execute(library, "DELETE FROM media.media_files WHERE path LIKE 'far%'")
    days = [w.day for w in refresh(library, DAILY_TALLY).changes_by_day]
    # What no calendar of Python's reaches is reported on the first and the last day it has.
    assert days == ["0001-01-01", "1904-01-01", "9999-12-31"]


def test_an_installation_that_finds_all_in_place_locks_no_source(library: Engine) -> None:
    with library.connect() as writer, writer.begin():
        writer.execute(text(f"{ADD} ('e', '2024-03-05Z')"))
        with library.begin() as connection:
            connection.execute(text("SET LOCAL lock_timeout = '1s'"))
            assert install(connection, media.tallies) == []
            held = connection.execute(
                text(
                    "SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid()"
                    " AND relation = 'media.media_files'::regclass AND mode <> 'AccessShareLock'"
                )
            ).scalar_one()
    assert held == 0
    settled_media(library)


def test_an_installation_waits_for_writers_so_that_none_is_missed(
    any_postgres_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tallykeeper.database.sessions.LOCK_TIMEOUT_SECONDS", 0.05)
    with any_postgres_engine.begin() as connection:
        connection.execute(CreateSchema("media"))
        media.metadata.create_all(connection)
    with any_postgres_engine.connect() as writer, writer.begin():
        writer.execute(text(f"{ADD} ('e', '2024-03-05Z')"))
        with any_postgres_engine.connect() as connection:
            with pytest.raises(OperationalError) as refused:
                install(connection, media.tallies)
            connection.rollback()
    assert isinstance(refused.value.orig, LockNotAvailable)
    assert scalar(any_postgres_engine, "SELECT to_regnamespace('tallykeeper') IS NULL")
