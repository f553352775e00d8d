"""`tally demo`: made-up data through Dagster, from the first build to the checks, and how it went.

It ends by itself, and it fails where a check does. Invariants: it writes to the embedded
database only, and it can be run again at any time.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from sqlalchemy import Engine

from tallykeeper import Status, System, Tally, settings, status
from tallykeeper.cli.environment import dagster_environment
from tallykeeper.cli.output.documents import emit_if_json
from tallykeeper.cli.output.progress import Work, working
from tallykeeper.database.connections import open_engine
from tallykeeper.declarations.windows import DAYS
from tallykeeper.discovery import chosen_systems
from tallykeeper.embedded import shared_server
from tallykeeper.installation.migrate import migrate

if TYPE_CHECKING:
    from dagster import AssetCheckEvaluation, ExecuteInProcessResult

    from tallykeeper.dagster.automation.demo_runs import Runs

    Rebuild = Callable[[], ExecuteInProcessResult]

NEXT = """
Where to look next
  make up             the Dagster UI on http://127.0.0.1:3000, hourly schedules on
  tally status        the same table at any time (.venv/bin/tally)
  tally load          your own: photographs (media), items and tags (gallery), events
                      (fediverse, classroom)
  docs/index.md       tutorial, guides, reference
"""


def run_demo(size: int | None = None, *, as_json: bool = False) -> None:
    """Make data up; build, change, refresh, rebuild and check it through Dagster; say how it went.

    `size` is what each system's demo counts itself in: media files, links of items and tags,
    events.

    Raises click.ClickException where one brings a database of one's own, or a check fails.
    """
    if settings.names_file() is not None:
        raise click.ClickException(
            "the demo makes data up under the project's names, but TALLY_NAMES names tables of your"
            " own; unset it for the demo"
        )
    if settings.database_url() is not None:
        raise click.ClickException(
            "the demo makes data up, so it keeps to the embedded database, but TALLY_DATABASE_URL"
            " names one of your own; unset it for the demo"
        )
    systems = [system for system in chosen_systems() if system.part("demo") is not None]
    if not systems:
        raise click.ClickException("no system of this project has made-up data (a module `demo`)")
    with noting_interrupts() as interrupted, shared_server.serving():
        os.environ.update(dagster_environment())
        engine = open_engine()
        with working("demo") as work:
            console = Console(highlight=False, quiet=as_json)
            demo = Demo(console, systems, interrupted, work)
            demo.make_up(engine, size)
            demo.run(engine)
        demo.print_summary(engine)
        emit_if_json(ok=not demo.failed, **demo.outcome(engine))
    if demo.failed:
        raise click.ClickException(
            f"failed: {'; '.join(demo.failed)}. `tally up`, and the checks tell what differs"
        )


@contextmanager
def noting_interrupts() -> Iterator[Callable[[], bool]]:
    """Note SIGINT, whichever handler it has; what is yielded says whether one has come since.

    Dagster's handler raises wherever Python is at that moment. In a callback of the garbage
    collector that is printed and ignored, and the run goes on. In the main thread only.
    """
    reader, writer = socket.socketpair()
    with reader, writer:
        reader.setblocking(False)
        writer.setblocking(False)

        def has_come() -> bool:
            try:
                return signal.SIGINT in reader.recv(4096)
            except BlockingIOError:
                return False

        report = sys.unraisablehook

        def report_others(ignored: sys.UnraisableHookArgs) -> None:
            # As Dagster calls its own; it is not loaded yet.
            if not ignored.exc_type.__name__.endswith(("KeyboardInterrupt", "InterruptedError")):
                report(ignored)

        before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        sys.unraisablehook = report_others
        try:
            yield has_come
        finally:
            sys.unraisablehook = report
            signal.set_wakeup_fd(before)


@dataclass
class Demo:
    """What is shown, and with which result: failed checks, warnings, seconds by tally and run."""

    console: Console
    systems: Sequence[System]
    # Whether an interrupt has come, which may have been lost.
    interrupted: Callable[[], bool]
    work: Work
    failed: list[str] = field(default_factory=list)
    warned: list[AssetCheckEvaluation] = field(default_factory=list)
    seconds: dict[tuple[str, str], float] = field(default_factory=dict)

    # Steps that ended, and how many there are, once that is known.
    steps: int = 0
    all_steps: int | None = None

    def make_up(self, engine: Engine, size: int | None) -> None:
        """Create the tables and the data in them."""
        with self._step("Tables, capture and live views") as outcome:
            done = migrate(engine, self.systems, with_sources=True).done
            outcome.append(f"{len(done)} things done" if done else "all there already")
        # This one, Dagster's loading and the audit; four of each system, and its rebuilds.
        self.all_steps = 3 + sum(4 + _rebuilds_of(system) for system in self.systems)
        for system in self.systems:
            with self._step(f"Made-up data for {system.name}") as outcome:
                create_demo = _demo_of(system).create_demo
                rows = create_demo(engine) if size is None else create_demo(engine, size)
                outcome.append(f"{rows:,} rows" if rows else "all there already")

    def run(self, engine: Engine) -> None:
        """Let Dagster build, refresh, rebuild and audit."""
        with ExitStack() as opened:
            with self._step("Loading Dagster") as outcome:
                from dagster import DagsterInstance

                instance = opened.enter_context(DagsterInstance.get())
                from tallykeeper.dagster.automation.demo_runs import Runs

                runs = Runs(instance, self.systems)
                outcome.append("ready")
            for system in self.systems:
                self._run(system, runs, engine)
            with self._step("Nightly audit: every key against the sources") as outcome:
                outcome.append(self._outcome("audited", runs.audit()))
            from tallykeeper.dagster.alerting.expected_warnings import expect

            expect(instance, self.warned)

    def _run(self, system: System, runs: Runs, engine: Engine) -> None:
        with self._step(f"{system.name}: first hourly run, which builds") as outcome:
            outcome.append(self._outcome("built", runs.hourly(system)))
        with self._step(f"{system.name}: late, changed, moved and deleted rows") as outcome:
            changed = _demo_of(system).change_demo(engine)
            outcome.append(f"{changed:,} rows changed")
        with self._step(f"{system.name}: next hourly run, which takes the changes") as outcome:
            outcome.append(self._outcome("refreshed", runs.hourly(system)))
        for what, result in runs.rebuilds(system):
            with self._step(f"{system.name}: {what}") as outcome:
                outcome.append(self._outcome("rebuilt", result()))

    def print_summary(self, engine: Engine) -> None:
        """Per tally: rows, pending, verified, seconds; what a system adds; where to look next."""
        # As narrow as a terminal of 80 columns.
        table = Table(box=SIMPLE_HEAD, padding=0, pad_edge=False, show_edge=False)
        table.add_column("tally", overflow="fold")
        for heading in ("rows", "pending", "verified", "built", "refreshed"):
            table.add_column(heading, justify="right", no_wrap=True)
        for tally in (t for system in self.systems for t in system.tallies):
            found = status(engine, tally)
            table.add_row(
                tally.name,
                f"{found.rows or 0:,}",
                f"{found.pending:,}",
                _verified(found),
                self._took(tally, "built"),
                self._took(tally, "refreshed"),
            )
        self.console.print("", table, "", sep="\n")
        for system in self.systems:
            tell = getattr(_demo_of(system), "summary", None)
            for line in tell(engine) if tell else ():
                self.console.print(line, markup=False, soft_wrap=True)
        self.console.print(NEXT.strip(), markup=False, soft_wrap=True)

    def outcome(self, engine: Engine) -> dict[str, Any]:
        """What JSON has of it: checks that failed and that warned, and the tallies as they are."""
        tallies = [tally for system in self.systems for tally in system.tallies]
        return {
            "failed": self.failed,
            "warned": [_named(check) for check in self.warned],
            "tallies": [status(engine, tally) for tally in tallies],
        }

    @contextmanager
    def _step(self, what: str) -> Iterator[list[str]]:
        """Says what is being done while it is, and then the result and how long it took."""
        outcome: list[str] = []
        started = time.perf_counter()
        self.work(self.steps, self.all_steps, what)
        yield outcome
        self.steps += 1
        if self.interrupted():
            raise KeyboardInterrupt
        seconds = time.perf_counter() - started
        self.console.print(
            f"{what}: {', '.join(outcome)} [dim]({seconds:.1f} s)[/dim]", soft_wrap=True
        )

    def _outcome(self, kind: str, result: ExecuteInProcessResult) -> str:
        """Remember seconds and failed checks of a run; returns a summary of it."""
        keys = 0
        for event in result.get_asset_materialization_events():
            done = event.materialization.metadata
            if "keys_changed" in done and "seconds" in done:
                tally = ".".join(event.materialization.asset_key.path)
                self.seconds[tally, kind] = float(str(done["seconds"].value))
                keys += int(str(done["keys_changed"].value))
        checks = result.get_asset_check_evaluations()
        failed = [c for c in checks if not c.passed]
        # What a check of one system's own warns of, the made-up data have in them on purpose.
        warned = [c for c in failed if _only_warns(c)]
        self.warned += warned
        self.failed += [_named(c) for c in failed if c not in warned]
        changed = f"{keys:,} keys changed, " if kind != "audited" else ""
        verb = "warns" if len(warned) == 1 else "warn"
        warnings = f"; {', '.join(map(_named, warned))} {verb}" if warned else ""
        return f"{changed}{len(checks) - len(failed)} of {len(checks)} checks passed{warnings}"

    def _took(self, tally: Tally, kind: str) -> str:
        seconds = self.seconds.get((tally.name, kind))
        return "-" if seconds is None else f"{seconds:.2f} s"


def _demo_of(system: System) -> Any:
    """The module that makes the system's data up; `run_demo` leaves systems out that have none."""
    return system.part("demo")


def _rebuilds_of(system: System) -> int:
    """How many rebuilds `Runs.rebuilds` makes: of the last days, and of each tally in batches."""
    of_days = any(t.time_key is not None and t.windows == DAYS for t in system.tallies)
    return of_days + sum(tally.batches is not None for tally in system.tallies)


def _only_warns(check: AssetCheckEvaluation) -> bool:
    from dagster import AssetCheckSeverity

    from tallykeeper.dagster.checks import EVERYWHERE

    return check.severity is AssetCheckSeverity.WARN and check.check_name not in EVERYWHERE


def _named(check: AssetCheckEvaluation) -> str:
    return f"{check.check_name} of {check.asset_key.to_user_string()}"


def _verified(found: Status) -> str:
    if found.verified_at is None:
        return "-"
    if found.differing:
        return f"[red]{found.differing:,} WRONG[/red]"
    return "every key" if found.verified_whole else "touched"
