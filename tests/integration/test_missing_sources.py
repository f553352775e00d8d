"""A source table that is missing leaves out the tallies that need it, and no others."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine

from assets.gallery.tallies import content_tags, gen_source_stats, system, tag_cardinality_stats
from tallykeeper import DoesNotFit, capture_faults, refresh, status, verify
from tallykeeper.cli.selection import kept_tallies, named_tallies
from tallykeeper.discovery import active_systems, is_kept, left_out
from tallykeeper.installation.migrate import migrate
from tests.integration.support import execute, rows
from tests.systems.gallery.test_migrate import ITEMS, PEOPLE, TAG, USER, _item

USERS = PEOPLE[1]
WITHOUT_USERS = (
    PEOPLE[0],
    PEOPLE[2],
    *(item.replace("REFERENCES gallery.users", "") for item in ITEMS),
)
LACKING_USERS = {"gallery.gen_source_stats": ["gallery.users"]}
LACKING_TAGS = {
    "gallery.content_tags": ["gallery.tags"],
    "gallery.content_tags_left_out": ["gallery.tags"],
    "gallery.tag_cardinality_stats": ["gallery.tags"],
}


def settle(engine: Engine) -> None:
    """All tallies that are not left out are refreshed and right."""
    for tally in named_tallies(engine, ()):
        refresh(engine, tally)
        assert verify(engine, tally).ok
        with engine.connect() as connection:
            assert capture_faults(connection, tally) == []


def test_the_first_migration_makes_what_can_be_made(any_postgres_engine: Engine) -> None:
    engine = any_postgres_engine
    execute(engine, *WITHOUT_USERS, f"INSERT INTO gallery.tags VALUES ('{TAG}', 'sea')")
    result = migrate(engine, [system])
    assert result.left_out == LACKING_USERS
    assert result.skipped == {}
    assert "created the derived table gallery.gen_source_stats" not in result.done
    assert "installed gallery.content_tags (never built)" in result.done
    assert active_systems(engine) == (system,)
    kept = {tally.name: lacking for tally, lacking in kept_tallies(engine).items() if lacking}
    assert kept == LACKING_USERS
    assert gen_source_stats not in named_tallies(engine, ())
    execute(engine, _item("content_items"))
    settle(engine)
    assert migrate(engine, [system]).done == []

    execute(engine, USERS, f"INSERT INTO gallery.users VALUES ('{USER}', 'ann')")
    result = migrate(engine, [system])
    assert result.left_out == {}
    assert result.done == [
        "created the derived table gallery.gen_source_stats",
        "compiled gallery.gen_source_stats: delta",
        "installed gallery.gen_source_stats (never built)",
    ]
    assert status(engine, content_tags).stale == ()
    settle(engine)
    assert rows(engine, "SELECT count FROM gallery.gen_source_stats ORDER BY count") == [(1,), (1,)]
    assert migrate(engine, [system]).done == []


def test_a_source_that_goes_later_stops_only_what_needs_it(engine: Engine) -> None:
    migrate(engine, [system], with_sources=True)
    execute(
        engine,
        f"INSERT INTO gallery.users VALUES ('{USER}', 'ann')",
        f"INSERT INTO gallery.tags VALUES ('{TAG}', 'sea')",
        _item("content_items"),
    )
    settle(engine)
    execute(engine, "ALTER TABLE gallery.tags RENAME TO labels")
    result = migrate(engine, [system])
    assert result.left_out == LACKING_TAGS
    assert [tally.name for tally in named_tallies(engine, ())] == ["gallery.gen_source_stats"]
    # The view of its SELECT follows the table, whatever that is called.
    with pytest.raises(DoesNotFit, match=r"gallery\.tags: was renamed to gallery\.labels"):
        refresh(engine, content_tags)
    execute(engine, _item("content_items_auto"))
    settle(engine)
    assert status(engine, gen_source_stats).stale == ()

    execute(engine, "ALTER TABLE gallery.labels RENAME TO tags")
    assert migrate(engine, [system]).left_out == {}
    assert content_tags in named_tallies(engine, ())
    settle(engine)
    assert rows(engine, "SELECT count(*) FROM gallery.content_tags") == [(2,)]
    assert tag_cardinality_stats in named_tallies(engine, ())


@pytest.mark.parametrize("kept", [(), ("CREATE TABLE gallery.tags (id uuid PRIMARY KEY)",)])
def test_a_system_of_which_no_tally_can_be_kept_is_skipped(
    engine: Engine, kept: tuple[str, ...]
) -> None:
    execute(engine, "CREATE SCHEMA gallery", *kept)
    result = migrate(engine, [system])
    assert list(result.skipped) == ["gallery"]
    assert result.left_out == {}
    with engine.connect() as connection:
        assert not is_kept(connection, system)
        assert set(left_out(connection, system)) == set(system.tallies)
