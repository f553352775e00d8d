"""A PgBouncer of Debian's package in front of a test's server, in transaction mode."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

PROGRAM = Path("/usr/sbin/pgbouncer")


@contextmanager
def in_front_of(url: str, pool_size: int = 2) -> Iterator[str]:
    """The address of the pooler for the database of `url`; skips where the program is missing."""
    if not PROGRAM.exists():
        pytest.skip(f"PgBouncer is not installed in {PROGRAM}")
    server = make_url(url)
    folder = Path(tempfile.mkdtemp(prefix="tally-pool-"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    host, server_port = server.query.get("host", server.host), server.query.get("port", server.port)
    (folder / "users.txt").write_text(f'"{server.username}" ""\n')
    (folder / "pgbouncer.ini").write_text(
        f"[databases]\n{server.database} = host={host} port={server_port or 5432}\n[pgbouncer]\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = trust\n"
        f"auth_file = {folder}/users.txt\npool_mode = transaction\n"
        f"default_pool_size = {pool_size}\nlogfile = {folder}/log\n"
    )
    # It refuses to run as root, and the server's socket is for its own account alone.
    account = Path(str(host)).stat().st_uid
    for path in (folder, *folder.iterdir()):
        os.chown(path, account, -1)
    pooler = subprocess.Popen(
        [str(PROGRAM), "-q", str(folder / "pgbouncer.ini")],
        user=account if account != os.getuid() else None,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    pooled = f"postgresql://{server.username}@127.0.0.1:{port}/{server.database}"
    try:
        _wait_until_ready(pooled)
        yield pooled
    finally:
        pooler.terminate()
        pooler.wait()
        shutil.rmtree(folder)


def _wait_until_ready(url: str) -> None:
    for _ in range(600):
        try:
            psycopg.connect(url, connect_timeout=5).close()
        except psycopg.OperationalError:
            time.sleep(0.05)
        else:
            return
    pytest.fail("the pooler does not answer")
