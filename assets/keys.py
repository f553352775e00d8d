"""A single key of a tally as text: `7`, or `content_id=7,content_source=auto`."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ARRAY, Integer

from tallies import Tally
from tallies.declaration import nearest


def key_of(tally: Tally, given: str) -> dict[str, Any]:
    """The columns by which the tally's rows are computed together, with the values given.

    As JSON has them. Raises ValueError where they are not those columns, or a number is none.
    """
    group = tally.group
    if len(group) == 1 and not given.startswith(f"{group[0]}="):
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
    if isinstance(kind, ARRAY):
        raise _refused(tally, f"{name} is an array, of which no value can be given here")
    if not isinstance(kind, Integer):
        return value
    try:
        return int(value)
    except ValueError:
        raise _refused(tally, f"{name} is a whole number, and {value!r} is none") from None


def _refused(tally: Tally, why: str) -> ValueError:
    form = ",".join(f"{name}=..." for name in tally.group)
    return ValueError(f"Expected a key of {tally.name} as in {form}, but {why}.")
