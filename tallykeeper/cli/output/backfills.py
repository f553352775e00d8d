"""What the command line shows of a backfill: a bar in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TaskProgressColumn, TextColumn
from rich.progress import Progress as Bar

from tallykeeper import Backfilled, Progress, Status

LINE_EVERY_SECONDS = 5.0


@contextmanager
def showing(
    say: Callable[[str], object], console: Console | None = None
) -> Iterator[Callable[[Progress], None]]:
    """What a backfill calls with its progress, while the block runs.

    A terminal gets a bar on `console` (standard error), wiped in the end; else `say` gets lines.
    """
    console = console or Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(say)
        return
    bar = Bar(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rest]}"),
        console=console,
        transient=True,
    )
    with bar:
        task = bar.add_task("beginning", total=None, rest="")

        def show(progress: Progress) -> None:
            bar.update(
                task,
                description=progress.lane,
                completed=progress.items_done,
                total=progress.items_total,
                rest=_rest(progress),
            )

        yield show


def progress_line(progress: Progress) -> str:
    """How far a backfill is, in one line."""
    share = progress.items_done / progress.items_total if progress.items_total else 1.0
    return (
        f"{progress.tally}: {progress.lane} {share:.0%}, {progress.items_done:,} of"
        f" {progress.items_total:,} items, {_rest(progress)}"
    )


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


class _Lines:
    """Says how far it is every few seconds, and whenever something else begins."""

    def __init__(self, say: Callable[[str], object]) -> None:
        self._say = say
        self._said: tuple[object, ...] = ()
        self._at = 0.0

    def __call__(self, progress: Progress) -> None:
        doing = (progress.lane, progress.building, progress.paused is None)
        if doing != self._said or time.monotonic() - self._at >= LINE_EVERY_SECONDS:
            self._said, self._at = doing, time.monotonic()
            self._say(progress_line(progress))


def _rest(progress: Progress) -> str:
    """Rate and time left; or what it does instead of going on."""
    if progress.paused:
        return f"paused: {progress.paused}"
    if progress.building:
        return f"building {progress.building}"
    left = progress.eta_seconds
    eta = "" if left is None else f", {timedelta(seconds=round(left))} left"
    return f"{progress.rows_per_second:,.0f} rows/s{eta}"
