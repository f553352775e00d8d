"""After a refresh only what it wrote is verified, also of a tally without windows."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine

import tallykeeper.catalog.state
from assets.gallery.tallies import (
    content_tags,
    content_tags_left_out,
    gen_source_stats,
    system,
    tag_cardinality_stats,
)
from tallykeeper import Tally, refresh, verify
from tallykeeper.database.sql import CLAIM_WRITING
from tests.integration.support import create, execute, rows, scalar

UNVERIFIED = "SELECT count(*) FROM tallykeeper.unverified_keys"
# The item, the creator, the tag and everybody that the change below touches.
TOUCHED: dict[Tally, int] = {
    gen_source_stats: 2,
    content_tags: 1,
    content_tags_left_out: 0,
    tag_cardinality_stats: 1,
}


@pytest.fixture
def gallery(any_postgres_engine: Engine) -> Engine:
    """Twenty items of ten users with a tag of their own each, built and verified."""
    create(any_postgres_engine, system)
    execute(
        any_postgres_engine,
        "INSERT INTO gallery.users (username) SELECT i FROM generate_series(1, 10) AS i",
        "INSERT INTO gallery.tags (name) SELECT 't' || i FROM generate_series(1, 10) AS i",
        "INSERT INTO gallery.content_items (creator_id, tags)"
        " SELECT u.id, ARRAY[t.id] FROM gallery.users AS u JOIN gallery.tags AS t"
        " ON t.name = 't' || u.username CROSS JOIN generate_series(1, 2)",
    )
    for tally in system.tallies:
        refresh(any_postgres_engine, tally)
        assert verify(any_postgres_engine, tally, "touched").whole
    return any_postgres_engine


def add_an_item(engine: Engine) -> None:
    execute(
        engine,
        "INSERT INTO gallery.content_items (creator_id, tags)"
        " SELECT creator_id, tags FROM gallery.content_items WHERE id = 1",
    )
    for tally in system.tallies:
        refresh(engine, tally)


@pytest.mark.parametrize("tally", TOUCHED, ids=lambda tally: tally.name)
def test_a_refresh_leaves_its_keys_to_be_verified(gallery: Engine, tally: Tally) -> None:
    assert verify(gallery, tally, "touched").compared == 0
    add_an_item(gallery)
    found = verify(gallery, tally, "touched")
    assert (found.ok, found.whole, found.compared) == (True, False, TOUCHED[tally])
    assert verify(gallery, tally, "touched").compared == 0
    assert verify(gallery, tally).ok


def test_what_was_found_wrong_is_looked_at_again(gallery: Engine) -> None:
    add_an_item(gallery)
    execute(
        gallery,
        CLAIM_WRITING,
        "UPDATE gallery.gen_source_stats SET count = 99 WHERE user_id IS NULL",
        "DELETE FROM gallery.content_tags WHERE content_id = 21",
    )
    for _ in range(2):
        (wrong,) = verify(gallery, gen_source_stats, "touched").differences
        assert (wrong.key["user_id"], wrong.stored, wrong.expected) == (
            None,
            {"count": 99},
            {"count": 21},
        )
        (missing,) = verify(gallery, content_tags, "touched").differences
        assert (missing.key["content_id"], missing.stored, missing.expected) == (21, None, {})
    assert scalar(gallery, UNVERIFIED) > 0


def test_very_many_keys_are_verified_as_everything(
    gallery: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tallykeeper.catalog.state, "MOST_KEYS", 5)
    execute(gallery, "UPDATE gallery.content_items SET tags = '{}' WHERE id <= 6")
    refresh(gallery, content_tags)
    assert rows(gallery, f"{UNVERIFIED} WHERE tally = 'gallery.content_tags'") == [(0,)]
    assert verify(gallery, content_tags, "touched").whole
