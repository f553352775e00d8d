"""Counts of submissions, assignments, groups, courses and users; activity per course and day."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from alembic import op

from tallykeeper.installation.alembic import missing
from tallykeeper.settings import schema_of

revision = "classroom_0001"
down_revision = None
branch_labels = ("classroom",)
depends_on = None

AVERAGE_EDIT = "(coalesce(edit_ms / (1000.0 * nullif(edit_gaps, 0)), 0))::float8"
AVERAGE_ATTEMPT = "(coalesce(attempt_ms / (1000.0 * nullif(attempt_gaps, 0)), 0))::float8"
TIME_SPENT = "(time_spent_ms / 1000.0)::float8"
DEVIATION = (
    "(CASE WHEN edit_gaps < 2 THEN 0 ELSE"
    " sqrt((edit_gaps * edit_ms_squared - edit_ms::numeric * edit_ms)"
    " / (edit_gaps::numeric * (edit_gaps - 1))) / 1000.0 END)::float8"
)
MEDIAN = "(median_edit_ms / 1000.0)::float8"
P90 = "(p90_edit_ms / 1000.0)::float8"
HAPPENED = (
    "runs",
    "edits",
    "attempts",
    "syntax_errors",
    "runtime_errors",
    "failed_instructor_tests",
)


def upgrade() -> None:
    """Create each table unless it is there: then it was adopted."""
    schema = schema_of("classroom")
    makers: dict[str, Callable[[str, str], None]] = {
        "submission_counts": _submissions,
        "assignment_counts": _assignments,
        "assignment_group_counts": _groups,
        "course_counts": _courses,
        "user_counts": _users,
        "user_time_spent": _time_spent,
        "submission_daily_activity": _daily_activity,
    }
    for name, make in makers.items():
        if missing(name, schema):
            make(name, schema)


def _submissions(name: str, schema: str) -> None:
    op.create_table(
        name,
        _id("submission_id"),
        _id("assignment_id"),
        _id("course_id"),
        _id("user_id", "whose it is"),
        *(_count(what) for what in HAPPENED),
        _count("edit_gaps", "gaps that an edit ends"),
        _sum("edit_ms", "the sum of them, milliseconds"),
        sa.Column(
            "edit_ms_squared",
            sa.Numeric(),
            server_default=sa.text("0"),
            nullable=False,
            comment="the sum of their squares",
        ),
        _sum("median_edit_ms"),
        _sum("p90_edit_ms"),
        _count("attempt_gaps", "gaps that an attempt ends"),
        _sum("attempt_ms", "the sum of them, milliseconds"),
        _sum("time_spent_ms", "the sum of all gaps, none counted for more than the idle threshold"),
        _seconds("average_edit_time", AVERAGE_EDIT),
        _seconds("average_attempt_time", AVERAGE_ATTEMPT),
        _seconds("estimated_time_spent", TIME_SPENT),
        _seconds(
            "edit_time_deviation",
            DEVIATION,
            "standard deviation of the edit gaps (of a sample), seconds",
        ),
        _seconds("median_edit_time", MEDIAN),
        _seconds("p90_edit_time", P90, "90th percentile, seconds"),
        _instant("updated_at"),
        sa.PrimaryKeyConstraint("submission_id"),
        schema=schema,
        comment="Runs, errors and times of each submission.",
    )
    op.create_index("submission_counts_user", name, ["user_id"], schema=schema)
    op.create_index("submission_counts_assignment", name, ["assignment_id"], schema=schema)


def _assignments(name: str, schema: str) -> None:
    op.create_table(
        name,
        _id("assignment_id"),
        _count("total_submissions"),
        _instant("date_last_submission"),
        _instant("updated_at"),
        sa.PrimaryKeyConstraint("assignment_id"),
        schema=schema,
        comment="Submissions of each assignment.",
    )


def _groups(name: str, schema: str) -> None:
    op.create_table(
        name,
        _id("assignment_group_id"),
        _count("total_assignments", "each once"),
        _count("total_submissions", "of those"),
        _instant("updated_at"),
        sa.PrimaryKeyConstraint("assignment_group_id"),
        schema=schema,
        comment="Assignments and submissions of each group.",
    )


def _courses(name: str, schema: str) -> None:
    op.create_table(
        name,
        _id("course_id"),
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
        sa.PrimaryKeyConstraint("course_id"),
        schema=schema,
        comment="Submissions, assignments and users of each course.",
    )


def _users(name: str, schema: str) -> None:
    op.create_table(
        name,
        _id("user_id"),
        _count("total_courses_in", "each once, whatever the roles"),
        _count("total_assignments", "of these courses"),
        _count("total_assignment_groups", "of these courses"),
        _count("total_submissions"),
        _count("total_reports"),
        _instant("last_logged_in"),
        _instant("last_edited", "the latest edit in the log whose subject is the user"),
        _instant("updated_at"),
        sa.PrimaryKeyConstraint("user_id"),
        schema=schema,
        comment="Courses, work and presence of each user.",
    )


def _time_spent(name: str, schema: str) -> None:
    op.create_table(
        name,
        _id("user_id"),
        _count("submissions", "of the user"),
        _sum("time_spent_ms", "on all of them, milliseconds"),
        _seconds("estimated_time_spent", TIME_SPENT),
        _instant("updated_at"),
        sa.PrimaryKeyConstraint("user_id"),
        schema=schema,
        comment="Time that each user spent on submissions.",
    )


def _daily_activity(name: str, schema: str) -> None:
    op.create_table(
        name,
        _id("course_id"),
        _instant("day", "midnight UTC of the day", nullable=False),
        _count("events", "rows of the log"),
        *(_count(what) for what in HAPPENED),
        _instant("updated_at"),
        sa.PrimaryKeyConstraint("course_id", "day"),
        schema=schema,
        comment="What happened in each course on each day.",
    )
    op.create_index("submission_daily_activity_day", name, ["day"], schema=schema)


def _id(name: str, comment: str | None = None) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger(), autoincrement=False, nullable=False, comment=comment)


def _count(name: str, comment: str | None = None) -> sa.Column[Any]:
    return sa.Column(
        name, sa.Integer(), server_default=sa.text("0"), nullable=False, comment=comment
    )


def _sum(name: str, comment: str | None = None) -> sa.Column[Any]:
    return sa.Column(
        name, sa.BigInteger(), server_default=sa.text("0"), nullable=False, comment=comment
    )


def _seconds(name: str, expression: str, comment: str = "seconds") -> sa.Column[Any]:
    return sa.Column(name, sa.Double(), sa.Computed(expression, persisted=True), comment=comment)


def _instant(name: str, comment: str | None = None, *, nullable: bool = True) -> sa.Column[Any]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable, comment=comment)
