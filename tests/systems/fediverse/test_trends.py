"""Which hashtags are trending: formulas computed by hand, and exact right after a write."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Connection, Engine

from assets.fediverse.questions import trends
from assets.fediverse.reads import (
    Trend,
    growing_hashtags,
    spiking_hashtags,
    trending_hashtags,
)
from assets.fediverse.tallies import system
from tallykeeper import refresh
from tallykeeper.errors import NotInstalled
from tests.fediverse_posts import add_instance, add_post
from tests.integration.support import create, execute, scalar

NOON = datetime(2025, 11, 20, 12, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
Ask = Callable[..., list[Trend]]
# How much must be pending for the posts to be read.
WAYS = {"live view": 1_000_000, "posts": -1}


@pytest.fixture
def fediverse(engine: Engine) -> Engine:
    """One instance, without posts; nothing was ever built."""
    create(engine, system)
    assert add_instance(engine) == 1
    return engine


def use(
    engine: Engine,
    tag: str,
    *ages: timedelta,
    accounts: int = 3,
    instance: int = 1,
    **columns: Any,
) -> list[str]:
    """A post with the tag at each age before noon, by the accounts 1, 2, 3 in turn."""
    return [
        add_post(engine, instance, NOON - age, tags=[tag], account_id=1 + n % accounts, **columns)
        for n, age in enumerate(ages)
    ]


def hours(*ages: float) -> list[timedelta]:
    return [age * HOUR for age in ages]


def ask(engine: Engine, question: Ask, *args: Any, **parameters: Any) -> list[Trend]:
    with engine.connect() as connection:
        return question(connection, *(args or (1, NOON)), **parameters)


def settle(engine: Engine) -> None:
    for tally in system.tallies:
        refresh(engine, tally)


def test_a_spike_is_what_the_formula_says(fediverse: Engine) -> None:
    # 8 uses in the 4 hours, 10 in the 20 before: 2 and 0.5 an hour; the latest 90 minutes ago.
    use(fediverse, "cats", *hours(1.5, 2, 2, 2.5, 3, 3, 4, 4), favourites_count=2)
    use(fediverse, "cats", *hours(*range(5, 15)))
    (trend,) = ask(fediverse, trending_hashtags, decay_hours=3)
    assert (trend.name, trend.posts, trend.accounts, trend.baseline_posts) == ("cats", 8, 3, 10)
    assert (trend.recent_rate, trend.baseline_rate) == (2.0, 0.5)
    assert trend.engagement == 8 * 2 * 2
    assert trend.latest_use == NOON - 1.5 * HOUR
    assert trend.latest_use.tzinfo is UTC
    assert trend.rise == pytest.approx((2 + 1) / (0.5 + 1))
    assert trend.decay == pytest.approx(math.exp(-1.5 / 3))
    assert trend.score == pytest.approx(2 * math.exp(-0.5))


def test_a_hashtag_never_seen_before_has_a_finite_spike(fediverse: Engine) -> None:
    use(fediverse, "new", *hours(1, 1, 1, 1))
    (trend,) = ask(fediverse, trending_hashtags, smoothing=0.25)
    assert trend.rise == pytest.approx((1 + 0.25) / 0.25)
    assert (trend.baseline_posts, trend.baseline_rate) == (0, 0)


def test_smoothing_puts_a_big_rise_before_the_chance_of_a_rare_hashtag(fediverse: Engine) -> None:
    use(fediverse, "rare", *hours(1, 1, 1))
    use(fediverse, "big", *hours(*[1] * 24, *[10] * 20))
    assert [t.name for t in ask(fediverse, trending_hashtags)] == ["big", "rare"]
    assert [t.name for t in ask(fediverse, trending_hashtags, smoothing=0.01)] == ["rare", "big"]


def test_what_does_not_rise_is_no_trend(fediverse: Engine) -> None:
    use(fediverse, "steady", *hours(*[1] * 4, *[10] * 20))
    use(fediverse, "falling", *hours(*[1] * 4, *[10] * 21))
    use(fediverse, "rising", *hours(*[1] * 4, *[10] * 19))
    assert [t.name for t in ask(fediverse, trending_hashtags)] == ["rising"]
    found = [t.name for t in ask(fediverse, trending_hashtags, above=0.5)]
    assert found == ["rising", "steady", "falling"]


def test_the_decay_counts_from_the_latest_use(fediverse: Engine) -> None:
    use(fediverse, "early", *hours(3, 3.5, 3.9, 3.9))
    use(fediverse, "late", *hours(0.5, 3.9, 3.9, 3.9))
    early, late = sorted(ask(fediverse, trending_hashtags, decay_hours=2), key=lambda t: t.name)
    assert early.rise == late.rise
    assert early.decay == pytest.approx(math.exp(-3 / 2))
    assert late.decay == pytest.approx(math.exp(-0.5 / 2))
    assert late.score > early.score


def test_growth_is_the_ratio_of_the_rates_and_must_be_over_one_and_a_half(
    fediverse: Engine,
) -> None:
    use(fediverse, "exactly", *hours(*[1] * 6, *[10] * 20))
    use(fediverse, "over", *hours(*[1] * 7, *[10] * 20))
    (trend,) = ask(fediverse, growing_hashtags)
    assert (trend.name, trend.recent_rate, trend.baseline_rate) == ("over", 1.75, 1.0)
    assert (trend.rise, trend.decay, trend.score) == (1.75, 1.0, 1.75)
    found = ask(fediverse, growing_hashtags, above=1.49)
    assert [t.name for t in found] == ["over", "exactly"]


def test_growth_takes_what_the_baseline_lacks_as_used_once(fediverse: Engine) -> None:
    use(fediverse, "new", *hours(1, 1, 1, 1))
    use(fediverse, "seen", *hours(1, 1, 1, 1, 20))
    new, seen = ask(fediverse, growing_hashtags)
    assert (new.rise, seen.rise) == (20.0, 20.0)
    assert (new.baseline_posts, seen.baseline_posts) == (0, 1)


@pytest.mark.parametrize("read_from", WAYS)
def test_a_plain_spike_compares_one_hour_with_the_same_hour_of_the_day_before(
    fediverse: Engine, read_from: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trends, "MANY_PENDING", WAYS[read_from])
    # From 12:00 on 5 uses, from 12:00 the day before 2, and some that lie between or later.
    use(fediverse, "cats", *hours(0, -0.1, -0.2, -0.3, -0.4, -0.6, 0.5, 1, 3, 12))
    use(fediverse, "cats", *hours(24, 23.1, 24.1, 23, 22.9))
    use(fediverse, "new", *hours(-0.1, -0.1, -0.1))
    use(fediverse, "same", *hours(-0.1, 23.5))
    use(fediverse, "once", *hours(-0.1))
    for _ in range(2):
        new, cats = ask(fediverse, spiking_hashtags, 1, NOON + HOUR / 2, decay_hours=2)
        assert (cats.name, cats.posts, cats.baseline_posts) == ("cats", 5, 2)
        assert cats.rise == (5 - 2) / 2
        assert cats.score == pytest.approx(1.5 * math.exp(-0.1 / 2))
        # What the day before lacks counts as used once.
        assert (new.name, new.posts, new.baseline_posts, new.rise) == ("new", 3, 0, 2.0)
        settle(fediverse)
    found = ask(fediverse, spiking_hashtags, 1, NOON + HOUR / 2, above=1.6)
    assert [t.name for t in found] == ["new"]


def test_the_hour_of_a_moment_at_which_one_begins_is_that_before(fediverse: Engine) -> None:
    use(fediverse, "cats", *hours(1, 0.5, 25, 0))
    use(fediverse, "cats", *hours(-0.1, -0.1), accounts=2)
    for moment, posts, before in ((NOON, 2, 1), (NOON + MINUTE, 1, 0), (NOON + HOUR, 3, 0)):
        found = ask(fediverse, spiking_hashtags, 1, moment, above=0)
        assert [(t.posts, t.baseline_posts) for t in found] == (
            [(posts, before)] if posts > 1 else []
        )
    (week,) = ask(fediverse, spiking_hashtags, 1, NOON + HOUR, hours_before=1)
    assert (week.posts, week.baseline_posts, week.rise) == (3, 2, 0.5)


def test_the_windows_begin_with_their_first_instant_and_end_before_their_last(
    fediverse: Engine,
) -> None:
    tick = timedelta(microseconds=1)
    use(fediverse, "in", 4 * HOUR, tick, tick)
    use(fediverse, "before", 4 * HOUR + tick, tick, tick)
    use(fediverse, "old", 24 * HOUR, *hours(1, 1, 1))
    use(fediverse, "older", 24 * HOUR + tick, *hours(1, 1, 1))
    use(fediverse, "later", timedelta(0), tick, tick)
    found = {t.name: t for t in ask(fediverse, trending_hashtags)}
    assert {n: (t.posts, t.baseline_posts) for n, t in found.items()} == {
        "in": (3, 0),
        "old": (3, 1),
        "older": (3, 0),
    }
    found = {
        t.name: t for t in ask(fediverse, trending_hashtags, minimum_posts=2, minimum_accounts=2)
    }
    assert (found["before"].posts, found["later"].posts) == (2, 2)


def test_the_current_hour_counts_for_as_long_as_it_has_lasted(fediverse: Engine) -> None:
    # From 08:00 on, four hours and a half.
    use(fediverse, "now", *hours(-0.4, 0.1, 3.9))
    use(fediverse, "now", *hours(4.1))
    for _ in range(2):
        (trend,) = ask(fediverse, trending_hashtags, 1, NOON + 30 * MINUTE)
        assert (trend.posts, trend.baseline_posts) == (3, 1)
        assert trend.recent_rate == pytest.approx(3 / 4.5)
        assert trend.baseline_rate == pytest.approx(1 / 20)
        settle(fediverse)


@pytest.mark.parametrize("read_from", WAYS)
def test_what_was_posted_later_in_the_same_hour_has_no_part_in_it(
    fediverse: Engine, read_from: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trends, "MANY_PENDING", WAYS[read_from])
    use(fediverse, "loud", *hours(-0.1, 1, 2), favourites_count=1)
    before = ask(fediverse, trending_hashtags, 1, NOON + 20 * MINUTE)
    use(fediverse, "loud", *hours(-0.4, -0.5, -0.6), accounts=2, favourites_count=5)
    use(fediverse, "afterwards", *hours(-0.4, -0.5, -0.6))
    for _ in range(2):
        assert ask(fediverse, trending_hashtags, 1, NOON + 20 * MINUTE) == before
        assert before[0].posts == 3
        settle(fediverse)


def test_one_loud_account_is_no_trend(fediverse: Engine) -> None:
    use(fediverse, "loud", *hours(*[0.5, 1.5, 2.5, 3.5] * 5), accounts=1)
    use(fediverse, "pair", *hours(*[0.5, 1.5, 2.5, 3.5] * 5), accounts=2)
    use(fediverse, "many", *hours(0.5, 1.5, 2.5))
    assert [t.name for t in ask(fediverse, trending_hashtags)] == ["many"]
    found = ask(fediverse, trending_hashtags, minimum_accounts=2)
    assert {t.name: t.accounts for t in found} == {"many": 3, "pair": 2}
    assert len(ask(fediverse, growing_hashtags, minimum_accounts=1)) == 3


def test_too_few_posts_are_no_trend(fediverse: Engine) -> None:
    use(fediverse, "few", *hours(1, 1, 1))
    assert ask(fediverse, trending_hashtags, minimum_posts=4) == []
    assert [t.name for t in ask(fediverse, trending_hashtags, minimum_posts=3)] == ["few"]


def test_ties_are_ordered_by_name_as_bytes(fediverse: Engine) -> None:
    for name in ("ü", "z", "b", "a_b", "a"):
        use(fediverse, name, *hours(1, 1, 1))
    expected = ["a", "a_b", "b", "z", "ü"]
    assert [t.name for t in ask(fediverse, trending_hashtags)] == expected
    assert [t.name for t in ask(fediverse, growing_hashtags, limit=2)] == expected[:2]


def test_engagement_counts_by_its_weight(fediverse: Engine) -> None:
    use(fediverse, "cats", *hours(1, 1, 1, 1), reblogs_count=1)
    use(fediverse, "cats", *hours(*[10] * 20), replies_count=1)
    assert ask(fediverse, trending_hashtags) == []
    (trend,) = ask(fediverse, trending_hashtags, engagement_weight=0.5)
    assert (trend.recent_rate, trend.baseline_rate) == (2.5, 1.5)
    assert trend.rise == pytest.approx(3.5 / 2.5)
    assert (trend.posts, trend.engagement) == (4, 12)


def test_only_posts_that_everybody_may_see_and_of_this_instance_count(fediverse: Engine) -> None:
    other = add_instance(fediverse, "https://other.social")
    use(fediverse, "cats", *hours(1, 1, 1), visibility="private")
    use(fediverse, "cats", *hours(1, 1, 1), visibility="direct")
    use(fediverse, "cats", *hours(1, 1, 1), deleted_at=NOON)
    use(fediverse, "cats", *hours(1, 1, 1), instance=other)
    use(fediverse, "cats", *hours(1, 1), accounts=2, visibility="unlisted")
    assert ask(fediverse, trending_hashtags) == []
    add_post(fediverse, 1, NOON - HOUR, tags=["cats"], account_id=7)
    (trend,) = ask(fediverse, trending_hashtags)
    assert (trend.posts, trend.accounts) == (3, 3)


def test_trends_are_exact_right_after_a_write(fediverse: Engine) -> None:
    first, *_ = use(fediverse, "cats", *hours(1, 1, 1))
    settle(fediverse)
    assert [t.posts for t in ask(fediverse, trending_hashtags)] == [3]
    add_post(fediverse, 1, NOON - HOUR, tags=["cats"], account_id=9)
    assert [(t.posts, t.accounts) for t in ask(fediverse, trending_hashtags)] == [(4, 4)]
    deleted = f"UPDATE fediverse.mastodon_posts SET deleted_at = now() WHERE id = '{first}'"
    execute(fediverse, deleted)
    assert [(t.posts, t.accounts) for t in ask(fediverse, trending_hashtags)] == [(3, 3)]
    execute(fediverse, "DELETE FROM fediverse.post_hashtags")
    assert ask(fediverse, trending_hashtags) == []


def test_an_empty_database_and_an_unknown_instance_have_no_trends(fediverse: Engine) -> None:
    for question in (trending_hashtags, growing_hashtags):
        assert ask(fediverse, question) == []
    use(fediverse, "cats", *hours(1, 1, 1))
    for question in (trending_hashtags, growing_hashtags):
        assert ask(fediverse, question, 999, NOON) == []


def test_the_session_time_zone_and_that_of_the_moment_change_nothing(fediverse: Engine) -> None:
    use(fediverse, "cats", *hours(1, 1, 1))
    expected = ask(fediverse, trending_hashtags)
    for at in (NOON.replace(tzinfo=None), NOON.astimezone(ZoneInfo("Asia/Kathmandu"))):
        assert ask(fediverse, trending_hashtags, 1, at) == expected
    with fediverse.connect() as connection:
        connection.exec_driver_sql("SET TIME ZONE 'America/St_Johns'")
        assert trending_hashtags(connection, 1, NOON) == expected


def expected_trends(posts: list[tuple[str, int, datetime, int]], limit: int) -> list[Any]:
    """The formula in Python: tag, account, created_at and engagement of each post in."""
    at, start = NOON + 20 * MINUTE, NOON - 2 * HOUR
    found = []
    for tag in {post[0] for post in posts}:
        uses = [p for p in posts if p[0] == tag and p[2] < at]
        recent = [p for p in uses if p[2] >= start]
        before = [p for p in uses if start - 6 * HOUR <= p[2] < start]
        accounts = {p[1] for p in recent}
        if len(recent) < 2 or len(accounts) < 2:
            continue
        weighed = [
            sum(1 + 0.25 * p[3] for p in window) / length
            for window, length in ((recent, 2 + 1 / 3), (before, 6))
        ]
        spike = (weighed[0] + 0.5) / (weighed[1] + 0.5)
        decay = math.exp(-((at - max(p[2] for p in recent)) / HOUR) / 0.7)
        if spike > 0.6:
            found.append((tag, len(recent), len(accounts), len(before), spike * decay))
    return sorted(found, key=lambda t: (-t[4], t[0]))[:limit]


@pytest.mark.parametrize("read_from", WAYS)
@pytest.mark.parametrize("seed", range(2))
def test_random_posts_trend_as_the_formula_says_whatever_is_pending(
    fediverse: Engine, seed: int, read_from: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trends, "MANY_PENDING", WAYS[read_from])
    chance = random.Random(seed)
    posts: list[tuple[str, int, datetime, int]] = []
    for part in range(3):
        for _ in range(120):
            tag = f"t{min(chance.randrange(15), chance.randrange(15)):02}"
            created_at = NOON + HOUR - chance.randrange(36_000_000) * timedelta(milliseconds=1)
            account, favourites = chance.randrange(1, 5), chance.randrange(4)
            add_post(
                fediverse,
                1,
                created_at,
                tags=[tag],
                account_id=account,
                favourites_count=favourites,
            )
            posts.append((tag, account, created_at, 2 * favourites))
        for limit in (1, 4, 100):
            found = ask(
                fediverse,
                trending_hashtags,
                *(1, NOON + 20 * MINUTE),
                window_hours=2,
                baseline_hours=6,
                decay_hours=0.7,
                smoothing=0.5,
                above=0.6,
                minimum_posts=2,
                minimum_accounts=2,
                engagement_weight=0.25,
                limit=limit,
            )
            expected = expected_trends(posts, limit)
            got = [(t.name, t.posts, t.accounts, t.baseline_posts) for t in found]
            assert got == [t[:4] for t in expected]
            assert [t.score for t in found] == pytest.approx([t[4] for t in expected])
        if part < 2:
            settle(fediverse)


def test_the_posts_are_read_while_much_is_pending_and_the_live_view_afterwards(
    fediverse: Engine,
) -> None:
    settle(fediverse)

    def many(hours: float = 24) -> bool:
        return bool(scalar(fediverse, trends.many_pending(hours)))

    assert not many()
    execute(
        fediverse,
        "INSERT INTO fediverse.hashtags (instance_id, name) VALUES (1, 'cats')",
        "INSERT INTO fediverse.mastodon_posts"
        " (instance_id, id, account_id, domain, visibility, created_at, first_seen_at)"
        f" SELECT 1, i, i % 5, 'm.social', 'public', timestamptz '{NOON - HOUR}', now()"
        " FROM generate_series(1, 600) AS i",
        "INSERT INTO fediverse.post_hashtags SELECT 1, i, 1 FROM generate_series(1, 600) AS i",
    )
    assert many()
    assert not many(hours=200)
    assert [(t.posts, t.accounts) for t in ask(fediverse, trending_hashtags)] == [(600, 5)]
    for tally in system.tallies:
        refresh(fediverse, tally)
    assert not many()
    assert [(t.posts, t.accounts) for t in ask(fediverse, trending_hashtags)] == [(600, 5)]


def test_a_latest_use_very_long_before_decays_to_next_to_nothing(fediverse: Engine) -> None:
    use(fediverse, "old", *hours(*[5_000] * 30))
    (trend,) = ask(
        fediverse, trending_hashtags, window_hours=8_000, above=0, decay_hours=0.001, limit=1
    )
    assert 0 < trend.score < 1e-200


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"window_hours": 0}, "`window_hours` from 1 to"),
        ({"window_hours": 2.5}, "`window_hours` from 1 to"),
        ({"baseline_hours": -1}, "`baseline_hours` from 1 to"),
        ({"decay_hours": 0}, "`decay_hours` above 0"),
        ({"decay_hours": math.inf}, "`decay_hours` above 0"),
        ({"smoothing": 0}, "`smoothing` above 0"),
        ({"smoothing": math.nan}, "`smoothing` above 0"),
        ({"above": -0.1}, "`above` of at least 0"),
        ({"minimum_posts": 0}, "`minimum_posts` from 1"),
        ({"minimum_accounts": True}, "`minimum_accounts` from 1"),
        ({"engagement_weight": -1}, "`engagement_weight` of at least 0"),
        ({"limit": 1_001}, "`limit` from 1 to 1,000"),
        ({"instance_id": "1; DROP"}, "`instance_id` from 0"),
        ({"at": "now"}, "`at` to be a datetime"),
        ({"at": datetime(1, 1, 1, 2, tzinfo=UTC)}, "within the years 1 to 9999"),
        ({"at": datetime(9999, 12, 31, 23, 30, tzinfo=UTC)}, "within the years 1 to 9999"),
    ],
)
def test_what_cannot_be_asked_is_said(
    engine: Engine, parameters: dict[str, Any], message: str
) -> None:
    given = {"instance_id": 1, "at": NOON, **parameters}
    with engine.connect() as connection, pytest.raises(ValueError, match=message):
        trending_hashtags(connection, **given)


def test_without_the_system_trends_say_so(engine: Engine) -> None:
    for question in (trending_hashtags, growing_hashtags):
        with pytest.raises(NotInstalled, match="tally migrate"):
            ask(engine, question)


def test_trends_are_read_in_a_read_only_transaction(fediverse: Engine) -> None:
    use(fediverse, "cats", *hours(1, 1, 1))

    def names(connection: Connection) -> list[str]:
        connection.exec_driver_sql("SET TRANSACTION READ ONLY")
        return [t.name for t in trending_hashtags(connection, 1, NOON)]

    with fediverse.connect() as connection:
        assert names(connection) == ["cats"]
