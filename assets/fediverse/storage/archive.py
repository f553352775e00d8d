"""What of the fediverse is archived: the days of the raw log, before they are dropped.

Who archives, compares, drops and redacts is the library. A post whose events are all in the log or
the archive can be derived again; where some are in neither, the log says before when.
"""

from __future__ import annotations

from assets.fediverse.processing.functions import PROGRESS
from assets.fediverse.processing.write_posts import LOCK_KEY
from assets.fediverse.settings import keep_events_days
from assets.fediverse.storage.redaction import redact_rows
from assets.fediverse.storage.staged_events import STAGED
from assets.fediverse.tables import stream_events
from tallykeeper.partitions.sources import ArchivedSource


def _note(column: str) -> str:
    """SQL: note in the log's progress that the partition's events are not there any more."""
    return (
        f"UPDATE {PROGRESS} SET {column} = greatest({column}, (SELECT"
        " max(received_at)::timestamptz + interval '1 microsecond' FROM %1$s))"
    )


EVENTS = ArchivedSource(
    system="fediverse",
    table=stream_events,
    column="received_at",
    after_days=keep_events_days,
    unsettled="processed_at IS NULL",
    lock=LOCK_KEY,
    on_drop=_note("dropped_before"),
    on_loss=_note("lost_before"),
    subjects=(("instance_id", "payload_status_id"), ("instance_id", "payload_reblog_id")),
    redact=redact_rows,
    drop_function="fediverse_drop_partition",
    staged=STAGED,
)
