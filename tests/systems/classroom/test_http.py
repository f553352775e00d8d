"""The classroom over HTTP, each answer against SQL over its tables, right after a write."""

from __future__ import annotations

from datetime import datetime

import pytest
from sqlalchemy import Engine

from assets.classroom.tallies import system
from tallykeeper import refresh
from tallykeeper.http.app import create_app
from tests.integration.serving_client import Client
from tests.integration.support import create, execute, rows

EVENTS = (
    "INSERT INTO classroom.submission_log (submission_id, course_id, subject_id, event_type,"
    " date_created) SELECT 1 + n % 2, 1, 1, (ARRAY['run', 'edit', 'run'])[1 + n % 3],"
    " timestamptz '2025-03-03 10:00Z' + n * interval '20 s' FROM generate_series({}, {}) AS n"
)
MOST = "SELECT {} FROM classroom.{} WHERE {} = 1"


@pytest.fixture
def classroom(engine: Engine) -> Engine:
    """Built, and written to since."""
    create(engine, system)
    execute(
        engine,
        "INSERT INTO classroom.users (id) VALUES (1), (2)",
        "INSERT INTO classroom.courses (id) VALUES (1)",
        "INSERT INTO classroom.roles (user_id, course_id, name, date_created)"
        " VALUES (1, 1, 'student', '2025-01-01Z')",
        "INSERT INTO classroom.assignments (id, course_id) VALUES (1, 1), (2, 1)",
        "INSERT INTO classroom.submissions (id, assignment_id, course_id, user_id, date_created)"
        " VALUES (1, 1, 1, 1, '2025-03-03Z'), (2, 1, 1, 1, '2025-03-04Z')",
        EVENTS.format(1, 30),
    )
    for tally in system.tallies:
        refresh(engine, tally)
    execute(
        engine,
        EVENTS.format(31, 40),
        "INSERT INTO classroom.submissions (id, assignment_id, course_id, user_id, date_created)"
        " VALUES (3, 2, 1, 2, '2025-03-05Z')",
        "INSERT INTO classroom.roles (user_id, course_id, name, date_created)"
        " VALUES (2, 1, 'instructor', '2025-01-02Z')",
    )
    return engine


@pytest.fixture
def client(classroom: Engine) -> Client:
    return Client(create_app(classroom, ["classroom"]))


def test_counts_of_a_submission_are_those_of_its_events(classroom: Engine, client: Client) -> None:
    body = client.get("/api/submissions/1/counts").json()
    query = (
        "SELECT count(*) FILTER (WHERE event_type = 'run'),"
        " count(*) FILTER (WHERE event_type = 'edit') FROM classroom.submission_log"
        " WHERE submission_id = 1"
    )
    assert [(body["runs"], body["edits"])] == rows(classroom, query)
    # Of events 40 s apart, each gap counts.
    assert body["estimated_time_spent"] == 40.0 * 19
    assert "as_of" in body


def test_counts_of_the_others_are_those_of_their_rows(classroom: Engine, client: Client) -> None:
    (submissions, last) = rows(
        classroom,
        MOST.format("count(*), max(date_created)", "submissions", "assignment_id"),
    )[0]
    body = client.get("/api/assignments/1/counts").json()
    assert body["total_submissions"] == submissions
    assert datetime.fromisoformat(body["date_last_submission"]) == last
    course = client.get("/api/courses/1/counts").json()
    assert rows(classroom, MOST.format("count(*)", "submissions", "course_id")) == [
        (course["total_submissions"],)
    ]
    assert (course["total_users"], course["total_students"], course["total_instructors"]) == (
        2,
        1,
        1,
    )
    user = client.get("/api/users/1/counts").json()
    assert rows(classroom, MOST.format("count(*)", "submissions", "user_id")) == [
        (user["total_submissions"],)
    ]
    group = client.get("/api/assignment-groups/1/counts").json()
    assert (group["total_assignments"], group["total_submissions"]) == (0, 0)


def test_several_come_by_id_in_the_order_asked(client: Client) -> None:
    for entity in ("submissions", "assignments", "assignment-groups", "courses", "users"):
        body = client.get(f"/api/{entity}/counts?ids=3,404&ids=1").json()
        assert list(body) == ["counts", "as_of"]
        assert list(body["counts"]) == ["3", "404", "1"]
        for number, counts in body["counts"].items():
            one = client.get(f"/api/{entity}/{number}/counts").json()
            del one["as_of"]
            assert counts == one
        assert set(body["counts"]["404"].values()) <= {0, None}


NO_IDS = [
    "/api/submissions/counts",
    "/api/submissions/counts?ids=",
    "/api/submissions/counts?ids=1,,2",
    "/api/submissions/counts?ids=1.5",
    "/api/submissions/counts?ids=%00",
    "/api/submissions/counts?ids=9223372036854775808",
    "/api/submissions/counts?ids=" + ",".join(["1"] * 1001),
    "/api/submissions/counts?ids=²",
    "/api/submissions/9223372036854775808/counts",
    "/api/submissions/one/counts",
    "/api/submissions/" + "9" * 5000 + "/counts",
    "/api/submissions/1/counts?ids=1",
]


def test_what_is_no_id_is_a_problem(client: Client) -> None:
    for address in NO_IDS:
        answer = client.get(address)
        assert answer.status_code == 422, (address[:60], answer.text)
        assert answer.json()["status"] == 422
