"""Bringing events in by the command: from a file, and from a live server until it is stopped."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from assets.fediverse.tallies import system
from tests.acceptance.command import Command
from tests.integration.support import create, execute, rows, scalar
from tests.mastodon_server import MastodonServer, event, serving

COUNT = "SELECT count(*) FROM fediverse.stream_events"
TOKEN = "t0p-s3cret"
SECONDS = 30.0


@pytest.fixture
def fediverse(engine: Engine) -> Engine:
    """A database with an empty log."""
    create(engine, system)
    return engine


@pytest.fixture
def mastodon() -> Iterator[MastodonServer]:
    """A server that answers what the test asks it to."""
    with serving() as server:
        yield server


@pytest.fixture
def events(tmp_path: Path) -> Path:
    path = tmp_path / "events.jsonl"
    path.write_text('{"event": "delete", "payload": 1}\n{"id": 1, "content": "x"}\n{}\n')
    return path


def test_a_file_is_loaded(tally: Command, fediverse: Engine, events: Path) -> None:
    result = tally.ok("load", "fediverse", str(events), "--instance", "Mastodon.Social/")
    assert "3 events read in" in result.out
    assert f"2 inserted, 0 changed, 0 unchanged, 1 rejected (listed in {events}" in result.out
    assert rows(fediverse, "SELECT base_url FROM fediverse.instances") == [
        ("https://mastodon.social",)
    ]
    assert scalar(fediverse, COUNT) == 2


def test_what_was_loaded_waits_until_a_refresh_processes_it(
    tally: Command, fediverse: Engine, events: Path
) -> None:
    tally.ok("load", "fediverse", str(events), "--instance", "mastodon.social")
    waits = "fediverse: 2 events wait to be processed, the oldest for "
    assert waits in tally.ok("status").out
    assert json.loads(tally.ok("status", "--json").out)["waiting"]["fediverse"]["rows"] == 2
    assert tally.ok("refresh", "hourly_stats").out.startswith("fediverse: processed 2 events in ")
    assert scalar(fediverse, f"{COUNT} WHERE processed_at IS NULL") == 0
    assert waits not in tally.ok("status").out
    assert "processed" not in tally.ok("refresh", "hourly_stats").out


def test_processing_says_what_is_missing_where_nothing_was_installed(
    tally: Command, fediverse: Engine
) -> None:
    execute(fediverse, "DROP TABLE tallykeeper.fediverse_log")
    result = tally.run("refresh", "hourly_stats")
    assert result.code == 1
    assert "there is no tallykeeper.fediverse_log; run `tally migrate` first" in result.err


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["fediverse"], 2, "Missing option '--instance'; see `tally load fediverse --help`"),
        (["media", "--instance", "https://a.example"], 2, "No such option '--instance'"),
        (["gallery", "--by-host"], 2, "No such option '--by-host'"),
        (["fediverse", "--instance", "ftp://x"], 1, "--instance: expected an instance's address"),
    ],
)
def test_a_file_that_is_not_said_whose_is_not_loaded(
    tally: Command,
    fediverse: Engine,
    events: Path,
    arguments: list[str],
    code: int,
    sentence: str,
) -> None:
    result = tally.run("load", arguments[0], str(events), *arguments[1:])
    assert result.code == code
    assert sentence in result.err
    assert scalar(fediverse, COUNT) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_listener_that_is_stopped_has_written_all_it_received(
    tally: Command, fediverse: Engine, mastodon: MastodonServer, number: signal.Signals
) -> None:
    tally.environment["TALLY_MASTODON_TOKEN"] = TOKEN
    mastodon.then(event("delete", "1"), b"event: delete\ndata: 9")
    mastodon.then(*(event("delete", str(n)) for n in range(2, 1_500)), holds=True)
    process = tally.start("listen", mastodon.url, "--stream", "hashtag:cats")
    try:
        _until(process, lambda: scalar(fediverse, COUNT) >= 700)
        process.send_signal(number)
        out, err = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
    assert (process.returncode, err) == (0, "")
    assert f"listening to hashtag:cats of {mastodon.url}" in out
    assert "disconnected: the server ended the stream; connecting again in" in out
    assert f"{scalar(fediverse, COUNT):,} events written in" in out.splitlines()[-1]
    found = [int(p) for (p,) in rows(fediverse, f"SELECT payload {_IN_ORDER}")]
    assert found == list(range(1, len(found) + 1))
    assert mastodon.tokens == [f"Bearer {TOKEN}"] * 2
    assert TOKEN not in out


_IN_ORDER = "FROM fediverse.stream_events ORDER BY received_at, id"


def test_a_second_signal_ends_a_listener_at_once(
    tally: Command, fediverse: Engine, mastodon: MastodonServer
) -> None:
    go = threading.Event()
    mastodon.then(event("delete", "1"), lambda: go.wait(SECONDS), event("delete", "2"), holds=True)
    process = tally.start("listen", mastodon.url)
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    try:
        _until(process, lambda: scalar(fediverse, COUNT) == 1)
        with fediverse.begin() as other:
            other.exec_driver_sql("LOCK TABLE fediverse.stream_events IN EXCLUSIVE MODE")
            go.set()
            _until(process, lambda: scalar(fediverse, waiting))
            process.send_signal(signal.SIGTERM)
            assert process.stdout is not None
            assert any("again to end at once" in line for line in process.stdout)
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(timeout=1)
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=SECONDS)
    finally:
        process.kill()
    assert process.returncode == -signal.SIGTERM


def test_a_server_that_refuses_is_reported_without_the_token(
    tally: Command, fediverse: Engine, mastodon: MastodonServer
) -> None:
    assert scalar(fediverse, COUNT) == 0
    tally.environment["TALLY_MASTODON_TOKEN"] = TOKEN
    mastodon.then(status=401)
    result = tally.run("listen", mastodon.url)
    assert result.code == 1
    assert "the server answered 401 Unauthorized; check the token" in result.err
    assert result.err.count("\n") == 1
    assert TOKEN not in result.out + result.err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["https://ann:s3cret@a.example"], "there is a name before the host"),
        (["https://a.example/@ann"], "expected an instance's address like"),
        (["https://a.example", "--stream", "home"], "--stream: expected public, local, user or"),
    ],
)
def test_what_cannot_be_listened_to_is_reported(
    tally: Command, arguments: list[str], sentence: str
) -> None:
    result = tally.run("listen", *arguments)
    assert result.code == 2
    assert sentence in result.err
    assert "s3cret" not in result.err


def test_without_the_tables_it_says_how_to_make_them(
    tally: Command, mastodon: MastodonServer
) -> None:
    result = tally.run("listen", mastodon.url)
    assert result.code == 1
    assert "TALLY_SYSTEMS=fediverse tally migrate --with-sources" in result.err


def _until(process: subprocess.Popen[str], condition: object) -> None:
    assert callable(condition)
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
