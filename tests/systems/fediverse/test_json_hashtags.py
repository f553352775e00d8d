"""Reads of posts whose hashtags stand in their JSON alone, as in tables that were adopted."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine

from assets.fediverse.questions import json_hashtags
from assets.fediverse.reads import (
    HashtagHour,
    Pair,
    growing_hashtags,
    hashtag_cooccurrence,
    hashtag_series,
    spiking_hashtags,
    trending_hashtags,
)
from assets.fediverse.tallies import system
from tallykeeper import refresh
from tests.fediverse_posts import add_instance, add_post
from tests.integration.fediverse_log import created
from tests.integration.support import execute
from tests.servers import Servers

NOON = datetime(2025, 11, 20, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
SPAN = (NOON - 24 * HOUR, NOON + HOUR)


@pytest.fixture(scope="module")
def database(postgres_servers: Servers) -> Iterator[Engine]:
    with created(postgres_servers) as engine:
        yield engine


@pytest.fixture
def here(database: Engine, request: pytest.FixtureRequest) -> int:
    """An instance of the test's own."""
    return add_instance(database, f"https://{request.node.name}.example")


USES = [
    (0.5, ["cats", "dogs"]),
    (0.4, ["cats"]),
    (0.3, ["cats", "dogs"]),
    (0.2, ["new"]),
    (0.1, ["new"]),
    (0.1, ["new"]),
    (20, ["cats"]),
    (23.6, ["dogs"]),
]


def use(engine: Engine, here: int) -> list[Any]:
    """Posts with rows for their hashtags, and with the same in their JSON."""
    posts = [
        add_post(engine, here, NOON - age * HOUR, tags=tags, account_id=n % 3, favourites_count=n)
        for n, (age, tags) in enumerate(USES)
    ]
    add_post(engine, here, NOON, tags=["cats", "dogs"], visibility="private")
    add_post(engine, here, NOON)
    execute(
        engine,
        "UPDATE fediverse.mastodon_posts AS p SET hashtags = (SELECT coalesce(jsonb_agg(h.name"
        " ORDER BY h.name), '[]') FROM fediverse.post_hashtags AS u JOIN fediverse.hashtags AS h"
        " ON h.id = u.hashtag_id AND h.instance_id = u.instance_id"
        " WHERE u.instance_id = p.instance_id AND u.post_id = p.id)"
        f" WHERE p.instance_id = {here}",
    )
    for tally in system.tallies:
        refresh(engine, tally)
    return posts


def answers(engine: Engine, here: int) -> dict[str, Any]:
    with engine.connect() as connection:
        series = {
            name: hashtag_series(connection, here, name, *SPAN) for name in ("#Cats", "dogs", "x")
        }
        return {
            **series,
            "pairs": hashtag_cooccurrence(connection, here, None, *SPAN),
            "pairs of one": hashtag_cooccurrence(connection, here, "Dogs", *SPAN),
            "trending": trending_hashtags(connection, here, NOON, minimum_accounts=2, above=0.1),
            "growing": growing_hashtags(connection, here, NOON, minimum_accounts=2),
            "spiking": spiking_hashtags(connection, here, NOON),
        }


@pytest.mark.parametrize("lacking", ["all", "the older ones"])
def test_reads_answer_the_same_from_the_json_of_posts_without_rows(
    database: Engine, here: int, lacking: str
) -> None:
    use(database, here)
    expected = answers(database, here)
    assert [(t.name, t.posts) for t in expected["growing"]] == [("cats", 3), ("new", 3)]
    assert expected["pairs"] == [Pair("cats", "dogs", 2, 2)]
    which = "" if lacking == "all" else f"AND p.created_at < '{NOON - 0.35 * HOUR}'"
    execute(
        database,
        "DELETE FROM fediverse.post_hashtags AS u USING fediverse.mastodon_posts AS p"
        f" WHERE p.instance_id = {here} AND u.instance_id = {here} AND u.post_id = p.id {which}",
    )
    assert answers(database, here) == expected


def test_hashtags_that_nothing_else_knows_are_read_too(database: Engine, here: int) -> None:
    for number in range(3):
        add_post(database, here, NOON - HOUR, account_id=number)
    # As names, as objects of the API, once each, and what is no name.
    tags = '["#Straße", {"name": "STRASSE"}, {"name": "Sea", "url": "u"}, 7, null, {}, ""]'
    execute(
        database,
        f"UPDATE fediverse.mastodon_posts SET hashtags = '{tags}' WHERE instance_id = {here}",
    )
    add_post(database, here, NOON - HOUR)
    for odd in ("null", '"cats"', '{"name": "cats"}'):
        post = add_post(database, here, NOON - 2 * HOUR)
        execute(
            database,
            f"UPDATE fediverse.mastodon_posts SET hashtags = '{odd}' WHERE id = '{post}'",
        )
    found = answers(database, here)
    assert [(t.name, t.hashtag_id, t.posts, t.accounts) for t in found["trending"]] == [
        ("sea", None, 3, 3),
        ("strasse", None, 3, 3),
    ]
    assert found["pairs"] == [Pair("sea", "strasse", 3, 3)]
    with database.connect() as connection:
        hours = hashtag_series(connection, here, "strasse", NOON - HOUR, NOON)
    assert hours == [HashtagHour(NOON - HOUR, 3, 3, 0)]


def test_rows_come_before_the_json_of_the_same_post(database: Engine, here: int) -> None:
    one, other = (add_post(database, here, NOON - HOUR, tags=["rows"]) for _ in range(2))
    execute(
        database,
        f"UPDATE fediverse.mastodon_posts SET hashtags = '[\"json\"]' WHERE instance_id = {here}",
        f"DELETE FROM fediverse.post_hashtags WHERE post_id = '{other}'",
    )
    with database.connect() as connection:
        found = spiking_hashtags(connection, here, NOON, above=0, minimum_posts=1)
        series = {
            name: sum(h.posts for h in hashtag_series(connection, here, name, *SPAN))
            for name in ("rows", "json")
        }
    assert (found, series) == ([], {"rows": 1, "json": 1}), one


@pytest.mark.parametrize("looked_at", [json_hashtags.LOOKED_AT, 50], ids=["all", "the ends"])
@pytest.mark.parametrize("lacking", ["first", "middle", "last"])
def test_one_post_without_rows_is_found_among_many(
    database: Engine, here: int, monkeypatch: pytest.MonkeyPatch, lacking: str, looked_at: int
) -> None:
    """Whichever it is, but in the middle of more than twice as many as each end is."""
    monkeypatch.setattr(json_hashtags, "LOOKED_AT", looked_at)
    posts = [add_post(database, here, NOON - HOUR, tags=["sea", "old"]) for _ in range(3)]
    execute(
        database,
        "INSERT INTO fediverse.mastodon_posts (instance_id, id, account_id, domain, visibility,"
        " created_at, first_seen_at, hashtags) SELECT instance_id, id || '-' || n, account_id,"
        f" domain, visibility, timestamptz '{NOON}' - n * interval '1 minute', first_seen_at,"
        ' \'["sea", "old"]\' FROM fediverse.mastodon_posts, generate_series(1, 50) AS n'
        f" WHERE instance_id = {here}",
        "INSERT INTO fediverse.post_hashtags SELECT p.instance_id, p.id, u.hashtag_id"
        " FROM fediverse.mastodon_posts AS p JOIN fediverse.post_hashtags AS u"
        " ON u.instance_id = p.instance_id AND u.post_id = split_part(p.id, '-', 1)"
        f" WHERE p.instance_id = {here} AND p.id LIKE '%-%'",
    )
    post = {"first": f"{posts[0]}-50", "middle": f"{posts[1]}-25", "last": f"{posts[2]}-1"}[lacking]
    execute(
        database,
        f"DELETE FROM fediverse.post_hashtags WHERE post_id = '{post}'",
        f"UPDATE fediverse.mastodon_posts SET hashtags = '[\"new\", \"sea\"]' WHERE id = '{post}'",
    )
    with database.connect() as connection:
        found = hashtag_cooccurrence(connection, here, "new", *SPAN)
        if (lacking, looked_at) == ("middle", 50):
            assert found == []
            return
        assert found == [Pair("new", "sea", 1, 1)]
        (pair,) = hashtag_cooccurrence(connection, here, "old", *SPAN)
        # Of the three that the others were copied from the JSON is empty, and the rows are there.
        assert pair == Pair("old", "sea", 152, 1)
