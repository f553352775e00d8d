"""Which expressions of a declaration could raise for some value of their columns.

Invariants: what is not known to be harmless counts as able to raise. A harmless expression is
made of columns, constants and what is listed here; it is computed for every row there can be.
"""

from __future__ import annotations

from sqlalchemy import ClauseElement
from sqlalchemy.sql import elements, operators, visitors
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import BigInteger, Integer, String

from tallykeeper.database import sql

_FUNCTIONS = {"coalesce", "date_trunc", "greatest", "least", "lower", "upper", "strpos", "nullif"}
_OPERATORS = {
    None,
    operators.and_,
    operators.or_,
    operators.inv,
    operators.eq,
    operators.ne,
    operators.lt,
    operators.le,
    operators.gt,
    operators.ge,
    operators.is_,
    operators.is_not,
    operators.is_distinct_from,
    operators.is_not_distinct_from,
    operators.in_op,
    operators.not_in_op,
    operators.between_op,
    operators.not_between_op,
    operators.collate,
    operators.comma_op,
    operators.is_true,
    operators.is_false,
    operators.asc_op,
    operators.concat_op,
}
_HARMLESS = (
    elements.ColumnClause,
    elements.BindParameter,
    elements.Null,
    elements.True_,
    elements.False_,
    elements.Label,
    elements.CollationClause,
    elements.Case,
)
_COMPOSED = (
    elements.Grouping,
    elements.ClauseList,
    elements.ExpressionClauseList,
    elements.BinaryExpression,
    elements.UnaryExpression,
)


def may_raise(expression: object) -> bool:
    """Whether computing `expression` could fail for some row; a plain Python value cannot."""
    if not isinstance(expression, ClauseElement):
        return False
    return any(_is_risky(element) for element in visitors.iterate(expression))


def _is_risky(element: object) -> bool:
    if sql.is_opaque(element):
        return True
    if isinstance(element, _HARMLESS):
        return False
    if isinstance(element, elements.Cast):
        return not _cannot_fail(element)
    if isinstance(element, elements.TypeClause):
        return False
    if isinstance(element, FunctionElement):
        return getattr(element, "name", "") not in _FUNCTIONS
    return (
        not isinstance(element, _COMPOSED) or getattr(element, "operator", None) not in _OPERATORS
    )


def _cannot_fail(cast: elements.Cast[object]) -> bool:
    """A cast to text without a length, of a constant, or of an integer to bigint."""
    given: object = cast.clause
    while isinstance(given, elements.Grouping):
        given = given.element
    if isinstance(given, (elements.BindParameter, elements.Null)):
        return True
    if isinstance(cast.type, String):
        return True
    widened = isinstance(getattr(given, "type", None), Integer)
    return widened and isinstance(cast.type, BigInteger)
