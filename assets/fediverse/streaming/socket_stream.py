"""A connection to a streaming API by websocket, which some servers have alone.

GoToSocial, Pleroma and Akkoma send what Mastodon sends, each event in a message of its own, and no
server-sent events. Invariants: the access token is in no address and no message, goes to
the host that was named alone, and is sent in clear text to this machine alone.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from http.client import responses
from urllib.parse import urlencode, urlsplit

from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidStatus,
    WebSocketException,
)
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from assets.fediverse.streaming.confinement import require_encrypted
from assets.fediverse.streaming.lines import members
from assets.fediverse.streaming.sse import LONGEST_EVENT

CONNECT_SECONDS = 10
CLOSE_SECONDS = 1
_PORTS = {"ws": 80, "wss": 443}
_TOO_BIG = 1009

Receive = Callable[[str | None, str | None], None]


class Rejected(Exception):
    """The server answered the request for a websocket with something else: `code` says with what.

    It is None where that was no answer of HTTP. `retry_after` is what it said of another try.
    """

    def __init__(self, code: int | None, retry_after: str | None = None) -> None:
        said = "nothing" if code is None else f"{code} {responses.get(code, '')}".rstrip()
        super().__init__(said)
        self.code, self.retry_after = code, retry_after


class Ended(Exception):
    """There is no connection, or not any more: says why."""


def event_of(message: str) -> tuple[str | None, str | None] | None:
    """Name and data of the event that a message is, as it came; None where it is a heartbeat.

    Without a name is what is no event: it is recorded all the same.
    """
    if not message.strip():
        return None
    try:
        found = json.loads(message)
    except (ValueError, RecursionError):
        return None, message
    if not isinstance(found, dict) or not isinstance(found.get("event"), str):
        return None, message
    data = found.get("payload")
    if data is None or isinstance(data, str):
        return found["event"], data
    return found["event"], members(message)["payload"]


class SocketStream:
    """One connection by websocket, from connecting to its end. `close` ends it from another thread.

    `stream` are the parameters that name the stream.
    """

    def __init__(self, base_url: str, host: str | None, stream: dict[str, str], token: str | None):
        own = urlsplit(base_url)
        self._scheme = "wss" if own.scheme == "https" else "ws"
        self._host, self._port = host or own.hostname or "", own.port
        if host is not None:
            self._port = None
        place = own.netloc.rpartition("@")[2] if host is None else host
        self._uri = f"{self._scheme}://{place}/api/v1/streaming?{urlencode(stream)}"
        self._token = token
        self._lock = threading.Lock()
        self._connection: ClientConnection | None = None
        self._closed = False

    def run(self, receive: Receive, connected: Callable[[], None]) -> None:
        """Pass on events until the connection ends. Raises Rejected, Ended, Elsewhere."""
        if self._token is not None:
            require_encrypted(self._host, self._scheme == "wss")
        try:
            self._read(receive, connected)
        except ConnectionClosed as error:
            sent = error.sent
            if sent is not None and sent.code == _TOO_BIG:
                raise Ended(f"an event is longer than {LONGEST_EVENT:,} bytes, and lost") from None
            raise Ended("the server ended the stream") from None
        except (WebSocketException, OSError, ValueError) as error:
            # Of a redirect, which is not followed, the answer is what came before.
            answered = error if isinstance(error, InvalidStatus) else error.__context__
            if isinstance(answered, InvalidStatus):
                answer = answered.response
                raise Rejected(answer.status_code, answer.headers.get("Retry-After")) from None
            if isinstance(error, InvalidHandshake):
                raise Rejected(None) from None
            # Its text may have the headers, which hold the token.
            raise Ended(f"no websocket ({type(error).__name__})") from None
        raise Ended("the server ended the stream")

    def close(self) -> None:
        """End the connection."""
        with self._lock:
            self._closed = True
            connection = self._connection
        if connection is not None:
            connection.close()

    def _read(self, receive: Receive, connected: Callable[[], None]) -> None:
        # With a socket of its own no redirect is followed, which would take the token along.
        address = self._host, self._port or _PORTS[self._scheme]
        own = socket.create_connection(address, timeout=CONNECT_SECONDS)
        own.settimeout(None)
        headers, protocols = {}, None
        if self._token is not None:
            # The one is Mastodon's, the other the only one that all servers read.
            headers = {"Authorization": f"Bearer {self._token}"}
            protocols = [Subprotocol(self._token)]
        with connect(
            self._uri,
            sock=own,
            subprotocols=protocols,
            additional_headers=headers,
            user_agent_header="tallykeeper",
            open_timeout=CONNECT_SECONDS,
            close_timeout=CLOSE_SECONDS,
            max_size=LONGEST_EVENT,
        ) as connection:
            with self._lock:
                self._connection = connection
                if self._closed:
                    return
            connected()
            for message in connection:
                text = message if isinstance(message, str) else message.decode(errors="replace")
                if (event := event_of(text)) is not None:
                    receive(*event)
