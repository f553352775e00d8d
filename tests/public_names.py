"""The public Python interface, as a page: `python -m tests.public_names` writes it anew.

Modules named here keep their names within a major version; all others are the library's own. What
the page says of a function is what its signature and the first line of its docstring say.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tallykeeper.settings import project_root

PAGE = Path("docs") / "reference" / "python.md"
TITLE = """# The Python interface

Written by `python -m tests.public_names` from the code; not for editing. These modules keep their
names and signatures within a major version. Every other module is internal, and may change.
"""
PARTS = {
    "Declare": (
        "tallykeeper",
        "tallykeeper.system",
        "tallykeeper.errors",
        "tallykeeper.settings",
        "tallykeeper.table_names",
        "tallykeeper.discovery",
        "tallykeeper.declarations.combining",
    ),
    "Connect, and write SQL": (
        "tallykeeper.database.connections",
        "tallykeeper.database.sessions",
        "tallykeeper.database.sql",
        "tallykeeper.database.sqlstates",
        "tallykeeper.database.retry",
        "tallykeeper.database.lock_holders",
    ),
    "Install, and process tables of your own": (
        "tallykeeper.installation.migrate",
        "tallykeeper.installation.removal.drop",
        "tallykeeper.catalog.privileges",
        "tallykeeper.catalog.state",
        "tallykeeper.catalog.transactions",
        "tallykeeper.faults.incidents",
        "tallykeeper.faults.quarantine",
    ),
    "Archive": (
        "tallykeeper.partitions.sources",
        "tallykeeper.partitions.records",
        "tallykeeper.archive.runs",
        "tallykeeper.archive.loading",
        "tallykeeper.archive.store",
        "tallykeeper.archive.verification",
    ),
    "Read": (
        "tallykeeper.reads.live_reads",
        "tallykeeper.reads.rows",
        "tallykeeper.reads.cursors",
        "tallykeeper.reads.grouping",
        "tallykeeper.reads.frames",
        "tallykeeper.reads.exports",
        "tallykeeper.reads.keys",
        "tallykeeper.maintain.fingerprint",
        "tallykeeper.charts",
    ),
    "Several places": (
        "tallykeeper.places.finding",
        "tallykeeper.places.place",
        "tallykeeper.places.work",
        "tallykeeper.places.roll_ups",
        "tallykeeper.places.distribute",
    ),
    "Load": (
        "tallykeeper.input.loader",
        "tallykeeper.input.loading",
        "tallykeeper.input.csv_input",
        "tallykeeper.input.jsonl_input",
        "tallykeeper.input.parquet_input",
        "tallykeeper.input.frame_input",
        "tallykeeper.input.text_input",
    ),
    "Dagster": (
        "tallykeeper.dagster",
        "tallykeeper.dagster.code_location",
        "tallykeeper.dagster.assets",
        "tallykeeper.dagster.checks",
        "tallykeeper.dagster.component.tallies",
        "tallykeeper.dagster.database",
        "tallykeeper.dagster.materialization",
        "tallykeeper.dagster.metadata.pictures",
        "tallykeeper.dagster.project_database",
    ),
    "HTTP": (
        "tallykeeper.http.app",
        "tallykeeper.http.answers",
        "tallykeeper.http.caching",
        "tallykeeper.http.database",
        "tallykeeper.http.operations",
        "tallykeeper.http.page",
        "tallykeeper.http.parameters",
        "tallykeeper.http.problems",
        "tallykeeper.http.routing",
    ),
    "Command line": (
        "tallykeeper.cli.common",
        "tallykeeper.cli.load",
        "tallykeeper.cli.output.documents",
        "tallykeeper.cli.output.progress",
    ),
}
MODULES = frozenset(name for names in PARTS.values() for name in names)


def page() -> str:
    """The page, from the code as it is."""
    lines = [TITLE]
    for part, modules in PARTS.items():
        lines.append(f"## {part}\n")
        for module in modules:
            lines += _module(module)
    return "\n".join(lines)


def _module(name: str) -> Iterator[str]:
    tree = ast.parse(_path(name).read_text(encoding="utf-8"))
    yield f"### `{name}`\n\n{_summary(tree)}\n"
    exported = _exported(tree)
    shown = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    public = [node for node in shown if not node.name.startswith("_")]
    if exported:
        yield f"Exports {', '.join(f'`{each}`' for each in exported)}.\n"
    if public:
        yield "\n".join(f"- {_entry(node)}" for node in public) + "\n"


def _entry(node: ast.FunctionDef | ast.ClassDef) -> str:
    if isinstance(node, ast.ClassDef):
        return f"class `{node.name}`: {_summary(node)}"
    arguments = ast.unparse(node.args)
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"`{node.name}({arguments}){returns}`: {_summary(node)}"


def _summary(node: ast.Module | ast.FunctionDef | ast.ClassDef) -> str:
    """The first paragraph of its docstring, in one line."""
    text = ast.get_docstring(node) or ""
    return " ".join(text.split("\n\n")[0].split())


def _exported(tree: ast.Module) -> list[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return [str(name) for name in ast.literal_eval(node.value)]
    return []


def _path(name: str) -> Path:
    path = project_root() / Path(*name.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


if __name__ == "__main__":
    (project_root() / PAGE).write_text(page(), encoding="utf-8")
