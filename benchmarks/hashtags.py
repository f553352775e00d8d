"""Hashtags by hour: the refresh after an hour's posts, at several sizes, and rebuilds of windows.

The cost of a refresh should follow the changes and not the history. Beside it, after the same
changes, are counting everything again and a materialized view over the same SELECT.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

import tallykeeper
from assets.fediverse.tallies import hashtag_hourly_stats as tally
from assets.fediverse.tallies import system
from benchmarks.bench import Bench
from benchmarks.fediverse import POSTS_PER_HOUR, TAG_HOURS, Fediverse
from benchmarks.report import Row, Section, count
from benchmarks.timing import Contender, Sample, alternate
from tallykeeper import Everything, KeyFilter, Tally
from tallykeeper.database import sql
from tallykeeper.declarations.tally import Between

COUNT_CHANGES = 20_000
REPETITIONS, RECOUNTS = 9, 3
GROWTH_AT_MOST = 1.3
RECOUNT, VIEW = "counting everything again", "`REFRESH MATERIALIZED VIEW CONCURRENTLY`"
WHAT = f"`hashtag_hourly_stats` after {count(POSTS_PER_HOUR)} posts and 20,000 count changes"
OTHERS: list[Tally] = [t for t in system.tallies if t is not tally]
# How long a window to rebuild is, in days, and how often it is.
WINDOWS = {"a day": (1, 7), "a year": (365, 3)}
BARE, MISSING, RIGHT = (
    "bare `INSERT ... SELECT` into an equal empty table",
    "whose rows are missing",
    "that is right already",
)


def measure(bench: Bench) -> Section:
    """Refreshes at all sizes; then windows of the largest."""
    fediverses = {uses: bench.fediverse(uses) for uses in bench.sizes}
    refreshed, others = _refreshes(fediverses)
    rows = []
    for uses, fediverse in fediverses.items():
        whole = _whole(fediverse)
        rows += [
            Row(f"refresh of {WHAT}", f"{count(uses)} uses", refreshed[uses], way, whole[way])
            for way in (RECOUNT, VIEW)
        ]
    first = bench.sizes[0]
    for what, took in (("that refresh", refreshed), ("the other three refreshes", others)):
        rows += [
            Row(
                f"{what}, {count(uses)} against {count(first)} uses",
                f"{count(uses)} uses",
                took[uses],
                f"at {count(first)}",
                took[first],
                GROWTH_AT_MOST,
            )
            for uses in bench.sizes[1:]
        ]
    rows += _rebuilds(fediverses[bench.sizes[-1]])
    return Section("hashtags", rows)


def _refreshes(
    fediverses: dict[int, Fediverse],
) -> tuple[dict[int, Sample], dict[int, Sample]]:
    """This tally's refresh and that of all others, by size."""
    contenders = {
        (name, uses): Contender(partial(_refresh, fediverse, which))
        for uses, fediverse in fediverses.items()
        for name, which in (("this", [tally]), ("others", OTHERS))
    }

    def change() -> None:
        for fediverse in fediverses.values():
            fediverse.another_hour(COUNT_CHANGES)

    alternate(contenders, 1, change)
    took = alternate(contenders, REPETITIONS, change)
    this, others = ({u: took[name, u] for u in fediverses} for name in ("this", "others"))
    return this, others


def _refresh(fediverse: Fediverse, which: Sequence[Tally]) -> None:
    for each in which:
        tallykeeper.refresh(fediverse.engine, each)


def _whole(fediverse: Fediverse) -> dict[str, Sample]:
    aggregate = sql.render(tally.aggregate(Everything()))
    fediverse.execute(
        "CREATE SCHEMA IF NOT EXISTS bench",
        f"CREATE TABLE bench.recount (LIKE {TAG_HOURS} INCLUDING ALL)",
        f"CREATE MATERIALIZED VIEW bench.view AS {aggregate}",
        f"CREATE UNIQUE INDEX ON bench.view ({sql.columns(tally.key)})",
        "ANALYZE bench.view",
    )
    concurrently = "REFRESH MATERIALIZED VIEW CONCURRENTLY bench.view"
    contenders = {
        RECOUNT: Contender(
            partial(fediverse.execute, "TRUNCATE bench.recount", _bare("bench.recount"))
        ),
        VIEW: Contender(partial(fediverse.execute, concurrently)),
    }
    # Each refresh of the view finds an hour's changes.
    took = alternate(contenders, RECOUNTS, partial(fediverse.another_hour, COUNT_CHANGES))
    fediverse.execute("DROP SCHEMA bench CASCADE")
    fediverse.take()
    return took


def _rebuilds(fediverse: Fediverse) -> list[Row]:
    """Windows that end yesterday, of those lengths that there are."""
    fediverse.vacuum()
    fediverse.execute(
        "CREATE SCHEMA bench", f"CREATE TABLE bench.equal (LIKE {TAG_HOURS} INCLUDING ALL)"
    )
    rows = []
    end = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    for name, (days, repetitions) in WINDOWS.items():
        if days * 24 * POSTS_PER_HOUR > fediverse.uses:
            continue
        start = end - timedelta(days=days)
        assert tally.time_key is not None
        window = Between(tally.time_key, start, end)
        rebuild = partial(tallykeeper.rebuild, fediverse.engine, tally, start, end)
        missing = f"DELETE FROM {TAG_HOURS} AS d WHERE {window.condition(tally, 'd')}"
        contenders = {
            BARE: Contender(
                partial(fediverse.execute, _bare("bench.equal", window)),
                partial(fediverse.execute, "TRUNCATE bench.equal"),
            ),
            MISSING: Contender(rebuild, partial(fediverse.execute, missing)),
            RIGHT: Contender(rebuild),
        }
        took = alternate(contenders, repetitions)
        rows += [
            Row(
                f"rebuild of {name} of `hashtag_hourly_stats` {state}",
                f"{count(fediverse.uses)} uses",
                took[state],
                BARE,
                took[BARE],
            )
            for state in (MISSING, RIGHT)
        ]
    fediverse.execute("DROP SCHEMA bench CASCADE")
    return rows


def _bare(table: str, scope: KeyFilter | None = None) -> str:
    aggregate = sql.render(tally.aggregate(scope or Everything()))
    return f"INSERT INTO {table} ({sql.columns(tally.columns)}) {aggregate}"
