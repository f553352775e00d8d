"""The command and the database that it is run against."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.command import Command


@pytest.fixture
def tally(database_url: str, tmp_path: Path) -> Command:
    """The command, against an empty database."""
    return Command(database_url, tmp_path)
