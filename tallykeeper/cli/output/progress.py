"""How long work takes yet, in lines: from how much is done, or from what it took last time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

LINE_EVERY_SECONDS = 10.0


class Remaining:
    """Tells how long the rest of some work takes, which begins when this is made."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def __call__(self, done: float, total: float | None) -> str:
        """The end of a line, as `, 0:01:10 left`; empty where it cannot be said yet."""
        if not done or not total or done > total:
            return ""
        seconds = (time.monotonic() - self._began) * (total - done) / done
        return f", {_spelled(seconds)} left"


@contextmanager
def meanwhile(
    what: str,
    say: Callable[[str], object],
    last_seconds: float | None = None,
    every: float = LINE_EVERY_SECONDS,
) -> Iterator[None]:
    """Say every few seconds for how long the block has run, which nothing else tells of.

    `last_seconds` is what the same took the last time, if that is known.
    """
    ended, began = threading.Event(), time.monotonic()

    def tell() -> None:
        while not ended.wait(every):
            seconds = time.monotonic() - began
            say(f"{what}: {_spelled(seconds)} so far{_rest(seconds, last_seconds)}")

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _rest(seconds: float, last_seconds: float | None) -> str:
    if last_seconds is None:
        return ""
    if seconds < last_seconds:
        return f", about {_spelled(last_seconds - seconds)} left"
    return f", longer than the {_spelled(last_seconds)} of the last time"


def _spelled(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
