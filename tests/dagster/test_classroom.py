"""The classroom in Dagster: the hourly run, checks that turn red, a chart, a backfill of days."""

from __future__ import annotations

import base64
import io
import re
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import pytest
from PIL import Image
from sqlalchemy import Engine, text

import tallykeeper
from assets.classroom.activity_chart import (
    DAYS,
    Day,
    activity_chart_png,
    span_of,
    strip_markdown,
    title_of,
)
from assets.classroom.assets import activity
from assets.classroom.tallies import submission_daily_activity, system
from tallykeeper.dagster.code_location import assets_of
from tallykeeper.dagster.partitions import daily, today
from tallykeeper.database.sql import CLAIM_WRITING
from tests.dagster.location import Location, Metadata, days_ago
from tests.templates import migrated

NAME = "classroom"
TABLES = [tally.table.name for tally in system.tallies]
ACTIVITY = "submission_daily_activity"
EVENTS = ("File.Edit", "Run", "File.Edit", "Compile.Error", "File.Edit", "Submit", "File.Open")


@pytest.fixture
def classroom(instance: dg.DagsterInstance, engine: Engine) -> Location:
    """A course of ten, each with a submission worked on from the tenth day back to today."""
    migrated(engine, system)
    location = Location(instance, engine, [assets_of(system, daily())])
    location.execute(
        "INSERT INTO classroom.users (name) SELECT 'u' || n FROM generate_series(1, 10) AS n",
        "INSERT INTO classroom.courses (name) VALUES ('maps'), ('stars')",
        "INSERT INTO classroom.roles (user_id, course_id, name)"
        " SELECT id, 1, CASE WHEN id = 10 THEN 'instructor' ELSE 'student' END"
        " FROM classroom.users",
        "INSERT INTO classroom.assignments (course_id) VALUES (1), (2)",
        "INSERT INTO classroom.submissions (assignment_id, course_id, user_id)"
        " SELECT 1, 1, id FROM classroom.users WHERE id < 10",
    )
    for day in range(10):
        work(location, days_ago(day))
    return location


@pytest.fixture
def built(classroom: Location) -> Location:
    classroom.build()
    return classroom


def work(location: Location, day: str) -> None:
    """Each submission's seven events on a day, two seconds after one another from midnight on."""
    location.execute(
        "INSERT INTO classroom.submission_log (submission_id, assignment_id, course_id,"
        " subject_id, event_type, date_created) SELECT s.id, assignment_id, course_id, user_id,"
        f" e.name, '{day} 00:00Z'::timestamptz + 2 * e.n * interval '1 second'"
        f" FROM classroom.submissions AS s, unnest('{{{','.join(EVENTS)}}}'::text[])"
        " WITH ORDINALITY AS e (name, n) ORDER BY e.n"
    )


def scalar(location: Location, query: str) -> object:
    with location.engine.begin() as connection:
        return connection.execute(text(query)).scalar_one()


def records(evaluation: dg.AssetCheckEvaluation) -> list[dict[str, object]]:
    """The differing keys in a check's metadata."""
    table = evaluation.metadata["keys"]
    assert isinstance(table, dg.TableMetadataValue)
    return [dict(record.data) for record in table.records]


def shown(location: Location) -> str:
    """The chart as it is now, in Markdown."""
    return str(activity(location.engine, {})["activity_per_day"].value)


def drawn(metadata: Metadata, name: str) -> Image.Image:
    """The picture in the metadata."""
    markdown = metadata[name]
    found = re.fullmatch(r"!\[(.*)\]\(data:image/png;base64,(.*)\)", markdown)
    assert found
    return Image.open(io.BytesIO(base64.b64decode(found[2])))


def test_the_lineage_begins_at_the_sources_and_only_days_have_partitions(
    classroom: Location,
) -> None:
    graph = classroom.definitions.resolve_asset_graph()
    partitioned = {
        key.path[-1]
        for key in graph.materializable_asset_keys
        if graph.get(key).partitions_def is not None
    }
    assert partitioned == {ACTIVITY, "report_daily_counts"}
    parents = {
        table: {key.path[-1] for key in graph.get(dg.AssetKey([NAME, table])).parent_keys}
        for table in TABLES
    }
    assert parents[ACTIVITY] == {"submission_log"}
    assert parents["submission_counts"] == {"submissions", "submission_log"}
    assert parents["user_time_spent"] == {"submission_counts"}
    assert {node.group_name for node in graph.asset_nodes} == {NAME, "tallykeeper"}


def test_the_first_hourly_run_builds_everything_and_all_checks_pass(classroom: Location) -> None:
    (request,) = classroom.tick("classroom_hourly").run_requests
    ran = classroom.run("classroom_hourly", request.run_config)
    assert ran.succeeded
    assert ran.failures() == []
    for table in set(TABLES) - {ACTIVITY}:
        done = ran.materialized(table, NAME)[None]
        assert done["reason"].startswith("rebuild: never built")
    days = ran.materialized(ACTIVITY, NAME)
    assert set(days) == {None, *(days_ago(n) for n in range(10))}
    assert days[None]["dagster/row_count"] == 10
    counts = "SELECT sum(runs) || ' ' || sum(edits) FROM classroom.submission_counts"
    assert scalar(classroom, counts) == "90 270"
    assert classroom.audit().failures() == []


def test_the_next_run_takes_changes_and_late_work_shows_on_its_day(built: Location) -> None:
    work(built, days_ago(20))
    built.execute(
        "UPDATE classroom.roles SET name = 'learner' WHERE user_id = 10",
        "UPDATE classroom.assignments SET course_id = 2 WHERE id = 1",
    )
    ran = built.hourly(NAME)
    assert ran.failures() == []
    days = ran.materialized(ACTIVITY, NAME)
    assert days[days_ago(20)]["reason"] == "late data: 20 days late"
    assert days[days_ago(20)]["keys_inserted"] == 1
    courses = (
        "SELECT string_agg(total_assignments || ' ' || total_students, ', ' ORDER BY course_id)"
        " FROM classroom.course_counts"
    )
    assert scalar(built, courses) == "0 10, 2 0"
    spent = ran.materialized("user_time_spent", NAME)[None]
    assert spent["pending_consumed"] > 0, "what the submissions' refresh has just changed"
    assert all(tallykeeper.status(built.engine, tally).pending == 0 for tally in system.tallies)


def test_a_changed_count_turns_matches_source_red(built: Location) -> None:
    built.execute(
        CLAIM_WRITING,
        "UPDATE classroom.submission_counts SET median_edit_ms = 77 WHERE submission_id = 3",
        "DELETE FROM classroom.course_counts WHERE course_id = 2",
        f"UPDATE classroom.submission_daily_activity SET runs = 5 WHERE day = '{today()}Z'",
    )
    ran = built.audit()
    assert ran.succeeded, "the checks do not block"
    assert ran.failures() == [
        "matches_source of course_counts",
        "matches_source of submission_counts",
        "matches_source of submission_daily_activity",
    ]
    (record,) = records(ran.checked("submission_counts", "matches_source", NAME))
    assert record["submission_id"] == "3"
    assert record["median_edit_ms (stored)"] == "77"
    assert record["median_edit_ms (expected)"] == "4000"
    (record,) = records(ran.checked(ACTIVITY, "matches_source", NAME))
    assert (record["runs (stored)"], record["runs (expected)"]) == ("5", "9")
    ran = built.run(
        "__ASSET_JOB",
        {
            "ops": {
                f"classroom__{table}": {"config": {"rebuild": True}}
                for table in ("submission_counts", "course_counts")
            }
        },
        asset_selection=[
            dg.AssetKey([NAME, table]) for table in ("submission_counts", "course_counts")
        ],
    )
    assert ran.failures() == []
    assert built.audit().failures() == ["matches_source of submission_daily_activity"]


def test_a_lost_trigger_turns_capture_intact_red(built: Location) -> None:
    built.execute("DROP TRIGGER tallykeeper_insert ON classroom.submission_log")
    failed = {line for line in built.audit().failures() if line.startswith("capture_intact")}
    assert failed == {
        f"capture_intact of {table}" for table in (ACTIVITY, "submission_counts", "user_counts")
    }


def test_days_of_activity_are_backfilled_in_one_run(built: Location) -> None:
    built.execute(CLAIM_WRITING, "UPDATE classroom.submission_daily_activity SET edits = 0")
    first = days_ago(99)
    ran = built.run(
        "__ASSET_JOB",
        asset_selection=[dg.AssetKey([NAME, ACTIVITY])],
        tags={
            "dagster/asset_partition_range_start": first,
            "dagster/asset_partition_range_end": today(),
        },
    )
    assert ran.succeeded
    assert ran.failures() == []
    found = ran.materialized(ACTIVITY, NAME)
    assert len(found) == 100
    assert found[today()]["reason"] == f"rebuild on request: {first} to {today()}"
    assert sum(day.get("keys_updated", 0) for day in found.values()) == 10
    assert [p for p, m in found.items() if "activity_per_day" in m] == [today()]
    assert tallykeeper.verify(built.engine, submission_daily_activity).ok


def test_the_activity_of_eight_weeks_is_drawn_with_each_run(built: Location) -> None:
    work(built, days_ago(DAYS - 1))
    work(built, days_ago(DAYS))
    ran = built.hourly(NAME)
    days = ran.materialized(ACTIVITY, NAME)
    (shown,) = [m for m in days.values() if "activity_per_day" in m]
    first = span_of(datetime.now(UTC).date())[0]
    assert shown["activity_per_day"].startswith(f"![693 events from {first} to {today()}]")
    with drawn(shown, "activity_per_day") as chart:
        assert (chart.format, chart.size) == ("PNG", (900, 290))
    assert len(shown["last_weeks"]) < 1000, "the UI shows it in place"
    assert not any("last_weeks" in m for m in ran.materialized("course_counts", NAME).values())


def test_the_chart_shows_what_is_pending_and_ends_at_the_latest_work(classroom: Location) -> None:
    classroom.build()
    classroom.execute("DELETE FROM classroom.submission_log")
    assert shown(classroom).startswith("![No events from")
    work(classroom, "2019-03-06")
    work(classroom, "2019-01-10")
    assert shown(classroom).startswith("![126 events from 2019-01-10 to 2019-03-06]")
    classroom.execute("UPDATE classroom.submission_log SET date_created = 'infinity'")
    assert shown(classroom).startswith("![No events from")


def test_bars_stand_where_their_days_are() -> None:
    last = date(2025, 3, 2)
    days = {
        last: Day(events=10, edits=10),
        last - timedelta(days=DAYS - 1): Day(events=5, runs=2, syntax_errors=3),
        last - timedelta(days=DAYS): Day(events=900),
        # A fault may leave less than nothing.
        last - timedelta(days=3): Day(events=-4, edits=-4),
    }
    assert title_of(days, last) == "15 events from 2025-01-06 to 2025-03-02"
    with Image.open(io.BytesIO(activity_chart_png(days, last))) as chart:
        image = chart.convert("RGB")
    at = [image.getpixel((54 + 15 * (DAYS - 1) + 5, 100)), image.getpixel((54 + 5, 150))]
    assert [_near(pixel, hue) for pixel, hue in zip(at, ("#0a2a5c", "#ccd9e6"), strict=True)]
    assert image.getpixel((54 + 15 * 20 + 5, 150)) == (255, 255, 255)
    with drawn({"strip": strip_markdown(days, last)}, "strip") as strip:
        small = strip.convert("RGB")
    blue = (0x25, 0x69, 0xAD)
    assert [small.getpixel((7 * place + 2, 10)) == blue for place in (0, DAYS - 1)] == [False, True]
    assert small.getpixel((2, 30)) == blue


def _near(pixel: object, hue: str) -> bool:
    assert isinstance(pixel, tuple)
    wanted = bytes.fromhex(hue[1:])
    assert all(abs(a - b) < 12 for a, b in zip(pixel, wanted, strict=True)), (pixel, hue)
    return True
