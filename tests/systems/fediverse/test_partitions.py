"""The partitions of the raw log: made ahead, filled from the default one, dropped when old."""

from __future__ import annotations

import threading
from datetime import date, timedelta

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from assets.fediverse.storage import partitions
from assets.fediverse.storage.bootstrap import prepare
from assets.fediverse.storage.partitions import (
    dropped,
    ensure,
    ensure_around,
    ensure_days,
    why_left_alone,
)
from assets.fediverse.tallies import system
from tallykeeper.database.sessions import PATIENCE
from tests.integration.support import create, execute, rows, scalar

DAY = date(2025, 11, 20)
INSTANCE = "INSERT INTO fediverse.instances (base_url) VALUES ('https://a.example')"
PARTITIONS = """
SELECT relname, pg_get_expr(relpartbound, c.oid) FROM pg_inherits JOIN pg_class AS c
ON c.oid = inhrelid WHERE inhparent = 'fediverse.stream_events'::regclass ORDER BY 1
"""
WHERE = (
    "SELECT tableoid::regclass::text, received_at AT TIME ZONE 'UTC', id"
    " FROM fediverse.stream_events ORDER BY id"
)


@pytest.fixture(autouse=True)
def _no_archive(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is dropped is declared to be lost."""
    monkeypatch.setenv("TALLY_ARCHIVE", "none")


@pytest.fixture
def fediverse(engine: Engine) -> Engine:
    """A database with an empty log."""
    create(engine, system)
    execute(engine, INSTANCE)
    return engine


def event(received_at: str, processed: bool = True) -> str:
    """A statement that writes an event."""
    return (
        "INSERT INTO fediverse.stream_events"
        " (instance_id, received_at, event_type, payload, processed_at)"
        f" SELECT id, '{received_at}', 'delete', '1', {'now()' if processed else 'NULL'}"
        " FROM fediverse.instances"
    )


def make(engine: Engine, first: date, last: date | None = None) -> list[str]:
    with engine.begin() as connection:
        return ensure(connection, first, last or first)


def names(engine: Engine) -> list[str]:
    return [str(name).removeprefix("stream_events_") for name, _ in rows(engine, PARTITIONS)]


def test_preparing_makes_the_default_partition_and_a_week_ahead(fediverse: Engine) -> None:
    today = scalar(fediverse, "SELECT (now() AT TIME ZONE 'UTC')::date")
    days = [f"{today + timedelta(days=n):%Y%m%d}" for n in range(8)]
    assert names(fediverse) == [*days, "default"]
    with fediverse.begin() as connection:
        assert prepare(connection) == []


def test_a_partition_is_a_day_in_utc(any_postgres_engine: Engine) -> None:
    create(any_postgres_engine, system)
    execute(any_postgres_engine, INSTANCE)
    assert make(any_postgres_engine, DAY) == [
        "created the partition fediverse.stream_events_20251120"
    ]
    assert make(any_postgres_engine, DAY) == []
    execute(
        any_postgres_engine,
        event("2025-11-19T23:59:59.999999Z"),
        event("2025-11-20T00:00:00Z"),
        event("2025-11-20T20:59:59.999999-03:00"),
        event("2025-11-20T21:00:00-03:00"),
    )
    inside = "fediverse.stream_events_20251120"
    outside = "fediverse.stream_events_default"
    assert [r[0] for r in rows(any_postgres_engine, WHERE)] == [outside, inside, inside, outside]


def test_a_partition_has_what_the_table_has(fediverse: Engine) -> None:
    make(fediverse, DAY)
    execute(fediverse, event("2025-11-20T00:00:00Z"))
    assert scalar(fediverse, "SELECT id FROM fediverse.stream_events_20251120") == 1
    indexes = "SELECT count(*) FROM pg_index WHERE indrelid = 'fediverse.{}'::regclass"
    assert scalar(fediverse, indexes.format("stream_events_20251120")) == scalar(
        fediverse, indexes.format("stream_events")
    )
    with pytest.raises(Exception, match="violates foreign key constraint"):
        execute(
            fediverse,
            "INSERT INTO fediverse.stream_events (instance_id, received_at, event_type)"
            " VALUES (99, '2025-11-20T00:00:00Z', 'delete')",
        )


def test_strays_move_into_their_day_as_they_are(fediverse: Engine) -> None:
    execute(fediverse, event("2025-11-20T12:00:00Z", processed=False), event("2025-11-21T00:00Z"))
    before = rows(fediverse, "SELECT * FROM fediverse.stream_events ORDER BY id")
    make(fediverse, DAY)
    assert [r[0] for r in rows(fediverse, WHERE)] == [
        "fediverse.stream_events_20251120",
        "fediverse.stream_events_default",
    ]
    assert rows(fediverse, "SELECT * FROM fediverse.stream_events ORDER BY id") == before


def test_days_before_today_that_have_strays_get_partitions(fediverse: Engine) -> None:
    execute(fediverse, event("2025-11-01T12:00Z"), event("2025-12-01T12:00Z"))
    with fediverse.begin() as connection:
        ensure_around(connection, DAY, ahead=0)
    assert names(fediverse)[:2] == ["20251101", "20251120"]
    assert "20251201" not in names(fediverse)


def test_writers_go_on_while_a_partition_is_made(fediverse: Engine) -> None:
    with fediverse.connect() as writer, writer.begin():
        # Today's partition is there: neither it nor the table is locked against writers.
        writer.exec_driver_sql(event("now"))
        assert len(make(fediverse, DAY)) == 1
        writer.exec_driver_sql(event("now"))
    assert scalar(fediverse, "SELECT count(*) FROM fediverse.stream_events") == 2


def test_a_lock_is_not_waited_for_without_end(fediverse: Engine) -> None:
    with fediverse.begin() as other:
        other.exec_driver_sql("LOCK TABLE fediverse.instances IN ROW EXCLUSIVE MODE")
        with pytest.raises(OperationalError, match="lock timeout"):
            make(fediverse, DAY)
    assert len(make(fediverse, DAY)) == 1


def test_two_make_the_same_partitions_at_once(fediverse: Engine) -> None:
    with fediverse.begin() as first:
        assert len(ensure(first, DAY, DAY)) == 1
        second: list[list[str]] = []
        thread = threading.Thread(target=lambda: second.append(ensure_days(fediverse, [DAY])))
        thread.start()
    thread.join()
    assert second == [[]]


def test_a_stray_that_is_being_written_is_moved_too(fediverse: Engine) -> None:
    with fediverse.begin() as writer:
        writer.exec_driver_sql(event("2025-11-20T12:00Z"))
        thread = threading.Thread(target=lambda: ensure_days(fediverse, [DAY]))
        thread.start()
        while not scalar(fediverse, "SELECT count(*) FROM pg_locks WHERE NOT granted"):
            pass
    thread.join()
    assert [r[0] for r in rows(fediverse, WHERE)] == ["fediverse.stream_events_20251120"]


def test_only_whole_old_days_are_dropped(fediverse: Engine) -> None:
    make(fediverse, DAY - timedelta(days=3), DAY)
    execute(fediverse, *(event(f"2025-11-{day}T12:00Z") for day in (17, 18, 19, 20)))
    result = dropped(fediverse, 2, DAY)
    assert result.dropped == ["fediverse.stream_events_20251117"]
    assert result.kept == {}
    assert result.freed_bytes > 0
    assert result.left_alone is None
    assert scalar(fediverse, "SELECT count(*) FROM fediverse.stream_events") == 3
    assert dropped(fediverse, 2, DAY).dropped == []


def test_a_day_with_an_unprocessed_event_is_kept_until_it_is_processed(fediverse: Engine) -> None:
    make(fediverse, DAY)
    execute(
        fediverse,
        event("2025-11-20T12:00Z"),
        event("2025-11-20T12:00Z", processed=False),
    )
    result = dropped(fediverse, 30, DAY + timedelta(days=31))
    assert result.dropped == []
    assert result.kept == {
        "fediverse.stream_events_20251120": "has rows that are still to be processed"
    }
    execute(fediverse, "UPDATE fediverse.stream_events SET processed_at = now()")
    assert dropped(fediverse, 30, DAY + timedelta(days=31)).kept == {}
    assert scalar(fediverse, "SELECT count(*) FROM fediverse.stream_events") == 0


def test_an_event_that_comes_while_its_day_is_dropped_is_not_lost(fediverse: Engine) -> None:
    make(fediverse, DAY)
    results: list[partitions.Dropped] = []
    with fediverse.begin() as writer:
        writer.exec_driver_sql(event("2025-11-20T12:00Z", processed=False))
        thread = threading.Thread(
            target=lambda: results.append(dropped(fediverse, 1, DAY + timedelta(days=9)))
        )
        thread.start()
        while not scalar(fediverse, "SELECT count(*) FROM pg_locks WHERE NOT granted"):
            pass
    thread.join()
    assert results[0].dropped == []
    assert list(results[0].kept) == ["fediverse.stream_events_20251120"]
    assert scalar(fediverse, "SELECT count(*) FROM fediverse.stream_events") == 1


def test_what_a_view_depends_on_is_kept(fediverse: Engine) -> None:
    make(fediverse, DAY)
    execute(
        fediverse, "CREATE VIEW fediverse.one AS SELECT id FROM fediverse.stream_events_20251120"
    )
    result = dropped(fediverse, 1, DAY + timedelta(days=9))
    assert result.dropped == []
    assert "something depends on it" in result.kept["fediverse.stream_events_20251120"]


def test_a_day_that_others_hold_is_kept_and_the_next_one_dropped(
    fediverse: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partitions, "LOCK_TIMEOUT_SECONDS", 0.05)
    make(fediverse, DAY, DAY + timedelta(days=1))
    with fediverse.begin() as reader:
        reader.exec_driver_sql("SELECT FROM fediverse.stream_events_20251120")
        hasty = fediverse.execution_options(**{PATIENCE: 0.1})
        result = dropped(hasty, 1, DAY + timedelta(days=9))
    assert result.dropped == ["fediverse.stream_events_20251121"]
    assert "gave up" in result.kept["fediverse.stream_events_20251120"]


def test_a_table_of_an_application_is_left_alone_and_said_so(engine: Engine) -> None:
    with engine.connect() as connection:
        assert why_left_alone(connection) == "there is no table fediverse.stream_events"
    create(engine, system)
    execute(
        engine,
        "DROP TABLE fediverse.stream_events",
        "CREATE TABLE fediverse.stream_events (id bigint, received_at timestamptz)",
    )
    assert make(engine, DAY) == []
    assert dropped(engine, 1).left_alone == "fediverse.stream_events is not partitioned"
    execute(
        engine,
        "DROP TABLE fediverse.stream_events",
        "CREATE TABLE fediverse.stream_events (id bigint) PARTITION BY HASH (id)",
    )
    assert "is partitioned by HASH (id)" in str(dropped(engine, 1).left_alone)


def test_the_table_of_another_role_is_left_alone(engine: Engine) -> None:
    create(engine, system)
    execute(engine, "CREATE ROLE stranger", "GRANT USAGE ON SCHEMA fediverse TO stranger")
    with engine.begin() as connection:
        connection.exec_driver_sql("SET LOCAL ROLE stranger")
        assert "belongs to postgres" in str(why_left_alone(connection))
    execute(engine, "REVOKE USAGE ON SCHEMA fediverse FROM stranger", "DROP ROLE stranger")


def test_months_of_an_application_get_no_days_within(any_postgres_engine: Engine) -> None:
    engine = any_postgres_engine
    create(engine, system)
    execute(
        engine,
        "DROP TABLE fediverse.stream_events",
        "CREATE TABLE fediverse.stream_events (id bigint GENERATED ALWAYS AS IDENTITY,"
        " received_at timestamp NOT NULL, processed_at timestamp)"
        " PARTITION BY RANGE (received_at)",
        "CREATE TABLE fediverse.november PARTITION OF fediverse.stream_events"
        " FOR VALUES FROM ('2025-11-01') TO ('2025-12-01')",
        "INSERT INTO fediverse.stream_events (received_at) VALUES ('2025-11-01')",
    )
    make(engine, date(2025, 11, 29), date(2025, 12, 2))
    assert [name for name, _ in rows(engine, PARTITIONS)] == [
        "november",
        "stream_events_20251201",
        "stream_events_20251202",
        "stream_events_default",
    ]
    execute(
        engine, "INSERT INTO fediverse.stream_events (received_at) VALUES ('2025-12-02 23:59:59')"
    )
    assert dropped(engine, 1, date(2025, 12, 2)).kept == {
        "fediverse.november": "has rows that are still to be processed"
    }


def test_a_table_that_only_has_a_partitions_name_is_left_alone_and_reported(
    fediverse: Engine,
) -> None:
    execute(fediverse, "CREATE TABLE fediverse.stream_events_20251120 (x int)")
    (sentence,) = make(fediverse, DAY)
    assert "left fediverse.stream_events_20251120 alone: it is there, but" in sentence
    execute(fediverse, event("2025-11-20T12:00Z"))
    assert rows(fediverse, WHERE)[0][0] == "fediverse.stream_events_default"


def test_a_day_that_is_not_over_is_never_dropped(fediverse: Engine) -> None:
    today = scalar(fediverse, "SELECT (now() AT TIME ZONE 'UTC')::date")
    done = dropped(fediverse, 1, today + timedelta(days=5))
    assert (done.dropped, done.kept) == ([], {})


def test_nothing_but_a_partition_of_the_log_is_dropped(fediverse: Engine) -> None:
    for name in (
        "fediverse.instances",
        "fediverse.stream_events",
        "fediverse.stream_events_default",
    ):
        why = scalar(
            fediverse, f"SELECT why FROM tallykeeper.fediverse_drop_partition('{name}', true)"
        )
        assert why == "is no partition of a time that is over"
