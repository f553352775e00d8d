"""What an application asks of the classroom: the counts of a submission, assignment, course, user.

All are exact as of the last commit that the connection sees, before any refresh and on a database
where nothing was ever built. Of one id a function returns that entity's counts, of several a dict
by id, in the order asked. What has no events, and what there is not, has zeros, and None for a
date; an average, a deviation or a percentile of nothing is 0 too. Times are in seconds, dates in
UTC.

Of a course, or of all, there is the activity by day, week, month and year. Every function is one
statement. All raise ValueError for what is no id, and NotInstalled where the
classroom is not in the database.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, date, datetime
from typing import Any, TypedDict, cast, overload

from sqlalchemy import Connection, DateTime, Table, text
from sqlalchemy.exc import DBAPIError

from assets.classroom import tables
from assets.classroom.counting.lookups import USER_TIME, lookup_of
from assets.classroom.tallies import report_daily_counts, submission_daily_activity
from tallykeeper import Tally
from tallykeeper.database.sqlstates import UNDEFINED_FUNCTION, sqlstate_of
from tallykeeper.errors import NotInstalled
from tallykeeper.reads.grouping import MOST_GROUPS, PERIODS, after, grouped
from tallykeeper.reads.live_reads import days, read

LARGEST_ID = 2**63 - 1
_IDS = "CAST(:ids AS bigint[])"
# What Python's dates can hold.
_FIRST, _LAST = "0001-01-01 00:00:00Z", "9999-12-31 23:59:59Z"

Counts = dict[str, Any]


class SubmissionCounts(TypedDict):
    """What was done for a submission, and how long it took, in seconds.

    Average, deviation and percentiles of edits are of the times from one edit to the next, those of
    attempts from one attempt to the next; `average_time_before_...` is the time since whatever
    event came before one.
    """

    runs: int
    edits: int
    attempts: int
    syntax_errors: int
    runtime_errors: int
    failed_instructor_tests: int
    average_edit_time: float
    average_attempt_time: float
    estimated_time_spent: float
    edit_time_deviation: float
    median_edit_time: float
    p90_edit_time: float
    average_time_before_edit: float
    average_time_before_attempt: float


class AssignmentCounts(TypedDict):
    """The submissions of an assignment."""

    total_submissions: int
    date_last_submission: datetime | None


class AssignmentGroupCounts(TypedDict):
    """The assignments of a group, and their submissions."""

    total_assignments: int
    total_submissions: int


class CourseCounts(TypedDict):
    """The work and the people of a course."""

    total_submissions: int
    total_assignments: int
    total_assignment_groups: int
    total_users: int
    total_students: int
    total_instructors: int
    date_last_user: datetime | None
    date_last_submission: datetime | None
    date_last_assignment: datetime | None


class UserCounts(TypedDict):
    """The courses of a user, the work done (seconds), and when the user was last seen."""

    total_courses_in: int
    total_assignments: int
    total_assignment_groups: int
    total_submissions: int
    total_reports: int
    estimated_time_spent: float
    last_logged_in: datetime | None
    last_edited: datetime | None


@overload
def submission_counts(connection: Connection, ids: int) -> SubmissionCounts: ...
@overload
def submission_counts(
    connection: Connection, ids: Collection[int]
) -> dict[int, SubmissionCounts]: ...
def submission_counts(
    connection: Connection, ids: int | Collection[int]
) -> SubmissionCounts | dict[int, SubmissionCounts]:
    """Runs, edits, attempts, errors and times (seconds) of the submission, or of each of several.

    Raises ValueError where an id is none, NotInstalled where the classroom is not there.
    """
    return cast(Any, _asked(connection, tables.submission_counts, SubmissionCounts, ids))


@overload
def assignment_counts(connection: Connection, ids: int) -> AssignmentCounts: ...
@overload
def assignment_counts(
    connection: Connection, ids: Collection[int]
) -> dict[int, AssignmentCounts]: ...
def assignment_counts(
    connection: Connection, ids: int | Collection[int]
) -> AssignmentCounts | dict[int, AssignmentCounts]:
    """Submissions of the assignment, or of each of several.

    Raises ValueError where an id is none, NotInstalled where the classroom is not there.
    """
    return cast(Any, _asked(connection, tables.assignment_counts, AssignmentCounts, ids))


@overload
def assignment_group_counts(connection: Connection, ids: int) -> AssignmentGroupCounts: ...
@overload
def assignment_group_counts(
    connection: Connection, ids: Collection[int]
) -> dict[int, AssignmentGroupCounts]: ...
def assignment_group_counts(
    connection: Connection, ids: int | Collection[int]
) -> AssignmentGroupCounts | dict[int, AssignmentGroupCounts]:
    """Assignments and submissions of the group, or of each of several.

    Raises ValueError where an id is none, NotInstalled where the classroom is not there.
    """
    return cast(Any, _asked(connection, tables.assignment_group_counts, AssignmentGroupCounts, ids))


@overload
def course_counts(connection: Connection, ids: int) -> CourseCounts: ...
@overload
def course_counts(connection: Connection, ids: Collection[int]) -> dict[int, CourseCounts]: ...
def course_counts(
    connection: Connection, ids: int | Collection[int]
) -> CourseCounts | dict[int, CourseCounts]:
    """Submissions, assignments and people of the course, or of each of several.

    Raises ValueError where an id is none, NotInstalled where the classroom is not there.
    """
    return cast(Any, _asked(connection, tables.course_counts, CourseCounts, ids))


@overload
def user_counts(connection: Connection, ids: int) -> UserCounts: ...
@overload
def user_counts(connection: Connection, ids: Collection[int]) -> dict[int, UserCounts]: ...
def user_counts(
    connection: Connection, ids: int | Collection[int]
) -> UserCounts | dict[int, UserCounts]:
    """Courses, work and time (seconds) of the user, or of each of several, and when last seen.

    Raises ValueError where an id is none, NotInstalled where the classroom is not there.
    """
    return cast(Any, _asked(connection, tables.user_counts, UserCounts, ids, _WITH_TIME))


class Activity(TypedDict):
    """What happened in a day, week, month or year, which is named by its first day."""

    period: str
    events: int
    runs: int
    edits: int
    attempts: int
    syntax_errors: int
    runtime_errors: int
    failed_instructor_tests: int


def activity(
    connection: Connection,
    course_id: int | None = None,
    start: date | None = None,
    end: date | None = None,
    unit: str = "day",
) -> list[Activity]:
    """Events of a course per `unit` (day, week, month, year), or of all courses, oldest first.

    Of the days from `start` to `end`, both included, UTC; None is open. A period is named by its
    first day, a week by its Monday; those without events are left out. Raises ValueError where the
    start is after the end, for another unit and what is no id, NotInstalled where the classroom is
    not there.
    """
    names = [name for name in Activity.__annotations__ if name != "period"]
    where = {} if course_id is None else {"course_id": _id(course_id)}
    found = _periods(connection, submission_daily_activity, names, where, start, end, unit)
    return [cast(Activity, each) for each in found]


def _periods(
    connection: Connection,
    tally: Tally,
    names: list[str],
    where: dict[str, int],
    start: date | None,
    end: date | None,
    unit: str,
) -> list[Counts]:
    if unit != "day" and unit not in PERIODS:
        raise ValueError(f"Expected a unit, day or {', '.join(PERIODS)}, but it is {unit!r}.")
    first, last = days(start, end)
    found = grouped(
        connection,
        tally,
        [f"day:{unit}"],
        measures=names,
        where=where,
        start=first,
        end=None if last is None else after(last),
        limit=MOST_GROUPS,
    )
    return [{"period": g["day"], **{n: g[n] for n in names}} for g in found.groups]


class Reports(TypedDict):
    """Reports in a day, week, month or year, which is named by its first day."""

    period: str
    reports: int


def reports(
    connection: Connection,
    user_id: int | None = None,
    start: date | None = None,
    end: date | None = None,
    unit: str = "day",
) -> list[Reports]:
    """Reports that a user asked for per `unit`, or all users together, as `activity` has events.

    Raises what `activity` raises.
    """
    where = {} if user_id is None else {"user_id": _id(user_id)}
    found = _periods(connection, report_daily_counts, ["reports"], where, start, end, unit)
    return [cast(Reports, each) for each in found]


_WITH_TIME = f" LEFT JOIN {USER_TIME}({_IDS}) AS t USING (user_id)"


def _asked(
    connection: Connection,
    table: Table,
    shape: type[Any],
    ids: int | Collection[int],
    joined: str = "",
) -> Counts | dict[int, Counts]:
    """The counts of the entity, or by id of several, from the table's function."""
    several = isinstance(ids, Collection) and not isinstance(ids, str)
    given = cast(Collection[int], ids if several else [ids])
    wanted = list(dict.fromkeys(_id(i) for i in given))
    kinds = shape.__annotations__
    fields = ", ".join(f"{_field(table, name)} AS {name}" for name in kinds)
    (key,) = table.primary_key.columns.keys()
    function = lookup_of(table)
    query = text(f"SELECT {key} AS id, {fields} FROM {function}({_IDS}) AS c{joined}")
    found = {
        row.id: {name: _value(getattr(row, name)) for name in kinds}
        for row in _read(connection, query.bindparams(ids=wanted), function)
    }
    none = {name: _nothing(table, name) for name in kinds}
    if not several:
        return found.get(wanted[0], none)
    return {i: found.get(i, dict(none)) for i in wanted}


def _field(table: Table, name: str) -> str:
    """The SQL of one field, from what the function returns."""
    if table is tables.user_counts and name == "estimated_time_spent":
        return "(coalesce(t.time_spent_ms, 0) / 1000.0)::float8"
    if name in tables.SECONDS:
        return f"({tables.SECONDS[name]})::float8"
    if isinstance(table.c[name].type, DateTime):
        within = f"least(greatest({name}, timestamptz '{_FIRST}'), timestamptz '{_LAST}')"
        # Without its zone, because the session's could lead out of that again.
        return f"CASE WHEN {name} IS NOT NULL THEN timezone('UTC', {within}) END"
    return name


def _nothing(table: Table, name: str) -> Any:
    """What stands for an entity that has no row."""
    if name in tables.SECONDS:
        return 0.0
    return None if isinstance(table.c[name].type, DateTime) else 0


def _value(value: Any) -> Any:
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) else value


def _id(given: object) -> int:
    if not isinstance(given, int) or isinstance(given, bool) or abs(given) > LARGEST_ID:
        raise ValueError(
            f"Expected an id, a whole number of at most 64 bits, or a list of such, but there is"
            f" {given!r}."
        )
    return given


def _read(connection: Connection, query: Any, function: str) -> list[Any]:
    try:
        return read(connection, query, f"the function {function}")
    except DBAPIError as error:
        if sqlstate_of(error) != UNDEFINED_FUNCTION:
            raise
        raise NotInstalled(
            f"Expected the function {function}, but it is not in this database, or not as this"
            " version has it; run `tally migrate`."
        ) from error
