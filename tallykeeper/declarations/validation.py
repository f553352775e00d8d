"""What a declaration's functions return, checked when it is made: one sentence names the fault.

A capture is a few small functions of a row. What they return is SQLAlchemy's, or a
plain value; here it is asked for with the tally's name, the column and the nearest right name in
hand, so that a slip of the pen is not an error of a library three levels down.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from difflib import get_close_matches
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import JSON, Column, Enum, FromClause, Select, SelectBase, Table
from sqlalchemy.dialects.postgresql import DOMAIN, JSONB
from sqlalchemy.sql import visitors
from sqlalchemy.sql.elements import ColumnElement, Over
from sqlalchemy.sql.functions import FunctionElement

from tallykeeper.errors import DeclarationError

T = TypeVar("T")

PLAIN = (str, int, bool, Decimal, float, bytes, datetime, date, time, timedelta, UUID)
AGGREGATES = frozenset(
    {
        "any_value",
        "array_agg",
        "avg",
        "bit_and",
        "bit_or",
        "bit_xor",
        "bool_and",
        "bool_or",
        "corr",
        "count",
        "covar_pop",
        "covar_samp",
        "every",
        "json_agg",
        "json_object_agg",
        "jsonb_agg",
        "jsonb_object_agg",
        "max",
        "min",
        "mode",
        "percentile_cont",
        "percentile_disc",
        "range_agg",
        "range_intersect_agg",
        "stddev",
        "stddev_pop",
        "stddev_samp",
        "string_agg",
        "sum",
        "var_pop",
        "var_samp",
        "variance",
        "xmlagg",
    }
)


def nearest(name: str, names: Iterable[str]) -> str:
    """`; did you mean 'customer'?` where one of `names` is near to `name`, or nothing."""
    found = get_close_matches(name, list(names), n=1)
    return f"; did you mean {found[0]!r}?" if found else ""


def require_arguments(kind: type, name: str, arguments: Mapping[str, object]) -> None:
    """Raise DeclarationError where a tally is declared with an argument that there is not."""
    known = list(inspect.signature(kind.__init__).parameters)[1:]  # type: ignore[misc]
    for argument in arguments:
        if argument not in known:
            raise DeclarationError(
                f"{name}: {kind.__name__} has no argument {argument!r}{nearest(argument, known)}"
            )


def call(name: str, what: str, source: FromClause, function: Callable[[Any], T]) -> T:
    """`function` of a row of `source`. `what` it is, as in `the key of shop.sales`.

    Raises DeclarationError where it names a column that the source does not have.
    """
    return resolved(name, what, [source], lambda: function(source.c))


def resolved(name: str, what: str, sources: Iterable[FromClause], function: Callable[[], T]) -> T:
    """What `function` returns, which takes columns of `sources`.

    Raises DeclarationError where it names one that there is not.
    """
    try:
        return function()
    except (AttributeError, KeyError) as error:
        column = str(error.args[0]) if error.args else ""
        if isinstance(error, AttributeError) and not isinstance(error.__cause__, KeyError):
            raise
        known = [n for source in sources for n in source.c.keys()]  # noqa: SIM118 -- no dict
        hint = nearest(column, known) or f"; there are {', '.join(known)}"
        raise DeclarationError(f"{name}: {what}: there is no column {column!r}{hint}") from error


def columns(
    name: str, what: str, source: Table, function: Callable[[Any], Mapping[str, Any]]
) -> Mapping[str, Any]:
    """What a key or entity of a row are, by column name. Raises DeclarationError."""
    what = f"{what} of {source}"
    found = call(name, what, source, function)
    if not isinstance(found, Mapping) or not all(isinstance(n, str) for n in found):
        raise DeclarationError(
            f"{name}: {what} must be a dict from column names to values, as in"
            f" {{'customer': row.customer}}; it is {_kind(found)}"
        )
    for column, value in found.items():
        _require_of_one_row(name, f"{column!r} in {what}", value)
    return found


def fault_of_type(column: Column[Any], in_key: bool) -> str | None:
    """What is wrong with the type that a derived table's column is declared with, or None."""
    type_: Any = column.type
    if in_key and isinstance(type_, JSON) and not isinstance(type_, JSONB):
        return "is json, which PostgreSQL does not compare; declare it as JSONB"
    if getattr(type_, "collation", None):
        return (
            f"is declared with the collation {type_.collation!r}; leave it to the database's, and"
            " say the other where you read: ORDER BY ... COLLATE"
        )
    of_schema = (isinstance(type_, Enum) and type_.native_enum) or isinstance(type_, DOMAIN)
    if of_schema and not type_.schema:
        return (
            f"is of the type {type_.name}, without its schema, which functions with a fixed"
            " search_path do not find; name it, as in schema='public'"
        )
    return None


def query(name: str, found: object) -> Select[Any]:
    """What `aggregate` returned. Raises DeclarationError where it is no SELECT."""
    if not isinstance(found, Select):
        raise DeclarationError(
            f"{name}: `aggregate` must return a select(...) of the key and measures; it returns"
            f" {_kind(found)}"
        )
    return found


def _require_of_one_row(name: str, what: str, value: object) -> None:
    if value is not None and not isinstance(value, (ColumnElement, *PLAIN)):
        raise DeclarationError(
            f"{name}: {what} must be a column, an expression or a plain value; it is {_kind(value)}"
        )
    if not isinstance(value, ColumnElement):
        return
    for element in visitors.iterate(value):
        function = getattr(element, "name", "") if isinstance(element, FunctionElement) else ""
        if function in AGGREGATES:
            raise DeclarationError(
                f"{name}: {what} is an aggregate ({function}), but it is asked of one row; give"
                " the plain value"
            )
        if isinstance(element, Over):
            raise DeclarationError(
                f"{name}: {what} is a window function, but it is asked of one row; give"
                " the plain value"
            )
        if isinstance(element, SelectBase):
            raise DeclarationError(
                f"{name}: {what} reads another table, in which no change would be noticed;"
                " capture both"
            )


def _kind(value: object) -> str:
    if isinstance(value, Table):
        return f"the table {value}"
    return "None" if value is None else f"{type(value).__name__} {str(value)[:60]!r}"
