"""Which rows of a source matter to a SELECT at all, by conditions on the row alone.

Capture checks them in the application's transaction, so only expressions are used that cannot raise
an error for any row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from sqlglot import exp

from tallykeeper.select.algebra.expressions import sql_of, stripped, tables_of
from tallykeeper.select.algebra.relations import Product
from tallykeeper.select.plan import ROW
from tallykeeper.select.resolve import Source

# Expressions that are computed without an error for every row there can be.
_HARMLESS = (
    exp.Column,
    exp.Identifier,
    exp.Literal,
    exp.Boolean,
    exp.Null,
    exp.Paren,
    exp.And,
    exp.Or,
    exp.Not,
    exp.EQ,
    exp.NEQ,
    exp.LT,
    exp.LTE,
    exp.GT,
    exp.GTE,
    exp.Is,
    exp.In,
    exp.Between,
    exp.Case,
    exp.If,
    exp.Coalesce,
    exp.Nullif,
    exp.Greatest,
    exp.Least,
    exp.NullSafeEQ,
    exp.NullSafeNEQ,
    exp.Tuple,
    exp.Array,
    exp.DataType,
    exp.DataTypeParam,
    exp.Collate,
    exp.Any,
)
_FUNCTIONS = {"date_trunc", "lower", "upper", "strpos", "length", "timezone"}
# Types that hold every integer.
_WIDER = {"bigint", "numeric", "decimal"}
INTEGERS = {"smallint", "integer", "bigint"}


def of_row(expression: exp.Expr) -> str:
    """SQL over one row, called ROW."""

    def renamed(node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.Column):
            node.set("table", exp.to_identifier(ROW))
        return node

    return sql_of(expression.copy().transform(renamed, copy=False))


def is_risky(node: exp.Expr, source: Source) -> bool:
    """Whether computing the node, apart from those in it, can raise for some row of the source."""
    if isinstance(node, exp.Anonymous):
        return str(node.this).lower() not in _FUNCTIONS
    if isinstance(node, exp.Cast):
        given = stripped(node.this)
        if node.to.this == exp.DType.USERDEFINED:
            # A value of an enum can be renamed, and a domain can get another check.
            return True
        if isinstance(given, exp.Literal | exp.Null | exp.Case):
            return False
        types = [
            c.type for c in source.columns if isinstance(given, exp.Column) and c.name == given.name
        ]
        to = node.to.sql("postgres").lower()
        if to == "text":
            return not (types and types[0].startswith(("text", "character")))
        return not (to in _WIDER and types and types[0] in INTEGERS)
    if isinstance(node, exp.Like | exp.ILike):
        # A pattern that ends with a backslash is an error.
        return not _is_text_without_backslash(node.expression)
    return not isinstance(node, _HARMLESS)


def condition_of(
    source: Source, products: Iterable[Product], is_computed: Callable[[exp.Expr], bool]
) -> str | None:
    """SQL over one row, called ROW, that is true of each row that some of the products reads.

    None where that may be any row. `is_computed` says whether an expression without a column has a
    value: one that is an error is an error of the SELECT, and none of the application's writes.
    """
    found: list[str] = []
    for product in products:
        for leaf in product.leaves:
            if leaf.relation is not source:
                continue
            own = [
                of_row(c)
                for c in product.conditions
                if tables_of(c) == {leaf.alias} and _is_harmless(c, source, is_computed)
            ]
            if not own:
                return None
            found.append(" AND ".join(f"({each})" for each in dict.fromkeys(own)))
    if not found:
        return None
    distinct = list(dict.fromkeys(found))
    return distinct[0] if len(distinct) == 1 else " OR ".join(f"({each})" for each in distinct)


def _is_harmless(
    expression: exp.Expr, source: Source, is_computed: Callable[[exp.Expr], bool]
) -> bool:
    expression = stripped(expression)
    if not is_risky(expression, source):
        parts = (p for p in expression.iter_expressions())
        return all(_is_harmless(part, source, is_computed) for part in parts)
    is_constant = not expression.find(exp.Column, exp.Query, exp.Anonymous)
    is_fixed = all(t.this != exp.DType.USERDEFINED for t in expression.find_all(exp.DataType))
    return is_constant and is_fixed and is_computed(expression)


def _is_text_without_backslash(expression: exp.Expr) -> bool:
    expression = stripped(expression)
    while isinstance(expression, exp.Cast):
        expression = stripped(expression.this)
    return (
        isinstance(expression, exp.Literal)
        and expression.is_string
        and "\\" not in str(expression.this)
    )
