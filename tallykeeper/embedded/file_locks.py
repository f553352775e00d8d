"""Locks between processes: on a file, and the kernel's, so that none outlives who holds it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


def open_lock(path: Path) -> int:
    """The file to lock, made where it is missing: for `os.close`, which releases the lock.

    It is not for children: they would hold the lock when this process is dead.
    """
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def try_lock(lock: int) -> bool:
    """Take the lock alone; False where another process has it, alone or shared."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
