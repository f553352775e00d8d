"""The gallery in Dagster: hourly runs, backfills by lane with progress, checks that turn red."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import dagster as dg
import pytest
from sqlalchemy import Engine

import tallykeeper
from assets.gallery.tallies import content_tags, system
from tallykeeper import Progress
from tallykeeper.dagster.code_location import assets_of
from tallykeeper.dagster.partitions import daily
from tallykeeper.database.sql import CLAIM_WRITING
from tests.dagster.location import Location, Metadata
from tests.templates import migrated

LANES = ("regular", "auto")
TABLES = tuple(tally.table.name for tally in system.tallies)
ITEMS, TAGS = 300, 40
# The package has a function of that name.
ENGINE = import_module("tallykeeper.maintain.backfill.run")


def shown(evaluation: dg.AssetCheckEvaluation) -> Metadata:
    """The metadata of a check's evaluation, as plain values."""
    return {key: value.value for key, value in evaluation.metadata.items()}


def records(evaluation: dg.AssetCheckEvaluation, name: str = "keys") -> list[dict[str, object]]:
    """A table in a check's metadata."""
    table = evaluation.metadata[name]
    assert isinstance(table, dg.TableMetadataValue)
    return [dict(record.data) for record in table.records]


@pytest.fixture
def gallery(instance: dg.DagsterInstance, engine: Engine) -> Location:
    """Users, tags, and as many items of either source; nothing was ever built."""
    migrated(engine, system)
    location = Location(instance, engine, [assets_of(system, daily())])
    location.execute(
        "INSERT INTO gallery.users (username) SELECT 'u' || n FROM generate_series(1, 5) AS n",
        f"INSERT INTO gallery.tags (name) SELECT 't' || n FROM generate_series(1, {TAGS}) AS n",
        *(_items(name, ITEMS) for name in ("content_items", "content_items_auto")),
    )
    return location


@pytest.fixture
def built(gallery: Location) -> Location:
    gallery.build()
    return gallery


@pytest.fixture
def every_batch_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small batches, each reported."""
    monkeypatch.setattr("tallykeeper.dagster.lanes.TELL_EVERY_SECONDS", 0)
    monkeypatch.setattr(ENGINE, "FIRST_ROWS", 100)
    monkeypatch.setattr(ENGINE, "MOST_ROWS", 100)


def test_only_the_junction_has_partitions_and_they_are_its_lanes(gallery: Location) -> None:
    graph = gallery.definitions.resolve_asset_graph()
    partitions = {
        key.path[-1]: graph.get(key).partitions_def for key in graph.materializable_asset_keys
    }
    assert partitions.pop("content_tags") == dg.StaticPartitionsDefinition(list(LANES))
    assert set(partitions.values()) == {None}
    parents = graph.get(dg.AssetKey(["gallery", "tag_cardinality_stats"])).parent_keys
    assert parents == {dg.AssetKey(["gallery", "content_tags"])}


def test_the_first_hourly_run_builds_everything_and_all_checks_pass(gallery: Location) -> None:
    (request,) = gallery.tick("gallery_hourly").run_requests
    assert request.partition_key is None
    ran = gallery.run("gallery_hourly", request.run_config)
    assert ran.succeeded
    assert ran.failures() == []
    for table in TABLES:
        done = ran.materialized(table, "gallery")[None]
        assert done["reason"].startswith("rebuild: never built")
    junction = ran.materialized("content_tags", "gallery")
    assert set(junction) == {None, *LANES}
    assert junction[None]["dagster/row_count"] == 2 * ITEMS * 3
    assert junction[None]["left_out_items"] == 0
    assert {lane for lane, _ in ran.observed("content_tags", "gallery")} == set(LANES)
    assert gallery.audit().failures() == []


def test_the_hourly_run_refreshes_in_the_order_of_the_lineage(built: Location) -> None:
    built.execute(
        "UPDATE gallery.content_items SET tags = tags[2:] WHERE id <= 10",
        "DELETE FROM gallery.tags WHERE name = 't1'",
    )
    ran = built.hourly("gallery")
    assert ran.succeeded
    assert ran.failures() == ["nothing_left_out of content_tags"], "the array still names the tag"
    counted = ran.materialized("tag_cardinality_stats", "gallery")[None]
    assert counted["pending_consumed"] > 0, "it takes what the junction's refresh has just changed"
    assert tallykeeper.status(built.engine, system.tallies[-1]).pending == 0


def test_the_schedule_runs_by_default_and_the_sensor_watches(built: Location) -> None:
    schedule = built.definitions.resolve_schedule_def("gallery_hourly")
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING
    assert not built.look("pending_pressure").run_requests


def test_many_pending_changes_ask_for_a_refresh_without_a_partition(
    built: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TALLY_PRESSURE_ROWS", "3")
    built.execute("UPDATE gallery.content_items SET tags = '{}' WHERE id < 9")
    (request,) = built.look("pending_pressure").run_requests
    assert (request.job_name, request.partition_key) == ("gallery_hourly", None)


@pytest.mark.usefixtures("every_batch_is_reported")
def test_a_backfill_tells_of_its_progress_while_it_goes_on(gallery: Location) -> None:
    ran = gallery.backfill("content_tags", *LANES)
    assert ran.succeeded
    observed = ran.observed("content_tags", "gallery")
    assert len(observed) > 4
    assert [lane for lane, _ in observed if lane] == sorted(
        (lane for lane, _ in observed if lane), key=LANES.index
    )
    percents = [m["percent"] for _, m in observed]
    assert percents == sorted(percents)
    assert (percents[0] < 100, percents[-1]) == (True, 100)
    last = observed[-1][1]
    assert (last["items_done"], last["items_total"]) == (2 * ITEMS, 2 * ITEMS)
    assert last["rows"] == 2 * ITEMS * 3
    assert last["rows_per_second"] > 0
    assert "regular: " in ran.logged()
    assert "rows/s" in ran.logged()
    found = ran.materialized("content_tags", "gallery")
    assert set(found) == set(LANES)
    assert found["auto"]["dagster/row_count"] == 2 * ITEMS * 3
    assert found["regular"]["reason"] == "backfill of regular, auto (never built)"
    assert ran.failures() == []
    built = tallykeeper.status(gallery.engine, content_tags)
    assert built.stale == ()


def test_one_lane_is_built_alone_and_the_other_is_left(built: Location) -> None:
    built.execute(
        CLAIM_WRITING,
        "DELETE FROM gallery.content_tags WHERE content_id = 3 AND content_source = 'regular'",
        "DELETE FROM gallery.content_tags WHERE content_id = 4 AND content_source = 'auto'",
    )
    ran = built.backfill("content_tags", "regular")
    found = ran.materialized("content_tags", "gallery")
    assert set(found) == {"regular"}
    assert found["regular"]["keys_changed"] == 3
    failed = built.audit().checked("content_tags", "matches_source", "gallery")
    assert {str(r["content_source"]) for r in records(failed)} == {"auto"}


def test_a_materialization_without_partitions_takes_what_is_pending(built: Location) -> None:
    key = dg.AssetKey(["gallery", "content_tags"])
    built.execute("DELETE FROM gallery.content_items WHERE id = 1")
    ran = built.run("__ASSET_JOB", asset_selection=[key])
    assert ran.succeeded
    assert ran.materialized("content_tags", "gallery")[None]["pending_consumed"] == 1


@pytest.fixture
def while_backfilling(gallery: Location, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Calls a function in the middle of a backfill, which then goes on to its end."""
    monkeypatch.setattr(ENGINE, "FIRST_ROWS", 300)
    monkeypatch.setattr(ENGINE, "MOST_ROWS", 300)

    def call(act: Callable[[], Any]) -> Any:
        came: list[Any] = []

        def on_progress(_: Progress) -> None:
            if not came:
                came.append(act())

        tallykeeper.backfill(gallery.engine, content_tags, on_progress=on_progress)
        return came[0]

    return call


def test_an_hourly_run_during_the_first_backfill_is_green_and_says_why_it_did_nothing(
    gallery: Location, while_backfilling: Callable[..., Any]
) -> None:
    ran = while_backfilling(lambda: gallery.hourly("gallery"))
    assert ran.succeeded
    found = ran.materialized("content_tags", "gallery")
    assert set(found) == {None}, "no lane counts as materialized"
    reason = found[None]["reason"]
    assert reason.startswith("skipped: a backfill is running, ")
    assert 0 < int(reason.split()[-2]) < 100
    assert "is being backfilled" in found[None]["backfill"]
    assert ran.materialized("gen_source_stats", "gallery")[None]["reason"].startswith("rebuild")
    assert gallery.hourly("gallery").failures() == []
    assert gallery.audit().failures() == []


def test_an_hourly_run_during_a_later_backfill_takes_what_is_pending(
    built: Location, while_backfilling: Callable[..., Any]
) -> None:
    built.execute("UPDATE gallery.content_items SET tags = tags[2:] WHERE id = 1")
    ran = while_backfilling(lambda: built.hourly("gallery"))
    assert ran.failures() == []
    assert ran.materialized("content_tags", "gallery")[None]["pending_consumed"] == 1
    assert built.audit().failures() == []


def test_a_second_backfill_is_refused_with_how_far_the_first_is(
    gallery: Location, while_backfilling: Callable[..., Any]
) -> None:
    ran = while_backfilling(lambda: gallery.backfill("content_tags", *LANES))
    assert not ran.succeeded
    assert "gallery.content_tags is being backfilled" in ran.error()
    assert f"of {2 * ITEMS} items done" in ran.error()
    retried = ran.instance.all_logs(ran.run_id, of_type=dg.DagsterEventType.STEP_UP_FOR_RETRY)
    assert retried == []


@pytest.mark.parametrize(
    ("fault", "table", "key"),
    [
        (
            "DELETE FROM gallery.content_tags WHERE content_id = 7 AND content_source = 'auto'"
            " AND tag_id = (SELECT tags[1] FROM gallery.content_items_auto WHERE id = 7)",
            "content_tags",
            {"content_id": "7", "content_source": "auto", "row (stored)": "no row"},
        ),
        (
            "UPDATE gallery.gen_source_stats SET count = count + 5"
            " WHERE user_id IS NULL AND source_type = 'auto'",
            "gen_source_stats",
            {
                "user_id": "null",
                "source_type": "auto",
                "count (stored)": str(ITEMS + 5),
                "count (expected)": str(ITEMS),
            },
        ),
        (
            "DELETE FROM gallery.tag_cardinality_stats WHERE content_source = 'regular'"
            " AND tag_id = (SELECT id FROM gallery.tags WHERE name = 't3')",
            "tag_cardinality_stats",
            {"content_source": "regular", "cardinality (stored)": "no row"},
        ),
        (
            "INSERT INTO gallery.content_tags_left_out VALUES (9, 'auto', '{}', 2, now())",
            "content_tags_left_out",
            {"content_id": "9", "content_source": "auto", "null_elements (stored)": "2"},
        ),
    ],
)
def test_a_fault_by_hand_turns_its_check_red_which_names_the_key_and_a_rebuild_repairs_it(
    built: Location, fault: str, table: str, key: dict[str, str]
) -> None:
    assert built.audit().failures() == []
    # Capture on the junction would tell its counts of the deletion.
    built.execute("SET session_replication_role = replica", CLAIM_WRITING, fault)
    ran = built.audit()
    assert ran.succeeded, "the checks do not block"
    failed = ran.checked(table, "matches_source", "gallery")
    assert f"matches_source of {table}" in ran.failures()
    assert failed.severity is dg.AssetCheckSeverity.ERROR
    (record,) = records(failed)
    assert key.items() <= record.items()
    assert shown(failed)["to_resolve"] == f"tally rebuild gallery.{table}"

    if table == "content_tags":
        resolved = built.backfill(table, *LANES)
    else:
        resolved = built.run(
            "gallery_hourly",
            {"ops": {f"gallery__{table}": {"config": {"rebuild": True}}}},
        )
    assert resolved.failures() == []
    assert built.audit().failures() == []


def test_ids_without_a_tag_and_nulls_warn_with_count_and_sample(built: Location) -> None:
    unknown = "00000000-0000-0000-0000-00000000abcd"
    built.execute(
        f"UPDATE gallery.content_items SET tags = tags || '{unknown}'::uuid WHERE id <= 30",
        "UPDATE gallery.content_items_auto SET tags = tags || '{NULL,NULL}'::uuid[] WHERE id = 8",
    )
    ran = built.hourly("gallery")
    assert ran.succeeded
    assert ran.failures() == ["nothing_left_out of content_tags"]
    failed = ran.checked("content_tags", "nothing_left_out", "gallery")
    assert failed.severity is dg.AssetCheckSeverity.WARN
    assert failed.description is not None
    assert failed.description.startswith(
        "31 items with 1 unknown id and 2 null elements in their tags"
    )
    sample = records(failed, "left_out_sample")
    assert len(sample) == 20
    assert sample[0] == {
        "item": 1,
        "source": "regular",
        "unknown ids": unknown,
        "null elements": 0,
    }
    counts = {
        "left_out_items": 31,
        "left_out_unknown_ids": 1,
        "left_out_null_elements": 2,
    }
    assert counts.items() <= shown(failed).items()
    done = ran.materialized("content_tags", "gallery")[None]
    assert counts.items() <= done.items()
    assert len(done["left_out_sample"].records) == 20

    built.execute(
        f"INSERT INTO gallery.tags (id, name) VALUES ('{unknown}', 'late')",
        "UPDATE gallery.content_items_auto SET tags = array_remove(tags, NULL) WHERE id = 8",
    )
    ran = built.hourly("gallery")
    assert ran.failures() == []
    assert ran.materialized("content_tags", "gallery")[None]["keys_changed"] == 30


def _items(table: str, count: int) -> str:
    return (
        f"INSERT INTO gallery.{table} (creator_id, tags)"
        " SELECT (SELECT id FROM gallery.users WHERE username = 'u' || 1 + n % 5),"
        " (SELECT array_agg(id) FROM gallery.tags"
        f"  WHERE name IN ('t' || 1 + n % {TAGS}, 't' || 1 + (n + 7) % {TAGS},"
        f"   't' || 1 + (n + 20) % {TAGS}))"
        f" FROM generate_series(1, {count}) AS n"
    )


@pytest.mark.parametrize(
    "goes", ["ALTER TABLE gallery.tags RENAME TO labels", "DROP TABLE gallery.tags CASCADE"]
)
def test_a_tally_that_is_left_out_keeps_no_run_from_succeeding(built: Location, goes: str) -> None:
    built.execute(goes)
    why = "left out: gallery.tags is not in the database"
    ran = built.hourly("gallery")
    assert ran.succeeded
    assert ran.failures() == []
    for table in ("content_tags", "content_tags_left_out", "tag_cardinality_stats"):
        assert ran.materialized(table, "gallery") == {}
        # Dagster skips the step of a table that counts one which was not materialized.
        said = [] if table == "tag_cardinality_stats" else [(None, {"reason": why})]
        assert ran.observed(table, "gallery") == said
    assert ran.materialized("gen_source_stats", "gallery")
    assert ran.checked("gen_source_stats", "matches_source", "gallery").passed

    audited = built.audit()
    assert audited.succeeded
    assert audited.failures() == ["inventory of incidents"]
    for check in ("matches_source", "capture_intact", "fresh", "nothing_left_out"):
        found = audited.checked("content_tags", check, "gallery")
        assert found.description == f"Nothing was compared: gallery.content_tags is {why}."
        assert shown(found) == {"reason": why}
    named = audited.checked("incidents", "inventory", "tallykeeper")
    assert shown(named)["tallies_unbuilt"] == 1
    assert why in (named.description or "")
    assert shown(audited.checked("gen_source_stats", "matches_source", "gallery"))["compared"]
