"""What a materialization does: call the engine, and report what it did on the right partitions.

A run with partitions rebuilds these, and Dagster reports each of them once. A run without takes the
pending changes: each partition that they touched gets an event of its own, so that late data shows
on its own day, and so does each that never had one, for a day without rows is not missing. What
concerns the whole table (rows, seconds, a picture) is on the run's last event only: copied to
each of thousands of partitions it would fill the storage.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

import dagster as dg
from sqlalchemy import Engine

import tallykeeper
from tallykeeper import BackfillRunning, Tally, TallyBusy
from tallykeeper.dagster._internals import report_materializations
from tallykeeper.dagster.metadata import materializations
from tallykeeper.operations.partition_windows import Span, spelled_out

# Another refresh or a long rebuild holds the tally: worth waiting for, not for ever.
BUSY_RETRIES = 5
BUSY_PAUSE_SECONDS = 60

T = TypeVar("T")
Metadata = Mapping[str, dg.MetadataValue]
Result = dg.MaterializeResult[None]

MoreMetadata = Callable[[], Metadata]
"""What else is to be on the run's last event, computed when the engine is done."""


def refresh_windowed(
    context: dg.AssetExecutionContext, engine: Engine, tally: Tally, span: Span, more: MoreMetadata
) -> Result:
    """Take all pending changes; report each partition that they touched."""
    context.log.info("%s: taking the pending changes", tally.name)
    done = retry_while_busy(lambda: tallykeeper.refresh(engine, tally))
    reported = context.instance.get_materialized_partitions(context.asset_key)
    touched: dict[str, Metadata] = {
        **{each: materializations.UNTOUCHED for each in span.partitions() if each not in reported},
        **materializations.by_partition([done], span, materializations.why_rebuilt(done)),
    }
    return report(
        context,
        touched,
        materializations.of_run([done], materializations.why_refreshed(done)),
        more,
    )


def rebuild_windowed(
    context: dg.AssetExecutionContext, engine: Engine, tally: Tally, span: Span, more: MoreMetadata
) -> Result:
    """Compute the run's partitions anew; neighbours in one go."""
    own = own_partitions(context)
    days = spelled_out(span.of.runs(own))
    context.log.info("%s: rebuilding %s", tally.name, days)
    reason = f"{materializations.REQUESTED}: {days}"
    done = [
        retry_while_busy(partial(tallykeeper.rebuild, engine, tally, start, end))
        for start, end in span.windows(own)
    ]
    touched = materializations.by_partition(done, span, reason)
    return report(context, touched, materializations.of_run(done, reason), more)


def keep_whole(
    context: dg.AssetExecutionContext,
    engine: Engine,
    tally: Tally,
    rebuild: bool,
    more: MoreMetadata,
) -> Result:
    """Refresh or rebuild a tally that has no windows."""
    what = "rebuilding all of it" if rebuild else "taking the pending changes"
    context.log.info("%s: %s", tally.name, what)
    act = tallykeeper.rebuild if rebuild else tallykeeper.refresh
    done = retry_while_busy(lambda: act(engine, tally))
    return report(
        context, {}, materializations.of_run([done], materializations.why_refreshed(done)), more
    )


def own_partitions(context: dg.AssetExecutionContext) -> Sequence[str]:
    """The partitions that the run was launched for; none in a run without partitions."""
    if context.has_partition_key or context.has_partition_key_range:
        return context.partition_keys
    return ()


def report(
    context: dg.AssetExecutionContext,
    touched: Mapping[str, Metadata],
    of_run: Metadata,
    more: MoreMetadata,
) -> Result:
    """Report partitions that were touched, and what the whole run did on its last event."""
    context.log.info(
        "%s: %s", context.asset_key.to_user_string(), materializations.in_words(of_run)
    )
    own = own_partitions(context)
    others = touched.keys() - set(own)
    for partition in touched.keys() - others:
        context.add_asset_metadata(touched[partition], partition_key=partition)
    report_materializations(
        context,
        [
            dg.AssetMaterialization(context.asset_key, partition=p, metadata=touched[p])
            for p in sorted(others)
        ],
    )
    whole = {**of_run, **more()}
    if not own:
        return dg.MaterializeResult(metadata=whole)
    context.add_asset_metadata(whole, partition_key=own[-1])
    return dg.MaterializeResult(metadata={"reason": of_run["reason"]})


def retry_while_busy(work: Callable[[], T]) -> T:
    """Call the engine; where the tally is held by another, let Dagster try the step again.

    Raises BackfillRunning as it is: that may last for hours.
    """
    try:
        return work()
    except BackfillRunning:
        raise
    except TallyBusy as error:
        raise dg.RetryRequested(BUSY_RETRIES, BUSY_PAUSE_SECONDS) from error
