"""The parts of Dagster that it does not promise to keep: the one package that uses them.

Each name says what it is for. All were seen in Dagster 1.13.27 with dagster-postgres 0.29.27;
tests/unit/test_dagster_internals.py says which of them a later Dagster has changed. Nothing here
knows of tallies: what is done with these is decided where they are used. Those of its storage are
in `storage.py`, for they take long to import.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, TypeVar, cast

import dagster as dg
from dagster._config.config_schema import UserConfigSchema
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph
from dagster._core.definitions.assets.job.asset_job import build_asset_job, get_asset_graph_for_job
from dagster._core.definitions.repository_definition import SINGLETON_REPOSITORY_NAME
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.events import DagsterEventBatchMetadata, generate_event_batch_id
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus
from dagster._core.remote_origin import (
    ManagedGrpcPythonEnvCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler import DagsterDaemonScheduler
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    InstigatorTick,
    InstigatorType,
    ScheduleInstigatorData,
    TickStatus,
)
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    GRPC_INFO_TAG,
    PARTITION_NAME_TAG,
    REPOSITORY_LABEL_TAG,
    RUN_KEY_TAG,
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._grpc.client import DagsterGrpcClient
from dagster._grpc.types import GetCurrentRunsResult
from dagster._serdes import ConfigurableClassData
from dagster._utils.schedules import is_valid_cron_string, schedule_execution_time_iterator
from dagster.components.core.defs_module import ComponentPath
from dagster_shared.record import copy
from dagster_shared.utils import safe_is_subclass
from sqlalchemy.exc import SQLAlchemyError

__all__ = [
    "ASSET_PARTITION_RANGE_END_TAG",
    "ASSET_PARTITION_RANGE_START_TAG",
    "GRPC_INFO_TAG",
    "PARTITION_NAME_TAG",
    "RUN_KEY_TAG",
    "AssetJob",
    "CheckRunHealthResult",
    "CodeLocation",
    "ConfigurableClassData",
    "InstigatorState",
    "InstigatorStatus",
    "InstigatorTick",
    "InstigatorType",
    "ScheduleInstigatorData",
    "ServerUnreachable",
    "TickStatus",
    "UserConfigSchema",
    "WorkerStatus",
    "components_of",
    "keep_checking_for_orphans",
    "latest_moment",
    "longest_pause",
    "most_tick_retries",
    "of_any_partitions",
    "open_backfills",
    "report_materializations",
    "run_command_line",
    "runs_of_server",
    "without_partitions",
]

AssetJob = UnresolvedAssetJobDefinition
"""What `define_asset_job` returns, for annotations."""

ServerUnreachable = DagsterUserCodeUnreachableError
"""Raised by `runs_of_server` where the server does not answer."""

_C = TypeVar("_C", bound=dg.Component)

_OPEN_BACKFILLS = (
    BulkActionStatus.REQUESTED,
    BulkActionStatus.CANCELING,
    BulkActionStatus.FAILING,
)


def report_materializations(
    context: dg.OpExecutionContext | dg.AssetExecutionContext,
    events: Sequence[dg.AssetMaterialization],
) -> None:
    """Do what `context.log_event` does for each event, but store them together.

    One by one they cost a connection each: on a busy machine, 5,260 of them took 80 s one by one,
    and 6 s so.
    """
    step, batch = context.get_step_execution_context(), generate_event_batch_id()
    for event in events:
        place = DagsterEventBatchMetadata(batch, is_end=event is events[-1])
        dg.DagsterEvent.asset_materialization(step, event, place)


def components_of(tree: dg.ComponentTree, kind: type[_C]) -> list[tuple[Path, _C]]:
    """Return the components of that type with the folder or file of each, in the tree's order."""
    found = []
    for place, declaration in tree._component_decl_tree().items():  # noqa: SLF001
        if isinstance(place, ComponentPath) and safe_is_subclass(declaration.component_type, kind):
            component = tree.load_component(place)
            assert isinstance(component, kind)
            found.append((place.file_path, component))
    return found


def without_partitions(event: dg.EventLogEntry) -> dg.EventLogEntry:
    """Return the event that plans a check's evaluation, as one evaluation of the whole table."""
    planned = event.get_dagster_event()
    whole = copy(planned.asset_check_planned_data, partitions_subset=None)
    return event._replace(dagster_event=planned._replace(event_specific_data=whole))


class _OfAnyPartitions(UnresolvedAssetJobDefinition):
    """A job over assets of different partitions, as Dagster's own job of all assets is one."""

    def resolve(
        self,
        asset_graph: AssetGraph,
        default_executor_def: dg.ExecutorDefinition | None = None,
        resource_defs: Mapping[str, dg.ResourceDefinition] | None = None,
    ) -> dg.JobDefinition:
        graph = get_asset_graph_for_job(
            asset_graph, self.selection, allow_different_partitions_defs=True
        )
        return build_asset_job(
            self.name,
            asset_graph=graph,
            allow_different_partitions_defs=True,
            description=self.description,
            executor_def=self.executor_def or default_executor_def,
            resource_defs=resource_defs,
        )


def of_any_partitions(
    name: str,
    selection: dg.AssetSelection,
    description: str,
    executor: dg.ExecutorDefinition,
) -> AssetJob:
    """Return a job over assets each of which may have partitions of its own.

    It has partitions itself where all that have any have the same.
    """
    return _OfAnyPartitions(
        name=name, selection=selection, description=description, executor_def=executor
    )


def open_backfills(instance: dg.DagsterInstance) -> list[str]:
    """Return the ids of the backfills that are still under way."""
    wanted = BulkActionsFilter(statuses=list(_OPEN_BACKFILLS))
    return [backfill.backfill_id for backfill in instance.get_backfills(wanted)]


def runs_of_server(server: dict[str, str | int | bool]) -> Sequence[str]:
    """Return the ids of the runs that a code server has processes for.

    `server` is what the tag GRPC_INFO_TAG of a run says. Raises ServerUnreachable.
    """
    client = DagsterGrpcClient(
        host=cast("str", server["host"]),
        port=cast("int | None", server.get("port")),
        socket=cast("str | None", server.get("socket")),
        use_ssl=bool(server.get("use_ssl")),
    )
    answer = dg.deserialize_value(client.get_current_runs(), GetCurrentRunsResult)
    return answer.current_runs


def keep_checking_for_orphans(report: Callable[[Exception], None]) -> None:
    """Make Dagster's code server go on checking for runs whose process has ended.

    By itself it gives up, for as long as it lives, when the storage cannot be reached once. Here
    the error goes to `report`, and the server checks again a second later.
    """
    from dagster._grpc.server import DagsterApiServer
    from dagster_postgres.utils import DagsterPostgresException

    check = DagsterApiServer._check_for_orphaned_runs  # noqa: SLF001 -- there is no public way

    def check_and_go_on(server: DagsterApiServer) -> None:
        try:
            check(server)
        except (DagsterPostgresException, SQLAlchemyError) as error:
            report(error)

    DagsterApiServer._check_for_orphaned_runs = check_and_go_on  # type: ignore[assignment]  # noqa: SLF001


def run_command_line() -> None:
    """Run the command `dagster` with the arguments of this process."""
    from dagster._cli import main

    main()


def most_tick_retries(instance: dg.DagsterInstance) -> int:
    """Return how often the scheduler tries a failed tick again."""
    scheduler = instance.scheduler
    return scheduler.max_tick_retries if isinstance(scheduler, DagsterDaemonScheduler) else 0


def longest_pause(cron: str) -> timedelta | None:
    """Return the longest time between two moments of a cron expression; None if it is none.

    That of the next thousand moments, in UTC.
    """
    if not is_valid_cron_string(cron):
        return None
    moments = schedule_execution_time_iterator(datetime.now(UTC).timestamp(), cron, "UTC")
    return max(after - before for before, after in pairwise(islice(moments, 1_000)))


def latest_moment(schedule: dg.ScheduleDefinition, before: float) -> datetime | None:
    """Return the last moment of a schedule that is not after `before` (seconds since 1970)."""
    moments = schedule_execution_time_iterator(
        before, schedule.cron_schedule, schedule.execution_timezone, ascending=False
    )
    return next((at for at in moments if at.timestamp() <= before), None)


class CodeLocation:
    """A code location as runs name it, for runs that were executed in this process.

    Such a run does not say which code location it is of, and would be in no timeline of the UI.
    """

    def __init__(self, module: str, name: str) -> None:
        self._repository = RemoteRepositoryOrigin(
            ManagedGrpcPythonEnvCodeLocationOrigin(LoadableTargetOrigin(module_name=module), name),
            SINGLETON_REPOSITORY_NAME,
        )

    def tags(self) -> dict[str, str]:
        """Return the tags of a run of it."""
        return {REPOSITORY_LABEL_TAG: self._repository.get_label()}

    def record(self, instance: dg.DagsterInstance, run_id: str, job: str) -> None:
        """Write down that a run was one of this code location's job."""
        run = instance.get_run_by_id(run_id)
        if run is not None:
            origin: Any = RemoteJobOrigin(self._repository, job)
            instance.run_storage.replace_job_origin(run, origin)
