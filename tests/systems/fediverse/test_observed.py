"""What processing keeps of hashtags, media and accounts besides what posts are made of."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine

from assets.fediverse.processing.batches import process
from assets.fediverse.reads import followers, following
from assets.fediverse.replay import replay, verify_log
from assets.fediverse.streaming.lines import BadLine, read_line
from tests.integration.fediverse_log import START, Log, created, emptied, status, tagged
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


def follow(log: Log, event: str, one: int | str, other: int | str, **more: Any) -> None:
    payload = {"follower_account_id": one, "followee_account_id": other, **more}
    at = more.pop("received", None)
    log.write(event, {k: v for k, v in payload.items() if k != "received"}, at=at)


def known(log: Log) -> Any:
    with log.engine.connect() as connection:
        return (
            [f.account_id for f in followers(connection, 1, "1")],
            [f.account_id for f in following(connection, 1, "1")],
        )


def test_who_follows_whom_is_what_the_latest_moments_say_in_any_order(log: Log) -> None:
    events: list[tuple[str, int | str, int | str, dict[str, Any]]] = [
        ("follow", 2, 1, {"received": 1}),
        ("follow", "3", "1", {"received": 2, "followed_at": "2026-11-20T09:00:00Z"}),
        ("unfollow", 2, 1, {"received": 3}),
        ("follow", "1", "ULID", {"received": 4}),
        ("unfollow", 4, 1, {"received": 5}),
        ("follow", 2, 1, {"received": 6}),
        ("unfollow", "3", 1, {"received": 7, "unfollowed_at": "2026-11-20T08:00:00Z"}),
    ]
    table = "SELECT * FROM fediverse.account_follows ORDER BY 1, 2, 3"
    found = []
    for order in (1, -1, 1):
        for event, one, other, more in events[::order]:
            follow(log, event, one, other, **more)
            process(log.engine)
        found.append((known(log), rows(log.engine, table)))
        if len(found) == 1:
            emptied(log.engine)
    assert found[0][0] == (["2", "3"], ["ULID"])
    assert found[1] == found[0]
    # The same events again change nothing.
    assert found[2] == found[0]


def test_follows_that_cannot_be_read_say_why(log: Log) -> None:
    follow(log, "follow", "", 1)
    follow(log, "follow", 1, None)  # type: ignore[arg-type]
    follow(log, "unfollow", 1, 2, unfollowed_at="yesterday")
    log.write("follow", "2")
    follow(log, "follow", 1, 2)
    assert process(log.engine).failed == 4
    reasons = rows(
        log.engine,
        "SELECT process_error FROM fediverse.stream_events WHERE process_error IS NOT NULL"
        " ORDER BY received_at",
    )
    assert [reason.split(",")[0] for (reason,) in reasons] == [
        "follower_account_id: expected an id (a whole number",
        "followee_account_id: expected an id (a whole number",
        "unfollowed_at: expected an ISO 8601 time",
        "follower_account_id: expected an id (a whole number",
    ]
    assert known(log) == ([], ["2"])


def test_accounts_that_were_seen_have_their_names(log: Log) -> None:
    log.write("update", status(1))
    follow(log, "follow", "7", "1")
    process(log.engine)
    with log.engine.connect() as connection:
        (found,) = followers(connection, 1, "1")
        assert (found.account_id, found.acct) == ("7", "ann")
        assert following(connection, 1, "9") == []
        assert followers(connection, 2, "1") == []
        with pytest.raises(ValueError, match="`account_id` to be a text"):
            followers(connection, 1, "")
        with pytest.raises(ValueError, match="`limit` from 1 to 10,000"):
            following(connection, 1, "1", limit=0)


@pytest.mark.parametrize(
    ("line", "event"),
    [
        ({"follower_account_id": "1", "followee_account_id": 2}, "follow"),
        ({"follower_account_id": 1, "followee_account_id": 2, "followed_at": "x"}, "follow"),
        ({"follower_account_id": 1, "followee_account_id": 2, "unfollowed_at": "x"}, "unfollow"),
    ],
)
def test_a_line_that_says_who_follows_whom_is_an_event(line: dict[str, Any], event: str) -> None:
    text = json.dumps(line)
    read = read_line(line, text, by_host=False, now=START)
    assert (read.event_type, json.loads(read.payload or "")) == (event, line)
    odd = {**line, "followee_account_id": [2]}
    with pytest.raises(BadLine, match="followee_account_id: expected an id"):
        read_line(odd, json.dumps(odd), by_host=False, now=START)
