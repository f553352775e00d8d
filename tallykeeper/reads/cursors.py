"""Where a page ended, as a text that is handed back for the next one.

A cursor holds the values that the last row is ordered by, and a digest over these and the question,
so that a cursor that was altered, cut off or made for another question is refused. The digest is no
secret: a forged cursor can only name another place, which the question would show anyway.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json

_ASK_ANEW = "hand back the `next_cursor` of a page, or none to begin anew"
_LONGEST = 20_000

Place = tuple[str | None, ...]


def encode(place: Place, question: str) -> str:
    """Return the cursor for what follows `place` in the answer to `question`."""
    content = json.dumps([*place, _digest(place, question)], separators=(",", ":"))
    return base64.urlsafe_b64encode(content.encode()).decode().rstrip("=")


def decode(cursor: str, question: str) -> Place:
    """Return the place that `encode` was given.

    Raises ValueError where the cursor was altered, or made for another question.
    """
    found = _content(cursor)
    if not isinstance(found, list) or not found or not isinstance(found[-1], str):
        raise _unreadable(cursor)
    if not all(value is None or isinstance(value, str) for value in found):
        raise _unreadable(cursor)
    place = tuple(found[:-1])
    if found[-1] != _digest(place, question):
        raise ValueError(
            "Expected a cursor of this very question (tally, filters, range and order), but it was"
            f" altered, or made for another; {_ASK_ANEW}."
        )
    return place


def _content(cursor: str) -> object:
    if len(cursor) > _LONGEST:
        raise _unreadable(cursor)
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        return json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (UnicodeError, binascii.Error, ValueError, RecursionError):
        raise _unreadable(cursor) from None


def _digest(place: Place, question: str) -> str:
    content = json.dumps([*place, question])
    return hashlib.blake2b(content.encode(), digest_size=12).hexdigest()


def _unreadable(cursor: str) -> ValueError:
    shown = repr(cursor[:60]) + ("..." if len(cursor) > 60 else "")
    return ValueError(f"Expected a cursor as a page has it, but it is {shown}; {_ASK_ANEW}.")
