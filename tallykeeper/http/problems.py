"""What is answered where there is no answer: RFC 9457 problems, never a stack trace.

Every failure that a caller can bring about, or that passes by itself, has its problem here; what
remains is a bug, answered 500 without details and logged. Invariants: the route class
turns failures into problems by itself, so that a router mounted in another application behaves as
it does in ours.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import orjson
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from tallykeeper.database.connections import DatabaseUnavailable
from tallykeeper.database.sqlstates import (
    CONFIGURATION_LIMIT_EXCEEDED,
    CONNECTION_EXCEPTION,
    DATA_EXCEPTION,
    DEADLOCK_DETECTED,
    IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
    INSUFFICIENT_PRIVILEGE,
    LOCK_NOT_AVAILABLE,
    MISSING_RELATION,
    OPERATOR_INTERVENTION_SHUTDOWN,
    OUT_OF_MEMORY,
    QUERY_CANCELED,
    SERIALIZATION_FAILURE,
    SNAPSHOT_TOO_OLD,
    SYSTEM_ERROR,
    TOO_MANY_CONNECTIONS,
    TRANSACTION_TIMEOUT,
    UNDEFINED_COLUMN,
    UNDEFINED_FUNCTION,
    sqlstate_of,
)
from tallykeeper.errors import NotInstalled

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 5
MOST_ERRORS = 20

LOG_AGAIN_SECONDS = 10.0

_LOG = logging.getLogger(__name__)
# When each sentence was logged last.
_logged: dict[str, float] = {}
_logged_lock = threading.Lock()
_MOST_LOGGED = 100

TITLES = {
    "bad-request": "The request cannot be read",
    "unauthorized": "A token is needed",
    "not-found": "Not found",
    "method-not-allowed": "The address has no such method",
    "bad-parameter": "The parameters are not valid",
    "internal": "The service failed",
    "dagster-unavailable": "Dagster cannot be reached",
    "database-unavailable": "The database cannot be reached",
    "not-ready": "Changes wait for too long",
    "not-intact": "Figures are not proven",
    "not-installed": "The system is not in this database",
    "not-permitted": "The service's role may not read this",
    "too-slow": "The answer takes too long",
    "busy": "The service is busy",
}
_OF_STATUS = {
    401: "unauthorized",
    404: "not-found",
    405: "method-not-allowed",
    422: "bad-parameter",
    500: "internal",
}

# Statement timeout, or ended by an administrator; the server ended a transaction in which nothing
# was asked for too long, or one that took too long.
_ENDED = {QUERY_CANCELED, IDLE_IN_TRANSACTION_SESSION_TIMEOUT, TRANSACTION_TIMEOUT}
_MISSING = MISSING_RELATION | {UNDEFINED_COLUMN, UNDEFINED_FUNCTION}
# A lock or a slot that others hold, a snapshot that is too old, a conflict with recovery.
_PASSING = {
    SERIALIZATION_FAILURE,
    DEADLOCK_DETECTED,
    LOCK_NOT_AVAILABLE,
    SNAPSHOT_TOO_OLD,
    TOO_MANY_CONNECTIONS,
    OUT_OF_MEMORY,
    CONFIGURATION_LIMIT_EXCEEDED,
}
_UNAVAILABLE = (CONNECTION_EXCEPTION, OPERATOR_INTERVENTION_SHUTDOWN, SYSTEM_ERROR)


class ProblemAnswer(BaseModel):
    """An RFC 9457 problem."""

    model_config = ConfigDict(title="Problem", extra="forbid")

    type: str = Field(description="Names the kind of problem, the same for ever.")
    title: str = Field(description="The kind of problem, for people.")
    status: int
    detail: str = Field(description="What was expected, what came, and what to do.")
    errors: list[ParameterError] | None = Field(
        default=None, description="Parameter by parameter, where several can be wrong."
    )


class ParameterError(BaseModel):
    """What is wrong with one parameter."""

    model_config = ConfigDict(extra="forbid")

    parameter: str
    detail: str


class Problem(Exception):
    """A request that is answered with a problem."""

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str,
        *,
        errors: list[dict[str, str]] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.errors = errors
        self.headers = dict(headers or {})

    def response(self) -> Response:
        """The problem as it is sent; it is never kept by a cache."""
        body: dict[str, Any] = {
            "type": f"urn:tallykeeper:problem:{self.kind}",
            "title": TITLES[self.kind],
            "status": self.status,
            "detail": self.detail,
        }
        if self.errors is not None:
            body["errors"] = self.errors
        headers = {"cache-control": "no-store"} | self.headers
        return Response(orjson.dumps(body), self.status, headers, MEDIA_TYPE)


def unaskable(detail: str, errors: list[dict[str, str]] | None = None) -> Problem:
    """A parameter is wrong, or several contradict each other; names the first errors."""
    shown = None if errors is None else errors[:MOST_ERRORS]
    return Problem(422, "bad-parameter", detail, errors=shown)


def unavailable(kind: str, detail: str, *, passes: bool = True) -> Problem:
    """There is no answer now; `passes` where asking again in a while may help."""
    headers = {"retry-after": str(RETRY_SECONDS)} if passes else {}
    return Problem(503, kind, detail, headers=headers)


def too_slow() -> Problem:
    """The answer was given up, so that others are answered and nothing else is held up."""
    return unavailable(
        "too-slow",
        "The database gave up after the time that an answer may take; ask for less, or again"
        " when a refresh has consumed what is pending.",
    )


def problem_of(error: Exception) -> Problem | None:
    """The problem that an error is; None for a bug."""
    match error:
        case Problem():
            return error
        case RequestValidationError():
            return _of_validation(error)
        case HTTPException():
            return _of_http(error)
        case NotInstalled():
            return unavailable("not-installed", str(error), passes=False)
        case DatabaseUnavailable():
            # Said in the log alone: it names host, user and database.
            _log_seldom(str(error))
            return _unavailable()
        case PoolTimeout():
            return unavailable("busy", "All connections to the database are in use; ask again.")
        case DBAPIError():
            return _of_database(error)
    return None


def _of_validation(error: RequestValidationError) -> Problem:
    errors = []
    for each in error.errors():
        place = [str(part) for part in each["loc"] if part not in ("query", "path", "body")]
        said = str(each["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
        errors.append({"parameter": ".".join(place), "detail": said})
    detail = "; ".join(f"{e['parameter']}: {e['detail']}" for e in errors)
    return unaskable(_shortened(detail), errors)


def _of_http(error: HTTPException) -> Problem:
    kind = _OF_STATUS.get(error.status_code, "bad-request")
    details = {
        404: "There is nothing at this address; see the OpenAPI document at /openapi.json.",
        405: "This address has no such method; see the OpenAPI document at /openapi.json.",
    }
    detail = details.get(error.status_code, str(error.detail))
    return Problem(error.status_code, kind, detail, headers=error.headers)


def _of_database(error: DBAPIError) -> Problem | None:
    code = sqlstate_of(error)
    if code in _ENDED:
        return too_slow()
    if error.connection_invalidated or code.startswith(_UNAVAILABLE):
        _log_seldom(f"the connection was lost: {_said(error)}")
        return _unavailable()
    if code in _MISSING:
        return unavailable("not-installed", f"{_said(error)}; run `tally migrate`.", passes=False)
    if code == INSUFFICIENT_PRIVILEGE:
        return unavailable(
            "not-permitted", f"{_said(error)}; grant it to the service's role.", passes=False
        )
    if code in _PASSING:
        return unavailable("busy", f"The database could not answer just now ({_said(error)}).")
    if code.startswith(DATA_EXCEPTION) or (not code and _is_data_error(error)):
        return unaskable(f"The database can hold no such value ({_said(error)}).")
    return None


def _log_seldom(sentence: str) -> None:
    """Log it, unless it was logged just before: all who ask meet the same failure."""
    now = time.monotonic()
    with _logged_lock:
        if now - _logged.get(sentence, -LOG_AGAIN_SECONDS) < LOG_AGAIN_SECONDS:
            return
        if len(_logged) >= _MOST_LOGGED:
            _logged.clear()
        _logged[sentence] = now
    _LOG.warning("%s", sentence)


def _unavailable() -> Problem:
    return unavailable(
        "database-unavailable", "The database cannot be reached just now; ask again in a while."
    )


def _is_data_error(error: DBAPIError) -> bool:
    return type(error).__name__ == "DataError"


def _said(error: DBAPIError) -> str:
    lines = str(error.orig).strip().splitlines()
    return lines[0] if lines else type(error.orig).__name__


def _shortened(text: str) -> str:
    return text if len(text) <= 1_000 else f"{text[:1_000]}..."


class Route(APIRoute):
    """A route that answers failures with problems, and takes no parameter that it does not know.

    A name that was mistyped would else be an answer to another question. `TakesAny` leaves that to
    its function.
    """

    takes_any = False

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        known = {field.alias: field for field in self.dependant.query_params}
        several = {name for name, field in known.items() if _takes_several(field)}

        async def handled(request: Request) -> Response:
            try:
                _only_known(request, set(known), several, self.takes_any)
                return await handle(request)
            except Exception as error:
                problem = problem_of(error)
                if problem is None:
                    raise
                return problem.response()

        return handled


class TakesAny(Route):
    """A route whose function checks the names of parameters that are not its own."""

    takes_any = True


def _takes_several(field: Any) -> bool:
    annotation = str(field.field_info.annotation)
    return annotation.startswith("list[")


def _only_known(request: Request, known: set[str], several: set[str], any_name: bool) -> None:
    given = [name for name, _ in request.query_params.multi_items()]
    errors = []
    for name in dict.fromkeys(given):
        if name not in known and any_name:
            continue
        if name not in known:
            choices = ", ".join(sorted(known)) or "none"
            detail = f"there is no such parameter; there are: {choices}"
        elif name not in several and given.count(name) > 1:
            detail = "expected once, but it is given several times"
        else:
            continue
        errors.append({"parameter": name[:100], "detail": detail})
    if errors:
        detail = "; ".join(f"{e['parameter']}: {e['detail']}" for e in errors)
        raise unaskable(_shortened(detail), errors)
