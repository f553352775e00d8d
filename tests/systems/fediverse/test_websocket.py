"""Listening to servers that stream by websocket alone: GoToSocial, Pleroma, Akkoma."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from assets.fediverse.processing.batches import process
from assets.fediverse.streaming import socket_stream
from assets.fediverse.streaming.listen import ListenError
from assets.fediverse.streaming.socket_stream import event_of
from tests.integration.fediverse_log import created, emptied
from tests.integration.support import rows, scalar
from tests.server_statuses import gotosocial, pleroma
from tests.servers import Servers
from tests.systems.fediverse.test_listen import COUNT, EVENTS, PATIENCE, TOKEN, listening, until
from tests.websocket_server import CLOSED, WebsocketServer, message, serving


@pytest.fixture(scope="module")
def database(postgres_servers: Servers) -> Iterator[Engine]:
    with created(postgres_servers) as engine:
        yield engine


@pytest.fixture
def fediverse(database: Engine) -> Engine:
    """A database with an empty log."""
    return emptied(database).engine


@pytest.fixture
def server() -> Iterator[WebsocketServer]:
    with serving() as server:
        yield server


def test_events_are_written_as_they_came_and_become_posts(
    fediverse: Engine, server: WebsocketServer
) -> None:
    server.scripts = [
        [
            message("update", gotosocial()),
            "",
            message("status.update", gotosocial(edited_at="2026-11-20T12:00:00Z")),
            message("delete", "01HWRRWYV739R3GG41NDQEYZ86"),
            message("delete", "9e12345678"),
            message("filters_changed"),
            message("update", pleroma()).encode(),
            # An object where others have a text of JSON; numbers keep their digits.
            '{"event": "update", "payload": {"id": 12345678901234567890, "n": 1.10}}',
            "no JSON",
            '{"error": "no such stream"}',
        ]
    ]
    with listening(fediverse, server) as listener:
        until(lambda: scalar(fediverse, COUNT) >= 9)
        received = listener.end()
    assert received.events == 9
    events = rows(fediverse, EVENTS)
    assert [name for name, _ in events] == [
        *("update", "status.update", "delete", "delete", "filters_changed", "update", "update"),
        *("message", "message"),
    ]
    assert json.loads(events[0][1]) == gotosocial()
    assert [payload for _, payload in events[2:5]] == [
        *('"01HWRRWYV739R3GG41NDQEYZ86"', '"9e12345678"', None)
    ]
    assert events[6][1] == '{"n": 1.10, "id": 12345678901234567890}'
    # What is no JSON is kept as a string, after the others of its batch.
    assert {payload for _, payload in events[7:]} == {'"no JSON"', '{"error": "no such stream"}'}
    assert not [said for said in listener.said if "delete" in said]
    assert process(fediverse).failed == 1
    posts = "SELECT id, deleted_at IS NULL FROM fediverse.mastodon_posts ORDER BY id"
    assert rows(fediverse, posts) == [
        ("01HWRRWYV739R3GG41NDQEYZ86", False),
        ("AeQ9xYzV1b2C3d4E5f", True),
    ]


@pytest.mark.parametrize(
    ("stream", "asked"),
    [
        ("public", "stream=public"),
        ("local", "stream=public%3Alocal"),
        ("user", "stream=user"),
        ("hashtag:日本", "stream=hashtag&tag=%E6%97%A5%E6%9C%AC"),
    ],
)
def test_a_stream_is_asked_for_with_the_token_in_no_address(
    fediverse: Engine, server: WebsocketServer, stream: str, asked: str
) -> None:
    with listening(fediverse, server, stream) as listener:
        until(lambda: any("listening to" in said for said in listener.said))
        listener.end()
    assert server.asked == [f"/api/v1/streaming?{asked}"]
    assert server.tokens == [(f"Bearer {TOKEN}", TOKEN)]


def test_a_connection_that_ends_is_made_again_by_websocket(
    fediverse: Engine, server: WebsocketServer
) -> None:
    server.scripts = [[message("delete", "a")], [message("delete", "b")]]
    with listening(fediverse, server, token=None) as listener:
        until(lambda: scalar(fediverse, COUNT) == 2)
        assert listener.end().connections >= 2
    assert "disconnected: the server ended the stream" in listener.said[1]
    assert server.tokens[0] == (None, None)


def test_an_event_that_is_too_long_is_lost_and_said(
    fediverse: Engine, server: WebsocketServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket_stream, "LONGEST_EVENT", 1_000)
    long = message("update", gotosocial(content="x" * 1_000))
    server.scripts = [[message("delete", "a"), long, message("delete", "b")]]
    server.scripts += [[message("delete", "c")]]
    with listening(fediverse, server) as listener:
        until(lambda: scalar(fediverse, COUNT) == 2)
        listener.end()
    # With what follows it: that is on the same connection, which cannot be read on.
    assert [payload for _, payload in rows(fediverse, EVENTS)] == ['"a"', '"c"']
    lost = "disconnected: an event is longer than 1,000 bytes, and lost; connecting again in"
    assert [said for said in listener.said if lost in said]


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (404, "404 Not Found; asked for a websocket, it answered 404 Not Found; so it has no"),
        (CLOSED, "404 Not Found; asked for a websocket, it answered nothing; so it has no"),
        (401, "asked for a websocket, it answered 401 Unauthorized; check the token"),
        (302, "asked for a websocket, it answered 302 Found; check the token"),
    ],
)
def test_what_has_no_streams_of_this_kind_is_refused_in_a_sentence(
    fediverse: Engine, server: WebsocketServer, status: int, reason: str
) -> None:
    server.refusal, server.headers = status, {"Location": "http://127.0.0.1:9/elsewhere"}
    with listening(fediverse, server) as listener:
        listener.thread.join(PATIENCE)
        with pytest.raises(ListenError) as caught:
            listener.end()
    assert reason in str(caught.value)
    assert ("Misskey" in str(caught.value)) == (status in (404, CLOSED))
    assert TOKEN not in str(caught.value) + "".join(listener.said)
    assert len(server.asked) == 1


def test_a_server_that_is_busy_is_asked_again_when_it_says(
    fediverse: Engine, server: WebsocketServer
) -> None:
    server.refusal, server.headers = 429, {"Retry-After": "7"}
    with listening(fediverse, server) as listener:
        until(lambda: listener.said)
        listener.end()
    assert "it answered 429 Too Many Requests; connecting again in 7.0 s" in listener.said[0]


@pytest.mark.parametrize(
    ("sent", "event"),
    [
        (" \n", None),
        ("[1]", (None, "[1]")),
        ('{"event": 5}', (None, '{"event": 5}')),
        ('{"event": "x", "payload": null}', ("x", None)),
        ('{"event": "x", "payload": "{}"}', ("x", "{}")),
        ('{"payload": {"n": 1.00} , "event": "x"}', ("x", '{"n": 1.00}')),
        ("[" * 100_000, (None, "[" * 100_000)),
    ],
)
def test_a_message_is_an_event_a_heartbeat_or_something_else(
    sent: str, event: tuple[str | None, str | None] | None
) -> None:
    assert event_of(sent) == event
