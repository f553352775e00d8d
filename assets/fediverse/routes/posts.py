"""The fediverse's posts over HTTP: what they gained, what they had, and what became of them."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Path, Query
from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response

from assets.fediverse import reads
from assets.fediverse.processing.functions import LONGEST_ID
from assets.fediverse.questions import query_args
from assets.fediverse.questions.gains import Baseline
from assets.fediverse.routes import shapes
from assets.fediverse.routes.parameters import (
    LARGEST_LIST,
    LONGEST_NAME,
    NOT_FOUND,
    End,
    Instance,
    Limit,
    Start,
    span,
    whole,
)
from tallykeeper.http.database import Snapshots
from tallykeeper.http.parameters import Moment
from tallykeeper.http.problems import Problem

_Found = TypeVar("_Found")

MoreThan = Annotated[
    int, Query(ge=0, le=query_args.LARGEST_COUNT, description="Favourites gained, at least.")
]
PostId = Annotated[
    str,
    Path(
        min_length=1,
        max_length=LONGEST_ID,
        description="As its server writes it; an address as it stands or percent-encoded.",
    ),
]


def add_posts(routes: APIRouter, ask: Snapshots) -> None:
    """Add the questions about posts to the routes."""
    _add_gains(routes, ask)
    _add_sentiments(routes, ask)
    _add_one_post(routes, ask)


def _add_gains(routes: APIRouter, ask: Snapshots) -> None:
    @routes.get("/api/posts/velocity", response_model=shapes.Velocities)
    def velocity(
        request: Request,
        instance: Instance,
        start: Start = None,
        end: End = None,
        more_than: MoreThan = 0,
        baseline: Annotated[
            Baseline,
            Query(description="What a post without a snapshot before the start had until then."),
        ] = "creation",
        limit: Limit = 100,
    ) -> Response:
        """Posts that gained most favourites; no entity tag, for they are not of a tally."""
        first, last = span(start, end)

        def read(connection: Connection) -> dict[str, Any]:
            found = reads.engagement_velocity(
                connection, instance, first, last, more_than, baseline=baseline, limit=limit
            )
            return {"posts": [vars(one) for one in found]}

        return ask.answer(request, read)

    @routes.get("/api/posts/rising", response_model=shapes.Rises)
    def rising(
        request: Request,
        instance: Instance,
        start: Start = None,
        end: End = None,
        above: Annotated[
            float, Query(ge=0, le=1e9, description="3 is an increase by 300 percent.")
        ] = 1.0,
        minimum_before: Annotated[
            int,
            Query(ge=1, le=query_args.LARGEST_COUNT, description="Engagement before, at least."),
        ] = 10,
        limit: Limit = 100,
    ) -> Response:
        """Posts whose engagement grew most, against what it was; no entity tag."""
        first, last = span(start, end)

        def read(connection: Connection) -> dict[str, Any]:
            found = reads.rising_posts(
                connection,
                instance,
                first,
                last,
                above=above,
                minimum_before=minimum_before,
                limit=limit,
            )
            return {"posts": [vars(one) for one in found]}

        return ask.answer(request, read)


def _add_sentiments(routes: APIRouter, ask: Snapshots) -> None:
    @routes.get("/api/posts/sentiment-changes", response_model=shapes.SentimentChanges)
    def sentiment_changes(
        request: Request,
        instance: Instance,
        start: Start = None,
        end: End = None,
        model: Annotated[str | None, Query(max_length=LONGEST_NAME)] = None,
        prompt_version: Annotated[str | None, Query(max_length=LONGEST_NAME)] = None,
        limit: Limit = 100,
    ) -> Response:
        """Edits after which a text model said something else than before; no entity tag."""
        first, last = span(start, end)

        def read(connection: Connection) -> dict[str, Any]:
            found = reads.sentiment_changes(
                connection,
                instance,
                first,
                last,
                model=model,
                prompt_version=prompt_version,
                limit=limit,
            )
            return {"changes": [vars(one) for one in found]}

        return ask.answer(request, read)


def _add_one_post(routes: APIRouter, ask: Snapshots) -> None:
    @routes.get("/api/posts/{id:path}/history", response_model=shapes.History, responses=NOT_FOUND)
    def history(
        request: Request,
        id: PostId,  # noqa: A002 -- as in the address
        instance: Instance,
    ) -> Response:
        """A post's versions, what models said of each, and its deletion; no entity tag."""
        post = whole(lambda: query_args.post_id(id))

        def read(connection: Connection) -> dict[str, Any]:
            found = reads.post_history(connection, instance, post)
            return vars(_known(found, instance, post))

        return ask.answer(request, read)

    @routes.get(
        "/api/posts/{id:path}/counts", response_model=shapes.PostSeries, responses=NOT_FOUND
    )
    def counts(
        request: Request,
        id: PostId,  # noqa: A002
        instance: Instance,
        start: Annotated[Moment | None, Query(description="By default since it was seen.")] = None,
        end: End = None,
        limit: Limit = LARGEST_LIST,
    ) -> Response:
        """What a post had whenever it was seen, oldest first; no entity tag.

        Where there are more than `limit`, the latest.
        """
        post = whole(lambda: query_args.post_id(id))

        def read(connection: Connection) -> dict[str, Any]:
            found = reads.post_series(connection, instance, post, start, end, limit=limit)
            return vars(_known(found, instance, post))

        return ask.answer(request, read)


def _known(found: _Found | None, instance: int, post: object) -> _Found:
    """What was found of a post. Raises Problem where that is nothing."""
    if found is None:
        raise Problem(
            404, "not-found", f"Nothing is known of the post {post} of instance {instance}."
        )
    return found
