"""What is done again: a statement that failed for a reason that passes, a condition until it holds.

Nothing here knows what is done. Who holds a lock that is waited for, and what is said of it when
it was waited for long enough, is the caller's business.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy.exc import DBAPIError

from tallykeeper.database.sqlstates import sqlstate_of

T = TypeVar("T")


@dataclass(frozen=True)
class Failure:
    """An attempt that failed: which one, how long after the first one failed, and whether last."""

    error: DBAPIError
    attempts: int
    seconds: float
    is_last: bool


@dataclass(frozen=True)
class Retry:
    """Which errors pass by themselves, and how often, how long and after what pauses to try again.

    An attempt follows as long as there were fewer than `attempts`, or less than `seconds` have
    passed since the first failure. Pauses double, and are spread, so that two who are in each
    other's way do not meet again.
    """

    sqlstates: Collection[str]
    attempts: int
    seconds: float = 0.0
    first_pause: float = 0.0
    longest_pause: float = 0.0

    def call(
        self, work: Callable[[], T], failed: Callable[[Failure], None] = lambda failure: None
    ) -> T:
        """Call `work` until it succeeds; `failed` after each failure that passes.

        Raises what `work` raised last, or what `failed` raises.
        """
        first: float | None = None
        for number in itertools.count(1):
            try:
                return work()
            except DBAPIError as error:
                if sqlstate_of(error) not in self.sqlstates:
                    raise
                first = first or time.monotonic()
                since = time.monotonic() - first
                is_last = number >= self.attempts and since >= self.seconds
                failed(Failure(error, number, since, is_last))
                if is_last:
                    raise
            self._pause(number)
        raise AssertionError("unreachable")

    def _pause(self, number: int) -> None:
        if self.first_pause:
            spread = random.uniform(0.5, 1.5)  # noqa: S311 -- nothing secret about a pause
            pause = self.first_pause * 2 ** min(number - 1, 10)
            time.sleep(min(pause, self.longest_pause) * spread)


def wait_until(holds: Callable[[], bool], seconds: float, every: float) -> bool:
    """Ask whether a condition holds, until it does or the time is up; return whether it does."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(every)
    return True
