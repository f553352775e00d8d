"""How the fediverse is asked: moments and spans, before any database hears of them."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest

from assets.fediverse.questions import query_args

NOON = datetime(2025, 11, 20, 12, tzinfo=UTC)
TICK = timedelta(microseconds=1)
KATHMANDU = timezone(timedelta(hours=5, minutes=45))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("start", "end", "first", "last"),
    [
        ("2025-11-20T12:00", "2025-11-20T13:00", "2025-11-20T12:00", "2025-11-20T13:00"),
        ("2025-11-20T12:59:59.999999", "2025-11-20T13:00", "2025-11-20T12:00", "2025-11-20T13:00"),
        ("2025-11-20T12:00", "2025-11-20T13:00:00.000001", "2025-11-20T12:00", "2025-11-20T14:00"),
        ("2025-11-20T23:30", "2025-11-21T00:30", "2025-11-20T23:00", "2025-11-21T01:00"),
    ],
)
def test_hours_are_those_that_the_span_touches(start: str, end: str, first: str, last: str) -> None:
    assert query_args.hours(at(start), at(end)) == (at(first), at(last))


@pytest.mark.parametrize(
    ("start", "end", "first", "last"),
    [
        ("2025-11-20", "2025-11-21", "2025-11-20", "2025-11-21"),
        ("2025-11-20T23:59", "2025-11-21T00:00:01", "2025-11-20", "2025-11-22"),
        ("2025-12-31T12:00", "2025-12-31T13:00", "2025-12-31", "2026-01-01"),
    ],
)
def test_days_are_those_that_the_span_touches(start: str, end: str, first: str, last: str) -> None:
    assert query_args.days(at(start), at(end)) == (at(first), at(last))


def test_hours_are_of_utc_also_where_the_zone_is_not_whole_hours_off() -> None:
    start = NOON.astimezone(KATHMANDU)
    assert query_args.hours(start, start + TICK) == (NOON, NOON + query_args.HOUR)
    assert query_args.hours(start, start + TICK)[0].tzinfo is UTC


def test_the_longest_series_is_allowed_and_no_longer() -> None:
    assert query_args.hours(NOON, NOON + query_args.LONGEST_SERIES)
    with pytest.raises(ValueError, match="are 100,001; ask for them in parts"):
        query_args.hours(NOON, NOON + query_args.LONGEST_SERIES + TICK)


def test_an_instant_without_zone_is_utc_and_is_written_with_it() -> None:
    moment = query_args.instant("at", NOON.replace(tzinfo=None))
    assert moment == NOON
    assert query_args.written(moment) == "timestamptz '2025-11-20T12:00:00+00:00'"


def test_a_day_is_the_utc_day_that_a_datetime_falls_in() -> None:
    midnight = at("2025-11-20")
    assert query_args.day_of("day", date(2025, 11, 20)) == midnight
    assert query_args.day_of("day", datetime(2025, 11, 21, 1, tzinfo=KATHMANDU)) == midnight


@pytest.mark.parametrize(
    "ask",
    [
        lambda: query_args.instant("at", datetime(1, 1, 1, tzinfo=KATHMANDU)),
        lambda: query_args.next_hour(datetime.max.replace(tzinfo=UTC)),
        lambda: query_args.days(NOON, datetime.max.replace(tzinfo=UTC)),
        lambda: query_args.later("at", datetime.min.replace(tzinfo=UTC), -TICK),
    ],
)
def test_what_lies_beyond_the_years_1_to_9999_is_refused(ask: Any) -> None:
    with pytest.raises(ValueError, match="within the years 1 to 9999"):
        ask()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "1", None, True, -0.5])
def test_a_number_is_finite_and_large_enough(value: Any) -> None:
    with pytest.raises(ValueError, match="`weight` of at least 0"):
        query_args.number("weight", value, 0)


def test_a_number_that_must_be_above_its_bound_may_not_equal_it() -> None:
    assert query_args.number("decay", 0, 0) == 0.0
    with pytest.raises(ValueError, match="`decay` above 0, but it is 0"):
        query_args.number("decay", 0, 0, above=True)


@pytest.mark.parametrize("value", [0, 11, 2.0, True, "3", None])
def test_a_whole_number_is_within_its_bounds(value: Any) -> None:
    with pytest.raises(ValueError, match="`limit` from 1 to 10, but it is"):
        query_args.whole_number("limit", value, 10)


@pytest.mark.parametrize("value", ["", "  ", None, 7, "a\0b", "\ud800"])
def test_a_text_is_one_that_postgresql_could_have(value: Any) -> None:
    with pytest.raises(ValueError, match="Expected `name`"):
        query_args.storable("name", value)
