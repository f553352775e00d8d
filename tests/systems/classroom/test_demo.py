"""The made-up classroom: as large as wished, made once, nothing in the future, changed like one."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine

from assets.classroom import tables
from assets.classroom.demo import change_demo, create_demo, summary
from assets.classroom.tallies import system
from tallykeeper import refresh, verify
from tests.integration.support import create, execute, rows, scalar

SOURCES = [table.name for table in system.sources]
SMALL = 12_000


@pytest.fixture
def classroom(engine: Engine) -> Engine:
    """A database with an empty classroom and its capture."""
    create(engine, system)
    return engine


def contents(engine: Engine) -> dict[str, list[tuple[Any, ...]]]:
    """Everything in the sources."""
    return {name: rows(engine, f"SELECT * FROM classroom.{name} ORDER BY id") for name in SOURCES}


def check_tallies(engine: Engine) -> None:
    for tally in system.tallies:
        refresh(engine, tally)
        assert verify(engine, tally).ok


def test_the_demo_classroom_is_as_large_as_wished_and_ends_today(classroom: Engine) -> None:
    made = create_demo(classroom, SMALL)
    assert made == sum(len(each) for each in contents(classroom).values())
    events = scalar(classroom, "SELECT count(*) FROM classroom.submission_log")
    assert 0.95 * SMALL < events <= SMALL
    submissions = scalar(classroom, "SELECT count(*) FROM classroom.submissions")
    assert 65 < events / submissions < 110
    assert scalar(
        classroom,
        "SELECT max(date_created) BETWEEN now() - interval '2 days' AND now()"
        " FROM classroom.submission_log",
    )
    check_tallies(classroom)


def test_work_is_of_all_kinds_with_pauses_and_comes_back_on_other_days(classroom: Engine) -> None:
    create_demo(classroom, SMALL)
    check_tallies(classroom)
    total = ", ".join(f"sum({name})" for name in tables.submission_counts.c.keys()[4:10])
    (found,) = rows(classroom, f"SELECT {total} FROM classroom.submission_counts")
    assert all(n > SMALL / 200 for n in found)
    assert scalar(
        classroom,
        "SELECT bool_and(idle BETWEEN 0.01 AND 0.1) AND count(*) = 1 FROM (SELECT avg((gap >"
        " interval '5 minutes')::int) AS idle FROM (SELECT date_created - lag(date_created) OVER"
        " (PARTITION BY submission_id ORDER BY date_created, id) AS gap"
        " FROM classroom.submission_log) AS gaps) AS counted",
    )
    several_days = (
        "SELECT count(*) FROM (SELECT FROM classroom.submission_log GROUP BY submission_id"
        " HAVING count(DISTINCT date_created::date) > 1) AS s"
    )
    assert scalar(classroom, several_days) > 20
    several_roles = (
        "SELECT count(*) FROM (SELECT FROM classroom.roles GROUP BY user_id, course_id"
        " HAVING count(*) > 1) AS r"
    )
    assert scalar(classroom, several_roles) > 0


def test_the_demo_classroom_is_made_up_once_and_alike(classroom: Engine) -> None:
    create_demo(classroom, 5000)
    first = contents(classroom)
    assert create_demo(classroom, 5000) == 0
    assert contents(classroom) == first
    restart = "TRUNCATE classroom.users, classroom.courses RESTART IDENTITY CASCADE"
    execute(classroom, restart)
    create_demo(classroom, 5000)
    again = contents(classroom)
    of_log = len(first["submission_log"])
    assert of_log > 4000
    # More of today may be past by now.
    assert again["submission_log"][:of_log] == first["submission_log"]
    for name in ("users", "courses", "roles", "assignments", "submissions"):
        assert again[name] == first[name]
    execute(classroom, restart)
    create_demo(classroom, 5000, seed=0.1)
    assert contents(classroom)["submission_log"] != again["submission_log"]


def test_what_was_there_before_stays_and_is_never_changed(classroom: Engine) -> None:
    execute(
        classroom,
        "INSERT INTO classroom.users (name) VALUES ('ann'), (NULL), ('demo-of-mine')",
        "INSERT INTO classroom.courses (name) VALUES ('Demonology'), (NULL)",
        "INSERT INTO classroom.roles (user_id, course_id, name)"
        " SELECT u.id, c.id, 'student' FROM classroom.users AS u, classroom.courses AS c",
        "INSERT INTO classroom.assignments (course_id) SELECT id FROM classroom.courses",
        "INSERT INTO classroom.submissions (assignment_id, course_id, user_id)"
        " SELECT a.id, course_id, u.id FROM classroom.assignments AS a, classroom.users AS u",
        "INSERT INTO classroom.submission_log (submission_id, course_id, subject_id, event_type)"
        " SELECT id, course_id, user_id, 'Run' FROM classroom.submissions",
    )
    before = contents(classroom)
    create_demo(classroom, 5000)
    for _ in range(3):
        assert change_demo(classroom) > 0
    after = contents(classroom)
    for name, there in before.items():
        assert set(map(repr, there)) <= set(map(repr, after[name]))
    check_tallies(classroom)


def test_changes_touch_work_roles_assignments_and_users(classroom: Engine) -> None:
    create_demo(classroom, SMALL)
    check_tallies(classroom)
    before = contents(classroom)
    assert change_demo(classroom) > 300
    after = contents(classroom)
    assert len(before["users"]) - len(after["users"]) == 1
    old, new = (
        dict(zip((r[0] for r in c["roles"]), c["roles"], strict=True)) for c in (before, after)
    )
    assert sum(old[n][3] != new[n][3] for n in old.keys() & new.keys()) >= 5
    moved = {a[0]: a[1] for a in before["assignments"]}
    assert sum(moved[a[0]] != a[1] for a in after["assignments"]) <= 1
    added = {event[0] for event in after["submission_log"]} - {
        e[0] for e in before["submission_log"]
    }
    late = [e for e in after["submission_log"] if e[0] in added]
    assert len({e[-1].date() for e in late}) > 1, "some of it is late"
    check_tallies(classroom)
    future = "SELECT count(*) FROM classroom.submission_log WHERE date_created > now()"
    assert scalar(classroom, future) == 0


def test_the_summary_tells_the_last_week(classroom: Engine) -> None:
    create_demo(classroom, SMALL)
    (line,) = summary(classroom)
    edits = scalar(
        classroom,
        "SELECT count(*) FROM classroom.submission_log WHERE event_type = 'File.Edit' AND"
        " date_trunc('day', date_created, 'UTC') > now() - interval '7 days'",
    )
    assert line.startswith("Classroom, the last 7 days: ")
    assert f"({edits:,} edits, " in line


def test_changing_and_summing_up_a_classroom_without_anything_made_up(classroom: Engine) -> None:
    assert create_demo(classroom, 0) == 0
    assert change_demo(classroom) == 0
    (line,) = summary(classroom)
    assert "0 events" in line


@pytest.mark.parametrize(("events", "seed"), [(-1, 0.0), (60_000_000, 0.0), (1, 1.5)])
def test_a_demo_of_impossible_size_is_reported(classroom: Engine, events: int, seed: float) -> None:
    with pytest.raises(ValueError, match="Expected 0 to 50,000,000 events and a seed"):
        create_demo(classroom, events, seed)
