"""Answers as DataFrames: the columns that a read declares, with types that do not follow the rows.

Whole numbers are `Int64` and truth values `boolean`, so that both may be missing; moments are
`datetime64[us, UTC]`, texts and ids `str`, decimals `float64`; what is none of these stays as it
is. Invariants: an answer without rows has the same columns and types as any other; and no figure is
computed here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from types import NoneType, UnionType
from typing import Any, ParamSpec, Union, get_args, get_origin, get_type_hints
from uuid import UUID

import pandas as pd
from sqlalchemy import Boolean, DateTime, Integer, Numeric
from sqlalchemy.types import TypeEngine

from tallykeeper.reads.rows import Rows

P = ParamSpec("P")

MOMENT = "datetime64[us, UTC]"
_TYPES: dict[Any, str] = {
    int: "Int64",
    bool: "boolean",
    float: "float64",
    Decimal: "float64",
    datetime: MOMENT,
    date: "datetime64[s]",
    str: "str",
    UUID: "str",
}
_OF_COLUMNS = {Boolean: "boolean", Integer: "Int64", DateTime: MOMENT, Numeric: "float64"}
# The fields of answers that map moments, as text, to figures; and what the moments are.
_BY_MOMENT = {"daily_counts": "date", "hourly_counts": "hour", "period_counts": "period"}


def as_frame(read: Callable[P, Any], *args: P.args, **kwargs: P.kwargs) -> pd.DataFrame:
    """Ask a read of `assets.*.reads`, and return its answer as a DataFrame.

    Of an answer by ids the first column is `id`; of one that has rows and other figures the rows
    are the frame, and the others are in its `attrs`, as the cursor of `tally_rows`. Raises what the
    read raises.

        as_frame(daily_counts, connection, start=date(2025, 11, 1))
    """
    answer = read(*args, **kwargs)
    if isinstance(answer, Rows):
        return _of_rows(answer)
    hint = _chosen(get_type_hints(read)["return"], answer)
    return _frame_of(hint, answer)


def frame(types: Mapping[str, str], rows: Iterable[Sequence[Any]]) -> pd.DataFrame:
    """Return rows as a DataFrame of these columns, each of its type."""
    columns = list(zip(*rows, strict=True)) or [()] * len(types)
    return pd.DataFrame(
        {
            name: _series(cells, type_)
            for (name, type_), cells in zip(types.items(), columns, strict=True)
        }
    )


def type_of_column(type_: TypeEngine[Any]) -> str:
    """Return the type that values of a column of the database have in a frame."""
    found = (name for kind, name in _OF_COLUMNS.items() if isinstance(type_, kind))
    return next(found, "str")


def _of_rows(page: Rows) -> pd.DataFrame:
    """Rows of a tally, with what else the page says; times outside the years 1 to 9999 are missing.

    These would be texts.
    """
    types = {name: type_of_column(column.type) for name, column in page.columns.items()}
    rows = (
        [_instant(row[name]) if type_ == MOMENT else row[name] for name, type_ in types.items()]
        for row in page.rows
    )
    found = frame(types, rows)
    found.attrs.update(order=page.order, next_cursor=page.next_cursor)
    return found


def _instant(text: str | None) -> datetime | None:
    try:
        return None if text is None else datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError:
        return None


def _series(cells: Sequence[Any], type_: str) -> pd.Series[Any]:
    if type_ == "str":
        cells = [cell if cell is None or isinstance(cell, str) else _text(cell) for cell in cells]
    elif type_ == "float64":
        cells = [None if cell is None else float(cell) for cell in cells]
    return pd.Series(list(cells), dtype=type_)


def _text(cell: Any) -> str:
    return json.dumps(cell, default=str) if isinstance(cell, (list, dict)) else str(cell)


def _chosen(hint: Any, answer: Any) -> Any:
    """Which of several answers that a read may give this one is."""
    if get_origin(hint) not in (Union, UnionType):
        return hint
    by_id = isinstance(answer, dict) and not all(isinstance(key, str) for key in answer)
    hints = [each for each in get_args(hint) if each is not NoneType]
    several = [each for each in hints if get_origin(each) is dict]
    return several[0] if several and (by_id or answer == {}) else hints[0]


def _frame_of(hint: Any, answer: Any) -> pd.DataFrame:
    origin, inner = get_origin(hint), get_args(hint)
    if origin is dict:
        types = {"id": _type(inner[0]), **_fields(inner[1])}
        return frame(types, ((key, *_cells(inner[1], row)) for key, row in answer.items()))
    if origin in (list, tuple):
        return frame(_fields(inner[0]), (_cells(inner[0], row) for row in answer))
    hints = _hints(hint)
    rows = [name for name, each in hints.items() if _has_rows(name, each)]
    if not rows:
        return frame(_fields(hint), [] if answer is None else [_cells(hint, answer)])
    (name,) = rows
    given = None if answer is None else dict(zip(hints, _cells(hint, answer), strict=True))
    of_rows: Any = {} if given is None else given.pop(name)
    found = (
        _by_moment(_BY_MOMENT[name], of_rows)
        if name in _BY_MOMENT
        else _frame_of(hints[name], of_rows)
    )
    found.attrs.update({key: value for key, value in (given or {}).items() if value is not None})
    return found


def _by_moment(name: str, counts: Mapping[str, int]) -> pd.DataFrame:
    """Figures by day or hour; where one lies outside the years 1 to 9999 all stay texts."""
    try:
        moments: list[Any] = [pd.Timestamp(datetime.fromisoformat(text)) for text in counts]
    except ValueError:
        return frame({name: "str", "count": "Int64"}, counts.items())
    moments = [m if m.tzinfo else m.tz_localize("UTC") for m in moments]
    return frame({name: MOMENT, "count": "Int64"}, zip(moments, counts.values(), strict=True))


def _has_rows(name: str, hint: Any) -> bool:
    inner = get_args(hint)
    if get_origin(hint) in (list, tuple):
        return bool(inner) and bool(_hints(inner[0]))
    return name in _BY_MOMENT


def _hints(shape: Any) -> dict[str, Any]:
    """The fields of a TypedDict or dataclass with their types; of anything else none."""
    return get_type_hints(shape) if isinstance(shape, type) and shape not in _TYPES else {}


def _fields(shape: Any) -> dict[str, str]:
    return {name: _type(hint) for name, hint in _hints(shape).items()}


def _cells(shape: Any, row: Any) -> list[Any]:
    if isinstance(row, Mapping):
        return [row.get(name) for name in _hints(shape)]
    return [getattr(row, name) for name in _hints(shape)]


def _type(hint: Any) -> str:
    kinds: Collection[Any] = [each for each in get_args(hint) if each is not NoneType]
    if get_origin(hint) in (Union, UnionType) and len(kinds) == 1:
        (hint,) = kinds
    return _TYPES.get(hint, "object")
