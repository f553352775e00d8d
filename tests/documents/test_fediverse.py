"""The fediverse's data model: a row for each point of the document that describes it.

The tests share one small stream of two instances, processed: on the first, a post that is edited
and gains, a reply to it, one that is deleted and one that is created while it is looked at; on the
second a post with the id of the first. What tests write they roll back, unless they process.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from math import exp
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, inspect
from sqlalchemy.exc import IntegrityError

from assets.fediverse.processing.batches import process
from assets.fediverse.reads import (
    domain_series,
    engagement_velocity,
    growing_hashtags,
    hashtag_cooccurrence,
    hashtag_series,
    latest_summary,
    post_history,
    post_series,
    record_sentiment,
    rising_posts,
    sentiment_changes,
    spiking_hashtags,
    top_domains,
    trending_hashtags,
    unanalyzed_posts,
    write_summary_text,
)
from assets.fediverse.replay import replay, verify_log
from assets.fediverse.settings import keep_events_days
from assets.fediverse.storage.post_months import partition_posts
from assets.fediverse.storage.thinning import thin_snapshots
from assets.fediverse.tables import PROCESSED, metadata
from assets.fediverse.tallies import system as fediverse
from tallykeeper import refresh, verify
from tallykeeper.http.app import create_app
from tests.documents.audit import differently
from tests.documents.installation import (
    build,
    by_hand,
    checks_of,
    command,
    definitions,
    kept,
    run,
    schedule,
    undone,
)
from tests.integration.fediverse_log import START, Log, created, status, tagged
from tests.integration.serving_client import Client
from tests.integration.support import execute, rows, scalar
from tests.servers import Servers

HOUR = timedelta(hours=1)
NOON = START
BOB = {"id": "8", "username": "bob", "acct": "bob@b.example", "display_name": "Bob"}
EDITED = {"edited_at": "2026-11-20T12:05:00Z", "content": "<p>second</p>"}
DOCS = Path(__file__).parents[2] / "docs"


def stream(log: Log) -> None:
    """What both instances said, by the minute after noon."""
    first = {
        "created_at": "2026-11-20T11:50:00Z",
        "tags": tagged("Sea", "cats"),
        "mentions": [{"id": "8", "acct": "bob@b.example", "username": "bob", "url": "u"}],
        "media_attachments": [
            {"id": "900", "type": "image", "url": "u", "preview_url": "p", "meta": {"width": 4}}
        ],
    }
    log.write("update", status(100, **first, content="<p>first</p>"), at=0)
    log.write("status.update", status(100, **{**first, **EDITED}, favourites_count=40), at=10)
    reply = {"created_at": "2026-11-20T12:12:00Z", "tags": tagged("sea"), "account": BOB}
    log.write("update", status(101, **reply, in_reply_to_id="100"), at=13)
    log.write("update", status(102, created_at="2026-11-20T12:20:00Z"), at=20)
    log.write("delete", "102", at=25)
    log.write("update", status(100, content="<p>elsewhere</p>"), instance=2, at=30)
    log.write("update", {"nonsense": True}, at=35)
    log.write("update", status(104, created_at="2026-11-20T12:30:00Z", favourites_count=60), at=40)
    log.write("status", status(100, **{**first, **EDITED}, favourites_count=160), at=50)


@pytest.fixture(scope="module")
def engine(postgres_servers: Servers) -> Iterator[Engine]:
    with created(postgres_servers) as engine:
        stream(Log(engine))
        assert process(engine).failed == 1
        for tally in fediverse.tallies:
            refresh(engine, tally)
        yield engine


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    with undone(engine) as connection:
        yield connection


@pytest.fixture(scope="module")
def client(engine: Engine) -> Client:
    return Client(create_app(engine, ["fediverse"]))


def columns_of(engine: Engine, table: str) -> set[str]:
    return {column["name"] for column in inspect(engine).get_columns(table, schema="fediverse")}


def unique_of(engine: Engine, table: str) -> list[list[str]]:
    found = inspect(engine).get_unique_constraints(table, schema="fediverse")
    key = inspect(engine).get_pk_constraint(table, schema="fediverse")["constrained_columns"]
    return [key, *(constraint["column_names"] for constraint in found)]


def indexes_of(engine: Engine, table: str) -> list[list[str | None]]:
    found = inspect(engine).get_indexes(table, schema="fediverse")
    keys: list[list[str | None]] = [[*key] for key in unique_of(engine, table)]
    return [*(index["column_names"] for index in found), *keys]


def the_first(connection: Connection) -> Any:
    """The id of the first post, of the type that the table has."""
    query = "SELECT id FROM fediverse.mastodon_posts WHERE url LIKE '%/100' AND instance_id = 1"
    return by_hand(connection, query)[0][0]


_numbers = iter(range(5000, 9000))


def use(tag: str, at: datetime) -> str:
    """A public post with one hashtag, as processing writes it."""
    number = next(_numbers)
    return f"""
WITH tag AS (
  INSERT INTO fediverse.hashtags (instance_id, name) VALUES (1, '{tag}')
  ON CONFLICT (instance_id, name) DO UPDATE SET name = excluded.name RETURNING id
), post AS (
  INSERT INTO fediverse.mastodon_posts (instance_id, id, account_id, domain, visibility, content,
    content_text, created_at, first_seen_at)
  VALUES (1, '{number}', '7', 'one.example', 'public', '<p>p</p>', 'p', '{at}', '{at}')
)
INSERT INTO fediverse.post_hashtags (instance_id, post_id, hashtag_id)
SELECT 1, '{number}', id FROM tag"""


# Instances.


def test_servers_that_are_listened_to_are_a_table(engine: Engine) -> None:
    wanted = {"id", "base_url", "stream_type", "created_at", "last_seen_at"}
    assert wanted <= columns_of(engine, "instances")


def test_a_server_is_there_once(connection: Connection) -> None:
    with pytest.raises(IntegrityError, match="base_url"):
        run(connection, "INSERT INTO fediverse.instances (base_url) VALUES ('https://One.example')")


def test_posts_of_two_servers_with_one_id_are_two_posts(connection: Connection) -> None:
    found = [post_history(connection, instance, the_first(connection)) for instance in (1, 2)]
    contents = [history.versions[0].content_text for history in found if history is not None]
    assert contents == ["first", "elsewhere"]


@pytest.mark.parametrize("table", [table.name for table in PROCESSED])
def test_every_main_table_has_the_instance_in_its_key(engine: Engine, table: str) -> None:
    assert "instance_id" in unique_of(engine, table)[0]


# Snapshots of counts.


def test_counts_of_a_post_are_kept_at_several_moments(engine: Engine) -> None:
    wanted = {"instance_id", "post_id", "captured_at", "replies_count", "reblogs_count"}
    assert wanted | {"favourites_count", "engagement_score"} <= columns_of(
        engine, "post_metric_snapshots"
    )
    found = rows(
        engine,
        "SELECT favourites_count, engagement_score FROM fediverse.post_metric_snapshots"
        " WHERE post_id = '100' AND instance_id = 1 ORDER BY captured_at",
    )
    assert found == [(0, 0), (40, 80), (160, 320)]


def test_favourites_that_a_post_gained_in_an_hour_are_read(connection: Connection) -> None:
    gained = engagement_velocity(connection, 1, NOON, NOON + HOUR, 50)
    assert [(str(v.post_id), v.gained) for v in gained] == [("100", 160), ("104", 60)]


def test_a_post_created_within_the_hour_has_gained_all_it_has(connection: Connection) -> None:
    (gained,) = engagement_velocity(connection, 1, NOON + HOUR / 2, NOON + HOUR, 50)[1:]
    assert (str(gained.post_id), gained.favourites_before, gained.gained) == ("104", 0, 60)


def test_posts_whose_engagement_rose_by_300_percent_are_found(connection: Connection) -> None:
    span = NOON + timedelta(minutes=10), NOON + 2 * HOUR
    (rise,) = rising_posts(connection, 1, *span, above=2.9)
    assert (str(rise.post_id), rise.growth) == ("100", 3.0)


def test_the_counts_of_a_post_are_a_series_over_time(
    connection: Connection, client: Client
) -> None:
    series = post_series(connection, 1, the_first(connection))
    assert series is not None
    assert [counts.favourites_count for counts in series.counts] == [0, 40, 160]
    answer = client.get("/api/posts/100/counts", params={"instance": 1}).json()
    assert [counts["favourites_count"] for counts in answer["counts"]] == [0, 40, 160]


# Edits.


def test_every_version_of_a_post_is_kept_with_when_it_was_valid(engine: Engine) -> None:
    found = rows(
        engine,
        "SELECT version_seq, content_text, valid_to IS NULL, edited_at IS NULL"
        " FROM fediverse.post_versions WHERE instance_id = 1 AND post_id = '100' ORDER BY 1",
    )
    assert found == [(1, "first", False, True), (2, "second", True, False)]


@pytest.mark.parametrize("name", ["content_text", "edited_at", "valid_from", "version_seq"])
def test_versions_have_the_columns_of_the_document(engine: Engine, name: str) -> None:
    assert name in columns_of(engine, "post_versions")


def test_the_html_of_a_version_is_found_under_its_name(connection: Connection) -> None:
    html = "SELECT content_html FROM fediverse.post_versions ORDER BY content_html"
    assert ("<p>first</p>",) in by_hand(connection, html)


def test_how_a_post_changed_over_time_is_read(connection: Connection, client: Client) -> None:
    history = post_history(connection, 1, the_first(connection))
    assert history is not None
    assert [version.content for version in history.versions] == ["<p>first</p>", "<p>second</p>"]
    answer = client.get("/api/posts/100/history", params={"instance": 1}).json()
    assert [version["version_seq"] for version in answer["versions"]] == [1, 2]


def say(
    connection: Connection, label: str, version: int, model: str = "m", prompt: str = "1"
) -> None:
    history = post_history(connection, 1, the_first(connection))
    assert history is not None
    record_sentiment(
        connection,
        1,
        the_first(connection),
        model=model,
        prompt_version=prompt,
        input_hash=history.versions[version - 1].content_hash,
        version_seq=version,
        label=label,
    )


def test_posts_whose_sentiment_changed_by_an_edit_are_found(connection: Connection) -> None:
    say(connection, "negative", 1)
    say(connection, "positive", 2)
    (change,) = sentiment_changes(connection, 1, NOON, NOON + HOUR)
    assert (change.label_before, change.label, change.version_seq) == ("negative", "positive", 2)


# Hashtags and mentions.


def test_hashtags_are_a_table_of_names_each_once(engine: Engine) -> None:
    assert ["instance_id", "name"] in unique_of(engine, "hashtags")
    names = "SELECT name FROM fediverse.hashtags WHERE instance_id = 1 ORDER BY name"
    assert rows(engine, names) == [("cats",), ("sea",)]


def test_a_hashtag_knows_when_it_was_first_and_last_seen(connection: Connection) -> None:
    seen = "SELECT first_seen_at, last_seen_at FROM fediverse.hashtags WHERE name = 'sea'"
    ((first, last),) = by_hand(connection, seen)
    assert first < last


def test_which_post_has_which_hashtag_is_a_table_each_pair_once(engine: Engine) -> None:
    key = unique_of(engine, "post_hashtags")[0]
    assert set(key) == {"instance_id", "post_id", "hashtag_id"}


def test_posts_of_a_hashtag_are_found_by_an_index(engine: Engine) -> None:
    assert ["instance_id", "hashtag_id", "post_id"] in indexes_of(engine, "post_hashtags")


def test_hashtags_used_together_are_counted(connection: Connection, client: Client) -> None:
    (pair,) = hashtag_cooccurrence(connection, 1, "Sea", NOON - HOUR, NOON + HOUR)
    assert (pair.other, pair.posts) == ("cats", 1)
    span = {"start": "2026-11-20T11:00:00Z", "end": "2026-11-20T13:00:00Z"}
    asked = {"instance": 1, "hashtag": "sea", **span}
    answer = client.get("/api/hashtags/cooccurrence", params=asked).json()
    assert [other["other"] for other in answer["pairs"]] == ["cats"]


def test_accounts_that_use_a_hashtag_are_counted_each_once(connection: Connection) -> None:
    hours = hashtag_series(connection, 1, "sea", NOON - HOUR, NOON + HOUR)
    assert [hour.accounts for hour in hours] == [1, 1]
    (trend,) = trending_hashtags(connection, 1, NOON + HOUR, minimum_posts=2, minimum_accounts=2)
    assert (trend.posts, trend.accounts) == (2, 2)


def test_mentions_are_a_table(engine: Engine) -> None:
    found = rows(engine, "SELECT post_id::text, account_id::text FROM fediverse.post_mentions")
    assert found == [("100", "8")]


# Statistics by the hour.


def test_hashtags_have_statistics_by_the_hour(engine: Engine) -> None:
    assert ["instance_id", "hashtag_id", "hour_ts"] in unique_of(engine, "hashtag_hourly_stats")
    found = rows(
        engine,
        "SELECT posts_using_tag, unique_accounts_using_tag, total_engagement"
        " FROM fediverse.hashtag_hourly_stats AS s JOIN fediverse.hashtags AS h"
        " ON h.instance_id = s.instance_id AND h.id = s.hashtag_id"
        " WHERE name = 'sea' ORDER BY hour_ts",
    )
    assert found == [(1, 1, 320), (1, 1, 0)]


def test_trends_are_a_matter_of_velocity_and_not_of_volume(connection: Connection) -> None:
    run(connection, *(use("always", NOON - n * HOUR) for n in range(1, 24)))
    run(connection, *(use("now", NOON - HOUR / 2) for _ in range(3)))
    names = [
        trend.name
        for trend in trending_hashtags(connection, 1, NOON, minimum_accounts=1, minimum_posts=1)
    ]
    assert names[0] == "now"


def test_a_spike_is_an_hour_against_the_same_hour_of_the_day_before(
    connection: Connection, client: Client
) -> None:
    at = NOON + HOUR / 2
    run(connection, *(use("spike", at - timedelta(minutes=30)) for _ in range(3)))
    run(connection, use("spike", at - 24 * HOUR))
    trend = next(t for t in spiking_hashtags(connection, 1, at) if t.name == "spike")
    assert trend.rise == 2.0, "(3 - 1) / 1"
    assert client.get("/api/hashtags/spiking", params={"instance": 1}).status_code == 200


def test_a_spike_decays_with_the_hours_since_the_latest_use(connection: Connection) -> None:
    run(connection, *(use("decays", NOON - 3 * HOUR) for _ in range(3)))
    trend = next(
        t
        for t in trending_hashtags(connection, 1, NOON, decay_hours=2, minimum_accounts=1)
        if t.name == "decays"
    )
    assert trend.decay == pytest.approx(exp(-1.5))


# Deletion.


def test_a_deleted_post_stays_and_says_when_it_was_deleted(connection: Connection) -> None:
    deleted = (
        "SELECT deleted_at, content IS NOT NULL FROM fediverse.mastodon_posts WHERE id = '102'"
    )
    assert by_hand(connection, deleted) == [(NOON + timedelta(minutes=25), True)]


def test_a_deleted_post_can_be_redacted_everywhere(
    postgres_servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TALLY_FEDIVERSE_REDACT", "1")
    with created(postgres_servers) as engine:
        log = Log(engine)
        log.say("update", status(1, content="<p>secret</p>", tags=tagged("secret")))
        log.say("delete", "1")
        everything = "SELECT to_jsonb(t)::text FROM fediverse.{} AS t"
        tables = [t.name for t in (*fediverse.raw, *PROCESSED) if t.name != "hashtags"]
        for table in tables:
            found = rows(engine, everything.format(table))
            assert not [row for (row,) in found if "secret" in row], table
        assert rows(engine, "SELECT url FROM fediverse.mastodon_posts") == [(None,)]


def test_what_refers_to_a_deleted_post_keeps_its_meaning(connection: Connection) -> None:
    run(
        connection,
        "UPDATE fediverse.mastodon_posts SET deleted_at = now() WHERE id = '100'",
    )
    answers = "SELECT root_post_id::text, depth FROM fediverse.conversation_threads"
    assert by_hand(connection, f"{answers} WHERE post_id = '101'") == [("100", 1)]


def test_a_deleted_post_counts_nowhere(connection: Connection) -> None:
    run(
        connection,
        "UPDATE fediverse.mastodon_posts SET deleted_at = now()"
        " WHERE id = '100' AND instance_id = 1",
    )
    assert [hour.posts for hour in hashtag_series(connection, 1, "cats", NOON - HOUR, NOON)] == [0]
    gained = engagement_velocity(connection, 1, NOON, NOON + HOUR, 50)
    assert [str(v.post_id) for v in gained] == ["104"]


# What models said.


def test_a_sentiment_says_of_what_and_by_whom_and_when_it_was_made(engine: Engine) -> None:
    wanted = {"model", "prompt_version", "input_hash", "analyzed_at", "status_version_seq"}
    assert wanted <= columns_of(engine, "post_sentiments")


def test_the_label_of_a_sentiment_is_found_under_its_name(connection: Connection) -> None:
    say(connection, "positive", 2)
    labels = "SELECT sentiment_label FROM fediverse.post_sentiments"
    assert by_hand(connection, labels) == [("positive",)]


def test_a_summary_says_of_what_and_by_whom_it_was_made(engine: Engine) -> None:
    wanted = {"window_start", "window_end", "model", "prompt_version", "input_stats_json"}
    assert wanted | {"input_hash"} <= columns_of(engine, "daily_summaries")


def test_the_data_that_a_summary_was_made_of_are_kept_with_it(engine: Engine) -> None:
    with undone(engine) as connection:
        day = latest_summary(connection, 1)
        assert day is not None
        assert day.input_stats["posts"] == 3
        write_summary_text(
            connection,
            1,
            day.window_start,
            model="m",
            prompt_version="3",
            summary_text="three posts",
            input_hash=day.input_hash,
        )
        written = latest_summary(connection, 1)
        assert written is not None
        assert written.text_is_current
        assert (written.model, written.prompt_version) == ("m", "3")


def test_two_prompts_or_models_are_compared_side_by_side(connection: Connection) -> None:
    for prompt, label in (("1", "neutral"), ("2", "positive")):
        say(connection, label, 2, prompt=prompt)
    say(connection, "negative", 2, model="other")
    history = post_history(connection, 1, the_first(connection))
    assert history is not None
    said = [(s.model, s.prompt_version, s.label) for s in history.versions[1].sentiments]
    assert said == [("m", "1", "neutral"), ("m", "2", "positive"), ("other", "1", "negative")]


def test_a_content_that_a_model_has_judged_is_not_offered_to_it_again(
    connection: Connection,
) -> None:
    def offered() -> set[str]:
        return {str(p.post_id) for p in unanalyzed_posts(connection, "m", "1", 1)}

    assert offered() == {"100", "101", "104"}
    say(connection, "positive", 2)
    assert offered() == {"101", "104"}


# The log.


def test_every_event_is_logged_as_it_came(engine: Engine) -> None:
    wanted = {"id", "instance_id", "received_at", "event_type", "payload", "payload_status_id"}
    assert wanted | {"processed_at", "process_error"} <= columns_of(engine, "stream_events")
    assert scalar(engine, "SELECT count(*) FROM fediverse.stream_events") == 9


def test_events_are_replayed_into_the_same_tables(engine: Engine) -> None:
    execute(
        engine,
        "UPDATE fediverse.mastodon_posts SET content = 'by hand' WHERE id = '101'",
    )
    assert not verify_log(engine).ok
    assert replay(engine).rows == {"mastodon_posts": 1}
    assert verify_log(engine).ok


def test_why_a_post_is_missing_is_looked_up_by_its_events(engine: Engine) -> None:
    events = "SELECT event_type FROM fediverse.stream_events WHERE payload_status_id = '102'"
    assert rows(engine, f"{events} ORDER BY received_at") == [("update",), ("delete",)]


def test_derived_tables_are_filled_from_the_raw_events_alone(engine: Engine) -> None:
    execute(engine, "DELETE FROM fediverse.post_mentions", "DELETE FROM fediverse.post_versions")
    replay(engine)
    assert scalar(engine, "SELECT count(*) FROM fediverse.post_mentions") == 1
    assert verify_log(engine).ok


def test_an_event_that_cannot_be_read_says_why_and_is_watched(engine: Engine) -> None:
    ((error,),) = rows(
        engine, "SELECT process_error FROM fediverse.stream_events WHERE process_error IS NOT NULL"
    )
    assert "id" in error
    assert "events_processed" in checks_of("fediverse/mastodon_posts")


def test_raw_events_are_kept_for_as_long_as_a_setting_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert keep_events_days() == 30
    monkeypatch.setenv("TALLY_FEDIVERSE_KEEP_DAYS", "7")
    assert keep_events_days() == 7
    assert schedule("fediverse_daily").cron_schedule == "30 1 * * *"


# Migration.


def test_a_new_installation_gets_all_tables_by_itself(engine: Engine) -> None:
    found = set(inspect(engine).get_table_names(schema="fediverse"))
    assert {table.name for table in metadata.tables.values()} <= found


def test_beginning_afresh_and_preserving_data_are_documented() -> None:
    guide = (DOCS / "how-to" / "adopt-fediverse.md").read_text()
    assert "**A fresh start.**" in guide
    assert "**Keep the data.**" in guide


def test_backing_up_is_documented() -> None:
    assert "pg_dump" in (DOCS / "how-to" / "backup.md").read_text()


def test_an_installation_without_instances_is_brought_over_by_one_command(
    postgres_servers: Servers,
) -> None:
    with kept(postgres_servers, "fediverse") as engine:
        build(engine, "forkalytics", "fediverse_before_instances")
        url = "https://a.example"
        command(engine, "adopt", "fediverse", "--from-schema", "forkalytics", "--instance", url)
        assert scalar(engine, "SELECT count(*) FROM fediverse.mastodon_posts") == 6
        tags = "SELECT name FROM fediverse.hashtags ORDER BY 1"
        assert rows(engine, tags) == [("sea",), ("sky0",), ("sky1",)]


# Indexes and size.


def test_posts_are_found_by_instance_and_id(engine: Engine) -> None:
    assert set(unique_of(engine, "mastodon_posts")[0]) == {"instance_id", "id"}


def test_posts_of_an_instance_are_found_by_time(engine: Engine) -> None:
    assert ["instance_id", "created_at"] in [
        index[:2] for index in indexes_of(engine, "mastodon_posts")
    ]


def test_posts_with_most_engagement_are_found_by_an_index(engine: Engine) -> None:
    definitions = "SELECT indexdef FROM pg_indexes WHERE tablename = 'mastodon_posts'"
    assert any("engagement_score DESC" in d for (d,) in rows(engine, definitions))


def test_posts_are_partitioned_by_month_without_editing_files(postgres_servers: Servers) -> None:
    with created(postgres_servers) as engine:
        partition_posts(engine, fediverse.tallies, 1)
        key = scalar(engine, "SELECT pg_get_partkeydef('fediverse.mastodon_posts'::regclass)")
        assert key == "RANGE (created_at)"


def test_snapshots_are_thinned_to_hours_and_days_by_their_age(engine: Engine) -> None:
    ages = (NOON - timedelta(days=days, minutes=m) for days in (1, 10, 40) for m in (1, 2, 70))
    execute(
        engine,
        *(
            "INSERT INTO fediverse.post_metric_snapshots (instance_id, post_id, captured_at)"
            f" VALUES (2, '777', '{at}')"
            for at in ages
        ),
    )
    thin_snapshots(engine, NOON)
    left = (
        "SELECT (timestamptz '2026-11-20 12:00Z' - captured_at) > interval '5 days',"
        " (timestamptz '2026-11-20 12:00Z' - captured_at) > interval '35 days', count(*)"
        " FROM fediverse.post_metric_snapshots WHERE post_id = '777' GROUP BY 1, 2 ORDER BY 1, 2"
    )
    assert rows(engine, left) == [(False, False, 3), (True, False, 2), (True, True, 1)]
    execute(engine, "DELETE FROM fediverse.post_metric_snapshots WHERE post_id = '777'")


# Beside the tables.


def test_hashtags_and_mentions_stay_in_the_post_as_json(connection: Connection) -> None:
    found = by_hand(
        connection,
        "SELECT hashtags, mentions -> 0 ->> 'acct' FROM fediverse.mastodon_posts"
        " WHERE id = '100' AND instance_id = 1",
    )
    assert found == [(["sea", "cats"], "bob@b.example")]


@differently("endpoints are the product's own; what each is for is in the page of names")
def test_what_applications_ask_is_answered_over_http(client: Client) -> None:
    asked = {"instance": 1}
    for address in ("hashtags/trending", "stats/hourly", "summaries", "posts/velocity", "domains"):
        span = {"start": "2026-11-20", "end": "2026-11-21"} if "velocity" in address else {}
        assert client.get(f"/api/{address}", params={**asked, **span}).status_code == 200, address


def test_tables_and_json_are_filled_by_one_statement_so_that_they_agree(engine: Engine) -> None:
    differing = (
        "SELECT count(*) FROM fediverse.mastodon_posts AS p WHERE ARRAY(SELECT name FROM"
        " fediverse.post_hashtags AS t JOIN fediverse.hashtags AS h ON h.instance_id ="
        " t.instance_id AND h.id = t.hashtag_id WHERE t.instance_id = p.instance_id"
        " AND t.post_id = p.id ORDER BY 1)"
        " <> ARRAY(SELECT jsonb_array_elements_text(hashtags) ORDER BY 1)"
    )
    assert scalar(engine, differing) == 0


def test_posts_with_json_alone_have_their_hashtags_in_the_reads(connection: Connection) -> None:
    run(connection, "DELETE FROM fediverse.post_hashtags WHERE post_id = '100'")
    (pair,) = hashtag_cooccurrence(connection, 1, "Sea", NOON - HOUR, NOON + HOUR)
    assert pair.other == "cats"


# What the document calls future enhancements.


def test_who_follows_whom_is_a_table(engine: Engine) -> None:
    wanted = {"follower_account_id", "followee_account_id", "followed_at"}
    assert wanted <= columns_of(engine, "account_follows")


def test_media_of_a_post_are_a_table(engine: Engine) -> None:
    query = "SELECT id::text, post_id::text, type, url, preview_url"
    assert rows(engine, f"{query} FROM fediverse.media_attachments") == [
        ("900", "100", "image", "u", "p")
    ]


def test_media_have_their_metadata(connection: Connection) -> None:
    meta = "SELECT meta_json FROM fediverse.media_attachments"
    assert by_hand(connection, meta) == [({"width": 4},)]


def test_conversations_have_roots_and_depths_and_replies(engine: Engine) -> None:
    threads = "SELECT post_id::text, root_post_id::text, depth, reply_count"
    found = rows(engine, f"{threads} FROM fediverse.conversation_threads WHERE instance_id = 1")
    assert ("100", "100", 0, 1) in found
    assert ("101", "100", 1, 0) in found


def test_domains_have_posts_and_engagement_by_the_hour(connection: Connection) -> None:
    (hour,) = domain_series(connection, 1, "b.example", NOON, NOON + HOUR)
    assert (hour.post_count, hour.total_engagement) == (1, 0)
    assert [d.domain for d in top_domains(connection, 1, NOON - HOUR, NOON + HOUR)] == [
        "one.example",
        "b.example",
    ]


def test_statistics_by_the_hour_are_refreshed_hourly_while_they_are_read(engine: Engine) -> None:
    assert schedule("fediverse_hourly").cron_schedule == "0 * * * *"
    job = definitions().get_repository_def().get_job("fediverse_hourly")
    assert "fediverse__hourly_domain_stats" in {node.name for node in job.nodes}
    stats = next(t for t in fediverse.tallies if t.table.name == "hourly_domain_stats")
    with engine.connect() as reader:
        query = "SELECT count(*) FROM fediverse.hourly_domain_stats"
        before = by_hand(reader, query)
        refresh(engine, stats)
        assert by_hand(reader, query) == before
    assert verify(engine, stats).ok


def test_the_plain_growth_of_hashtags_is_read_as_well(
    connection: Connection, client: Client
) -> None:
    at = datetime(2026, 11, 20, 13, tzinfo=UTC)
    grown = growing_hashtags(connection, 1, at, minimum_posts=1, minimum_accounts=1)
    assert {trend.name for trend in grown} == {"sea", "cats"}
    assert client.get("/api/hashtags/growing", params={"instance": 1}).status_code == 200
