"""A refresh of each query after few changes, after many, and after a dimension moved.

Beside it, after the same changes, `REFRESH MATERIALIZED VIEW CONCURRENTLY` of the same SELECT.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping

from benchmarks.bench import Bench
from benchmarks.progress import announce
from benchmarks.report import Row, Section, count
from benchmarks.timing import Sample, alternate
from benchmarks.tpch.changes import MOVED_NATIONS, percent, refresh_functions
from benchmarks.tpch.world import CONCURRENTLY, REFRESH, Name, World

REPETITIONS, BULK_REPETITIONS, PERCENT = 5, 3, 5
# A refresh that would cost more than computing anew computes anew.
BULK_AT_MOST = 1.2


def measure(bench: Bench) -> Section:
    """All queries after RF1 and RF2, after changes of five percent, and after nations moved."""
    world = World(bench.server, "tpch", bench.scale)
    world.add_materialized_views()
    functions = refresh_functions(world.sizes)

    def few() -> None:
        world.execute(*next(functions))

    def bulk(step: int) -> Callable[[], None]:
        return lambda: world.execute(*percent(PERCENT, step))

    # The first refresh after an installation looks at more; it is not measured.
    alternate(world.contenders(), 1, few)
    took = alternate(world.contenders(), REPETITIONS, few)
    world.check()
    size = count(world.orders())
    sections = [_rows("0.1 % inserted and 0.1 % deleted", size, took)]
    notes = [_summary("RF1 and RF2 of 0.1 %", took)]
    for what, change in (
        (f"{PERCENT} % of all rows changed", bulk(0)),
        ("two nations moved to another region", lambda: world.execute(MOVED_NATIONS)),
    ):
        announce(what)
        took = alternate(world.contenders(), BULK_REPETITIONS, change)
        world.check()
        sections.append(_rows(what, size, took, BULK_AT_MOST))
        notes.append(_summary(what, took))
    return Section("tpch", [row for rows in sections for row in rows], notes)


def _rows(
    what: str, size: str, took: Mapping[Name, Sample], at_most: float | None = None
) -> list[Row]:
    queries = dict.fromkeys(name for name, _ in took)
    return [
        Row(
            f"{query}: {what}",
            f"{size} orders",
            took[query, REFRESH],
            CONCURRENTLY,
            took[query, CONCURRENTLY],
            at_most,
        )
        for query in queries
    ]


def _summary(what: str, took: Mapping[Name, Sample]) -> str:
    """How many times quicker a refresh is than the materialized view: median and extremes."""
    queries = dict.fromkeys(name for name, _ in took)
    gains = {q: took[q, CONCURRENTLY].median / took[q, REFRESH].median for q in queries}
    worst, best = min(gains, key=lambda q: gains[q]), max(gains, key=lambda q: gains[q])
    return (
        f"{what}: the refresh is {statistics.median(gains.values()):.1f} times as quick as the"
        f" materialized view's in the median of {len(gains)} queries, from {gains[worst]:.1f}"
        f" ({worst}) to {gains[best]:.1f} ({best})."
    )
