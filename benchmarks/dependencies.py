"""What it takes to compare all that tallies stand on with the record, where nothing differs."""

from __future__ import annotations

from functools import partial

from sqlalchemy import Engine

from assets.systems import all_systems
from benchmarks.bench import Bench
from benchmarks.report import Row, Section, duration
from benchmarks.timing import Contender, alternate
from pipelines.migrate import migrate
from tallies import Tally, dependencies

REPETITIONS = 50
AT_MOST_SECONDS = 0.020


def measure(bench: Bench) -> Section:
    """One tally, as at its refresh, and all tallies of all systems, as in `tally status`."""
    engine = bench.server.database("dependencies")
    migrate(engine, all_systems(), with_sources=True)
    tallies = [tally for system in all_systems() for tally in system.tallies]
    wanted = {"one tally": tallies[:1], f"all {len(tallies)} tallies": tallies}
    contenders = {name: Contender(partial(_compare, engine, of)) for name, of in wanted.items()}
    alternate(contenders, 3)
    took = alternate(contenders, REPETITIONS)
    with engine.connect() as connection:
        facts = connection.exec_driver_sql("SELECT count(*) FROM tallykeeper.dependencies").scalar()
    rows = [Row(f"the comparison for {name}", f"{facts:,} facts", took[name]) for name in took]
    missed = [name for name, sample in took.items() if sample.median > AT_MOST_SECONDS]
    limit = duration(AT_MOST_SECONDS)
    notes = [f"**Missed**: {name} took more than {limit}." for name in missed]
    bench.server.drop("dependencies")
    return Section("dependencies", rows, notes or [f"Each within {limit}."])


def _compare(engine: Engine, tallies: list[Tally]) -> None:
    with engine.connect() as connection:
        assert dependencies.faults_among(connection, tallies) == []
