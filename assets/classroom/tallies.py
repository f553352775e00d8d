"""The declarations of the classroom, readable as its specification.

Each table of counts has one row for each entity that there is, zeros included, so that nobody has
to make a row first; what is deleted has none. What counts as a run, an edit, an attempt or an error
stands in `events.py`, how long things took in `gaps.py`; all formulas, with examples, in
`docs/reference/classroom-definitions.md`. Invariants: an entity's row is found and
computed by indexes on that entity alone, so that a change costs what it concerns, however long the
log.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Integer,
    Label,
    Select,
    case,
    cast,
    func,
    select,
)

from assets.classroom import tables
from assets.classroom.counting import events
from assets.classroom.counting.aggregates import (
    assignments_of,
    courses_of,
    groups_of,
    groups_with,
    users_in,
    users_of,
)
from assets.classroom.counting.gaps import PERCENTILES, totals_of
from assets.classroom.counting.lookups import USER_TIME, create_lookups, lookup_of
from assets.classroom.settings import idle_seconds
from tallykeeper import (
    Capture,
    KeyFilter,
    RecomputedTally,
    SelectTally,
    System,
)
from tallykeeper.declarations.combining import ATTRIBUTE, MAX, SUM, Membership
from tallykeeper.system import Access

log, roles, submissions = tables.submission_log, tables.roles, tables.submissions


_in_groups = {
    "assignment_group_id": Membership(tables.assignment_group_memberships, "assignment_id")
}


def _of(entity: str, column: str) -> Callable[[Any], dict[str, Any]]:
    """The key of a row that carries it: its `column` is the derived table's `entity`."""
    return lambda row: {entity: row[column]}


# Submissions.


def submission_counts_with(idle_seconds: int) -> RecomputedTally:
    """The tally of submissions where a gap counts as time spent for at most so many seconds."""

    def aggregate(scope: KeyFilter) -> Select[Any]:
        totals = totals_of(scope, 1000 * idle_seconds)
        figures = (c for c in totals.c if c.key != "submission_id")
        return (
            select(
                submissions.c.id.label("submission_id"),
                submissions.c.assignment_id,
                submissions.c.course_id,
                submissions.c.user_id,
                *(func.coalesce(c, 0).label(c.key) for c in figures),
            )
            .select_from(submissions.outerjoin(totals, totals.c.submission_id == submissions.c.id))
            .where(*scope(submission_id=submissions.c.id))
        )

    return RecomputedTally(
        system="classroom",
        table=tables.submission_counts,
        key=["submission_id"],
        measures=[
            "assignment_id",
            "course_id",
            "user_id",
            *events.happened(log.c),
            "edit_gaps",
            "edit_ms",
            "edit_ms_squared",
            *PERCENTILES,
            "attempt_gaps",
            "attempt_ms",
            "time_spent_ms",
            # The last, so that views which are there already can be replaced in place.
            "before_edit_gaps",
            "before_edit_ms",
            "before_attempt_gaps",
            "before_attempt_ms",
        ],
        combine={
            **dict.fromkeys(("assignment_id", "course_id", "user_id"), ATTRIBUTE),
            **dict.fromkeys(events.happened(log.c), SUM),
            **dict.fromkeys(("edit_gaps", "edit_ms", "edit_ms_squared"), SUM),
            **dict.fromkeys(("attempt_gaps", "attempt_ms", "time_spent_ms"), SUM),
            **dict.fromkeys(("before_edit_gaps", "before_edit_ms"), SUM),
            **dict.fromkeys(("before_attempt_gaps", "before_attempt_ms"), SUM),
        },
        memberships=_in_groups,
        captures=[
            Capture(submissions, key=_of("submission_id", "id")),
            Capture(log, key=_of("submission_id", "submission_id")),
        ],
        aggregate=aggregate,
    )


submission_counts = submission_counts_with(idle_seconds())


# Assignments and their groups.


assignment_counts = RecomputedTally(
    system="classroom",
    table=tables.assignment_counts,
    key=["assignment_id"],
    measures=["total_submissions", "date_last_submission"],
    combine={"total_submissions": SUM, "date_last_submission": MAX},
    memberships=_in_groups,
    captures=[
        Capture(tables.assignments, key=_of("assignment_id", "id")),
        Capture(submissions, key=_of("assignment_id", "assignment_id")),
    ],
    aggregate=assignments_of,
)

assignment_group_counts = RecomputedTally(
    system="classroom",
    table=tables.assignment_group_counts,
    key=["assignment_group_id"],
    measures=["total_assignments", "total_submissions"],
    captures=[
        Capture(tables.assignment_groups, key=_of("assignment_group_id", "id")),
        Capture(
            tables.assignment_group_memberships,
            key=_of("assignment_group_id", "assignment_group_id"),
        ),
        Capture(submissions, entity=_of("assignment_id", "assignment_id"), keys=groups_with),
    ],
    aggregate=groups_of,
)


# Courses.


course_counts = RecomputedTally(
    system="classroom",
    table=tables.course_counts,
    key=["course_id"],
    measures=[
        "total_submissions",
        "total_assignments",
        "total_assignment_groups",
        "total_users",
        "total_students",
        "total_instructors",
        "date_last_user",
        "date_last_submission",
        "date_last_assignment",
    ],
    # A user may be in several courses.
    combine={
        **dict.fromkeys(("total_submissions", "total_assignments", "total_assignment_groups"), SUM),
        **dict.fromkeys(("date_last_user", "date_last_submission", "date_last_assignment"), MAX),
    },
    captures=[
        Capture(tables.courses, key=_of("course_id", "id")),
        *(
            Capture(source, key=_of("course_id", "course_id"))
            for source in (roles, tables.assignments, tables.assignment_groups, submissions)
        ),
    ],
    aggregate=courses_of,
)


# Users.


def _whoever_edited(event: Any) -> dict[str, Any]:
    """The subject of an edit; nobody for other events, which tell nothing of when one edited."""
    return {"user_id": case((events.is_edit(event), event.subject_id))}


user_counts = RecomputedTally(
    system="classroom",
    table=tables.user_counts,
    key=["user_id"],
    measures=[
        "total_courses_in",
        "total_assignments",
        "total_assignment_groups",
        "total_submissions",
        "total_reports",
        "last_logged_in",
        "last_edited",
    ],
    # Several users may be in one course.
    combine={
        **dict.fromkeys(("total_submissions", "total_reports"), SUM),
        **dict.fromkeys(("last_logged_in", "last_edited"), MAX),
    },
    captures=[
        Capture(tables.users, key=_of("user_id", "id")),
        *(
            Capture(source, key=_of("user_id", "user_id"))
            for source in (roles, submissions, tables.reports, tables.login_events)
        ),
        Capture(log, key=_whoever_edited),
        *(
            Capture(source, entity=_of("course_id", "course_id"), keys=users_in)
            for source in (tables.assignments, tables.assignment_groups)
        ),
    ],
    aggregate=users_of,
)

# Apart from `user_counts`, because it is a sum over a derived table, which costs no more than the
# submissions that changed: from the log it would be all events of all of the user's submissions.
_spent = tables.submission_counts.c

user_time_spent = SelectTally(
    "classroom.user_time_spent",
    select=select(
        _spent.user_id,
        cast(func.count(), Integer).label("submissions"),
        cast(func.sum(_spent.time_spent_ms), BigInteger).label("time_spent_ms"),
    )
    .where(_spent.user_id.is_not(None))
    .group_by(_spent.user_id),
    table=tables.user_time_spent,
    formerly=["a74ee2c9042a287c"],
)


# Days.


def _day_of(instant: ColumnElement[datetime]) -> Label[datetime]:
    return func.date_trunc("day", instant, "UTC").label("day")


_day = _day_of(log.c.date_created)

submission_daily_activity = SelectTally(
    "classroom.submission_daily_activity",
    select=select(
        log.c.course_id,
        _day,
        cast(func.count(), Integer).label("events"),
        *(
            cast(func.count().filter(what), Integer).label(name)
            for name, what in events.happened(log.c).items()
        ),
    )
    .where(log.c.course_id.is_not(None), log.c.date_created.is_not(None))
    .group_by(log.c.course_id, _day.element),
    table=tables.submission_daily_activity,
    formerly=["8f40d94756a7380b"],
)

_reported = _day_of(tables.reports.c.date_created)

report_daily_counts = SelectTally(
    "classroom.report_daily_counts",
    select=select(tables.reports.c.user_id, _reported, cast(func.count(), Integer).label("reports"))
    .where(tables.reports.c.user_id.is_not(None), tables.reports.c.date_created.is_not(None))
    .group_by(tables.reports.c.user_id, _reported.element),
    table=tables.report_daily_counts,
    formerly=["06ff71840b84dcaa"],
)

_looked_up = [
    submission_counts,
    assignment_counts,
    assignment_group_counts,
    course_counts,
    user_counts,
]


def _prepare(connection: Connection) -> list[str]:
    return create_lookups(connection, _looked_up)


system = System(
    "classroom",
    tables.metadata,
    [*_looked_up, user_time_spent, submission_daily_activity, report_daily_counts],
    prepare=_prepare,
    access=Access(
        # Groups of assignments are asked for by it.
        read=[tables.assignment_group_memberships],
        asked=[
            f"{name}(bigint[])" for name in (*(lookup_of(t.table) for t in _looked_up), USER_TIME)
        ],
    ),
    package=__package__,
    distribution={
        **dict.fromkeys((log, submissions, roles, tables.assignments), "course_id"),
        **dict.fromkeys((tables.users, tables.courses, tables.reports, tables.login_events)),
    },
)
