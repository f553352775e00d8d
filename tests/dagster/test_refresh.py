"""The hourly run: takes all pending changes, and reports them on the partitions they belong to."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from logging import getLogger
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
from dagster._daemon.monitoring import concurrency

from assets.media import heatmap
from assets.media.assets import contribution_graph
from tallykeeper.dagster.partitions import daily, today
from tests.dagster.location import FIRST, Location, days_ago

POOL = "tally_database"
TABLES = ("daily_contributions", "hourly_contributions")


def test_a_tick_of_the_schedule_requests_a_run_that_refreshes(location: Location) -> None:
    location.build()
    location.add("now()")
    (request,) = location.tick("media_hourly").run_requests
    assert request.partition_key is None
    ran = location.run("media_hourly", request.run_config)
    assert ran.succeeded
    for table in TABLES:
        done = ran.materialized(table)[None]
        assert (done["reason"], done["pending_consumed"], done["keys_changed"]) == ("refresh", 1, 1)


def test_the_schedules_and_the_sensor_run_by_default(location: Location) -> None:
    definitions = location.definitions
    for name in ("media_hourly", "inventory"):
        schedule = definitions.resolve_schedule_def(name)
        assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING
        assert schedule.execution_timezone == "UTC"
    sensor = definitions.resolve_sensor_def("pending_pressure")
    assert sensor.default_status is dg.DefaultSensorStatus.RUNNING


def test_the_schedules_pass_over_a_system_whose_sources_are_missing(unmigrated: Location) -> None:
    for name in ("media_hourly", "inventory"):
        tick = unmigrated.tick(name)
        assert not tick.run_requests
        assert tick.skip_message is not None
        assert "media.media_files" in tick.skip_message
        assert "tally migrate" in tick.skip_message


def test_a_system_that_was_not_migrated_fails_with_what_to_do(unmigrated: Location) -> None:
    unmigrated.execute(
        "CREATE SCHEMA media",
        "CREATE TABLE media.media_files (id bigint, path text, original_created_at timestamptz,"
        " created_at timestamptz, updated_at timestamptz)",
    )
    ran = unmigrated.run(
        "media_hourly",
        asset_selection=[dg.AssetKey(["media", "daily_contributions"])],
    )
    assert not ran.succeeded
    assert "run `tally migrate`" in ran.error()


def test_the_first_run_builds_and_says_so_on_every_partition(location: Location) -> None:
    location.add("2025-05-01 12:00Z", "2025-06-01 12:00Z", "now()")
    ran = location.hourly()
    for table in TABLES:
        found = ran.materialized(table)
        assert list(found) == ["2025-05-01", "2025-06-01", today(), None]
        assert {m["reason"] for m in found.values()} == {"rebuild: never built"}
        assert found[None]["dagster/row_count"] == 3


def test_a_quiet_hour_is_reported_on_today_alone(location: Location) -> None:
    location.build()
    ran = location.hourly()
    assert ran.succeeded
    for table in TABLES:
        ((partition, done),) = ran.materialized(table).items()
        assert partition is None
        assert done["reason"] == "refresh: nothing was pending"
        assert "oldest_change" not in done


def test_a_file_a_year_late_shows_up_on_its_own_day(location: Location) -> None:
    location.build()
    day = days_ago(365)
    location.add(f"{day} 12:00Z")
    ran = location.hourly()
    for table in TABLES:
        found = ran.materialized(table)
        assert list(found) == [day, None]
        assert found[day] == {
            "keys_inserted": 1,
            "keys_updated": 0,
            "keys_deleted": 0,
            "reason": "late data: 365 days late",
        }


def test_moved_and_deleted_files_are_reported_on_both_days(location: Location) -> None:
    was, becomes, goes = days_ago(450), days_ago(400), days_ago(1)
    location.add(f"{was} 12:00Z", f"{becomes} 12:00Z", f"{goes} 12:00Z")
    location.build()
    location.execute(
        f"UPDATE media.media_files SET original_created_at = '{becomes} 13:00Z'"
        f" WHERE original_created_at = '{was} 12:00Z'",
        f"DELETE FROM media.media_files WHERE original_created_at = '{goes} 12:00Z'",
    )
    found = location.hourly().materialized("daily_contributions")
    changed = {p: (m.get("keys_updated"), m.get("keys_deleted")) for p, m in found.items()}
    assert changed == {was: (0, 1), becomes: (1, 0), goes: (0, 1), None: (None, None)}
    assert found[goes]["reason"] == "late data: 1 day late"


def test_what_lies_beyond_the_partitions_is_reported_on_the_first_and_the_last(
    location: Location,
) -> None:
    location.build()
    location.add("1904-03-01 12:00Z", "2036-01-01 00:00Z", "infinity", "0044-03-15 12:00Z BC")
    ran = location.hourly()
    found = ran.materialized("daily_contributions")
    assert list(found) == [FIRST, today(), None]
    assert found[FIRST]["keys_inserted"] == 2
    assert found[FIRST]["days"] == "0001-01-01 to 1904-03-01, reported on the nearest partition"
    assert found[today()]["keys_inserted"] == 2
    assert found[today()]["days"] == "2036-01-01 to 9999-12-31, reported on the nearest partition"
    assert ran.failures() == []


def test_the_whole_table_is_described_on_the_last_event(location: Location) -> None:
    location.build()
    before = datetime.now(UTC)
    location.add("2025-05-01 12:00Z", "2025-05-01 18:00Z", "2025-07-01 12:00Z")
    found = location.hourly().materialized("hourly_contributions")
    assert list(found)[-1] is None
    done = found[None]
    assert done["dagster/row_count"] == 3
    assert (done["keys_changed"], done["pending_consumed"], done["days_changed"]) == (3, 3, 2)
    assert 0 < done["seconds"] < 60
    assert before.timestamp() - 5 < done["oldest_change"] <= done["as_of"]
    lineage = done["dagster/column_lineage"].deps_by_column
    assert {dep.column_name for dep in lineage["hour"]} == {"original_created_at", "created_at"}


def test_the_year_is_drawn_on_the_last_event_of_the_daily_tally_alone(location: Location) -> None:
    location.add(f"{days_ago(30)} 12:00Z", f"{days_ago(60)} 12:00Z", "2025-04-02 12:00Z")
    ran = location.hourly()
    drawn = {p for p, m in ran.materialized("daily_contributions").items() if "last_year" in m}
    assert drawn == {None}
    done = ran.materialized("daily_contributions")[None]
    for key in ("last_year", "contribution_graph"):
        assert done[key].startswith("![2 files in the last year](data:image/png;base64,")
    assert not any("last_year" in m for m in ran.materialized("hourly_contributions").values())


def test_a_quiet_hour_draws_nothing_and_shows_the_picture_there_was(
    location: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    location.add(f"{days_ago(30)} 12:00Z")
    first = location.hourly().materialized("daily_contributions")[None]
    drawn = []
    draw = heatmap.calendar_heatmap_png

    def counted(*arguments: Any) -> bytes:
        drawn.append(arguments)
        return draw(*arguments)

    monkeypatch.setattr(heatmap, "calendar_heatmap_png", counted)
    # Files of a year that is not shown change nothing in the picture.
    for moments in ((), ("2020-01-01 12:00Z",), ()):
        location.add(*moments)
        quiet = location.hourly().materialized("daily_contributions")[None]
        if moments:
            drawn.clear()
        assert drawn == []
        for picture in ("last_year", "contribution_graph"):
            assert quiet[picture] == first[picture]
    location.add(f"{days_ago(31)} 12:00Z")
    changed = location.hourly().materialized("daily_contributions")[None]
    assert len(drawn) == 1
    assert changed["last_year"].startswith("![2 files in the last year]")


def test_an_old_library_is_drawn_up_to_its_newest_file(location: Location) -> None:
    location.add("2025-04-02 12:00Z", "0044-03-15 12:00Z BC")
    drawn = contribution_graph(location.engine, {})["last_year"].value
    assert str(drawn).startswith("![1 file in the last year]")


def test_an_empty_library_is_drawn_too(location: Location) -> None:
    drawn = contribution_graph(location.engine, {})["last_year"].value
    assert str(drawn).startswith("![No files in the last year]")


def test_a_change_of_today_is_reported_on_today(location: Location) -> None:
    location.build()
    location.add("now()")
    found = location.hourly().materialized("daily_contributions")
    assert list(found) == [today(), None]
    assert found[today()]["reason"] == "changes to today"
    assert found[None]["dagster/row_count"] == 1


def test_a_day_without_rows_is_not_missing_after_a_build(location: Location) -> None:
    location.instance.wipe_assets([dg.AssetKey(["media", table]) for table in TABLES])
    location.add("2025-05-01 12:00Z")
    location.hourly()
    for table in TABLES:
        made = location.instance.get_materialized_partitions(dg.AssetKey(["media", table]))
        assert made == set(daily().get_partition_keys())
        records = location.instance.fetch_materializations(dg.AssetKey(["media", table]), limit=5)
        ran = {record.run_id for record in records.records}
        assert len(ran) == 1
    location.hourly()
    latest = location.instance.fetch_materializations(
        dg.AssetRecordsFilter(dg.AssetKey(["media", TABLES[0]]), asset_partitions=["2025-05-02"]),
        limit=5,
    )
    assert len(latest.records) == 1, "it is reported once, not every hour"


def test_a_tally_that_is_held_by_another_is_tried_again(
    location: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    location.build()
    monkeypatch.setattr("tallykeeper.database.sessions.LOCK_TIMEOUT_SECONDS", 0.05)
    monkeypatch.setattr("tallykeeper.catalog.transactions.PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr("tallykeeper.catalog.transactions.FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr("tallykeeper.dagster.materialization.BUSY_PAUSE_SECONDS", 0)
    monkeypatch.setattr("tallykeeper.dagster.materialization.BUSY_RETRIES", 2)
    with location.engine.begin() as holder:
        holder.exec_driver_sql("LOCK TABLE media.daily_contributions IN SHARE ROW EXCLUSIVE MODE")
        ran = location.hourly()
    assert not ran.succeeded
    retries = ran.instance.all_logs(ran.run_id, of_type=dg.DagsterEventType.STEP_RESTARTED)
    assert len(retries) == 2
    assert "are held by the session" in ran.error()


def test_a_step_waits_for_a_place_in_the_pool_where_it_has_a_limit(location: Location) -> None:
    location.build()
    location.add("now()")
    storage, other = location.instance.event_log_storage, "a run that has the only place"
    storage.set_concurrency_slots(POOL, 1)
    try:
        assert storage.claim_concurrency_slot(POOL, other, "refresh").is_claimed
        with ThreadPoolExecutor() as threads:
            running = threads.submit(location.hourly)
            try:
                until = time.monotonic() + 60
                while not storage.get_concurrency_info(POOL).pending_step_count:
                    assert time.monotonic() < until, "no step waits"
                    assert not running.done()
                    time.sleep(0.05)
            finally:
                storage.free_concurrency_slots_for_run(other)
            ran = running.result()
        assert ran.succeeded
        assert ran.materialized("daily_contributions")[None]["pending_consumed"] == 1
        assert storage.get_concurrency_info(POOL).active_slot_count == 0
    finally:
        storage.delete_concurrency_limit(POOL)


def test_a_run_that_died_keeps_no_place_in_the_pool(
    location: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    location.build()
    ended, storage = location.hourly(), location.instance.event_log_storage
    storage.set_concurrency_slots(POOL, 1)
    try:
        assert storage.claim_concurrency_slot(POOL, ended.run_id, "refresh").is_claimed
        later = datetime.now(UTC) + timedelta(minutes=1)
        monkeypatch.setattr(concurrency, "get_current_datetime", lambda: later)
        daemon: Any = SimpleNamespace(instance=location.instance)
        list(concurrency.execute_concurrency_slots_iteration(daemon, getLogger("daemon")))
        assert storage.get_concurrency_info(POOL).active_slot_count == 0
    finally:
        storage.delete_concurrency_limit(POOL)


def test_all_that_writes_tallies_is_in_one_pool(location: Location) -> None:
    definitions = location.definitions
    hourly = definitions.resolve_job_def("media_hourly").all_node_defs
    tallies = {p for node in hourly if node.name.split("__")[-1] in TABLES for p in node.pools}
    (repair,) = definitions.resolve_job_def("repair").all_node_defs
    assert (tallies, set(repair.pools)) == ({POOL}, {POOL})
