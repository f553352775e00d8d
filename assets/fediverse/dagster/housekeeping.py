"""What keeps the fediverse's tables from growing for ever, as assets of a daily run.

Snapshots are thinned by their age (`thinning.py`); of the raw log whole days are dropped when they
are old, and those to come are made (`partitions.py`). Neither ever touches what is still to be
processed.
"""

# No `from __future__ import annotations` here: Dagster judges an op's context by the annotation
# as it stands.

import dagster as dg
from sqlalchemy import Engine

from assets.fediverse.settings import keep_events_days
from assets.fediverse.storage import partitions
from assets.fediverse.storage.thinning import ALL_FOR, HOURLY_FOR, Thinned, thin_snapshots
from assets.fediverse.tables import post_metric_snapshots, stream_events
from assets.fediverse.tallies import system
from tallykeeper.catalog.transactions import retried
from tallykeeper.dagster.database import Database
from tallykeeper.dagster.materialization import retry_while_busy

THINNING = "snapshot_thinning"
RETENTION = "stream_retention"
_TAGS = {"tallykeeper/role": "housekeeping"}


@dg.asset(
    key=[system.name, THINNING],
    deps=[dg.AssetKey([system.name, post_metric_snapshots.name])],
    group_name=system.name,
    kinds={"postgres"},
    tags=_TAGS,
    description=(
        f"Thins {post_metric_snapshots.name}: all are kept for {ALL_FOR.days} days, then the last"
        f" of each hour up to {HOURLY_FOR.days} days, then the last of each day for ever."
    ),
)
def snapshot_thinning(tally_database: Database) -> dg.MaterializeResult[None]:
    """Delete the snapshots that need not be kept any more."""
    engine = tally_database.engine()
    done: Thinned = retry_while_busy(lambda: thin_snapshots(engine))
    return dg.MaterializeResult(
        metadata={
            "snapshots": dg.MetadataValue.int(done.snapshots - done.deleted),
            "deleted": dg.MetadataValue.int(done.deleted),
            "batches": dg.MetadataValue.int(done.batches),
            "thinning_seconds": dg.MetadataValue.float(round(done.seconds, 3)),
        }
    )


@dg.asset(
    key=[system.name, RETENTION],
    deps=[dg.AssetKey([system.name, stream_events.name])],
    group_name=system.name,
    kinds={"postgres"},
    tags=_TAGS,
    description=(
        f"Makes the partitions of {stream_events.name} for the days to come, and drops those of"
        " days more than TALLY_FEDIVERSE_KEEP_DAYS ago, unless an event in them is still to"
        " be processed."
    ),
)
def stream_retention(
    context: dg.AssetExecutionContext, tally_database: Database
) -> dg.MaterializeResult[None]:
    """Make partitions ahead, and drop old ones."""
    engine, keep = tally_database.engine(), keep_events_days()
    made = retry_while_busy(
        lambda: retried(lambda: _ahead(engine), "the partitions of the log", engine)
    )
    done = partitions.dropped(engine, keep)
    for name, why in done.kept.items():
        context.log.warning("%s is old, but kept: %s", name, why)
    metadata: dict[str, dg.MetadataValue] = {
        "keep_days": dg.MetadataValue.int(keep),
        "partitions_made": dg.MetadataValue.int(len(made)),
        "partitions_dropped": dg.MetadataValue.int(len(done.dropped)),
        "partitions_kept_though_old": dg.MetadataValue.int(len(done.kept)),
        "freed_bytes": dg.MetadataValue.int(done.freed_bytes),
    }
    said = [*made, *(f"dropped {n}" for n in done.dropped)]
    said += [f"kept {name}: {why}" for name, why in done.kept.items()]
    said += [done.left_alone] if done.left_alone else []
    metadata["done"] = dg.MetadataValue.text("; ".join(said) or "nothing was to do")
    return dg.MaterializeResult(metadata=metadata)


def _ahead(engine: Engine) -> list[str]:
    with engine.begin() as connection:
        return partitions.ensure_around(connection, partitions.today_of(connection))
