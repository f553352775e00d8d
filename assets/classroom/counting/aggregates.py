"""What assignments, groups, courses and users have: the SELECTs that the declarations name.

Of each entity that there is, a row. What is counted of an entity is found by an index on it, in a
subquery of its own or, where several figures come of the same rows, as groups that are joined.
Submissions are in `gaps.py`.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    FromClause,
    Integer,
    ScalarSelect,
    Select,
    Table,
    cast,
    func,
    select,
)

from assets.classroom import tables
from assets.classroom.counting import events

log, roles, submissions = tables.submission_log, tables.roles, tables.submissions
memberships = tables.assignment_group_memberships


def _how_many(
    rows: Table, column: str, whose: ColumnElement[int], *conditions: ColumnElement[bool]
) -> ScalarSelect[int]:
    """How many rows name the entity `whose`, by an index on the column."""
    counted = select(cast(func.count(), Integer)).select_from(rows)
    return (
        counted.where(rows.c[column] == whose, *conditions).correlate(whose.table).scalar_subquery()
    )


def _latest(
    instant: ColumnElement[Any], whose: ColumnElement[bool], *conditions: ColumnElement[bool]
) -> ScalarSelect[Any]:
    """The latest instant of the rows that `whose` joins to an entity: one step in an index."""
    entity = whose.right.table
    return select(func.max(instant)).where(whose, *conditions).correlate(entity).scalar_subquery()


def _zero(value: ColumnElement[Any]) -> ColumnElement[Any]:
    """A count as the table holds it; none where there is nothing to count."""
    return cast(func.coalesce(value, 0), Integer)


def assignments() -> Select[Any]:
    """How many submissions each assignment has, and when the latest was made."""
    made = (
        select(
            submissions.c.assignment_id,
            func.count().label("submissions"),
            func.max(submissions.c.date_created).label("latest"),
        )
        .group_by(submissions.c.assignment_id)
        .subquery("made")
    )
    assignment = tables.assignments.c.id
    return select(
        assignment.label("assignment_id"),
        _zero(made.c.submissions).label("total_submissions"),
        made.c.latest.label("date_last_submission"),
    ).select_from(tables.assignments.outerjoin(made, made.c.assignment_id == assignment))


def groups() -> Select[Any]:
    """How many assignments each group has, each once, and how many submissions these have."""
    pairs = (
        select(memberships.c.assignment_group_id, memberships.c.assignment_id)
        .where(memberships.c.assignment_id.is_not(None))
        .distinct()
        .subquery("pairs")
    )
    made = (
        select(submissions.c.assignment_id, func.count().label("rows"))
        .group_by(submissions.c.assignment_id)
        .subquery("made")
    )
    totals = (
        select(
            pairs.c.assignment_group_id,
            func.count().label("assignments"),
            func.sum(made.c.rows).label("submissions"),
        )
        .select_from(pairs.outerjoin(made, made.c.assignment_id == pairs.c.assignment_id))
        .group_by(pairs.c.assignment_group_id)
        .subquery("totals")
    )
    group = tables.assignment_groups.c.id
    return select(
        group.label("assignment_group_id"),
        _zero(totals.c.assignments).label("total_assignments"),
        _zero(totals.c.submissions).label("total_submissions"),
    ).select_from(tables.assignment_groups.outerjoin(totals, totals.c.assignment_group_id == group))


def _members() -> FromClause:
    """Those who have a role in each course, each once, and what they are."""
    each = (
        select(
            roles.c.course_id,
            roles.c.user_id,
            func.bool_or(events.is_student(roles.c), type_=Boolean).label("is_student"),
            func.bool_or(events.is_instructor(roles.c), type_=Boolean).label("is_instructor"),
            func.min(roles.c.date_created).label("joined"),
        )
        .where(roles.c.user_id.is_not(None))
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


def courses() -> Select[Any]:
    """How much each course has, who takes part, and when the latest of each came."""
    course, members = tables.courses.c.id, _members()
    assignments = tables.assignments
    return select(
        course.label("course_id"),
        _how_many(submissions, "course_id", course).label("total_submissions"),
        _how_many(assignments, "course_id", course).label("total_assignments"),
        _how_many(tables.assignment_groups, "course_id", course).label("total_assignment_groups"),
        _zero(members.c.users).label("total_users"),
        _zero(members.c.students).label("total_students"),
        _zero(members.c.instructors).label("total_instructors"),
        members.c.date_last_user,
        _latest(submissions.c.date_created, submissions.c.course_id == course).label(
            "date_last_submission"
        ),
        _latest(assignments.c.date_created, assignments.c.course_id == course).label(
            "date_last_assignment"
        ),
    ).select_from(tables.courses.outerjoin(members, members.c.course_id == course))


def _of_courses(user: Column[int], counted: Column[int], *joined: Table) -> ScalarSelect[int]:
    """How many different values there are in the courses that a user has a role in."""
    rows: FromClause = roles
    for table in joined:
        rows = rows.join(table, table.c.course_id == roles.c.course_id)
    found = select(cast(func.count(counted.distinct()), Integer)).select_from(rows)
    return found.where(roles.c.user_id == user).correlate(user.table).scalar_subquery()


def users() -> Select[Any]:
    """The courses of each user and what these have, the user's own work, and when last seen."""
    user, logins = tables.users.c.id, tables.login_events
    return select(
        user.label("user_id"),
        _of_courses(user, roles.c.course_id).label("total_courses_in"),
        _of_courses(user, tables.assignments.c.id, tables.assignments).label("total_assignments"),
        _of_courses(user, tables.assignment_groups.c.id, tables.assignment_groups).label(
            "total_assignment_groups"
        ),
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
