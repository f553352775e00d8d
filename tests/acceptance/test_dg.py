"""`dg` in a fresh clone with an empty environment: nothing has to be set up for it, or named."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import pytest

from tallykeeper.embedded import shared_server
from tallykeeper.settings import project_root

PROGRAMS = ("dg", "dagster", "dagster-webserver", "dagster-daemon", "tally")
SITE = Path(sysconfig.get_path("purelib"))
QUIET = SITE / "tallykeeper_dg.pth"
START_SECONDS = 120
# Runs a program that heeds SIGINT: a script started in the background ignores it, and so do all
# that it starts.
INTERRUPTIBLE = (
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL);"
    " os.execv(sys.argv[1], sys.argv[1:])"
)
# Of the year in which the first partition is by default.
DAY = f"{datetime.now(UTC).year - 1}-01-02"


@dataclass(frozen=True)
class Clone:
    """A copy of the project, a virtual environment in it, and the home of a user without files."""

    root: Path
    home: Path

    def command(self, *arguments: str) -> list[str]:
        return [str(self.root / ".venv" / "bin" / arguments[0]), *arguments[1:]]

    @property
    def environment(self) -> dict[str, str]:
        """As little as a shell has."""
        return {"HOME": str(self.home), "PATH": "/usr/bin:/bin"}

    def dg(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command("dg", *arguments),
            cwd=self.root,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture(scope="module")
def clone() -> Iterator[Clone]:
    # Not pytest's own folder, which is closed to the account of the embedded server.
    with tempfile.TemporaryDirectory(prefix="tally-") as folder:
        root, home = Path(folder, "clone"), Path(folder, "home")
        home.mkdir()
        names = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
        files = subprocess.run(names, cwd=project_root(), capture_output=True, check=True).stdout
        for name in files.decode().split("\0"):
            source = project_root() / name
            if name and source.is_file():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, root / name)
        _make_environment(root)
        yield Clone(root, home)
        shared_server.stop(root / ".tally")


def _make_environment(root: Path) -> None:
    """The packages of this one, and the project as it is in the copy: what `make setup` makes."""
    made = root / ".venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(made)], check=True)
    site = made / SITE.relative_to(sys.prefix)
    (site / "all.pth").write_text(f"{SITE}\n{root}\n")
    assert QUIET.is_file(), "`make setup` was run before it had this file; run it again"
    shutil.copyfile(QUIET, site / QUIET.name)
    for name in PROGRAMS:
        program = (Path(sys.executable).with_name(name)).read_text().splitlines(keepends=True)
        program[0] = f"#!{made / 'bin' / 'python'}\n"
        (made / "bin" / name).write_text("".join(program))
        (made / "bin" / name).chmod(0o755)


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
