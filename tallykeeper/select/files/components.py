"""Tallies that a component declares, in a `defs.yaml` with `type: tallykeeper.dagster.Tallies`.

Its `selects` are SELECTs by the names of tallies, its `files` are patterns of files beside it.
Dagster reads all of it; the command line needs these two alone, and reads them without Dagster.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tallykeeper import extras
from tallykeeper.errors import BadFile
from tallykeeper.select.files import Declared, matching, parse, read_files

TYPE = "tallykeeper.dagster.Tallies"
COMPONENT_SUFFIXES = (".yaml", ".yml")
DEFAULT_FILES = ("**/*.sql",)


def read_components(root: Path, patterns: Iterable[str]) -> list[Declared]:
    """The tallies of the components in the files that match the patterns. Raises as below."""
    paths = {path for pattern in patterns for path in matching(root, pattern)}
    found = [
        declared
        for path in sorted(paths)
        for declared in read_component(path, path.relative_to(root))
    ]
    first: dict[str, Declared] = {}
    for declared in found:
        other = first.setdefault(declared.name, declared)
        if other is not declared:
            what = f"`{other.name}`, which {other.path} has"
            raise BadFile(declared.path, 1, 1, "a name of its own", what, "rename one")
    return found


def read_component(path: Path, shown: Path) -> list[Declared]:
    """The tallies of all such documents of a file; `shown` is its name in messages.

    Raises BadFile, or MissingExtra.
    """
    found = []
    for document in _documents(path, shown):
        if isinstance(document, Mapping) and document.get("type") == TYPE:
            selects, files = _attributes(shown, document.get("attributes") or {})
            found += declared_in(path.parent, selects, files, shown)
    return found


def require_single_keys(path: Path, shown: Path) -> None:
    """Refuse a file in which a key is there twice; of YAML's readers most take the last.

    `shown` is its name in messages. Raises BadFile, or MissingExtra.
    """
    if path.exists():
        _documents(path, shown)


def _documents(path: Path, shown: Path) -> list[Any]:
    extras.require("dagster")
    import yaml  # type: ignore[import-untyped]

    try:
        text = path.read_text(encoding="utf-8")
        for node in yaml.compose_all(text, Loader=yaml.SafeLoader):
            _require_single_keys(node, shown)
        return list(yaml.safe_load_all(text))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        found, todo = error.problem or "something else", "correct it; `dg check yaml` checks it"
        raise BadFile(shown, line, column, "YAML", found, todo) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadFile(shown, 1, 1, "YAML", str(error), "correct it") from error


def _require_single_keys(root: Any, shown: Path) -> None:
    """Walk the nodes of a document: the `value` of each is text, nodes, or pairs of nodes."""
    left, walked = [root], set[int]()
    while left:
        node = left.pop()
        if node is None or id(node) in walked or isinstance(node.value, str):
            continue
        walked.add(id(node))
        lines: dict[str, int] = {}
        for value in node.value:
            if not isinstance(value, tuple):
                left.append(value)
                continue
            key, line = value[0], value[0].start_mark.line + 1
            left.append(value[1])
            if not isinstance(key.value, str):
                continue
            if key.value in lines:
                what = f"`{key.value}` again, which line {lines[key.value]} has"
                column = key.start_mark.column + 1
                raise BadFile(shown, line, column, "each key once", what, "leave one of them out")
            lines[key.value] = line


def declared_in(
    folder: Path, selects: Mapping[str, str], files: Sequence[str] | None, shown: Path
) -> list[Declared]:
    """The tallies of a component in `folder`: of `selects`, and of the files that `files` match.

    Without either those of every file under the folder whose name ends in `.sql`. Raises BadFile.
    """
    if files is None:
        files = () if selects else DEFAULT_FILES
    inline = [parse(text, Path(f"{shown} ({name})"), name) for name, text in selects.items()]
    for name, declared in zip(selects, inline, strict=True):
        if declared.name != name:
            todo = "use one name, or leave the line `-- tally:` out"
            raise BadFile(declared.path, 1, 1, f"the name `{name}`", f"`{declared.name}`", todo)
    in_files = read_files(folder, files, shown.parent)
    for declared in in_files:
        if declared.name in selects:
            todo = "leave one of them out"
            what = f"`{declared.name}`, which {shown} has"
            raise BadFile(declared.path, 1, 1, "a name of its own", what, todo)
    return [*inline, *in_files]


def _attributes(shown: Path, attributes: Any) -> tuple[dict[str, str], list[str] | None]:
    """`selects` and `files`; Dagster says more of what is malformed. Raises BadFile."""
    known = attributes if isinstance(attributes, dict) else {"selects": None}
    selects: Any = known.get("selects", {})
    files: Any = known.get("files")
    if not _is_texts(selects.values() if isinstance(selects, dict) else None):
        expected = "`selects` with a SELECT for each name"
    elif files is not None and not _is_texts(files if isinstance(files, list) else None):
        expected = "`files` as a list of patterns"
    else:
        return selects, files
    todo = "correct it; `dg check yaml` says where"
    raise BadFile(shown, 1, 1, expected, "something else", todo)


def _is_texts(values: Any) -> bool:
    return values is not None and all(isinstance(value, str) for value in values)
