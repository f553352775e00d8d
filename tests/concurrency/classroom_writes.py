"""Every way to write courses, roles, assignments, submissions and the log, few of each.

Events come late and out of order, several at one instant; assignments and submissions move between
courses; users have several roles; courses go with all that belongs to them, or as a replica has it,
without, and leave rows behind that refer to nothing. Invariants: no statement raises but
what `writers.COLLISIONS` names.
"""

from __future__ import annotations

import random

from tests.concurrency.writers import Cursor, Operation

USERS, COURSES, ASSIGNMENTS, GROUPS, SUBMISSIONS = 6, 4, 8, 4, 12
ROLES, MEMBERSHIPS, EVENTS = 30, 20, 120
NAMES = ("student", "Learner", "learner", "instructor", "INSTRUCTOR", "grader")
EVENT_TYPES = (
    *("File.Edit", "edit", "Run.Program", "run", "X-run", "Run", "Submit", "X-Submission.LMS"),
    *("feedback", "Intervention", "Compile.Error", "Session.Start", "file.edit"),
)
CATEGORIES = (
    *(None, "", "Syntax", "runtime", "Instructor", "unit_test", "Error", "timeout", "TestFailed"),
    *("Success", "mistake", "ProgramErrorOutput"),
)
ENDS_OF_TIME = ("infinity", "-infinity", "0044-03-15 12:00:00Z BC", "250000-01-01 00:00:00Z")
DAYS = 6

Event = tuple[int, int, int, int, str, str | None, str | None, str]
EVENT_COLUMNS = (
    "id, submission_id, course_id, subject_id, event_type, category, label, date_created"
)
EVENT_ARRAYS = (
    "unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::text[], %s::text[],"
    f" %s::text[], %s::timestamptz[]) AS e ({EVENT_COLUMNS})"
)


def insert_users(cursor: Cursor, rng: random.Random) -> None:
    _insert_ids(cursor, "users", rng.sample(range(1, USERS + 1), 3))


def rename_users(cursor: Cursor, rng: random.Random) -> None:
    cursor.execute(f"UPDATE classroom.users SET name = 'another' WHERE {_some(rng)}")


def delete_user(cursor: Cursor, rng: random.Random) -> None:
    cursor.execute("DELETE FROM classroom.users WHERE id = %s", [_user(rng)])


def insert_courses(cursor: Cursor, rng: random.Random) -> None:
    _insert_ids(cursor, "courses", rng.sample(range(1, COURSES + 1), 2))


def delete_course(cursor: Cursor, rng: random.Random) -> None:
    """Cascades to all that belongs to it."""
    cursor.execute("DELETE FROM classroom.courses WHERE id = %s", [_course(rng)])


def give_roles(cursor: Cursor, rng: random.Random) -> None:
    for _ in range(rng.randint(1, 3)):
        cursor.execute(
            "INSERT INTO classroom.roles (id, user_id, course_id, name, date_created)"
            " VALUES (%s, %s, %s, %s, %s) ON CONFLICT (id) DO UPDATE"
            " SET name = excluded.name, user_id = excluded.user_id",
            [rng.randint(1, ROLES), _user(rng), _course(rng), rng.choice(NAMES), _instant(rng)],
        )


def change_roles(cursor: Cursor, rng: random.Random) -> None:
    cursor.execute(f"UPDATE classroom.roles SET name = %s WHERE {_some(rng)}", [rng.choice(NAMES)])


def move_roles(cursor: Cursor, rng: random.Random) -> None:
    column, value = rng.choice((("course_id", _course(rng)), ("user_id", _user(rng))))
    cursor.execute(f"UPDATE classroom.roles SET {column} = %s WHERE {_some(rng)}", [value])


def take_roles(cursor: Cursor, rng: random.Random) -> None:
    cursor.execute(f"DELETE FROM classroom.roles WHERE {_some(rng)}")


def insert_assignments(cursor: Cursor, rng: random.Random) -> None:
    _insert_of_courses(cursor, rng, "assignments", ASSIGNMENTS)


def move_assignments(cursor: Cursor, rng: random.Random) -> None:
    cursor.execute(
        f"UPDATE classroom.assignments SET course_id = %s WHERE {_some(rng, 4)}", [_course(rng)]
    )


def move_assignment_with_submissions(cursor: Cursor, rng: random.Random) -> None:
    assignment, course = rng.randint(1, ASSIGNMENTS), _course(rng)
    cursor.execute(
        "UPDATE classroom.assignments SET course_id = %s WHERE id = %s", [course, assignment]
    )
    cursor.execute(
        "UPDATE classroom.submissions SET course_id = %s WHERE assignment_id = %s",
        [course, assignment],
    )


def date_assignments(cursor: Cursor, rng: random.Random) -> None:
    cursor.execute(
        f"UPDATE classroom.assignments SET date_created = %s, name = 'dated' WHERE {_some(rng)}",
        [_instant(rng)],
    )


def rename_assignments(cursor: Cursor, rng: random.Random) -> None:
    cursor.execute(f"UPDATE classroom.assignments SET name = 'another' WHERE {_some(rng)}")


def delete_assignment(cursor: Cursor, rng: random.Random) -> None:
    """Cascades to its submissions, their events, and its places in groups."""
    cursor.execute("DELETE FROM classroom.assignments WHERE id = %s", [rng.randint(1, ASSIGNMENTS)])


def insert_groups(cursor: Cursor, rng: random.Random) -> None:
    _insert_of_courses(cursor, rng, "assignment_groups", GROUPS)


def move_groups(cursor: Cursor, rng: random.Random) -> None:
    cursor.execute(
        f"UPDATE classroom.assignment_groups SET course_id = %s WHERE {_some(rng, 3)}",
        [_course(rng)],
    )


def delete_group(cursor: Cursor, rng: random.Random) -> None:
    cursor.execute(
        "DELETE FROM classroom.assignment_groups WHERE id = %s", [rng.randint(1, GROUPS)]
    )


def put_into_groups(cursor: Cursor, rng: random.Random) -> None:
    """The same assignment perhaps twice."""
    cursor.execute(
        "INSERT INTO classroom.assignment_group_memberships (id, assignment_group_id,"
        " assignment_id) SELECT %s, g.id, a.id FROM classroom.assignment_groups AS g,"
        " classroom.assignments AS a ORDER BY random() LIMIT 1"
        " ON CONFLICT (id) DO UPDATE SET assignment_id = excluded.assignment_id",
        [rng.randint(1, MEMBERSHIPS)],
    )


def move_memberships(cursor: Cursor, rng: random.Random) -> None:
    cursor.execute(
        "UPDATE classroom.assignment_group_memberships SET assignment_group_id = %s"
        f" WHERE {_some(rng, 4)}",
        [rng.randint(1, GROUPS)],
    )


def take_from_groups(cursor: Cursor, rng: random.Random) -> None:
    cursor.execute(
        f"DELETE FROM classroom.assignment_group_memberships WHERE {_some(rng)}",
    )


def insert_submissions(cursor: Cursor, rng: random.Random) -> None:
    for _ in range(rng.randint(1, 3)):
        cursor.execute(
            "INSERT INTO classroom.submissions (id, assignment_id, course_id, user_id,"
            " date_created) SELECT %s, a.id, a.course_id, u.id, %s FROM classroom.assignments AS a,"
            " classroom.users AS u ORDER BY random() LIMIT 1 ON CONFLICT DO NOTHING",
            [rng.randint(1, SUBMISSIONS), _instant(rng)],
        )


def move_submissions(cursor: Cursor, rng: random.Random) -> None:
    column, value = rng.choice(
        (
            ("assignment_id", rng.randint(1, ASSIGNMENTS)),
            ("course_id", _course(rng)),
            ("user_id", _user(rng)),
        )
    )
    cursor.execute(f"UPDATE classroom.submissions SET {column} = %s WHERE {_some(rng, 4)}", [value])


def date_submissions(cursor: Cursor, rng: random.Random) -> None:
    cursor.execute(
        f"UPDATE classroom.submissions SET date_created = %s WHERE {_some(rng, 4)}", [_instant(rng)]
    )


def number_submission_anew(cursor: Cursor, rng: random.Random) -> None:
    """Refused while it has events."""
    cursor.execute(
        "UPDATE classroom.submissions SET id = %s WHERE id = %s",
        [rng.randint(1, SUBMISSIONS), rng.randint(1, SUBMISSIONS)],
    )


def delete_submission(cursor: Cursor, rng: random.Random) -> None:
    """Cascades to its events."""
    cursor.execute("DELETE FROM classroom.submissions WHERE id = %s", [rng.randint(1, SUBMISSIONS)])


def insert_reports(cursor: Cursor, rng: random.Random) -> None:
    cursor.execute(
        "INSERT INTO classroom.reports (user_id, date_created)"
        " SELECT id, timestamptz '2025-03-01Z' + random() * interval '3 days' FROM classroom.users"
        f" WHERE {_some(rng, 2)}"
    )


def hand_reports_over(cursor: Cursor, rng: random.Random) -> None:
    cursor.execute(f"UPDATE classroom.reports SET user_id = %s WHERE {_some(rng, 3)}", [_user(rng)])


def date_reports(cursor: Cursor, rng: random.Random) -> None:
    cursor.execute(
        f"UPDATE classroom.reports SET date_created = %s WHERE {_some(rng, 3)}", [_instant(rng)]
    )


def delete_reports(cursor: Cursor, rng: random.Random) -> None:
    cursor.execute(f"DELETE FROM classroom.reports WHERE {_some(rng, 3)}")


def log_in(cursor: Cursor, rng: random.Random) -> None:
    user = _user(rng)
    with cursor.copy("COPY classroom.login_events (user_id, at) FROM STDIN") as copy:
        for _ in range(rng.randint(1, 3)):
            copy.write_row((user, _instant(rng)))


def delete_logins(cursor: Cursor, rng: random.Random) -> None:
    cursor.execute(f"DELETE FROM classroom.login_events WHERE {_some(rng, 2)}")


def log_event(cursor: Cursor, rng: random.Random) -> None:
    _log(cursor, [_event(rng)], "")


def log_events(cursor: Cursor, rng: random.Random) -> None:
    """In no order, and some of them twice."""
    _log(cursor, _events(rng), " ON CONFLICT DO NOTHING")


def log_again(cursor: Cursor, rng: random.Random) -> None:
    _log(
        cursor,
        list({event[0]: event for event in _events(rng)}.values()),
        " ON CONFLICT (id) DO UPDATE SET date_created = excluded.date_created,"
        " submission_id = excluded.submission_id, event_type = excluded.event_type",
    )


def copy_events(cursor: Cursor, rng: random.Random) -> None:
    submission = rng.randint(1, SUBMISSIONS)
    with cursor.copy(f"COPY classroom.submission_log ({EVENT_COLUMNS}) FROM STDIN") as copy:
        for _ in range(rng.randint(1, 5)):
            # Beyond the usual ids, or every COPY would collide.
            event = _event(rng)
            copy.write_row((1000 + rng.getrandbits(40), submission, *event[2:]))


def merge_events(cursor: Cursor, rng: random.Random) -> None:
    events = list({event[0]: event for event in _events(rng)}.values())
    values = ", ".join(f"e.{name}" for name in EVENT_COLUMNS.split(", "))
    cursor.execute(
        f"MERGE INTO classroom.submission_log AS l USING {EVENT_ARRAYS} ON l.id = e.id"
        f" WHEN MATCHED AND mod(l.id, 3) = {rng.randrange(3)} THEN DELETE"
        " WHEN MATCHED THEN UPDATE SET event_type = e.event_type, date_created = e.date_created"
        f" WHEN NOT MATCHED THEN INSERT ({EVENT_COLUMNS}) VALUES ({values})",
        _columns(events),
    )


def change_events(cursor: Cursor, rng: random.Random) -> None:
    column, value = rng.choice(
        (
            ("event_type", rng.choice(EVENT_TYPES)),
            ("category", rng.choice(CATEGORIES)),
            ("label", rng.choice(CATEGORIES)),
            ("subject_id", _user(rng)),
            ("course_id", _course(rng)),
        )
    )
    cursor.execute(f"UPDATE classroom.submission_log SET {column} = %s WHERE {_some(rng)}", [value])


def change_messages(cursor: Cursor, rng: random.Random) -> None:
    cursor.execute(
        "UPDATE classroom.submission_log SET message = 'another', client_timestamp = now()"
        f" WHERE {_some(rng)}"
    )


def move_events(cursor: Cursor, rng: random.Random) -> None:
    cursor.execute(
        f"UPDATE classroom.submission_log SET date_created = date_created + interval '90.0007 s'"
        f" WHERE {_some(rng)} AND date_created < '2030-01-01Z' AND isfinite(date_created)"
    )


def hand_events_over(cursor: Cursor, rng: random.Random) -> None:
    cursor.execute(
        f"UPDATE classroom.submission_log SET submission_id = %s WHERE {_some(rng)}",
        [rng.randint(1, SUBMISSIONS)],
    )


def delete_events(cursor: Cursor, rng: random.Random) -> None:
    cursor.execute(f"DELETE FROM classroom.submission_log WHERE {_some(rng)}")


def truncate(cursor: Cursor, rng: random.Random) -> None:
    alone = ("submission_log", "roles", "login_events", "reports")
    names = (*alone, "submissions CASCADE", "users CASCADE")
    cursor.execute(f"TRUNCATE classroom.{rng.choice(names)}")


OPERATIONS = tuple(
    Operation(run.__name__.replace("_", " "), weight, run)
    for weight, run in (
        (5, insert_users),
        (0.5, rename_users),
        (0.7, delete_user),
        (5, insert_courses),
        (0.7, delete_course),
        (7, give_roles),
        (2, change_roles),
        (2, move_roles),
        (1.5, take_roles),
        (7, insert_assignments),
        (3, move_assignments),
        (2, move_assignment_with_submissions),
        (1, date_assignments),
        (0.5, rename_assignments),
        (1, delete_assignment),
        (4, insert_groups),
        (1.5, move_groups),
        (0.7, delete_group),
        (4, put_into_groups),
        (1.5, move_memberships),
        (1, take_from_groups),
        (9, insert_submissions),
        (3, move_submissions),
        (1, date_submissions),
        (0.7, number_submission_anew),
        (1, delete_submission),
        (2, insert_reports),
        (1, hand_reports_over),
        (1, date_reports),
        (0.7, delete_reports),
        (2, log_in),
        (0.7, delete_logins),
        (6, log_event),
        (9, log_events),
        (3, log_again),
        (2, copy_events),
        (2, merge_events),
        (4, change_events),
        (0.7, change_messages),
        (3, move_events),
        (2, hand_events_over),
        (2, delete_events),
        (0.15, truncate),
    )
)


def _insert_ids(cursor: Cursor, table: str, ids: list[int]) -> None:
    cursor.execute(
        f"INSERT INTO classroom.{table} (id) SELECT unnest(%s::bigint[]) ON CONFLICT DO NOTHING",
        [ids],
    )


def _insert_of_courses(cursor: Cursor, rng: random.Random, table: str, most: int) -> None:
    for _ in range(rng.randint(1, 3)):
        cursor.execute(
            f"INSERT INTO classroom.{table} (id, course_id, date_created) VALUES (%s, %s, %s)"
            " ON CONFLICT DO NOTHING",
            [rng.randint(1, most), _course(rng), _instant(rng)],
        )


def _log(cursor: Cursor, events: list[Event], conflict: str) -> None:
    cursor.execute(
        f"INSERT INTO classroom.submission_log ({EVENT_COLUMNS}) SELECT * FROM"
        f" {EVENT_ARRAYS}{conflict}",
        _columns(events),
    )


def _events(rng: random.Random) -> list[Event]:
    submission = rng.randint(1, SUBMISSIONS)
    events = [_event(rng) for _ in range(rng.randint(1, 6))]
    return [(id_, submission, *rest) for id_, _, *rest in events]  # type: ignore[misc]


def _event(rng: random.Random) -> Event:
    return (
        rng.randint(1, EVENTS),
        rng.randint(1, SUBMISSIONS),
        _course(rng),
        _user(rng),
        rng.choice(EVENT_TYPES),
        rng.choice(CATEGORIES),
        rng.choice(CATEGORIES),
        _instant(rng, ends=True),
    )


def _columns(events: list[Event]) -> list[list[object]]:
    return [list(column) for column in zip(*events, strict=True)]


def _instant(rng: random.Random, *, ends: bool = False) -> str:
    """Some of them the same, some apart by less than a millisecond."""
    if ends and rng.random() < 0.02:
        return rng.choice(ENDS_OF_TIME)
    minute, micros = rng.choice((0, 3, 4, 17)), rng.choice((0, 0, 400, 999_600, 250_123))
    day = 1 + rng.randrange(DAYS)
    return f"2024-03-{day:02} {rng.choice((9, 23))}:{minute:02}:{rng.randrange(3)}0.{micros:06}Z"


def _some(rng: random.Random, of: int = 6) -> str:
    """A condition that holds for about one row in `of`."""
    return f"mod(id, {of}) = {rng.randrange(of)}"


def _user(rng: random.Random) -> int:
    return rng.randint(1, USERS)


def _course(rng: random.Random) -> int:
    return rng.randint(1, COURSES)
