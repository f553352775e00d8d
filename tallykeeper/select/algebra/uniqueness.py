"""What is known of a product's rows: what makes them unique, and which values are never null."""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp

from tallykeeper.select.algebra.expressions import stripped
from tallykeeper.select.algebra.relations import COUNT, Arm, Leaf, Node, Product
from tallykeeper.select.dialect import has_many, is_equality

# Functions that return null for a null argument only.
STRICT = ("date_trunc", "lower", "upper", "abs", "length", "round", "floor", "ceil")


def unique_keys(leaf: Leaf) -> Sequence[tuple[str, ...]]:
    """The sets of columns that make the leaf's rows unique."""
    if isinstance(leaf.relation, Node):
        node = leaf.relation
        if node.is_global:
            return [()]
        return node.row_keys
    return leaf.relation.unique_keys


def is_determined(product: Product, known: Sequence[exp.Expr]) -> bool:
    """Whether there is at most one row of the product for values of the known expressions."""
    if product.expansions:
        return False
    columns = {
        (c.table, c.name) for c in map(stripped, known) if isinstance(c, exp.Column) and c.table
    }
    waiting = list(product.leaves)
    while True:
        grown = _equal_columns(product, columns)
        for leaf in list(waiting):
            if any(all((leaf.alias, c) in grown for c in key) for key in unique_keys(leaf)):
                waiting.remove(leaf)
                grown |= {(leaf.alias, name) for name in _names(leaf)}
        if not waiting:
            return True
        if grown == columns:
            return False
        columns = grown


def key_places(arms: Sequence[Arm]) -> list[int] | None:
    """The places of outputs that make rows unique, as few as simply found; None: nothing does.

    Arms are the ways in which the sides of outer joins match or not: a row is in one of them, and
    the columns of sides that do not match are null.
    """
    counted = [a for a in arms if a.product.sign > 0]
    if not counted or not all(a.product.is_one_select for a in counted):
        return None

    def suffice(places: Sequence[int]) -> bool:
        return all(is_determined(a.product, [a.outputs[i] for i in places]) for a in counted)

    width = len(counted[0].outputs)
    places = list(range(width))
    if not suffice(places):
        return None
    for place in reversed(range(width)):
        fewer = [i for i in places if i != place]
        if suffice(fewer):
            places = fewer
    return places


def distinguishing_place(arms: Sequence[Arm]) -> int | None:
    """The place of an output that is another whole number in each arm, as grouping() is."""
    for place, outputs in enumerate(zip(*(a.outputs for a in arms), strict=True)):
        numbers = {o.this for o in outputs if isinstance(o, exp.Literal) and o.is_int}
        if len(numbers) == len(arms):
            return place
    return None


def is_not_null(product: Product, expression: exp.Expr) -> bool:
    """Whether the expression is not null in any row of the product."""
    expression = stripped(expression)
    if isinstance(expression, exp.Column):
        if any(_proves(c, expression) for c in product.conditions):
            return True
        leaf = next((f for f in product.leaves if f.alias == expression.table), None)
        if leaf is None:
            return False
        if isinstance(leaf.relation, Node):
            return expression.name == COUNT or not leaf.relation.column(expression.name).nullable
        found = next((c for c in leaf.relation.columns if c.name == expression.name), None)
        return found is not None and found.not_null
    if isinstance(expression, exp.Literal | exp.Boolean):
        return True
    if isinstance(expression, exp.Cast):
        return is_not_null(product, expression.this)
    if isinstance(expression, exp.Coalesce):
        values = [expression.this, *expression.expressions]
        return any(is_not_null(product, v) for v in values)
    if isinstance(expression, exp.Add | exp.Sub | exp.Mul):
        sides = (expression.this, expression.expression)
        return all(is_not_null(product, side) for side in sides)
    if isinstance(expression, exp.Anonymous) and str(expression.this).lower() in STRICT:
        return all(is_not_null(product, e) for e in expression.expressions)
    return False


def _proves(condition: exp.Expr, column: exp.Column) -> bool:
    """Whether a condition that holds says that the column is not null."""
    compared = (exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE)
    if not isinstance(condition, compared) or has_many(condition):
        return False
    return column in (stripped(condition.this), stripped(condition.expression))


def _equal_columns(product: Product, columns: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """The columns, and those that conditions say are equal to them or to a constant."""
    grown = set(columns)
    for condition in map(stripped, product.conditions):
        if not is_equality(condition):
            continue
        sides = stripped(condition.this), stripped(condition.expression)
        for one, other in (sides, sides[::-1]):
            if not isinstance(one, exp.Column):
                continue
            known = {(c.table, c.name) for c in other.find_all(exp.Column)}
            if known <= grown and other.find(exp.Query) is None:
                grown.add((one.table, one.name))
    return grown


def _names(leaf: Leaf) -> list[str]:
    return [c.name for c in leaf.relation.columns]
