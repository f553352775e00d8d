"""Odd events, each sent alone among healthy ones of another instance. To add one, add a line."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tests.integration.fediverse_log import status

HUGE = 9_223_372_036_854_775_807


@dataclass(frozen=True)
class OddEvent:
    """An event as the wire has it, and what becomes of it: an error that says this, or none."""

    name: str
    event_type: str
    payload: str
    error: str | None = None


_numbers = iter(range(1_000, 10_000))


def _says(name: str, error: str | None = None, *, kind: str = "update", **fields: Any) -> OddEvent:
    """A status with some odd fields."""
    given = {"id": str(next(_numbers)), **fields}
    return OddEvent(name, kind, json.dumps({**status(), **given}), error)


def _field(name: str, field: str, value: object, error: str | None = None) -> OddEvent:
    """A status of which one field is odd."""
    given: dict[str, Any] = {field: value}
    return _says(name, error, **given)


def _without(name: str, field: str, error: str | None = None) -> OddEvent:
    said = status(next(_numbers))
    del said[field]
    return OddEvent(name, "update", json.dumps(said), error)


def _raw(name: str, payload: str, error: str | None = None, kind: str = "update") -> OddEvent:
    return OddEvent(name, kind, payload, error)


def _with(name: str, field: str, text: str, error: str | None = None) -> OddEvent:
    """A status with a field whose JSON is written as it stands."""
    said = json.dumps({**status(next(_numbers)), field: "@"})
    return OddEvent(name, "update", said.replace('"@"', text), error)


def _account(name: str, error: str | None = None, **fields: Any) -> OddEvent:
    return _says(name, error, account={"id": "7", "username": "ann", "acct": "ann", **fields})


def _reblog(name: str, error: str | None = None, **fields: Any) -> OddEvent:
    return _says(name, error, reblog={**status(next(_numbers)), **fields})


def _tags(name: str, tags: object, error: str | None = None) -> OddEvent:
    return _says(name, error, tags=tags)


def _deep(levels: int) -> str:
    return "[" * levels + "]" * levels


COUNTS = ("replies_count", "reblogs_count", "favourites_count")
NUMBER = "expected a whole number"
TIME = "expected an ISO 8601 time"

EVENTS: tuple[OddEvent, ...] = (
    # Counts.
    *(_field(f"{c} of the greatest bigint", c, HUGE, f"{c}: {NUMBER} up to") for c in COUNTS),
    *(_field(f"{c} beyond it", c, HUGE + 1, f"{c}: {NUMBER}") for c in COUNTS),
    *(_field(f"{c} of which a few overflow", c, 1_500_000_000_000_000_000, c) for c in COUNTS),
    *(_field(f"{c} just above the bound", c, 10**12 + 1, c) for c in COUNTS),
    *(_field(f"{c} at the bound", c, 10**12) for c in COUNTS),
    *(_field(f"{c} below zero", c, -1, f"{c}: {NUMBER}") for c in COUNTS),
    _says("a count of a half", f"replies_count: {NUMBER}", replies_count=1.5),
    _says("a count as a text", replies_count="3"),
    _says("a count of no digits", f"replies_count: {NUMBER}", replies_count=""),
    _says("a count in other digits", f"replies_count: {NUMBER}", replies_count="٣"),
    _says("a count that is true", f"replies_count: {NUMBER}", replies_count=True),
    _says("a count that is a list", f"replies_count: {NUMBER}", replies_count=[1]),
    _says("a count that is an object", f"replies_count: {NUMBER}", replies_count={"n": 1}),
    _says("no count", replies_count=None),
    _with("a count of 1e400", "favourites_count", "1e400", f"favourites_count: {NUMBER}"),
    _with("a count of 1e2", "favourites_count", "1e2"),
    _with("a count of a million digits", "favourites_count", "9" * 100_000, "favourites_count: "),
    _with("a count of 1e99999", "favourites_count", "1e99999", "favourites_count: "),
    _with("a count of minus nothing", "favourites_count", "-0"),
    # Ids.
    _says("an id of 10,000 characters", "id: ", id="1" * 10_000),
    _says("an id of letters", id="AbC9xYz"),
    _says("an id of nothing", "id: ", id=""),
    _says("no id", "id: ", id=None),
    _says("an id below zero", id=-5),
    _says("the greatest id", id=str(HUGE)),
    _says("an id beyond it", id=str(HUGE + 1)),
    _says("an id of half a number", "id: ", id=5.5),
    _says("an id that is true", "id: ", id=True),
    _says("an empty id", "id: ", id=""),
    _says("the longest id", id="x" * 255),
    _says("the longest id of the widest characters", id="🐘" * 255),
    _says("a longer id", "id: ", id="x" * 256),
    _says("an id of broken JSON", "id: ", id='{"id":'),
    _says("an id that is an object", "id: ", id={"a": 1}),
    _says("an id with a blank", "id: ", id=" 5"),
    _says("an id of zero", id="0"),
    _says("an answer to itself", id="55555", in_reply_to_id="55555"),
    _says("an answer to what is no id", "in_reply_to_id: ", in_reply_to_id="x y"),
    _says("an answer to the greatest id", in_reply_to_id=str(HUGE)),
    _says("an answer to a list", "in_reply_to_id: ", in_reply_to_id=[1]),
    # Accounts.
    _account("a domain of 2,800 characters", "account.acct: ", acct="bob@" + "x" * 2_800),
    _account("a domain of 254 characters", "account.acct: ", acct="bob@" + "x" * 254),
    _account("a domain of 253 characters", acct="bob@" + "x" * 253),
    _account("a domain of emoji", acct="bob@" + "\U0001f680" * 250),
    _account("an empty domain", acct="bob@"),
    _account("two domains", acct="a@b@c.example"),
    _account("a name of nothing but @", acct="@"),
    _account("a name of a million characters", acct="b" * 1_000_000),
    _account("no name", acct=None),
    _account("a name that is a list", acct=["ann"]),
    _account("an account without id", "account.id: ", id=None),
    _account("an account whose id is a word", id="ann"),
    _account("followers beyond bigint", followers_count=HUGE * 10),
    _account("followers below zero", followers_count=-1),
    _account("an account from the future", created_at="9999-12-31T23:59:59Z"),
    _account("an account from no time", created_at="soon"),
    _account("a bot that is a text", bot="perhaps"),
    _says("no account", "account.id: ", account=None),
    _says("an account that is a list", "account.id: ", account=[1, 2]),
    _says("an account that is a text", "account.id: ", account="ann"),
    _without("a status without an account", "account", "account.id: "),
    # Times.
    _says("the year 0", f"created_at: {TIME}", created_at="0000-01-01T00:00:00Z"),
    _says("the year 99999", f"created_at: {TIME}", created_at="99999-01-01T00:00:00Z"),
    _says("before Christ", f"created_at: {TIME}", created_at="0044-03-15T00:00:00Z BC"),
    _says("minus one", f"created_at: {TIME}", created_at="-0001-01-01T00:00:00Z"),
    _says("the first year", created_at="0001-01-01T00:00:00Z"),
    _says("before it by its offset", "created_at: ", created_at="0001-01-01T00:00:00+14:00"),
    _says("the last instant", created_at="9999-12-31T23:59:59.999999Z"),
    _says("after it by its offset", "created_at: ", created_at="9999-12-31T23:59:59-14:00"),
    _says("the 30th of February", f"created_at: {TIME}", created_at="2025-02-30T00:00:00Z"),
    _says("hour 25", f"created_at: {TIME}", created_at="2025-02-03T25:00:00Z"),
    _says("an offset of 99 hours", f"created_at: {TIME}", created_at="2025-02-03T00:00:00+99:00"),
    _says("a leap second", created_at="2016-12-31T23:59:60Z"),
    _says("infinity", f"created_at: {TIME}", created_at="infinity"),
    _says("now", f"created_at: {TIME}", created_at="now"),
    _says("a time that is a number", f"created_at: {TIME}", created_at=1_700_000_000),
    _says("a time of a million digits", f"created_at: {TIME}", created_at="2" * 1_000_000),
    _says("a time of many decimals", created_at="2025-02-03T00:00:00." + "1" * 100 + "Z"),
    _says("no time", f"created_at: {TIME}", created_at=None),
    _says("edited before it was created", edited_at="2000-01-01T00:00:00Z"),
    _says("edited at no time", f"edited_at: {TIME}", edited_at="later"),
    # Texts.
    _says("an empty status", content="", spoiler_text="", tags=[]),
    _says("content of four million characters", content="x" * 4_000_000),
    _says("content of half a million entities", content="&#x1F680;" * 100_000),
    _says("content of entities beyond Unicode", content="&#x110000;&#0;&#xD800;&#9999999;"),
    _says("content of open brackets", content="<" * 200_000),
    _says("content that is an object", content={"a": 1}),
    _says("content that is a number", content=5),
    _says("no content", content=None),
    _says("a language of a million characters", language="e" * 1_000_000),
    _says("a language that is a list", language=["en"]),
    _says("a visibility of a million characters", "visibility: ", visibility="p" * 1_000_000),
    _says("no visibility", "visibility: ", visibility=None),
    _says("a visibility nobody knows", visibility="everybody"),
    _says("a sensitive that is a text", sensitive="very"),
    _with("a NUL in a text", "content", '"a\\u0000b"', "payload: "),
    _with("half of a surrogate pair", "content", '"a\\ud800b"', "payload: "),
    _says("text from right to left", content="\u202eabc\u2066\u200f\u0000".rstrip("\0")),
    # Hashtags, mentions, media.
    _tags("hashtags of a million characters", [{"name": "Ж" * 1_000_000}] * 3),
    _tags("hashtags of a million plain ones", [{"name": "x" * 1_000_000}] * 3),
    _tags("a hashtag that grows", [{"name": "\ufdfa" * 500}]),
    _tags("ten thousand hashtags", [{"name": f"t{n}"} for n in range(10_000)]),
    _tags("hashtags that are an object", {"name": "x"}),
    _tags("hashtags that are texts", ["x", "y"]),
    _tags("hashtags without names", [{}, {"name": None}, {"name": 5}, {"name": ["a"]}]),
    _tags("hashtags of nothing", [{"name": ""}, {"name": "#"}, {"name": " # "}]),
    _says("mentions that are texts", mentions=["ann"]),
    _says("mentions that are an object", mentions={"id": "1"}),
    _says("mentions without ids", mentions=[{}, {"id": None}, {"id": "x"}, {"id": HUGE * 2}]),
    _says("the same mention many times", mentions=[{"id": "1", "acct": "a"}] * 5_000),
    _says("media without ids", media_attachments=[{}, {"id": []}, 7, None, "x"]),
    _says("forty thousand media", media_attachments=[{"id": str(n)} for n in range(40_000)]),
    _says(
        "a description of a million characters",
        media_attachments=[{"id": "1", "description": "d" * 10**6}],
    ),
    # Reblogs.
    _reblog("a reblog with a huge count", "reblog: favourites_count: ", favourites_count=HUGE),
    _reblog("a reblog without a time", "reblog: created_at: ", created_at=None),
    _reblog(
        "a reblog from a long domain",
        "reblog: account.acct: ",
        account={"id": "1", "acct": "a@" + "x" * 999},
    ),
    _reblog("a reblog of a reblog", reblog=status(77_777)),
    _says("a reblog that is a list", "reblog", reblog=[1]),
    _says("a reblog that is a text", "reblog", reblog="x"),
    # Edits, histories, deletions.
    _says("an edit without time", kind="status.update"),
    _says(
        "an edit of nothing", kind="status.update", content=None, edited_at="2026-11-20T11:30:00Z"
    ),
    _raw("a history of no post", '{"status_id": null, "history": []}', "status_id: ", "history"),
    _raw(
        "a history that is an object", '{"status_id": "5", "history": {}}', "history: ", "history"
    ),
    _raw(
        "a history of scalars",
        '{"status_id": "5", "history": [1, "x", null]}',
        "history, version",
        "history",
    ),
    _raw(
        "a version without time",
        '{"status_id": "5", "history": [{"content": "x"}]}',
        "history, version",
        "history",
    ),
    _raw("a history that is a number", "5", "history: ", "history"),
    _raw("an empty history", '{"status_id": "5", "history": []}', None, "history"),
    _raw("a deletion of nothing", "null", "payload: ", "delete"),
    _raw("a deletion of a word", '"x"', None, "delete"),
    _raw("a deletion of two words", '"x y"', "payload: ", "delete"),
    _raw("a deletion of an object", '{"id": "1"}', "payload: ", "delete"),
    _raw("a deletion of the greatest id", f'"{HUGE}"', None, "delete"),
    _raw("a deletion of more", f'"{HUGE}0"', None, "delete"),
    _raw("a deletion of a long word", f'"{HUGE:0256}"', "payload: ", "delete"),
    _raw("a deletion of half a post", "1.5", "payload: ", "delete"),
    # Payloads.
    _raw("no payload", "null", "payload: "),
    _raw("a payload that is true", "true", "payload: "),
    _raw("a payload that is a number", "5", "payload: "),
    _raw("a payload of 1e400", "1e400", "payload: "),
    _raw("a payload that is a list", "[1, 2]", "payload: "),
    _raw("an empty object", "{}", "id: "),
    _raw("a payload that is an empty text", '""', "payload: "),
    _raw("JSON within a text", json.dumps(json.dumps(status(66_666)))),
    _raw("bad JSON within a text", '"{"', "payload: "),
    _raw("what is no JSON", "<html>503</html>", "payload: "),
    _raw("half a status", '{"id": "5", "content": "x', "payload: "),
    _raw("a thousand levels", _deep(1_000), "payload: "),
    _raw("a hundred thousand levels", _deep(100_000), "payload: "),
    _with("deep within a field", "content", _deep(3_000)),
    _raw("a field twice", '{"id": "1", "id": "2", "content": "x"}', "account.id: "),
    _raw("nothing but blanks", "   ", "payload: "),
    # Names.
    _raw("an event nobody knows", '{"a": 1}', None, "announcement.reaction"),
    _raw("an event of no name", "5", None, ""),
    _raw("an event of a long name", "5", None, "e" * 1_000_000),
    _raw("an event in other letters", json.dumps(status(88_888)), None, "UPDATE"),
)
