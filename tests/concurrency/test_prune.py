"""Pruning under writers, refreshes, rebuilds and verifies; its process or session killed any time.

The rows that it deletes are kept elsewhere by a trigger. Invariant: in every snapshot each live
view is what its SELECT returns of the rows that are there and of those that were pruned, and a
verify finds nothing wrong.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from tallykeeper import TallyBusy, open_engine, prune, rebuild, refresh, verify
from tests.concurrency.conftest import new_seed
from tests.concurrency.harness import processes
from tests.integration.support import execute, rows, scalar
from tests.pruned_store import install, system, wrong

SNAPSHOTS = 500
WRITERS = 3
BATCH_ROWS = 9
SECONDS = 240
START = datetime(2026, 1, 1, tzinfo=UTC)
KILLS = 5
PRUNED = "SELECT count(*) FROM public.shadow"
ENDED = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE application_name LIKE '%pruner%' AND datname = current_database()"
)
AT = "timestamptz '2026-01-01Z' + random() * interval '30 days'"
STATEMENTS = (
    f"INSERT INTO store.sales SELECT {{n}} + i, i % 4, (ARRAY['a', 'test', NULL])[1 + i % 3], i,"
    f" {AT} FROM generate_series(1, 12) AS i ON CONFLICT (id) DO NOTHING",
    f"INSERT INTO store.sales VALUES ({{n}}, 2, 'b', 7, {AT})"
    " ON CONFLICT (id) DO UPDATE SET at = excluded.at, cents = store.sales.cents + 1",
    f"UPDATE store.sales SET at = {AT} WHERE id % 40 = {{few}}",
    "UPDATE store.sales SET shop = nullif({few} % 5, 4), cents = cents + 1 WHERE id % 40 = {few}",
    "DELETE FROM store.sales WHERE id % 100 = {few}",
    "INSERT INTO store.returns VALUES ({n}, {few} % 4, 3) ON CONFLICT (id) DO UPDATE SET cents = 5",
    "DELETE FROM store.returns WHERE id % 40 = {few}",
)

pytestmark = [pytest.mark.concurrency, pytest.mark.slow]


class Scene:
    """Threads that work until all is seen; what fails in one is raised by the test."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.store, self.seed = engine, install(engine, execute), new_seed()
        self.random = random.Random(self.seed)
        self.stop = threading.Event()
        self.done: Counter[str] = Counter()
        self.failures: list[BaseException] = []
        self._threads: list[threading.Thread] = []

    def start(self, work: Callable[[], None]) -> None:
        """Do it again and again."""

        def run() -> None:
            try:
                while not self.stop.is_set():
                    work()
                    self.done[work.__name__] += 1
            except BaseException as failure:  # noqa: BLE001 -- the test raises it
                self.failures.append(failure)
                self.stop.set()

        self._threads.append(threading.Thread(target=run, daemon=True))
        self._threads[-1].start()

    def end(self) -> None:
        """Let all of them end. Raises what failed."""
        self.stop.set()
        for thread in self._threads:
            thread.join()
        if self.failures:
            raise self.failures[0]

    @property
    def is_enough(self) -> bool:
        """Whether all was seen often enough."""
        snapshots = self.done["look"] * len(self.store.tallies)
        return snapshots >= SNAPSHOTS and self.done["kill"] >= KILLS and self.done["compare"] >= 5

    def write(self) -> None:
        statement = random.choice(STATEMENTS)
        named = statement.format(n=random.randint(1, 3000), few=random.randint(0, 39))
        with suppress(DBAPIError):
            # Others have the rows, or have inserted one of that number.
            execute(self.engine, named)
        time.sleep(random.random() / 50)

    def keep(self) -> None:
        for tally in self.store.tallies:
            with suppress(TallyBusy):
                (rebuild if self.random.random() < 0.2 else refresh)(self.engine, tally)

    def compare(self) -> None:
        for tally in self.store.tallies:
            found = verify(self.engine, tally)
            assert found.ok, (self.seed, found)

    def look(self) -> None:
        for tally in self.store.tallies:
            found = rows(self.engine, wrong(tally))
            assert found == [], (self.seed, tally.name, found[:5])

    def kill(self) -> None:
        """Let a process prune until some rows are deleted, and kill it a moment later."""
        url = self.engine.url.update_query_dict({"application_name": "pruner"})
        address = url.render_as_string(hide_password=False)
        arguments = (address, f"{self.seed} {self.random.random()}")
        process = processes.Process(target=prune_for_ever, args=arguments, daemon=True)
        before = scalar(self.engine, PRUNED)
        process.start()
        while scalar(self.engine, PRUNED) == before and not self.stop.is_set():
            assert process.is_alive()
            time.sleep(0.05)
        time.sleep(self.random.random())
        if self.random.random() < 0.5:
            rows(self.engine, ENDED)
            time.sleep(self.random.random())
        process.kill()
        process.join()


def prune_for_ever(url: str, seed: str) -> None:
    """Prune to random days, until the process is killed."""
    random_, store, engine = random.Random(seed), system(), open_engine(url)
    while True:
        before = START + timedelta(days=random_.randint(2, 25))
        with suppress(DBAPIError, TallyBusy):
            # Its session may have been ended.
            prune(engine, "store.sales", before, tallies=store.tallies, batch_rows=BATCH_ROWS)


def test_every_snapshot_is_right_whatever_is_killed(engine: Engine) -> None:
    scene = Scene(engine)
    try:
        for work in (*[scene.write] * WRITERS, scene.keep, scene.compare, scene.look, scene.kill):
            scene.start(work)
        until = time.monotonic() + SECONDS
        while not (scene.stop.is_set() or scene.is_enough or time.monotonic() > until):
            time.sleep(0.2)
    finally:
        scene.end()
    assert scene.is_enough, scene.done
    for step in (refresh, rebuild):
        for tally in scene.store.tallies:
            step(engine, tally)
            assert rows(engine, wrong(tally)) == []
            assert verify(engine, tally).ok
