"""The fediverse in Dagster: log, posts and tallies in one run, reports, housekeeping, checks."""

from __future__ import annotations

import base64
import io
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from PIL import Image
from sqlalchemy import Engine, text

import tallykeeper
from assets.fediverse.dagster.trend_chart import trend_chart_markdown
from assets.fediverse.questions.trends import Trend
from assets.fediverse.storage.archive import EVENTS
from assets.fediverse.tallies import hashtag_hourly_stats, system
from tallykeeper.archive import verification
from tallykeeper.archive.store import open_store
from tallykeeper.dagster.code_location import assets_of
from tallykeeper.dagster.partitions import daily, today
from tallykeeper.database.sql import CLAIM_WRITING
from tests.dagster.location import Location, Metadata, Ran, days_ago
from tests.templates import fill, migrated

NAME = "fediverse"
PROCESSED = [table.name for table in system.processed]
NOW = datetime.now(UTC)


@pytest.fixture
def fediverse(instance: dg.DagsterInstance, engine: Engine) -> Location:
    return received(instance, engine)


@pytest.fixture
def built(instance: dg.DagsterInstance, engine: Engine) -> Location:
    """The same after an hourly run, which is done once: the others copy its database."""

    def build(original: Engine) -> None:
        assert received(instance, original).hourly(NAME).failures() == []
        original.dispose()

    fill(engine, "fediverse_built", build)
    return Location(instance, engine, [assets_of(system, daily())])


def received(instance: dg.DagsterInstance, engine: Engine) -> Location:
    """One instance with an hour of a trending hashtag, and a day of an everyday one."""
    migrated(engine, system)
    location = Location(instance, engine, [assets_of(system, daily())])
    location.execute("INSERT INTO fediverse.instances (base_url) VALUES ('https://a.example')")
    for hours in range(1, 24):
        say(location, "update", status(100 + hours, NOW - timedelta(hours=hours), "Everyday"))
    for n in range(12):
        minutes = timedelta(minutes=5 * n)
        say(location, "update", status(200 + n, NOW - minutes, "Everyday", "News", account=n))
    return location


def status(number: int, at: datetime, *tags: str, account: int = 1) -> dict[str, Any]:
    return {
        "id": str(number),
        "created_at": at.isoformat(),
        "visibility": "public",
        "content": f"<p>post {number}</p>",
        "account": {"id": str(account + 1), "acct": f"a{account}", "username": f"a{account}"},
        "tags": [{"name": tag} for tag in tags],
        "mentions": [],
        "media_attachments": [],
        "replies_count": 0,
        "reblogs_count": 1,
        "favourites_count": 2,
    }


def say(
    location: Location, event: str, payload: Any, received: datetime = NOW - timedelta(seconds=60)
) -> None:
    with location.engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO fediverse.stream_events"
                " (instance_id, event_type, payload, received_at)"
                " VALUES (1, :event, CAST(:payload AS jsonb), :at)"
            ),
            {"event": event, "payload": json.dumps(payload), "at": received},
        )


def shown(ran: Ran, table: str) -> Metadata:
    return ran.materialized(table, NAME)[None]


def records(evaluation: dg.AssetCheckEvaluation, name: str) -> list[dict[str, object]]:
    table = evaluation.metadata[name]
    assert isinstance(table, dg.TableMetadataValue)
    return [dict(record.data) for record in table.records]


def processing(location: Location, **config: Any) -> Ran:
    """What a click on Materialize runs for the processed tables."""
    return location.run(
        "__ASSET_JOB",
        {"ops": {"fediverse__processing": {"config": config}}},
        asset_selection=[dg.AssetKey([NAME, table]) for table in PROCESSED],
    )


def scalar(location: Location, query: str) -> Any:
    with location.engine.connect() as connection:
        return connection.execute(text(query)).scalar_one()


def test_the_lineage_leads_from_the_raw_log_to_what_is_trending(fediverse: Location) -> None:
    graph = fediverse.definitions.resolve_asset_graph()

    def above(table: str) -> set[str]:
        return {key.path[-1] for key in graph.get(dg.AssetKey([NAME, table])).parent_keys}

    assert above("mastodon_posts") == {"instances", "stream_events"}
    assert above("hashtag_hourly_stats") == {"mastodon_posts", "post_hashtags"}
    assert "hashtag_hourly_stats" in above("trending_hashtags")
    external = {
        node.key.path[-1]: node.is_executable
        for node in graph.asset_nodes
        if node.tags.get("tallykeeper/role") == "source"
    }
    assert external == {"instances": False, "stream_events": False, "post_sentiments": False}
    assert above("daily_summaries") == {"mastodon_posts", "post_sentiments"}


def test_the_hourly_run_processes_the_log_and_refreshes_the_tallies_in_one_run(
    fediverse: Location,
) -> None:
    (request,) = fediverse.tick("fediverse_hourly").run_requests
    assert request.partition_key is None
    ran = fediverse.run("fediverse_hourly", request.run_config)
    assert ran.succeeded
    assert ran.failures() == []
    posts = shown(ran, "mastodon_posts")
    assert (posts["events"], posts["failed"], posts["posts"]) == (35, 0, 35)
    assert posts["reason"] == "35 events processed"
    assert posts["events_per_second"] > 0
    for table in PROCESSED:
        assert None in ran.materialized(table, NAME)
    for tally in system.tallies:
        assert tallykeeper.verify(fediverse.engine, tally).ok
        assert tallykeeper.status(fediverse.engine, tally).pending == 0
    assert scalar(fediverse, "SELECT sum(post_count) FROM fediverse.hourly_stats") == 35
    assert fediverse.audit().failures() == []


@pytest.mark.slow
def test_what_came_since_is_processed_and_counted_by_the_next_run(built: Location) -> None:
    late = NOW - timedelta(days=3)
    say(built, "update", status(300, late, "News"), NOW)
    say(built, "delete", "200", NOW)
    say(built, "notification", {}, NOW)
    ran = built.hourly(NAME)
    assert ran.failures() == []
    posts = shown(ran, "mastodon_posts")
    assert (posts["events"], posts["ignored"]) == (3, 1)
    hours = ran.materialized("hashtag_hourly_stats", NAME)
    assert hours[days_ago(3)]["reason"] == "late data: 3 days late"
    assert scalar(built, "SELECT sum(post_count) FROM fediverse.hourly_stats") == 35
    ran = built.hourly(NAME)
    assert shown(ran, "mastodon_posts")["reason"] == "no event was unprocessed"


def test_the_trending_hashtags_are_drawn_for_each_instance(fediverse: Location) -> None:
    fediverse.execute("INSERT INTO fediverse.instances (base_url) VALUES ('https://b.example')")
    report = shown(fediverse.hourly(NAME), "trending_hashtags")
    assert report["https://a.example"].startswith("#news (")
    assert report["https://b.example"] == "nothing"
    chart = report["chart of https://a.example"]
    found = re.match(r"!\[Trending on https://a.example, .* UTC\]\(data:image/png;base64,", chart)
    assert found
    data = base64.b64decode(chart[found.end() : chart.index(")\n\n")])
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.width) == ("PNG", 900)
        assert image.height > 100
    assert "| 1 | #news | 12 | 12 |" in chart


def test_any_name_is_drawn_and_written() -> None:
    names = ("plain", "日本語タグ", "$x_1$", "a|b`c", "🦣", "x" * 400)
    trends = [
        Trend(name, n, 5, 3, 9, 1, 1.25, 0.05, NOW, 25.0, 0.9, 22.5) for n, name in enumerate(names)
    ]
    chart = trend_chart_markdown(trends, "Trending")
    assert "#日本語タグ" in chart
    assert "a\\|b\\`c" in chart
    assert trend_chart_markdown([], "Trending").startswith("![Trending](data:image/png")


def test_a_year_of_hashtag_hours_is_rebuilt_in_one_run(built: Location) -> None:
    before = scalar(built, "SELECT count(*) FROM fediverse.hashtag_hourly_stats")
    built.execute(CLAIM_WRITING, "UPDATE fediverse.hashtag_hourly_stats SET posts_using_tag = 77")
    first = days_ago(364)
    ran = built.run(
        "__ASSET_JOB",
        asset_selection=[dg.AssetKey([NAME, "hashtag_hourly_stats"])],
        tags={
            "dagster/asset_partition_range_start": first,
            "dagster/asset_partition_range_end": today(),
        },
    )
    assert ran.succeeded
    found = ran.materialized("hashtag_hourly_stats", NAME)
    assert len(found) == 365
    assert found[today()]["reason"] == f"rebuild on request: {first} to {today()}"
    assert sum(day.get("keys_updated", 0) for day in found.values()) == before
    assert ran.failures() == []
    assert tallykeeper.verify(built.engine, hashtag_hourly_stats).ok


def test_a_changed_count_turns_matches_source_red(built: Location) -> None:
    built.execute(
        CLAIM_WRITING,
        "UPDATE fediverse.hashtag_hourly_stats SET total_engagement = total_engagement + 1"
        " WHERE id = (SELECT min(id) FROM fediverse.hashtag_hourly_stats)",
    )
    ran = built.audit()
    assert ran.succeeded, "the checks do not block"
    assert ran.failures() == ["matches_source of hashtag_hourly_stats"]
    failed = ran.checked("hashtag_hourly_stats", "matches_source", NAME)
    (record,) = records(failed, "keys")
    assert record["total_engagement (expected)"] != record["total_engagement (stored)"]


def test_a_changed_post_turns_matches_log_red_and_a_replay_repairs_it(built: Location) -> None:
    built.execute(
        "UPDATE fediverse.mastodon_posts SET language = 'xx' WHERE id = '105'",
        "DELETE FROM fediverse.post_hashtags WHERE post_id = '106'",
    )
    ran = built.audit()
    assert ran.failures() == ["matches_log of mastodon_posts"]
    failed = ran.checked("mastodon_posts", "matches_log", NAME)
    assert failed.severity is dg.AssetCheckSeverity.ERROR
    assert failed.description is not None
    assert failed.description.startswith("Not what the log says: 2 rows. Materialize fediverse/")
    by_table = {record["table"]: record for record in records(failed, "rows")}
    assert by_table["mastodon_posts"] == {
        "table": "mastodon_posts",
        "key": "instance_id 1, id 105",
        "problem": "different",
        "stored": "language xx",
        "expected": "language null",
    }
    assert by_table["post_hashtags"]["problem"] == "missing"
    assert by_table["post_hashtags"]["stored"] == "no row"

    assert "matches_log of mastodon_posts" in built.hourly(NAME).failures(), (
        "a run alone repairs nothing"
    )
    to_resolve = failed.metadata["to_resolve"]
    assert isinstance(to_resolve, dg.JsonMetadataValue)
    assert to_resolve.data == {"ops": {"fediverse__processing": {"config": {"replay_all": True}}}}
    ran = processing(built, replay_all=True)
    done = shown(ran, "mastodon_posts")
    assert done["replay_written"] == "mastodon_posts 1, post_hashtags 1"
    assert (done["replay_posts"], done["replay_rows"]) == (35, 2)
    assert ran.failures() == []
    assert built.hourly(NAME).failures() == []
    assert built.audit().failures() == []


def test_after_a_run_only_the_posts_of_the_last_events_are_compared(
    built: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assets.fediverse.dagster.log_checks.RECENT_EVENTS", 2)
    built.execute("UPDATE fediverse.mastodon_posts SET language = 'xx' WHERE id = '105'")
    for n in range(3):
        at = NOW + timedelta(seconds=n - 10)
        say(built, "update", status(400 + n, NOW, "News"), at)
    ran = built.hourly(NAME)
    passed = ran.checked("mastodon_posts", "matches_log", NAME)
    assert passed.passed
    assert passed.metadata["posts"].value == 3
    assert "events received since" in str(passed.metadata["scope"].value)
    failed = built.audit().checked("mastodon_posts", "matches_log", NAME)
    assert not failed.passed
    assert failed.metadata["scope"].value == "everything that is kept"


def test_a_malformed_event_turns_events_processed_red_and_stops_nobody(built: Location) -> None:
    say(built, "update", {**status(500, NOW, "News"), "created_at": "yesterday"}, NOW)
    say(built, "delete", {"id": "500"}, NOW)
    say(built, "update", status(501, NOW, "News"), NOW)
    ran = built.hourly(NAME)
    assert ran.succeeded
    assert ran.failures() == ["events_processed of mastodon_posts"]
    posts = shown(ran, "mastodon_posts")
    assert (posts["events"], posts["failed"]) == (3, 2)
    errors = [dict(r.data) for r in posts["last_errors"].records]
    assert {e["event"] for e in errors} == {"update", "delete"}
    assert errors[0]["instance"] == "https://a.example"
    failed = ran.checked("mastodon_posts", "events_processed", NAME)
    assert failed.severity is dg.AssetCheckSeverity.WARN
    assert failed.description is not None
    assert failed.description.startswith("Nothing could be made of 2 events of the last 24 hours")
    reasons = records(failed, "reasons")
    assert [r["events"] for r in reasons] == [1, 1]
    assert any("yesterday" in str(r["reason"]) for r in reasons)
    assert scalar(built, "SELECT count(*) FROM fediverse.mastodon_posts WHERE id = '501'") == 1

    built.execute(
        "UPDATE fediverse.stream_events SET processed_at = now() - interval '25 hours'"
        " WHERE process_error IS NOT NULL"
    )
    passed = built.audit().checked("mastodon_posts", "events_processed", NAME)
    assert passed.passed
    assert (passed.metadata["failed"].value, passed.metadata["failed_kept"].value) == (0, 2)


def test_events_that_wait_for_too_long_turn_events_processed_red(
    built: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    say(built, "update", status(600, NOW, "News"), NOW - timedelta(minutes=30))
    assert built.audit().checked("mastodon_posts", "events_processed", NAME).passed
    monkeypatch.setenv("TALLY_FRESH_SECONDS", "900")
    failed = built.audit().checked("mastodon_posts", "events_processed", NAME)
    assert not failed.passed
    assert failed.description is not None
    assert failed.description.startswith("Still to be processed: 1 event, the oldest for 0:")
    assert failed.metadata["unprocessed"].value == 1


def test_a_replay_is_of_a_window_of_receipt(built: Location) -> None:
    say(built, "update", status(700, NOW, "News"), NOW - timedelta(hours=5))
    built.hourly(NAME)
    built.execute("UPDATE fediverse.mastodon_posts SET url = 'wrong'")
    moment = NOW - timedelta(hours=5)
    ran = processing(
        built,
        replay_from=moment.isoformat(),
        replay_to=(moment + timedelta(seconds=1)).isoformat(),
    )
    done = shown(ran, "mastodon_posts")
    assert (done["replay_posts"], done["replay_rows"]) == (1, 1)
    assert done["reason"].startswith("no event was unprocessed; replay of the log from ")
    done = shown(processing(built, replay_all=True), "mastodon_posts")
    assert done["replay_rows"] == 35
    done = shown(processing(built, replay_from=days_ago(1)), "mastodon_posts")
    assert done["replay_written"] == "nothing: no row differed"


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"replay_from": "yesterday"}, "replay_from: expected a day or a moment"),
        ({"replay_from": "2025-01-02", "replay_to": "2025-01-01"}, "has to come before replay_to"),
        ({"replay_all": True, "replay_to": "2025-01-01"}, "replay_all is everything that is kept"),
    ],
)
def test_a_replay_of_nothing_that_makes_sense_is_refused(
    built: Location, config: dict[str, Any], sentence: str
) -> None:
    ran = processing(built, **config)
    assert not ran.succeeded
    assert sentence in ran.error()


def test_housekeeping_runs_once_a_day_and_not_every_hour(built: Location) -> None:
    schedule = built.definitions.resolve_schedule_def("fediverse_daily")
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING
    assert schedule.cron_schedule == "30 1 * * *"
    steps = {n.name for n in built.definitions.resolve_job_def("fediverse_hourly").nodes}
    assert "fediverse__snapshot_thinning" not in steps
    assert "fediverse__processing" in steps
    (request,) = built.tick("fediverse_daily").run_requests
    built.execute(
        "INSERT INTO fediverse.post_metric_snapshots (instance_id, post_id, captured_at)"
        " SELECT 1, 1, date_trunc('day', now() - interval '90 days', 'UTC') + n * interval '1 min'"
        " FROM generate_series(1, 5) AS n"
    )
    ran = built.run("fediverse_daily", request.run_config)
    assert ran.succeeded
    assert shown(ran, "snapshot_thinning")["deleted"] == 4
    kept = shown(ran, "stream_retention")
    assert (kept["keep_days"], kept["partitions_dropped"]) == (30, 0)
    assert built.audit().failures() == []


def test_old_days_of_the_log_are_dropped_but_none_with_unprocessed_events(
    built: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TALLY_FEDIVERSE_KEEP_DAYS", "3")
    for n, days in enumerate((9, 8)):
        at = NOW - timedelta(days=days)
        say(built, "update", status(800 + n, at, "News"), at)
        if days == 9:
            built.hourly(NAME)
    ran = built.run("fediverse_daily")
    kept = shown(ran, "stream_retention")
    assert (kept["partitions_dropped"], kept["partitions_kept_though_old"]) == (0, 2)
    assert "is not archived" in kept["done"]
    assert built.run("fediverse_daily").failures() == ["due_days_archived of stream_archive"]
    monkeypatch.setenv("TALLY_ARCHIVE", str(tmp_path))
    ran = built.run("fediverse_daily")
    assert shown(ran, "stream_archive")["files_written"] == 1
    kept = shown(ran, "stream_retention")
    assert kept["partitions_dropped"] == 1
    assert kept["partitions_kept_though_old"] == 1
    assert "still to be processed" in kept["done"]
    assert "still to be processed" in ran.logged()
    assert scalar(built, "SELECT count(*) FROM fediverse.mastodon_posts WHERE id = '800'") == 1
    assert built.hourly(NAME).failures() == []
    (file,) = tmp_path.rglob("*.parquet")
    whole = file.read_bytes()
    file.write_bytes(b"PAR1")
    ran = built.run("fediverse_daily")
    assert shown(ran, "stream_archive")["files_faulty"] == 1
    assert ran.failures() == ["due_days_archived of stream_archive"]
    assert shown(ran, "stream_retention")["partitions_dropped"] == 1
    file.write_bytes(whole)
    assert verification.verify(built.engine, EVENTS, open_store()).ok
    assert built.audit().failures() == []


def test_nothing_is_run_where_the_raw_tables_are_not(
    instance: dg.DagsterInstance, engine: Engine
) -> None:
    location = Location(instance, engine, [assets_of(system, daily())])
    for schedule in ("fediverse_hourly", "fediverse_daily"):
        skipped = location.tick(schedule)
        assert not skipped.run_requests
        assert "fediverse.stream_events" in skipped.skip_message
