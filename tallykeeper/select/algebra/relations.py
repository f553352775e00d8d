"""The algebra that a SELECT is translated to: signed sums of products of leaves, and nodes.

A *leaf* is one occurrence of a source table or of a node's state. A *product* is an inner join of
leaves with conditions, counted with a sign. A *bag* is a sum of products, each with its own
expressions for the output columns: outer joins, NOT EXISTS and scalar subqueries become sums by
inclusion and exclusion. A *node* is a bag whose rows are grouped, and stored.

How much a bag changes follows from this form alone: the change of a sum is the sum of the changes,
and a product changes by each leaf's changes times the other leaves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sqlglot import exp

from tallykeeper.select.algebra.expressions import key_of, stripped, substituted
from tallykeeper.select.dialect import has_many
from tallykeeper.select.plan import Column, Strategy
from tallykeeper.select.resolve import Source

COUNT = "n"


class NotLinear(Exception):
    """A part of a SELECT whose changes do not follow from those of its sources by this algebra."""


@dataclass(eq=False)
class Node:
    """A stored intermediate result while it is being planned.

    `key` and `columns` are those of its state. `inputs` are what its rows are grouped from: a
    product, the key's expressions, and by column what a row of the product adds to it. `build` is
    the SELECT of its columns from sources alone. Of a `group` node `restricted` is the SELECT, over
    the sources and the states before it, that can be restricted to some groups.
    """

    name: str
    state: str
    strategy: Strategy
    reason: str
    key: tuple[str, ...]
    columns: tuple[Column, ...] = ()
    inputs: tuple[Input, ...] = ()
    build: exp.Query | None = None
    is_global: bool = False
    # Whether the key is unique; a window's partition has several rows.
    unique: bool = True
    # What makes a row unique, beyond the key.
    row_keys: tuple[tuple[str, ...], ...] = ()
    restricted: exp.Query | None = None
    # By alias in `restricted`, the nodes that it reads; they are read as they will be.
    reads: Mapping[str, Node] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    # Whether each group is a row of FROM, found by a unique key.
    is_of_rows: bool = False
    # Marks in `restricted`: a condition that a column, given as SQL, has values of the key's column
    # that touched groups have. Without it, rows are the same.
    within: dict[str, tuple[str, str]] = field(default_factory=dict)

    def column(self, name: str) -> Column:
        """The state's column of that name."""
        return next(c for c in self.columns if c.name == name)

    def same_as_key(self) -> dict[str, str]:
        """The columns that are columns of the key, which are among them, by their own names."""
        if self.build is None:
            return {name: name for name in self.key}
        selects = self.build.selects
        keys = {key_of(s.unalias()): s.alias_or_name for s in selects[: len(self.key)]}
        values = {s.alias_or_name: key_of(s.unalias()) for s in selects}
        same = {name: keys[value] for name, value in values.items() if value in keys}
        return same | {name: name for name in self.key}


@dataclass(frozen=True)
class Leaf:
    """One occurrence of a source or of a node in a product."""

    alias: str
    relation: Source | Node


@dataclass(frozen=True)
class Expansion:
    """A set-returning function of the row so far: LATERAL unnest(...), VALUES, generate_series."""

    alias: str
    item: exp.Expr
    outer: bool = False


@dataclass(frozen=True)
class Product:
    """An inner join of leaves, with conditions, counted `sign` times.

    `names` has what columns of the SELECT's aliases are, where they are not a leaf's own: columns
    of derived tables, and nulls for the missing side of an outer join.
    """

    sign: int = 1
    leaves: tuple[Leaf, ...] = ()
    expansions: tuple[Expansion, ...] = ()
    conditions: tuple[exp.Expr, ...] = ()
    names: Mapping[tuple[str, str], exp.Expr] = field(default_factory=dict)
    # Whether it is of one SELECT, so that no other product has the same rows again.
    is_one_select: bool = True

    def times(self, other: Product) -> Product:
        """Both joined without a condition."""
        return Product(
            self.sign * other.sign,
            self.leaves + other.leaves,
            self.expansions + other.expansions,
            self.conditions + other.conditions,
            {**self.names, **other.names},
            self.is_one_select and other.is_one_select,
        )

    def where(self, *conditions: exp.Expr) -> Product:
        """With more conditions, already resolved."""
        return replace(self, conditions=(*self.conditions, *conditions))

    def resolve(self, expression: exp.Expr) -> exp.Expr:
        """The expression over the leaves' own columns."""
        return substituted(expression, self.names)

    def aliases(self) -> set[str]:
        """All aliases that conditions may refer to."""
        return {leaf.alias for leaf in self.leaves} | {e.alias for e in self.expansions}

    def expressions(self) -> list[exp.Expr]:
        """The conditions, and the functions in FROM."""
        return [*self.conditions, *(expansion.item for expansion in self.expansions)]


@dataclass(frozen=True)
class Arm:
    """A product and the expressions of its output columns, resolved."""

    product: Product
    outputs: tuple[exp.Expr, ...]


@dataclass(frozen=True)
class Bag:
    """The rows of all arms together. `names` are the columns' names."""

    names: tuple[str, ...]
    arms: tuple[Arm, ...]
    # Whether the arms are one SELECT's, and not several of a UNION ALL.
    is_one: bool = True

    @property
    def single(self) -> Arm | None:
        """The only arm, where it is one that adds."""
        if len(self.arms) == 1 and self.arms[0].product.sign > 0:
            return self.arms[0]
        return None


def require_followed(expressions: Iterable[exp.Expr]) -> None:
    """Raise NotLinear where a subquery is left: no change of its tables would be looked up."""
    if any(reads_tables(expression) for expression in expressions):
        raise NotLinear("a subquery in an expression")


def reads_tables(expression: exp.Expr) -> bool:
    """Whether a subquery in the expression reads a table, and not functions of other rows alone."""
    return any(
        isinstance(table.this, exp.Identifier)
        for query in expression.find_all(exp.Query)
        for table in query.find_all(exp.Table)
    )


@dataclass(frozen=True)
class Input:
    """What one product adds to a node: the key's expressions, and amounts by column."""

    product: Product
    key: tuple[exp.Expr, ...]
    amounts: Mapping[str, exp.Expr] = field(default_factory=dict)


def columns_used(bags: Sequence[Arm | Input]) -> Iterator[exp.Column]:
    """All columns that arms or inputs read."""
    for each in bags:
        own = each.outputs if isinstance(each, Arm) else (*each.key, *each.amounts.values())
        items = [e.item for e in each.product.expansions]
        for expression in (*each.product.conditions, *own, *items):
            yield from expression.find_all(exp.Column)


def is_impossible(product: Product) -> bool:
    """Whether a condition is a comparison with null, or plainly false."""
    return any(_never(c) for c in product.conditions)


def _never(condition: exp.Expr) -> bool:
    condition = stripped(condition)
    if isinstance(condition, exp.Boolean):
        return not condition.this
    if isinstance(condition, exp.Null):
        return True
    if isinstance(condition, exp.And):
        return _never(condition.this) or _never(condition.expression)
    compared = (exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE)
    if isinstance(condition, compared) and not has_many(condition):
        return any(_is_null(s) for s in (condition.this, condition.expression))
    return False


def _is_null(expression: exp.Expr) -> bool:
    expression = stripped(expression)
    while isinstance(expression, exp.Cast):
        expression = stripped(expression.this)
    return isinstance(expression, exp.Null)
