"""Rows of tallies put together by fewer columns: what adds up does, nothing else is answered."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any

import pytest
from sqlalchemy import ARRAY, Connection, DateTime, Engine

from assets.classroom import reads as classroom
from assets.classroom.tallies import (
    assignment_counts,
    assignment_group_counts,
    course_counts,
    submission_counts,
    submission_daily_activity,
    user_counts,
)
from assets.fediverse.tallies import daily_summaries, hashtag_hourly_stats, hourly_stats
from assets.gallery.tallies import content_tags, content_tags_left_out, gen_source_stats
from assets.media import reads as media
from assets.media.tallies import daily_contributions, hourly_contributions
from tallykeeper import Tally
from tallykeeper.database.connections import open_engine
from tallykeeper.discovery import all_systems
from tallykeeper.errors import NotInstalled
from tallykeeper.http.app import create_app
from tallykeeper.reads.grouping import grouped
from tallykeeper.reads.rows import tally_rows
from tests.classroom import SUBMISSIONS
from tests.integration.serving_client import Client
from tests.integration.support import execute, rows, scalar
from tests.servers import VERSIONS, Servers
from tests.small_world import fill

TALLIES = [tally for system in all_systems() for tally in system.tallies]
LOG = (
    "INSERT INTO classroom.submission_log (submission_id, course_id, subject_id, event_type,"
    " date_created) VALUES (2, 1, 1, 'edit', '2026-01-31 23:00Z'), (2, 1, 1, 'run',"
    " '2026-02-01 00:00Z'), (2, 1, 1, 'edit', '2026-02-02 01:00Z'), (2, 1, 1, 'edit',"
    " '2026-02-03 02:00Z'), (2, 1, 1, 'run', '-infinity'), (2, 1, 1, 'run', '0044-03-15 BC')"
)


@pytest.fixture(scope="module")
def world(postgres_servers: Servers) -> Iterator[Engine]:
    """Every system, refreshed, and written to since."""
    with postgres_servers.fresh_database(VERSIONS[0]) as url:
        engine = open_engine(url)
        fill(engine)
        execute(
            engine,
            LOG,
            "INSERT INTO classroom.courses (id) VALUES (2)",
            "INSERT INTO classroom.users (id) VALUES (2)",
            "INSERT INTO classroom.roles (user_id, course_id, name) VALUES (1, 2, 'student')",
            "INSERT INTO classroom.assignments (id, course_id) VALUES (3, 2)",
            "INSERT INTO classroom.assignment_groups (id, course_id) VALUES (2, 1)",
            "INSERT INTO classroom.assignment_group_memberships (assignment_group_id,"
            " assignment_id) VALUES (2, 1), (2, 1), (2, 2)",
            "INSERT INTO classroom.submissions (id, assignment_id, course_id, user_id,"
            " date_created) VALUES (3, 3, 2, 1, '2030-01-01Z')",
            "INSERT INTO classroom.reports (user_id, date_created) VALUES (1, '2026-01-05Z'),"
            " (1, '2026-01-11 23:00Z'), (2, '2026-01-12Z')",
            "INSERT INTO media.media_files (path, original_created_at) VALUES ('d', '2026-02-28Z')",
        )
        yield engine
        engine.dispose()


@pytest.fixture
def connection(world: Engine) -> Iterator[Connection]:
    with world.connect() as connection:
        yield connection


@pytest.mark.parametrize("tally", TALLIES, ids=lambda tally: tally.name)
def test_groups_are_what_the_live_rows_add_up_to_and_by_the_whole_key_the_rows_themselves(
    world: Engine, connection: Connection, tally: Tally
) -> None:
    whole = grouped(connection, tally, tally.key)
    live = rows(world, f"SELECT count(*) FROM {tally.live_name}")
    assert [(len(whole.groups),)] == live
    assert (whole.more, whole.left_out) == (False, {})
    pages = [tally_rows(connection, tally, limit=2)]
    while pages[-1].next_cursor is not None:
        pages.append(tally_rows(connection, tally, limit=2, cursor=pages[-1].next_cursor))
    paged = [row for page in pages for row in page.rows]
    assert [(len(paged),)] == live
    plain = [n for n in tally.columns if not isinstance(tally.table.c[n].type, (DateTime, ARRAY))]
    shown_as = [[str([each[n] for n in plain]) for each in some] for some in (paged, whole.groups)]
    assert sorted(shown_as[0]) == sorted(shown_as[1])
    summed = [name for name, how in tally.combine.items() if how.how == "sum"]
    for column in tally.key:
        found = grouped(connection, tally, [column])
        if [column] == list(tally.key):
            assert found == whole
            continue
        able = [name for name in summed if name not in found.left_out]
        sums = "".join(f', sum("{name}")' for name in able)
        # Of rows that are totals of others, one or the other.
        totals = tally is gen_source_stats and column != "user_id"
        total = " WHERE user_id IS NULL" if totals else ""
        query = f'SELECT count(*){sums} FROM {tally.live_name}{total} GROUP BY "{column}"'
        expected = rows(world, query)
        shown = [(g["rows"], *(g[name] for name in able)) for g in found.groups]
        assert sorted(shown) == sorted(expected)
        assert set(found.left_out) >= set(tally.measures) - set(tally.combine) - {column}


def test_days_add_up_to_weeks_months_and_years(connection: Connection) -> None:
    def counts(unit: str, **bounds: Any) -> dict[str, int]:
        found = grouped(connection, daily_contributions, [f"date:{unit}"], **bounds).groups
        return {group["date"]: group["count"] for group in found}

    assert counts("day") == {"2026-01-01": 2, "2026-01-02": 1, "2026-02-28": 1}
    # A week is named by its Monday.
    assert counts("week") == {"2025-12-29": 3, "2026-02-23": 1}
    assert counts("month") == {"2026-01-01": 3, "2026-02-01": 1}
    assert counts("year") == {"2026-01-01": 4}
    assert counts("month", start=date(2026, 1, 2)) == {"2026-01-01": 1, "2026-02-01": 1}
    assert counts("month", end=datetime(2026, 2, 28, tzinfo=UTC)) == {"2026-01-01": 3}
    by_hour = grouped(connection, hourly_contributions, ["hour:hour"], limit=2)
    assert [g["hour"] for g in by_hour.groups] == ["2026-01-01T10:00:00Z", "2026-01-01T11:00:00Z"]
    assert by_hour.more


def test_weeks_of_a_course_have_its_events_whatever_their_years(connection: Connection) -> None:
    found = grouped(
        connection, submission_daily_activity, ["day:week"], where={"course_id": 1}
    ).groups
    assert [(g["day"], g["events"], g["edits"]) for g in found] == [
        ("-infinity", 1, 0),
        ("0044-03-11 BC", 1, 0),
        ("2025-12-29", 9, 3),
        ("2026-01-26", 2, 1),
        ("2026-02-02", 2, 2),
    ]


def test_averages_and_deviations_are_those_of_all_gaps_of_the_group(
    world: Engine, connection: Connection
) -> None:
    (found,) = grouped(connection, submission_counts, ["course_id"], where={"course_id": 1}).groups
    gaps = (
        "SELECT avg(g)::float8, stddev_samp(g)::float8 FROM (SELECT extract(epoch FROM date_created"
        " - lag(date_created) OVER (PARTITION BY submission_id ORDER BY date_created)) AS g"
        " FROM classroom.submission_log WHERE event_type = 'edit') AS g"
    )
    average, deviation = rows(world, gaps)[0]
    assert found["average_edit_time"] == pytest.approx(average)
    assert found["edit_time_deviation"] == pytest.approx(deviation)
    sums = f"SELECT sum(runs), sum(time_spent_ms)::float8 / 1000 FROM ({SUBMISSIONS}) AS s"
    total = rows(world, f"{sums} WHERE course_id = 1")
    assert [(found["runs"], found["estimated_time_spent"])] == total
    assert isinstance(found["edit_ms"], int)


def test_percentiles_and_distinct_counts_are_refused_with_a_sentence(
    connection: Connection,
) -> None:
    found = grouped(connection, submission_counts, ["user_id"])
    assert set(found.left_out) == {
        *("assignment_id", "course_id", "median_edit_ms", "p90_edit_ms"),
        *("median_edit_time", "p90_edit_time"),
    }
    refused: tuple[tuple[Tally, list[str], str, str], ...] = (
        (
            submission_counts,
            ["user_id"],
            "p90_edit_time",
            "it is computed from p90_edit_ms, and it",
        ),
        (hourly_stats, ["hour:day"], "unique_accounts", "as distinct counts, percentiles"),
        (course_counts, [], "total_users", "group by course_id for it"),
        (user_counts, [], "total_courses_in", "group by user_id for it"),
        (assignment_group_counts, [], "total_submissions", "does not follow from the rows"),
        (daily_summaries, ["window_start:month"], "author_count", "does not follow"),
        (hashtag_hourly_stats, ["hour_ts:day"], "posts_using_tag", "group by hashtag_id too"),
        (content_tags_left_out, ["content_source"], "unknown_tags", "does not follow"),
    )
    for tally, by, measure, sentence in refused:
        with pytest.raises(
            ValueError, match=f"{tally.name} has no {measure} of these groups: .*{sentence}"
        ):
            grouped(connection, tally, by, measures=[measure])
    one = grouped(
        connection,
        hashtag_hourly_stats,
        ["hashtag_id", "hour_ts:day"],
        measures=["posts_using_tag"],
    )
    assert [g["posts_using_tag"] for g in one.groups] == [2, 1, 2]
    (hour,) = grouped(
        connection, hourly_stats, hourly_stats.key, measures=["unique_accounts"], limit=1
    ).groups
    assert hour["unique_accounts"] == 1


def test_latest_moments_are_the_latest_of_the_group(connection: Connection) -> None:
    (all_of_them,) = grouped(connection, assignment_counts).groups
    assert all_of_them["total_submissions"] == 3
    assert all_of_them["date_last_submission"] == datetime(2030, 1, 1, tzinfo=UTC)
    (courses,) = grouped(connection, course_counts).groups
    assert (courses["total_submissions"], courses["total_assignments"]) == (3, 3)


def test_of_assignment_groups_each_has_its_assignments_submissions_once(
    connection: Connection,
) -> None:
    by_group = grouped(connection, submission_counts, ["assignment_group_id"])
    assert [(g["assignment_group_id"], g["rows"], g["edits"]) for g in by_group.groups] == [
        (1, 1, 3),
        (2, 2, 6),
    ]
    assert by_group.groups[0]["attempts"] == 3
    counts = grouped(connection, assignment_counts, ["assignment_group_id"]).groups
    assert [g["total_submissions"] for g in counts] == [1, 2]


def test_rows_that_are_totals_themselves_are_not_added_to_what_they_total(
    connection: Connection,
) -> None:
    assert [g["count"] for g in grouped(connection, gen_source_stats, ["source_type"]).groups] == [
        3
    ]
    assert [g["count"] for g in grouped(connection, gen_source_stats).groups] == [3]
    by_user = grouped(connection, gen_source_stats, ["user_id"]).groups
    assert [g["count"] for g in by_user] == [3, 3]
    assert by_user[-1]["user_id"] is None
    user = by_user[0]["user_id"]
    (own,) = grouped(connection, gen_source_stats, where={"user_id": user}).groups
    assert own["count"] == 3


def test_of_a_table_without_measures_the_rows_are_counted(connection: Connection) -> None:
    found = grouped(connection, content_tags, ["tag_id"]).groups
    assert [set(g) for g in found] == [{"tag_id", "rows"}] * 2
    assert [g["rows"] for g in found] == [3, 3]


def test_what_is_pending_counts_and_a_table_emptied_by_hand_does_not_matter(
    world: Engine,
) -> None:
    with world.connect() as connection:
        before = grouped(connection, submission_counts, ["course_id"])
        connection.exec_driver_sql("TRUNCATE classroom.submission_counts")
        assert grouped(connection, submission_counts, ["course_id"]) == before
        connection.rollback()
    assert scalar(world, "SELECT count(*) FROM classroom.submission_counts") == 2


@pytest.mark.parametrize(
    ("by", "options", "sentence"),
    [
        (["course"], {}, "of course_id, day, but there is 'course'; did you mean 'course_id'?"),
        (["events"], {}, "but there is 'events'"),
        (
            ["day:weeks"],
            {},
            "of day, week, month, quarter, year, but there is 'weeks'; did you mean 'week'",
        ),
        (["day:hour"], {}, "of day, week, month, quarter, year, but there is 'hour'"),
        (["course_id:day"], {}, "course_id without a unit, for it is no time; leave out 'day'"),
        (["day", "day:week"], {}, "each column once in day, day:week"),
        ([], {"measures": ["run"]}, "there is 'run'; did you mean 'runs'"),
        ([], {"where": {"runs": 1}}, "columns of classroom.submission_daily_activity to look for"),
        (["day:"], {}, "of day, week, month, quarter, year, but there is ''"),
        ([], {"where": {"day": "today"}}, "Expected a time in day: 'today' is no ISO 8601 time"),
        ([], {"where": {"course_id": "x"}}, "course_id is a whole number, and 'x' is none"),
        ([], {"where": {"course_id": "1\0"}}, "that PostgreSQL can hold; it contains a NUL byte"),
        ([], {"limit": 0}, "a limit within 1 to 100,000, but it is 0"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_what_can(
    connection: Connection, by: list[str], options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence.replace("?", r"\?")):
        grouped(connection, submission_daily_activity, by, **options)


@pytest.mark.parametrize("day", [date(2026, 2, 2), "2026-02-02", "2026-02-02Z", "infinity"])
def test_a_day_is_that_of_utc_whatever_the_sessions_zone(connection: Connection, day: Any) -> None:
    connection.exec_driver_sql("SET LOCAL timezone = 'America/St_Johns'")
    found = grouped(connection, submission_daily_activity, ["day"], where={"day": day})
    expected = [] if day == "infinity" else ["2026-02-02"]
    assert [group["day"][:10] for group in found.groups] == expected


@pytest.mark.parametrize("by", ["assignment_group_id:", "assignment_group_id"])
def test_groups_by_another_table_have_no_entity_tag(world: Engine, by: str) -> None:
    asked = {"group_by": by}
    client = Client(create_app(world, ["classroom"]))
    answer = client.get("/api/tallies/classroom.assignment_counts/groups", params=asked)
    assert answer.status_code == (422 if by.endswith(":") else 200)
    assert "etag" not in answer.headers


def test_a_span_of_a_tally_without_days_is_refused(connection: Connection) -> None:
    with pytest.raises(
        ValueError, match=r"Expected no end, for classroom\.course_counts has no days"
    ):
        grouped(connection, course_counts, end=date(2026, 1, 1))


def test_a_database_without_the_tally_is_named(engine: Engine) -> None:
    with engine.connect() as connection, pytest.raises(NotInstalled, match="run `tally migrate`"):
        grouped(connection, course_counts)


def test_contributions_are_read_by_week_month_and_year(connection: Connection) -> None:
    found = media.period_counts(connection, "month")
    assert found == {"period_counts": {"2026-02-01": 1, "2026-01-01": 3}, "total_files": 4}
    assert list(found["period_counts"]) == ["2026-02-01", "2026-01-01"]
    within = media.period_counts(connection, "week", date(2026, 1, 2), date(2026, 2, 28))
    assert within["period_counts"] == {"2026-02-23": 1, "2025-12-29": 1}
    assert media.period_counts(connection, "year", date.min, date.max)["total_files"] == 4
    with pytest.raises(ValueError, match="one of week, month, year, but it is 'weak'"):
        media.period_counts(connection, "weak")
    with pytest.raises(ValueError, match="a start that is not after the end"):
        media.period_counts(connection, "week", date(2026, 1, 2), date(2026, 1, 1))


def test_activity_of_a_course_and_of_all_by_day_week_and_month(connection: Connection) -> None:
    days = classroom.activity(connection, 1, date(2026, 1, 1), date(2026, 2, 2))
    assert [(d["period"], d["events"]) for d in days] == [
        ("2026-01-01", 4),
        ("2026-01-02", 5),
        ("2026-01-31", 1),
        ("2026-02-01", 1),
        ("2026-02-02", 1),
    ]
    weeks = classroom.activity(connection, 1, date(2026, 1, 1), unit="week")
    assert [(w["period"], w["events"]) for w in weeks] == [
        ("2025-12-29", 9),
        ("2026-01-26", 2),
        ("2026-02-02", 2),
    ]
    everywhere = classroom.activity(connection, unit="month", end=date.max)
    assert [(m["period"], m["edits"]) for m in everywhere[-2:]] == [
        ("2026-01-01", 4),
        ("2026-02-01", 2),
    ]
    assert classroom.activity(connection, 2) == []
    for options, sentence in (
        ({"unit": "hour"}, "day or week, month, year, but it is 'hour'"),
        ({"course_id": "1"}, "Expected an id"),
        ({"start": date(2026, 1, 2), "end": date(2026, 1, 1)}, "not after the end"),
    ):
        with pytest.raises(ValueError, match=sentence):
            classroom.activity(connection, **options)


def test_reports_of_a_user_and_of_all_by_day_week_and_month(connection: Connection) -> None:
    assert classroom.reports(connection, 1) == [
        {"period": "2025-12-31", "reports": 1},
        {"period": "2026-01-05", "reports": 1},
        {"period": "2026-01-11", "reports": 1},
    ]
    assert classroom.reports(connection, unit="week", end=date(2026, 1, 12)) == [
        {"period": "2025-12-29", "reports": 1},
        {"period": "2026-01-05", "reports": 2},
        {"period": "2026-01-12", "reports": 1},
    ]
    _, month = classroom.reports(connection, unit="month")
    assert month == {"period": "2026-01-01", "reports": 3}
    assert classroom.reports(connection, 7) == []


def test_groups_periods_and_activity_over_http(world: Engine) -> None:
    client = Client(create_app(world, [system.name for system in all_systems()]))

    def get(address: str) -> Any:
        answer = client.get(address)
        assert answer.status_code == 200, answer.text
        return answer.json()

    groups = "/api/tallies/classroom.submission_counts/groups"
    found = get(f"{groups}?group_by=course_id&where=course_id:1&measures=runs,edits&measures=rows")
    assert found["groups"] == [{"course_id": 1, "runs": 6, "edits": 6, "rows": 2}]
    assert (found["more"], found["left_out"]) == (False, {})
    by_group = client.get(f"{groups}?group_by=assignment_group_id&limit=1")
    assert by_group.json()["more"]
    assert "median_edit_ms" in by_group.json()["left_out"]
    assert "etag" not in by_group.headers
    address = "/api/tallies/media.daily_contributions/groups?group_by=date:month&start=2026-01-02"
    counted = client.get(address)
    assert [g["count"] for g in counted.json()["groups"]] == [1, 1]
    again = client.get(address, headers={"if-none-match": counted.headers["etag"]})
    assert again.status_code == 304
    assert get("/api/media/period-counts?unit=year")["period_counts"] == {"2026-01-01": 4}
    weekly = "/api/courses/1/activity?unit=week&start=2026-01-01&end=2026-01-31"
    assert [a["events"] for a in get(weekly)["activity"]] == [9, 1]
    assert len(get("/api/activity")["activity"]) == 8
    assert get("/api/users/2/reports")["reports"] == [{"period": "2026-01-12", "reports": 1}]
    assert get("/api/reports?unit=year")["reports"][1:] == [{"period": "2026-01-01", "reports": 3}]
    summaries = get("/api/tallies/fediverse.daily_summaries/groups?group_by=window_start:month")
    assert summaries["groups"][0]["post_count"] == 3

    for path, status, sentence in (
        (f"{groups}?group_by=user_id&measures=p90_edit_time", 422, "has no p90_edit_time of these"),
        (f"{groups}?where=course_id", 422, "Expected column:value"),
        (f"{groups}?by=course_id", 422, "there is no such parameter"),
        (f"{groups}?limit=0", 422, "greater than or equal to 1"),
        ("/api/tallies/classroom.nothing/groups", 404, "There is no tally 'classroom.nothing'"),
        ("/api/media/period-counts?unit=hour", 422, "week"),
        ("/api/courses/1/activity?start=2026-01-02&end=2026-01-01", 422, "not after the end"),
    ):
        answer = client.get(path)
        assert (answer.status_code, sentence in answer.text) == (status, True), (path, answer.text)
