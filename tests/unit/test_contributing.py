"""What the documentation names is there: files, functions, packages, commands, imports."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
from functools import cache
from pathlib import Path

import pytest

from tallykeeper.settings import project_root
from tests.layers_picture import picture, svg
from tests.unit.test_layers import LAYERS

PAGES = project_root() / "docs" / "contributing"
# What the pages import that is not of this repository.
OTHERS = {"__future__", "collections", "datetime", "fastapi", "sqlalchemy", "starlette"}


@cache
def names_in(path: Path) -> frozenset[str]:
    """Functions, classes, methods and values at the top of a module, a method with its class."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{m.name}" for m in node.body if isinstance(m, ast.FunctionDef)}
        if isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return frozenset(found)


def steps() -> list[tuple[str, str]]:
    """Each file that the map names with a function in it."""
    rows = re.findall(r"^\|[^|]*\| `([\w/]+\.py)` \| ([^|]+) \|$", map_page(), re.MULTILINE)
    return [(file, name) for file, cell in rows for name in re.findall(r"`([\w.]+)`", cell)]


def map_page() -> str:
    return (PAGES / "map.md").read_text()


def missing(file: str, name: str) -> str | None:
    """What is wrong with a step of the map."""
    path = project_root() / file
    if not path.is_file():
        return f"{file} is not there"
    return None if name in names_in(path) else f"{file} has no {name}"


def test_each_step_of_the_map_is_there() -> None:
    assert len(steps()) > 40
    assert [found for file, name in steps() if (found := missing(file, name))] == []


@pytest.mark.parametrize(
    ("file", "name"),
    [("tallykeeper/nowhere.py", "refresh"), ("tallykeeper/maintain/refresh.py", "nothing")],
)
def test_a_step_that_is_not_there_is_found(file: str, name: str) -> None:
    assert missing(file, name)


def test_the_map_has_every_package() -> None:
    table = map_page().partition("| package | is for |")[2].partition("\n\n")[0]
    named = [
        name for row in table.splitlines() for name in re.findall(r"`(\w+)`", row.split(" | ")[0])
    ]
    assert sorted(set(named) & set(LAYERS)) == sorted(LAYERS)


def test_the_picture_of_the_layers_is_that_of_the_code() -> None:
    assert picture().read_text() == svg(), "`make golden` draws it anew"


@pytest.mark.parametrize("page", ["map.md", "names.md", "first-change.md"])
def test_the_paths_of_a_page_are_there(page: str) -> None:
    text = (PAGES / page).read_text()
    paths = re.findall(r"`((?:[\w-]+/)+[\w-]*(?:\.\w+)?)`", text)
    assert paths
    assert [path for path in paths if not (project_root() / path).exists()] == []


def first_change(language: str) -> list[str]:
    text = (PAGES / "first-change.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def test_the_first_change_applies_to_the_file_that_it_is_for() -> None:
    (diff,) = first_change("diff")
    before = "".join(line[1:] + "\n" for line in diff.splitlines() if not line.startswith("+"))
    assert (project_root() / "assets/media/tables.py").read_text().count(before) == 1


def test_the_commands_of_the_first_change_are_there() -> None:
    commands = re.findall(r"^\$ (.*)$", "".join(first_change("console")), re.MULTILINE)
    targets = set(
        re.findall(r"^([\w-]+):", (project_root() / "Makefile").read_text(), re.MULTILINE)
    )
    assert {command.split()[1] for command in commands if command.startswith("make ")} <= targets
    modules = [found for command in commands for found in re.findall(r"-m (tests[\w.]+)", command)]
    named = [f"{module.replace('.', '/')}.py" for module in modules]
    named += [found for command in commands for found in re.findall(r" ([\w/]+/\w+\.\w+)", command)]
    assert len(named) >= 6
    assert [path for path in named if not (project_root() / path).exists()] == []


def imports_of(page: str) -> list[tuple[str, str]]:
    """What the Python of a page imports of this repository."""
    found = re.findall(r"^ *from ([\w.]+) import ([\w, ]+)$", page, re.MULTILINE)
    ours = [(module, names) for module, names in found if module.split(".")[0] not in OTHERS]
    return [(module, name.strip()) for module, names in ours for name in names.split(",")]


def is_there(module: str, name: str) -> bool:
    """Whether a module has a name, be it a module below it."""
    found = importlib.import_module(module)
    return hasattr(found, name) or importlib.util.find_spec(f"{module}.{name}") is not None


@pytest.mark.parametrize(
    "page",
    [
        str(path.relative_to(PAGES.parent))
        for path in sorted(PAGES.parent.rglob("*.md"))
        if "```python" in path.read_text()
    ],
)
def test_what_a_page_imports_is_there(page: str) -> None:
    for module, name in imports_of((PAGES.parent / page).read_text()):
        assert is_there(module, name), f"{module} has no {name}"
