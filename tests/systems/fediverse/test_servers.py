"""What servers other than Mastodon send: each as its API writes it, and what becomes of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine

from assets.fediverse.processing import rederive
from assets.fediverse.processing.batches import process
from assets.fediverse.replay import verify_log
from assets.fediverse.tallies import system
from tallykeeper import DoesNotFit
from tallykeeper.database.connections import open_engine
from tallykeeper.installation.migrate import migrate
from tests.integration.fediverse_log import Log, created, emptied, status
from tests.integration.support import create, execute, rows, scalar
from tests.server_statuses import compatible, gotosocial, note, pixelfed, pleroma
from tests.servers import VERSIONS, Servers


@pytest.fixture(scope="module")
def fediverse(postgres_servers: Servers) -> Iterator[Engine]:
    with created(postgres_servers) as engine:
        yield engine


@pytest.fixture
def log(fediverse: Engine) -> Log:
    return emptied(fediverse)


LOGGED = ("payload_status_id", "payload_reblog_id")
COLUMNS = (
    "id, account_id, domain, content_text, visibility, engagement_score, hashtags::text, language"
)


FLAKE, ULID = "AeQ9xYzV1b2C3d4E5f", "01HWRRWYV739R3GG41NDQEYZ86"
ADDRESS, OF_AUTHOR = "https://a.example/notes/1?x=%20'y", "https://a.example/u/\xe9"
EXPECTED: dict[str, tuple[dict[str, Any], tuple[Any, ...]]] = {
    "Pleroma": (
        pleroma(),
        (FLAKE, "9zYxWvUtSrQpOnMlKj", "one.example", "the wired", "public", 7, '["wired"]', None),
    ),
    "GoToSocial": (
        gotosocial(),
        (
            *(ULID, "01F8MH1H7YV1Z7D2C8K2730QBF", "one.example"),
            *("hello #sloths", "unlisted", 0, '["sloths"]', "en"),
        ),
    ),
    "Pixelfed": (
        pixelfed(),
        (
            *("512345678901234567", "371234567890123456", "one.example"),
            *("a cat", "public", 17, '["cat"]', None),
        ),
    ),
    "Misskey": (
        note(),
        (
            *("9zxk3abcde", "9aaaaaaaaa", "one.example"),
            *("a < b & c\n#misskey", "public", 15, '["misskey"]', None),
        ),
    ),
    "Mastodon's form of Misskey": (
        compatible(),
        ("9zxk3abcde", "9aaaaaaaaa", "mk.example", "hi", "public", 4, "[]", None),
    ),
    "addresses for ids": (
        status(ADDRESS, account={"id": OF_AUTHOR}),
        (ADDRESS, OF_AUTHOR, "one.example", f"post {ADDRESS}", "public", 0, "[]", "en"),
    ),
}


@pytest.mark.parametrize("server", EXPECTED)
def test_a_status_of_each_server_is_a_post(log: Log, server: str) -> None:
    sent, post = EXPECTED[server]
    log.say("update", sent)
    assert log.posts(COLUMNS) == [post]
    # Of what hangs on it each row is once, and belongs to it.
    for table in ("post_versions", "conversation_threads", "post_metric_snapshots"):
        assert rows(log.engine, f"SELECT post_id FROM fediverse.{table}") == [(post[0],)]
    assert verify_log(log.engine).ok
    log.say("delete", sent["id"])
    assert log.posts("deleted_at IS NOT NULL") == [(True,)]


def test_ids_of_media_and_mentions_are_kept_as_they_are_written(log: Log) -> None:
    file = {"id": "9cccccccc1", "type": "image/webp", "url": "u", "comment": "cat"}
    log.say("update", gotosocial())
    log.say("update", pixelfed())
    log.say("update", note(files=[file], fileIds=[file["id"]]))
    media = "SELECT id, type, description FROM fediverse.media_attachments ORDER BY id"
    assert rows(log.engine, media) == [
        ("01F8MH7TDVANYKWVE8VVKFPJTJ", "gifv", None),
        ("88", "image", None),
        ("9cccccccc1", "image", "cat"),
    ]
    mentions = "SELECT account_id FROM fediverse.post_mentions ORDER BY 1"
    assert rows(log.engine, mentions) == [("01FHMQX3GAABWSM0S2VZEC2SWC",), ("9bbbbbbbbb",)]


def test_an_id_is_the_same_as_a_number_and_as_text(log: Log) -> None:
    log.say("update", pixelfed(favourites_count=1))
    log.say("status", pixelfed(id="512345678901234567", favourites_count=9))
    log.say("update", pixelfed(id=6, in_reply_to_id=512345678901234567))
    log.say("delete", "6")
    assert log.posts("id, favourites_count, in_reply_to_id, deleted_at IS NULL") == [
        ("512345678901234567", 9, None, True),
        ("6", 4, "512345678901234567", False),
    ]


def test_ids_that_differ_in_case_or_zeros_are_different_posts(log: Log) -> None:
    for id_ in ("AbC", "abc", "007", "7", "\xe9", "e\u0301"):
        log.say("update", pleroma(id=id_))
    assert len(log.posts("id")) == 6


@pytest.mark.parametrize("visibility", ["local", "list", "direct", "private", "mutuals_only"])
def test_what_not_everybody_may_see_is_a_post_that_no_tally_counts(
    log: Log, visibility: str
) -> None:
    log.say("update", pleroma(visibility=visibility))
    assert log.posts("visibility") == [(visibility,)]
    assert scalar(log.engine, "SELECT count(*) FROM fediverse.hourly_stats_live") == 0


def test_reactions_quotes_and_polls_do_not_count(log: Log) -> None:
    quoted = {"state": "accepted", "quoted_status": status(99, favourites_count=50)}
    poll = {"id": "1", "options": [{"title": "a", "votes_count": 7}], "votes_count": 7}
    log.say("update", pleroma(quote=quoted, poll=poll, content=None))
    assert log.posts("id, favourites_count, content") == [("AeQ9xYzV1b2C3d4E5f", 2, None)]


def test_a_reblog_of_each_kind_shows_the_post_within(log: Log) -> None:
    log.say("update", pleroma(id="AReblog", reblog=pleroma(), content="RT: the wired"))
    log.say(
        "update", note(id="9renote", text=None, renoteId="9zxk3abcde", renote=note(renoteCount=5))
    )
    log.say("update", note(id="9quote", text="look", renoteId="9zxk3abcde", renote=note()))
    assert log.posts("id, reblog_of_id, content_text, reblogs_count") == [
        ("9quote", None, "look", 1),
        ("9renote", "9zxk3abcde", None, 0),
        ("9zxk3abcde", None, "a < b & c\n#misskey", 5),
        ("AReblog", "AeQ9xYzV1b2C3d4E5f", None, 0),
        ("AeQ9xYzV1b2C3d4E5f", None, "the wired", 1),
    ]


@pytest.mark.parametrize("deep", [1, 400])
def test_of_renotes_within_renotes_the_first_post_within_is_shown_alone(
    log: Log, deep: int
) -> None:
    """A server may nest them without end; a post says nothing of what stands within another."""
    within = note(id="9last")
    for level in range(deep):
        within = note(id=f"9within{level}", text=None, renote=within)
    log.say("update", note(id="9outer", text=None, renote=within))
    assert log.posts("id, reblog_of_id, content") == [
        ("9outer", f"9within{deep - 1}", None),
        (f"9within{deep - 1}", None, None),
    ]


@pytest.mark.parametrize(
    ("fields", "column", "value"),
    [
        ({"visibility": "home"}, "visibility", "unlisted"),
        ({"visibility": "followers"}, "visibility", "private"),
        ({"visibility": "specified"}, "visibility", "direct"),
        ({"localOnly": True}, "visibility", "local"),
        ({"cw": "spoiler"}, "spoiler_text || sensitive", "spoilertrue"),
        (
            {"text": None, "files": [{"id": "1", "type": "video/mp4"}]},
            "coalesce(content, '-')",
            "-",
        ),
        ({"replyId": "9parent", "reply": {"userId": "9u"}}, "in_reply_to_account_id", "9u"),
        ({"user": {"username": "a", "host": "far.example"}}, "domain", "far.example"),
        ({"user": None}, "account_id", "9aaaaaaaaa"),
        ({"reactions": [], "tags": "x", "mentions": 3, "files": {}}, "favourites_count::text", "0"),
        ({"reactions": {"a": "many", "b": 1}}, "favourites_count::text", "1"),
        (
            {"updatedAt": "2026-11-20T11:30:00Z"},
            "(edited_at AT TIME ZONE 'UTC')::time::text",
            "11:30:00",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else ",".join(value),
)
def test_what_a_note_says_otherwise(
    log: Log, fields: dict[str, Any], column: str, value: str
) -> None:
    log.say("status", note(**fields))
    assert log.posts(column) == [(value,)]


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (note(createdAt="yesterday"), "created_at: expected an ISO 8601 time, came 'yesterday'"),
        (note(userId=None, user={}), "account.id: expected an id"),
        (note(visibility=None), "visibility: expected one of Mastodon's, it is missing"),
        (note(text=None, renoteId="9gone", renote={"id": "9gone"}), "reblog: "),
        (pleroma(id="x" * 256), "id: expected an id"),
        (gotosocial(account={**gotosocial()["account"], "id": "y" * 256}), "account.id: "),
        (pixelfed(in_reply_to_id="z" * 256), "in_reply_to_id: expected an id"),
        (pleroma(created_at=None), "created_at: expected an ISO 8601 time, came nothing"),
        (gotosocial(created_at=1700000000), "created_at: expected an ISO 8601 time"),
    ],
)
def test_what_cannot_be_read_costs_that_event_alone(
    log: Log, sent: dict[str, Any], reason: str
) -> None:
    log.write("update", gotosocial(id="01BEFORE"))
    log.write("update", sent)
    log.write("update", gotosocial(id="01AFTER"))
    assert process(log.engine).failed == 1
    assert log.posts("id") == [("01AFTER",), ("01BEFORE",)]
    errors = "SELECT process_error FROM fediverse.stream_events WHERE process_error IS NOT NULL"
    assert scalar(log.engine, errors).startswith(reason)


def test_the_later_event_counts_whatever_the_ids_look_like(log: Log) -> None:
    """A larger id is no later one: of flakes and addresses it says nothing."""
    for at, id_ in enumerate(("z", "Z", "a", "9", "10")):
        log.say("update", gotosocial(id=id_, created_at=f"2026-11-20T11:0{at}:00Z"))
        log.say("status.update", gotosocial(id=id_, edited_at=f"2026-11-20T11:1{at}:00Z"))
    posts = "SELECT id FROM fediverse.mastodon_posts ORDER BY created_at"
    assert rows(log.engine, posts) == [("z",), ("Z",), ("a",), ("9",), ("10",)]
    assert scalar(log.engine, "SELECT count(*) FROM fediverse.post_versions") == 10
    assert verify_log(log.engine).ok


def test_a_circle_is_cut_at_the_first_id_by_bytes(log: Log) -> None:
    for id_, answered in (
        ("a", "Z"),
        ("Z", "\N{GREEK SMALL LETTER ALPHA}"),
        ("\N{GREEK SMALL LETTER ALPHA}", "a"),
    ):
        log.say("update", gotosocial(id=id_, in_reply_to_id=answered))
    roots = "SELECT DISTINCT root_post_id FROM fediverse.conversation_threads"
    assert rows(log.engine, roots) == [("Z",)]
    assert verify_log(log.engine).ok


def test_tables_in_another_collation_are_processed_and_replayed_whole(
    postgres_servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a comes before B, and 10 after 9; Debian's server alone knows such collations."""
    with postgres_servers.fresh_database(VERSIONS[-1]) as url:
        engine = open_engine(url)
        create(engine, system)
        order = "varchar(64) COLLATE numeric"
        execute(
            engine,
            "CREATE COLLATION numeric (provider = icu, locale = 'en-u-kn')",
            *(f"ALTER TABLE fediverse.stream_events ALTER {n} TYPE {order}" for n in LOGGED),
            # As the database's own collation is, with which the bytes' order can be combined.
            "ALTER TABLE fediverse.post_mentions ALTER account_id TYPE text",
        )
        log = Log(engine)
        ids = ("a", "B", "c", "D", "9", "10")
        for id_, answered in zip(ids, (*ids[1:], ids[0]), strict=True):
            log.say("update", gotosocial(id=id_, in_reply_to_id=answered))
        log.write("status", gotosocial(id="B", favourites_count=1), at=1)
        assert process(engine).late == 1
        roots = "SELECT DISTINCT root_post_id FROM fediverse.conversation_threads"
        assert rows(engine, roots) == [("10",)]
        for chunk in (1, 2, 3):
            monkeypatch.setattr(rederive, "CHUNK_POSTS", chunk)
            found = verify_log(engine)
            assert (found.posts, found.ok) == (6, True)
        # The one id of 65 characters does not go into that column, and costs its event alone.
        log.write("update", gotosocial(id="x" * 65))
        log.write("update", gotosocial(id="after"))
        assert process(engine).failed == 1
        assert scalar(engine, "SELECT count(*) FROM fediverse.mastodon_posts") == 7
        execute(
            engine, "ALTER TABLE fediverse.post_deletions ALTER post_id TYPE text COLLATE numeric"
        )
        with pytest.raises(DoesNotFit, match=r"post_deletions.post_id has the collation .numeric"):
            migrate(engine, [system])
        engine.dispose()
