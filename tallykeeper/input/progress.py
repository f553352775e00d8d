"""A progress bar for loads, and nothing of what is loaded.

Only a terminal sees it: in a log or a pipe the bar is silent, and the caller's summary line is all.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from tallykeeper.input.loading import ProgressCallback


@contextmanager
def progress_bar(
    what: str, unit: str = "files", console: Console | None = None
) -> Iterator[ProgressCallback]:
    """A bar with count, rate and, where the total is known, time left; yields what a loader calls.

    `what` names the load; the bar goes to `console` (standard error), and is wiped when done.
    """
    console = console or Console(stderr=True)
    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[rows]:,} {task.fields[unit]}"),
        TextColumn("{task.fields[rate]:,.0f}/s"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task(what, total=None, rows=0, rate=0.0, unit=unit)
        started = time.monotonic()

        def show(rows: int, done: int, total: int | None) -> None:
            seconds = time.monotonic() - started
            rate = rows / seconds if seconds > 0 else 0.0
            bar.update(task, completed=done, total=total, rows=rows, rate=rate)

        yield show
