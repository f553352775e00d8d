"""The history of the checks after a day of hourly runs and one backfill: results, nothing else."""

from __future__ import annotations

from collections import Counter

import dagster as dg
import pytest
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
from sqlalchemy import select

from tests.dagster.location import Location, days_ago

HOURS = 24
# The other one draws a chart in each run, which takes longer than all else.
TABLE = "hourly_contributions"
CHECKS = ("capture_intact", "fresh", "matches_source")


def history(location: Location, run_ids: list[str]) -> Counter[tuple[str, ...]]:
    """How many records there are of each check, by check, status and partition."""
    storage = location.instance.event_log_storage
    assert isinstance(storage, SqlEventLogStorage)
    columns = AssetCheckExecutionsTable.c
    query = select(
        columns.asset_key, columns.check_name, columns.execution_status, columns.partition
    ).where(columns.run_id.in_(run_ids))
    with storage.index_connection() as connection:
        return Counter(tuple(map(str, row)) for row in connection.execute(query))


@pytest.mark.slow
def test_a_day_of_hourly_runs_and_a_backfill_leave_results_only(location: Location) -> None:
    location.build()
    ran = []
    for hour in range(HOURS):
        location.add(f"{days_ago(hour)} 12:00Z")
        only = [dg.AssetKey(["media", TABLE])]
        ran.append(location.run("media_hourly", asset_selection=only))
    ran.append(location.rebuild(days_ago(89), days_ago(0), TABLE))
    assert all(each.succeeded for each in ran)
    expected = {
        (f'["media", "{TABLE}"]', check, "SUCCEEDED", "None"): HOURS + 1 for check in CHECKS
    }
    assert history(location, [each.run_id for each in ran]) == expected
