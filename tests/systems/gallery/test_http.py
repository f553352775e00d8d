"""The gallery over HTTP, each answer against SQL over its tables, right after a write."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine

from assets.gallery.tallies import system
from tallykeeper import refresh
from tallykeeper.http.app import create_app
from tests.integration.serving_client import Client
from tests.integration.support import create, execute, rows
from tests.systems.gallery.test_reads import TAGS, USERS, add, people

STATS = "/api/v1/content/stats/unified"
UNIFIED = "/api/v1/content/unified"
COUNTED = """
SELECT count(*) FILTER (WHERE source = 'regular' AND creator_id = '{user}') AS user_regular_count,
  count(*) FILTER (WHERE source = 'auto' AND creator_id = '{user}') AS user_auto_count,
  count(*) FILTER (WHERE source = 'regular') AS community_regular_count,
  count(*) FILTER (WHERE source = 'auto') AS community_auto_count
FROM ({items}) AS items"""
ITEMS = """
SELECT 'regular' AS source, id, title, content_type, creator_id, created_at, is_private, tags
FROM gallery.content_items UNION ALL
SELECT 'auto', id, title, content_type, creator_id, created_at, is_private, tags
FROM gallery.content_items_auto"""
IN_ORDER = "created_at DESC, id DESC, source DESC"
USER = USERS[0]


@pytest.fixture
def gallery(engine: Engine) -> Engine:
    """Built, and written to since."""
    create(engine, system)
    people(engine)
    add(engine, "regular", 40)
    for tally in system.tallies:
        refresh(engine, tally)
    add(engine, "auto", 30, seed=2)
    execute(engine, "DELETE FROM gallery.content_items WHERE id % 9 = 0")
    return engine


@pytest.fixture
def client(gallery: Engine) -> Client:
    return Client(create_app(gallery, ["gallery"]))


def counts(engine: Engine, user: UUID | None) -> dict[str, int]:
    query = COUNTED.format(user=user or UUID(int=0), items=ITEMS)
    names = [line.split()[-1].rstrip(",") for line in COUNTED.strip().splitlines()[:4]]
    (row,) = rows(engine, query)
    return dict(zip(names, row, strict=True))


def places(body: dict[str, Any]) -> list[tuple[Any, ...]]:
    return [(item["source"], item["id"]) for item in body["items"]]


def test_counts_are_those_of_the_items(gallery: Engine, client: Client) -> None:
    for user in (None, USER, UUID(int=404)):
        body = client.get(STATS, params={} if user is None else {"user_id": str(user)}).json()
        expected = counts(gallery, user)
        assert list(body) == [*expected, "as_of"]
        assert {name: body[name] for name in expected} == expected


def test_a_page_has_the_newest_items_as_they_are_and_the_counts(
    gallery: Engine, client: Client
) -> None:
    asked = {"page_size": 7, "include_stats": "true", "user_id": str(USER)}
    body = client.get(UNIFIED, params=asked).json()
    assert list(body) == ["items", "next_cursor", "prev_cursor", "stats", "as_of"]
    assert body["stats"] == counts(gallery, USER)
    written = (
        "SELECT jsonb_build_object('source', source, 'id', id, 'title', title, 'content_type',"
        " content_type, 'creator_id', creator_id, 'is_private', is_private, 'tags', tags)"
        f" FROM ({ITEMS}) AS items ORDER BY {IN_ORDER} LIMIT 7"
    )
    moments = [item.pop("created_at") for item in body["items"]]
    assert body["items"] == [row[0] for row in rows(gallery, written)]
    expected = rows(gallery, f"SELECT created_at FROM ({ITEMS}) AS i ORDER BY {IN_ORDER} LIMIT 7")
    assert [datetime.fromisoformat(at) for at in moments] == [at for (at,) in expected]


def test_pages_lead_on_and_back(gallery: Engine, client: Client) -> None:
    all_items = rows(gallery, f"SELECT source, id FROM ({ITEMS}) AS i ORDER BY {IN_ORDER}")
    first = client.get(UNIFIED, params={"page_size": 30}).json()
    second = client.get(UNIFIED, params={"page_size": 30, "cursor": first["next_cursor"]}).json()
    back = client.get(UNIFIED, params={"page_size": 30, "cursor": second["prev_cursor"]}).json()
    assert places(first) == places(back) == all_items[:30]
    assert places(second) == all_items[30:60]
    assert (first["prev_cursor"], back["prev_cursor"]) == (None, None)
    assert "stats" not in first


def test_tags_and_kinds_narrow_a_page(gallery: Engine, client: Client) -> None:
    tags = ",".join(str(tag) for tag in TAGS[:2])
    for match, operator in (("any", "&&"), ("all", "@>")):
        asked: list[tuple[str, str]] = [
            ("tag_names", "red"),
            ("tag_names", str(TAGS[1])),
            ("tag_match", match),
            ("content_source_types", "user-regular,community-auto"),
            ("user_id", str(USER)),
            ("page_size", "1000"),
        ]
        expected = rows(
            gallery,
            f"SELECT source, id FROM ({ITEMS}) AS i WHERE tags {operator} '{{{tags}}}'"
            f" AND (source = 'regular') = (creator_id = '{USER}') ORDER BY {IN_ORDER}",
        )
        assert expected or match == "all"
        assert places(client.get(UNIFIED, params=asked).json()) == expected


def test_tags_are_counted_by_the_items_that_have_them(gallery: Engine, client: Client) -> None:
    query = (
        "SELECT t.name, count(*) FROM gallery.tags AS t JOIN"
        f" (SELECT DISTINCT source, id, unnest(tags) AS tag_id FROM ({ITEMS}) AS i) AS n"
        " ON n.tag_id = t.id WHERE {} GROUP BY t.name ORDER BY 2 DESC, 1 LIMIT {}"
    )
    for asked, condition, limit in (
        ({}, "true", 50),
        ({"prefix": "re"}, "t.name LIKE 're%'", 50),
        ({"source": "auto", "limit": "3"}, "n.source = 'auto'", 3),
    ):
        body = client.get("/api/v1/tags", params=asked).json()
        found = [(tag["name"], tag["count"]) for tag in body["tags"]]
        assert found == rows(gallery, query.format(condition, limit))
        assert found
        assert all(UUID(tag["id"]) in TAGS for tag in body["tags"])


UNASKABLE = [
    "page_size=0",
    "page_size=1001",
    "page_size=9" * 600,
    "page_size=1.5",
    "cursor=nonsense",
    "cursor=%00",
    "cursor=WyIyMDI1Il0",
    "tag_match=some",
    "content_source_types=regular",
    "content_source_types=",
    "content_source_types=user-auto",  # of no user
    "user_id=1",
    "user_id=%00",
    "private=perhaps",
    "tags=red",
    "page_size=1&page_size=2",
    "&".join(["tag_names=a"] * 101),
]


def test_what_cannot_be_asked_is_a_problem(client: Client) -> None:
    for asked in UNASKABLE:
        answer = client.get(f"{UNIFIED}?{asked}")
        assert answer.status_code == 422, (asked[:60], answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["type"] == "urn:tallykeeper:problem:bad-parameter"


def test_a_cursor_of_another_question_is_a_problem(client: Client) -> None:
    cursor = client.get(UNIFIED, params={"page_size": 5}).json()["next_cursor"]
    answer = client.get(UNIFIED, params={"cursor": cursor, "private": "true"})
    assert (answer.status_code, "made for other filters" in answer.json()["detail"]) == (422, True)


def test_odd_texts_are_names_that_no_tag_has(client: Client) -> None:
    for odd in ("%00", "a%00b", "%ed%a0%80", "%ff", "%F0%9F%92%A9", "'; DROP TABLE x; --", "%"):
        assert client.get(f"{UNIFIED}?tag_names={odd}").json()["items"] == []
        assert client.get(f"/api/v1/tags?prefix={odd}").json()["tags"] == []
