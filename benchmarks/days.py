"""A day in fast motion: does anything creep? All systems, steady writers, Dagster's runs.

What is lived here is lived for a few hours by a test, too (`tests/dagster/day.py`).
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from statistics import median

import dagster as dg

from benchmarks.bench import Bench
from benchmarks.progress import announce
from benchmarks.report import Section
from tallykeeper.database.connections import (
    EVENT_BATCH_SIZE,
    dagster_url,
    open_engine,
    prepare_dagster_storage,
)
from tallykeeper.settings import project_root
from tests.concurrency.server import Server
from tests.dagster.day import Day, live, location_of_all

HOURS = 24
RATE = 10.0
SEED = "a day"
MEGABYTE = 1024**2
SHOWN = (0, 1, 2, 5, 11, 17, 23)


def measure(bench: Bench) -> Section:
    """Live a day on a server of its own, which may keep prepared transactions."""
    with tempfile.TemporaryDirectory(prefix="tally-") as folder:
        server = Server(Path(folder) / "pg")
        server.start()
        try:
            day = _lived(server, Path(folder), bench.hour_seconds)
        finally:
            server.stop()
    return Section("day", notes=[_table(day), *_notes_of(day, bench.hour_seconds)])


def _lived(server: Server, folder: Path, seconds: float) -> Day:
    home = folder / "home"
    home.mkdir()
    (home / "dagster.yaml").symlink_to(project_root() / "dagster.yaml")
    storage = open_engine(server.create_database("storage"))
    prepare_dagster_storage(storage)
    wanted = {
        "DAGSTER_HOME": str(home),
        "DAGSTER_PG_URL": dagster_url(storage.url),
        "DAGSTER_EVENT_BATCH_SIZE": EVENT_BATCH_SIZE,
        "TALLY_HOME": str(home),
    }
    storage.dispose()
    os.environ.update(wanted)
    engine = open_engine(server.create_database("day"))
    with dg.DagsterInstance.get() as instance:
        location = location_of_all(instance, engine)
        announce("a day begins")
        day = live(location, hours=HOURS, seconds=seconds, rate=RATE, seed=SEED)
    engine.dispose()
    return day


def _table(day: Day) -> str:
    lines = [
        "| Hour | Changes consumed | Refreshes of all tallies | The four runs | Memory | Logs |",
        "|---|---|---|---|---|---|",
    ]
    for number in SHOWN:
        hour = day.hours[number]
        lines.append(
            f"| {number + 1} | {hour.consumed:,} | {hour.seconds:.2f} s | {hour.run_seconds:.1f} s"
            f" | {hour.memory // MEGABYTE} MB | {hour.logs / MEGABYTE:.1f} MB |"
        )
    return "\n".join(lines)


def _notes_of(day: Day, seconds: float) -> list[str]:
    # The first hour takes what was written while everything was built.
    early, late = day.hours[1:9], day.hours[-8:]
    ratios = {
        "refreshes": median(h.seconds for h in late) / median(h.seconds for h in early),
        "runs": median(h.run_seconds for h in late) / median(h.run_seconds for h in early),
        "memory": median(h.memory for h in late) / median(h.memory for h in early),
    }
    written = sum(n for what, n in day.counts.items() if what.endswith("transactions"))
    shown = ", ".join(f"{what} {ratio:.2f}" for what, ratio in ratios.items())
    alarms = len(day.incidents) + len(day.failed_checks)
    return [
        f"{HOURS} hours of {seconds:.0f} s, {written:,} transactions of four systems committed,"
        f" {day.counts['snapshots']:,} snapshots looked at, none wrong; false alarms: {alarms}."
        f" The last eight hours against the second to the ninth: {shown}."
    ]
