"""What assignments, groups, courses and users have: the SELECTs that the declarations name.

Of each entity that there is, a row. Counts and latest dates of one source are looked up by its
index for each entity; what takes several rows of a source together is grouped. Invariants:
every SELECT asks its sources for the entities in scope alone. Submissions are in `gaps.py`.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    Boolean,
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
from tallykeeper import KeyFilter

log, roles, submissions = tables.submission_log, tables.roles, tables.submissions
memberships = tables.assignment_group_memberships


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


def assignments_of(scope: KeyFilter) -> Select[Any]:
    """How many submissions each assignment has, and when the latest was made."""
    assignment = tables.assignments.c.id
    return select(
        assignment.label("assignment_id"),
        _how_many(submissions, "assignment_id", assignment).label("total_submissions"),
        _latest(submissions.c.date_created, submissions.c.assignment_id == assignment).label(
            "date_last_submission"
        ),
    ).where(*scope(assignment_id=assignment))


def groups_of(scope: KeyFilter) -> Select[Any]:
    """How many assignments each group has, each once, and how many submissions these have."""
    group = tables.assignment_groups.c.id
    pairs = (
        select(memberships.c.assignment_group_id, memberships.c.assignment_id)
        .where(
            memberships.c.assignment_id.is_not(None),
            *scope(assignment_group_id=memberships.c.assignment_group_id),
        )
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


def groups_with(assignments: FromClause) -> Select[Any]:
    """The groups that the assignments are in."""
    return select(memberships.c.assignment_group_id).where(
        memberships.c.assignment_id.in_(select(assignments.c.assignment_id))
    )


def _members(scope: KeyFilter) -> FromClause:
    """Those who have a role in each course, each once, and what they are."""
    each = (
        select(
            roles.c.course_id,
            roles.c.user_id,
            func.bool_or(events.is_student(roles.c), type_=Boolean).label("is_student"),
            func.bool_or(events.is_instructor(roles.c), type_=Boolean).label("is_instructor"),
            func.min(roles.c.date_created).label("joined"),
        )
        .where(roles.c.user_id.is_not(None), *scope(course_id=roles.c.course_id))
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


def courses_of(scope: KeyFilter) -> Select[Any]:
    """How much each course has, who takes part, and when the latest of each came."""
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


def _in_courses(scope: KeyFilter) -> FromClause:
    """The courses of each user, each once, and how much these have."""
    whose = [roles.c.course_id.is_not(None), *scope(user_id=roles.c.user_id)]
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


def users_of(scope: KeyFilter) -> Select[Any]:
    """The courses of each user and what these have, the user's own work, and when last seen."""
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


def users_in(courses: FromClause) -> Select[Any]:
    """Those who have a role in the courses."""
    return select(roles.c.user_id).where(roles.c.course_id.in_(select(courses.c.course_id)))
