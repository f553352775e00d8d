"""The command and the database that it is run against."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.command import Command
from tests.servers import in_memory


@pytest.fixture
def tally(database_url: str, tmp_path: Path) -> Command:
    """The command, against an empty database."""
    return Command(database_url, tmp_path)


@pytest.fixture
def embedded() -> Iterator[Command]:
    """The command on a machine where nothing was ever made, and with no database of one's own."""
    # A short path, for the server's socket.
    folder = Path(tempfile.mkdtemp(prefix="tally-", dir=in_memory()))
    command = Command("", folder)
    yield command
    command.run("stop")
    shutil.rmtree(folder)
