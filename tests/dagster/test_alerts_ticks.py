"""What no event tells of: ticks that failed or were missed, old changes, a daemon that was down."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
from dagster._core.remote_origin import (
    InProcessCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    InstigatorType,
    ScheduleInstigatorData,
    SensorInstigatorData,
    TickData,
    TickStatus,
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster_shared.error import SerializableErrorInfo

from tallykeeper.dagster.alerting.sensor_cursor import Memory
from tallykeeper.database.sql import CLAIM_WRITING
from tallykeeper.faults.incidents import Incident
from tests.dagster.location import Location
from tests.dagster.watching import all_incidents, look, look_over
from tests.webhook import Webhook, webhook

HOURLY = "media_hourly"
LOG = "tallykeeper.media_daily_contributions_log"


def now() -> datetime:
    return datetime.now(UTC)


def long_since() -> str:
    """The cursor of a daemon that has been running for hours."""
    return Memory(1, now() - timedelta(seconds=30), now() - timedelta(hours=5)).spelled()


@dataclass(frozen=True)
class Daemon:
    """What Dagster's daemon writes down of one schedule or sensor, which ends with the test."""

    instance: dg.DagsterInstance
    state: InstigatorState

    def ticked(
        self, at: datetime, status: TickStatus, error: str | None = None, failures: int = 99
    ) -> None:
        """It had a tick that ended so, having failed so often before that it is not tried again."""
        self.instance.create_tick(
            TickData(
                instigator_origin_id=self.state.instigator_origin_id,
                instigator_name=self.state.name,
                instigator_type=self.state.instigator_type,
                status=status,
                timestamp=at.timestamp(),
                selector_id=self.state.selector_id,
                run_ids=[],
                failure_count=failures if status is TickStatus.FAILURE else 0,
                error=SerializableErrorInfo(error, [], "Error") if error else None,
            )
        )

    def turned(self, status: InstigatorStatus) -> None:
        """Somebody switched it on or off."""
        self.instance.update_instigator_state(self.state.with_status(status))


@pytest.fixture
def quiet(location: Location) -> Location:
    look_over(location)
    return location


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Webhook]:
    with webhook() as hook:
        monkeypatch.setenv("TALLY_ALERT_URLS", hook.url)
        yield hook


@pytest.fixture
def schedule(quiet: Location) -> Iterator[Daemon]:
    """The hourly schedule of media, on for three hours, without a tick."""
    since = (now() - timedelta(hours=3)).timestamp()
    yield from known_to(quiet, HOURLY, ScheduleInstigatorData("0 * * * *", since))


@pytest.fixture
def sensor(quiet: Location) -> Iterator[Daemon]:
    yield from known_to(quiet, "pending_pressure", SensorInstigatorData())


def known_to(location: Location, name: str, data: Any) -> Iterator[Daemon]:
    kind = InstigatorType.SCHEDULE
    if isinstance(data, SensorInstigatorData):
        kind = InstigatorType.SENSOR
    place = InProcessCodeLocationOrigin(
        LoadableTargetOrigin(module_name="pipelines.definitions"), location_name="here"
    )
    origin = RemoteInstigatorOrigin(RemoteRepositoryOrigin(place, "__repository__"), name)
    state = InstigatorState(origin, kind, InstigatorStatus.DECLARED_IN_CODE, data)
    location.instance.add_instigator_state(state)
    yield Daemon(location.instance, state)
    location.instance.delete_instigator_state(state.instigator_origin_id, state.selector_id)
    location.instance.purge_ticks(
        state.instigator_origin_id,
        state.selector_id,
        before=(now() + timedelta(days=1)).timestamp(),
    )


def open_ones(location: Location) -> list[Incident]:
    return [incident for incident in all_incidents(location) if incident.is_open]


def test_a_missed_tick_is_found_counted_once_and_resolved_by_the_next(
    quiet: Location, schedule: Daemon
) -> None:
    look(quiet, long_since())
    look(quiet, long_since())
    (incident,) = open_ones(quiet)
    assert (incident.subject, incident.kind, incident.times) == (HOURLY, "schedule", 1)
    assert incident.what.endswith(":00 UTC was missed.")
    schedule.ticked(now(), TickStatus.SUCCESS)
    look(quiet, long_since())
    assert open_ones(quiet) == []


def test_what_the_daemon_had_no_time_for_yet_is_not_missed(
    quiet: Location, schedule: Daemon
) -> None:
    assert schedule.state.is_running
    look(quiet, Memory(1, now(), now() - timedelta(minutes=9)).spelled())
    look(quiet)
    assert open_ones(quiet) == []


def test_a_schedule_that_is_switched_off_misses_nothing(quiet: Location, schedule: Daemon) -> None:
    schedule.turned(InstigatorStatus.STOPPED)
    look(quiet, long_since())
    assert open_ones(quiet) == []


def test_a_schedule_that_is_switched_on_again_has_missed_nothing_before(
    quiet: Location, schedule: Daemon
) -> None:
    data = ScheduleInstigatorData("0 * * * *", now().timestamp())
    schedule.instance.update_instigator_state(schedule.state.with_data(data))
    look(quiet, long_since())
    assert open_ones(quiet) == []


def test_another_cron_expression_has_missed_nothing_until_the_daemon_knows_it(
    quiet: Location, schedule: Daemon
) -> None:
    data = ScheduleInstigatorData("5 4 * * *", 0.0)
    schedule.instance.update_instigator_state(schedule.state.with_data(data))
    look(quiet, long_since())
    assert open_ones(quiet) == []


@pytest.mark.parametrize("which", ["schedule", "sensor"])
def test_a_tick_that_failed_is_reported_without_passwords_and_resolved_by_the_next(
    quiet: Location, which: str, request: pytest.FixtureRequest, hook: Webhook
) -> None:
    daemon: Daemon = request.getfixturevalue(which)
    daemon.ticked(now(), TickStatus.FAILURE, "Error: no postgresql://a:secret-1@h/d\nat line 3")
    look(quiet, long_since())
    look(quiet, long_since())
    (incident,) = open_ones(quiet)
    assert (incident.subject, incident.times) == (daemon.state.name, 1)
    assert incident.what.endswith("failed: Error: no postgresql://***@h/d")
    assert hook.titles == [f"{daemon.state.name}: does not run as it should"]
    daemon.ticked(now(), TickStatus.FAILURE, "Error: again")
    look(quiet, long_since())
    assert [i.times for i in open_ones(quiet)] == [2]
    daemon.ticked(now(), TickStatus.STARTED)
    look(quiet, long_since())
    assert len(open_ones(quiet)) == 1, "it is not known yet how that ends"
    daemon.ticked(now(), TickStatus.SKIPPED)
    look(quiet, long_since())
    assert open_ones(quiet) == []


@pytest.mark.parametrize(("minutes", "opened"), [(5, 0), (12, 1)])
def test_a_tick_that_is_tried_again_is_reported_after_ten_minutes(
    quiet: Location, schedule: Daemon, minutes: int, opened: int
) -> None:
    at = now() - timedelta(minutes=minutes)
    schedule.ticked(at, TickStatus.FAILURE, "Error: away", failures=1)
    look(quiet, long_since())
    assert len(open_ones(quiet)) == opened


def test_schedules_of_other_code_locations_are_theirs(quiet: Location) -> None:
    data = ScheduleInstigatorData("0 * * * *", 0.0)
    for _ in known_to(quiet, "of_another_location", data):
        look(quiet, long_since())
    assert open_ones(quiet) == []


def test_a_change_that_waits_too_long_is_found_and_resolved_by_a_refresh(
    quiet: Location, hook: Webhook
) -> None:
    quiet.build()
    quiet.add("2020-06-03 13:00Z")
    look(quiet)
    assert open_ones(quiet) == []
    quiet.execute(CLAIM_WRITING, f"UPDATE {LOG} SET logged_at = now() - interval '3 hours'")
    look(quiet)
    look(quiet)
    (incident,) = open_ones(quiet)
    assert (incident.subject, incident.kind, incident.times) == (
        "media.daily_contributions",
        "pending",
        1,
    )
    assert incident.what.startswith("A pending change has waited for 3:00:0")
    assert "tally refresh media.daily_contributions" in hook.received[0]["body"]
    quiet.build()
    look(quiet)
    assert hook.titles == [
        "media.daily_contributions: a change waits too long",
        "media.daily_contributions: recovered (a change waits too long)",
    ]


def test_a_change_log_that_is_locked_is_looked_at_the_next_time(quiet: Location) -> None:
    quiet.build()
    quiet.add("2020-06-03 13:00Z")
    quiet.execute(CLAIM_WRITING, f"UPDATE {LOG} SET logged_at = now() - interval '3 hours'")
    look(quiet)
    with quiet.engine.begin() as connection:
        connection.exec_driver_sql(f"LOCK TABLE {LOG} IN ACCESS EXCLUSIVE MODE")
        look(quiet)
    assert [incident.kind for incident in open_ones(quiet)] == ["pending"]


def test_that_the_daemon_was_down_is_reported_when_it_is_back(
    quiet: Location, hook: Webhook
) -> None:
    looked_at = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
    cursor = look(quiet, Memory(1, looked_at, looked_at).spelled()).cursor
    (incident,) = all_incidents(quiet)
    assert (incident.subject, incident.kind, incident.is_open) == ("daemon", "schedule", False)
    assert "Nothing was watched from 2026-03-01 12:30 to 20" in incident.what
    assert hook.titles == ["daemon: nothing was watched for a while, resolved already"]
    look(quiet, cursor)
    look(quiet)
    assert len(all_incidents(quiet)) == 1
