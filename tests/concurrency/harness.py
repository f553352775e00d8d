"""Running a subject: writers, refreshers and onlookers, each in a process, until enough is seen.

Processes, because threads would take turns and collide less. The first violation, or any failure
that is not of a writer's own making, stops all and is raised here, with the seed.
"""

from __future__ import annotations

import importlib
import multiprocessing
import queue
import random
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from psycopg.errors import DeadlockDetected, SerializationFailure
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from tallykeeper import (
    Progress,
    Tally,
    TallyBusy,
    backfill,
    rebuild,
    refresh,
    verify,
)
from tests.concurrency.server import connect, for_sqlalchemy
from tests.concurrency.subjects import SUBJECTS, Subject
from tests.concurrency.writers import Writer
from tests.oracle import OracleViolation, look, settle

# The server of forked processes has imported everything: a process starts in milliseconds.
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload([__name__])

# Of a backfill, by each of its batches; it dies as a process does that loses its connection.
ODDS_OF_INTERRUPTION = 0.06
INTERRUPTED = "interrupted backfill"
# By each refresh and the like, for subjects that have more to keep right.
ODDS_OF_KEEPING_UP = 0.4
# For the others to end by themselves once one has failed: what waits for a lock that a prepared
# transaction holds would wait for as long as a refresh may.
ENDING_SECONDS = 5.0
FIRST_DAY = datetime(2024, 2, 29, tzinfo=UTC)
DAYS = 12


@dataclass(frozen=True)
class Plan:
    """How many of whom, and when it is enough.

    That is after so many snapshots and refreshes, when everything in `kinds` was written at least
    once, and everything in `at_least` counted so often. `seconds` is a limit that must not be
    reached.
    """

    subject: str
    url: str
    seed: str
    snapshots: int
    refreshes: int
    seconds: float
    kinds: tuple[str, ...] = ()
    at_least: Mapping[str, int] = field(default_factory=dict)
    writers: int = 4
    refreshers: int = 2
    onlookers: int = 2


@dataclass
class Seen:
    """What happened, counted. Keys are counted once per snapshot."""

    counts: Counter[str] = field(default_factory=Counter)
    wrote: Counter[str] = field(default_factory=Counter)

    @property
    def snapshots(self) -> int:
        return self.counts["snapshots"]

    def missing(self, plan: Plan) -> list[str]:
        """What was not seen often enough yet."""
        wanted = {"snapshots": plan.snapshots, "refreshes": plan.refreshes, **plan.at_least}
        found = [
            f"{self.counts[what]} of {count} {what}"
            for what, count in wanted.items()
            if self.counts[what] < count
        ]
        done = self.wrote + self.counts
        return found + [f"no {kind!r}" for kind in plan.kinds if not done[kind]]


class Interrupted(Exception):
    """Thrown into a backfill between two of its batches."""


class NotEnough(AssertionError):
    """The time was over before enough snapshots were seen."""


def run(plan: Plan) -> Seen:
    """Let them all work, then let it come to rest and judge the end. Returns what happened.

    Raises OracleViolation for a wrong snapshot, NotEnough when the time is over.
    """
    stop, reports = processes.Event(), processes.Queue()
    works = [(_write, n) for n in range(plan.writers)]
    works += [(_maintain, n) for n in range(plan.refreshers)]
    works += [(_look_on, n) for n in range(plan.onlookers)]
    started = [
        processes.Process(target=_report, args=(work, plan, number, stop, reports), daemon=True)
        for work, number in works
    ]
    seen, patience = Seen(), 0.0
    for process in started:
        process.start()
    try:
        _collect(plan, seen, reports, running=len(started), stop=stop)
        patience = 30.0
    finally:
        stop.set()
        for process in started:
            process.join(patience)
            if process.is_alive():
                process.kill()
    _come_to_rest(plan)
    return seen


def _collect(plan: Plan, seen: Seen, reports: Any, running: int, stop: Any) -> None:
    """Add up the reports until every process has ended; stop them when it is enough."""
    deadline = time.monotonic() + plan.seconds
    last = deadline + 60
    failures: list[Exception] = []
    while running:
        try:
            kind, what = reports.get(timeout=max(0.1, last - time.monotonic()))
        except queue.Empty:
            if failures:
                break
            raise NotEnough(f"a process does not end; seed {plan.seed}") from None
        if kind == "ended":
            running -= 1
        elif kind == "failed":
            failures.append(what)
            last = min(last, time.monotonic() + ENDING_SECONDS)
        else:
            getattr(seen, kind).update(what)
        if failures or not seen.missing(plan) or time.monotonic() > deadline:
            stop.set()
    if failures:
        # A violation explains what the others failed of.
        failures.sort(key=lambda f: not isinstance(f, OracleViolation))
        raise failures[0]
    if seen.missing(plan):
        raise NotEnough(
            f"{plan.subject}: after {plan.seconds} s still {', '.join(seen.missing(plan))};"
            f" seed {plan.seed}; {seen}"
        )


def _report(
    work: Callable[[Plan, int, Any, Callable[[str, Counter[str]], None]], None],
    plan: Plan,
    number: int,
    stop: Any,
    reports: Any,
) -> None:
    """The body of a process: whatever it ends of is put into the queue."""
    try:
        work(plan, number, stop, lambda kind, counts: reports.put((kind, counts)))
    except OracleViolation as violation:
        message = f"{violation.message}\nseed {plan.seed}, subject {plan.subject!r}"
        reports.put(("failed", OracleViolation(message, violation.kinds)))
    except Exception:  # noqa: BLE001 - raised by the process that runs the test
        text = f"{work.__name__} {number} of {plan.subject!r}, seed {plan.seed}:\n"
        reports.put(("failed", AssertionError(text + traceback.format_exc())))
    finally:
        reports.put(("ended", number))


def _write(plan: Plan, number: int, stop: Any, tell: Callable[[str, Counter[str]], None]) -> None:
    operations = SUBJECTS[plan.subject].operations
    writer = Writer(plan.url, f"writer {number}", plan.seed, operations)
    while not stop.is_set():
        for _ in range(10):
            writer.transaction()
            if writer.random.random() < 0.3:
                writer.resolve_prepared()
        tell("wrote", writer.done)
        writer.done = Counter()


def _maintain(
    plan: Plan, number: int, stop: Any, tell: Callable[[str, Counter[str]], None]
) -> None:
    """Refresh, rebuild and verify at random. A verify may find a tally stale, never wrong."""
    rng = random.Random(f"{plan.seed} refresher {number}")
    subject = SUBJECTS[plan.subject]
    if subject.batch_rows:
        _cut_into_batches(subject.batch_rows)
    if number % 2:
        # Of two one compares all keys at once, and the other in stretches.
        _set("tallykeeper.maintain.stretches", {"FEWEST_ROWS": 20, "MOST_BYTES": 0})
    tallies = subject.system.tallies
    engine = create_engine(for_sqlalchemy(plan.url))
    while not stop.is_set():
        tally = rng.choice(tallies)
        what = rng.choices(("refreshes", "window rebuilds", "rebuilds", "verifies"), (12, 3, 1, 3))[
            0
        ]
        try:
            if subject.keep_up is not None and rng.random() < ODDS_OF_KEEPING_UP:
                tell("counts", Counter([subject.keep_up(engine, rng)]))
            tell("counts", _maintained(engine, tally, what, rng))
        except Interrupted:
            tell("counts", Counter([INTERRUPTED]))
        except TallyBusy:
            # The other refresher has a backfill under way; or a referenced row is too long in the
            # hands of a transaction that deletes it, which may be prepared.
            tell("counts", Counter(["given up"]))
        time.sleep(rng.uniform(0, 0.03))


def _maintained(engine: Any, tally: Tally, what: str, rng: random.Random) -> Counter[str]:
    """Do it; what is to be counted."""

    def perhaps_interrupt(_progress: Progress) -> None:
        if rng.random() < ODDS_OF_INTERRUPTION:
            raise Interrupted

    if what == "refreshes":
        done = refresh(engine, tally, on_progress=perhaps_interrupt)
        return Counter({what: done.how == "refresh", "keys changed": done.keys_changed})
    if what == "verifies":
        _verify(engine, tally, rng)
    elif what == "rebuilds":
        rebuild(engine, tally, on_progress=perhaps_interrupt)
    elif tally.batches is not None:
        lane = rng.choice(list(tally.batches.lanes))
        again = rng.random() < 0.5
        backfill(engine, tally, [lane], restart=again, on_progress=perhaps_interrupt)
    else:
        rebuild(engine, tally, *(_window(rng) if tally.time_key else ()))
    return Counter([what])


def _cut_into_batches(rows: int) -> None:
    """Let backfills in this process go by batches of about so many rows, with short pauses."""
    wanted: dict[str, dict[str, float]] = {
        "tallykeeper.maintain.backfill.run": {
            "FIRST_ROWS": rows,
            "LEAST_ROWS": rows,
            "MOST_ROWS": 2 * rows,
            "LEAST_ITEMS": 3,
        },
        "tallykeeper.maintain.backfill.throttle": {"PATIENT_SECONDS": 0.005},
    }
    for module, values in wanted.items():
        _set(module, values)


def _set(module: str, values: dict[str, float]) -> None:
    """Let a module of the engine have other limits in this process."""
    for name, value in values.items():
        assert hasattr(importlib.import_module(module), name), f"{module} has no {name}"
        setattr(importlib.import_module(module), name, value)


def _verify(engine: Any, tally: Tally, rng: random.Random) -> None:
    windows = rng.choice((None, "touched", [_window(rng), _window(rng)]))
    found = verify(engine, tally, windows if tally.time_key else None)  # type: ignore[arg-type]
    if found.differing:
        raise OracleViolation(
            f"verify of {tally.name}, windows {windows}, found differences where writers are at"
            f" work: {found.differences}",
            frozenset({"verify"}),
        )


def _window(rng: random.Random) -> tuple[datetime | None, datetime | None]:
    """A window that lies somewhere in the days that are written; its ends may be open."""
    start = FIRST_DAY + timedelta(days=rng.randrange(DAYS))
    end = start + timedelta(days=rng.randint(1, 3))
    return rng.choice(((start, end), (start, end), (None, end), (start, None)))


def _look_on(plan: Plan, number: int, stop: Any, tell: Callable[[str, Counter[str]], None]) -> None:
    rng = random.Random(f"{plan.seed} onlooker {number}")
    connection, subject = connect(plan.url), SUBJECTS[plan.subject]
    while not stop.is_set():
        try:
            _read_live(connection, subject, tell)
            # A snapshot belongs to one tally: another look is another snapshot.
            seen = look(connection, rng.choice(subject.oracles))
        except DeadlockDetected:
            # A TRUNCATE with CASCADE locks the sources in an order of its own; nothing was seen.
            tell("counts", Counter(["looks given up to a TRUNCATE"]))
            continue
        tell(
            "counts",
            Counter(
                {
                    "snapshots": 1,
                    "snapshots with settled and pending keys": bool(seen.settled and seen.pending),
                    "snapshots while nothing is stale": not seen.stale,
                    "settled keys": seen.settled,
                    "live keys": seen.keys,
                }
            ),
        )
        time.sleep(rng.uniform(0, 0.03))


def _read_live(
    connection: psycopg.Connection[Any], subject: Subject, tell: Callable[[str, Counter[str]], None]
) -> None:
    """Read as an application does. Across a TRUNCATE that may fail, but not answer wrongly."""
    try:
        agreed = connection.execute(subject.agreement).fetchone()
    except SerializationFailure:
        tell("counts", Counter(["live reads refused across a TRUNCATE"]))
        return
    if agreed != (True,):
        raise OracleViolation("two live views contradict each other", frozenset({"live"}))


def _come_to_rest(plan: Plan) -> None:
    """Nothing prepared is left, everything is refreshed: derived and live are the sources' sum."""
    subject = SUBJECTS[plan.subject]
    writer = Writer(plan.url, "the last", plan.seed, subject.operations)
    with writer.connection:
        while writer.resolve_prepared():
            pass
    engine = create_engine(for_sqlalchemy(plan.url), poolclass=NullPool)
    with connect(plan.url) as connection:
        for oracle in subject.oracles:
            look(connection, oracle)
        for tally in subject.system.tallies:
            refresh(engine, tally)
            found = verify(engine, tally)
            assert not found.differing, found
            assert not found.stale, found
        for oracle in subject.oracles:
            settle(connection, oracle)
