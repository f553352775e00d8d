"""A migration makes or adopts what tallies need, in one transaction, and says what it did."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Connection,
    DateTime,
    Engine,
    Integer,
    MetaData,
    Table,
    cast,
    create_engine,
    func,
    inspect,
    select,
    text,
)
from sqlalchemy.exc import DBAPIError

from assets.media.tallies import daily_contributions, hourly_contributions, system
from tallykeeper import (
    DoesNotFit,
    NotPermitted,
    SelectTally,
    System,
    TallyBusy,
    refresh,
    status,
    verify,
)
from tallykeeper.catalog import schema_version
from tallykeeper.discovery import active_systems, all_systems, chosen_systems, missing_sources
from tallykeeper.installation.install import INSTALL_LOCK
from tallykeeper.installation.migrate import Migrated, migrate
from tallykeeper.settings import SettingError
from tests import tag_hours

CREATED = [
    "created the derived table media.daily_contributions",
    "created the derived table media.hourly_contributions",
]
INSTALLED = [
    "compiled media.daily_contributions: delta",
    "compiled media.hourly_contributions: delta",
    "installed media.daily_contributions (never built)",
    "installed media.hourly_contributions (never built)",
]
SOURCE = (
    "CREATE TABLE media.media_files (id bigint PRIMARY KEY, path text UNIQUE NOT NULL,"
    " original_created_at timestamptz, created_at timestamptz NOT NULL DEFAULT now())"
)
DERIVED = (
    "CREATE TABLE media.daily_contributions (id serial PRIMARY KEY, date timestamp NOT NULL UNIQUE,"
    " count bigint NOT NULL, created_at timestamp, updated_at timestamp NOT NULL, note text)"
)


def make(engine: Engine, *statements: str) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE SCHEMA IF NOT EXISTS media")
        for statement in statements:
            connection.exec_driver_sql(statement)


def everything(connection: Connection) -> list[tuple[Any, ...]]:
    """All that a migration could have made or altered: relations, columns, triggers, functions."""
    rows = connection.exec_driver_sql(
        "SELECT 'schema' AS what, nspname::text AS name, nspacl::text AS how FROM pg_namespace"
        "  WHERE nspname !~ '^pg_'"
        " UNION ALL SELECT 'column', attrelid::regclass || '.' || attname,"
        "   format_type(atttypid, atttypmod) || attnotnull"
        "  FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid"
        "  JOIN pg_namespace n ON n.oid = relnamespace"
        "  WHERE n.nspname !~ '^(pg_|information_schema)'"
        " UNION ALL SELECT 'trigger', tgrelid::regclass || '.' || tgname, tgenabled::text"
        "  FROM pg_trigger"
        " UNION ALL SELECT 'function', p.oid::regprocedure::text, md5(prosrc) FROM pg_proc AS p"
        "  JOIN pg_namespace n ON n.oid = pronamespace"
        "  WHERE n.nspname !~ '^(pg_|information_schema)'"
        " ORDER BY 1, 2, 3"
    )
    return [tuple(row) for row in rows]


def test_an_empty_database_gets_sources_tables_and_capture(any_postgres_engine: Engine) -> None:
    engine = any_postgres_engine
    result = migrate(engine, [system], with_sources=True)
    assert result.done == [
        "created the schema media",
        "created the source table media.media_files",
        *CREATED,
        *INSTALLED,
    ]
    assert result.systems == [system]
    assert result.skipped == {}
    assert refresh(engine, daily_contributions).rows == 0
    assert verify(engine, daily_contributions).ok


def test_a_second_migration_has_nothing_to_do(engine: Engine) -> None:
    migrate(engine, [system], with_sources=True)
    with engine.connect() as connection:
        before = everything(connection)
    assert migrate(engine, [system], with_sources=True) == Migrated(systems=[system])
    assert migrate(engine, [system]).done == []
    with engine.connect() as connection:
        assert everything(connection) == before


def test_a_system_without_its_sources_is_skipped_and_nothing_is_made(engine: Engine) -> None:
    with engine.connect() as connection:
        before = everything(connection)
        missing = {each.name: missing_sources(connection, each) for each in all_systems()}
    assert missing["media"] == ["media.media_files"]
    gallery = ["content_items", "content_items_auto", "tags", "users"]
    assert sorted(missing["gallery"]) == [f"gallery.{table}" for table in gallery]
    assert migrate(engine) == Migrated(skipped=missing)
    with engine.connect() as connection:
        assert everything(connection) == before


def test_a_source_that_is_there_is_left_as_it_is(engine: Engine) -> None:
    make(engine, SOURCE, "CREATE INDEX by_path ON media.media_files (path text_pattern_ops)")
    with engine.connect() as connection:
        before = inspect(connection).get_columns("media_files", schema="media")
        indexes = inspect(connection).get_indexes("media_files", schema="media")
    assert migrate(engine, [system], with_sources=True).done == [*CREATED, *INSTALLED]
    with engine.connect() as connection:
        after = inspect(connection).get_columns("media_files", schema="media")
        assert inspect(connection).get_indexes("media_files", schema="media") == indexes
    assert str(after) == str(before)


def test_sources_that_are_made_get_their_indexes(engine: Engine) -> None:
    migrate(engine, [system], with_sources=True)
    with engine.connect() as connection:
        indexes = inspect(connection).get_indexes("media_files", schema="media")
    assert "media_files_taken_at" in {index["name"] for index in indexes}


def test_a_derived_table_that_fits_is_adopted_and_rebuilt(any_postgres_engine: Engine) -> None:
    engine = any_postgres_engine
    make(engine, SOURCE, DERIVED)
    make(
        engine,
        "INSERT INTO media.media_files (id, path, original_created_at)"
        " VALUES (1, 'a', '2025-11-20 23:30+00'), (2, 'b', '2025-11-20 23:30-05')",
        "INSERT INTO media.daily_contributions (date, count, updated_at, note)"
        " VALUES ('2025-11-20', 7, now(), 'kept'), ('1999-01-01', 1, now(), 'wrong')",
    )
    result = migrate(engine, [system])
    assert result.done == [
        "altered the derived table media.daily_contributions: wrote comments",
        "created the derived table media.hourly_contributions",
        *INSTALLED[:2],
        "adopted the derived table media.daily_contributions",
        *INSTALLED[2:],
    ]
    refresh(engine, daily_contributions)
    assert verify(engine, daily_contributions).ok
    with engine.connect() as connection:
        rows = connection.exec_driver_sql(
            "SELECT date, count, note FROM media.daily_contributions ORDER BY date"
        )
        assert [tuple(row) for row in rows] == [
            (datetime(2025, 11, 20), 1, "kept"),  # noqa: DTZ001
            (datetime(2025, 11, 21), 1, None),  # noqa: DTZ001
        ]
        live = connection.exec_driver_sql(
            "SELECT date, count FROM media.daily_contributions_live ORDER BY date"
        )
        assert [tuple(row) for row in live] == [
            (datetime(2025, 11, 20, tzinfo=UTC), 1),
            (datetime(2025, 11, 21, tzinfo=UTC), 1),
        ]
    assert migrate(engine, [system]).done == []


@pytest.mark.parametrize(
    ("there", "sentence"),
    [
        (
            (SOURCE, DERIVED.replace("count bigint", "count text")),
            "the derived table media.daily_contributions: count is text, expected integer",
        ),
        (
            (SOURCE, DERIVED.replace("date timestamp NOT NULL", "date timestamp")),
            "the derived table media.daily_contributions: date may be null, expected NOT NULL",
        ),
        (
            (SOURCE, DERIVED.replace("UNIQUE", "")),
            "the derived table media.daily_contributions: no unique index on (date)",
        ),
        (
            (SOURCE, DERIVED.replace("note text", "note text NOT NULL")),
            "note is NOT NULL without a default, and nothing fills it",
        ),
        (
            (SOURCE.replace("created_at timestamptz NOT", "created_at date NOT"),),
            "the source table media.media_files: created_at is date,"
            " expected timestamp with time zone",
        ),
        (
            (SOURCE.replace("original_created_at timestamptz,", ""),),
            "the source table media.media_files: original_created_at is missing",
        ),
        (("CREATE VIEW media.media_files AS SELECT 1 AS id",), "it is not a table"),
    ],
)
@pytest.mark.parametrize("with_sources", [False, True])
def test_tables_that_do_not_fit_are_named_and_nothing_is_changed(
    engine: Engine, there: tuple[str, ...], sentence: str, with_sources: bool
) -> None:
    make(engine, *there)
    with engine.connect() as connection:
        before = everything(connection)
    with pytest.raises(DoesNotFit) as caught:
        migrate(engine, [system], with_sources=with_sources)
    assert sentence in str(caught.value)
    with engine.connect() as connection:
        assert everything(connection) == before


def test_a_failure_at_the_very_end_changes_nothing(engine: Engine) -> None:
    # The engine's schema is made first and the live views last: something else has their name.
    make(engine, SOURCE, "CREATE TABLE media.hourly_contributions_live (id int)")
    with engine.connect() as connection:
        before = everything(connection)
    with pytest.raises(DBAPIError):
        migrate(engine, [system])
    with engine.connect() as connection:
        assert everything(connection) == before


def test_a_derived_table_that_was_dropped_is_made_and_built_again(engine: Engine) -> None:
    migrate(engine, [system], with_sources=True)
    make(engine, "INSERT INTO media.media_files (path) VALUES ('a'), ('b')")
    refresh(engine, daily_contributions)
    refresh(engine, hourly_contributions)
    make(engine, "DROP TABLE media.daily_contributions CASCADE")
    assert migrate(engine, [system]).done == [
        "created the derived table media.daily_contributions",
        "installed media.daily_contributions (its live view was missing)",
        "repaired media.daily_contributions: is another table than the one that was installed, as"
        " after dropping and restoring it",
        "repaired media.daily_contributions_live: does not exist any more",
        "media.daily_contributions is stale: changes may have been missed",
    ]
    assert status(engine, daily_contributions).stale == (
        "DROP TABLE by postgres: media.daily_contributions: does not exist any more;"
        " media.daily_contributions_live: does not exist any more",
        "its live view was missing",
    )
    assert status(engine, hourly_contributions).stale == ()
    assert refresh(engine, daily_contributions).rows == 1
    assert verify(engine, daily_contributions).ok
    assert migrate(engine, [system]).done == []


# A system with a history: its declaration has a column that an older version did not have.
UPGRADES = """
from sqlalchemy import inspect

def upgrade(connection):
    if "number" not in {c["name"] for c in inspect(connection).get_columns("per_day", "notes")}:
        return []
    connection.exec_driver_sql("ALTER TABLE notes.per_day RENAME number TO count")
    return ["renamed number to count"]
"""
BROKEN = """
def upgrade(connection):
    connection.exec_driver_sql("ALTER TABLE notes.per_day ADD extra integer")
    connection.exec_driver_sql("SELECT 1 / 0")
"""
notes_metadata = MetaData(schema="notes")
notes = Table(
    "notes",
    notes_metadata,
    Column("id", Integer, primary_key=True),
    Column("at", DateTime(timezone=True), nullable=False),
)
per_day = Table(
    "per_day",
    notes_metadata,
    Column("day", DateTime(timezone=True), primary_key=True),
    Column("count", Integer, nullable=False, server_default="0"),
)
_day = func.date_trunc("day", notes.c.at, "UTC").label("day")
notes_per_day = SelectTally(
    "notes.per_day",
    select=select(_day, cast(func.count(), Integer).label("count")).group_by(_day),
    table=per_day,
)
notes_system = System("notes", notes_metadata, [notes_per_day], package="notes_of_tests")


@pytest.fixture
def upgrades(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The module `upgrades` of the system's package, which can be written before it is imported."""
    package = tmp_path / "notes_of_tests"
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "notes_of_tests", raising=False)
    yield package / "upgrades.py"
    for name in ("notes_of_tests", "notes_of_tests.upgrades"):
        sys.modules.pop(name, None)


@pytest.fixture
def old_notes(engine: Engine, upgrades: Path) -> Path:
    """A database that an older version migrated, and that version's table."""
    migrate(engine, [notes_system], with_sources=True)
    make(
        engine,
        "ALTER TABLE notes.per_day DROP count CASCADE",
        "DELETE FROM tallykeeper.tally_state",
    )
    make(engine, "INSERT INTO tallykeeper.tally_state VALUES ('notes.per_day', '', '')")
    return upgrades


@pytest.mark.usefixtures("old_notes")
def test_a_table_of_an_older_version_is_brought_up(engine: Engine) -> None:
    done = migrate(engine, [notes_system]).done
    assert done[0] == "altered the derived table notes.per_day: added the column count"
    assert done[1] == "installed notes.per_day (its declaration changed)"
    assert migrate(engine, [notes_system]).done == []
    make(engine, "INSERT INTO notes.notes VALUES (1, now())")
    assert refresh(engine, notes_per_day).rows == 1


def test_a_system_changes_its_own_tables_before_they_are_compared(
    engine: Engine, old_notes: Path
) -> None:
    old_notes.write_text(UPGRADES)
    make(engine, "ALTER TABLE notes.per_day ADD number integer NOT NULL DEFAULT 0")
    assert migrate(engine, [notes_system]).done[0] == "renamed number to count"
    assert migrate(engine, [notes_system]).done == []


def test_a_table_of_somebody_else_is_not_changed_as_an_older_version_s_is(
    engine: Engine, upgrades: Path
) -> None:
    upgrades.write_text(BROKEN)
    done = migrate(engine, [notes_system], with_sources=True).done
    assert done[-1] == "installed notes.per_day (never built)"


def test_a_migration_that_fails_half_way_leaves_everything_as_it_was(
    engine: Engine, old_notes: Path
) -> None:
    old_notes.write_text(BROKEN)
    make(engine, "UPDATE tallykeeper.schema_version SET version = 0")
    with engine.connect() as connection:
        before = everything(connection)
    with pytest.raises(DBAPIError, match="division by zero"):
        migrate(engine, [notes_system, system], with_sources=True)
    with engine.connect() as connection:
        assert everything(connection) == before
        version = connection.exec_driver_sql("SELECT version FROM tallykeeper.schema_version")
        assert version.all() == [(0,)]


@pytest.mark.usefixtures("old_notes")
def test_a_dropped_table_of_an_older_version_is_made_as_it_is_declared_now(engine: Engine) -> None:
    make(engine, "DROP TABLE notes.per_day")
    assert migrate(engine, [notes_system]).done[0] == "created the derived table notes.per_day"
    assert migrate(engine, [notes_system]).done == []


@pytest.mark.usefixtures("old_notes")
def test_an_upgrade_that_does_not_lead_to_the_declaration_is_undone(engine: Engine) -> None:
    make(engine, "ALTER TABLE notes.per_day ADD count text NOT NULL DEFAULT ''")
    with engine.connect() as connection:
        before = everything(connection)
    with pytest.raises(DoesNotFit, match="count is text, expected integer"):
        migrate(engine, [notes_system])
    with engine.connect() as connection:
        assert everything(connection) == before


@pytest.mark.usefixtures("upgrades")
def test_systems_are_migrated_on_their_own(engine: Engine) -> None:
    assert migrate(engine, [system], with_sources=True).systems == [system]
    done = migrate(engine, [notes_system], with_sources=True).done
    assert "created the derived table notes.per_day" in done
    assert migrate(engine, [system, notes_system]).done == []


def test_a_database_of_a_newer_version_is_refused(engine: Engine) -> None:
    migrate(engine, [system, tag_hours.system], with_sources=True)
    newest = max(schema_version.migrations())
    found = "SELECT version FROM tallykeeper.schema_version"
    with engine.connect() as connection:
        assert connection.exec_driver_sql(found).all() == [(newest,)]
    make(engine, f"INSERT INTO tallykeeper.schema_version VALUES ({newest + 1})")
    expected = (
        f"the schema tallykeeper of this database is at version {newest + 1}, which this version"
        " does not know; update Tallykeeper. Nothing was changed"
    )
    with pytest.raises(DoesNotFit, match=expected):
        migrate(engine, [system])
    # Nor does a process that goes on install what it declares.
    make(engine, "UPDATE tallykeeper.tally_state SET declaration_hash = ''")
    with pytest.raises(DoesNotFit, match=expected):
        refresh(engine, tag_hours.tally)


def test_two_migrations_at_once_make_everything_once(engine: Engine) -> None:
    results: list[list[str]] = []
    threads = [
        threading.Thread(
            target=lambda: results.append(migrate(engine, [system], with_sources=True).done)
        )
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(len, results)) == [0, 8]


def test_a_migration_does_not_wait_for_ever(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tallykeeper.database.sessions.LOCK_TIMEOUT_SECONDS", 0.05)
    monkeypatch.setattr("tallykeeper.catalog.transactions.PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr("tallykeeper.catalog.transactions.FIRST_PAUSE_SECONDS", 0.001)
    with engine.begin() as other:
        other.exec_driver_sql(INSTALL_LOCK)
        with pytest.raises(
            TallyBusy,
            match=r"gave up after \d attempts.*held by the session",
        ):
            migrate(engine, [system], with_sources=True)


@pytest.fixture
def stranger(engine: Engine) -> Iterator[Engine]:
    """The same database for a role that owns nothing and may do nothing but connect."""
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP ROLE IF EXISTS tally_stranger")
        connection.exec_driver_sql("CREATE ROLE tally_stranger LOGIN")
    other = create_engine(engine.url.set(username="tally_stranger", password=None))
    yield other
    other.dispose()
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP OWNED BY tally_stranger")
        connection.exec_driver_sql("DROP ROLE tally_stranger")


def test_a_role_that_may_create_nothing_is_shown_all_that_it_lacks(
    engine: Engine, stranger: Engine
) -> None:
    make(engine, SOURCE, "GRANT USAGE ON SCHEMA media TO tally_stranger")
    make(engine, "GRANT SELECT ON media.media_files TO tally_stranger")
    with engine.connect() as connection:
        before = everything(connection)
        owner = connection.scalar(text("SELECT current_user"))
        database = connection.scalar(text("SELECT current_database()"))
    with pytest.raises(NotPermitted) as caught:
        migrate(stranger, [system])
    assert str(caught.value) == (
        "the role 'tally_stranger' may not install tallies here: it may not create schemas in the"
        f" database {database}; it may not create anything in the schema media; it does not own"
        f" media.media_files, which belongs to '{owner}'. Nothing was changed; connect as the"
        " owner of these tables, or have an administrator grant what is missing (a table's owner"
        " with `GRANT <owner> TO tally_stranger`)"
    )
    with engine.connect() as connection:
        assert everything(connection) == before


def test_the_owner_of_the_sources_needs_no_more_than_to_create(
    engine: Engine, stranger: Engine
) -> None:
    make(engine, SOURCE, "ALTER TABLE media.media_files OWNER TO tally_stranger")
    make(
        engine,
        "GRANT USAGE, CREATE ON SCHEMA media TO tally_stranger",
        "CREATE SCHEMA tallykeeper AUTHORIZATION tally_stranger",
    )
    assert migrate(stranger, [system]).done == [*CREATED, *INSTALLED]
    assert migrate(stranger, [system]).done == []
    with stranger.begin() as connection:
        connection.exec_driver_sql("INSERT INTO media.media_files (id, path) VALUES (1, 'a')")
    assert refresh(stranger, daily_contributions).rows == 1
    assert verify(stranger, daily_contributions).ok


def test_systems_are_active_once_their_sources_exist(engine: Engine) -> None:
    assert active_systems(engine) == ()
    with engine.connect() as connection:
        assert missing_sources(connection, system) == ["media.media_files"]
    make(engine, SOURCE)
    assert active_systems(engine) == (system,)


def test_systems_that_are_asked_for_are_active_whatever_exists(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TALLY_SYSTEMS", "media")
    assert active_systems(engine) == (system,)


def test_a_system_that_there_is_not_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALLY_SYSTEMS", "media,medea")
    with pytest.raises(SettingError, match=r"systems that there are \(media.*'medea'"):
        chosen_systems()
