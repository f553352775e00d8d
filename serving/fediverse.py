"""The fediverse over HTTP: trends, hours, days, and what became of posts.

Ids of posts and accounts are written as text, as Mastodon writes them: they are larger than
JavaScript's numbers. What is asked for without an end is asked for up to now.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from sqlalchemy import BigInteger, Connection, DateTime, literal
from starlette.requests import Request
from starlette.responses import Response

from assets.fediverse import asking, reads
from assets.fediverse.instances import known_instances
from assets.fediverse.tallies import daily_summaries, hashtag_hourly_stats, hourly_stats
from serving import fediverse_shapes as shapes
from serving.database import Provider, Snapshots
from serving.parameters import Moment
from serving.problems import Problem, Route, unaskable
from serving.routing import PROBLEMS, problem
from tallies.fingerprint import Condition, Part

LONGEST_SERIES = timedelta(hours=10_000)
MOST_SUMMARIES = timedelta(days=1_000)
LARGEST_LIST = 1_000
LONGEST_NAME = 500
DAY = timedelta(days=1)
TEXT_COLUMNS = ("model", "prompt_version", "summary_text", "summary_input_hash")
NOT_FOUND: dict[int | str, dict[str, Any]] = {404: problem("There is no such thing.")}

Instance = Annotated[
    int, Query(ge=0, le=asking.LARGEST_ID, description="Its id; /api/instances lists them.")
]
Start = Annotated[Moment | None, Query(description="From when; by default a day before the end.")]
End = Annotated[Moment | None, Query(description="Up to when, not included; by default now.")]
Limit = Annotated[int, Query(ge=1, le=LARGEST_LIST)]


def router(provider: Provider) -> APIRouter:
    """The fediverse's questions, answered from the database of `provider`."""
    ask = Snapshots(provider)
    routes = APIRouter(tags=["fediverse"], route_class=Route, responses=PROBLEMS)
    _add_hashtags(routes, ask)
    _add_hours_and_days(routes, ask)
    _add_posts(routes, ask)
    return routes


def _add_hashtags(routes: APIRouter, ask: Snapshots) -> None:
    @routes.get("/api/instances", response_model=shapes.Instances)
    def instances(request: Request) -> Response:
        """The instances that events were seen of, with their ids."""
        return ask.answer(request, lambda c: {"instances": known_instances(c)})

    @routes.get("/api/hashtags/trending", response_model=shapes.Trending)
    def trending(
        request: Request,
        instance: Instance,
        hours: Annotated[
            int, Query(ge=1, le=1_000, description="Whole hours of the recent window.")
        ] = 4,
        baseline_hours: Annotated[
            int, Query(ge=1, le=8_784, description="Hours before it, to compare with.")
        ] = 20,
        minimum_posts: Annotated[int, Query(ge=1, le=1_000_000)] = 3,
        minimum_accounts: Annotated[int, Query(ge=1, le=1_000_000)] = 3,
        limit: Limit = 10,
        at: Annotated[Moment | None, Query(description="As of when; by default now.")] = None,
    ) -> Response:
        """Hashtags used more of late than before; no entity tag, for every moment counts."""
        moment = at or _now()

        def read(connection: Connection) -> dict[str, Any]:
            found = reads.trending_hashtags(
                connection,
                instance,
                moment,
                window_hours=hours,
                baseline_hours=baseline_hours,
                minimum_posts=minimum_posts,
                minimum_accounts=minimum_accounts,
                limit=limit,
            )
            return {"at": moment, "hashtags": found}

        return ask.answer(request, read)

    @routes.get("/api/hashtags/{name}/hourly", response_model=shapes.HashtagHours)
    def hashtag_hourly(
        request: Request,
        name: Annotated[str, Path(max_length=LONGEST_NAME)],
        instance: Instance,
        start: Start = None,
        end: End = None,
    ) -> Response:
        """A hashtag's use in every hour, empty ones with zeros."""
        first, last = _hours(start, end)
        return ask.answer(
            request,
            lambda c: {"hours": reads.hashtag_series(c, instance, name, first, last)},
            Part(hashtag_hourly_stats),
            question=[first.isoformat(), last.isoformat()],
        )


def _add_hours_and_days(routes: APIRouter, ask: Snapshots) -> None:
    @routes.get("/api/stats/hourly", response_model=shapes.Hours)
    def stats_hourly(
        request: Request, instance: Instance, start: Start = None, end: End = None
    ) -> Response:
        """What happened in every hour, empty ones with zeros."""
        first, last = _hours(start, end)
        return ask.answer(
            request,
            lambda c: {"hours": reads.hourly_series(c, instance, first, last)},
            Part(hourly_stats, _of_instance(instance, "hour", first, last)),
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
        until = end or _now()
        since = start or _before(until, 30 * DAY)
        first, last = _whole(asking.days, since, until)
        if last - first > MOST_SUMMARIES:
            raise unaskable(f"Expected at most {MOST_SUMMARIES.days:,} days; ask in parts.")
        return ask.answer(
            request,
            lambda c: {"summaries": reads.summaries(c, instance, first, last)},
            Part(
                daily_summaries, _of_instance(instance, "window_start", first, last), TEXT_COLUMNS
            ),
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

        part = Part(daily_summaries, _of_instance(instance), TEXT_COLUMNS)
        return ask.answer(request, read, part)


def _add_posts(routes: APIRouter, ask: Snapshots) -> None:
    @routes.get("/api/posts/velocity", response_model=shapes.Velocities)
    def velocity(
        request: Request,
        instance: Instance,
        start: Start = None,
        end: End = None,
        more_than: Annotated[
            int, Query(ge=0, le=asking.LARGEST_ID, description="Favourites gained, at least.")
        ] = 0,
        limit: Limit = 100,
    ) -> Response:
        """Posts that gained most favourites; no entity tag, for they are not of a tally."""
        until = end or _now()
        since = start or _before(until, DAY)

        def read(connection: Connection) -> dict[str, Any]:
            found = reads.engagement_velocity(
                connection, instance, since, until, more_than, limit=limit
            )
            return {"posts": [_with_text_ids(vars(one)) for one in found]}

        return ask.answer(request, read)

    @routes.get("/api/posts/{id}/history", response_model=shapes.History, responses=NOT_FOUND)
    def history(
        request: Request,
        id: Annotated[int, Path(ge=0, le=asking.LARGEST_ID)],  # noqa: A002 -- as in the address
        instance: Instance,
    ) -> Response:
        """A post's versions, what models said of each, and its deletion; no entity tag."""

        def read(connection: Connection) -> dict[str, Any]:
            found = reads.post_history(connection, instance, id)
            if found is None:
                raise Problem(
                    404, "not-found", f"Nothing is known of the post {id} of instance {instance}."
                )
            return _with_text_ids(vars(found))

        return ask.answer(request, read)


def _with_text_ids(fields: dict[str, Any]) -> dict[str, Any]:
    return {n: str(v) if n in ("post_id", "account_id") else v for n, v in fields.items()}


def _now() -> datetime:
    return datetime.now(UTC)


def _before(moment: datetime, by: timedelta) -> datetime:
    return _whole(lambda: asking.later("start", moment, -by))


def _whole(ask: Any, *moments: datetime) -> Any:
    """What `ask` makes of the moments. Raises Problem where they cannot be asked for."""
    try:
        return ask(*moments)
    except ValueError as error:
        raise unaskable(str(error)) from error


def _hours(start: datetime | None, end: datetime | None) -> tuple[datetime, datetime]:
    """The whole hours asked for. Raises Problem where there are none, or too many."""
    until = end or _now()
    since = start or _before(until, DAY)
    first, last = _whole(asking.hours, since, until)
    if last - first > LONGEST_SERIES:
        most = LONGEST_SERIES // asking.HOUR
        raise unaskable(f"Expected at most {most:,} hours; ask in parts.")
    return first, last


def _of_instance(
    instance: int,
    column: str | None = None,
    first: datetime | None = None,
    last: datetime | None = None,
) -> Condition:
    """The instance's keys, of a span that `last` is not part of."""

    def conditions(row: Any) -> list[Any]:
        zoned = DateTime(timezone=True)
        found = [row.instance_id == literal(instance, BigInteger())]
        if column is not None:
            found += [
                row[column] >= literal(first, zoned),
                row[column] < literal(last, zoned),
            ]
        return found

    return conditions
