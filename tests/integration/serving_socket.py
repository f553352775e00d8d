"""Asks the service over a real socket, as it is sent: nothing is corrected on the way."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import urlsplit

PATIENCE = 60


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@contextmanager
def client(base: str) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection(urlsplit(base).netloc, timeout=PATIENCE)
    try:
        yield connection
    finally:
        connection.close()


def ask(
    connection: http.client.HTTPConnection,
    address: str,
    method: str = "GET",
    headers: dict[str, str] | None = None,
    body: bytes | None = None,
) -> Answer:
    connection.request(method, address, headers=headers or {}, body=body)
    response = connection.getresponse()
    found = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, found, response.read())


def asked_once(base: str, address: str, **options: Any) -> Answer:
    with client(base) as connection:
        return ask(connection, address, **options)


def require_problem(answer: Answer) -> dict[str, Any]:
    assert answer.headers["content-type"] == "application/problem+json", answer
    problem: dict[str, Any] = answer.json
    assert problem["status"] == answer.status
    assert problem["type"].startswith("urn:tallykeeper:problem:")
    assert problem["detail"]
    assert len(answer.body) < 10_000
    return problem


@contextmanager
def connected(base: str) -> Iterator[socket.socket]:
    where = urlsplit(base)
    with socket.create_connection((str(where.hostname), int(where.port or 0)), PATIENCE) as raw:
        yield raw
