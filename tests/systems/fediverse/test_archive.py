"""The archive of the raw log: written, compared, dropped, redacted, and derived from again."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine

from assets.fediverse.processing.batches import process
from assets.fediverse.storage import partitions
from assets.fediverse.storage.archive import EVENTS
from tallykeeper.archive import runs
from tallykeeper.archive.store import Store
from tallykeeper.partitions import records
from tallykeeper.partitions.records import CURRENT, ArchivedFile
from tests.integration.fediverse_log import Log, created, emptied, status, tagged
from tests.integration.support import execute, scalar
from tests.servers import Servers

DAY = date(2026, 1, 10)


@pytest.fixture(scope="module")
def fediverse(postgres_servers: Servers) -> Iterator[Engine]:
    with created(postgres_servers) as engine:
        yield engine


@pytest.fixture
def log(fediverse: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Log:
    """Three days of events, processed."""
    execute(
        fediverse,
        "TRUNCATE tallykeeper.archive_files, tallykeeper.archive_redactions,"
        " tallykeeper.archive_replays",
    )
    monkeypatch.setenv("TALLY_ARCHIVE", str(tmp_path / "archive"))
    log = emptied(fediverse)
    with fediverse.begin() as connection:
        partitions.ensure(connection, DAY, DAY + timedelta(days=2))
    log.start = datetime.combine(DAY, datetime.min.time(), UTC)
    for day in range(3):
        at = day * 24 * 60
        log.write("update", status(10 + day, tags=tagged("a", f"d{day}")), at=at)
        log.write("status", status(10, favourites_count=day), at=at + 5)
        log.write("update", status(20 + day, in_reply_to_id="10"), at=at + 6)
    process(fediverse)
    return log


def store() -> Store:
    from tallykeeper.archive.store import open_store

    return open_store()


def archived(engine: Engine, days: int = 2) -> runs.Archived:
    """Archive the first days."""
    return runs.archive(engine, EVENTS, store(), before=DAY + timedelta(days=days))


def files(engine: Engine, *states: str) -> list[ArchivedFile]:
    with engine.begin() as connection:
        return records.files(connection, EVENTS, *states)


def in_folder(tmp_path: Path) -> list[str]:
    folder = tmp_path / "archive"
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def dropped(engine: Engine, days: int = 2) -> partitions.Dropped:
    return partitions.dropped(engine, 0, DAY + timedelta(days=days))


def test_days_are_written_compared_and_recorded(log: Log, tmp_path: Path) -> None:
    done = archived(log.engine)
    assert (len(done.written), done.rows, done.kept) == (2, 6, {})
    found = files(log.engine)
    assert [(f.partition, f.state, f.rows) for f in found] == [
        ("fediverse.stream_events_20260110", CURRENT, 3),
        ("fediverse.stream_events_20260111", CURRENT, 3),
    ]
    assert in_folder(tmp_path) == sorted(f.address for f in found)
    assert archived(log.engine).written == []


def test_a_day_is_dropped_only_once_it_is_archived(log: Log) -> None:
    kept = dropped(log.engine)
    assert (kept.dropped, set(kept.kept.values())) == ([], {"is not archived"})
    archived(log.engine)
    done = dropped(log.engine)
    assert (len(done.dropped), done.kept) == (2, {})
    assert scalar(log.engine, "SELECT count(*) FROM fediverse.stream_events") == 3
    assert all(f.dropped_at for f in files(log.engine))


def test_what_changed_since_is_archived_anew_and_not_dropped(log: Log, tmp_path: Path) -> None:
    archived(log.engine)
    (before, _) = files(log.engine)
    log.write("update", status(99), at=700)
    assert "still to be processed" in str(dropped(log.engine).kept)
    process(log.engine)
    done = dropped(log.engine)
    assert done.kept == {
        before.partition: "has changed since it was archived; archived anew, to be dropped the next"
        " time"
    }
    (after, _) = files(log.engine)
    assert (after.rows, after.partition) == (4, before.partition)
    assert before.address not in in_folder(tmp_path)
    assert dropped(log.engine).dropped == [before.partition]
