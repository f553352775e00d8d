"""What an application reads: files per day and per hour, exact at once, whatever the dates are."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import ProgrammingError

from assets.media.reads import daily_counts, hourly_counts
from assets.media.tables import metadata
from assets.media.tallies import system
from tallykeeper import install, refresh
from tallykeeper.errors import NotInstalled


@pytest.fixture
def library(engine: Engine) -> Engine:
    """A database with an empty library and its tallies, where nothing was ever built."""
    with engine.begin() as connection:
        connection.execute(text(f'CREATE SCHEMA "{metadata.schema}"'))
        metadata.create_all(connection)
        install(connection, system.tallies)
    return engine


def add(connection: Connection, *moments: str | None) -> None:
    """A file for each capture date; None: says nothing, and came to the library now."""
    for moment in moments:
        connection.execute(
            text(
                "INSERT INTO media.media_files (path, original_created_at)"
                " VALUES (gen_random_uuid()::text, CAST(:moment AS timestamptz))"
            ),
            {"moment": moment},
        )


def test_files_are_counted_by_day_newest_first(library: Engine) -> None:
    with library.begin() as connection:
        add(connection, *["2025-11-20T10:00Z"] * 5, "2025-11-18T00:00Z", "2025-11-18T23:59:59Z")
        add(connection, "2025-11-19T01:00+02:00")
    with library.connect() as connection:
        counts = daily_counts(connection)
    assert counts == {
        "daily_counts": {"2025-11-20": 5, "2025-11-18": 3},
        "total_files": 8,
        "total_days": 2,
    }
    assert list(counts["daily_counts"]) == ["2025-11-20", "2025-11-18"]


def test_an_empty_library_has_no_days(library: Engine) -> None:
    with library.connect() as connection:
        assert daily_counts(connection) == {
            "daily_counts": {},
            "total_files": 0,
            "total_days": 0,
        }
        assert hourly_counts(connection, date(2025, 11, 20)) == {
            "hourly_counts": {},
            "total_files": 0,
            "total_hours": 0,
        }


def test_a_file_counts_the_moment_it_is_committed_before_and_after_refreshes(
    library: Engine,
) -> None:
    def count() -> int:
        with library.connect() as connection:
            return daily_counts(connection)["total_files"]

    assert count() == 0
    with library.begin() as connection:
        add(connection, "2025-11-20", None)
        assert count() == 0
    assert count() == 2
    for tally in system.tallies:
        refresh(library, tally)
    assert count() == 2
    with library.begin() as connection:
        add(connection, "2025-11-20")
        connection.execute(text("DELETE FROM media.media_files WHERE original_created_at IS NULL"))
    assert count() == 2


@pytest.mark.parametrize(
    ("start", "end", "days"),
    [
        (date(2025, 11, 2), None, ["2025-11-04", "2025-11-03", "2025-11-02"]),
        (None, date(2025, 11, 2), ["2025-11-02", "2025-11-01"]),
        (date(2025, 11, 2), date(2025, 11, 3), ["2025-11-03", "2025-11-02"]),
        (date(2025, 11, 3), date(2025, 11, 3), ["2025-11-03"]),
        (date(2025, 12, 1), date.max, []),
        (date.min, date(2025, 10, 31), []),
        (
            datetime(2025, 11, 2, 23, 59, tzinfo=UTC),
            datetime(2025, 11, 3, 0, 0, tzinfo=UTC),
            ["2025-11-03", "2025-11-02"],
        ),
        (
            datetime(2025, 11, 3, 1, tzinfo=timezone(timedelta(hours=2))),
            datetime(2025, 11, 2, 12),  # noqa: DTZ001
            ["2025-11-02"],
        ),
    ],
)
def test_both_ends_of_a_window_are_whole_utc_days_and_included(
    library: Engine, start: date | None, end: date | None, days: list[str]
) -> None:
    with library.begin() as connection:
        add(connection, *[f"2025-11-0{day}T23:30Z" for day in (1, 2, 3, 4)])
        assert list(daily_counts(connection, start, end)["daily_counts"]) == days


def test_a_window_that_ends_before_it_starts_is_reported(library: Engine) -> None:
    message = "2025-11-20 is after 0987-11-01; exchange the two"
    with library.connect() as connection, pytest.raises(ValueError, match=message):
        daily_counts(connection, date(2025, 11, 20), date(987, 11, 1))


def test_a_moment_beyond_python_s_years_is_reported(library: Engine) -> None:
    late = datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-2)))
    with library.connect() as connection:
        with pytest.raises(ValueError, match="within the years 1 to 9999"):
            daily_counts(connection, late)
        with pytest.raises(ValueError, match="within the years 1 to 9999"):
            hourly_counts(connection, late)


def test_hours_of_a_day_are_written_by_their_beginning(library: Engine) -> None:
    with library.begin() as connection:
        add(connection, "2025-11-20T14:00Z", "2025-11-20T14:59:59Z", "2025-11-20T23:30Z")
        add(connection, "2025-11-19T23:59:59Z", "2025-11-21T00:00Z", "2025-11-20T01:30+01:30")
        for day in (date(2025, 11, 20), datetime(2025, 11, 20, 8, tzinfo=UTC)):
            counts = hourly_counts(connection, day)
            assert list(counts["hourly_counts"].items()) == [
                ("2025-11-20T23:00:00Z", 1),
                ("2025-11-20T14:00:00Z", 2),
                ("2025-11-20T00:00:00Z", 1),
            ]
            assert (counts["total_files"], counts["total_hours"]) == (4, 3)


def test_the_last_hour_of_python_s_years_is_found(library: Engine) -> None:
    with library.begin() as connection:
        add(connection, "9999-12-31T23:59:59Z")
        assert hourly_counts(connection, date.max)["hourly_counts"] == {"9999-12-31T23:00:00Z": 1}


def test_dates_that_python_cannot_hold_are_answers_like_any_other(library: Engine) -> None:
    odd = ["infinity", "-infinity", "10000-01-01", "0044-03-15 12:00Z BC", "0001-01-01", "0999-1-1"]
    days = ["infinity", "10000-01-01", "0999-01-01", "0001-01-01", "0044-03-15 BC", "-infinity"]
    with library.begin() as connection:
        connection.execute(text("SET LOCAL TIME ZONE 'UTC'"))
        add(connection, *odd)
    for _ in range(2):
        with library.connect() as connection:
            assert list(daily_counts(connection)["daily_counts"]) == days
            bounded = daily_counts(connection, date.min, date.max)
            assert list(bounded["daily_counts"]) == ["0999-01-01", "0001-01-01"]
        for tally in system.tallies:
            refresh(library, tally)


@pytest.mark.parametrize("zone", ["UTC", "America/St_Johns", "Pacific/Kiritimati"])
def test_the_answer_does_not_depend_on_the_session_s_time_zone(library: Engine, zone: str) -> None:
    with library.begin() as connection:
        add(connection, "2025-11-20T00:00Z", "2025-11-20T23:59Z", "infinity")
        connection.execute(text(f"SET LOCAL TIME ZONE '{zone}'"))
        connection.execute(text("SET LOCAL datestyle TO 'German'"))
        day = date(2025, 11, 20)
        assert daily_counts(connection)["daily_counts"] == {"infinity": 1, "2025-11-20": 2}
        assert daily_counts(connection, day, day)["total_files"] == 2
        assert list(hourly_counts(connection, day)["hourly_counts"]) == [
            "2025-11-20T23:00:00Z",
            "2025-11-20T00:00:00Z",
        ]


def test_a_database_without_live_views_is_asked_to_migrate(engine: Engine) -> None:
    for schema_is_there in (False, True):
        if schema_is_there:
            with engine.begin() as connection:
                connection.execute(text(f'CREATE SCHEMA "{metadata.schema}"'))
        with engine.connect() as connection, pytest.raises(NotInstalled) as caught:
            daily_counts(connection)
        assert "media.daily_contributions_live" in str(caught.value)
        assert "`tally migrate`" in str(caught.value)
        with engine.connect() as connection, pytest.raises(NotInstalled, match="hourly_contrib"):
            hourly_counts(connection, date(2025, 11, 20))


def test_any_other_failure_of_the_database_is_not_mistaken_for_a_missing_view(
    library: Engine,
) -> None:
    with library.begin() as connection:
        connection.execute(text("CREATE ROLE media_reads_stranger"))
    try:
        with library.connect() as connection:
            connection.execute(text("SET ROLE media_reads_stranger"))
            with pytest.raises(ProgrammingError, match="permission denied"):
                daily_counts(connection)
    finally:
        with library.begin() as connection:
            connection.execute(text("DROP ROLE media_reads_stranger"))
