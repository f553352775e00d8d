"""Posts for a text model to judge: each content once, shared by workers without an overlap."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event

from assets.fediverse.reads import Unanalyzed, record_sentiment, unanalyzed_posts
from assets.fediverse.tallies import system
from tallykeeper import refresh, verify
from tallykeeper.errors import NotInstalled
from tests.fediverse_posts import add_instance, add_post
from tests.integration.support import create, execute, rows, scalar

NOON = datetime(2025, 11, 20, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
ASKS = ("m", "1")


@pytest.fixture
def fediverse(engine: Engine) -> Engine:
    """One instance, without posts."""
    create(engine, system)
    assert add_instance(engine) == 1
    return engine


def offered(engine: Engine, *args: Any, **parameters: Any) -> list[str]:
    with engine.connect() as connection:
        return ids(unanalyzed_posts(connection, *(args or ASKS), **parameters))


def ids(posts: list[Unanalyzed]) -> list[str]:
    return [post.post_id for post in posts]


def judge(connection: Connection, post: Unanalyzed, **said: Any) -> None:
    record_sentiment(
        connection,
        post.instance_id,
        post.post_id,
        **{
            "model": "m",
            "prompt_version": "1",
            "input_hash": post.input_hash,
            "version_seq": post.version_seq,
            "score": 0.5,
            **said,
        },
    )


def judge_all(engine: Engine, **said: Any) -> int:
    with engine.begin() as connection:
        posts = unanalyzed_posts(
            connection, said.get("model", "m"), said.get("prompt_version", "1")
        )
        for post in posts:
            judge(connection, post, **said)
        return len(posts)


def edit(engine: Engine, post: str, content: str) -> None:
    execute(
        engine,
        f"UPDATE fediverse.mastodon_posts SET content = '{content}', content_text = '{content}'"
        f" WHERE id = '{post}'",
    )


def test_a_post_is_offered_with_its_present_text_hash_and_version(fediverse: Engine) -> None:
    post = add_post(
        fediverse, 1, NOON, content="fine", spoiler_text="ahem", language="en", domain="a.org"
    )
    execute(
        fediverse,
        *(
            "INSERT INTO fediverse.post_versions"
            " (instance_id, post_id, valid_from, version_seq, content_hash)"
            f" VALUES (1, '{post}', now() + interval '{n} hours', {n}, 'x')"
            for n in (1, 2)
        ),
    )
    with fediverse.connect() as connection:
        (found,) = unanalyzed_posts(connection, *ASKS)
    expected = scalar(fediverse, r"SELECT md5(E'ahem\nfine')")
    assert found == Unanalyzed(1, post, "fine", "ahem", "en", expected, 2, NOON)


def test_only_posts_with_text_that_are_neither_deleted_nor_reblogs_are_offered(
    fediverse: Engine,
) -> None:
    plain = add_post(fediverse, 1, NOON)
    add_post(fediverse, 1, NOON, deleted_at=NOON)
    add_post(fediverse, 1, NOON, content=None, reblog_of_id=plain)
    add_post(fediverse, 1, NOON, content=None)
    add_post(fediverse, 1, NOON, content="")
    warned = add_post(fediverse, 1, NOON - HOUR, content="", spoiler_text="a picture of food")
    private = add_post(fediverse, 1, NOON - 2 * HOUR, visibility="private")
    assert offered(fediverse) == [plain, warned, private]


def test_a_content_is_never_offered_again_though_it_is_edited_to_and_fro(
    fediverse: Engine,
) -> None:
    post = add_post(fediverse, 1, NOON, content="fine")
    assert judge_all(fediverse) == 1
    assert offered(fediverse) == []
    edit(fediverse, post, "bad")
    assert judge_all(fediverse) == 1
    for content in ("fine", "bad", "fine"):
        edit(fediverse, post, content)
        assert offered(fediverse) == []
    edit(fediverse, post, "else")
    assert offered(fediverse) == [post]


def test_what_is_judged_while_the_post_is_edited_leaves_the_new_text_to_be_judged(
    fediverse: Engine,
) -> None:
    post = add_post(fediverse, 1, NOON, content="fine")
    with fediverse.begin() as connection:
        (claimed,) = unanalyzed_posts(connection, *ASKS)
        edit(fediverse, post, "bad")  # which does not wait for the claim
        judge(connection, claimed)
    assert offered(fediverse) == [post]


def test_models_prompts_and_posts_each_have_their_own_judgement(fediverse: Engine) -> None:
    first, second = add_post(fediverse, 1, NOON), add_post(fediverse, 1, NOON - HOUR)
    assert judge_all(fediverse) == 2
    assert offered(fediverse, "m", "2") == offered(fediverse, "n", "1") == [first, second]
    third = add_post(fediverse, 1, NOON, content="Hello")
    assert offered(fediverse) == [third]


def test_the_newest_come_first_within_what_is_asked_for(fediverse: Engine) -> None:
    other = add_instance(fediverse, "https://other.social")
    posts = [add_post(fediverse, n % 2 + 1, NOON - n * HOUR) for n in range(4)]
    assert offered(fediverse) == posts
    assert offered(fediverse, limit=3) == posts[:3]
    assert offered(fediverse, *ASKS, other) == posts[1::2]
    assert offered(fediverse, created_from=NOON - HOUR) == posts[:2]
    assert offered(fediverse, *ASKS, 999) == []


def test_two_workers_are_never_offered_the_same_post_at_the_same_time(fediverse: Engine) -> None:
    posts = [add_post(fediverse, 1, NOON - n * HOUR) for n in range(5)]
    with fediverse.connect() as one, fediverse.connect() as two, fediverse.connect() as other:
        assert ids(unanalyzed_posts(one, *ASKS, limit=2)) == posts[:2]
        assert ids(unanalyzed_posts(two, *ASKS, limit=2)) == posts[2:4]
        # The first goes on with its own, which it has not judged yet.
        assert ids(unanalyzed_posts(one, *ASKS, limit=2)) == posts[:2]
        assert ids(unanalyzed_posts(other, "other", "1")) == posts
        for post in unanalyzed_posts(one, *ASKS, limit=2):
            judge(one, post)
        one.commit()
        two.rollback()  # a worker that died
        assert ids(unanalyzed_posts(one, *ASKS)) == posts[2:]
        assert ids(unanalyzed_posts(two, *ASKS)) == []


def test_what_is_committed_between_the_look_and_the_claim_is_not_offered(
    fediverse: Engine,
) -> None:
    posts = [add_post(fediverse, 1, NOON - n * HOUR) for n in range(3)]
    with fediverse.connect() as worker, fediverse.connect() as other:
        seen = unanalyzed_posts(other, *ASKS, limit=2)
        other.rollback()

        def record_meanwhile(*args: Any) -> None:
            if "advisory" in args[2] and seen:
                while seen:
                    judge(other, seen.pop())
                other.commit()

        event.listen(worker, "after_cursor_execute", record_meanwhile)
        assert ids(unanalyzed_posts(worker, *ASKS, limit=2)) == posts[2:]
        assert not seen


def test_many_workers_judge_every_post_exactly_once(fediverse: Engine) -> None:
    posts = [add_post(fediverse, 1, NOON - n * HOUR) for n in range(30)]
    judged: list[str] = []
    workers = [fediverse.connect() for _ in range(3)]
    try:
        while sum(_turn(worker, judged) for worker in workers):
            pass
    finally:
        for worker in workers:
            worker.close()
    assert sorted(judged) == sorted(posts)
    assert scalar(fediverse, "SELECT count(*) FROM fediverse.post_sentiments") == 30


def _turn(worker: Connection, judged: list[str]) -> bool:
    """Commit what was claimed in the turn before, and claim more."""
    worker.commit()
    posts = unanalyzed_posts(worker, *ASKS, limit=4)
    for post in posts:
        judge(worker, post)
    judged += ids(posts)
    return bool(posts)


def test_a_connection_that_cannot_hold_a_claim_is_refused(fediverse: Engine) -> None:
    for level, message in (
        ("AUTOCOMMIT", "it has autocommit"),
        ("REPEATABLE READ", "it is repeatable read"),
        ("SERIALIZABLE", "it is serializable"),
    ):
        engine = fediverse.execution_options(isolation_level=level)
        with engine.connect() as connection, pytest.raises(ValueError, match=message):
            unanalyzed_posts(connection, *ASKS)


def test_the_latest_judgement_of_a_model_stands(fediverse: Engine) -> None:
    add_post(fediverse, 1, NOON)
    with fediverse.begin() as connection:
        (post,) = unanalyzed_posts(connection, *ASKS)
        judge(connection, post, label="positive", score=0.9)
        judge(connection, post, label="neutral", score=0.1234)
    said = rows(fediverse, "SELECT label, score::text FROM fediverse.post_sentiments")
    assert said == [("neutral", "0.123")]


def test_a_content_that_a_model_says_nothing_of_counts_as_judged(fediverse: Engine) -> None:
    add_post(fediverse, 1, NOON)
    assert judge_all(fediverse, score=None, label=None) == 1
    assert offered(fediverse) == []


def test_a_recorded_sentiment_is_in_the_day_at_once(fediverse: Engine) -> None:
    add_post(fediverse, 1, NOON)
    for tally in system.tallies:
        refresh(fediverse, tally)
    judge_all(fediverse)
    live = "SELECT sentiment_count, sentiment_sum FROM fediverse.daily_summaries_live"
    ((number, total),) = rows(fediverse, live)
    assert (number, float(total)) == (1, 0.5)
    for tally in system.tallies:
        refresh(fediverse, tally)
        assert verify(fediverse, tally).ok


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"score": 1.01}, "`score` from -1 to 1"),
        ({"score": float("nan")}, "`score` from -1 to 1"),
        ({"model": ""}, "`model` to be a text"),
        ({"prompt_version": None}, "`prompt_version` to be a text"),
        ({"input_hash": " "}, "`input_hash` to be a text"),
        ({"label": ""}, "`label` to be a text"),
        ({"version_seq": 0}, "`version_seq` from 1"),
    ],
)
def test_what_cannot_be_recorded_is_said(
    engine: Engine, said: dict[str, Any], message: str
) -> None:
    post = Unanalyzed(1, "2", "x", None, None, "hash", 1, NOON)
    with engine.connect() as connection, pytest.raises(ValueError, match=message):
        judge(connection, post, **said)


def test_a_sentiment_of_a_post_that_there_is_not_is_refused(fediverse: Engine) -> None:
    post = Unanalyzed(1, "4711", "x", None, None, "hash", 1, NOON)
    with fediverse.connect() as connection, pytest.raises(ValueError, match="there is none"):
        judge(connection, post)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("", "1"), "`model` to be a text"),
        (("m", 1), "`prompt_version` to be a text"),
        (("m", "1", "x"), "`instance_id` from 0"),
    ],
)
def test_what_cannot_be_asked_is_said(engine: Engine, args: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        offered(engine, *args)
    for limit in (0, 1_001):
        with pytest.raises(ValueError, match="`limit` from 1 to 1,000"):
            offered(engine, *ASKS, limit=limit)


def test_without_the_system_there_is_nothing_to_judge(engine: Engine) -> None:
    with pytest.raises(NotInstalled, match="tally migrate"):
        offered(engine)
