"""What a materialization says of itself: the metadata of refreshes and rebuilds, in the UI's terms.

Numbers are plain ones, which the UI plots over time or partition. Nothing is measured here: all of
it is what the engine returned.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime

import dagster as dg

from assets.windows import Span
from tallies import Refreshed, Written

ON_REQUEST = "rebuild on request"
REFRESHED = "refresh: pending changes were taken"
NOTHING_PENDING = "refresh: nothing was pending"

Metadata = dict[str, dg.MetadataValue]


def of_run(done: Sequence[Refreshed], reason: str | None = None) -> Metadata:
    """What a whole run did to its table, `done` being its refresh or its rebuilds in order.

    `seconds` is the time in the database; `oldest_change` when the oldest change that was taken
    had been made.
    """
    last = done[-1]
    oldest = min((d.oldest_change for d in done if d.oldest_change), default=None)
    days = {w.day for d in done for w in d.windows if w.day is not None}
    taken = sum(d.pending_taken for d in done)
    metadata: Metadata = {
        "dagster/row_count": dg.MetadataValue.int(last.rows),
        "reason": dg.MetadataValue.text(reason or _reason(last)),
        "keys_changed": dg.MetadataValue.int(sum(d.keys_changed for d in done)),
        "pending_taken": dg.MetadataValue.int(taken),
        "seconds": dg.MetadataValue.float(round(sum(d.seconds for d in done), 3)),
        "as_of": dg.MetadataValue.timestamp(last.as_of),
    }
    if days:
        metadata["days_changed"] = dg.MetadataValue.int(len(days))
    if oldest is not None:
        metadata["oldest_change"] = dg.MetadataValue.timestamp(oldest)
    return metadata


def by_partition(
    done: Iterable[Refreshed], span: Span, today: date | None = None
) -> Mapping[str, Metadata]:
    """What was written on each partition, for those on which anything was."""
    today = today or datetime.now(UTC).date()
    written: dict[str, list[tuple[Written, str | None]]] = {}
    for result in done:
        rebuilt = None
        if result.how == "rebuild":
            rebuilt = f"rebuild: {result.reason}" if result.reason else ON_REQUEST
        for window in result.windows:
            if window.day is not None:
                place = span.partition_of(window.day)
                written.setdefault(place, []).append((window, rebuilt))
    return {
        partition: _of_partition(partition, written[partition], today)
        for partition in sorted(written)
    }


def _of_partition(
    partition: str, written: Sequence[tuple[Written, str | None]], today: date
) -> Metadata:
    days = sorted({w.day for w, _ in written if w.day is not None})
    metadata: Metadata = {
        "keys_inserted": dg.MetadataValue.int(sum(w.inserted for w, _ in written)),
        "keys_updated": dg.MetadataValue.int(sum(w.updated for w, _ in written)),
        "keys_deleted": dg.MetadataValue.int(sum(w.deleted for w, _ in written)),
        "reason": dg.MetadataValue.text(
            next((why for _, why in written if why), None) or _lateness(days[0], today)
        ),
    }
    if days != [partition]:
        shown = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
        metadata["days"] = dg.MetadataValue.text(
            f"{shown}: beyond the partitions, so reported on the nearest"
            if partition not in days
            else f"{shown}: this day and some beyond the partitions"
        )
    return metadata


def _lateness(day: str, today: date) -> str:
    late = (today - date.fromisoformat(day)).days
    if late == 0:
        return "changes to today"
    if late == 1:
        return "late data: 1 day late"
    return f"late data: {late:,} days late" if late > 0 else f"dated {-late:,} days ahead"


def _reason(done: Refreshed) -> str:
    if done.how == "rebuild":
        return f"rebuild: {done.reason}" if done.reason else ON_REQUEST
    return REFRESHED if done.pending_taken else NOTHING_PENDING
