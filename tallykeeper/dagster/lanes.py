"""What a materialization of a tally built in batches does, and how it tells of it meanwhile.

Its partitions are its lanes. A backfill may take hours, so the run reports how far it is while it
goes on: an observation of the asset every few seconds and at the end of each lane, and a line in
its log. Invariants: an hourly refresh neither fails nor waits because a backfill runs.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

import dagster as dg
from sqlalchemy import Engine

import tallykeeper
from tallykeeper import BackfillRunning, Progress, Tally
from tallykeeper.catalog import state
from tallykeeper.dagster.materialization import (
    MoreMetadata,
    Result,
    own_partitions,
    report,
    retry_while_busy,
)
from tallykeeper.dagster.metadata import materializations

TELL_EVERY_SECONDS = 5.0
SKIPPED = "skipped: a backfill is running"


def refresh_lanes(
    context: dg.AssetExecutionContext, engine: Engine, tally: Tally, more: MoreMetadata
) -> Result:
    """Take all pending changes; build the tally first where it is stale.

    While a backfill runs elsewhere nothing is done, and that is said.
    """
    context.log.info("%s: taking the pending changes", tally.name)
    telling = Telling(context)
    try:
        done = retry_while_busy(lambda: tallykeeper.refresh(engine, tally, on_progress=telling))
    except BackfillRunning as running:
        return _skipped(context, engine, tally, running)
    telling.finish()
    of_run = materializations.of_run([done], materializations.why_refreshed(done))
    return report(context, each_lane(tally, of_run["reason"]), of_run, more)


def backfill_lanes(
    context: dg.AssetExecutionContext,
    engine: Engine,
    tally: Tally,
    restart: bool,
    more: MoreMetadata,
) -> Result:
    """Build the run's partitions in batches; one that was interrupted goes on, unless `restart`.

    Raises dagster.Failure while another backfill runs.
    """
    own = own_partitions(context)
    context.log.info("%s: building %s", tally.name, ", ".join(own))
    telling = Telling(context)
    try:
        done = retry_while_busy(
            lambda: tallykeeper.backfill(
                engine, tally, lanes=own, restart=restart, on_progress=telling
            )
        )
    except BackfillRunning as running:
        raise dg.Failure(str(running), allow_retries=False) from running
    telling.finish()
    of_run = materializations.of_backfill(done, tallykeeper.status(engine, tally))
    return report(context, {}, of_run, more)


@dataclass
class Telling:
    """Tells the run of a backfill's progress, not after every batch but every few seconds."""

    context: dg.AssetExecutionContext
    _reported_at: float = field(default_factory=time.monotonic)
    _last: Progress | None = None
    _unreported: bool = False

    def __call__(self, progress: Progress) -> None:
        """Tell of `progress`, or keep it until there is reason to."""
        last = self._last
        if last is not None and last.lane != progress.lane:
            # The end of a lane is reported, however quick the lane was.
            self.finish()
        self._last, self._unreported = progress, True
        changed = last is None or (last.paused, last.building) != (
            progress.paused,
            progress.building,
        )
        if changed or time.monotonic() - self._reported_at >= TELL_EVERY_SECONDS:
            self.finish()

    def finish(self) -> None:
        """Report what was not reported yet."""
        if self._last is None or not self._unreported:
            return
        self._unreported, self._reported_at = False, time.monotonic()
        self.context.log.info(in_words(self._last))
        self.context.log_event(
            dg.AssetObservation(
                self.context.asset_key,
                partition=self._last.lane,
                description=in_words(self._last),
                metadata=materializations.of_progress(self._last),
            )
        )


def in_words(progress: Progress) -> str:
    """One line: how far, how fast, how long it will take, and why it waits if it does."""
    left = progress.eta_seconds
    eta = "" if left is None else f", {timedelta(seconds=round(left))} left"
    doing = progress.building and f"; building {progress.building}"
    waits = progress.paused and f"; paused: {progress.paused}"
    return (
        f"{progress.lane}:"
        f" {materializations.percent(progress.items_done, progress.items_total):.0f} %,"
        f" {progress.items_done:,} of {progress.items_total:,} items, {progress.rows:,} rows,"
        f" {progress.rows_per_second:,.0f} rows/s{eta}{doing or ''}{waits or ''}"
    )


def _skipped(
    context: dg.AssetExecutionContext,
    engine: Engine,
    tally: Tally,
    running: BackfillRunning,
) -> Result:
    with engine.connect() as connection:
        lanes = state.backfilled(connection, tally).values()
    done, total = sum(row.items_done for row in lanes), sum(row.items_total for row in lanes)
    reason = f"{SKIPPED}, {materializations.percent(done, total):.0f} %"
    context.log.warning(str(running))
    return dg.MaterializeResult(
        metadata={
            "reason": dg.MetadataValue.text(reason),
            "backfill": dg.MetadataValue.text(str(running)),
        }
    )


def each_lane(
    tally: Tally, reason: dg.MetadataValue
) -> Mapping[str, Mapping[str, dg.MetadataValue]]:
    """What concerns the whole of a tally built in batches, reported on each of its lanes."""
    lanes = tally.batches.lanes if tally.batches else ()
    return {lane: {"reason": reason} for lane in lanes}
