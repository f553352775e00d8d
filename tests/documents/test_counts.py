"""The tables of counts: a row for each point of the document that describes them.

The tests share one course with a teacher, two students, two assignments in a group, and one
submission of each student. What they write they roll back.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from math import sqrt
from statistics import mean, stdev
from typing import Any

import pytest
from sqlalchemy import Connection, Engine

from assets.classroom.counting import events
from assets.classroom.reads import (
    activity,
    assignment_counts,
    assignment_group_counts,
    course_counts,
    reports,
    submission_counts,
    user_counts,
)
from assets.classroom.tallies import submission_counts as submissions_tally
from assets.classroom.tallies import system as classroom
from tallykeeper import prune, rebuild, refresh, verify
from tallykeeper.database.sql import CLAIM_WRITING
from tallykeeper.http.app import create_app
from tests.documents.audit import differently
from tests.documents.installation import by_hand, checks_of, command, kept, run, undone
from tests.integration.serving_client import Client
from tests.integration.support import execute, rows, scans_of
from tests.servers import Servers

START = datetime(2025, 9, 4, 10, tzinfo=UTC)
TEACHER, ANN, BOB = 1, 2, 3
LATE = datetime(2025, 10, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def engine(postgres_servers: Servers) -> Iterator[Engine]:
    with kept(postgres_servers, "classroom") as engine:
        fill(engine)
        yield engine


def fill(engine: Engine) -> None:
    """Make the course, and have it counted."""
    execute(
        engine,
        "SET LOCAL search_path = classroom",
        "INSERT INTO users (name, date_created) SELECT 'u' || n, '2025-09-01Z'"
        " FROM generate_series(1, 3) AS n",
        "INSERT INTO courses (name, date_created) VALUES ('one', '2025-09-01Z')",
        "INSERT INTO roles (user_id, course_id, name, date_created) SELECT n, 1,"
        " CASE n WHEN 1 THEN 'instructor' ELSE 'student' END, '2025-09-01Z'"
        " FROM generate_series(1, 3) AS n",
        "INSERT INTO assignments (course_id, date_created)"
        " VALUES (1, '2025-09-02Z'), (1, '2025-09-03Z')",
        "INSERT INTO assignment_groups (course_id) VALUES (1)",
        "INSERT INTO assignment_group_memberships (assignment_group_id, assignment_id)"
        " VALUES (1, 1), (1, 2)",
        "INSERT INTO submissions (assignment_id, course_id, user_id, date_created)"
        " VALUES (1, 1, 2, '2025-09-04Z'), (1, 1, 3, '2025-09-05Z')",
        *(event(1, 60 * n, "Run.Program") for n in range(3)),
        event(2, 0, "File.Edit", subject=BOB),
    )
    for tally in classroom.tallies:
        refresh(engine, tally)


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    with undone(engine) as connection:
        yield connection


@pytest.fixture(scope="module")
def client(engine: Engine) -> Client:
    return Client(create_app(engine, ["classroom"]))


def event(
    submission: int, seconds: float, kind: str, category: str = "", subject: int = ANN
) -> str:
    moment = START + timedelta(seconds=seconds)
    return (
        "INSERT INTO classroom.submission_log (submission_id, assignment_id, course_id, subject_id,"
        f" event_type, category, date_created) VALUES ({submission}, 1, 1, {subject}, '{kind}',"
        f" '{category}', '{moment}')"
    )


def submit(user: int = ANN, assignment: int = 1, at: datetime = LATE) -> str:
    return (
        "INSERT INTO classroom.submissions (assignment_id, course_id, user_id, date_created)"
        f" VALUES ({assignment}, 1, {user}, '{at}')"
    )


# Submissions.


def test_runs_of_a_submission_are_counted(connection: Connection) -> None:
    assert submission_counts(connection, 1)["runs"] == 3
    run(connection, event(1, 500, "Run.Program"))
    assert submission_counts(connection, 1)["runs"] == 4


def test_the_average_time_between_edits_is_in_seconds(connection: Connection) -> None:
    # A run between two edits does not divide the time between them.
    run(connection, event(2, 5, "Run.Program"), event(2, 10, "File.Edit"))
    run(connection, event(2, 40, "File.Edit"))
    assert submission_counts(connection, 2)["average_edit_time"] == 20


def test_the_average_time_between_attempts_is_from_one_to_the_next(
    connection: Connection,
) -> None:
    for second in (0, 3600):
        run(connection, event(1, second - 10, "File.Edit"), event(1, second, "Submit"))
    assert submission_counts(connection, 1)["average_attempt_time"] == 3600


def test_the_time_spent_is_estimated_without_long_pauses(connection: Connection) -> None:
    run(connection, event(2, 30, "File.Edit"), event(2, 100_000, "File.Edit"))
    assert submission_counts(connection, 2)["estimated_time_spent"] == 330


@pytest.mark.parametrize(
    ("kind", "category", "counted"),
    [
        ("Intervention", "Syntax", "syntax_errors"),
        ("Compile.Error", "", "syntax_errors"),
        ("Intervention", "Runtime", "runtime_errors"),
        ("Run.Program", "Error", "runtime_errors"),
        ("Intervention", "Instructor", "failed_instructor_tests"),
    ],
)
def test_syntax_errors_and_runtime_errors_and_failed_tests_are_counted_apart(
    connection: Connection, kind: str, category: str, counted: str
) -> None:
    run(connection, event(1, 700, kind, category))
    counts: Any = submission_counts(connection, 1)
    errors = {
        name: counts[name]
        for name in ("syntax_errors", "runtime_errors", "failed_instructor_tests")
    }
    assert errors == {**dict.fromkeys(errors, 0), counted: 1}


# Assignments.


def test_submissions_of_an_assignment_are_counted(connection: Connection) -> None:
    run(connection, submit())
    assert assignment_counts(connection, 1)["total_submissions"] == 3


def test_an_assignment_knows_its_latest_submission(connection: Connection) -> None:
    run(connection, submit(), submit(at=START))
    assert assignment_counts(connection, 1)["date_last_submission"] == LATE


# Courses.


def test_submissions_of_a_course_are_counted(connection: Connection) -> None:
    run(connection, submit(), submit(assignment=2))
    assert course_counts(connection, 1)["total_submissions"] == 4


def test_assignments_and_their_groups_of_a_course_are_counted(connection: Connection) -> None:
    run(
        connection,
        "INSERT INTO classroom.assignments (course_id) VALUES (1)",
        "INSERT INTO classroom.assignment_groups (course_id) VALUES (1)",
    )
    counts = course_counts(connection, 1)
    assert (counts["total_assignments"], counts["total_assignment_groups"]) == (3, 2)


def test_users_and_students_and_instructors_of_a_course_are_counted(connection: Connection) -> None:
    role = "INSERT INTO classroom.roles (user_id, course_id, name) VALUES"
    run(connection, f"{role} (3, 1, 'instructor'), (2, 1, 'grader')")
    counts = course_counts(connection, 1)
    assert (counts["total_users"], counts["total_students"], counts["total_instructors"]) == (
        3,
        2,
        2,
    )


def test_a_course_knows_when_the_latest_user_came(connection: Connection) -> None:
    run(
        connection,
        "INSERT INTO classroom.users (id, date_created) OVERRIDING SYSTEM VALUE VALUES (9, now())",
        "INSERT INTO classroom.roles (user_id, course_id, name, date_created)"
        f" VALUES (9, 1, 'student', '{LATE}'), (2, 1, 'grader', '2025-11-01Z')",
    )
    assert course_counts(connection, 1)["date_last_user"] == LATE


def test_a_course_knows_its_latest_submission(connection: Connection) -> None:
    run(connection, submit())
    assert course_counts(connection, 1)["date_last_submission"] == LATE


def test_a_course_knows_its_latest_assignment(connection: Connection) -> None:
    run(
        connection,
        f"INSERT INTO classroom.assignments (course_id, date_created) VALUES (1, '{LATE}')",
    )
    assert course_counts(connection, 1)["date_last_assignment"] == LATE


# Users.


def test_courses_of_a_user_are_counted(connection: Connection) -> None:
    run(
        connection,
        "INSERT INTO classroom.courses (id) OVERRIDING SYSTEM VALUE VALUES (8)",
        "INSERT INTO classroom.roles (user_id, course_id, name) VALUES (2, 8, 'student')",
    )
    assert user_counts(connection, ANN)["total_courses_in"] == 2


def test_assignments_and_groups_that_a_user_has_are_counted(connection: Connection) -> None:
    run(connection, "INSERT INTO classroom.assignments (course_id) VALUES (1)")
    counts = user_counts(connection, ANN)
    assert (counts["total_assignments"], counts["total_assignment_groups"]) == (3, 1)


def test_submissions_of_a_user_are_counted(connection: Connection) -> None:
    run(connection, submit(BOB))
    assert user_counts(connection, BOB)["total_submissions"] == 2


def test_reports_of_a_user_are_counted(connection: Connection) -> None:
    run(connection, "INSERT INTO classroom.reports (user_id) VALUES (1), (1)")
    assert user_counts(connection, TEACHER)["total_reports"] == 2


def test_the_time_that_a_user_spent_is_the_sum_over_the_submissions(
    connection: Connection,
) -> None:
    run(
        connection,
        "INSERT INTO classroom.submissions (id, assignment_id, course_id, user_id)"
        " OVERRIDING SYSTEM VALUE VALUES (50, 2, 1, 2)",
    )
    run(connection, event(50, 0, "File.Edit"), event(50, 30, "File.Edit"))
    assert user_counts(connection, ANN)["estimated_time_spent"] == 150


def test_a_user_knows_the_latest_login(connection: Connection) -> None:
    login = "INSERT INTO classroom.login_events (user_id, at) VALUES"
    run(connection, f"{login} (2, '{LATE}'), (2, '{START}')")
    assert user_counts(connection, ANN)["last_logged_in"] == LATE


def test_a_user_knows_the_latest_edit(connection: Connection) -> None:
    run(connection, event(1, 900, "File.Edit"), event(1, 990, "Run.Program"))
    assert user_counts(connection, ANN)["last_edited"] == START + timedelta(seconds=900)


# Helpers.


@differently("nothing has to be called: every entity has its row, what there is not has zeros")
def test_counts_are_there_without_anybody_having_made_their_row(connection: Connection) -> None:
    assert submission_counts(connection, 12345)["runs"] == 0
    assert assignment_counts(connection, 2)["total_submissions"] == 0
    assert course_counts(connection, 12345)["total_users"] == 0
    assert user_counts(connection, 12345)["last_edited"] is None


@differently("counts follow from the rows of the log: nothing has to be called beside them")
def test_an_event_in_the_log_updates_edit_times_and_runs_and_errors(connection: Connection) -> None:
    run(
        connection,
        event(2, 8, "File.Edit"),
        event(2, 9, "Run.Program"),
        event(2, 10, "Intervention", "syntax"),
    )
    counts = submission_counts(connection, 2)
    assert counts["average_edit_time"] == 8
    assert (counts["runs"], counts["syntax_errors"]) == (1, 1)


@differently("counts follow from the row of the submission: nothing has to be called beside it")
def test_one_submission_counts_for_its_assignment_and_course_and_user(
    connection: Connection,
) -> None:
    before = [
        assignment_counts(connection, 1)["total_submissions"],
        course_counts(connection, 1)["total_submissions"],
        user_counts(connection, BOB)["total_submissions"],
    ]
    run(connection, submit(BOB))
    assert [
        assignment_counts(connection, 1)["total_submissions"] - before[0],
        course_counts(connection, 1)["total_submissions"] - before[1],
        user_counts(connection, BOB)["total_submissions"] - before[2],
    ] == [1, 1, 1]


def test_one_submission_is_recalculated_from_the_log(engine: Engine) -> None:
    execute(engine, CLAIM_WRITING, "UPDATE classroom.submission_counts SET runs = 70")
    said = command(engine, "rebuild", "classroom.submission_counts", "--key", "1")
    assert "1 key changed" in said
    stored = "SELECT submission_id, runs FROM classroom.submission_counts ORDER BY 1"
    assert rows(engine, stored) == [(1, 3), (2, 70)]
    rebuild(engine, submissions_tally)


def test_counts_that_are_wrong_are_put_right_from_the_log(engine: Engine) -> None:
    execute(
        engine,
        CLAIM_WRITING,
        "UPDATE classroom.submission_counts SET runs = 70 WHERE submission_id = 1",
    )
    assert verify(engine, submissions_tally).differing == 1
    rebuild(engine, submissions_tally)
    assert verify(engine, submissions_tally).ok


def test_counts_of_existing_data_are_filled_at_first(engine: Engine) -> None:
    stored = "SELECT submission_id, runs FROM classroom.submission_counts ORDER BY 1"
    assert rows(engine, stored) == [(1, 3), (2, 0)]


def test_all_submissions_are_recalculated_by_one_command(engine: Engine) -> None:
    assert "submission_counts" in command(engine, "rebuild", "classroom.submission_counts")


# Where the application meets them.


@differently("the application writes its rows and log as ever; triggers take the place of calls")
def test_edits_and_runs_and_feedback_and_logins_count_by_their_rows(
    connection: Connection,
) -> None:
    before = user_counts(connection, BOB)
    run(
        connection,
        event(2, 50, "File.Edit", subject=BOB),
        f"INSERT INTO classroom.login_events (user_id, at) VALUES (3, '{LATE}')",
    )
    after = user_counts(connection, BOB)
    assert after["last_edited"] == START + timedelta(seconds=50) != before["last_edited"]
    assert after["last_logged_in"] == LATE


def test_what_an_event_means_is_one_readable_table() -> None:
    assert "File.Edit" in events.EDITS


# The average without the history.


def test_the_average_is_exact_after_each_edit(connection: Connection) -> None:
    gaps: list[float] = []
    moment = 0.0
    for gap in (3, 8.5, 1, 120, 0):
        moment += gap
        gaps.append(gap)
        run(connection, event(2, moment, "File.Edit", subject=BOB))
        average = submission_counts(connection, 2)["average_edit_time"]
        assert average == pytest.approx(mean(gaps), abs=1e-9)


def test_the_average_stays_exact_where_an_edit_comes_late_or_is_deleted(
    connection: Connection,
) -> None:
    run(connection, *(event(2, at, "File.Edit", subject=BOB) for at in (10, 30)))
    run(connection, event(2, 4, "File.Edit", subject=BOB))
    assert submission_counts(connection, 2)["average_edit_time"] == 10
    run(
        connection,
        "DELETE FROM classroom.submission_log WHERE submission_id = 2 AND id IN"
        " (SELECT max(id) FROM classroom.submission_log)",
    )
    assert submission_counts(connection, 2)["average_edit_time"] == 15


# What it costs.


def test_counts_are_read_without_reading_the_log(engine: Engine) -> None:
    engine.dispose()
    with scans_of(engine, "submission_log") as scans, engine.begin() as reader:
        assert submission_counts(reader, 1)["runs"] == 3
    assert scans == [0]


def test_an_event_costs_its_own_submission_alone(engine: Engine) -> None:
    execute(engine, event(1, 8000, "Run.Program"))
    assert refresh(engine, submissions_tally).keys_changed == 1
    execute(engine, "DELETE FROM classroom.submission_log WHERE date_created > '2025-09-04 12:00Z'")
    refresh(engine, submissions_tally)


def test_counts_are_right_the_moment_an_event_is_committed(engine: Engine) -> None:
    execute(engine, event(1, 9000, "Run.Program"))
    with engine.connect() as connection:
        assert submission_counts(connection, 1)["runs"] == 4
    execute(engine, "DELETE FROM classroom.submission_log WHERE date_created > '2025-09-04 12:00Z'")


def test_the_counts_of_one_or_of_many_are_read_by_name(connection: Connection) -> None:
    counts = submission_counts(connection, [1, 2])
    assert (counts[1]["runs"], counts[2]["runs"]) == (3, 0)


def test_the_counts_are_read_over_http(client: Client) -> None:
    assert client.get("/api/submissions/1/counts").json()["runs"] == 3
    for kind in ("assignments", "courses", "users", "assignment-groups"):
        assert client.get(f"/api/{kind}/1/counts").status_code == 200


def test_the_counts_are_compared_with_the_log_every_hour() -> None:
    assert "matches_source" in checks_of("classroom/submission_counts")


# What the document calls future improvements.


def test_the_standard_deviation_of_edit_times_is_there(connection: Connection) -> None:
    gaps = [3, 8, 1, 120]
    moments = [sum(gaps[: n + 1]) for n in range(4)]
    run(connection, *(event(2, at, "File.Edit", subject=BOB) for at in moments))
    found = submission_counts(connection, 2)["edit_time_deviation"]
    assert found == pytest.approx(stdev(gaps))
    assert found == pytest.approx(sqrt(sum((g - 33) ** 2 for g in gaps) / 3))


def test_percentiles_of_edit_times_are_there(connection: Connection) -> None:
    moments = [sum(range(1, n + 1)) for n in range(1, 11)]
    run(connection, *(event(2, at, "File.Edit", subject=BOB) for at in moments))
    counts = submission_counts(connection, 2)
    assert (counts["median_edit_time"], counts["p90_edit_time"]) == (5, 9)


def test_daily_totals_are_kept(connection: Connection) -> None:
    run(connection, event(1, 86_400, "Run.Program"))
    query = "SELECT sum(runs) FROM classroom.submission_daily_activity_live WHERE course_id = 1"
    assert by_hand(connection, f"{query} AND day = '2025-09-05Z'") == [(1,)]


def test_daily_and_weekly_totals_are_read_by_programs_and_over_http(
    connection: Connection, client: Client
) -> None:
    first, last = date(2025, 9, 1), date(2025, 9, 30)
    for unit in ("day", "week"):
        asked = {"start": first.isoformat(), "end": last.isoformat(), "unit": unit}
        answer = client.get("/api/courses/1/activity", params=asked)
        assert answer.status_code == 200, answer.text
        found = activity(connection, 1, first, last, unit)
        assert found
        assert answer.json()["activity"] == found


def test_assignment_groups_have_counts(connection: Connection) -> None:
    assert assignment_group_counts(connection, 1) == {
        "total_assignments": 2,
        "total_submissions": 2,
    }
    run(connection, submit(assignment=2))
    assert assignment_group_counts(connection, 1)["total_submissions"] == 3


@differently("counted per user, day, week and month; of their use the document has no rows")
def test_reports_have_counts_of_their_own(connection: Connection, client: Client) -> None:
    run(connection, f"INSERT INTO classroom.reports (user_id, date_created) VALUES ({ANN}, now())")
    found = reports(connection, ANN, unit="month")
    assert found[-1]["reports"] == 1
    assert client.get("/api/reports", params={"unit": "week"}).json()["reports"] == []


def test_rows_of_the_log_may_be_deleted_without_changing_the_counts(
    postgres_servers: Servers,
) -> None:
    with kept(postgres_servers, "classroom") as engine:
        fill(engine)
        counts = "SELECT to_jsonb(v)::text FROM {} AS v ORDER BY 1"
        was = {t: rows(engine, counts.format(t.live_name)) for t in classroom.tallies}
        source, tallies = "classroom.submission_log", classroom.tallies
        done = prune(engine, source, LATE, tallies=tallies, by="date_created", freeze=True)
        assert done.rows == 4
        assert rows(engine, f"SELECT count(*) FROM {source}") == [(0,)]
        for tally in classroom.tallies:
            rebuild(engine, tally)
            assert rows(engine, counts.format(tally.live_name)) == was[tally]
            assert verify(engine, tally).ok
