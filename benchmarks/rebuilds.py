"""A rebuild of everything, against the bare INSERT ... SELECT that anybody would write.

The bare one goes into an equal table, with the same indexes, that is empty. The rebuild goes once
into an empty derived table, and once into one that is right already and so needs no write.
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

REPETITIONS = 9
AT_MOST = 1.15
BARE = "bare `INSERT ... SELECT` into an equal empty table"
EMPTY, RIGHT = "into an empty table", "into a table that is right already"


def measure(bench: Bench) -> Section:
    """Both tallies at all sizes."""
    rows = []
    for files in bench.sizes:
        library = bench.library(files)
        library.vacuum()
        for tally in system.tallies:
            contenders = _contenders(library, tally)
            alternate(contenders, 1)
            took = alternate(contenders, REPETITIONS)
            rows += [
                Row(
                    f"rebuild of `{tally.table.name}` {into}",
                    count(files),
                    took[into],
                    BARE,
                    took[BARE],
                    AT_MOST,
                )
                for into in (EMPTY, RIGHT)
            ]
    return Section("rebuild", rows)


def _contenders(library: Library, tally: Tally) -> dict[str, Contender]:
    derived = sql.name_of(tally.table)
    equal = f"bench.{tally.table.name}_equal"
    library.execute(
        "CREATE SCHEMA IF NOT EXISTS bench",
        f"CREATE TABLE {equal} (LIKE {derived} INCLUDING ALL)",
    )
    aggregate = sql.render(tally.aggregate(Everything()))
    bare = f"INSERT INTO {equal} ({sql.columns(tally.columns)}) {aggregate}"
    rebuild = partial(tallykeeper.rebuild, library.engine, tally)
    return {
        BARE: Contender(
            partial(library.execute, bare), partial(library.execute, f"TRUNCATE {equal}")
        ),
        EMPTY: Contender(rebuild, partial(library.execute, f"TRUNCATE {derived}")),
        RIGHT: Contender(rebuild, rebuild),
    }
