"""Reading JSON Lines, perhaps compressed by gzip: an object per line, in constant memory.

What a field means is the caller's business. Invariants: a malformed line costs itself alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tallykeeper.input.loading import LoadError, Reject
from tallykeeper.input.text_input import TextFile


class JsonLinesFile(TextFile):
    """A file with one JSON object per line. Raises LoadError as `TextFile` does."""

    def __init__(self, path: Path) -> None:
        # JSON takes a carriage return for blank space; a line feed alone ends a line.
        super().__init__(path, newline="\n")

    def rows(self, reject: Reject) -> Iterator[tuple[int, dict[str, Any], str]]:
        """Each object: its line number, its fields, and its raw text; empty lines are passed over.

        A line that is no JSON object is rejected.
        """
        number = 0
        while line := self.read_line():
            number += 1
            raw = line.rstrip("\r\n")
            if not raw.strip():
                continue
            if number == 1 and _begins_array(raw):
                raise LoadError(
                    f"{self.path} is one JSON array; expected an object on each line. Write it so"
                    " with `jq -c '.[]'`, and load that."
                )
            try:
                value = json.loads(raw)
            except RecursionError:
                reject(number, "no JSON that can be read: nested too deeply", raw)
            except ValueError as error:
                reject(number, f"no valid JSON: {error}", raw)
            else:
                if isinstance(value, dict):
                    yield number, value, raw
                else:
                    reject(number, f"expected a JSON object, found {_name_of(value)}", raw)


def _begins_array(line: str) -> bool:
    """Whether the line begins an array of objects that other lines go on with, or is one."""
    text = line.strip()
    return text.startswith("[") and (not text.endswith("]") or text[1:].lstrip().startswith("{"))


def _name_of(value: object) -> str:
    names = {list: "an array", str: "a string", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")
