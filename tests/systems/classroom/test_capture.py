"""The classroom's capture: whom each kind of change concerns, and what a refresh makes of it.

That all figures are right after any statement is shown in `test_oracle.py`; here it is
that a change concerns those that it should and nobody else.
"""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Connection, Engine, text

from assets.classroom.tallies import (
    assignment_counts,
    assignment_group_counts,
    course_counts,
    report_daily_counts,
    submission_counts,
    submission_daily_activity,
    system,
    user_counts,
    user_time_spent,
)
from tallykeeper import SelectTally, Tally, rebuild, refresh, verify
from tallykeeper.database.sql import CLAIM_WRITING
from tests.classroom import CLASSROOM
from tests.integration.support import create, execute, judge, rows, scalar, scans_of

EVENT = (
    "INSERT INTO classroom.submission_log (submission_id, course_id, subject_id, event_type,"
    " date_created) VALUES "
)


@pytest.fixture
def classroom(engine: Engine) -> Engine:
    """Two courses of two users each, one of them in both; a group; a submission each; built."""
    create(engine, system)
    execute(
        engine,
        "INSERT INTO classroom.users (id) VALUES (1), (2), (3)",
        "INSERT INTO classroom.courses (id) VALUES (1), (2)",
        "INSERT INTO classroom.roles (id, user_id, course_id, name) VALUES (1, 1, 1, 'student'),"
        " (2, 2, 1, 'student'), (3, 2, 2, 'instructor'), (4, 3, 2, 'student')",
        "INSERT INTO classroom.assignments (id, course_id) VALUES (1, 1), (2, 1), (3, 2)",
        "INSERT INTO classroom.assignment_groups (id, course_id) VALUES (1, 1), (2, 2)",
        "INSERT INTO classroom.assignment_group_memberships (id, assignment_group_id,"
        " assignment_id) VALUES (1, 1, 1), (2, 2, 3)",
        "INSERT INTO classroom.submissions (id, assignment_id, course_id, user_id)"
        " VALUES (1, 1, 1, 1), (2, 1, 1, 2), (3, 3, 2, 3)",
        EVENT + "(1, 1, 1, 'edit', '2025-03-03 10:00Z'), (1, 1, 1, 'run', '2025-03-03 10:01Z'),"
        " (3, 2, 3, 'edit', '2025-03-03 11:00Z')",
    )
    keep(engine)
    return engine


def keep(engine: Engine) -> None:
    """Refresh all: everything is right before and after."""
    judge(engine, CLASSROOM)
    for tally in system.tallies:
        refresh(engine, tally)
        assert verify(engine, tally).ok, tally
    judge(engine, CLASSROOM)


def concerned(connection: Connection) -> dict[str, list[Any]]:
    """The first column of the keys that are pending, by table; of counts and sums by the log."""
    found = {}
    for tally in system.tallies:
        assert isinstance(tally, SelectTally)
        tally.bind(connection)
        relation = f"{tally.changes_function}()" if tally.has_lookup else tally.log_name
        keys = connection.exec_driver_sql(
            f"SELECT DISTINCT {tally.key[0]} FROM {relation} ORDER BY 1"
        ).scalars()
        found[tally.table.name] = list(keys)
    return {name: keys for name, keys in found.items() if keys}


CHANGES: dict[str, tuple[str, dict[str, list[int]]]] = {
    "a run": (
        EVENT + "(1, 1, 1, 'run', '2025-03-03 10:02Z')",
        {"submission_counts": [1], "submission_daily_activity": [1]},
    ),
    "an edit, which its subject made": (
        EVENT + "(1, 1, 2, 'edit', '2025-03-03 10:02Z')",
        {"submission_counts": [1], "submission_daily_activity": [1], "user_counts": [2]},
    ),
    "a message that is put right": (
        "UPDATE classroom.submission_log SET message = 'x', file_path = 'y', assignment_id = 7,"
        " client_timestamp = now()",
        {},
    ),
    "an event that was another's": (
        "UPDATE classroom.submission_log SET submission_id = 2 WHERE event_type = 'run'",
        {"submission_counts": [1, 2]},
    ),
    "an edit that was none": (
        "UPDATE classroom.submission_log SET event_type = 'run' WHERE submission_id = 3",
        {"submission_counts": [3], "submission_daily_activity": [2], "user_counts": [3]},
    ),
    "a new submission": (
        "INSERT INTO classroom.submissions (id, assignment_id, course_id, user_id)"
        " VALUES (9, 1, 1, 1)",
        {
            "submission_counts": [9],
            "assignment_counts": [1],
            "assignment_group_counts": [1],
            "course_counts": [1],
            "user_counts": [1],
        },
    ),
    "a submission that moves to another assignment and course": (
        "UPDATE classroom.submissions SET assignment_id = 3, course_id = 2 WHERE id = 2",
        {
            "submission_counts": [2],
            "assignment_counts": [1, 3],
            "assignment_group_counts": [1, 2],
            "course_counts": [1, 2],
        },
    ),
    "a submission that was another's": (
        "UPDATE classroom.submissions SET user_id = 3 WHERE id = 2",
        {"submission_counts": [2], "user_counts": [2, 3]},
    ),
    "an assignment that moves to another course": (
        "UPDATE classroom.assignments SET course_id = 2 WHERE id = 2",
        {"course_counts": [1, 2], "user_counts": [1, 2, 3]},
    ),
    "an assignment more": (
        "INSERT INTO classroom.assignments (id, course_id) VALUES (9, 1)",
        {"assignment_counts": [9], "course_counts": [1], "user_counts": [1, 2]},
    ),
    "another name for an assignment": ("UPDATE classroom.assignments SET name = 'x'", {}),
    "a group more": (
        "INSERT INTO classroom.assignment_groups (id, course_id) VALUES (9, 2)",
        {"assignment_group_counts": [9], "course_counts": [2], "user_counts": [2, 3]},
    ),
    "an assignment put into a group": (
        "INSERT INTO classroom.assignment_group_memberships (id, assignment_group_id,"
        " assignment_id) VALUES (9, 1, 2)",
        {"assignment_group_counts": [1]},
    ),
    "an assignment that changes its group": (
        "UPDATE classroom.assignment_group_memberships SET assignment_group_id = 2 WHERE id = 1",
        {"assignment_group_counts": [1, 2]},
    ),
    "another role": (
        "UPDATE classroom.roles SET name = 'instructor' WHERE id = 1",
        {"course_counts": [1]},
    ),
    "a role in another course": (
        "UPDATE classroom.roles SET course_id = 2 WHERE id = 1",
        {"course_counts": [1, 2], "user_counts": [1]},
    ),
    "a role that was another's": (
        "UPDATE classroom.roles SET user_id = 3 WHERE id = 1",
        {"course_counts": [1], "user_counts": [1, 3]},
    ),
    "a report": (
        "INSERT INTO classroom.reports (user_id) VALUES (3)",
        {"report_daily_counts": [3], "user_counts": [3]},
    ),
    "a login": ("INSERT INTO classroom.login_events (user_id) VALUES (1)", {"user_counts": [1]}),
    "a user": ("INSERT INTO classroom.users (id) VALUES (9)", {"user_counts": [9]}),
    "another name for a user": ("UPDATE classroom.users SET name = 'x'", {}),
    "a course": ("INSERT INTO classroom.courses (id) VALUES (9)", {"course_counts": [9]}),
    "a course that is deleted with all that is in it": (
        "DELETE FROM classroom.courses WHERE id = 2",
        {
            "submission_counts": [3],
            "assignment_counts": [3],
            "assignment_group_counts": [2],
            "course_counts": [2],
            "submission_daily_activity": [2],
            "user_counts": [2, 3],
        },
    ),
}


def test_each_change_concerns_those_whose_row_it_may_alter_and_nobody_else(
    classroom: Engine,
) -> None:
    for name, (statement, expected) in CHANGES.items():
        with classroom.connect() as connection, connection.begin() as transaction:
            connection.exec_driver_sql(statement)
            assert concerned(connection) == expected, name
            transaction.rollback()


def test_after_each_change_all_is_right_live_and_after_a_refresh(classroom: Engine) -> None:
    for statement, _ in CHANGES.values():
        execute(classroom, statement)
        keep(classroom)


def test_what_belongs_to_a_deleted_course_vanishes_from_every_table(classroom: Engine) -> None:
    execute(classroom, "DELETE FROM classroom.courses WHERE id = 2")
    keep(classroom)
    kept = {
        "submission_counts": [1, 2],
        "assignment_counts": [1, 2],
        "assignment_group_counts": [1],
        "course_counts": [1],
        "user_counts": [1, 2, 3],
        "user_time_spent": [1, 2],
        "submission_daily_activity": [1],
        "report_daily_counts": [],
    }
    for tally in system.tallies:
        name = tally.table.name
        found = rows(classroom, f"SELECT DISTINCT {tally.key[0]} FROM classroom.{name} ORDER BY 1")
        assert [k[0] for k in found] == kept[name], name


def test_a_deletion_never_waits_for_a_refresh(classroom: Engine) -> None:
    """As it would if a cascade had to write the derived tables."""
    with classroom.connect() as holding, holding.begin():
        for tally in system.tallies:
            holding.execute(
                text(f"LOCK TABLE classroom.{tally.table.name} IN SHARE ROW EXCLUSIVE MODE")
            )
        execute(
            classroom,
            "SET LOCAL lock_timeout = '2s'",
            "DELETE FROM classroom.users",
            "DELETE FROM classroom.courses",
        )
    keep(classroom)
    for tally in system.tallies:
        assert scalar(classroom, f"SELECT count(*) FROM classroom.{tally.table.name}") == 0


def test_an_event_of_a_submission_that_is_not_there_counts_when_it_comes(
    classroom: Engine,
) -> None:
    # As a replica writes it, whose references are not checked.
    execute(
        classroom,
        "SET LOCAL session_replication_role = replica",
        EVENT + "(9, 1, 1, 'run', '2025-03-03 10:00Z')",
    )
    keep(classroom)
    assert rows(classroom, "SELECT FROM classroom.submission_counts WHERE submission_id = 9") == []
    execute(
        classroom,
        "INSERT INTO classroom.submissions (id, assignment_id, course_id, user_id)"
        " VALUES (9, 1, 1, 1)",
    )
    keep(classroom)
    assert rows(
        classroom, "SELECT runs FROM classroom.submission_counts WHERE submission_id = 9"
    ) == [(1,)]


def test_a_truncated_log_leaves_zeros(classroom: Engine) -> None:
    execute(classroom, "TRUNCATE classroom.submission_log")
    judge(classroom, CLASSROOM)
    assert refresh(classroom, submission_counts).how == "rebuild"
    keep(classroom)
    assert scalar(classroom, "SELECT sum(runs + edits) FROM classroom.submission_counts") == 0
    assert scalar(classroom, "SELECT count(*) FROM classroom.submission_daily_activity") == 0


FAULTS: dict[str, tuple[Tally, str]] = {
    "a sum": (submission_counts, "UPDATE classroom.submission_counts SET edit_ms_squared = 1"),
    "a count": (assignment_counts, "UPDATE classroom.assignment_counts SET total_submissions = 7"),
    "a missing row": (
        assignment_group_counts,
        "DELETE FROM classroom.assignment_group_counts WHERE assignment_group_id = 1",
    ),
    "a date": (course_counts, "UPDATE classroom.course_counts SET date_last_user = now()"),
    "a row too many": (user_counts, "INSERT INTO classroom.user_counts (user_id) VALUES (77)"),
    "a time": (user_time_spent, "UPDATE classroom.user_time_spent SET time_spent_ms = 1"),
    "a day": (
        submission_daily_activity,
        "UPDATE classroom.submission_daily_activity SET runs = runs + 1",
    ),
    "a report too many": (
        report_daily_counts,
        "INSERT INTO classroom.report_daily_counts VALUES (1, '2026-01-01Z', 1)",
    ),
}


def test_verify_finds_what_was_changed_by_hand_and_a_rebuild_repairs_it(classroom: Engine) -> None:
    assert {tally.name for tally, _ in FAULTS.values()} == {t.name for t in system.tallies}
    for name, (tally, statement) in FAULTS.items():
        execute(classroom, CLAIM_WRITING, statement)
        assert verify(classroom, tally).differing, name
        rebuild(classroom, tally)
        keep(classroom)


MANY = 3000


def test_what_concerns_many_is_resolved_by_indexes_and_at_once(engine: Engine) -> None:
    """An assignment more for thousands of users, and one event more in a long log."""
    create(engine, system)
    execute(
        engine,
        f"INSERT INTO classroom.users (id) SELECT generate_series(1, {MANY})",
        "INSERT INTO classroom.courses (id) SELECT generate_series(1, 40)",
        "INSERT INTO classroom.roles (user_id, course_id, name) SELECT u, 1 + u % 2, 'student'"
        f" FROM generate_series(1, {MANY}) AS u",
        "INSERT INTO classroom.assignments (id, course_id) SELECT a, a % 40 + 1"
        " FROM generate_series(1, 400) AS a",
        "INSERT INTO classroom.submissions (id, assignment_id, course_id, user_id)"
        f" SELECT s, 1 + s % 400, 1 + s % 40, s FROM generate_series(1, {MANY}) AS s",
        EVENT[: EVENT.index("VALUES")]
        + "SELECT s, 1 + s % 40, s, 'edit', timestamptz '2025-01-01Z' + n * interval '10 s'"
        f" FROM generate_series(1, {MANY}) AS s, generate_series(1, 10) AS n",
    )
    for tally in system.tallies:
        refresh(engine, tally)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM (ANALYZE)")
    execute(engine, "INSERT INTO classroom.assignments (id, course_id) VALUES (1000, 1)")
    done = refresh(engine, user_counts)
    assert (done.pending_consumed, done.keys_changed) == (1, MANY // 2)
    execute(engine, EVENT + "(77, 1, 77, 'edit', '2025-01-02Z')")
    engine.dispose()
    with scans_of(engine, "users", "roles", "submissions", "submission_log") as scans:
        assert refresh(engine, submission_counts).keys_changed == 1
        assert refresh(engine, user_counts).keys_changed == 1
        assert refresh(engine, user_time_spent).keys_changed == 1
    assert scans
    assert set(scans) == {0}
    judge(engine, CLASSROOM)
