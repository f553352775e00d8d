"""Deleting old runs from Dagster's storage, which keeps everything for ever if nobody does.

Run by run, through Dagster's own API. Invariants: nothing that the UI shows of an asset,
a partition or a check changes. So a run stays, however old, that holds the latest event of one of
them. Dagster's API says which events those are, but not whose run they are of, and forgets the
evaluations of checks when it deletes a run; for these two its tables are asked directly.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import dagster as dg
from sqlalchemy import Connection, Select, delete, exists, func, select, text

from tallykeeper.dagster._internals import open_backfills
from tallykeeper.dagster._internals.storage import (
    check_executions,
    event_logs,
    runs,
    storage_connection,
)

FINISHED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
events, executions = event_logs, check_executions
BACKFILL_TAG = "dagster/backfill"
MATERIALIZED = dg.DagsterEventType.ASSET_MATERIALIZATION
PLANNED = dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
OBSERVED = dg.DagsterEventType.ASSET_OBSERVATION
EVALUATED = ("SUCCEEDED", "FAILED")
UNEVALUATED = "PLANNED"
IDS_AT_ONCE = 5_000
TABLES = ("event_logs", "asset_check_executions", "runs", "job_ticks")


@dataclass(frozen=True)
class Pruned:
    """What became of the runs that are old enough: deleted, kept, or left to the next time.

    `kept` hold a latest event, or belong to a backfill that is under way. `check_records` counts
    the records of checks, planned or evaluated, that went with their runs.
    """

    deleted: int
    kept: int
    left: int
    check_records: int


def prune_runs(instance: dg.DagsterInstance, before: datetime, most: int) -> Pruned:
    """Delete runs that were finished before a moment, the oldest first, at most so many.

    With their events, their checks' evaluations and what they printed.
    """
    old = finished_before(instance, before)
    needed = (held_runs(instance) | runs_of_open_backfills(instance)) if old else set()
    deletable = [run_id for run_id in old if run_id not in needed]
    records = 0
    for run_id in deletable[:most]:
        # The run itself goes last, so that a night that ends in between is made up for.
        instance.compute_log_manager.delete_logs(prefix=[run_id])
        records += _delete_check_records(instance, run_id)
        instance.delete_run(run_id)
    deleted = min(most, len(deletable))
    return Pruned(deleted, len(old) - len(deletable), len(deletable) - deleted, records)


def forget_unevaluated(instance: dg.DagsterInstance) -> int:
    """Delete what is left of checks that ended runs had planned; returns how many records.

    In the UI they are rows that say "Skipped". Where nothing was evaluated since, they stay. Runs
    of this version leave none: those before it planned each check for each of their partitions.
    """
    later = executions.alias()
    ended = select(runs.c.run_id).where(runs.c.status.in_([status.value for status in FINISHED]))
    evaluated_since = exists().where(
        later.c.asset_key == executions.c.asset_key,
        later.c.check_name == executions.c.check_name,
        later.c.execution_status.in_(EVALUATED),
        later.c.id > executions.c.id,
    )
    unevaluated = delete(executions).where(
        executions.c.execution_status == UNEVALUATED,
        executions.c.run_id.in_(ended),
        evaluated_since,
    )
    with storage_connection(instance) as connection:
        return connection.execute(unevaluated).rowcount


def finished_before(instance: dg.DagsterInstance, moment: datetime) -> list[str]:
    """The runs that ended before a moment, by id, the oldest first."""
    wanted = dg.RunsFilter(statuses=FINISHED, updated_before=moment)
    return list(reversed(instance.get_run_ids(wanted)))


def runs_of_open_backfills(instance: dg.DagsterInstance) -> set[str]:
    """The runs of backfills that are still under way."""
    ids = open_backfills(instance)
    if not ids:
        return set()
    return set(instance.get_run_ids(dg.RunsFilter(tags={BACKFILL_TAG: ids})))


def held_runs(instance: dg.DagsterInstance) -> set[str]:
    """The runs that hold the latest event of an asset, a partition or a check."""
    ids: set[int] = set()
    held: set[str] = set()
    for key in instance.get_asset_keys():
        ids |= _latest_events(instance, key)
        attempt = instance.get_latest_planned_materialization_info(key)
        held |= {attempt.run_id} if attempt else set()
    with storage_connection(instance) as connection:
        held |= _runs_of(connection, ids)
        for latest in (_latest_executions(), _latest_evaluations()):
            query = select(executions.c.run_id).where(executions.c.id.in_(latest))
            held |= set(connection.scalars(query))
    return held


def storage_bytes(instance: dg.DagsterInstance) -> dict[str, int]:
    """What the tables of Dagster's storage that grow take on disk, with their indexes."""
    query = text("SELECT pg_total_relation_size(to_regclass(:name))")
    with storage_connection(instance) as connection:
        sizes = {name: connection.scalar(query, {"name": name}) for name in TABLES}
    return {name: size for name, size in sizes.items() if size is not None}


def _latest_events(instance: dg.DagsterInstance, key: dg.AssetKey) -> set[int]:
    """The places in the event log of the latest events of an asset and of its partitions."""
    made = instance.get_latest_storage_id_by_partition(key, MATERIALIZED)
    planned = instance.get_latest_storage_id_by_partition(key, PLANNED)
    # A partition that was attempted since it was made last is shown as failed.
    attempted = {at for partition, at in planned.items() if at > made.get(partition, 0)}
    observed = instance.get_latest_storage_id_by_partition(key, OBSERVED)
    ids = attempted.union(made.values(), observed.values())
    for fetch in (instance.fetch_materializations, instance.fetch_observations):
        ids |= {record.storage_id for record in fetch(key, limit=1).records}
    return ids


def _runs_of(connection: Connection, ids: Iterable[int]) -> set[str]:
    found: set[str] = set()
    left = sorted(ids)
    while left:
        some, left = left[:IDS_AT_ONCE], left[IDS_AT_ONCE:]
        query = select(events.c.run_id).where(events.c.id.in_(some)).distinct()
        found |= set(connection.scalars(query))
    return found


def _latest_executions() -> Select[Any]:
    """The last record of each check, which says what became of it even where it never ran."""
    columns = executions.c
    return select(func.max(columns.id)).group_by(columns.asset_key, columns.check_name)


def _latest_evaluations() -> Select[Any]:
    """The last record of each check, and of each of its partitions, that says how it was."""
    columns = executions.c
    evaluated = select(func.max(columns.id)).where(columns.execution_status.in_(EVALUATED))
    return evaluated.group_by(columns.asset_key, columns.check_name, columns.partition)


def _delete_check_records(instance: dg.DagsterInstance, run_id: str) -> int:
    with storage_connection(instance) as connection:
        return connection.execute(delete(executions).where(executions.c.run_id == run_id)).rowcount
