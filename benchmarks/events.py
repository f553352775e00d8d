"""Events processed per second, into an empty database and into one with a million posts.

Capture is installed, as ever. What is timed is `process` alone, from the first event to the last
commit, of events that are in the log already; the tallies are refreshed in between, untimed. A
further pass says which statements the time goes to.
"""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event

from assets.fediverse.processing.batches import process
from benchmarks.bench import Bench
from benchmarks.fediverse import POSTS, Fediverse
from benchmarks.progress import announce
from benchmarks.report import Row, Section, count, duration
from benchmarks.streams import Stream
from benchmarks.timing import Sample, seconds_of
from tallykeeper.database import sql

PER_SECOND = 10_000
REPETITIONS = 3
# How many posts the full database has, for each event that is measured: a million for 200,000.
POSTS_PER_EVENT = 5
SHOWN = 8
NANOSECONDS = 1e9


def measure(bench: Bench) -> Section:
    """Both databases; then where the time goes, in the full one."""
    events = bench.events
    empty = Sample(tuple(_into_empty(bench, events) for _ in range(REPETITIONS)))
    fediverse, stream = Fediverse(bench.server, database="events"), Stream()
    filling = _fill(fediverse, stream, events)
    full = Sample(tuple(_next(fediverse, stream, events) for _ in range(REPETITIONS)))
    _load(fediverse, stream, events)
    with where_time_goes(fediverse.engine) as spent:
        took = seconds_of(partial(process, fediverse.engine))
    posts = f"{count(round(_posts(fediverse) / 1_000) * 1_000)} posts"
    rows = [
        _row("into an empty database", events, empty),
        _row(f"into one with {posts}", events, full),
        _row("while that one was filled", *filling),
    ]
    missed = [
        f"**Missed**: {row.what} is below {count(PER_SECOND)} events/s."
        for row, took in zip(rows[:2], (empty, full), strict=True)
        if events / took.median < PER_SECOND
    ]
    return Section("events", rows, [*missed, _shown(spent, took, events)])


def _row(where: str, events: int, took: Sample) -> Row:
    rate = events / took.median
    return Row(f"processing {where}, {rate:,.0f} events/s", f"{count(events)} events", took)


def _into_empty(bench: Bench, events: int) -> float:
    fediverse = Fediverse(bench.server, database="events_empty")
    seconds = _next(fediverse, Stream(), events)
    bench.server.drop("events_empty")
    return seconds


def _fill(fediverse: Fediverse, stream: Stream, events: int) -> tuple[int, Sample]:
    """Until there are so many posts; how many events that took, and how long altogether."""
    seconds, processed = 0.0, 0
    while _posts(fediverse) < POSTS_PER_EVENT * events:
        seconds += _next(fediverse, stream, events)
        processed += events
        announce(f"{_posts(fediverse):,} posts")
    return processed, Sample((seconds,))


def _next(fediverse: Fediverse, stream: Stream, events: int) -> float:
    """Seconds that the next so many events take."""
    _load(fediverse, stream, events)
    return seconds_of(partial(process, fediverse.engine))


def _load(fediverse: Fediverse, stream: Stream, events: int) -> None:
    announce(f"making {count(events)} events")
    stream.load(fediverse, events)
    fediverse.take()
    fediverse.vacuum()
    announce("processing them")


def _posts(fediverse: Fediverse) -> int:
    with fediverse.engine.connect() as connection:
        return int(sql.execute(connection, f"SELECT count(*) FROM {POSTS}").scalar_one())


def _shown(spent: Spent, took: float, events: int) -> str:
    total = sum(spent.waited.values())
    most = sorted(spent.waited.items(), key=lambda item: -item[1])[:SHOWN]
    shown = ", ".join(f"{name} {seconds / total:.0%}" for name, seconds in most)
    text = f"Where the time goes, in one more pass of {took:.1f} s: {shown}."
    if spent.core_seconds:
        text += (
            " The one connection that processes had the server busy on a core for"
            f" {spent.core_seconds:.1f} s of it, {duration(spent.core_seconds / events)} an event."
        )
    return text


@dataclass
class Spent:
    """Seconds that the client waited for statements, by what they do to which table.

    `core_seconds` is for how long they had a core of the machine, if the server is on it.
    """

    waited: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    core_seconds: float = 0.0


@contextmanager
def where_time_goes(engine: Engine) -> Iterator[Spent]:
    """Fill what is given with the statements in the block, one connection at a time."""
    spent = Spent()
    started: list[tuple[float, float]] = []

    def before(_connection: Any, cursor: Any, *_more: Any) -> None:
        started.append((time.perf_counter(), _core_seconds(cursor)))

    def after(_connection: Any, cursor: Any, statement: str, *_more: Any) -> None:
        at, core = started.pop()
        spent.waited[_name(statement)] += time.perf_counter() - at
        spent.core_seconds += _core_seconds(cursor) - core

    event.listen(engine, "before_cursor_execute", before)
    event.listen(engine, "after_cursor_execute", after)
    try:
        yield spent
    finally:
        event.remove(engine, "before_cursor_execute", before)
        event.remove(engine, "after_cursor_execute", after)


def _core_seconds(cursor: Any) -> float:
    """For how long the server's process behind the cursor has had a core; 0 where unknown."""
    try:
        status = Path(f"/proc/{cursor.connection.info.backend_pid}/schedstat").read_text()
    except OSError:
        return 0.0
    return int(status.split()[0]) / NANOSECONDS


def _name(statement: str) -> str:
    """The verb that writes, and what it writes: `INSERT mastodon_posts`."""
    written = re.search(
        r"\b(INSERT INTO|UPDATE|DELETE FROM|MERGE INTO|CREATE TEMP(?:ORARY)? TABLE|CREATE INDEX ON"
        r"|ANALYZE|TRUNCATE)\s+(?:ONLY\s+|IF NOT EXISTS\s+)?([\w.\"]+)",
        statement,
        re.IGNORECASE,
    )
    if written is None:
        return "`" + " ".join(statement.split())[:30].replace("|", "/") + "`"
    return f"`{written[1].split()[0].upper()} {written[2].split('.')[-1]}`"
