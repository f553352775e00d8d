"""The example notebook: its cells run without Jupyter, and what they show is kept in the file.

`TALLY_DATABASE_URL=... python -m tests.notebook` writes anew what it shows, with an empty database.
"""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

from tallykeeper.settings import project_root

FILE = project_root() / "docs" / "notebooks" / "revenue.ipynb"


def read() -> dict[str, Any]:
    """The notebook, as its format has it."""
    notebook: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return notebook


def shown(notebook: dict[str, Any]) -> list[str | None]:
    """What each code cell shows, run one after the other: its last expression as text, or None."""
    known: dict[str, Any] = {}
    return [_run("".join(cell["source"]), known) for cell in _code(notebook)]


def stored(notebook: dict[str, Any]) -> list[str | None]:
    """What the file says that they show."""
    return [
        "".join(cell["outputs"][0]["data"]["text/plain"]) if cell["outputs"] else None
        for cell in _code(notebook)
    ]


def _code(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def _run(source: str, known: dict[str, Any]) -> str | None:
    statements = ast.parse(source).body
    last = statements.pop() if isinstance(statements[-1], ast.Expr) else None
    exec(compile(ast.Module(statements, []), FILE.name, "exec", dont_inherit=True), known)  # noqa: S102
    if not isinstance(last, ast.Expr):
        return None
    code = compile(ast.Expression(last.value), FILE.name, "eval", dont_inherit=True)
    value = eval(code, known)  # noqa: S307 -- what the notebook says
    return None if value is None else repr(value)


def main(file: Path = FILE) -> None:
    """Write what the cells show into the file."""
    notebook = read()
    for number, (cell, text) in enumerate(zip(_code(notebook), shown(notebook), strict=True), 1):
        cell["execution_count"] = number
        output = {"data": {"text/plain": (text or "").splitlines(keepends=True)}}
        kind = {"output_type": "execute_result", "execution_count": number, "metadata": {}}
        cell["outputs"] = [] if text is None else [kind | output]
    file.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
