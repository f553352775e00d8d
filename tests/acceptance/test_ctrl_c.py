"""Ctrl-C ends a load and the demo with one sentence, whatever they are at."""

from __future__ import annotations

import signal
import time

import pytest
from sqlalchemy import Engine

from tests.acceptance.command import Command, without_progress
from tests.integration.support import scalar

INTERRUPTED = "tally: interrupted; what was under way was undone"


def test_a_load_is_undone(tally: Command, engine: Engine) -> None:
    tally.environment["TALLY_SYSTEMS"] = "media"
    tally.ok("migrate", "--with-sources")
    (tally.folder / "files.csv").write_text("path,original_created_at\na.jpg,2025-11-20 12:00:00\n")
    with engine.connect() as holder:
        holder.exec_driver_sql("LOCK TABLE media.media_files IN ACCESS EXCLUSIVE MODE")
        process = tally.start("load", "media", "files.csv")
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        deadline = time.monotonic() + 60
        while not scalar(engine, waiting) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.strip().splitlines()[-1] == INTERRUPTED
    assert "Traceback" not in err
    assert scalar(engine, "SELECT count(*) FROM media.media_files") == 0


@pytest.mark.slow
def test_the_demo_ends_in_the_middle_of_a_run(embedded: Command) -> None:
    embedded.environment |= {"TALLY_SYSTEMS": "media", "PYTHONUNBUFFERED": "1"}
    process = embedded.start("demo", "--size", "20000")
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("Loading Dagster: ready"):
            break
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert without_progress(err).strip() == INTERRUPTED
