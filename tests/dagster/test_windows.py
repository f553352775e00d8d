"""Which window a partition is, and on which partition a day is reported."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallykeeper.declarations.windows import DAYS
from tallykeeper.operations.partition_windows import Span, spelled_out

SPAN = Span("2020-01-01", "2020-12-31")
# Those that dates in Python hold; the engine returns the ends of time as the first and the last.
days = st.dates(date(1, 1, 1), date(9999, 12, 31)).map(date.isoformat)
partitions = st.dates(date(2020, 1, 1), date(2020, 12, 31)).map(date.isoformat)


def at(year: int, month: int, day: int) -> datetime:
    return datetime(year, month, day, tzinfo=UTC)


@pytest.mark.parametrize(
    ("day", "partition"),
    [
        ("2020-06-01", "2020-06-01"),
        ("1904-03-01", "2020-01-01"),
        ("0001-01-01", "2020-01-01"),
        ("2036-01-01", "2020-12-31"),
        ("9999-12-31", "2020-12-31"),
    ],
)
def test_a_day_is_reported_on_its_partition_or_the_nearest(day: str, partition: str) -> None:
    assert SPAN.partition_of(day) == partition


def test_neighbours_are_one_window_and_others_are_not() -> None:
    assert SPAN.windows(["2020-06-03", "2020-06-01", "2020-06-02", "2020-07-01"]) == [
        (at(2020, 6, 1), at(2020, 6, 4)),
        (at(2020, 7, 1), at(2020, 7, 2)),
    ]


def test_the_ends_are_open() -> None:
    assert SPAN.windows(["2020-01-01"]) == [(None, at(2020, 1, 2))]
    assert SPAN.windows(["2020-12-31"]) == [(at(2020, 12, 31), None)]
    assert Span("2020-01-01", "2020-01-01").windows(["2020-01-01"]) == [(None, None)]


@given(st.lists(partitions, min_size=1), days)
def test_a_day_lies_in_the_windows_exactly_if_its_partition_was_asked_for(
    asked: list[str], day: str
) -> None:
    moment = datetime.combine(date.fromisoformat(day), datetime.min.time(), UTC)
    inside = [
        (start is None or start <= moment) and (end is None or moment < end)
        for start, end in SPAN.windows(asked)
    ]
    assert sum(inside) == (SPAN.partition_of(day) in asked)


@given(st.lists(days))
def test_runs_of_days_hold_the_days_and_nothing_else(given_days: list[str]) -> None:
    found: list[str] = []
    for first, last in DAYS.runs(given_days):
        day = date.fromisoformat(first)
        found.append(day.isoformat())
        while day.isoformat() != last:
            day += timedelta(days=1)
            found.append(day.isoformat())
    assert found == sorted(set(given_days))


def test_many_runs_are_cut_short() -> None:
    runs = [(f"2020-{month:02}-01", f"2020-{month:02}-02") for month in range(1, 5)]
    assert spelled_out(runs, most=2) == (
        "2020-01-01 to 2020-01-02, 2020-02-01 to 2020-02-02 and 2 more"
    )
    assert spelled_out([("2020-01-01", "2020-01-01")]) == "2020-01-01"
