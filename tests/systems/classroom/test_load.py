"""Loading events into a real classroom: what is written, what is rejected, what stays."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from assets.classroom import load
from assets.classroom.input import writing
from assets.classroom.load import load_classroom
from assets.classroom.tallies import system
from tallykeeper import refresh, verify
from tallykeeper.input.loading import Loaded, LoadError
from tests.integration.support import create, execute, rows, scalar

Write = Callable[..., Path]
HEADER = "EventType,EventID,SubjectID,ToolInstances,CodeStateID,ServerTimestamp"
FULL = f"{HEADER},CourseID,AssignmentID,ProblemID,Order,ExecutionResult,CompileMessageData"
LOG = """
SELECT u.name, c.name, a.name, event_type, category, message,
  to_char(l.date_created AT TIME ZONE 'UTC', 'HH24:MI:SS')
FROM classroom.submission_log AS l JOIN classroom.submissions AS s ON s.id = submission_id
JOIN classroom.users AS u ON u.id = s.user_id JOIN classroom.courses AS c ON c.id = s.course_id
JOIN classroom.assignments AS a ON a.id = s.assignment_id
WHERE l.assignment_id = a.id AND l.course_id = c.id AND l.subject_id = u.id ORDER BY l.id
"""


@pytest.fixture
def classroom(engine: Engine) -> Engine:
    """A database with an empty classroom and its capture."""
    create(engine, system)
    return engine


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes `course/MainTable.csv`, with the metadata beside it; returns the folder."""

    def write(*rows: str, header: str = HEADER, metadata: str | None = None) -> Path:
        folder = tmp_path / "course"
        folder.mkdir(exist_ok=True)
        (folder / "MainTable.csv").write_text("\n".join([header, *rows, ""]))
        if metadata is not None:
            (folder / "DatasetMetadata.csv").write_text(f"Property,Value\n{metadata}")
        return folder

    return write


def run(number: int, time: str, *rest: str, subject: str = "ann", kind: str = "Run") -> str:
    """A row of a main table."""
    return ",".join([kind, str(number), subject, "x", "0", f"2024-09-02T{time}", *rest])


def counts(loaded: Loaded) -> tuple[int, int, int, int]:
    assert loaded.read == loaded.inserted + loaded.changed + loaded.unchanged + loaded.rejected
    return loaded.inserted, loaded.changed, loaded.unchanged, loaded.rejected


def rejects(loaded: Loaded) -> list[str]:
    assert loaded.reject_file is not None
    return loaded.reject_file.read_text().splitlines()[1:]


def everything(engine: Engine) -> list[list[tuple[Any, ...]]]:
    """All rows of all source tables."""
    names = [table.name for table in system.sources]
    return [rows(engine, f"SELECT * FROM classroom.{name} ORDER BY id") for name in names]


def test_a_dataset_becomes_users_courses_assignments_submissions_and_events(
    classroom: Engine, write: Write
) -> None:
    folder = write(
        run(1, "12:00:00", "CS1,hw1,p1,1,,", kind="File.Edit"),
        run(2, "12:00:10", "CS1,hw1,p1,2,Error,", kind="Run.Program"),
        run(3, "12:00:20", "CS1,hw1,p2,3,,", subject="bob", kind="Submit"),
        run(4, "12:00:30", "CS2,hw1,,4,,bad input", kind="Compile.Error"),
        header=FULL,
        metadata="Version,8\nEventOrderScope,Global\n",
    )
    loaded = load_classroom(classroom, folder)
    assert counts(loaded) == (4, 0, 0, 0)
    assert loaded.notes == ()
    assert rows(classroom, LOG) == [
        ("ann", "CS1", "hw1 / p1", "File.Edit", None, None, "12:00:00"),
        ("ann", "CS1", "hw1 / p1", "Run.Program", "Error", None, "12:00:10"),
        ("bob", "CS1", "hw1 / p2", "Submit", None, None, "12:00:20"),
        ("ann", "CS2", "hw1", "Compile.Error", None, "bad input", "12:00:30"),
    ]
    groups = """
    SELECT g.name, c.name, a.name FROM classroom.assignment_group_memberships AS m
    JOIN classroom.assignment_groups AS g ON g.id = m.assignment_group_id
    JOIN classroom.courses AS c ON c.id = g.course_id
    JOIN classroom.assignments AS a ON a.id = m.assignment_id ORDER BY a.id
    """
    assert rows(classroom, groups) == [("hw1", "CS1", "hw1 / p1"), ("hw1", "CS1", "hw1 / p2")]
    roles = """
    SELECT u.name, c.name, r.name FROM classroom.roles AS r
    JOIN classroom.users AS u ON u.id = user_id JOIN classroom.courses AS c ON c.id = course_id
    ORDER BY 1, 2
    """
    assert rows(classroom, roles) == [
        ("ann", "CS1", "student"),
        ("ann", "CS2", "student"),
        ("bob", "CS1", "student"),
    ]
    first = "SELECT min(date_created) FROM classroom.{}"
    for table in ("users", "courses", "roles", "assignments", "submissions", "assignment_groups"):
        assert scalar(classroom, first.format(table)) == datetime(2024, 9, 2, 12, tzinfo=UTC)
    for tally in system.tallies:
        refresh(classroom, tally)
        assert verify(classroom, tally).ok
    counted = "SELECT runs, edits, attempts, syntax_errors, runtime_errors, edit_gaps FROM {}"
    assert rows(classroom, counted.format("classroom.submission_counts ORDER BY 1, 2, 3, 4")) == [
        (0, 0, 0, 1, 0, 0),
        (0, 0, 1, 0, 0, 0),
        (1, 1, 0, 0, 1, 0),
    ]


def test_a_link_table_may_say_which_roles_subjects_have(classroom: Engine, write: Write) -> None:
    folder = write(
        *(run(n, "12:00:00", "c,a,,,,", subject=s) for n, s in enumerate(["ann", "bob", "eve"])),
        header=FULL,
    )
    (folder / "LinkTables").mkdir()
    (folder / "LinkTables" / "Subject.csv").write_text(
        'SubjectID,X-IsStaff,X-Roles\nann,True,"instructor, student, instructor"\n'
        "bob,False,\nzoe,False,student\neve,False,ta,student\n"
    )
    (folder / "LinkTables" / "Assignment.csv").write_text("AssignmentId,X-Name\na,A\n")
    loaded = load_classroom(classroom, folder)
    assert loaded.notes[0] == (
        "LinkTables/Subject.csv line 5 was passed over: expected 3 columns, found 4"
    )
    roles = """
    SELECT u.name, r.name FROM classroom.roles AS r JOIN classroom.users AS u ON u.id = user_id
    ORDER BY 1, 2
    """
    expected = [("ann", "instructor"), ("ann", "student"), ("bob", "student"), ("eve", "student")]
    assert rows(classroom, roles) == expected
    load_classroom(classroom, folder)
    assert rows(classroom, roles) == expected


def test_loading_again_changes_nothing_whether_by_the_folder_or_the_main_table(
    classroom: Engine, write: Write
) -> None:
    folder = write(run(1, "12:00:00"), run(2, "12:00:00"), run(1, "12:00:00", subject="bob "))
    assert counts(load_classroom(classroom, folder))[0] == 3
    before = everything(classroom)
    # The third row has the event id of the first one, but is of another submission.
    assert counts(load_classroom(classroom, folder / "MainTable.csv")) == (0, 0, 3, 0)
    packed = folder / "again.csv.gz"
    packed.write_bytes(gzip.compress((folder / "MainTable.csv").read_bytes()))
    assert counts(load_classroom(classroom, packed)) == (0, 0, 3, 0)
    assert everything(classroom) == before


def test_an_event_id_that_repeats_is_one_event_another_one_or_rejected(
    classroom: Engine, write: Write
) -> None:
    folder = write(
        run(1, "12:00:00", "c,a,,,,"),
        run(1, "12:00:00", "c,a,,,,"),
        run(2, "12:00:01", "c,a,,,,"),
        run(2, "12:00:02", "c,a,,,,"),
        run(2, "12:00:01", "c,a,,,Error,"),
        run(1, "1", "c,a,,,,"),
        header=FULL,
    )
    loaded = load_classroom(classroom, folder)
    assert counts(loaded) == (3, 0, 1, 2)
    assert "events that stand in the input more than once, loaded once: 1" in loaded.notes
    assert (
        "events with the id of another event, kept apart by their time and name: 1" in loaded.notes
    )
    malformed, other = rejects(loaded)
    assert malformed.startswith("7,ServerTimestamp: '2024-09-02T1' is no ISO 8601 time")
    assert other.startswith(
        '6,"the event id is already that of line 4, which says something else","{""at"": ""2024'
    )
    assert scalar(classroom, "SELECT count(*) FROM classroom.submission_log") == 3
    before = everything(classroom)
    assert counts(load_classroom(classroom, folder)) == (0, 0, 4, 2)
    assert everything(classroom) == before


def test_the_summary_names_what_no_figure_counts(classroom: Engine, write: Write) -> None:
    folder = write(run(1, "12:00:00"), run(2, "12:00:01", kind="File.Run"), run(3, "12:00:02"))
    loaded = load_classroom(classroom, folder)
    assert "events of names that no figure counts, 1 loaded: File.Run (1)" in loaded.notes


def test_a_known_event_is_filled_in_and_never_overwritten(classroom: Engine, write: Write) -> None:
    load_classroom(classroom, write(run(1, "12:00:00", "c,a,,,,"), header=FULL))
    fuller = write(run(1, "12:00:00", "c,a,,,Error,"), run(2, "12:00:09", "c,a,,,,"), header=FULL)
    assert counts(load_classroom(classroom, fuller)) == (1, 1, 0, 0)
    other = write(run(1, "12:00:00", "c,a,,,Success,"), run(2, "12:00:08", "c,a,,,,"), header=FULL)
    before = everything(classroom)
    loaded = load_classroom(classroom, other)
    assert counts(loaded) == (0, 0, 0, 2)
    assert (
        "with this id was loaded before, and says something else (row 1 of " in rejects(loaded)[0]
    )
    assert everything(classroom) == before
    assert [row[4] for row in rows(classroom, LOG)] == ["Error", None]
    # What says less than what is known is nothing new.
    less = write(run(1, "12:00:00", "c,a,,,,"), header=FULL)
    assert counts(load_classroom(classroom, less)) == (0, 0, 1, 0)


def test_an_event_id_names_an_event_of_one_submission_so_that_datasets_may_share_ids(
    classroom: Engine, write: Write
) -> None:
    load_classroom(classroom, write(run(1, "12:00:00")))
    assert counts(load_classroom(classroom, write(run(1, "13:00:00", subject="bob"))))[0] == 1


def test_a_grown_dataset_adds_what_is_new(classroom: Engine, write: Write) -> None:
    load_classroom(classroom, write(run(1, "12:00:00")))
    grown = write(run(1, "12:00:00"), run(2, "11:00:00"), run(3, "12:30:00", subject="bob"))
    assert counts(load_classroom(classroom, grown)) == (2, 0, 1, 0)
    assert scalar(classroom, "SELECT count(*) FROM classroom.submissions") == 2


def test_rows_out_of_order_give_the_same_classroom(classroom: Engine, write: Write) -> None:
    ordered = [
        run(number, f"12:{number:02}:00", "c,a,,,,", subject=subject, kind=kind)
        for number, (subject, kind) in enumerate(
            [("ann", "File.Edit"), ("bob", "Run"), ("ann", "Run"), ("ann", "Submit"), ("bob", "X")]
        )
    ]
    loaded = load_classroom(classroom, write(*reversed(ordered), header=FULL))
    assert loaded.notes == (
        "events below a later one of the same submission, put in order by time: 3",
        "events of names that no figure counts, 1 loaded: X (1)",
    )
    assert [(row[0], row[6]) for row in rows(classroom, LOG)] == [
        ("ann", "12:00:00"),
        ("ann", "12:02:00"),
        ("ann", "12:03:00"),
        ("bob", "12:01:00"),
        ("bob", "12:04:00"),
    ]


@pytest.mark.parametrize(
    ("metadata", "kinds"),
    [
        ("EventOrderScope,Global\n", ["File.Edit", "Run", "Submit"]),
        ("EventOrderScope,None\n", ["Submit", "File.Edit", "Run"]),
    ],
)
def test_events_at_one_instant_get_their_ids_by_order_or_else_as_they_stand(
    classroom: Engine, write: Write, metadata: str, kinds: list[str]
) -> None:
    folder = write(
        run(1, "12:00:00", "c,a,,3,,", kind="Submit"),
        run(2, "12:00:00", "c,a,,1,,", kind="File.Edit"),
        run(3, "12:00:00", "c,a,,2,,", kind="Run"),
        header=FULL,
        metadata=metadata,
    )
    load_classroom(classroom, folder)
    assert [row[3] for row in rows(classroom, LOG)] == kinds


def test_clocks_that_are_hours_apart_leave_the_servers_time_and_keep_the_clients(
    classroom: Engine, write: Write
) -> None:
    header = f"{HEADER},ClientTimestamp"
    loaded = load_classroom(
        classroom,
        write(
            run(1, "12:00:00", "2024-09-02T07:00:00"),
            "Run,2,ann,x,0,None,2024-09-02T12:00:05",
            "Run,3,ann,x,0,None,None",
            header=header,
        ),
    )
    assert counts(loaded) == (2, 0, 0, 1)
    assert "dated by the server's: 1" in loaded.notes[1]
    times = "SELECT to_char({} AT TIME ZONE 'UTC', 'HH24:MI:SS') FROM classroom.submission_log"
    assert rows(classroom, times.format("date_created") + " ORDER BY id") == [
        ("12:00:00",),
        ("12:00:05",),
    ]
    assert rows(classroom, times.format("client_timestamp") + " ORDER BY id") == [
        ("07:00:00",),
        ("12:00:05",),
    ]
    assert loaded.summary("events").splitlines()[1:] == [f"  {note}" for note in loaded.notes]


def test_what_is_there_is_found_by_its_name_and_left_as_it_is(
    classroom: Engine, write: Write
) -> None:
    execute(
        classroom,
        "INSERT INTO classroom.users (id, name) OVERRIDING SYSTEM VALUE VALUES (50, 'ann'),"
        " (40, 'ann'), (60, NULL)",
        "INSERT INTO classroom.courses (id, name) OVERRIDING SYSTEM VALUE"
        " VALUES (7, 'c'), (8, 'd')",
        "INSERT INTO classroom.roles (user_id, course_id, name) VALUES (40, 7, 'instructor')",
        "INSERT INTO classroom.assignments (id, course_id, name) OVERRIDING SYSTEM VALUE"
        " VALUES (70, 8, 'a'), (71, 7, 'a')",
        "INSERT INTO classroom.submissions (id, assignment_id, course_id, user_id)"
        " OVERRIDING SYSTEM VALUE VALUES (90, 71, 7, 40), (91, 71, 7, 50)",
    )
    before = everything(classroom)
    load_classroom(classroom, write(run(1, "12:00:00", "c,a,,,,"), header=FULL))
    assert rows(
        classroom,
        "SELECT submission_id, assignment_id, course_id, subject_id FROM classroom.submission_log",
    ) == [(90, 71, 7, 40)]
    changed = [a != b for a, b in zip(before, everything(classroom), strict=True)]
    assert [t.name for t, c in zip(system.sources, changed, strict=True) if c] == ["submission_log"]


def test_snapshots_and_errors_tell_of_one_event_together_whichever_comes_first(
    classroom: Engine, tmp_path: Path
) -> None:
    time = "2024-09-02T12:00:00.000Z"
    snapshots = tmp_path / "snapshots.csv"
    snapshots.write_text(
        "homework,student,snapshot,c_error,r_error,t_failed,t_success\n"
        f"hw1,ann,{time},1,0,0,0\nhw1,bob,{time},0,1,1,0\nhw1,bob,{time},0,1,1,0\n"
    )
    errors = tmp_path / "errors.csv"
    errors.write_text(
        "homework,student,snapshot,file,line,error\n"
        f"hw1,ann,{time},a.java,3,;\nhw1,ann,{time},a.java,3,;\n"
    )
    assert counts(load_classroom(classroom, snapshots)) == (2, 0, 1, 0)
    assert counts(load_classroom(classroom, errors)) == (1, 1, 0, 0)
    refresh(classroom, system.tallies[0])
    figures = (
        "SELECT runs, syntax_errors, runtime_errors, failed_instructor_tests"
        " FROM classroom.submission_counts ORDER BY submission_id"
    )
    assert rows(classroom, figures) == [(0, 2, 0, 0), (1, 0, 1, 1)]
    after = rows(classroom, LOG)
    execute(classroom, "TRUNCATE classroom.users CASCADE", "TRUNCATE classroom.courses CASCADE")
    assert counts(load_classroom(classroom, errors)) == (2, 0, 0, 0)
    assert counts(load_classroom(classroom, snapshots)) == (1, 0, 2, 0)
    assert sorted(rows(classroom, LOG), key=str) == sorted(after, key=str)


def test_an_event_that_was_deleted_from_the_log_is_loaded_anew(
    classroom: Engine, write: Write
) -> None:
    folder = write(run(1, "12:00:00"), run(2, "12:00:01"))
    load_classroom(classroom, folder)
    execute(classroom, "DELETE FROM classroom.submission_log WHERE id = 1")
    assert counts(load_classroom(classroom, folder)) == (1, 0, 1, 0)
    assert counts(load_classroom(classroom, folder)) == (0, 0, 2, 0)


def test_a_load_that_was_killed_left_whole_chunks_and_goes_on_when_run_again(
    classroom: Engine, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "CHUNK", 2)
    folder = write(*(run(number, f"12:00:{number:02}") for number in range(7)))

    def die(rows: int, done: int, total: int | None) -> None:
        assert rows <= 7
        # After reading (half of the total) and two chunks of four.
        if total is not None and done >= total / 2 + total / 2 * 4 / 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_classroom(classroom, folder, progress=die)
    assert scalar(classroom, "SELECT count(*) FROM classroom.submission_log") == 4
    seen: list[tuple[int, int, int | None]] = []
    loaded = load_classroom(classroom, folder, progress=lambda *done: seen.append(done))
    assert counts(loaded) == (3, 0, 4, 0)
    assert [row[6] for row in rows(classroom, LOG)] == [f"12:00:0{n}" for n in range(7)]
    assert seen[-1][0] == 7
    assert seen[-1][1] == seen[-1][2]
    # The temporary tables went with their connection.
    again = load_classroom(classroom, folder)
    assert counts(again) == (0, 0, 7, 0)


def test_two_loads_at_once_make_nothing_twice(
    classroom: Engine, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "CHUNK", 20)
    folder = write(
        *(run(n, f"12:{n % 60:02}:00", "c,a,p,,,", subject=f"s{n % 9}") for n in range(300)),
        header=FULL,
    )
    start = threading.Barrier(2)
    done: list[Loaded] = []

    def work() -> None:
        start.wait()
        done.append(load_classroom(classroom, folder))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(each.inserted for each in done) == 300
    assert [each.rejected for each in done] == [0, 0]
    tables = ["users", "courses", "roles", "assignments", "submissions", "submission_log"]
    counted = [scalar(classroom, f"SELECT count(*) FROM classroom.{name}") for name in tables]
    assert counted == [9, 1, 9, 1, 9, 300]


def test_a_course_that_is_deleted_meanwhile_is_made_again_for_what_is_still_to_come(
    classroom: Engine, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "CHUNK", 2)
    folder = write(*(run(number, f"12:00:{number:02}") for number in range(4)))
    really = writing.write_chunk
    chunks: list[int] = []

    def write_chunk(connection: Any, first: int, last: int, again: bool) -> Any:
        if first == 3 and not again:
            execute(classroom, "DELETE FROM classroom.courses")
        chunks.append(first)
        return really(connection, first, last, again)

    monkeypatch.setattr(writing, "write_chunk", write_chunk)
    assert counts(load_classroom(classroom, folder)) == (4, 0, 0, 0)
    assert chunks == [1, 3, 3]
    assert [row[6] for row in rows(classroom, LOG)] == ["12:00:02", "12:00:03"]


def test_a_file_that_breaks_off_writes_nothing(classroom: Engine, tmp_path: Path) -> None:
    path = tmp_path / "MainTable.csv.gz"
    lines = "\n".join([HEADER, *(run(number, "12:00:00") for number in range(5000))])
    path.write_bytes(gzip.compress(lines.encode())[:-2000])
    with pytest.raises(LoadError, match="cannot be read beyond line"):
        load_classroom(classroom, path)
    assert scalar(classroom, "SELECT count(*) FROM classroom.users") == 0
    assert scalar(classroom, "SELECT to_regclass('tallykeeper.classroom_loaded_events')") is None


def test_an_input_without_rows_loads_nothing(classroom: Engine, write: Write) -> None:
    loaded = load_classroom(classroom, write())
    assert counts(loaded) == (0, 0, 0, 0)
    assert loaded.reject_file is None


def test_without_tables_or_without_names_to_find_rows_by_the_load_is_refused(
    engine: Engine, write: Write
) -> None:
    folder = write(run(1, "12:00:00"))
    with pytest.raises(LoadError, match=r"no table classroom\.users to load into; run `tally"):
        load_classroom(engine, folder)
    create(engine, system)
    execute(engine, "ALTER TABLE classroom.assignments DROP COLUMN name")
    with pytest.raises(LoadError, match=r"classroom\.assignments has no column name, which"):
        load_classroom(engine, folder)
    assert scalar(engine, "SELECT count(*) FROM classroom.users") == 0


def test_a_log_with_times_without_zone_is_loaded_in_utc(classroom: Engine, write: Write) -> None:
    execute(
        classroom,
        "DROP SCHEMA classroom CASCADE",
        "CREATE SCHEMA classroom",
    )
    with classroom.begin() as connection:
        system.metadata.create_all(connection)
    execute(
        classroom,
        "ALTER TABLE classroom.submission_log ALTER date_created TYPE timestamp",
        f"ALTER DATABASE \"{classroom.url.database}\" SET timezone = 'Asia/Tokyo'",
    )
    classroom.dispose()
    folder = write(run(1, "12:00:00"))
    assert counts(load_classroom(classroom, folder))[0] == 1
    assert counts(load_classroom(classroom, folder)) == (0, 0, 1, 0)
    assert rows(classroom, "SELECT CAST(date_created AS text) FROM classroom.submission_log") == [
        ("2024-09-02 12:00:00",)
    ]
