"""A server for these tests alone, because some of them kill it."""

from __future__ import annotations

import os
import re
import secrets
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.concurrency.server import Server


def share(number: int) -> int:
    """All of them by `make test-slow`; a third, rounded up, where all tests are run.

    For numbers of snapshots and kills: each is another throw of the same dice.
    """
    return number if os.environ.get("TALLY_TEST_LONG") else -(-number // 3)


def new_seed() -> str:
    """What all randomness follows from: TALLY_TEST_SEED, or another every time."""
    return os.environ.get("TALLY_TEST_SEED") or secrets.token_hex(4)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    # Not pytest's own folder, whose path is too long for a socket and closed to other users.
    with tempfile.TemporaryDirectory(prefix="tally-") as folder:
        server = Server(Path(folder) / "pg")
        server.start()
        yield server
        server.stop()


@pytest.fixture
def database(server: Server) -> Iterator[Callable[[str], str]]:
    """Make an empty database named after its subject, to be dropped afterwards: its address."""
    names = []

    def create(subject: str) -> str:
        names.append(re.sub(r"\W+", "_", subject))
        return server.create_database(names[-1])

    yield create
    for name in names:
        server.drop_database(name)
