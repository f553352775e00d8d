"""Media contributions over HTTP, each answer against SQL over the files, before any refresh."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine

from assets.media.tallies import system as media
from tallykeeper import refresh
from tallykeeper.http.app import create_app
from tests.integration.serving_client import Client
from tests.integration.support import create, execute, rows, scalar

PER_DAY = (
    "SELECT to_char(coalesce(original_created_at, created_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD'),"
    " count(*) FROM media.media_files GROUP BY 1 ORDER BY 1 DESC"
)
PER_HOUR = (
    "SELECT to_char(coalesce(original_created_at, created_at) AT TIME ZONE 'UTC',"
    """ 'YYYY-MM-DD"T"HH24:00:00"Z"'), count(*) FROM media.media_files"""
    " WHERE (coalesce(original_created_at, created_at) AT TIME ZONE 'UTC')::date = '2025-11-20'"
    " GROUP BY 1 ORDER BY 1 DESC"
)


@pytest.fixture
def client(engine: Engine) -> Client:
    create(engine, media)
    execute(
        engine,
        "INSERT INTO media.media_files (path, original_created_at) SELECT 'a' || n,"
        " timestamptz '2025-11-18 21:00Z' + n * interval '3 hours' FROM generate_series(1, 18) n",
    )
    for tally in media.tallies:
        refresh(engine, tally)
    return Client(create_app(engine, ["media"]))


def test_daily_counts_are_those_of_the_files_right_after_a_write(
    engine: Engine, client: Client
) -> None:
    execute(
        engine,
        "INSERT INTO media.media_files (path, original_created_at)"
        " VALUES ('late', '2019-05-01 10:00Z'), ('later', '2025-11-20 23:59:59Z')",
        "DELETE FROM media.media_files WHERE path = 'a1'",
    )
    before = scalar(engine, "SELECT clock_timestamp()")
    answer = client.get("/api/media/daily-counts")
    assert answer.status_code == 200
    body = answer.json()
    expected = dict(rows(engine, PER_DAY))
    assert list(body) == ["daily_counts", "total_files", "total_days", "as_of"]
    assert list(body["daily_counts"].items()) == list(expected.items())
    assert (body["total_files"], body["total_days"]) == (sum(expected.values()), len(expected))
    assert scalar(engine, f"SELECT timestamptz '{body['as_of']}'") >= before


def test_hourly_counts_are_those_of_the_files_right_after_a_write(
    engine: Engine, client: Client
) -> None:
    execute(
        engine,
        "UPDATE media.media_files SET original_created_at = '2025-11-20 05:30Z' WHERE path = 'a2'",
    )
    body = client.get("/api/media/hourly-counts", params={"day": "2025-11-20"}).json()
    expected = dict(rows(engine, PER_HOUR))
    assert list(body) == ["hourly_counts", "total_files", "total_hours", "as_of"]
    assert list(body["hourly_counts"].items()) == list(expected.items())
    assert body["total_files"] == sum(expected.values())
