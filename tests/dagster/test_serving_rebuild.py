"""A rebuild asked for over HTTP becomes Dagster's own backfill or run.

The service speaks to Dagster's GraphQL schema over the code location as it is deployed, served
here on the loopback interface in place of the webserver.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import dagster as dg
import httpx
import psutil
import pytest
from dagster._core.test_utils import create_test_daemon_workspace_context
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget
from dagster_graphql.test.utils import execute_dagster_graphql
from sqlalchemy import Engine

from tallykeeper.dagster.partitions import today
from tallykeeper.http.app import create_app
from tallykeeper.settings import project_root
from tests.dagster.location import FIRST, days_ago
from tests.integration.serving_client import Client
from tests.servers import VERSIONS, Servers

TOKEN = "a-token-of-at-least-16"
DAILY = "/api/tallies/media.daily_contributions/rebuild"
WHOLE = "/api/tallies/gallery.gen_source_stats/rebuild"
LANES = "/api/tallies/gallery.content_tags/rebuild"

# Dagster's own server still calls what Dagster has deprecated.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Function `AssetSelection.sources`:DeprecationWarning"
)


def handler_of(workspace: WorkspaceProcessContext) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            context = workspace.create_request_context()
            result = execute_dagster_graphql(context, asked["query"], asked["variables"])
            body = json.dumps({"data": result.data, "errors": result.errors and ["x"]}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Tests say what matters."""

    return Handler


@pytest.fixture(scope="module")
def dagster_ui(instance: dg.DagsterInstance, postgres_servers: Servers) -> Iterator[str]:
    """The address of a GraphQL over the code location."""
    with postgres_servers.fresh_database(VERSIONS[0]) as url, pytest.MonkeyPatch.context() as env:
        env.setenv("TALLY_DATABASE_URL", url)
        env.setenv("TALLY_START_DATE", FIRST)
        target = WorkspaceFileTarget([str(project_root() / "workspace.yaml")])
        with create_test_daemon_workspace_context(target, instance) as workspace:
            server = HTTPServer(("127.0.0.1", 0), handler_of(workspace))
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            yield f"http://127.0.0.1:{server.server_address[1]}"
            server.shutdown()
            thread.join()
            server.server_close()
            started = [c for c in psutil.Process().children() if "grpc" in c.cmdline()]
        # They are asked to end, and have the storage open until they have.
        psutil.wait_procs(started, timeout=30)


@pytest.fixture
def client(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Client:
    monkeypatch.setenv("TALLY_SERVE_TOKEN", TOKEN)
    monkeypatch.setenv("TALLY_UI_URL", "http://127.0.0.1:9")
    return Client(create_app(engine))


def ask(client: Client, address: str, token: str | None = TOKEN) -> httpx.Response:
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    return client.post(address, headers=headers)


def test_days_become_a_backfill_of_their_partitions(
    client: Client, dagster_ui: str, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TALLY_UI_URL", dagster_ui)
    first, last = days_ago(9), days_ago(3)
    answer = ask(client, f"{DAILY}?start={first}&end={last}")
    assert answer.status_code == 202, answer.text
    body = answer.json()
    assert body["url"] == answer.headers["location"] == f"{dagster_ui}/runs/b/{body['backfill_id']}"
    backfill = instance.get_backfill(body["backfill_id"])
    assert backfill is not None
    key = dg.AssetKey(["media", "daily_contributions"])
    assert backfill.asset_selection == [key]
    wanted = [days_ago(n) for n in range(9, 2, -1)]
    assert (body["partitions"], body["run_id"]) == (len(wanted), None)
    assert wanted_of(backfill) == wanted


def wanted_of(backfill: Any) -> list[str]:
    data = json.loads(backfill.serialized_asset_backfill_data or "{}") or {}
    if backfill.asset_backfill_data is not None:
        (subset,) = (
            backfill.asset_backfill_data.target_subset.partitions_subsets_by_asset_key.values()
        )
        return sorted(subset.get_partition_keys())
    raise AssertionError(data)


@pytest.mark.parametrize(
    ("start", "end", "first", "last"),
    [("1904-01-01", "1905-01-01", FIRST, FIRST), ("2999-01-01", "", None, None)],
)
def test_days_beyond_the_partitions_belong_to_the_first_and_the_last(
    client: Client,
    dagster_ui: str,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    start: str,
    end: str,
    first: str | None,
    last: str | None,
) -> None:
    monkeypatch.setenv("TALLY_UI_URL", dagster_ui)
    until = f"&end={end}" if end else ""
    body = ask(client, f"{DAILY}?start={start}{until}").json()
    backfill = instance.get_backfill(body["backfill_id"])
    expected = [first or today()] if first == last else []
    assert wanted_of(backfill) == expected


def test_a_tally_in_lanes_is_rebuilt_in_all_of_them(
    client: Client, dagster_ui: str, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TALLY_UI_URL", dagster_ui)
    body = ask(client, LANES).json()
    assert wanted_of(instance.get_backfill(body["backfill_id"])) == ["auto", "regular"]


def test_a_tally_without_partitions_becomes_a_run_that_rebuilds(
    client: Client, dagster_ui: str, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TALLY_UI_URL", dagster_ui)
    answer = ask(client, WHOLE)
    assert answer.status_code == 202, answer.text
    body = answer.json()
    assert (body["backfill_id"], body["partitions"]) == (None, None)
    assert body["url"] == f"{dagster_ui}/runs/{body['run_id']}"
    run = instance.get_run_by_id(body["run_id"])
    assert run is not None
    assert run.asset_selection == {dg.AssetKey(["gallery", "gen_source_stats"])}
    assert run.run_config == {"ops": {"gallery__gen_source_stats": {"config": {"rebuild": True}}}}
    instance.delete_run(run.run_id)


def test_days_and_keys_together_are_refused(client: Client) -> None:
    answer = ask(client, f"{DAILY}?start=2025-01-01&key=2025-01-01")
    assert (answer.status_code, answer.json()["detail"]) == (
        422,
        "Days and keys were both named; name one or the other.",
    )


def test_single_keys_become_a_run_of_the_job_that_repairs(
    client: Client, dagster_ui: str, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TALLY_UI_URL", dagster_ui)
    answer = ask(client, "/api/tallies/classroom.submission_counts/rebuild?key=7&key=8")
    assert answer.status_code == 202, answer.text
    run = instance.get_run_by_id(answer.json()["run_id"])
    assert run is not None
    wanted = {
        "tally": "classroom.submission_counts",
        "keys": [{"submission_id": 7}, {"submission_id": 8}],
    }
    assert (run.job_name, run.run_config) == ("repair", {"ops": {"rebuild": {"config": wanted}}})
    instance.delete_run(run.run_id)


def test_without_a_token_in_the_settings_there_is_no_such_address(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TALLY_SERVE_TOKEN")
    for token in (None, TOKEN, ""):
        assert ask(client, DAILY, token).status_code == 404


@pytest.mark.parametrize("token", [None, "", "another-token-of-16", TOKEN[:-1], f"{TOKEN}x", "ü"])
def test_another_token_is_refused(client: Client, token: str | None) -> None:
    if token == "ü":
        headers = {"authorization": b"Bearer \xfc"}
        answer = client.request("POST", DAILY, headers=headers)
    else:
        answer = ask(client, DAILY, token)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert TOKEN not in answer.text


def test_what_cannot_be_rebuilt_is_a_problem(client: Client) -> None:
    assert ask(client, "/api/tallies/media.nothing/rebuild").status_code == 404
    for address in (
        f"{WHOLE}?start=2025-01-01",
        f"{DAILY}?start=2025-01-02&end=2025-01-01",
        f"{DAILY}?start=soon",
        f"{DAILY}?from=2025-01-01",
        f"{DAILY}?key=2025-01-01&start=2025-01-01",
        "/api/tallies/classroom.submission_counts/rebuild?key=seven",
        f"{LANES}?key=content_id=7",
    ):
        assert ask(client, address).status_code == 422, address


def test_a_dagster_that_does_not_answer_is_a_problem(client: Client) -> None:
    answer = ask(client, DAILY)
    assert answer.status_code == 503
    assert answer.json()["type"].endswith("dagster-unavailable")
