"""`tally demo` where it fails; what it shows otherwise is in `tests/browser/test_ui.py`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from tallykeeper.database.connections import open_engine
from tallykeeper.database.sql import CLAIM_WRITING
from tallykeeper.embedded import shared_server
from tests.environment import environment as clean

SIZE = 2_000


def demo(home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).with_name("tally")), "demo", "--size", str(SIZE)],
        env=clean(TALLY_HOME=str(home), **environment),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def home() -> Iterator[Path]:
    # Not pytest's own folder, which every session of pytest closes to other users anew: the
    # server's account among them.
    with tempfile.TemporaryDirectory(prefix="tally-") as folder:
        yield Path(folder)


@pytest.mark.slow
def test_it_fails_where_a_check_does(home: Path) -> None:
    first = demo(home, TALLY_SYSTEMS="media")
    assert first.returncode == 0, first.stderr
    with shared_server.serving(home) as url:
        engine = open_engine(url)
        with engine.begin() as connection:
            connection.execute(text(CLAIM_WRITING))
            connection.execute(
                text(
                    "INSERT INTO media.daily_contributions (date, count) VALUES ('1901-01-01Z', 7)"
                )
            )
        engine.dispose()
    again = demo(home, TALLY_SYSTEMS="media")
    assert again.returncode == 1
    assert "matches_source of media/daily_contributions" in again.stderr
    assert "1 WRONG" in again.stdout


def test_it_keeps_to_the_embedded_database(home: Path, database_url: str) -> None:
    ended = demo(home, TALLY_DATABASE_URL=database_url)
    assert ended.returncode == 1
    assert "TALLY_DATABASE_URL names one of your own; unset it" in ended.stderr
