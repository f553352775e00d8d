"""What Dagster itself takes: loading the code location, and one hourly run from start to end."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.library import Library
from benchmarks.report import Row, Section, count
from benchmarks.timing import Contender, alternate

CHANGES = 10_000
LOADS, RUNS = 9, 5
ROOT = Path(__file__).resolve().parent.parent
LOAD = "import pipelines.definitions"
BARE = "import dagster"
# As the schedule launches it, but in one process: what Dagster's daemon adds is its own.
HOURLY = """
import os
from tallykeeper.cli.environment import dagster_environment
os.environ.update(dagster_environment())
from dagster import DagsterInstance
from assets.media.tallies import system
from tallykeeper.dagster.automation.demo_runs import Runs
with DagsterInstance.get() as instance:
    result = Runs(instance, [system]).hourly(system)
assert result.success and all(check.passed for check in result.get_asset_check_evaluations())
"""


def measure(bench: Bench) -> Section:
    """Loading in a new process; then hourly runs over the smallest library."""
    loads = alternate({code: Contender(partial(_python, code)) for code in (LOAD, BARE)}, LOADS)
    library = bench.library(bench.sizes[0])
    library.vacuum()
    with tempfile.TemporaryDirectory(prefix="tally-benchmarks-") as home:
        run = partial(_python, HOURLY, _environment(library, home))
        # The first run makes Dagster's storage.
        run()
        runs = alternate(
            {"few": Contender(run), "many": Contender(run, partial(library.change, CHANGES))}, RUNS
        )
    size = count(library.files)
    return Section(
        "runs",
        [
            Row(f"`{LOAD}`, new process", "", loads[LOAD], f"`{BARE}`", loads[BARE]),
            Row("hourly run, new process, nothing pending", size, runs["few"]),
            Row(
                f"the same after {count(CHANGES)} changes, events of all days touched",
                size,
                runs["many"],
            ),
        ],
    )


def _environment(library: Library, home: str) -> dict[str, str]:
    url = library.engine.url.set(drivername="postgresql")
    return {
        "TALLY_DATABASE_URL": url.render_as_string(hide_password=False),
        "TALLY_HOME": home,
    }


def _python(code: str, environment: dict[str, str] | None = None) -> None:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("TALLY_", "DAGSTER_", "PG"))}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=clean | (environment or {}),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the measured process failed:\n{done.stderr}")
