"""A classroom of a given size in a database of its own: courses and their log, made in the server.

A submission has 80 events in three sessions of three days. 250 submissions begin on a day, in turn
in 25 courses of 50 students; these courses are over after 50 days, and 25 others begin. So a bigger
size is a longer history, and a day, a course and a submission are the same at every size.
"""

from __future__ import annotations

from sqlalchemy import Engine, Table

import tallykeeper
from assets.classroom import tables
from assets.classroom.tallies import system
from benchmarks.progress import announce
from benchmarks.report import count
from benchmarks.server import Server, execute, vacuum
from tallykeeper.catalog import state
from tallykeeper.database import sql

EVENTS_EACH, BEGUN_A_DAY = 80, 250
COURSES_AT_A_TIME, STUDENTS, ASSIGNMENTS = 25, 50, 10
# Who was at work recently, and of those how many a change concerns, beside some of all times.
ACTIVE = 10_000

LOG, SUBMISSIONS = (sql.name_of(t) for t in (tables.submission_log, tables.submissions))
_FOREIGN_KEY = "submission_log_submission_id_fkey"

_A_TERM = COURSES_AT_A_TIME * STUDENTS * ASSIGNMENTS
# Of the submission i: its course, and its place among those of that course.
_COURSE = f"((i - 1) / {_A_TERM} * {COURSES_AT_A_TIME} + i % {COURSES_AT_A_TIME} + 1)"
_PLACE = f"((i - 1) % {_A_TERM} / {COURSES_AT_A_TIME})"
_KINDS = """CASE WHEN k % 27 = 1 THEN 'Session.Start' WHEN kind < 0.52 THEN 'File.Edit'
    WHEN kind < 0.74 THEN 'Run.Program' WHEN kind < 0.80 THEN 'Compile'
    WHEN kind < 0.84 THEN 'Compile.Error' WHEN kind < 0.92 THEN 'Intervention'
    WHEN kind < 0.96 THEN 'Submit' ELSE 'File.Open' END"""


class Classroom:
    """A classroom with about `events` rows in its log up to now; all tallies installed, built."""

    def __init__(self, server: Server, events: int) -> None:
        self.events = events
        self.submissions = max(1, events // EVENTS_EACH)
        self.courses = -(-self.submissions // _A_TERM) * COURSES_AT_A_TIME
        self.engine: Engine = server.database(f"classroom_{events}")
        with self.engine.begin() as connection:
            sql.execute(
                connection, f"CREATE SCHEMA {sql.quote(tables.metadata.schema or 'public')}"
            )
            tables.metadata.create_all(connection)
            state.create(connection)
            assert system.prepare is not None
            system.prepare(connection)
        announce(f"making a classroom of {count(events)} events")
        self._load()
        with self.engine.begin() as connection:
            tallykeeper.install(connection, system.tallies)
        self.vacuum()
        for tally in system.tallies:
            announce(f"building {tally.name}")
            tallykeeper.rebuild(self.engine, tally)
        self.vacuum()

    def execute(self, *statements: str) -> None:
        """Run SQL in one transaction of its own."""
        execute(self.engine, *statements)

    def vacuum(self) -> None:
        """VACUUM and ANALYZE everything, and a checkpoint."""
        vacuum(self.engine)

    def take(self) -> None:
        """Refresh all tallies, so that nothing is pending."""
        for tally in system.tallies:
            tallykeeper.refresh(self.engine, tally)

    def work(self, submissions: int, events_each: int) -> list[int]:
        """So many submissions get so many events each, a statement each; returns which did.

        A tenth of them are of all times, the others of those begun last; one event in ten comes
        three days late.
        """
        any_time = submissions // 10
        chosen = f"""
(SELECT id FROM (SELECT id FROM {SUBMISSIONS} ORDER BY id DESC LIMIT {ACTIVE}) AS active
 ORDER BY random() LIMIT {submissions - any_time})
UNION
(SELECT id FROM {SUBMISSIONS} ORDER BY random() LIMIT {any_time})"""
        with self.engine.begin() as connection:
            ids = [row[0] for row in sql.execute(connection, chosen)]
            listed = ", ".join(map(str, ids))
            sql.execute(
                connection,
                f"""
DO $$
DECLARE
  chosen CONSTANT bigint[] := ARRAY[{listed}];
BEGIN
  FOR k IN 2..{events_each + 1} LOOP
    FOR n IN 1..{len(ids)} LOOP
      INSERT INTO {LOG} (submission_id, assignment_id, course_id, subject_id, event_type,
        file_path, date_created)
      SELECT id, assignment_id, course_id, user_id, {_KINDS}, 'answer.py', now()
        - CASE WHEN n % 10 = 0 THEN interval '3 days' ELSE interval '0' END
        - ({events_each} + 2 - k) * interval '20 seconds'
      FROM (SELECT *, random() AS kind FROM {SUBMISSIONS} WHERE id = chosen[n]) AS s;
    END LOOP;
  END LOOP;
END
$$""",
            )
        return ids

    def _load(self) -> None:
        students = self.courses * STUDENTS
        moment = f"now() - interval '1 day' * ({self.submissions} - i) / {BEGUN_A_DAY}.0"
        with self.engine.begin() as connection:
            for statement in (
                "SELECT setseed(0.5)",
                f"ALTER TABLE {LOG} DROP CONSTRAINT {_FOREIGN_KEY}",
                _insert(tables.users, students, "name", "'user' || i"),
                _insert(tables.courses, self.courses, "name", "'course' || i"),
                _insert(
                    tables.roles,
                    students,
                    "user_id, course_id, name",
                    f"i, 1 + (i - 1) / {STUDENTS},"
                    f" CASE WHEN i % {STUDENTS} = 0 THEN 'instructor' ELSE 'student' END",
                ),
                _insert(
                    tables.assignments,
                    self.courses * ASSIGNMENTS,
                    "course_id",
                    f"1 + (i - 1) / {ASSIGNMENTS}",
                ),
                _insert(tables.assignment_groups, self.courses * 2, "course_id", "1 + (i - 1) / 2"),
                _insert(
                    tables.assignment_group_memberships,
                    self.courses * ASSIGNMENTS,
                    "assignment_group_id, assignment_id",
                    f"1 + (i - 1) / {ASSIGNMENTS // 2}, i",
                ),
                _insert(
                    tables.submissions,
                    self.submissions,
                    "assignment_id, course_id, user_id, date_created",
                    f"({_COURSE} - 1) * {ASSIGNMENTS} + {_PLACE} / {STUDENTS} + 1, {_COURSE},"
                    f" ({_COURSE} - 1) * {STUDENTS} + {_PLACE} % {STUDENTS} + 1, {moment}",
                ),
                _insert(tables.login_events, self.submissions, "user_id, at", f"{_USER}, {moment}"),
                _insert(tables.reports, students, "user_id", "i"),
            ):
                sql.execute(connection, statement)
            for index in tables.submission_log.indexes:
                index.drop(connection)
            sql.execute(connection, _EVENTS)
            sql.execute(connection, "SET LOCAL maintenance_work_mem = '1GB'")
            for index in tables.submission_log.indexes:
                index.create(connection)
            sql.execute(
                connection,
                f"ALTER TABLE {LOG} ADD CONSTRAINT {_FOREIGN_KEY} FOREIGN KEY (submission_id)"
                f" REFERENCES {SUBMISSIONS} ON DELETE CASCADE",
            )


_USER = f"({_COURSE} - 1) * {STUDENTS} + {_PLACE} % {STUDENTS} + 1"
# Some 20 seconds from event to event, ten minutes in the midst of a session.
_EVENTS = f"""
INSERT INTO {LOG} (submission_id, assignment_id, course_id, subject_id, event_type, category,
  message, file_path, client_timestamp, date_created)
SELECT id, assignment_id, course_id, user_id, event_type,
  CASE WHEN event_type = 'Run.Program' AND outcome < 0.2 THEN 'Error'
    WHEN event_type = 'Run.Program' THEN 'Success'
    WHEN event_type = 'Intervention' AND outcome < 0.1 THEN 'syntax'
    WHEN event_type = 'Intervention' AND outcome < 0.3 THEN 'instructor' END,
  CASE WHEN event_type = 'Compile.Error' THEN 'SyntaxError: invalid syntax in line ' || k END,
  'answer.py', moment, moment
FROM (
  SELECT *, {_KINDS} AS event_type FROM (
    SELECT s.*, k, random() AS kind, random() AS outcome, date_created
      + (k - 1) / 27 * interval '20 hours' + (k - 1) % 27 / 14 * interval '10 minutes'
      + ((k - 1) % 27 * 20 + random() * 15) * interval '1 second' AS moment
    FROM {SUBMISSIONS} AS s CROSS JOIN generate_series(1, {EVENTS_EACH}) AS k
  ) AS drawn
) AS named
ORDER BY moment"""


def _insert(table: Table, number: int, columns: str, values: str) -> str:
    """SQL that writes so many rows; `values` may speak of the number `i` of each."""
    return (
        f"INSERT INTO {sql.name_of(table)} ({columns})"
        f" SELECT {values} FROM generate_series(1, {number}) AS i ORDER BY i"
    )
