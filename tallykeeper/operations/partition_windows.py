"""Which windows a tally's partitions stand for, and on which partition a window is reported.

One partition is one window (`declarations/windows.py`), by the window's label. The first is open
towards the past and the last towards the future, so that all partitions together cover every row
there is: a photograph dated 1904, a camera whose clock was set to 2036. No database, no Dagster.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tallykeeper.declarations.windows import DAYS, Bounds, Windows


@dataclass(frozen=True)
class Span:
    """The first and the last partition that there are, by their labels, like `2025-11-20`."""

    first: str
    last: str
    of: Windows = DAYS

    def partition_of(self, label: str) -> str:
        """The partition on which a window is reported.

        Labels of four-digit years sort as text as they do in time.
        """
        return max(self.first, min(label, self.last))

    def partitions(self) -> list[str]:
        """All partitions, in order."""
        return self.of.between(self.first, self.last)

    def windows(self, partitions: Iterable[str]) -> list[Bounds]:
        """The half-open windows of `partitions`, in order; neighbours are one window."""
        found = []
        for first, last in self.of.runs(partitions):
            start, end = self.of.bounds(first, last)
            found.append(
                (None if first <= self.first else start, None if last >= self.last else end)
            )
        return found


def spelled_out(runs: Sequence[tuple[str, str]], most: int = 10) -> str:
    """Runs of windows for a reader: `2025-01-01, 2025-02-01 to 2025-02-14 and 3 more`."""
    words = [first if first == last else f"{first} to {last}" for first, last in runs[:most]]
    left = len(runs) - len(words)
    return ", ".join(words) + (f" and {left} more" if left > 0 else "")
