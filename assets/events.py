"""What a materialization says of itself: the metadata of refreshes and rebuilds, in the UI's terms.

Numbers are plain ones, which the UI plots over time or partition. Nothing is measured here: all of
it is what the engine returned.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime

import dagster as dg

from assets.windows import Span
from tallies import Refreshed, Written

REQUESTED = "rebuild on request"

Metadata = dict[str, dg.MetadataValue]


def of_run(done: Sequence[Refreshed], reason: str) -> Metadata:
    """What a whole run did to its table; `done` are its refresh, or its rebuilds in order.

    `seconds` is the time in the database, `oldest_change` when the oldest change taken was made.
    """
    oldest = min((d.oldest_change for d in done if d.oldest_change), default=None)
    days = {w.day for d in done for w in d.windows if w.day is not None}
    metadata: Metadata = {
        "dagster/row_count": dg.MetadataValue.int(done[-1].rows),
        "reason": dg.MetadataValue.text(reason),
        "keys_changed": dg.MetadataValue.int(sum(d.keys_changed for d in done)),
        "pending_taken": dg.MetadataValue.int(sum(d.pending_taken for d in done)),
        "seconds": dg.MetadataValue.float(round(sum(d.seconds for d in done), 3)),
        "as_of": dg.MetadataValue.timestamp(done[-1].as_of),
    }
    if days:
        metadata["days_changed"] = dg.MetadataValue.int(len(days))
    if oldest is not None:
        metadata["oldest_change"] = dg.MetadataValue.timestamp(oldest)
    return metadata


def of_partition(
    partition: str, written: Sequence[Written], reason: str | None, today: date
) -> Metadata:
    """What was written on one partition, and why; without a `reason`, how late the data was."""
    days = sorted({w.day for w in written if w.day is not None})
    metadata: Metadata = {
        "keys_inserted": dg.MetadataValue.int(sum(w.inserted for w in written)),
        "keys_updated": dg.MetadataValue.int(sum(w.updated for w in written)),
        "keys_deleted": dg.MetadataValue.int(sum(w.deleted for w in written)),
        "reason": dg.MetadataValue.text(reason or _lateness(days[0], today)),
    }
    if days != [partition]:
        shown = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
        metadata["days"] = dg.MetadataValue.text(f"{shown}, reported on the nearest partition")
    return metadata


def by_partition(
    done: Iterable[Refreshed], span: Span, reason: str | None, today: date | None = None
) -> dict[str, Metadata]:
    """`of_partition` for every partition on which anything was written, in order."""
    written: dict[str, list[Written]] = {}
    for result in done:
        for window in result.windows:
            if window.day is not None:
                written.setdefault(span.partition_of(window.day), []).append(window)
    today = today or datetime.now(UTC).date()
    return {p: of_partition(p, written[p], reason, today) for p in sorted(written)}


def why_refreshed(done: Refreshed) -> str:
    """Why a refresh did what it did."""
    if done.how == "rebuild":
        return why_rebuilt(done) or REQUESTED
    return "refresh" if done.pending_taken else "refresh: nothing was pending"


def why_rebuilt(done: Refreshed) -> str | None:
    """Why a refresh had to rebuild everything; None where it did not."""
    if done.how != "rebuild" or not done.reason:
        return None
    # Each of many marks says the same: a source truncated every night, say.
    return f"rebuild: {'; '.join(dict.fromkeys(done.reason.split('; ')))}"


def _lateness(day: str, today: date) -> str:
    late = (today - date.fromisoformat(day)).days
    if late == 0:
        return "changes to today"
    if late < 0:
        return f"dated {-late:,} {_days(-late)} ahead"
    return f"late data: {late:,} {_days(late)} late"


def _days(count: int) -> str:
    return "day" if count == 1 else "days"
