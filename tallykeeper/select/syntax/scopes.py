"""What a name in a SELECT stands for: relations of a FROM clause, and the columns they show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from sqlglot import exp

Kind = Literal["inner", "left", "full"]


class NotUnderstood(Exception):
    """A valid SELECT that the compiler cannot take apart; says why."""


@dataclass
class Relation:
    """An item of a FROM clause, or a join of such items.

    `columns` are what `*` would show of it, each with what it stands for. `is_open`: a function's
    columns, which are not known by name.
    """

    columns: list[tuple[str, exp.Expr]]
    item: exp.Expr | None = None
    join: Join | None = None
    alias: str = ""
    is_open: bool = False

    def column(self, name: str) -> exp.Expr | None:
        """What a column stands for, or None where there is none of that name."""
        for own, expression in self.columns:
            if own == name:
                return expression.copy()
        return column(self.alias, name) if self.is_open else None

    def aliases(self) -> set[str]:
        """The new names of all items below."""
        if self.join is None:
            return {self.alias}
        return self.join.left.aliases() | self.join.right.aliases()


@dataclass
class Join:
    """Two relations joined; `on` is None for a cross join."""

    kind: Kind
    left: Relation
    right: Relation
    on: exp.Expr | None


@dataclass
class Scope:
    """The relations that a SELECT's FROM clause names, and those of the SELECTs around it."""

    parent: Scope | None = None
    named: dict[str, Relation] = field(default_factory=dict)
    top: list[Relation] = field(default_factory=list)

    def column(self, table: str, name: str) -> exp.Expr:
        """What the column of a table, or one without a table, stands for."""
        named: Sequence[Relation] = [self.named[table]] if table in self.named else []
        for relation in named if table else self.top:
            found = relation.column(name)
            if found is not None:
                return found
        if self.parent is None:
            full = f"{table}.{name}" if table else name
            raise NotUnderstood(f"the column {full} was not found in any table of its FROM clause")
        return self.parent.column(table, name)

    def relation(self, table: str) -> Relation | None:
        """The relation of that name here or around."""
        if table in self.named:
            return self.named[table]
        return self.parent.relation(table) if self.parent is not None else None


def column(table: str, name: str) -> exp.Column:
    """A column with its table, both in quotes."""
    return exp.column(exp.to_identifier(name, quoted=True), exp.to_identifier(table, quoted=True))


def merged(kind: Kind, left: exp.Expr, right: exp.Expr, *, same_type: bool) -> exp.Expr:
    """The one column that USING makes of two."""
    if kind != "full" and same_type:
        return left.copy()
    return exp.Coalesce(this=left.copy(), expressions=[right.copy()])
