"""The sensor `alerts`: which checks and runs it makes incidents of, once each, and what is sent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import dagster as dg
import pytest
from sqlalchemy import text

from tallykeeper.dagster.alerting import event_log_reader, expected_warnings
from tallykeeper.dagster.alerting.sensor_cursor import Memory
from tallykeeper.dagster.database import Database
from tallykeeper.database.sql import CLAIM_WRITING
from tallykeeper.operations import delivery
from tallykeeper.settings import SettingError
from tests.dagster.location import Location
from tests.dagster.watching import Log, all_incidents, evaluated, look, look_over
from tests.webhook import Webhook, webhook

BREAK = "UPDATE media.daily_contributions SET count = 7 WHERE date = '2025-06-02Z'"
REPAIR = "UPDATE media.daily_contributions SET count = 1 WHERE date = '2025-06-02Z'"
DIFFERS = "media.daily_contributions: 1 key differs from the sources"
RECOVERED = "media.daily_contributions: recovered (1 key differs from the sources)"


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Webhook]:
    with webhook() as hook:
        monkeypatch.setenv("TALLY_ALERT_URLS", hook.url)
        yield hook


@pytest.fixture
def quiet(location: Location) -> Location:
    look_over(location)
    return location


@pytest.fixture
def library(quiet: Location, hook: Webhook) -> Location:
    """Three files on three days, all tallies built, and addresses to send to."""
    assert hook.received == []
    quiet.add(*(f"2025-06-{day:02} 12:00Z" for day in range(1, 4)))
    quiet.build()
    return quiet


def test_a_failed_check_is_reported_with_keys_and_values_and_so_is_its_recovery(
    library: Location, hook: Webhook
) -> None:
    library.execute(CLAIM_WRITING, BREAK)
    ran = library.audit()
    look(library)
    (sent,) = hook.received
    assert sent["title"] == DIFFERS
    lines = sent["body"].splitlines()
    assert lines[0] == "2025-06-02: stored 7, expected 1"
    assert lines[1].startswith("Found at 20")
    assert "A repair was requested" in lines[2]
    assert lines[3] == f"Run: http://127.0.0.1:3000/runs/{ran.run_id}"
    assert lines[4] == "Asset: http://127.0.0.1:3000/assets/media/daily_contributions"

    library.execute(CLAIM_WRITING, REPAIR)
    library.audit()
    look(library)
    assert hook.titles[1:] == [RECOVERED]
    (incident,) = all_incidents(library)
    assert incident.resolved_by == "the check matches_source"
    look(library)
    assert len(hook.received) == 2


def test_a_repair_is_asked_for_once_and_its_outcome_is_reported(
    library: Location, hook: Webhook
) -> None:
    library.execute(CLAIM_WRITING, BREAK)
    library.audit()
    (request,) = look(library).run_requests or ()
    assert request.job_name == "repair"
    assert not look(library).run_requests
    assert library.run("repair", request.run_config, tags=request.tags).succeeded
    look(library)
    assert hook.titles == [DIFFERS, RECOVERED]
    assert "Repairs: 1." in hook.received[1]["body"]


def test_a_repair_that_was_asked_for_by_a_look_that_died_is_asked_for_again(
    library: Location,
) -> None:
    library.execute(CLAIM_WRITING, BREAK)
    library.audit()
    (lost,) = look(library).run_requests or ()
    assert not look(library).run_requests
    library.execute(
        "UPDATE tallykeeper.incidents SET repair_requested_at = now() - interval '3 minutes'"
    )
    (again,) = look(library).run_requests or ()
    assert (again.run_key, again.run_config) == (lost.run_key, lost.run_config)
    library.execute("ALTER TABLE media.daily_contributions RENAME TO elsewhere")
    library.run(
        "repair", again.run_config, tags={**again.tags, "dagster/run_key": again.run_key or ""}
    )
    assert not look(library).run_requests, "it was begun, whatever became of it"


def test_the_first_look_finds_what_is_wrong_now_and_tells_nothing_of_the_past(
    location: Location, hook: Webhook
) -> None:
    evaluated(location, "daily_contributions", "matches_source", passed=False)
    evaluated(location, "daily_contributions", "matches_source", passed=True)
    location.execute("ALTER TABLE media.media_files DISABLE TRIGGER tallykeeper_update")
    location.audit()
    look(location)
    assert sorted(hook.titles) == [
        "media.daily_contributions: changes may be missed",
        "media.hourly_contributions: changes may be missed",
    ]
    body = hook.received[0]["body"]
    assert body.startswith("media.media_files: the update trigger is disabled")
    assert body.count("the update trigger is disabled") == 1
    assert "run `tally migrate" in body
    look(location)
    assert len(hook.received) == 2


def test_a_stale_tally_is_no_incident(quiet: Location) -> None:
    assert "matches_source of daily_contributions" in quiet.audit().failures()
    look(quiet)
    assert all_incidents(quiet) == []


def test_what_is_an_incident_already_makes_no_other(library: Location) -> None:
    evaluated(library, "daily_contributions", "capture_intact", passed=False, news=0)
    look(library)
    assert all_incidents(library) == []
    evaluated(library, "daily_contributions", "capture_intact", passed=False, news=1)
    look(library)
    assert [incident.kind for incident in all_incidents(library)] == ["capture"]


def test_checks_of_other_code_locations_are_theirs(library: Location) -> None:
    evaluated(library, "of_another_location", "matches_source", passed=False)
    evaluated(library, "daily_contributions", "of_another_location", passed=False)
    look(library)
    assert all_incidents(library) == []


def test_an_event_that_appears_behind_later_ones_is_received_and_only_once(
    library: Location, hook: Webhook
) -> None:
    log = Log(library.instance)
    place = log.reserve()
    evaluated(library, "daily_contributions", "matches_source", passed=False)
    with log.hidden(log.last(), place):
        evaluated(library, "daily_contributions", "fresh", passed=True)
        look(library)
        assert all_incidents(library) == []
    look(library)
    look(library)
    (incident,) = all_incidents(library)
    assert (incident.times, incident.is_open) == (1, True)
    assert hook.titles == [DIFFERS]


def test_a_failure_that_appears_after_the_success_that_followed_it_does_not_stay_open(
    library: Location, hook: Webhook
) -> None:
    log = Log(library.instance)
    place = log.reserve()
    evaluated(library, "daily_contributions", "matches_source", passed=False)
    with log.hidden(log.last(), place):
        evaluated(library, "daily_contributions", "matches_source", passed=True)
        look(library)
    look(library)
    (incident,) = all_incidents(library)
    assert not incident.is_open
    assert hook.titles == [f"{DIFFERS}, resolved already"]


def test_what_was_received_long_ago_is_forgotten_but_for_a_mark(library: Location) -> None:
    def processed() -> int:
        with library.engine.connect() as connection:
            return int(
                connection.execute(
                    text("SELECT count(*) FROM tallykeeper.processed_events")
                ).scalar_one()
            )

    for _ in range(3):
        evaluated(library, "daily_contributions", "fresh", passed=True)
    look(library)
    assert processed() > 3
    library.execute(
        "UPDATE tallykeeper.processed_events"
        " SET processed_at = processed_at - interval '11 minutes'"
    )
    look(library)
    assert processed() == 1
    evaluated(library, "daily_contributions", "matches_source", passed=False)
    look(library)
    assert [incident.times for incident in all_incidents(library)] == [1]


def test_another_storage_is_read_from_its_beginning(library: Location) -> None:
    library.execute(
        "UPDATE tallykeeper.processed_events SET log = 'a storage that is gone', event = event * 9"
    )
    evaluated(library, "daily_contributions", "matches_source", passed=False)
    look(library)
    found = [incident for incident in all_incidents(library) if incident.kind == "differs"]
    assert [incident.times for incident in found] == [1]


class Died(BaseException):
    """What no handler of errors catches."""


@contextmanager
def dying_at(module: ModuleType, name: str) -> Iterator[None]:
    """In the block the process dies when it comes to that function."""

    def die(*_: object) -> None:
        raise Died

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, name, die)
        yield


@pytest.mark.parametrize(
    ("at", "recorded"),
    [
        pytest.param("deliver", 1, id="it sends"),
        pytest.param("give_up_removed", 0, id="it commits"),
    ],
)
def test_a_look_that_dies_before(library: Location, hook: Webhook, at: str, recorded: int) -> None:
    """Neither loses nor repeats what it had to tell: the next look tells it, once."""
    evaluated(library, "daily_contributions", "matches_source", passed=False)
    with dying_at(delivery, at), pytest.raises(Died):
        look(library)
    assert len(all_incidents(library)) == recorded
    look(library)
    assert hook.titles == [DIFFERS]
    assert [incident.times for incident in all_incidents(library)] == [1]


def test_thousands_of_events_are_received_in_a_few_looks_each_once(
    library: Location, hook: Webhook
) -> None:
    evaluated(library, "daily_contributions", "matches_source", passed=False)
    log = Log(library.instance)
    log.repeat(log.last(), 1_999)
    for looks in range(1, 5):
        look(library)
        (incident,) = all_incidents(library)
        assert incident.times == looks * event_log_reader.MOST_AT_ONCE
    look(library)
    (incident,) = all_incidents(library)
    assert incident.times == 2_000
    assert hook.titles == [DIFFERS]


def test_a_failed_run_is_reported_with_its_step_and_error_and_ends_with_the_next_success(
    library: Location, hook: Webhook
) -> None:
    library.execute("ALTER TABLE media.daily_contributions RENAME TO elsewhere")
    ran = library.hourly()
    rebuilt = library.rebuild("2025-06-01", "2025-06-01", "daily_contributions")
    assert not ran.succeeded
    look(library)
    found = {i.subject: i for i in all_incidents(library) if i.kind == "run"}
    by_hand = "materialize media.daily_contributions (2025-06-01)"
    assert set(found) == {"media_hourly", by_hand}
    hourly = found["media_hourly"]
    assert hourly.what.startswith("the step media__daily_contributions failed: ")
    assert hourly.details["run"] == ran.run_id
    assert found[by_hand].details["run"] == rebuilt.run_id
    assert "media_hourly: a run failed" in hook.titles

    library.execute("ALTER TABLE media.elsewhere RENAME TO daily_contributions")
    assert library.hourly().succeeded
    look(library)
    assert {i.subject: i.resolved_by for i in all_incidents(library) if i.kind == "run"} == {
        "media_hourly": "a run of media_hourly",
        # The renaming made the tally stale, so the run rebuilt all of its days.
        by_hand: "a run of media_hourly",
    }
    assert "media_hourly: recovered (a run failed)" in hook.titles


def test_a_run_of_one_asset_does_not_repair_what_failed_for_all(library: Location) -> None:
    library.execute("ALTER TABLE media.daily_contributions RENAME TO elsewhere")
    library.hourly()
    library.execute("ALTER TABLE media.elsewhere RENAME TO daily_contributions")
    assert library.rebuild("2025-06-01", "2025-06-01", "daily_contributions").succeeded
    look(library)
    (failed,) = [i for i in all_incidents(library) if i.kind == "run"]
    assert failed.is_open


def test_a_failed_rebuild_of_days_ends_when_all_of_them_are_rebuilt_or_the_audit_finds_them_right(
    library: Location,
) -> None:
    ranges = (("2025-05-01", "2025-05-31"), ("2025-06-01", "2025-06-30"))
    # Claimed, or the renaming made the tally stale and the next run rebuilt all of its days.
    library.execute(CLAIM_WRITING, "ALTER TABLE media.daily_contributions RENAME TO elsewhere")
    for first, last in ranges:
        assert not library.rebuild(first, last, "daily_contributions").succeeded
    library.execute(CLAIM_WRITING, "ALTER TABLE media.elsewhere RENAME TO daily_contributions")
    name = "materialize media.daily_contributions ({} to {})"
    may, june = (name.format(*days) for days in ranges)

    def resolved() -> dict[str, str | None]:
        look(library)
        return {i.subject: i.resolved_by for i in all_incidents(library) if i.kind == "run"}

    assert library.hourly().succeeded
    assert library.rebuild("2025-05-02", "2025-06-30", "daily_contributions").succeeded
    covering = f"a run of {name.format('2025-05-02', '2025-06-30')}"
    assert resolved() == {may: None, june: covering}
    library.execute(CLAIM_WRITING, BREAK)
    assert library.audit().succeeded
    assert resolved() == {may: None, june: covering}, "the audit found that something differs"
    library.execute(CLAIM_WRITING, REPAIR)
    assert library.audit().succeeded
    assert resolved() == {may: "a run of audit", june: covering}


def test_a_repair_that_broke_off_is_no_matter_once_its_incident_is_resolved(
    library: Location,
) -> None:
    library.execute(CLAIM_WRITING, BREAK)
    library.audit()
    (request,) = look(library).run_requests or ()
    library.execute("ALTER TABLE media.daily_contributions RENAME TO elsewhere")
    assert not library.run("repair", request.run_config, tags=request.tags).succeeded
    look(library)
    assert {i.subject for i in all_incidents(library) if i.is_open} == {
        "media.daily_contributions",
        "repair",
    }
    library.execute("ALTER TABLE media.elsewhere RENAME TO daily_contributions")
    evaluated(library, "daily_contributions", "matches_source", passed=True)
    look(library)
    assert not any(incident.is_open for incident in all_incidents(library))


def test_without_addresses_incidents_are_written_down_all_the_same(
    library: Location, hook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TALLY_ALERT_URLS")
    evaluated(library, "daily_contributions", "matches_source", passed=False)
    look(library)
    assert len(all_incidents(library)) == 1
    assert hook.received == []


def test_a_malformed_address_stops_the_look_and_is_not_shown(
    library: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TALLY_ALERT_URLS", "nonsense-with-a-secret")
    with pytest.raises(SettingError, match="TALLY_ALERT_URLS") as error:
        look(library)
    assert "secret" not in str(error.value)


def test_a_database_without_tallies_is_passed_over(unmigrated: Location) -> None:
    assert "run `tally migrate`" in str(look(unmigrated).skip_message)


def test_of_two_looks_at_once_one_gives_way(quiet: Location) -> None:
    with quiet.engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('tallykeeper alerts'))"))
        assert look(quiet).skip_message == "another look is under way"


def test_that_the_database_is_unreachable_is_reported_once_and_so_is_its_return(
    library: Location, hook: Webhook
) -> None:
    nowhere = Database(url="postgresql://nobody:secret-1@127.0.0.1:1/nothing")
    cursor: str | None = look(library).cursor
    for _ in range(3):
        tick = look(library, cursor, nowhere)
        assert "the database is not reachable" in str(tick.skip_message)
        cursor = tick.cursor
    assert hook.titles == ["tallykeeper: the database is not reachable"]
    assert "127.0.0.1:1" in hook.received[0]["body"]
    assert "secret-1" not in f"{hook.received}{cursor}{tick.skip_message}"
    cursor = look(library, cursor).cursor
    assert hook.titles[1:] == ["tallykeeper: recovered (the database is reachable again)"]
    assert not Memory.of(cursor).notified_unreachable


def warn(location: Location, said: str) -> dg.AssetCheckEvaluation:
    """A warning of a check of the daily contributions."""
    warning = dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey(["media", "daily_contributions"]),
        check_name="fresh",
        passed=False,
        severity=dg.AssetCheckSeverity.WARN,
        description=said,
    )
    location.instance.report_runless_asset_event(warning)
    return warning


def test_a_warning_that_says_what_is_expected_is_no_incident(
    library: Location, request: pytest.FixtureRequest
) -> None:
    request.addfinalizer(
        lambda: library.instance.run_storage.set_cursor_values({expected_warnings.STORED_AS: "{}"})
    )
    expected_warnings.expect(library.instance, [warn(library, "25 items are left out")])
    look(library)
    assert all_incidents(library) == []
    warn(library, "26 items are left out")
    look(library)
    (incident,) = all_incidents(library)
    assert incident.what == "26 items are left out"
