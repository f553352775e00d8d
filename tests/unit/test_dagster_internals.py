"""What is used of Dagster beyond its promises is there, and is called as it wants to be called.

Names that a later Dagster has not kept fail when this module is imported; here are the signatures
and the attributes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest
from dagster._cli import main
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationPlanned,
)
from dagster._grpc.server import DagsterApiServer
from dagster_postgres import PostgresEventLogStorage, PostgresRunStorage, PostgresScheduleStorage
from dagster_postgres.utils import DagsterPostgresException

import tallykeeper.dagster._internals.storage
from tallykeeper.dagster.instance import storage

_internals: Any = tallykeeper.dagster._internals
_storage: Any = tallykeeper.dagster._internals.storage
SELF = object()
# What is called or overridden, with arguments as they are passed.
CALLS: list[tuple[Callable[..., Any], tuple[object, ...], dict[str, object]]] = [
    (_internals.DagsterEventBatchMetadata, ("id",), {"is_end": True}),
    (_internals.generate_event_batch_id, (), {}),
    (dg.DagsterEvent.asset_materialization, (SELF, SELF, SELF), {}),
    (_internals.copy, (SELF,), {"partitions_subset": None}),
    (
        _internals.get_asset_graph_for_job,
        (SELF, SELF),
        {"allow_different_partitions_defs": True},
    ),
    (
        _internals.build_asset_job,
        ("name",),
        {
            "asset_graph": SELF,
            "allow_different_partitions_defs": True,
            "description": "",
            "executor_def": SELF,
            "resource_defs": {},
        },
    ),
    (
        _internals.AssetJob.resolve,
        (SELF, SELF),
        {"default_executor_def": None, "resource_defs": None},
    ),
    (_internals.BulkActionsFilter, (), {"statuses": []}),
    (_storage.SqlEventLogStorage.index_connection, (SELF,), {}),
    (
        PostgresEventLogStorage._store_asset_check_evaluation_planned,
        (SELF,),
        {"event": SELF, "event_id": 1},
    ),
    (PostgresEventLogStorage.dispose, (SELF,), {}),
    (
        _internals.DagsterGrpcClient,
        (),
        {"host": "h", "port": 1, "socket": None, "use_ssl": False},
    ),
    (_internals.DagsterGrpcClient.get_current_runs, (SELF,), {}),
    (DagsterApiServer._check_for_orphaned_runs, (SELF,), {}),
    (main, (), {}),
    (_internals.schedule_execution_time_iterator, (0.0, "* * * * *", "UTC"), {"ascending": False}),
    (_internals.LoadableTargetOrigin, (), {"module_name": "m"}),
    (_internals.ManagedGrpcPythonEnvCodeLocationOrigin, (SELF, "name"), {}),
    (_internals.RemoteRepositoryOrigin, (SELF, "name"), {}),
    (_internals.RemoteRepositoryOrigin.get_label, (SELF,), {}),
    (_internals.RemoteJobOrigin, (SELF, "name"), {}),
    (dg.ComponentTree._component_decl_tree, (SELF,), {}),
    (dg.ComponentTree.load_component, (SELF, "place"), {}),
    (_internals.safe_is_subclass, (SELF, SELF), {}),
]


@pytest.mark.parametrize("call", CALLS, ids=lambda call: getattr(call[0], "__qualname__", "call"))
def test_is_called_as_it_wants_to_be(
    call: tuple[Callable[..., Any], tuple[object, ...], dict[str, object]],
) -> None:
    called, arguments, options = call
    inspect.signature(called).bind(*arguments, **options)


def test_the_columns_that_are_read_are_there() -> None:
    of_checks = {"id", "asset_key", "check_name", "partition", "run_id", "execution_status"}
    assert of_checks | {"evaluation_event"} <= set(_storage.check_executions.c.keys())
    assert {"id", "run_id"} <= set(_storage.event_logs.c.keys())
    assert {"run_id", "status"} <= set(_storage.runs.c.keys())


def test_the_attributes_that_are_read_are_there() -> None:
    def fields(record: type) -> set[str]:
        return set(inspect.signature(record).parameters) | set(dir(record))

    assert {"cron_schedule", "start_timestamp", "last_iteration_timestamp"} <= fields(
        _internals.ScheduleInstigatorData
    )
    assert {"origin", "instigator_type", "status", "instigator_data", "selector_id"} <= fields(
        _internals.InstigatorState
    )
    assert {"status", "timestamp", "error", "failure_count", "tick_id"} <= fields(
        _internals.InstigatorTick
    )
    assert "current_runs" in fields(_internals.GetCurrentRunsResult)
    assert "file_path" in fields(_internals.ComponentPath)
    assert "partitions_subset" in fields(AssetCheckEvaluationPlanned)
    assert "max_tick_retries" in fields(_internals.DagsterDaemonScheduler)
    assert {status.name for status in _internals.WorkerStatus} >= {"RUNNING", "NOT_FOUND"}
    assert issubclass(DagsterPostgresException, Exception)


@pytest.mark.parametrize(
    "kind", [PostgresEventLogStorage, PostgresRunStorage, PostgresScheduleStorage]
)
def test_a_storage_keeps_its_engine_where_it_is_replaced(kind: type) -> None:
    assert "self._engine" in inspect.getsource(kind)


def test_each_method_of_the_storage_overrides_one_of_dagster() -> None:
    own = {name for name in vars(storage._EventLog) if not name.startswith("__")}
    added = own - set(dir(PostgresEventLogStorage))
    assert added == {"_forget_unevaluated"}
