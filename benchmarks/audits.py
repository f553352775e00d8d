"""The rolling audit: what a stretch takes, in time and temporary files, and a round of an hour.

The junction of items and tags is compared in stretches, against one comparison of all of it in one
statement. Temporary files are what the server counts for the database.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

from sqlalchemy import Engine

from assets.gallery.tallies import content_tags
from assets.media.tallies import daily_contributions
from benchmarks.bench import Bench
from benchmarks.progress import announce
from benchmarks.report import Row, Section, count
from benchmarks.timing import Sample
from tallykeeper import Everything, Tally, verify
from tallykeeper.database import sql
from tallykeeper.maintain.audit import HOUR, ROUND
from tallykeeper.maintain.stretches import MOST_ROWS
from tallykeeper.maintain.verify import Progress, compared

MEGABYTE = 1024**2
# By then a session has reported what it used.
REPORTED_SECONDS = 1.5


@dataclass(frozen=True)
class Stretches:
    """A round: seconds of each stretch, temporary bytes of the largest, keys in all."""

    seconds: tuple[float, ...]
    most_bytes: int
    keys: int


def measure(bench: Bench) -> Section:
    """The largest junction, and the days of the largest library."""
    links, files = bench.links[-1], bench.sizes[-1]
    cases: list[tuple[Tally, Engine, str]] = [
        (content_tags, bench.gallery(links).engine, f"{count(links)} links"),
        (daily_contributions, bench.library(files).engine, f"{count(files)} files"),
    ]
    rows, notes = [], []
    for tally, engine, size in cases:
        cut = _round(engine, tally)
        whole, whole_bytes = _whole(engine, tally)
        stretches = "stretch" if len(cut.seconds) == 1 else "stretches"
        what = f"all keys of `{tally.table.name}` in {len(cut.seconds)} {stretches}"
        rows.append(Row(what, size, Sample((sum(cut.seconds),)), "in one", Sample((whole,))))
        share = sum(cut.seconds) * (HOUR / ROUND) / HOUR.total_seconds()
        notes.append(
            f"A stretch of `{tally.table.name}` takes {statistics.median(cut.seconds):.1f} s, the"
            f" longest {max(cut.seconds):.1f} s, with {cut.most_bytes / MEGABYTE:,.0f} MB of"
            f" temporary files at most (in one {whole_bytes / MEGABYTE:,.0f} MB); a round in"
            f" {ROUND // HOUR} hours is {share:.2%} of each hour."
        )
    return Section("audit", rows, notes)


def _round(engine: Engine, tally: Tally) -> Stretches:
    seconds: list[float] = []
    temporary: list[int] = []
    before, began = _temporary_bytes(engine), time.perf_counter()

    def each(_progress: Progress | None) -> None:
        nonlocal before, began
        seconds.append(time.perf_counter() - began)
        used = _temporary_bytes(engine)
        temporary.append(used - before)
        announce(f"stretch {len(seconds)}: {seconds[-1]:.1f} s")
        before, began = used, time.perf_counter()

    verify(engine, tally)
    before, began = _temporary_bytes(engine), time.perf_counter()
    found = verify(engine, tally, on_progress=each)
    each(None)
    assert found.ok, f"{tally.name} differs: nothing was measured"
    return Stretches(tuple(seconds), max(temporary), found.compared)


def _whole(engine: Engine, tally: Tally) -> tuple[float, int]:
    announce(f"all of {tally.name} in one statement of more than {count(MOST_ROWS)} keys")
    before, began = _temporary_bytes(engine), time.perf_counter()
    compared(engine, tally, lambda _: [Everything()], 1, everything=True)
    return time.perf_counter() - began, _temporary_bytes(engine) - before


def _temporary_bytes(engine: Engine) -> int:
    # What a session did is counted when it has been idle for a moment, or ends.
    engine.dispose()
    time.sleep(REPORTED_SECONDS)
    with engine.connect() as connection:
        query = "SELECT temp_bytes FROM pg_stat_database WHERE datname = current_database()"
        return int(sql.execute(connection, query).scalar_one())
