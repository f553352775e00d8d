"""A client in a process of its own: `python -m benchmarks.asking`, which reads what to ask.

It asks over kept connections, as fast as it is answered or at a fixed rate, and prints how long
each answer took, and what asking cost it. It reads no more of an answer than it must, so that it
takes a small part of what the service takes. At a fixed rate an answer's time is counted from when
its question was due: a service that stands still makes no question go unasked.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Load:
    """What to ask: the addresses in turn, for so many seconds.

    `per_second` is the rate of all connections together; None: each asks as soon as it is answered.
    With `tags` the entity tag of each address's first answer is sent along.
    """

    port: int
    addresses: list[str]
    connections: int
    seconds: float
    per_second: float | None = None
    tags: bool = False


@dataclass
class Asked:
    """How long each answer took, in seconds, how all of it, and what it cost the client."""

    took: list[float] = field(default_factory=list)
    elapsed: float = 0.0
    cpu_seconds: float = 0.0
    statuses: dict[str, int] = field(default_factory=dict)

    @property
    def per_second(self) -> float:
        """Answers per second."""
        return len(self.took) / self.elapsed


def started(load: Load) -> subprocess.Popen[str]:
    """The client, asking; for `finished`."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.asking"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(asdict(load)))
    process.stdin.close()
    process.stdin = None
    return process


def finished(process: subprocess.Popen[str]) -> Asked:
    """What the client found. Raises RuntimeError where anything but an answer came."""
    said, _ = process.communicate()
    if process.returncode:
        raise RuntimeError("the client failed; see above")
    asked = Asked(**json.loads(said))
    if set(asked.statuses) - {"200", "304"}:
        raise RuntimeError(f"expected answers alone, but by status there are {asked.statuses}")
    return asked


class Connection(asyncio.Protocol):
    """One kept connection: a question, its answer, and so on."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._answer: asyncio.Future[tuple[int, str | None]] | None = None
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionError("the service closed the connection"))

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._received[:end].decode("latin-1")
        status = int(head[9:12])
        lines = (line.partition(": ") for line in head.split("\r\n")[1:])
        found = {name.lower(): value for name, _, value in lines}
        length = end + 4 + int(found.get("content-length", 0))
        if len(self._received) >= length and self._answer is not None:
            del self._received[:length]
            self._answer.set_result((status, found.get("etag")))

    async def ask(self, question: bytes) -> tuple[int, str | None]:
        """Status and entity tag of the answer."""
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(question)
        return await self._answer

    def close(self) -> None:
        self._transport.close()


async def asked_of(load: Load) -> Asked:
    """Ask, after an answer that is not counted; where tags are sent, one of each address."""
    loop = asyncio.get_running_loop()
    made = [await _connected(loop, load.port) for _ in range(load.connections)]
    tags: dict[str, str | None] = {}
    for address in load.addresses if load.tags else load.addresses[:1]:
        _, tags[address] = await made[0].ask(_question(address, None))
    wanted = [_question(a, tags[a] if load.tags else None) for a in load.addresses]
    asked, statuses = Asked(), Counter[str]()
    begun, cpu = time.perf_counter(), time.process_time()
    turns = _turns(load, begun)

    async def keep_asking(connection: Connection) -> None:
        for number, due in turns:
            if due > (now := time.perf_counter()):
                await asyncio.sleep(due - now)
            since = due if load.per_second else time.perf_counter()
            status, _ = await connection.ask(wanted[number % len(wanted)])
            asked.took.append(time.perf_counter() - since)
            statuses[str(status)] += 1

    await asyncio.gather(*map(keep_asking, made))
    asked.elapsed = time.perf_counter() - begun
    asked.cpu_seconds = time.process_time() - cpu
    asked.statuses = dict(statuses)
    for connection in made:
        connection.close()
    return asked


def _turns(load: Load, begun: float) -> Iterator[tuple[int, float]]:
    """The number of each question, and when it is due."""
    number = 0
    while time.perf_counter() < begun + load.seconds:
        due = begun + number / load.per_second if load.per_second else begun
        if due > begun + load.seconds:
            return
        yield number, due
        number += 1


async def _connected(loop: asyncio.AbstractEventLoop, port: int) -> Connection:
    _, connection = await loop.create_connection(Connection, "127.0.0.1", port)
    return connection


def _question(address: str, tag: str | None) -> bytes:
    known = f"If-None-Match: {tag}\r\n" if tag else ""
    return f"GET {address} HTTP/1.1\r\nHost: localhost\r\n{known}\r\n".encode()


if __name__ == "__main__":
    print(json.dumps(asdict(asyncio.run(asked_of(Load(**json.load(sys.stdin)))))))
