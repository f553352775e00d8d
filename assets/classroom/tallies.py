"""The declarations of the classroom, readable as its specification.

Each table of counts has one row for each entity that there is, zeros included, so that nobody has
to make a row first; what is gone has none. What counts as a run, an edit, an attempt or an error
stands in `events.py`, how long things took in `gaps.py`; all formulas, with examples, in
`docs/reference/classroom-definitions.md`. What must stay true: an entity's row is found and
computed by indexes on that entity alone, so that a change costs what it concerns, however long the
log.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import (
    Boolean,
    ColumnElement,
    Connection,
    FromClause,
    Integer,
    ScalarSelect,
    Select,
    Table,
    case,
    cast,
    func,
    select,
)

from assets.classroom import events, tables
from assets.classroom.gaps import PERCENTILES, totals_of
from assets.classroom.lookups import create_lookups
from resources.settings import classroom_idle_seconds
from tallies import (
    AdditiveTally,
    Capture,
    Contribution,
    RecomputedTally,
    Scope,
    System,
    Window,
)

log, roles, submissions = tables.submission_log, tables.roles, tables.submissions


def _number(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return case((condition, 1), else_=0)


def _of(entity: str, column: str) -> Callable[[Any], dict[str, Any]]:
    """The key of a row that carries it: its `column` is the derived table's `entity`."""
    return lambda row: {entity: row[column]}


def _how_many(
    rows: Table, column: str, whose: ColumnElement[int], *conditions: ColumnElement[bool]
) -> ScalarSelect[int]:
    """How many rows name the entity `whose`, by an index on the column."""
    counted = select(func.count()).select_from(rows).where(rows.c[column] == whose, *conditions)
    return counted.correlate(whose.table).scalar_subquery()


def _latest(
    instant: ColumnElement[Any], whose: ColumnElement[bool], *conditions: ColumnElement[bool]
) -> ScalarSelect[Any]:
    """The latest instant of the rows that `whose` joins to an entity: one step in an index."""
    entity = whose.right.table
    return select(func.max(instant)).where(whose, *conditions).correlate(entity).scalar_subquery()


# Submissions.


def submission_counts_with(idle_seconds: int) -> RecomputedTally:
    """The tally of submissions where a gap counts as time spent for at most so many seconds."""

    def aggregate(scope: Scope) -> Select[Any]:
        totals = totals_of(scope, 1000 * idle_seconds)
        figures = (c for c in totals.c if c.name != "submission_id")
        return (
            select(
                submissions.c.id.label("submission_id"),
                submissions.c.assignment_id,
                submissions.c.course_id,
                submissions.c.user_id,
                *(func.coalesce(c, 0).label(c.name) for c in figures),
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
        ],
        captures=[
            Capture(submissions, key=_of("submission_id", "id")),
            Capture(log, key=_of("submission_id", "submission_id")),
        ],
        aggregate=aggregate,
    )


submission_counts = submission_counts_with(classroom_idle_seconds())


# Assignments and their groups.


def _assignments(scope: Scope) -> Select[Any]:
    assignment = tables.assignments.c.id
    return select(
        assignment.label("assignment_id"),
        _how_many(submissions, "assignment_id", assignment).label("total_submissions"),
        _latest(submissions.c.date_created, submissions.c.assignment_id == assignment).label(
            "date_last_submission"
        ),
    ).where(*scope(assignment_id=assignment))


assignment_counts = RecomputedTally(
    system="classroom",
    table=tables.assignment_counts,
    key=["assignment_id"],
    measures=["total_submissions", "date_last_submission"],
    captures=[
        Capture(tables.assignments, key=_of("assignment_id", "id")),
        Capture(submissions, key=_of("assignment_id", "assignment_id")),
    ],
    aggregate=_assignments,
)

memberships = tables.assignment_group_memberships


def _groups(scope: Scope) -> Select[Any]:
    group = tables.assignment_groups.c.id
    pairs = (
        select(memberships.c.assignment_group_id, memberships.c.assignment_id)
        .where(*scope(assignment_group_id=memberships.c.assignment_group_id))
        .distinct()
        .subquery("pairs")
    )
    totals = (
        select(
            pairs.c.assignment_group_id,
            func.count().label("assignments"),
            func.sum(_how_many(submissions, "assignment_id", pairs.c.assignment_id)).label(
                "submissions"
            ),
        )
        .group_by(pairs.c.assignment_group_id)
        .subquery("totals")
    )
    return (
        select(
            group.label("assignment_group_id"),
            func.coalesce(totals.c.assignments, 0).label("total_assignments"),
            cast(func.coalesce(totals.c.submissions, 0), Integer).label("total_submissions"),
        )
        .select_from(
            tables.assignment_groups.outerjoin(totals, totals.c.assignment_group_id == group)
        )
        .where(*scope(assignment_group_id=group))
    )


def _groups_of(assignments: FromClause) -> Select[Any]:
    """The groups that the assignments are in."""
    return select(memberships.c.assignment_group_id).where(
        memberships.c.assignment_id.in_(select(assignments.c.assignment_id))
    )


assignment_group_counts = RecomputedTally(
    system="classroom",
    table=tables.assignment_group_counts,
    key=["assignment_group_id"],
    measures=["total_assignments", "total_submissions"],
    captures=[
        Capture(tables.assignment_groups, key=_of("assignment_group_id", "id")),
        Capture(memberships, key=_of("assignment_group_id", "assignment_group_id")),
        Capture(submissions, entity=_of("assignment_id", "assignment_id"), keys=_groups_of),
    ],
    aggregate=_groups,
)


# Courses.


def _members(scope: Scope) -> FromClause:
    """Those who have a role in each course, each once, and what they are."""
    each = (
        select(
            roles.c.course_id,
            roles.c.user_id,
            func.bool_or(events.is_student(roles.c), type_=Boolean).label("is_student"),
            func.bool_or(events.is_instructor(roles.c), type_=Boolean).label("is_instructor"),
            func.min(roles.c.date_created).label("joined"),
        )
        .where(*scope(course_id=roles.c.course_id))
        .group_by(roles.c.course_id, roles.c.user_id)
        .subquery("each")
    )
    return (
        select(
            each.c.course_id,
            func.count().label("users"),
            func.count().filter(each.c.is_student).label("students"),
            func.count().filter(each.c.is_instructor).label("instructors"),
            func.max(each.c.joined).label("date_last_user"),
        )
        .group_by(each.c.course_id)
        .subquery("members")
    )


def _courses(scope: Scope) -> Select[Any]:
    course, members = tables.courses.c.id, _members(scope)
    assignments = tables.assignments
    return (
        select(
            course.label("course_id"),
            _how_many(submissions, "course_id", course).label("total_submissions"),
            _how_many(assignments, "course_id", course).label("total_assignments"),
            _how_many(tables.assignment_groups, "course_id", course).label(
                "total_assignment_groups"
            ),
            func.coalesce(members.c.users, 0).label("total_users"),
            func.coalesce(members.c.students, 0).label("total_students"),
            func.coalesce(members.c.instructors, 0).label("total_instructors"),
            members.c.date_last_user,
            _latest(submissions.c.date_created, submissions.c.course_id == course).label(
                "date_last_submission"
            ),
            _latest(assignments.c.date_created, assignments.c.course_id == course).label(
                "date_last_assignment"
            ),
        )
        .select_from(tables.courses.outerjoin(members, members.c.course_id == course))
        .where(*scope(course_id=course))
    )


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
    captures=[
        Capture(tables.courses, key=_of("course_id", "id")),
        *(
            Capture(source, key=_of("course_id", "course_id"))
            for source in (roles, tables.assignments, tables.assignment_groups, submissions)
        ),
    ],
    aggregate=_courses,
)


# Users.


def _in_courses(scope: Scope) -> FromClause:
    """The courses of each user, each once, and how much these have."""
    whose = scope(user_id=roles.c.user_id)
    pairs = select(roles.c.user_id, roles.c.course_id).where(*whose).distinct().subquery("pairs")

    def have(rows: Table) -> FromClause:
        """How much the courses at hand have, each counted once for all of its users."""
        wanted = select(roles.c.course_id).where(*whose)
        return (
            select(rows.c.course_id, func.count().label("rows"))
            .where(rows.c.course_id.in_(wanted))
            .group_by(rows.c.course_id)
            .subquery(f"{rows.name}_of_courses")
        )

    assignments, groups = have(tables.assignments), have(tables.assignment_groups)
    return (
        select(
            pairs.c.user_id,
            func.count().label("courses"),
            cast(func.sum(assignments.c.rows), Integer).label("assignments"),
            cast(func.sum(groups.c.rows), Integer).label("assignment_groups"),
        )
        .select_from(
            pairs.outerjoin(assignments, assignments.c.course_id == pairs.c.course_id).outerjoin(
                groups, groups.c.course_id == pairs.c.course_id
            )
        )
        .group_by(pairs.c.user_id)
        .subquery("in_courses")
    )


def _users(scope: Scope) -> Select[Any]:
    user, in_courses, logins = tables.users.c.id, _in_courses(scope), tables.login_events
    return (
        select(
            user.label("user_id"),
            func.coalesce(in_courses.c.courses, 0).label("total_courses_in"),
            func.coalesce(in_courses.c.assignments, 0).label("total_assignments"),
            func.coalesce(in_courses.c.assignment_groups, 0).label("total_assignment_groups"),
            _how_many(submissions, "user_id", user).label("total_submissions"),
            _how_many(tables.reports, "user_id", user).label("total_reports"),
            _latest(logins.c.at, logins.c.user_id == user).label("last_logged_in"),
            _latest(
                log.c.date_created,
                log.c.subject_id == user,
                # As the index has it.
                log.c.event_type.in_(events.EDITS),
            ).label("last_edited"),
        )
        .select_from(tables.users.outerjoin(in_courses, in_courses.c.user_id == user))
        .where(*scope(user_id=user))
    )


def _users_of(courses: FromClause) -> Select[Any]:
    """Those who have a role in the courses."""
    return select(roles.c.user_id).where(roles.c.course_id.in_(select(courses.c.course_id)))


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
    captures=[
        Capture(tables.users, key=_of("user_id", "id")),
        *(
            Capture(source, key=_of("user_id", "user_id"))
            for source in (roles, submissions, tables.reports, tables.login_events)
        ),
        Capture(log, key=_whoever_edited),
        *(
            Capture(source, entity=_of("course_id", "course_id"), keys=_users_of)
            for source in (tables.assignments, tables.assignment_groups)
        ),
    ],
    aggregate=_users,
)

# Apart from `user_counts`, because it is a sum over a derived table, which costs no more than the
# submissions that changed: from the log it would be all events of all of the user's submissions.
user_time_spent = AdditiveTally(
    system="classroom",
    table=tables.user_time_spent,
    contributions=[
        Contribution(
            tables.submission_counts,
            key=lambda counts: {"user_id": counts.user_id},
            measures=lambda counts: {"submissions": 1, "time_spent_ms": counts.time_spent_ms},
        )
    ],
)


# Days.

submission_daily_activity = AdditiveTally(
    system="classroom",
    table=tables.submission_daily_activity,
    window=Window("day", "day"),
    contributions=[
        Contribution(
            log,
            key=lambda event: {"course_id": event.course_id, "day": event.date_created},
            measures=lambda event: {
                "events": 1,
                **{name: _number(what) for name, what in events.happened(event).items()},
            },
        )
    ],
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
    [*_looked_up, user_time_spent, submission_daily_activity],
    prepare=_prepare,
)
