"""Cursors and questions of the gallery: what is distinguished, and what is refused."""

from __future__ import annotations

import base64
import json
from typing import Any
from uuid import UUID

import pytest

from assets.gallery.questions.cursors import BadCursor, Place, decode, encode
from assets.gallery.questions.filters import checked
from assets.gallery.questions.plans import Outlook, Plan, choose
from tallykeeper.reads import cursors

PLACE = Place("2025-11-20 10:00:00.000001+00", 17, "auto")
ANNA = UUID(int=0xA)
ARGUMENTS: dict[str, Any] = {
    "tags": ["red", ANNA],
    "match": "any",
    "sources": ("regular", "auto"),
    "creator": "all",
    "user_id": None,
    "private": None,
}


def question(**changed: Any) -> str:
    return str(checked(**(ARGUMENTS | changed)))


@pytest.mark.parametrize(
    "moment",
    [
        "2025-11-20 10:00:00.000001+00",
        "infinity",
        "-infinity",
        "0044-03-15 12:00:00.000000+00 BC",
        "29496-01-01 00:00:00.000000+00",
    ],
)
def test_a_cursor_gives_back_its_place(moment: str) -> None:
    place = PLACE._replace(created_at=moment)
    assert decode(encode(place, "red"), "red") == place


def test_a_cursor_can_stand_in_an_address_as_it_is() -> None:
    for number in range(50):
        cursor = encode(PLACE._replace(id=number), "red")
        assert cursor.replace("-", "").replace("_", "").isalnum()


def test_a_cursor_of_another_question_is_reported() -> None:
    cursor = encode(PLACE, question())
    others: list[dict[str, Any]] = [
        {"tags": ["red"]},
        {"tags": ["red", str(ANNA)]},
        {"match": "all"},
        {"sources": "auto"},
        {"creator": "user", "user_id": ANNA},
        {"creator": "community", "user_id": ANNA},
        {"private": True},
        {"private": False},
    ]
    for changed in others:
        with pytest.raises(BadCursor, match="made for other filters"):
            decode(cursor, question(**changed))


def test_the_same_question_put_otherwise_takes_the_cursor() -> None:
    cursor = encode(PLACE, question())
    for changed in (
        {"tags": [ANNA, "red", "red"]},
        {"sources": ["auto", "regular"]},
        {"creator": ["user", "community"], "user_id": ANNA},
        {"creator": "community"},
        {"user_id": ANNA},
    ):
        assert decode(cursor, question(**changed)) == PLACE


def test_a_cursor_with_any_character_changed_or_cut_off_is_reported() -> None:
    cursor = encode(PLACE, "red")
    for position in range(len(cursor)):
        other = "A" if cursor[position] != "A" else "B"
        changed = cursor[:position] + other + cursor[position + 1 :]
        # The last character has bits that say nothing.
        if base64.urlsafe_b64decode(changed + "==") == base64.urlsafe_b64decode(cursor + "=="):
            continue
        with pytest.raises(BadCursor):
            decode(changed, "red")
        with pytest.raises(BadCursor):
            decode(cursor[:position], "red")


@pytest.mark.parametrize(
    "content",
    [
        ("2025-02-30 10:00:00.000000+00", "1", "auto"),
        ("2025-11-20'; DROP TABLE tags --", "1", "auto"),
        ("0000-01-01 00:00:00.000000+00", "1", "auto"),
        ("infinity", "True", "auto"),
        ("infinity", str(2**31), "auto"),
        ("infinity", "1"),
        ("infinity", "1", "auto", "on"),
    ],
)
def test_what_no_page_could_have_given_is_no_cursor(content: tuple[str, ...]) -> None:
    with pytest.raises(BadCursor, match="as a page has it"):
        decode(cursors.encode(content, "red"), "red")


@pytest.mark.parametrize("content", [["infinity", 1, "x"], ["a"], [], {"infinity": 1}, None])
def test_what_has_another_form_is_no_cursor(content: object) -> None:
    cursor = base64.urlsafe_b64encode(json.dumps(content).encode()).decode()
    with pytest.raises(BadCursor, match="Expected a cursor"):
        decode(cursor, "red")


@pytest.mark.parametrize("cursor", ["", "é", "a b", "====", "A" * 5_000, "W1tb", 7, b"abcd"])
def test_what_is_no_text_of_a_cursor_is_reported(cursor: object) -> None:
    with pytest.raises(BadCursor, match="none to begin anew"):
        decode(cursor, "red")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"match": "some"}, "'any' or 'all'"),
        ({"sources": ()}, "one or more of 'regular', 'auto'"),
        ({"sources": "video"}, "one or more of 'regular', 'auto'"),
        ({"creator": "nobody"}, "one or more of 'all', 'user', 'community'"),
        ({"creator": []}, "one or more of 'all'"),
        ({"creator": "user"}, "Expected a `user_id`"),
        ({"user_id": "Anna"}, "to be a UUID"),
        ({"user_id": 7}, "to be a UUID"),
        ({"private": "no"}, "True, False or None"),
        ({"tags": "red"}, r"write \['red'\]"),
        ({"tags": [7]}, "a UUID or a name"),
    ],
)
def test_what_cannot_be_asked_is_reported(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        checked(**(ARGUMENTS | changed))


def outlook(*tagged: int, every: bool = False, eligible: int = 1_000_000) -> Outlook:
    return Outlook(1_000_000, eligible, tagged, every)


def test_common_tags_are_walked_to_and_others_gathered() -> None:
    assert choose(outlook(300_000), 21).way == "walk"
    assert choose(outlook(200), 21) == Plan("gather", None)
    middling = choose(outlook(10_000), 21)
    assert middling.way == "gather"
    assert middling.rows is not None


def test_all_of_a_common_and_a_rare_tag_are_gathered() -> None:
    assert choose(outlook(500_000, 100, every=True), 21) == Plan("gather", None)
    assert choose(outlook(500_000, 100), 21).way == "walk"


def test_few_items_of_a_user_are_walked_rather_than_many_of_a_tag_gathered() -> None:
    assert choose(outlook(30_000, eligible=200), 21).way == "walk"


def test_a_tag_that_no_item_has_is_left_to_the_index() -> None:
    assert choose(outlook(0), 21) == Plan("gather", None)


def test_where_nothing_is_known_a_short_walk_comes_first_and_ever_longer_gatherings() -> None:
    plan = choose(Outlook(None, None, [0], every=False), 21)
    assert plan.way == "walk"
    assert plan.rows is not None
    following = plan.after(None, 3, 21)
    assert following.way == "gather"
    assert following.rows is not None
    assert following.rows > plan.rows
    assert following.after(following.rows * 8, 3, 21) == Plan("gather", None)


def test_after_a_step_that_found_few_all_of_them_are_gathered_at_once() -> None:
    assert Plan("walk", 2_000).after(1_000_000, 1, 21) == Plan("gather", None)
    following = Plan("walk", 2_000).after(1_000_000, 15, 21)
    assert following.way == "gather"
    assert following.rows is not None
