"""Conditions that find the rows whose array or jsonb holds a value, as a GIN index finds them.

A join with the elements of an array compares single elements, which no index of the table has. What
follows from it, that the array holds the value, is said beside it. Nothing is said that does not
follow: rows are compared by the SELECT's own conditions as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sqlglot import exp

from tallykeeper.select.algebra.expressions import sql_of, stripped, tables_of
from tallykeeper.select.algebra.relations import Expansion, Leaf, Product
from tallykeeper.select.resolve import Source

# Functions of jsonb whose values the operator looks up, for values of this type.
_OF_JSONB = {"jsonb_object_keys": ("?", "text"), "jsonb_array_elements": ("@>", "jsonb")}
_OPERATORS = (
    exp.ArrayContainsAll,
    exp.JSONBContainsTopKey,
    exp.JSONBContainsAnyTopKeys,
    exp.JSONBContainsAllTopKeys,
)


@dataclass(frozen=True)
class Held:
    """That a column of a leaf holds `value`, which is of other leaves; and that as a condition."""

    leaf: Leaf
    column: str
    value: exp.Expr
    condition: exp.Expr


def held(product: Product) -> list[Held]:
    """All such conditions: those that the SELECT has, and those that follow from others."""
    leaves = {leaf.alias: leaf for leaf in product.leaves}
    found: list[Held] = []
    for condition in map(stripped, product.conditions):
        if isinstance(condition, _OPERATORS):
            found += _column_and(condition.this, condition.expression, leaves, condition)
        elif isinstance(condition, exp.EQ):
            sides = stripped(condition.this), stripped(condition.expression)
            for one, other in (sides, sides[::-1]):
                found += _of_elements(product, one, other, leaves)
    return found


def with_held(product: Product, driver: Leaf) -> Product:
    """The product with the conditions that follow, but for those on what drives a term."""
    known = {sql_of(stripped(c)) for c in product.conditions}
    more = [h.condition for h in held(product) if h.leaf is not driver]
    more = [c for c in more if sql_of(c) not in known]
    return product.where(*more) if more else product


def columns_held(leaf: Leaf, done: set[str], product: Product) -> set[str]:
    """The columns of the leaf that hold what is known already, as an index may find it."""
    return {h.column for h in held(product) if h.leaf is leaf and tables_of(h.value) <= done}


def column_of_elements(product: Product, key: exp.Expr) -> tuple[Leaf, str, str] | None:
    """The leaf, array column and its type that the key is an element of; None where it is none."""
    leaves = {leaf.alias: leaf for leaf in product.leaves}
    array = _array_of(product, stripped(key))
    column = _source_column(array, leaves)
    if column is None or not column[2].endswith("[]"):
        return None
    return column


def _of_elements(
    product: Product, one: exp.Expr, other: exp.Expr, leaves: Mapping[str, Leaf]
) -> Iterator[Held]:
    """What follows from an element, or any of them, being equal to `one`."""
    type_ = _type_of(one, leaves)
    if type_ is None:
        return
    is_any = isinstance(other, exp.Any)
    array = stripped(other.this) if is_any else _array_of(product, other)
    found = _source_column(array, leaves)
    if array is not None and found is not None and found[2] == f"{type_}[]":
        values = exp.Array(expressions=[one.copy()])
        condition: exp.Expr = exp.ArrayContainsAll(this=array.copy(), expression=values)
        yield Held(found[0], found[1], one, condition)
        return
    expansion = _expansion_of(product, other)
    if expansion is None or not isinstance(expansion.item.this, exp.Anonymous):
        return
    function = expansion.item.this
    operator, wanted = _OF_JSONB.get(str(function.this).lower(), (None, None))
    if operator is None or wanted != type_ or len(function.expressions) != 1:
        return
    document = stripped(function.expressions[0])
    found = _source_column(document, leaves)
    if found is None or found[2] != "jsonb":
        return
    if operator == "?":
        condition = exp.JSONBContainsTopKey(this=document.copy(), expression=one.copy())
    else:
        listed = exp.Anonymous(this="jsonb_build_array", expressions=[one.copy()])
        condition = exp.ArrayContainsAll(this=document.copy(), expression=listed)
    yield Held(found[0], found[1], one, condition)


def _column_and(
    column: exp.Expr, value: exp.Expr, leaves: Mapping[str, Leaf], condition: exp.Expr
) -> Iterator[Held]:
    found = _source_column(stripped(column), leaves)
    if found is not None and found[0].alias not in tables_of(value):
        yield Held(found[0], found[1], value, condition)


def _expansion_of(product: Product, element: exp.Expr) -> Expansion | None:
    """The function of FROM whose first column `element` is."""
    if not isinstance(element, exp.Column):
        return None
    for each in product.expansions:
        alias = each.item.args.get("alias")
        names = [n.name for n in alias.args.get("columns") or []] if alias is not None else []
        if each.alias == element.table and isinstance(each.item, exp.Lateral):
            return each if names[:1] == [element.name] else None
    return None


def _array_of(product: Product, element: exp.Expr) -> exp.Expr | None:
    """The array that `element` is an element of, by unnest of it alone; or null."""
    expansion = _expansion_of(product, element)
    if expansion is not None:
        return _unnested(expansion.item.this)
    if not isinstance(element, exp.Column):
        return None
    found = (e.item for e in product.expansions if e.alias == element.table)
    return next((_within(item, element.name) for item in found), None)


def _unnested(function: exp.Expr | None) -> exp.Expr | None:
    """The only array that a function of FROM has the elements of."""
    if not isinstance(function, exp.Unnest | exp.Anonymous) or len(function.expressions) != 1:
        return None
    if isinstance(function, exp.Anonymous) and str(function.this).lower() != "unnest":
        return None
    return stripped(function.expressions[0])


def _within(item: exp.Expr, name: str) -> exp.Expr | None:
    """The same where a subquery of the row has the elements as the column `name`."""
    query = stripped(item.this) if isinstance(item, exp.Lateral) else None
    query = query.this if isinstance(query, exp.Subquery) else query
    if not isinstance(query, exp.Select) or query.args.get("from_") is None:
        return None
    column = next((stripped(o.unalias()) for o in query.selects if o.alias_or_name == name), None)
    if not isinstance(column, exp.Column):
        return None
    for inner in (query.args["from_"].this, *(j.this for j in query.args.get("joins") or [])):
        named = inner.args.get("alias")
        names = [n.name for n in named.args.get("columns") or []] if named is not None else []
        if isinstance(inner, exp.Lateral) and inner.alias == column.table:
            return _unnested(inner.this) if names[:1] == [column.name] else None
    return None


def _source_column(
    column: exp.Expr | None, leaves: Mapping[str, Leaf]
) -> tuple[Leaf, str, str] | None:
    """The leaf, the name and the type of a source's column; None where it is anything else."""
    leaf = leaves.get(column.table) if isinstance(column, exp.Column) else None
    if leaf is None or not isinstance(leaf.relation, Source):
        return None
    assert isinstance(column, exp.Column)
    found = next((c for c in leaf.relation.columns if c.name == column.name), None)
    return None if found is None else (leaf, found.name, found.type)


def _type_of(value: exp.Expr, leaves: Mapping[str, Leaf]) -> str | None:
    """The type of a leaf's column."""
    leaf = leaves.get(value.table) if isinstance(value, exp.Column) else None
    if leaf is None:
        return None
    columns = leaf.relation.columns
    return next((c.type for c in columns if c.name == value.name), None)
