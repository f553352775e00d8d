"""Listening to a server that speaks the streaming API: what is written, and what is never lost."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from sqlalchemy import Engine

from assets.fediverse.streaming import stream as streams
from assets.fediverse.streaming.listen import ListenError, Pace, Received, listen
from assets.fediverse.streaming.stream import Stream, stream_of
from assets.fediverse.tallies import system
from tallykeeper.database.connections import open_engine
from tests.integration.support import create, execute, rows, scalar
from tests.mastodon_server import HEARTBEAT, Answer, MastodonServer, event, serving
from tests.websocket_server import WebsocketServer

PACE = Pace(first_pause=0.02, longest_pause=0.1, batch_seconds=0.05, end_seconds=0.5)
TOKEN = "t0p-s3cret"
EVENTS = "SELECT event_type, payload::text FROM fediverse.stream_events ORDER BY id"
COUNT = "SELECT count(*) FROM fediverse.stream_events"
PATIENCE = 20.0


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


@dataclass
class Listener:
    """A listener in a thread."""

    thread: threading.Thread
    stop: threading.Event
    said: list[str] = field(default_factory=list)
    received: Received | None = None
    error: BaseException | None = None

    def end(self) -> Received:
        """Stop it, and return what it received; raises what it raised."""
        self.stop.set()
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()
        if self.error is not None:
            raise self.error
        assert self.received is not None
        return self.received


@contextmanager
def listening(
    engine: Engine,
    server: MastodonServer | WebsocketServer,
    stream: str = "public",
    token: str | None = TOKEN,
    pace: Pace = PACE,
) -> Iterator[Listener]:
    def run() -> None:
        try:
            listener.received = listen(
                engine,
                server.url,
                stream_of(stream),
                token=token,
                stop=listener.stop,
                say=listener.said.append,
                pace=pace,
            )
        except BaseException as error:  # noqa: BLE001 -- raised again by the test
            listener.error = error

    listener = Listener(threading.Thread(target=run, daemon=True), threading.Event())
    listener.thread.start()
    try:
        yield listener
    finally:
        listener.stop.set()
        listener.thread.join(PATIENCE)


def until(condition: Callable[[], object]) -> None:
    """Wait for the condition to become true."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.01)


def test_every_event_is_written_as_it_came(fediverse: Engine, mastodon: MastodonServer) -> None:
    status = '{"id": 117024236332527350123, "at": "2025-11-20T00:00:00.000Z", "n": 1.10, "t": "日"}'
    mastodon.then(
        event("update", status),
        HEARTBEAT,
        event("delete", "117024236332527350"),
        event("a.new.one", '{"x": 1}'),
        b"event: filters_changed\n\n",
        b"event: notifications_merged\ndata: undefined\n\n",
        b'data: {"unnamed": 1}\n\n',
        b": a comment\r\nevent:status.update\r\ndata:{\r\ndata: }\r\nid: 7\r\n\r\n",
        event("update", "no json"),
        event("update", r'{"content": "a\u0000b"}'),
        b"event: update\ndata: \xff\n\n",
        event("delete", "2"),
        holds=True,
    )
    with listening(fediverse, mastodon) as listener:
        until(lambda: scalar(fediverse, COUNT) == 11)
        received = listener.end()
    assert (received.events, received.connections) == (11, 1)
    stored = scalar(fediverse, f"SELECT $${status}$$::jsonb::text")
    assert "1.10" in stored
    assert "117024236332527350123" in stored
    assert rows(fediverse, EVENTS) == [
        ("update", stored),
        ("delete", "117024236332527350"),
        ("a.new.one", '{"x": 1}'),
        ("filters_changed", None),
        ("notifications_merged", None),
        ("message", '{"unnamed": 1}'),
        ("status.update", "{}"),
        ("delete", "2"),
        ("update", '"no json"'),
        ("update", r'"{\"content\": \"a\\u0000b\"}"'),
        ("update", r'"\\xff"'),
    ]
    assert sum("is kept as a string: PostgreSQL cannot hold it" in s for s in listener.said) == 3
    seen = "SELECT base_url, stream_type, last_seen_at > now() - interval '1 hour'"
    assert rows(fediverse, f"{seen} FROM fediverse.instances") == [(mastodon.url, "public", True)]
    assert scalar(fediverse, "SELECT count(*) FROM fediverse.stream_events_default") == 0


def test_events_come_in_any_pieces(fediverse: Engine, mastodon: MastodonServer) -> None:
    wire = event("update", {"id": "1", "content": "日本語 😀"}) + event("delete", "1")
    mastodon.then(*(bytes([byte]) for byte in wire), holds=True)
    with listening(fediverse, mastodon):
        until(lambda: scalar(fediverse, COUNT) == 2)
    assert rows(fediverse, EVENTS)[0] == ("update", '{"id": "1", "content": "日本語 😀"}')


@pytest.mark.parametrize(
    ("stream", "path"),
    [
        ("public", "/api/v1/streaming/public"),
        ("local", "/api/v1/streaming/public/local"),
        ("user", "/api/v1/streaming/user"),
        ("hashtag:日本&x=1", "/api/v1/streaming/hashtag?tag=%E6%97%A5%E6%9C%AC%26x%3D1"),
    ],
)
def test_each_stream_is_asked_for_with_the_token(
    fediverse: Engine, mastodon: MastodonServer, stream: str, path: str
) -> None:
    mastodon.then(event("delete", "1"), holds=True)
    with listening(fediverse, mastodon, stream):
        until(lambda: scalar(fediverse, COUNT))
    assert mastodon.paths == [path]
    assert mastodon.tokens == [f"Bearer {TOKEN}"]
    assert scalar(fediverse, "SELECT stream_type FROM fediverse.instances") == stream


def test_the_streams_may_be_on_another_server(fediverse: Engine, mastodon: MastodonServer) -> None:
    with serving() as other:
        mastodon.streaming = other.url.replace("http:", "ws:")
        other.then(event("delete", "1"), holds=True)
        with listening(fediverse, mastodon):
            until(lambda: scalar(fediverse, COUNT))
        assert (mastodon.paths, other.paths) == ([], ["/api/v1/streaming/public"])
    assert scalar(fediverse, "SELECT base_url FROM fediverse.instances") == mastodon.url


def test_without_a_token_none_is_sent(fediverse: Engine, mastodon: MastodonServer) -> None:
    mastodon.then(event("delete", "1"), holds=True)
    with listening(fediverse, mastodon, token=None):
        until(lambda: scalar(fediverse, COUNT))
    assert mastodon.tokens == [None]


def test_a_connection_that_ends_is_made_again(fediverse: Engine, mastodon: MastodonServer) -> None:
    mastodon.then(event("delete", "1"))
    mastodon.then(event("delete", "2"), b"event: delete\ndata: 99", tears=True)
    mastodon.then(event("delete", "3"), b"event: delete\ndata: 98\n")
    mastodon.then(status=503)
    mastodon.then(status=429, headers={"Retry-After": "0"})
    mastodon.then(event("delete", "4"), holds=True)
    with listening(fediverse, mastodon) as listener:
        until(lambda: scalar(fediverse, COUNT) == 4)
        received = listener.end()
    # What breaks off in the middle is no event.
    assert [p for _, p in rows(fediverse, EVENTS)] == ["1", "2", "3", "4"]
    assert received.connections == 4
    messages = "\n".join(listener.said)
    assert "disconnected: the server ended the stream; connecting again in 0.0 s" in messages
    assert "the server answered 503 Service Unavailable" in messages
    assert "the server answered 429 Too Many Requests" in messages


def test_a_server_that_asks_to_wait_is_waited_for(
    fediverse: Engine, mastodon: MastodonServer
) -> None:
    mastodon.then(status=429, headers={"Retry-After": "7"})
    with listening(fediverse, mastodon) as listener:
        until(lambda: listener.said)
        listener.end()
    assert "connecting again in 7.0 s" in listener.said[0]


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_ends_it_after_what_came_before_is_written(
    fediverse: Engine, mastodon: MastodonServer, status: int
) -> None:
    mastodon.then(event("delete", "1"))
    mastodon.then(status=status)
    with listening(fediverse, mastodon) as listener:
        listener.thread.join(PATIENCE)
        with pytest.raises(ListenError, match=f"the server answered {status} .*Events.*: 1") as e:
            listener.end()
    assert "TALLY_MASTODON_TOKEN" in str(e.value)
    assert TOKEN not in str(e.value) + "".join(listener.said)
    assert scalar(fediverse, COUNT) == 1


def test_a_server_that_is_away_is_tried_again(fediverse: Engine) -> None:
    with serving() as server:
        pass
    with listening(fediverse, server) as listener:
        until(lambda: len(listener.said) >= 3)
        listener.end()
    assert "Connection refused" in listener.said[0]


def test_a_silent_connection_is_given_up(
    fediverse: Engine, mastodon: MastodonServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    silence = threading.Event()
    mastodon.then(lambda: silence.wait(PATIENCE))
    mastodon.then(event("delete", "1"), holds=True)
    monkeypatch.setattr(streams, "SILENCE_SECONDS", 0.5)
    with listening(fediverse, mastodon) as listener:
        until(lambda: scalar(fediverse, COUNT) == 1)
    silence.set()
    assert any("Read timed out" in sentence for sentence in listener.said)


def test_an_event_that_is_too_long_costs_its_end_and_no_other_event(
    fediverse: Engine, mastodon: MastodonServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assets.fediverse.streaming.sse.LONGEST_EVENT", 1000)
    long = b'event: update\ndata: {"content": "' + b"x" * 2000 + b'"}\n\n'
    mastodon.then(long, event("delete", "1"), holds=True)
    with listening(fediverse, mastodon) as listener:
        until(lambda: scalar(fediverse, COUNT) == 2)
        received = listener.end()
    assert (received.cut, received.connections) == (1, 1)
    assert "1 of them cut" in received.summary()
    assert any("an event 'update' is longer than" in s for s in listener.said)
    kept = "SELECT payload #>> '{}' FROM fediverse.stream_events WHERE event_type = 'update'"
    assert scalar(fediverse, kept).startswith('{"content": "xxx')


def test_what_was_received_is_written_when_it_is_stopped(
    fediverse: Engine, mastodon: MastodonServer
) -> None:
    sent = threading.Event()
    mastodon.then(*(event("delete", str(n)) for n in range(300)), sent.set, holds=True)
    slow = Pace(batch_seconds=3600, batch_events=10_000)
    with listening(fediverse, mastodon, pace=slow) as listener:
        assert sent.wait(PATIENCE)
        time.sleep(0.2)
        assert scalar(fediverse, COUNT) == 0
        assert listener.end().events == 300
    assert scalar(fediverse, COUNT) == 300


def test_a_stream_that_never_pauses_can_be_stopped(
    fediverse: Engine, mastodon: MastodonServer
) -> None:
    mastodon.answers.put(Answer(itertools.repeat(event("delete", "1"))))
    with listening(fediverse, mastodon) as listener:
        until(lambda: scalar(fediverse, COUNT) > 1_000)
        received = listener.end()
    assert scalar(fediverse, COUNT) == received.events


def test_a_page_is_no_stream(fediverse: Engine, mastodon: MastodonServer) -> None:
    mastodon.then(b"<html>", headers={"Content-Type": "text/html"})
    mastodon.then(event("delete", "1"), holds=True)
    with listening(fediverse, mastodon) as listener:
        until(lambda: scalar(fediverse, COUNT) == 1)
    assert "expected a stream of events, but the server sent 'text/html'" in listener.said[0]


def test_a_locked_log_loses_nothing_and_stops_the_reading(
    fediverse: Engine, mastodon: MastodonServer
) -> None:
    """The buffer is bounded: the rest waits at the server, which is not read any more."""
    body = {"x": "y" * 10_000}
    pieces = [event("update", body | {"n": n}) for n in range(3_000)]
    all_sent = threading.Event()
    mastodon.then(*pieces, all_sent.set, holds=True)
    small = Pace(batch_seconds=0.05, batch_events=10, buffer_events=20)
    with listening(fediverse, mastodon, pace=small) as listener:
        until(lambda: scalar(fediverse, COUNT))
        with fediverse.begin() as other:
            other.exec_driver_sql("LOCK TABLE fediverse.instances IN EXCLUSIVE MODE")
            assert not all_sent.wait(1.0)
        until(lambda: all_sent.is_set() and scalar(fediverse, COUNT) == 3_000)
        listener.end()
    numbers = "SELECT (payload ->> 'n')::int FROM fediverse.stream_events ORDER BY id"
    assert [n for (n,) in rows(fediverse, numbers)] == list(range(3_000))


def test_a_database_that_was_away_gets_everything(
    fediverse: Engine, mastodon: MastodonServer
) -> None:
    away = threading.Event()
    mastodon.then(
        event("delete", "1"), lambda: away.wait(PATIENCE), event("delete", "2"), holds=True
    )
    with listening(fediverse, mastodon) as listener:
        until(lambda: scalar(fediverse, COUNT) == 1)
        name = scalar(fediverse, "SELECT current_database()")
        admin = fediverse.url.set(database="postgres")
        other = open_engine(admin.render_as_string(False))
        execute_alone(other, f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        execute_alone(
            other,
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'",
        )
        away.set()
        until(lambda: any("the database is away" in sentence for sentence in listener.said))
        execute_alone(other, f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        other.dispose()
        until(lambda: "the database is back" in listener.said)
        listener.end()
    assert [p for _, p in rows(fediverse, EVENTS)] == ["1", "2"]


def execute_alone(engine: Engine, statement: str) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(statement)


def test_a_log_that_may_not_be_written_ends_it_and_says_what_is_lost(
    fediverse: Engine, mastodon: MastodonServer
) -> None:
    go = threading.Event()
    mastodon.then(lambda: go.wait(PATIENCE), event("delete", "1"), holds=True)
    with listening(fediverse, mastodon) as listener:
        until(lambda: listener.said)
        execute(fediverse, "ALTER TABLE fediverse.stream_events ADD CHECK (event_type <> 'delete')")
        go.set()
        listener.thread.join(PATIENCE)
        with pytest.raises(ListenError, match=r"1 events were received but could not .*lost"):
            listener.end()


def test_streams_have_names() -> None:
    assert stream_of("hashtag:#Ü") == Stream("hashtag", "Ü")
    assert str(stream_of("hashtag:x")) == "hashtag:x"
    for wrong in ("", "home", "hashtag", "hashtag:", "hashtag:a b", "public:x"):
        with pytest.raises(ValueError, match="expected public, local, user or hashtag:NAME"):
            stream_of(wrong)


def test_pauses_double_up_to_a_minute_and_are_spread() -> None:
    pace = Pace()
    for failures, longest in ((1, 1), (2, 2), (6, 32), (7, 60), (1000, 60)):
        pauses = [pace.pause(failures) for _ in range(200)]
        assert longest / 2 <= min(pauses) < max(pauses) <= longest
