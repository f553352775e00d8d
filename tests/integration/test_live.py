"""Live views: who may read them, and what they answer before, between and after refreshes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from psycopg.errors import SerializationFailure
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError

from assets.gallery.tallies import system as gallery
from assets.media.tallies import daily_contributions, system
from tallykeeper import System, install, refresh
from tallykeeper.installation.migrate import migrate

READER = "tally_test_reader"


@pytest.fixture
def installed(any_postgres_engine: Engine) -> Engine:
    with any_postgres_engine.begin() as connection:
        connection.execute(text("CREATE SCHEMA media"))
        system.metadata.create_all(connection)
        install(connection, system.tallies)
    return any_postgres_engine


@pytest.fixture
def reader(installed: Engine) -> Iterator[str]:
    with installed.begin() as connection:
        connection.execute(text(f"CREATE ROLE {READER}"))
        connection.execute(text(f"GRANT USAGE ON SCHEMA media TO {READER}"))
        connection.execute(text(f"GRANT SELECT ON media.daily_contributions_live TO {READER}"))
        # Migrating again is what lets the view's reader execute the functions that it calls.
        assert install(connection, system.tallies) == []
    yield READER
    with installed.begin() as connection:
        connection.execute(text(f"DROP OWNED BY {READER}"))
        connection.execute(text(f"DROP ROLE {READER}"))


def _add(engine: Engine, path: str, taken: str) -> None:
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO media.media_files (path, original_created_at) VALUES (:p, :t)"),
            {"p": path, "t": taken},
        )


def _live(engine: Engine, *before: str) -> list[tuple[str, int]]:
    with engine.begin() as connection:
        for statement in before:
            connection.execute(text(statement))
        rows = connection.execute(
            text(
                "SELECT to_char(date AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI'), count"
                " FROM media.daily_contributions_live ORDER BY date"
            )
        )
        return [(row[0], row[1]) for row in rows]


def test_a_reader_needs_only_the_view_whether_built_or_not(installed: Engine, reader: str) -> None:
    _add(installed, "a", "2025-11-20T10:00:00Z")
    become = f"SET LOCAL ROLE {reader}"
    assert _live(installed, become) == [("2025-11-20 00:00", 1)]
    refresh(installed, daily_contributions)
    _add(installed, "b", "2025-11-20T11:00:00Z")
    assert _live(installed, become) == [("2025-11-20 00:00", 2)]


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "America/Anchorage"])
def test_days_are_utc_in_every_session(installed: Engine, zone: str) -> None:
    local = f"SET LOCAL timezone = '{zone}'"
    with installed.begin() as connection:
        connection.execute(text(local))
        connection.execute(
            text(
                "INSERT INTO media.media_files (path, original_created_at)"
                " VALUES ('a', '2025-11-20T23:59:59Z'), ('b', '2025-11-21T00:00:00Z')"
            )
        )
    both = [("2025-11-20 00:00", 1), ("2025-11-21 00:00", 1)]
    assert _live(installed, local) == both
    refresh(installed, daily_contributions)
    assert _live(installed, local) == both


def test_the_sources_are_not_read_while_the_tally_is_fresh(installed: Engine) -> None:
    _add(installed, "a", "2025-11-20T10:00:00Z")
    refresh(installed, daily_contributions)
    with installed.begin() as connection:
        rows = connection.execute(
            text(
                "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF)"
                " SELECT * FROM media.daily_contributions_live"
            )
        )
        plan = "\n".join(row[0] for row in rows)
    fallback = plan[plan.index("media_daily_contributions_from_sources") :]
    assert "(never executed)" in fallback.splitlines()[0]


@pytest.mark.parametrize(
    ("system", "before"),
    [
        (system, None),
        # Another in place of one that was there: of the derived table, of one that it counts.
        (system, "media.hourly_contributions"),
        (gallery, "gallery.content_tags"),
    ],
    ids=["first", "anew", "counted"],
)
def test_a_snapshot_that_is_older_than_a_table_is_refused_an_answer(
    engine: Engine, system: System, before: str | None
) -> None:
    with engine.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {system.name}"))
        derived = set(system.derived)
        sources = [t for t in system.metadata.sorted_tables if t not in derived]
        system.metadata.create_all(connection, tables=sources)
    if before is not None:
        migrate(engine, [system])
        for tally in system.tallies:
            refresh(engine, tally)
    read = text(f"SELECT * FROM {system.tallies[-1].live_name}")
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as older:
        older.execute(text("SELECT count(*) FROM pg_class"))
        if before is not None:
            with engine.begin() as connection:
                connection.execute(text("CREATE SCHEMA former"))
                connection.execute(text(f"ALTER TABLE {before} SET SCHEMA former"))
        migrate(engine, [system])
        with pytest.raises(OperationalError, match="was made, truncated") as refused:
            older.execute(read)
        assert isinstance(refused.value.orig, SerializationFailure)
        older.rollback()
        assert older.execute(read).all() == []
