"""`tally up`: the UI answers, and whatever ends first, nothing stays behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path

import click
import psutil
import pytest
from sqlalchemy import Engine

from assets.media.tallies import system
from tallykeeper.cli import up
from tallykeeper.embedded import shared_server
from tests.environment import environment as clean
from tests.templates import migrated

QUERY = """{ workspaceOrError { ... on Workspace { locationEntries { name loadStatus } } } }"""


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind((up.LOOPBACK, 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def home() -> Iterator[Path]:
    """For an embedded server: any pytest that starts closes pytest's own folder to its account."""
    with tempfile.TemporaryDirectory(prefix="tally-") as folder:
        yield Path(folder)


@pytest.fixture
def environment(database_url: str, engine: Engine, tmp_path: Path) -> dict[str, str]:
    migrated(engine, system)
    return clean(TALLY_DATABASE_URL=database_url, TALLY_HOME=str(tmp_path))


@contextmanager
def running(environment: dict[str, str], port: int) -> Iterator[subprocess.Popen[str]]:
    """`tally up`, from the moment it says that it is up."""
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name("tally")), "up", "--port", str(port)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if "is up" in line:
                break
        else:
            pytest.fail("".join(said))
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
        assert process.stdout is not None
        process.stdout.close()


def tally(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command that ends by itself."""
    program = str(Path(sys.executable).with_name("tally"))
    return subprocess.run(
        [program, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def ask(port: int) -> dict[str, object]:
    """What the webserver says of its code locations."""
    connection = HTTPConnection(up.LOOPBACK, port, timeout=30)
    headers = {"content-type": "application/json"}
    with closing(connection):
        connection.request("POST", "/graphql", json.dumps({"query": QUERY}), headers)
        found: dict[str, object] = json.load(connection.getresponse())["data"]["workspaceOrError"]
        return found


@pytest.mark.slow
def test_it_serves_the_code_location_until_it_is_asked_to_end(
    environment: dict[str, str], port: int
) -> None:
    with running(environment, port) as process:
        assert ask(port) == {"locationEntries": [{"name": "tallykeeper", "loadStatus": "LOADED"}]}
        started = psutil.Process(process.pid).children(recursive=True)
        assert len(started) >= 4, "webserver and daemon, each with its server of the code location"
        second = tally(environment, "up", "--port", str(port))
        assert second.returncode == 1
        assert f"another `tally up` keeps what is in {environment['TALLY_HOME']}" in second.stderr
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        assert not [child for child in started if child.is_running()]


@pytest.mark.slow
def test_when_one_part_ends_by_itself_all_of_it_ends_and_says_so(
    environment: dict[str, str], port: int
) -> None:
    with running(environment, port) as process:
        started = psutil.Process(process.pid).children(recursive=True)
        (daemon,) = [c for c in started if any("dagster-daemon" in a for a in c.cmdline())]
        daemon.kill()
        assert process.wait(60) == 1
        assert process.stdout is not None
        assert "the Dagster daemon ended by itself (exit code -9)" in process.stdout.read()
        assert not [child for child in started if child.is_running()]


@pytest.mark.slow
def test_stop_ends_it_with_all_it_started(home: Path, port: int) -> None:
    """With the embedded database, which would end under it otherwise."""
    environment = clean(TALLY_HOME=str(home), TALLY_SYSTEMS="media")
    with running(environment, port) as process:
        started = psutil.Process(process.pid).children(recursive=True)
        stop = tally(environment, "stop")
        assert (stop.returncode, stop.stdout) == (0, "stopped\n"), stop.stderr
        assert process.wait(60) == 0
        assert not [child for child in started if child.is_running()]
        assert process.stdout is not None
        assert "Stopping ...\n" in process.stdout.read()
    assert not shared_server.is_running(home)
    assert tally(environment, "stop").stdout == "nothing was running\n"


@pytest.mark.slow
def test_an_embedded_database_that_ended_is_started_again_or_ends_it_with_one_sentence(
    home: Path, port: int
) -> None:
    environment = clean(TALLY_HOME=str(home), TALLY_SYSTEMS="media")
    with running(environment, port) as process:
        started = psutil.Process(process.pid).children(recursive=True)
        data = home / "postgres"
        postmaster = data / "postmaster.pid"
        killed = int(postmaster.read_text().splitlines()[0])
        os.kill(killed, signal.SIGKILL)
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if line == "It runs again.\n":
                break
        assert "The embedded PostgreSQL ended by itself; starting it again ...\n" in said
        assert said[-1] == "It runs again.\n", said
        again = int(postmaster.read_text().splitlines()[0])
        assert again != killed
        assert ask(port) == {"locationEntries": [{"name": "tallykeeper", "loadStatus": "LOADED"}]}
        (data / "global/pg_control").rename(home / "broken")
        os.kill(again, signal.SIGKILL)
        require_ended_for_want_of_it(process, "did not start (", started)


@pytest.mark.slow
def test_an_embedded_database_without_its_data_ends_it_with_one_sentence(
    home: Path, port: int
) -> None:
    environment = clean(TALLY_HOME=str(home), TALLY_SYSTEMS="media")
    with running(environment, port) as process:
        started = psutil.Process(process.pid).children(recursive=True)
        data = home / "postgres"
        (data / "PG_VERSION").rename(home / "broken")
        os.kill(int((data / "postmaster.pid").read_text().splitlines()[0]), signal.SIGKILL)
        require_ended_for_want_of_it(process, "has no data any more", started)
    assert not shared_server.is_running(home)


def require_ended_for_want_of_it(
    process: subprocess.Popen[str], said: str, started: list[psutil.Process]
) -> None:
    assert process.wait(120) == 1
    assert process.stdout is not None
    lines = process.stdout.readlines()
    assert lines[-1].startswith("tally: the embedded database in "), lines
    assert said in lines[-1]
    assert len(lines) < 100, lines
    assert not [child for child in started if child.is_running()]


def test_a_port_that_is_in_use_is_a_clear_error(port: int) -> None:
    with socket.socket() as other:
        other.bind((up.LOOPBACK, port))
        other.listen()
        with pytest.raises(click.ClickException) as caught:
            up.run_up(port)
    assert f"cannot listen on port {port} of 127.0.0.1 (Address already in use)" in str(
        caught.value
    )
    assert f"tally up --port {port + 1}" in str(caught.value)


def test_a_child_that_will_not_end_is_made_to_with_all_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(up, "END_WITHIN_SECONDS", 0.5)
    stubborn = (
        "import os, pathlib, signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = os.fork()\n"
        f"pathlib.Path({str(tmp_path)!r}, str(os.getpid())).touch()\n"
        "time.sleep(600)\n"
    )
    with up.children({"stubborn": ["python", "-c", stubborn]}, dict(os.environ)):
        deadline = time.monotonic() + 30
        while len(found := [int(file.name) for file in tmp_path.iterdir()]) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    left = [pid for pid in found if psutil.pid_exists(pid)]
    assert [pid for pid in left if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE] == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_and_afterwards_means_what_it_did(number: signal.Signals) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with up.stop_signals() as stopping:
        os.kill(os.getpid(), number)
        assert stopping.wait(5)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
