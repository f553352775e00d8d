"""Where a page of items ended: the place of an item among all, in a cursor of the library's."""

from __future__ import annotations

import re
from datetime import datetime
from typing import NamedTuple

from tallykeeper.reads import cursors
from tallykeeper.reads.cursors import BadCursor

__all__ = ["BadCursor", "Place", "decode", "encode"]

_BACK = "back"
_MOMENT = re.compile(
    r"-?infinity|(?P<year>\d{4,6})(?P<rest>-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}\+00)( BC)?"
)
_NUMBER = re.compile(r"-?\d{1,10}", re.ASCII)
_HIGHEST_ID = 2**31 - 1


class Place(NamedTuple):
    """The place of an item among all: its moment as the database writes it, in UTC; id; source.

    `back`: it is gone back from there, to newer items, and not on to older ones.
    """

    created_at: str
    id: int
    source: str
    back: bool = False


def encode(place: Place, question: str) -> str:
    """The cursor for what comes after `place` in the answer to `question`."""
    direction = [_BACK] if place.back else []
    return cursors.encode((place.created_at, str(place.id), place.source, *direction), question)


def decode(cursor: object, question: str) -> Place:
    """The place that `encode` was given. Raises BadCursor where the question was another."""
    match cursors.decode(cursor, question):
        case [str(moment), str(number), str(source), *direction] if (
            _is_moment(moment)
            and _NUMBER.fullmatch(number)
            and abs(int(number)) <= _HIGHEST_ID
            and direction in ([], [_BACK])
        ):
            return Place(moment, int(number), source, bool(direction))
    raise cursors.unreadable(cursor)


def _is_moment(text: str) -> bool:
    """Whether the database will read it; of the years that Python knows every detail is looked at.

    The digest sees to the others, unless somebody forged it: then the database refuses.
    """
    found = _MOMENT.fullmatch(text)
    if found is None:
        return False
    year = found["year"]
    if year is None or len(year) > 4 or year == "0000":
        return year != "0000"
    try:
        datetime.fromisoformat(year + found["rest"])
    except ValueError:
        return False
    return True
