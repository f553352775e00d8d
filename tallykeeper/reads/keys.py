"""A single key of a tally as text: `7`, or `content_id=7,content_source=auto`."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, DateTime, Integer, SmallInteger, String, Uuid

from tallykeeper import Tally
from tallykeeper.database import sql
from tallykeeper.declarations.validation import nearest
from tallykeeper.input.loading import parse_time


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
    return {name: _value(tally, name, value) for name, value in pairs.items()}


def _pair(tally: Tally, part: str) -> tuple[str, str]:
    name, equals, value = part.partition("=")
    if not equals:
        raise _refused(tally, f"{part!r} is no column=value")
    return name, value


def _value(tally: Tally, name: str, value: str) -> Any:
    kind = tally.table.c[name].type
    try:
        if isinstance(kind, Integer):
            return _whole_number(kind, value)
        if isinstance(kind, DateTime):
            parse_time(value.removesuffix("Z"))
        elif isinstance(kind, Uuid):
            UUID(value)
    except ValueError:
        what = "whole number" if isinstance(kind, Integer) else sql.type_name(kind).lower()
        raise _refused(tally, f"{name} is a {what}, and {value!r} is none") from None
    return value


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
