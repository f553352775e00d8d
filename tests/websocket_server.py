"""A small server on loopback that streams by websocket alone, as a test tells it to.

It speaks as GoToSocial, Pleroma and Akkoma do: no server-sent events (404), one address for all
streams, the token among the subprotocols, an event a message.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from socket import SHUT_RDWR

from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve
from websockets.typing import Subprotocol

CLOSED = 0
"""A refusal that is no answer: the connection is closed."""
PATH = "/api/v1/streaming"


def message(name: str, payload: object = None, *, stream: str = "public") -> str:
    """An event as these servers send it: its payload is JSON within a string."""
    said: dict[str, object] = {"stream": [stream], "event": name}
    if payload is not None:
        said["payload"] = payload if isinstance(payload, str) else json.dumps(payload)
    return json.dumps(said)


@dataclass
class WebsocketServer:
    """The running server: its address, what it sends next, and what it was asked.

    `scripts` are the messages of each connection in turn, after which it ends; later ones stay
    open. `refusal` is how it answers every request for a websocket, if it does, with `headers`.
    """

    url: str = ""
    scripts: list[list[str | bytes]] = field(default_factory=list)
    refusal: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    tokens: list[tuple[str | None, str | None]] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)


@contextmanager
def serving() -> Iterator[WebsocketServer]:
    """A server on a port of its own, ended afterwards."""
    state = WebsocketServer()

    def answer(connection: ServerConnection, request: Request) -> Response | None:
        path = request.path.partition("?")[0]
        if request.headers.get("Upgrade") is None:
            return _plain(HTTPStatus.NOT_FOUND)
        state.asked.append(request.path)
        asked = request.headers.get("Authorization"), request.headers.get("Sec-WebSocket-Protocol")
        state.tokens.append(asked)
        if state.refusal == CLOSED:
            connection.socket.shutdown(SHUT_RDWR)
        elif path != PATH or state.refusal is not None:
            return _plain(HTTPStatus(state.refusal or 404), state.headers)
        return None

    def choose(_connection: ServerConnection, offered: object) -> Subprotocol | None:
        # As Chrome wants it, the token comes back.
        return offered[0] if isinstance(offered, list) and offered else None

    def talk(connection: ServerConnection) -> None:
        script = state.scripts.pop(0) if state.scripts else None
        for each in script or []:
            connection.send(each)
        if script is None:
            state.ended.wait()

    server = serve(talk, "127.0.0.1", 0, process_request=answer, select_subprotocol=choose)
    state.url = f"http://127.0.0.1:{server.socket.getsockname()[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        state.ended.set()
        server.shutdown()
        thread.join()


def _plain(status: HTTPStatus, more: dict[str, str] | None = None) -> Response:
    body = b'{"error": "Not Found"}'
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body))}
    headers |= {"Connection": "close", **(more or {})}
    return Response(status.value, status.phrase, Headers(headers), body)
