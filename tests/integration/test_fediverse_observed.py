"""What processing keeps of hashtags, media and accounts besides what posts are made of."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine

from assets.fediverse.processing import process
from assets.fediverse.replay import replay, verify_log
from tests.integration.fediverse_log import Log, created, emptied, status, tagged
from tests.integration.support import execute, rows
from tests.servers import Servers


@pytest.fixture(scope="module")
def fediverse(postgres_servers: Servers) -> Iterator[Engine]:
    with created(postgres_servers) as engine:
        yield engine


@pytest.fixture
def log(fediverse: Engine) -> Log:
    return emptied(fediverse)


def test_hashtags_say_when_any_event_first_and_last_showed_them(log: Log) -> None:
    def seen() -> dict[str, tuple[int, int]]:
        found = rows(
            log.engine,
            "SELECT name, first_seen_at, last_seen_at FROM fediverse.hashtags",
        )
        minute = timedelta(minutes=1)
        return {
            n: ((first - log.start) // minute, (last - log.start) // minute)
            for n, first, last in found
        }

    log.write("update", status(1, tags=tagged("a", "b")), at=2)
    log.write("update", status(2, tags=tagged("A", "")), at=3)
    log.write("status.update", status(1, edited_at="2026-11-20T11:30:00Z", tags=tagged("c")), at=5)
    log.write("update", status(3, reblog=status(2, tags=tagged("a")), tags=tagged("d")), at=6)
    process(log.engine)
    assert seen() == {"a": (2, 6), "b": (2, 2), "c": (5, 5)}
    # Received before, and processed after; an older version, which is not the post's.
    log.write("status", status(1, tags=tagged("b", "e")), at=4)
    log.write("update", status(9, tags=tagged("a")), at=1)
    process(log.engine)
    assert seen() == {"a": (1, 6), "b": (2, 4), "c": (5, 5), "e": (4, 4)}


def test_media_have_the_metadata_that_their_server_has(log: Log) -> None:
    def kept() -> Any:
        return rows(log.engine, "SELECT id, meta_json FROM fediverse.media_attachments ORDER BY id")

    media: list[dict[str, Any]] = [
        {"id": "1", "meta": {"original": {"width": 4}}},
        {"id": "2", "meta": None},
        {"id": "3"},
    ]
    log.say("update", status(1, media_attachments=media))
    assert kept() == [("1", {"original": {"width": 4}}), ("2", None), ("3", None)]
    media[1]["meta"] = {"focus": {"x": 0.5}}
    log.say("status.update", status(1, edited_at="2026-11-20T11:30:00Z", media_attachments=media))
    assert kept()[1] == ("2", {"focus": {"x": 0.5}})
    # What an earlier release did not keep is no fault, and a replay fills it in.
    execute(log.engine, "UPDATE fediverse.media_attachments SET meta_json = NULL WHERE id = '1'")
    assert verify_log(log.engine).ok
    assert replay(log.engine).rows == {"media_attachments": 1}
    execute(log.engine, "UPDATE fediverse.media_attachments SET meta_json = '{}' WHERE id = '1'")
    assert not verify_log(log.engine).ok
