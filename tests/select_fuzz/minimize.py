"""Makes a failing case small: fewer transactions, fewer rows, and a shorter SELECT.

Each step leaves something out and runs the case again; it stays out if the tally is still wrong in
the same way. What is left is printed as a script.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TypeVar

import sqlglot
from sqlglot import exp

from tests.select_fuzz.cases import Case
from tests.select_fuzz.harness import AdapterFactory, Run, Wrong

Databases = Callable[[], AbstractContextManager[str]]
T = TypeVar("T")
_SECONDS = 120.0


class Minimizer:
    """Shrinks one case. `fails` runs a candidate in a database of its own."""

    def __init__(self, databases: Databases, factory: AdapterFactory, wrong: Wrong) -> None:
        self.databases = databases
        self.factory = factory
        self.wrong = wrong
        self.until = time.monotonic() + _SECONDS
        self.runs = 0

    def fails(self, case: Case) -> Wrong | None:
        """What is wrong with the case, where it is the same as before."""
        if time.monotonic() > self.until:
            return None
        self.runs += 1
        try:
            with self.databases() as url:
                results = Run(case, url, self.factory).quick(stop=True)
        except Exception:  # noqa: BLE001 -- a candidate without its tables, or worse
            return None
        for wrong in results.wrong:
            if wrong.kind.partition(" (")[0] == self.wrong.kind.partition(" (")[0]:
                return wrong
        return None

    def case(self, case: Case) -> Case:
        """The smallest case that was found."""
        case = self._transactions(case)
        case = self._select(case)
        case = self._rows(case)
        case = self._transactions(case)
        case = self._select(case)
        return self._tables(case)

    def _transactions(self, case: Case) -> Case:
        rounds = _smaller(list(case.rounds), lambda r: self._fails_with(case, tuple(r)))
        for number in range(len(rounds)):

            def with_transactions(chosen: list[tuple[str, ...]], at: int = number) -> bool:
                changed = [*rounds[:at], tuple(chosen), *rounds[at + 1 :]]
                return self._fails_with(case, tuple(changed))

            rounds[number] = tuple(_smaller(list(rounds[number]), with_transactions))
            for index in range(len(rounds[number])):

                def with_statements(chosen: list[str], at: int = number, i: int = index) -> bool:
                    round_ = rounds[at]
                    changed = (*round_[:i], tuple(chosen), *round_[i + 1 :])
                    return self._fails_with(case, (*rounds[:at], changed, *rounds[at + 1 :]))

                round_ = rounds[number]
                kept = tuple(_smaller(list(round_[index]), with_statements))
                rounds[number] = (*round_[:index], kept, *round_[index + 1 :])
        return replace(case, rounds=tuple(rounds))

    def _fails_with(self, case: Case, rounds: tuple[tuple[tuple[str, ...], ...], ...]) -> bool:
        return self.fails(replace(case, rounds=rounds)) is not None

    def _rows(self, case: Case) -> Case:
        rows = _smaller(
            list(case.rows), lambda r: self.fails(replace(case, rows=tuple(r))) is not None
        )
        return replace(case, rows=tuple(rows))

    def _tables(self, case: Case) -> Case:
        ddl = _smaller(
            list(case.ddl), lambda d: self.fails(replace(case, ddl=tuple(d))) is not None
        )
        return replace(case, ddl=tuple(ddl))

    def _select(self, case: Case) -> Case:
        (name, text), *_ = case.selects.items()
        shorter = True
        while shorter:
            shorter = False
            for candidate in candidates(text):
                if len(candidate) >= len(text):
                    continue
                changed = replace(case, selects={name: candidate})
                if self.fails(changed) is not None:
                    case, text, shorter = changed, candidate, True
                    break
        return case


def _smaller(items: list[T], fails: Callable[[list[T]], bool]) -> list[T]:
    """Leave out halves, quarters and so on, as long as it fails."""
    size = max(len(items) // 2, 1)
    while items and size:
        start, left_out = 0, False
        while start < len(items):
            candidate = items[:start] + items[start + size :]
            if fails(candidate):
                items, left_out = candidate, True
            else:
                start += size
        if size == 1 and not left_out:
            break
        size = max(size // 2, 1) if size > 1 else 1 if left_out else 0
    return items


def candidates(text: str) -> Iterator[str]:
    """Shorter SELECTs: parts left out, or replaced by a part of their own."""
    try:
        tree = sqlglot.parse_one(text, dialect="postgres")
    except sqlglot.errors.SqlglotError:
        return
    seen = {text}
    for path in range(sum(1 for _ in tree.walk())):
        for change in (*_CHANGES, *(_child(n) for n in range(4))):
            copy = tree.copy()
            node = next((n for i, n in enumerate(copy.walk()) if i == path), None)
            changed = None if node is None else change(node)
            if changed is None:
                continue
            shorter = (copy if changed is not node or node.parent else changed).sql("postgres")
            if isinstance(changed, exp.Query) and node is copy:
                shorter = changed.sql("postgres")
            if shorter not in seen:
                seen.add(shorter)
                yield shorter


def _left_out(node: exp.Expr) -> exp.Expr | None:
    """Without the node itself, where it is one of a list or optional."""
    parent = node.parent
    if parent is None:
        return None
    optional = exp.Where | exp.Having | exp.Order | exp.Limit | exp.Offset | exp.Distinct
    if isinstance(node, optional | exp.Join | exp.With | exp.Group | exp.If) or (
        node.arg_key in ("expressions", "ctes", "joins", "laterals")
        and len(parent.args.get(node.arg_key) or []) > 1
    ):
        node.pop()
        return parent
    return None


def _replaced(node: exp.Expr, by: exp.Expr) -> exp.Expr:
    by = by.copy()
    if node.parent is None:
        return by
    node.replace(by)
    return by


def _child(number: int) -> Callable[[exp.Expr], exp.Expr | None]:
    """The node replaced by one of its children."""

    def changed(node: exp.Expr) -> exp.Expr | None:
        children = [c for c in node.iter_expressions() if isinstance(c, exp.Expr)]
        if number >= len(children) or isinstance(node, exp.Select | exp.Column | exp.Table):
            return None
        child = children[number]
        is_query = isinstance(node, exp.Query), isinstance(child, exp.Query)
        if is_query[0] != is_query[1] and not isinstance(node, exp.Condition):
            return None
        return _replaced(node, child.unalias() if isinstance(node, exp.Condition) else child)

    return changed


def _inner(node: exp.Expr) -> exp.Expr | None:
    """A query replaced by the one in its FROM."""
    if isinstance(node, exp.Select):
        from_ = node.args.get("from_") or node.args.get("from")
        if from_ is not None and isinstance(from_.this, exp.Subquery):
            return _replaced(node, from_.this.this)
    return None


def _literal(node: exp.Expr) -> exp.Expr | None:
    if isinstance(node, exp.Literal | exp.Column | exp.Star):
        return None
    return _replaced(node, exp.Literal.number(1)) if isinstance(node, exp.Condition) else None


def _true(node: exp.Expr) -> exp.Expr | None:
    if isinstance(node, exp.Predicate | exp.Connector | exp.Not):
        return _replaced(node, exp.true())
    return None


def _plain_join(node: exp.Expr) -> exp.Expr | None:
    if isinstance(node, exp.Join) and node.side:
        node.set("side", None)
        return node
    return None


def _no_flag(node: exp.Expr) -> exp.Expr | None:
    if isinstance(node, exp.Filter):
        return _replaced(node, node.this)
    return None


_CHANGES: Sequence[Callable[[exp.Expr], exp.Expr | None]] = (
    _left_out,
    _inner,
    _no_flag,
    _true,
    _literal,
    _plain_join,
)


def minimized(case: Case, tally: str, databases: Databases, factory: AdapterFactory) -> str:
    """The script of the smallest case that is wrong as this one."""
    alone = replace(case, selects={tally: case.selects[tally]})
    with databases() as url:
        results = Run(alone, url, factory).quick()
    if not results.wrong:
        return f"-- seed {case.seed} {tally}: nothing is wrong"
    minimizer = Minimizer(databases, factory, results.wrong[0])
    small = minimizer.case(alone)
    minimizer.until = float("inf")
    wrong = minimizer.fails(small) or results.wrong[0]
    said = "\n".join(f"-- {line}" for line in f"{wrong.kind}\n{wrong.message}".split("\n"))
    return f"{small.script()}\n\n{said}\n-- {minimizer.runs} runs"
