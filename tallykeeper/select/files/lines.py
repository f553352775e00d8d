"""Lines of a comment, what names of columns in them look like, and what is wrong with one."""

from __future__ import annotations

import re
from dataclasses import dataclass

COLUMN = re.compile(r'\s*(?:(?P<bare>[^\W\d][\w$]*)|"(?P<quoted>(?:[^"]|"")+)")\s*')


@dataclass(frozen=True)
class Line:
    """A line of a comment without its dashes, and where its text begins, both from 1."""

    text: str
    line: int
    column: int


class BadHeader(ValueError):
    """A header line is malformed: where, what was expected, what was found, what to do."""

    def __init__(self, line: Line, offset: int, expected: str, found: str, todo: str) -> None:
        super().__init__(found)
        self.line, self.column = line.line, line.column + offset
        self.expected, self.found, self.todo = expected, found, todo
