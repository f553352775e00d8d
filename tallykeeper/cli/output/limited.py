"""What processes print, passed on up to so many lines a minute: a console is for reading.

Dagster's processes print a traceback for every attempt to reach a database that is away, thousands
of lines a minute.
"""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import IO

MOST_LINES = 20
LAST_LINES = 5
WITHIN_SECONDS = 60.0

# What runs say of how they go on, which is in the UI.
_PROGRESS = re.compile(r" - dagster - (INFO|DEBUG) - \S+ - [0-9a-f-]{36} - ")


class LimitedOutput:
    """Passes lines on to `say`; of those beyond the limit their number and the last few."""

    def __init__(
        self,
        say: Callable[[str], object],
        most: int = MOST_LINES,
        within: float = WITHIN_SECONDS,
    ) -> None:
        self._say = say
        self._most, self._within = most, within
        self._lock = threading.Lock()
        self._since = time.monotonic()
        self._passed = self._left_out = 0
        # What a process says last is what it ended of.
        self._last: deque[str] = deque(maxlen=LAST_LINES)

    def follow(self, stream: IO[bytes]) -> threading.Thread:
        """Read the stream to its end, in a thread."""
        reader = threading.Thread(target=self._read, args=[stream], daemon=True)
        reader.start()
        return reader

    def line(self, text: str) -> None:
        """Pass one line on, or leave it out."""
        with self._lock:
            if time.monotonic() - self._since > self._within:
                self.finish()
                self._since, self._passed = time.monotonic(), 0
            if self._passed < self._most:
                self._passed += 1
                self._say(text)
            else:
                self._left_out += 1
                self._last.append(text)

    def finish(self) -> None:
        """Say how many lines were left out since that was said last, and the last of them."""
        hidden = self._left_out - len(self._last)
        if hidden:
            self._say(f"({hidden:,} more lines of Dagster's processes were left out)")
        for text in self._last:
            self._say(text)
        self._last.clear()
        self._left_out = 0

    def _read(self, stream: IO[bytes]) -> None:
        with stream:
            for line in stream:
                text = line.decode(errors="replace").rstrip("\n")
                if not _PROGRESS.search(text):
                    self.line(text)
