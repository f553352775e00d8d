"""SQLAlchemy's types for the types that a plan names as PostgreSQL writes them.

Only those matter that something asks for by class: integers, numerics, times, texts. Any other
type keeps its name, and is nothing but that.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Date,
    DateTime,
    Double,
    Float,
    Integer,
    LargeBinary,
    Numeric,
    SmallInteger,
    String,
    Text,
    Uuid,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSON, JSONB
from sqlalchemy.types import TypeEngine, UserDefinedType


class NamedType(UserDefinedType[Any]):
    """A type known by its name alone."""

    cache_ok = True

    def __init__(self, name: str) -> None:
        self.name = name

    def get_col_spec(self, **options: object) -> str:
        return self.name


# Types without equality of which values are shown, and so compared, by their text.
INCOMPARABLE = frozenset({"json", "xml", "point", "polygon"})

_PLAIN: dict[str, Callable[[], TypeEngine[Any]]] = {
    "smallint": SmallInteger,
    "integer": Integer,
    "bigint": BigInteger,
    "numeric": Numeric,
    "real": lambda: Float(24),
    "double precision": Double,
    "boolean": Boolean,
    "text": Text,
    "character varying": String,
    "date": Date,
    "timestamp without time zone": DateTime,
    "timestamp with time zone": lambda: DateTime(timezone=True),
    "uuid": Uuid,
    "bytea": LargeBinary,
    "json": JSON,
    "jsonb": JSONB,
}
_NUMERIC = re.compile(r"numeric\((\d+),(-?\d+)\)")
_VARCHAR = re.compile(r"character varying\((\d+)\)")


def column_type(name: str) -> TypeEngine[Any]:
    """The type of that name, as `format_type` writes it."""
    if name.endswith("[]"):
        element = column_type(name.removesuffix("[]"))
        return ARRAY(element)
    if name in _PLAIN:
        return _PLAIN[name]()
    if found := _NUMERIC.fullmatch(name):
        return Numeric(int(found[1]), int(found[2]))
    if found := _VARCHAR.fullmatch(name):
        return String(int(found[1]))
    return NamedType(name)
