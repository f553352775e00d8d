"""A small server on loopback that speaks Mastodon's streaming API, as a test tells it to.

For each connection the test has a script: what to answer, piece by piece. Without one it holds
the connection open with heartbeats.
"""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

HEARTBEAT = b":thump\n"
Piece = bytes | Callable[[], object]
"""Bytes to be sent, or something to be called between them."""


def event(name: str, data: object) -> bytes:
    """An event as the wire has it; a string is sent as it stands, anything else as JSON."""
    written = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    return f"event: {name}\ndata: {written}\n\n".encode()


@dataclass
class Answer:
    """How one connection is answered: a status, headers, and then the pieces.

    `holds`: the connection stays open after them; otherwise it ends, cleanly, or torn off in the
    middle of what was announced where `tears`.
    """

    pieces: Iterable[Piece] = ()
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    holds: bool = False
    tears: bool = False


@dataclass
class MastodonServer:
    """The running server: its address, what it answers next, and what it was asked.

    `streaming` is where it says that its streams are; None: it says nothing of itself.
    """

    url: str
    streaming: str | None = None
    answers: queue.Queue[Answer] = field(default_factory=queue.Queue)
    paths: list[str] = field(default_factory=list)
    tokens: list[str | None] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def then(self, *pieces: Piece, **options: Any) -> None:
        """Answer the next connection so."""
        self.answers.put(Answer(pieces, **options))


@contextmanager
def serving() -> Iterator[MastodonServer]:
    """A server on a port of its own, ended afterwards."""
    state = MastodonServer("")

    class Handler(_Handler):
        server_state = state

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        state.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_state: MastodonServer

    def do_GET(self) -> None:
        if not self.path.startswith("/api/v1/streaming"):
            self._describe()
            return
        state = self.server_state
        if self.headers.get("Upgrade"):
            self.send_error(404)
            return
        state.paths.append(self.path)
        state.tokens.append(self.headers.get("Authorization"))
        try:
            answer = state.answers.get_nowait()
        except queue.Empty:
            answer = Answer(holds=True)
        with suppress(BrokenPipeError, ConnectionResetError):
            self._answer(answer)
        self.close_connection = True

    def _describe(self) -> None:
        streaming = self.server_state.streaming
        if streaming is None:
            self.send_error(404)
            return
        urls = {"streaming_api": streaming}
        body = json.dumps({"uri": "test", "urls": urls, "version": "4.3.0"}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _answer(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.status != 200:
            self.send_header("Content-Length", "0")
            self.send_header("Connection", "close")
            self.end_headers()
            return
        if "Content-Type" not in answer.headers:
            self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self._send(HEARTBEAT)
        for piece in answer.pieces:
            if isinstance(piece, bytes):
                self._send(piece)
            else:
                piece()
        if answer.holds:
            while not self.server_state.ended.wait(0.1):
                self._send(HEARTBEAT)
        if not answer.tears:
            self.wfile.write(b"0\r\n\r\n")

    def _send(self, piece: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base's name
        """Nothing: a test's output is its own."""
