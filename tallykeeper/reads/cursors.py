"""Where a page ended, as a text that an application hands back for the next one.

A cursor holds the values that say where the last row is, and a digest over these and the question,
so that a cursor that was altered, cut off or made for another question is refused. The digest is no
secret: a forged cursor can only name another place, which the question would show anyway.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json

_ASK_ANEW = "hand back the cursor of a page, or none to begin anew"
_LONGEST = 20_000

Place = tuple[str | None, ...]


class BadCursor(ValueError):
    """A cursor that no page has, or that is one of another question."""


def encode(place: Place, question: str) -> str:
    """Return the cursor for what follows `place` in the answer to `question`."""
    content = json.dumps([*place, _digest(place, question)], separators=(",", ":"))
    return base64.urlsafe_b64encode(content.encode()).decode().rstrip("=")


def decode(cursor: object, question: str) -> Place:
    """Return the place that `encode` was given.

    Raises BadCursor where the cursor was altered, or made for another question.
    """
    if not isinstance(cursor, str) or len(cursor) > _LONGEST:
        raise unreadable(cursor)
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        found = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (UnicodeError, binascii.Error, ValueError, RecursionError):
        raise unreadable(cursor) from None
    if not isinstance(found, list) or not found or not isinstance(found[-1], str):
        raise unreadable(cursor)
    if not all(value is None or isinstance(value, str) for value in found):
        raise unreadable(cursor)
    place = tuple(found[:-1])
    if found[-1] != _digest(place, question):
        raise BadCursor(
            "Expected a cursor of this very question, but it was altered, or made for other filters"
            f" or another order; {_ASK_ANEW}."
        )
    return place


def unreadable(cursor: object) -> BadCursor:
    """Return the error for what is no cursor at all."""
    shown = repr(cursor)
    return BadCursor(
        f"Expected a cursor as a page has it, but it is {shown[:60]}"
        f"{'...' if len(shown) > 60 else ''}; {_ASK_ANEW}."
    )


def _digest(place: Place, question: str) -> str:
    content = json.dumps([*place, question])
    return hashlib.blake2b(content.encode(), digest_size=12).hexdigest()
