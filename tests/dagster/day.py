"""A day in fast motion: all systems in one database, written at a steady rate, run by Dagster.

Writers and onlookers are processes of their own; the hours' runs, with their stretches of the
audit, and the looks of the sensors happen here, one after the other; at the end every key is
compared. What must hold: no snapshot is ever wrong, nothing is alerted, and neither memory nor logs
grow. `test_day.py` lives a few hours of it, and
the benchmark `day` all of them.
"""

from __future__ import annotations

import queue
import random
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
import psutil
from sqlalchemy import Engine, text

from tallykeeper import Tally
from tallykeeper.dagster.code_location import assets_of
from tallykeeper.dagster.partitions import daily
from tallykeeper.discovery import all_systems
from tests.concurrency.harness import processes
from tests.concurrency.server import connect
from tests.concurrency.subjects import SUBJECTS
from tests.concurrency.writers import Writer
from tests.dagster.location import Location, Ran
from tests.oracle import OracleViolation, look
from tests.templates import migrated

NAMES = ("media", "gallery", "fediverse", "classroom")
# A day without these: they make a tally stale, which a check then warns of.
EMPTYING = {"truncate", "forget all analyses"}
# Writers also write what is worth a warning: items with unknown tags, events that are none.
DESERVED = ("nothing_left_out", "events_processed", "inventory")
LOOKS_AN_HOUR = 2
# A process ends its last transaction or look first, which takes its time on a busy machine.
SETTLE_SECONDS = 240


@dataclass(frozen=True)
class Hour:
    """One hour: what its runs took and what it left.

    `seconds` is what the refreshes of all tallies took inside the database, `consumed` how many
    change-log rows they consumed, `run_seconds` what the four runs took in all. `memory` is this
    process's, which runs them; `logs` the change logs' size after the refresh, dead rows and all.
    """

    seconds: float
    consumed: int
    run_seconds: float
    memory: int
    logs: int


@dataclass
class Day:
    """The hours, how many snapshots were looked at, what was written, and what was alerted.

    `ended` is how many of its processes ended so far: all of them, at the end of the day.
    """

    hours: list[Hour] = field(default_factory=list)
    ended: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    failed_checks: list[str] = field(default_factory=list)
    incidents: list[str] = field(default_factory=list)


def location_of_all(instance: dg.DagsterInstance, engine: Engine) -> Location:
    """All systems in one database, migrated and built."""
    systems = all_systems()
    migrated(engine, *systems)
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO fediverse.instances (id, base_url) OVERRIDING SYSTEM VALUE"
                " VALUES (1, 'https://one.example'), (2, 'https://two.example')"
            )
        )
    location = Location(instance, engine, [assets_of(system, daily()) for system in systems])
    location.build()
    return location


def live(location: Location, *, hours: int, seconds: float, rate: float, seed: str) -> Day:
    """Live so many hours of so many seconds each, with `rate` transactions a second per system.

    An hour takes longer where its runs do. Raises OracleViolation for a wrong snapshot.
    """
    url = location.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    stop, reports = processes.Event(), processes.Queue()
    started = [
        processes.Process(target=_guarded, args=(work, url, name, rate, seed, stop, reports))
        for name in NAMES
        for work in (_write, _look_on)
    ]
    day = Day()
    for process in started:
        process.start()
    try:
        for _ in range(hours):
            until = time.monotonic() + seconds
            day.hours.append(_hour(location, day))
            for _ in range(LOOKS_AN_HOUR):
                time.sleep(max(0.0, (until - time.monotonic()) / LOOKS_AN_HOUR))
                _look_for_alerts(location)
            _collect(reports, day, running=0)
    finally:
        stop.set()
        _collect(reports, day, running=len(started))
        for process in started:
            process.join(SETTLE_SECONDS)
    _hour(location, day)
    _require(location.audit(), day)
    _look_for_alerts(location)
    with location.engine.connect() as connection:
        found = connection.execute(
            text(
                "SELECT subject || ' ' || kind || ': ' || what FROM tallykeeper.incidents"
                " WHERE kind <> ALL (:deserved)"
            ),
            {"deserved": list(DESERVED)},
        )
        day.incidents = list(found.scalars())
    return day


def _require(ran: Ran, day: Day) -> None:
    """A run that succeeded; which of its checks failed is noted."""
    assert ran.succeeded, ran.logged()
    day.failed_checks += [f for f in ran.failures() if not f.startswith(DESERVED)]


def _hour(location: Location, day: Day) -> Hour:
    """Run what the schedules would, and take the measures."""
    began = time.perf_counter()
    ran = [location.hourly(name) for name in NAMES]
    run_seconds = time.perf_counter() - began
    for each in ran:
        _require(each, day)
    tallies = [tally for built in location.built for tally in built.system.tallies]
    with location.engine.connect() as connection:
        refreshed = connection.execute(
            text("SELECT sum(seconds), sum(pending_consumed) FROM tallykeeper.tally_state")
        ).one()
        logs = sum(_size(connection, tally) for tally in tallies)
    return Hour(
        seconds=refreshed[0],
        consumed=int(refreshed[1]),
        run_seconds=run_seconds,
        memory=psutil.Process().memory_info().rss,
        logs=logs,
    )


def _size(connection: Any, tally: Tally) -> int:
    query = text("SELECT pg_total_relation_size(:log)")
    return int(connection.scalar(query, {"log": tally.log_name}))


def _look_for_alerts(location: Location) -> None:
    location.look("alerts")


def _collect(reports: Any, day: Day, running: int) -> None:
    """Add up what processes report, until `running` of them ended. Raises what they failed of."""
    failures: list[Exception] = []
    while day.ended < running or not reports.empty():
        try:
            kind, what = reports.get(timeout=SETTLE_SECONDS)
        except queue.Empty:
            raise AssertionError(f"{running - day.ended} processes do not end") from None
        if kind == "ended":
            day.ended += 1
        elif kind == "failed":
            failures.append(what)
        else:
            day.counts.update(what)
    if failures:
        failures.sort(key=lambda f: not isinstance(f, OracleViolation))
        raise failures[0]


def _guarded(
    work: Any, url: str, name: str, rate: float, seed: str, stop: Any, reports: Any
) -> None:
    """The body of a process: whatever it ends of is put into the queue."""
    try:
        work(url, name, rate, seed, stop, reports)
    except OracleViolation as violation:
        message = f"{violation.message}\nseed {seed}, {name}"
        reports.put(("failed", OracleViolation(message, violation.kinds)))
    except Exception:  # noqa: BLE001 - raised by the process that runs the test
        text = f"{work.__name__} of {name}, seed {seed}:\n{traceback.format_exc()}"
        reports.put(("failed", AssertionError(text)))
    finally:
        reports.put(("ended", name))


def _write(url: str, name: str, rate: float, seed: str, stop: Any, reports: Any) -> None:
    operations = [o for o in SUBJECTS[name].operations if o.name not in EMPTYING]
    writer = Writer(url, f"writer {name}", seed, operations)
    due = time.monotonic()
    while not stop.is_set():
        writer.transaction()
        writer.resolve_prepared()
        due = max(due + 1 / rate, time.monotonic() - 1)
        time.sleep(max(0.0, due - time.monotonic()))
    while writer.resolve_prepared():
        pass
    reports.put(("counts", Counter({f"{name} transactions": writer.done["committed"]})))


def _look_on(url: str, name: str, rate: float, seed: str, stop: Any, reports: Any) -> None:
    rng = random.Random(f"{seed} onlooker {name}")
    oracles: Sequence[Any] = SUBJECTS[name].oracles
    connection = connect(url)
    while not stop.is_set():
        look(connection, rng.choice(oracles))
        reports.put(("counts", Counter({"snapshots": 1})))
        stop.wait(1 / rate)
