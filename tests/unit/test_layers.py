"""What imports what: each package only those below it, and the engine nothing of the others."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tallykeeper.settings import project_root

BELOW = {
    "tallies": set[str](),
    "resources": {"tallies"},
    "assets": {"tallies", "resources"},
    "serving": {"tallies", "resources", "assets"},
    # The command line starts the service.
    "pipelines": {"tallies", "resources", "assets", "serving"},
}


def imported(package: str) -> Iterator[tuple[str, str]]:
    """Each module of the package with the names of what it imports."""
    for path in sorted((project_root() / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                for name in node.names:
                    yield str(path.relative_to(project_root())), name.name
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield str(path.relative_to(project_root())), node.module


@pytest.mark.parametrize("package", BELOW)
def test_a_package_imports_only_what_lies_below_it(package: str) -> None:
    others = set(BELOW) - BELOW[package] - {package} | {"tests", "benchmarks"}
    wrong = [(module, name) for module, name in imported(package) if name.split(".")[0] in others]
    assert wrong == []


def test_the_engine_knows_no_orchestrator() -> None:
    known = {name.split(".")[0] for _, name in imported("tallies")}
    assert not known & {"dagster", "pandas", "fastapi"}
    assert "sqlalchemy" in known


def test_only_the_command_line_starts_the_service() -> None:
    users = {module for module, name in imported("pipelines") if name.startswith("serving")}
    assert users == {"tallykeeper/cli/run.py"}
