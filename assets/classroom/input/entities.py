"""From the names that an input uses to users, courses, roles, assignments and submissions.

A row's column `name` holds the name by which it is found again, by this load and by every later
one; of several rows with one name it is the one with the smallest id. Invariants: a load
adds what is missing and changes nothing that is there; and two loads at once make nothing twice,
because each makes what is missing alone (`one_load_at_a_time`).
"""

from __future__ import annotations

from sqlalchemy import Connection, Table, inspect, text

from assets.classroom import tables
from tallykeeper.input.loading import LoadError

STUDENT = "student"
"""The role of a subject that has none in a course, and of which the input does not say another."""

NEEDED = [
    tables.users,
    tables.courses,
    tables.roles,
    tables.assignments,
    tables.assignment_groups,
    tables.assignment_group_memberships,
    tables.submissions,
    tables.submission_log,
]
WORKS = "tallykeeper_loaded_works"
"""The temporary table of what becomes submissions: names, and the ids that they have."""

ROLES = "tallykeeper_loaded_roles"
"""The temporary table of subjects and the roles that the input says they have."""

_ONE_LOAD_AT_A_TIME = "SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"

# A work is what becomes a submission: what one subject did on one assignment. A group that has no
# name is none.
_WORKS = f"""
CREATE TEMPORARY TABLE {WORKS} AS
SELECT row_number() OVER (ORDER BY course, assignment, subject, "group") AS work,
  course, "group", assignment, subject, min(at) AS first,
  CAST(NULL AS bigint) AS course_id, CAST(NULL AS bigint) AS group_id,
  CAST(NULL AS bigint) AS assignment_id, CAST(NULL AS bigint) AS user_id,
  CAST(NULL AS bigint) AS submission_id
FROM {{staged}} GROUP BY course, "group", assignment, subject
"""

# Each kind of thing: what is missing is made, in one order, and then all of them are found.
_STEPS = [
    # Users.
    """
    INSERT INTO {users} (name, date_created)
    SELECT subject, min(first) FROM {works} AS w
    WHERE NOT EXISTS (SELECT FROM {users} AS u WHERE u.name = w.subject)
    GROUP BY subject ORDER BY min(first), subject
    """,
    """
    UPDATE {works} AS w SET user_id = u.id
    FROM (SELECT name, min(id) AS id FROM {users} GROUP BY name) AS u WHERE u.name = w.subject
    """,
    # Courses, and who is in them.
    """
    INSERT INTO {courses} (name, date_created)
    SELECT course, min(first) FROM {works} AS w
    WHERE NOT EXISTS (SELECT FROM {courses} AS c WHERE c.name = w.course)
    GROUP BY course ORDER BY min(first), course
    """,
    """
    UPDATE {works} AS w SET course_id = c.id
    FROM (SELECT name, min(id) AS id FROM {courses} GROUP BY name) AS c WHERE c.name = w.course
    """,
    """
    INSERT INTO {roles} (user_id, course_id, name, date_created)
    SELECT w.user_id, w.course_id, coalesce(s.role, :student), min(w.first)
    FROM {works} AS w LEFT JOIN {said} AS s USING (subject)
    WHERE NOT EXISTS (
      SELECT FROM {roles} AS r WHERE r.user_id = w.user_id AND r.course_id = w.course_id
    )
    GROUP BY 1, 2, 3 ORDER BY 2, 1, 3
    """,
    # Assignments, and the groups that they are in.
    """
    INSERT INTO {assignments} (course_id, name, date_created)
    SELECT course_id, assignment, min(first) FROM {works} AS w
    WHERE NOT EXISTS (
      SELECT FROM {assignments} AS a WHERE a.course_id = w.course_id AND a.name = w.assignment
    )
    GROUP BY course_id, assignment ORDER BY course_id, min(first), assignment
    """,
    """
    UPDATE {works} AS w SET assignment_id = a.id
    FROM (SELECT course_id, name, min(id) AS id FROM {assignments} GROUP BY course_id, name) AS a
    WHERE a.course_id = w.course_id AND a.name = w.assignment
    """,
    """
    INSERT INTO {assignment_groups} (course_id, name, date_created)
    SELECT course_id, "group", min(first) FROM {works} AS w
    WHERE "group" <> '' AND NOT EXISTS (
      SELECT FROM {assignment_groups} AS g WHERE g.course_id = w.course_id AND g.name = w."group"
    )
    GROUP BY course_id, "group" ORDER BY course_id, min(first), "group"
    """,
    """
    UPDATE {works} AS w SET group_id = g.id
    FROM (
      SELECT course_id, name, min(id) AS id FROM {assignment_groups} GROUP BY course_id, name
    ) AS g
    WHERE g.course_id = w.course_id AND g.name = w."group"
    """,
    """
    INSERT INTO {assignment_group_memberships} (assignment_group_id, assignment_id)
    SELECT DISTINCT group_id, assignment_id FROM {works} AS w
    WHERE group_id IS NOT NULL AND NOT EXISTS (
      SELECT FROM {assignment_group_memberships} AS m
      WHERE m.assignment_group_id = w.group_id AND m.assignment_id = w.assignment_id
    )
    ORDER BY group_id, assignment_id
    """,
    # Submissions.
    """
    INSERT INTO {submissions} (assignment_id, course_id, user_id, date_created)
    SELECT assignment_id, course_id, user_id, min(first) FROM {works} AS w
    WHERE NOT EXISTS (
      SELECT FROM {submissions} AS s
      WHERE s.assignment_id = w.assignment_id AND s.user_id = w.user_id
    )
    GROUP BY assignment_id, course_id, user_id ORDER BY assignment_id, min(first), user_id
    """,
    """
    UPDATE {works} AS w SET submission_id = s.id
    FROM (
      SELECT assignment_id, user_id, min(id) AS id FROM {submissions}
      WHERE assignment_id IN (SELECT assignment_id FROM {works})
      GROUP BY assignment_id, user_id
    ) AS s
    WHERE s.assignment_id = w.assignment_id AND s.user_id = w.user_id
    """,
]


def check_tables(connection: Connection) -> None:
    """Raises LoadError where a table is missing, or lacks a column that a load needs."""
    inspector = inspect(connection)
    for table in NEEDED:
        if not inspector.has_table(table.name, schema=table.schema):
            raise LoadError(
                f"There is no table {table.fullname} to load into; run `tally migrate"
                " --with-sources`, or name your own tables' schema in TALLY_SCHEMA_CLASSROOM."
            )
        there = {column["name"] for column in inspector.get_columns(table.name, table.schema)}
        missing = [column.name for column in table.c if column.name not in there]
        if missing:
            raise LoadError(
                f"{table.fullname} has no column {' and no column '.join(missing)}, which a load"
                " writes, and finds its rows by; add it, or load into a database of its own."
            )


def one_load_at_a_time(connection: Connection) -> None:
    """Wait for other loads' transactions, and make others wait for this one.

    Must be called in READ COMMITTED, so that what those made is seen from then on.
    """
    name = f"tallykeeper load of {tables.submission_log.fullname}"
    connection.execute(text(_ONE_LOAD_AT_A_TIME), {"name": name})


def find_works(connection: Connection, staged: str) -> None:
    """Make the temporary table `WORKS`: the works that are in the temporary table `staged`."""
    connection.exec_driver_sql(_WORKS.format(staged=staged))
    connection.exec_driver_sql(f"ANALYZE {WORKS}")


def resolve(connection: Connection) -> None:
    """Fill in the ids of the works, and make what is missing.

    To be called after `one_load_at_a_time`, in the same transaction.
    """

    def name(table: Table) -> str:
        return connection.dialect.identifier_preparer.format_table(table)

    named = {table.name: name(table) for table in tables.metadata.tables.values()}
    for step in _STEPS:
        statement = step.format(works=WORKS, said=ROLES, **named)
        connection.execute(text(statement), {"student": STUDENT} if ":student" in step else {})
