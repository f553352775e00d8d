"""Refresh, rebuild and verify, in turn: what each of them does, and what it leaves alone."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, Integer, cast, func, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import CreateSchema

from tallykeeper import (
    BadWindow,
    NotInstalled,
    SelectTally,
    System,
    TallyBusy,
    install,
    migrate,
    rebuild,
    refresh,
    status,
    verify,
)
from tallykeeper.catalog.transactions import writing
from tallykeeper.database.sql import CLAIM_WRITING
from tests import library as tables
from tests import tag_hours
from tests.integration.support import (
    DAILY_LOG,
    FORUM_LOG,
    LOGGED_DAYS,
    create,
    execute,
    judge,
    rows,
    scalar,
    settled_media,
    stale_reasons,
)
from tests.library import system as media
from tests.oracle import DAILY, HOURLY, TAG_HOURS

DAILY_TALLY, HOURLY_TALLY = media.tallies
ADD = "INSERT INTO media.media_files (path, original_created_at) VALUES"
STORED = (
    "SELECT to_char(date AT TIME ZONE 'UTC', 'MM-DD'), count FROM media.daily_contributions{}"
    " ORDER BY date"
)
# What changes whenever a row is written, if only to what it was.
VERSIONS = "SELECT ctid, xmin, updated_at FROM media.daily_contributions ORDER BY ctid"


def day(number: int) -> datetime:
    return datetime(2024, 3, number, tzinfo=UTC)


@pytest.fixture
def library(engine: Engine) -> Engine:
    """Two files on the first of March and one on the second, refreshed."""
    create(engine, media)
    execute(
        engine,
        f"{ADD} ('a', '2024-03-01 10:00Z'), ('b', '2024-03-01 11:00Z'), ('c', '2024-03-02Z')",
    )
    for tally in media.tallies:
        refresh(engine, tally)
    return engine


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that gives up in no time."""
    # The package has functions of the modules' names.
    module = sys.modules["tallykeeper.catalog.transactions"]
    monkeypatch.setattr(module, "ATTEMPTS", 2)
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr("tallykeeper.database.sessions.LOCK_TIMEOUT_SECONDS", 0.05)
    monkeypatch.setattr(module, "FIRST_PAUSE_SECONDS", 0.0)


def test_a_tally_that_was_never_built_is_right_live_and_is_built_by_its_first_refresh(
    engine: Engine,
) -> None:
    create(engine, media)
    assert rows(engine, STORED.format("_live")) == []
    execute(engine, f"{ADD} ('a', '2024-03-01Z')")
    assert rows(engine, STORED.format("_live")) == [("03-01", 1)]
    assert rows(engine, STORED.format("")) == []
    assert status(engine, DAILY_TALLY).built_at is None
    done = refresh(engine, DAILY_TALLY)
    assert (done.how, done.reason, done.rows) == ("rebuild", "never built", 1)
    assert status(engine, DAILY_TALLY).built_at is not None
    assert rows(engine, STORED.format("")) == [("03-01", 1)]


def test_a_refresh_tells_what_it_did_on_which_day(library: Engine) -> None:
    execute(library, f"{ADD} ('d', '2024-03-05Z'), ('e', '2024-03-05 01:00Z')")
    execute(
        library, "UPDATE media.media_files SET original_created_at = '2021-07-01Z' WHERE path = 'a'"
    )
    execute(library, "DELETE FROM media.media_files WHERE path = 'c'")
    before = status(library, DAILY_TALLY)
    assert (before.pending, before.rows) == (4, 2)
    done = refresh(library, DAILY_TALLY)
    assert (done.how, done.reason, done.pending_consumed, done.rows) == ("refresh", None, 4, 3)
    assert done.oldest_change == before.oldest_pending
    assert [(w.day, w.inserted, w.updated, w.deleted) for w in done.changes_by_day] == [
        ("2021-07-01", 1, 0, 0),
        ("2024-03-01", 0, 1, 0),
        ("2024-03-02", 0, 0, 1),
        ("2024-03-05", 1, 0, 0),
    ]
    assert (done.keys_changed, done.inserted, done.deleted) == (4, 2, 1)
    after = status(library, DAILY_TALLY)
    assert (after.pending, after.oldest_pending, after.rows, after.stale) == (0, None, 3, ())
    again = refresh(library, DAILY_TALLY)
    assert (again.pending_consumed, again.keys_changed, again.rows) == (0, 0, 3)


def test_changes_that_cancel_each_other_write_nothing(library: Engine) -> None:
    before = rows(library, VERSIONS)
    execute(library, f"{ADD} ('d', '2024-03-01Z')")
    execute(library, "DELETE FROM media.media_files WHERE path = 'd'")
    done = refresh(library, DAILY_TALLY)
    assert (done.pending_consumed, done.keys_changed) == (2, 0)
    assert rows(library, VERSIONS) == before


def test_a_rebuild_writes_only_rows_that_differ(library: Engine) -> None:
    before = rows(library, VERSIONS)
    for window in ((None, None), (day(1), day(3)), (None, day(2)), (day(2), None)):
        assert rebuild(library, DAILY_TALLY, *window).keys_changed == 0
    assert rows(library, VERSIONS) == before
    execute(
        library,
        CLAIM_WRITING,
        "UPDATE media.daily_contributions SET count = 9 WHERE date = '2024-03-02Z'",
    )
    edited = rows(library, VERSIONS)
    assert rebuild(library, DAILY_TALLY).keys_changed == 1
    after = rows(library, VERSIONS)
    assert len(set(edited) & set(after)) == 1
    assert rows(library, STORED.format("")) == [("03-01", 2), ("03-02", 1)]


def test_a_rebuilt_window_takes_its_own_pending_deltas_and_no_others(library: Engine) -> None:
    execute(library, f"{ADD} ('d', '2024-03-01Z'), ('e', '2024-03-05Z')")
    done = rebuild(library, DAILY_TALLY, day(1), day(2))
    assert (done.how, done.pending_consumed, done.keys_changed) == ("rebuild", 1, 1)
    assert rows(library, LOGGED_DAYS) == [("03-05", 1)]
    assert rows(library, STORED.format("")) == [("03-01", 3), ("03-02", 1)]
    judge(library, [DAILY, HOURLY])
    settled_media(library)


def test_a_rebuilt_window_leaves_other_windows_as_they_are(library: Engine) -> None:
    execute(library, CLAIM_WRITING, "UPDATE media.daily_contributions SET count = 70")
    rebuild(library, DAILY_TALLY, day(2), day(3))
    assert rows(library, STORED.format("")) == [("03-01", 70), ("03-02", 1)]
    rebuild(library, DAILY_TALLY, None, day(2))
    assert rows(library, STORED.format("")) == [("03-01", 2), ("03-02", 1)]


def test_open_ends_reach_the_ends_of_time(library: Engine) -> None:
    execute(library, f"{ADD} ('d', '-infinity'), ('e', 'infinity'), ('f', '0044-03-15Z BC')")
    execute(library, CLAIM_WRITING, f"DELETE FROM {DAILY_LOG}")
    rebuild(library, DAILY_TALLY, None, day(1))
    rebuild(library, DAILY_TALLY, day(3), None)
    assert verify(library, DAILY_TALLY).ok
    assert scalar(library, "SELECT count(*) FROM media.daily_contributions") == 5


def test_a_stale_tally_stays_stale_until_all_of_it_is_rebuilt(library: Engine) -> None:
    execute(library, "TRUNCATE media.media_files", f"{ADD} ('d', '2024-03-01Z')")
    rebuild(library, DAILY_TALLY, day(1), day(2))
    assert stale_reasons(library, DAILY_TALLY.name) == ["media.media_files was truncated"]
    found = verify(library, DAILY_TALLY)
    assert (found.ok, found.stale) == (False, ("media.media_files was truncated",))
    rebuild(library, DAILY_TALLY)
    assert stale_reasons(library, DAILY_TALLY.name) == []
    assert verify(library, DAILY_TALLY).ok


def test_marks_stay_pending_over_a_rebuilt_window_for_they_may_concern_others(
    engine: Engine,
) -> None:
    create(engine, tag_hours.system)
    refresh(engine, tag_hours.tally)
    execute(
        engine,
        "INSERT INTO forum.posts VALUES (1, 7, '2024-03-01 22:00Z'), (2, 7, '2024-03-05Z')",
        "INSERT INTO forum.post_tags VALUES (1, 5), (2, 5)",
    )
    rebuild(engine, tag_hours.tally, day(1), day(2))
    assert scalar(engine, f"SELECT count(*) FROM {FORUM_LOG}") == 4
    assert scalar(engine, "SELECT count(*) FROM forum.tag_hours") == 1
    judge(engine, [TAG_HOURS])
    assert rebuild(engine, tag_hours.tally).pending_consumed == 4
    assert scalar(engine, f"SELECT count(*) FROM {FORUM_LOG}") == 0
    judge(engine, [TAG_HOURS])


def test_a_changed_select_is_adopted_by_a_migration_and_the_next_refresh(library: Engine) -> None:
    files = tables.media_files
    day = func.date_trunc("day", files.c.original_created_at, "UTC").label("date")
    is_known = files.c.original_created_at.is_not(None)
    changed = SelectTally(
        DAILY_TALLY.name,
        select=select(day, cast(func.count(), Integer).label("count"))
        .where(is_known, files.c.path != "a")
        .group_by(day),
        table=tables.daily_contributions.table,
    )
    others = [t for t in media.tallies if t is not DAILY_TALLY]
    try:
        system = System("media", tables.metadata, [changed, *others])
        for act in (verify, refresh):
            with pytest.raises(NotInstalled, match="its declaration changed; run `tally migrate`"):
                act(library, changed)
        migrate(library, [system])
        found = verify(library, changed)
        missing = "its change log was missing, another table, or had other columns"
        assert (found.ok, found.stale) == (False, (missing, "its declaration changed"))
        done = refresh(library, changed)
        assert (done.how, done.reason) == ("rebuild", f"{missing}; its declaration changed")
        assert rows(library, STORED.format("")) == [("03-01", 1), ("03-02", 1)]
        execute(library, "UPDATE media.media_files SET path = 'A' WHERE path = 'a'")
        assert rows(library, STORED.format("_live")) == [("03-01", 2), ("03-02", 1)]
        assert refresh(library, changed).how == "refresh"
        assert verify(library, changed).ok
        assert verify(library, HOURLY_TALLY).ok
    finally:
        System("media", tables.metadata, list(media.tallies))


def test_a_refresh_that_fails_changes_nothing(library: Engine) -> None:
    execute(
        library,
        "CREATE FUNCTION media.full() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE SQLSTATE '53100'; END $$",
        "CREATE TRIGGER disk BEFORE INSERT OR UPDATE ON media.daily_contributions"
        " FOR EACH ROW EXECUTE FUNCTION media.full()",
    )
    execute(library, f"{ADD} ('d', '2024-03-01Z'), ('e', '2024-03-05Z')")
    with pytest.raises(DBAPIError):
        refresh(library, DAILY_TALLY)
    with pytest.raises(DBAPIError):
        rebuild(library, DAILY_TALLY)
    assert rows(library, LOGGED_DAYS) == [("03-01", 1), ("03-05", 1)]
    assert rows(library, STORED.format("")) == [("03-01", 2), ("03-02", 1)]
    judge(library, [DAILY, HOURLY])
    execute(library, "DROP TRIGGER disk ON media.daily_contributions")
    settled_media(library)


def test_a_long_log_is_vacuumed_after_it_was_consumed(
    library: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["tallykeeper.maintain.derived_rows"], "VACUUM_AFTER_ROWS", 10)
    # Nobody else may be at it just then, for the engine's VACUUM does not wait.
    execute(library, f"ALTER TABLE {DAILY_LOG} SET (autovacuum_enabled = off)")
    execute(library, f"{ADD} ('d', '2024-03-01Z')")
    execute(
        library,
        "INSERT INTO media.media_files (path, original_created_at)"
        " SELECT 'n' || n, '2000-01-01Z'::timestamptz + n * interval '1 day'"
        " FROM generate_series(1, 5000) AS n",
    )
    assert scalar(library, f"SELECT pg_relation_size('{DAILY_LOG}')") > 0
    refresh(library, DAILY_TALLY)
    assert scalar(library, f"SELECT pg_relation_size('{DAILY_LOG}')") == 0


def test_verify_names_each_key_that_differs_with_both_values(library: Engine) -> None:
    execute(
        library,
        CLAIM_WRITING,
        "UPDATE media.daily_contributions SET count = 7 WHERE date = '2024-03-01Z'",
        "DELETE FROM media.daily_contributions WHERE date = '2024-03-02Z'",
        "INSERT INTO media.daily_contributions (date, count) VALUES ('2024-03-08Z', 4)",
        "INSERT INTO media.daily_contributions (date, count) VALUES ('2024-03-09Z', 0)",
    )
    found = verify(library, DAILY_TALLY)
    assert (found.ok, found.whole, found.differing) == (False, True, 4)
    assert [(d.day, d.stored, d.expected) for d in found.differences] == [
        ("2024-03-01", {"count": 7}, {"count": 2}),
        ("2024-03-02", None, {"count": 1}),
        ("2024-03-08", {"count": 4}, None),
        ("2024-03-09", {"count": 0}, None),
    ]
    assert found.differences[0].key == {"date": "2024-03-01T00:00:00+00:00"}
    assert found.days == ("2024-03-01", "2024-03-02", "2024-03-08", "2024-03-09")
    assert status(library, DAILY_TALLY).differing == 4


def test_verify_shows_no_more_than_it_is_asked_to_but_counts_all(library: Engine) -> None:
    execute(library, CLAIM_WRITING, "UPDATE media.daily_contributions SET count = count + 1")
    found = verify(library, DAILY_TALLY, limit=1)
    assert (found.differing, len(found.differences)) == (2, 1)


def test_verify_of_windows_looks_at_those_alone(library: Engine) -> None:
    execute(library, CLAIM_WRITING, "UPDATE media.daily_contributions SET count = 7")
    assert verify(library, DAILY_TALLY, [(day(2), day(3))]).days == ("2024-03-02",)
    assert verify(library, DAILY_TALLY, [(None, day(2)), (day(3), None)]).days == ("2024-03-01",)
    assert verify(library, DAILY_TALLY, [(day(3), day(9))]).differing == 0


def test_pending_changes_are_no_differences(library: Engine) -> None:
    execute(library, f"{ADD} ('d', '2024-03-01Z'), ('e', '2024-03-05Z')")
    execute(library, "DELETE FROM media.media_files WHERE path = 'c'")
    found = verify(library, DAILY_TALLY)
    assert (found.ok, found.compared) == (True, 2)


def test_verify_of_the_touched_looks_at_just_the_windows_written_since(library: Engine) -> None:
    assert verify(library, DAILY_TALLY, "touched").whole, "a rebuild of everything touches it all"
    assert verify(library, DAILY_TALLY, "touched").compared == 0
    execute(library, f"{ADD} ('d', '2024-03-01Z'), ('e', '2024-03-05Z')")
    refresh(library, DAILY_TALLY)
    # Edited by hand it would be compared whole; as the engine itself, nobody notes it.
    edit = "UPDATE media.daily_contributions SET count = 7"
    execute(library, CLAIM_WRITING, edit)
    found = verify(library, DAILY_TALLY, "touched")
    assert (found.whole, found.days) == (False, ("2024-03-01", "2024-03-05"))
    # What was found wrong is looked at again.
    assert verify(library, DAILY_TALLY, "touched").days == found.days
    rebuild(library, DAILY_TALLY, day(1), day(2))
    rebuild(library, DAILY_TALLY, day(5), day(6))
    assert verify(library, DAILY_TALLY, "touched").ok
    assert verify(library, DAILY_TALLY, "touched").compared == 0
    assert verify(library, DAILY_TALLY).days == ("2024-03-02",)


def test_a_verify_of_everything_leaves_nothing_touched(library: Engine) -> None:
    execute(library, f"{ADD} ('d', '2024-03-05Z')")
    refresh(library, DAILY_TALLY)
    assert verify(library, DAILY_TALLY).ok
    assert verify(library, DAILY_TALLY, "touched").compared == 0


def test_what_lies_beyond_calendars_is_touched_too(library: Engine) -> None:
    verify(library, DAILY_TALLY)
    execute(library, f"{ADD} ('d', 'infinity')")
    refresh(library, DAILY_TALLY)
    execute(
        library,
        CLAIM_WRITING,
        "UPDATE media.daily_contributions SET count = 7 WHERE date = 'infinity'",
    )
    assert verify(library, DAILY_TALLY, "touched").days == ("9999-12-31",)


@pytest.mark.usefixtures("impatient")
def test_a_tally_that_another_holds_is_busy(library: Engine) -> None:
    execute(library, f"{ADD} ('d', '2024-03-05Z')")
    with library.connect() as other, other.begin():
        other.execute(text("LOCK TABLE media.daily_contributions IN SHARE ROW EXCLUSIVE MODE"))
        for work in (refresh, rebuild):
            with pytest.raises(TallyBusy, match=r"locks on media\.daily_contributions are held by"):
                work(library, DAILY_TALLY)
        # Who only compares does not wait.
        assert verify(library, DAILY_TALLY).ok
        assert refresh(library, HOURLY_TALLY).keys_changed == 1
    assert refresh(library, DAILY_TALLY).keys_changed == 1


@pytest.mark.usefixtures("impatient")
def test_a_truncate_in_progress_makes_the_tally_busy(library: Engine) -> None:
    with library.connect() as other, other.begin():
        other.execute(text("TRUNCATE media.media_files"))
        for work in (refresh, rebuild, verify):
            with pytest.raises(TallyBusy):
                work(library, DAILY_TALLY)


@pytest.mark.usefixtures("impatient")
def test_what_passes_by_itself_is_tried_again(library: Engine) -> None:
    calls = []

    def work(connection: Connection) -> int:
        calls.append(1)
        if len(calls) == 1:
            connection.execute(text("DO $$ BEGIN RAISE SQLSTATE '40001'; END $$"))
        return 5

    assert writing(library, DAILY_TALLY, work) == 5
    assert len(calls) == 2


def test_writers_and_readers_never_wait_for_a_refresh(library: Engine) -> None:
    def work(_: Connection) -> Any:
        with library.begin() as other:
            other.execute(text("SET LOCAL lock_timeout = '1s'"))
            other.execute(text(f"{ADD} ('d', '2024-03-05Z')"))
            other.execute(text("UPDATE media.media_files SET original_created_at = now()"))
            other.execute(text("DELETE FROM media.media_files WHERE path = 'a'"))
            return other.execute(text(STORED.format("_live"))).all()

    assert writing(library, DAILY_TALLY, work)
    settled_media(library)


def test_windows_that_make_no_sense_are_refused(library: Engine) -> None:
    before = rows(library, VERSIONS)
    for start, end, sentence in (
        (day(3), day(2), "must be later"),
        (day(3), day(3), "must be later"),
        (datetime(2024, 3, 1), None, "has no time zone"),  # noqa: DTZ001 -- that is the point
        (
            datetime(2024, 3, 1, 12, tzinfo=UTC),
            None,
            "begins no day in UTC; the nearest that do are 2024-03-01 and 2024-03-02",
        ),
    ):
        with pytest.raises(BadWindow, match=sentence):
            rebuild(library, DAILY_TALLY, start, end)
    assert rows(library, VERSIONS) == before


def test_a_database_without_the_tally_is_distinguished_from_one_with_it(engine: Engine) -> None:
    for work in (refresh, rebuild, verify, status):
        with pytest.raises(NotInstalled, match="tally migrate"):
            work(engine, DAILY_TALLY)
    with engine.begin() as connection, pytest.raises(NotInstalled, match="does not exist"):
        install(connection, media.tallies)
    create(engine, tag_hours.system)
    for work in (refresh, rebuild, verify, status):
        with pytest.raises(NotInstalled, match="tally migrate"):
            work(engine, DAILY_TALLY)
    create(engine, media)
    execute(engine, "DROP TABLE media.daily_contributions CASCADE")
    for work in (refresh, rebuild):
        with pytest.raises(NotInstalled, match="tally migrate"):
            work(engine, DAILY_TALLY)


def test_a_view_is_no_source(engine: Engine) -> None:
    execute(engine, "CREATE SCHEMA media", "CREATE VIEW media.media_files AS SELECT 1 AS id")
    with engine.begin() as connection:
        tables.daily_contributions.table.create(connection)
        tables.hourly_contributions.table.create(connection)
        with pytest.raises(NotInstalled, match="is not a table"):
            install(connection, media.tallies)


@pytest.fixture
def zoneless(any_postgres_engine: Engine) -> Engine:
    """All times without time zone, in source and derived tables; they mean UTC."""
    engine = any_postgres_engine
    with engine.begin() as connection:
        connection.execute(CreateSchema("media"))
        media.metadata.create_all(connection)
        for table, columns in (
            ("media_files", ("original_created_at", "created_at")),
            ("daily_contributions", ("date",)),
            ("hourly_contributions", ("hour",)),
        ):
            changes = ", ".join(f"ALTER {c} TYPE timestamp USING NULL" for c in columns)
            connection.execute(text(f"ALTER TABLE media.{table} {changes}"))
        install(connection, media.tallies)
    return engine


def test_times_without_zone_are_utc_in_every_session(zoneless: Engine) -> None:
    for step, zone in enumerate(("Pacific/Kiritimati", "America/Anchorage", "UTC")):
        execute(
            zoneless,
            f"SET LOCAL timezone = '{zone}'",
            "INSERT INTO media.media_files (path, original_created_at) VALUES"
            f" ('a{step}', '2024-03-01 00:00'), ('b{step}', '2024-03-01 23:59')",
        )
        with zoneless.begin() as connection:
            connection.execute(text(f"SET LOCAL timezone = '{zone}'"))
            live = connection.execute(text(STORED.format("_live"))).all()
            assert [tuple(row) for row in live] == [("03-01", 2 * step + 2)]
        for tally in media.tallies:
            refresh(zoneless, tally)
            assert verify(zoneless, tally).ok
    execute(zoneless, "DELETE FROM media.media_files WHERE path LIKE 'a%'")
    rebuild(zoneless, DAILY_TALLY, day(1), day(2))
    refresh(zoneless, HOURLY_TALLY)
    assert rows(zoneless, "SELECT date::text, count FROM media.daily_contributions") == [
        ("2024-03-01 00:00:00", 3)
    ]
    assert rows(zoneless, "SELECT hour::text, count FROM media.hourly_contributions") == [
        ("2024-03-01 23:00:00", 3)
    ]
    for tally in media.tallies:
        assert verify(zoneless, tally).ok
        assert verify(zoneless, tally, [(day(1), day(2))]).compared == 1
