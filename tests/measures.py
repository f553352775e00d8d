"""What the code measures: modules in a folder, complexity, SQL in strings, branches by type, lines.

`python -m tests.measures [FOLDER]` prints it of this project, or of another checkout of it;
docs/design.md has the figures of two. The product is everything but tests, benchmarks and
documentation.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import click

from tallykeeper.settings import project_root

NOT_PRODUCT = {"tests", "benchmarks", "docs", "build", "dist"}
SQL = re.compile(
    r"\s*(SELECT|INSERT INTO|UPDATE|DELETE FROM|WITH|MERGE INTO|COPY|LOCK TABLE|TRUNCATE|VACUUM"
    r"|ANALYZE|(CREATE|ALTER|DROP|COMMENT ON|GRANT|REVOKE|SET LOCAL)\b)\s"
)
KINDS = {"AdditiveTally", "RecomputedTally"}
COMPLEXITIES = (8, 10)


def product(root: Path) -> list[Path]:
    """The modules of the product."""
    return [p for p in sorted(root.rglob("*.py")) if is_product(p.relative_to(root))]


def sql_strings(tree: ast.AST) -> int:
    """Strings that begin as a statement of SQL does; those put together from parts count once."""
    parts = {id(v) for n in ast.walk(tree) if isinstance(n, ast.JoinedStr) for v in n.values}
    found = 0
    for node in ast.walk(tree):
        text: object = None
        if isinstance(node, ast.JoinedStr) and node.values:
            text = getattr(node.values[0], "value", None)
        elif isinstance(node, ast.Constant) and id(node) not in parts:
            text = node.value
        found += isinstance(text, str) and SQL.match(text) is not None
    return found


def branches_by_kind(tree: ast.AST) -> int:
    """Calls of isinstance that ask which of the two kinds a tally is."""
    return sum(
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "isinstance"
        and bool(KINDS & {n.id for a in node.args for n in ast.walk(a) if isinstance(n, ast.Name)})
        for node in ast.walk(tree)
    )


def private_imports(tree: ast.AST) -> int:
    """Imports of Dagster's private modules."""
    return sum(
        isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dagster._")
        for node in ast.walk(tree)
    )


def functions(tree: ast.AST) -> Iterator[int]:
    """The lines of each function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield (node.end_lineno or node.lineno) - node.lineno + 1


def complex_functions(root: Path, paths: list[Path], limit: int) -> int:
    """How many functions are more complex than the limit, by ruff."""
    command = ["ruff", "check", "--isolated", "--select", "C901", "--output-format", "json"]
    limited = ["--config", f"lint.mccabe.max-complexity={limit}", "--exit-zero"]
    ruff = Path(sys.executable).with_name(command[0])
    done = subprocess.run(
        [ruff, *command[1:], *limited, *map(str, paths)],
        capture_output=True,
        text=True,
        check=True,
        cwd=root,
    )
    return len(json.loads(done.stdout))


def measured(root: Path) -> Iterator[tuple[str, object]]:
    """Each figure with its name."""
    paths = product(root)
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in paths}
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in paths}
    folders = Counter(path.parent for path in paths if path.name != "__init__.py")
    most = ", ".join(f"{f.relative_to(root)} {n}" for f, n in folders.most_common(4))
    yield "modules, most in a folder", most
    yield "folders with more than 12 modules", sum(n > 12 for n in folders.values())
    sizes = [size for tree in trees.values() for size in functions(tree)]
    yield "functions, lines on average", f"{len(sizes):,}, {sum(sizes) / len(sizes):.1f}"
    for limit in COMPLEXITIES:
        yield f"functions of more than {limit}", complex_functions(root, paths, limit)
    strings = {path: found for path, tree in trees.items() if (found := sql_strings(tree))}
    yield "SQL in strings", f"{sum(strings.values())} in {len(strings)} files"
    yield ".sql files", len([p for p in root.rglob("*.sql") if is_product(p.relative_to(root))])
    yield "isinstance by kind of tally", sum(branches_by_kind(tree) for tree in trees.values())
    private = {path: found for path, tree in trees.items() if (found := private_imports(tree))}
    yield "imports of dagster._*", f"{sum(private.values())} in {len(private)} files"
    yield "lines of the product", f"{sum(lines.values()):,} in {len(lines)} files"
    top = Counter[str]()
    for path, count in lines.items():
        parts = path.relative_to(root).parts
        top[
            "/".join(parts[: 2 if parts[0] in ("tallykeeper", "assets") and len(parts) > 2 else 1])
        ] += count
    for package, count in sorted(top.items()):
        yield f"  {package}", f"{count:,}"


def is_product(path: Path) -> bool:
    """Whether a path below the root belongs to the product."""
    return not NOT_PRODUCT & set(path.parts) and not path.parts[0].startswith(".")


if __name__ == "__main__":
    for name, figure in measured(Path(sys.argv[1]) if len(sys.argv) > 1 else project_root()):
        click.echo(f"{name:36} {figure}")
