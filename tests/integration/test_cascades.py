"""Rows of a derived table that go by a cascade: with a referenced user, with a referenced tag."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from assets.gallery.tallies import (
    content_tags,
    gen_source_stats,
    system,
    tag_cardinality_stats,
)
from tallykeeper import TallyBusy, capture_faults, install, rebuild, refresh, status, verify
from tallykeeper.catalog import transactions as engine_transactions
from tallykeeper.database.sql import CLAIM_WRITING
from tests.integration.support import create, execute, rows, scalar, stale_reasons
from tests.templates import fill

ANNA = "00000000-0000-0000-0000-00000000000a"
BERT = "00000000-0000-0000-0000-00000000000b"
RED = "00000000-0000-0000-0000-0000000000ed"
BLUE = "00000000-0000-0000-0000-0000000000bb"
LIVE = (
    "SELECT right(user_id::text, 1), source_type, count FROM gallery.gen_source_stats_live"
    " ORDER BY 1, 2"
)
STORED = LIVE.replace("_live", "")
LOG = "tallykeeper.gallery_gen_source_stats_log"


@pytest.fixture
def gallery(any_postgres_engine: Engine) -> Engine:
    """Three items of Anna's, two of Bert's, all red; everything built."""
    fill(any_postgres_engine, "gallery_of_two", _build)
    return any_postgres_engine


def _build(engine: Engine) -> None:
    create(engine, system)
    execute(
        engine,
        f"INSERT INTO gallery.users VALUES ('{ANNA}', 'Anna'), ('{BERT}', 'Bert')",
        f"INSERT INTO gallery.tags VALUES ('{RED}', 'red'), ('{BLUE}', 'blue')",
        "INSERT INTO gallery.content_items (creator_id, tags)"
        f" SELECT uuid '{ANNA}', '{{{RED}}}'::uuid[] FROM generate_series(1, 3)"
        f" UNION ALL SELECT '{BERT}', '{{{RED}}}' FROM generate_series(1, 2)",
    )
    settle(engine)


def settle(engine: Engine) -> None:
    for tally in system.tallies:
        refresh(engine, tally)
        assert verify(engine, tally).ok, tally


@pytest.mark.parametrize("settled", [True, False])
def test_a_user_deleted_with_all_items_leaves_no_count(gallery: Engine, settled: bool) -> None:
    if not settled:
        execute(gallery, f"INSERT INTO gallery.content_items_auto (creator_id) VALUES ('{ANNA}')")
    execute(
        gallery,
        f"DELETE FROM gallery.content_items WHERE creator_id = '{ANNA}'",
        f"DELETE FROM gallery.content_items_auto WHERE creator_id = '{ANNA}'",
        f"DELETE FROM gallery.users WHERE id = '{ANNA}'",
    )
    left = [("b", "regular", 2), (None, "regular", 2)]
    assert rows(gallery, LIVE) == left
    assert verify(gallery, gen_source_stats).ok
    settle(gallery)
    assert rows(gallery, STORED) == left
    assert rows(gallery, LIVE) == left


def test_a_user_deleted_after_a_refresh_leaves_no_count(gallery: Engine) -> None:
    execute(gallery, f"DELETE FROM gallery.content_items WHERE creator_id = '{ANNA}'")
    settle(gallery)
    execute(gallery, f"DELETE FROM gallery.users WHERE id = '{ANNA}'")
    assert scalar(gallery, f"SELECT count(*) FROM {LOG}") == 0
    settle(gallery)


def test_a_count_deleted_by_hand_is_not_mistaken_for_a_cascade(gallery: Engine) -> None:
    execute(
        gallery, CLAIM_WRITING, f"DELETE FROM gallery.gen_source_stats WHERE user_id = '{BERT}'"
    )
    assert scalar(gallery, f"SELECT count(*) FROM {LOG}") == 0
    (difference,) = verify(gallery, gen_source_stats).differences
    assert difference.key == {"user_id": BERT, "source_type": "regular"}
    rebuild(gallery, gen_source_stats)
    assert verify(gallery, gen_source_stats).ok


def test_a_missing_cascade_trigger_is_named_and_resolved(gallery: Engine) -> None:
    execute(gallery, "DROP TRIGGER tallykeeper_cascade ON gallery.gen_source_stats")
    with gallery.connect() as connection:
        assert capture_faults(connection, gen_source_stats) == [
            "gallery.gen_source_stats: the cascade trigger is missing"
        ]
    with gallery.begin() as connection:
        assert "repaired gallery.gen_source_stats: the cascade trigger is missing" in install(
            connection, system.tallies
        )
    assert stale_reasons(gallery, gen_source_stats.name)
    with gallery.connect() as connection:
        assert not capture_faults(connection, gen_source_stats)


def test_a_deleted_tag_takes_its_links_and_its_cardinality_along(gallery: Engine) -> None:
    execute(gallery, f"DELETE FROM gallery.tags WHERE id = '{RED}'")
    for relation in ("content_tags_live", "tag_cardinality_stats_live", "content_tags"):
        assert scalar(gallery, f"SELECT count(*) FROM gallery.{relation}") == 0
    for tally in (content_tags, tag_cardinality_stats):
        assert verify(gallery, tally).ok
    settle(gallery)
    assert scalar(gallery, "SELECT count(*) FROM gallery.content_tags_left_out") == 5


@contextmanager
def being_deleted(engine: Engine, tag: str) -> Iterator[Connection]:
    """A transaction that has deleted the items' tag, and has still to wait for the junction."""
    with engine.connect() as connection, connection.begin():
        connection.execute(text("SET LOCAL lock_timeout = '20s'"))
        connection.execute(
            text("SELECT FROM gallery.tags WHERE id = :tag FOR UPDATE"), {"tag": tag}
        )
        yield connection


def test_a_refresh_lets_the_deletion_of_a_tag_go_first(gallery: Engine) -> None:
    execute(gallery, f"UPDATE gallery.content_items SET tags = '{{{RED},{BLUE}}}'")
    outcome: list[str] = []
    with being_deleted(gallery, BLUE) as connection:
        refreshing = threading.Thread(
            target=lambda: outcome.append(refresh(gallery, content_tags).how)
        )
        refreshing.start()
        # However the two interleave, it is never the application that fails.
        connection.execute(text("DELETE FROM gallery.tags WHERE id = :tag"), {"tag": BLUE})
    refreshing.join(timeout=60)
    assert outcome == ["refresh"]
    settle(gallery)
    assert scalar(gallery, "SELECT count(*) FROM gallery.content_tags") == 5


def test_a_refresh_gives_up_on_a_tag_that_is_being_deleted_for_long(
    gallery: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_transactions, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(engine_transactions, "ATTEMPTS", 1)
    execute(gallery, f"UPDATE gallery.content_items SET tags = '{{{RED},{BLUE}}}'")
    busy = pytest.raises(TallyBusy, match=r"locks on gallery\.tags are held by .*1 of 1 rows")
    with being_deleted(gallery, BLUE), busy:
        refresh(gallery, content_tags)
    settle(gallery)


@pytest.mark.parametrize("live", ["gen_source_stats", "content_tags", "tag_cardinality_stats"])
def test_a_snapshot_older_than_a_truncation_gets_an_error_and_no_wrong_figure(
    gallery: Engine, live: str
) -> None:
    """TRUNCATE empties the derived table too, at once and for all snapshots."""
    execute(gallery, "DELETE FROM gallery.content_items WHERE id < 3")
    query = text(f"SELECT * FROM gallery.{live}_live")
    older = gallery.connect().execution_options(isolation_level="REPEATABLE READ")
    with older as connection:
        connection.execute(text("SELECT count(*) FROM pg_class"))
        execute(gallery, "TRUNCATE gallery.users, gallery.tags CASCADE")
        with pytest.raises(DBAPIError, match="truncated or rewritten"):
            connection.execute(query)
    with gallery.connect() as connection:
        assert connection.execute(query).all() == []


def test_rows_that_a_cascade_took_are_not_counted_any_more(gallery: Engine) -> None:
    execute(
        gallery,
        f"DELETE FROM gallery.content_items WHERE creator_id = '{ANNA}'",
        f"DELETE FROM gallery.users WHERE id = '{ANNA}'",
        f"DELETE FROM gallery.tags WHERE id = '{RED}'",
    )
    counted = {
        tally: f"SELECT count(*) FROM gallery.{tally.table.name}"
        for tally in (gen_source_stats, content_tags)
    }
    for tally, rows_now in counted.items():
        assert status(gallery, tally).rows == scalar(gallery, rows_now)
    settle(gallery)
    assert scalar(gallery, "SELECT count(*) FROM tallykeeper.cascaded") == 0
    for tally, rows_now in counted.items():
        assert status(gallery, tally).rows == scalar(gallery, rows_now)
