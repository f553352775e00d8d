"""The component in a project of `dg` that is not ours: scaffolded, checked, listed, materialized.

What its attributes do, and what is refused, is in tests/dagster/test_component.py.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from tests.environment import environment as clean
from tests.stranger import build_wheel, install

PROJECT = """\
[project]
name = "theirs"
version = "1"

[tool.dg]
directory_type = "project"

[tool.dg.project]
root_module = "theirs"
"""
DEFINITIONS = """\
from pathlib import Path

import dagster as dg


@dg.definitions
def defs():
    return dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
"""
# Their own, which stays as it is beside the component's.
THEIRS = """\
import dagster as dg


@dg.asset
def theirs(database: dg.ResourceParam[str]) -> str:
    return database


defs = dg.Definitions(
    assets=[theirs], resources={"database": "theirs"}, executor=dg.multiprocess_executor
)
"""


@dataclass(frozen=True)
class Theirs:
    """A project of `dg`, as `create-dagster` makes it, and the programs installed for it."""

    root: Path
    programs: Path
    database_url: str

    @property
    def defs_yaml(self) -> Path:
        return self.root / "src" / "theirs" / "defs" / "shop" / "defs.yaml"

    def run(self, program: str, *arguments: str, code: int = 0) -> str:
        """What the program prints; it has to end with the code."""
        home = self.root.parent
        done = subprocess.run(
            [str(self.programs / program), *arguments],
            cwd=self.root,
            env=clean(
                HOME=str(home),
                PATH=f"{self.programs}:/usr/bin:/bin",
                DG_CLI_CONFIG=str(home / "dg.toml"),
                TALLY_DATABASE_URL=self.database_url,
            ),
            capture_output=True,
            text=True,
            check=False,
        )
        said = done.stdout + done.stderr
        assert done.returncode == code, said
        assert code == 0 or "Traceback" not in said
        return said if code else done.stdout

    @contextmanager
    def changed(self, old: str, new: str) -> Iterator[None]:
        """Their defs.yaml with another text in it."""
        before = self.defs_yaml.read_text()
        assert old in before
        self.defs_yaml.write_text(before.replace(old, new))
        yield
        self.defs_yaml.write_text(before)


@pytest.fixture
def theirs(tmp_path: Path, database_url: str) -> Theirs:
    extras = ("dagster",)
    programs = install(build_wheel(tmp_path), tmp_path / "venv", extras, also=["dagster-dg-cli"])
    (tmp_path / "dg.toml").write_text("[cli.telemetry]\nenabled = false\n")
    root = tmp_path / "project"
    package = root / "src" / "theirs"
    (package / "defs").mkdir(parents=True)
    (root / "pyproject.toml").write_text(PROJECT)
    (package / "__init__.py").touch()
    (package / "definitions.py").write_text(DEFINITIONS)
    (package / "defs" / "theirs.py").write_text(THEIRS)
    # What `uv sync` does in a project.
    (site,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    (site / "theirs.pth").write_text(f"{root / 'src'}\n")
    return Theirs(root, programs, database_url)


@pytest.mark.slow
def test_a_component_from_the_scaffold_to_the_first_run(theirs: Theirs) -> None:
    assert "tallykeeper.dagster.Tallies" in theirs.run("dg", "list", "components", "--json")
    theirs.run("dg", "scaffold", "defs", "tallykeeper.dagster.Tallies", "shop")
    with theirs.changed('# owners: ["team:sales"]', "ownerz: [1]"):
        refused = theirs.run("dg", "check", "yaml", code=1)
    assert "defs.yaml:13" in refused
    assert "Additional properties are not allowed ('ownerz' was unexpected)" in refused
    listed = json.loads(theirs.run("dg", "list", "defs", "--json"))
    keys = {asset["asset_key"] for asset in listed["assets"]}
    ours = {"tally/shop/orders", "tally/shop/orders_daily", "tally/tallykeeper/incidents"}
    assert keys == {"theirs", *ours}
    checks = {c["key"] for c in listed["asset_checks"] if "orders_daily" in c["key"]}
    names = {key.rpartition(":")[2] for key in checks}
    assert names == {"matches_source", "capture_intact", "fresh"}

    with psycopg.connect(theirs.database_url, autocommit=True) as database:
        database.execute("CREATE SCHEMA shop")
        database.execute(
            "CREATE TABLE shop.orders (id int PRIMARY KEY, placed_at timestamptz NOT NULL)"
        )
        database.execute("INSERT INTO shop.orders SELECT n, now() FROM generate_series(1, 3) AS n")
        assert "shop.orders_daily" in theirs.run("tally", "migrate")
        theirs.run("dg", "launch", "--job", "tally_shop_hourly")
        counted = database.execute("SELECT orders FROM shop.orders_daily").fetchall()
    assert counted == [(3,)]
    (known,) = json.loads(theirs.run("tally", "status", "--json"))["tallies"]
    assert known["verified_at"] is not None, "its checks ran"
