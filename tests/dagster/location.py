"""A code location over one database, and what its runs left in the instance's event log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
from sqlalchemy import Engine, text

import tallykeeper
from tallykeeper.dagster.assets import SystemAssets
from tallykeeper.dagster.code_location import assemble
from tallykeeper.dagster.database import Database
from tallykeeper.dagster.metadata import materializations
from tallykeeper.dagster_names import RESOURCE, prefixed

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
TODAY = datetime.now(UTC).date()
# The first partition, where a test does not say another: before the rows of the tests' own dates,
# and of those relative to today.
FIRST = min("2025-04-01", (TODAY - timedelta(days=600)).isoformat())
Metadata = dict[str, Any]


def days_ago(days: int) -> str:
    """The day so many days before today, UTC: `2025-11-20`."""
    return (TODAY - timedelta(days=days)).isoformat()


@dataclass(frozen=True)
class Ran:
    """A finished run, read back from the instance's event log."""

    instance: dg.DagsterInstance
    run_id: str
    # What was read of its log, by the kind of event; it has ended, so nothing is added to it.
    _read: dict[dg.DagsterEventType, list[Any]] = field(default_factory=dict, compare=False)

    @property
    def succeeded(self) -> bool:
        run = self.instance.get_run_by_id(self.run_id)
        return run is not None and run.status is dg.DagsterRunStatus.SUCCESS

    def materialized(self, table: str, system: str = "media") -> dict[str | None, Metadata]:
        """The metadata of each partition's event, in the order in which they were stored.

        Without those of partitions that were only reported for the first time.
        """
        found: dict[str | None, Metadata] = {}
        for event in self._events(dg.DagsterEventType.ASSET_MATERIALIZATION):
            materialization = event.step_materialization_data.materialization
            if materialization.metadata.get("reason") == materializations.UNTOUCHED["reason"]:
                continue
            if materialization.asset_key == dg.AssetKey([system, table]):
                assert materialization.partition not in found, "reported twice"
                found[materialization.partition] = _plain(materialization.metadata)
        return found

    def checked(self, table: str, check: str, system: str = "media") -> dg.AssetCheckEvaluation:
        """The one evaluation of that check."""
        (evaluation,) = [
            event.asset_check_evaluation_data
            for event in self._events(dg.DagsterEventType.ASSET_CHECK_EVALUATION)
            if event.asset_check_evaluation_data.asset_key == dg.AssetKey([system, table])
            and event.asset_check_evaluation_data.check_name == check
        ]
        return evaluation

    def failures(self) -> list[str]:
        """The names of the checks that failed, as `fresh of daily_contributions`."""
        return sorted(
            f"{e.asset_check_evaluation_data.check_name} of"
            f" {e.asset_check_evaluation_data.asset_key.path[-1]}"
            for e in self._events(dg.DagsterEventType.ASSET_CHECK_EVALUATION)
            if not e.asset_check_evaluation_data.passed
        )

    def error(self) -> str:
        """What made a step fail, with its causes."""
        (failure,) = self._events(dg.DagsterEventType.STEP_FAILURE)
        return str(failure.step_failure_data.error_display_string)

    def observed(self, table: str, system: str = "media") -> list[tuple[str | None, Metadata]]:
        """Partition and metadata of each observation of the asset, in order."""
        found = []
        for event in self._events(dg.DagsterEventType.ASSET_OBSERVATION):
            observation = event.asset_observation_data.asset_observation
            if observation.asset_key == dg.AssetKey([system, table]):
                found.append((observation.partition, _plain(observation.metadata)))
        return found

    def logged(self) -> str:
        """All that its steps wrote into its log."""
        return "\n".join(entry.user_message for entry in self.instance.all_logs(self.run_id))

    def _events(self, kind: dg.DagsterEventType) -> list[Any]:
        if kind not in self._read:
            entries = self.instance.all_logs(self.run_id, of_type=kind)
            self._read[kind] = [entry.get_dagster_event() for entry in entries]
        return self._read[kind]


@dataclass(frozen=True)
class Location:
    """Systems in Dagster's terms over the database of `engine`, run in this process.

    `name` is that of the code location, where a sensor is to know it.
    """

    instance: dg.DagsterInstance
    engine: Engine
    built: Sequence[SystemAssets]
    name: str | None = None

    @property
    def database(self) -> Database:
        return Database(url=self.engine.url.render_as_string(hide_password=False))

    @property
    def definitions(self) -> dg.Definitions:
        return assemble(self.built, self.database)

    def build(self) -> None:
        """Build all tallies, without Dagster, which the test is then about."""
        for tally in (t for built in self.built for t in built.system.tallies):
            tallykeeper.refresh(self.engine, tally)
            tallykeeper.verify(self.engine, tally)

    def hourly(self, system: str = "media") -> Ran:
        """What the hourly schedule runs."""
        return self.run(f"{system}_hourly")

    def rebuild(self, first: str, last: str, *tables: str) -> Ran:
        """What a click on Materialize runs, for a range of partitions, both included."""
        wanted = tables or ("daily_contributions", "hourly_contributions")
        return self.run(
            "__ASSET_JOB",
            asset_selection=[dg.AssetKey(["media", table]) for table in wanted],
            tags={
                "dagster/asset_partition_range_start": first,
                "dagster/asset_partition_range_end": last,
            },
        )

    def backfill(self, table: str, *lanes: str, system: str = "gallery", **config: Any) -> Ran:
        """What a click on Materialize runs, for neighbouring lanes of a tally built in batches."""
        return self.run(
            "__ASSET_JOB",
            {"ops": {f"{system}__{table}": {"config": config}}},
            asset_selection=[dg.AssetKey([system, table])],
            tags={
                "dagster/asset_partition_range_start": lanes[0],
                "dagster/asset_partition_range_end": lanes[-1],
            },
        )

    def audit(self) -> Ran:
        """All checks without their assets: every key is compared, at once."""
        return self.run(prefixed("audit"))

    def tick(self, schedule: str) -> Any:
        """What a schedule decides now."""
        definitions = self.definitions
        with dg.build_schedule_context(
            instance=self.instance,
            scheduled_execution_time=datetime.now(UTC),
            repository_def=definitions.get_repository_def(),
            resources={RESOURCE: self.database},
        ) as context:
            return definitions.resolve_schedule_def(schedule).evaluate_tick(context)

    def look(self, sensor: str) -> Any:
        """What a sensor decides now."""
        definitions = self.definitions
        with dg.build_sensor_context(
            instance=self.instance,
            repository_def=definitions.get_repository_def(),
            resources={RESOURCE: self.database},
        ) as context:
            return definitions.resolve_sensor_def(sensor).evaluate_tick(context)

    def run(self, job: str, config: Mapping[str, Any] | None = None, **options: Any) -> Ran:
        """Run a job to its end, whether it succeeds or not."""
        definition = self.definitions.resolve_job_def(job)
        result = definition.execute_in_process(
            run_config={**(config or {}), **QUIET},
            instance=self.instance,
            raise_on_error=False,
            **options,
        )
        return Ran(self.instance, result.run_id)

    def execute(self, *statements: str) -> None:
        """What an application, or somebody's hand, does to the database."""
        with self.engine.begin() as connection:
            for statement in statements:
                connection.execute(text(statement))

    def add(self, *moments: str) -> None:
        """Files of those moments; as SQL writes them: `2023-05-01 12:00Z`, `now()`."""
        for moment in moments:
            taken = moment if moment.endswith(")") else f"'{moment}'"
            self.execute(
                "INSERT INTO media.media_files (path, original_created_at)"
                f" VALUES (gen_random_uuid()::text, {taken})"
            )


def _plain(metadata: Mapping[str, dg.MetadataValue]) -> Metadata:
    return {key: value.value for key, value in metadata.items()}
