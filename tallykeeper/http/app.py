"""The service as one application: a router per system, what it says of itself, and nothing else.

Nothing connects when this is imported or an application is made: the database is opened by the
first question, so each worker process has connections of its own.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from anyio import to_thread
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from sqlalchemy import Engine, event
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from tallykeeper import System
from tallykeeper.database.connections import open_engine
from tallykeeper.discovery import chosen_systems, system_called
from tallykeeper.http import operations, page, rebuild, tallies
from tallykeeper.http.problems import Problem, problem_of
from tallykeeper.http.routing import SCHEMAS
from tallykeeper.settings import serve_database_url

CONNECTIONS = 8
"""Of each worker process: how many questions the database is asked at once."""


def create_app(
    engine: Engine | None = None, systems: Sequence[System | str] | None = None
) -> FastAPI:
    """The service on `engine`, by default on the database that the settings name.

    `systems` are those that it answers for, or their names in the project; by default those that
    TALLY_SYSTEMS names, else all. Raises SettingError.
    """
    opened = OpenedLate(engine)
    chosen = chosen_systems() if systems is None else tuple(map(_named, systems))

    app = new_app(opened.close)
    for system in chosen:
        routes = system.part("routes")
        if routes is not None:
            app.include_router(routes.router(opened))
    app.include_router(operations.router(opened, chosen))
    app.include_router(rebuild.router(chosen))
    # After it, as `.../{name}/rebuild` could be a tally's address too: it is one for GET alone.
    app.include_router(tallies.router(opened, chosen))
    app.include_router(page.router())
    return app


def _named(system: System | str) -> System:
    return system if isinstance(system, System) else system_called(system)


def new_app(close: Callable[[], None] | None = None) -> FastAPI:
    """An application without any address, which answers failures with problems."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        # More threads than connections would wait for one of these, and time out.
        to_thread.current_default_thread_limiter().total_tokens = CONNECTIONS
        yield
        if close is not None:
            close()

    app = FastAPI(
        title="Tallykeeper",
        version="1",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
    )
    app.add_exception_handler(HTTPException, _problem)
    app.add_exception_handler(RequestValidationError, _problem)
    app.add_exception_handler(Exception, _failed)
    app.openapi = lambda: _document(app)  # type: ignore[method-assign]
    return app


class OpenedLate:
    """Returns an engine that is opened at its first use, and closed if it was made here."""

    def __init__(self, engine: Engine | None) -> None:
        self._given = engine
        self._own: Engine | None = None
        self._lock = threading.Lock()

    def __call__(self) -> Engine:
        if self._given is not None:
            return self._given
        with self._lock:
            if self._own is None:
                self._own = open_for_reading()
            return self._own

    def close(self) -> None:
        """Let go of the connections of an engine that was opened here."""
        with self._lock:
            if self._own is not None:
                self._own.dispose()
                self._own = None


def open_for_reading() -> Engine:
    """An engine on the service's own address, of which every connection is read-only by default.

    Raises DatabaseUnavailable, SettingError.
    """
    engine = open_engine(serve_database_url(), connections=CONNECTIONS)
    event.listen(engine, "connect", _read_only)
    return engine


def _read_only(connection: Any, _: object) -> None:
    connection.execute("SET default_transaction_read_only = on")
    connection.commit()


async def _problem(_: Request, error: Exception) -> Response:
    problem = problem_of(error)
    assert problem is not None
    return problem.response()


async def _failed(_: Request, error: Exception) -> Response:
    del error  # The server logs it.
    return Problem(500, "internal", "The service failed; see its log.").response()


def _document(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, routes=app.routes)
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        schemas.update(SCHEMAS)
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        app.openapi_schema = document
    return app.openapi_schema
