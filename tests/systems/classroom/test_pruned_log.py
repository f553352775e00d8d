"""The classroom's log, pruned: what its old events count stays."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine

from assets.classroom.demo import change_demo, create_demo
from assets.classroom.tallies import system
from tallykeeper import CannotPrune, prune, rebuild, refresh, status, verify
from tests.integration.support import create, execute, rows, scalar

LOG = "classroom.submission_log"
FROZEN = {"classroom.submission_counts", "classroom.user_counts"}


@pytest.fixture
def classroom(engine: Engine) -> Engine:
    create(engine, system)
    create_demo(engine, 6_000)
    for tally in system.tallies:
        refresh(engine, tally)
    return engine


def counts(engine: Engine) -> dict[str, list[tuple[Any, ...]]]:
    return {
        tally.name: rows(engine, f"SELECT * FROM {tally.live_name} AS v ORDER BY v")
        for tally in system.tallies
    }


def test_what_old_events_count_stays(classroom: Engine) -> None:
    middle = scalar(
        classroom,
        "SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY date_created)"
        " FROM classroom.submission_log",
    )
    was = counts(classroom)
    old = scalar(classroom, f"SELECT count(*) FROM {LOG} WHERE date_created < '{middle}'")
    with pytest.raises(CannotPrune, match=r"submission_counts counts .* could only be frozen"):
        prune(classroom, LOG, middle, tallies=system.tallies, by="date_created")
    done = prune(classroom, LOG, middle, tallies=system.tallies, by="date_created", freeze=True)
    assert done.rows == old
    assert set(done.frozen) == FROZEN
    assert counts(classroom) == was
    for step in (refresh, rebuild):
        for tally in system.tallies:
            step(classroom, tally)
            assert verify(classroom, tally).ok, tally
        assert counts(classroom) == was
    # Daily activity is a sum, and goes on; of what is frozen later events are noted.
    change_demo(classroom)
    execute(
        classroom,
        f"INSERT INTO {LOG} SELECT * FROM jsonb_populate_record(NULL::{LOG}, (SELECT to_jsonb(l)"
        f" || jsonb_build_object('id', 10000000, 'date_created', now()) FROM {LOG} AS l"
        " WHERE submission_id IN (SELECT submission_id FROM"
        " tallykeeper.classroom_submission_counts_pruned) LIMIT 1))",
    )
    for tally in system.tallies:
        refresh(classroom, tally)
        assert verify(classroom, tally).ok, tally
    noted = {t.name: status(classroom, t).pruned for t in system.tallies}
    (found,) = noted["classroom.submission_counts"]
    assert found.frozen is not None
    assert found.frozen.groups == done.frozen["classroom.submission_counts"]
    assert found.frozen.changed > 0
