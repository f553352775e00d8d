"""What each figure of the classroom means: cases computed by hand, stored, live and read alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Engine

from assets.classroom import reads, tables
from assets.classroom.counting import events
from assets.classroom.tallies import submission_counts_with, system
from tallykeeper import install, refresh, verify
from tallykeeper.installation import select_plans
from tests.classroom import CLASSROOM
from tests.integration.support import create, execute, judge, rows

DAY = "2025-03-03"


@pytest.fixture
def classroom(engine: Engine) -> Engine:
    """Ann and Bob in one course, with a submission each; nothing has happened yet."""
    create(engine, system)
    execute(
        engine,
        "INSERT INTO classroom.users (id, name) VALUES (1, 'Ann'), (2, 'Bob')",
        "INSERT INTO classroom.courses (id, name) VALUES (1, 'CS1'), (2, 'CS2')",
        "INSERT INTO classroom.assignments (id, course_id) VALUES (1, 1)",
        "INSERT INTO classroom.submissions (id, assignment_id, course_id, user_id)"
        " VALUES (1, 1, 1, 1), (2, 1, 1, 2)",
    )
    return engine


def log(engine: Engine, *happened: tuple[Any, ...], submission: int = 1) -> None:
    """Write events: (time of the day, type) or (time, type, category) or (..., label)."""
    for row in happened:
        at, event_type, category, label = (*row, None, None)[:4]
        values = ", ".join("NULL" if v is None else f"'{v}'" for v in (event_type, category, label))
        at = at if "-" in at else f"{DAY} {at}Z"
        execute(
            engine,
            "INSERT INTO classroom.submission_log (submission_id, course_id, subject_id,"
            f" event_type, category, label, date_created) VALUES ({submission}, 1, {submission},"
            f" {values}, '{at}')",
        )


def counted(engine: Engine, submission: int = 1) -> dict[str, Any]:
    """The stored row, after a refresh; what is read is the same before and after it."""
    judge(engine, CLASSROOM)
    with engine.begin() as connection:
        before = reads.submission_counts(connection, submission)
    for tally in system.tallies:
        refresh(engine, tally)
        assert verify(engine, tally).ok
    judge(engine, CLASSROOM)
    with engine.begin() as connection:
        assert reads.submission_counts(connection, submission) == before
        stored = connection.execute(
            tables.submission_counts.select().where(
                tables.submission_counts.c.submission_id == submission
            )
        ).one()
    row = dict(stored._mapping)
    assert {name: row[name] for name in before} == before
    return row


def only(row: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: row[name] for name in names}


ERRORS = ("syntax_errors", "runtime_errors", "failed_instructor_tests")


def test_a_submission_without_events_has_a_row_of_zeros(classroom: Engine) -> None:
    row = counted(classroom)
    numbers = {n: v for n, v in row.items() if not n.endswith("_id") and n != "updated_at"}
    assert set(numbers.values()) == {0}


def test_runs_edits_and_attempts_are_counted_by_their_names_as_they_stand(
    classroom: Engine,
) -> None:
    names = [*events.RUNS, *events.EDITS, *events.ATTEMPTS]
    assert len(set(names)) == len(names)
    log(classroom, *((f"10:00:{n:02}", name) for n, name in enumerate(names)))
    log(classroom, *(("10:01", name) for name in ("RUN", "file.edit", "Run.Test", "")))
    row = counted(classroom)
    assert only(row, ("runs", "edits", "attempts")) == {"runs": 4, "edits": 2, "attempts": 4}
    assert only(row, ERRORS) == dict.fromkeys(ERRORS, 0)


FEEDBACK_CASES = {
    ("feedback", "Syntax", None): "syntax_errors",
    ("Intervention", "syntax", "name_error"): "syntax_errors",
    ("feedback", None, "SYNTAX_ERROR"): "syntax_errors",
    ("feedback", "runtime", None): "runtime_errors",
    ("Intervention", "mistake", "Runtime Error"): "runtime_errors",
    ("feedback", "instructor", None): "failed_instructor_tests",
    ("Intervention", None, "unit_test"): "failed_instructor_tests",
    ("feedback", "Test", "instructor"): "failed_instructor_tests",
    ("Compile.Error", None, None): "syntax_errors",
    ("Run.Program", "Error", None): "runtime_errors",
    ("run", None, "timeout"): "runtime_errors",
    ("X-run", "ProgramErrorOutput", None): "runtime_errors",
    ("Run", "TestFailed", None): "failed_instructor_tests",
    ("Run.Program", "Success", None): None,
    # A run's category is a result and nothing else; feedback has no result.
    ("Run.Program", "runtime", "syntax"): None,
    ("Run.Program", "Errors", None): None,
    ("feedback", "Error", "TimeOut"): None,
    ("feedback", "complete", None): None,
    ("File.Edit", "syntax", "runtime"): None,
    ("compile.error", None, None): None,
    ("feedback", None, None): None,
}


def test_errors_are_reported_by_category_label_and_result(classroom: Engine) -> None:
    for case, expected in FEEDBACK_CASES.items():
        execute(classroom, "DELETE FROM classroom.submission_log")
        log(classroom, ("10:00", *case))
        with classroom.begin() as connection:
            found = reads.submission_counts(connection, 1)
        assert {n: found[n] for n in ERRORS} == {n: int(n == expected) for n in ERRORS}, case  # type: ignore[literal-required]
    judge(classroom, CLASSROOM)


def test_a_row_that_names_two_kinds_of_errors_counts_for_each_once(classroom: Engine) -> None:
    log(
        classroom,
        ("10:00", "feedback", "syntax syntax", "runtime"),
        ("10:01", "Intervention", "test", "instructor"),
        ("10:02", "run", "Error", "TestFailed"),
    )
    assert only(counted(classroom), ERRORS) == {
        "syntax_errors": 1,
        "runtime_errors": 2,
        "failed_instructor_tests": 2,
    }


def test_times_between_edits_and_attempts_are_from_one_to_the_next_whatever_lies_between(
    classroom: Engine,
) -> None:
    log(
        classroom,
        ("10:00:00", "File.Edit"),  # the first: no gap
        ("10:00:10", "File.Edit"),  # 10 s after the edit before
        ("10:00:12", "Run.Program"),
        ("10:00:32", "File.Edit"),  # 22 s after it, 20 s after the run
        ("10:00:33", "Submit"),  # 1 s after the edit
        ("10:01:33", "Intervention"),
        ("10:01:38", "Submit"),  # 65 s after the attempt before, 5 s after the feedback
        ("10:02:08", "File.Edit"),  # 96 s after the edit before, 30 s after the attempt
    )
    row = counted(classroom)
    assert only(row, ("edits", "edit_gaps", "edit_ms", "edit_ms_squared")) == {
        "edits": 4,
        "edit_gaps": 3,
        "edit_ms": 128_000,
        "edit_ms_squared": 10_000**2 + 22_000**2 + 96_000**2,
    }
    assert row["average_edit_time"] == pytest.approx(128 / 3)
    assert row["edit_time_deviation"] == pytest.approx(46.576, abs=1e-3)
    assert (row["median_edit_time"], row["p90_edit_time"]) == (22.0, 96.0)
    assert only(row, ("attempts", "attempt_gaps", "attempt_ms")) == {
        "attempts": 2,
        "attempt_gaps": 1,
        "attempt_ms": 65_000,
    }
    assert row["average_attempt_time"] == 65.0
    assert (row["before_edit_gaps"], row["average_time_before_edit"]) == (3, 20.0)
    assert (row["before_attempt_gaps"], row["average_time_before_attempt"]) == (2, 3.0)
    # From the first event to the last: no gap is longer than the threshold.
    assert row["estimated_time_spent"] == 128.0


def test_two_attempts_an_hour_apart_are_an_hour_apart_whatever_was_edited(
    classroom: Engine,
) -> None:
    log(
        classroom,
        ("10:00:00", "edit"),
        ("10:00:10", "Submit"),
        ("11:00:00", "edit"),
        ("11:00:10", "Submit"),
    )
    row = counted(classroom)
    assert (row["average_attempt_time"], row["average_edit_time"]) == (3600.0, 3600.0)
    assert row["average_time_before_attempt"] == 10.0
    assert row["average_time_before_edit"] == 3590.0
    # One that is the first attempt is between no two, nor is one edit.
    log(classroom, ("10:00:00", "run"), ("10:00:05", "Submit"), submission=2)
    row = counted(classroom, 2)
    assert (row["attempt_gaps"], row["average_attempt_time"]) == (0, 0.0)
    assert row["average_time_before_attempt"] == 5.0


def test_time_spent_counts_a_pause_for_the_idle_threshold_but_averages_count_it_whole(
    classroom: Engine,
) -> None:
    log(
        classroom,
        ("10:00:00", "File.Edit"),
        ("10:05:00", "File.Edit"),  # the threshold itself
        ("10:10:00.001", "File.Edit"),  # a millisecond more
        ("12:10:00.001", "File.Edit"),  # two hours
    )
    row = counted(classroom)
    assert row["estimated_time_spent"] == 900.0
    assert row["edit_ms"] == 300_000 + 300_001 + 7_200_000
    assert row["average_edit_time"] == pytest.approx(2600.000333, abs=1e-6)


def test_another_idle_threshold_is_another_declaration_and_makes_the_tally_stale(
    classroom: Engine,
) -> None:
    log(classroom, ("10:00:00", "edit"), ("10:05:00", "edit"))
    assert counted(classroom)["estimated_time_spent"] == 300.0
    stricter = submission_counts_with(120)
    assert stricter.declaration_hash() != system.tallies[0].declaration_hash()
    assert submission_counts_with(300).declaration_hash() == system.tallies[0].declaration_hash()
    others = system.tallies[1:]
    for tally in (stricter, *others):
        tally.siblings = (stricter, *others)
    try:
        with classroom.begin() as connection:
            select_plans.prepare(connection, [stricter, *others])
            done = install(connection, [stricter, *others])
        assert any("declaration changed" in sentence for sentence in done)
        refreshed = refresh(classroom, stricter)
        assert (refreshed.how, refreshed.reason) == ("rebuild", "its declaration changed")
    finally:
        for tally in system.tallies:
            tally.siblings = system.tallies
    assert rows(
        classroom,
        "SELECT estimated_time_spent FROM classroom.submission_counts WHERE submission_id = 1",
    ) == [(120.0,)]


def test_events_are_ordered_by_the_server_s_time_and_then_by_id(classroom: Engine) -> None:
    # Written out of order; the client's clock, hours off, does not matter.
    log(
        classroom,
        ("10:00:30", "edit"),
        ("10:00:00", "run"),
        ("10:00:30", "Submit"),  # at the same instant as the edit, and after it: no time
        ("10:00:10", "run"),
    )
    execute(
        classroom,
        "UPDATE classroom.submission_log SET client_timestamp = date_created - interval '5 hours'"
        " * id",
    )
    names = ("before_edit_ms", "before_attempt_gaps", "before_attempt_ms")
    assert tuple(only(counted(classroom), names).values()) == (20_000, 1, 0)
    execute(classroom, "UPDATE classroom.submission_log SET id = 99 WHERE event_type = 'edit'")
    assert tuple(only(counted(classroom), names).values()) == (0, 1, 20_000)


def test_a_late_event_splits_the_gap_that_it_falls_into(classroom: Engine) -> None:
    log(classroom, ("10:00:00", "edit"), ("10:01:00", "edit"))
    assert counted(classroom)["edit_ms"] == 60_000
    log(classroom, ("10:00:20", "run"))
    row = counted(classroom)
    assert (row["edit_gaps"], row["edit_ms"], row["time_spent_ms"]) == (1, 60_000, 60_000)
    assert (row["before_edit_gaps"], row["before_edit_ms"]) == (1, 40_000)
    log(classroom, ("10:00:25", "edit"), ("10:00:00", "Submit"), ("10:00:59", "Submit"))
    row = counted(classroom)
    assert (row["edit_gaps"], row["edit_ms"], row["edit_ms_squared"]) == (
        2,
        60_000,
        25_000**2 + 35_000**2,
    )
    assert (row["attempt_gaps"], row["attempt_ms"]) == (1, 59_000)


def test_each_instant_is_rounded_down_to_milliseconds_so_that_gaps_add_up(
    classroom: Engine,
) -> None:
    log(
        classroom,
        ("10:00:00.0009", "edit"),
        ("10:00:00.001", "edit"),  # 1 ms, by the whole milliseconds
        ("10:00:00.0019", "edit"),  # 0
        ("10:00:00.0039", "edit"),  # 2
    )
    row = counted(classroom)
    assert (row["edit_gaps"], row["edit_ms"], row["edit_ms_squared"]) == (3, 3, 5)


def test_instants_before_1970_are_rounded_down_too(classroom: Engine) -> None:
    log(classroom, ("1969-12-31 23:59:59.9985Z", "edit"), ("1970-01-01 00:00:00Z", "edit"))
    assert counted(classroom)["edit_ms"] == 2


def test_the_ends_of_time_have_events_but_no_gaps_and_years_of_pause_overflow_nothing(
    classroom: Engine,
) -> None:
    for at in ("-infinity", "4713-01-01 00:00:00Z BC", "294276-12-31 23:59:59Z", "infinity"):
        execute(
            classroom,
            "INSERT INTO classroom.submission_log (submission_id, course_id, subject_id,"
            f" event_type, date_created) VALUES (1, 1, 1, 'edit', '{at}')",
        )
    row = counted(classroom)
    assert (row["edits"], row["edit_gaps"]) == (4, 1)
    assert row["edit_ms_squared"] == row["edit_ms"] ** 2
    assert row["edit_ms"] > 9 * 10**15
    assert row["time_spent_ms"] == 300_000


@pytest.mark.parametrize(
    ("gaps", "median", "p90"),
    [
        ([7], 7, 7),
        ([1, 2], 1, 2),
        ([3, 1, 2], 2, 3),
        ([4, 1, 2, 3], 2, 4),
        (list(range(1, 11)), 5, 9),
        (list(range(1, 12)), 6, 10),
        ([5] * 9 + [100], 5, 5),
    ],
)
def test_percentiles_are_gaps_that_were_seen_the_shortest_that_enough_do_not_exceed(
    classroom: Engine, gaps: list[int], median: int, p90: int
) -> None:
    at, happened = 0, [("10:00:00", "edit")]
    for gap in gaps:
        at += gap
        happened.append((f"10:{at // 60:02}:{at % 60:02}", "edit"))
    log(classroom, *happened)
    row = counted(classroom)
    assert (row["median_edit_time"], row["p90_edit_time"]) == (median, p90)
    mean = sum(gaps) / len(gaps)
    spread = sum((gap - mean) ** 2 for gap in gaps) / max(len(gaps) - 1, 1)
    assert row["edit_time_deviation"] == pytest.approx(math.sqrt(spread), rel=1e-12)


def test_the_deviation_is_exact_where_floats_would_lose_it(classroom: Engine) -> None:
    # Ten years apart each, and a millisecond more or less.
    log(
        classroom,
        ("1990-01-01 00:00:00.000Z", "edit"),
        ("2000-01-01 00:00:00.000Z", "edit"),  # 3652 days
        ("2009-12-31 00:00:00.001Z", "edit"),  # 3652 days and 1 ms
        ("2019-12-31 00:00:00.000Z", "edit"),  # 3652 days less 1 ms
    )
    row = counted(classroom)
    assert row["edit_time_deviation"] == pytest.approx(0.001, rel=1e-12)


def test_courses_count_each_user_once_whatever_the_roles(classroom: Engine) -> None:
    execute(
        classroom,
        "INSERT INTO classroom.users (id) VALUES (3), (4)",
        "INSERT INTO classroom.roles (user_id, course_id, name, date_created) VALUES"
        " (1, 1, 'student', '2025-01-01Z'), (1, 1, 'Learner', '2025-01-09Z'),"
        " (2, 1, 'LEARNER', '2025-01-02Z'), (2, 1, 'instructor', '2025-01-08Z'),"
        " (3, 1, 'Instructor', '2025-01-05Z'), (4, 1, 'grader', '2025-01-03Z'),"
        " (4, 2, 'students', '2025-01-04Z')",
        "INSERT INTO classroom.assignments (id, course_id, date_created) VALUES"
        " (2, 1, '2025-02-01Z'), (3, 2, '2025-02-02Z')",
        "UPDATE classroom.assignments SET date_created = '2025-01-31Z' WHERE id = 1",
        "INSERT INTO classroom.assignment_groups (course_id) VALUES (1), (1), (1)",
        "UPDATE classroom.submissions SET date_created = '2025-02-03 01:00Z' WHERE id = 2",
        "UPDATE classroom.submissions SET date_created = '2025-02-03 00:00Z' WHERE id = 1",
    )
    counted(classroom)
    with classroom.begin() as connection:
        found = reads.course_counts(connection, [1, 2])
    assert found[1] == {
        "total_submissions": 2,
        "total_assignments": 2,
        "total_assignment_groups": 3,
        "total_users": 4,
        "total_students": 2,
        "total_instructors": 2,
        # User 3's first role; those of users 1 and 2 that are later are not their first.
        "date_last_user": datetime(2025, 1, 5, tzinfo=UTC),
        "date_last_submission": datetime(2025, 2, 3, 1, tzinfo=UTC),
        "date_last_assignment": datetime(2025, 2, 1, tzinfo=UTC),
    }
    assert (found[2]["total_users"], found[2]["total_students"]) == (1, 0)


def test_users_have_the_assignments_of_their_courses_each_course_once(classroom: Engine) -> None:
    execute(
        classroom,
        "INSERT INTO classroom.roles (user_id, course_id, name) VALUES (1, 1, 'student'),"
        " (1, 1, 'grader'), (1, 2, 'instructor'), (2, 2, 'student')",
        "INSERT INTO classroom.assignments (id, course_id) VALUES (2, 2), (3, 2)",
        "INSERT INTO classroom.assignment_groups (course_id) VALUES (2)",
        "INSERT INTO classroom.reports (user_id) VALUES (1), (1), (2)",
        "INSERT INTO classroom.login_events (user_id, at) VALUES (1, '2025-03-02Z'),"
        " (1, '2025-03-01Z')",
        "INSERT INTO classroom.submissions (id, assignment_id, course_id, user_id)"
        " VALUES (3, 2, 2, 1)",
    )
    log(classroom, ("10:00:00", "edit"), ("10:00:30", "run"), ("11:00:00", "run"))
    log(classroom, ("12:00:00", "run"), ("12:00:07", "run"), submission=3)
    # Edited by Bob, in Ann's submission: the time is Ann's, the edit is Bob's.
    execute(
        classroom,
        "INSERT INTO classroom.submission_log (submission_id, course_id, subject_id, event_type,"
        f" date_created) VALUES (1, 1, 2, 'File.Edit', '{DAY} 11:00:01Z')",
    )
    counted(classroom)
    with classroom.begin() as connection:
        found = reads.user_counts(connection, [1, 2])
    assert found[1] == {
        "total_courses_in": 2,
        "total_assignments": 3,
        "total_assignment_groups": 1,
        "total_submissions": 2,
        "total_reports": 2,
        "estimated_time_spent": 30.0 + 300.0 + 1.0 + 7.0,
        "last_logged_in": datetime(2025, 3, 2, tzinfo=UTC),
        "last_edited": datetime(2025, 3, 3, 10, tzinfo=UTC),
    }
    assert found[2]["last_edited"] == datetime(2025, 3, 3, 11, 0, 1, tzinfo=UTC)
    assert (found[2]["estimated_time_spent"], found[2]["last_logged_in"]) == (0.0, None)
    assert rows(
        classroom,
        "SELECT user_id, submissions, estimated_time_spent FROM classroom.user_time_spent"
        " ORDER BY 1",
    ) == [(1, 2, 338.0), (2, 1, 0.0)]


def test_groups_count_each_assignment_once_and_its_submissions(classroom: Engine) -> None:
    execute(
        classroom,
        "INSERT INTO classroom.assignments (id, course_id) VALUES (2, 1)",
        "INSERT INTO classroom.submissions (id, assignment_id, course_id, user_id)"
        " VALUES (3, 2, 1, 1)",
        "INSERT INTO classroom.assignment_groups (id, course_id) VALUES (1, 1), (2, 1)",
        "INSERT INTO classroom.assignment_group_memberships (assignment_group_id, assignment_id)"
        " VALUES (1, 1), (1, 1), (1, 2)",
    )
    counted(classroom)
    with classroom.begin() as connection:
        assert reads.assignment_group_counts(connection, [1, 2]) == {
            1: {"total_assignments": 2, "total_submissions": 3},
            2: {"total_assignments": 0, "total_submissions": 0},
        }


def test_days_are_those_of_the_server_s_time_in_utc(classroom: Engine) -> None:
    log(
        classroom,
        ("2025-03-03 23:59:59.999Z", "run", "Error"),
        ("2025-03-04 00:00:00Z", "File.Edit"),
        ("2025-03-03 22:00:00-05", "Submit"),
        ("2025-03-04 12:00:00Z", "feedback", "syntax"),
    )
    counted(classroom)
    assert rows(
        classroom,
        "SELECT to_char(day AT TIME ZONE 'UTC', 'MM-DD HH24'), events, runs, edits, attempts,"
        " syntax_errors, runtime_errors, failed_instructor_tests"
        " FROM classroom.submission_daily_activity ORDER BY day",
    ) == [("03-03 00", 1, 1, 0, 0, 0, 1, 0), ("03-04 00", 3, 0, 1, 1, 1, 0, 0)]
