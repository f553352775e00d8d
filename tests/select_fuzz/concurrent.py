"""Runs a case with three writers at once: live views and refreshes are compared meanwhile.

A refresh is compared in its own transaction, before it commits, and so in its own snapshot.
"""

from __future__ import annotations

import random
import threading
import time
from contextlib import suppress

import psycopg
from sqlalchemy.exc import DBAPIError

from tests.select_fuzz import cases
from tests.select_fuzz.adapters import Kept
from tests.select_fuzz.harness import Results, Run, Wrong, differences, open_connection, write

WRITERS = 3


class _Writer(threading.Thread):
    """Writes transactions at random until it is stopped."""

    def __init__(self, url: str, seed: int, number: int, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.url = url
        self.seed = seed
        self.writes = cases.writer(seed)
        self.writes.rng = random.Random(seed * WRITERS + number)
        self.stop = stop
        self.transactions = 0
        self.failed: list[str] = []

    def run(self) -> None:
        with open_connection(self.url) as connection:
            connection.execute("SET lock_timeout = '2s'")
            while not self.stop.is_set():
                failed = write(connection, self.writes.transaction())
                self.transactions += 1
                if failed is not None:
                    self.failed.append(failed)


def run(runner: Run, seconds: float) -> Results:
    """Run the case's tallies for so long, then compare all once more when nobody writes."""
    adapter = runner.start()
    stop = threading.Event()
    writers = [_Writer(runner.url, runner.case.seed, n, stop) for n in range(WRITERS)]
    try:
        for writer in writers:
            writer.start()
        until = time.monotonic() + seconds
        rng = random.Random(runner.case.seed)
        while time.monotonic() < until and list(runner.running()):
            kept = rng.choice(list(runner.running()))
            if rng.random() < 0.5:
                # A TRUNCATE locks several tables too, in another order than this.
                with suppress(psycopg.errors.DeadlockDetected), runner.connection.transaction():
                    runner.connection.execute(
                        "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;"
                        f"LOCK TABLE {kept.definition} IN ACCESS SHARE MODE"
                    )
                    runner.compare(kept, "live")
            else:
                _refresh(runner, kept)
    finally:
        stop.set()
        for writer in writers:
            writer.join(30)
        runner.results.transactions += sum(w.transactions for w in writers)
        for failed in (f for w in writers for f in w.failed):
            runner.results.wrong.append(Wrong(runner.case.seed, "", "write", failed))
    for kept in list(runner.running()):
        runner.compare(kept, "live")
        runner.refresh(adapter, kept)
    adapter.close()
    runner.connection.close()
    return runner.results


def _refresh(runner: Run, kept: Kept) -> None:
    found: list[str] = []
    columns = runner.columns(kept)

    def compare(connection: psycopg.Connection[tuple[object, ...]]) -> None:
        runner.results.snapshots += 1
        found[:] = differences(connection, kept, kept.derived, columns)

    try:
        runner.adapter.refresh(kept, compare)
    except (psycopg.errors.SerializationFailure, psycopg.errors.QueryCanceled):
        return
    except Exception as error:  # noqa: BLE001 -- any failure of the engine is a finding
        if not isinstance(error, DBAPIError | psycopg.Error) or runner.is_readable(kept):
            runner.found(kept.name, "refresh", error)
        return
    if found:
        runner.found(kept.name, "derived", "\n".join(found))
