"""Adds to a pyproject.toml what names a project's tallies, and leaves all else in it as it is.

Text is inserted, nothing is written anew. What was inserted is read back before it is stored: the
file must then say what it said, and the addition.
"""

from __future__ import annotations

import copy
import os
import re
import shutil
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

DEFAULT_PATTERN = "tallies/**/*.sql"
_HEADER = re.compile(r"^[ \t]*\[[ \t]*tool[ \t]*\.[ \t]*tallykeeper[ \t]*\][^\n]*$", re.MULTILINE)
_LIST = re.compile(r"^[ \t]*tallies[ \t]*=[ \t]*\[", re.MULTILINE)


class CannotEdit(ValueError):
    """The file is written in a way that nothing can be added to; says what to add by hand."""


def named_patterns(path: Path) -> list[str]:
    """What the file names as `tallies`; empty where it is not there, or names none."""
    table = _table(_read(path))
    tallies = table.get("tallies", []) if table else []
    return [name for name in tallies if isinstance(name, str)]


def is_of_dagster(path: Path) -> bool:
    """Whether the file is that of a Dagster project."""
    return bool({"dg", "dagster"} & set(_tools(_read(path))))


def addition(path: Path, pattern: str, **more: str) -> str | None:
    """The file's text with `pattern` under `tallies`; None where it is there already.

    `more` are keys for a table [tool.tallykeeper] that is made by it. Raises CannotEdit.
    """
    before = _read(path)
    after = with_pattern(before, pattern, **more)
    return None if after == before else after


def with_pattern(text: str, pattern: str, **more: str) -> str:
    """The text of a pyproject.toml with `pattern` under `tallies`. Raises CannotEdit."""
    expected = tomllib.loads(text)
    table = _table(text)
    tallies = (table or {}).get("tallies", [])
    if pattern in tallies:
        return text
    line = f'tallies = ["{pattern}"]'
    newline = "\r\n" if "\r\n" in text else "\n"
    if table is None:
        keys = [line, *(f'{key} = "{value}"' for key, value in more.items())]
        between = "" if not text else newline if text.endswith("\n") else newline * 2
        after = text + between + newline.join(["[tool.tallykeeper]", *keys, ""])
    elif "tallies" not in table:
        after = _inserted(text, _HEADER.search(text), f"{newline}{line}")
    else:
        header = _HEADER.search(text)
        found = _LIST.search(text, header.end()) if header else None
        after = _inserted(text, found, _element(text, found, pattern, newline, bool(tallies)))
    wanted = copy.deepcopy(expected)
    known = wanted.setdefault("tool", {}).setdefault("tallykeeper", dict(more))
    known["tallies"] = [pattern, *tallies]
    if not _says(after, wanted):
        raise CannotEdit(f"write `{line}` in its table [tool.tallykeeper]")
    return after


def write(path: Path, text: str) -> None:
    """Store the text in one step, with the file's rights as they were."""
    target = path.resolve()
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text.encode())
        if target.exists():
            shutil.copymode(target, name)
        else:
            mask = os.umask(0)
            os.umask(mask)
            Path(name).chmod(0o666 & ~mask)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _inserted(text: str, match: re.Match[str] | None, addition: str) -> str:
    if match is None:
        return text
    end = match.end() - 1 if match[0].endswith("\r") else match.end()
    return text[:end] + addition + text[end:]


def _element(
    text: str, match: re.Match[str] | None, pattern: str, newline: str, has_others: bool
) -> str:
    """The pattern as the first element of the list that the match opens."""
    rest = text[match.end() :] if match else ""
    indented = re.match(r"[ \t]*\r?\n([ \t]*)", rest)
    if indented:
        return f'{newline}{indented[1]}"{pattern}",'
    return f'"{pattern}"{", " if has_others else ""}'


def _says(text: str, wanted: Mapping[str, Any]) -> bool:
    try:
        return tomllib.loads(text) == wanted
    except tomllib.TOMLDecodeError:
        return False


def _read(path: Path) -> str:
    # Not as text, which would change the ends of lines.
    return path.read_bytes().decode("utf-8") if path.exists() else ""


def _tools(text: str) -> dict[str, Any]:
    tools = tomllib.loads(text).get("tool", {})
    return tools if isinstance(tools, dict) else {}


def _table(text: str) -> dict[str, Any] | None:
    table = _tools(text).get("tallykeeper")
    return table if isinstance(table, dict) else None
