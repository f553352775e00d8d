"""Which window a partition stands for, and on which partition a day is reported.

One partition is one UTC day. The first is open towards the past and the last towards the future,
so that all partitions together cover every row there is: a photograph dated 1904, a camera whose
clock was set to 2036. Plain dates and text; no database, no Dagster.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

Bounds = tuple[datetime | None, datetime | None]

ONE_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Span:
    """The first and the last partition that there are, as dates like `2025-11-20`."""

    first: str
    last: str

    def partition_of(self, day: str) -> str:
        """The partition on which `day` is reported.

        Dates of four-digit years sort as text as they do in time.
        """
        return max(self.first, min(day, self.last))

    def days(self) -> list[str]:
        """All partitions, in order."""
        first, last = date.fromisoformat(self.first), date.fromisoformat(self.last)
        return [(first + n * ONE_DAY).isoformat() for n in range((last - first).days + 1)]

    def windows(self, partitions: Iterable[str]) -> list[Bounds]:
        """The half-open windows of `partitions`, in order; neighbours are one window."""
        return [
            (
                None if first <= self.first else _midnight(date.fromisoformat(first)),
                None if last >= self.last else _midnight(date.fromisoformat(last) + ONE_DAY),
            )
            for first, last in runs_of_days(partitions)
        ]


def runs_of_days(days: Iterable[str]) -> list[tuple[str, str]]:
    """The days as unbroken runs, each by its first and its last day, in order."""
    runs: list[tuple[str, str]] = []
    for day in sorted(set(days)):
        if runs and date.fromisoformat(day) - date.fromisoformat(runs[-1][1]) == ONE_DAY:
            runs[-1] = (runs[-1][0], day)
        else:
            runs.append((day, day))
    return runs


def spelled_out(runs: Sequence[tuple[str, str]], most: int = 10) -> str:
    """Runs of days for a reader: `2025-01-01, 2025-02-01 to 2025-02-14 and 3 more`."""
    words = [first if first == last else f"{first} to {last}" for first, last in runs[:most]]
    left = len(runs) - len(words)
    return ", ".join(words) + (f" and {left} more" if left > 0 else "")


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
