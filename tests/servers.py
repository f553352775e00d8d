"""Throwaway PostgreSQL servers for tests: started when first asked for, all stopped at the end.

Each is a real server of the version asked for, in a short folder of its own, on a unix socket. They
do without fsync, which is safe against everything but a power cut; data that matter never do.
"""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from tallykeeper.embedded.postmaster import Server

# Of the wheel, but for 15, which is Debian's.
VERSIONS = (18, 16, 15)

_MEMORY = Path("/dev/shm")  # noqa: S108 -- a folder with a name of its own is made in it
_ROOM_BYTES = 6 * 2**30
_DEBIAN_PROGRAMS = Path("/usr/lib/postgresql/15/bin")
# The newest, and the oldest that the machine has: what depends on the version changes once between.
NEWEST_AND_OLDEST = (VERSIONS[0], VERSIONS[-1 if (_DEBIAN_PROGRAMS / "initdb").exists() else -2])
_SETTINGS = {
    "shared_buffers": "128MB",
    "max_wal_size": "512MB",
    "max_prepared_transactions": "50",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    # Plans follow statistics, so that a migration may find more to do after they were collected:
    # tests collect them themselves.
    "autovacuum_analyze_threshold": "1000000000",
    # Half an hour off and with daylight saving: what follows the session's zone shows at once.
    "timezone": "'America/St_Johns'",
}


class Servers:
    """One server per version."""

    def __init__(self) -> None:
        # Not pytest's own folder, whose path is too long for a socket and closed to other users.
        self._folder = Path(tempfile.mkdtemp(prefix="tally-", dir=in_memory()))
        self._started: dict[int, Server] = {}
        self._numbers = itertools.count(1)

    def of(self, version: int) -> Server:
        """The running server of that version; skips the test where the machine has none."""
        if version not in self._started:
            programs = None
            if version == VERSIONS[-1]:
                programs = _DEBIAN_PROGRAMS
                if not (programs / "initdb").exists():
                    pytest.skip(f"PostgreSQL {version} is not installed in {programs}")
            server = Server(
                self._folder / f"v{version}", version=version, programs=programs, extra=_SETTINGS
            )
            server.start()
            self._started[version] = server
        return self._started[version]

    @contextmanager
    def fresh_database(self, version: int) -> Iterator[str]:
        """The address of an empty database, dropped afterwards whatever is still connected."""
        server = self.of(version)
        name = f"test_{next(self._numbers)}"
        url = server.url()
        _execute(url, "CREATE DATABASE {} TEMPLATE template0 STRATEGY file_copy", name)
        try:
            yield server.url(name)
        finally:
            _execute(url, "DROP DATABASE IF EXISTS {} WITH (FORCE)", name)

    def stop(self) -> None:
        """Stop all of them and remove what they wrote."""
        for server in self._started.values():
            server.stop()
        shutil.rmtree(self._folder)


def in_memory() -> Path | None:
    """The file system that is in memory, where there is one with enough room.

    A database is 300 files: making these costs up to 200 ms on a disk, and 7 ms in memory.
    """
    if os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free >= _ROOM_BYTES:
        return _MEMORY
    return None


def _execute(url: str, statement: str, name: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql.SQL(statement).format(sql.Identifier(name)))
