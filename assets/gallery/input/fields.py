"""A gallery item as a row of a file has it: what its fields mean, whatever the file's format.

Which files there are is in `listing.py`. Invariants: a row that does not say for certain
which item it is and what it holds is a ValueError with the reason, never a guess.

A row has `id` (the item's, an integer), `source` (`regular` or `auto`), `creator` and `tags`, and
may have `created_at` (ISO 8601, without offset UTC), `title`, `content_type` and `is_private`.
Other fields are ignored. A creator or a tag is meant by its id where it looks like one (a UUID with
hyphens), else by its name. Of several creators (a list, or separated by semicolons) the first one
counts. Tags are a list; in a cell a JSON array, an array as PostgreSQL prints it (of ids), or names
separated by semicolons.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from functools import lru_cache
from typing import Any
from uuid import UUID

from assets.gallery.tables import ITEMS
from tallykeeper.input.loading import indexed_text_fault, parse_time, text_fault

REQUIRED = ["id", "source", "creator", "tags"]
OPTIONAL = ["created_at", "title", "content_type", "is_private"]
UNKNOWN_CREATOR = "unknown"
NOTHING = frozenset({"nan", "NaN", "None", "NULL", "null", "<NA>", r"\N"})
"""What programs write into a cell where there is no value."""
SMALLEST_ID, LARGEST_ID = -(2**31), 2**31 - 1

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_INTEGER = re.compile(r"[+-]?[0-9]{1,19}(?:\.0+)?")
_TRUTH = {"true": True, "t": True, "1": True, "yes": True}
_TRUTH |= {"false": False, "f": False, "0": False, "no": False}


@dataclass(frozen=True, slots=True)
class Item:
    """An item as it is listed. None is what the row does not say.

    `creator` and `tags` are names, or ids as `is_id` knows them. `created_at` is ISO 8601 in UTC.
    """

    source: str
    id: int
    creator: str
    created_at: str | None
    title: str | None
    content_type: str | None
    is_private: bool | None
    tags: list[str | None]

    def over(self, earlier: Item | None) -> Item:
        """This row after an earlier one of the same item, which says what this one leaves open.

        Just what loading them one after the other makes of them.
        """
        if earlier is None:
            return self
        open_here = [name for name in OPTIONAL if getattr(self, name) is None]
        return replace(self, **{name: getattr(earlier, name) for name in open_here})


def is_id(text: str) -> bool:
    """Whether a creator or tag is meant by its id."""
    return _UUID.fullmatch(text) is not None


def read_item(fields: dict[str, Any]) -> Item:
    """What a row says. Raises ValueError with the reason where that is not certain."""
    for name, value in fields.items():
        if isinstance(value, ValueError):
            raise ValueError(f"{name}: {value}") from value
    missing = [name for name in REQUIRED if name not in fields]
    if missing:
        raise ValueError(f"no {' and no '.join(missing)}")
    return Item(
        source=_source(fields["source"]),
        id=_id(fields["id"]),
        creator=_creator(fields["creator"]),
        created_at=_time(fields.get("created_at")),
        title=_text("title", fields.get("title")),
        content_type=_text("content_type", fields.get("content_type")),
        is_private=_truth(fields.get("is_private")),
        tags=_tags(fields["tags"]),
    )


def _source(value: object) -> str:
    if _is_blank(value):
        raise ValueError("no source")
    text = value.strip() if isinstance(value, str) else value
    if not isinstance(text, str) or text not in ITEMS:
        raise ValueError(f"source: expected {' or '.join(ITEMS)}, found {_short(value)}")
    return text


def _id(value: object) -> int:
    if _is_blank(value):
        raise ValueError("no id")
    if isinstance(value, str) and _INTEGER.fullmatch(value.strip()):
        value = int(value.strip().partition(".")[0])
    value = _whole(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"id: expected an integer, found {_short(value)}")
    if not SMALLEST_ID <= value <= LARGEST_ID:
        raise ValueError(f"id: {value} is not from {SMALLEST_ID} to {LARGEST_ID}")
    return value


def _whole(value: object) -> object:
    """The number as an int where it is whole: in a column with gaps they come as floats."""
    if isinstance(value, float | Decimal) and value == value and value % 1 == 0:
        return int(value)
    return value


def _creator(value: object) -> str:
    if isinstance(value, str):
        value = value.split(";")
    candidates = value if isinstance(value, list) else [value]
    first = next((each for each in candidates if not _is_blank(each)), None)
    if first is None:
        return UNKNOWN_CREATOR
    return _name("creator", first)


def _tags(value: object) -> list[str | None]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise ValueError(f"tags: expected a list, found {_short(value)}")
    return [None if each is None else _name("tags", each) for each in value]


def listed_in_cell(cell: str) -> list[Any]:
    """The tags that a cell of a CSV lists. Raises ValueError where it begins like a list."""
    text = cell.strip()
    if text.startswith("["):
        try:
            listed = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"begins like a JSON array, but is none: {error}") from error
        assert isinstance(listed, list)
        return listed
    if text.startswith("{") and text.endswith("}"):
        return _array_elements(text[1:-1])
    return [name for name in text.split(";") if name.strip()]


def creators_in_cell(cell: str) -> list[Any] | str:
    """The creators that a cell of a CSV lists as a JSON array; any other cell as it is."""
    if cell.lstrip().startswith("["):
        try:
            listed = json.loads(cell)
        except (ValueError, RecursionError):
            return cell  # A name may begin with a bracket.
        if isinstance(listed, list):
            return listed
    return cell


def _array_elements(inside: str) -> list[str | None]:
    """The ids of an array as PostgreSQL prints it."""
    elements = [each.strip() for each in inside.split(",")] if inside.strip() else []
    nameless = [each for each in elements if each.upper() != "NULL" and not is_id(each)]
    if nameless:
        raise ValueError(f"expected ids between braces, found {_short(nameless[0])}")
    return [None if each.upper() == "NULL" else each for each in elements]


def _name(what: str, value: object) -> str:
    value = _whole(value)
    if isinstance(value, bytes) and len(value) == 16:
        value = UUID(bytes=value)
    if isinstance(value, UUID) or (isinstance(value, int) and not isinstance(value, bool)):
        value = str(value)
    if not isinstance(value, str):
        raise ValueError(f"{what}: expected a name or an id, found {_short(value)}")
    name, fault = _checked(value)
    if fault is not None:
        raise ValueError(f"{what}: {_short(value)} {fault}")
    return name


@lru_cache(maxsize=200_000)
def _checked(text: str) -> tuple[str, str | None]:
    """The name without surrounding blanks, or the id in lower case; and why it cannot be kept."""
    name = text.strip()
    if is_id(name):
        return name.lower(), None
    if not name:
        return name, "is an empty name"
    return name, indexed_text_fault(name)


def _time(value: object) -> str | None:
    if _is_blank(value):
        return None
    if isinstance(value, date):
        value = value.isoformat()
    if not isinstance(value, str):
        raise ValueError(f"created_at: expected an ISO 8601 time, found {_short(value)}")
    try:
        return parse_time(value).isoformat()
    except ValueError as error:
        raise ValueError(f"created_at: {error}") from error


def _text(what: str, value: object) -> str | None:
    if _is_blank(value):
        return None
    if not isinstance(value, str):
        raise ValueError(f"{what}: expected a text, found {_short(value)}")
    fault = text_fault(value)
    if fault is not None:
        raise ValueError(f"{what} {fault}")
    return value


def _truth(value: object) -> bool | None:
    if _is_blank(value):
        return None
    truth = _TRUTH.get(str(value).strip().lower())
    if truth is None:
        raise ValueError(f"is_private: expected true or false, found {_short(value)}")
    return truth


def _is_blank(value: object) -> bool:
    """Whether nothing is said: null, an empty text, or a float's not-a-number."""
    if isinstance(value, str):
        return not value.strip()
    return value is None or (isinstance(value, float) and value != value)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
