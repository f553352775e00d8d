"""A hot standby: the engine's sessions open on it, and read; what writes says so in a sentence."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from tallykeeper import refresh, status, verify
from tallykeeper.cli.failures import explain
from tallykeeper.database.connections import open_engine
from tallykeeper.embedded.postmaster import Server
from tallykeeper.http.database import Snapshots
from tallykeeper.installation.migrate import migrate
from tallykeeper.operations.diagnosis import database as diagnosis
from tests.integration.support import create, execute, scalar
from tests.library import system as media
from tests.servers import VERSIONS, Servers, in_memory

PROGRAMS = Path("/usr/lib/postgresql/15/bin")
LIVE = "SELECT sum(count)::int FROM media.daily_contributions_live"


@pytest.fixture
def postgres_version() -> int:
    """Debian's, whose programs make copies for standbys."""
    return VERSIONS[-1]


@pytest.fixture
def standby(postgres_servers: Servers, engine: Engine) -> Iterator[Engine]:
    """A standby of the test's server, with one file counted and one pending."""
    create(engine, media)
    execute(engine, "INSERT INTO media.media_files (path) VALUES ('a')")
    for tally in media.tallies:
        refresh(engine, tally)
    execute(engine, "INSERT INTO media.media_files (path) VALUES ('b')")
    primary = postgres_servers.of(VERSIONS[-1])
    account = primary.data.stat()
    folder = Path(tempfile.mkdtemp(prefix="tally-standby-", dir=in_memory()))
    folder.chmod(0o711)
    copy = [
        str(PROGRAMS / "pg_basebackup"),
        "--write-recovery-conf",
        "--no-sync",
        "--checkpoint=fast",
    ]
    source = ["--host", str(engine.url.query["host"]), "--username", "postgres"]
    subprocess.run([*copy, *source, "--pgdata", str(folder / "data")], check=True)
    for path in (folder / "data", *(folder / "data").rglob("*")):
        os.chown(path, account.st_uid, account.st_gid)
    server = Server(folder / "data", version=VERSIONS[-1], programs=PROGRAMS, extra=SETTINGS)
    server.start()
    opened = open_engine(server.url(str(engine.url.database)))
    try:
        while scalar(opened, LIVE) != 2:
            time.sleep(0.05)
        yield opened
    finally:
        opened.dispose()
        server.stop()
        shutil.rmtree(folder)


# As many as the primary has: a standby does not start with fewer.
SETTINGS = {"max_prepared_transactions": "50", "fsync": "off"}


def test_a_standby_is_read_and_refuses_what_writes_in_a_sentence(standby: Engine) -> None:
    tally = media.tallies[0]
    assert scalar(standby, "SELECT pg_is_in_recovery()")
    assert status(standby, tally).pending == 1
    found = next(f for f in diagnosis.examine(standby, media.tallies) if f.subject == "database")
    assert (found.level, "a standby" in found.found) == ("fail", True)
    total = Snapshots(standby).read(lambda c, _at: c.exec_driver_sql(LIVE).scalar_one())
    assert total == 2
    for work in (
        lambda: refresh(standby, tally),
        lambda: verify(standby, tally),
        lambda: migrate(standby, [media]),
    ):
        with pytest.raises(DBAPIError) as refused:
            work()
        assert "standby cannot keep tallies" in str(explain(refused.value))
