"""The tutorial of ten tallies, followed step by step by somebody who has only the wheel."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tallykeeper.settings import project_root
from tests.acceptance.test_own_project import NODES, Stranger, _ask, _get
from tests.dagster.processes import free_ports
from tests.stranger import build_wheel, install

pytestmark = pytest.mark.slow

PAGE = (project_root() / "docs/tutorial/ten-tallies.md").read_text(encoding="utf-8")
# Of the reader, at the keyboard, on a machine that does nothing else.
SECONDS = 600
_BLOCK = re.compile(
    r'^```(?:sql title="(?P<file>[^"]+)"\n(?P<sql>.*?)|console\n(?P<console>.*?))^```$',
    re.MULTILINE | re.DOTALL,
)


@pytest.fixture(scope="module")
def reader() -> Iterator[Stranger]:
    # Not pytest's own folder, which is closed to the account of the embedded server.
    with tempfile.TemporaryDirectory(prefix="tally-") as name:
        folder = Path(name)
        extras = ("dagster", "embedded", "http")
        programs = install(build_wheel(folder), folder / "venv", extras)
        for each in ("home", "project"):
            (folder / each).mkdir()
        one = Stranger(programs, folder / "project", folder / "home")
        yield one
        one.run("tally", "stop")


def follow(reader: Stranger, *, until: str) -> str:
    """Do what the page says up to the command `until`; what the commands printed."""
    printed = ""
    for block in _BLOCK.finditer(PAGE):
        if block["file"]:
            path = reader.project / block["file"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block["sql"])
            continue
        commands = [line.removeprefix("$ ") for line in block["console"].splitlines()]
        if until in commands:
            return printed
        if commands[0].startswith("pip "):
            continue  # The wheel is there already.
        printed += in_shell(reader, commands)
    raise AssertionError(f"the page has no command {until!r}")


def in_shell(reader: Stranger, commands: list[str]) -> str:
    """As in the reader's shell, in which `eval` has set where the database is."""
    known = 'eval "$(tally env)"\n' if (reader.project / "pyproject.toml").exists() else ""
    done = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", known + "\n".join(commands)],
        cwd=reader.project,
        env=reader.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{commands}: {done.stdout}{done.stderr}"
    return done.stdout


def test_the_tutorial_leads_to_ten_proven_tallies_in_ten_minutes(reader: Stranger) -> None:
    started = time.monotonic()
    printed = follow(reader, until="tally up")
    assert len(list(reader.project.glob("tallies/*/*.sql"))) == 10
    assert len(re.findall(r"^\S+: ok, [\d,]+ keys? compared", printed, re.MULTILINE)) == 10
    assert "CREATE INDEX CONCURRENTLY ON depot.movements (product_id)" in printed
    assert "shop.revenue_monthly: ok, equal after " in printed
    assert "shop.best_sellers: refreshed in " in printed
    (port,) = free_ports(1)
    with reader.running("up", "--port", str(port)):
        nodes = {"/".join(n["assetKey"]["path"]): n for n in _ask(port, NODES)["assetNodes"]}
    seconds = time.monotonic() - started
    tallies = {f"{p.parent.name}/{p.stem}" for p in reader.project.glob("tallies/*/*.sql")}
    assert tallies <= set(nodes)
    checks = {c["name"] for c in nodes["shop/revenue_daily"]["assetChecksOrError"]["checks"]}
    assert checks == {"matches_source", "capture_intact", "fresh"}
    assert seconds < SECONDS, "what a reader does besides is a few minutes"


def test_what_was_built_stays_exact_and_is_served(reader: Stranger) -> None:
    in_shell(reader, ["psql --quiet --command \"UPDATE shop.orders SET status = 'paid'\""])
    assert reader.run("tally", "verify").count(": ok, ") == 10
    reader.run("tally", "refresh")
    assert reader.run("tally", "verify").count(": ok, ") == 10
    known = json.loads(reader.run("tally", "status", "--json"))["tallies"]
    assert {each["pending"] for each in known} == {0}
    (port,) = free_ports(1)
    with reader.running("serve", "--port", str(port)):
        found = _get(port, "/api/tallies/shop/best_sellers?category=toys")["rows"]
    assert [row["place"] for row in found] == [1, 2, 3]
