"""What a materialization says of itself: the metadata of refreshes and rebuilds, in the UI's terms.

Numbers are plain ones, which the UI plots over time or partition. Nothing is measured here: all of
it is what the engine returned.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

import dagster as dg

from tallykeeper import Backfilled, Progress, Refreshed, Status, Written
from tallykeeper.declarations.windows import Windows
from tallykeeper.operations.partition_windows import Span

REQUESTED = "rebuild on request"

Metadata = dict[str, dg.MetadataValue]

# Of a partition that is right, and that no event was about so far.
NOT_REPORTED_BEFORE = "right as it is; not reported before"
UNTOUCHED: Metadata = {"reason": dg.MetadataValue.text(NOT_REPORTED_BEFORE)}


def of_run(done: Sequence[Refreshed], reason: str) -> Metadata:
    """What a whole run did to its table; `done` are its refresh, or its rebuilds in order.

    `seconds` is the time in the database, `oldest_change` when the oldest change consumed was made.
    """
    oldest = min((d.oldest_change for d in done if d.oldest_change), default=None)
    days = {w.day for d in done for w in d.changes_by_day if w.day is not None}
    metadata: Metadata = {
        "dagster/row_count": dg.MetadataValue.int(done[-1].rows),
        "reason": dg.MetadataValue.text(reason),
        "keys_changed": dg.MetadataValue.int(sum(d.keys_changed for d in done)),
        "pending_consumed": dg.MetadataValue.int(sum(d.pending_consumed for d in done)),
        "seconds": dg.MetadataValue.float(round(sum(d.seconds for d in done), 3)),
        "as_of": dg.MetadataValue.timestamp(done[-1].as_of),
    }
    if days:
        metadata["days_changed"] = dg.MetadataValue.int(len(days))
    if oldest is not None:
        metadata["oldest_change"] = dg.MetadataValue.timestamp(oldest)
    return metadata


def in_words(of_run: Mapping[str, dg.MetadataValue]) -> str:
    """What a run did, in a line of its log."""
    said = {name: value.value for name, value in of_run.items()}
    return (
        f"{said['reason']}; {said['keys_changed']:,} keys changed in {said['seconds']:.2f} s,"
        f" {said.get('dagster/row_count') or 0:,} rows"
    )


def of_backfill(done: Backfilled, now: Status) -> Metadata:
    """What a backfill did to its table; `now` is the tally's state after it."""
    lanes = ", ".join(done.lanes)
    how = "resumed backfill" if done.resumed else "backfill"
    why = f" ({done.reason})" if done.reason else ""
    metadata: Metadata = {
        "reason": dg.MetadataValue.text(f"{how} of {lanes}{why}"),
        "keys_changed": dg.MetadataValue.int(done.keys_changed),
        "pending_consumed": dg.MetadataValue.int(done.consumed),
        "batches": dg.MetadataValue.int(done.batches),
        "items": dg.MetadataValue.int(done.items),
        "rows_computed": dg.MetadataValue.int(done.rows),
        "rows_per_second": dg.MetadataValue.float(round(done.rows / max(done.seconds, 0.001), 1)),
        "seconds": dg.MetadataValue.float(round(done.seconds, 3)),
        "paused_seconds": dg.MetadataValue.float(round(done.paused_seconds, 3)),
        "as_of": dg.MetadataValue.timestamp(now.as_of),
    }
    if now.rows is not None:
        metadata["dagster/row_count"] = dg.MetadataValue.int(now.rows)
    return metadata


def of_progress(progress: Progress) -> Metadata:
    """How far a backfill is, in numbers that the UI plots over time."""
    metadata: Metadata = {
        "percent": dg.MetadataValue.float(percent(progress.items_done, progress.items_total)),
        "items_done": dg.MetadataValue.int(progress.items_done),
        "items_total": dg.MetadataValue.int(progress.items_total),
        "rows": dg.MetadataValue.int(progress.rows),
        "rows_per_second": dg.MetadataValue.float(round(progress.rows_per_second, 1)),
        "seconds": dg.MetadataValue.float(round(progress.seconds, 1)),
    }
    if progress.eta_seconds is not None:
        metadata["eta_seconds"] = dg.MetadataValue.float(round(progress.eta_seconds, 1))
    for name, what in (("paused", progress.paused), ("building", progress.building)):
        if what:
            metadata[name] = dg.MetadataValue.text(what)
    return metadata


def percent(done: int, total: int) -> float:
    """`done` of `total` in per cent; all of nothing is 100."""
    return round(100 * done / total, 1) if total else 100.0


def of_partition(
    partition: str, written: Sequence[Written], reason: str | None, span: Span, today: str
) -> Metadata:
    """What was written on one partition, and why; without a `reason`, how late the data was.

    `today` is the label of the present window.
    """
    days = sorted({w.day for w in written if w.day is not None})
    metadata: Metadata = {
        "keys_inserted": dg.MetadataValue.int(sum(w.inserted for w in written)),
        "keys_updated": dg.MetadataValue.int(sum(w.updated for w in written)),
        "keys_deleted": dg.MetadataValue.int(sum(w.deleted for w in written)),
        "reason": dg.MetadataValue.text(reason or _lateness(span.of, days[0], today)),
    }
    if days != [partition]:
        shown = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
        metadata["days"] = dg.MetadataValue.text(f"{shown}, reported on the nearest partition")
    return metadata


def by_partition(
    done: Iterable[Refreshed], span: Span, reason: str | None, now: datetime | None = None
) -> dict[str, Metadata]:
    """`of_partition` for every partition on which anything was written, in order."""
    written: dict[str, list[Written]] = {}
    for result in done:
        for window in result.changes_by_day:
            if window.day is not None:
                written.setdefault(span.partition_of(window.day), []).append(window)
    today = span.of.label(now or datetime.now(UTC))
    return {p: of_partition(p, written[p], reason, span, today) for p in sorted(written)}


def why_refreshed(done: Refreshed) -> str:
    """Why a refresh did what it did."""
    if done.how == "rebuild":
        return why_rebuilt(done) or REQUESTED
    return "refresh" if done.pending_consumed else "refresh: nothing was pending"


def why_rebuilt(done: Refreshed) -> str | None:
    """Why a refresh had to rebuild everything; None where it did not."""
    if done.how != "rebuild" or not done.reason:
        return None
    # Each of many marks says the same: a source truncated every night, say.
    return f"rebuild: {'; '.join(dict.fromkeys(done.reason.split('; ')))}"


def _lateness(windows: Windows, label: str, today: str) -> str:
    if label == today:
        return "changes to today" if windows.unit == "day" else f"changes to this {windows.unit}"
    apart = windows.count(*sorted((label, today)))
    apart_in_words = f"{apart:,} {windows.unit}{'' if apart == 1 else 's'}"
    if label > today:
        return f"dated {apart_in_words} ahead"
    return f"late data: {apart_in_words} late"
