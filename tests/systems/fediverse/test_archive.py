"""The archive of the raw log: written, compared, dropped, redacted, and derived from again."""

from __future__ import annotations

import errno
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from assets.fediverse.processing.batches import process
from assets.fediverse.storage import archive_replay, partitions
from assets.fediverse.storage.archive import EVENTS
from assets.fediverse.storage.bootstrap import prepare
from assets.fediverse.tables import PROCESSED
from tallykeeper import TallyBusy
from tallykeeper.archive import runs, verification
from tallykeeper.archive.store import ArchiveUnavailable, Store, open_store
from tallykeeper.faults import incidents
from tallykeeper.partitions import drops, records
from tallykeeper.partitions.records import CURRENT, ArchivedFile
from tests.fediverse_events import derived, require_same
from tests.integration.fediverse_log import Log, created, emptied, status, tagged
from tests.integration.support import execute, rows, scalar
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


def forget_derived(engine: Engine) -> None:
    """Lose everything that was derived."""
    names = ", ".join(f"fediverse.{table.name}" for table in PROCESSED)
    execute(engine, f"TRUNCATE {names}")


def without_log(found: dict[str, list[str]]) -> dict[str, list[str]]:
    return {table: of for table, of in found.items() if table != "stream_events"}


def test_everything_is_derived_again_from_the_log_and_the_archive(log: Log) -> None:
    before = without_log(derived(log.engine))
    archived(log.engine)
    assert len(dropped(log.engine).dropped) == 2
    assert archive_replay.has_archived_days(log.engine)
    assert archive_replay.verify(log.engine, store()).ok
    forget_derived(log.engine)
    done = archive_replay.replay(log.engine, store(), rows_per_pass=2)
    assert done.skipped == 0
    require_same(without_log(derived(log.engine)), before, "from the log and the archive")
    assert scalar(log.engine, "SELECT count(*) FROM tallykeeper.fediverse_archived_events") == 0
    assert rows(log.engine, "SELECT * FROM tallykeeper.archive_replays") == []


class Killed(BaseException):
    """Ends a run where it is, as a signal would; nothing catches it."""


STEPS = (
    (Store, "put", "before"),
    (Store, "put", "after"),
    (Store, "get", "after"),
    (records, "finish", "before"),
    (records, "finish", "after"),
    (Store, "remove", "before"),
    (Store, "remove", "after"),
    (records, "forget", "before"),
    (records, "end_redactions", "before"),
)


@contextmanager
def killed_at(step: tuple[Any, str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have what runs end at the first time that the step is reached."""
    owner, name, moment = step
    real = getattr(owner, name)

    def dying(*arguments: Any, **named: Any) -> Any:
        if moment == "after":
            real(*arguments, **named)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, dying)
        yield


def require_consistent(log: Log, tmp_path: Path) -> None:
    """Every file is recorded, and each day's current file is whole and has the day's rows."""
    known = files(log.engine)
    assert set(in_folder(tmp_path)) <= {file.address for file in known}
    assert verification.verify(log.engine, EVENTS, store()).ok
    current = [file for file in known if file.state == CURRENT]
    assert len({file.partition for file in current}) == len(current)


@pytest.mark.parametrize("step", STEPS[:5], ids=lambda step: f"{step[2]} {step[1]}")
def test_an_interrupted_run_leaves_nothing_that_is_not_recorded(
    log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: tuple[Any, str, str]
) -> None:
    with killed_at(step, monkeypatch), pytest.raises(Killed):
        archived(log.engine)
    require_consistent(log, tmp_path)
    archived(log.engine)
    require_consistent(log, tmp_path)
    assert [file.state for file in files(log.engine)] == [CURRENT, CURRENT]
    assert in_folder(tmp_path) == sorted(file.address for file in files(log.engine))
    assert len(dropped(log.engine).dropped) == 2


def contents(log: Log) -> str:
    """All that archived files say, as text."""
    import pyarrow.parquet as pq

    said = []
    for file in files(log.engine):
        path = Path(store().address) / file.address
        if path.is_file():
            said.append(str(pq.read_table(path).to_pylist()))
    return " ".join(said)


@pytest.fixture
def secret(log: Log, monkeypatch: pytest.MonkeyPatch) -> Log:
    """A post with a secret, whose days are archived and dropped, and which is deleted then."""
    monkeypatch.setenv("TALLY_FEDIVERSE_REDACT", "1")
    log.write("update", status(50, content="<p>secret</p>"), at=100)
    log.write("update", status(51, reblog=status(50, content="<p>secret</p>")), at=1700)
    log.write("status", status(50, content="<p>secret</p>", created_at="secret"), at=101)
    process(log.engine)
    archived(log.engine)
    assert len(dropped(log.engine).dropped) == 2
    assert "secret" in contents(log)
    log.write("delete", "50", at=2900)
    process(log.engine)
    return log


def test_what_is_deleted_goes_from_archived_files(secret: Log, tmp_path: Path) -> None:
    before = {file.partition: file for file in files(secret.engine)}
    assert scalar(secret.engine, "SELECT count(*) FROM tallykeeper.archive_redactions") == 1
    done = archived(secret.engine)
    assert done.redacted == 2
    assert "secret" not in contents(secret)
    after = files(secret.engine)
    assert all(file.rows == before[file.partition].rows for file in after)
    assert all(file.dropped_at == before[file.partition].dropped_at for file in after)
    assert in_folder(tmp_path) == sorted(file.address for file in after)
    assert not {file.address for file in before.values()} & set(in_folder(tmp_path))
    assert scalar(secret.engine, "SELECT count(*) FROM tallykeeper.archive_redactions") == 0
    require_consistent(secret, tmp_path)
    assert archive_replay.verify(secret.engine, store()).ok
    assert archived(secret.engine).redacted == 0


@pytest.mark.parametrize("step", STEPS, ids=lambda step: f"{step[2]} {step[1]}")
def test_an_interrupted_redaction_is_done_by_the_next_run(
    secret: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: tuple[Any, str, str]
) -> None:
    with killed_at(step, monkeypatch), pytest.raises(Killed):
        archived(secret.engine)
    require_consistent(secret, tmp_path)
    archived(secret.engine)
    require_consistent(secret, tmp_path)
    assert "secret" not in contents(secret)
    assert in_folder(tmp_path) == sorted(file.address for file in files(secret.engine))
    assert scalar(secret.engine, "SELECT count(*) FROM tallykeeper.archive_redactions") == 0
    assert archive_replay.verify(secret.engine, store()).ok


def test_a_redaction_while_a_day_is_being_archived_reaches_its_file(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TALLY_FEDIVERSE_REDACT", "1")
    log.write("update", status(50, content="<p>secret</p>"), at=100)
    process(log.engine)
    put = Store.put

    def late(self: Store, local: Path, path: str) -> None:
        put(self, local, path)
        if not scalar(log.engine, "SELECT count(*) FROM fediverse.post_deletions"):
            log.write("delete", "50", at=2900)
            process(log.engine)

    monkeypatch.setattr(Store, "put", late)
    assert archived(log.engine).redacted == 1
    assert "secret" not in contents(log)
    kept = dropped(log.engine).kept
    assert [why.split(";")[0] for why in kept.values()] == [drops.CHANGED]
    assert "secret" not in contents(log)
    assert len(dropped(log.engine).dropped) == 1


HALF_WRITTEN = """
import sys, time
from datetime import date
from assets.fediverse.storage.archive import EVENTS
from tallykeeper.archive import runs, store
from tallykeeper.database.connections import open_engine

def half(source, copy, _):
    copy.write(source.read(100))
    copy.flush()
    print("half", flush=True)
    time.sleep(600)

store.shutil.copyfileobj = half
runs.archive(open_engine(sys.argv[1]), EVENTS, store.open_store(), before=date(2026, 1, 12))
"""


def test_a_run_that_was_killed_leaves_a_part_that_never_counts(log: Log, tmp_path: Path) -> None:
    address = log.engine.url.render_as_string(hide_password=False)
    process = subprocess.Popen(
        [sys.executable, "-c", HALF_WRITTEN, address], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "half\n"
    process.kill()
    process.wait()
    process.stdout.close()
    (part,) = in_folder(tmp_path)
    assert part.endswith(".parquet.part")
    assert [file.state for file in files(log.engine)] == [records.WRITING]
    assert verification.verify(log.engine, EVENTS, store()).files == 0
    assert set(dropped(log.engine).kept.values()) == {drops.NOT_ARCHIVED}
    while True:
        try:
            done = archived(log.engine)
            break
        except TallyBusy:
            # The server has not noticed yet that the other one is dead.
            time.sleep(0.1)
    assert (len(done.written), done.removed) == (2, 1)
    assert in_folder(tmp_path) == sorted(file.address for file in files(log.engine))


def test_two_runs_at_a_time_are_one(log: Log) -> None:
    with (
        runs.alone(log.engine, EVENTS),
        pytest.raises(TallyBusy, match="another process runs its archive"),
    ):
        archived(log.engine)
    assert archived(log.engine).written


def test_a_damaged_and_a_missing_file_are_named_and_an_incident(log: Log, tmp_path: Path) -> None:
    archived(log.engine)
    damaged, missing = files(log.engine)
    path = tmp_path / "archive" / damaged.address
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"x")
    away = tmp_path / "archive" / missing.address
    away.rename(tmp_path / "away")
    found = verification.verify(log.engine, EVENTS, store())
    assert [damaged.address in found.faults[0], missing.address in found.faults[1]] == [True, True]
    with log.engine.connect() as connection:
        (incident,) = incidents.listed(connection, open_only=True)
    assert (incident.subject, incident.kind) == ("fediverse.stream_events", "archive")
    kept = dropped(log.engine)
    assert kept.dropped == []
    assert "is not the file that was archived" in kept.kept[damaged.partition]
    assert "is not in the archive" in kept.kept[missing.partition]
    path.write_bytes(whole)
    (tmp_path / "away").rename(away)
    assert verification.verify(log.engine, EVENTS, store()).ok
    with log.engine.connect() as connection:
        assert incidents.listed(connection, open_only=True) == []


def test_an_archive_that_fails_is_said_without_its_secrets(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise PermissionError("key AKIAsecret is not allowed")

    monkeypatch.setattr("tallykeeper.archive.store._put_in_folder", failing)
    with pytest.raises(ArchiveUnavailable, match="PermissionError") as raised:
        archived(log.engine)
    assert "secret" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_a_full_disk_is_a_sentence_and_leaves_no_file(
    log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("tallykeeper.archive.store.shutil.copyfileobj", full)
        with pytest.raises(ArchiveUnavailable, match="No space left on device"):
            archived(log.engine)
    assert in_folder(tmp_path) == []
    with monkeypatch.context() as patch:
        patch.setattr("tallykeeper.parquet.writing.write", full)
        with pytest.raises(ArchiveUnavailable, match="make room there"):
            archived(log.engine)
    assert len(archived(log.engine).written) == 2


def test_a_store_of_objects_works_like_a_folder(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALLY_ARCHIVE", "memory://bucket/events")
    before = without_log(derived(log.engine))
    assert len(archived(log.engine).written) == 2
    assert len(dropped(log.engine).dropped) == 2
    forget_derived(log.engine)
    archive_replay.replay(log.engine, store())
    require_same(without_log(derived(log.engine)), before, "from an object store")


def test_only_as_many_files_are_verified_as_asked_faulty_ones_first(
    log: Log, tmp_path: Path
) -> None:
    archived(log.engine)
    damaged = files(log.engine)[1]
    path = tmp_path / "archive" / damaged.address
    whole = path.read_bytes()
    path.write_bytes(b"")
    verification.verify(log.engine, EVENTS, store())
    for _ in range(2):
        (fault,) = verification.verify(log.engine, EVENTS, store(), most=1).faults
        assert damaged.address in fault
    path.write_bytes(whole)
    assert verification.verify(log.engine, EVENTS, store(), most=1).ok


def test_a_log_of_an_earlier_release_has_lost_what_it_dropped(log: Log) -> None:
    execute(
        log.engine,
        "UPDATE tallykeeper.fediverse_log SET dropped_before = '2025-11-20Z'",
        "ALTER TABLE tallykeeper.fediverse_log DROP COLUMN lost_before",
        "DROP TABLE tallykeeper.fediverse_archived_events",
        "CREATE FUNCTION tallykeeper.fediverse_drop_partition(name text)"
        " RETURNS int LANGUAGE sql AS 'SELECT 1'",
    )
    with log.engine.begin() as connection:
        done = prepare(connection) + drops.install(connection, EVENTS)
    assert done == [
        "added to tallykeeper.fediverse_log before when events are lost",
        "created tallykeeper.fediverse_archived_events",
        "created the function tallykeeper.fediverse_drop_partition",
    ]
    assert scalar(log.engine, "SELECT lost_before = '2025-11-20Z' FROM tallykeeper.fediverse_log")
    functions = "SELECT count(*) FROM pg_proc WHERE proname = 'fediverse_drop_partition'"
    assert scalar(log.engine, functions) == 1


def test_an_event_of_a_day_that_is_dropped_gets_a_file_of_its_own(log: Log) -> None:
    archived(log.engine)
    dropped(log.engine)
    log.write("status", status(10, favourites_count=9), at=30)
    with log.engine.begin() as connection:
        partitions.ensure_around(connection, DAY + timedelta(days=3), ahead=0)
    process(log.engine)
    # Processing knows the log alone, and adds what it can; a replay knows the archive, too.
    assert not archive_replay.verify(log.engine, store()).ok
    assert archive_replay.replay(log.engine, store()).rows
    assert archive_replay.verify(log.engine, store()).ok
    archived(log.engine)
    assert len(dropped(log.engine).dropped) == 1
    assert [file.rows for file in files(log.engine)] == [3, 1, 3]
    assert archive_replay.verify(log.engine, store()).ok


def test_only_posts_of_the_window_are_derived_again(log: Log) -> None:
    archived(log.engine)
    dropped(log.engine)
    execute(log.engine, "UPDATE fediverse.mastodon_posts SET language = 'xx'")
    start = log.start + timedelta(days=1)
    done = archive_replay.replay(log.engine, store(), start, start + timedelta(days=1))
    assert done.rows == {"mastodon_posts": 3}
    wrong = "SELECT id FROM fediverse.mastodon_posts WHERE language = 'xx' ORDER BY id"
    assert [row[0] for row in rows(log.engine, wrong)] == ["12", "20", "22"]


def test_days_that_are_declared_lost_are_dropped_and_their_posts_skipped(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs.archive(log.engine, EVENTS, store(), before=DAY + timedelta(days=1))
    assert len(dropped(log.engine).dropped) == 1
    archive = store()
    monkeypatch.setenv("TALLY_ARCHIVE", "none")
    assert len(dropped(log.engine).dropped) == 1
    found = archive_replay.verify(log.engine, archive)
    assert (found.ok, found.skipped) == (True, 2)


def test_nothing_is_lost_while_events_come_for_days_that_are_archived_and_dropped(
    log: Log,
) -> None:
    """Late ones, which are processed meanwhile: each is in the log or in exactly one file."""

    def write() -> int:
        for number in range(60):
            log.write("status", status(10, favourites_count=number), at=number * 40)
            if number % 3 == 0:
                with log.engine.begin() as connection:
                    partitions.ensure_around(connection, DAY + timedelta(days=3), ahead=0)
                process(log.engine)
        return 9 + 60

    with ThreadPoolExecutor(1) as writers:
        writing = writers.submit(write)
        while not writing.done():
            archived(log.engine)
            dropped(log.engine)
        written = writing.result()
    with log.engine.begin() as connection:
        partitions.ensure_around(connection, DAY + timedelta(days=3), ahead=0)
    process(log.engine)
    archived(log.engine)
    assert dropped(log.engine).kept == {}
    in_files = sum(file.rows or 0 for file in files(log.engine, CURRENT))
    assert all(file.dropped_at for file in files(log.engine))
    assert scalar(log.engine, "SELECT count(*) FROM fediverse.stream_events") + in_files == written
    archive_replay.replay(log.engine, store())
    assert archive_replay.verify(log.engine, store()).ok


def test_a_day_that_is_dropped_while_a_replay_runs_is_read_from_its_file(log: Log) -> None:
    before = without_log(derived(log.engine))
    archived(log.engine)
    assert len(dropped(log.engine, 1).dropped) == 1
    forget_derived(log.engine)
    said: list[str] = []

    def drop_another(sentence: str) -> None:
        said.append(sentence)
        if sentence.startswith("1 of 1 files"):
            dropped(log.engine)

    archive_replay.replay(log.engine, store(), say=drop_another)
    assert [each.split(":")[0] for each in said] == ["pass 1 of 1", *["1 of 1 files"] * 2]
    require_same(without_log(derived(log.engine)), before, "a day dropped meanwhile")


def test_what_an_interrupted_replay_has_loaded_is_redacted_too(secret: Log) -> None:
    loaded = (
        "SELECT count(*) FROM tallykeeper.fediverse_archived_events AS e WHERE e::text ~ 'secret'"
    )

    def interrupt(sentence: str) -> None:
        if sentence.startswith("2 of 2 files"):
            raise Killed

    with pytest.raises(Killed):
        archive_replay.replay(secret.engine, store(), say=interrupt)
    assert scalar(secret.engine, loaded) == 3
    assert archived(secret.engine).redacted == 2
    assert scalar(secret.engine, loaded) == 0
    said: list[str] = []
    archive_replay.replay(secret.engine, store(), say=said.append)
    assert said[0] == "going on where an interrupted replay was"
    assert archive_replay.verify(secret.engine, store()).ok


def test_a_replay_of_another_window_begins_anew(log: Log) -> None:
    archived(log.engine)
    dropped(log.engine)

    def interrupt(sentence: str) -> None:
        if sentence.startswith("2 of 2 files"):
            raise Killed

    with pytest.raises(Killed):
        archive_replay.replay(log.engine, store(), say=interrupt)
    said: list[str] = []
    archive_replay.replay(log.engine, store(), log.start, say=said.append)
    assert said[0] == "pass 1 of 1"
    with (
        runs.alone(log.engine, EVENTS, "replay"),
        pytest.raises(TallyBusy, match="another process runs its replay"),
    ):
        archive_replay.verify(log.engine, store())
