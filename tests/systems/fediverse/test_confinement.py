"""Where a listener goes and sends its token: to the server that it was pointed at, and no other."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator

import pytest
import requests
from sqlalchemy import Engine

from assets.fediverse.streaming.confinement import ConfinedSession, Elsewhere
from assets.fediverse.streaming.listen import ListenError, Pace, Received, listen
from assets.fediverse.streaming.stream import stream_of
from assets.fediverse.tallies import system
from tests.integration.support import create, scalar
from tests.mastodon_server import MastodonServer, event, serving

TOKEN = "t0p-s3cret"
COUNT = "SELECT count(*) FROM fediverse.stream_events"


@pytest.fixture
def fediverse(engine: Engine) -> Engine:
    """A database with an empty log."""
    create(engine, system)
    return engine


@pytest.fixture
def mastodon() -> Iterator[MastodonServer]:
    """The server that is listened to."""
    with serving() as server:
        yield server


@pytest.fixture
def other() -> Iterator[MastodonServer]:
    """Another server, which would send events to anybody."""
    with serving() as server:
        yield server


def received(
    engine: Engine, url: str, token: str | None = TOKEN, named: str | None = None
) -> Received:
    """Listen until the first connection was made, and all it sent is written."""
    stop = threading.Event()
    return listen(
        engine,
        url,
        stream_of("public"),
        token=token,
        streaming_host=named,
        stop=stop,
        say=lambda said: stop.set() if said.startswith("disconnected") else None,
        pace=Pace(first_pause=0.01, longest_pause=0.01, batch_seconds=0.05, end_seconds=0.5),
    )


@pytest.mark.parametrize("token", [TOKEN, None])
def test_a_redirect_to_another_server_is_not_followed(
    fediverse: Engine, mastodon: MastodonServer, other: MastodonServer, token: str | None
) -> None:
    mastodon.then(status=302, headers={"Location": f"{other.url}/api/v1/streaming/public"})
    with pytest.raises(ListenError, match=f"redirects to {other.url}, which is another server"):
        received(fediverse, mastodon.url, token)
    assert (other.paths, scalar(fediverse, COUNT)) == ([], 0)


def test_a_redirect_on_the_same_server_is_followed(
    fediverse: Engine, mastodon: MastodonServer
) -> None:
    mastodon.then(status=307, headers={"Location": "/api/v1/streaming/elsewhere"})
    mastodon.then(event("delete", "1"))
    assert received(fediverse, mastodon.url).events == 1
    assert mastodon.paths[1] == "/api/v1/streaming/elsewhere"


def test_streams_on_a_host_that_nobody_named_are_not_asked_for(
    fediverse: Engine, mastodon: MastodonServer, other: MastodonServer
) -> None:
    mastodon.streaming = other.url.replace("http://127.0.0.1", "ws://localhost")
    with pytest.raises(ListenError, match="name it with --streaming-host localhost"):
        received(fediverse, mastodon.url)
    assert other.tokens == []
    other.then(event("delete", "1"))
    assert received(fediverse, mastodon.url, named="localhost").events == 1
    assert other.tokens == [f"Bearer {TOKEN}"]


def test_a_token_is_never_sent_in_clear_text(fediverse: Engine) -> None:
    with pytest.raises(ListenError, match=r"token would go to mastodon\.invalid in clear text"):
        received(fediverse, "http://mastodon.invalid")


def test_the_streams_in_clear_text_are_refused_where_the_server_itself_is_not() -> None:
    session = ConfinedSession("https://mastodon.invalid", None)
    asked = requests.Request(
        "GET", "http://streaming.mastodon.invalid/", headers={"Authorization": f"Bearer {TOKEN}"}
    )
    with pytest.raises(Elsewhere, match="in clear text"):
        session.send(asked.prepare())


@pytest.mark.parametrize(
    ("host", "named", "allowed"),
    [
        ("mastodon.invalid", None, True),
        ("streaming.mastodon.invalid", None, True),
        ("notmastodon.invalid", None, False),
        ("mastodon.invalid.example.invalid", None, False),
        ("streams.invalid", "streams.invalid", True),
        ("more.streams.invalid", "streams.invalid", False),
    ],
)
def test_only_the_own_host_those_below_it_and_a_named_one_are_asked(
    host: str, named: str | None, allowed: bool
) -> None:
    session = ConfinedSession("https://mastodon.invalid", named)
    expected = requests.ConnectionError if allowed else Elsewhere
    with pytest.raises(expected):
        session.get(f"https://{host}/", timeout=5)


@pytest.mark.parametrize(
    ("there", "allowed"),
    [
        ("https://a.invalid/x", True),
        ("/x", True),
        ("//b.invalid/x", False),
        ("http://a.invalid:81/x", False),
        ("https://a.invalid:8443/x", False),
    ],
)
def test_a_redirect_may_turn_to_encryption_and_to_nothing_else(there: str, allowed: bool) -> None:
    answer = requests.Response()
    answer.raw = io.BytesIO()
    answer.status_code, answer.url, answer.headers["location"] = 302, "http://a.invalid/", there
    session = ConfinedSession("http://a.invalid", None)
    if allowed:
        assert session.get_redirect_target(answer) == there
    else:
        with pytest.raises(Elsewhere, match="another server"):
            session.get_redirect_target(answer)
