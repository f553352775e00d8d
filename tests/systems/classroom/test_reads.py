"""What an application reads of the classroom: by id or ids, zeros for nothing, exact at once."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from assets.classroom import reads
from assets.classroom.counting.lookups import create_lookups
from assets.classroom.tallies import assignment_counts, submission_counts, system
from tallykeeper import refresh
from tallykeeper.errors import NotInstalled
from tests.concurrency.subjects import SUBJECTS
from tests.concurrency.writers import COLLISIONS
from tests.integration.support import create, execute

READS: dict[str, Callable[[Connection, Any], Any]] = {
    "submission_counts": reads.submission_counts,
    "assignment_counts": reads.assignment_counts,
    "assignment_group_counts": reads.assignment_group_counts,
    "course_counts": reads.course_counts,
    "user_counts": reads.user_counts,
}
EVENT = (
    "INSERT INTO classroom.submission_log (submission_id, course_id, subject_id, event_type,"
    " date_created) VALUES "
)
STATEMENTS = 60


@pytest.fixture
def classroom(engine: Engine) -> Engine:
    """One of each, and two runs a minute apart; nothing was ever built."""
    create(engine, system)
    execute(
        engine,
        "INSERT INTO classroom.users (id) VALUES (1)",
        "INSERT INTO classroom.courses (id) VALUES (1)",
        "INSERT INTO classroom.roles (user_id, course_id, name, date_created)"
        " VALUES (1, 1, 'student', '2025-01-01Z')",
        "INSERT INTO classroom.assignments (id, course_id) VALUES (1, 1)",
        "INSERT INTO classroom.submissions (id, assignment_id, course_id, user_id, date_created)"
        " VALUES (1, 1, 1, 1, '2025-03-03Z')",
        EVENT + "(1, 1, 1, 'run', '2025-03-03 10:00Z'), (1, 1, 1, 'run', '2025-03-03 10:01Z')",
    )
    return engine


def test_what_there_is_not_has_zeros_and_no_dates(classroom: Engine) -> None:
    with classroom.connect() as connection:
        for name, function in READS.items():
            found = function(connection, 404)
            for field, value in found.items():
                nothing = None if field.startswith(("date_", "last_")) else 0
                assert (value, type(value)) in {(nothing, type(nothing)), (0.0, float)}, name
            assert function(connection, [404, -1]) == {404: found, -1: found}
            assert function(connection, []) == {}


def test_several_come_in_the_order_asked_each_once(classroom: Engine) -> None:
    with classroom.connect() as connection:
        for function in READS.values():
            found = function(connection, (7, 1, 7, 3))
            assert list(found) == [7, 1, 3]
            assert found[1] == function(connection, 1)
            assert found[7] is not found[3]


def test_every_read_is_exact_before_any_refresh_and_after_it(classroom: Engine) -> None:
    def check(runs: int, spent: float) -> None:
        with classroom.connect() as connection:
            submission = reads.submission_counts(connection, 1)
            user = reads.user_counts(connection, 1)
        assert (submission["runs"], submission["estimated_time_spent"]) == (runs, spent)
        assert user["estimated_time_spent"] == spent

    check(2, 60.0)
    refresh(classroom, submission_counts)
    check(2, 60.0)
    execute(classroom, EVENT + "(1, 1, 1, 'run', '2025-03-03 10:02Z')")
    check(3, 120.0)
    execute(classroom, "TRUNCATE classroom.submission_log")
    check(0, 0.0)


def test_dates_are_in_utc_and_within_what_python_can_hold(classroom: Engine) -> None:
    execute(
        classroom,
        EVENT + "(1, 1, 1, 'edit', 'infinity')",
        "INSERT INTO classroom.login_events (user_id, at) VALUES (1, '4000-01-01Z BC')",
    )
    with classroom.connect() as connection:
        connection.execute(text("SET timezone = 'Asia/Kathmandu'"))
        user = reads.user_counts(connection, 1)
        course = reads.course_counts(connection, 1)
    assert user["last_logged_in"] == datetime(1, 1, 1, tzinfo=UTC)
    assert user["last_edited"] == datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    assert repr(course["date_last_user"]) == repr(datetime(2025, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize("bad", ["1", 1.0, None, True, 2**63, ["1"], [1, None]])
def test_what_is_no_id_is_refused(classroom: Engine, bad: Any) -> None:
    with classroom.connect() as connection:
        for function in READS.values():
            with pytest.raises(ValueError, match="Expected an id, a whole number"):
                function(connection, bad)


def test_a_database_without_the_classroom_is_reported(engine: Engine) -> None:
    for statement in ("SELECT 1", "CREATE SCHEMA classroom"):
        execute(engine, statement)
        for function in READS.values():
            with engine.connect() as connection, pytest.raises(NotInstalled, match="tally migrate"):
                function(connection, 1)


def test_a_reader_needs_no_more_than_to_be_let_into_the_schema_and_the_functions(
    classroom: Engine,
) -> None:
    refresh(classroom, submission_counts)
    execute(classroom, EVENT + "(1, 1, 1, 'run', '2025-03-03 10:02Z')")
    with classroom.connect() as connection, connection.begin() as transaction:
        connection.execute(text("CREATE ROLE classroom_reader"))
        connection.execute(text("GRANT USAGE ON SCHEMA classroom TO classroom_reader"))
        savepoint = connection.begin_nested()
        connection.execute(text("SET LOCAL ROLE classroom_reader"))
        with pytest.raises(DBAPIError, match="permission denied for function"):
            reads.submission_counts(connection, 1)
        savepoint.rollback()
        connection.execute(
            text("GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA classroom TO classroom_reader")
        )
        connection.execute(text("SET LOCAL ROLE classroom_reader"))
        connection.execute(text("SET TRANSACTION READ ONLY"))
        assert reads.submission_counts(connection, 1)["runs"] == 3
        assert reads.user_counts(connection, 1)["estimated_time_spent"] == 120.0
        transaction.rollback()


def test_only_what_is_asked_for_is_computed(classroom: Engine) -> None:
    """The live view has to compute all that is pending."""
    execute(
        classroom,
        "INSERT INTO classroom.submissions (id, assignment_id, course_id, user_id)"
        " SELECT n, 1, 1, 1 FROM generate_series(2, 50) AS n",
    )
    for tally in system.tallies:
        refresh(classroom, tally)
    execute(
        classroom,
        EVENT.replace("VALUES", "SELECT n, 1, 1, 'run', now() FROM generate_series(1, 40) AS n"),
    )
    fetched = text(
        "SELECT coalesce(idx_tup_fetch, 0) + seq_tup_read FROM pg_stat_xact_user_tables"
        " WHERE relid = 'classroom.submission_log'::regclass"
    )
    with classroom.begin() as connection:
        connection.execute(text("SET LOCAL enable_seqscan = off"))
        before = connection.scalar(fetched)
        assert reads.submission_counts(connection, 45)["runs"] == 0
        assert connection.scalar(fetched) == before
        assert reads.submission_counts(connection, 1)["runs"] == 3
        assert 3 <= connection.scalar(fetched) - before < 40


def test_the_functions_are_made_once_and_again_where_they_are_others(classroom: Engine) -> None:
    assert system.prepare is not None
    with classroom.begin() as connection:
        assert system.prepare(connection) == []
        connection.execute(
            text(
                "CREATE OR REPLACE FUNCTION classroom.user_time_spent_of(ids bigint[])"
                " RETURNS TABLE (user_id bigint, time_spent_ms bigint) LANGUAGE sql"
                " AS 'SELECT 1::bigint, 2::bigint'"
            )
        )
        connection.execute(text("DROP FUNCTION classroom.assignment_counts_of(bigint[])"))
        connection.execute(text("DROP FUNCTION classroom.course_counts_of(bigint[])"))
        connection.execute(
            text(
                "CREATE FUNCTION classroom.course_counts_of(ids bigint[]) RETURNS TABLE (other int)"
                " LANGUAGE sql AS 'SELECT 1'"
            )
        )
        assert system.prepare(connection) == [
            "created the function classroom.assignment_counts_of",
            "created the function classroom.course_counts_of",
            "created the function classroom.user_time_spent_of",
        ]
        assert create_lookups(connection, [submission_counts, assignment_counts]) == []
        assert reads.course_counts(connection, 1)["total_users"] == 1


def test_functions_that_are_replaced_keep_their_grants(classroom: Engine) -> None:
    with classroom.connect() as connection, connection.begin() as transaction:
        connection.execute(text("CREATE ROLE classroom_reader"))
        connection.execute(
            text("GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA classroom TO classroom_reader")
        )
        connection.execute(
            text(
                "CREATE OR REPLACE FUNCTION classroom.user_time_spent_of(ids bigint[])"
                " RETURNS TABLE (user_id bigint, time_spent_ms bigint) LANGUAGE sql"
                " AS 'SELECT 1::bigint, 2::bigint'"
            )
        )
        assert len(create_lookups(connection, [])) == 1
        granted = "SELECT has_function_privilege(:role, :function, 'EXECUTE')"
        for role, expected in (("classroom_reader", True), ("public", False)):
            found = connection.scalar(
                text(granted),
                {"role": role, "function": "classroom.user_time_spent_of(bigint[])"},
            )
            assert found is expected
        transaction.rollback()


FIRST = (
    *("insert users", "insert courses", "insert assignments", "insert groups", "give roles") * 2,
    *("put into groups", "insert submissions", "log events") * 4,
)


@pytest.mark.parametrize("seed", range(2))
def test_reads_agree_with_live_views_whatever_is_written(engine: Engine, seed: int) -> None:
    """The live views are themselves proven right in `test_oracle.py`."""
    create(engine, system)
    rng, subject = random.Random(seed), SUBJECTS["classroom"]
    by_name = {operation.name: operation for operation in subject.operations}
    drawn = [by_name[name] for name in FIRST]
    drawn += rng.choices(subject.operations, [o.weight for o in subject.operations], k=STATEMENTS)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        for number, operation in enumerate(drawn):
            try:
                with driver.transaction(), driver.cursor() as cursor:
                    operation.run(cursor, rng)
            except COLLISIONS:
                continue
            if number % 4 == 3:
                refresh(engine, rng.choice(system.tallies))
            agree(connection)


def agree(connection: Connection) -> None:
    """The functions give what the live views show."""
    for table in READS:
        key = f"{table.removesuffix('_counts')}_id"
        differing = connection.execute(
            text(
                f"WITH read AS (SELECT * FROM classroom.{table}_of(ARRAY(SELECT"
                f" generate_series(0, 20)::bigint))), live AS (SELECT * FROM classroom.{table}_live"
                f" WHERE {key} BETWEEN 0 AND 20) (TABLE read EXCEPT ALL TABLE live) UNION ALL"
                " (TABLE live EXCEPT ALL TABLE read)"
            )
        ).all()
        assert not differing, (table, differing)
    times = connection.execute(
        text(
            "SELECT (SELECT jsonb_object_agg(user_id, time_spent_ms) FROM"
            " classroom.user_time_spent_of(ARRAY(SELECT generate_series(0, 20)::bigint)))"
            " IS NOT DISTINCT FROM (SELECT jsonb_object_agg(user_id, time_spent_ms)"
            " FROM classroom.user_time_spent_live)"
        )
    ).scalar_one()
    assert times
