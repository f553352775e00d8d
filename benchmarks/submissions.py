"""The classroom: refresh after a day's work at several sizes, rebuilds, reads by id.

Beside the refresh and the rebuild is what they replace: a Python loop over submissions that fetches
the log of each and counts. It is timed on a sample, and what the sample took is extrapolated.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import psycopg

import tallykeeper
from assets.classroom import reads, tables
from assets.classroom.tallies import submission_counts, system
from benchmarks.bench import Bench
from benchmarks.classroom import SUBMISSIONS, Classroom
from benchmarks.recalculating import COUNTERS, FIGURES, recalculate
from benchmarks.report import Row, Section, count, duration
from benchmarks.server import libpq
from benchmarks.timing import Contender, Sample, alternate, seconds_of
from tallykeeper import Everything, Tally
from tallykeeper.database import sql

WORKED_ON, EVENTS_EACH = 2_000, 5
# Of so many submissions events are pending, when counts are read.
PENDING = (0, 200, WORKED_ON)
REPETITIONS, REBUILDS, SAMPLE, READS = 9, 3, 500, 1_000
GROWTH_AT_MOST, BARE_AT_MOST, READ_AT_MOST_SECONDS = 1.3, 1.25, 0.002
ALL, ONE = "all seven tallies", "`submission_counts`"
LOOP, BARE = "a Python loop over these submissions", "bare `INSERT ... SELECT`s into equal tables"
EMPTY, RIGHT = "into empty tables", "that are right already"
COUNTS = sql.name_of(tables.submission_counts)
WHAT = f"after {count(WORKED_ON * EVENTS_EACH)} new events of {count(WORKED_ON)} submissions"

READ: dict[str, tuple[Callable[..., Any], str]] = {
    "submission_counts": (reads.submission_counts, SUBMISSIONS),
    "assignment_counts": (reads.assignment_counts, sql.name_of(tables.assignments)),
    "course_counts": (reads.course_counts, sql.name_of(tables.courses)),
    "user_counts": (reads.user_counts, sql.name_of(tables.users)),
}


def measure(bench: Bench) -> Section:
    """Refreshes and reads at all sizes; then rebuilds of the largest."""
    classrooms = {events: Classroom(bench.server, events) for events in bench.sizes}
    for classroom in classrooms.values():
        _make_counters(classroom)
    refreshed = _refreshes(classrooms)
    rows = _refresh_rows(bench.sizes, refreshed)
    missed = []
    for classroom in classrooms.values():
        read, slow = _reads(classroom)
        rows += read
        missed += slow
    rows += _rebuilds(classrooms[bench.sizes[-1]])
    return Section("classroom", rows, _notes(missed))


def _notes(missed: Sequence[str]) -> list[str]:
    limit = f"{duration(READ_AT_MOST_SECONDS)} in nineteen calls of twenty"
    return [
        f"The loop was timed on {SAMPLE} submissions, in one transaction; it counted the same as"
        " the tally for each of them.",
        f"**Missed** {limit}: {'; '.join(missed)}." if missed else f"Every read within {limit}.",
    ]


def _refreshes(classrooms: dict[int, Classroom]) -> dict[tuple[int, str], Sample]:
    """By size: the refresh of all tallies, of the submissions' alone, and the loop."""
    took: dict[tuple[int, str], list[float]] = {
        (events, what): [] for events in classrooms for what in (ALL, ONE, LOOP)
    }
    worked: dict[int, list[int]] = {}

    def change() -> None:
        for events, classroom in classrooms.items():
            worked[events] = classroom.work(WORKED_ON, EVENTS_EACH)

    def refresh(events: int) -> None:
        each = {
            tally: seconds_of(partial(tallykeeper.refresh, classrooms[events].engine, tally))
            for tally in system.tallies
        }
        took[events, ALL].append(sum(each.values()))
        took[events, ONE].append(each[submission_counts])

    def loop(events: int) -> None:
        sample = worked[events][:SAMPLE]
        seconds = _loop(classrooms[events], sample)
        took[events, LOOP].append(seconds * len(worked[events]) / len(sample))

    contenders = {
        (n, what): Contender(partial(what, n)) for n in classrooms for what in (refresh, loop)
    }
    alternate(contenders, 1, change)
    for seconds in took.values():
        seconds.clear()
    alternate(contenders, REPETITIONS, change)
    for events, classroom in classrooms.items():
        _require_equal(classroom, worked[events][:SAMPLE])
    return {name: Sample(tuple(seconds)) for name, seconds in took.items()}


def _refresh_rows(sizes: Sequence[int], took: dict[tuple[int, str], Sample]) -> list[Row]:
    rows = [
        Row(f"refresh of {what} {WHAT}", f"{count(n)} events", took[n, what], LOOP, took[n, LOOP])
        for n in sizes
        for what in (ALL, ONE)
    ]
    return rows + [
        Row(
            f"refresh of {what}, {count(n)} against {count(sizes[0])} events",
            f"{count(n)} events",
            took[n, what],
            f"at {count(sizes[0])}",
            took[sizes[0], what],
            GROWTH_AT_MOST,
        )
        for n in sizes[1:]
        for what in (ALL, ONE)
    ]


def _reads(classroom: Classroom) -> tuple[list[Row], list[str]]:
    """Each function, of submissions that were just worked on if any; and those that are slow."""
    rows, slow = [], []
    classroom.take()
    classroom.vacuum()
    for submissions in PENDING:
        classroom.take()
        touched = classroom.work(submissions, EVENTS_EACH) if submissions else []
        for name, (function, table) in READ.items():
            ids = touched if touched and name == "submission_counts" else _ids(classroom, table)
            took = _read(classroom, function, ids)
            p95 = statistics.quantiles(took.seconds, n=20, method="inclusive")[-1]
            what = f"`{name}` by id, {count(submissions * EVENTS_EACH)} events pending"
            size = f"{count(classroom.events)} events"
            rows.append(Row(f"{what} (p95 {duration(p95)})", size, took))
            if p95 > READ_AT_MOST_SECONDS:
                slow.append(f"{what}, at {size}")
    classroom.take()
    return rows, slow


def _read(classroom: Classroom, function: Callable[..., Any], ids: list[int]) -> Sample:
    order = random.Random(1).choices(ids, k=READS)
    with classroom.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for each in order[: READS // 10]:
            function(connection, each)
        return Sample(tuple(seconds_of(partial(function, connection, each)) for each in order))


def _ids(classroom: Classroom, table: str) -> list[int]:
    with classroom.engine.connect() as connection:
        chosen = f"SELECT id FROM {table} ORDER BY random() LIMIT {READS}"
        return [row[0] for row in sql.execute(connection, chosen)]


def _rebuilds(classroom: Classroom) -> list[Row]:
    """All tallies, one after the other, against the bare statements and against the loop."""
    classroom.vacuum()
    for tally in system.tallies:
        classroom.execute(
            f"CREATE TABLE {_equal(tally)} (LIKE {sql.name_of(tally.table)} INCLUDING ALL)"
        )
    truncated, equal = (
        ", ".join(name(tally) for tally in system.tallies)
        for name in (lambda tally: sql.name_of(tally.table), _equal)
    )
    rebuild = partial(_each, partial(tallykeeper.rebuild, classroom.engine))
    contenders = {
        BARE: Contender(
            partial(_each, lambda tally: classroom.execute(_bare(tally))),
            partial(classroom.execute, f"TRUNCATE {equal}"),
        ),
        EMPTY: Contender(rebuild, partial(classroom.execute, f"TRUNCATE {truncated}")),
        RIGHT: Contender(rebuild),
    }
    took = alternate(contenders, REBUILDS)
    sample = _ids(classroom, SUBMISSIONS)[:SAMPLE]
    factor = classroom.submissions / len(sample)
    looped = Sample(tuple(factor * _loop(classroom, sample) for _ in range(REBUILDS)))
    size = f"{count(classroom.events)} events"
    rows = [
        Row(f"rebuild of {ALL} {state}", size, took[state], BARE, took[BARE], BARE_AT_MOST)
        for state in (EMPTY, RIGHT)
    ]
    every = "a Python loop over all submissions"
    return [*rows, Row(f"rebuild of {ALL} {EMPTY}", size, took[EMPTY], every, looped)]


def _each(act: Callable[[Tally], object]) -> None:
    for tally in system.tallies:
        act(tally)


def _equal(tally: Tally) -> str:
    return f"bench.{sql.quote(tally.table.name)}"


def _bare(tally: Tally) -> str:
    aggregate = sql.render(tally.aggregate(Everything()))
    return f"INSERT INTO {_equal(tally)} ({sql.columns(tally.columns)}) {aggregate}"


def _make_counters(classroom: Classroom) -> None:
    classroom.execute(
        "CREATE SCHEMA bench",
        f"CREATE TABLE {COUNTERS} AS SELECT submission_id, {', '.join(FIGURES)} FROM {COUNTS}",
        f"ALTER TABLE {COUNTERS} ADD PRIMARY KEY (submission_id)",
    )
    classroom.vacuum()


def _loop(classroom: Classroom, submissions: list[int]) -> float:
    with psycopg.connect(libpq(classroom.engine.url), autocommit=True) as connection:
        return seconds_of(partial(recalculate, connection, submissions))


def _require_equal(classroom: Classroom, submissions: list[int]) -> None:
    """Raises AssertionError where the loop counts otherwise than the tally."""
    figures = ", ".join(("submission_id", *FIGURES))
    of_these = f"WHERE submission_id IN ({', '.join(map(str, submissions))})"
    with classroom.engine.connect() as connection:
        differing = sql.execute(
            connection,
            f"SELECT {figures} FROM {COUNTERS} {of_these}"
            f" EXCEPT SELECT {figures} FROM {COUNTS} {of_these}",
        ).all()
    assert not differing, f"the loop and the tally differ: {differing[:3]}"
