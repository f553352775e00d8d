"""The nightly housekeeping: what goes, what stays, and that the UI shows the same afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.events import AssetMaterializationPlannedData, DagsterEvent
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.test_utils import create_run_for_test

from assets.media import system as media
from tallykeeper import verify
from tallykeeper.dagster.instance import housekeeping
from tallykeeper.dagster.instance.run_retention import (
    FINISHED,
    Pruned,
    finished_before,
    forget_unevaluated,
    prune_runs,
)
from tallykeeper.dagster.partitions import daily
from tallykeeper.faults import incidents
from tallykeeper.maintain.pruning import retention
from tallykeeper.maintain.pruning.retention import Retention
from tallykeeper.settings import keep_runs_days
from tests.dagster.location import Location, Ran, days_ago

KEY = dg.AssetKey(["media", "daily_contributions"])
MATCHES = dg.AssetCheckKey(KEY, "matches_source")
STEP = "media__daily_contributions"
MANY = 1_000
# Three checks of two tallies.
CHECK_RECORDS = 6
DAYS = [days_ago(n) for n in range(500, 505)]


@pytest.fixture(autouse=True)
def _nothing_is_old_yet(instance: dg.DagsterInstance) -> None:
    """Runs of other tests are as they should be to those, and too young for these."""
    for run_id in finished_before(instance, _limit()):
        instance.delete_run(run_id)


def _limit() -> datetime:
    return datetime.now(UTC) - timedelta(days=keep_runs_days())


def _age(instance: dg.DagsterInstance, *run_ids: str) -> None:
    """Let the runs have ended a year ago, the first of them first."""
    for number, run_id in enumerate(run_ids):
        ended = datetime.now(UTC) - timedelta(days=365, seconds=-number)
        _execute(instance, "UPDATE runs SET update_timestamp = %s WHERE run_id = %s", ended, run_id)


def _prune(instance: dg.DagsterInstance, most: int = MANY) -> Pruned:
    return prune_runs(instance, _limit(), most)


def _execute(instance: dg.DagsterInstance, statement: str, *parameters: object) -> None:
    with instance.event_log_storage.index_connection() as connection:  # type: ignore[attr-defined]
        connection.exec_driver_sql(statement, parameters)


def _rows(instance: dg.DagsterInstance, table: str, run_id: str) -> int:
    with instance.event_log_storage.index_connection() as connection:  # type: ignore[attr-defined]
        query = f"SELECT count(*) FROM {table} WHERE run_id = %s"
        return int(connection.exec_driver_sql(query, (run_id,)).scalar_one())


def _there(ran: Ran) -> bool:
    return ran.instance.get_run_by_id(ran.run_id) is not None


def _statuses(instance: dg.DagsterInstance) -> Mapping[str, object]:
    """What the UI says of the days, computed anew from the events."""
    instance.wipe_asset_cached_status([KEY])
    found = instance.get_status_by_partition(KEY, DAYS, daily())
    assert found is not None
    return {day: status.value if status else None for day, status in found.items()}


def test_an_old_run_goes_with_its_events_evaluations_and_output(
    instance: dg.DagsterInstance, location: Location
) -> None:
    location.build()
    # It reports, and so holds, every day that no run did before.
    location.hourly()
    old, recent = location.hourly(), location.hourly()
    printed = Path(instance.storage_directory()) / old.run_id
    assert printed.is_dir()
    _age(instance, old.run_id)
    pruned = _prune(instance)
    assert (pruned.deleted, pruned.kept, pruned.left) == (1, 0, 0)
    assert pruned.check_records == CHECK_RECORDS
    assert not _there(old)
    assert _rows(instance, "event_logs", old.run_id) == 0
    assert _rows(instance, "asset_check_executions", old.run_id) == 0
    assert not printed.exists()
    assert _there(recent)
    assert _rows(instance, "asset_check_executions", recent.run_id) == CHECK_RECORDS


def test_a_run_that_holds_the_latest_of_a_day_stays_until_the_day_is_made_anew(
    instance: dg.DagsterInstance, location: Location
) -> None:
    location.build()
    first = location.rebuild(DAYS[-1], DAYS[0])
    location.rebuild(DAYS[-1], DAYS[1])
    before = _statuses(instance)
    assert set(before.values()) == {"MATERIALIZED"}
    _age(instance, first.run_id)
    assert _prune(instance) == Pruned(deleted=0, kept=1, left=0, check_records=0)
    assert _statuses(instance) == before
    location.rebuild(DAYS[0], DAYS[0])
    assert _prune(instance).deleted == 1
    assert _statuses(instance) == before


def test_a_day_whose_last_attempt_failed_is_shown_so_after_as_before(
    instance: dg.DagsterInstance, location: Location
) -> None:
    location.build()
    made = location.rebuild(DAYS[-1], DAYS[0])
    location.execute("ALTER TABLE media.daily_contributions RENAME TO away")
    failed = location.rebuild(DAYS[1], DAYS[0], "daily_contributions")
    assert not failed.succeeded
    location.execute("ALTER TABLE media.away RENAME TO daily_contributions")
    for day in DAYS[:2]:
        # Versions before this one planned each partition.
        planned = AssetMaterializationPlannedData(KEY, partition=day)
        event = DagsterEvent.build_asset_materialization_planned_event("__ASSET_JOB", STEP, planned)
        instance.report_dagster_event(event, failed.run_id)
    location.hourly()
    before = _statuses(instance)
    assert [before[day] for day in DAYS[:3]] == ["FAILED", "FAILED", "MATERIALIZED"]
    _age(instance, made.run_id, failed.run_id)
    pruned = _prune(instance)
    assert (pruned.deleted, pruned.kept) == (0, 2)
    assert _statuses(instance) == before


def test_checks_that_were_planned_and_not_evaluated_are_forgotten(
    instance: dg.DagsterInstance, location: Location
) -> None:
    """Of runs of versions before this one: it leaves none."""
    location.build()
    old = location.hourly()
    # The storage is shared with other tests, whose runs that failed may have left some.
    forget_unevaluated(instance)
    again = (
        "INSERT INTO asset_check_executions (asset_key, check_name, partition, run_id,"
        " execution_status) SELECT asset_key, check_name, %s, run_id, 'PLANNED'"
        " FROM asset_check_executions WHERE run_id = %s AND partition IS NULL"
    )
    for day in DAYS:
        _execute(instance, again, day, old.run_id)
    assert forget_unevaluated(instance) == 0, "there was nothing since: they say what came last"
    last = location.hourly()
    assert forget_unevaluated(instance) == CHECK_RECORDS * len(DAYS)
    for ran in (old, last):
        assert _rows(instance, "asset_check_executions", ran.run_id) == CHECK_RECORDS


def test_a_check_keeps_its_last_evaluation(
    instance: dg.DagsterInstance, location: Location
) -> None:
    location.build()
    location.run("inventory")  # It observes the source, whose last observation is kept too.
    audit = location.audit()
    _age(instance, audit.run_id)
    assert _prune(instance).kept == 1
    record = instance.get_latest_asset_check_evaluation_record(MATCHES)
    assert record is not None
    assert record.run_id == audit.run_id
    assert record.event is not None
    location.audit()
    assert _prune(instance).deleted == 1


def test_what_runs_or_waits_stays_however_old(instance: dg.DagsterInstance) -> None:
    # One in the queue would need a code location that it came from.
    settled = {*FINISHED, dg.DagsterRunStatus.QUEUED}
    under_way = [
        create_run_for_test(instance, status=status).run_id
        for status in dg.DagsterRunStatus
        if status not in settled
    ]
    assert len(under_way) >= 4
    ended = create_run_for_test(instance, status=dg.DagsterRunStatus.CANCELED)
    _age(instance, *under_way, ended.run_id)
    assert _prune(instance).deleted == 1
    assert all(instance.get_run_by_id(run_id) for run_id in under_way)
    for run_id in under_way:
        instance.delete_run(run_id)


def test_a_run_of_a_backfill_stays_until_the_backfill_is_over(
    instance: dg.DagsterInstance,
) -> None:
    backfill = PartitionBackfill(
        backfill_id="longlast",
        status=BulkActionStatus.REQUESTED,
        from_failure=False,
        tags={},
        backfill_timestamp=datetime.now(UTC).timestamp(),
    )
    instance.add_backfill(backfill)
    run = create_run_for_test(
        instance,
        status=dg.DagsterRunStatus.SUCCESS,
        tags={"dagster/backfill": backfill.backfill_id},
    )
    _age(instance, run.run_id)
    assert _prune(instance).kept == 1
    instance.update_backfill(backfill.with_status(BulkActionStatus.COMPLETED_SUCCESS))
    assert _prune(instance).deleted == 1


def test_a_night_deletes_so_many_and_the_oldest_first(instance: dg.DagsterInstance) -> None:
    runs = [
        create_run_for_test(instance, status=dg.DagsterRunStatus.SUCCESS).run_id for _ in range(3)
    ]
    _age(instance, *runs)
    assert _prune(instance, most=2) == Pruned(deleted=2, kept=0, left=1, check_records=0)
    assert [instance.get_run_by_id(run_id) is None for run_id in runs] == [True, True, False]
    assert _prune(instance, most=2).deleted == 1


def test_the_job_deletes_what_is_older_than_the_setting_and_says_how_much(
    instance: dg.DagsterInstance, location: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    location.build()
    old = location.hourly()
    location.hourly()
    _age(instance, old.run_id)
    monkeypatch.setenv("TALLY_KEEP_RUNS_DAYS", "400")
    said = _said(location.run(housekeeping.HOUSEKEEPING))
    assert (said["older_than_days"], said["runs_deleted"], said["runs_kept"]) == (400, 0, 0)
    monkeypatch.setenv("TALLY_KEEP_RUNS_DAYS", "300")
    ran = location.run(housekeeping.HOUSEKEEPING)
    said = _said(ran)
    assert (said["runs_deleted"], said["runs_left"], said["check_records_deleted"]) == (
        1,
        0,
        CHECK_RECORDS,
    )
    assert "of the runs older than 300 days 1 were deleted, 0 kept" in ran.logged()
    for table in ("event_logs", "asset_check_executions", "runs", "job_ticks"):
        assert int(str(said[f"{table}_bytes"])) >= 8192
    assert not _there(old)


def test_a_malformed_setting_fails_the_job_and_deletes_nothing(
    instance: dg.DagsterInstance, location: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = create_run_for_test(instance, status=dg.DagsterRunStatus.SUCCESS)
    _age(instance, old.run_id)
    monkeypatch.setenv("TALLY_KEEP_RUNS_DAYS", "forever")
    ran = location.run(housekeeping.HOUSEKEEPING)
    assert not ran.succeeded
    assert "TALLY_KEEP_RUNS_DAYS: expected a whole number of days from 1" in ran.error()
    assert instance.get_run_by_id(old.run_id)


def test_the_job_deletes_incidents_resolved_longer_ago_than_the_setting(
    location: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    with location.engine.begin() as connection:
        for days in (20, 40):
            at = datetime.now(UTC) - timedelta(days=days)
            incidents.report(connection, "audit", "run", "it failed", at=at)
            incidents.resolve(connection, "audit", "run", "a run", at=at)
    said = _said(location.run(housekeeping.HOUSEKEEPING), "delete_old_incidents")
    assert (said["resolved_before_days"], said["incidents_deleted"]) == (365, 0)
    monkeypatch.setenv("TALLY_KEEP_INCIDENTS_DAYS", "30")
    said = _said(location.run(housekeeping.HOUSEKEEPING), "delete_old_incidents")
    assert said["incidents_deleted"] == 1


def test_a_database_that_was_never_migrated_has_no_incidents_to_delete(
    unmigrated: Location,
) -> None:
    said = _said(unmigrated.run(housekeeping.HOUSEKEEPING), "delete_old_incidents")
    assert said["incidents_deleted"] == 0


def test_sources_are_pruned_where_the_project_says_so(
    location: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not _has(housekeeping.prune_sources.name)
    kept = [Retention("media.media_files", 30, "original_created_at")]
    for module in (housekeeping, retention):
        monkeypatch.setattr(module, "retentions", lambda: kept)
    assert _has(housekeeping.prune_sources.name)
    location.build()
    counted = "SELECT count(*) FROM media.media_files"
    with location.engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO media.media_files (path, original_created_at)"
            " VALUES ('of/long/ago.jpg', now() - interval '90 days')"
        )
        before = connection.exec_driver_sql(counted).scalar_one()
    done = housekeeping.housekeeping(shared=False).execute_in_process(
        resources={"tally_database": location.database},
        op_selection=[housekeeping.prune_sources.name],
    )
    assert done.success
    (output,) = done.filter_events(lambda e: e.event_type is dg.DagsterEventType.STEP_OUTPUT)
    deleted = int(str(output.step_output_data.metadata["media.media_files_rows_deleted"].value))
    with location.engine.begin() as connection:
        assert deleted >= 1
        assert connection.exec_driver_sql(counted).scalar_one() == before - deleted
    for tally in media.tallies:
        assert verify(location.engine, tally).ok


def _has(op: str) -> bool:
    return op in {node.name for node in housekeeping.housekeeping(shared=False).nodes}


def test_it_runs_every_night_by_itself(location: Location) -> None:
    schedule = location.definitions.resolve_schedule_def(housekeeping.HOUSEKEEPING)
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING
    (request,) = location.tick(housekeeping.HOUSEKEEPING).run_requests
    assert request.job_name in {None, housekeeping.HOUSEKEEPING}


def _said(ran: Ran, step: str = "delete_old_runs") -> Mapping[str, object]:
    """What the output of one of the job's steps says of it."""
    assert ran.succeeded, ran.error()
    outputs = ran.instance.all_logs(ran.run_id, of_type=dg.DagsterEventType.STEP_OUTPUT)
    (event,) = [o.get_dagster_event() for o in outputs if o.step_key == step]
    return {k: v.value for k, v in event.step_output_data.metadata.items()}
