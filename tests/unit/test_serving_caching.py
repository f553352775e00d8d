"""What the service keeps in memory of its answers, and how it reads If-None-Match."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal

from tallykeeper.http.answers import with_moment, written
from tallykeeper.http.caching import Remembered, entity_tag, is_known


def test_the_answers_asked_for_longest_ago_make_room() -> None:
    kept: Remembered[bytes] = Remembered(most=10)
    for tag in ("a", "b"):
        kept.put(tag, b"12345")
    assert kept.get("a") == b"12345"
    kept.put("c", b"12345")
    assert [kept.get(tag) for tag in ("a", "b", "c")] == [b"12345", None, b"12345"]
    kept.put("d", b"longer than all of it")
    assert [kept.get(tag) for tag in ("a", "c", "d")] == [None, None, None]
    kept.put("e", b"12345")
    kept.put("e", b"12345")
    assert kept.get("e") == b"12345"


def test_the_moment_stands_at_the_end_of_an_answer() -> None:
    at = datetime(2025, 11, 20, 14, 3, 11, 240512, UTC)
    body = with_moment(written({"n": {"}": "x"}}), at)
    assert body == b'{"n":{"}":"x"},"as_of":"2025-11-20T14:03:11.240512Z"}'
    assert json.loads(body)["n"] == {"}": "x"}


def test_numbers_keep_all_their_digits_and_what_is_none_is_null() -> None:
    given = {
        "sum": Decimal("12345678901234567890.10"),
        "none": Decimal("NaN"),
        "small": Decimal("1E-9"),
    }
    assert written(given) == b'{"sum":12345678901234567890.10,"none":null,"small":0.000000001}'


def test_a_tag_is_known_by_the_weak_comparison() -> None:
    tag = entity_tag("state", "question")
    assert tag.startswith('W/"')
    known = [tag, tag.removeprefix("W/"), f'"x",{tag}', "*", " * "]
    assert all(is_known(tag, given) for given in known)
    unknown = [None, "", '"x"', tag.strip('W/"')]
    assert not any(is_known(tag, given) for given in unknown)
    assert entity_tag("state", "another") != tag != entity_tag("another", "question")
