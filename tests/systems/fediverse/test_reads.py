"""What an application reads of the fediverse: series, pairs, velocity, histories."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Engine, event, text

from assets.fediverse.processing.functions import MORE_PENDING_THAN
from assets.fediverse.reads import (
    DomainHour,
    DomainTotal,
    HashtagHour,
    HourStats,
    Pair,
    domain_series,
    engagement_velocity,
    growing_hashtags,
    hashtag_cooccurrence,
    hashtag_series,
    hourly_series,
    latest_summary,
    post_history,
    post_series,
    record_sentiment,
    rising_posts,
    sentiment_changes,
    spiking_hashtags,
    summaries,
    top_domains,
    trending_hashtags,
)
from assets.fediverse.tallies import system
from tallykeeper import install, refresh
from tallykeeper.errors import NotInstalled
from tests.fediverse_posts import add_instance, add_post
from tests.integration.support import create, execute, scalar

NOON = datetime(2025, 11, 20, 12, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
SPAN = (NOON, NOON + HOUR)


@pytest.fixture
def fediverse(engine: Engine) -> Engine:
    """One instance, without posts; nothing was ever built."""
    create(engine, system)
    assert add_instance(engine) == 1
    return engine


def ask(engine: Engine, question: Callable[..., Any], *args: Any, **parameters: Any) -> Any:
    with engine.connect() as connection:
        return question(connection, *args, **parameters)


def settle(engine: Engine) -> None:
    for tally in system.tallies:
        refresh(engine, tally)


def hour(n: int) -> datetime:
    return NOON + n * HOUR


# Series.


def test_an_hourly_series_fills_its_gaps_with_zeros(fediverse: Engine) -> None:
    first = add_post(fediverse, 1, NOON, favourites_count=2)
    add_post(fediverse, 1, hour(1) - timedelta(microseconds=1), account_id=2, in_reply_to_id=first)
    add_post(fediverse, 1, hour(2), content=None, account_id=2, reblog_of_id=first)
    add_post(fediverse, 1, hour(3))
    add_post(fediverse, 1, hour(-1))
    expected = [
        HourStats(NOON, 2, 0, 1, 4, 2),
        HourStats(hour(1)),
        HourStats(hour(2), 0, 1, 0, 0, 1),
    ]
    for _ in range(2):
        assert ask(fediverse, hourly_series, 1, NOON, hour(3)) == expected
        settle(fediverse)
    add_post(fediverse, 1, NOON, account_id=3, replies_count=1)
    (changed, *_) = ask(fediverse, hourly_series, 1, NOON, hour(3))
    assert changed == HourStats(NOON, 3, 0, 1, 5, 3)


def test_a_series_has_every_hour_that_its_span_touches(fediverse: Engine) -> None:
    add_post(fediverse, 1, NOON + 59 * MINUTE)
    found = ask(fediverse, hourly_series, 1, NOON + 30 * MINUTE, hour(1) + MINUTE)
    assert [(h.hour, h.post_count) for h in found] == [(NOON, 1), (hour(1), 0)]
    assert all(h.hour.tzinfo is UTC for h in found)
    naive = ask(fediverse, hourly_series, 1, *(at.replace(tzinfo=None) for at in SPAN))
    assert naive == found[:1]


def test_a_hashtag_series_takes_the_name_as_mastodon_does(fediverse: Engine) -> None:
    add_post(fediverse, 1, NOON, tags=["strasse", "cats"], favourites_count=1)
    add_post(fediverse, 1, NOON, tags=["strasse"], account_id=2)
    expected = [HashtagHour(NOON, 2, 2, 2), HashtagHour(hour(1))]
    for name in ("strasse", "#Straße", "STRASSE ", "ＳＴＲＡＳＳＥ"):
        assert ask(fediverse, hashtag_series, 1, name, NOON, hour(2)) == expected
    settle(fediverse)
    assert ask(fediverse, hashtag_series, 1, "strasse", NOON, hour(2)) == expected
    unused = ask(fediverse, hashtag_series, 1, "dogs", NOON, hour(2))
    assert unused == [HashtagHour(NOON), HashtagHour(hour(1))]


def test_domains_have_series_and_an_order(fediverse: Engine) -> None:
    for domain, at in (("b.org", 0), ("a.org", 1), ("c.org", 0), ("c.org", 2), ("d.org", 3)):
        add_post(fediverse, 1, hour(at), domain=domain, reblogs_count=1)
    for _ in range(2):
        totals = ask(fediverse, top_domains, 1, NOON, hour(3))
        expected = [("c.org", 2, 6), ("a.org", 1, 3), ("b.org", 1, 3)]
        assert totals == [DomainTotal(*each) for each in expected]
        assert ask(fediverse, top_domains, 1, NOON, hour(3), limit=1) == totals[:1]
        series = ask(fediverse, domain_series, 1, "c.org", NOON, hour(3))
        assert series == [DomainHour(NOON, 1, 3), DomainHour(hour(1)), DomainHour(hour(2), 1, 3)]
        settle(fediverse)
    execute(fediverse, "UPDATE fediverse.mastodon_posts SET deleted_at = now()")
    assert ask(fediverse, top_domains, 1, NOON, hour(3)) == []


# Pairs.


def test_hashtags_of_the_same_posts_are_counted_in_pairs(fediverse: Engine) -> None:
    add_post(fediverse, 1, NOON, tags=["b", "a", "c"])
    add_post(fediverse, 1, NOON, tags=["a", "b"])
    add_post(fediverse, 1, NOON, tags=["z", "a"], account_id=2)
    add_post(fediverse, 1, hour(1), tags=["a", "b"])
    add_post(fediverse, 1, NOON, tags=["a", "b"], visibility="private")
    add_post(fediverse, 1, NOON, tags=["a", "b"], deleted_at=NOON)
    everything = ask(fediverse, hashtag_cooccurrence, 1, None, NOON, hour(1))
    assert everything == [
        Pair("a", "b", 2, 1),
        Pair("a", "c", 1, 1),
        Pair("a", "z", 1, 1),
        Pair("b", "c", 1, 1),
    ]
    assert ask(fediverse, hashtag_cooccurrence, 1, None, NOON, hour(1), limit=2) == everything[:2]
    of_b = ask(fediverse, hashtag_cooccurrence, 1, "#B", NOON, hour(2))
    assert of_b == [Pair("b", "a", 3, 1), Pair("b", "c", 1, 1)]
    assert ask(fediverse, hashtag_cooccurrence, 1, "unused", NOON, hour(2)) == []


# Velocity.


def snapshots(engine: Engine, post: str, *seen: tuple[datetime, int], instance: int = 1) -> None:
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO fediverse.post_metric_snapshots"
                " (instance_id, post_id, captured_at, favourites_count)"
                " VALUES (:instance, :post, :at, :favourites)"
            ),
            [
                {"instance": instance, "post": post, "at": at, "favourites": favourites}
                for at, favourites in seen
            ],
        )


def gains(engine: Engine, more_than: int = 0, **parameters: Any) -> dict[str, tuple[int, int, int]]:
    found = ask(engine, engagement_velocity, 1, NOON, hour(2), more_than, **parameters)
    return {v.post_id: (v.gained, v.favourites_before, v.favourites) for v in found}


def test_velocity_is_the_last_count_of_the_span_less_the_last_before_it(fediverse: Engine) -> None:
    post = add_post(fediverse, 1, hour(-9), url="https://m.social/1", account_id=7)
    snapshots(
        fediverse, post, (hour(-2), 1), (hour(-1), 3), (hour(1), 9), (hour(2), 11), (hour(3), 99)
    )
    (found,) = ask(fediverse, engagement_velocity, 1, NOON, hour(2), 7)
    assert (found.post_id, found.account_id, found.url) == (post, "7", "https://m.social/1")
    assert (found.gained, found.favourites_before, found.favourites) == (8, 3, 11)
    assert (found.before_at, found.seen_at) == (hour(-1), hour(2))
    assert ask(fediverse, engagement_velocity, 1, NOON, hour(2), 8) == []


def test_velocity_takes_the_snapshot_at_the_start_itself_as_before(fediverse: Engine) -> None:
    post = add_post(fediverse, 1, hour(-9))
    snapshots(fediverse, post, (hour(-1), 1), (NOON, 5), (hour(1), 6))
    assert gains(fediverse) == {post: (1, 5, 6)}


def test_counts_that_fall_are_no_gain(fediverse: Engine) -> None:
    fallen, risen = add_post(fediverse, 1, NOON), add_post(fediverse, 1, NOON)
    snapshots(fediverse, fallen, (hour(-1), 9), (hour(1), 20), (hour(2), 8))
    snapshots(fediverse, risen, (hour(-1), 9), (hour(1), 2), (hour(2), 10))
    assert gains(fediverse) == {risen: (1, 9, 10)}


def test_velocity_leaves_out_what_is_deleted_hidden_unknown_or_elsewhere(fediverse: Engine) -> None:
    other = add_instance(fediverse, "https://other.social")
    kept = add_post(fediverse, 1, NOON, visibility="unlisted")
    left_out = [
        add_post(fediverse, 1, NOON, deleted_at=NOON),
        add_post(fediverse, 1, NOON, visibility="private"),
        "4711",
    ]
    for post in (kept, *left_out):
        snapshots(fediverse, post, (hour(-1), 0), (hour(1), 5))
    elsewhere = add_post(fediverse, other, NOON)
    snapshots(fediverse, elsewhere, (hour(-1), 0), (hour(1), 5), instance=other)
    assert gains(fediverse) == {kept: (5, 0, 5)}


def test_velocity_has_the_most_first_then_the_lowest_id_up_to_the_limit(fediverse: Engine) -> None:
    posts = [add_post(fediverse, 1, NOON) for _ in range(3)]
    for post, gained in zip(posts, (5, 6, 5), strict=True):
        snapshots(fediverse, post, (hour(-1), 0), (hour(1), gained))
    assert list(gains(fediverse)) == [posts[1], posts[0], posts[2]]
    assert list(gains(fediverse, limit=2)) == [posts[1], posts[0]]


# Histories.


def version(engine: Engine, post: str, seq: int, content: str, **columns: Any) -> None:
    row = {
        "instance_id": 1,
        "post_id": post,
        "version_seq": seq,
        "valid_from": hour(seq),
        "valid_to": None,
        "content_html": f"<p>{content}</p>",
        "content_text": content,
        "spoiler_text": None,
        **columns,
    }
    names, values = ", ".join(row), ", ".join(f":{name}" for name in row)
    with engine.begin() as connection:
        connection.execute(
            text(
                f"INSERT INTO fediverse.post_versions ({names}, content_hash) VALUES ({values},"
                " md5(coalesce(CAST(:spoiler_text AS text), '') || E'\\n' || :content_text))"
            ),
            row,
        )


def test_a_history_has_each_version_with_what_was_said_of_its_content(fediverse: Engine) -> None:
    post = add_post(fediverse, 1, hour(1), content="fine", spoiler_text="ahem")
    version(fediverse, post, 1, "fine", valid_to=hour(2), spoiler_text="ahem")
    version(fediverse, post, 2, "bad", valid_to=hour(3), edited_at=hour(2))
    version(fediverse, post, 3, "fine", edited_at=hour(3), spoiler_text="ahem")
    current = scalar(fediverse, "SELECT content_hash FROM fediverse.mastodon_posts")
    with fediverse.begin() as connection:
        for model, score in (("m2", 0.5), ("m1", 0.25)):
            record_sentiment(
                connection,
                *(1, post),
                model=model,
                prompt_version="p",
                input_hash=current,
                label="positive",
                score=score,
            )
    history = ask(fediverse, post_history, 1, post)
    assert (history.post_id, history.created_at, history.deleted_at) == (post, hour(1), None)
    first, second, third = history.versions
    assert [v.version_seq for v in history.versions] == [1, 2, 3]
    assert (first.valid_from, first.valid_to, third.valid_to) == (hour(1), hour(2), None)
    assert (second.content, second.content_text, second.edited_at) == ("<p>bad</p>", "bad", hour(2))
    assert first.content_hash == third.content_hash == current != second.content_hash
    said = [(s.model, s.label, s.score) for s in first.sentiments]
    assert said == [("m1", "positive", Decimal("0.250")), ("m2", "positive", Decimal("0.500"))]
    assert third.sentiments == first.sentiments
    assert second.sentiments == ()


def test_a_version_that_was_redacted_keeps_what_was_said_of_it(fediverse: Engine) -> None:
    post = add_post(fediverse, 1, hour(1), content="bad")
    version(fediverse, post, 1, "bad")
    judged = scalar(fediverse, "SELECT content_hash FROM fediverse.mastodon_posts")
    with fediverse.begin() as connection:
        record_sentiment(
            connection, 1, post, model="m", prompt_version="p", input_hash=judged, score=-1
        )
    execute(
        fediverse,
        "UPDATE fediverse.post_versions SET content_html = NULL, content_text = NULL",
        "UPDATE fediverse.mastodon_posts SET content = NULL, content_text = NULL",
    )
    (only,) = ask(fediverse, post_history, 1, post).versions
    assert (only.content, [s.score for s in only.sentiments]) == (None, [Decimal(-1)])


def test_a_history_says_when_the_post_was_deleted(fediverse: Engine) -> None:
    post = add_post(fediverse, 1, NOON, deleted_at=hour(1))
    history = ask(fediverse, post_history, 1, post)
    assert (history.created_at, history.deleted_at, history.versions) == (NOON, hour(1), ())
    deletion = f"(1, '4711', timestamptz '{hour(2).isoformat()}')"
    execute(fediverse, f"INSERT INTO fediverse.post_deletions VALUES {deletion}")
    unseen = ask(fediverse, post_history, 1, "4711")
    assert (unseen.created_at, unseen.deleted_at, unseen.versions) == (None, hour(2), ())
    assert ask(fediverse, post_history, 1, "4712") is None
    assert ask(fediverse, post_history, 2, post) is None


# Who may ask.


MANY = 3_000
LOADED = (
    "INSERT INTO fediverse.hashtags (id, instance_id, name) OVERRIDING SYSTEM VALUE"
    " SELECT {0} * 1000 + n, {0}, 'tag' || n FROM generate_series(1, 50) AS n",
    "INSERT INTO fediverse.mastodon_posts (id, instance_id, account_id, domain, visibility,"
    " content, content_text, created_at, first_seen_at)"
    " SELECT n, {0}, n % 100, 'm', 'public', 'x', 'x',"
    f" '2025-11-20 12:00Z', '2025-11-20 12:00Z' FROM generate_series(1, {MANY}) AS n",
    "INSERT INTO fediverse.post_hashtags (instance_id, post_id, hashtag_id)"
    f" SELECT {{0}}, n, {{0}} * 1000 + 1 + (n * k) % 50 FROM generate_series(1, {MANY}) AS n,"
    " generate_series(1, 3) AS k ON CONFLICT DO NOTHING",
    # A file that does not say when its events were received: thousands share an instant.
    "INSERT INTO fediverse.post_metric_snapshots (instance_id, post_id, captured_at,"
    " reblogs_count, favourites_count, replies_count) SELECT {0}, n,"
    " timestamptz '2025-11-20 12:00Z' + k * interval '10 minutes', 0, k, 0"
    f" FROM generate_series(1, {MANY}) AS n, generate_series(0, 3) AS k",
)


@pytest.mark.parametrize("known", [True, False], ids=["statistics of another", "no statistics"])
@pytest.mark.parametrize(
    ("question", "args"),
    [
        (hashtag_cooccurrence, (2, None, *SPAN)),
        (hashtag_cooccurrence, (2, "tag7", *SPAN)),
        (engagement_velocity, (2, NOON - HOUR, NOON + HOUR, 1)),
        (engagement_velocity, (2, NOON + 15 * MINUTE, NOON + HOUR, 1)),
        (trending_hashtags, (2, NOON + HOUR)),
    ],
)
def test_what_a_read_looks_at_follows_the_posts_also_before_the_planner_knows_of_them(
    fediverse: Engine, question: Callable[..., Any], args: tuple[Any, ...], known: bool
) -> None:
    add_instance(fediverse, "https://other.social")
    for table in ("hashtags", "mastodon_posts", "post_hashtags", "post_metric_snapshots"):
        execute(fediverse, f"ALTER TABLE fediverse.{table} SET (autovacuum_enabled = off)")
    if known:
        execute(fediverse, *(statement.format(1) for statement in LOADED))
        execute(
            fediverse,
            "ANALYZE fediverse.hashtags, fediverse.mastodon_posts",
            "ANALYZE fediverse.post_hashtags, fediverse.post_metric_snapshots",
        )
    settle(fediverse)
    execute(fediverse, *(statement.format(2) for statement in LOADED))
    settle(fediverse)
    plans: list[Any] = []
    with fediverse.connect() as connection:

        def explained(_c: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
            if "fediverse." in statement and not statement.startswith("EXPLAIN"):
                cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters)
                plans.append(cursor.fetchone()[0][0]["Plan"])

        event.listen(connection, "before_cursor_execute", explained)
        assert question(connection, *args)
    assert plans
    looked_at = sum(map(rows_looked_at, plans))
    assert looked_at < 150 * MANY, looked_at


def rows_looked_at(plan: dict[str, Any]) -> float:
    """The rows that all nodes of a plan returned or removed, all loops together."""
    names = ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Join Filter")
    here = plan["Actual Loops"] * sum(plan.get(name, 0) for name in names)
    return float(here + sum(rows_looked_at(each) for each in plan.get("Plans", ())))


def test_a_reader_needs_no_more_than_to_select(fediverse: Engine) -> None:
    add_post(fediverse, 1, NOON, tags=["cats", "dogs"])
    execute(
        fediverse,
        "CREATE ROLE fediverse_reader",
        "GRANT USAGE ON SCHEMA fediverse, tallykeeper TO fediverse_reader",
        "GRANT SELECT ON ALL TABLES IN SCHEMA fediverse TO fediverse_reader",
        f"GRANT EXECUTE ON FUNCTION {MORE_PENDING_THAN}(bigint) TO fediverse_reader",
    )
    with fediverse.begin() as connection:
        install(connection, system.tallies)
    try:
        with fediverse.connect() as connection:
            for question, args in QUESTIONS.items():
                connection.exec_driver_sql("SET TRANSACTION READ ONLY")
                connection.exec_driver_sql("SET LOCAL ROLE fediverse_reader")
                found = question(connection, *args)
                connection.rollback()
                assert found == question(connection, *args), question
                connection.rollback()
    finally:
        execute(fediverse, "DROP OWNED BY fediverse_reader", "DROP ROLE fediverse_reader")


# What cannot be asked.

QUESTIONS: dict[Callable[..., Any], tuple[Any, ...]] = {
    trending_hashtags: (1, NOON),
    growing_hashtags: (1, NOON),
    spiking_hashtags: (1, NOON),
    summaries: (1, *SPAN),
    latest_summary: (1,),
    hourly_series: (1, *SPAN),
    hashtag_series: (1, "cats", *SPAN),
    domain_series: (1, "a.org", *SPAN),
    top_domains: (1, *SPAN),
    hashtag_cooccurrence: (1, None, *SPAN),
    engagement_velocity: (1, *SPAN, 3),
    rising_posts: (1, *SPAN),
    post_history: (1, "2"),
    post_series: (1, "2"),
    sentiment_changes: (1, *SPAN),
}


def test_an_instance_that_there_is_not_has_nothing(fediverse: Engine) -> None:
    for question, (_, *others) in QUESTIONS.items():
        found = ask(fediverse, question, 999, *others)
        assert not found or found == [type(found[0])(NOON)], question


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.__name__)
def test_without_the_system_every_question_says_so(
    engine: Engine, question: Callable[..., Any]
) -> None:
    with pytest.raises(NotInstalled, match="tally migrate"):
        ask(engine, question, *QUESTIONS[question])


@pytest.mark.parametrize(
    ("question", "args", "message"),
    [
        (hourly_series, (1, NOON, NOON), "a `start` before the `end`"),
        (hourly_series, (1, NOON, hour(100_001)), "at most 100,000 hours"),
        (hourly_series, (1, "today", NOON), "`start` to be a datetime"),
        (hourly_series, (1.0, *SPAN), "`instance_id` from 0"),
        (hourly_series, (1, NOON, datetime.max.replace(tzinfo=UTC)), "within the years 1 to 9999"),
        (hashtag_series, (1, " ", *SPAN), "`hashtag` to be a text"),
        (hashtag_series, (1, "a\0b", *SPAN), "without null characters"),
        (domain_series, (1, None, *SPAN), "`domain` to be a text"),
        (hashtag_cooccurrence, (1, "", *SPAN), "`hashtag` to be a text"),
        (hashtag_cooccurrence, (1, None, hour(1), NOON), "a `start` before the `end`"),
        (engagement_velocity, (1, *SPAN, -1), "`more_than` from 0"),
        (engagement_velocity, (1, hour(1), NOON, 1), "a `start` before the `end`"),
        (rising_posts, (1, hour(1), NOON), "a `start` before the `end`"),
        (post_series, (1, "2", hour(1), NOON), "a `start` before the `end`"),
        (post_series, (1, "2", None, "today"), "`end` to be a datetime"),
        (sentiment_changes, (1, hour(1), NOON), "a `start` before the `end`"),
        (spiking_hashtags, (1, datetime.min.replace(tzinfo=UTC)), "within the years 1 to 9999"),
        (post_history, (1, 7), "`post_id` to be a text"),
        (post_history, (1, "x" * 256), "`post_id` of up to 255 characters"),
        (post_history, (-1, "1"), "`instance_id` from 0"),
    ],
)
def test_what_cannot_be_asked_is_said(
    engine: Engine, question: Callable[..., Any], args: tuple[Any, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ask(engine, question, *args)


@pytest.mark.parametrize(
    "question",
    [
        top_domains,
        hashtag_cooccurrence,
        engagement_velocity,
        rising_posts,
        post_series,
        sentiment_changes,
    ],
)
def test_a_limit_is_at_least_one(engine: Engine, question: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="`limit` from 1 to 10,000"):
        ask(engine, question, *QUESTIONS[question], limit=0)
