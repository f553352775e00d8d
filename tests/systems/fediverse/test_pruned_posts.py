"""Old posts of the fediverse, pruned: what they count in hours and days stays."""

from __future__ import annotations

from datetime import UTC, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine

from assets.fediverse.storage.thinning import thin_snapshots
from assets.fediverse.tallies import system
from tallykeeper import prune, rebuild, refresh, verify
from tests.fediverse_posts import add_instance, add_post
from tests.integration.support import create, execute, rows, scalar

POSTS = "fediverse.mastodon_posts"
FROZEN = {
    "fediverse.hashtag_hourly_stats",
    "fediverse.hourly_stats",
    "fediverse.daily_summaries",
}


@pytest.fixture
def filled(engine: Engine) -> Engine:
    """Posts of forty days, with hashtags."""
    create(engine, system)
    add_instance(engine)
    noon = scalar(engine, "SELECT date_trunc('day', now(), 'UTC') + interval '12 hours'")
    for days in range(1, 41):
        for hour, tags in ((0, ["cats"]), (3, ["cats", "dogs"]), (3, [])):
            at = noon - timedelta(days=days, hours=hour)
            add_post(engine, 1, at, tags=tags, favourites_count=days)
    for tally in system.tallies:
        refresh(engine, tally)
    return engine


def counts(engine: Engine) -> dict[str, list[tuple[Any, ...]]]:
    return {
        tally.name: rows(engine, f"SELECT to_jsonb(v)::text FROM {tally.live_name} AS v ORDER BY 1")
        for tally in system.tallies
    }


@pytest.mark.parametrize("partitioned", [False, True])
def test_what_old_posts_count_stays(filled: Engine, partitioned: bool) -> None:
    if partitioned:
        from assets.fediverse.storage.post_months import partition_posts

        partition_posts(filled, system.tallies, 2)
        for tally in system.tallies:
            refresh(filled, tally)
    was = counts(filled)
    assert all(was.values())
    before = scalar(filled, "SELECT date_trunc('day', now(), 'UTC') - interval '30 days'")
    before = before.astimezone(UTC)
    done = prune(filled, POSTS, before, tallies=system.tallies, by="created_at", freeze=True)
    assert done.rows == 30
    assert set(done.frozen) == FROZEN
    assert done.frozen["fediverse.daily_summaries"] == 10
    thin_snapshots(filled)
    for step in (lambda *_: None, refresh, rebuild):
        for tally in system.tallies:
            step(filled, tally)
            assert verify(filled, tally).ok, tally
        assert counts(filled) == was
    # What is newer goes on; what is left of a pruned post says nothing any more.
    execute(
        filled,
        f"UPDATE {POSTS} SET favourites_count = favourites_count + 1",
        "DELETE FROM fediverse.post_hashtags",
    )
    changed = counts(filled)
    assert changed["fediverse.hourly_stats"] != was["fediverse.hourly_stats"]
    for tally in system.tallies:
        refresh(filled, tally)
        assert verify(filled, tally).ok, tally
    assert counts(filled) == changed
    days = "SELECT count(*) FROM fediverse.hashtag_hourly_stats_live"
    assert scalar(filled, days) == done.frozen["fediverse.hashtag_hourly_stats"]
