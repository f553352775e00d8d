"""Some hours of a day in fast motion: nothing is wrong, nothing is alerted, nothing piles up."""

from __future__ import annotations

import os

import dagster as dg
import pytest
from sqlalchemy import Engine

from tests.concurrency.conftest import new_seed
from tests.dagster.day import live, location_of_all

HOURS = int(os.environ.get("TALLY_TEST_DAY_HOURS", "3"))
SECONDS = float(os.environ.get("TALLY_TEST_DAY_HOUR_SECONDS", "5"))
RATE = 5.0
# Of an hour's changes, with the pages that autovacuum has not come round to.
MOST_LOG_BYTES = 8 * 1024**2
MOST_GROWTH_BYTES = 64 * 1024**2

pytestmark = [pytest.mark.concurrency, pytest.mark.slow]


def test_hours_pass_without_a_wrong_snapshot_or_a_false_alarm(
    instance: dg.DagsterInstance, engine: Engine
) -> None:
    location = location_of_all(instance, engine)
    day = live(location, hours=HOURS, seconds=SECONDS, rate=RATE, seed=new_seed())
    assert day.counts["snapshots"] >= 5 * HOURS, "a few in each hour"
    assert all(day.counts[f"{name} transactions"] > 0 for name in ("media", "gallery"))
    assert sum(hour.consumed for hour in day.hours) > 0, "there was something to take"
    assert day.failed_checks == []
    assert day.incidents == [], "nothing was wrong, so nothing may be alerted"
    assert max(hour.logs for hour in day.hours) < MOST_LOG_BYTES
    assert day.hours[-1].memory - day.hours[1].memory < MOST_GROWTH_BYTES
