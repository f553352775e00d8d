"""The service without a database: the media system's questions, answered from a folder.

The same addresses, parameters and shapes as with a database, and in each answer `source`, which
says that it comes from a folder. Invariants: nothing here connects to a database or
writes anything.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, FastAPI, Query
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from assets.media import reads, routes
from assets.media.folder_reads import Files, FolderLibrary, FolderUnreadable
from tallykeeper.http import page
from tallykeeper.http.answers import JSON, Answer, json_response, with_moment, written
from tallykeeper.http.app import new_app
from tallykeeper.http.caching import CACHE_CONTROL, entity_tag, is_known
from tallykeeper.http.operations import NO_STORE, Health
from tallykeeper.http.parameters import Day, Period
from tallykeeper.http.problems import Route, unaskable, unavailable
from tallykeeper.http.routing import PROBLEMS
from tallykeeper.settings import SettingError, serve_folder, serve_statement_seconds

Source = Annotated[
    Literal["folder"],
    Field(description="No database was asked: the files of a folder were counted."),
]

Unreadable = Annotated[
    int, Field(description="Files and folders that could not be read, and are not counted.")
]


class DailyCounts(routes.DailyCounts):
    """Files per UTC day, newest day first; days without files are left out."""

    source: Source
    unreadable: Unreadable


class HourlyCounts(routes.HourlyCounts):
    """Files per UTC hour, newest hour first; hours without files are left out."""

    source: Source
    unreadable: Unreadable


class PeriodCounts(routes.PeriodCounts):
    """Files per week, month or year, the newest first, by its first day."""

    source: Source
    unreadable: Unreadable


class Ready(Answer):
    """The folder can be read."""

    status: Literal["ready"]
    systems: list[str]
    oldest_pending: None
    source: Source


def create_app(folder: Path | None = None) -> FastAPI:
    """The service on a folder, by default on the one that TALLY_SERVE_FOLDER names.

    Raises SettingError.
    """
    folder = folder or serve_folder()
    if folder is None:
        raise SettingError(
            "TALLY_SERVE_FOLDER", "a folder of pictures", "(unset)", "name one, or use --folder"
        )
    app = new_app()
    app.include_router(router(FolderLibrary(folder, serve_statement_seconds())))
    app.include_router(page.router())
    return app


def require(folder: Path) -> None:
    """Look once whether the folder can be read. Raises FolderUnreadable."""
    FolderLibrary(folder).require()


def router(library: FolderLibrary) -> APIRouter:
    """The media system's questions, and whether the service lives and can answer."""
    routes = APIRouter(route_class=Route, responses=PROBLEMS)

    @routes.get("/api/media/daily-counts", response_model=DailyCounts, tags=["media"])
    def daily_counts(
        request: Request,
        start: Annotated[Day | None, Query(description="First day, UTC.")] = None,
        end: Annotated[Day | None, Query(description="Last day, UTC, included.")] = None,
    ) -> Response:
        """Files per day, from `start` to `end`, both included; without them all there are."""
        return _answer(request, library, lambda of: reads.daily_counts(None, start, end, folder=of))

    @routes.get("/api/media/period-counts", response_model=PeriodCounts, tags=["media"])
    def period_counts(
        request: Request,
        unit: Annotated[Period, Query(description="What is put together.")],
        start: Annotated[Day | None, Query(description="First day, UTC.")] = None,
        end: Annotated[Day | None, Query(description="Last day, UTC, included.")] = None,
    ) -> Response:
        """Files per week, month or year, by its first day, of the days from `start` to `end`."""
        return _answer(
            request, library, lambda of: reads.period_counts(None, unit, start, end, folder=of)
        )

    @routes.get("/api/media/hourly-counts", response_model=HourlyCounts, tags=["media"])
    def hourly_counts(
        request: Request, day: Annotated[Day, Query(description="The day, UTC.")]
    ) -> Response:
        """Files per hour of one day."""
        return _answer(request, library, lambda of: reads.hourly_counts(None, day, folder=of))

    @routes.get("/health", response_model=Health, tags=["operations"])
    async def health() -> Response:
        """Whether the process answers at all."""
        return json_response({"status": "alive"}, NO_STORE)

    @routes.get("/ready", response_model=Ready, tags=["operations"])
    def ready() -> Response:
        """Whether the folder can be read."""
        try:
            library.require()
        except FolderUnreadable as error:
            raise unavailable("not-ready", str(error)) from error
        return json_response(
            {
                "status": "ready",
                "systems": ["media"],
                "oldest_pending": None,
                "source": reads.SOURCE,
                "as_of": datetime.now(UTC),
            },
            NO_STORE,
        )

    return routes


def _answer(
    request: Request, library: FolderLibrary, read: Callable[[Files], Mapping[str, Any]]
) -> Response:
    """What `read` returns of the files as they are now; 304 where the client has it already."""
    try:
        files = library.files()
        body = written(read(files))
    except FolderUnreadable as error:
        raise unavailable("not-ready", str(error)) from error
    except ValueError as error:
        raise unaskable(str(error)) from error
    state = hashlib.blake2b(body, digest_size=12).hexdigest()
    tag = entity_tag(state, str(request.url))
    headers = {"cache-control": CACHE_CONTROL, "etag": tag}
    if is_known(tag, request.headers.get("if-none-match")):
        return Response(status_code=304, headers=headers)
    return Response(with_moment(body, files.as_of), 200, headers, JSON)
