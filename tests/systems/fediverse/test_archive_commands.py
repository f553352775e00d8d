"""The commands of the archive: what they print, and their exit codes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from sqlalchemy import Engine

from assets.fediverse.commands import replay
from assets.fediverse.processing.batches import process
from assets.fediverse.storage import partitions
from tallykeeper.cli.retention.archive import archive
from tests.integration.fediverse_log import Log, created, emptied, status
from tests.integration.support import execute
from tests.servers import Servers


@pytest.fixture(scope="module")
def fediverse(postgres_servers: Servers) -> Iterator[Engine]:
    with created(postgres_servers) as engine:
        yield engine


@pytest.fixture
def log(fediverse: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Log:
    """A day of events that is due, and one that is not."""
    monkeypatch.setenv("TALLY_ARCHIVE", str(tmp_path))
    monkeypatch.setenv("TALLY_SYSTEMS", "fediverse")
    address = fediverse.url.render_as_string(hide_password=False)
    monkeypatch.setenv("TALLY_DATABASE_URL", address)
    execute(fediverse, "TRUNCATE tallykeeper.archive_files")
    log = emptied(fediverse)
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    for days in (40, 20):
        log.start = today - timedelta(days=days)
        day = log.start.date()
        with fediverse.begin() as connection:
            partitions.ensure(connection, day, day)
        log.write("update", status(days, created_at=log.start.isoformat()), at=5)
    process(fediverse)
    return log


def run(command: click.Command, *arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(command, arguments, standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return done.return_value or 0, done.stdout


def test_what_is_due_is_archived_listed_verified_dropped_and_replayed(log: Log) -> None:
    code, said = run(archive, "list")
    assert (code, "is due, but is not archived" in said) == (0, True)
    code, said = run(archive, "drop")
    assert (code, "is not archived" in said) == (1, True)
    code, said = run(archive, "--json")
    (done,) = json.loads(said)["sources"]
    assert (code, len(done["written"]), done["rows"]) == (0, 1, 1)
    code, said = run(archive, "list", "--json")
    (listed,) = json.loads(said)["sources"]
    assert (listed["status"]["files"], listed["status"]["due"]) == (1, [])
    assert listed["files"][0]["state"] == "current"
    code, said = run(archive, "verify", "fediverse.stream_events")
    assert (code, "1 files" in said, "all right" in said) == (0, True, True)
    code, said = run(archive, "drop", "--json")
    assert code == 0
    assert len(json.loads(said)["sources"]["fediverse.stream_events"]["dropped"]) == 1
    execute(log.engine, "UPDATE fediverse.mastodon_posts SET language = 'xx'")
    code, said = run(replay, "fediverse", "--check")
    assert (code, "rows that differ: 2" in said) == (1, True)
    code, said = run(replay, "fediverse", "--json")
    assert (code, json.loads(said)["rows"]) == (0, {"mastodon_posts": 2})
    code, said = run(replay, "fediverse", "--stored", "--check")
    assert (code, "1 posts compared" in said, "0 skipped" in said) == (0, True, True)


@pytest.mark.usefixtures("log")
def test_a_damaged_file_is_an_exit_code(tmp_path: Path) -> None:
    run(archive, "run")
    (path,) = tmp_path.rglob("*.parquet")
    path.write_bytes(b"PAR1")
    code, said = run(archive, "verify", "--json")
    (found,) = json.loads(said)["sources"]
    assert (code, len(found["faults"])) == (1, 1)


def test_what_cannot_be_archived_yet_is_an_exit_code(log: Log) -> None:
    log.start -= timedelta(days=20)
    log.write("update", status(9), at=6)
    code, said = run(archive, "run")
    assert (code, "has rows that are still to be processed" in said) == (1, True)
    code, said = run(archive, "run", "--before", "2020-01-01")
    assert code == 0


@pytest.mark.usefixtures("log")
def test_a_source_that_is_none_is_called_wrongly() -> None:
    with pytest.raises(click.UsageError, match="expected one of: fediverse"):
        run(archive, "verify", "media.media_files")
