"""Somebody else's project: the wheel, one tally of their own, from `migrate` to UI and service.

It stands beside folders called `assets`, `pipelines`, `resources` and `migrations`, which are the
stranger's own.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.dagster.processes import free_ports
from tests.environment import environment as clean
from tests.stranger import build_wheel, install, make_project

SECONDS = 120
EXTRAS = ("dagster", "embedded", "http")
NODES = """{ assetNodes {
  assetKey { path } groupName isPartitioned partitionKeys
  assetChecksOrError { ... on AssetChecks { checks { name } } }
} }"""
DECLARED_IN_PYTHON = """
from shop_tallies import system
from tallykeeper import migrate, open_engine, refresh, verify
from tallykeeper.dagster import definitions
from tallykeeper.http.app import create_app

engine = open_engine()
assert migrate(engine, [system]).done == [], "it is there already"
print(refresh(engine, system.tallies[0]).keys_changed, verify(engine, system.tallies[0]).differing)
keys = definitions(systems=[system]).resolve_asset_graph().get_all_asset_keys()
print(*sorted(key.to_user_string() for key in keys))
print(*create_app(engine, [system]).openapi()["paths"])
"""


@dataclass(frozen=True)
class Stranger:
    """The programs, the project and the home of somebody who has installed the wheel."""

    programs: Path
    project: Path
    home: Path

    @property
    def environment(self) -> dict[str, str]:
        path = f"{self.programs}:/usr/bin:/bin"
        return clean(HOME=str(self.home), PATH=path, DG_CLI_CONFIG=str(self.home / "dg.toml"))

    def run(self, program: str, *arguments: str) -> str:
        """What the program prints; it has to succeed."""
        done = subprocess.run(
            [str(self.programs / program), *arguments],
            cwd=self.project,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    @contextmanager
    def running(self, *arguments: str) -> Iterator[None]:
        """`tally up` or `tally serve`, from when it answers until it is ended in order."""
        with tempfile.TemporaryFile("w+") as output:
            process = subprocess.Popen(
                [str(self.programs / "tally"), *arguments],
                cwd=self.project,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            try:
                until = time.monotonic() + SECONDS
                while "Ctrl-C ends it" not in (output.seek(0), output.read())[1]:
                    assert process.poll() is None, (output.seek(0), output.read())[1]
                    assert time.monotonic() < until
                    time.sleep(0.2)
                yield
            finally:
                process.terminate()
                process.wait(SECONDS)


@pytest.fixture(scope="module")
def stranger() -> Iterator[Stranger]:
    # Not pytest's own folder, which is closed to the account of the embedded server.
    with tempfile.TemporaryDirectory(prefix="tally-") as name:
        folder = Path(name)
        programs = install(build_wheel(folder), folder / "venv", EXTRAS, also=["dagster-dg-cli"])
        home = folder / "home"
        home.mkdir()
        (home / "dg.toml").write_text("[cli.telemetry]\nenabled = false\n")
        one = Stranger(programs, make_project(folder / "shop"), home)
        one.run("tally", "migrate", "--with-sources")
        today = datetime.now(UTC).replace(hour=12)
        with closing(_database(one)) as database, database.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO shop.orders (country, cents, ordered_at) VALUES (%s, %s, %s)",
                [("de", 100, today), ("de", 50, today), ("fr", 7, today - timedelta(days=1))],
            )
        yield one
        one.run("tally", "stop")


def test_a_tally_is_kept_from_the_first_order_on(stranger: Stranger) -> None:
    assert stranger.run("tally", "refresh").startswith("shop.revenue_daily: rebuilt")
    with closing(_database(stranger)) as database, database.cursor() as cursor:
        cursor.execute("SELECT country, orders, cents FROM shop.revenue_daily ORDER BY country")
        assert cursor.fetchall() == [("de", 2, 150), ("fr", 1, 7)]
    assert "shop.revenue_daily: ok, 2 keys compared" in stranger.run("tally", "verify")
    (known,) = json.loads(stranger.run("tally", "status", "--json"))["tallies"]
    assert (known["tally"], known["rows"], known["pending"]) == ("shop.revenue_daily", 2, 0)


def test_dagster_has_asset_partitions_and_checks(stranger: Stranger) -> None:
    listed = json.loads(stranger.run("dg", "list", "defs", "--json"))
    keys = {asset["asset_key"] for asset in listed["assets"]}
    assert keys == {"shop/orders", "shop/revenue_daily", "tallykeeper/incidents"}
    (port,) = free_ports(1)
    with stranger.running("up", "--port", str(port)):
        nodes = {"/".join(n["assetKey"]["path"]): n for n in _ask(port, NODES)["assetNodes"]}
    node = nodes["shop/revenue_daily"]
    assert (node["groupName"], node["isPartitioned"]) == ("shop", True)
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    assert yesterday.isoformat() in node["partitionKeys"]
    checks = {check["name"] for check in node["assetChecksOrError"]["checks"]}
    assert checks == {"matches_source", "capture_intact", "fresh"}


def test_the_service_answers_for_a_tally_that_brings_no_routes(stranger: Stranger) -> None:
    (port,) = free_ports(1)
    with stranger.running("serve", "--port", str(port)):
        answer = _get(port, "/api/tallies/shop/revenue_daily?country=de")
    assert [(row["country"], row["cents"]) for row in answer["rows"]] == [("de", 150)]


def test_a_tally_that_is_handed_over_in_python_needs_no_list(stranger: Stranger) -> None:
    pyproject = stranger.project / "pyproject.toml"
    named = pyproject.read_text()
    pyproject.write_text("[tool.tallykeeper]\n")
    try:
        changed, keys, paths = stranger.run("python", "-c", DECLARED_IN_PYTHON).splitlines()
    finally:
        pyproject.write_text(named)
    assert changed == "0 0"
    assert "/api/tallies/{system}/{table}" in paths.split()
    assert keys == "shop/orders shop/revenue_daily tallykeeper/incidents"


def _database(stranger: Stranger) -> psycopg.Connection[tuple[Any, ...]]:
    exported = dict(
        line.removeprefix("export ").split("=", 1)
        for line in stranger.run("tally", "env").splitlines()
        if line.startswith("export PG")
    )
    names = {"PGHOST": "host", "PGPORT": "port", "PGUSER": "user", "PGDATABASE": "dbname"}
    given: dict[str, Any] = {names[n]: v.strip("'") for n, v in exported.items() if n in names}
    return psycopg.connect(**given, autocommit=True)


def _ask(port: int, query: str) -> dict[str, Any]:
    with closing(HTTPConnection("127.0.0.1", port, timeout=SECONDS)) as connection:
        body = json.dumps({"query": query})
        connection.request("POST", "/graphql", body, {"content-type": "application/json"})
        data: dict[str, Any] = json.load(connection.getresponse())["data"]
        return data


def _get(port: int, path: str) -> Any:
    """What the service answers, as soon as it does."""
    until = time.monotonic() + SECONDS
    while True:
        with closing(HTTPConnection("127.0.0.1", port, timeout=SECONDS)) as connection:
            try:
                connection.request("GET", path)
            except ConnectionRefusedError:
                assert time.monotonic() < until
                time.sleep(0.2)
                continue
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
            return json.load(answer)
