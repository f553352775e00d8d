"""A long time of events, most of it in the archive: all that follows is derived from both again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine

from assets.fediverse.processing.batches import process
from assets.fediverse.storage import archive_replay, partitions
from assets.fediverse.storage.archive import EVENTS
from assets.fediverse.storage.thinning import thin_snapshots
from assets.fediverse.tables import PROCESSED
from assets.fediverse.tallies import system
from tallykeeper import refresh, verify
from tallykeeper.archive import runs
from tallykeeper.archive.store import open_store
from tests.fediverse_events import Stream, add_events, add_instances, derived, require_same
from tests.integration.fediverse_log import created
from tests.integration.support import execute, rows, scalar
from tests.servers import Servers

KEPT_DAYS = 30


@pytest.fixture
def fediverse(postgres_servers: Servers) -> Iterator[Engine]:
    with created(postgres_servers) as engine:
        yield engine


class Days(Stream):
    """Some events of some posts on each of many days."""

    def of_day(self, day: date, events: int) -> None:
        self.now = datetime.combine(day, datetime.min.time(), UTC) + timedelta(hours=1)
        self.draw(events)


def written(engine: Engine, days: int, events: int, posts: int) -> date:
    """Write and process so many days of events, up to yesterday; the first day."""
    import random

    today = datetime.now(UTC).date()
    first = today - timedelta(days=days)
    add_instances(engine)
    with engine.begin() as connection:
        partitions.ensure(connection, first, today)
    stream = Days(random.Random(7), datetime.combine(first, datetime.min.time(), UTC), posts)
    for number in range(days):
        stream.of_day(first + timedelta(days=number), events)
        # New ones come every day, and old ones are seen again.
        stream.most += 1
    midnight = datetime.combine(today, datetime.min.time(), UTC)
    add_events(engine, [event for event in stream.events if event.received_at < midnight])
    for number, kind in enumerate(("follow", "unfollow", "follow")):
        execute(
            engine,
            "INSERT INTO fediverse.stream_events (instance_id, received_at, event_type, payload)"
            f" VALUES (1, '{first + timedelta(days=number)}T03:00Z', '{kind}',"
            f' \'{{"follower_account_id": "{number // 2}", "followee_account_id": "9"}}\')',
        )
    process(engine)
    thin_snapshots(engine)
    return first


def compared(engine: Engine) -> dict[str, list[str]]:
    return {table: of for table, of in derived(engine).items() if table != "stream_events"}


def archived_and_dropped(engine: Engine) -> None:
    store = open_store()
    done = runs.archive(engine, EVENTS, store)
    assert (done.kept, done.left_alone) == ({}, None)
    assert partitions.dropped(engine, KEPT_DAYS).kept == {}


@pytest.mark.timeout(3_600)
@pytest.mark.parametrize(
    ("days", "events", "posts"),
    [(45, 8, 40), pytest.param(365, 60, 400, marks=pytest.mark.slow)],
)
def test_a_long_time_is_derived_again_from_both_after_a_kill(
    fediverse: Engine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    days: int,
    events: int,
    posts: int,
) -> None:
    engine = fediverse
    monkeypatch.setenv("TALLY_ARCHIVE", str(tmp_path / "archive"))
    written(engine, days, events, posts)
    before = compared(engine)
    assert before["account_follows"]
    count = "SELECT count(*) FROM fediverse.stream_events"
    everything = scalar(engine, count)
    archived_and_dropped(engine)
    kept = scalar(engine, count)
    assert 0 < kept < everything
    assert archive_replay.verify(engine, open_store()).differing == 0
    execute(engine, f"TRUNCATE {', '.join(f'fediverse.{t.name}' for t in PROCESSED)}")
    rows_per_pass = everything // 3
    killed_half_way(engine, tmp_path, rows_per_pass)
    half = compared(engine)
    assert len(half["mastodon_posts"]) < len(before["mastodon_posts"])
    said: list[str] = []
    done = archive_replay.replay(engine, open_store(), rows_per_pass=rows_per_pass, say=said.append)
    assert said[0] == "going on where an interrupted replay was"
    assert done.skipped == 0
    require_same(compared(engine), before, "from the log and the archive")
    for tally in system.tallies:
        refresh(engine, tally)
        assert verify(engine, tally).ok
    assert archive_replay.replay(engine, open_store(), rows_per_pass=10**6).rows == {}


KILLED = """
import sys
from assets.fediverse.processing import rederive
from assets.fediverse.storage import archive_replay
from tallykeeper.archive.store import open_store
from tallykeeper.database.connections import open_engine
rederive.CHUNK_POSTS = 5
rows = int(sys.argv[2])
archive_replay.replay(open_engine(sys.argv[1]), open_store(), rows_per_pass=rows, say=print)
"""


def killed_half_way(engine: Engine, folder: Path, rows_per_pass: int) -> None:
    """Begin a replay in a process of its own, and kill it in its second pass."""
    url = engine.url.render_as_string(hide_password=False)
    output = folder / "killed.txt"
    with output.open("w") as said:
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, url, str(rows_per_pass)],
            stdout=said,
            stderr=said,
            env=os.environ.copy(),
        )
        state = "SELECT pass, position IS NOT NULL FROM tallykeeper.archive_replays"
        deadline = time.monotonic() + 1_200
        while rows(engine, state)[:1] not in ([(1, True)], [(2, True)]):
            assert process.poll() is None, output.read_text()
            assert time.monotonic() < deadline
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert rows(engine, state), output.read_text()
