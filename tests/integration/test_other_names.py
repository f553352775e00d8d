"""Applications whose tables and columns are called otherwise: captured, kept, read and verified."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from assets.classroom import system as classroom_system
from assets.classroom import tables as classroom_tables
from tallykeeper import DoesNotFit, System, refresh, status, verify
from tallykeeper.cli.load import prepare
from tallykeeper.database.connections import open_engine
from tallykeeper.discovery import all_systems
from tallykeeper.installation.migrate import migrate
from tallykeeper.reads.grouping import grouped
from tallykeeper.settings import SettingError
from tallykeeper.table_names import require_systems
from tests.integration.support import execute, rows
from tests.renamed import names
from tests.servers import VERSIONS, Servers

GALLERY = """
[gallery.users]
table = "auth.user"
columns = { id = "user" }
[gallery.tags]
table = "Label"
columns = { id = "labelId", name = "Text" }
[gallery.content_items]
table = "picture"
columns = { id = "no", creator_id = "made by", created_at = "when", tags = "labels" }
[gallery.content_items_auto]
columns = { is_private = "hidden" }
"""
ANN, BOB = (f"00000000-0000-0000-0000-00000000000{n}" for n in range(2))
RED, BLUE = (f"00000000-0000-0000-0000-0000000000a{n}" for n in range(2))
GALLERY_TABLES = (
    "CREATE SCHEMA auth",
    "CREATE SCHEMA gallery",
    'CREATE TABLE auth."user" ("user" uuid PRIMARY KEY, email text)',
    'CREATE TABLE gallery."Label" ("Text" text UNIQUE, "labelId" uuid PRIMARY KEY)',
    "CREATE TABLE gallery.picture (no int PRIMARY KEY, title text, content_type text,"
    ' "made by" uuid REFERENCES auth."user", "when" timestamp DEFAULT now(),'
    " is_private boolean, labels uuid[])",
    "CREATE TABLE gallery.content_items_auto (id int PRIMARY KEY, title text, content_type text,"
    " creator_id uuid, created_at timestamp NOT NULL DEFAULT now(),"
    " hidden boolean NOT NULL DEFAULT false, tags uuid[])",
    f"INSERT INTO auth.\"user\" VALUES ('{ANN}'), ('{BOB}')",
    f"INSERT INTO gallery.\"Label\" VALUES ('red', '{RED}'), ('blue', '{BLUE}')",
)

CLASSROOM = """
[classroom.users]
table = "user"
[classroom.roles]
table = "role"
columns = { course_id = "courseId", user_id = "userId", name = "what" }
[classroom.assignment_group_memberships]
columns = { assignment_group_id = 'group"s', assignment_id = "task" }
[classroom.assignments]
columns = { date_created = "made" }
[classroom.submissions]
table = "submission"
columns = { id = "nr", assignment_id = "task", user_id = "owner", date_created = "made" }
[classroom.submission_log]
table = "log"
columns = { submission_id = "submissionId", event_type = "type", date_created = "at" }
"""
CLASSROOM_TABLES = (
    "CREATE SCHEMA classroom",
    'CREATE TABLE classroom."user" (id int PRIMARY KEY, name text, date_created timestamp)',
    "CREATE TABLE classroom.courses (id int PRIMARY KEY, date_created timestamp)",
    'CREATE TABLE classroom.role (id int PRIMARY KEY, "userId" int, "courseId" int, what text,'
    " date_created timestamp)",
    "CREATE TABLE classroom.assignments (id int PRIMARY KEY, course_id int, made timestamp)",
    "CREATE TABLE classroom.assignment_groups (id int PRIMARY KEY, course_id int)",
    "CREATE TABLE classroom.assignment_group_memberships (id int PRIMARY KEY,"
    ' "group""s" int, task int)',
    "CREATE TABLE classroom.submission (nr int PRIMARY KEY, task int,"
    " course_id int, owner int, made timestamp)",
    "CREATE TABLE classroom.reports (id int PRIMARY KEY, user_id int, date_created timestamp)",
    "CREATE TABLE classroom.login_events (id int PRIMARY KEY, user_id int, at timestamp)",
    'CREATE TABLE classroom.log (id int PRIMARY KEY, "submissionId" int, assignment_id int,'
    " course_id int, subject_id int, type varchar(40), category text, label text,"
    " client_timestamp text, at timestamp)",
    "INSERT INTO classroom.\"user\" VALUES (1, 'ann', now()), (2, 'bob', NULL)",
    "INSERT INTO classroom.courses VALUES (1, now())",
    "INSERT INTO classroom.role VALUES (1, 1, 1, 'student', now()), (2, 2, 1, 'instructor', NULL),"
    " (3, NULL, 1, 'student', now()), (4, 1, NULL, NULL, now())",
    "INSERT INTO classroom.assignments VALUES (1, 1, now()), (2, NULL, now())",
)


@pytest.fixture
def oldest_engine(postgres_servers: Servers) -> Iterator[Engine]:
    """An engine on an empty database, on the oldest PostgreSQL."""
    with postgres_servers.fresh_database(VERSIONS[-1]) as url:
        engine = open_engine(url)
        yield engine
        engine.dispose()


def exact(engine: Engine, system: System) -> None:
    """Every tally's live view and, after a refresh, its table say what the sources say."""
    for tally in system.tallies:
        assert verify(engine, tally).differing == 0, tally
    for tally in system.tallies:
        refresh(engine, tally)
    for tally in system.tallies:
        assert verify(engine, tally).ok, tally
        live, table = tally.live_name, f"{tally.table.schema}.{tally.table.name}"
        columns = ", ".join(tally.columns)
        pair = [f"SELECT {columns} FROM {where} ORDER BY {columns}" for where in (live, table)]
        assert rows(engine, pair[0]) == rows(engine, pair[1]), tally
        assert status(engine, tally).pending == 0


def test_a_gallery_under_other_names(oldest_engine: Engine, tmp_path: Path) -> None:
    engine = oldest_engine
    execute(engine, *GALLERY_TABLES)
    with names(tmp_path, GALLERY, "gallery") as modules:
        system, reads = modules["tallies"].system, modules["reads"]
        migrate(engine, [system])
        exact(engine, system)
        execute(
            engine,
            'INSERT INTO gallery.picture (no, title, "made by", labels) VALUES'
            f" (1, 'one', '{ANN}', '{{{RED},{BLUE}}}'), (2, 'two', NULL, NULL),"
            f" (3, 'three', '{BOB}', '{{{BLUE}}}')",
            f"INSERT INTO gallery.content_items_auto (id, creator_id) VALUES (1, '{ANN}')",
        )

        def ask(user: str) -> Any:
            with engine.connect() as connection:
                stats = reads.unified_content_stats(connection, user)
                tags = reads.tag_counts(connection, prefix="")
                page = reads.content_page(connection, tags=["blue"], match="all")
                own = reads.content_page(connection, creator="user", user_id=user)
            return (
                list(stats.values()),
                {tag["name"]: tag["count"] for tag in tags},
                [(item["id"], item["title"]) for item in page["items"]],
                [(item["id"], item["source"]) for item in own["items"]],
            )

        # Times without zone are in UTC, and an item without one is on no page.
        execute(
            engine,
            "UPDATE gallery.picture SET \"when\" = '2025-03-01 12:00' WHERE no = 1",
            "UPDATE gallery.picture SET \"when\" = '2025-03-01 11:59:59' WHERE no = 3",
            'UPDATE gallery.picture SET "when" = NULL WHERE no = 2',
            "UPDATE gallery.content_items_auto SET created_at = '2025-03-01 11:59:59.5'",
        )
        for level in ("READ COMMITTED", "AUTOCOMMIT"):
            with engine.connect().execution_options(isolation_level=level) as connection:
                zone = connection.exec_driver_sql("SHOW timezone").scalar_one()
                moments, cursor = [], None
                for _ in range(4):
                    page = reads.content_page(connection, page_size=1, cursor=cursor)
                    moments += [item["created_at"] for item in page["items"]]
                    cursor = page["next_cursor"]
                    if cursor is None:
                        break
                assert moments == [
                    datetime(2025, 3, 1, 12, tzinfo=UTC),
                    datetime(2025, 3, 1, 11, 59, 59, 500000, tzinfo=UTC),
                    datetime(2025, 3, 1, 11, 59, 59, tzinfo=UTC),
                ]
                assert connection.exec_driver_sql("SHOW timezone").scalar_one() == zone != "UTC"
                assert len(reads.content_page(connection, private=False)["items"]) == 3
                others = reads.content_page(connection, creator="community", user_id=ANN)
                assert [item["id"] for item in others["items"]] == [3]
        before = ask(ANN)
        assert before[0] == [1, 1, 3, 1]
        assert before[1] == {"blue": 2, "red": 1}
        assert sorted(before[2]) == [(1, "one"), (3, "three")]
        assert sorted(before[3]) == [(1, "auto"), (1, "regular")]
        exact(engine, system)
        assert ask(ANN) == before
        execute(
            engine,
            f"UPDATE gallery.picture SET \"made by\" = '{BOB}' WHERE no IN (1, 2)",
            f"UPDATE gallery.picture SET labels = '{{{RED}}}' WHERE no = 3",
            "DELETE FROM gallery.content_items_auto",
            f'DELETE FROM gallery."Label" WHERE "labelId" = \'{BLUE}\'',
        )
        assert ask(BOB)[:2] == ([3, 0, 3, 0], {"red": 2})
        exact(engine, system)
        assert migrate(engine, [system]).done == []


def test_a_classroom_under_other_names(engine: Engine, tmp_path: Path) -> None:
    execute(engine, *CLASSROOM_TABLES)
    with names(tmp_path, CLASSROOM, "classroom") as modules:
        system, reads = modules["tallies"].system, modules["reads"]
        migrate(engine, [system])
        exact(engine, system)
        execute(
            engine,
            "INSERT INTO classroom.submission VALUES (1, 1, 1, 1, '2025-03-01 10:00'),"
            " (2, 1, 1, 1, NULL), (3, NULL, NULL, NULL, NULL)",
            "INSERT INTO classroom.log VALUES"
            " (1, 1, 1, 1, 1, 'File.Edit', NULL, NULL, 'then', '2025-03-01 10:00'),"
            " (2, 1, 1, 1, 1, 'File.Edit', NULL, NULL, NULL, '2025-03-01 10:00:10'),"
            " (3, 1, 1, 1, 1, 'Run.Program', NULL, NULL, NULL, NULL),"
            " (4, NULL, 1, NULL, 1, NULL, NULL, NULL, NULL, '2025-03-01 23:59'),"
            " (5, 3, NULL, NULL, NULL, 'run', NULL, NULL, NULL, '2025-03-01 11:00')",
        )

        def ask() -> Any:
            with engine.connect() as connection:
                one = reads.submission_counts(connection, 1)
                course = reads.course_counts(connection, 1)
                user = reads.user_counts(connection, 1)
                assert reads.submission_counts(connection, 3)["runs"] == 1
            return (
                (one["runs"], one["edits"]),
                (course["total_submissions"], course["total_students"], course["total_users"]),
                (user["total_courses_in"], user["total_submissions"]),
            )

        said = ask()
        assert said == ((1, 2), (2, 1, 2), (1, 2))
        days = "SELECT course_id, day::text, events, runs FROM classroom.submission_daily_activity"
        assert rows(engine, days) == []
        exact(engine, system)
        assert ask() == said
        assert rows(engine, days) == [(1, "2025-02-28 20:30:00-03:30", 2, 0)]
        execute(
            engine,
            "UPDATE classroom.log SET type = 'run', at = '2025-03-02' WHERE id = 2",
            "UPDATE classroom.submission SET owner = 2 WHERE nr = 2",
            'DELETE FROM classroom.role WHERE "userId" = 1',
        )
        assert ask() == ((2, 1), (2, 0, 1), (0, 1))
        exact(engine, system)
        execute(engine, "INSERT INTO classroom.assignment_group_memberships VALUES (1, 7, 1)")
        with engine.connect() as connection:
            by_group = grouped(
                connection, modules["tallies"].assignment_counts, ["assignment_group_id"]
            )
        assert [group["assignment_group_id"] for group in by_group.groups] == [7]


def test_what_does_not_fit_is_said_by_the_names_that_it_has(engine: Engine, tmp_path: Path) -> None:
    execute(engine, *CLASSROOM_TABLES, "ALTER TABLE classroom.submission ALTER task TYPE text")
    with (
        names(tmp_path, CLASSROOM, "classroom") as modules,
        pytest.raises(DoesNotFit) as caught,
    ):
        migrate(engine, [modules["tallies"].system])
    said = str(caught.value)
    assert "the source table classroom.submission: task is text, expected bigint" in said
    assert "say how they are named in TALLY_NAMES" in said
    assert "aside" not in said


def test_tables_of_other_names_are_not_loaded_into(engine: Engine, tmp_path: Path) -> None:
    with (
        names(tmp_path, CLASSROOM, "classroom"),
        pytest.raises(SettingError, match="by which `tally load` writes, but it is"),
    ):
        prepare(engine, classroom_system)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[classroom.submision]", "submission"),
        ("[classroom.users]\ncolumns = { nme = 'x' }", "name"),
        ("[classroom.users]\ntabel = 'x'", "table"),
        ("[clasroom.users]", "classroom"),
        ("[fediverse.instances]\ntable = 'x'", "media, gallery, classroom"),
        ("[classroom.users]\ncolumns = { id = 'a', name = 'a' }", "another column for each"),
        ("[classroom.users]\ntable = 7", "a text as `table`"),
        ("[classroom.users]\ncolumns = 'x'", "names by our names as `columns`"),
        ("[classroom.users]\ncolumns = { id = '' }", "1 to 63 bytes"),
        ("classroom = 1", "tables below [classroom]"),
        ("[classroom", "a TOML file"),
    ],
)
def test_a_name_that_there_is_not_is_said_with_the_right_one(
    tmp_path: Path, text: str, said: str
) -> None:
    with (
        pytest.raises(SettingError) as caught,
        names(tmp_path, text, "classroom"),
    ):
        # Tables are made when they are imported; which systems there are is known later.
        require_systems({system.name: system.metadata for system in all_systems()})
    assert str(caught.value).startswith("TALLY_NAMES: expected ")
    assert said in str(caught.value)
    # What was imported before is as it was.
    assert classroom_tables.users.name == "users"
