"""The one thing that the service can bring about: Dagster is asked to rebuild a tally.

The service writes nothing itself. It hands on the request through Dagster's GraphQL, and answers
with the address of the backfill or run. Invariants: without a token in the settings there
is no such address, and the token is compared in constant time and never shown.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Sequence
from datetime import date
from typing import Annotated, Any

import httpx
from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import Response

from tallykeeper import System, Tally
from tallykeeper.dagster_names import REPAIR, asset_path, prefixed
from tallykeeper.http.answers import json_response
from tallykeeper.http.parameters import Day
from tallykeeper.http.problems import Problem, Route, unaskable, unavailable
from tallykeeper.http.routing import PROBLEMS, problem
from tallykeeper.reads.keys import key_of
from tallykeeper.settings import serve_token, ui_url

TIMEOUT_SECONDS = 15.0
MOST_KEYS = 1_000

_LOG = logging.getLogger(__name__)

_ASSET = """
query ($key: AssetKeyInput!) {
  assetNodeOrError(assetKey: $key) {
    __typename
    ... on AssetNode {
      opNames
      jobNames
      partitionKeys
      repository { name location { name } }
    }
  }
}
"""
_BACKFILL = """
mutation ($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
    ... on UnauthorizedError { message }
  }
}
"""
_RUN = """
mutation ($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
    ... on UnauthorizedError { message }
  }
}
"""


class Requested(BaseModel):
    """What Dagster was asked for: a backfill of days (or lanes), or a run over everything."""

    model_config = ConfigDict(extra="forbid")

    tally: str
    backfill_id: str | None
    run_id: str | None
    partitions: int | None
    url: str


def router(systems: Sequence[System]) -> APIRouter:
    """The request for a rebuild of one of the systems' tallies."""
    routes = APIRouter(tags=["operations"], route_class=Route)
    tallies = {tally.name: tally for system in systems for tally in system.tallies}
    responses: dict[int | str, dict[str, Any]] = {
        401: problem("The token is missing, or it is another."),
        404: problem("There is no such tally, or rebuilding is off: no TALLY_SERVE_TOKEN is set."),
        422: PROBLEMS[422],
        503: problem("Dagster cannot be reached, or refused."),
    }

    @routes.post(
        "/api/tallies/{name}/rebuild",
        status_code=202,
        response_model=Requested,
        responses=responses,
        openapi_extra={"security": [{"token": []}]},
    )
    def rebuild(
        request: Request,
        name: str,
        start: Annotated[Day | None, Query(description="First day, in their time zone.")] = None,
        end: Annotated[Day | None, Query(description="Last day, included.")] = None,
        key: Annotated[
            list[str] | None,
            Query(
                max_length=MOST_KEYS,
                description="Only this key: `7`, or `column=value` with commas between.",
            ),
        ] = None,
    ) -> Response:
        """Have Dagster rebuild a tally's days from `start` to `end`, single keys, or all of it."""
        _require_token(request.headers.get("authorization"))
        tally = tallies.get(name)
        if tally is None:
            choices = ", ".join(tallies)
            raise Problem(404, "not-found", f"There is no such tally; there are {choices}.")
        keys = _keys(tally, key or [])
        if keys and (start or end):
            raise unaskable("Days and keys were both named; name one or the other.")
        _check_days(tally, start, end)
        with httpx.Client(timeout=TIMEOUT_SECONDS, trust_env=False) as client:
            dagster = Dagster(client, ui_url())
            if keys:
                answer = _repaired(dagster, tally, keys)
            else:
                answer = _requested(dagster, tally, start, end)
        headers = {"cache-control": "no-store", "location": str(answer["url"])}
        return json_response(answer, headers, status=202)

    return routes


class Dagster:
    """Asks Dagster's GraphQL at the address of its UI."""

    def __init__(self, client: httpx.Client, url: str) -> None:
        self._client = client
        self.url = url

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """The one field of the answer. Raises Problem where there is none."""
        try:
            sent = self._client.post(
                f"{self.url}/graphql", json={"query": query, "variables": variables}
            )
            answer = sent.raise_for_status().json()
        except (httpx.HTTPError, ValueError) as error:
            _LOG.warning("Dagster cannot be reached: %s", error)
            raise _unavailable("Dagster does not answer at the address of TALLY_UI_URL") from error
        if not isinstance(answer, dict) or answer.get("errors") or not answer.get("data"):
            _LOG.warning("Dagster did not take the question: %s", answer)
            raise _unavailable("Dagster did not take the question; is it another version?")
        (found,) = answer["data"].values()
        return dict(found)


def _repaired(dagster: Dagster, tally: Tally, keys: list[dict[str, Any]]) -> dict[str, Any]:
    """The job that computes single keys anew, and checks the tally after it."""
    config = {"tally": tally.name, "keys": keys}
    launched = dagster.ask(
        _RUN,
        params={
            "selector": {"jobName": prefixed(REPAIR), **_repository(_asset(dagster, tally))},
            "runConfigData": {"ops": {"rebuild": {"config": config}}},
        },
    )
    number = _launched(launched, "LaunchRunSuccess")["run"]["runId"]
    return _answer(dagster, tally, None, run_id=number)


def _asset(dagster: Dagster, tally: Tally) -> dict[str, Any]:
    asset = dagster.ask(_ASSET, key={"path": asset_path(tally.system, tally.table.name)})
    if asset["__typename"] != "AssetNode":
        raise _unavailable(f"Dagster does not know {tally.name}; is the system in TALLY_SYSTEMS?")
    return asset


def _repository(asset: dict[str, Any]) -> dict[str, str]:
    repository = asset["repository"]
    return {
        "repositoryName": repository["name"],
        "repositoryLocationName": repository["location"]["name"],
    }


def _keys(tally: Tally, given: Sequence[str]) -> list[dict[str, Any]]:
    try:
        return [key_of(tally, each) for each in given]
    except ValueError as error:
        raise unaskable(str(error)) from error


def _requested(
    dagster: Dagster, tally: Tally, start: date | None, end: date | None
) -> dict[str, Any]:
    key = {"path": asset_path(tally.system, tally.table.name)}
    asset = _asset(dagster, tally)
    partitions = asset["partitionKeys"]
    if partitions:
        wanted = _within(tally, partitions, start, end)
        params: dict[str, Any] = {"assetSelection": [key], "partitionNames": wanted}
        launched = dagster.ask(_BACKFILL, params=params | {"title": f"rebuild {tally.name}"})
        number = _launched(launched, "LaunchBackfillSuccess")["backfillId"]
        return _answer(dagster, tally, len(wanted), backfill_id=number)
    launched = dagster.ask(_RUN, params=_whole(asset, key))
    number = _launched(launched, "LaunchRunSuccess")["run"]["runId"]
    return _answer(dagster, tally, None, run_id=number)


def _within(tally: Tally, partitions: list[str], start: date | None, end: date | None) -> list[str]:
    """The windows of the days asked for; the first is open to the past, the last to the future."""
    if tally.time_key is None:
        return partitions
    first, last = partitions[0], partitions[-1]
    windows = tally.windows
    lowest = first if start is None else min(max(windows.of_day(start), first), last)
    highest = last if end is None else max(min(windows.last_of_day(end), last), first)
    return [each for each in partitions if lowest <= each <= highest]


def _whole(asset: dict[str, Any], key: dict[str, Any]) -> dict[str, Any]:
    """How a tally without partitions is rebuilt: a run of its asset alone, requested."""
    (operation,) = asset["opNames"]
    # Dagster's own job of all assets, which takes any selection of them.
    job = next(name for name in asset["jobNames"] if name.startswith("__ASSET_JOB"))
    return {
        "selector": {
            "jobName": job,
            **_repository(asset),
            "assetSelection": [key],
        },
        "runConfigData": {"ops": {operation: {"config": {"rebuild": True}}}},
    }


def _launched(answer: dict[str, Any], success: str) -> dict[str, Any]:
    if answer["__typename"] != success:
        _LOG.warning("Dagster refused: %s", answer)
        raise _unavailable(f"Dagster refused ({answer['__typename']}); see the service's log")
    return answer


def _answer(dagster: Dagster, tally: Tally, partitions: int | None, **ids: str) -> dict[str, Any]:
    backfill, run = ids.get("backfill_id"), ids.get("run_id")
    path = f"runs/b/{backfill}" if backfill else f"runs/{run}"
    return {
        "tally": tally.name,
        "backfill_id": backfill,
        "run_id": run,
        "partitions": partitions,
        "url": f"{dagster.url}/{path}",
    }


def _check_days(tally: Tally, start: date | None, end: date | None) -> None:
    if (start or end) and tally.time_key is None:
        raise unaskable(f"{tally.name} has no days; leave out start and end to rebuild all of it.")
    if start and end and start > end:
        raise unaskable(f"Expected a start that is not after the end, but {start} is after {end}.")


def _require_token(authorization: str | None) -> None:
    """Raise Problem where rebuilding is off, or the token is not the one that is set."""
    token = serve_token()
    if token is None:
        raise Problem(404, "not-found", "Rebuilding is off: TALLY_SERVE_TOKEN is not set.")
    scheme, _, given = (authorization or "").partition(" ")
    same = hmac.compare_digest(given.strip().encode(), token.encode())
    if scheme.lower() != "bearer" or not same:
        raise Problem(
            401,
            "unauthorized",
            "Expected `Authorization: Bearer` with the token of TALLY_SERVE_TOKEN.",
            headers={"www-authenticate": "Bearer"},
        )


def _unavailable(detail: str) -> Problem:
    return unavailable("dagster-unavailable", f"{detail}.")
