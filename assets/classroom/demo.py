"""A made-up classroom: a term that is under way and one before it, of any size.

Generated inside the server. Invariants: the same seed on the same day (UTC) makes the same
work (of today, only what is past by now), nothing lies in the future, what is there already gets no
more, and only what was made up is ever changed. Made-up users and courses are known by their names.

Students begin late in the week that an exercise is for, come back on other days, and pause. Now
and then a client's clock is hours off, a teaching assistant is a student too, and who teaches one
course learns in another.
"""

from __future__ import annotations

from math import ceil
from typing import Any

from sqlalchemy import Connection, Engine, text

from assets.classroom import tables
from assets.classroom.tallies import submission_counts, submission_daily_activity
from tallykeeper.database.sql import name_of

EVENTS_A_SUBMISSION = 80
EXERCISES = 12
_STUDENTS_A_COURSE = 60
# Of these exercises so many are begun, by so many students a course (some are in two).
_BEGUN, _SEATS = 0.85, 1.25
_LARGEST = 50_000_000

_USERS = """
INSERT INTO {users} (name, date_created)
SELECT 'demo-' || to_char(n, 'FM00000'), date_trunc('day', now(), 'UTC') - interval '300 days'
FROM generate_series(1, CAST(:students AS integer) + 2 * CAST(:courses AS integer)) AS n
"""
# Every third course was held in the term before; the others are in their twelfth and last week.
_COURSES = """
INSERT INTO {courses} (name, date_created)
SELECT 'Demo: ' || (CAST('{{Python,Algorithms,Java,Databases,Statistics,Web}}' AS text[]))
    [1 + (n - 1) % 6] || ' ' || 1 + (n - 1) / 6,
  date_trunc('day', now(), 'UTC') - CASE WHEN n % 3 = 0 THEN 280 ELSE 80 END * interval '1 day'
FROM generate_series(1, CAST(:courses AS integer)) AS n
"""
_NUMBERED = """
CREATE TEMPORARY TABLE demo_courses ON COMMIT DROP AS
SELECT id, row_number() OVER (ORDER BY id) AS n, date_created AS began FROM {courses}
WHERE name LIKE 'Demo: %';
CREATE TEMPORARY TABLE demo_users ON COMMIT DROP AS
SELECT id, CAST(substr(name, 6) AS integer) AS n FROM {users} WHERE name ~ '^demo-[0-9]+$'
"""
_ROLES = """
INSERT INTO {roles} (user_id, course_id, name, date_created)
SELECT u.id, c.id, r.name, c.began + u.n % 9 * interval '3 hours'
FROM demo_users AS u CROSS JOIN LATERAL (
  SELECT 1 + u.n % :courses AS course,
    CASE WHEN u.n > :students THEN 'instructor' WHEN u.n % 10 = 0 THEN 'learner'
      ELSE 'student' END AS name
  UNION ALL
  SELECT 1 + (u.n + 1 + u.n / 20) % :courses, CASE WHEN u.n > :students THEN 'Learner'
    ELSE 'Student' END WHERE u.n % 4 = 0
  UNION ALL
  SELECT 1 + u.n % :courses, 'teachingassistant' WHERE u.n <= :students AND u.n % 20 = 1
) AS r JOIN demo_courses AS c ON c.n = r.course
"""
_ASSIGNMENTS = """
INSERT INTO {assignments} (course_id, name, date_created)
SELECT id, 'Demo: exercise ' || to_char(week, 'FM00'), began + (week - 1) * interval '7 days'
FROM demo_courses CROSS JOIN generate_series(1, :exercises) AS week ORDER BY id, week
"""
_GROUPS = """
INSERT INTO {assignment_groups} (course_id, name, date_created)
SELECT c.id, 'Demo: ' || g.name, c.began FROM demo_courses AS c
CROSS JOIN unnest(CAST('{{beginnings,structures,projects,for the exam}}' AS text[])) AS g (name)
"""
_MEMBERSHIPS = """
INSERT INTO {assignment_group_memberships} (assignment_group_id, assignment_id)
SELECT g.id, a.id FROM demo_courses AS c
JOIN {assignment_groups} AS g ON g.course_id = c.id JOIN {assignments} AS a ON a.course_id = c.id
CROSS JOIN LATERAL (SELECT CAST(right(a.name, 2) AS integer) AS week) AS w
WHERE CASE g.name WHEN 'Demo: beginnings' THEN week <= 4 WHEN 'Demo: structures'
  THEN week BETWEEN 5 AND 8 WHEN 'Demo: projects' THEN week > 8 ELSE week % 3 = 0 END
ORDER BY g.id, a.id
"""
# By the square root of chance, most are begun near the end of their week; from 8:00 to 22:00 UTC.
# None today, or what is drawn later would depend on the hour.
_SUBMISSIONS = """
INSERT INTO {submissions} (assignment_id, course_id, user_id, date_created)
SELECT assignment_id, course_id, user_id, at FROM (
  SELECT *, opened + floor(7 * sqrt(within)) * interval '1 day'
    + (8 + 14 * power(hour, 0.8)) * interval '1 hour' AS at
  FROM (
    SELECT *, random() AS begun, random() AS within, random() AS hour FROM (
      SELECT DISTINCT a.id AS assignment_id, a.course_id, r.user_id, a.date_created AS opened
      FROM demo_courses AS c JOIN {assignments} AS a ON a.course_id = c.id
      JOIN {roles} AS r ON r.course_id = c.id AND lower(r.name) IN ('student', 'learner')
      JOIN demo_users AS u ON u.id = r.user_id
      ORDER BY assignment_id, user_id
    ) AS asked
  ) AS drawn
  WHERE begun < :begun
) AS timed WHERE at < date_trunc('day', now(), 'UTC') ORDER BY at, assignment_id, user_id
"""
# How long each took, and how skilled who did it: by both, how much was done, and how much failed.
_WORK = """
CREATE TEMPORARY TABLE demo_work ON COMMIT DROP AS
WITH drawn AS MATERIALIZED (
  SELECT s.*, random() AS skill, -ln((1 - random()) * (1 - random())) AS amount FROM (
    SELECT s.* FROM {submissions} AS s JOIN demo_courses AS c ON c.id = s.course_id
    ORDER BY s.id
  ) AS s
), summed AS (
  SELECT *, sum(amount) OVER (ORDER BY id) / sum(amount) OVER () AS upto, amount
    / sum(amount) OVER () AS share
  FROM drawn
)
SELECT id, assignment_id, course_id, user_id, date_created AS at, skill,
  -- Some clients go wrong by seconds, and a few by hours.
  CASE WHEN user_id % 50 = 0 THEN interval '2 hours' ELSE user_id % 7 * interval '1 second' END
    AS off,
  CAST(round(upto * :events) - round((upto - share) * :events) AS integer) AS events
FROM summed
"""
_LOG = """
INSERT INTO {submission_log} (submission_id, assignment_id, course_id, subject_id, event_type,
  category, label, message, file_path, client_timestamp, date_created)
WITH drawn AS MATERIALIZED (
  SELECT w.*, k, random() AS pause, random() AS long, random() AS kind, random() AS outcome
  FROM demo_work AS w CROSS JOIN LATERAL generate_series(1, w.events) AS k
), timed AS (
  SELECT *, k = 1 OR pause < 0.012 AS begins, at + sum(CASE
      WHEN k = 1 THEN interval '0'
      WHEN pause < 0.012 THEN (20 + 8 * long) * interval '1 hour'
      WHEN pause < 0.05 THEN (5 + 20 * long) * interval '1 minute'
      ELSE -18 * ln(1 - long) * interval '1 second' END
    ) OVER (PARTITION BY id ORDER BY k) AS moment
  FROM drawn
), named AS (
  SELECT *, CASE WHEN begins THEN 'Session.Start' WHEN kind < 0.52 THEN 'File.Edit'
      WHEN kind < 0.74 THEN 'Run.Program' WHEN kind < 0.80 THEN 'Compile'
      WHEN kind < 0.82 + 0.05 * (1 - skill) THEN 'Compile.Error'
      WHEN kind < 0.92 THEN 'Intervention' WHEN kind < 0.96 THEN 'Submit'
      ELSE 'File.Open' END AS event_type,
    outcome < 0.15 + 0.3 * (1 - skill) AS fails
  FROM timed WHERE moment <= now()
)
SELECT id, assignment_id, course_id, user_id, event_type,
  CASE event_type WHEN 'Run.Program' THEN CASE WHEN NOT fails THEN 'Success'
      WHEN outcome < 0.02 THEN 'Timeout' WHEN outcome < 0.16 THEN 'Error' ELSE 'TestFailed' END
    WHEN 'Intervention' THEN CASE WHEN NOT fails THEN 'hint' WHEN outcome < 0.1 THEN 'syntax'
      WHEN outcome < 0.2 THEN 'runtime' ELSE 'instructor' END END,
  CASE WHEN event_type = 'Intervention' AND NOT fails THEN 'well_done' END,
  CASE WHEN event_type = 'Compile.Error' THEN 'SyntaxError: invalid syntax' END,
  CASE WHEN event_type LIKE 'File.%' THEN 'answer.py' END,
  date_trunc('milliseconds', moment + off), date_trunc('milliseconds', moment)
FROM named ORDER BY moment, id, k
"""
_LOGINS = """
INSERT INTO {login_events} (user_id, at)
SELECT DISTINCT l.subject_id, l.date_created - interval '20 seconds'
FROM {submission_log} AS l JOIN demo_users AS u ON u.id = l.subject_id
WHERE l.event_type = 'Session.Start' ORDER BY 2, 1
"""
_REPORTS = """
INSERT INTO {reports} (user_id, date_created)
SELECT id, now() - n % 90 * interval '1 day' FROM demo_users CROSS JOIN generate_series(1, 3)
WHERE n % 5 = 0
"""
_MAKE = (
    *(_ROLES, _ASSIGNMENTS, _GROUPS, _MEMBERSHIPS, _SUBMISSIONS),
    "ANALYZE {submissions}",
    _WORK,
    *(_LOG, _LOGINS, _REPORTS),
)

# What an hour and a few decisions change. Only what made-up users did in made-up courses is.
_CHOSEN = """
CREATE TEMPORARY TABLE demo_chosen ON COMMIT DROP AS
SELECT s.*, row_number() OVER (ORDER BY s.date_created DESC, s.id DESC) AS place
FROM {submissions} AS s JOIN demo_courses AS c ON c.id = s.course_id
JOIN demo_users AS u ON u.id = s.user_id
ORDER BY s.date_created DESC, s.id DESC LIMIT 200
"""
# Work of the last minutes, and of three days ago by clients that were offline until now.
_CONTINUED = """
INSERT INTO {submission_log} (submission_id, assignment_id, course_id, subject_id, event_type,
  category, date_created)
SELECT id, assignment_id, course_id, user_id,
  (CAST('{{File.Edit,Run.Program,File.Edit,Compile.Error,File.Edit,Submit}}' AS text[]))[k],
  CASE WHEN k = 2 THEN 'Error' END,
  now() - CASE WHEN place % 10 = 0 THEN interval '3 days' ELSE interval '0' END
    - (7 - k) * (10 + place % 30) * interval '1 second'
FROM demo_chosen CROSS JOIN generate_series(1, 6) AS k WHERE place <= 150
ORDER BY 7, 1
"""
_PROMOTED = """
UPDATE {roles} SET name = CASE WHEN id % 3 = 0 THEN 'instructor' ELSE 'learner' END
WHERE id IN (SELECT r.id FROM {roles} AS r JOIN demo_users AS u ON u.id = r.user_id
  JOIN demo_courses AS c ON c.id = r.course_id WHERE r.name = 'student' ORDER BY r.id LIMIT 6)
"""
_LEAVING = """
DELETE FROM {users} WHERE id = (SELECT s.user_id FROM demo_chosen AS s ORDER BY place DESC LIMIT 1)
"""
# The first exercise of the first course goes over to the last one, with all work on it.
_MOVED = """
WITH moved AS (
  UPDATE {assignments} SET course_id = (SELECT id FROM demo_courses ORDER BY n DESC LIMIT 1)
  WHERE id = (SELECT a.id FROM {assignments} AS a JOIN demo_courses AS c ON c.id = a.course_id
    ORDER BY c.n, a.id LIMIT 1)
  RETURNING id, course_id
)
UPDATE {submissions} AS s SET course_id = moved.course_id FROM moved
WHERE moved.id = s.assignment_id
"""
_CHANGE = (_CONTINUED, _PROMOTED, _MOVED, _LEAVING)

_SUMMARY = """
SELECT coalesce(sum(events), 0), coalesce(sum(edits), 0), coalesce(sum(runs), 0),
  coalesce(sum(attempts), 0),
  coalesce(sum(syntax_errors + runtime_errors + failed_instructor_tests), 0)
FROM {daily} WHERE day > now() - interval '7 days'
"""
_TYPICAL = """
SELECT coalesce(percentile_disc(0.5) WITHIN GROUP (ORDER BY time_spent_ms), 0) / 60000.0
FROM {counts}
"""


def create_demo(engine: Engine, events: int = 100_000, seed: float = 0.42) -> int:
    """Make up courses, users, and work with about `events` events; returns rows inserted.

    Where there are made-up courses already, nothing is added. A submission has 80 events, more or
    less; a course some 50 students. `seed` is PostgreSQL's, from -1 to 1. Raises ValueError where a
    number makes no sense.
    """
    if not 0 <= events <= _LARGEST or not -1 <= seed <= 1:
        raise ValueError(
            f"Expected 0 to {_LARGEST:,} events and a seed from -1 to 1, "
            f"but it is {events} events, seed {seed}."
        )
    seats = events / EVENTS_A_SUBMISSION / EXERCISES / _BEGUN
    numbers = {
        "students": ceil(seats / _SEATS),
        "courses": max(3, ceil(seats / _STUDENTS_A_COURSE)),
    }
    with engine.begin() as connection:
        there = f"SELECT EXISTS (SELECT FROM {name_of(tables.courses)} WHERE name LIKE 'Demo: %')"
        if not events or connection.scalar(text(there)):
            return 0
        _begin(connection, seed)
        done = _execute(connection, _USERS, **numbers)
        done += _execute(connection, _COURSES, courses=numbers["courses"])
        _number(connection)
        drawn = {**numbers, "events": events, "begun": _BEGUN, "exercises": EXERCISES}
        return done + sum(_execute(connection, each, **drawn) for each in _MAKE)


def change_demo(engine: Engine) -> int:
    """Let an hour go by in a made-up classroom; returns how many rows of the sources changed.

    Work goes on, some comes three days late; roles change, an exercise moves to another course, and
    a user leaves with all work (only the user is counted).
    """
    with engine.begin() as connection:
        _begin(connection, 0.0)
        _number(connection)
        _execute(connection, _CHOSEN)
        return sum(_execute(connection, statement) for statement in _CHANGE)


def summary(engine: Engine) -> list[str]:
    """What the last seven days brought, and how long a submission takes, in a line."""
    with engine.connect() as connection:
        week = _SUMMARY.format(daily=submission_daily_activity.live_name)
        found = connection.execute(text(week)).one()
        typical = connection.scalar(text(_TYPICAL.format(counts=submission_counts.live_name)))
    events, edits, runs, attempts, errors = (int(n) for n in found)
    return [
        f"Classroom, the last 7 days: {events:,} events ({edits:,} edits, {runs:,} runs,"
        f" {attempts:,} attempts), {errors:,} errors; half of all submissions took"
        f" {float(typical or 0):,.0f} minutes or less"
    ]


def _begin(connection: Connection, seed: float) -> None:
    connection.execute(text("SET LOCAL TIME ZONE 'UTC'"))
    connection.execute(text("SELECT setseed(:seed)"), {"seed": seed})


def _number(connection: Connection) -> None:
    for statement in _NUMBERED.split(";"):
        _execute(connection, statement)


def _execute(connection: Connection, statement: str, **values: Any) -> int:
    """Run a statement with the tables' names in it; returns how many rows it wrote, 0 for DDL."""
    names = {table.name: name_of(table) for table in tables.metadata.tables.values()}
    query = text(statement.format(**names))
    wanted = {name: values[name] for name in query.compile().params}
    done = connection.execute(query, wanted).rowcount
    return done if statement.lstrip().startswith(("INSERT", "UPDATE", "DELETE", "WITH")) else 0
