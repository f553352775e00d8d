"""Writers, refreshes, and readers that compare, on a cluster, all at the same time."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import psycopg
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from tallykeeper import Tally, Verification, open_engine, rebuild, refresh, verify
from tallykeeper.catalog.transactions import SNAPSHOT
from tallykeeper.database import sql
from tallykeeper.database.connections import DatabaseUnavailable
from tallykeeper.errors import TallyError
from tallykeeper.places.place import Place
from tallykeeper.places.tallies import Kept, kept_at
from tallykeeper.places.work import everywhere

Change = Callable[[psycopg.Connection[tuple[object, ...]], random.Random], None]
PAUSE_SECONDS = 0.2


@dataclass
class Race:
    """What is done while it lasts, and what was found; `wrong` has to stay empty."""

    url: str
    tallies: Sequence[Tally]
    places: Callable[[], Sequence[Place]]
    change: Change
    done: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    ended: threading.Event = field(default_factory=threading.Event)

    def run(self, until: Callable[[Race], bool], *, writers: int = 3) -> None:
        """Run until `until` is true."""
        works = [
            *(lambda n=n: self._write(n) for n in range(writers)),
            self._refresh,
            self._compare_places,
            self._compare_all,
        ]
        threads = [threading.Thread(target=self._guarded, args=(work,)) for work in works]
        for thread in threads:
            thread.start()
        try:
            while not until(self) and not self.wrong:
                time.sleep(PAUSE_SECONDS)
        finally:
            self.ended.set()
            for thread in threads:
                thread.join()

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 -- said by the test
            self.wrong.append(f"{type(error).__name__}: {error}")

    def _write(self, number: int) -> None:
        rng = random.Random(number)
        while not self.ended.is_set():
            try:
                with psycopg.connect(self.url.replace("+psycopg", "")) as connection:
                    while not self.ended.is_set():
                        with connection.transaction():
                            self.change(connection, rng)
                            if rng.random() < 0.1:
                                raise psycopg.Rollback
                        self.done["transactions"] += 1
            except psycopg.Error as error:
                # Deadlocks, a worker that is lost, a shard that moves.
                self.refused[f"write: {type(error).__name__}"] += 1
                time.sleep(PAUSE_SECONDS)

    def _refresh(self) -> None:
        rng = random.Random(7)
        while not self.ended.is_set():
            works: tuple[Callable[[Engine, Tally], object], ...] = (refresh, rebuild, verify)
            work = rng.choices(works, (8, 1, 2))[0]
            name = str(getattr(work, "__name__", work))
            try:
                done = everywhere(self.tallies, self.places, work)
            except (TallyError, SQLAlchemyError, DatabaseUnavailable) as error:
                self.refused[f"places: {type(error).__name__}"] += 1
                time.sleep(PAUSE_SECONDS)
                continue
            for each in done:
                if each.error is not None:
                    self.refused[f"{name}: {type(each.error).__name__}"] += 1
                    continue
                self.done[name] += 1
                if isinstance(each.result, Verification) and not (
                    each.result.ok or each.result.stale
                ):
                    self.wrong.append(f"{each.tally} at {each.place}: {each.result}")

    def _compare_places(self) -> None:
        while not self.ended.is_set():
            try:
                places = self.places()
            except (TallyError, SQLAlchemyError, DatabaseUnavailable):
                time.sleep(PAUSE_SECONDS)
                continue
            for place in places:
                with place.connected() as engine:
                    for _ in range(25):
                        for each in kept_at(self.tallies, [place]):
                            self._compare_place(engine, each)

    def _compare_place(self, engine: Engine, kept: Kept) -> None:
        try:
            with engine.connect() as connection:
                kept.tally.bind(connection)
                columns = sql.columns(kept.tally.columns)
                found = _differences(
                    connection,
                    f"SELECT {columns} FROM {kept.tally.live_name}",
                    f"SELECT {columns} FROM ({kept.tally.definition}) AS e",
                )
        except (SQLAlchemyError, TallyError, DatabaseUnavailable) as error:
            self.refused[f"read {kept.place.name}: {type(error).__name__}"] += 1
            return
        self.done[f"place {kept.place.name}"] += 1
        if found:
            self.wrong.append(f"{kept}: {found}")

    def _compare_all(self) -> None:
        """At the coordinator: each worker has one snapshot for all statements of a transaction."""
        engine = open_engine(self.url).execution_options(**SNAPSHOT)
        while not self.ended.is_set():
            for tally in self.tallies:
                try:
                    before = tuple(self.places())
                    with engine.connect() as connection, connection.begin():
                        sql.execute(
                            connection, "SET LOCAL citus.max_adaptive_executor_pool_size = 1"
                        )
                        columns = ", ".join(c for c in tally.columns)
                        live = set_of(connection, f"SELECT {columns} FROM {tally.live_name}")
                        expected = set_of(
                            connection, f"SELECT {columns} FROM ({tally.definition}) AS e"
                        )
                    moved = tuple(self.places()) != before
                except (SQLAlchemyError, TallyError, DatabaseUnavailable) as error:
                    self.refused[f"read coordinator: {type(error).__name__}"] += 1
                    time.sleep(PAUSE_SECONDS)
                    continue
                if moved:
                    # The second statement may have had the snapshot of another worker.
                    self.refused["read coordinator: moved"] += 1
                    continue
                self.done["coordinator"] += 1
                if live != expected:
                    differ = [*(live - expected).items(), *(expected - live).items()][:3]
                    self.wrong.append(f"{tally.name} at the coordinator: {differ}")
        engine.dispose()


def set_of(connection: Connection, query: str) -> Counter[str]:
    """The rows, each with how often it is there."""
    return Counter(repr(tuple(row)) for row in sql.execute(connection, query))


def _differences(connection: Connection, kept: str, expected: str) -> list[object]:
    compared = (
        f"WITH k AS MATERIALIZED ({kept}), e AS MATERIALIZED ({expected})"
        " (TABLE k EXCEPT ALL TABLE e) UNION ALL (TABLE e EXCEPT ALL TABLE k) LIMIT 3"
    )
    return list(sql.execute(connection, compared))
