"""Processing: the same events give the same tables, in whatever order and batches they arrive."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine

from assets.fediverse.processing.batches import process
from assets.fediverse.replay import replay, verify_log
from assets.fediverse.storage.thinning import thin_snapshots
from assets.fediverse.tallies import system
from tallykeeper import refresh, verify
from tests.fediverse_events import (
    Event,
    add_events,
    add_instances,
    derived,
    events_of,
    forget_everything,
    recently,
    require_same,
)
from tests.integration.support import create, execute, rows, scalar

ALL = 10_000
# Contents of posts and versions that are there to read.
WITH_CONTENT = """
SELECT count(content) FROM (
  SELECT instance_id, id AS post_id, content FROM fediverse.mastodon_posts
  UNION ALL SELECT instance_id, post_id, content_html FROM fediverse.post_versions
) AS c LEFT JOIN fediverse.post_deletions AS d USING (instance_id, post_id)"""


@pytest.fixture
def fediverse(engine: Engine) -> Engine:
    create(engine, system)
    add_instances(engine)
    return engine


def in_order_of_receipt(engine: Engine, events: Sequence[Event]) -> dict[str, list[str]]:
    """What one batch makes of the events: what every other way has to give."""
    forget_everything(engine)
    add_events(engine, events)
    process(engine, batch_events=ALL)
    return derived(engine)


def status(number: int, at: datetime, **fields: Any) -> dict[str, Any]:
    """The least that a status says."""
    return {
        "id": str(number),
        "created_at": at.isoformat(),
        "visibility": "public",
        "content": "",
        "account": {"id": "2"},
        **fields,
    }


def posts_of(event: Event) -> set[tuple[int, int]]:
    """The posts that an event is about, roughly: its numbers."""
    text = str(event.payload)
    digits = "".join(c if c.isdigit() else " " for c in text).split()
    return {(event.instance, int(d)) for d in digits if len(d) == 18}


def shuffled(rng: random.Random, events: Sequence[Event]) -> list[Event]:
    """Another order that keeps the order of the events of each post."""
    left, result = list(events), []
    while left:
        taken: set[tuple[int, int]] = set()
        first = []
        for place, event in enumerate(left[:12]):
            about = posts_of(event)
            if not about & taken:
                first.append(place)
            taken |= about
        result.append(left.pop(rng.choice(first)))
    return result


def arrive(engine: Engine, rng: random.Random, events: Sequence[Event], batch: int) -> None:
    """Some events arrive and are processed, then some more."""
    forget_everything(engine)
    place = 0
    while place < len(events):
        some = rng.choice((1, 5, 30))
        add_events(engine, events[place : place + some])
        place += some
        process(engine, batch_events=batch)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(3))
def test_any_order_that_keeps_each_posts_own_makes_the_same_in_batches_of_any_size(
    fediverse: Engine, part: int
) -> None:
    for number in range(2):
        seed = f"{part} {number}"
        rng, events = random.Random(seed), events_of(seed, 60)
        expected = in_order_of_receipt(fediverse, events)
        for batch in (1, rng.choice((2, 7)), 40):
            arrive(fediverse, rng, shuffled(rng, events), batch)
            require_same(derived(fediverse), expected, f"seed {seed}, batches of {batch}")


@pytest.mark.slow
@pytest.mark.parametrize(("part", "days_ago"), [(0, 0), (1, 5), (2, 40)])
def test_events_that_arrive_later_than_they_were_received_give_the_same(
    fediverse: Engine, part: int, days_ago: float
) -> None:
    """Also where they are so old that their snapshots will be thinned."""
    for number in range(2):
        seed = f"late {part} {number}"
        rng, events = random.Random(seed), events_of(seed, 60, days_ago=days_ago)
        expected = in_order_of_receipt(fediverse, events)
        for batch in (1, 7, 40):
            arrive(fediverse, rng, rng.sample(events, len(events)), batch)
            require_same(derived(fediverse), expected, f"seed {seed}, batches of {batch}")


@pytest.mark.slow
def test_old_snapshots_are_verified_and_replayed_whether_thinned_or_not(fediverse: Engine) -> None:
    seed = "old"
    in_order_of_receipt(fediverse, events_of(seed, 200, posts=4, days_ago=45))
    snapshots = "SELECT * FROM fediverse.post_metric_snapshots ORDER BY 1, 2, 3"
    sizes = []
    for _ in range(2):
        before = rows(fediverse, snapshots)
        sizes.append(len(before))
        assert verify_log(fediverse).ok
        assert "post_metric_snapshots" not in replay(fediverse).rows
        assert rows(fediverse, snapshots) == before
        thin_snapshots(fediverse)
    assert sizes[1] < sizes[0]
    # What thinning would leave is missed, and what no event says is found, however old.
    execute(
        fediverse,
        "DELETE FROM fediverse.post_metric_snapshots WHERE (instance_id, post_id, captured_at) IN"
        " (SELECT instance_id, post_id, max(captured_at) FROM fediverse.post_metric_snapshots"
        " GROUP BY 1, 2 ORDER BY 1, 2 LIMIT 1)",
    )
    assert {d.problem for d in verify_log(fediverse).differences} == {"missing"}
    assert replay(fediverse).rows == {"post_metric_snapshots": 1}
    execute(
        fediverse,
        "UPDATE fediverse.post_metric_snapshots SET captured_at = captured_at + interval '1 second'"
        " WHERE captured_at = (SELECT min(captured_at) FROM fediverse.post_metric_snapshots)",
    )
    assert not verify_log(fediverse).ok
    replay(fediverse)
    assert verify_log(fediverse).ok


def test_contents_of_deleted_posts_are_deleted_in_whatever_order_and_batches(
    fediverse: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TALLY_FEDIVERSE_REDACT", "1")
    for number in range(3):
        seed = f"redacted {number}"
        rng, events = random.Random(seed), events_of(seed, 60, posts=4)
        expected = in_order_of_receipt(fediverse, events)
        assert scalar(fediverse, f"{WITH_CONTENT} WHERE d.deleted_at IS NOT NULL") == 0
        arrive(fediverse, rng, rng.sample(events, len(events)), 7)
        require_same(derived(fediverse), expected, f"seed {seed}")


def test_a_late_event_that_names_another_parent_moves_all_that_hangs_on_the_post(
    fediverse: Engine,
) -> None:
    first = recently()
    answers = [(1, None), (2, None), (3, 1), (3, 2), (4, 3)]
    events = [
        Event(1, at, "update", status(post, at, in_reply_to_id=parent))
        for n, (post, parent) in enumerate(answers)
        for at in [first + timedelta(seconds=n)]
    ]
    expected = in_order_of_receipt(fediverse, events)
    placed = '"depth": 2, "instance_id": 1, "post_id": "4"'
    assert placed in str(expected["conversation_threads"])
    forget_everything(fediverse)
    add_events(fediverse, [*events[:2], *events[3:]])
    process(fediverse)
    add_events(fediverse, [events[2]])
    assert process(fediverse).late == 1
    require_same(derived(fediverse), expected, "after the late event")


def test_a_delete_redacts_also_in_one_batch_with_an_older_version(
    fediverse: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TALLY_FEDIVERSE_REDACT", "1")
    first = recently()
    original = status(1, first, content="said")
    edited = {**original, "content": "edited", "edited_at": first.isoformat()}
    said = [("update", edited), ("delete", 1), ("status", original)]
    events = [Event(1, first + timedelta(seconds=n), *each) for n, each in enumerate(said)]
    add_events(fediverse, events[:1])
    process(fediverse)
    assert scalar(fediverse, WITH_CONTENT) == 2
    add_events(fediverse, events[1:])
    process(fediverse)
    assert scalar(fediverse, WITH_CONTENT) == 0


def test_the_events_made_up_are_as_odd_as_real_ones(fediverse: Engine) -> None:
    """Otherwise the other tests show nothing."""
    in_order_of_receipt(fediverse, events_of("odd", 1_500, posts=40))
    # Servers do not say who follows whom.
    for table in system.processed[:-1]:
        assert scalar(fediverse, f"SELECT count(*) FROM fediverse.{table.name}") > 5, table.name
    cases = {
        "a post in both instances": "SELECT id FROM fediverse.mastodon_posts GROUP BY 1"
        " HAVING count(*) = 2",
        "a deleted post": "SELECT FROM fediverse.mastodon_posts WHERE deleted_at IS NOT NULL",
        "a deletion that came first": "SELECT FROM fediverse.mastodon_posts"
        " WHERE deleted_at < first_seen_at",
        "a deletion of a post never seen": "SELECT FROM fediverse.post_deletions AS d WHERE NOT"
        " EXISTS (SELECT FROM fediverse.mastodon_posts AS p WHERE p.instance_id = d.instance_id"
        " AND p.id = d.post_id)",
        "a post of several versions": "SELECT FROM fediverse.post_versions WHERE version_seq > 2",
        "a reblog": "SELECT FROM fediverse.mastodon_posts WHERE reblog_of_id IS NOT NULL",
        "a long conversation": "SELECT FROM fediverse.conversation_threads WHERE depth > 3",
        "a parent never seen": "SELECT FROM fediverse.conversation_threads AS t WHERE NOT EXISTS"
        " (SELECT FROM fediverse.mastodon_posts AS p WHERE p.id = t.root_post_id)",
        "a circle": "SELECT FROM fediverse.mastodon_posts AS p JOIN fediverse.conversation_threads"
        " AS t ON t.instance_id = p.instance_id AND t.post_id = p.id AND t.depth = 0"
        " WHERE in_reply_to_id IS NOT NULL",
        "counts that fell": "SELECT FROM fediverse.post_metric_snapshots AS a"
        " JOIN fediverse.post_metric_snapshots AS b USING (instance_id, post_id)"
        " WHERE a.captured_at < b.captured_at AND a.favourites_count > b.favourites_count",
        "a tag of several spellings": "SELECT FROM fediverse.hashtags WHERE name = 'strasse'",
        "an ignored event": "SELECT FROM fediverse.stream_events WHERE event_type = 'notification'",
    }
    for name, query in cases.items():
        assert rows(fediverse, f"{query} LIMIT 1"), name
    reasons = "SELECT DISTINCT left(process_error, 12) FROM fediverse.stream_events"
    assert len(rows(fediverse, reasons)) > 8


def test_replaying_everything_writes_nothing_and_the_log_is_verified(fediverse: Engine) -> None:
    events = events_of("replay", 300, posts=20)
    expected = in_order_of_receipt(fediverse, events)
    found = verify_log(fediverse)
    assert found.ok, found
    assert found.posts > 20
    done = replay(fediverse)
    assert done.rows == {}
    assert done.posts == found.posts
    require_same(derived(fediverse), expected, "after a replay")


DAMAGE = {
    "mastodon_posts": "UPDATE fediverse.mastodon_posts SET favourites_count = 77 WHERE {post}",
    "mastodon_posts answers another": "UPDATE fediverse.mastodon_posts SET in_reply_to_id = 1"
    " WHERE {post}",
    "mastodon_posts made up": "WITH made AS (INSERT INTO fediverse.mastodon_posts (instance_id, id,"
    " account_id, domain, visibility, created_at, first_seen_at, in_reply_to_id)"
    " SELECT instance_id, post_id, 1, 'x', 'public', now(), now(), '{n}'"
    " FROM fediverse.post_deletions AS d WHERE NOT EXISTS (SELECT FROM fediverse.mastodon_posts AS"
    " p WHERE p.instance_id = d.instance_id AND p.id = d.post_id) RETURNING instance_id, id)"
    " INSERT INTO fediverse.conversation_threads SELECT instance_id, id, '{n}', 1, 0 FROM made",
    "mastodon_posts lost": "DELETE FROM fediverse.mastodon_posts WHERE {post}",
    "post_deletions": "INSERT INTO fediverse.post_deletions SELECT instance_id, id, now()"
    " FROM fediverse.mastodon_posts WHERE {post}",
    "post_hashtags": "DELETE FROM fediverse.post_hashtags WHERE {of_post}",
    "post_mentions": "UPDATE fediverse.post_mentions SET acct = 'x' WHERE {of_post}",
    "post_versions": "UPDATE fediverse.post_versions SET content_html = 'x' WHERE {of_post}",
    "media_attachments": "INSERT INTO fediverse.media_attachments (instance_id, post_id, id,"
    " position) SELECT instance_id, id, 99, 9 FROM fediverse.mastodon_posts WHERE {post}",
    "conversation_threads": "UPDATE fediverse.conversation_threads SET depth = 9 WHERE {of_post}",
    "post_metric_snapshots": "DELETE FROM fediverse.post_metric_snapshots WHERE {of_post}",
}


@pytest.mark.parametrize("where", DAMAGE)
def test_damage_done_by_hand_is_named_and_resolved(fediverse: Engine, where: str) -> None:
    expected = in_order_of_receipt(fediverse, events_of("damage", 200, posts=12))
    # A post that has everything and is not deleted.
    ((instance, post),) = rows(
        fediverse,
        "SELECT p.instance_id, p.id FROM fediverse.mastodon_posts AS p"
        " JOIN fediverse.post_hashtags AS h ON h.instance_id = p.instance_id AND h.post_id = p.id"
        " JOIN fediverse.post_mentions AS m ON m.instance_id = p.instance_id AND m.post_id = p.id"
        " WHERE p.deleted_at IS NULL AND p.favourites_count <> 77 LIMIT 1",
    )
    of_post = f"instance_id = {instance} AND post_id = '{post}'"
    execute(
        fediverse,
        DAMAGE[where].format(of_post=of_post, post=of_post.replace("post_id", "id"), n=post),
    )
    table = where.split(maxsplit=1)[0]
    found = verify_log(fediverse)
    assert not found.ok
    named = {d.table for d in found.differences if post in d.key.values() or "made" in where}
    assert table in named
    assert replay(fediverse).rows[table] >= 1
    assert verify_log(fediverse).ok
    require_same(derived(fediverse), expected, f"after the damage to {where}")


def test_tallies_are_exact_after_events_of_all_kinds(fediverse: Engine) -> None:
    events = events_of("tallies", 200, posts=20)
    for start in range(0, len(events), 50):
        add_events(fediverse, events[start : start + 50])
        process(fediverse, batch_events=20)
        for tally in system.tallies:
            refresh(fediverse, tally)
            assert verify(fediverse, tally).ok
