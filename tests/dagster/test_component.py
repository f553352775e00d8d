"""Tallies as a component: its attributes, definitions of others beside it, and what is refused.

That `dg` scaffolds, lists, checks and launches it is shown in tests/acceptance/test_component.py.
"""

from __future__ import annotations

import re
import shutil
import textwrap
import tomllib
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from sqlalchemy import Engine, text

from tallykeeper import migrate, open_engine
from tallykeeper.dagster import Tallies
from tallykeeper.dagster.component.scaffold import TalliesScaffolder
from tallykeeper.dagster_names import RESOURCE
from tallykeeper.discovery import all_systems
from tallykeeper.settings import project_root
from tests.dagster.location import days_ago
from tests.servers import Servers

ORDERS = """
CREATE SCHEMA shop;
CREATE TABLE shop.orders (id bigint PRIMARY KEY, placed_at timestamptz NOT NULL, cents int NOT NULL)
"""
DAILY = """
      -- Orders by day.
      SELECT date_trunc('day', o.placed_at, 'UTC') AS day, count(*) AS orders
      FROM shop.orders AS o
      GROUP BY 1"""
ATTRIBUTES = f"""
  selects:
    shop.orders_daily: |{DAILY}
"""
# Of others: a resource called `database`, an executor, a job that is called as one of ours.
THEIRS = """
import dagster as dg

@dg.asset
def theirs(database: dg.ResourceParam[str]) -> str:
    return database

@dg.job
def audit():
    pass

defs = dg.Definitions(
    assets=[theirs],
    jobs=[audit],
    resources={"database": "theirs"},
    executor=dg.multiprocess_executor,
)
"""

MakeProject = Callable[..., Path]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeProject:
    """Makes a project of `dg` in a folder, with one component of these attributes."""

    def make(attributes: str, name: str = "project", prefix: str = "tally") -> Path:
        root, module = tmp_path / name, f"{name}_of_{tmp_path.name}"
        folder = root / module / "defs" / "shop"
        folder.mkdir(parents=True)
        for package in (root / module, root / module / "defs"):
            (package / "__init__.py").touch()
        (root / "pyproject.toml").write_text(
            f'[tool.dg]\ndirectory_type = "project"\n[tool.dg.project]\nroot_module = "{module}"\n'
            f'[tool.tallykeeper]\ntallies = ["**/defs.yaml"]\ndagster_prefix = "{prefix}"\n'
        )
        declared = f"type: tallykeeper.dagster.Tallies\nattributes:{attributes}"
        (folder / "defs.yaml").write_text(declared)
        monkeypatch.syspath_prepend(str(root))
        monkeypatch.setenv("TALLY_PROJECT", str(root))
        return folder

    return make


def load(folder: Path) -> dg.Definitions:
    """The definitions of the whole project, as `definitions.py` of a project loads them."""
    return dg.load_from_defs_folder(path_within_project=folder)


def cause(folder: Path) -> str:
    """What is said of a project that cannot be loaded."""
    with pytest.raises(Exception, match="Error while") as caught:
        load(folder)
    assert caught.value.__cause__ is not None
    return str(caught.value.__cause__)


def with_orders(engine: Engine, *days: str) -> None:
    """The source table, with an order on each of the days."""
    with engine.begin() as connection:
        connection.execute(text(ORDERS))
        for number, day in enumerate(days):
            insert = text("INSERT INTO shop.orders VALUES (:id, :at, 100)")
            connection.execute(insert, {"id": number, "at": f"{day} 12:00Z"})


def rows(engine: Engine) -> list[tuple[str, int]]:
    with engine.connect() as connection:
        days = text("SELECT (day AT TIME ZONE 'UTC')::date, orders FROM shop.orders_daily")
        return [(day.isoformat(), orders) for day, orders in connection.execute(days)]


def test_attributes_reach_assets_schedule_and_sensors(project: MakeProject) -> None:
    folder = project(
        f"""{ATTRIBUTES}
  owners: ["team:sales"]
  first_partition: "{days_ago(3)}"
  schedule: "*/15 * * * *"
  alerts: false
"""
    )
    repository = load(folder).get_repository_def()
    key = dg.AssetKey(["tally", "shop", "orders_daily"])
    node = repository.asset_graph.get(key)
    assert node.owners == ["team:sales"]
    assert "Orders by day." in (node.description or "")
    assert node.partitions_def is not None
    assert node.partitions_def.get_first_partition_key() == days_ago(3)
    schedule = repository.get_schedule_def("tally_shop_hourly")
    assert schedule.cron_schedule == "*/15 * * * *"
    assert schedule.description == "*/15 * * * *: refresh the tallies of shop, and check them."
    assert [sensor.name for sensor in repository.sensor_defs] == ["tally_pending_pressure"]


def test_the_command_line_finds_the_same_tallies(project: MakeProject) -> None:
    folder = project("\n  {}")
    for name in ("orders_daily", "orders_monthly"):
        (folder / f"{name}.sql").write_text(textwrap.dedent(DAILY).replace("daily", name))
    keys = {key.path[-1] for key in load(folder).resolve_asset_graph().get_all_asset_keys()}
    assert keys == {"orders", "orders_daily", "orders_monthly", "incidents"}
    (system,) = all_systems()
    assert [tally.name for tally in system.tallies] == ["shop.orders_daily", "shop.orders_monthly"]


def test_an_asset_follows_conventions_of_dagster(
    project: MakeProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = project(' {files: ["*.sql"]}')
    with (folder.parents[2] / "pyproject.toml").open("a") as file:
        file.write('owners = ["team:data"]\n')
    path = folder / "orders_daily.sql"
    path.write_text(f"{textwrap.dedent(DAILY)}\n")
    monkeypatch.setenv("TALLY_FRESH_SECONDS", "10800")
    node = load(folder).resolve_asset_graph().get(dg.AssetKey(["tally", "shop", "orders_daily"]))
    (system,) = all_systems()
    assert node.code_version == system.tallies[0].declaration_hash()
    assert node.freshness_policy == dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=3))
    assert node.owners == ["team:data"]
    assert node.kinds == {"postgres", "table"}
    references = node.metadata["dagster/code_references"].code_references
    found = {(r.file_path, r.line_number) for r in references}
    # Dagster itself adds the defs.yaml.
    assert found == {(str(path), 3), (str(folder / "defs.yaml"), 1)}
    root = folder.parents[2]
    in_git = dg.link_code_references_to_git(
        list(load(folder).assets or ()),
        "https://github.com/jo/shop",
        "main",
        dg.AnchorBasedFilePathMapping(root, "figures"),
    )
    key = dg.AssetKey(["tally", "shop", "orders_daily"])
    (linked,) = (a for a in in_git if isinstance(a, dg.AssetsDefinition) and key in a.keys)
    metadata = linked.metadata_by_key[key]
    urls = {r.url for r in metadata["dagster/code_references"].code_references}
    place = path.relative_to(root).as_posix()
    assert f"https://github.com/jo/shop/tree/main/figures/{place}#L3" in urls


def test_two_databases_in_one_workspace(
    project: MakeProject,
    postgres_servers: Servers,
    postgres_version: int,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    engines: list[Engine] = []
    definitions: list[dg.Definitions] = []
    with (
        postgres_servers.fresh_database(postgres_version) as first,
        postgres_servers.fresh_database(postgres_version) as second,
    ):
        for name, url, days in (("one", first, (3, 3)), ("two", second, (2,))):
            engines.append(open_engine(url))
            with_orders(engines[-1], *map(days_ago, days))
            folder = project(f"{ATTRIBUTES}\n  database_env: DATABASE_{name.upper()}\n", name, name)
            monkeypatch.setenv(f"DATABASE_{name.upper()}", url)
            migrate(engines[-1], all_systems())
            definitions.append(load(folder))
        for name, each in zip(("one", "two"), definitions, strict=True):
            monkeypatch.setenv("TALLY_PROJECT", str(tmp_path / name))
            job = each.resolve_job_def(f"{name}_shop_hourly")
            quiet: dict[str, Any] = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
            done = job.execute_in_process(instance=instance, run_config=quiet)
            assert done.success
            passed = [c.check_name for c in done.get_asset_check_evaluations() if c.passed]
            assert sorted(passed) == ["capture_intact", "fresh", "matches_source"]
        assert rows(engines[0]) == [(days_ago(3), 2)]
        assert rows(engines[1]) == [(days_ago(2), 1)]
        for engine in engines:
            engine.dispose()


def test_the_workspace_of_the_page_has_a_component_for_each_database(
    project: MakeProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (project_root() / "docs/how-to/component.md").read_text(encoding="utf-8")
    named = {"dg.toml", "projects/depot/src/depot/defs/depot/defs.yaml"}
    blocks = dict(re.findall(r'^```\w+ title="([^"]+)"\n(.*?)^```', page, re.DOTALL | re.MULTILINE))
    assert set(blocks) == named
    projects = tomllib.loads(blocks["dg.toml"])["workspace"]["projects"]
    assert [each["path"] for each in projects] == ["projects/shop", "projects/depot"]
    attributes = blocks["projects/depot/src/depot/defs/depot/defs.yaml"].partition("attributes:")[2]
    monkeypatch.setenv("DEPOT_DATABASE_URL", "postgresql://nobody@localhost/depot")
    found = load(project(attributes, "depot", "depot"))
    dg.Definitions.validate_loadable(found)
    assert dg.AssetKey(["depot", "depot", "orders_daily"]) in (
        found.resolve_asset_graph().get_all_asset_keys()
    )
    assert "DEPOT_DATABASE_URL" in repr(found.resources)


def test_definitions_of_others_stay_as_they_are(project: MakeProject) -> None:
    folder = project(ATTRIBUTES)
    (folder.parent / "theirs.py").write_text(THEIRS)
    found = load(folder)
    dg.Definitions.validate_loadable(found)
    repository = found.get_repository_def()
    assert repository.has_job("audit")
    assert repository.has_job("tally_audit")
    assert found.executor is dg.multiprocess_executor
    assert set(found.resources or {}) == {"database", RESOURCE}
    nightly = found.resolve_job_def("tally_housekeeping")
    assert {node.name for node in nightly.nodes} == {"delete_old_incidents"}, "runs of others stay"


def test_without_a_prefix_no_run_of_others_is_deleted(project: MakeProject) -> None:
    found = load(project(ATTRIBUTES, prefix=""))
    assert found.executor is None
    nightly = found.resolve_job_def("housekeeping")
    assert {node.name for node in nightly.nodes} == {"delete_old_incidents"}


def test_the_address_is_read_when_a_run_starts_and_shown_nowhere(
    project: MakeProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_DATABASE", "postgresql://someone:secret@localhost/shop")
    found = load(project(f"{ATTRIBUTES}\n  database_env: SHOP_DATABASE\n"))
    (resource,) = (found.resources or {}).values()
    assert "secret" not in repr(resource)
    assert "secret" not in str(resource)


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        (" {}", "expected a tally, but it is 'none'; write one under `selects`, or a file"),
        ("\n  selects: {shop.a: SELECT 1; SELECT 2}", "(shop.a):1:11: expected one statement"),
        ("\n  selects: {shop: SELECT 1}", "a schema and a table with a point between them"),
        ("\n  files: [orders.sql]", "orders.sql:1:1: expected a file, found none"),
        (f'{ATTRIBUTES}\n  schedule: "every hour"', 'write it as in "0 * * * *"'),
        (f'{ATTRIBUTES}\n  schedule: "0 0 * * *"', "set TALLY_FRESH_SECONDS=90000"),
        (f'{ATTRIBUTES}\n  first_partition: "2026-13-01"', "expected a date like 2026-01-01"),
        (f'{ATTRIBUTES}\n  first_partition: "9999-01-01"', "a day not after today (UTC)"),
        (
            "\n  selects:\n    shop.a: |\n      -- tally: shop.b\n      SELECT 1 AS one",
            "expected the name `shop.a`, found `shop.b`",
        ),
    ],
)
def test_what_cannot_be_kept_is_refused(project: MakeProject, attributes: str, said: str) -> None:
    assert said in cause(project(attributes))


def test_a_name_in_a_file_and_in_the_attributes_is_refused(project: MakeProject) -> None:
    folder = project(f'{ATTRIBUTES}\n  files: ["*.sql"]')
    (folder / "orders_daily.sql").write_text(textwrap.dedent(DAILY))
    assert "orders_daily.sql:1:1: expected a name of its own" in cause(folder)


def second(folder: Path, name: str, attributes: str) -> None:
    """Another component, in a folder beside that one."""
    (folder.with_name(name)).mkdir()
    (folder.with_name(name) / "defs.yaml").write_text(
        f"type: tallykeeper.dagster.Tallies\nattributes:{attributes}"
    )


def test_components_of_one_database_share_what_a_code_location_has_once(
    project: MakeProject,
) -> None:
    folder = project(f'{ATTRIBUTES}\n  owners: ["team:sales"]')
    depot = ATTRIBUTES.replace("shop.orders_daily", "depot.moved_daily")
    second(folder, "depot", f'{depot}\n  owners: ["team:depot"]\n  schedule: "*/5 * * * *"')
    with (folder / "defs.yaml").open("a") as file:
        third = ATTRIBUTES.replace("shop.orders_daily", "bank.paid_daily")
        file.write(f"\n---\ntype: tallykeeper.dagster.Tallies\nattributes:{third}")
    found = load(folder)
    dg.Definitions.validate_loadable(found)
    repository = found.get_repository_def()
    systems = ("bank", "depot", "shop")
    schedules = {s.name: s.cron_schedule for s in repository.schedule_defs}
    assert schedules["tally_depot_hourly"] == "*/5 * * * *"
    assert {f"tally_{system}_hourly" for system in systems} <= set(schedules)
    sensors = [sensor.name for sensor in repository.sensor_defs]
    assert sorted(sensors) == ["tally_alerts", "tally_pending_pressure"]
    graph = repository.asset_graph
    owners = {
        name: graph.get(dg.AssetKey(["tally", *name.split(".")])).owners
        for name in ("shop.orders_daily", "depot.moved_daily", "bank.paid_daily")
    }
    assert list(owners.values()) == [["team:sales"], ["team:depot"], []]
    audit = repository.get_job("tally_audit").asset_layer.asset_graph.asset_check_keys
    compared = {key.asset_key.path[1] for key in audit if key.name == "matches_source"}
    assert compared == set(systems), "what is there once is for all of them"
    assert {system.name for system in all_systems()} == set(systems)


def test_components_that_cannot_be_beside_each_other_are_refused(project: MakeProject) -> None:
    folder = project(ATTRIBUTES)
    second(folder, "other", f"{ATTRIBUTES}\n  database_env: OTHER_DATABASE")
    assert "another database needs a project of its own" in cause(folder)
    second(folder, "other2", f"{ATTRIBUTES}\n  alerts: false")
    shutil.rmtree(folder.with_name("other"))
    assert "expected one value for all components" in cause(folder)
    shutil.rmtree(folder.with_name("other2"))
    second(folder, "other", ATTRIBUTES)
    assert "expected the tallies of a schema in one component" in cause(folder)


IN_PYTHON = """
import dagster as dg
from tallykeeper.dagster import Tallies

@dg.component_instance
def load(context) -> Tallies:
    return Tallies(selects={"depot.moved_daily": "SELECT count(*) AS n FROM depot.moved AS m"})
"""


def test_a_component_in_python_stands_alone_and_beside_others(project: MakeProject) -> None:
    folder = project(ATTRIBUTES)
    other = folder.with_name("depot")
    other.mkdir()
    (other / "component.py").write_text(IN_PYTHON)
    for systems in ({"depot", "shop"}, {"depot"}):
        repository = load(folder).get_repository_def()
        hourly = {name for name in repository.job_names if name.endswith("_hourly")}
        assert hourly == {f"tally_{system}_hourly" for system in systems}
        assert len(repository.sensor_defs) == 2
        shutil.rmtree(folder, ignore_errors=True)
        folder = other


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        (f"{ATTRIBUTES}    shop.orders_daily: SELECT 2", "`shop.orders_daily` again, which line 4"),
        (" {files: [a.sql], owners: [], files: [b.sql]}", "defs.yaml:2:42: expected each key once"),
        (f"{ATTRIBUTES}\nattributes: {{}}", "`attributes` again, which line 2 has"),
    ],
)
def test_a_key_that_is_there_twice_is_refused(
    project: MakeProject, attributes: str, said: str
) -> None:
    folder = project(attributes)
    assert said in cause(folder)
    with pytest.raises(Exception, match="expected each key once") as caught:
        all_systems()
    assert said in str(caught.value)


def test_an_alias_in_yaml_is_read_once(project: MakeProject) -> None:
    folder = project("\n  files: &own [*own]")
    with pytest.raises(Exception, match="expected `files` as a list of patterns"):
        all_systems()
    assert folder.exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("type: [", "defs.yaml:1:8: expected YAML"),
        (
            "type: tallykeeper.dagster.Tallies\nattributes: {selects: [SELECT 1]}",
            "expected `selects` with a SELECT for each name",
        ),
        (
            "type: tallykeeper.dagster.Tallies\nattributes: {files: '*.sql'}",
            "expected `files` as a list of patterns",
        ),
        ("type: tallykeeper.dagster.Tallies\nattributes: 7", "expected `selects` with"),
    ],
)
def test_the_command_line_says_what_is_malformed(
    project: MakeProject, content: str, said: str
) -> None:
    (project(ATTRIBUTES) / "defs.yaml").write_text(content)
    with pytest.raises(Exception, match=r"defs\.yaml") as caught:
        all_systems()
    assert said in str(caught.value)


def test_a_name_in_two_components_is_refused_by_the_command_line(project: MakeProject) -> None:
    folder = project(ATTRIBUTES)
    other = folder.with_name("other")
    other.mkdir()
    (other / "defs.yaml").write_text((folder / "defs.yaml").read_text())
    (folder.parent / "defs.yaml").write_text("type: dagster.DefsFolderComponent\n")
    with pytest.raises(Exception, match="expected a name of its own"):
        all_systems()


def scaffolded(
    folder: Path, root: Path | None, form: str = "yaml", *, append: bool = False
) -> None:
    target = folder / "defs.yaml" if append else folder
    request = dg.ScaffoldRequest(
        "tallykeeper.dagster.Tallies",
        target,
        "python" if form == "python" else "yaml",
        root,
        params=TalliesScaffolder.get_scaffold_params()(),
        append=append,
    )
    TalliesScaffolder().scaffold(request)


def test_what_is_scaffolded_can_be_loaded_and_is_named_once(
    project: MakeProject, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = project(ATTRIBUTES)
    root = folder.parents[2]
    scaffolded(folder, root)
    path = (folder / "defs.yaml").relative_to(root).as_posix()
    assert f"Named {path} in {root / 'pyproject.toml'}" in capsys.readouterr().out
    named = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["tallykeeper"]
    assert named == {"tallies": [path, "**/defs.yaml"], "dagster_prefix": "tally"}
    keys = load(folder).resolve_asset_graph().get_all_asset_keys()
    assert dg.AssetKey(["tally", "shop", "orders_daily"]) in keys
    before = (folder / "defs.yaml").read_text()
    scaffolded(folder, None, append=True)
    assert (folder / "defs.yaml").read_text() == f"{before}---\n{before}"
    scaffolded(folder, None, "python")
    assert "-> Tallies: ..." in (folder / "component.py").read_text()


def test_a_pyproject_that_cannot_be_changed_is_said(
    project: MakeProject, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = project(ATTRIBUTES)
    file = folder.parents[2] / "pyproject.toml"
    file.write_text('tool.tallykeeper = {tallies = ["x.sql"]}\n')
    scaffolded(folder, file.parent)
    assert "was not changed: write `tallies = " in capsys.readouterr().out
    assert file.read_text() == 'tool.tallykeeper = {tallies = ["x.sql"]}\n'


def test_the_page_has_every_attribute() -> None:
    page = (project_root() / "docs/how-to/component.md").read_text(encoding="utf-8")
    rows = page.partition("## Attributes")[2].partition("\n## ")[0].splitlines()
    wanted = [
        f"| `{name}` | {each['description']} | {_default(each.get('default'))} |"
        for name, each in Tallies.model().model_json_schema()["properties"].items()
    ]
    assert [row for row in rows if row.startswith("| `")] == wanted, "\n".join(wanted)


def _default(value: object) -> str:
    return f"`{str(value).lower() if isinstance(value, bool) else value}`" if value else "none"
