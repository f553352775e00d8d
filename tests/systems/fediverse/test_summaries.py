"""Days as an application reads them, and the texts that somebody's model writes about them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Engine

from assets.fediverse.reads import (
    Summary,
    latest_summary,
    record_sentiment,
    summaries,
    write_summary_text,
)
from assets.fediverse.tallies import daily_summaries, system
from tallykeeper import rebuild, refresh, verify
from tallykeeper.errors import NotInstalled
from tests.fediverse_posts import add_instance, add_post
from tests.integration.support import create, execute, scalar

DAY = datetime(2025, 11, 20, tzinfo=UTC)
HOUR = timedelta(hours=1)
TEXT = {"model": "m", "prompt_version": "1", "summary_text": "A quiet day."}


@pytest.fixture
def fediverse(engine: Engine) -> Engine:
    """One instance, without posts; nothing was ever built."""
    create(engine, system)
    assert add_instance(engine) == 1
    return engine


def of_days(
    engine: Engine, start: datetime = DAY, end: datetime = DAY + 24 * HOUR
) -> list[Summary]:
    with engine.connect() as connection:
        return summaries(connection, 1, start, end)


def latest(engine: Engine, instance: int = 1) -> Summary | None:
    with engine.connect() as connection:
        return latest_summary(connection, instance)


def write(engine: Engine, day: date = DAY, **values: Any) -> None:
    with engine.begin() as connection:
        write_summary_text(connection, 1, day, **{**TEXT, "input_hash": "x", **values})


def test_a_day_says_what_was_posted_before_any_refresh(fediverse: Engine) -> None:
    post = add_post(fediverse, 1, DAY, favourites_count=2, language="en")
    add_post(fediverse, 1, DAY + 23 * HOUR, account_id=2, hashtags='["cats"]')
    judged = scalar(
        fediverse, f"SELECT content_hash FROM fediverse.mastodon_posts WHERE id = '{post}'"
    )
    with fediverse.begin() as connection:
        record_sentiment(
            connection, 1, post, model="m", prompt_version="1", input_hash=judged, score=0.25
        )
    (day,) = of_days(fediverse)
    assert (day.window_start, day.window_end) == (DAY, DAY + 24 * HOUR)
    assert day.window_start.tzinfo is UTC
    assert (day.post_count, day.author_count, day.total_engagement) == (2, 2, 4)
    assert (day.sentiment_count, day.sentiment_sum) == (1, Decimal("0.25"))
    assert day.input_stats["top_hashtags"] == [{"name": "cats", "posts": 1}]
    assert day.input_stats["top_languages"] == [{"name": "en", "posts": 1}]
    assert (day.model, day.prompt_version, day.summary_text) == (None, None, None)
    assert not day.text_is_current
    refresh(fediverse, daily_summaries)
    assert of_days(fediverse) == [day]


def test_days_that_a_span_touches_are_in_order_and_empty_ones_left_out(fediverse: Engine) -> None:
    for n in (3, 0, 1, -1):
        add_post(fediverse, 1, DAY + n * 24 * HOUR)
    found = of_days(fediverse, DAY + HOUR, DAY + 72 * HOUR + HOUR)
    assert [(day.window_start - DAY).days for day in found] == [0, 1, 3]
    assert len(of_days(fediverse, DAY + HOUR, DAY + 72 * HOUR)) == 2
    newest = latest(fediverse)
    assert newest is not None
    assert newest.window_start == DAY + 72 * HOUR
    assert latest(fediverse, 999) is None


def test_an_empty_database_has_no_days(fediverse: Engine) -> None:
    assert of_days(fediverse) == []
    assert latest(fediverse) is None


def test_a_text_is_current_until_the_figures_change(fediverse: Engine) -> None:
    add_post(fediverse, 1, DAY)
    refresh(fediverse, daily_summaries)
    (day,) = of_days(fediverse)
    write(fediverse, DAY + 5 * HOUR, input_hash=day.input_hash)
    (summary,) = of_days(fediverse)
    assert (summary.model, summary.prompt_version, summary.summary_text) == (
        "m",
        "1",
        "A quiet day.",
    )
    assert summary.text_is_current
    assert latest(fediverse) == summary
    late = add_post(fediverse, 1, DAY + HOUR)
    for _ in range(2):
        (changed,) = of_days(fediverse)
        assert (changed.post_count, changed.summary_text) == (2, "A quiet day.")
        assert not changed.text_is_current
        assert refresh(fediverse, daily_summaries)
    execute(
        fediverse, f"UPDATE fediverse.mastodon_posts SET deleted_at = now() WHERE id = '{late}'"
    )
    assert of_days(fediverse) == [summary]
    refresh(fediverse, daily_summaries)
    assert of_days(fediverse) == [summary]


def test_a_text_survives_refresh_and_rebuild_and_verify_has_no_objection(
    fediverse: Engine,
) -> None:
    add_post(fediverse, 1, DAY)
    refresh(fediverse, daily_summaries)
    (day,) = of_days(fediverse)
    write(fediverse, DAY.date(), input_hash=day.input_hash)
    rebuild(fediverse, daily_summaries)
    assert verify(fediverse, daily_summaries).ok
    (summary,) = of_days(fediverse)
    assert summary.text_is_current


def test_a_text_of_figures_that_changed_while_it_was_written_is_not_current(
    fediverse: Engine,
) -> None:
    add_post(fediverse, 1, DAY)
    (before,) = of_days(fediverse)
    add_post(fediverse, 1, DAY)
    refresh(fediverse, daily_summaries)
    write(fediverse, input_hash=before.input_hash)
    (day,) = of_days(fediverse)
    assert (day.summary_text, day.text_is_current) == ("A quiet day.", False)


def test_a_text_for_a_day_without_a_row_is_refused(fediverse: Engine) -> None:
    add_post(fediverse, 1, DAY)
    with pytest.raises(ValueError, match="there is no row; refresh it first"):
        write(fediverse)


@pytest.mark.parametrize("name", ["model", "prompt_version", "summary_text", "input_hash"])
def test_an_empty_text_is_refused(engine: Engine, name: str) -> None:
    with pytest.raises(ValueError, match=f"`{name}` to be a text"):
        write(engine, DAY, **{name: " "})


def test_a_day_that_is_none_is_refused(engine: Engine) -> None:
    with pytest.raises(ValueError, match="`day` to be a date"):
        write(engine, "2025-11-20")  # type: ignore[arg-type]


def test_without_the_system_every_question_says_so(engine: Engine) -> None:
    for question in (of_days, latest):
        with pytest.raises(NotInstalled, match="tally migrate"):
            question(engine)
