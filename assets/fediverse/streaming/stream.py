"""A connection to the streaming API of a server, by Mastodon.py, with the events raw.

Mastodon.py finds the streaming server, authorizes and connects. The events are read past its
parser: its hooks, also `on_any_event`, give payloads whose dates and ids were converted, and one
that is no JSON ends the stream. Servers without server-sent events are asked for a websocket
(`socket_stream.py`). Invariants: the access token is in no message.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.client import responses
from typing import Any
from urllib.parse import quote

from mastodon import Mastodon, MastodonError, StreamListener
from urllib3.exceptions import HTTPError

from assets.fediverse.streaming.confinement import ConfinedSession
from assets.fediverse.streaming.socket_stream import Ended, Rejected, SocketStream
from assets.fediverse.streaming.sse import LONGEST_EVENT, Events

CONNECT_SECONDS = 10
SILENCE_SECONDS = 90
"""How long nothing may come, not even a heartbeat: Mastodon sends one every 15 seconds."""

_EVENT_STREAM = "text/event-stream"
_PIECE = 64 * 1024
_OK, _TIMEOUT, _EARLY, _TOO_MANY = 200, 408, 425, 429
_SERVER_ERRORS = range(500, 600)
_LONGEST_RETRY_AFTER = 300.0
# How servers without server-sent events answer, of which some have websockets.
NO_STREAMS = (
    "so it has no streams of Mastodon's kind, which Mastodon, GoToSocial, Pleroma and Akkoma have"
    " (Misskey's own is another; `tally load` takes its notes from files)"
)
_NO_EVENTS = (400, 404, 405, 406, 410, 426, 501)

Receive = Callable[[str | None, str | None], None]
"""Called with name and data of each event; may block, and nothing is read meanwhile."""


class Disconnected(Exception):
    """The stream ended, or there was none: says why, and for how long the server asks to wait."""

    def __init__(self, why: str, retry_after: float = 0.0) -> None:
        super().__init__(why)
        self.retry_after = retry_after


class Refused(Exception):
    """The server does not let us listen, and will not if asked again: says what it answered."""

    def __init__(self, said: str, code: int | None = None) -> None:
        super().__init__(said)
        self.code = code


@dataclass(frozen=True)
class Stream:
    """Which events are listened to: public, local, user, or hashtag with its name."""

    kind: str
    hashtag: str | None = None

    @property
    def parameters(self) -> dict[str, str]:
        """What names it in the address of a websocket."""
        if self.hashtag is not None:
            return {"stream": self.kind, "tag": self.hashtag}
        return {"stream": "public:local" if self.kind == "local" else self.kind}

    def __str__(self) -> str:
        return self.kind if self.hashtag is None else f"{self.kind}:{self.hashtag}"


def stream_of(written: str) -> Stream:
    """The stream that `written` names: public, local, user or hashtag:NAME. Raises ValueError."""
    kind, _, name = written.partition(":")
    name = name.strip().removeprefix("#")
    if kind in ("public", "local", "user") and written == kind:
        return Stream(kind)
    if kind == "hashtag" and name and not any(c.isspace() for c in name):
        return Stream(kind, name)
    raise ValueError(f"expected public, local, user or hashtag:NAME, but it is {written!r}")


class StreamConnection:
    """One connection, from connecting to its end. `close` ends it from another thread.

    A server that has no server-sent events is asked for a websocket: `by_websocket` says whether
    that is so, and lets the next connection begin with it.
    """

    def __init__(
        self,
        base_url: str,
        stream: Stream,
        token: str | None,
        streaming_host: str | None = None,
        *,
        by_websocket: bool = False,
    ) -> None:
        self.by_websocket = by_websocket
        self._socket = SocketStream(base_url, streaming_host, stream.parameters, token)
        self._stream = stream
        self._answer: Any = None
        self._reader = _Reader()
        # A client of its own for each: one that did not learn where the streaming server is
        # would look for it in the wrong place for ever.
        self._client = Mastodon(
            api_base_url=base_url,
            access_token=token,
            ratelimit_method="throw",
            request_timeout=CONNECT_SECONDS,
            user_agent="tallykeeper",
            session=ConfinedSession(base_url, streaming_host),
        )
        session = self._client.session
        session.headers["Accept-Encoding"] = "identity"
        session.hooks["response"].append(self._note)
        # Without it a .netrc would replace the token.
        session.auth = _unchanged

    def run(
        self, receive: Receive, connected: Callable[[], None], cut: Callable[[str], None]
    ) -> None:
        """Connect, and pass on events until the stream ends. Raises Disconnected or Refused.

        `cut` is called before an event that is passed on without its end, for it is too long; a
        websocket ends at such an event.
        """
        if not self.by_websocket:
            try:
                self._read_events(receive, connected, cut)
            except Refused as refusal:
                if refusal.code not in _NO_EVENTS:
                    raise
                self._read_socket(receive, connected, f"{refusal}; asked for a websocket, ")
        self._read_socket(receive, connected, "")

    def _read_events(
        self, receive: Receive, connected: Callable[[], None], cut: Callable[[str], None]
    ) -> None:
        self._reader.receive, self._reader.connected, self._reader.cut = receive, connected, cut
        try:
            self._open()
        except HTTPError as error:
            raise Disconnected(_in_short(error)) from error
        except (MastodonError, OSError) as error:
            raise self._explained(error) from error
        finally:
            if self._answer is not None:
                self._answer.close()
            self._client.session.close()
        raise Disconnected("the server ended the stream")

    def _read_socket(self, receive: Receive, connected: Callable[[], None], before: str) -> None:
        def by_websocket() -> None:
            self.by_websocket = True
            connected()

        try:
            self._socket.run(receive, by_websocket)
        except Rejected as answer:
            said = f"{before}{'it' if before else 'the server'} answered {answer}"
            if answer.code is None and not before:
                raise Disconnected(said) from answer
            if before and (answer.code is None or answer.code in _NO_EVENTS):
                said += f"; {NO_STREAMS}"
            raise _failure(said, answer.code, answer.retry_after) from answer
        except Ended as error:
            raise Disconnected(f"{'' if self.by_websocket else before}{error}") from error

    def close(self) -> None:
        """End the connection; what was received until now is still passed on."""
        self._reader.close()
        self._socket.close()

    def _open(self) -> None:
        listening = {"listener": self._reader, "timeout": SILENCE_SECONDS}
        if self._stream.kind == "user":
            self._client.stream_user(**listening)
        elif self._stream.hashtag is not None:
            self._client.stream_hashtag(quote(self._stream.hashtag, safe=""), **listening)
        else:
            self._client.stream_public(local=self._stream.kind == "local", **listening)

    def _note(self, answer: Any, *arguments: object, **options: object) -> None:
        """The library tells of an answer its wording alone: the number is kept here.

        A redirect is no answer: where the next request fails, that is the network's doing.
        """
        if "/api/v1/streaming" in answer.url and not answer.is_redirect:
            self._answer = answer

    def _explained(self, error: Exception) -> Exception:
        if self._answer is None or self._answer.status_code == _OK:
            return Disconnected(_in_short(error))
        code = self._answer.status_code
        # The standard's wording, not the server's: that may hold anything.
        said = f"the server answered {code} {responses.get(code, '')}".rstrip()
        return _failure(said, code, self._answer.headers.get("Retry-After"))


class _Reader(StreamListener):
    """Reads the answer itself: the library would read byte by byte, and parse what it reads."""

    def __init__(self) -> None:
        self.receive: Receive = lambda name, data: None
        self.connected: Callable[[], None] = lambda: None
        self.cut: Callable[[str], None] = lambda said: None
        self._closed = False
        self._response: Any = None
        self._lock = threading.Lock()

    def handle_stream(self, response: Any) -> None:
        with self._lock:
            self._response = response.raw
            if self._closed:
                return
        kind = response.headers.get("Content-Type", _EVENT_STREAM)
        if not kind.lower().startswith(_EVENT_STREAM):
            raise Disconnected(f"expected a stream of events, but the server sent {kind[:60]!r}")
        self.connected()
        events = Events()
        while not self._closed and (piece := response.raw.read1(_PIECE, decode_content=True)):
            for name, data in events.feed(piece):
                if events.cut:
                    events.cut = 0
                    self.cut(f"an event {name!r} is longer than {LONGEST_EVENT:,} bytes")
                self.receive(name, data)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            # Wakes the thread that reads. There is nothing to wake where it has ended meanwhile.
            if self._response is not None:
                with suppress(ValueError, RuntimeError, OSError):
                    self._response.shutdown()


def _failure(said: str, code: int | None, retry_after: str | None) -> Refused | Disconnected:
    """What an answer of that code means: whether it is worth to ask again."""
    passes = code in (_TIMEOUT, _EARLY, _TOO_MANY) or code in _SERVER_ERRORS
    if passes and code not in _NO_EVENTS:
        return Disconnected(said, _seconds(retry_after))
    return Refused(said, code)


def _unchanged(request: Any) -> Any:
    return request


def _seconds(retry_after: str | None) -> float:
    if retry_after is None or not (retry_after.isascii() and retry_after.isdigit()):
        return 0.0
    return min(float(retry_after), _LONGEST_RETRY_AFTER)


def _in_short(error: BaseException) -> str:
    """What went wrong, without the chain of objects that network errors carry in their text."""
    cause: BaseException = error
    while cause.args and isinstance(cause.args[0], BaseException):
        cause = cause.args[0]
    cause = getattr(cause, "reason", None) or cause
    text = str(cause).rsplit(": ", 1)[-1] if not isinstance(cause, str) else cause
    return text or type(error).__name__
