"""Deleted posts redacted everywhere, such that they can still be derived again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine

from assets.fediverse.processing.batches import process
from assets.fediverse.replay import replay, verify_log
from assets.fediverse.storage.redaction import REDACT
from assets.fediverse.tallies import system
from tallykeeper import refresh, verify
from tests.integration.fediverse_log import Log, created, emptied, status
from tests.integration.support import execute, rows, scalar
from tests.servers import Servers

SECRET = {
    "content": "<p>secret</p>",
    "spoiler_text": "secret",
    "url": "https://one.example/secret",
    "uri": "https://one.example/secret",
    "tags": [{"name": "secret"}],
    "mentions": [{"id": "8", "acct": "secret", "username": "secret", "url": "secret"}],
    "media_attachments": [
        {"id": "5", "type": "image", "url": "secret", "preview_url": "secret"}
        | {"description": "secret", "meta": {"note": "secret"}},
        {"id": "6", "type": "video", "url": "secret"},
    ],
    "card": {"title": "secret"},
    "poll": {"options": ["secret"]},
}
EDIT = {"edited_at": "2026-11-20T11:30:00Z", "content": "<p>another secret</p>"}


@pytest.fixture(scope="module")
def fediverse(postgres_servers: Servers) -> Iterator[Engine]:
    with created(postgres_servers) as engine:
        yield engine


@pytest.fixture
def log(fediverse: Engine, monkeypatch: pytest.MonkeyPatch) -> Log:
    monkeypatch.setenv("TALLY_FEDIVERSE_REDACT", "1")
    return emptied(fediverse)


def secrets(log: Log) -> list[str]:
    """The tables that still say it; of hashtags there are none without a post's name in them."""
    tables = [t.name for t in (*system.raw, *system.processed) if t.name != "hashtags"]
    found = {t: f"SELECT count(*) FROM fediverse.{t} AS t WHERE t::text ~ 'secret'" for t in tables}
    return [table for table, query in found.items() if scalar(log.engine, query)]


def said(log: Log) -> None:
    """A secret in every kind of event that may show one."""
    log.write("update", status(1, **SECRET))
    log.write("status.update", json.dumps(status(1, **SECRET | EDIT, favourites_count=3)))
    versions = [
        {
            "created_at": "2026-11-20T11:00:00Z",
            "content": "<p>secret</p>",
            "spoiler_text": "secret",
        },
        {"created_at": "2026-11-20T11:20:00Z", "content": "<p>between secret</p>"},
    ]
    log.write("history", {"status_id": "1", "history": versions})
    log.write("update", status(2, reblog=status(1, **SECRET | EDIT), account={"id": "9"}))


def stored(log: Log) -> Any:
    """All that processing derived of posts."""
    but = ("mastodon_accounts", "hashtags")
    tables = [t.name for t in system.processed if t.name not in but]
    return {t: sorted(rows(log.engine, f"SELECT * FROM fediverse.{t}"), key=repr) for t in tables}


def test_what_a_deleted_post_said_stands_nowhere(log: Log) -> None:
    said(log)
    process(log.engine)
    assert len(secrets(log)) == 5
    log.say("delete", "1")
    assert secrets(log) == []
    assert log.posts("id, url, uri, hashtags, mentions, favourites_count, deleted_at IS NULL") == [
        ("1", None, None, [], [], 0, False),
        ("2", *log.posts("url, uri")[1], [], [], 0, True),
    ]
    media = rows(log.engine, "SELECT id, type, url, meta_json FROM fediverse.media_attachments")
    assert sorted(media) == [("5", "image", None, None), ("6", "video", None, None)]
    assert len(log.versions()) == 3
    kept = scalar(log.engine, "SELECT count(*) FROM fediverse.post_hashtags")
    assert kept + scalar(log.engine, "SELECT count(*) FROM fediverse.post_mentions") == 0


def test_a_redacted_post_can_be_derived_again_and_stays_as_it_is(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    said(log)
    log.say("delete", "1")
    before = stored(log)
    for setting in ("1", "0"):
        monkeypatch.setenv("TALLY_FEDIVERSE_REDACT", setting)
        assert verify_log(log.engine).ok
        assert replay(log.engine).rows == {}
        assert stored(log) == before
    # An event that comes late has the post derived from all of them.
    log.write("status", status(1, **SECRET, favourites_count=5), at=1)
    assert process(log.engine).late == 1
    monkeypatch.setenv("TALLY_FEDIVERSE_REDACT", "1")
    replay(log.engine)
    assert secrets(log) == []


def test_events_that_show_a_deleted_post_afterwards_are_redacted_too(log: Log) -> None:
    log.write("delete", "1")
    said(log)
    process(log.engine, batch_events=1)
    assert secrets(log) == []
    assert verify_log(log.engine).ok


def test_a_post_within_a_reblog_that_is_deleted_says_what_it_said(log: Log) -> None:
    log.say("update", status(2, reblog=status(1, content="<p>public</p>"), account={"id": "9"}))
    log.say("delete", "2")
    assert log.posts("id, content, deleted_at IS NULL") == [
        ("1", "<p>public</p>", True),
        ("2", None, False),
    ]
    assert (
        scalar(
            log.engine,
            "SELECT payload #>> '{reblog,content}' FROM fediverse.stream_events"
            " WHERE event_type = 'update'",
        )
        == "<p>public</p>"
    )
    assert verify_log(log.engine).ok


def test_a_note_of_another_kind_of_server_is_redacted_too(log: Log) -> None:
    note: dict[str, Any] = {
        "id": "9x",
        "createdAt": "2026-11-20T11:00:00Z",
        "text": "secret",
        "cw": "secret",
    }
    note |= {"visibility": "public", "user": {"id": "u1", "username": "ann"}, "tags": ["secret"]}
    renote = {**note, "id": "9y", "text": None, "cw": None, "renote": note, "tags": []}
    log.write("status", note)
    log.write("status", renote)
    process(log.engine)
    assert len(log.posts("id")) == 2
    log.say("delete", "9x")
    assert secrets(log) == []
    assert verify_log(log.engine).ok
    assert len(log.versions()) == 1


def test_posts_deleted_before_it_was_wanted_are_redacted_by_a_replay(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TALLY_FEDIVERSE_REDACT", "0")
    said(log)
    log.say("delete", "1")
    assert len(secrets(log)) == 5
    monkeypatch.setenv("TALLY_FEDIVERSE_REDACT", "1")
    replay(log.engine)
    assert secrets(log) == []
    assert verify_log(log.engine).ok


def test_tallies_stay_exact_while_posts_are_redacted(log: Log) -> None:
    log.write("update", status(3, tags=[{"name": "secret"}]))
    said(log)
    process(log.engine)
    for tally in system.tallies:
        refresh(log.engine, tally)
    log.say("delete", "1")
    for tally in system.tallies:
        refresh(log.engine, tally)
        assert verify(log.engine, tally).ok
    assert (
        scalar(log.engine, "SELECT sum(posts_using_tag) FROM fediverse.hashtag_hourly_stats") == 1
    )


MARK = "0123456789abcdef" * 2


@pytest.mark.parametrize(
    "field",
    ["x", "secret" * 7_000, MARK.upper(), MARK, f"{MARK}\n", {"hash": MARK}, 12, None],
    ids=lambda field: str(field)[:9].strip(),
)
def test_a_server_cannot_switch_redaction_off_with_a_field_of_its_name(
    log: Log, field: object
) -> None:
    hashes = "SELECT DISTINCT content_hash FROM fediverse.{}"
    versions = [{"created_at": "2026-11-20T11:00:00Z", "content": "<p>secret</p>"}]
    log.say("update", status(1, content="<p>secret</p>", redacted=field))
    log.say("history", {"status_id": "1", "history": [versions[0] | {"redacted": field}]})
    log.say("update", status(2, reblog=status(1, content="<p>secret</p>", redacted=field)))
    own = rows(log.engine, hashes.format("mastodon_posts") + " WHERE id = '1'")
    assert log.versions("content_text, content_hash") == [("secret", own[0][0])]
    log.say("delete", "1")
    assert secrets(log) == []
    assert log.versions("content_text, content_hash") == [(None, own[0][0])]
    assert verify_log(log.engine).ok


def test_what_stands_beside_a_mark_is_removed_all_the_same(log: Log) -> None:
    """A server may send what looks redacted: then its hash counts, and nothing else of it."""
    sent = status(1, **SECRET, redacted=MARK)
    del sent["content"]
    log.say("update", sent)
    log.say("delete", "1")
    assert secrets(log) == []
    assert log.versions("content_hash") == [(MARK,)]
    assert verify_log(log.engine).ok


ODD = {"secret": "secret"}
ODD_MEDIA = [{"id": ODD, "type": ODD}, {"id": "5", "type": "secret " * 99}, {"id": "6 secret"}, ODD]


@pytest.mark.parametrize(
    "fields",
    [
        {"media_attachments": [*ODD_MEDIA, {"id": "7", "type": "image"}]},
        {"language": "secret " * 99},
        {"language": ODD},
        {"sensitive": ODD},
        {"sensitive": ["secret"]},
        {"visibility": "limited"},
        {"in_reply_to_account_id": None, "mentions": "secret", "tags": "secret"},
    ],
    ids=",".join,
)
def test_of_fields_that_are_kept_nothing_stays_but_ids_short_words_and_truths(
    log: Log, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any]
) -> None:
    log.say("update", status(1, **fields))
    log.say("delete", "1")
    assert secrets(log) == []
    media = rows(log.engine, "SELECT id, type FROM fediverse.media_attachments ORDER BY id")
    assert media == ([("5", None), ("7", "image")] if "media_attachments" in fields else [])
    monkeypatch.setenv("TALLY_FEDIVERSE_REDACT", "0")
    assert verify_log(log.engine).ok


def test_what_is_kept_of_a_redacted_event_is_as_it_came(log: Log) -> None:
    sent = status(1, language="zh-Hant-TW", visibility="mutuals_only", sensitive=True)
    sent |= {"in_reply_to_id": 9, "in_reply_to_account_id": "8", "favourites_count": 3}
    sent |= {"media_attachments": [{"id": 5, "type": "image/webp"}]}
    log.say("update", sent)
    log.say("delete", "1")
    (kept,) = rows(log.engine, "SELECT payload FROM fediverse.stream_events WHERE id = 1")[0]
    removed = {"spoiler_text", "uri", "url", "content", "mentions", "tags"}
    assert kept.pop("redacted") == log.versions("content_hash")[0][0]
    assert kept == {name: value for name, value in sent.items() if name not in removed}


FAULTY: dict[str, tuple[str, Any]] = {
    "a count": ("update", status(1, **SECRET, favourites_count="secret")),
    "a time": ("status", status(1, **SECRET | {"created_at": "secret"})),
    "a text": ("status.update", json.dumps(status(1, **SECRET, account="secret"))),
    "a visibility": ("update", status(1, **SECRET, visibility=ODD)),
    "a long one": ("update", status(1, **SECRET, visibility="secret" * 7)),
    "a reblog": ("update", status(1, **SECRET) | {"reblog": "secret"}),
    "a note": ("update", {"id": "1", "createdAt": "secret", "text": "secret"}),
    "a history": ("history", {"status_id": "1", "history": ODD, "content": "secret"}),
    "versions": ("history", {"status_id": 1, "history": ["secret", ODD]}),
    "within": ("update", status(2, reblog=status(1, **SECRET, replies_count="secret"))),
}


@pytest.mark.parametrize("later", [False, True], ids=["before", "after"])
def test_events_that_cannot_be_read_are_redacted_with_their_post(log: Log, later: bool) -> None:
    log.write("update", status(1, **SECRET))
    if later:
        log.say("delete", "1")
    for event, payload in FAULTY.values():
        log.write(event, payload)
    assert process(log.engine).failed == len(FAULTY)
    if not later:
        log.say("delete", "1")
    left = "SELECT e::text FROM fediverse.stream_events AS e WHERE e::text ~ 'secret'"
    assert rows(log.engine, left) == []
    assert secrets(log) == []
    # Read again, they stay what cannot be read: nothing is derived from what is left.
    before = stored(log)
    assert replay(log.engine).retried == len(FAULTY)
    failed = "SELECT count(*) FROM fediverse.stream_events WHERE process_error IS NOT NULL"
    assert (scalar(log.engine, failed), stored(log)) == (len(FAULTY), before)
    assert verify_log(log.engine).ok


AGAIN = {"created_at": EDIT["edited_at"], "content": "secret"}
REFUSED: list[tuple[str, Any]] = [
    ("update", status(1, **SECRET | EDIT)),
    ("status.update", json.dumps(status(1, **SECRET | EDIT))),
    ("update", status(2, reblog=status(1, **SECRET | EDIT))),
    ("history", {"status_id": "1", "history": [{"created_at": "2026-11-20T11:00:00Z"}, AGAIN]}),
    (
        "status",
        {"id": "1", "createdAt": "2026-11-20T11:00:00Z", "text": "secret", "userId": "7"}
        | {"visibility": "public", "updatedAt": EDIT["edited_at"]},
    ),
]


@pytest.mark.parametrize("later", [False, True], ids=["before", "after"])
def test_events_that_the_database_refuses_are_redacted_with_their_post(
    log: Log, later: bool
) -> None:
    log.say("update", status(1))
    if later:
        log.say("delete", "1")
    tame = "ALTER TABLE fediverse.post_versions {} CONSTRAINT tame{}"
    execute(log.engine, tame.format("ADD", " CHECK (edited_at IS NULL)"))
    try:
        for event, payload in REFUSED:
            log.write(event, payload)
        assert process(log.engine).failed == len(REFUSED)
    finally:
        execute(log.engine, tame.format("DROP", ""))
    if not later:
        log.say("delete", "1")
    left = "SELECT e::text FROM fediverse.stream_events AS e WHERE e::text ~ 'secret|tame'"
    assert rows(log.engine, left) == []
    before = stored(log)
    assert replay(log.engine).retried == len(REFUSED)
    assert stored(log) == before


def test_a_payload_that_is_json_alone_stops_no_redaction(log: Log) -> None:
    """An application's own log may hold it, and say of which post it is."""
    kind = "ALTER TABLE fediverse.stream_events ALTER payload TYPE {}"
    execute(
        log.engine,
        kind.format("json"),
        "INSERT INTO fediverse.stream_events (instance_id, event_type, payload, payload_status_id)"
        """ VALUES (1, 'update', '{"id": "1", "content": "secret \\u0000"}', '1')""",
    )
    log.write("update", status(1, **SECRET))
    assert process(log.engine).failed == 1
    log.say("delete", "1")
    assert secrets(log) == []
    execute(log.engine, kind.format("jsonb"))


def test_what_is_redacted_already_is_not_written_again(log: Log) -> None:
    said(log)
    for event, payload in FAULTY.values():
        log.write(event, payload)
    process(log.engine)
    for post in ("1", "2"):
        log.say("delete", post)
    again = f"SELECT sum({REDACT}(instance_id, post_id)) FROM fediverse.post_deletions"
    assert scalar(log.engine, again) == 0


def test_further_fields_of_a_history_are_removed(log: Log) -> None:
    version = {"created_at": "2026-11-20T11:00:00Z", "content": "secret", "reblog": ODD}
    log.say("history", {"status_id": "1", "history": [version], "content": "secret"})
    log.say("delete", "1")
    assert secrets(log) == []
    assert verify_log(log.engine).ok
