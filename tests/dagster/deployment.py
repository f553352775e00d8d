"""The code location as it is deployed, and the loops of Dagster's daemons, turned by hand.

The code location is loaded from workspace.yaml by a server process of its own, and each run is a
process of its own, as in production.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
import pytest
from dagster._core.scheduler import DagsterDaemonScheduler
from dagster._core.scheduler.instigation import InstigatorType
from dagster._core.test_utils import create_test_daemon_workspace_context, freeze_time
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget
from dagster._daemon.backfill import execute_backfill_iteration
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import (
    QueuedRunCoordinatorDaemon,
)
from dagster._daemon.sensor import execute_sensor_iteration
from dagster._scheduler.scheduler import launch_scheduled_runs
from dagster_graphql.test.utils import execute_dagster_graphql
from dagster_shared.error import SerializableErrorInfo

from tallykeeper import System
from tallykeeper.dagster.code_location import assets_of
from tallykeeper.dagster.partitions import daily
from tallykeeper.database.connections import open_engine
from tallykeeper.installation.migrate import migrate
from tallykeeper.settings import project_root
from tests.dagster.location import Location, Ran
from tests.dagster.storage import own_instance
from tests.servers import VERSIONS, Servers
from tests.webhook import Webhook, webhook

LOG = logging.getLogger("tests.dagster")

LAUNCH_BACKFILL = """
mutation ($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}
"""


@dataclass(frozen=True)
class Deployment:
    """The code location as the daemons see it, over a database of its own."""

    location: Location
    workspace: WorkspaceProcessContext
    hook: Webhook

    @property
    def instance(self) -> dg.DagsterInstance:
        return self.location.instance

    def runs(self) -> list[dg.DagsterRun]:
        """All runs of this deployment, oldest first."""
        found = self.instance.get_runs()
        return [run for run in reversed(found) if run.remote_job_origin is not None]

    def runs_after(self, turn: Callable[[], None]) -> list[dg.DagsterRun]:
        """The runs that turning a loop added."""
        before = {run.run_id for run in self.runs()}
        turn()
        return [run for run in self.runs() if run.run_id not in before]

    def finish(self, run: dg.DagsterRun) -> Ran:
        """Let the queue launch the run, and wait for its end."""
        return self.wait_for(run, lambda found: found.is_finished)

    def wait_for(self, run: dg.DagsterRun, reached: Callable[[dg.DagsterRun], bool]) -> Ran:
        """Let the queue launch the run, and wait until it is as `reached` wants it."""
        queue = QueuedRunCoordinatorDaemon(interval_seconds=1)
        deadline = time.monotonic() + 120
        with queue:
            while True:
                list(queue.run_iteration(self.workspace))
                found = self.instance.get_run_by_id(run.run_id)
                assert found is not None
                if reached(found):
                    return Ran(self.instance, run.run_id)
                assert time.monotonic() < deadline, f"still {found.status} after two minutes"
                time.sleep(0.2)

    def turn_sensors(self, at: datetime) -> None:
        """What the sensor daemon does at that moment."""
        with freeze_time(at):
            list(execute_sensor_iteration(self.workspace, LOG, None, None))

    @property
    def tick_retries(self) -> int:
        """How often a failed tick is tried again."""
        scheduler = self.instance.scheduler
        assert isinstance(scheduler, DagsterDaemonScheduler)
        return scheduler.max_tick_retries

    def turn_schedules(self, seen: dict[str, Any], at: datetime) -> None:
        """What the scheduler does at that moment; `seen` is its memory between turns.

        As the daemon does, it turns again for ticks that failed.
        """
        errors: list[str] = []
        for _ in range(self.tick_retries + 1):
            found = self.turn_schedules_once(seen, at)
            if not found:
                return
            errors += found
            time.sleep(1)
        pytest.fail("ticks kept failing:\n" + "\n".join(errors))

    def turn_schedules_once(self, seen: dict[str, Any], at: datetime) -> list[str]:
        """The errors of the ticks of one turn."""
        with freeze_time(at):
            turned = launch_scheduled_runs(
                self.workspace, LOG, at, seen, max_tick_retries=self.tick_retries
            )
            return [
                found.to_string() for found in turned if isinstance(found, SerializableErrorInfo)
            ]

    def schedules_described(self) -> str:
        """What the scheduler wrote down of each schedule: since when it is on, and its ticks."""
        lines = []
        for state in self.instance.all_instigator_state(instigator_type=InstigatorType.SCHEDULE):
            lines.append(f"{state.name} is {state.status}: {state.instigator_data}")
            for tick in self.instance.get_ticks(state.instigator_origin_id, state.selector_id):
                at = datetime.fromtimestamp(tick.timestamp, UTC)
                lines.append(
                    f"  {at}: {tick.status} {tick.skip_reason} {tick.error} {tick.run_ids}"
                )
        return "\n".join(lines) or "nothing"

    def turn_backfills(self) -> None:
        """What the backfill daemon does now."""
        list(execute_backfill_iteration(self.workspace, LOG))

    def launch_backfill(self, system: str, tables: Sequence[str], partitions: list[str]) -> str:
        """Click on Materialize for those partitions of those tables; returns the backfill's id."""
        answer = self.ask(
            LAUNCH_BACKFILL,
            params={
                "partitionNames": partitions,
                "assetSelection": [{"path": [system, table]} for table in tables],
            },
        )
        launched = answer["launchPartitionBackfill"]
        assert launched["__typename"] == "LaunchBackfillSuccess", answer
        return str(launched["backfillId"])

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """The answer of the webserver's GraphQL."""
        context = self.workspace.create_request_context()
        result = execute_dagster_graphql(context, query, variables=variables)
        return dict(result.data)


@contextmanager
def deployed(
    servers: Servers, home: Path, systems: Sequence[System], *, first: str, **settings: str
) -> Iterator[Deployment]:
    """A migrated and built database of `systems`, and the code location loaded over it.

    `first` is the first partition; `settings` go into the environment. Its daemons find whatever is
    left undone in the instance, so that is theirs alone.
    """
    with (
        own_instance(servers, home) as instance,
        servers.fresh_database(VERSIONS[0]) as url,
        webhook() as hook,
        pytest.MonkeyPatch.context() as env,
    ):
        env.setenv("TALLY_START_DATE", first)
        env.setenv("TALLY_DATABASE_URL", url)
        env.setenv("TALLY_ALERT_URLS", hook.url)
        for name, value in settings.items():
            env.setenv(name, value)
        engine = open_engine(url)
        migrate(engine, systems, with_sources=True)
        location = Location(instance, engine, [assets_of(each, daily()) for each in systems])
        location.build()
        target = WorkspaceFileTarget([str(project_root() / "workspace.yaml")])
        # Other tests leave processes that live as long as the worker.
        before = set(psutil.Process().children(recursive=True))
        with create_test_daemon_workspace_context(target, instance) as workspace:
            yield Deployment(location, workspace, hook)
            started = set(psutil.Process().children(recursive=True)) - before
        # They are asked to end, and have the storage open until they have.
        psutil.wait_procs(started, timeout=30)
        engine.dispose()
