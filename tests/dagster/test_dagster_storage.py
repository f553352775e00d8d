"""Dagster's storage: where it is found, what it keeps open, and what it writes of planned work."""

# No `from __future__ import annotations` here: Dagster judges an op's context by the annotation
# as it stands.

import time
from collections.abc import Iterator

import dagster as dg
import pytest
from dagster._core.events import DagsterEvent
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
from sqlalchemy import Engine, select, text

from tallykeeper.database.connections import dagster_storage_url, dagster_url
from tallykeeper.settings import project_root

# Dagster's name for its own connections, whatever process has them.
SESSIONS = """
SELECT count(*), (SELECT sessions FROM pg_stat_database WHERE datname = current_database())
FROM pg_stat_activity
WHERE application_name = 'dagster' AND datname = current_database()
"""
DAYS = dg.DailyPartitionsDefinition("2020-01-01", end_date="2020-03-31", fmt="%Y-%m-%d")
KEY = dg.AssetKey("something")
CHECK = dg.AssetCheckKey(KEY, "right")


@dg.asset(key=KEY, partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run())
def something(context: dg.AssetExecutionContext) -> None:
    if context.run.tags.get("breaks") == "asset":
        raise dg.Failure("broken on purpose", allow_retries=False)


@dg.asset_check(asset=KEY, name="right")
def right(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
    if context.run.tags.get("breaks") == "check":
        raise dg.Failure("broken on purpose", allow_retries=False)
    return dg.AssetCheckResult(passed=True)


@pytest.fixture
def instance(
    engine: Engine, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dg.DagsterInstance]:
    """An instance as dagster.yaml has it, which finds the database of the settings by itself."""
    home = tmp_path_factory.mktemp("dagster-home")
    (home / "dagster.yaml").symlink_to(project_root() / "dagster.yaml")
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    monkeypatch.delenv("DAGSTER_PG_URL", raising=False)
    address = engine.url.render_as_string(hide_password=False)
    monkeypatch.setenv("TALLY_DATABASE_URL", address)
    with dg.DagsterInstance.get() as instance:
        yield instance


def sessions(engine: Engine) -> tuple[int, int]:
    """Dagster's connections now, and how many of anybody there ever were."""
    with engine.connect() as connection:
        now, ever = connection.execute(text(SESSIONS)).one()
        return now, ever


def build(instance: dg.DagsterInstance, breaks: str = "nothing") -> dg.ExecuteInProcessResult:
    """A run over all partitions."""
    return dg.materialize(
        [something, right],
        instance=instance,
        tags={
            "dagster/asset_partition_range_start": "2020-01-01",
            "dagster/asset_partition_range_end": "2020-03-30",
            "breaks": breaks,
        },
        raise_on_error=False,
    )


def history(instance: dg.DagsterInstance) -> list[tuple[str, str | None]]:
    """All that there is of the check, as status and partition, the oldest first."""
    storage = instance.event_log_storage
    assert isinstance(storage, SqlEventLogStorage)
    columns = AssetCheckExecutionsTable.c
    query = select(columns.execution_status, columns.partition).where(
        columns.asset_key == KEY.to_string()
    )
    with storage.index_connection() as connection:
        return [(row[0], row[1]) for row in connection.execute(query.order_by(columns.id))]


def planned(instance: dg.DagsterInstance, run_id: str) -> list[DagsterEvent]:
    entries = instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED)
    return [entry.get_dagster_event() for entry in entries]


def test_connections_are_kept_over_a_run_and_closed_at_the_end(
    engine: Engine, instance: dg.DagsterInstance
) -> None:
    assert sessions(engine)[0] == 0, "nothing was asked yet"
    build(instance)
    _, before = sessions(engine)
    build(instance)
    kept, after = sessions(engine)
    assert instance.get_runs_count() == 2
    assert 1 <= kept <= 2
    assert after - before <= 3
    instance.dispose()
    # A server's process takes a moment to end.
    deadline = time.monotonic() + 30
    while sessions(engine)[0]:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_connection_that_the_server_closed_is_not_used_again(
    engine: Engine, instance: dg.DagsterInstance
) -> None:
    assert instance.get_runs_count() == 0
    with engine.begin() as connection:
        ended = connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'dagster' AND datname = current_database()"
            )
        ).all()
    assert len(ended) >= 1
    assert build(instance).success


def test_its_address_is_the_database_of_the_tallies_unless_another_is_named(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = engine.url.render_as_string(hide_password=False)
    monkeypatch.setenv("TALLY_DATABASE_URL", address)
    monkeypatch.delenv("DAGSTER_PG_URL", raising=False)
    assert dagster_storage_url() == dagster_url(address)
    monkeypatch.setenv("DAGSTER_PG_URL", "postgresql+psycopg2://d@e/f")
    assert dagster_storage_url() == "postgresql+psycopg2://d@e/f"


def test_a_run_over_many_partitions_plans_the_asset_once_and_leaves_one_result_of_its_check(
    instance: dg.DagsterInstance,
) -> None:
    result = build(instance)
    assert result.success
    (event,) = planned(instance, result.run_id)
    subset = event.asset_materialization_planned_data.partitions_subset
    assert subset is not None
    assert len(subset) == 90
    assert len(instance.get_materialized_partitions(KEY)) == 90
    assert history(instance) == [("SUCCEEDED", None)]


def test_what_breaks_off_turns_nothing_red_and_leaves_the_last_result(
    instance: dg.DagsterInstance,
) -> None:
    build(instance)
    assert not build(instance, breaks="asset").success
    assert history(instance) == [("SUCCEEDED", None)]
    for run_status in (dg.DagsterRunStatus.CANCELED, dg.DagsterRunStatus.FAILURE):
        # As when it is cancelled in the queue, or does not start in time.
        definitions = dg.Definitions(assets=[something], asset_checks=[right])
        job = definitions.resolve_implicit_global_asset_job_def()
        run = instance.create_run_for_job(
            job,
            tags={
                "dagster/asset_partition_range_start": "2020-01-01",
                "dagster/asset_partition_range_end": "2020-03-30",
            },
        )
        assert history(instance) == [("SUCCEEDED", None), ("PLANNED", None)]
        if run_status is dg.DagsterRunStatus.CANCELED:
            instance.report_run_canceled(run)
        else:
            instance.report_run_failed(run)
        assert history(instance) == [("SUCCEEDED", None)]
    attempts = instance.get_latest_storage_id_by_partition(
        KEY, dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
    )
    assert attempts == {}, "no partition is shown as failed"


def test_a_check_that_could_not_be_evaluated_stays_in_its_history(
    instance: dg.DagsterInstance,
) -> None:
    build(instance, breaks="check")
    assert history(instance) == [("PLANNED", None)], "which the UI shows as failed to execute"
