"""What a line of a file of events says: which kind it is, and its payload as it stands there.

Nothing is written here. Invariants: the payload reaches the log letter for letter, so that
no number loses digits on the way; and what the log cannot hold is reported, with the reason.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from assets.fediverse.instances import BadInstance, base_url_of
from assets.fediverse.processing.functions import IN_ID, LONGEST_ID
from assets.fediverse.processing.parsing import AN_ID, DELETE, FOLLOW, UNFOLLOW
from tallykeeper.input.loading import parse_time, text_fault

_LONGEST_EVENT_NAME = 200
_EARLIEST = datetime(2010, 1, 1, tzinfo=UTC)
_CLOCKS_DIFFER_BY = timedelta(days=1)

IS_ID = re.compile(f"{IN_ID}{{1,{LONGEST_ID}}}")
_BLANK = re.compile(r"[ \t\n\r]*")
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_read = json.JSONDecoder().raw_decode

KINDS = (
    "an event (event, payload), a status (id with content or account, or status: {...}), an edit"
    " history (status_id, history) or a follow (follower_account_id, followee_account_id)"
)


class BadLine(ValueError):
    """The line cannot be loaded; says why."""


@dataclass(frozen=True, slots=True)
class Line:
    """An event as a line has it; `received_at` and `base_url` are None where it does not say."""

    event_type: str
    payload: str | None
    received_at: datetime | None
    base_url: str | None


def read_line(row: dict[str, Any], raw: str, *, by_host: bool, now: datetime) -> Line:
    """What a line says: `row` is the object that it holds, `raw` its text. Raises BadLine."""
    if (fault := text_fault(raw)) is not None:
        raise BadLine(fault)
    event_type, payload = _event(row, raw)
    return Line(event_type, payload, _received(row, now), _host(row) if by_host else None)


def _json_fault(text: str) -> str | None:
    """Why this is no JSON that PostgreSQL could hold; None where it is."""
    try:
        json.loads(text)
    except RecursionError:
        return "is nested too deeply"
    except ValueError as error:
        return f"is no valid JSON: {error}"
    return _escape_fault(text)


def _escape_fault(json_text: str) -> str | None:
    """Which escape in this JSON PostgreSQL cannot hold, if any."""
    if "\\u0000" in json_text and _NUL.search(json_text):
        return "contains \\u0000, which PostgreSQL cannot hold"
    if _SURROGATE.search(json_text) and not _is_unicode(json.loads(json_text)):
        return "contains half of a surrogate pair, which PostgreSQL cannot hold"
    return None


def _event(row: dict[str, Any], raw: str) -> tuple[str, str | None]:
    found: tuple[str, str | None]
    if "event" in row:
        found = _name(row["event"]), _payload(row, raw)
    elif isinstance(row.get("status"), dict):
        _require_id(row["status"].get("id"), "status.id")
        found = "status", members(raw)["status"]
    elif "status_id" in row and "history" in row:
        found = "history", _history(row, raw)
    elif "follower_account_id" in row and "followee_account_id" in row:
        found = _follow(row, raw)
    elif "id" in row and ("content" in row or "account" in row or "createdAt" in row):
        _require_id(row["id"], "id")
        found = "status", raw.strip()
    else:
        raise BadLine(f"expected {KINDS}, found the fields {', '.join(row)[:200] or '(none)'}")
    payload = found[1]
    if payload is not None and (fault := _escape_fault(payload)) is not None:
        raise BadLine(f"the payload {fault}")
    return found


def _name(name: object) -> str:
    if not isinstance(name, str) or not name.strip() or len(name) > _LONGEST_EVENT_NAME:
        raise BadLine(
            f"event: expected a name of 1 to {_LONGEST_EVENT_NAME} characters, found {_shown(name)}"
        )
    if (fault := text_fault(name)) is not None:
        raise BadLine(f"event: {fault}")
    return name


def _payload(row: dict[str, Any], raw: str) -> str | None:
    payload = row.get("payload")
    if payload is None:
        # Some events have none: filters_changed.
        return None
    if row["event"] == DELETE and isinstance(payload, str) and IS_ID.fullmatch(payload):
        # The id itself, which on most servers is no number.
        return members(raw)["payload"]
    if isinstance(payload, str):
        # As the wire has it: JSON within a string.
        if (fault := _json_fault(payload)) is not None:
            raise BadLine(f"payload: the string {fault}")
    elif isinstance(payload, bool | list):
        raise BadLine(
            "payload: expected an object, a number or a string of JSON,"
            f" found {'an array' if isinstance(payload, list) else 'a truth value'}"
        )
    return members(raw)["payload"]


def _history(row: dict[str, Any], raw: str) -> str:
    _require_id(row["status_id"], "status_id")
    if not isinstance(row["history"], list):
        raise BadLine(f"history: expected an array of versions, found {_shown(row['history'])}")
    parts = members(raw)
    return f'{{"status_id": {parts["status_id"]}, "history": {parts["history"]}}}'


def _follow(row: dict[str, Any], raw: str) -> tuple[str, str]:
    names = ("follower_account_id", "followee_account_id")
    for name in names:
        _require_id(row[name], name)
    parts = members(raw)
    more = [name for name in ("followed_at", "unfollowed_at") if row.get(name) is not None]
    fields = ", ".join(f'"{name}": {parts[name]}' for name in (*names, *more))
    return UNFOLLOW if "unfollowed_at" in more else FOLLOW, f"{{{fields}}}"


def _require_id(value: object, name: str) -> None:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    if not is_number and not (isinstance(value, str) and IS_ID.fullmatch(value)):
        raise BadLine(f"{name}: expected {AN_ID}, found {_shown(value)}")


def _received(row: dict[str, Any], now: datetime) -> datetime | None:
    written = row.get("received_at")
    if written is None:
        return None
    if not isinstance(written, str):
        raise BadLine(f"received_at: expected an ISO 8601 time, found {_shown(written)}")
    try:
        moment = parse_time(written)
    except ValueError as error:
        raise BadLine(f"received_at: {error}") from error
    if not _EARLIEST <= moment <= now + _CLOCKS_DIFFER_BY:
        raise BadLine(
            f"received_at: expected a moment from {_EARLIEST.year} to now, found {written!r}"
        )
    return moment


def _host(row: dict[str, Any]) -> str | None:
    host = row.get("host")
    if host is None:
        return None
    if not isinstance(host, str):
        raise BadLine(f"host: expected a name like mastodon.social, found {_shown(host)}")
    try:
        return base_url_of(host)
    except BadInstance as error:
        raise BadLine(f"host: {error}") from error


def members(raw: str) -> dict[str, str]:
    """The text of each field's value; of a field given twice, as JSON readers have it, the last."""
    parts = {}
    place = _after_blank(raw, raw.index("{") + 1)
    while raw[place] != "}":
        name, place = _read(raw, place)
        start = _after_blank(raw, _after_blank(raw, place) + 1)
        place = _read(raw, start)[1]
        parts[name] = raw[start:place]
        place = _after_blank(raw, place)
        if raw[place] == ",":
            place = _after_blank(raw, place + 1)
    return parts


def _after_blank(raw: str, place: int) -> int:
    found = _BLANK.match(raw, place)
    assert found is not None
    return found.end()


def _is_unicode(value: object) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(value: object) -> str:
    written = json.dumps(value)
    return written if len(written) <= 60 else f"{written[:60]}..."
