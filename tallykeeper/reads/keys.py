"""Values of columns as text, and a tally's single key: `7`, or `content_id=7,content_source=auto`.

Invariants: what is let through means the same on every day and in every session.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, time
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Enum,
    Integer,
    SmallInteger,
    String,
    Time,
    Uuid,
)

from tallykeeper import Tally
from tallykeeper.database import sql
from tallykeeper.declarations.validation import nearest
from tallykeeper.input.loading import parse_time

INFINITE = ("infinity", "-infinity")
"""Moments that a time column can hold, and ISO 8601 cannot name."""


def key_of(tally: Tally, given: str) -> dict[str, Any]:
    """The columns by which the tally's rows are computed together, with the values given.

    As JSON has them. Raises ValueError where they are not those columns, or a number, time or UUID
    is none.
    """
    group = tally.group
    is_named = given.startswith(f"{group[0]}=") or (
        "=" in given and not isinstance(tally.table.c[group[0]].type, String)
    )
    if len(group) == 1 and not is_named:
        pairs = {group[0]: given}
    else:
        pairs = dict(_pair(tally, part) for part in given.split(","))
    for name in pairs:
        if name not in group:
            raise _refused(tally, f"there is no {name!r}{nearest(name, group)}")
    missing = [name for name in group if name not in pairs]
    if missing:
        raise _refused(tally, f"{', '.join(missing)} is missing")
    try:
        return {name: value_of(tally.table.c[name], value) for name, value in pairs.items()}
    except ValueError as error:
        raise _refused(tally, str(error)) from None


def _pair(tally: Tally, part: str) -> tuple[str, str]:
    name, equals, value = part.partition("=")
    if not equals:
        raise _refused(tally, f"{part!r} is no column=value")
    return name, value


def value_of(column: Column[Any], value: str) -> Any:
    """What the text says of a column, as JSON has it: whole numbers as such, all else as text.

    Raises ValueError where it is none of the column's type; not all that PostgreSQL refuses is.
    """
    kind = column.type
    if isinstance(kind, Enum) and value not in kind.enums:
        raise ValueError(
            f"{column.key} is one of {', '.join(kind.enums)}, and {value!r} is none"
            f"{nearest(value, kind.enums)}"
        )
    try:
        if isinstance(kind, Integer):
            return _whole_number(kind, value)
        for type_, parse in _PARSED.items():
            if isinstance(kind, type_):
                parse(value)
    except ValueError:
        what = "whole number" if isinstance(kind, Integer) else sql.type_name(kind).lower()
        raise ValueError(f"{column.key} is a {what}, and {_shortened(value)} is none") from None
    return value


def _truth(value: str) -> None:
    if value.lower() not in ("true", "false"):
        raise ValueError(value)


_PARSED: dict[Any, Callable[[str], Any]] = {
    DateTime: lambda value: value in INFINITE or parse_time(value.removesuffix("Z")),
    # PostgreSQL itself would read `today` each day anew.
    Date: lambda value: value in INFINITE or date.fromisoformat(value),
    Time: time.fromisoformat,
    Uuid: UUID,
    Boolean: _truth,
}


def _shortened(value: str) -> str:
    return repr(value if len(value) <= 60 else f"{value[:60]}...")


def _whole_number(kind: Integer, value: str) -> int:
    bits = 64 if isinstance(kind, BigInteger) else 16 if isinstance(kind, SmallInteger) else 32
    if re.fullmatch(r"-?[0-9]{1,19}", value) is None:
        raise ValueError(value)
    number = int(value)
    if not -(2 ** (bits - 1)) <= number < 2 ** (bits - 1):
        raise ValueError(value)
    return number


def _refused(tally: Tally, why: str) -> ValueError:
    form = ",".join(f"{name}=..." for name in tally.group)
    return ValueError(f"Expected a key of {tally.name} as in {form}, but {why}.")
