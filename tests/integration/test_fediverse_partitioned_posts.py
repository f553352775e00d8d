"""Posts partitioned by month: what processing, replay, tallies and migrate make of it."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine

from assets.fediverse.demo import change_demo, create_demo
from assets.fediverse.processing import process
from assets.fediverse.replay import replay, verify_log
from assets.fediverse.tallies import hourly_stats, system
from pipelines.migrate import migrate
from tallies import DoesNotFit, capture_faults, install, refresh, verify
from tests.integration.support import execute, scalar

POSTS = "fediverse.mastodon_posts"
PARTITIONED = (
    f"ALTER TABLE {POSTS} RENAME TO mastodon_posts_plain",
    f"CREATE TABLE {POSTS} (LIKE {POSTS}_plain INCLUDING DEFAULTS INCLUDING GENERATED,"
    " PRIMARY KEY (instance_id, id, created_at)) PARTITION BY RANGE (created_at)",
    f"CREATE INDEX ON {POSTS} (created_at)",
    f"CREATE TABLE {POSTS}_old PARTITION OF {POSTS}"
    " FOR VALUES FROM ('2000-01-01Z') TO ('2024-01-01Z')",
    f"CREATE TABLE {POSTS}_default PARTITION OF {POSTS} DEFAULT",
    f"DROP TABLE {POSTS}_plain",
)


@pytest.fixture
def partitioned(engine: Engine) -> Engine:
    """A made-up stream, nothing of it processed yet, over posts in two partitions."""
    migrate(engine, [system], with_sources=True)
    create_demo(engine, events=2_000)
    execute(engine, *PARTITIONED)
    with engine.begin() as connection:
        install(connection, system.tallies)
    return engine


def test_posts_in_partitions_are_processed_replayed_and_counted(partitioned: Engine) -> None:
    for _ in range(2):
        process(partitioned)
        for tally in system.tallies:
            refresh(partitioned, tally)
            assert verify(partitioned, tally).ok
        assert verify_log(partitioned).ok
        change_demo(partitioned)
    process(partitioned)
    execute(
        partitioned,
        f"UPDATE {POSTS} SET created_at = '2023-05-01Z' WHERE id = (SELECT min(id) FROM {POSTS})",
    )
    assert scalar(partitioned, f"SELECT count(*) FROM {POSTS}_old") == 1
    assert replay(partitioned).rows == {"mastodon_posts": 1}
    assert scalar(partitioned, f"SELECT count(*) FROM {POSTS}_old") == 0
    for tally in system.tallies:
        refresh(partitioned, tally)
        assert verify(partitioned, tally).ok


def test_the_declared_key_is_missed_by_migrate(partitioned: Engine) -> None:
    with pytest.raises(DoesNotFit, match=r"no unique index on \(instance_id, id\)"):
        migrate(partitioned, [system])


def test_a_month_that_comes_later_has_to_be_captured_first(partitioned: Engine) -> None:
    process(partitioned)
    refresh(partitioned, hourly_stats)
    execute(
        partitioned,
        f"CREATE TABLE {POSTS}_later PARTITION OF {POSTS}"
        " FOR VALUES FROM ('2100-01-01Z') TO ('2100-02-01Z')",
    )
    with partitioned.connect() as connection:
        faults = capture_faults(connection, hourly_stats)
    assert faults == [f"{POSTS}_later: belongs to the source now, and is not captured with it"]
    with partitioned.begin() as connection:
        install(connection, system.tallies)
    with partitioned.connect() as connection:
        assert capture_faults(connection, hourly_stats) == []
    # Nothing was ever in it.
    assert refresh(partitioned, hourly_stats).how == "refresh"


def test_a_month_that_is_detached_takes_its_counts_along(partitioned: Engine) -> None:
    process(partitioned)
    refresh(partitioned, hourly_stats)
    execute(partitioned, f"ALTER TABLE {POSTS} DETACH PARTITION {POSTS}_default")
    assert not verify(partitioned, hourly_stats).ok
    with partitioned.begin() as connection:
        install(connection, system.tallies)
    refresh(partitioned, hourly_stats)
    assert scalar(partitioned, "SELECT count(*) FROM fediverse.hourly_stats") == 0
