"""Materializing partitions, as a click or a backfill does: a rebuild of exactly those windows."""

from __future__ import annotations

import pytest
from sqlalchemy import text

import tallykeeper
from assets.media.tallies import daily_contributions, system
from tallykeeper.dagster.code_location import assets_of
from tallykeeper.dagster.partitions import daily, today
from tallykeeper.database.sql import CLAIM_WRITING
from tests.dagster.location import FIRST, Location, days_ago


def stored(location: Location) -> dict[str, int]:
    """The derived table itself, by day."""
    with location.engine.connect() as connection:
        rows = connection.execute(
            text(
                "SELECT (date AT TIME ZONE 'UTC')::date::text, count FROM media.daily_contributions"
            )
        )
        return {row[0]: row[1] for row in rows}


@pytest.fixture
def library(location: Location) -> Location:
    """Files from 1904 to 2036, all tallies built, and then every count set to 99 by hand."""
    days = ("1904-03-01", FIRST, "2025-06-01", "2025-06-02", "2025-06-03", "2036-01-01")
    location.add(*(f"{day} 12:00Z" for day in days))
    location.build()
    location.execute(CLAIM_WRITING, "UPDATE media.daily_contributions SET count = 99")
    return location


def test_a_range_is_rebuilt_and_nothing_beside_it(library: Location) -> None:
    ran = library.rebuild("2025-06-01", "2025-06-02", "daily_contributions")
    assert ran.succeeded
    right = {day for day, count in stored(library).items() if count == 1}
    assert right == {"2025-06-01", "2025-06-02"}


def test_each_partition_says_what_was_written_on_it_and_the_last_one_all_of_it(
    library: Location,
) -> None:
    found = library.rebuild("2025-05-31", "2025-06-04", "daily_contributions").materialized(
        "daily_contributions"
    )
    reason = "rebuild on request: 2025-05-31 to 2025-06-04"
    assert {m["reason"] for m in found.values()} == {reason}
    assert {p: m.get("keys_updated") for p, m in found.items()} == {
        "2025-05-31": None,
        "2025-06-01": 1,
        "2025-06-02": 1,
        "2025-06-03": 1,
        "2025-06-04": None,
    }
    assert found["2025-06-04"]["keys_changed"] == 3
    assert [p for p, m in found.items() if "dagster/row_count" in m] == ["2025-06-04"]
    assert [p for p, m in found.items() if "contribution_graph" in m] == ["2025-06-04"]


def test_the_first_partition_is_open_towards_the_past(library: Location) -> None:
    ran = library.rebuild(FIRST, FIRST, "daily_contributions")
    right = {day for day, count in stored(library).items() if count == 1}
    assert right == {"1904-03-01", FIRST}
    assert ran.materialized("daily_contributions")[FIRST]["keys_updated"] == 2


def test_the_last_partition_is_open_towards_the_future(library: Location) -> None:
    library.rebuild(today(), today(), "daily_contributions")
    right = {day for day, count in stored(library).items() if count == 1}
    assert right == {"2036-01-01"}


def test_all_partitions_together_cover_every_row_and_build_the_tally(
    location: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A short calendar, for every partition of a range costs Dagster milliseconds.
    monkeypatch.setenv("TALLY_START_DATE", days_ago(20))
    location = Location(location.instance, location.engine, [assets_of(system, daily())])
    location.add("1904-03-01 12:00Z", f"{days_ago(3)} 12:00Z", "2036-01-01 12:00Z")
    ran = location.rebuild(days_ago(20), days_ago(0))
    assert ran.failures() == []
    assert tallykeeper.status(location.engine, daily_contributions).stale == ()
    assert len(stored(location)) == 3


def test_a_range_takes_the_pending_changes_of_its_windows_alone(location: Location) -> None:
    location.build()
    location.add("2025-06-01 12:00Z", "2025-08-01 12:00Z")
    ran = location.rebuild("2025-06-01", "2025-06-01", "daily_contributions")
    assert ran.materialized("daily_contributions")["2025-06-01"]["pending_consumed"] == 1
    assert tallykeeper.status(location.engine, daily_contributions).pending == 1
    assert set(stored(location)) == {"2025-06-01"}
