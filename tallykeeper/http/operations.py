"""What those who run the service ask it: whether it lives, whether it is ready, and its figures."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, BaseModel, ConfigDict
from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response

from tallykeeper import System
from tallykeeper.catalog import presence
from tallykeeper.catalog.pending_age import installed_among, oldest_pending
from tallykeeper.catalog.state import is_there
from tallykeeper.drift import dependencies
from tallykeeper.faults import incidents
from tallykeeper.http.answers import Answer, json_response
from tallykeeper.http.database import Provider, Snapshots
from tallykeeper.http.problems import Route, unavailable
from tallykeeper.http.routing import PROBLEMS
from tallykeeper.operations.metrics import exposition
from tallykeeper.settings import serve_ready_seconds

MOST_INCIDENTS = 1_000
NO_STORE = {"cache-control": "no-store"}


class Health(BaseModel):
    """The process lives; nothing is said of the database."""

    model_config = ConfigDict(extra="forbid")

    status: Literal["alive"]


class Shown(BaseModel):
    """Something that was found wrong; `resolved_at` is null while it still is."""

    model_config = ConfigDict(extra="forbid")

    id: int
    subject: str
    kind: str
    what: str
    cause: str | None
    times: int
    found_at: AwareDatetime
    last_found_at: AwareDatetime
    resolved_at: AwareDatetime | None
    resolved_by: str | None


class Incidents(Answer):
    """Incidents, open ones first, of each the latest first; `open` counts all that are open."""

    incidents: list[Shown]
    open: int


class Ready(Answer):
    """The database is reachable, capture intact, and no change waits for longer than it may."""

    status: Literal["ready"]
    systems: list[str]
    oldest_pending: AwareDatetime | None


def router(provider: Provider, systems: Sequence[System]) -> APIRouter:
    """Health, readiness and figures of a service that answers for `systems`."""
    ask = Snapshots(provider)
    routes = APIRouter(tags=["operations"], route_class=Route, responses={422: PROBLEMS[422]})

    @routes.get("/health", response_model=Health)
    async def health() -> Response:
        """Whether the process answers at all."""
        return json_response({"status": "alive"}, NO_STORE)

    @routes.get("/ready", response_model=Ready, responses={503: PROBLEMS[503]})
    def ready() -> Response:
        """Whether the database is reachable, capture intact, and no change pending for long."""
        answer = ask.read(lambda connection, as_of: _ready(connection, as_of, systems))
        return json_response(answer, NO_STORE)

    @routes.get("/api/incidents", response_model=Incidents, responses=PROBLEMS)
    def incidents_shown(
        request: Request, limit: Annotated[int, Query(ge=1, le=MOST_INCIDENTS)] = 20
    ) -> Response:
        """What was found wrong, what is still wrong first."""

        def read(connection: Connection) -> dict[str, Any]:
            if not is_there(connection, incidents.incidents):
                return {"incidents": [], "open": 0}
            found = incidents.listed(connection, limit=limit)
            shown = [{name: getattr(each, name) for name in Shown.model_fields} for each in found]
            return {"incidents": shown, "open": sum(incidents.open_counts(connection).values())}

        return ask.answer(request, read)

    @routes.get(
        "/metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    def metrics(request: Request) -> Response:
        """Figures for Prometheus."""
        body, content_type = exposition(ask.engine, systems, request.headers.get("accept"))
        return Response(body, headers=NO_STORE | {"content-type": content_type})

    return routes


def _ready(connection: Connection, as_of: datetime, systems: Sequence[System]) -> dict[str, Any]:
    there = [s for s in systems if installed_among(connection, s.tallies)]
    if not there:
        names = ", ".join(system.name for system in systems)
        raise unavailable(
            "not-installed",
            f"Of {names} nothing is in this database; run `tally migrate`.",
            passes=False,
        )
    tallies = installed_among(connection, [t for s in there for t in s.tallies])
    moments = [oldest_pending(connection, tallies)]
    moments += [
        system.waiting(connection).oldest
        for system in there
        if system.waiting is not None and not presence.missing(connection, system.raw)
    ]
    oldest = min((at for at in moments if at is not None), default=None)
    most = timedelta(seconds=serve_ready_seconds())
    if oldest is not None and as_of - oldest > most:
        raise unavailable(
            "not-ready",
            f"A change is pending since {oldest.astimezone(UTC).isoformat()}, which is longer than"
            f" {most}; answers are exact all the same, but refreshes seem not to run.",
        )
    faults = dependencies.faults_among(connection, tallies)
    if faults:
        more = f"; and {len(faults) - 1} more" if len(faults) > 1 else ""
        raise unavailable(
            "not-intact",
            f"{faults[0]}{more}. Figures are not proven until `tally migrate` and then"
            " `tally refresh` repair it.",
            passes=False,
        )
    return {
        "status": "ready",
        "systems": [system.name for system in there],
        "oldest_pending": oldest,
        "as_of": as_of,
    }
