"""The fediverse's hashtags and domains over HTTP: trends, hours, and what is used together."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response

from assets.fediverse import reads
from assets.fediverse.routes import shapes
from assets.fediverse.routes.parameters import (
    LONGEST_NAME,
    At,
    End,
    Instance,
    Limit,
    Start,
    now,
    of_instance,
    span,
    whole_hours,
)
from assets.fediverse.tallies import hashtag_hourly_stats, hourly_domain_stats
from tallykeeper.http.database import Snapshots
from tallykeeper.maintain.fingerprint import Part

Minimum = Annotated[int, Query(ge=1, le=1_000_000)]
Hours = Annotated[int, Query(ge=1, le=1_000, description="Whole hours of the recent window.")]
BaselineHours = Annotated[
    int, Query(ge=1, le=8_784, description="Hours before it, to compare with.")
]
Above = Annotated[float, Query(ge=0, le=1e9, description="Only what rose by more than this.")]
Name = Annotated[str, Path(max_length=LONGEST_NAME)]


def add_hashtags(routes: APIRouter, ask: Snapshots) -> None:
    """Add the questions about hashtags and domains to the routes."""
    _add_trends(routes, ask)
    _add_uses(routes, ask)
    _add_domains(routes, ask)


def _add_trends(routes: APIRouter, ask: Snapshots) -> None:
    @routes.get("/api/hashtags/trending", response_model=shapes.Trending)
    def trending(
        request: Request,
        instance: Instance,
        hours: Hours = 4,
        baseline_hours: BaselineHours = 20,
        minimum_posts: Minimum = 3,
        minimum_accounts: Minimum = 3,
        limit: Limit = 10,
        at: At = None,
    ) -> Response:
        """Hashtags used more recently than before; no entity tag, for every moment counts."""
        moment = at or now()

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

    @routes.get("/api/hashtags/growing", response_model=shapes.Trending)
    def growing(
        request: Request,
        instance: Instance,
        hours: Hours = 4,
        baseline_hours: BaselineHours = 20,
        above: Above = 1.5,
        minimum_posts: Minimum = 3,
        minimum_accounts: Minimum = 3,
        limit: Limit = 10,
        at: At = None,
    ) -> Response:
        """Hashtags by plain growth: the recent rate over the baseline's; no entity tag."""
        moment = at or now()

        def read(connection: Connection) -> dict[str, Any]:
            found = reads.growing_hashtags(
                connection,
                instance,
                moment,
                window_hours=hours,
                baseline_hours=baseline_hours,
                above=above,
                minimum_posts=minimum_posts,
                minimum_accounts=minimum_accounts,
                limit=limit,
            )
            return {"at": moment, "hashtags": found}

        return ask.answer(request, read)

    @routes.get("/api/hashtags/spiking", response_model=shapes.Trending)
    def spiking(
        request: Request,
        instance: Instance,
        hours_before: Annotated[
            int, Query(ge=1, le=8_784, description="How long ago the hour to compare with was.")
        ] = 24,
        decay_hours: Annotated[float, Query(gt=0, le=1e9)] = 6.0,
        above: Above = 0.0,
        minimum_posts: Minimum = 1,
        minimum_accounts: Minimum = 1,
        limit: Limit = 10,
        at: At = None,
    ) -> Response:
        """Hashtags used more in this hour than in the same hour of the day before; no entity tag.

        Without smoothing: (uses - uses then) / uses then, times the decay.
        """
        moment = at or now()

        def read(connection: Connection) -> dict[str, Any]:
            found = reads.spiking_hashtags(
                connection,
                instance,
                moment,
                hours_before=hours_before,
                decay_hours=decay_hours,
                above=above,
                minimum_posts=minimum_posts,
                minimum_accounts=minimum_accounts,
                limit=limit,
            )
            return {"at": moment, "hashtags": found}

        return ask.answer(request, read)


def _add_uses(routes: APIRouter, ask: Snapshots) -> None:
    @routes.get("/api/hashtags/{name}/hourly", response_model=shapes.HashtagHours)
    def hashtag_hourly(
        request: Request,
        name: Name,
        instance: Instance,
        start: Start = None,
        end: End = None,
    ) -> Response:
        """A hashtag's use in every hour, empty ones with zeros."""
        first, last = whole_hours(start, end)
        return ask.answer(
            request,
            lambda c: {"hours": reads.hashtag_series(c, instance, name, first, last)},
            Part(hashtag_hourly_stats),
            question=[first.isoformat(), last.isoformat()],
        )

    @routes.get("/api/hashtags/cooccurrence", response_model=shapes.Pairs)
    def cooccurrence(
        request: Request,
        instance: Instance,
        hashtag: Annotated[
            str | None,
            Query(max_length=LONGEST_NAME, description="By default the pairs of all hashtags."),
        ] = None,
        start: Start = None,
        end: End = None,
        limit: Limit = 20,
    ) -> Response:
        """Hashtags used in the same posts, most posts first; no entity tag."""
        first, last = span(start, end)

        def read(connection: Connection) -> dict[str, Any]:
            found = reads.hashtag_cooccurrence(
                connection, instance, hashtag, first, last, limit=limit
            )
            return {"pairs": found}

        return ask.answer(request, read)


def _add_domains(routes: APIRouter, ask: Snapshots) -> None:
    @routes.get("/api/domains", response_model=shapes.Domains)
    def domains(
        request: Request,
        instance: Instance,
        start: Start = None,
        end: End = None,
        limit: Limit = 10,
    ) -> Response:
        """The domains whose accounts posted most in the hours asked for."""
        first, last = whole_hours(start, end)
        return ask.answer(
            request,
            lambda c: {"domains": reads.top_domains(c, instance, first, last, limit=limit)},
            Part(hourly_domain_stats, of_instance(instance, "hour", first, last)),
            question=[first.isoformat(), last.isoformat()],
        )

    @routes.get("/api/domains/{domain}/hourly", response_model=shapes.DomainHours)
    def domain_hourly(
        request: Request,
        domain: Annotated[str, Path(max_length=LONGEST_NAME)],
        instance: Instance,
        start: Start = None,
        end: End = None,
    ) -> Response:
        """What the accounts of a domain posted in every hour, empty ones with zeros."""
        first, last = whole_hours(start, end)
        return ask.answer(
            request,
            lambda c: {"hours": reads.domain_series(c, instance, domain, first, last)},
            Part(hourly_domain_stats, of_instance(instance, "hour", first, last)),
            question=[first.isoformat(), last.isoformat()],
        )
