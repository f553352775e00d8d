"""What a query of the tree can name: its tables and subqueries, and those of the queries around it.

Also what is exported of tables: the columns that are read, and what PostgreSQL computes of a row in
the engine's place.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tallykeeper.engines.translation.names import Names, Relation
from tallykeeper.engines.translation.values import Value
from tallykeeper.select.definition.rule_trees import Node


@dataclass
class Export:
    """What is exported of one table.

    `columns` are SQL expressions over its row `q` by the engine's names, `natural` those that the
    engine must have in the natural type of Arrow.
    """

    relation: Relation
    name: str
    columns: dict[str, str] = field(default_factory=dict)
    natural: set[str] = field(default_factory=set)
    _names: dict[str, str] = field(default_factory=dict)

    def column(self, expression: str, prefix: str, *, natural: bool = False) -> str:
        """The name under which the expression is exported."""
        if expression not in self._names:
            self._names[expression] = f"{prefix}{len(self._names)}"
            self.columns[self._names[expression]] = expression
        if natural:
            self.natural.add(self._names[expression])
        return self._names[expression]

    @property
    def query(self) -> str:
        """The SELECT of what is exported."""
        listed = ", ".join(f"{sql} AS {name}" for name, sql in self.columns.items())
        return f"SELECT {listed} FROM {self.relation.quoted} AS q"


class Exports:
    """The tables that a translation reads."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self.of: dict[int, Export] = {}

    def export(self, relid: int) -> Export:
        if relid not in self.of:
            self.of[relid] = Export(self._names.relation(relid), f"t{len(self.of)}")
        return self.of[relid]


@dataclass
class Item:
    """An entry of a query's range table.

    `columns` are those of a subquery or function by their numbers; None: it is a table, or a join.
    """

    node: Node
    alias: str
    columns: list[Value] | None = None

    @property
    def kind(self) -> int:
        return self.node.number("rtekind")


@dataclass
class Level:
    """A query with what it can name.

    `nulled` are the items whose rows an outer join may have replaced by nulls, as of the part of
    the query that is being translated.
    """

    query: Node
    around: Level | None
    items: dict[int, Item] = field(default_factory=dict)
    nulled: set[int] = field(default_factory=set)
    with_queries: dict[str, Node] = field(default_factory=dict)

    def above(self, steps: int) -> Level:
        """The query so many levels up."""
        level = self
        for _ in range(steps):
            if level.around is None:
                raise LookupError("a variable is of no query around it")
            level = level.around
        return level
