"""Pages of the gallery read backwards, and for different creators of each source."""

from __future__ import annotations

import base64
import itertools
import json
from typing import Any

import pytest
from sqlalchemy import Connection, Engine

from assets.gallery.questions import pages
from assets.gallery.questions.plans import Plan
from assets.gallery.reads import BadCursor, Page, content_page
from assets.gallery.tallies import system
from tests.integration.support import create, execute
from tests.systems.gallery.test_reads import (
    FORCED,
    SOURCES,
    TAGS,
    USERS,
    add,
    chosen,
    keeper,
    people,
    places,
    settle,
    stored,
)


@pytest.fixture
def gallery(engine: Engine) -> Engine:
    """Items with many equal moments."""
    create(engine, system)
    people(engine)
    add(engine, "regular", 50)
    add(engine, "auto", 40, seed=2)
    return engine


def onwards(connection: Connection, size: int, **asked: Any) -> list[Page]:
    """All pages, from the newest items to the oldest."""
    found = [content_page(connection, page_size=size, **asked)]
    while (cursor := found[-1]["next_cursor"]) is not None:
        found.append(content_page(connection, page_size=size, cursor=cursor, **asked))
    return found


@pytest.mark.parametrize("plan", [None, *FORCED], ids=str)
@pytest.mark.parametrize("built", [False, True])
def test_going_back_shows_the_same_pages_in_turn(
    gallery: Engine, monkeypatch: pytest.MonkeyPatch, plan: Plan | None, built: bool
) -> None:
    if built:
        settle(gallery)
    if plan is not None:
        monkeypatch.setattr(pages, "choose", lambda *_: plan)
    tagged = [TAGS[2:4]] if plan is not None and plan.way == "gather" else [[], TAGS[2:4]]
    with gallery.connect() as connection:
        for tags, creator, sources in itertools.product(
            tagged, ("all", "user", "community"), (("auto",), SOURCES)
        ):
            asked: dict[str, Any] = {
                "tags": tags,
                "creator": creator,
                "sources": sources,
                "user_id": USERS[0],
            }
            onward = onwards(connection, 4, **asked)
            page = onward[-1]
            for expected in reversed(onward[:-1]):
                page = content_page(connection, page_size=4, cursor=page["prev_cursor"], **asked)
                assert places(page["items"]) == places(expected["items"]), asked
                assert page["next_cursor"] == expected["next_cursor"]
            assert page["prev_cursor"] is None
            assert onward[0]["prev_cursor"] is None


def test_going_back_reaches_what_came_since(gallery: Engine) -> None:
    with gallery.connect() as connection:
        first = content_page(connection, page_size=10)
        second = content_page(connection, page_size=10, cursor=first["next_cursor"])
        connection.rollback()
        execute(
            gallery,
            "INSERT INTO gallery.content_items (creator_id, created_at, tags)"
            f" SELECT '{USERS[0]}', '2026-01-01Z', '{{}}' FROM generate_series(1, 3)",
        )
        before = content_page(connection, page_size=10, cursor=second["prev_cursor"])
        assert before["items"] == first["items"]
        newest = content_page(connection, page_size=10, cursor=before["prev_cursor"])
        assert [item["created_at"].year for item in newest["items"]] == [2026] * 3
        assert newest["prev_cursor"] is None
        again = content_page(connection, page_size=10, cursor=newest["next_cursor"])
        assert again["items"] == first["items"]


def test_where_nothing_lies_there_is_no_cursor(gallery: Engine) -> None:
    with gallery.connect() as connection:
        first = content_page(connection, page_size=10)
        second = content_page(connection, page_size=10, cursor=first["next_cursor"])
        connection.rollback()
        for table in ("content_items", "content_items_auto"):
            execute(gallery, f"DELETE FROM gallery.{table}")
        for cursor in (first["next_cursor"], second["prev_cursor"]):
            page = content_page(connection, page_size=10, cursor=cursor)
            assert page == {"items": [], "next_cursor": None, "prev_cursor": None}


def test_a_cursor_whose_direction_was_altered_is_reported(gallery: Engine) -> None:
    with gallery.connect() as connection:
        first = content_page(connection, page_size=10)
        back = content_page(connection, page_size=10, cursor=first["next_cursor"])["prev_cursor"]
        assert back is not None
        content = json.loads(base64.urlsafe_b64decode(back + "=" * (-len(back) % 4)))
        content.remove("back")
        turned = base64.urlsafe_b64encode(json.dumps(content).encode()).decode()
        with pytest.raises(BadCursor, match="altered"):
            content_page(connection, page_size=10, cursor=turned)


def test_each_source_can_be_asked_of_other_creators(gallery: Engine) -> None:
    kinds = [(creator, source) for creator in ("user", "community") for source in SOURCES]
    items = stored(gallery)
    for number in range(1, len(kinds) + 1):
        for some in itertools.combinations(kinds, number):
            parts = [keeper([], "any", (s,), c, USERS[0], None) for c, s in some]
            expected = chosen(items, lambda *a, parts=parts: any(keep(*a) for keep in parts))
            with gallery.connect() as connection:
                found = onwards(connection, 17, kinds=some, user_id=USERS[0])
            assert [p for page in found for p in places(page["items"])] == expected, some


def test_kinds_that_are_none_are_refused(gallery: Engine) -> None:
    wrong: list[Any] = [[], [("user", "video")], [("nobody", "auto")], [("user", "auto")]]
    with gallery.connect() as connection:
        for kinds in wrong:
            with pytest.raises(ValueError, match="Expected"):
                content_page(connection, kinds=kinds)
