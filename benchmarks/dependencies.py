"""What it takes to compare all that tallies depend on with the record, where nothing differs."""

from __future__ import annotations

from functools import partial

from sqlalchemy import Engine

from benchmarks.bench import Bench
from benchmarks.report import Row, Section, duration
from benchmarks.timing import Contender, alternate
from tallykeeper import Tally
from tallykeeper.discovery import all_systems
from tallykeeper.drift import catalog_rows, dependencies, facts
from tallykeeper.installation.migrate import migrate

REPETITIONS = 50
AT_MOST_SECONDS = 0.020
LOOK = "whether a catalog row of one tally was written, as at its refresh"


def measure(bench: Bench) -> Section:
    """One tally, all tallies of all systems, and what a refresh looks at before it compares."""
    engine = bench.server.database("dependencies")
    migrate(engine, all_systems(), with_sources=True)
    tallies = [tally for system in all_systems() for tally in system.tallies]
    wanted = {"one tally": tallies[:1], f"all {len(tallies)} tallies": tallies}
    contenders = {name: Contender(partial(_compare, engine, of)) for name, of in wanted.items()}
    contenders[LOOK] = Contender(partial(_look, engine, tallies[0]))
    alternate(contenders, 3)
    took = alternate(contenders, REPETITIONS)
    with engine.connect() as connection:
        facts = connection.exec_driver_sql("SELECT count(*) FROM tallykeeper.dependencies").scalar()
    size = f"{facts:,} facts"
    rows = [Row(f"the comparison for {name}", size, took[name]) for name in wanted]
    rows.append(Row(LOOK, size, took[LOOK]))
    missed = [name for name, sample in took.items() if sample.median > AT_MOST_SECONDS]
    limit = duration(AT_MOST_SECONDS)
    notes = [f"**Missed**: {name} took more than {limit}." for name in missed]
    bench.server.drop("dependencies")
    return Section("dependencies", rows, notes or [f"Each within {limit}."])


def _compare(engine: Engine, tallies: list[Tally]) -> None:
    with engine.connect() as connection:
        assert dependencies.faults_among(connection, tallies) == []


def _look(engine: Engine, tally: Tally) -> None:
    with engine.connect() as connection:
        assert catalog_rows.look(connection, tally, facts.FORMAT) is not None
