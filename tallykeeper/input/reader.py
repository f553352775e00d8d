"""What all readers of an input have in common, whatever they read: to be opened, asked and closed.

Rows are the business of each reader, for their form is that of the format.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Self


class Reader(ABC):
    """An open input. `size` is how much there is of it, in bytes or in rows."""

    path: Path
    size: int

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:  # noqa: B027 -- a DataFrame stays open: it is the caller's
        """Close what was opened."""

    @abstractmethod
    def consumed(self) -> int:
        """Return how much was read so far, of `size`."""
