"""Thinning of snapshots: which ones survive depends on their age alone, not on how it was run."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from assets.fediverse.storage.thinning import thin_snapshots
from assets.fediverse.tallies import system
from tests.integration.support import create, execute, rows, scalar

Key = tuple[int, int, datetime]
NOW = datetime(2025, 3, 31, 12, 30, tzinfo=UTC)
KEYS = (
    "SELECT instance_id, post_id::int, captured_at FROM fediverse.post_metric_snapshots"
    " ORDER BY 1, 2, 3"
)


@pytest.fixture
def fediverse(engine: Engine) -> Engine:
    create(engine, system)
    return engine


def survivors(ever: Iterable[Key], now: datetime) -> list[Key]:
    """What is to be left of all snapshots that there ever were."""
    last_of_hour: dict[object, datetime] = {}
    last_of_day: dict[object, datetime] = {}
    for instance, post, at in sorted(ever):
        last_of_hour[instance, post, at.date(), at.hour] = at
        last_of_day[instance, post, at.date()] = at
    left = []
    for instance, post, at in sorted(set(ever)):
        is_last_of_hour = last_of_hour[instance, post, at.date(), at.hour] == at
        is_last_of_day = last_of_day[instance, post, at.date()] == at
        age = now - at
        if (age <= timedelta(days=7) or is_last_of_hour) and (
            age <= timedelta(days=30) or is_last_of_day
        ):
            left.append((instance, post, at))
    return left


def insert(engine: Engine, keys: Iterable[Key]) -> None:
    with engine.begin() as connection:
        for instance, post, at in keys:
            connection.execute(
                text(
                    "INSERT INTO fediverse.post_metric_snapshots"
                    " (instance_id, post_id, captured_at) VALUES (:instance, :post, :at)"
                ),
                {"instance": instance, "post": str(post), "at": at},
            )


def stored(engine: Engine) -> list[Key]:
    return [(i, p, at.astimezone(UTC)) for i, p, at in rows(engine, KEYS)]


def test_all_are_kept_for_a_week_then_the_last_of_each_hour_then_of_each_day(
    fediverse: Engine,
) -> None:
    young = datetime(2025, 3, 28, 10, 5, tzinfo=UTC)
    older = datetime(2025, 3, 10, 10, 5, tzinfo=UTC)
    oldest = datetime(2024, 12, 31, 22, 30, tzinfo=UTC)
    quarter = timedelta(minutes=15)
    everything = [(1, 9, at + n * quarter) for at in (young, older, oldest) for n in range(8)]
    insert(fediverse, everything)
    done = thin_snapshots(fediverse, NOW)
    assert (done.snapshots, done.deleted, done.batches) == (24, 6 + 6, 1)
    assert [at for _, _, at in stored(fediverse)] == [
        datetime(2024, 12, 31, 23, 45, tzinfo=UTC),
        datetime(2025, 1, 1, 0, 15, tzinfo=UTC),
        datetime(2025, 3, 10, 10, 50, tzinfo=UTC),
        datetime(2025, 3, 10, 11, 50, tzinfo=UTC),
        *(young + n * quarter for n in range(8)),
    ]
    assert thin_snapshots(fediverse, NOW).deleted == 0
    assert stored(fediverse) == survivors(everything, NOW)


def test_the_bounds_are_exact_to_the_microsecond(fediverse: Engine) -> None:
    tick = timedelta(microseconds=1)
    # Each is followed by one of the same hour, and of the same day.
    now = NOW.replace(minute=0)
    week, month = now - timedelta(days=7), now - timedelta(days=30)
    pairs = [(1, week), (2, week - tick), (3, month), (4, month - tick)]
    day_after = timedelta(hours=3)
    keys = [(1, post, at) for post, at in pairs]
    keys += [(1, 1, week + tick), (1, 2, week - 2 * tick)]
    keys += [(1, 3, month + day_after), (1, 4, month + day_after)]
    insert(fediverse, keys)
    thin_snapshots(fediverse, now)
    left = stored(fediverse)
    assert (1, 1, week) in left
    assert (1, 2, week - 2 * tick) not in left
    assert (1, 3, month) in left
    assert (1, 4, month - tick) not in left
    assert left == survivors(keys, now)


def test_posts_and_instances_are_thinned_each_for_itself(fediverse: Engine) -> None:
    at, quarter = NOW - timedelta(days=10), timedelta(minutes=15)
    keys = [(i, p, at.replace(minute=0) + quarter) for i in (1, 2) for p in (5, 6)]
    insert(fediverse, keys)
    assert thin_snapshots(fediverse, NOW).deleted == 0
    insert(fediverse, [(1, 5, at.replace(minute=0))])
    assert thin_snapshots(fediverse, NOW).deleted == 1
    assert stored(fediverse) == sorted(keys)


def test_ages_are_counted_to_the_present_where_no_moment_is_named(fediverse: Engine) -> None:
    execute(
        fediverse,
        "INSERT INTO fediverse.post_metric_snapshots (instance_id, post_id, captured_at)"
        " SELECT 1, 1, date_trunc('day', now() - interval '40 days', 'UTC') + n * interval '5 min'"
        " FROM generate_series(0, 9) AS n",
    )
    done = thin_snapshots(fediverse)
    assert done.deleted == 9
    assert abs(datetime.now(UTC) - done.now) < timedelta(minutes=5)


def test_nothing_is_thinned_where_there_is_nothing(fediverse: Engine) -> None:
    done = thin_snapshots(fediverse, NOW)
    assert (done.snapshots, done.deleted, done.batches) == (0, 0, 1)


@pytest.mark.parametrize(("now", "batch"), [(NOW.replace(tzinfo=None), 10), (NOW, 0)])
def test_a_moment_without_zone_and_an_empty_batch_are_refused(
    fediverse: Engine, now: datetime, batch: int
) -> None:
    with pytest.raises(ValueError, match="expected an aware datetime and a batch of at least 1"):
        thin_snapshots(fediverse, now, batch)


def test_an_interrupted_thinning_has_kept_its_batches_and_the_next_one_ends_it(
    fediverse: Engine,
) -> None:
    minute = timedelta(minutes=1)
    keys = [(1, p, NOW - timedelta(days=50) + n * minute) for p in range(20) for n in range(20)]
    insert(fediverse, keys)
    execute(
        fediverse,
        "CREATE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN IF OLD.post_id = ''11'' THEN RAISE ''stopped''; END IF; RETURN OLD; END'",
        "CREATE TRIGGER stop BEFORE DELETE ON fediverse.post_metric_snapshots"
        " FOR EACH ROW EXECUTE FUNCTION stop()",
    )
    with pytest.raises(DBAPIError, match="stopped"):
        thin_snapshots(fediverse, NOW, batch=7)
    assert 20 < scalar(fediverse, "SELECT count(*) FROM fediverse.post_metric_snapshots") < 400
    execute(fediverse, "DROP FUNCTION stop CASCADE")
    done = thin_snapshots(fediverse, NOW, batch=7)
    assert done.batches > 20
    assert stored(fediverse) == survivors(keys, NOW)


# Clustered, so that hours and days are shared, and near both bounds.
MOMENTS = st.builds(
    lambda day, hour, minute: NOW - timedelta(days=day, hours=hour, minutes=minute),
    st.sampled_from([0, 5, 6, 7, 8, 20, 29, 30, 31, 45]),
    st.integers(0, 30),
    st.integers(0, 130),
)
SNAPSHOTS = st.lists(st.tuples(st.just(1), st.integers(1, 2), MOMENTS), max_size=25)
STEPS = st.lists(
    st.tuples(st.integers(0, 400), st.integers(1, 9), SNAPSHOTS), min_size=1, max_size=4
)


@given(STEPS)
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_thinning_in_any_rhythm_leaves_the_same_in_the_end(
    fediverse: Engine, steps: list[tuple[int, int, list[Key]]]
) -> None:
    execute(fediverse, "TRUNCATE fediverse.post_metric_snapshots")
    now, ever = NOW, set[Key]()
    for hours_later, batch, captured in steps:
        now += timedelta(hours=hours_later)
        # Late ones too, of hours that were thinned before.
        insert(fediverse, set(captured) - ever)
        ever |= set(captured)
        thin_snapshots(fediverse, now, batch)
        assert stored(fediverse) == survivors(ever, now)
        assert thin_snapshots(fediverse, now, batch + 1).deleted == 0
