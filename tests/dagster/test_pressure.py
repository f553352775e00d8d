"""The sensor that refreshes early: when it asks for a run, and what it looks at for that."""

from __future__ import annotations

import pytest

import tallykeeper
from assets.media.tallies import hourly_contributions
from tests.dagster.location import Location


@pytest.fixture(autouse=True)
def _three_rows_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALLY_PRESSURE_ROWS", "3")


def test_few_pending_changes_are_left_to_the_hour(location: Location) -> None:
    location.build()
    location.add("2025-05-01Z", "2025-05-02Z")
    tick = location.look("pending_pressure")
    assert not tick.run_requests
    assert tick.skip_message == "no tally has 3 or more pending changes"


def test_many_pending_changes_ask_for_a_refresh_of_their_system(location: Location) -> None:
    location.build()
    location.add("2025-05-01Z", "2025-05-02Z", "2025-05-03Z")
    (request,) = location.look("pending_pressure").run_requests
    assert (request.job_name, request.partition_key) == ("media_hourly", None)
    ran = location.run(request.job_name, request.run_config)
    assert ran.materialized("daily_contributions")[None]["pending_consumed"] == 3
    assert not location.look("pending_pressure").run_requests


def test_the_same_run_is_asked_for_until_a_refresh_has_happened(location: Location) -> None:
    location.build()
    location.add("2025-05-01Z", "2025-05-02Z", "2025-05-03Z")
    (first,) = location.look("pending_pressure").run_requests
    location.add("2025-05-04Z")
    (same,) = location.look("pending_pressure").run_requests
    assert same.run_key == first.run_key
    tallykeeper.refresh(location.engine, hourly_contributions)
    (other,) = location.look("pending_pressure").run_requests
    assert other.run_key != first.run_key
    assert other.tags["tallykeeper/why"] == "pending_pressure: daily_contributions"


def test_a_tally_that_was_never_built_is_built_early(location: Location) -> None:
    location.add("2025-05-01Z", "2025-05-02Z", "2025-05-03Z")
    (request,) = location.look("pending_pressure").run_requests
    assert request.run_key == "media after nothing"


def test_a_system_that_is_not_in_the_database_is_left_alone(unmigrated: Location) -> None:
    assert not unmigrated.look("pending_pressure").run_requests


def test_a_system_that_was_not_migrated_is_left_to_the_hourly_run(unmigrated: Location) -> None:
    unmigrated.execute("CREATE SCHEMA media", "CREATE TABLE media.media_files (id bigint)")
    assert not unmigrated.look("pending_pressure").run_requests
