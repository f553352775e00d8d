"""What keeps the fediverse's tables from growing for ever, as assets of a daily run.

Snapshots are thinned by their age (`thinning.py`); of the raw log whole days are archived
(`archive.py`) and dropped when they are old, and those to come are made (`partitions.py`). Nothing
of it ever touches what is still to be processed.
"""

# No `from __future__ import annotations` here: Dagster judges an op's context by the annotation
# as it stands.

import dagster as dg
from sqlalchemy import Engine

from assets.fediverse.settings import keep_events_days
from assets.fediverse.storage import partitions
from assets.fediverse.storage.archive import EVENTS
from assets.fediverse.storage.thinning import ALL_FOR, HOURLY_FOR, Thinned, thin_snapshots
from assets.fediverse.tables import post_metric_snapshots, stream_events
from assets.fediverse.tallies import system
from tallykeeper.archive.runs import Archived, archive
from tallykeeper.archive.store import open_store
from tallykeeper.archive.verification import status, verify
from tallykeeper.catalog.transactions import retried
from tallykeeper.dagster.database import Database
from tallykeeper.dagster.materialization import retry_while_busy
from tallykeeper.faults import incidents
from tallykeeper.settings import archive_address, loses_unarchived

THINNING = "snapshot_thinning"
ARCHIVE = "stream_archive"
RETENTION = "stream_retention"
DUE_ARCHIVED = "due_days_archived"
MOST_NAMED = 5
VERIFIED_WITHIN_DAYS = 30
"""By when the daily runs have read every archived file once."""
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
    key=[system.name, ARCHIVE],
    deps=[dg.AssetKey([system.name, stream_events.name])],
    group_name=system.name,
    kinds={"parquet"},
    tags=_TAGS,
    description=(
        f"Writes partitions of {stream_events.name} that are to be dropped to files in"
        " TALLY_ARCHIVE, redacts files of posts that were deleted since, and verifies some of the"
        " files."
    ),
)
def stream_archive(
    context: dg.AssetExecutionContext, tally_database: Database
) -> dg.MaterializeResult[None]:
    """Archive the days that are due."""
    if archive_address() is None:
        why = "TALLY_ARCHIVE does not name an archive"
        return dg.MaterializeResult(metadata={"done": dg.MetadataValue.text(why)})
    engine = tally_database.engine()
    store = open_store()
    done: Archived = retry_while_busy(lambda: archive(engine, EVENTS, store))
    some = 1 + status(engine, EVENTS).files // VERIFIED_WITHIN_DAYS
    verified = verify(engine, EVENTS, store, most=some, say=context.log.error)
    for name, why in done.kept.items():
        context.log.warning("%s is due, but not archived: %s", name, why)
    said = [f"wrote {address}" for address in done.written]
    said += [f"{name} is not archived: {why}" for name, why in done.kept.items()]
    said += [done.left_alone] if done.left_alone else []
    return dg.MaterializeResult(
        metadata={
            "files_written": dg.MetadataValue.int(len(done.written)),
            "rows": dg.MetadataValue.int(done.rows),
            "bytes": dg.MetadataValue.int(done.bytes),
            "files_redacted": dg.MetadataValue.int(done.redacted),
            "files_deleted": dg.MetadataValue.int(done.removed),
            "files_verified": dg.MetadataValue.int(verified.files),
            "files_faulty": dg.MetadataValue.int(len(verified.faults)),
            "done": dg.MetadataValue.text("; ".join(said) or "nothing was due"),
        }
    )


@dg.asset_check(
    asset=[system.name, ARCHIVE],
    name=DUE_ARCHIVED,
    description=(
        "Every day of the log that is due is archived, no redaction waits for its files, no file is"
        " left to be deleted, and none is known to be missing or damaged. Days need not be archived"
        " where TALLY_ARCHIVE declares them to be lost."
    ),
)
def due_days_archived(tally_database: Database) -> dg.AssetCheckResult:
    """Warn of what should be in the archive and is not."""
    engine = tally_database.engine()
    found = status(engine, EVENTS)
    with engine.connect() as connection:
        incident = incidents.open_of(connection, EVENTS.name, incidents.ARCHIVE)
    wrong = [] if incident is None else [f"{incident.what}."]
    if found.due and not loses_unarchived():
        more = "" if archive_address() else " TALLY_ARCHIVE does not name an archive."
        wrong.append(
            f"Due, but not archived: {', '.join(found.due[:MOST_NAMED])}, {len(found.due):,}"
            f" altogether; they are not dropped until they are.{more}"
        )
    if found.redactions:
        wrong.append(f"Still to be redacted in archived files: {found.redactions:,} posts.")
    if found.unfinished:
        wrong.append(f"Still to be deleted from the archive: {found.unfinished:,} files.")
    return dg.AssetCheckResult(
        passed=not wrong,
        severity=dg.AssetCheckSeverity.WARN,
        description=" ".join(wrong) or None,
        metadata={
            "files": dg.MetadataValue.int(found.files),
            "rows": dg.MetadataValue.int(found.rows),
            "bytes": dg.MetadataValue.int(found.bytes),
            "due": dg.MetadataValue.int(len(found.due)),
        },
    )


@dg.asset(
    key=[system.name, RETENTION],
    deps=[dg.AssetKey([system.name, ARCHIVE])],
    group_name=system.name,
    kinds={"postgres"},
    tags=_TAGS,
    description=(
        f"Makes the partitions of {stream_events.name} for the days to come, and drops those of"
        " days more than TALLY_FEDIVERSE_KEEP_DAYS ago that are archived, or all where"
        " TALLY_ARCHIVE is none; none with an event that is still to be processed."
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
