"""The classroom over HTTP: counts of submissions, assignments, groups, courses, users; activity.

One form for all: of one id its counts, of several an object by id, in the order asked. What has no
events, and what there is not, has zeros, as in the reads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query
from pydantic import create_model
from sqlalchemy import BigInteger, Connection, literal, text
from starlette.requests import Request
from starlette.responses import Response

from assets.classroom import reads
from assets.classroom.tallies import (
    assignment_counts,
    assignment_group_counts,
    course_counts,
    report_daily_counts,
    submission_counts,
    submission_daily_activity,
    user_counts,
)
from tallykeeper import Tally
from tallykeeper.http.answers import Answer, shape_of
from tallykeeper.http.database import Provider, Snapshots
from tallykeeper.http.parameters import Day
from tallykeeper.http.problems import Route, unaskable
from tallykeeper.http.routing import PROBLEMS
from tallykeeper.maintain.fingerprint import Condition, Part

MOST_IDS = 1_000

Id = Annotated[int, Path(ge=-reads.LARGEST_ID, le=reads.LARGEST_ID)]
Ids = Annotated[
    list[Annotated[str, Query(pattern="^-?[0-9]{1,19}(,-?[0-9]{1,19})*$")]],
    Query(
        min_length=1,
        max_length=MOST_IDS,
        description=f"Up to {MOST_IDS:,} ids, with commas between them, or given once for each.",
    ),
]


class Courses(Answer):
    """Which courses there are."""

    courses: list[int]


class ActivityAnswer(Answer):
    """Periods with events, oldest first."""

    activity: list[shape_of(reads.Activity)]  # type: ignore[valid-type]


class ReportsAnswer(Answer):
    """Periods with reports, oldest first."""

    reports: list[shape_of(reads.Reports)]  # type: ignore[valid-type]


Unit = Annotated[Literal["day", "week", "month", "year"], Query(description="Of a period.")]
First = Annotated[Day | None, Query(description="First day, UTC.")]
Last = Annotated[Day | None, Query(description="Last day, UTC, included.")]


@dataclass(frozen=True)
class _Entity:
    """What can be asked for: how addresses call it, the read, and what that reads."""

    path: str
    counts: type
    read: Callable[..., Any]
    tally: Tally
    also: tuple[Tally, ...] = ()

    def parts(self, ids: Sequence[int]) -> list[Part]:
        (key,) = self.tally.key
        return [Part(self.tally, _one_of(key, ids)), *(Part(tally) for tally in self.also)]


_ENTITIES = [
    _Entity("submissions", reads.SubmissionCounts, reads.submission_counts, submission_counts),
    _Entity("assignments", reads.AssignmentCounts, reads.assignment_counts, assignment_counts),
    _Entity(
        "assignment-groups",
        reads.AssignmentGroupCounts,
        reads.assignment_group_counts,
        assignment_group_counts,
    ),
    _Entity("courses", reads.CourseCounts, reads.course_counts, course_counts),
    # The time that a user spent is summed over the user's submissions.
    _Entity("users", reads.UserCounts, reads.user_counts, user_counts, (submission_counts,)),
]


def router(provider: Provider) -> APIRouter:
    """The classroom's questions, answered from the database of `provider`."""
    ask = Snapshots(provider)
    routes = APIRouter(tags=["classroom"], route_class=Route, responses=PROBLEMS)
    for entity in _ENTITIES:
        _add(routes, ask, entity)

    @routes.get("/api/courses/{id}/activity", response_model=ActivityAnswer)
    def activity_of_a_course(
        request: Request,
        id: Id,  # noqa: A002 -- as in the address
        unit: Unit = "day",
        start: First = None,
        end: Last = None,
    ) -> Response:
        """Events of a course per day, week, month or year, oldest first."""
        return _activity(ask, request, id, unit, start, end)

    @routes.get("/api/activity", response_model=ActivityAnswer)
    def activity(
        request: Request, unit: Unit = "day", start: First = None, end: Last = None
    ) -> Response:
        """Events of all courses together per day, week, month or year, oldest first."""
        return _activity(ask, request, None, unit, start, end)

    @routes.get("/api/users/{id}/reports", response_model=ReportsAnswer)
    def reports_of_a_user(
        request: Request,
        id: Id,  # noqa: A002 -- as in the address
        unit: Unit = "day",
        start: First = None,
        end: Last = None,
    ) -> Response:
        """Reports that a user asked for per day, week, month or year, oldest first."""
        return _reports(ask, request, id, unit, start, end)

    @routes.get("/api/reports", response_model=ReportsAnswer)
    def reports(
        request: Request, unit: Unit = "day", start: First = None, end: Last = None
    ) -> Response:
        """Reports of all users together per day, week, month or year, oldest first."""
        return _reports(ask, request, None, unit, start, end)

    @routes.get("/api/courses", response_model=Courses)
    def courses(request: Request) -> Response:
        """The courses that there are, by id; the first thousand."""
        return ask.answer(request, _courses, Part(course_counts))

    return routes


def _activity(
    ask: Snapshots,
    request: Request,
    course: int | None,
    unit: str,
    start: date | None,
    end: date | None,
) -> Response:
    def read(connection: Connection) -> dict[str, Any]:
        return {"activity": reads.activity(connection, course, start, end, unit)}

    key = None if course is None else _one_of("course_id", [course])
    return ask.answer(request, read, Part(submission_daily_activity, key))


def _reports(
    ask: Snapshots,
    request: Request,
    user: int | None,
    unit: str,
    start: date | None,
    end: date | None,
) -> Response:
    def read(connection: Connection) -> dict[str, Any]:
        return {"reports": reads.reports(connection, user, start, end, unit)}

    key = None if user is None else _one_of("user_id", [user])
    return ask.answer(request, read, Part(report_daily_counts, key))


def _courses(connection: Connection) -> dict[str, Any]:
    query = text(
        f"SELECT course_id FROM {course_counts.live_name} ORDER BY course_id LIMIT {MOST_IDS}"
    )
    return {"courses": list(connection.scalars(query))}


def _add(routes: APIRouter, ask: Snapshots, entity: _Entity) -> None:
    name = entity.path.replace("-", "_")
    shape: Any = shape_of(entity.counts)
    one = create_model(f"{shape.__name__}Answer", __base__=(Answer, shape))
    by_id = create_model(f"{shape.__name__}ById", __base__=Answer, counts=(dict[str, shape], ...))
    what = entity.path.replace("-", " ")

    @routes.get(
        f"/api/{entity.path}/counts",
        response_model=by_id,
        name=f"{name}_counts",
        operation_id=f"{name}_counts",
        summary=f"The counts of several {what}, by id.",
    )
    def counts_of_several(request: Request, ids: Ids) -> Response:
        wanted = _numbers(ids)

        def read(connection: Connection) -> dict[str, Any]:
            found = entity.read(connection, wanted)
            return {"counts": {str(i): counts for i, counts in found.items()}}

        return ask.answer(request, read, *entity.parts(wanted))

    @routes.get(
        f"/api/{entity.path}/{{id}}/counts",
        response_model=one,
        name=f"{name}_counts_of_one",
        operation_id=f"{name}_counts_of_one",
        summary=f"The counts of one of the {what}.",
    )
    def counts_of_one(request: Request, id: Id) -> Response:  # noqa: A002 -- as in the address
        return ask.answer(request, lambda c: {**entity.read(c, id)}, *entity.parts([id]))


def _numbers(given: Sequence[str]) -> list[int]:
    numbers = [int(number) for some in given for number in some.split(",")]
    if len(numbers) > MOST_IDS:
        raise unaskable(f"Expected at most {MOST_IDS:,} ids, but there are {len(numbers):,}.")
    return numbers


def _one_of(key: str, ids: Sequence[int]) -> Condition:
    known = sorted(i for i in set(ids) if abs(i) <= reads.LARGEST_ID)

    def conditions(row: Any) -> list[Any]:
        return [row[key].in_([literal(i, BigInteger()) for i in known])]

    return conditions
