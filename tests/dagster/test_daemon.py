"""Dagster's own daemons over the code location as it is deployed: ticks and backfills become runs.

The daemons' loops are turned by hand here.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa

import tallykeeper
from assets.gallery.tallies import content_tags
from assets.gallery.tallies import system as gallery
from assets.media.tallies import daily_contributions, system
from tallykeeper.database.sql import CLAIM_WRITING
from tests.dagster.deployment import Deployment, deployed
from tests.dagster.location import FIRST, Location, days_ago
from tests.servers import Servers

PRESSURE_ROWS = 30
TABLES = ("daily_contributions", "hourly_contributions")

GALLERY_ITEMS = 60_000


@pytest.fixture(scope="module")
def deployment(
    postgres_servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    """Media and the gallery."""
    home = tmp_path_factory.mktemp("daemons")
    pressure = str(PRESSURE_ROWS)
    with deployed(
        postgres_servers, home, [system, gallery], first=FIRST, TALLY_PRESSURE_ROWS=pressure
    ) as deployment:
        yield deployment


# Dagster's own server still calls what Dagster has deprecated.
@pytest.mark.filterwarnings("ignore:Function `AssetSelection.sources`:DeprecationWarning")
def test_a_year_is_backfilled_by_one_run_which_rebuilds_it(deployment: Deployment) -> None:
    first, last = days_ago(560), days_ago(196)
    inside, outside = days_ago(400), days_ago(100)
    deployment.location.add(f"{inside} 12:00Z", f"{outside} 12:00Z")
    deployment.location.build()
    # Noted as a hand edit it would be compared whole, outside the range as well.
    edit = "UPDATE media.daily_contributions SET count = 99"
    deployment.location.execute(CLAIM_WRITING, edit)
    names = [days_ago(n) for n in range(196, 561)]
    deployment.launch_backfill("media", TABLES, names)
    (run,) = deployment.runs_after(deployment.turn_backfills)
    ran = deployment.finish(run)
    assert ran.succeeded
    found = ran.materialized("daily_contributions")
    assert sorted(p for p in found if p is not None) == sorted(names)
    assert found[inside]["keys_updated"] == 1
    assert found[inside]["reason"] == f"rebuild on request: {first} to {last}"
    assert deployment.runs_after(deployment.turn_backfills) == []
    assert ran.failures() == []
    differing = tallykeeper.verify(deployment.location.engine, daily_contributions).days
    assert differing == (outside,), "what lies outside the range is as it was"
    tallykeeper.rebuild(deployment.location.engine, daily_contributions)


# Dagster's own server still calls what Dagster has deprecated.
@pytest.mark.filterwarnings("ignore:Function `AssetSelection.sources`:DeprecationWarning")
def test_both_lanes_are_backfilled_by_one_run_which_tells_its_progress(
    deployment: Deployment,
) -> None:
    _fill_gallery(deployment.location)
    deployment.launch_backfill("gallery", ["content_tags"], ["regular", "auto"])
    (run,) = deployment.runs_after(deployment.turn_backfills)
    ran = deployment.finish(run)
    assert ran.succeeded
    observed = ran.observed("content_tags", "gallery")
    assert {lane for lane, _ in observed} == {"regular", "auto"}
    percents = [metadata["percent"] for _, metadata in observed]
    assert percents == sorted(percents)
    assert (percents[0] < 100, percents[-1]) == (True, 100)
    assert all(metadata["rows_per_second"] > 0 for _, metadata in observed)
    ended = max(e.timestamp for e in deployment.instance.all_logs(run.run_id))
    first = min(
        e.timestamp
        for e in deployment.instance.all_logs(
            run.run_id, of_type=dg.DagsterEventType.ASSET_OBSERVATION
        )
    )
    assert first < ended, "it was to be seen while the run went on"
    found = ran.materialized("content_tags", "gallery")
    assert set(found) == {"regular", "auto"}
    assert found["auto"]["dagster/row_count"] == 3 * GALLERY_ITEMS
    assert ran.failures() == []
    assert deployment.runs_after(deployment.turn_backfills) == []
    assert tallykeeper.verify(deployment.location.engine, content_tags).ok


@pytest.mark.slow
def test_the_hourly_schedules_launch_runs_that_refresh(deployment: Deployment) -> None:
    deployment.location.build()
    deployment.location.add("2025-05-01 12:00Z")
    hour, seen = _this_hour(), dict[str, Any]()
    deployment.turn_schedules(seen, hour - timedelta(minutes=1))
    at = hour + timedelta(minutes=1)
    launched = deployment.runs_after(lambda: deployment.turn_schedules(seen, at))
    jobs = sorted(run.job_name for run in launched)
    assert jobs == ["gallery_hourly", "media_hourly"], deployment.schedules_described()
    (other,) = [run for run in launched if run.job_name == "gallery_hourly"]
    assert "dagster/partition" not in other.tags
    gone = deployment.finish(other)
    assert gone.succeeded
    assert gone.failures() == []
    for tally in gallery.tallies:
        done = gone.materialized(tally.table.name, "gallery")[None]
        assert done["reason"] == "refresh: nothing was pending"
    (run,) = [run for run in launched if run.job_name == "media_hourly"]
    ran = deployment.finish(run)
    assert ran.succeeded
    for table in TABLES:
        found = ran.materialized(table)
        assert found["2025-05-01"]["keys_inserted"] == 1
        assert found[None]["pending_consumed"] == 1
    assert ran.failures() == []


@pytest.mark.slow
def test_a_tick_that_failed_for_the_database_was_away_is_tried_again(
    deployment: Deployment,
) -> None:
    hour, seen = _this_hour() + timedelta(hours=1), dict[str, Any]()
    deployment.turn_schedules(seen, hour - timedelta(minutes=1))
    at = hour + timedelta(minutes=1)
    name = deployment.location.engine.url.database
    errors: list[str] = []

    def turn() -> None:
        errors.extend(deployment.turn_schedules_once(seen, at))

    # Any other database of that server.
    elsewhere = sa.create_engine(
        deployment.location.engine.url.set(database="postgres"), isolation_level="AUTOCOMMIT"
    )
    with elsewhere.connect() as connection:
        connection.exec_driver_sql(f'ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS false')
        connection.execute(
            sa.text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"),
            {"name": name},
        )
        assert deployment.runs_after(turn) == []
        assert any("not currently accepting connections" in error for error in errors), errors
        connection.exec_driver_sql(f'ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS true')
    elsewhere.dispose()
    launched = deployment.runs_after(lambda: deployment.turn_schedules(seen, at))
    assert sorted(run.job_name for run in launched) == ["gallery_hourly", "media_hourly"]
    for run in launched:
        assert deployment.finish(run).succeeded


@pytest.mark.slow
def test_pending_pressure_refreshes_early_and_does_not_pile_up(deployment: Deployment) -> None:
    deployment.location.build()
    now = datetime.now(UTC)
    minutes = (now + timedelta(minutes=n) for n in range(10))

    def look() -> None:
        deployment.turn_sensors(next(minutes))

    assert deployment.runs_after(look) == [], "nothing is pending"
    deployment.location.add(*(f"{days_ago(n)} 12:00Z" for n in range(PRESSURE_ROWS)))
    (run,) = deployment.runs_after(look)
    assert run.job_name == "media_hourly"
    assert "dagster/partition" not in run.tags
    assert run.tags["tallykeeper/why"] == (
        "pending_pressure: daily_contributions, hourly_contributions"
    )
    assert deployment.runs_after(look) == [], "one was requested already, and is queued"
    ran = deployment.finish(run)
    assert ran.materialized("daily_contributions")[None]["pending_consumed"] == PRESSURE_ROWS
    assert deployment.runs_after(look) == [], "nothing is pending any more"
    deployment.location.add(*(f"{days_ago(n)} 13:00Z" for n in range(PRESSURE_ROWS)))
    (again,) = deployment.runs_after(look)
    assert deployment.finish(again).succeeded


def test_what_the_audit_finds_is_reported_repaired_and_reported_again(
    deployment: Deployment,
) -> None:
    location = deployment.location
    location.add("2025-06-01 12:00Z")
    location.build()
    location.execute(
        CLAIM_WRITING, "DELETE FROM media.daily_contributions WHERE date = '2025-06-01Z'"
    )
    location.audit()
    later = (datetime.now(UTC) + timedelta(hours=n) for n in range(1, 3))

    def look() -> None:
        deployment.turn_sensors(next(later))

    (run,) = deployment.runs_after(look)
    assert run.job_name == "repair"
    assert deployment.finish(run).succeeded
    assert deployment.runs_after(look) == []
    found, recovered = deployment.hook.received
    assert found["title"] == "media.daily_contributions: 1 key differs from the sources"
    assert found["body"].startswith("2025-06-01: stored no row, expected 1\n")
    assert recovered["title"].startswith("media.daily_contributions: recovered")


def _fill_gallery(location: Location) -> None:
    """Items of either source, three tags each."""
    location.execute(
        "INSERT INTO gallery.users (username) VALUES ('ann')",
        "INSERT INTO gallery.tags (name) SELECT 't' || n FROM generate_series(1, 90) AS n",
        *(
            f"INSERT INTO gallery.{table} (creator_id, tags)"
            " SELECT u.id, ARRAY[t.ids[1 + n % 30], t.ids[31 + n % 30], t.ids[61 + n % 30]]"
            " FROM gallery.users AS u, (SELECT array_agg(id) AS ids FROM gallery.tags) AS t,"
            f" generate_series(1, {GALLERY_ITEMS // 2}) AS n"
            for table in ("content_items", "content_items_auto")
        ),
    )


def _this_hour() -> datetime:
    return datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
