"""Where a page ended, as a text that an application hands back for the next one.

A cursor holds the place of the last item and a digest over that place and the question, so that a
cursor that was altered, cut off or got for another question is recognized. The digest is no secret:
a forged one can only ask for another place, which the question would show anyway.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from datetime import datetime
from typing import NamedTuple

_ASK_ANEW = "give the `next_cursor` or `prev_cursor` of a page, or none to begin with the newest"
_BACK = "back"
_MOMENT = re.compile(
    r"-?infinity|(?P<year>\d{4,6})(?P<rest>-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}\+00)( BC)?"
)
_LONGEST = 1_000
_HIGHEST_ID = 2**31 - 1


class BadCursor(ValueError):
    """A cursor that no page gave, or that is one of another question's."""


class Place(NamedTuple):
    """The place of an item among all: its moment as the database writes it, in UTC; id; source.

    `back`: the page goes back from there, to newer items, and not on to older ones.
    """

    created_at: str
    id: int
    source: str
    back: bool = False


def encode(place: Place, question: str) -> str:
    """The cursor for what comes after `place` in the answer to `question`."""
    content = json.dumps([*_written(place), _digest(place, question)], separators=(",", ":"))
    return base64.urlsafe_b64encode(content.encode()).decode().rstrip("=")


def decode(cursor: object, question: str) -> Place:
    """The place that `encode` was given. Raises BadCursor where the question was another."""
    place, digest = _parse(cursor)
    if digest != _digest(place, question):
        raise BadCursor(
            "Expected a cursor of this very question (tags, match, sources, creator, user, private)"
            f", but it was altered, or got with others; {_ASK_ANEW}."
        )
    return place


def _parse(cursor: object) -> tuple[Place, str]:
    if not isinstance(cursor, str) or len(cursor) > _LONGEST:
        raise _unreadable(cursor)
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        content = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (UnicodeError, binascii.Error, ValueError, RecursionError) as error:
        raise _unreadable(cursor) from error
    match content:
        case [str(moment), int(number), str(source), *direction, str(digest)] if (
            _is_moment(moment)
            and not isinstance(number, bool)
            and abs(number) <= _HIGHEST_ID
            and direction in ([], [_BACK])
        ):
            return Place(moment, number, source, bool(direction)), digest
    raise _unreadable(cursor)


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


def _written(place: Place) -> list[str | int]:
    direction = [_BACK] if place.back else []
    return [place.created_at, place.id, place.source, *direction]


def _digest(place: Place, question: str) -> str:
    content = json.dumps([*_written(place), question])
    return hashlib.blake2b(content.encode(), digest_size=12).hexdigest()


def _unreadable(cursor: object) -> BadCursor:
    shown = repr(cursor)
    return BadCursor(
        f"Expected a cursor as a page returns it, but it is {shown[:60]}"
        f"{'...' if len(shown) > 60 else ''}; {_ASK_ANEW}."
    )
