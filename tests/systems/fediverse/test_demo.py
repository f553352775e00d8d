"""The made-up streams: as events come, as many as wished, made once, and truly trending."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine

from assets.fediverse.demo import INSTANCES, change_demo, create_demo, summary
from assets.fediverse.demo_words import hashtag_names
from assets.fediverse.processing.batches import process
from assets.fediverse.replay import verify_log
from assets.fediverse.tallies import system
from tallykeeper import refresh, verify
from tests.integration.support import rows, scalar
from tests.templates import migrated

EVENTS = "fediverse.stream_events"


@pytest.fixture
def fediverse(engine: Engine) -> Engine:
    """A database with the fediverse's tables, functions and partitions."""
    migrated(engine, system)
    return engine


def settle(engine: Engine) -> None:
    """Process, refresh, and compare all with what it comes from."""
    process(engine)
    for tally in system.tallies:
        refresh(engine, tally)
        assert verify(engine, tally).ok
    assert verify_log(engine).ok


def test_there_are_as_many_events_as_wished_and_they_end_now(fediverse: Engine) -> None:
    made = create_demo(fediverse, events=8_000)
    assert made == scalar(fediverse, f"SELECT count(*) FROM {EVENTS}") + len(INSTANCES)
    assert 7_000 < made < 9_500
    assert scalar(
        fediverse,
        "SELECT max(received_at) BETWEEN now() - interval '10 minutes' AND now()"
        f" AND min(received_at) > now() - interval '15 days' FROM {EVENTS}",
    )
    kinds = dict(rows(fediverse, f"SELECT event_type, count(*) FROM {EVENTS} GROUP BY 1"))
    assert {"update", "status", "status.update", "delete", "notification"} == kinds.keys()
    in_order = (
        "SELECT bool_and(received_at >= before) FROM (SELECT received_at, lag(received_at)"
        f" OVER (ORDER BY id) AS before FROM {EVENTS} WHERE instance_id = 1"
        f" AND id <= (SELECT max(id) - 4 FROM {EVENTS} WHERE instance_id = 1)) AS e"
    )
    assert scalar(fediverse, in_order)
    assert scalar(fediverse, "SELECT count(*) FROM fediverse.stream_events_default") == 0


def test_what_follows_is_as_odd_as_life(fediverse: Engine) -> None:
    create_demo(fediverse, events=8_000)
    settle(fediverse)
    ((posts, replies, reblogs, edited, deleted, tagged),) = rows(
        fediverse,
        "SELECT count(*), count(in_reply_to_id), count(reblog_of_id), count(edited_at),"
        " count(deleted_at), count(*) FILTER (WHERE hashtags <> '[]')"
        " FROM fediverse.mastodon_posts",
    )
    assert replies > posts / 5
    assert posts / 3 < tagged < posts * 2 / 3
    for few in (reblogs, edited, deleted):
        assert posts / 100 < few < posts / 8
    assert scalar(fediverse, "SELECT max(version_seq) FROM fediverse.post_versions") == 2
    assert scalar(fediverse, "SELECT max(depth) FROM fediverse.conversation_threads") > 1
    fell = (
        "SELECT count(*) FROM (SELECT favourites_count < lag(favourites_count)"
        " OVER (PARTITION BY instance_id, post_id ORDER BY captured_at) AS fell"
        " FROM fediverse.post_metric_snapshots) AS s WHERE fell"
    )
    assert scalar(fediverse, fell) > 0
    reasons = f"SELECT count(*) FROM {EVENTS} WHERE process_error IS NOT NULL"
    assert scalar(fediverse, reasons) == 4 * len(INSTANCES)
    by_hour = [
        n
        for (n,) in rows(
            fediverse,
            "SELECT count(*) FROM fediverse.mastodon_posts"
            " GROUP BY extract(hour FROM created_at AT TIME ZONE 'UTC') ORDER BY 1",
        )
    ]
    assert by_hour[-1] > 2 * by_hour[0]


def test_hashtags_are_uneven_of_every_script_and_one_of_each_instance_is_trending(
    fediverse: Engine,
) -> None:
    create_demo(fediverse, events=12_000)
    settle(fediverse)
    used = [
        n
        for (n,) in rows(
            fediverse,
            "SELECT count(*) FROM fediverse.post_hashtags GROUP BY instance_id, hashtag_id"
            " ORDER BY 1 DESC",
        )
    ]
    assert sum(used[: len(used) // 10]) > sum(used) / 3
    names = {name for (name,) in rows(fediverse, "SELECT name FROM fediverse.hashtags")}
    assert {"photography", "strasse", "日本語", "ネコ"} <= names
    lines = sorted(summary(fediverse))
    assert lines[0].startswith("Trending on https://demo-one.example: #auroratonight (")
    assert lines[1].startswith("Trending on https://demo-two.example: #夏祭り (")


def test_the_streams_are_made_up_once(fediverse: Engine) -> None:
    create_demo(fediverse, events=2_000)
    before = rows(fediverse, f"SELECT * FROM {EVENTS} ORDER BY id")
    assert create_demo(fediverse, events=2_000) == 0
    assert rows(fediverse, f"SELECT * FROM {EVENTS} ORDER BY id") == before


def test_an_hour_later_posts_have_changed_and_events_come_late(fediverse: Engine) -> None:
    create_demo(fediverse, events=4_000)
    settle(fediverse)
    events = scalar(fediverse, f"SELECT count(*) FROM {EVENTS}")
    changed = change_demo(fediverse)
    # Two days of fourteen, at all hours of the day: how many posts fell into them depends on now.
    assert changed == scalar(fediverse, f"SELECT count(*) FROM {EVENTS}") - events > 200
    done = process(fediverse)
    assert (done.events, done.failed) == (changed, 4 * len(INSTANCES))
    assert done.late > 20
    settle(fediverse)


def test_changing_streams_that_are_not_made_up_changes_nothing(fediverse: Engine) -> None:
    assert change_demo(fediverse) == 0
    assert summary(fediverse) == []


@pytest.mark.parametrize(("events", "seed"), [(-1, 0.0), (200_000_000, 0.0), (1, 1.5)])
def test_a_demo_of_impossible_size_is_reported(fediverse: Engine, events: int, seed: float) -> None:
    with pytest.raises(ValueError, match="Expected 0 to 100,000,000 events and a seed"):
        create_demo(fediverse, events, seed)


def test_names_of_hashtags_differ_and_the_plainest_come_first() -> None:
    names = hashtag_names(40_000)
    assert len(set(names)) == 40_000
    assert names[:2] == ["Photography", "News"]
