"""What rows of an input of the classroom mean, whatever becomes of them in a database."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from assets.classroom.input.fields import Event, Notes, moment
from assets.classroom.input.listing import open_listing
from tallykeeper.input.loading import LoadError

NOON = datetime(2024, 9, 2, 12, tzinfo=UTC)
MAIN = "EventType,EventID,SubjectID,ToolInstances,CodeStateID,ServerTimestamp"
SNAPSHOTS = "homework,student,snapshot,c_error,r_error,t_failed,t_success"
ERRORS = "homework,student,snapshot,file,line,error"


@dataclass(frozen=True)
class Read:
    """What came of an input."""

    events: list[Event]
    rejects: list[tuple[int, str, str]]
    notes: tuple[str, ...]


Reader = Callable[..., Read]


def read(path: Path) -> Read:
    rejects: list[tuple[int, str, str]] = []
    notes = Notes()
    with open_listing(path, lambda *row: rejects.append(row), notes) as listing:
        return Read(list(listing), rejects, notes.sentences())


@pytest.fixture
def csv(tmp_path: Path) -> Reader:
    """Reads `MainTable.csv` with the rows below the header; `metadata` stand beside it."""

    def load(header: str, *rows: str, metadata: str | None = None) -> Read:
        (tmp_path / "MainTable.csv").write_text("\n".join([header, *rows, ""]))
        if metadata is not None:
            (tmp_path / "DatasetMetadata.csv").write_text(metadata)
        return read(tmp_path / "MainTable.csv")

    return load


@pytest.mark.parametrize(
    ("text", "zone", "hour"),
    [
        ("2024-09-02T12:00:00", "", 12),
        ("2024-09-02T12:00:00", "+0200", 10),
        ("2024-09-02T12:00:00", "-05:00", 17),
        ("2024-09-02T12:00:00", "UTC+1", 11),
        ("2024-09-02T12:00:00", "0000", 12),
        ("2024-09-02T12:00:00", "Europe/Berlin", 10),
        ("2024-12-02 12:00:00.5", "Europe/Berlin", 11),
        ("2024-09-02T12:00:00", "None", 12),
        # A time that says its own offset needs no zone, readable or not.
        ("2024-09-02T12:00:00Z", "+0200", 12),
        ("2024-09-02T12:00:00-03:00", "somewhere", 15),
    ],
)
def test_a_time_is_in_its_zone_unless_it_says_its_own_offset(
    text: str, zone: str, hour: int
) -> None:
    assert moment(text, zone).hour == hour
    assert moment(text, zone).tzinfo is UTC


@pytest.mark.parametrize("zone", ["0500", "300", "-330", "+2400", "EDT", "../UTC", "America"])
def test_a_zone_that_says_two_things_or_nothing_is_no_zone(zone: str) -> None:
    with pytest.raises(ValueError, match=r"is no time zone \(like \+0100"):
        moment("2024-09-02T12:00:00", zone)


def test_a_time_outside_the_years_of_the_calendar_is_reported() -> None:
    with pytest.raises(ValueError, match="outside the years"):
        moment("0001-01-01T00:00:00", "+0200")


def test_the_cheat_sheet_of_the_standard_has_no_times_and_is_refused(csv: Reader) -> None:
    with pytest.raises(LoadError, match="neither a column ServerTimestamp nor ClientTimestamp"):
        csv("EventID,SubjectID,EventType,ToolInstances,CodeStateID,Score", "1,12,Submit,x,0,1")


def test_the_least_main_table_makes_events_under_unknown_names(csv: Reader) -> None:
    found = csv(MAIN, "Submit,1,ann,Python;IDE,7,2024-09-02T12:00:00")
    assert found.events == [
        Event(
            line=2,
            course="unknown",
            group=None,
            assignment="unknown",
            subject="ann",
            event_id="1",
            event_type="Submit",
            at=NOON,
        )
    ]
    assert found.notes == (
        "events without an assignment, put under 'unknown': 1",
        "events without a course, put under 'unknown': 1",
    )


def test_columns_that_the_standard_requires_and_nothing_needs_may_be_missing(csv: Reader) -> None:
    found = csv("EventID,SubjectID,EventType,ClientTimestamp", "1,ann,Submit,2024-09-02T12:00:00")
    assert len(found.events) == 1
    assert "no column ToolInstances and no column CodeStateID" in found.notes[0]


@pytest.mark.parametrize("missing", ["EventType", "EventID", "SubjectID"])
def test_columns_without_which_nothing_can_be_loaded_are_demanded(
    csv: Reader, missing: str
) -> None:
    with pytest.raises(LoadError, match=f"has no column {missing}: expected a header line"):
        csv(MAIN.replace(missing, "Other"))


def test_a_problem_is_an_assignment_and_an_assignment_of_problems_is_a_group(csv: Reader) -> None:
    found = csv(
        MAIN + ",CourseID,TermID,AssignmentID,ProblemID",
        "Submit,1,ann,x,0,2024-09-02T12:00:00,CS1,Fall 2024,hw1,p2",
        "Submit,2,ann,x,0,2024-09-02T12:00:00,CS1,,hw1,",
        "Submit,3,ann,x,0,2024-09-02T12:00:00,CS1,,,p2",
    )
    assert [(e.course, e.group, e.assignment) for e in found.events] == [
        ("CS1 (Fall 2024)", "hw1", "hw1 / p2"),
        ("CS1", None, "hw1"),
        ("CS1", None, "p2"),
    ]


def test_category_label_and_message_come_from_the_columns_of_the_event(csv: Reader) -> None:
    header = (
        "EventType,EventID,SubjectID,ServerTimestamp,ExecutionResult,CompileResult,Compile.Result,"
        "CompileMessageType,CompileMessageData,InterventionCategory,InterventionType,"
        "InterventionMessage,EditType,CodeStateSection,ProgramErrorOutput,TestID,Score"
    )
    time = "2024-09-02T12:00:00"
    found = csv(
        header,
        f"Run.Program,1,ann,{time},Error,,,,,,,,,main.py,err.txt,,",
        f"Run.Program,2,ann,{time},,,,,,,,,,,err.txt,,",
        f"Run.Test,3,ann,{time},TestFailed,,,,,,,,,,,test 4,0.5",
        f"Compile,4,ann,{time},,,Error,,,,,,,,,,",
        f"Compile.Error,5,ann,{time},,,,SyntaxError,bad input,,,,,a.py,,,",
        f"Intervention,6,ann,{time},Error,,,,,Feedback,syntax|x,look here,,,,,",
        f"File.Edit,7,ann,{time},,,,,,,,,Paste,a.py,,,",
        f"Submit,8,ann,{time},,,,,,,,,,,,,1.0",
    )
    assert [(e.event_type, e.category, e.label, e.message, e.file_path) for e in found.events] == [
        ("Run.Program", "Error", None, None, "main.py"),
        ("Run.Program", "ProgramErrorOutput", None, None, None),
        ("Run.Test", "TestFailed", "test 4", "0.5", None),
        ("Compile", "Error", None, None, None),
        ("Compile.Error", None, "SyntaxError", "bad input", "a.py"),
        ("Intervention", "Feedback", "syntax|x", "look here", None),
        ("File.Edit", "Paste", None, None, "a.py"),
        ("Submit", None, None, "1.0", None),
    ]


def test_the_servers_time_counts_and_the_clients_where_there_is_none(csv: Reader) -> None:
    found = csv(
        MAIN + ",ServerTimezone,ClientTimestamp,ClientTimezone,CourseID,AssignmentID",
        "Run,1,ann,x,0,2024-09-02T12:00:00,,2024-09-02T08:00:30,-0400,c,a",
        "Run,2,ann,x,0,2024-09-02T12:00:00,,2024-09-02T08:00:00,,c,a",
        "Run,3,ann,x,0,None,,2024-09-02T08:00:00,-0400,c,a",
        "Run,4,ann,x,0,2024-09-02T12:00:00,,some day,,c,a",
        "Run,5,ann,x,0,2024-09-02T12:00:00,,2024-09-02T08:00:00,240,c,a",
        "Run,6,ann,x,0,2024-09-02T14:00:00,+0200,None,,c,a",
    )
    assert {e.at for e in found.events} == {NOON}
    seconds = [e.client_at and (e.client_at - NOON).total_seconds() for e in found.events]
    assert seconds == [30, -14400, 0, None, None, None]
    assert found.notes == (
        "events without a server time, dated by the client's: 1",
        "client times that cannot be read, left out: 2",
        "events with client and server clocks more than an hour apart, dated by the server's: 1",
    )


def test_a_row_of_which_something_is_not_certain_is_rejected_with_the_reason(csv: Reader) -> None:
    rows = {
        ",1,ann,x,0,2024-09-02T12:00:00": "no EventType",
        "Run,,ann,x,0,2024-09-02T12:00:00": "no EventID",
        "Run,1, ,x,0,2024-09-02T12:00:00": "no SubjectID",
        "Run,1,UNKNOWN,x,0,2024-09-02T12:00:00": "SubjectID is UNKNOWN: nobody's event",
        "Run,1,ann,x,0,None": "no time: neither ServerTimestamp nor ClientTimestamp says when",
        "Run,1,ann,x,0,2024-13-02T12:00:00": "ServerTimestamp: '2024-13-02T12:00:00' is no ISO",
        f"Run,{'9' * 3000},ann,x,0,2024-09-02T12:00:00": "EventID is 3,000 bytes long",
        "Run,1,an\0n,x,0,2024-09-02T12:00:00": "the row contains a NUL byte",
        "Run,1,ann": "expected 6 columns, found 3",
    }
    found = csv(MAIN, *rows)
    assert found.events == []
    for (line, reason, raw), (row, expected), number in zip(
        found.rejects, rows.items(), range(2, 20), strict=False
    ):
        assert (line, raw) == (number, row)
        assert reason.startswith(expected)
    assert len(found.rejects) == len(rows)


def test_a_bad_zone_of_the_server_rejects_the_row(csv: Reader) -> None:
    found = csv(MAIN + ",ServerTimezone", "Run,1,ann,x,0,2024-09-02T12:00:00,0500")
    assert found.events == []
    assert "ServerTimestamp: '0500' is no time zone" in found.rejects[0][1]


@pytest.mark.parametrize(
    ("metadata", "place"),
    [
        (None, 7),
        ("Property,Value\nVersion,6\nIsEventOrderingConsistent,false\n", None),
        ("Property,Value\nVersion,8\nEventOrderScope,None\n", None),
        ("Property,Value\nVersion,1.0\nEventOrderScope,Global\n", 7),
        ("Property,Value\nVersion,5\nEventOrderingScope,Restricted\n", 7),
    ],
)
def test_the_order_is_heeded_where_the_metadata_give_it_a_meaning(
    csv: Reader, metadata: str | None, place: int | None
) -> None:
    found = csv(
        MAIN + ",Order,CourseID,AssignmentID",
        "Run,1,ann,x,0,2024-09-02T12:00:00,7.0,c,a",
        metadata=metadata,
    )
    assert [e.place for e in found.events] == [place]
    assert found.notes == ()


def test_an_order_that_is_no_number_is_left_out_and_counted(csv: Reader) -> None:
    found = csv(
        MAIN + ",Order,CourseID,AssignmentID",
        "Run,1,ann,x,0,2024-09-02T12:00:00,first,c,a",
        "Run,2,ann,x,0,2024-09-02T12:00:00,,c,a",
    )
    assert [e.place for e in found.events] == [None, None]
    assert found.notes == ("values of Order that are no integers, left out: 1",)


def test_an_unknown_version_and_a_malformed_line_of_the_metadata_are_reported(csv: Reader) -> None:
    found = csv(MAIN, metadata="Property,Value\nVersion,9.1\nDescription,one, two\n")
    assert found.notes == (
        "DatasetMetadata.csv line 3 was passed over: expected 2 columns, found 3",
        "DatasetMetadata.csv says version '9.1'; known are 1 to 8, and it was read like those",
    )


def test_metadata_with_other_columns_are_refused(csv: Reader) -> None:
    with pytest.raises(LoadError, match="has no column Property and no column Value"):
        csv(MAIN, metadata="Name,Content\nVersion,8\n")


def test_rows_that_stand_after_a_later_one_of_their_submission_are_counted(csv: Reader) -> None:
    found = csv(
        MAIN + ",CourseID,AssignmentID",
        "Run,1,ann,x,0,2024-09-02T12:00:00,c,a",
        "Run,2,bob,x,0,2024-09-02T11:00:00,c,a",
        "Run,3,ann,x,0,2024-09-02T11:00:00,c,a",
        "Run,4,ann,x,0,2024-09-02T11:30:00,c,a",
    )
    assert found.notes == (
        "events below a later one of the same submission, put in order by time: 2",
    )


def test_a_folder_is_read_by_its_main_table_which_may_be_compressed(tmp_path: Path) -> None:
    rows = f"{MAIN}\nRun,1,ann,x,0,2024-09-02T12:00:00\n"
    (tmp_path / "MainTable.csv.gz").write_bytes(gzip.compress(rows.encode()))
    (tmp_path / "LinkTables").mkdir()
    assert [e.subject for e in read(tmp_path).events] == ["ann"]


def test_a_snapshot_is_a_run_an_error_of_the_compiler_both_or_only_a_snapshot(csv: Reader) -> None:
    time = "2024-09-02T12:00:00.000Z"
    found = csv(
        SNAPSHOTS,
        f"hw1,a,{time},0,0,0,5",
        f"hw1,b,{time},0,0,2,5",
        f"hw1,c,{time},0,3,0,5",
        f"hw1,d,{time},0,3,2,5",
        f"hw1,e,{time},1,0,0,0",
        f"hw1,f,{time},1,0,2,5",
        f"hw1,g,{time},,,,",
        f"hw1,h,{time},0,0,0,0",
        f"hw1,i,{time},None,,,1.0",
    )
    assert [(e.subject, e.event_type, e.category, e.label) for e in found.events] == [
        ("a", "Run.Program", "Success", None),
        ("b", "Run.Program", "TestFailed", None),
        ("c", "Run.Program", "Error", None),
        ("d", "Run.Program", "Error", "TestFailed"),
        ("e", "Compile.Error", None, None),
        ("f", "Compile.Error", None, None),
        ("f", "Run.Program", "TestFailed", None),
        ("g", "X-Snapshot", None, None),
        ("h", "Run.Program", "Success", None),
        ("i", "Run.Program", "Success", None),
    ]
    assert found.events[3].message == "r_error 3, t_failed 2, t_success 5"
    assert {(e.course, e.assignment, e.at) for e in found.events} == {("SERI-CS", "hw1", NOON)}
    assert len({e.event_id for e in found.events}) == 10


def test_an_error_of_the_compiler_is_numbered_in_its_snapshot_whatever_the_order_of_rows(
    csv: Reader,
) -> None:
    time = "2024-09-02T12:00:00.000Z"
    rows = [
        f'hw1,a,{time},B.java,10,"no symbol\nx"',
        f"hw1,a,{time},B.java,9,;",
        f"hw1,b,{time},B.java,10,;",
        f"hw1,a,{time},A.java,,;",
    ]
    found = csv(ERRORS, *rows)
    assert [(e.subject, e.file_path, e.label, e.message) for e in found.events] == [
        ("a", "A.java", None, ";"),
        ("a", "B.java", "line 9", ";"),
        ("a", "B.java", "line 10", "no symbol\nx"),
        ("b", "B.java", "line 10", ";"),
    ]
    by_id = {e.event_id: e.message for e in found.events}
    again = csv(ERRORS, *reversed(rows))
    assert {e.event_id: e.message for e in again.events} == by_id
    # The first one is that of the snapshot itself.
    snapshot = csv(SNAPSHOTS, f"hw1,a,{time},1,0,0,0")
    assert snapshot.events[0].event_id == found.events[0].event_id


def test_snapshots_without_a_time_or_with_a_malformed_number_are_reported(csv: Reader) -> None:
    found = csv(
        SNAPSHOTS + ",datetime_raw",
        "hw1,a,None,0,0,0,1,2024-09-02 12:00:00",
        "hw1,b,None,0,0,0,1,",
        "hw1,c,today,0,0,0,1,",
        "hw1,,2024-09-02T12:00:00Z,0,0,0,1,",
        "hw1,e,2024-09-02T12:00:00Z,-1,0,0,1,",
    )
    assert [(e.subject, e.at) for e in found.events] == [("a", NOON)]
    assert found.notes == ("snapshots without a time of their own, dated by datetime_raw: 1",)
    assert [reason.partition(" is no ISO")[0] for _, reason, _ in found.rejects] == [
        "no time: snapshot does not say when",
        "snapshot: 'today'",
        "no student",
        "c_error: expected a number, found '-1'",
    ]


def test_what_is_no_input_is_refused_in_one_sentence(tmp_path: Path) -> None:
    def refusal(path: Path) -> str:
        with pytest.raises(LoadError) as raised:
            read(path)
        return str(raised.value)

    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    (tmp_path / "notes.txt").write_text("a,b\n1,2\n")
    (tmp_path / "empty.csv").write_text("")
    assert "has no MainTable.csv (or MainTable.csv.gz)" in refusal(tmp_path)
    assert "is no table of events: expected the columns EventType" in refusal(
        tmp_path / "other.csv"
    )
    assert "ends with .csv or .csv.gz" in refusal(tmp_path / "notes.txt")
    assert "there is no such file" in refusal(tmp_path / "missing.csv")
    assert "is empty" in refusal(tmp_path / "empty.csv")
