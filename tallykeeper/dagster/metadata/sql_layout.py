"""Laying an SQL statement out for a reader: a clause a line, a column a line, subqueries indented.

Only blanks and line ends are changed, so what is shown is what runs. Nothing is parsed but quotes,
parentheses and the words that begin a clause.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_TOKEN = re.compile(
    r"'(?:[^']|'')*'"  # a string
    r'|"(?:[^"]|"")*"'  # a quoted name
    r"|\$(\w*)\$.*?\$\1\$"  # a dollar-quoted string
    r"|--[^\n]*|/\*.*?\*/"
    r"|[(),;]|[^\s(),;'\"]+",
    re.DOTALL,
)
_CLAUSES = frozenset(("SELECT", "FROM", "WHERE", "GROUP", "HAVING", "WINDOW", "ORDER", "LIMIT")) | {
    *("UNION", "INTERSECT", "EXCEPT", "WITH")
}
_JOINS = frozenset(("JOIN", "LEFT", "RIGHT", "FULL", "INNER", "CROSS"))
_BEGIN_SUBQUERY = frozenset(("SELECT", "WITH", "VALUES"))
_STEP = "  "


def laid_out(statement: str) -> str:
    """The statement, with the same tokens in the same order."""
    layout = _Layout()
    found = list(_TOKEN.finditer(statement))
    for place, token in enumerate(found):
        follows = place > 0 and token.start() == found[place - 1].end()
        after = found[place + 1][0].upper() if place + 1 < len(found) else ""
        layout.add(token[0], "" if follows else " ", after)
    return "\n".join(f"{_STEP * depth}{text}" for depth, text in layout.lines)


@dataclass
class _Layout:
    """The lines so far, each with how deep it is."""

    lines: list[tuple[int, str]] = field(default_factory=lambda: [(0, "")])
    # Of each open parenthesis: the clause around the subquery in it; None where it holds none.
    _open: list[str | None] = field(default_factory=list)
    _clause: str = ""
    _before: str = ""

    def add(self, written: str, blank: str, after: str) -> None:
        """One token, and what stands before it; `after` is the word that follows."""
        word = written.upper()
        if written == ")":
            around = self._open.pop()
            if around is not None:
                self._begin(1)
                self._clause = around
        elif self._in_clauses:
            self._begin_at(word)
        depth, text = self.lines[-1]
        self.lines[-1] = (depth, text + (blank if text else "") + written)
        if written == "(":
            is_subquery = after in _BEGIN_SUBQUERY
            self._open.append(self._clause if is_subquery else None)
            if is_subquery:
                self._begin()
        elif written == "," and self._in_clauses and self._clause == "SELECT":
            self._begin(1)
        self._before = word

    @property
    def _in_clauses(self) -> bool:
        """Whether it is not within the parentheses of an expression."""
        return not self._open or self._open[-1] is not None

    def _begin_at(self, word: str) -> None:
        if word in _CLAUSES and (word, self._before) != ("FROM", "DISTINCT"):
            self._begin()
            self._clause = word
            return
        joins = word in _JOINS and self._before not in _JOINS | {"OUTER"}
        combines = word in ("AND", "OR") and self._clause in ("WHERE", "HAVING")
        if joins or combines:
            self._begin(1)

    def _begin(self, more: int = 0) -> None:
        """A new line, unless this one is empty."""
        depth = 2 * sum(around is not None for around in self._open) + more
        if self.lines[-1][1]:
            self.lines.append((depth, ""))
        else:
            self.lines[-1] = (depth, "")
