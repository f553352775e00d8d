"""The job `repair`: compute anew what a failed check named, then check that again.

The run reports what it wrote on the partitions it belongs to, as a refresh does, and evaluates all
checks of the asset, as its own. So whatever the UI shows of it is true when the run has ended: the
incident is closed before that is reported.
"""

# No `from __future__ import annotations` here: Dagster reads the types of an op's context and
# config from the annotations as they stand.

from collections.abc import Mapping, Sequence
from enum import Enum
from functools import partial
from typing import Any

import dagster as dg
from pydantic import Field
from sqlalchemy import Engine

import tallykeeper
from tallykeeper import Refreshed, Tally
from tallykeeper.dagster import lanes, lineage_events, materialization
from tallykeeper.dagster._internals import report_materializations
from tallykeeper.dagster.assets import SystemAssets, key_of, partitions_of, span_of
from tallykeeper.dagster.automation.repair_requests import REPAIR_OP
from tallykeeper.dagster.checks import MATCHES_SOURCE, compare, verdict
from tallykeeper.dagster.database import Database
from tallykeeper.dagster.metadata import materializations
from tallykeeper.dagster_names import REPAIR, pool, prefixed
from tallykeeper.faults import incidents

CAPTURE_BROKEN = "capture_broken"


class RepairConfig(dg.Config):
    """What to compute anew: as the metadata `repair` of a failed `matches_source` has it."""

    days: list[list[str]] | None = Field(
        default=None, description="Runs of windows, each by its first and last, as partitions are."
    )
    keys: list[dict[str, Any]] | None = Field(
        default=None, description="Single keys, of a tally without windows."
    )
    everything: bool = Field(default=False, description="All of it.")
    incident: int | None = Field(default=None, description="The incident that is to be repaired.")


def repair_job(built: Sequence[SystemAssets]) -> dg.JobDefinition:
    """The job, for the tallies of these systems."""
    by_name = {tally.name: (each, tally) for each in built for tally in each.system.tallies}
    # What is no tally is refused where the config is written. Dagster knows a type by its name, in
    # all of a process, where there can be jobs for other systems.
    systems = "_".join(each.system.name for each in built)
    known = Enum(f"TallyOf_{systems}", {name: name for name in by_name})  # type: ignore[misc]

    class KnownTally(RepairConfig):
        tally: known = Field(description="The tally, as in media.daily_contributions.")

    @dg.op(
        name=REPAIR_OP,
        pool=pool(),
        description="Compute anew what a failed check named; check it again.",
    )
    def rebuild(
        context: dg.OpExecutionContext, config: KnownTally, tally_database: Database
    ) -> None:
        assets, tally = by_name[config.tally.value]
        engine = tally_database.engine()
        with engine.connect() as connection:
            faults = tallykeeper.capture_faults(connection, tally)
        with lineage_events.reported(context, engine, tally) as written:
            done = _rebuild(engine, tally, config)
            written.rows = done[-1].rows
        result = _with_faults(verdict(tally, compare(engine, tally, touched_only=True)), faults)
        if result.passed:
            # Before it is reported how many incidents are open.
            with engine.begin() as connection:
                incidents.resolve(
                    connection, tally.name, incidents.DIFFERS, f"the check {MATCHES_SOURCE}"
                )
        more = assets.more(context.instance, engine, tally)
        _report(context, assets, tally, done, _reason(config), more)
        _evaluate(context, tally, MATCHES_SOURCE, result)
        for check in assets.checks_of(tally):
            (key,) = check.check_keys
            if key.name != MATCHES_SOURCE:
                other = check(tally_database=tally_database)
                assert isinstance(other, dg.AssetCheckResult)
                _evaluate(context, tally, key.name, other)

    @dg.job(
        name=prefixed(REPAIR),
        description=(
            "Compute anew what a failed check named, and check it again. Requested by the sensor"
            " `alerts`; the metadata of a failed matches_source is its config."
        ),
        executor_def=dg.in_process_executor,
    )
    def as_job() -> None:
        rebuild()

    return as_job


def _rebuild(engine: Engine, tally: Tally, config: RepairConfig) -> list[Refreshed]:
    if config.everything:
        return [materialization.retry_while_busy(lambda: tallykeeper.rebuild(engine, tally))]
    if config.keys:
        keys = config.keys
        return [
            materialization.retry_while_busy(lambda: tallykeeper.rebuild_keys(engine, tally, keys))
        ]
    if not config.days:
        raise dg.Failure(
            "nothing was named to be computed anew; name `days`, `keys`, or set `everything`",
            allow_retries=False,
        )
    return [
        materialization.retry_while_busy(partial(tallykeeper.rebuild, engine, tally, start, end))
        for start, end in (tally.windows.bounds(first, last) for first, last in config.days)
    ]


def _reason(config: RepairConfig) -> str:
    return (
        "repair on request" if config.incident is None else f"repair of incident {config.incident}"
    )


def _report(
    context: dg.OpExecutionContext,
    assets: SystemAssets,
    tally: Tally,
    done: Sequence[Refreshed],
    reason: str,
    more: Mapping[str, dg.MetadataValue],
) -> None:
    """An event for each partition that was written, and at the end one of the whole table."""
    of_run = materializations.of_run(done, reason)
    touched: dict[str | None, Mapping[str, dg.MetadataValue]] = {}
    if tally.time_key is not None:
        partitions = partitions_of(tally, assets.partitions)
        span = span_of(partitions, tally.windows)
        touched.update(materializations.by_partition(done, span, reason))
    elif tally.batches is not None:
        touched.update(lanes.each_lane(tally, of_run["reason"]))
    touched[None] = {**of_run, **more}
    report_materializations(
        context,
        [
            dg.AssetMaterialization(key_of(tally), partition=partition, metadata=metadata)
            for partition, metadata in touched.items()
        ],
    )


def _with_faults(result: dg.AssetCheckResult, faults: Sequence[str]) -> dg.AssetCheckResult:
    """What was found, and that it will be found again where the capture is broken."""
    if not faults:
        return result
    what = "; ".join(faults)
    advice = f"Its capture is broken ({what}): run `tally migrate`, or it will differ again."
    return dg.AssetCheckResult(
        passed=result.passed,
        severity=result.severity,
        description=f"{result.description} {advice}" if result.description else advice,
        metadata={**result.metadata, CAPTURE_BROKEN: what},
    )


def _evaluate(
    context: dg.OpExecutionContext, tally: Tally, check: str, result: dg.AssetCheckResult
) -> None:
    """Log the evaluation of a check of the tally's asset, which no step of this run is for."""
    if not result.passed:
        context.log.warning("%s of %s: %s", check, tally.name, result.description)
    evaluation = dg.AssetCheckEvaluation(
        asset_key=key_of(tally),
        check_name=check,
        passed=result.passed,
        severity=result.severity,
        description=result.description,
        metadata=result.metadata,
    )
    # It takes evaluations too, though its annotation does not say so.
    context.log_event(evaluation)  # type: ignore[arg-type]
