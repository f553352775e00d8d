"""The server to measure on: an embedded one of its own, or any that is named.

The embedded one lives in a temporary folder with the settings that users get, and is removed with
its data in the end. On a named server only databases called `tally_bench_...` are made, and
dropped again.
"""

from __future__ import annotations

import contextlib
import os
import platform
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psutil
import psycopg
from sqlalchemy import URL, Engine, create_engine, make_url

from tallykeeper.database import sql
from tallykeeper.embedded import shared_server

PREFIX = "tally_bench_"
GIGABYTE = 1024**3


class Server:
    """A running PostgreSQL server on which databases may be made."""

    def __init__(self, url: str) -> None:
        self._url = make_url(url).set(drivername="postgresql+psycopg")
        self._engines: dict[str, Engine] = {}

    def database(self, name: str) -> Engine:
        """An empty database of that name (after the prefix), made anew."""
        self.execute(f'DROP DATABASE IF EXISTS "{PREFIX}{name}" WITH (FORCE)')
        self.execute(f'CREATE DATABASE "{PREFIX}{name}"')
        self._engines[name] = create_engine(self._url.set(database=PREFIX + name))
        return self._engines[name]

    def drop(self, name: str) -> None:
        """Drop what `database` made."""
        self._engines.pop(name).dispose()
        self.execute(f'DROP DATABASE "{PREFIX}{name}" WITH (FORCE)')

    def drop_all(self) -> None:
        """Drop all that `database` made."""
        for name in list(self._engines):
            self.drop(name)

    def describe(self) -> str:
        """The machine and the server in one paragraph: a figure means nothing without them."""
        with self._connect() as connection:
            rows = connection.execute(
                "SELECT name, current_setting(name) FROM unnest(ARRAY['server_version', 'fsync',"
                " 'synchronous_commit', 'full_page_writes', 'wal_level', 'shared_buffers',"
                " 'work_mem', 'max_parallel_workers_per_gather', 'max_wal_size']) AS name"
            ).fetchall()
        settings: dict[str, str] = dict(rows)
        version = settings.pop("server_version").split()[0]
        shown = ", ".join(f"{name} {value}" for name, value in settings.items())
        memory = psutil.virtual_memory().total / GIGABYTE
        return (
            f"Measured on {datetime.now(UTC):%Y-%m-%d}: {os.cpu_count()} cores"
            f" ({_processor()}), {memory:.0f} GB of memory, {platform.system()},"
            f" Python {platform.python_version()}. PostgreSQL {version}: {shown}."
        )

    def execute(self, statement: str) -> None:
        """Run one statement in the server's own database, in no transaction."""
        with self._connect() as connection:
            connection.execute(statement.encode())

    def _connect(self) -> psycopg.Connection:
        return psycopg.connect(libpq(self._url), autocommit=True)


def libpq(url: URL) -> str:
    """The address as psycopg and PostgreSQL's own programs take it."""
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


def execute(engine: Engine, *statements: str) -> None:
    """Run SQL in one transaction."""
    with engine.begin() as connection:
        for statement in statements:
            sql.execute(connection, statement)


def vacuum(engine: Engine) -> None:
    """VACUUM and ANALYZE everything, and a checkpoint: a database some time after a load."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        sql.execute(connection, "VACUUM (ANALYZE)")
        sql.execute(connection, "CHECKPOINT")


@contextlib.contextmanager
def serving(url: str | None) -> Iterator[Server]:
    """The server at `url`, or an embedded one that ends with the block."""
    if url is not None:
        server = Server(url)
        try:
            yield server
        finally:
            server.drop_all()
        return
    with (
        tempfile.TemporaryDirectory(prefix="tally-benchmarks-") as folder,
        shared_server.serving(Path(folder)) as address,
    ):
        server = Server(address)
        try:
            yield server
        finally:
            server.drop_all()


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return " ".join(line.partition(":")[2].split())
    return platform.processor() or platform.machine()
