"""kill -9 of the process that processes events, and of PostgreSQL itself, while events arrive.

At the end every event was processed once, and all that follows from the log is what an undisturbed
run over the same events makes of them, in another database and in one batch.
"""

from __future__ import annotations

import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb
from sqlalchemy import Engine, create_engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from assets.fediverse.processing.batches import process
from assets.fediverse.replay import verify_log
from assets.fediverse.tallies import system
from tallykeeper import refresh, verify
from tests.concurrency.conftest import new_seed, share
from tests.concurrency.harness import processes
from tests.concurrency.ledger import reconnected
from tests.concurrency.server import Server, connect, for_sqlalchemy
from tests.fediverse_events import (
    Event,
    add_events,
    add_instances,
    derived,
    events_of,
    require_same,
)
from tests.integration.support import create, execute, rows

KILLED_PROCESSORS = share(40)
KILLED_SERVERS = share(10)
EVENTS = 1_500
POSTS = 60
APPENDERS = 2
SERVER_GONE = 3
# Of each event that is marked as processed, by whichever transaction that was.
KEEP_HISTORY = (
    "CREATE TABLE public.history (event_id bigint NOT NULL)",
    "CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS"
    " 'BEGIN INSERT INTO public.history VALUES (NEW.id); RETURN NULL; END'",
    "CREATE TRIGGER note AFTER UPDATE ON fediverse.stream_events FOR EACH ROW"
    " WHEN (NEW.processed_at IS DISTINCT FROM OLD.processed_at) EXECUTE FUNCTION public.note()",
)
# With its own number, so that a client that does not know of the commit can simply send it again.
APPEND = (
    "INSERT INTO fediverse.stream_events (id, instance_id, received_at, event_type, payload)"
    " VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING"
)

pytestmark = [pytest.mark.concurrency, pytest.mark.slow]


class Appender(threading.Thread):
    """Writes numbered events to the log, whatever becomes of the server; `pace` in seconds."""

    def __init__(self, url: str, events: Sequence[tuple[int, Event]], pace: float) -> None:
        super().__init__(daemon=True)
        self.url, self.events, self.pace = url, events, pace
        self.hurry = threading.Event()
        self.failure: BaseException | None = None

    def run(self) -> None:
        """Keeps what ends it, for the test to raise."""
        try:
            self._append()
        except BaseException as failure:  # noqa: BLE001 -- the test raises it
            self.failure = failure

    def _append(self) -> None:
        connection = connect(self.url)
        for number, event in self.events:
            values = (event.instance, event.received_at, event.event_type, Jsonb(event.payload))
            while True:
                try:
                    connection.execute(APPEND, (number, *values))
                    break
                except psycopg.OperationalError:
                    connection.close()
                    connection = reconnected(self.url)
            self.hurry.wait(self.pace)
        connection.close()


def _process(url: str, batch: int, inside: Any) -> None:
    """Process what there is, again and again, in a process of its own."""
    engine = create_engine(for_sqlalchemy(url), poolclass=NullPool)

    def begun(_progress: object) -> None:
        inside.value = 1

    try:
        while True:
            if not process(engine, batch_events=batch, on_batch=begun).events:
                inside.value = 0
                time.sleep(0.01)
    except OperationalError:
        sys.exit(SERVER_GONE)


def _prepared(url: str) -> Engine:
    engine = create_engine(for_sqlalchemy(url), poolclass=NullPool)
    create(engine, system)
    add_instances(engine)
    return engine


def _undisturbed(url: str, events: Sequence[Event]) -> dict[str, list[str]]:
    engine = _prepared(url)
    add_events(engine, events)
    process(engine, batch_events=2 * EVENTS)
    return derived(engine)


def test_a_processor_killed_at_any_moment_loses_no_event_and_applies_none_twice(
    server: Server, database: Callable[[str], str]
) -> None:
    seed = new_seed()
    rng = random.Random(seed)
    events = events_of(seed, EVENTS, POSTS)
    expected = _undisturbed(database("undisturbed"), events)
    url = database("killed")
    engine = _prepared(url)
    execute(engine, *KEEP_HISTORY)
    numbered = list(enumerate(events, 1))
    appenders = [
        Appender(url, numbered[n::APPENDERS], pace=rng.uniform(0.04, 0.06))
        for n in range(APPENDERS)
    ]
    for appender in appenders:
        appender.start()
    seen: Counter[str] = Counter()
    for kill in _kills(rng):
        seen += _kill_one(server, url, kill, rng)
    for appender in appenders:
        appender.hurry.set()
        appender.join(60)
        assert appender.failure is None, (appender.failure, seed)
    _settle(engine, expected, seed)
    assert seen["in the middle"] >= (KILLED_PROCESSORS + KILLED_SERVERS) // 2, seen


def _kills(rng: random.Random) -> list[str]:
    kills = ["processor"] * KILLED_PROCESSORS + ["server"] * KILLED_SERVERS
    rng.shuffle(kills)
    return kills


def _kill_one(server: Server, url: str, kill: str, rng: random.Random) -> Counter[str]:
    """Let a processor run for a while and kill it, or the server under it."""
    inside = processes.Value("b", 0)
    processor = processes.Process(
        target=_process, args=(url, rng.choice((1, 5, 25)), inside), daemon=True
    )
    processor.start()
    deadline = time.monotonic() + 20
    while not inside.value and processor.is_alive() and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(rng.uniform(0, 0.6))
    middle = bool(inside.value)
    if kill == "processor":
        processor.kill()
    else:
        server.kill()
        server.start()
    processor.join(30)
    assert processor.exitcode in {-signal.SIGKILL, SERVER_GONE}, "the processor failed by itself"
    return Counter({"in the middle": int(middle), kill: 1})


def _settle(engine: Engine, expected: dict[str, list[str]], seed: str) -> None:
    process(engine)
    marked = Counter(number for (number,) in rows(engine, "SELECT event_id FROM public.history"))
    assert marked == Counter(range(1, EVENTS + 1)), f"seed {seed}"
    require_same(derived(engine), expected, f"seed {seed}")
    assert verify_log(engine).ok, f"seed {seed}"
    for tally in system.tallies:
        refresh(engine, tally)
        assert verify(engine, tally).ok
