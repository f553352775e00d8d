"""The gallery over HTTP: counts by source, pages of items, tags with how often they are used."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, BaseModel, ConfigDict
from sqlalchemy import Connection, Uuid, literal, or_
from starlette.requests import Request
from starlette.responses import Response

from assets.gallery import reads
from assets.gallery.questions.filters import LARGEST_PAGE, SOURCES
from assets.gallery.tallies import gen_source_stats
from tallykeeper.http.answers import Answer
from tallykeeper.http.database import Provider, Snapshots
from tallykeeper.http.problems import Route, unaskable
from tallykeeper.http.routing import PROBLEMS
from tallykeeper.maintain.fingerprint import Condition, Part

KINDS = tuple(f"{creator}-{source}" for creator in ("user", "community") for source in SOURCES)
_PATTERN = f"^({'|'.join(KINDS)})(,({'|'.join(KINDS)}))*$"
MOST_TAGS_ASKED = 100
LONGEST_TEXT = 500

User = Annotated[UUID | None, Query(description="The user that asks, or of whom is asked.")]


class Counts(BaseModel):
    """Items by source, of the user and of everybody; 0 for a user that there is not."""

    model_config = ConfigDict(extra="forbid")

    user_regular_count: int
    user_auto_count: int
    community_regular_count: int
    community_auto_count: int


class UnifiedStats(Answer, Counts):
    """Items by source, of the user and of everybody; 0 for a user that there is not."""


class Item(BaseModel):
    """One item; `tags` is its array as it stands, with what is no tag among it."""

    model_config = ConfigDict(extra="forbid")

    id: int
    source: Literal["regular", "auto"]
    title: str | None
    content_type: str | None
    creator_id: UUID | None
    created_at: AwareDatetime
    is_private: bool
    tags: list[UUID | None]


class Page(Answer):
    """Items, newest first, and the cursors of what comes after and before them."""

    items: list[Item]
    next_cursor: str | None
    prev_cursor: str | None
    stats: Counts | None = None


class Tag(BaseModel):
    """A tag, and how many items of the sources asked for have it."""

    model_config = ConfigDict(extra="forbid")

    id: UUID
    name: str
    count: int


class Tags(Answer):
    """Tags, most used first, then by name."""

    tags: list[Tag]


def router(provider: Provider) -> APIRouter:
    """The gallery's questions, answered from the database of `provider`."""
    ask = Snapshots(provider)
    routes = APIRouter(tags=["gallery"], route_class=Route, responses=PROBLEMS)

    @routes.get("/api/v1/content/stats/unified", response_model=UnifiedStats)
    def unified_stats(request: Request, user_id: User = None) -> Response:
        """Items by source: those of the user, and those of the community, which is everybody."""
        part = Part(gen_source_stats, _of_user_or_all(user_id))
        return ask.answer(request, lambda c: {**reads.unified_content_stats(c, user_id)}, part)

    @routes.get("/api/v1/content/unified", response_model=Page, response_model_exclude_unset=True)
    def unified(
        request: Request,
        tag_names: Annotated[
            list[str] | None,
            Query(
                max_length=MOST_TAGS_ASKED,
                description="Names or ids of tags; given once for each.",
            ),
        ] = None,
        tag_match: Annotated[
            Literal["any", "all"], Query(description="Items with any, or with all of the tags.")
        ] = "any",
        content_source_types: Annotated[
            list[Annotated[str, Query(pattern=_PATTERN)]] | None,
            Query(
                max_length=len(KINDS),
                description=f"Of {', '.join(KINDS)}, with commas between them; all by default.",
            ),
        ] = None,
        user_id: User = None,
        private: Annotated[
            bool | None, Query(description="Private items alone, or the others alone.")
        ] = None,
        page_size: Annotated[int, Query(ge=1, le=LARGEST_PAGE)] = 20,
        cursor: Annotated[
            str | None,
            Query(description="`next_cursor` or `prev_cursor` of a page of this very question."),
        ] = None,
        include_stats: Annotated[bool, Query(description="The four counts too.")] = False,
    ) -> Response:
        """A page of items, newest first; no entity tag, for items can change in any column."""
        kinds = _kinds(content_source_types)

        def read(connection: Connection) -> dict[str, Any]:
            page = reads.content_page(
                connection,
                tags=tag_names or (),
                match=tag_match,
                kinds=kinds,
                user_id=user_id,
                private=private,
                page_size=page_size,
                cursor=cursor,
            )
            stats = {}
            if include_stats:
                stats["stats"] = reads.unified_content_stats(connection, user_id)
            return {**page, **stats}

        return ask.answer(request, read)

    @routes.get("/api/v1/tags", response_model=Tags)
    def tags(
        request: Request,
        prefix: Annotated[
            str | None, Query(max_length=LONGEST_TEXT, description="How their names begin.")
        ] = None,
        source: Annotated[
            Literal["regular", "auto"] | None, Query(description="Items of this source alone.")
        ] = None,
        limit: Annotated[int, Query(ge=1, le=LARGEST_PAGE)] = 50,
    ) -> Response:
        """The tags most used, with how many items have each; no entity tag, for tags have names."""
        sources = SOURCES if source is None else (source,)
        return ask.answer(
            request,
            lambda c: {"tags": reads.tag_counts(c, prefix=prefix, limit=limit, sources=sources)},
        )

    return routes


def _kinds(given: list[str] | None) -> list[tuple[str, str]] | None:
    if given is None:
        return None
    named = dict.fromkeys(name for some in given for name in some.split(","))
    unknown = [name for name in named if name not in KINDS]
    if unknown:
        raise unaskable(f"Expected content_source_types of {', '.join(KINDS)}, not {unknown[0]!r}.")
    return [(creator, source) for creator, _, source in (n.partition("-") for n in named)]


def _of_user_or_all(user_id: UUID | None) -> Condition:
    def conditions(row: Any) -> list[Any]:
        everybody = row.user_id.is_(None)
        if user_id is None:
            return [everybody]
        return [or_(everybody, row.user_id == literal(user_id, Uuid()))]

    return conditions
