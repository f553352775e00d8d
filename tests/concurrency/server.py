"""A throwaway PostgreSQL server that a test may kill.

It is started and recovers as the embedded server does; faster than safe against a power cut (no
fsync), which a SIGKILL is not. Only processes of this server are ever signalled.
"""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import psutil
import psycopg

from tallykeeper.embedded import postmaster

SETTINGS = {
    "max_prepared_transactions": "50",
    "max_connections": "60",
    "shared_buffers": "64MB",
    "fsync": "off",
    "deadlock_timeout": "50ms",
    "autovacuum_naptime": "1s",
    # Half an hour off and with daylight saving: what follows the session's zone shows at once.
    "timezone": "'America/St_Johns'",
}


class Server(postmaster.Server):
    """A PostgreSQL server in `folder`, which need not exist yet."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, extra=SETTINGS)

    def kill(self) -> None:
        """SIGKILL the postmaster and everything it started."""
        running = self.running()
        assert running is not None, "there is no server to kill"
        main = psutil.Process(running.pid)
        # Stopped first, so that it cannot start another process after the list is made.
        main.send_signal(signal.SIGSTOP)
        processes = [*main.children(recursive=True), main]
        for process in processes:
            process.kill()
        deadline = time.monotonic() + 10
        while left := [p for p in processes if not _is_dead(p)]:
            assert time.monotonic() < deadline, f"still running after SIGKILL: {left}"
            time.sleep(0.005)

    def create_database(self, name: str) -> str:
        """An empty database; returns its address."""
        with connect(self.url()) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Drop it, whatever is connected; what is prepared there is rolled back first."""
        with connect(self.url(name)) as connection:
            prepared = connection.execute(
                "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()"
            )
            for (gid,) in prepared.fetchall():
                connection.execute(f"ROLLBACK PREPARED '{gid}'")
        with connect(self.url()) as connection:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def connect(url: str) -> psycopg.Connection[Any]:
    """An autocommitting connection: transactions are written out by who wants them."""
    return psycopg.connect(url, autocommit=True)


def for_sqlalchemy(url: str) -> str:
    """The same address for SQLAlchemy with psycopg 3."""
    return url.replace("postgresql://", "postgresql+psycopg://", 1)


def _is_dead(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
