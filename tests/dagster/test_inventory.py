"""The standing inventory: each thing that it looks for is found, counted, and has its remedy."""

from __future__ import annotations

from typing import Any

import dagster as dg
import pytest
from sqlalchemy import Engine

from assets.gallery.tallies import content_tags
from assets.gallery.tallies import system as gallery
from tallykeeper.catalog import state
from tallykeeper.dagster.code_location import assets_of
from tallykeeper.dagster.partitions import daily
from tallykeeper.faults import incidents
from tallykeeper.installation.migrate import migrate
from tallykeeper.maintain.backfill import lock
from tests.dagster.location import Location

DAILY = "media.daily_contributions"


@pytest.fixture
def library(location: Location) -> Location:
    """A file, and all tallies built."""
    location.add("2025-06-01 12:00Z")
    location.build()
    return location


def taken(location: Location) -> dg.AssetCheckEvaluation:
    """What the hourly inventory finds."""
    ran = location.run("inventory")
    assert ran.succeeded
    return ran.checked("incidents", "inventory", "tallykeeper")


def shown(evaluation: dg.AssetCheckEvaluation) -> dict[str, Any]:
    """The numbers in its metadata."""
    return {k: v.value for k, v in evaluation.metadata.items() if isinstance(v.value, int)}


def sample(evaluation: dg.AssetCheckEvaluation, kind: str) -> list[tuple[object, ...]]:
    """What it shows of one kind: what, why, what repairs it."""
    table = evaluation.metadata[f"{kind}_sample"]
    assert isinstance(table, dg.TableMetadataValue)
    return [(r.data["what"], r.data["why"], r.data["to_resolve"]) for r in table.records]


def numbers(**found: int) -> dict[str, int]:
    """The metadata of an inventory that finds so many of each, and nothing else."""
    nothing = dict.fromkeys(
        ("tallies_unbuilt", "capture_missing", "backfills_stuck", "incidents_open", "news"), 0
    )
    return nothing | found


def report(location: Location, subject: str, kind: str) -> None:
    """An incident is opened."""
    with location.engine.begin() as connection:
        incidents.report(
            connection, subject, kind, "it is wrong", details={"to_resolve": "repair it"}
        )


def test_where_all_is_well_nothing_is_found(library: Location) -> None:
    found = taken(library)
    assert (found.passed, shown(found)) == (True, numbers())


def test_a_source_is_observed_when_it_was_written(library: Location) -> None:
    now = "SELECT pg_stat_force_next_flush()"  # Sessions report what they wrote when they are idle.
    add = (
        "INSERT INTO media.media_files (path, original_created_at)"
        " VALUES (gen_random_uuid(), now())"
    )
    library.execute("ANALYZE media.media_files", now, add)
    before, *more = _observed(library)
    assert (before["rows_estimated"], more) == (1, [])
    assert _observed(library) == [], "nothing was written since"
    library.execute(now, add, add)
    (after,) = _observed(library)
    assert after["rows_written"] == before["rows_written"] + 2


def _observed(library: Location) -> list[dict[str, Any]]:
    return [metadata for _, metadata in library.run("inventory").observed("media_files")]


def test_a_tally_that_waits_for_long_to_be_built_is_found(library: Location) -> None:
    with library.engine.begin() as connection:
        state.mark_stale(connection, library.built[0].system.tallies[0], "never built")
    assert taken(library).passed, "the next hour builds it"
    library.execute("UPDATE tallykeeper.stale_marks SET marked_at = now() - interval '3 hours'")
    found = taken(library)
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert shown(found) == numbers(tallies_unbuilt=1, news=1)
    assert sample(found, "tallies_unbuilt") == [(DAILY, "never built", f"tally refresh {DAILY}")]
    assert found.description == (
        f"Tallies unbuilt: 1. The first is {DAILY}, never built; `tally refresh {DAILY}`."
    )


def test_a_declaration_that_no_refresh_has_seen_for_long_is_found(library: Location) -> None:
    library.execute(
        f"UPDATE tallykeeper.tally_state SET declaration_hash = 'other' WHERE tally = '{DAILY}'"
    )
    assert taken(library).passed
    library.execute("UPDATE tallykeeper.tally_state SET refreshed_at = now() - interval '3 hours'")
    assert sample(taken(library), "tallies_unbuilt") == [
        (DAILY, "its declaration changed", f"tally refresh {DAILY}")
    ]


def test_a_system_with_its_sources_and_without_its_tallies_is_found(unmigrated: Location) -> None:
    assert taken(unmigrated).passed, "a system that is not in the database is passed over"
    unmigrated.execute("CREATE SCHEMA media", "CREATE TABLE media.media_files (id bigint)")
    found = taken(unmigrated)
    assert shown(found) == numbers(tallies_unbuilt=2, news=2)
    assert sample(found, "tallies_unbuilt")[0] == (DAILY, "not installed", "tally migrate")


def test_a_source_without_capture_is_found_once_for_all_its_tallies(library: Location) -> None:
    library.execute("DROP TRIGGER tallykeeper_delete ON media.media_files")
    found = taken(library)
    assert shown(found) == numbers(capture_missing=1, news=1)
    assert sample(found, "capture_missing")[0][:2] == (
        "media.media_files",
        "the delete trigger is missing",
    )
    report(library, DAILY, "capture")
    assert shown(taken(library)) == numbers(capture_missing=1, incidents_open=1), "no news"


def test_an_open_incident_is_found_and_is_no_news(library: Location) -> None:
    report(library, DAILY, "differs")
    found = taken(library)
    assert (found.passed, shown(found)) == (False, numbers(incidents_open=1))
    assert sample(found, "incidents_open") == [(DAILY, "it is wrong", "repair it")]
    with library.engine.begin() as connection:
        incidents.resolve(connection, DAILY, "differs", "verify")
    assert taken(library).passed


@pytest.mark.parametrize("subject", ["tallykeeper.incidents", "prefix.tallykeeper.incidents"])
def test_the_inventory_does_not_find_itself(library: Location, subject: str) -> None:
    report(library, subject, "inventory")
    assert taken(library).passed


def test_ten_are_shown_and_all_are_counted(library: Location) -> None:
    for number in range(12):
        report(library, f"job {number}", "run")
    found = taken(library)
    assert shown(found) == numbers(incidents_open=12)
    assert len(sample(found, "incidents_open")) == 10


def test_a_backfill_that_nobody_goes_on_with_is_found(
    instance: dg.DagsterInstance, engine: Engine
) -> None:
    migrate(engine, [gallery], with_sources=True)
    items = Location(instance, engine, [assets_of(gallery, daily())])
    items.build()
    assert taken(items).passed
    items.execute(
        "UPDATE tallykeeper.backfills SET finished_at = NULL, items_done = 5, items_total = 9,"
        " updated_at = now() - interval '50 minutes' WHERE lane = 'auto'"
    )
    assert taken(items).passed, "it may have been interrupted a moment ago"
    items.execute("UPDATE tallykeeper.backfills SET updated_at = now() - interval '61 minutes'")
    found = taken(items)
    assert shown(found) == numbers(backfills_stuck=1, news=1)
    assert sample(found, "backfills_stuck") == [
        (
            "gallery.content_tags, auto",
            "5 of 9 items done",
            "tally backfill gallery.content_tags",
        )
    ]
    with lock.alone(engine, content_tags, lambda *_: AssertionError("held")):
        assert taken(items).passed, "somebody is at it"


def test_every_hour_it_is_taken_and_with_the_audit(library: Location) -> None:
    assert isinstance(library.tick("inventory").run_requests[0], dg.RunRequest)
    assert library.audit().checked("incidents", "inventory", "tallykeeper").passed


def test_where_nothing_is_kept_it_is_not_taken(unmigrated: Location) -> None:
    tick = unmigrated.tick("inventory")
    assert not tick.run_requests
    assert "media is not kept here" in tick.skip_message
