"""Threads that write, keep, compare and look at a store, while its sales are pruned and killed."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from tallykeeper import CannotPrune, System, Tally, TallyBusy, open_engine, prune, rebuild, refresh
from tallykeeper import verify as compare_all
from tests.concurrency.conftest import new_seed, share
from tests.concurrency.harness import processes
from tests.integration.support import execute, rows, scalar

KILLS = share(5)
COMPARISONS = 5
WRITERS = 3
SECONDS = 240
BATCH_ROWS = 9
START = datetime(2026, 1, 1, tzinfo=UTC)
PRUNED = "SELECT count(*) FROM public.shadow"
ENDED = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE application_name LIKE '%pruner%' AND datname = current_database()"
)
AT = "timestamptz '2026-01-01Z' + random() * interval '30 days'"
SALES = (
    f"INSERT INTO store.sales SELECT {{n}} + i, i % 4, (ARRAY['a', 'test', NULL])[1 + i % 3], i,"
    f" {AT} FROM generate_series(1, 12) AS i ON CONFLICT (id) DO NOTHING",
    f"INSERT INTO store.sales VALUES ({{n}}, 2, 'b', 7, {AT})"
    " ON CONFLICT (id) DO UPDATE SET at = excluded.at, cents = store.sales.cents + 1",
    f"UPDATE store.sales SET at = {AT} WHERE id % 40 = {{few}}",
    "UPDATE store.sales SET shop = nullif({few} % 5, 4), cents = cents + 1 WHERE id % 40 = {few}",
    "DELETE FROM store.sales WHERE id % 100 = {few}",
)


@dataclass(frozen=True)
class Store:
    """What is tried: how to declare and install it, what is wrong in a tally, and what writers do.

    `latest_day`: up to how many days after the first sale is pruned.
    """

    declare: Callable[[], System]
    install: Callable[[Engine, Callable[..., None]], System]
    wrong: Callable[[Tally], str]
    statements: Sequence[str]
    freeze: bool = False
    latest_day: int = 25


class Scene:
    """Threads that work until all is seen; what fails in one is raised by the test."""

    def __init__(self, engine: Engine, store: Store, snapshots: int) -> None:
        self.engine, self.kind, self.snapshots = engine, store, snapshots
        self.store, self.seed = store.install(engine, execute), new_seed()
        self.random = random.Random(self.seed)
        self.stop = threading.Event()
        self.done: Counter[str] = Counter()
        self.failures: list[BaseException] = []
        self._threads: list[threading.Thread] = []

    def run(self) -> None:
        """Let all of them work until enough was seen. Raises what failed."""
        try:
            works = (self.keep, self.compare, self.look, self.kill)
            for work in (*[self.write] * WRITERS, *works):
                self._start(work)
            until = time.monotonic() + SECONDS
            while not (self.stop.is_set() or self.is_enough or time.monotonic() > until):
                time.sleep(0.2)
        finally:
            self._end()
        assert self.is_enough, self.done
        for step in (refresh, rebuild):
            for tally in self.store.tallies:
                step(self.engine, tally)
                assert rows(self.engine, self.kind.wrong(tally)) == []
                assert compare_all(self.engine, tally).ok

    def _start(self, work: Callable[[], None]) -> None:
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

    def _end(self) -> None:
        self.stop.set()
        for thread in self._threads:
            thread.join()
        if self.failures:
            raise self.failures[0]

    @property
    def is_enough(self) -> bool:
        """Whether all was seen often enough."""
        snapshots = self.done["look"] * len(self.store.tallies)
        often = self.done["kill"] >= KILLS and self.done["compare"] >= COMPARISONS
        return snapshots >= self.snapshots and often

    def write(self) -> None:
        statement = random.choice(self.kind.statements)
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
            found = compare_all(self.engine, tally)
            assert found.ok, (self.seed, found)

    def look(self) -> None:
        for tally in self.store.tallies:
            found = rows(self.engine, self.kind.wrong(tally))
            assert found == [], (self.seed, tally.name, found[:5])

    def kill(self) -> None:
        """Let a process prune until some rows are deleted, and kill it a moment later."""
        url = self.engine.url.update_query_dict({"application_name": "pruner"})
        address = url.render_as_string(hide_password=False)
        arguments = (self.kind, address, f"{self.seed} {self.random.random()}")
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


def prune_for_ever(kind: Store, url: str, seed: str) -> None:
    """Prune to random days, until the process is killed."""
    random_, store, engine = random.Random(seed), kind.declare(), open_engine(url)
    while True:
        before = START + timedelta(days=random_.randint(2, kind.latest_day))
        with suppress(DBAPIError, TallyBusy, CannotPrune):
            # Its session may have been ended, or a tally be stale for a moment.
            prune(
                engine,
                "store.sales",
                before,
                tallies=store.tallies,
                batch_rows=BATCH_ROWS,
                freeze=kind.freeze,
            )
