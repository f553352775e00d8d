"""Runs of the code location's jobs in this process, recorded where the UI looks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from dagster import DagsterExecutionInterruptedError, DagsterInstance, ExecuteInProcessResult

from tallykeeper import System, Tally
from tallykeeper.dagster._internals import CodeLocation
from tallykeeper.dagster.assets import key_of, lanes_of
from tallykeeper.dagster.automation.jobs import AUDIT, hourly_name
from tallykeeper.dagster.code_location import definitions
from tallykeeper.dagster.workspace import code_location
from tallykeeper.dagster_names import prefixed
from tallykeeper.declarations.windows import DAYS
from tallykeeper.settings import start_date

REBUILT_DAYS = 90
Rebuild = Callable[[], ExecuteInProcessResult]


class Runs:
    """Runs of the code location's jobs in this process, recorded where the UI looks."""

    def __init__(self, instance: DagsterInstance, systems: Sequence[System]) -> None:

        self._instance = instance
        self._location = CodeLocation(*code_location())
        self._definitions = definitions(systems=systems)

    def hourly(self, system: System) -> ExecuteInProcessResult:
        """What the hourly schedule runs."""
        return self._execute(hourly_name(system.name), {})

    def rebuilds(self, system: System) -> Iterator[tuple[str, Rebuild]]:
        """What clicks on Materialize run: for the last days, and for all lanes; by what it is."""
        windowed = [t for t in system.tallies if t.time_key is not None and t.windows == DAYS]
        if windowed:
            last = datetime.now(UTC).date()
            first = max(last - timedelta(days=REBUILT_DAYS - 1), start_date())
            what = f"rebuild of the last {REBUILT_DAYS} days"
            yield what, self._range(windowed, first.isoformat(), last.isoformat())
        for tally in system.tallies:
            lanes = lanes_of(tally)
            if lanes is not None:
                names = lanes.get_partition_keys()
                what = f"backfill of {tally.table.name}, {' and '.join(names)}"
                yield what, self._range([tally], names[0], names[-1])

    def _range(self, tallies: Sequence[Tally], first: str, last: str) -> Rebuild:

        return lambda: self._execute(
            "__ASSET_JOB",
            {},
            asset_selection=[key_of(tally) for tally in tallies],
            tags={
                "dagster/asset_partition_range_start": first,
                "dagster/asset_partition_range_end": last,
            },
        )

    def audit(self) -> ExecuteInProcessResult:
        """What the nightly schedule runs."""
        return self._execute(prefixed(AUDIT), {})

    def _execute(self, job: str, config: dict[str, Any], **options: Any) -> ExecuteInProcessResult:
        definition = self._definitions.resolve_job_def(job)

        # What the runs log is in the UI; here each has its own line, and an error is raised.
        quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
        tags = {**options.pop("tags", {}), **self._location.tags()}
        try:
            result = definition.execute_in_process(
                run_config={**config, **quiet}, instance=self._instance, tags=tags, **options
            )
        except DagsterExecutionInterruptedError as interrupted:
            raise KeyboardInterrupt from interrupted
        self._location.record(self._instance, result.run_id, job)
        return result
