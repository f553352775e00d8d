"""How far long work is, and how long it takes yet: a bar in a terminal, else lines now and then.

The estimate comes from how much is done of how much, else from what the same took the last time.
Where neither is known, only the time so far is said. Nothing is said with -q and --json.
"""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.progress_bar import ProgressBar
from rich.text import Text

from tallykeeper.cli.common import telling

# Outside of a terminal: a line every ten seconds of the first minute, and every minute after that.
LINE_AFTER_SECONDS = (10.0,) * 6
LINE_EVERY_SECONDS = 60.0
BAR_AFTER_SECONDS = 0.5
BAR_WIDTH = 20


class Work:
    """Long work as far as it is; called with how much is done, whenever that is known."""

    def __init__(self, what: str, last_seconds: float | None = None) -> None:
        """`last_seconds` is what the same took the last time, if that is known."""
        self.what = what
        self._last_seconds = last_seconds
        self._began = time.monotonic()
        self._doing = ""
        self._share: float | None = None
        self._whole_seconds: float | None = None

    def __call__(
        self, done: float, total: float | None, doing: str = "", left: float | None = None
    ) -> None:
        """Note that so much is done of `total`, and what is being done, in a few words.

        `left` is how many seconds the rest takes, where the work itself knows better.
        """
        self._doing = doing
        seconds = time.monotonic() - self._began
        if not total or done > total:
            self._share = self._whole_seconds = None
            return
        self._share = done / total
        if left is None and done:
            left = seconds * (total - done) / done
        self._whole_seconds = None if left is None else seconds + left

    def on_step(self, doing: str) -> None:
        """Note what is being done next, of which nothing says how long it takes."""
        self(0, None, doing)

    @property
    def share(self) -> float | None:
        """How much is done, of 1; None where nothing says."""
        if self._share is not None or not self._last_seconds:
            return self._share
        share = self._seconds / self._last_seconds
        return share if share < 1 else None

    @property
    def words(self) -> str:
        """For how long the work has run, how long it takes yet, and what is being done."""
        parts = [f"{_spelled(self._seconds)} so far"]
        whole = self._last_seconds if self._share is None else self._whole_seconds
        if whole is not None and self._seconds <= whole:
            parts.append(f"about {_spelled(whole - self._seconds)} left")
        elif whole is not None and self._share is None:
            parts.append(f"longer than the {_spelled(whole)} of the last time")
        # The end is cut off where a terminal is narrow.
        return "; ".join([", ".join(parts), *([self._doing] if self._doing else [])])

    @property
    def _seconds(self) -> float:
        return time.monotonic() - self._began


@contextmanager
def working(
    what: str, last_seconds: float | None = None, console: Console | None = None
) -> Iterator[Work]:
    """Show how far the work of the block is, which calls what is passed to it.

    A terminal gets a bar on `console` (standard error), wiped in the end; quick work none.
    """
    work = Work(what, last_seconds)
    tell = telling()
    console = console or Console(stderr=True)
    if tell is None:
        yield work
    elif console.is_terminal and not console.is_dumb_terminal:
        bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            _Bar(work),
            _Words(work),
            console=console,
            transient=True,
            # What is printed meanwhile goes above the bar, but never from a pipe to the terminal.
            redirect_stdout=sys.stdout.isatty(),
        )
        bar.add_task(what, total=None)
        shown = threading.Timer(BAR_AFTER_SECONDS, bar.start)
        shown.daemon = True
        shown.start()
        try:
            yield work
        finally:
            shown.cancel()
            shown.join()
            bar.stop()
    else:
        ended = threading.Event()

        def in_lines() -> None:
            pauses = itertools.chain(LINE_AFTER_SECONDS, itertools.repeat(LINE_EVERY_SECONDS))
            while not ended.wait(next(pauses)):
                tell(f"{what}: {work.words}")

        thread = threading.Thread(target=in_lines, daemon=True)
        thread.start()
        try:
            yield work
        finally:
            ended.set()
            thread.join()


def loading(work: Work, unit: str) -> Callable[[int, int, int | None], None]:
    """What a loader calls with its progress, which is shown as that of `work`."""
    began = time.monotonic()

    def show(rows: int, done: int, total: int | None) -> None:
        seconds = time.monotonic() - began
        rate = f", {rows / seconds:,.0f}/s" if seconds > 0 else ""
        work(done, total, f"{rows:,} {unit}{rate}")

    return show


class _Bar(ProgressColumn):
    """A bar of what is done, which moves to and fro where that is not known."""

    def __init__(self, work: Work) -> None:
        super().__init__()
        self._work = work

    def render(self, task: Task) -> ProgressBar:
        share = self._work.share
        return ProgressBar(
            total=1.0,
            completed=share or 0.0,
            width=BAR_WIDTH,
            pulse=share is None,
            animation_time=task.get_time(),
        )


class _Words(ProgressColumn):
    """What is said of the work besides."""

    def __init__(self, work: Work) -> None:
        super().__init__()
        self._work = work

    def render(self, task: Task) -> Text:
        del task
        share = self._work.share
        percent = "" if share is None else f"{share:.0%}, "
        return Text(f"{percent}{self._work.words}", overflow="ellipsis", no_wrap=True)


def _spelled(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
