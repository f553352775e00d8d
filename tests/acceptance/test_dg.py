"""`dg` in a fresh clone with an empty environment: nothing has to be set up for it, or named."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException

import pytest

from tests.clone import Clone, cloned

START_SECONDS = 120
# Runs a program that heeds SIGINT: a script started in the background ignores it, and so do all
# that it starts.
INTERRUPTIBLE = (
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL);"
    " os.execv(sys.argv[1], sys.argv[1:])"
)
# Of the year in which the first partition is by default.
DAY = f"{datetime.now(UTC).year - 1}-01-02"


@pytest.fixture(scope="module")
def clone() -> Iterator[Clone]:
    with cloned() as clone:
        yield clone


def test_definitions_are_checked_and_listed(clone: Clone) -> None:
    checked = clone.dg("check", "defs")
    assert checked.returncode == 0, checked.stderr
    assert "All definitions loaded successfully" in checked.stdout + checked.stderr
    assert "Traceback" not in checked.stdout + checked.stderr
    listed = clone.dg("list", "defs", "--json")
    assert listed.returncode == 0, listed.stderr
    assert "media/daily_contributions" in listed.stdout
    assert not list(clone.home.iterdir()), "it reports nothing of its use, and keeps no notes"


def test_launch_materializes_and_shows_how_it_goes(clone: Clone) -> None:
    launched = clone.dg("launch", "--job", "media_hourly")
    assert launched.returncode == 0, launched.stderr
    lines = launched.stderr.splitlines()
    for table in ("daily_contributions", "hourly_contributions"):
        assert any(line.endswith(f"media.{table}: taking the pending changes") for line in lines)
        assert any(f"media/{table}: rebuild: never built" in line for line in lines)
    rebuilt = clone.dg("launch", "--assets", "media/daily_contributions", "--partition", DAY)
    assert rebuilt.returncode == 0, rebuilt.stderr
    assert f"media.daily_contributions: rebuilding {DAY}" in rebuilt.stderr


@pytest.mark.slow
def test_dev_serves_the_ui_and_ends_with_all_it_started(clone: Clone) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = clone.command("dg", "dev", "--port", str(port), "--host", "127.0.0.1")
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", INTERRUPTIBLE, *command],
            cwd=clone.root,
            env=clone.environment,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            until = time.monotonic() + START_SECONDS
            while not _answers(port):
                assert time.monotonic() < until
                assert process.poll() is None, output.seek(0) or output.read()
                time.sleep(0.5)
        finally:
            # Like Ctrl-C, which a terminal sends to all that runs in it; again where nothing comes
            # of it: it can take a minute on a busy machine.
            for _ in range(3):
                os.killpg(process.pid, signal.SIGINT)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(60)
                    break
            assert process.poll() is not None
        output.seek(0)
        said = output.read()
    assert "Traceback" not in said, said
    assert not list(clone.home.rglob("event.log*")), "nothing was noted to be sent"


def _answers(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/server_info")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
