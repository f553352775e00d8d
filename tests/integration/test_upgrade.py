"""The database of an earlier release, brought up by `tally migrate` while applications write.

What must stay true: no change is missed and no snapshot is wrong, before, while or after capture
is replaced; a tally whose declaration is the same is not rebuilt.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import psycopg
import pytest
from psycopg.errors import DeadlockDetected
from sqlalchemy import Engine, Table

from assets.fediverse.processing import process
from assets.systems import all_systems
from pipelines.migrate import migrate
from tallies import DoesNotFit, Tally, capture, capture_faults, refresh, verify
from tests.classroom import CLASSROOM
from tests.concurrency.subjects import SUBJECTS
from tests.concurrency.writers import Operation, Writer
from tests.fediverse_oracles import FEDIVERSE
from tests.integration.releases import RELEASES, restore
from tests.integration.support import execute, judge, rows, scalar
from tests.oracle import DAILY, GALLERY, HOURLY, look, settle

ORACLES = (DAILY, HOURLY, *GALLERY, *FEDIVERSE, *CLASSROOM)
WRITTEN = ("media", "gallery", "fediverse", "classroom")
WRITERS_OF_EACH = 2
# Of each system's writers together, before the migration and after it.
TRANSACTIONS = 25
PATIENCE_SECONDS = 120.0


def tallies() -> Iterator[Tally]:
    for system in all_systems():
        yield from system.tallies


def operations(subject: str) -> Sequence[Operation]:
    """What the subject's writers do; nothing that makes a tally stale by itself."""
    return [
        o
        for o in SUBJECTS[subject].operations
        if not any(word in o.name for word in ("truncate", "forget all"))
    ]


@dataclass
class Load:
    """Writers of every system and an onlooker, at work until told to stop."""

    url: str
    stop: threading.Event = field(default_factory=threading.Event)
    committed: dict[str, int] = field(default_factory=lambda: dict.fromkeys(WRITTEN, 0))
    snapshots: int = 0
    running: list[Future[None]] = field(default_factory=list)

    def write(self, subject: str, number: int) -> None:
        writer = Writer(self.url, f"{subject} {number}", "upgrade", operations(subject))
        with writer.connection:
            while not self.stop.is_set():
                before = writer.done["committed"]
                writer.transaction()
                self.committed[subject] += writer.done["committed"] - before
                writer.resolve_prepared()

    def look_on(self) -> None:
        rng = random.Random("upgrade")
        with psycopg.connect(self.url, autocommit=True) as connection:
            while not self.stop.is_set():
                try:
                    look(connection, rng.choice(ORACLES))
                except DeadlockDetected:
                    continue  # The migration locks all tables; nothing was seen.
                self.snapshots += 1

    def wait_for(self, more: int) -> None:
        """Return when every system was written so many times more. Raises what a writer did."""
        wanted = {name: done + more for name, done in self.committed.items()}
        deadline = time.monotonic() + PATIENCE_SECONDS
        while any(self.committed[name] < number for name, number in wanted.items()):
            for each in self.running:
                if each.done():
                    each.result()
            assert time.monotonic() < deadline, f"expected {wanted}, came to {self.committed}"
            time.sleep(0.02)


@contextmanager
def under_load(url: str) -> Iterator[Load]:
    """Writers and an onlooker around what is done; afterwards nothing prepared is left."""
    load = Load(url)
    with ThreadPoolExecutor(len(WRITTEN) * WRITERS_OF_EACH + 1) as pool:
        try:
            load.running.append(pool.submit(load.look_on))
            for name in WRITTEN:
                for number in range(WRITERS_OF_EACH):
                    load.running.append(pool.submit(load.write, name, number))
            load.wait_for(TRANSACTIONS)
            yield load
            load.wait_for(TRANSACTIONS)
        finally:
            load.stop.set()
    for each in load.running:
        each.result()
    last = Writer(url, "the last", "upgrade", ())
    with last.connection:
        while last.resolve_prepared():
            pass


def come_to_rest(engine: Engine, url: str) -> None:
    """All is right; refreshed without a rebuild, and right with nothing pending."""
    judge(engine, ORACLES)
    process(engine)
    for tally in tallies():
        assert refresh(engine, tally).reason is None
        assert verify(engine, tally).ok
    with psycopg.connect(url, autocommit=True) as connection:
        for oracle in ORACLES:
            settle(connection, oracle)


def stale(engine: Engine) -> list[str]:
    return [
        f"{t}: {why}"
        for t, why in rows(engine, "SELECT tally, reason FROM tallykeeper.stale_marks")
    ]


def captures(engine: Engine) -> dict[str, str]:
    """The text of every function that capture has, by name."""
    found = rows(
        engine,
        "SELECT proname, prosrc FROM pg_proc WHERE pronamespace = 'tallykeeper'::regnamespace"
        " AND proname LIKE 'capture%'",
    )
    return dict(found)


def in_other_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this code's capture be another text that does the same."""
    written = capture.function_body

    def body(source: Table, event: str, over: Sequence[Tally], belongs: str | None = None) -> str:
        return f"-- of another release\n{written(source, event, over, belongs)}"

    monkeypatch.setattr(capture, "function_body", body)


@pytest.fixture(params=RELEASES)
def release(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_every_version_of_postgresql_brings_a_release_up_and_rebuilds_nothing(
    release: str, any_postgres_engine: Engine
) -> None:
    url = any_postgres_engine.url.render_as_string(hide_password=False)
    url = url.replace("postgresql+psycopg", "postgresql")
    restore(release, url)
    pending = {
        o.tally: scalar(any_postgres_engine, f"SELECT count(*) FROM {o.log}") for o in ORACLES
    }
    assert sum(1 for changes in pending.values() if changes) > len(ORACLES) / 2
    done = migrate(any_postgres_engine)
    assert {s.name for s in done.systems} == {s.name for s in all_systems()}
    assert stale(any_postgres_engine) == []
    assert migrate(any_postgres_engine).done == []
    with any_postgres_engine.connect() as connection:
        assert [f for tally in tallies() for f in capture_faults(connection, tally)] == []
    judge(any_postgres_engine, ORACLES)
    for tally in tallies():
        done_now = refresh(any_postgres_engine, tally)
        assert (done_now.how, done_now.reason) == ("refresh", None)
        if not tally.upstream:
            assert done_now.pending_taken == pending[tally.name]
    come_to_rest(any_postgres_engine, url)


@pytest.mark.concurrency
@pytest.mark.slow
@pytest.mark.parametrize("other_words", [False, True], ids=["as it is", "with another capture"])
def test_no_change_is_missed_while_a_release_is_brought_up(
    other_words: bool,
    release: str,
    engine: Engine,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    restore(release, database_url)
    before = captures(engine)
    if other_words:
        in_other_words(monkeypatch)
    with under_load(database_url) as load:
        seen = load.snapshots
        done = migrate(engine).done
        load.wait_for(1)
    assert load.snapshots > seen
    if other_words:
        after = captures(engine)
        assert [n for n, text in before.items() if after[n] == text and "cascade" not in n] == []
        assert {f"installed {tally.name}" for tally in tallies()} <= set(done)
    assert stale(engine) == []
    come_to_rest(engine, database_url)


def test_an_earlier_release_refuses_the_database_of_a_later_one(
    release: str, engine: Engine, database_url: str
) -> None:
    restore(release, database_url)
    execute(
        engine,
        "UPDATE tallykeeper.alembic_version SET version_num = 'media_9999'"
        " WHERE version_num LIKE 'media%'",
    )
    expected = "media_9999, which this version does not know; update Tallykeeper. Nothing was"
    with pytest.raises(DoesNotFit, match=expected):
        migrate(engine)
