"""What the command line shows of a backfill: how far it is, and in the end what it did."""

from __future__ import annotations

from collections.abc import Callable

from tallykeeper import Backfilled, Progress, Status
from tallykeeper.cli.output.progress import Work


def showing(work: Work) -> Callable[[Progress], None]:
    """What a backfill calls with its progress, which is shown as that of `work`."""

    def show(progress: Progress) -> None:
        work(
            progress.items_done,
            progress.items_total,
            f"{progress.lane}, {progress.items_done:,} of {progress.items_total:,} items,"
            f" {_doing(progress)}",
            progress.eta_seconds,
        )

    return show


def backfilled_line(done: Backfilled, status: Status) -> str:
    """What a backfill did, in one line, and what is left to do."""
    how = "resumed and finished" if done.resumed else "backfilled"
    paused = f", {done.paused_seconds:.1f} s of them paused" if done.paused_seconds else ""
    waiting = ""
    if status.stale:
        waiting = f"; still to be built: {'; '.join(status.stale)}"
    elif status.pending:
        waiting = f"; {status.pending:,} pending: `tally refresh {done.tally}` takes them"
    return (
        f"{done.tally}: {how} {', '.join(done.lanes)} in {done.seconds:.2f} s{paused};"
        f" {done.batches:,} batches, {done.items:,} items, {done.rows:,} rows,"
        f" {done.keys_changed:,} written{waiting}"
    )


def _doing(progress: Progress) -> str:
    """How quick it is; or what it does instead of going on."""
    if progress.paused:
        return f"paused: {progress.paused}"
    if progress.building:
        return f"building {progress.building}"
    return f"{progress.rows_per_second:,.0f} rows/s"
