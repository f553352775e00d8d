"""What posts gained, how their counts went, and which edits changed what a model says of them.

One database for all: each test has an instance of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Engine, text

from assets.fediverse.questions.gains import Baseline
from assets.fediverse.reads import (
    PostCounts,
    engagement_velocity,
    post_series,
    record_sentiment,
    rising_posts,
    sentiment_changes,
)
from tests.fediverse_posts import add_instance, add_post
from tests.integration.fediverse_log import created
from tests.integration.support import execute, scalar
from tests.servers import Servers

NOON = datetime(2025, 11, 20, 12, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
END = NOON + 2 * HOUR


@pytest.fixture(scope="module")
def database(postgres_servers: Servers) -> Iterator[Engine]:
    with created(postgres_servers) as engine:
        yield engine


@pytest.fixture
def here(database: Engine, request: pytest.FixtureRequest) -> int:
    """An instance of the test's own."""
    return add_instance(database, f"https://{request.node.name}.example")


def seen(engine: Engine, here: int, post: Any, *counts: tuple[datetime, int], **more: int) -> None:
    """Snapshots of the post: moments and favourites, and other counts that they all have."""
    row = {"replies_count": 0, "reblogs_count": 0, **more}
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO fediverse.post_metric_snapshots (instance_id, post_id, captured_at,"
                " favourites_count, replies_count, reblogs_count) VALUES"
                " (:here, :post, :at, :favourites, :replies_count, :reblogs_count)"
            ),
            [{"here": here, "post": post, "at": a, "favourites": f, **row} for a, f in counts],
        )


def gains(
    engine: Engine, here: int, baseline: Baseline = "creation"
) -> dict[Any, tuple[int, int, datetime]]:
    with engine.connect() as connection:
        found = engagement_velocity(connection, here, NOON, END, 0, baseline=baseline)
    return {v.post_id: (v.gained, v.favourites_before, v.before_at) for v in found}


def test_all_that_a_post_has_within_its_first_hour_it_gained(database: Engine, here: int) -> None:
    at = NOON + 5 * MINUTE
    post = add_post(database, here, at)
    seen(database, here, post, (at + 50 * MINUTE, 60))
    assert gains(database, here) == {post: (60, 0, at)}


def test_a_post_counts_from_creation_only_where_it_was_created_within_the_span(
    database: Engine, here: int
) -> None:
    counts = ((NOON + HOUR, 2), (NOON + HOUR + MINUTE, 4), (END, 7))
    at_start, before, after = (add_post(database, here, NOON + n * MINUTE) for n in (0, -1, 3 * 60))
    for post in (at_start, before, after):
        seen(database, here, post, *counts)
    # A server's clock may be ahead; what is seen there is.
    assert gains(database, here) == {
        at_start: (7, 0, NOON),
        before: (5, 2, NOON + HOUR),
        after: (7, 0, NOON + HOUR),
    }


def test_a_count_before_the_start_goes_before_the_creation(database: Engine, here: int) -> None:
    early = add_post(database, here, NOON + MINUTE)
    seen(database, here, early, (NOON - MINUTE, 3), (NOON + HOUR, 9))
    assert gains(database, here) == {early: (6, 3, NOON - MINUTE)}


def test_other_baselines_can_be_asked_for(database: Engine, here: int) -> None:
    young, old = add_post(database, here, NOON + MINUTE), add_post(database, here, NOON - HOUR)
    known = add_post(database, here, NOON - HOUR)
    for post in (young, old):
        seen(database, here, post, (NOON + HOUR, 50), (END, 60))
    seen(database, here, known, (NOON - MINUTE, 50), (END, 60))
    first = NOON + HOUR
    assert gains(database, here, "first_seen") == {
        young: (10, 50, first),
        old: (10, 50, first),
        known: (10, 50, NOON - MINUTE),
    }
    assert gains(database, here, "zero") == {
        young: (60, 0, NOON),
        old: (60, 0, NOON),
        known: (10, 50, NOON - MINUTE),
    }
    with pytest.raises(ValueError, match="one of creation, first_seen, zero, but it is 'birth'"):
        gains(database, here, "birth")  # type: ignore[arg-type]


def test_the_document_s_query_has_the_gains_from_zero(database: Engine, here: int) -> None:
    for minutes, counts in ((-90, (5, 70)), (-90, (None, 70)), (5, (None, 60)), (5, (None, 3))):
        post = add_post(database, here, NOON + minutes * MINUTE)
        ats = (NOON - MINUTE, NOON + HOUR)
        known = [(at, n) for at, n in zip(ats, counts, strict=True) if n is not None]
        seen(database, here, post, *known)
    one = (
        "coalesce((SELECT s.favourites_count FROM fediverse.post_metric_snapshots AS s"
        " WHERE s.instance_id = p.instance_id AND s.post_id = p.id AND s.captured_at {} '{}'"
        " ORDER BY s.captured_at DESC LIMIT 1), 0)"
    )
    query = (
        f"SELECT id, {one.format('>=', NOON)} - {one.format('<', NOON)} AS gained"
        f" FROM fediverse.mastodon_posts AS p WHERE instance_id = {here}"
    )
    with database.connect() as connection:
        document = dict(
            tuple(row)
            for row in connection.exec_driver_sql(f"SELECT * FROM ({query}) AS q WHERE gained > 50")
        )
    found = gains(database, here, "zero")
    assert {post: gained for post, (gained, *_) in found.items() if gained > 50} == document
    assert len(document) == 3


def test_posts_rise_by_their_engagement_against_what_it_was(database: Engine, here: int) -> None:
    tripled, little, new, doubled = (add_post(database, here, NOON - HOUR) for _ in range(4))
    seen(database, here, tripled, (NOON, 10), (END, 40))
    seen(database, here, little, (NOON, 1), (END, 100))
    seen(database, here, new, (END, 100))
    seen(database, here, doubled, (NOON, 9), (END, 18), reblogs_count=1)
    hidden = add_post(database, here, NOON - HOUR, visibility="private")
    seen(database, here, hidden, (NOON, 10), (END, 400))
    with database.connect() as connection:
        found = rising_posts(connection, here, NOON, END, above=0.5)
        first, second = found
        assert (first.post_id, first.growth, first.gained) == (tripled, 3.0, 60)
        assert (first.engagement_before, first.engagement) == (20, 80)
        assert (first.before_at, first.seen_at) == (NOON, END)
        assert (second.post_id, second.engagement_before, second.engagement) == (doubled, 21, 39)
        assert rising_posts(connection, here, NOON, END, above=3.0) == []
        assert rising_posts(connection, here, NOON, END, above=2.9) == [first]
        of_little = rising_posts(connection, here, NOON, END, minimum_before=2)
        assert [r.post_id for r in of_little] == [little, tripled]
        assert rising_posts(connection, here, NOON, END, above=0.5, limit=1) == [first]


def test_a_post_has_the_series_of_its_counts(database: Engine, here: int) -> None:
    post, other = add_post(database, here, NOON), add_post(database, here, NOON)
    counts = [(NOON + n * HOUR, n) for n in range(1, 5)]
    seen(database, here, post, *counts, reblogs_count=2, replies_count=1)
    seen(database, here, other, (END, 99))
    expected = tuple(PostCounts(at, 1, 2, n, 7 + 2 * n) for at, n in counts)
    with database.connect() as connection:
        series = post_series(connection, here, post)
        assert series is not None
        assert (series.post_id, series.created_at, series.deleted_at) == (post, NOON, None)
        assert series.counts == expected

        def within(*args: Any, **more: Any) -> Any:
            found = post_series(connection, here, post, *args, **more)
            return found and found.counts

        assert within(NOON + 2 * HOUR, NOON + 4 * HOUR) == expected[1:3]
        assert within(None, NOON + 2 * HOUR) == expected[:1]
        assert within(limit=3) == expected[1:]
        assert within(NOON + 9 * HOUR) == ()


def test_a_series_says_what_else_is_known_of_the_post(database: Engine, here: int) -> None:
    deleted = add_post(database, here, NOON, deleted_at=END)
    execute(
        database,
        f"INSERT INTO fediverse.post_deletions (instance_id, post_id, deleted_at)"
        f" VALUES ({here}, 4711, '{END}')",
    )
    unseen = scalar(
        database, f"SELECT post_id FROM fediverse.post_deletions WHERE instance_id = {here}"
    )
    with database.connect() as connection:
        for post, at in ((deleted, NOON), (unseen, None)):
            series = post_series(connection, here, post)
            assert series is not None
            assert (series.created_at, series.deleted_at, series.counts) == (at, END, ())
        assert post_series(connection, here, type(unseen)(4712)) is None


# What models said of one version and the next.


def edited(engine: Engine, here: int, *contents: str, **columns: Any) -> Any:
    """A post with a version an hour, from noon on, the last of which is its content."""
    post = add_post(engine, here, NOON, content=contents[-1], **columns)
    with engine.begin() as connection:
        for n, content in enumerate(contents):
            connection.execute(
                text(
                    "INSERT INTO fediverse.post_versions (instance_id, post_id, version_seq,"
                    " valid_from, content_text, content_hash)"
                    " VALUES (:here, :post, :seq, :at, :content, md5(E'\\n' || :content))"
                ),
                {"here": here, "post": post, "seq": n + 1, "at": NOON + n * HOUR}
                | {"content": content},
            )
    return post


def judge(engine: Engine, here: int, post: Any, model: str, **said: str | None) -> None:
    """Let the model say a label of each content."""
    with engine.begin() as connection:
        for content, label in said.items():
            digest = connection.execute(text("SELECT md5(E'\\n' || :c)"), {"c": content}).scalar()
            record_sentiment(
                connection,
                here,
                post,
                model=model,
                prompt_version="1",
                input_hash=str(digest),
                label=label,
                score=0.5 if label == "good" else -0.5,
            )


def test_posts_whose_sentiment_changed_with_an_edit_are_listed(database: Engine, here: int) -> None:
    post = edited(database, here, "first", "second", "third", "fourth")
    judge(database, here, post, "m", first="good", third="bad", fourth="bad")
    judge(database, here, post, "n", first="good", second="good", fourth=None)
    same = edited(database, here, "first", "second")
    judge(database, here, same, "m", first="good", second="good")
    for hidden in ({"deleted_at": END}, {"visibility": "private"}):
        judge(database, here, edited(database, here, "a", "b", **hidden), "m", a="good", b="bad")
    with database.connect() as connection:
        found = sentiment_changes(connection, here, NOON, NOON + 9 * HOUR)
        assert [
            (c.post_id, c.model, c.version_before, c.version_seq, c.label_before, c.label)
            for c in found
        ] == [(post, "n", 2, 4, "good", None), (post, "m", 1, 3, "good", "bad")]
        assert (found[1].score_before, found[1].score) == (Decimal("0.5"), Decimal("-0.5"))
        assert (found[1].changed_at, found[1].prompt_version) == (NOON + 2 * HOUR, "1")
        # The edit lies in the span, what it is compared with need not.
        third = NOON + 2 * HOUR, NOON + 3 * HOUR
        assert sentiment_changes(connection, here, *third) == found[1:]
        assert sentiment_changes(connection, here, *third, model="n") == []
        assert sentiment_changes(connection, here, *third, model="m", prompt_version="1")
        assert sentiment_changes(connection, here, *third, prompt_version="2") == []
        assert sentiment_changes(connection, here, NOON, NOON + 9 * HOUR, limit=1) == found[:1]


def test_a_post_edited_back_has_its_first_sentiment_again(database: Engine, here: int) -> None:
    post = edited(database, here, "fine", "awful", "fine")
    judge(database, here, post, "m", fine="good", awful="bad")
    with database.connect() as connection:
        found = sentiment_changes(connection, here, NOON, NOON + 9 * HOUR)
    assert [(c.version_seq, c.label) for c in found] == [(3, "good"), (2, "bad")]
