"""The commands that the pages print are run as they are printed, in two projects of one database.

README and tutorials are followed by tests/browser/test_ui.py and by test_ten_tallies.py.
What is not run is named here with the reason, and is parsed like everything that is printed
(tests/unit/test_printed_commands.py).
"""

from __future__ import annotations

import gzip
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pytest
from PIL import Image
from sqlalchemy import Engine, create_engine, make_url
from sqlalchemy.engine import URL

from tallykeeper import refresh
from tallykeeper.cli.environment import _embedded_programs
from tallykeeper.database.connections import open_engine
from tallykeeper.discovery import all_systems
from tallykeeper.embedded import shared_server
from tallykeeper.installation.migrate import migrate
from tallykeeper.settings import project_root
from tests.acceptance.reader import Reader, commands
from tests.environment import environment
from tests.integration.support import execute
from tests.servers import in_memory

pytestmark = pytest.mark.slow

PAGES = sorted(
    str(path.relative_to(project_root()))
    for folder in ("how-to", "reference", "explanation")
    for path in (project_root() / "docs" / folder).glob("*.md")
)
# Why a command is not run here, by what it has in it.
NOT_RUN = {
    r"^pip install ": "it downloads; extras are installed by test_extras.py",
    r"^tally (up|serve|metrics|listen)\b": "runs until it is ended: test_serve.py, test_metrics.py",
    r"^(export TALLY_SERVE_|export TALLY_UI_URL|curl )": "it asks one that runs: tests/http",
    r" --distribute|^tally places ": "needs Citus, or a system that is divided: tests/places",
    r" --engine spark": "needs Spark: tests/engines",
    r"^export TALLY_MASTODON_TOKEN=": "of a live server: test_fediverse_events.py",
    r"^export OPENLINEAGE_|promtool ": "needs a program that is not ours",
    r"/dg |^dg |^cd projects/": "starts Dagster: test_dg.py, test_component.py",
    r"^(docker|systemctl|systemd-run|useradd|install|cp|git|\.\.\.) ": "installs a machine",
    r"^PYTHONPATH=": "dumps an earlier release: tests/integration/releases",
    r"_TALLY_COMPLETE=": "is for a startup file: test_overview.py completes names",
}
# In the reference project: loads come before what is read, a broken trigger before its repair.
REFERENCE = (
    "docs/how-to/load-media.md",
    "docs/how-to/load-gallery.md",
    "docs/how-to/load-fediverse.md",
    "docs/how-to/load-classroom.md",
    "docs/how-to/adopt-fediverse.md",
    "docs/how-to/rebuild.md",
    "docs/how-to/backfill.md",
    "docs/how-to/archive.md",
    "docs/how-to/failed-check.md",
    "docs/how-to/read.md",
    "docs/how-to/own-database.md",
    "docs/how-to/adopt-tables.md",
    "docs/how-to/alerts.md",
    "docs/how-to/monitor.md",
    "docs/how-to/fediverse-operations.md",
    "docs/reference/json.md",
    "docs/reference/dependencies.md",
    "docs/how-to/backup.md",
    "docs/how-to/dagster-commands.md",
)
# In a shop's project, where nothing is installed at first and something is dropped in the end.
SHOP = (
    "docs/reference/select.md",
    "docs/how-to/own-project.md",
    "docs/how-to/component.md",
    "docs/how-to/quarantine.md",
    "docs/how-to/other-engines.md",
    "docs/how-to/prune-history.md",
    "docs/how-to/roles.md",
    "docs/how-to/add-a-tally.md",
)
# What ends with another exit code than 0, as the page says.
FAILS = {"tally test-alert": 1}

ORDERS = (
    "CREATE ROLE application",
    "CREATE SCHEMA shop AUTHORIZATION application",
    "CREATE TABLE shop.orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer text"
    " NOT NULL, country text NOT NULL, cents integer NOT NULL, placed_at timestamptz NOT NULL)",
    "INSERT INTO shop.orders (customer, country, cents, placed_at) SELECT 'c' || n % 7,"
    " 'l' || n % 3, n, '2024-12-01Z'::timestamptz + n * interval '1 hour'"
    " FROM generate_series(1, 2000) AS n",
    "ALTER TABLE shop.orders OWNER TO application",
)
TALLIES = {
    "revenue_daily": "SELECT date_trunc('day', placed_at, 'UTC') AS day, count(*) AS orders,"
    " sum(cents) AS cents FROM shop.orders GROUP BY 1",
    "revenue": "SELECT customer, count(*) AS lines, sum(cents) AS revenue FROM shop.orders"
    " GROUP BY customer",
}
POSTS = (
    "CREATE TABLE public.mastodon_posts (id text PRIMARY KEY, account_id text NOT NULL,"
    " created_at timestamptz, content text)",
    "INSERT INTO public.mastodon_posts VALUES ('1', '7', now() - interval '1 day', '<p>one</p>')",
)
FILES = (
    "CREATE TABLE public.media_files (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
    " path text NOT NULL UNIQUE, original_created_at timestamptz, created_at timestamptz NOT NULL"
    " DEFAULT now(), updated_at timestamptz NOT NULL DEFAULT now())",
)


def why_not(line: str) -> str | None:
    """Why the command is not run; None where it is."""
    why = next((why for part, why in NOT_RUN.items() if re.search(part, line)), None)
    missing = [each for each in ("jq",) if f"{each} " in line and shutil.which(each) is None]
    return f"there is no {missing[0]}" if missing else why


def run_of(page: str) -> list[str]:
    return [line for line in commands(page) if why_not(line) is None]


@dataclass(frozen=True)
class World:
    """Readers in the reference project and in a shop's, of the same embedded server."""

    reference: Reader
    shop: Reader


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    # A short path, for the server's socket.
    folder = Path(tempfile.mkdtemp(prefix="tally-", dir=in_memory()))
    home = folder / "home"
    url = make_url(shared_server.start(home)[0])
    try:
        yield _world(folder, home, url)
    finally:
        shared_server.stop(home)
        shutil.rmtree(folder)


def _world(folder: Path, home: Path, url: URL) -> World:
    engine = open_engine(url.render_as_string(hide_password=False))
    _fill(engine)
    app = _database(engine, "app", FILES)
    host, user = str(url.query["host"]), str(url.username)
    values = environment(
        TALLY_HOME=str(home),
        HOME=str(folder / "reader"),
        DATABASE=url.render_as_string(hide_password=False),
        PGHOST=host,
        PGUSER=user,
        PGPORT=str(url.query.get("port", 5432)),
        PGDATABASE=str(url.database),
    )
    # The pg_dump of an older PostgreSQL refuses this one.
    programs = str(_embedded_programs())
    values["PATH"] = os.pathsep.join((programs, os.environ["PATH"]))
    archive, names = folder / "archive", folder / "names.toml"
    archive.mkdir()
    names.write_text('[media.media_files]\ntable = "media.media_files"\n')
    replaced = {
        "postgresql://owner@db.example/app": app,
        "/etc/tallykeeper/names.toml": str(names),
        "/srv/archive": str(archive),
        "mailto://user:app-password@example.org?to=ops@example.org": "json://127.0.0.1:1/mail",
        "json://hooks.example.org/tally": "json://127.0.0.1:1/hook",
    }
    reference = Reader(folder / "reader", values | {"TALLY_PROJECT": str(project_root())}, replaced)
    _inputs(folder / "reader")
    shop_url = _database(engine, "shop", ORDERS)
    replaced = {
        "postgresql://owner@db.example/app": shop_url,
        "postgresql://postgres@db.example/app": shop_url,
        "-h db.example -d app": "-d shop",
    }
    shop = Reader(folder / "shop", values | {"TALLY_DATABASE_URL": shop_url}, replaced)
    _project(folder / "shop")
    engine.dispose()
    return World(reference, shop)


def _fill(engine: Engine) -> None:
    """A little of each system's made-up data, refreshed; and posts of another application."""
    systems = all_systems()
    migrate(engine, systems, with_sources=True)
    for system in systems:
        import_module(f"assets.{system.name}.demo").create_demo(engine, 300)
        if system.process is not None:
            system.process(engine)
        for tally in system.tallies:
            refresh(engine, tally)
    execute(engine, *POSTS)


def _database(engine: Engine, name: str, statements: tuple[str, ...]) -> str:
    """Another database of the server, with what the statements make; its address."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    other = create_engine(engine.url.set(database=name))
    execute(other, *statements)
    other.dispose()
    plain = engine.url.set(drivername="postgresql", database=name)
    return plain.render_as_string(hide_password=False)


def _inputs(folder: Path) -> None:
    """The files that pages load, in the folder of the reader, which is the home too."""
    (folder / "Pictures").mkdir()
    Image.new("RGB", (8, 8)).save(folder / "Pictures" / "one.jpg")
    item = '{"id": 900001, "source": "regular", "creator": "ann", "tags": ["sea"]}\n'
    (folder / "items.jsonl.gz").write_bytes(gzip.compress(item.encode()))
    event = b'{"event": "delete", "payload": 1}\n'
    (folder / "events.jsonl.gz").write_bytes(gzip.compress(event))
    (folder / "cs1").mkdir()
    (folder / "cs1" / "DatasetMetadata.csv").write_text("Property,Value\nVersion,8\n")
    (folder / "cs1" / "MainTable.csv").write_text(
        "EventType,EventID,SubjectID,ToolInstances,CodeStateID,ServerTimestamp,CourseID,"
        "AssignmentID\nRun.Program,1,ann,x,1,2024-09-02T12:00:00,cs1,hw1\n"
    )
    snapshots = (
        "homework,student,snapshot,c_error,r_error,t_failed,t_success\n"
        "hw1,ann,2024-09-02T12:00:00.000Z,1,0,0,0\n"
    )
    (folder / "snapshots.csv.gz").write_bytes(gzip.compress(snapshots.encode()))


def _project(folder: Path) -> None:
    (folder / "pyproject.toml").write_text('[tool.tallykeeper]\ntallies = ["tallies/**/*.sql"]\n')
    (folder / "tallies" / "shop").mkdir(parents=True)
    for name, select in TALLIES.items():
        (folder / "tallies" / "shop" / f"{name}.sql").write_text(f"{select}\n")


def failed(reader: Reader, page: str) -> str:
    """The commands of the page that ended otherwise than they should, with what they said."""
    found = reader.types(run_of(page))
    return "\n".join(
        f"$ {line}\n{said}exit code {code}"
        for line, code, said in found
        if code != FAILS.get(line.partition("  ")[0].strip(), 0) or "Traceback" in said
    )


@pytest.mark.parametrize("page", REFERENCE)
def test_commands_of_the_page_run_in_the_reference_project(world: World, page: str) -> None:
    wrong = failed(world.reference, page)
    assert not wrong, wrong


@pytest.mark.parametrize("page", SHOP)
def test_commands_of_the_page_run_in_a_project_of_ones_own(world: World, page: str) -> None:
    wrong = failed(world.shop, page)
    assert not wrong, wrong


@pytest.mark.parametrize("page", PAGES)
def test_every_command_is_run_or_it_is_said_why_not(page: str) -> None:
    left = run_of(page)
    assert page in (*REFERENCE, *SHOP) or left == []
    assert page not in (*REFERENCE, *SHOP) or left, "nothing of it is run: take it off the list"


def test_every_reason_is_needed() -> None:
    lines = [line for page in PAGES for line in commands(page)]
    unused = [part for part in NOT_RUN if not any(re.search(part, line) for line in lines)]
    assert unused == []


def test_most_commands_are_run() -> None:
    lines = [line for page in PAGES for line in commands(page)]
    assert len([line for line in lines if why_not(line) is None]) > 60
    assert commands("docs/how-to/rebuild.md")[1] == (
        "tally rebuild daily_contributions                                     # everything"
    )
