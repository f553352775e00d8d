"""`tally serve` as it is run: it listens on this machine alone, answers, and ends on request."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from tallykeeper.database.connections import open_engine
from tests.acceptance.command import Command
from tests.integration.support import execute

START_SECONDS = 60
DAILY = "/api/media/daily-counts"
WRITE = (
    "INSERT INTO media.media_files (path, original_created_at)"
    " SELECT 'f' || n, timestamptz '2025-11-20Z' + n * interval '5 h' FROM generate_series(1, 9) n"
)


@pytest.fixture
def migrated(tally: Command) -> Command:
    """A media library with some files, of which no tally was ever built."""
    tally.environment["TALLY_SYSTEMS"] = "media"
    tally.ok("migrate", "--with-sources")
    engine = open_engine(tally.url)
    execute(engine, WRITE)
    engine.dispose()
    return tally


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextmanager
def serving(tally: Command, *options: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The service's address and process, once it answers; ended if the block did not end it."""
    port = free_port()
    process = tally.start("serve", "--port", str(port), *options)
    address = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + START_SECONDS
        while not answers(address):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < until
            time.sleep(0.1)
        yield address, process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def answers(address: str) -> bool:
    try:
        return httpx.get(f"{address}/health", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_answers_on_this_machine_alone_and_ends_on_a_signal(
    migrated: Command, number: signal.Signals
) -> None:
    with serving(migrated) as (address, process):
        body = httpx.get(address + DAILY, trust_env=False).json()
        assert (body["total_files"], body["total_days"]) == (9, 2)
        listening = [
            c.laddr.ip
            for c in psutil.Process(process.pid).net_connections()
            if c.status == "LISTEN"
        ]
        assert listening == ["127.0.0.1"]
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    assert out == f"Tallykeeper answers at {address}  (Ctrl-C ends it)\n"


def test_several_workers_answer_alike_and_end_together(migrated: Command) -> None:
    with serving(migrated, "--workers", "2") as (address, process):
        workers = psutil.Process(process.pid).children(recursive=True)
        found = [httpx.get(address + DAILY, trust_env=False).json() for _ in range(20)]
        assert {body["total_files"] for body in found} == {9}
        process.terminate()
        process.communicate(timeout=30)
        assert process.returncode == 0
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert alive == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_while_it_starts(tally: Command, number: signal.Signals) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(START_SECONDS)
        tally.url = f"postgresql://127.0.0.1:{silent.getsockname()[1]}/app"
        process = tally.start("serve", "--port", str(free_port()))
        connection, _ = silent.accept()
        with connection:
            process.send_signal(number)
            said = process.communicate(timeout=10)
    assert (process.returncode, *said) == (0, "", "")


def test_an_answer_that_is_under_way_is_finished(migrated: Command) -> None:
    engine = open_engine(migrated.url)
    execute(
        engine,
        "CREATE OR REPLACE VIEW media.daily_contributions_live AS"
        " SELECT timestamptz '2025-11-20Z' AS date, 1 AS count FROM pg_sleep(2)",
    )
    engine.dispose()
    with serving(migrated) as (address, process), httpx.Client(trust_env=False) as client:
        request = client.build_request("GET", address + DAILY)
        with socket.create_connection(("127.0.0.1", int(address.rsplit(":", 1)[1]))) as sent:
            sent.sendall(f"GET {DAILY} HTTP/1.1\r\nHost: {request.url.host}\r\n\r\n".encode())
            time.sleep(0.5)
            process.terminate()
            head = sent.recv(100)
        assert head.startswith(b"HTTP/1.1 200 OK")
        process.communicate(timeout=30)
    assert process.returncode == 0


def test_what_keeps_it_from_serving_is_said_in_a_sentence(tally: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = tally.run("serve", "--port", port)
    assert result.code == 1
    assert result.err.startswith(f"tally: cannot listen on port {port} of 127.0.0.1")
    tally.environment["TALLY_SERVE_TOKEN"] = "short"
    result = tally.run("serve", "--port", str(free_port()))
    assert (result.code, "TALLY_SERVE_TOKEN: expected" in result.err) == (1, True)
    del tally.environment["TALLY_SERVE_TOKEN"]
    tally.environment["TALLY_SERVE_DATABASE_URL"] = "postgresql://127.0.0.1:9/nothing"
    result = tally.run("serve", "--port", str(free_port()))
    assert (result.code, "expected a PostgreSQL database" in result.err) == (1, True)
    assert result.out == ""


def test_a_folder_is_served_without_a_database(tally: Command, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("a video")
    tally.environment["TALLY_DATABASE_URL"] = "postgresql://nobody@127.0.0.1:1/nothing"
    with serving(tally, "--folder", str(tmp_path), "--workers", "2") as (address, process):
        answer = httpx.get(f"{address}{DAILY}", trust_env=False).json()
        assert (answer["total_files"], answer["source"]) == (1, "folder")
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "counts the files of" in out
