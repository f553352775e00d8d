"""Filling a derived table that was almost empty: the work must not grow with the square of it.

Counted in scans of the derived table, not in seconds. A planner that takes the table for empty
would scan it once for each row that is put in, past all rows put in before.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import Connection, Engine, event

from assets.gallery.tallies import gen_source_stats
from assets.gallery.tallies import system as gallery
from assets.media.tallies import daily_contributions as daily
from assets.media.tallies import system as media
from tallykeeper import rebuild, refresh, verify
from tests.integration.support import create, execute

DAYS = 400
MANY_DAYS = (
    "INSERT INTO media.media_files (path, original_created_at)"
    " SELECT i, timestamptz '2020-01-01Z' + i * interval '24 hours'"
    f" FROM generate_series(1, {DAYS}) AS i"
)


def scans_of(
    engine: Engine, action: Callable[[], object], table: str = "media.daily_contributions"
) -> int:
    """How often the derived table was scanned from end to end in the transactions of `action`."""
    # The counts are those of a session, which may keep them over several transactions.
    engine.dispose()
    scans = []

    @event.listens_for(engine, "commit")
    def look(connection: Connection) -> None:
        query = (
            "SELECT coalesce(sum(seq_scan), 0) FROM pg_stat_xact_user_tables"
            f" WHERE relid = '{table}'::regclass"
        )
        scans.append(int(connection.exec_driver_sql(query).scalar_one()))

    action()
    event.remove(engine, "commit", look)
    assert scans
    return sum(scans)


@pytest.fixture
def known_to_be_empty(engine: Engine) -> Engine:
    """Both tallies built while there was no file, and the planner knows how small they are."""
    create(engine, media)
    rebuild(engine, daily)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM (ANALYZE) media.daily_contributions")
    return engine


def test_a_refresh_fills_an_empty_table_in_few_scans(known_to_be_empty: Engine) -> None:
    execute(known_to_be_empty, MANY_DAYS)
    assert scans_of(known_to_be_empty, lambda: refresh(known_to_be_empty, daily)) < 20
    assert verify(known_to_be_empty, daily).compared == DAYS


def test_a_rebuild_fills_an_empty_table_in_few_scans(known_to_be_empty: Engine) -> None:
    execute(known_to_be_empty, MANY_DAYS)
    assert scans_of(known_to_be_empty, lambda: rebuild(known_to_be_empty, daily)) < 20
    assert verify(known_to_be_empty, daily).compared == DAYS


def test_a_refresh_of_nullable_keys_goes_by_the_index(engine: Engine) -> None:
    """Everybody's count and one user's among 20,000 are found without reading the others'."""
    create(engine, gallery)
    execute(
        engine,
        "INSERT INTO gallery.users (username) SELECT i FROM generate_series(1, 20000) AS i",
        "INSERT INTO gallery.content_items (creator_id) SELECT id FROM gallery.users",
    )
    refresh(engine, gen_source_stats)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM (ANALYZE)")
    execute(
        engine,
        "INSERT INTO gallery.content_items (creator_id) SELECT id FROM gallery.users LIMIT 2",
        "INSERT INTO gallery.content_items_auto (creator_id) SELECT id FROM gallery.users LIMIT 1",
        "DELETE FROM gallery.content_items WHERE id = 9",
    )
    table = "gallery.gen_source_stats"
    assert scans_of(engine, lambda: refresh(engine, gen_source_stats), table) == 0
    assert verify(engine, gen_source_stats).ok
