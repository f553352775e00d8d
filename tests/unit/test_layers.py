"""What imports what: each package only those below it, in the library and in what uses it."""

from __future__ import annotations

import ast
import graphlib
import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest

from tallykeeper.settings import project_root

# From the lowest to the highest: a package may import those before it. The map for contributors has
# them too, and a picture of them, which `make golden` draws (tests/unit/test_contributing.py).
LAYERS = (
    "errors",
    "extras",
    "settings",
    "project_file",
    "dagster_names",
    "table_names",
    "charts",
    "database",
    "declarations",
    "catalog",
    "faults",
    "partitions",
    "strategies",
    "select",
    "system",
    "discovery",
    "capture",
    "drift",
    "installation",
    "maintain",
    "operations",
    "parquet",
    "engines",
    "archive",
    "input",
    "reads",
    "places",
    "embedded",
    "dagster",
    "http",
    "cli",
)
PROJECT = ("resources", "assets", "pipelines")
# Imported where they are used, by what lies below: the embedded server is opened like any other,
# and the command line makes a system's commands, which the service and Dagster know nothing of.
UPWARDS = {
    ("tallykeeper/database/connections.py", "tallykeeper.embedded"),
    ("tallykeeper/dagster/project_database.py", "tallykeeper.installation.migrate"),
}
MOST_MODULES = 12


def modules(folder: str) -> list[Path]:
    return sorted((project_root() / folder).rglob("*.py"))


@cache
def imported(folder: str) -> Sequence[tuple[str, str]]:
    return tuple(_imported(folder))


def _imported(folder: str) -> Iterator[tuple[str, str]]:
    """Each module below the folder with the names of what it imports."""
    for path in modules(folder):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                for name in node.names:
                    yield str(path.relative_to(project_root())), name.name
            elif isinstance(node, ast.ImportFrom) and node.module == "tallykeeper":
                for name in node.names:
                    yield str(path.relative_to(project_root())), f"tallykeeper.{name.name}"
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield str(path.relative_to(project_root())), node.module


def layer(name: str) -> int | None:
    """The place of `tallykeeper.x...` in the layers; None for a name that the package exports."""
    part = name.split(".")[1] if "." in name else ""
    return LAYERS.index(part) if part in LAYERS else None


@pytest.mark.parametrize("above", [name for name in LAYERS if name != "discovery"])
def test_a_package_imports_only_what_lies_below_it(above: str) -> None:
    wrong = []
    for module, name in imported("tallykeeper"):
        if Path(module).parts[1].removesuffix(".py") != above or not name.startswith(
            "tallykeeper."
        ):
            continue
        place = layer(name)
        if place is not None and place > LAYERS.index(above) and (module, name) not in UPWARDS:
            wrong.append((module, name))
    assert wrong == []


def test_every_package_has_its_layer() -> None:
    there = {
        path.stem
        for path in (project_root() / "tallykeeper").iterdir()
        if (path / "__init__.py").is_file() or path.suffix == ".py"
    }
    assert there - {"__init__"} == set(LAYERS)


def test_the_library_knows_nothing_of_the_project_that_uses_it() -> None:
    others = {*PROJECT, "tests", "benchmarks"}
    assert [found for found in imported("tallykeeper") if found[1].split(".")[0] in others] == []


@pytest.mark.parametrize("package", PROJECT)
def test_the_project_imports_downwards(package: str) -> None:
    above = {*PROJECT[PROJECT.index(package) + 1 :], "tests", "benchmarks"}
    assert [found for found in imported(package) if found[1].split(".")[0] in above] == []


def test_dagster_is_imported_by_one_package_alone() -> None:
    users = {
        module
        for module, name in imported("tallykeeper")
        if name.split(".")[0] in ("dagster", "dagster_postgres", "dagster_shared")
    }
    elsewhere = {module for module in users if not module.startswith("tallykeeper/dagster/")}
    # What the demo reports of its runs.
    assert elsewhere == {"tallykeeper/cli/demo_run.py"}


def test_the_private_modules_of_dagster_have_one_user() -> None:
    private = ("dagster._", "dagster_shared", "dagster_postgres.")
    users = {
        module
        for folder in ("tallykeeper", *PROJECT)
        for module, name in imported(folder)
        if name.startswith(private)
    }
    assert users == {
        "tallykeeper/dagster/_internals/__init__.py",
        "tallykeeper/dagster/_internals/storage.py",
    }


def test_what_computes_needs_neither_frames_nor_a_web_framework() -> None:
    below = LAYERS[: LAYERS.index("maintain") + 1]
    found = {
        name.split(".")[0]
        for module, name in imported("tallykeeper")
        if Path(module).parts[1].removesuffix(".py") in below
    }
    assert not found & {"dagster", "pandas", "fastapi", "pyarrow"}
    assert "sqlalchemy" in found


def test_a_folder_can_be_taken_in_at_a_glance() -> None:
    folders: dict[Path, int] = {}
    for path in (*modules("tallykeeper"), *modules("assets")):
        if path.name != "__init__.py":
            folders[path.parent] = folders.get(path.parent, 0) + 1
    assert {str(f): n for f, n in folders.items() if n > MOST_MODULES} == {}


def test_every_sql_file_is_sent_by_a_module_beside_it() -> None:
    library = project_root() / "tallykeeper"
    files = {path.relative_to(library) for path in library.rglob("*.sql")}
    # Found by their numbers.
    files = {path for path in files if path.parent != Path("catalog/migrations")}
    named = {
        path.relative_to(library).with_name(f"{name}.sql")
        for path in modules("tallykeeper")
        for name in re.findall(r'sql_file\(__name__, "(\w+)"\)', path.read_text(encoding="utf-8"))
    }
    assert files == named
    assert len(files) >= 7


def test_no_module_imports_itself_by_way_of_others() -> None:
    """Imports at the top of modules; what is imported inside a function is there already."""
    graph: dict[str, set[str]] = {}
    names = {
        ".".join(path.relative_to(project_root()).with_suffix("").parts): path
        for path in modules("tallykeeper")
    }
    for module, path in names.items():
        needed = graph.setdefault(module.removesuffix(".__init__"), set())
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom) and node.module:
                inside = {f"{node.module}.{name.name}" for name in node.names} & set(names)
                needed |= inside or ({node.module} & set(names))
    graphlib.TopologicalSorter(graph).prepare()
