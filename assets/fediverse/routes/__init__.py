"""The fediverse over HTTP: trends, hours, days, and what became of posts.

Ids of posts and accounts are written as text, as Mastodon writes them: they are larger than
JavaScript's numbers. What is asked for without an end is asked for up to now.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query
from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response

from assets.fediverse import reads
from assets.fediverse.instances import known_instances
from assets.fediverse.questions import query_args
from assets.fediverse.routes import shapes as shapes
from assets.fediverse.routes.accounts import add_accounts
from assets.fediverse.routes.hashtags import add_hashtags
from assets.fediverse.routes.parameters import (
    DAY,
    NOT_FOUND,
    End,
    Instance,
    Start,
    before,
    now,
    of_instance,
    whole,
    whole_hours,
)
from assets.fediverse.routes.posts import add_posts
from assets.fediverse.tallies import daily_summaries, hourly_stats
from tallykeeper.http.database import Provider, Snapshots
from tallykeeper.http.parameters import Moment
from tallykeeper.http.problems import Problem, Route, unaskable
from tallykeeper.http.routing import PROBLEMS
from tallykeeper.maintain.fingerprint import Part

MOST_SUMMARIES = timedelta(days=1_000)
TEXT_COLUMNS = ("model", "prompt_version", "summary_text", "summary_input_hash")


def router(provider: Provider) -> APIRouter:
    """The fediverse's questions, answered from the database of `provider`."""
    ask = Snapshots(provider)
    routes = APIRouter(tags=["fediverse"], route_class=Route, responses=PROBLEMS)
    _add_instances(routes, ask)
    add_accounts(routes, ask)
    add_hashtags(routes, ask)
    _add_hours_and_days(routes, ask)
    add_posts(routes, ask)
    return routes


def _add_instances(routes: APIRouter, ask: Snapshots) -> None:
    @routes.get("/api/instances", response_model=shapes.Instances)
    def instances(request: Request) -> Response:
        """The instances that events were seen of, with their ids."""
        return ask.answer(request, lambda c: {"instances": known_instances(c)})


def _add_hours_and_days(routes: APIRouter, ask: Snapshots) -> None:
    @routes.get("/api/stats/hourly", response_model=shapes.Hours)
    def stats_hourly(
        request: Request, instance: Instance, start: Start = None, end: End = None
    ) -> Response:
        """What happened in every hour, empty ones with zeros."""
        first, last = whole_hours(start, end)
        return ask.answer(
            request,
            lambda c: {"hours": reads.hourly_series(c, instance, first, last)},
            Part(hourly_stats, of_instance(instance, "hour", first, last)),
            question=[first.isoformat(), last.isoformat()],
        )

    @routes.get("/api/summaries", response_model=shapes.Summaries)
    def summaries(
        request: Request,
        instance: Instance,
        start: Annotated[
            Moment | None, Query(description="From when; by default 30 days before the end.")
        ] = None,
        end: End = None,
    ) -> Response:
        """Days with posts, oldest first: their statistics, and the texts about them."""
        until = end or now()
        since = start or before(until, 30 * DAY)
        first, last = whole(query_args.days, since, until)
        if last - first > MOST_SUMMARIES:
            raise unaskable(f"Expected at most {MOST_SUMMARIES.days:,} days; ask in parts.")
        return ask.answer(
            request,
            lambda c: {"summaries": reads.summaries(c, instance, first, last)},
            Part(daily_summaries, of_instance(instance, "window_start", first, last), TEXT_COLUMNS),
            question=[first.isoformat(), last.isoformat()],
        )

    @routes.get("/api/summaries/latest", response_model=shapes.LatestSummary, responses=NOT_FOUND)
    def latest_summary(request: Request, instance: Instance) -> Response:
        """The latest day that has posts, the current one included."""

        def read(connection: Connection) -> dict[str, Any]:
            found = reads.latest_summary(connection, instance)
            if found is None:
                raise Problem(404, "not-found", f"The instance {instance} has no day with posts.")
            return {"summary": found}

        part = Part(daily_summaries, of_instance(instance), TEXT_COLUMNS)
        return ask.answer(request, read, part)
