"""The real files of events, observations and edit histories: all of it reaches the raw log."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from assets.fediverse.load import load_fediverse
from assets.fediverse.tallies import system
from tests.integration.support import create, rows, scalar
from tests.real.data import real_file

pytestmark = pytest.mark.real

EVENTS = "mastodonpy_stream_events.jsonl.gz"
STATUSES = "rtoot_status_observations.jsonl.gz"
HISTORIES = "mastodonpy_status_edit_histories.jsonl.gz"


@pytest.fixture
def fediverse(engine: Engine) -> Engine:
    """A database with an empty log."""
    create(engine, system)
    return engine


def lines_of(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]


def test_stream_events(fediverse: Engine, tmp_path: Path) -> None:
    path = real_file(EVENTS, tmp_path)
    lines = lines_of(path)
    loaded = load_fediverse(fediverse, path, instance="http://localhost:3000")
    assert (loaded.inserted, loaded.rejected) == (194, 0)
    found = rows(fediverse, "SELECT event_type, payload FROM fediverse.stream_events ORDER BY id")
    assert found == [(line["event"], line["payload"]) for line in lines]


def test_observations_of_several_servers(fediverse: Engine, tmp_path: Path) -> None:
    path = real_file(STATUSES, tmp_path)
    lines = lines_of(path)
    loaded = load_fediverse(fediverse, path, instance="https://a.example", by_host=True)
    assert (loaded.inserted, loaded.rejected) == (1_106, 0)
    per_host = rows(
        fediverse,
        "SELECT substr(base_url, 9), count(*) FROM fediverse.stream_events"
        " JOIN fediverse.instances AS i ON i.id = instance_id GROUP BY 1",
    )
    assert dict(per_host) == Counter(line["host"] for line in lines)
    found = rows(fediverse, "SELECT payload FROM fediverse.stream_events ORDER BY id")
    assert [payload for (payload,) in found] == [line["status"] for line in lines]


def test_edit_histories(fediverse: Engine, tmp_path: Path) -> None:
    path = real_file(HISTORIES, tmp_path)
    loaded = load_fediverse(fediverse, path, instance="http://localhost:3000")
    assert (loaded.inserted, loaded.rejected) == (33, 0)
    found = rows(fediverse, "SELECT payload FROM fediverse.stream_events ORDER BY id")
    assert [payload for (payload,) in found] == [
        {"status_id": line["status_id"], "history": line["history"]} for line in lines_of(path)
    ]
    assert scalar(fediverse, "SELECT DISTINCT event_type FROM fediverse.stream_events") == "history"
