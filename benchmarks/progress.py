"""Shows what is being done, on standard error: the table alone goes to output."""

from __future__ import annotations

import sys
import time

_started = time.perf_counter()


def announce(what: str) -> None:
    """Print `what` with the time since the start."""
    elapsed = int(time.perf_counter() - _started)
    print(f"{elapsed // 60:3}:{elapsed % 60:02}  {what}", file=sys.stderr, flush=True)
