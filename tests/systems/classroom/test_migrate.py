"""The classroom's tables made or adopted: figures in seconds that compute themselves."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, Table
from sqlalchemy.schema import CreateSchema, CreateTable

from assets.classroom import reads, tables
from assets.classroom.demo import create_demo
from assets.classroom.tallies import system
from tallykeeper import DoesNotFit, refresh, verify
from tallykeeper.database.sql import name_of
from tallykeeper.installation.migrate import migrate
from tests.integration.support import execute, rows, scalar

CREATED = [f"created the derived table {tally.name}" for tally in system.tallies]
INSTALLED = [f"installed {tally.name} (never built)" for tally in system.tallies]
# One submission: an edit 4 s after its first event, and one 2 s after that.
WORK = (
    "INSERT INTO classroom.users (name) VALUES ('ann')",
    "INSERT INTO classroom.courses (name) VALUES ('maps')",
    "INSERT INTO classroom.roles (user_id, course_id, name) VALUES (1, 1, 'Student')",
    "INSERT INTO classroom.assignments (course_id) VALUES (1)",
    "INSERT INTO classroom.submissions (assignment_id, course_id, user_id) VALUES (1, 1, 1)",
    "INSERT INTO classroom.submission_log (submission_id, assignment_id, course_id, subject_id,"
    " event_type, date_created) VALUES (1, 1, 1, 1, 'Run', '2025-03-01 12:00:00Z'),"
    " (1, 1, 1, 1, 'File.Edit', '2025-03-01 12:00:04Z'),"
    " (1, 1, 1, 1, 'File.Edit', '2025-03-01 12:00:06Z')",
)


def test_a_new_installation_has_all_that_is_declared(engine: Engine) -> None:
    done = migrate(engine, [system], with_sources=True).done
    assert done[0] == "created the schema classroom"
    assert [d for d in done if d.startswith("created the derived")] == CREATED
    assert done[-len(INSTALLED) :] == INSTALLED
    assert migrate(engine, [system], with_sources=True).done == []


def test_new_statistics_have_a_select_compiled_anew_and_nothing_built(engine: Engine) -> None:
    migrate(engine, [system], with_sources=True)
    create_demo(engine, 200)
    for tally in system.tallies:
        refresh(engine, tally)
    execute(engine, "DELETE FROM classroom.submission_log WHERE id % 5 = 0", "ANALYZE")
    done = migrate(engine, [system]).done
    compiled = {said.split()[1].rstrip(":") for said in done if said.startswith("compiled ")}
    assert compiled
    assert {said for said in done if not said.startswith("compiled ")} == {
        f"installed {name}" for name in compiled
    }
    assert migrate(engine, [system]).done == []
    for tally in system.tallies:
        assert refresh(engine, tally).how == "refresh"
        assert verify(engine, tally).ok


@pytest.mark.slow
def test_every_server_takes_the_tables_and_keeps_them(any_postgres_engine: Engine) -> None:
    engine = any_postgres_engine
    migrate(engine, [system], with_sources=True)
    execute(engine, *WORK)
    _check(engine)


def test_counts_that_are_there_are_adopted_and_made_right(engine: Engine) -> None:
    _sources(engine)
    execute(
        engine,
        *WORK,
        # Wider counts, instants without time zone, a column more, and a user who is deleted.
        "CREATE TABLE classroom.user_counts (user_id bigint NOT NULL UNIQUE, total_courses_in int8"
        " NOT NULL DEFAULT 0, total_assignments bigint NOT NULL, total_assignment_groups bigint"
        " NOT NULL, total_submissions bigint NOT NULL, total_reports bigint NOT NULL,"
        " last_logged_in timestamp, last_edited timestamp, updated_at timestamp, note text)",
        "INSERT INTO classroom.user_counts"
        " VALUES (1, 7, 7, 7, 7, 7, now()), (9, 1, 1, 1, 1, 1, NULL)",
    )
    done = migrate(engine, [system]).done
    assert "adopted the derived table classroom.user_counts" in done
    _check(engine)
    assert rows(engine, "SELECT * FROM classroom.user_counts_live")[0][1:6] == (1, 1, 0, 1, 0)
    assert scalar(engine, "SELECT count(*) FROM classroom.user_counts WHERE user_id = 9") == 0
    assert migrate(engine, [system]).done == []


@pytest.mark.parametrize(
    ("table", "old", "new", "sentence"),
    [
        (tables.submission_counts, "runs INTEGER", "runs REAL", "runs is real, expected integer"),
        (
            tables.submission_counts,
            "edit_ms_squared NUMERIC",
            "edit_ms_squared BIGINT",
            "edit_ms_squared is bigint, expected numeric",
        ),
        (
            tables.submission_counts,
            "GENERATED ALWAYS AS ((time_spent_ms / 1000.0)::float8) STORED",
            "DEFAULT 0",
            "estimated_time_spent is not generated, expected GENERATED ALWAYS AS (",
        ),
        (
            tables.course_counts,
            "PRIMARY KEY (course_id)",
            "UNIQUE (course_id), PRIMARY KEY (course_id, date_last_user)",
            "date_last_user is NOT NULL, but nulls belong in it",
        ),
        (
            tables.submission_daily_activity,
            "PRIMARY KEY (course_id, day)",
            "PRIMARY KEY (course_id)",
            "no unique index on (course_id, day)",
        ),
        (
            tables.submission_log,
            "date_created TIMESTAMP WITH TIME ZONE",
            "date_created TEXT",
            "the source table classroom.submission_log: date_created is text, expected",
        ),
    ],
)
def test_tables_that_do_not_fit_are_named_and_nothing_is_changed(
    engine: Engine, table: Table, old: str, new: str, sentence: str
) -> None:
    _sources(engine, but=table)
    statement = str(CreateTable(table).compile(engine)).replace("%%", "%")
    assert old in statement
    execute(engine, statement.replace(old, new))
    before = scalar(engine, "SELECT count(*) FROM pg_class")
    with pytest.raises(DoesNotFit) as caught:
        migrate(engine, [system])
    assert sentence in str(caught.value)
    assert "Nothing was changed" in str(caught.value)
    assert scalar(engine, "SELECT count(*) FROM pg_class") == before


def test_counts_that_lack_columns_or_hold_too_little_are_completed(engine: Engine) -> None:
    _sources(engine)
    statement = str(CreateTable(tables.submission_counts).compile(engine)).replace("%%", "%")
    for old, new in (("edits INTEGER DEFAULT 0 NOT NULL,", ""), ("runs INTEGER", "runs SMALLINT")):
        assert old in statement
        statement = statement.replace(old, new)
    execute(engine, *WORK, statement)
    said = (
        "altered the derived table classroom.submission_counts: added the column edits, created the"
        " index submission_counts_assignment, created the index submission_counts_user, wrote"
        " comments, runs became integer from smallint"
    )
    assert migrate(engine, [system]).done[0] == said
    _check(engine)
    assert migrate(engine, [system]).done == []


def test_a_classroom_without_its_log_keeps_what_needs_none(engine: Engine) -> None:
    _sources(engine, but=tables.submission_log)
    result = migrate(engine, [system])
    assert result.skipped == {}
    assert set(map(tuple, result.left_out.values())) == {("classroom.submission_log",)}
    kept = [tally for tally in system.tallies if tally.name not in result.left_out]
    assert kept
    for tally in kept:
        refresh(engine, tally)
        assert verify(engine, tally).ok


def _sources(engine: Engine, but: Table | None = None) -> None:
    """The tables of an application that is there already, all but one."""
    derived = set(system.derived)
    wanted: list[Any] = [
        t for t in system.metadata.sorted_tables if t not in derived and t is not but
    ]
    with engine.begin() as connection:
        connection.execute(CreateSchema("classroom"))
        system.metadata.create_all(connection, tables=wanted)


def _check(engine: Engine) -> None:
    for tally in system.tallies:
        refresh(engine, tally)
        assert verify(engine, tally).ok, name_of(tally.table)
    with engine.connect() as connection:
        counts = reads.submission_counts(connection, 1)
        assert (counts["edits"], counts["average_edit_time"]) == (2, 2.0)
        assert counts["average_time_before_edit"] == 3.0
        assert counts["estimated_time_spent"] == 6.0
        assert reads.user_counts(connection, 1)["estimated_time_spent"] == 6.0
