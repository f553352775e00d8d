"""A refresh after 10,000 changes, whose cost should follow the changes and not the history.

Beside it, after the same changes, the two ways of keeping such a table without Tallykeeper: a
materialized view, and counting everything again.
"""

from __future__ import annotations

from functools import partial

import tallykeeper
from assets.media.tallies import system
from benchmarks.bench import Bench
from benchmarks.library import Library
from benchmarks.report import Row, Section, count
from benchmarks.timing import Contender, alternate
from tallykeeper import Everything, Tally
from tallykeeper.database import sql

CHANGES = 10_000
REPETITIONS = 9
GROWTH_AT_MOST = 1.3
OTHERS = ("`REFRESH MATERIALIZED VIEW CONCURRENTLY`", "counting everything again")

# Which library, which tally, and which way of keeping it.
Name = tuple[int, str, str]


def measure(bench: Bench) -> Section:
    """Both tallies at all sizes, each against both other ways and against the smallest size."""
    libraries = [bench.library(files) for files in bench.sizes]
    contenders: dict[Name, Contender] = {}
    for library in libraries:
        library.vacuum()
        library.forget_pending()
        for tally in system.tallies:
            contenders |= _ways(library, tally)

    def change() -> None:
        for library in libraries:
            library.change(CHANGES)

    alternate(contenders, 1, change)
    took = alternate(contenders, REPETITIONS, change)
    rows = []
    for tally in system.tallies:
        for files in bench.sizes:
            what = f"refresh of `{tally.table.name}` after {count(CHANGES)} changes"
            mine = took[files, tally.name, "refresh"]
            rows += [
                Row(what, count(files), mine, other, took[files, tally.name, other])
                for other in OTHERS
            ]
        first = bench.sizes[0]
        rows += [
            Row(
                f"the same, {count(files)} against {count(first)} files",
                count(files),
                took[files, tally.name, "refresh"],
                f"at {count(first)}",
                took[first, tally.name, "refresh"],
                GROWTH_AT_MOST,
            )
            for files in bench.sizes[1:]
        ]
    return Section("refresh", rows)


def _ways(library: Library, tally: Tally) -> dict[Name, Contender]:
    aggregate = sql.render(tally.aggregate(Everything()))
    plain = tally.table.name
    view, recount = f"bench.{plain}_view", f"bench.{plain}_recount"
    library.execute(
        "CREATE SCHEMA IF NOT EXISTS bench",
        f"CREATE MATERIALIZED VIEW {view} AS {aggregate}",
        f"CREATE UNIQUE INDEX ON {view} ({sql.columns(tally.key)})",
        f"CREATE TABLE {recount} (LIKE {sql.name_of(tally.table)} INCLUDING ALL)",
    )
    concurrently = f"REFRESH MATERIALIZED VIEW CONCURRENTLY {view}"
    into = f"INSERT INTO {recount} ({sql.columns(tally.columns)}) {aggregate}"
    at = (library.files, tally.name)
    return {
        (*at, "refresh"): Contender(partial(tallykeeper.refresh, library.engine, tally)),
        (*at, "`REFRESH MATERIALIZED VIEW CONCURRENTLY`"): Contender(
            partial(library.execute, concurrently)
        ),
        (*at, "counting everything again"): Contender(
            partial(library.execute, f"TRUNCATE {recount}", into)
        ),
    }
