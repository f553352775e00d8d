"""What processing makes of events: plain ones, and each of the odd ones that real streams have."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError

from assets.fediverse.processing.batches import process
from assets.fediverse.processing.functions import PROGRESS
from assets.fediverse.processing.parsing import AN_ID
from assets.fediverse.tallies import system
from tests.integration.fediverse_log import START, Log, created, emptied, status, tagged
from tests.integration.support import execute, rows, scalar
from tests.servers import Servers

ABOVE_DOUBLES = 2**53 + 1
"""An id that a double cannot hold."""


@pytest.fixture(scope="module")
def fediverse(postgres_servers: Servers) -> Iterator[Engine]:
    with created(postgres_servers) as engine:
        yield engine


@pytest.fixture
def log(fediverse: Engine) -> Log:
    return emptied(fediverse)


def test_a_post_has_what_its_status_says(log: Log) -> None:
    log.say(
        "update",
        status(
            5,
            content="<p>Hello &amp; <b>welcome</b><br />all</p><p>of you</p>",
            replies_count=1,
            favourites_count=2,
            reblogs_count=3,
            in_reply_to_id="4",
            in_reply_to_account_id="8",
        ),
    )
    assert log.posts(
        "id, account_id, domain, content_text, language, visibility, engagement_score,"
        " in_reply_to_id, in_reply_to_account_id, reblog_of_id, created_at, edited_at, deleted_at,"
        " first_seen_at"
    ) == [
        (
            *("5", "7", "one.example", "Hello & welcome\nall\n\nof you", "en", "public"),
            *(3 * 3 + 2 * 2 + 1, "4", "8", None),
            *(START - timedelta(hours=1), None, None, START + timedelta(minutes=1)),
        )
    ]


def test_the_author_is_seen_as_last_and_lives_where_the_name_says(log: Log) -> None:
    far = {"id": "9", "username": "bob", "acct": "bob@Far.example", "followers_count": 3}
    log.say("update", status(1, account=far))
    log.say("update", status(2, account={**far, "followers_count": 2}))
    assert log.posts("domain") == [("far.example",), ("far.example",)]
    assert rows(
        log.engine, "SELECT id, acct, domain, followers_count FROM fediverse.mastodon_accounts"
    ) == [("9", "bob@Far.example", "far.example", 2)]


def test_ids_beyond_doubles_are_read_exactly_as_numbers_and_as_strings(log: Log) -> None:
    log.say("update", status(ABOVE_DOUBLES))
    log.say("update", {**status(), "id": ABOVE_DOUBLES + 1})
    log.say("delete", ABOVE_DOUBLES)
    log.say("delete", str(ABOVE_DOUBLES + 1))
    assert log.posts("id, deleted_at IS NOT NULL") == [
        (str(ABOVE_DOUBLES), True),
        (str(ABOVE_DOUBLES + 1), True),
    ]


def test_a_payload_that_is_text_of_json_is_read_too(log: Log) -> None:
    log.say("update", json.dumps(status(3)))
    assert log.posts("id") == [("3",)]


def test_the_same_event_twice_changes_nothing(log: Log) -> None:
    event = status(1, favourites_count=4, tags=tagged("a"), content="<p>x</p>")
    log.say("update", event)

    def everything() -> list[Any]:
        # But when its author and its hashtags were seen last.
        but = ("mastodon_accounts", "hashtags")
        tables = [t for t in system.processed if t.name not in but]
        return [rows(log.engine, f"SELECT * FROM fediverse.{t.name}") for t in tables]

    before = everything()
    log.say("update", event)
    log.say("status", event)
    assert everything() == before


def test_two_instances_may_use_the_same_ids(log: Log) -> None:
    log.say("update", status(1, content="<p>one</p>", tags=tagged("a")))
    log.say("update", status(1, content="<p>two</p>", tags=tagged("a")), instance=2)
    log.say("delete", 1, instance=2)
    assert log.posts("instance_id, content_text, deleted_at IS NULL") == [
        (1, "one", True),
        (2, "two", False),
    ]
    assert scalar(log.engine, "SELECT count(*) FROM fediverse.hashtags") == 2


def test_counts_are_those_received_last_also_lower_ones(log: Log) -> None:
    for favourites in (3, 9, 5):
        log.say("status", status(1, favourites_count=favourites))
    assert log.posts("favourites_count, engagement_score") == [(5, 10)]
    assert log.snapshots() == [(1, 3), (2, 9), (3, 5)]


def test_a_snapshot_is_kept_when_a_count_changes_or_an_hour_has_passed(log: Log) -> None:
    for minute, favourites in ((0, 1), (30, 1), (59, 1), (60, 1), (100, 1), (119, 2), (170, 2)):
        log.write("status", status(1, favourites_count=favourites), at=minute)
    process(log.engine)
    assert log.snapshots() == [(0, 1), (60, 1), (119, 2)]
    for minute, favourites in ((178, 2), (179, 2)):
        log.write("status", status(1, favourites_count=favourites), at=minute)
        process(log.engine)
    assert log.snapshots() == [(0, 1), (60, 1), (119, 2), (179, 2)]


def test_a_reblog_counts_for_the_post_within_and_has_nothing_of_its_own(log: Log) -> None:
    inner = status(1, favourites_count=6, tags=tagged("Cats"), mentions=[{"id": "3"}])
    outer = status(
        2, favourites_count=6, reblog=inner, account={"id": "8", "acct": "bob"}, content=""
    )
    log.say("update", outer)
    assert log.posts("id, account_id, reblog_of_id, favourites_count, content, hashtags") == [
        ("1", "7", None, 6, "<p>post 1</p>", ["cats"]),
        ("2", "8", "1", 0, None, []),
    ]
    assert rows(log.engine, "SELECT post_id FROM fediverse.post_hashtags") == [("1",)]
    assert rows(log.engine, "SELECT post_id FROM fediverse.post_mentions") == [("1",)]
    assert rows(log.engine, "SELECT post_id FROM fediverse.post_versions") == [("1",)]
    assert rows(log.engine, "SELECT post_id FROM fediverse.post_metric_snapshots") == [("1",)]


def test_tags_up_to_case_and_form_are_one(log: Log) -> None:
    log.say(
        "update", status(1, tags=tagged("Cats", "cats", "Ｃａｔｓ", "Straße", "STRASSE", "日本語"))
    )
    assert log.tags() == ["cats", "strasse", "日本語"]
    assert log.posts("hashtags") == [(["cats", "strasse", "日本語"],)]


def test_an_edit_changes_content_and_relations_and_adds_a_version(log: Log) -> None:
    picture = {"id": "4", "type": "image", "url": "u", "preview_url": "p", "description": "cat"}
    log.say(
        "update",
        status(1, tags=tagged("a", "b"), mentions=[{"id": "3", "acct": "c"}]),
    )
    log.say(
        "status.update",
        status(
            1,
            content="<p>better</p>",
            edited_at="2026-11-20T12:30:00.000Z",
            tags=tagged("b", "c"),
            media_attachments=[picture],
        ),
    )
    assert log.tags() == ["b", "c"]
    assert log.posts("content_text, hashtags, mentions, edited_at") == [
        ("better", ["b", "c"], [], START + timedelta(minutes=30))
    ]
    assert rows(log.engine, "SELECT * FROM fediverse.post_mentions") == []
    assert rows(
        log.engine, "SELECT id, position, type, url, description FROM fediverse.media_attachments"
    ) == [("4", 1, "image", "u", "cat")]
    created, edited = START - timedelta(hours=1), START + timedelta(minutes=30)
    assert log.versions() == [(1, "post 1", created, edited), (2, "better", edited, None)]


def test_an_old_version_seen_late_changes_the_counts_but_not_the_content(log: Log) -> None:
    log.say("update", status(1, content="<p>new</p>", edited_at="2026-11-20T12:30:00Z"))
    log.say("status", status(1, content="<p>old</p>", favourites_count=2))
    assert log.posts("content_text, favourites_count") == [("new", 2)]
    assert [(n, text) for n, text, *_ in log.versions()] == [(1, "old"), (2, "new")]


def test_versions_come_once_and_in_order_whatever_brings_them(log: Log) -> None:
    first = {"content": "<p>a</p>", "created_at": "2026-11-20T11:00:00.000Z"}
    second = {"content": "<p>b</p>", "created_at": "2026-11-20T11:10:00.000Z"}
    third = {"content": "<p>c</p>", "created_at": "2026-11-20T11:20:00.000Z"}
    log.say("history", {"status_id": "1", "history": [first, second, third]})
    log.say("history", {"status_id": "1", "history": []})
    log.say("update", status(1, content="<p>a</p>"))
    log.say("status.update", status(1, content="<p>c</p>", edited_at="2026-11-20T11:20:00Z"))
    log.say("history", {"status_id": "1", "history": [first, second]})
    at = [datetime(2026, 11, 20, 11, minute, tzinfo=UTC) for minute in (0, 10, 20)]
    assert log.versions("version_seq, content_text, valid_from, valid_to, edited_at") == [
        (1, "a", at[0], at[1], None),
        (2, "b", at[1], at[2], at[1]),
        (3, "c", at[2], None, at[2]),
    ]


def test_a_version_keeps_the_form_in_which_it_was_received_first(log: Log) -> None:
    log.say("update", status(1, content='<p><a href="x">y</a></p>'))
    log.say("status", status(1, content='<p><a href="x" translate="no">y</a></p>'))
    assert len(log.versions()) == 1
    assert log.posts("content") == [('<p><a href="x" translate="no">y</a></p>',)]
    assert log.versions("content_html") == [('<p><a href="x">y</a></p>',)]


@pytest.mark.parametrize("fields", [{}, {"edited_at": None}])
def test_an_edit_without_its_time_counts_from_its_receipt_and_once(
    log: Log, fields: dict[str, Any]
) -> None:
    edited = status(1, content="<p>b</p>")
    del edited["edited_at"]
    log.say("update", status(1, content="<p>a</p>"))
    log.say("status.update", {**edited, **fields})
    log.say("status.update", {**edited, **fields})
    assert log.versions() == [
        (1, "a", START - timedelta(hours=1), START + timedelta(minutes=2)),
        (2, "b", START + timedelta(minutes=2), None),
    ]
    assert log.posts("content_text") == [("b",)]


def test_an_edit_without_its_time_gets_it_from_the_history(log: Log) -> None:
    log.say("update", status(1, content="<p>a</p>"))
    log.say("status.update", status(1, content="<p>b</p>"))
    edit = {"content": "<p>b</p>", "created_at": "2026-11-20T11:40:00.000Z"}
    log.say(
        "history",
        {
            "status_id": "1",
            "history": [{"content": "<p>a</p>", "created_at": "2026-11-20T11:00:00Z"}, edit],
        },
    )
    at = datetime(2026, 11, 20, 11, 40, tzinfo=UTC)
    assert log.versions() == [(1, "a", START - timedelta(hours=1), at), (2, "b", at, None)]


def test_a_deletion_leaves_a_tombstone_with_all_relations(log: Log) -> None:
    log.say("update", status(1, tags=tagged("a"), mentions=[{"id": "3"}]))
    log.say("delete", 1)
    assert log.posts("deleted_at, content_text") == [(START + timedelta(minutes=2), "post 1")]
    assert log.tags() == ["a"]
    assert len(log.versions()) == 1


def test_a_deletion_before_its_post_wins(log: Log) -> None:
    log.say("delete", 1)
    assert log.posts("id") == []
    log.say("update", status(1))
    log.say("status", status(1, favourites_count=3))
    assert log.posts("deleted_at, favourites_count") == [(START + timedelta(minutes=1), 3)]


def test_the_first_deletion_counts(log: Log) -> None:
    log.say("update", status(1))
    log.say("delete", 1)
    log.say("delete", "1")
    assert log.posts("deleted_at") == [(START + timedelta(minutes=2),)]


def test_contents_of_deleted_posts_are_removed_where_that_is_wanted(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TALLY_FEDIVERSE_REDACT", "1")
    picture = {"id": "4", "type": "image", "url": "u", "description": "a cat"}
    fields = {"spoiler_text": "beware", "media_attachments": [picture], "tags": tagged("a")}
    log.say("update", status(1, **fields))
    log.say("delete", 1)
    log.say("status", status(1, favourites_count=2, **fields))
    log.say("status.update", status(1, edited_at="2026-11-20T12:30:00Z", **fields))
    assert log.posts("content, content_text, spoiler_text, content_hash") == [(None,) * 4]
    assert log.versions("version_seq, content_html, content_text, spoiler_text") == [
        (1, None, None, None),
        (2, None, None, None),
    ]
    assert rows(log.engine, "SELECT id, description FROM fediverse.media_attachments") == [
        ("4", None)
    ]
    assert log.tags() == []


def test_what_a_post_answers_is_not_forgotten_when_that_is_deleted(log: Log) -> None:
    log.say("update", status(2, in_reply_to_id="1", in_reply_to_account_id="7"))
    log.say("status", status(2))
    assert log.posts("in_reply_to_id, in_reply_to_account_id") == [("1", "7")]


def test_created_at_counts_not_the_time_within_the_id(log: Log) -> None:
    # A snowflake of 2022, created in 2026: posts of other servers come late, and by import.
    log.say("update", status(109_294_719_267_373_593))
    assert log.posts("created_at") == [(START - timedelta(hours=1),)]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("2026-11-20T13:00:00.000+02:00", START - timedelta(hours=1)),
        ("2026-11-20T11:00:00.000Z", START - timedelta(hours=1)),
        ("2026-11-20 11:00", START - timedelta(hours=1)),
    ],
)
def test_times_are_read_with_any_offset_and_without_one_as_utc(
    log: Log, written: str, read: datetime
) -> None:
    log.say("update", status(1, created_at=written))
    assert log.posts("created_at") == [(read,)]


@pytest.mark.parametrize("event", ["notification", "conversation", "filters_changed", "new_thing"])
def test_nothing_is_derived_from_other_events(log: Log, event: str) -> None:
    log.write(event, {"id": "1", "status": status(1)})
    done = process(log.engine)
    assert (done.events, done.ignored, done.failed, done.posts) == (1, 1, 0, 0)
    assert log.posts("id") == []
    assert scalar(
        log.engine,
        "SELECT count(*) FROM fediverse.stream_events WHERE processed_at IS NOT NULL"
        " AND process_error IS NULL",
    )


@pytest.mark.parametrize(
    ("event", "payload", "reason"),
    [
        ("update", 7, "payload: expected a status (an object), came 'number'"),
        ("update", None, "payload: expected a status (an object), came 'null'"),
        ("update", "{not json", "payload: expected a status (an object), came 'string'"),
        ("update", status("x y"), f"id: expected {AN_ID}, came 'x y'"),
        ("update", {**status(), "id": 1.5}, f"id: expected {AN_ID}, came '1.5'"),
        ("update", status(1, account=None), f"account.id: expected {AN_ID}, came nothing"),
        (
            "update",
            status(1, created_at="2026-13-01T00:00:00Z"),
            "created_at: expected an ISO 8601 time, came '2026-13-01T00:00:00Z'",
        ),
        (
            "update",
            status(1, created_at="now"),
            "created_at: expected an ISO 8601 time, came 'now'",
        ),
        (
            "status.update",
            status(1, edited_at="soon"),
            "edited_at: expected an ISO 8601 time, came 'soon'",
        ),
        (
            "status",
            status(1, favourites_count="many"),
            "favourites_count: expected a whole number, came 'many'",
        ),
        (
            "status",
            status(1, reblogs_count=-1),
            "reblogs_count: expected a whole number, came '-1'",
        ),
        (
            "update",
            status(1, visibility=None),
            "visibility: expected one of Mastodon's, it is missing",
        ),
        ("update", status(1, reblog={"id": ""}), f"reblog.id: expected {AN_ID}, came ''"),
        (
            "update",
            status(1, reblog=status(2, created_at="?")),
            "reblog: created_at: expected an ISO 8601 time, came '?'",
        ),
        ("delete", {"id": 1}, "payload: expected the id of a status, came '{\"id\": 1}'"),
        ("delete", 1e-3, "payload: expected the id of a status, came '0.001'"),
        ("history", {"history": []}, f"status_id: expected {AN_ID}, came nothing"),
        (
            "history",
            {"status_id": "1", "history": 3},
            "history: expected a list of versions, came '3'",
        ),
        (
            "history",
            {"status_id": "1", "history": [{"content": "x", "created_at": "?"}]},
            "history, version 1: created_at: expected an ISO 8601 time, came '?'",
        ),
    ],
)
def test_a_malformed_event_says_why_and_stops_nobody(
    log: Log, event: str, payload: Any, reason: str
) -> None:
    log.write("update", status(10))
    bad = log.write(event, payload)
    log.write("update", status(11))
    assert process(log.engine).failed == 1
    assert log.posts("id") == [("10",), ("11",)]
    assert rows(
        log.engine,
        "SELECT id, process_error FROM fediverse.stream_events WHERE process_error IS NOT NULL",
    ) == [(bad, reason)]
    assert process(log.engine).events == 0


def test_there_is_one_row_of_progress(log: Log) -> None:
    for row in ("DEFAULT VALUES", "(only_row) VALUES (false)"):
        with pytest.raises(IntegrityError):
            execute(log.engine, f"INSERT INTO {PROGRESS} {row}")


def test_odd_lists_within_a_status_are_passed_over(log: Log) -> None:
    log.say(
        "update",
        status(
            1,
            tags=[{"name": None}, 3, {"nom": "x"}, {"name": " #Good "}, {"name": "#"}],
            mentions=[{"id": None}, {"id": "x y"}, 7, {"id": 3}],
            media_attachments={"id": 1},
            language="",
        ),
    )
    assert log.tags() == ["good"]
    assert rows(log.engine, "SELECT account_id FROM fediverse.post_mentions") == [("3",)]
    assert log.posts("language") == [(None,)]


def test_a_status_with_few_fields_is_a_post_too(log: Log) -> None:
    few = {
        "id": 1,
        "created_at": "2026-11-20T11:00:00Z",
        "visibility": "public",
        "account": {"id": 2},
    }
    log.say("update", few)
    assert log.posts("id, account_id, domain, content, favourites_count, hashtags") == [
        ("1", "2", "one.example", None, 0, [])
    ]


def test_events_are_processed_in_order_of_receipt_in_batches(log: Log) -> None:
    for minute in (3, 1, 2):
        log.write("status", status(1, favourites_count=minute), at=minute)
    seen: list[int] = []
    done = process(log.engine, batch_events=1, on_batch=lambda so_far: seen.append(so_far.events))
    assert seen == [1, 2, 3]
    assert (done.events, done.batches, done.late) == (3, 3, 0)
    assert log.posts("favourites_count") == [(3,)]


def test_an_event_that_was_received_before_processed_ones_takes_its_place(log: Log) -> None:
    # Recent, for of what is old some snapshots are left out.
    log.start = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)
    log.write("status", status(1, favourites_count=1), at=10)
    log.write("status", status(1, favourites_count=3), at=30)
    process(log.engine)
    log.write("status", status(1, favourites_count=2), at=20)
    log.write("update", status(2), at=21)
    done = process(log.engine)
    assert (done.late, done.posts) == (1, 2)
    assert log.posts("favourites_count, first_seen_at") == [
        (3, log.start + timedelta(minutes=10)),
        (0, log.start + timedelta(minutes=21)),
    ]
    assert log.snapshots() == [(10, 1), (20, 2), (21, 0), (30, 3)]


def test_it_stops_after_as_many_batches_as_wanted(log: Log) -> None:
    for number in range(3):
        log.write("update", status(number))
    assert process(log.engine, batch_events=1, stop_after=2).events == 2
    assert process(log.engine).events == 1


def test_sessions_of_the_pool_that_have_had_temporary_tables_are_passed_over(log: Log) -> None:
    with log.engine.connect() as one, log.engine.connect() as other:
        for connection in (one, other):
            connection.exec_driver_sql("CREATE TEMPORARY TABLE mine AS SELECT 1 AS n")
            connection.commit()
    log.say("update", status(1))
    assert log.posts("id") == [("1",)]
