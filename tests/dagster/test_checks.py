"""The three checks: each passes where all is well, and fails where and as it should."""

from __future__ import annotations

import dagster as dg
import pytest

from assets.media.tallies import daily_contributions
from tallykeeper.dagster.code_location import assemble
from tallykeeper.dagster.database import Database
from tallykeeper.database.sql import CLAIM_WRITING
from tallykeeper.installation.migrate import migrate
from tallykeeper.operations.differences import repair_commands
from tests.dagster.location import Location, Metadata, days_ago

DAILY = dg.AssetKey(["media", "daily_contributions"])


@pytest.fixture
def library(location: Location) -> Location:
    """Twelve files on twelve days, and all tallies built."""
    location.add(*(f"2025-06-{day:02} 12:00Z" for day in range(1, 13)))
    location.build()
    return location


def shown(evaluation: dg.AssetCheckEvaluation) -> Metadata:
    """The metadata of a check's evaluation, as plain values."""
    return {key: value.value for key, value in evaluation.metadata.items()}


def records(evaluation: dg.AssetCheckEvaluation) -> list[dict[str, object]]:
    """The table of differing keys in a check's metadata."""
    table = evaluation.metadata["keys"]
    assert isinstance(table, dg.TableMetadataValue)
    return [dict(record.data) for record in table.records]


def test_all_checks_pass_after_a_refresh_and_in_the_audit(library: Location) -> None:
    library.add("2025-06-03 13:00Z")
    for ran in (library.hourly(), library.audit()):
        assert ran.succeeded
        assert ran.failures() == []


def test_after_a_refresh_the_touched_windows_are_compared(library: Location) -> None:
    library.add("2025-06-03 13:00Z")
    found = shown(library.hourly().checked("daily_contributions", "matches_source"))
    assert (found["scope"], found["compared"]) == ("touched windows", 1)


def test_the_audit_compares_everything(library: Location) -> None:
    found = shown(library.audit().checked("daily_contributions", "matches_source"))
    assert (found["scope"], found["compared"]) == ("everything", 12)


def test_a_check_that_is_executed_alone_compares_everything(library: Location) -> None:
    key = dg.AssetCheckKey(DAILY, "matches_source")
    definitions = library.definitions
    job = definitions.resolve_job_def("__ASSET_JOB").get_subset(
        asset_selection=frozenset(), asset_check_selection=frozenset({key})
    )
    result = job.execute_in_process(instance=library.instance)
    (evaluation,) = result.get_asset_check_evaluations()
    assert shown(evaluation)["scope"] == "everything"


def test_a_hand_edit_fails_the_audit_which_names_keys_values_and_the_remedy(
    library: Location,
) -> None:
    library.execute(
        CLAIM_WRITING,
        "UPDATE media.daily_contributions SET count = 7 WHERE date = '2025-06-02Z'",
        "DELETE FROM media.daily_contributions WHERE date = '2025-06-03Z'",
        "INSERT INTO media.daily_contributions (date, count) VALUES ('2025-08-01Z', 5)",
    )
    ran = library.audit()
    assert ran.succeeded, "the checks do not block"
    assert ran.failures() == ["matches_source of daily_contributions"]
    failed = ran.checked("daily_contributions", "matches_source")
    assert failed.severity is dg.AssetCheckSeverity.ERROR
    assert failed.description == (
        "3 keys differ from the sources, on 2025-06-02 to 2025-06-03, 2025-08-01."
    )
    assert records(failed) == [
        {"date": "2025-06-02T00:00:00+00:00", "count (stored)": "7", "count (expected)": "1"},
        {"date": "2025-06-03T00:00:00+00:00", "count (stored)": "no row", "count (expected)": "1"},
        {"date": "2025-08-01T00:00:00+00:00", "count (stored)": "5", "count (expected)": "no row"},
    ]
    found = shown(failed)
    assert found["differing"] == 3
    assert found["windows"] == "2025-06-02 to 2025-06-03, 2025-08-01"
    assert found["to_resolve"] == (
        "tally rebuild media.daily_contributions --from 2025-06-02 --to 2025-06-04"
        " && tally rebuild media.daily_contributions --from 2025-08-01 --to 2025-08-02"
    )


def test_a_key_in_quarantine_fails_the_check_which_names_key_value_and_reason(
    library: Location,
) -> None:
    library.execute("ALTER TABLE media.daily_contributions ADD CONSTRAINT few CHECK (count < 2)")
    library.add("2025-06-03 13:00Z", "2025-06-20 13:00Z")
    ran = library.hourly()
    assert ran.succeeded
    evaluation = ran.checked("daily_contributions", "matches_source")
    assert not evaluation.passed
    assert evaluation.severity is dg.AssetCheckSeverity.ERROR
    assert "1 key is in quarantine" in (evaluation.description or "")
    found = shown(evaluation)
    assert (found["quarantined"], found["differing"]) == (1, 0)
    assert "repair" not in found
    table = evaluation.metadata["quarantine"]
    assert isinstance(table, dg.TableMetadataValue)
    (record,) = [dict(each.data) for each in table.records]
    assert record["key"] == '{"date": "2025-06-03T00:00:00+00:00"}'
    assert record["value"] == '[{"count": 2}]'
    assert str(record["reason"]).startswith("23514: ")
    library.execute("ALTER TABLE media.daily_contributions DROP CONSTRAINT few")
    assert library.hourly().checked("daily_contributions", "matches_source").passed


def test_rebuilding_the_windows_named_repairs_it(library: Location) -> None:
    library.execute(
        CLAIM_WRITING, "UPDATE media.daily_contributions SET count = 7 WHERE date = '2025-06-02Z'"
    )
    assert library.audit().failures() == ["matches_source of daily_contributions"]
    assert library.rebuild("2025-06-02", "2025-06-02", "daily_contributions").failures() == []
    assert library.audit().failures() == []


def test_a_hundred_differing_keys_are_shown_and_all_are_counted(location: Location) -> None:
    location.add(*(f"{days_ago(n)} 12:00Z" for n in range(130)))
    location.build()
    location.execute(CLAIM_WRITING, "UPDATE media.daily_contributions SET count = 7")
    failed = location.audit().checked("daily_contributions", "matches_source")
    assert len(records(failed)) == 100
    assert shown(failed)["differing"] == 130


def test_many_scattered_windows_are_repaired_by_one_command() -> None:
    days = [f"2020-{month:02}-01" for month in range(1, 7)]
    assert repair_commands(daily_contributions, days) == ["tally rebuild media.daily_contributions"]


def test_windows_at_the_ends_of_time_are_repaired_by_open_ones() -> None:
    assert repair_commands(daily_contributions, ["0001-01-01", "9999-12-31"]) == [
        "tally rebuild media.daily_contributions --to 0001-01-02",
        "tally rebuild media.daily_contributions --from 9999-12-31",
    ]


def test_a_tally_that_was_never_built_is_a_warning_with_what_to_do(location: Location) -> None:
    failed = location.audit().checked("daily_contributions", "matches_source")
    assert not failed.passed
    assert failed.severity is dg.AssetCheckSeverity.WARN
    assert failed.description is not None
    assert failed.description.startswith("Nothing to compare yet: never built.")
    assert shown(failed)["to_resolve"] == "tally refresh media.daily_contributions"


def test_a_disabled_trigger_fails_capture_intact_until_a_migration_repairs_it(
    library: Location,
) -> None:
    library.execute("ALTER TABLE media.media_files DISABLE TRIGGER tallykeeper_update")
    ran = library.audit()
    assert ran.failures() == [
        "capture_intact of daily_contributions",
        "capture_intact of hourly_contributions",
        "inventory of incidents",
        # Both were marked stale by the command itself, so nothing is compared.
        "matches_source of daily_contributions",
        "matches_source of hourly_contributions",
    ]
    failed = ran.checked("daily_contributions", "capture_intact")
    assert failed.severity is dg.AssetCheckSeverity.ERROR
    found = shown(failed)
    assert found["faults"] == 1
    assert found["what"].startswith("media.media_files: the update trigger is disabled")
    assert found["to_resolve"] == "tally migrate && tally refresh media.daily_contributions"
    assert failed.description == (
        "media.media_files: the update trigger is disabled, or not enabled always. Changes may be"
        " missed: `tally migrate` repairs the capture, and `tally refresh"
        " media.daily_contributions` then rebuilds the tally."
    )

    library.execute("UPDATE media.media_files SET original_created_at = '2019-01-01Z'")
    assert "matches_source of daily_contributions" in library.audit().failures()
    migrate(library.engine, [library.built[0].system])
    assert library.hourly().failures() == []
    assert library.audit().failures() == []


def test_an_old_pending_change_fails_fresh(library: Location) -> None:
    library.add("2025-06-03 13:00Z")
    assert library.audit().failures() == []
    library.execute(
        CLAIM_WRITING,
        "UPDATE tallykeeper.media_daily_contributions_log"
        " SET logged_at = now() - interval '3 hours'",
    )
    ran = library.audit()
    assert ran.failures() == ["fresh of daily_contributions"]
    failed = ran.checked("daily_contributions", "fresh")
    assert failed.severity is dg.AssetCheckSeverity.WARN
    found = shown(failed)
    assert found["pending"] == 1
    assert 3 * 3600 <= found["age_seconds"] < 3 * 3600 + 60
    assert found["limit_seconds"] == 2 * 3600
    assert found["to_resolve"] == "tally refresh media.daily_contributions"
    assert library.hourly().failures() == []


def test_how_old_a_pending_change_may_be_is_a_setting(
    library: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.add("2025-06-03 13:00Z")
    library.execute(
        CLAIM_WRITING,
        "UPDATE tallykeeper.media_daily_contributions_log"
        " SET logged_at = now() - interval '3 hours'",
    )
    monkeypatch.setenv("TALLY_FRESH_SECONDS", str(4 * 3600))
    assert library.audit().failures() == []


def test_a_database_that_cannot_be_asked_is_an_error_and_no_failed_check(
    library: Location,
) -> None:
    nowhere = Database(url="postgresql://nobody@127.0.0.1:1/nothing")
    job = assemble(library.built, nowhere).resolve_job_def("audit")
    result = job.execute_in_process(instance=library.instance, raise_on_error=False)
    assert not result.success
    assert result.get_asset_check_evaluations() == []
