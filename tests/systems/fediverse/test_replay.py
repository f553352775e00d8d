"""Deriving posts again from the log: what it repairs, what it names, what it leaves alone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine

from assets.fediverse.processing.batches import process
from assets.fediverse.replay import replay, verify_log
from assets.fediverse.storage import partitions
from assets.fediverse.tallies import system
from tallykeeper import refresh, verify
from tests.integration.fediverse_log import Log, created, emptied, status, tagged
from tests.integration.support import execute, rows, scalar
from tests.servers import Servers


@pytest.fixture(scope="module")
def fediverse(postgres_servers: Servers) -> Iterator[Engine]:
    with created(postgres_servers) as engine:
        yield engine


@pytest.fixture(autouse=True)
def _no_archive(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is dropped is declared to be lost."""
    monkeypatch.setenv("TALLY_ARCHIVE", "none")


@pytest.fixture
def log(fediverse: Engine) -> Log:
    """A log with a conversation, an edit, a reblog and a deletion in it, processed."""
    log = emptied(fediverse)
    # Recent, because what may have been thinned is not compared.
    log.start = datetime.now(UTC) - timedelta(days=1)
    picture = {"id": "4", "type": "image", "url": "u", "description": "cat"}
    log.write("update", status(1, tags=tagged("a"), mentions=[{"id": "3"}]))
    log.write("update", status(2, in_reply_to_id="1", media_attachments=[picture]))
    log.write("status", status(1, favourites_count=4, tags=tagged("a")))
    log.write("status.update", status(2, content="<p>x</p>", edited_at="2026-11-20T13:00:00Z"))
    log.write("update", status(3, reblog=status(4, tags=tagged("b")), content=""))
    log.write("delete", 2)
    process(fediverse)
    return log


DAMAGE = {
    "mastodon_posts": "UPDATE fediverse.mastodon_posts SET favourites_count = 99 WHERE id = '1'",
    "post_deletions": "DELETE FROM fediverse.post_deletions",
    "post_hashtags": "DELETE FROM fediverse.post_hashtags WHERE post_id = '4'",
    "post_mentions": "INSERT INTO fediverse.post_mentions VALUES (1, 3, 8)",
    "post_versions": "UPDATE fediverse.post_versions SET valid_to = NULL WHERE post_id = '2'",
    "media_attachments": "INSERT INTO fediverse.media_attachments VALUES (1, 1, 5, 1)",
    "post_metric_snapshots": "DELETE FROM fediverse.post_metric_snapshots WHERE post_id = '1'",
    "conversation_threads": "UPDATE fediverse.conversation_threads SET depth = 3"
    " WHERE post_id = '2'",
}


@pytest.mark.parametrize("table", DAMAGE)
def test_what_is_not_as_the_log_says_is_named_and_resolved(log: Log, table: str) -> None:
    assert verify_log(log.engine).ok
    before = rows(log.engine, f"SELECT * FROM fediverse.{table}")
    execute(log.engine, DAMAGE[table])
    found = verify_log(log.engine)
    assert not found.ok
    assert {difference.table for difference in found.differences} == {table}
    assert found.differing == len(found.differences)
    done = replay(log.engine)
    assert done.rows == {table: found.differing}
    assert verify_log(log.engine).ok
    assert sorted(rows(log.engine, f"SELECT * FROM fediverse.{table}")) == sorted(before)


def test_a_difference_shows_both_sides(log: Log) -> None:
    execute(
        log.engine,
        "UPDATE fediverse.mastodon_posts SET language = 'xx' WHERE id = '1'",
        "DELETE FROM fediverse.post_versions WHERE post_id = '4'",
        "INSERT INTO fediverse.post_hashtags VALUES (1, 1, 2)",
    )
    different, unexpected, missing = verify_log(log.engine).differences
    assert (different.problem, different.key) == ("different", {"instance_id": 1, "id": "1"})
    assert different.stored is not None
    assert different.expected is not None
    assert (different.stored["language"], different.expected["language"]) == ("xx", "en")
    assert (unexpected.problem, unexpected.expected) == ("unexpected", None)
    assert (missing.problem, missing.stored) == ("missing", None)


def test_only_as_many_differences_are_named_as_asked_but_all_counted(log: Log) -> None:
    execute(log.engine, "UPDATE fediverse.mastodon_posts SET language = 'xx'")
    found = verify_log(log.engine, limit=1)
    assert (found.differing, len(found.differences)) == (4, 1)


def test_comparing_changes_nothing(log: Log) -> None:
    execute(log.engine, "UPDATE fediverse.mastodon_posts SET language = 'xx'")
    assert verify_log(log.engine).differing == verify_log(log.engine).differing == 4


def test_a_replay_where_nothing_was_wrong_writes_nothing(log: Log) -> None:
    places = "SELECT id, ctid::text, xmin::text FROM fediverse.mastodon_posts"
    before = rows(log.engine, places)
    assert replay(log.engine).rows == {}
    assert rows(log.engine, places) == before


def test_a_replay_of_a_window_touches_only_its_posts(log: Log) -> None:
    execute(log.engine, "UPDATE fediverse.mastodon_posts SET language = 'xx'")
    start = log.start + timedelta(minutes=5)
    assert verify_log(log.engine, start, start + timedelta(minutes=1)).differing == 2
    done = replay(log.engine, start, start + timedelta(minutes=1))
    assert done.rows == {"mastodon_posts": 2}
    assert rows(log.engine, "SELECT id, language FROM fediverse.mastodon_posts ORDER BY id") == [
        ("1", "xx"),
        ("2", "xx"),
        ("3", "en"),
        ("4", "en"),
    ]


def test_tallies_follow_what_a_replay_repairs(log: Log) -> None:
    execute(log.engine, "UPDATE fediverse.mastodon_posts SET favourites_count = 99 WHERE id = '1'")
    for tally in system.tallies:
        refresh(log.engine, tally)
    engagement = "SELECT sum(total_engagement) FROM fediverse.hourly_stats_live"
    assert scalar(log.engine, engagement) == 198
    replay(log.engine)
    assert scalar(log.engine, engagement) == 8
    for tally in system.tallies:
        refresh(log.engine, tally)
        assert verify(log.engine, tally).ok


def test_events_that_failed_are_tried_again(log: Log) -> None:
    bad = log.write("update", status(9, created_at="later"))
    process(log.engine)
    payload = '{"created_at": "2026-11-20T11:00:00Z"}'
    execute(
        log.engine,
        f"UPDATE fediverse.stream_events SET payload = payload || '{payload}' WHERE id = {bad}",
    )
    assert replay(log.engine).retried == 1
    assert scalar(log.engine, "SELECT count(*) FROM fediverse.mastodon_posts WHERE id = '9'") == 1
    assert replay(log.engine).retried == 0


def dropped_day(log: Log) -> None:
    """Drop the day of the first events; later ones of the first post follow."""
    log.start += timedelta(days=2)
    log.write("status", status(1, favourites_count=7, tags=tagged("a")), at=0)
    process(log.engine)
    done = partitions.dropped(log.engine, 1, log.start.date())
    assert done.dropped
    assert not done.kept


def test_a_post_whose_first_events_were_dropped_is_left_as_it_is(log: Log) -> None:
    with log.engine.begin() as connection:
        partitions.ensure(connection, log.start.date(), log.start.date() + timedelta(days=3))
    dropped_day(log)
    before = rows(log.engine, "SELECT * FROM fediverse.mastodon_posts ORDER BY id")
    found = verify_log(log.engine)
    assert (found.ok, found.posts, found.skipped) == (True, 0, 1)
    assert replay(log.engine).skipped == 1
    assert rows(log.engine, "SELECT * FROM fediverse.mastodon_posts ORDER BY id") == before


def test_a_late_event_of_a_post_that_cannot_be_derived_again_adds_what_it_can(log: Log) -> None:
    with log.engine.begin() as connection:
        partitions.ensure(connection, log.start.date(), log.start.date() + timedelta(days=3))
    dropped_day(log)
    edit: dict[str, Any] = {"content": "<p>z</p>", "edited_at": "2026-11-20T14:00:00Z"}
    log.write("status.update", status(1, favourites_count=5, **edit), at=-10)
    assert process(log.engine).late == 0
    assert rows(
        log.engine,
        "SELECT content_text, favourites_count FROM fediverse.mastodon_posts WHERE id = '1'",
    ) == [("z", 7)]
    assert (
        scalar(log.engine, "SELECT count(*) FROM fediverse.post_versions WHERE post_id = '1'") == 2
    )


def test_an_empty_log_has_nothing_to_compare(log: Log) -> None:
    far = datetime.combine(date(2001, 1, 1), datetime.min.time(), UTC)
    found = verify_log(log.engine, far, far + timedelta(days=1))
    assert (found.ok, found.posts, found.differing) == (True, 0, 0)
