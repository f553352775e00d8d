"""Windows of a unit in a time zone: labels, beginnings and ends, in Python alone."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallykeeper.declarations.windows import UNITS, Windows

# With clocks that change at night, over midnight, by half an hour, and a day that never was.
ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kathmandu",
    "America/Santiago",
    "America/Havana",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Africa/Monrovia",
)
ENDS = (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))
windows = st.builds(Windows, st.sampled_from(UNITS), st.sampled_from(ZONES))
moments = st.datetimes(datetime(1, 2, 1), datetime(9999, 11, 30), timezones=st.just(UTC))  # noqa: DTZ001


@given(windows, moments)
def test_each_moment_is_in_the_window_of_its_label_and_in_no_other(
    of: Windows, moment: datetime
) -> None:
    label = of.label(moment)
    assert of.start(label) <= moment < of.start(of.next(label))
    assert of.label(of.start(label)) == label
    assert label < of.next(label)
    assert of.bounds(label, label) == (of.start(label), of.start(of.next(label)))


@given(windows, st.lists(moments, max_size=8))
def test_runs_are_unbroken_and_hold_all_labels(of: Windows, given_moments: list[datetime]) -> None:
    near = [moment.replace(year=2025, day=1) for moment in given_moments]
    labels = {of.label(moment) for moment in near}
    runs = of.runs(labels)
    found = [label for first, last in runs for label in of.between(first, last)]
    assert found == sorted(labels)
    assert all(of.count(first, last) + 1 == len(of.between(first, last)) for first, last in runs)


@given(windows, moments)
def test_a_bound_is_refused_with_the_nearest_that_are_none(of: Windows, moment: datetime) -> None:
    label = of.label(moment)
    why = of.why_no_bound(moment)
    assert bool(why) == (of.start(label) != moment)
    if why:
        assert f"begins no {of.unit} in {of.zone}; the nearest that do are {label}" in why
        assert of.next(label) in why


def test_beginnings_around_changes_of_clocks() -> None:
    def start(unit: str, zone: str, label: str) -> str:
        return Windows(unit, zone).start(label).isoformat()  # type: ignore[arg-type]

    berlin = "Europe/Berlin"
    assert start("day", berlin, "2025-03-30") == "2025-03-29T23:00:00+00:00"
    assert start("day", berlin, "2025-03-31") == "2025-03-30T22:00:00+00:00", "23 hours later"
    assert start("day", berlin, "2025-10-27") == "2025-10-26T23:00:00+00:00", "25 hours later"
    assert start("month", berlin, "2025-04-01") == "2025-03-31T22:00:00+00:00"
    assert start("week", "America/New_York", "2025-03-10") == "2025-03-10T04:00:00+00:00"
    assert start("quarter", "Asia/Kathmandu", "2025-04-01") == "2025-03-31T18:15:00+00:00"
    # There is no midnight: the day begins at one o'clock.
    assert start("day", "America/Santiago", "2025-09-07") == "2025-09-07T04:00:00+00:00"
    # There are two: the later one begins the day.
    assert start("day", "America/Havana", "2025-11-02") == "2025-11-02T05:00:00+00:00"


def test_weeks_are_those_of_iso_8601() -> None:
    weeks = Windows("week")
    for day in (date(2024, 12, 29) + timedelta(days=n) for n in range(400)):
        monday = date.fromisoformat(weeks.of_day(day))
        assert monday.isoweekday() == 1
        assert monday.isocalendar()[:2] == day.isocalendar()[:2]


def test_the_ends_of_time_have_no_bound() -> None:
    months = Windows("month", "America/New_York")
    assert months.bounds("0001-01-01", "9999-12-31") == (None, None)
    start, end = months.bounds("0001-01-01", "0001-01-01")
    assert (start, end and end.date()) == (None, date(1, 2, 1))
    start, end = months.bounds("9999-12-31", "9999-12-31")
    assert (start and start.date(), end) == (date(9999, 12, 1), None)
    for zone in ZONES:
        for unit in UNITS:
            of = Windows(unit, zone)
            for moment in ENDS:
                of.label(moment)
                of.why_no_bound(moment)


@pytest.mark.parametrize(
    ("unit", "zone", "sentence"),
    [
        (
            "moth",
            "UTC",
            "'moth' is no unit of a window; did you mean 'month'?; expected one of hour",
        ),
        ("day", "Europe/Berlni", "no time zone; did you mean 'Europe/Berlin'?; write it as in"),
        ("day", "europe/berlin", "no time zone; did you mean 'Europe/Berlin'?; write it as in"),
        ("day", "America/New York", "no time zone; did you mean 'America/New_York'?"),
        ("day", "", "'' is no time zone; write it as in 'Europe/Berlin'"),
    ],
)
def test_unknown_units_and_zones_are_refused(unit: str, zone: str, sentence: str) -> None:
    with pytest.raises(ValueError, match="is no") as refused:
        Windows(unit, zone)  # type: ignore[arg-type]
    assert sentence in str(refused.value)


def test_labels_of_other_windows_are_understood() -> None:
    months = Windows("month", "Europe/Berlin")
    assert months.bounds("2025-03-15", "2025-04-02") == months.bounds("2025-03-01", "2025-04-01")
    # An hour that is in March where it is counted, and in April in Berlin.
    assert months.bounds("2025-03-31T22:00Z", "2025-03-31T22:00Z")[0] == months.start("2025-04-01")
