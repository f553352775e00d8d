"""Which systems there are: what a project's pyproject.toml names, and what distributions bring."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tallykeeper import (
    SelectTally,
    Tally,
    discovery,
)
from tallykeeper.errors import BadFile
from tallykeeper.select.files import Declared
from tallykeeper.settings import SettingError, dagster_prefix, owners, project_root, project_table
from tests.stranger import DECLARED


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project without systems; what a test imports from it is forgotten after it."""
    monkeypatch.setenv("TALLY_PROJECT", str(tmp_path))
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("own_")]:
        del sys.modules[name]


def write(project: Path, table: str, **modules: str) -> None:
    (project / "pyproject.toml").write_text(f"[tool.tallykeeper]\n{table}\n")
    for name, content in modules.items():
        (project / f"{name}.py").write_text(content)


def names() -> list[str]:
    return [system.name for system in discovery.all_systems()]


def test_systems_are_found_where_the_project_names_them(project: Path) -> None:
    write(project, 'systems = ["own_shop:system"]', own_shop=DECLARED)
    assert names() == ["shop"]
    assert discovery.all_systems() is discovery.all_systems(), "imported once"
    assert [system.name for system in discovery.chosen_systems()] == ["shop"]


def test_tallies_that_stand_alone_are_grouped_by_their_system(project: Path) -> None:
    tallies, _, _ = DECLARED.partition("system = System")
    other = tallies.replace('"shop.revenue_daily"', '"other.revenue_daily"')
    write(
        project,
        'systems = ["own_shop:system"]\ntallies = ["own_other:revenue_daily"]',
        own_shop=DECLARED,
        own_other=other,
    )
    assert names() == ["shop", "other"]
    (tally,) = discovery.all_systems()[1].tallies
    assert tally.name == "other.revenue_daily"


def write_files(project: Path, **contents: str) -> None:
    for name, content in contents.items():
        path = project / "tallies" / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".sql").write_text(content)


def counted(declared: Declared) -> Tally:
    """In place of the file's own SELECT, which is none."""
    return SelectTally(
        f"{declared.system}.{declared.table}",
        select="SELECT id, count(*) AS rows FROM shop.orders GROUP BY id",
    )


def test_files_are_grouped_by_the_schema_in_their_names(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "tally_of", counted)
    write(
        project,
        'systems = ["own_shop:system"]\ntallies = ["tallies/**/*.sql"]',
        own_shop=DECLARED,
    )
    write_files(
        project,
        depot__stock="SELECT 1",
        shop__per_order="SELECT 1",
        depot__b="-- tally: desk.moves\nSELECT 1",
    )
    found = {s.name: [t.name for t in s.tallies] for s in discovery.all_systems()}
    assert found == {
        "shop": ["shop.revenue_daily", "shop.per_order"],
        "desk": ["desk.moves"],
        "depot": ["depot.stock"],
    }


def test_files_and_modules_stand_in_one_list(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "tally_of", counted)
    write(
        project,
        'tallies = ["tallies/**/*.sql", "own_shop:revenue_daily"]',
        own_shop=DECLARED,
    )
    write_files(project, shop__per_order="SELECT 1")
    (system,) = discovery.all_systems()
    assert [t.name for t in system.tallies] == ["shop.revenue_daily", "shop.per_order"]


@pytest.mark.parametrize("pattern", ["/etc/**/*.sql", "../tallies/*.sql"])
def test_files_outside_the_project_are_refused(project: Path, pattern: str) -> None:
    write(project, f'tallies = ["{pattern}"]')
    with pytest.raises(SettingError, match="expected files within the project's folder, but it is"):
        names()


def test_a_malformed_file_is_named_with_its_place(project: Path) -> None:
    write(project, 'tallies = ["tallies/**/*.sql"]')
    write_files(project, shop__a="-- A\nSELCT 1")
    with pytest.raises(BadFile, match=r"tallies/shop/a.sql:2:1: expected a SELECT, found `SELCT`"):
        names()


def test_an_installed_distribution_brings_systems(project: Path) -> None:
    write(project, "", own_shop=DECLARED)
    information = project / "own_shop-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: own-shop\nVersion: 1.0\n")
    points = f"[{discovery.ENTRY_POINTS}]\nshop = own_shop:system\n"
    (information / "entry_points.txt").write_text(points)
    assert names() == [], "it is not installed"
    discovery._systems_of.cache_clear()
    sys.path.insert(0, str(project))
    assert names() == ["shop"]
    (information / "entry_points.txt").write_text(points.replace("own_shop:", "own_shops:"))
    discovery._systems_of.cache_clear()
    with pytest.raises(SettingError, match=r"the entry point shop of .*no such thing"):
        names()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            'system = ["own_shop:system"]',
            "expected systems or tallies or page or dagster_prefix or owners or prune, but",
        ),
        ('systems = "own_shop:system"', "expected a list of texts, but it is 'own_shop:system'"),
        ('systems = ["own_shop"]', r"expected module:attribute, as in \"shop.tallies:system\""),
        (
            'tallies = ["tallies/*.sqll"]',
            r"expected module:attribute, .*, or files, as in \"tallies/\*\*/\*\.sql\", but",
        ),
        ('systems = ["own_shops:system"]', "no such thing .*No module named 'own_shops'"),
        ('systems = ["own_shop:systems"]', "no such thing .*has no attribute 'systems'"),
        ('systems = ["own_shop:orders"]', "expected a System, but it is 'own_shop:orders, a Table"),
        ('tallies = ["own_shop:system"]', "expected a Tally, but it is 'own_shop:system, a System"),
        (
            'systems = ["own_shop:system", "own_copy:system"]',
            "expected systems of different names, but it is 'shop'",
        ),
    ],
)
def test_what_cannot_be_found_is_named_with_its_place(
    project: Path, table: str, message: str
) -> None:
    write(project, table, own_shop=DECLARED, own_copy=DECLARED)
    with pytest.raises(SettingError, match=message) as refused:
        names()
    assert "[tool.tallykeeper] of " in str(refused.value)


def test_what_a_module_of_the_project_lacks_itself_is_no_setting(project: Path) -> None:
    write(project, 'systems = ["own_shop:system"]', own_shop="import a_package_that_is_not_there")
    with pytest.raises(ModuleNotFoundError, match="a_package_that_is_not_there"):
        names()


def test_a_project_without_systems_says_where_to_name_them(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(project, "")
    with pytest.raises(SettingError, match=r"expected systems or tallies in the pyproject\.toml"):
        discovery.chosen_systems()
    discovery._systems_of.cache_clear()
    write(project, 'tallies = ["tallies/**/*.sql"]')
    with pytest.raises(SettingError, match=r"some file has, .* write a tally with `tally new"):
        discovery.chosen_systems()
    monkeypatch.setenv("TALLY_PROJECT", str(project / "nowhere"))
    with pytest.raises(SettingError, match="TALLY_PROJECT: expected a folder"):
        discovery.chosen_systems()


def test_a_system_that_there_is_not_is_refused(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(project, 'systems = ["own_shop:system"]', own_shop=DECLARED)
    with pytest.raises(SettingError, match="expected one of shop, but it is 'shops'"):
        discovery.system_called("shops")
    monkeypatch.setenv("TALLY_SYSTEMS", "shop,shops")
    with pytest.raises(SettingError, match=r"systems that there are \(shop\), but it is 'shops'"):
        discovery.chosen_systems()


def test_source_tables_go_by_other_names_only_where_they_are_declared_so(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    renamed = DECLARED.replace("orders = Table(", "orders = SourceTables('shop', metadata).table(")
    renamed = renamed.replace('"orders",\n    metadata,', '"orders",').replace(
        "metadata = MetaData",
        "from tallykeeper.table_names import SourceTables\n\nmetadata = MetaData",
    )
    renamed = renamed.replace(
        "nullable=False),\n)\n\nday", "nullable=False),\n    comment='',\n)\n\nday"
    )
    write(project, 'systems = ["own_shop:system"]', own_shop=renamed)
    file = project / "names.toml"
    file.write_text('[shop.orders]\ntable = "sales.order"\n')
    monkeypatch.setenv("TALLY_NAMES", str(file))
    (system,) = discovery.all_systems()
    assert [str(table) for table in system.sources] == ["sales.order"]
    discovery._systems_of.cache_clear()
    del sys.modules["own_shop"]
    file.write_text('[shops.orders]\ntable = "sales.order"\n')
    with pytest.raises(SettingError, match=r"\(shop\), but it is 'shops'; write 'shop' there"):
        names()


def test_the_nearest_project_upwards_counts(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TALLY_PROJECT")
    write(project, "")
    inner = project / "a" / "b"
    inner.mkdir(parents=True)
    (inner.parent / "pyproject.toml").write_text('[project]\nname = "other"\n')
    monkeypatch.chdir(inner)
    assert project_root() == project, "a pyproject.toml without the table is none"
    write(inner.parent, "")
    assert project_root() == inner.parent


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[tool", "expected a pyproject.toml in TOML"),
        ("[tool]\ntallykeeper = 3\n", r"expected a table \[tool.tallykeeper\], but it is '3'"),
    ],
)
def test_a_malformed_pyproject_is_refused(project: Path, content: str, message: str) -> None:
    (project / "pyproject.toml").write_text(content)
    with pytest.raises(SettingError, match=message):
        project_table(project)


@pytest.mark.parametrize("found", ['"team:x"', "[1]"])
def test_owners_that_are_no_list_of_texts_are_refused(project: Path, found: str) -> None:
    write(project, f"owners = {found}")
    with pytest.raises(SettingError, match="owners: expected a list of texts"):
        owners()


@pytest.mark.parametrize("prefix", ["3", '"a b"', '"Tk"', '"3x"'])
def test_a_prefix_that_no_name_can_have_is_refused(project: Path, prefix: str) -> None:
    write(project, f"dagster_prefix = {prefix}")
    with pytest.raises(SettingError, match="dagster_prefix: expected letters, digits and _"):
        dagster_prefix()


def test_a_project_that_another_user_put_in_the_way_is_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TALLY_PROJECT", raising=False)
    (tmp_path / "pyproject.toml").write_text("[tool.tallykeeper]\n")
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "inner")
    assert project_root() == tmp_path
    owner = (tmp_path / "pyproject.toml").stat().st_uid
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    if owner == 0:  # What root owns is trusted by everybody.
        os.chown(tmp_path / "pyproject.toml", 65_534, -1)
    with pytest.raises(SettingError, match="of the user who runs this, or of root"):
        project_root()
    monkeypatch.setenv("TALLY_PROJECT", str(tmp_path))
    assert project_root() == tmp_path, "named, it is trusted"
