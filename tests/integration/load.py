"""Writers of every system and an onlooker, around whatever is done to a database meanwhile.

They begin before it and go on after it, so that no moment of it is without them. Invariants:
nothing that they do makes a tally stale, so that a rebuild is never their doing.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator, Sequence, Set
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import psycopg
from psycopg.errors import DeadlockDetected, UndefinedColumn
from sqlalchemy import Engine

from assets.fediverse.processing.batches import process
from tallykeeper import Tally, refresh, verify
from tallykeeper.discovery import all_systems
from tests.classroom import KEPT_BY_0_1_0
from tests.concurrency.subjects import SUBJECTS
from tests.concurrency.writers import Operation, Writer
from tests.fediverse_oracles import FEDIVERSE
from tests.integration.support import judge, rows
from tests.oracle import DAILY, GALLERY, HOURLY, look, settle

ORACLES = (DAILY, HOURLY, *GALLERY, *FEDIVERSE, *KEPT_BY_0_1_0)
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
    """Writers of every system and an onlooker, at work until asked to stop."""

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
                except (DeadlockDetected, UndefinedColumn):
                    # The migration locks all tables; and what an earlier release made lacks
                    # columns until then. Nothing was seen.
                    continue
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


def come_to_rest(engine: Engine, url: str, rebuilt: Set[str] = frozenset()) -> None:
    """All is right; refreshed, and right with nothing pending. Only `rebuilt` may be built anew."""
    judge(engine, ORACLES)
    process(engine)
    for tally in tallies():
        done = refresh(engine, tally)
        assert (done.how == "rebuild") == (tally.name in rebuilt), done
        assert verify(engine, tally).ok
    with psycopg.connect(url, autocommit=True) as connection:
        for oracle in ORACLES:
            settle(connection, oracle)


def stale(engine: Engine) -> set[str]:
    """The tallies that the next refresh would rebuild."""
    return {name for (name,) in rows(engine, "SELECT tally FROM tallykeeper.stale_marks")}
