"""The declarations of the classroom, readable as its specification.

Each table of counts has one row for each entity that there is, zeros included, so that nobody has
to make a row first; what is deleted has none. What counts as a run, an edit, an attempt or an error
is in `events.py`, how long things took in `gaps.py`, the SELECTs of the others in
`aggregates.py`; all formulas, with examples, in `docs/reference/classroom-definitions.md`.
Invariants: an entity's row is found and computed by indexes on that entity alone, so that a change
costs what it concerns, however long the log.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Integer,
    Label,
    cast,
    func,
    select,
)

from assets.classroom import tables
from assets.classroom.counting import aggregates, events
from assets.classroom.counting.gaps import PERCENTILES, totals
from assets.classroom.counting.lookups import USER_TIME, create_lookups, lookup_of
from assets.classroom.settings import DEFAULT_IDLE_SECONDS, idle_seconds
from tallykeeper import SelectTally, System
from tallykeeper.declarations.combining import ATTRIBUTE, MAX, SUM, Membership
from tallykeeper.system import Access

log, roles, submissions = tables.submission_log, tables.roles, tables.submissions


# What was kept by hand with the threshold that is the default.
_SUBMISSIONS_FORMERLY = {DEFAULT_IDLE_SECONDS: ["d4629b69847f83fd"]}
_in_groups = {
    "assignment_group_id": Membership(tables.assignment_group_memberships, "assignment_id")
}


# Submissions.


def submission_counts_with(idle_seconds: int) -> SelectTally:
    """The tally of submissions where a gap counts as time spent for at most so many seconds."""
    figures = totals(1000 * idle_seconds)
    stored = tables.submission_counts.c
    named = [c for c in figures.c if c.key != "submission_id"]
    summed = [c.key for c in named if c.key not in PERCENTILES]
    return SelectTally(
        "classroom.submission_counts",
        select=select(
            submissions.c.id.label("submission_id"),
            *(
                # A column that has another name in the database keeps the declared one here.
                c if c.name == c.key else c.label(c.key)
                for c in (
                    submissions.c.assignment_id,
                    submissions.c.course_id,
                    submissions.c.user_id,
                )
            ),
            *(cast(func.coalesce(c, 0), stored[c.key].type).label(c.key) for c in named),
        ).select_from(submissions.outerjoin(figures, figures.c.submission_id == submissions.c.id)),
        table=tables.submission_counts,
        key=["submission_id"],
        combine={
            **dict.fromkeys(("assignment_id", "course_id", "user_id"), ATTRIBUTE),
            **dict.fromkeys(summed, SUM),
        },
        memberships=_in_groups,
        formerly=_SUBMISSIONS_FORMERLY.get(idle_seconds, ()),
    )


submission_counts = submission_counts_with(idle_seconds())


# Assignments and their groups.


assignment_counts = SelectTally(
    "classroom.assignment_counts",
    select=aggregates.assignments(),
    table=tables.assignment_counts,
    key=["assignment_id"],
    combine={"total_submissions": SUM, "date_last_submission": MAX},
    memberships=_in_groups,
    formerly=["0c0591286dba7551"],
)

assignment_group_counts = SelectTally(
    "classroom.assignment_group_counts",
    select=aggregates.groups(),
    table=tables.assignment_group_counts,
    key=["assignment_group_id"],
    formerly=["322e889a349b8a3f"],
)


# Courses.


course_counts = SelectTally(
    "classroom.course_counts",
    select=aggregates.courses(),
    table=tables.course_counts,
    key=["course_id"],
    # A user may be in several courses.
    combine={
        **dict.fromkeys(("total_submissions", "total_assignments", "total_assignment_groups"), SUM),
        **dict.fromkeys(("date_last_user", "date_last_submission", "date_last_assignment"), MAX),
    },
    formerly=["097f3eabd39adce1"],
)


# Users.


user_counts = SelectTally(
    "classroom.user_counts",
    select=aggregates.users(),
    table=tables.user_counts,
    key=["user_id"],
    # Several users may be in one course.
    combine={
        **dict.fromkeys(("total_submissions", "total_reports"), SUM),
        **dict.fromkeys(("last_logged_in", "last_edited"), MAX),
    },
    formerly=["5869aa3e9d28dd36"],
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
