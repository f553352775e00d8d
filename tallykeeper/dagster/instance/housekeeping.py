"""The nightly job that deletes what nobody looks at any more: old runs and resolved incidents.

How long each is kept is a setting. What a system keeps for a time only (raw events) is the business
of its own daily job; ticks are deleted by the daemon, as `dagster.yaml` says.
"""

# No `from __future__ import annotations` here: Dagster reads the types of an op's context from the
# annotations as they stand.

from datetime import UTC, datetime, timedelta

import dagster as dg

from tallykeeper import prune_incidents
from tallykeeper.dagster.database import Database
from tallykeeper.dagster_names import prefixed
from tallykeeper.maintain.pruning.retention import prune_due, retentions
from tallykeeper.settings import keep_incidents_days, keep_runs_days

HOUSEKEEPING = "housekeeping"
# After the housekeeping of the systems.
LATE_AT_NIGHT = "30 3 * * *"
# Many times what a busy day leaves, and done in a few minutes.
MOST_RUNS = 5_000


def why_not_read(instance: dg.DagsterInstance) -> str | None:
    """Why the events of all runs cannot be read in their order; None where they can."""
    if not hasattr(instance.run_storage, "get_run_storage_id"):
        return (
            "Dagster's storage does not say which one it is, as in Dagster+; use alert policies of"
            " that, and write `alerts: false` in the component, or switch this sensor off"
        )
    if not instance.event_log_storage.is_run_sharded:
        return None
    return (
        "Dagster keeps its events in a file for each run, and they cannot be read in their order;"
        " name PostgreSQL as `storage` in its dagster.yaml, as in the instance of `tally env`"
    )


@dg.op(
    out=dg.Out(dg.Nothing),
    description=(
        "Delete runs older than TALLY_KEEP_RUNS_DAYS with all that they left, but none that holds"
        " the latest event of an asset, a partition or a check; and what runs planned of checks and"
        " never evaluated."
    ),
)
def delete_old_runs(context: dg.OpExecutionContext) -> None:
    """Delete old runs, and say how many went and stayed."""
    why_not = why_not_read(context.instance)
    if why_not:
        context.log.warning("no run is deleted: %s", why_not)
        return
    # Heavy, and wanted here alone.
    from tallykeeper.dagster.instance import run_retention

    days = keep_runs_days()
    before = datetime.now(UTC) - timedelta(days=days)
    pruned = run_retention.prune_runs(context.instance, before, MOST_RUNS)
    skipped = run_retention.forget_unevaluated(context.instance)
    context.log.info(
        "of the runs older than %d days %d were deleted, %d kept for what they hold, and %d left to"
        " the next night",
        days,
        pruned.deleted,
        pruned.kept,
        pruned.left,
    )
    sizes = run_retention.storage_bytes(context.instance)
    context.add_output_metadata(
        {
            "older_than_days": days,
            "runs_deleted": pruned.deleted,
            "runs_kept": pruned.kept,
            "runs_left": pruned.left,
            "check_records_deleted": pruned.check_records + skipped,
            **{f"{table}_bytes": size for table, size in sizes.items()},
        }
    )


@dg.op(
    out=dg.Out(dg.Nothing),
    description="Delete incidents that were resolved longer ago than TALLY_KEEP_INCIDENTS_DAYS.",
)
def delete_old_incidents(context: dg.OpExecutionContext, tally_database: Database) -> None:
    """Delete incidents resolved long ago, and say how many."""
    days = keep_incidents_days()
    with tally_database.engine().begin() as connection:
        deleted = prune_incidents(connection, datetime.now(UTC) - timedelta(days=days))
    context.add_output_metadata({"resolved_before_days": days, "incidents_deleted": deleted})


@dg.op(
    out=dg.Out(dg.Nothing),
    description="Delete rows of sources that [tool.tallykeeper.prune] keeps no longer; what they"
    " count stays.",
)
def prune_sources(context: dg.OpExecutionContext, tally_database: Database) -> None:
    """Prune the sources that the project names, and say of how many rows."""
    engine = tally_database.engine()
    deleted = {f"{done.source}_rows_deleted": done.rows for done in prune_due(engine)}
    context.add_output_metadata(deleted)


def housekeeping(*, shared: bool) -> dg.JobDefinition:
    """The job. Runs are deleted unless the code location is `shared` with definitions of others.

    Sources are pruned where the project says so.
    """

    @dg.job(
        name=prefixed(HOUSEKEEPING),
        description="Delete old runs with their events, and incidents that were resolved long ago.",
        executor_def=dg.in_process_executor,
    )
    def as_job() -> None:
        if not shared:
            delete_old_runs()
        delete_old_incidents()
        if retentions():
            prune_sources()

    return as_job


def housekeeping_schedule(job: dg.JobDefinition) -> dg.ScheduleDefinition:
    """Every night, on by default."""
    return dg.ScheduleDefinition(
        name=job.name,
        job=job,
        cron_schedule=LATE_AT_NIGHT,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Every night: delete runs and incidents past their retention.",
    )
