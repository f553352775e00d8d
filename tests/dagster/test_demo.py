"""`tally demo`: ends by itself with a table, and fails where a check does."""

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

# As many events of the fediverse as without it; a tenth of the rest.
SIZE = 20_000


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
def test_it_shows_every_tally_and_fails_where_a_check_does(home: Path) -> None:
    ended = demo(home)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.count("6 of 6 checks passed") == 4
    warns = "checks passed; nothing_left_out of gallery/content_tags warns"
    assert ended.stdout.count(f"12 of 13 {warns}") == 2
    assert ended.stdout.count(f"3 of 4 {warns}") == 1
    broken = "checks passed; events_processed of fediverse/mastodon_posts warns"
    assert ended.stdout.count(f"13 of 14 {broken}") == 2
    assert ended.stdout.count("12 of 12 checks passed") == 1
    assert ended.stdout.count("24 of 24 checks passed") == 2
    both = "events_processed of fediverse/mastodon_posts, nothing_left_out of gallery/content_tags"
    assert ended.stdout.count(f"56 of 58 checks passed; {both} warn") == 1
    names = (
        "media.daily_contributions",
        "media.hourly_contributions",
        "gallery.content_tags ",
        "fediverse.hashtag_hourly_stats",
        "classroom.submission_counts",
        "classroom.submission_daily_activity",
    )
    for name in names:
        (row,) = [line for line in ended.stdout.splitlines() if line.strip().startswith(name)]
        assert "every key" in row
        assert row.split()[2] == "0", "nothing is pending"
    assert "Trending on https://demo-one.example: #auroratonight (" in ended.stdout
    assert "Trending on https://demo-two.example: #夏祭り (" in ended.stdout
    assert "make up" in ended.stdout
    assert not shared_server.is_running(home), ended.stderr

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
