"""How values cross between PostgreSQL and an engine, in types that mean the same in both."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa

from tallykeeper.engines.translation.names import Type
from tallykeeper.parquet.columns import DAY, LIST, MOMENT, PLAIN, Column

_CROSSING = {MOMENT: pa.int64(), DAY: pa.int32()}
_ENCODED = {
    "timestamp with time zone": MOMENT,
    "timestamp without time zone": MOMENT,
    "date": DAY,
}


def crossing(column: Column) -> Column:
    """The same column with integers for times and dates, in its file too."""
    if column.encoding in _CROSSING:
        return replace(column, arrow=_CROSSING[column.encoding])
    if column.encoding == LIST:
        assert column.element is not None
        element = _CROSSING.get(column.element.encoding)
        return column if element is None else replace(column, arrow=pa.list_(element))
    return column


def returned(column: Column) -> Column:
    """The column of a result, into which an engine's value is put: of numbers, all their digits."""
    if column.base == "numeric":
        return replace(column, arrow=pa.string(), encoding=PLAIN)
    return column


def shown(expression: str, type_: Type) -> str:
    """An SQL expression as it crosses."""
    encoding = _ENCODED.get(type_.name, PLAIN)
    return Column("", type_.name, type_.name, "b", pa.null(), encoding).shown(f"({expression})")
