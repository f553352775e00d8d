"""Any tally over HTTP, its rows put together by fewer columns than its key has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query
from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response

from tallykeeper import System
from tallykeeper.http.answers import Answer
from tallykeeper.http.database import Provider, Snapshots
from tallykeeper.http.parameters import Day
from tallykeeper.http.problems import Problem, Route, unaskable
from tallykeeper.http.routing import PROBLEMS, problem
from tallykeeper.maintain.fingerprint import Part
from tallykeeper.reads.grouping import grouped

MOST_GROUPS = 10_000

Names = Annotated[
    list[Annotated[str, Query(max_length=1_000)]] | None,
    Query(max_length=50, description="With commas between them, or given once for each."),
]


class Grouped(Answer):
    """Groups in the order of their columns, and why measures that are missing have no value."""

    groups: list[dict[str, Any]]
    more: bool
    left_out: dict[str, str]


def router(provider: Provider, systems: Sequence[System]) -> APIRouter:
    """Questions about groups of the systems' tallies, answered from the database of `provider`."""
    ask = Snapshots(provider)
    routes = APIRouter(tags=["tallies"], route_class=Route)
    tallies = {tally.name: tally for system in systems for tally in system.tallies}
    responses = {404: problem("There is no such tally."), **PROBLEMS}

    @routes.get("/api/tallies/{name}/groups", response_model=Grouped, responses=responses)
    def groups(
        request: Request,
        name: str,
        group_by: Names = None,
        measures: Names = None,
        where: Annotated[
            list[str] | None,
            Query(max_length=20, description="Rows with this value: `course_id:7`, once for each."),
        ] = None,
        start: Annotated[Day | None, Query(description="First day, UTC.")] = None,
        end: Annotated[Day | None, Query(description="The day after the last, UTC.")] = None,
        limit: Annotated[int, Query(ge=1, le=MOST_GROUPS)] = 1_000,
    ) -> Response:
        """A tally's rows put together by columns of its key: `group_by=course_id,day:week`."""
        tally = tallies.get(name)
        if tally is None:
            choices = ", ".join(tallies)
            raise Problem(404, "not-found", f"There is no such tally; there are {choices}.")
        by, wanted, equal = _listed(group_by) or [], _listed(measures), _equal(where or [])

        def read(connection: Connection) -> dict[str, Any]:
            found = grouped(
                connection,
                tally,
                by,
                measures=wanted,
                where=equal,
                start=start,
                end=end,
                limit=limit,
            )
            return {"groups": found.groups, "more": found.more, "left_out": found.left_out}

        # What groups there are may change without the tally.
        of_others = {each.partition(":")[0] for each in by} & set(tally.memberships)
        return ask.answer(request, read, *([] if of_others else [Part(tally)]))

    return routes


def _listed(given: Sequence[str] | None) -> list[str] | None:
    return None if given is None else [n for some in given for n in some.split(",")]


def _equal(given: Sequence[str]) -> dict[str, str]:
    found = {}
    for each in given:
        name, colon, value = each.partition(":")
        if not colon or name in found:
            raise unaskable(f"Expected column:value, each column once, but there is {each!r}.")
        found[name] = value
    return found
