"""Repair of what a failed check named: requested once per evaluation, so often a day, reported."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pytest
from sqlalchemy import Engine

from assets.gallery.tallies import content_tags
from assets.gallery.tallies import system as gallery
from assets.media.tallies import system as media
from tallykeeper import Difference, Incident, Tally, Verification
from tallykeeper.dagster.automation.repair_requests import doing, repair_requests
from tallykeeper.dagster.code_location import assets_of
from tallykeeper.dagster.inventory import incidents_key
from tallykeeper.dagster.partitions import daily
from tallykeeper.database.sql import CLAIM_WRITING
from tallykeeper.faults import incidents
from tallykeeper.installation.migrate import migrate
from tallykeeper.operations.differences import repair_of
from tests.dagster.location import Location, Ran
from tests.dagster.watching import all_incidents, look

NAME = "media.daily_contributions"
ONE_DAY = {
    "tally": NAME,
    "days": [["2025-06-02", "2025-06-02"]],
    "keys": None,
    "everything": False,
}


@pytest.fixture
def library(location: Location) -> Location:
    """Twelve files on twelve days, and all tallies built."""
    location.add(*(f"2025-06-{day:02} 12:00Z" for day in range(1, 13)))
    location.build()
    return location


def found(library: Location, evaluation: str, **other: Any) -> None:
    """What the sensor writes down when it hears of a failed evaluation."""
    details = {"evaluation": evaluation, "repair": ONE_DAY, "to_resolve": f"tally rebuild {NAME}"}
    with library.engine.begin() as connection:
        incidents.report(connection, NAME, "differs", "1 key", details=details | other)


def requests(library: Location) -> list[dg.RunRequest]:
    """What the sensor asks for."""
    with library.engine.begin() as connection:
        return repair_requests(library.instance, connection, {NAME})


def repair_in(failed: dg.AssetCheckEvaluation) -> dict[str, Any]:
    """What a failed check says is to be rebuilt."""
    value = failed.metadata[incidents.REPAIR].value
    assert isinstance(value, dict)
    return value


def incident(library: Location) -> Incident:
    """The open incident."""
    with library.engine.begin() as connection:
        (only,) = incidents.listed(connection, open_only=True)
    return only


def resolve(library: Location) -> None:
    """What the sensor writes down when the check passes again."""
    with library.engine.begin() as connection:
        assert incidents.resolve(connection, NAME, "differs", "matches_source")


@pytest.mark.parametrize(
    ("statement", "days"),
    [
        ("UPDATE media.daily_contributions SET count = 7 WHERE date = '2025-06-02Z'", ["02", "02"]),
        ("DELETE FROM media.daily_contributions WHERE date > '2025-06-10Z'", ["11", "12"]),
    ],
)
def test_a_failed_check_says_what_a_repair_has_to_rebuild(
    library: Location, statement: str, days: list[str]
) -> None:
    library.execute(CLAIM_WRITING, statement)
    failed = library.audit().checked("daily_contributions", "matches_source")
    assert repair_in(failed) == ONE_DAY | {"days": [[f"2025-06-{days[0]}", f"2025-06-{days[1]}"]]}


def test_a_repair_is_requested_once_for_each_evaluation(library: Location) -> None:
    found(library, "run 1")
    (request,) = requests(library)
    assert (request.job_name, request.run_config) == (
        "repair",
        {"ops": {"rebuild": {"config": ONE_DAY | {"incident": incident(library).id}}}},
    )
    assert requests(library) == []
    assert doing(incident(library)) == (
        f"A repair was requested: {NAME} is rebuilt on 2025-06-02; then it is checked again. It is"
        " repair 1 of this incident."
    )
    found(library, "run 2")
    (again,) = requests(library)
    assert again.run_key != request.run_key
    assert incident(library).repairs == 2


def test_a_tally_is_repaired_so_often_within_a_day_whatever_the_incident(
    library: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TALLY_REPAIRS_PER_DAY", "2")
    for number in range(2):
        found(library, f"run {number}")
        assert len(requests(library)) == 1
        resolve(library)
    found(library, "run 2")
    assert requests(library) == []
    assert doing(incident(library)) == (
        "It is not repaired again: the tally was repaired as often as TALLY_REPAIRS_PER_DAY allows"
        f" in 24 hours, and differs again. Find the cause; then run `tally rebuild {NAME}`."
    )
    library.execute(
        "UPDATE tallykeeper.incidents SET repair_requested_at = now() - interval '25 hours'"
        " WHERE repair_requested_at IS NOT NULL"
    )
    assert requests(library) == [], "that evaluation was answered"
    found(library, "run 3")
    assert len(requests(library)) == 1


def test_without_repairs_it_is_said_what_to_do_by_hand(
    library: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TALLY_REPAIRS_PER_DAY", "0")
    found(library, "run 1")
    assert requests(library) == []
    assert doing(incident(library)) == (
        f"Repairs are switched off (TALLY_REPAIRS_PER_DAY is 0): run `tally rebuild {NAME}`."
    )


def test_what_no_rebuild_can_repair_is_left_to_people(library: Location) -> None:
    with library.engine.begin() as connection:
        incidents.report(
            connection, NAME, "capture", "a trigger is off", details={"to_resolve": "tally migrate"}
        )
    assert requests(library) == []
    assert doing(incident(library)) == "Nothing is done by itself: run `tally migrate`."


def repaired(library: Location, request: dg.RunRequest) -> Ran:
    """The run that was requested, in process."""
    assert request.job_name is not None
    return library.run(request.job_name, request.run_config)


def test_a_repair_rebuilds_the_days_named_and_checks_again(library: Location) -> None:
    library.execute(
        CLAIM_WRITING, "UPDATE media.daily_contributions SET count = 7 WHERE date = '2025-06-02Z'"
    )
    failed = library.audit().checked("daily_contributions", "matches_source")
    found(library, "run 1", repair=repair_in(failed))
    (request,) = requests(library)
    ran = repaired(library, request)
    assert ran.succeeded
    touched = ran.materialized("daily_contributions")
    assert list(touched) == ["2025-06-02", None], "on its own day, and of the whole table"
    (resolved,) = all_incidents(library)
    assert not resolved.is_open
    assert touched["2025-06-02"]["reason"] == f"repair of incident {resolved.id}"
    assert touched["2025-06-02"]["keys_updated"] == 1
    shown = touched[None]
    assert (shown["keys_changed"], shown["dagster/row_count"]) == (1, 12)
    assert shown["incidents_open"] == 0, "the asset shows how it is now"
    assert shown["last_year"].startswith("![")
    for check in ("capture_intact", "fresh"):
        assert ran.checked("daily_contributions", check).passed
    again = ran.checked("daily_contributions", "matches_source")
    assert again.passed
    assert again.metadata["compared"].value == 1, "what differed"
    key = dg.AssetCheckKey(dg.AssetKey(["media", "daily_contributions"]), "matches_source")
    records = library.instance.event_log_storage.get_latest_asset_check_execution_by_key([key])
    assert records[key].run_id == ran.run_id, "the UI shows it as the latest"
    assert library.audit().failures() == []


def test_everything_is_rebuilt_where_not_all_that_differs_is_known(library: Location) -> None:
    library.execute(CLAIM_WRITING, "UPDATE media.daily_contributions SET count = 7")
    config = {"tally": NAME, "everything": True}
    ran = library.run("repair", {"ops": {"rebuild": {"config": config}}})
    assert len(ran.materialized("daily_contributions")) == 13
    last = ran.materialized("daily_contributions")[None]
    assert (last["reason"], last["keys_changed"]) == ("repair on request", 12)
    assert ran.checked("daily_contributions", "matches_source").passed


def test_days_beyond_the_calendar_are_rebuilt_by_open_windows(library: Location) -> None:
    library.add("2025-06-03 12:00:00Z BC")
    library.build()
    library.execute(
        CLAIM_WRITING, "DELETE FROM media.daily_contributions WHERE date < '0001-01-02Z'"
    )
    failed = library.audit().checked("daily_contributions", "matches_source")
    repair = repair_in(failed)
    assert repair["days"] == [["0001-01-01", "0001-01-01"]]
    ran = library.run("repair", {"ops": {"rebuild": {"config": repair}}})
    assert ran.checked("daily_contributions", "matches_source").passed


def test_with_broken_capture_a_repair_proves_nothing_and_says_what_to_do(library: Location) -> None:
    library.execute(
        # Otherwise the tally is stale at once, and there is nothing to compare.
        "ALTER EVENT TRIGGER tallykeeper_ddl DISABLE",
        "ALTER TABLE media.media_files DISABLE TRIGGER tallykeeper_delete",
        "DELETE FROM media.media_files WHERE original_created_at < '2025-06-02Z'",
    )
    failed = library.audit().checked("daily_contributions", "matches_source")
    repair = repair_in(failed)
    ran = library.run("repair", {"ops": {"rebuild": {"config": repair}}})
    again = ran.checked("daily_contributions", "matches_source")
    assert not again.passed
    assert again.description is not None
    assert again.description.endswith(
        "Its capture is broken (media.media_files: the delete trigger is disabled, or not enabled"
        " always): run `tally migrate`, or it will differ again."
    )


@pytest.mark.parametrize(
    ("config", "error"),
    [
        ({"tally": NAME}, "nothing was named to be computed anew"),
    ],
)
def test_a_repair_of_nothing_fails_and_says_so(
    location: Location, config: dict[str, object], error: str
) -> None:
    ran = location.run("repair", {"ops": {"rebuild": {"config": config}}})
    assert not ran.succeeded
    assert error in ran.error()


@pytest.mark.parametrize(
    "config",
    [
        {"tally": "media.nothing", "everything": True},
        {"tally": NAME, "evrything": True},
        {"tally": NAME, "days": ["2025-06-02"]},
    ],
)
def test_a_repair_that_is_mistyped_is_refused_before_it_runs(
    location: Location, config: dict[str, object]
) -> None:
    before = location.instance.get_runs_count(dg.RunsFilter(job_name="repair"))
    with pytest.raises(dg.DagsterInvalidConfigError):
        location.run("repair", {"ops": {"rebuild": {"config": config}}})
    assert location.instance.get_runs_count(dg.RunsFilter(job_name="repair")) == before


def test_a_repair_by_hand_that_fails_is_no_incident(library: Location) -> None:
    library.audit()
    look(library)
    config = {"tally": NAME, "days": [["2020-13-01", "2020-13-01"]]}
    assert not library.run("repair", {"ops": {"rebuild": {"config": config}}}).succeeded
    look(library)
    assert all_incidents(library) == []


def test_the_asset_of_the_incidents_lists_them(library: Location) -> None:
    library.audit()
    look(library)
    library.execute(
        CLAIM_WRITING, "UPDATE media.daily_contributions SET count = 7 WHERE date = '2025-06-02Z'"
    )
    library.audit()
    (request,) = look(library).run_requests or ()
    said = "1 key differs from the sources, on 2025-06-02."
    assert listed(library) == ("1", [(NAME, said, "not yet")])
    repaired(library, request)
    look(library)
    (_, [(_, _, resolved)]) = listed(library)
    assert resolved.endswith("(the check matches_source)")
    seen = library.instance.get_latest_materialization_event(incidents_key())
    look(library)
    assert library.instance.get_latest_materialization_event(incidents_key()) == seen, "no news"


def listed(library: Location) -> tuple[str, list[tuple[str, str, str]]]:
    """What the asset says last: how many are open, and of each subject, what, and when resolved."""
    event = library.instance.get_latest_materialization_event(incidents_key())
    assert event is not None
    assert event.asset_materialization is not None
    metadata = event.asset_materialization.metadata
    table = metadata["incidents"]
    assert isinstance(table, dg.TableMetadataValue)
    rows = [(r.data["subject"], r.data["what"], r.data["resolved"]) for r in table.records]
    return str(metadata["incidents_open"].value), [(str(a), str(b), str(c)) for a, b, c in rows]


def test_single_keys_of_a_tally_without_windows_are_repaired(
    instance: dg.DagsterInstance, engine: Engine
) -> None:
    migrate(engine, [gallery], with_sources=True)
    items = Location(instance, engine, [assets_of(gallery, daily())])
    items.execute(
        "INSERT INTO gallery.users (username) VALUES ('ann')",
        "INSERT INTO gallery.tags (name) VALUES ('a'), ('b')",
        "INSERT INTO gallery.content_items (creator_id, tags)"
        " SELECT u.id, ARRAY(SELECT id FROM gallery.tags) FROM gallery.users AS u",
    )
    items.build()
    items.execute(CLAIM_WRITING, "DELETE FROM gallery.content_tags")
    failed = items.audit().checked("content_tags", "matches_source", "gallery")
    repair = repair_in(failed)
    assert (len(repair["keys"]), repair["days"], repair["everything"]) == (2, None, False)
    ran = items.run("repair", {"ops": {"rebuild": {"config": repair}}})
    lanes = ran.materialized("content_tags", "gallery")
    assert {shown["reason"] for shown in lanes.values()} == {"repair on request"}
    assert ran.checked("content_tags", "nothing_left_out", "gallery").passed
    assert list(lanes.values())[-1]["keys_changed"] == 2
    assert ran.checked("content_tags", "matches_source", "gallery").passed


def test_materializations_tell_of_incidents_on_the_last_event_only(library: Location) -> None:
    library.add("2025-06-03 13:00Z")
    first = library.hourly().materialized("daily_contributions")
    assert "incidents_open" not in first["2025-06-03"], "of the whole table, not of a day"
    assert first[None]["incidents_open"] == 0
    assert "incidents" not in first[None]
    found(library, "run 1")
    resolve(library)
    found(library, "run 2")
    library.execute("UPDATE tallykeeper.incidents SET cause = 'a hand', differing = 1234")
    library.execute(
        "INSERT INTO tallykeeper.incidents (subject, kind, what, resolved_at, resolved_by) VALUES"
        f" ('{NAME}', 'differs', 'long ago', now() - interval '31 days', 'verify')"
    )
    shown = library.hourly().materialized("daily_contributions")[None]
    assert shown["incidents_open"] == 1
    assert [
        (r.data["what"], r.data["cause"], r.data["differing"], r.data["resolved"][-16:])
        for r in shown["incidents"].records
    ] == [
        ("1 key", "a hand", "1,234", "not yet"),
        ("1 key", "a hand", "1,234", "(matches_source)"),
    ]


def test_a_repair_that_is_under_way_is_waited_for(library: Location) -> None:
    found(library, "run 1")
    (request,) = requests(library)
    job = library.definitions.resolve_job_def("repair")
    run = library.instance.create_run_for_job(
        job, run_config=request.run_config, tags=dict(request.tags)
    )
    found(library, "run 2")
    assert requests(library) == []
    assert doing(incident(library)) == (
        "The next tick of the sensor decides whether a repair is started."
    )
    library.instance.report_run_canceled(run)
    assert len(requests(library)) == 1


def verification(tally: Tally, keys: int, shown: int, days: Sequence[str]) -> Verification:
    """One that found so many differing keys, and has so many of them to show."""
    shown_keys = tuple(Difference(None, {"n": n}, None, {}) for n in range(shown))
    now = datetime.now(UTC)
    return Verification(tally.name, True, 0, keys, shown_keys, tuple(days), (), now, 0.1)


def test_what_is_too_much_to_name_is_repaired_as_a_whole() -> None:
    days = [f"20{year:02}-01-01" for year in range(100)]
    by_days = verification(media.tallies[0], 5_000, 100, days)
    assert len(repair_of(media.tallies[0], by_days)["days"]) == 100
    by_days = verification(media.tallies[0], 5_000, 100, [*days, "2100-01-01"])
    assert repair_of(media.tallies[0], by_days)["everything"]
    by_keys = verification(content_tags, 1_000, 1_000, [])
    assert len(repair_of(content_tags, by_keys)["keys"]) == 1_000
    by_keys = verification(content_tags, 1_001, 1_000, [])
    assert repair_of(content_tags, by_keys) == {
        "tally": "gallery.content_tags",
        "days": None,
        "keys": None,
        "everything": True,
    }


@pytest.mark.parametrize(
    ("kind", "details", "said"),
    [
        ("run", {}, "Its next run does what this one left undone"),
        ("schedule", {}, "see that the daemon runs"),
        ("pending", {"to_resolve": "tally refresh x"}, "If none comes, run `tally refresh x`."),
        ("matches_log", {"to_resolve": {"replay": 1}}, "the metadata of what found it says what"),
        ("differs", {"evaluation": 1}, "Nothing is done by itself: the metadata"),
    ],
)
def test_what_is_done_about_anything_else_is_said_too(
    kind: str, details: dict[str, Any], said: str
) -> None:
    now = datetime.now(UTC)
    found = Incident(
        1, "x", kind, "it is wrong", None, None, details, now, now, 1, 0, None, None, None
    )
    assert said in doing(found)
