"""The tables of the classroom: nine sources and the log, and what is derived from them.

Only their shape stands here. How the derived ones follow from the sources is in `tallies.py`, what
the log's events mean in `events.py`. The schema is `classroom`, or what `TALLY_SCHEMA_CLASSROOM`
names; the sources may have other names (`TALLY_NAMES`). Its `users` have nothing to do with those
of another system.

No derived table has a foreign key. One with ON DELETE CASCADE would let an application that deletes
a course wait for a refresh, and write a table that only Tallykeeper writes; one without would
refuse the deletion for as long as the counts are there. The rows of what is deleted vanish with a
refresh, and from the live views at once.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Computed,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    Numeric,
    Table,
    Text,
    func,
    text,
)

from assets.classroom.counting import events
from tallykeeper import MAY_BE_NULL
from tallykeeper.settings import schema_of
from tallykeeper.table_names import SourceTables

metadata = MetaData(schema=schema_of("classroom"))
_sources = SourceTables("classroom", metadata)


def _id() -> Column[int]:
    return Column("id", BigInteger, Identity(), primary_key=True)


def _of(table: Table, name: str) -> Column[int]:
    """A reference to a row of the table, without which this row makes no sense.

    A table that is adopted may lack it in some rows, which then count nowhere.
    """
    return Column(
        name,
        BigInteger,
        ForeignKey(table.c.id, ondelete="CASCADE"),
        nullable=False,
        info=MAY_BE_NULL,
    )


def _created(name: str = "date_created") -> Column[object]:
    return Column(
        name,
        DateTime(timezone=True),
        nullable=False,
        server_default=func.now(),
        info=MAY_BE_NULL,
    )


users = _sources.table("users", _id(), Column("name", Text), _created(), comment="Who takes part.")

courses = _sources.table("courses", _id(), Column("name", Text), _created(), comment="Courses.")

roles = _sources.table(
    "roles",
    _id(),
    _of(users, "user_id"),
    _of(courses, "course_id"),
    Column(
        "name",
        Text,
        nullable=False,
        info=MAY_BE_NULL,
        comment="student, learner, instructor, or another",
    ),
    _created(),
    Index("roles_course", "course_id", "user_id"),
    Index("roles_user", "user_id", "course_id"),
    comment="Who is what in which course; a user may be several things in one.",
)

assignments = _sources.table(
    "assignments",
    _id(),
    _of(courses, "course_id"),
    Column("name", Text),
    _created(),
    Index("assignments_course", "course_id", "date_created"),
    comment="What a course asks for.",
)

assignment_groups = _sources.table(
    "assignment_groups",
    _id(),
    _of(courses, "course_id"),
    Column("name", Text),
    _created(),
    Index("assignment_groups_course", "course_id"),
    comment="Assignments that belong together.",
)

assignment_group_memberships = _sources.table(
    "assignment_group_memberships",
    _id(),
    _of(assignment_groups, "assignment_group_id"),
    _of(assignments, "assignment_id"),
    Index("assignment_group_memberships_group", "assignment_group_id", "assignment_id"),
    Index("assignment_group_memberships_assignment", "assignment_id", "assignment_group_id"),
    comment="Which assignment is in which group.",
)

submissions = _sources.table(
    "submissions",
    _id(),
    _of(assignments, "assignment_id"),
    _of(courses, "course_id"),
    _of(users, "user_id"),
    _created(),
    Index("submissions_assignment", "assignment_id", "date_created"),
    Index("submissions_course", "course_id", "date_created"),
    Index("submissions_user", "user_id"),
    comment="One user's work on one assignment.",
)

reports = _sources.table(
    "reports",
    _id(),
    _of(users, "user_id"),
    _created(),
    Index("reports_user", "user_id"),
    comment="Reports that users asked for.",
)

login_events = _sources.table(
    "login_events",
    _id(),
    _of(users, "user_id"),
    _created("at"),
    Index("login_events_user", "user_id", "at"),
    comment="When who logged in.",
)

submission_log = _sources.table(
    "submission_log",
    _id(),
    _of(submissions, "submission_id"),
    # Not references: four of them to check would slow down what writes the log.
    Column("assignment_id", BigInteger),
    Column("course_id", BigInteger, nullable=False, info=MAY_BE_NULL),
    Column("subject_id", BigInteger, comment="the user who did it"),
    Column(
        "event_type",
        Text,
        nullable=False,
        info=MAY_BE_NULL,
        comment="see assets/classroom/counting/events.py",
    ),
    Column("category", Text, comment="of feedback or of a run: what came out"),
    Column("label", Text),
    Column("message", Text),
    Column("file_path", Text),
    Column("client_timestamp", DateTime(timezone=True), comment="by the client's clock"),
    _created(),
    Index("submission_log_submission", "submission_id", "date_created", "id"),
    Index("submission_log_created", "date_created"),
    comment="What happened to each submission; date_created is the server's time.",
)
# A user's latest edit is then one step away, however long the log.
Index(
    "submission_log_edits",
    submission_log.c.subject_id,
    submission_log.c.date_created,
    postgresql_where=submission_log.c.event_type.in_(events.EDITS),
)

_sources.require_known()

# Derived.

SECONDS = {
    "average_edit_time": "coalesce(edit_ms / (1000.0 * nullif(edit_gaps, 0)), 0)",
    "average_attempt_time": "coalesce(attempt_ms / (1000.0 * nullif(attempt_gaps, 0)), 0)",
    "estimated_time_spent": "time_spent_ms / 1000.0",
    "edit_time_deviation": (
        "CASE WHEN edit_gaps < 2 THEN 0 ELSE"
        " sqrt((edit_gaps * edit_ms_squared - edit_ms::numeric * edit_ms)"
        " / (edit_gaps::numeric * (edit_gaps - 1))) / 1000.0 END"
    ),
    "median_edit_time": "median_edit_ms / 1000.0",
    "p90_edit_time": "p90_edit_ms / 1000.0",
    "average_time_before_edit": (
        "coalesce(before_edit_ms / (1000.0 * nullif(before_edit_gaps, 0)), 0)"
    ),
    "average_time_before_attempt": (
        "coalesce(before_attempt_ms / (1000.0 * nullif(before_attempt_gaps, 0)), 0)"
    ),
}
"""What a reader sees in seconds, in SQL from what is stored: the generated columns, and what
reads make of a live view, which has none."""


def _count(name: str, comment: str | None = None) -> Column[int]:
    return Column(name, Integer, nullable=False, server_default=text("0"), comment=comment)


def _sum(name: str, comment: str | None = None) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default=text("0"), comment=comment)


def _seconds(name: str, comment: str) -> Column[float]:
    return Column(
        name, Double, Computed(f"({SECONDS[name]})::float8", persisted=True), comment=comment
    )


def _instant(name: str, comment: str | None = None) -> Column[object]:
    return Column(name, DateTime(timezone=True), comment=comment)


def _key(name: str) -> Column[int]:
    return Column(name, BigInteger, primary_key=True, autoincrement=False)


submission_counts = Table(
    "submission_counts",
    metadata,
    _key("submission_id"),
    # Null where the submission says none, which a table that is adopted may allow.
    Column("assignment_id", BigInteger),
    Column("course_id", BigInteger),
    Column("user_id", BigInteger, comment="whose it is"),
    _count("runs"),
    _count("edits"),
    _count("attempts"),
    _count("syntax_errors"),
    _count("runtime_errors"),
    _count("failed_instructor_tests"),
    _count("edit_gaps", "times from an edit to the next edit"),
    _sum("edit_ms", "the sum of them, milliseconds"),
    Column(
        "edit_ms_squared",
        Numeric,
        nullable=False,
        server_default=text("0"),
        comment="the sum of their squares",
    ),
    _sum("median_edit_ms"),
    _sum("p90_edit_ms"),
    _count("attempt_gaps", "times from an attempt to the next attempt"),
    _sum("attempt_ms", "the sum of them, milliseconds"),
    _sum("time_spent_ms", "the sum of all gaps, none counted for more than the idle threshold"),
    _seconds("average_edit_time", "seconds"),
    _seconds("average_attempt_time", "seconds"),
    _seconds("estimated_time_spent", "seconds"),
    _seconds("edit_time_deviation", "standard deviation of the edit gaps (of a sample), seconds"),
    _seconds("median_edit_time", "seconds"),
    _seconds("p90_edit_time", "90th percentile, seconds"),
    _instant("updated_at"),
    _count("before_edit_gaps", "edits that have any event before them"),
    _sum("before_edit_ms", "the times since that event, milliseconds"),
    _count("before_attempt_gaps", "attempts that have any event before them"),
    _sum("before_attempt_ms", "the times since that event, milliseconds"),
    _seconds("average_time_before_edit", "since the event before, whatever it was, seconds"),
    _seconds("average_time_before_attempt", "since the event before, whatever it was, seconds"),
    Index("submission_counts_user", "user_id"),
    Index("submission_counts_assignment", "assignment_id"),
    comment="Runs, errors and times of each submission.",
)

assignment_counts = Table(
    "assignment_counts",
    metadata,
    _key("assignment_id"),
    _count("total_submissions"),
    _instant("date_last_submission"),
    _instant("updated_at"),
    comment="Submissions of each assignment.",
)

assignment_group_counts = Table(
    "assignment_group_counts",
    metadata,
    _key("assignment_group_id"),
    _count("total_assignments", "each once"),
    _count("total_submissions", "of those"),
    _instant("updated_at"),
    comment="Assignments and submissions of each group.",
)

course_counts = Table(
    "course_counts",
    metadata,
    _key("course_id"),
    _count("total_submissions"),
    _count("total_assignments"),
    _count("total_assignment_groups"),
    _count("total_users", "with any role, each once"),
    _count("total_students", "with the role of a student or learner, each once"),
    _count("total_instructors", "each once"),
    _instant("date_last_user", "when the latest user got the first role in the course"),
    _instant("date_last_submission"),
    _instant("date_last_assignment"),
    _instant("updated_at"),
    comment="Submissions, assignments and users of each course.",
)

user_counts = Table(
    "user_counts",
    metadata,
    _key("user_id"),
    _count("total_courses_in", "each once, whatever the roles"),
    _count("total_assignments", "of these courses"),
    _count("total_assignment_groups", "of these courses"),
    _count("total_submissions"),
    _count("total_reports"),
    _instant("last_logged_in"),
    _instant("last_edited", "the latest edit in the log whose subject is the user"),
    _instant("updated_at"),
    comment="Courses, work and presence of each user.",
)

user_time_spent = Table(
    "user_time_spent",
    metadata,
    _key("user_id"),
    _count("submissions", "of the user"),
    _sum("time_spent_ms", "on all of them, milliseconds"),
    _seconds("estimated_time_spent", "seconds"),
    _instant("updated_at"),
    comment="Time that each user spent on submissions.",
)

submission_daily_activity = Table(
    "submission_daily_activity",
    metadata,
    _key("course_id"),
    Column("day", DateTime(timezone=True), primary_key=True, comment="midnight UTC of the day"),
    _count("events", "rows of the log"),
    _count("runs"),
    _count("edits"),
    _count("attempts"),
    _count("syntax_errors"),
    _count("runtime_errors"),
    _count("failed_instructor_tests"),
    _instant("updated_at"),
    Index("submission_daily_activity_day", "day"),
    comment="What happened in each course on each day.",
)

report_daily_counts = Table(
    "report_daily_counts",
    metadata,
    _key("user_id"),
    Column("day", DateTime(timezone=True), primary_key=True, comment="midnight UTC of the day"),
    _count("reports", "that the user asked for"),
    _instant("updated_at"),
    Index("report_daily_counts_day", "day"),
    comment="Reports that each user asked for on each day.",
)
