"""The published snapshots of a programming course, as events: every figure against pandas.

A snapshot is made into a `Submit` where all tests passed, else into a `File.Edit`. At the same
instant there follows a `Compile.Error` for each error that the compiler named, or a `Run.Program`
whose category says what came out and whose label says whether tests failed. Figures are computed
anew from these events with pandas and whole numbers; nothing of the engine's is used for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd
import psycopg
import pytest
from sqlalchemy import Engine

from assets.classroom import reads
from assets.classroom.tallies import system
from tallykeeper import refresh, verify
from tallykeeper.database.connections import open_engine
from tests.integration.support import create, execute, rows
from tests.real.data import real_file
from tests.servers import VERSIONS, Servers

pytestmark = [pytest.mark.real, pytest.mark.slow]

IDLE_MS = 300_000
COURSE = 1
EVENT_COLUMNS = ["id", "submission", "user", "type", "category", "label", "at"]


@dataclass(frozen=True)
class Course:
    """The course in a database, built when half of its events were there; and its events."""

    engine: Engine
    events: pd.DataFrame
    submissions: pd.DataFrame


@pytest.fixture(scope="module")
def course(postgres_servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Course]:
    """All events, in no order; half of them came before the tallies were built, half after."""
    folder = tmp_path_factory.mktemp("sericss")
    snapshots, errors = (
        pd.read_csv(real_file(name, folder), dtype=str, keep_default_na=False)
        for name in ("sericss_snapshot_events.csv.gz", "sericss_compiler_errors.csv.gz")
    )
    submissions = snapshots[["homework", "student"]].drop_duplicates().reset_index(drop=True)
    submissions["id"] = submissions.index + 1
    submissions["assignment"] = submissions.homework.astype("category").cat.codes + 1
    submissions["user"] = submissions.student.astype("category").cat.codes + 1
    events = _events(snapshots, errors, submissions)
    with postgres_servers.fresh_database(VERSIONS[0]) as url:
        engine = open_engine(url)
        create(engine, system)
        _fill(engine, submissions)
        shuffled = events.sample(frac=1, random_state=5)
        half = len(shuffled) // 2
        for part in (shuffled[:half], shuffled[half:]):
            _copy(engine, part)
            for tally in system.tallies:
                refresh(engine, tally)
        yield Course(engine, events, submissions)
        engine.dispose()


def _events(
    snapshots: pd.DataFrame, errors: pd.DataFrame, submissions: pd.DataFrame
) -> pd.DataFrame:
    """The events, numbered by time and by what comes first at one instant."""
    known = {(s.homework, s.student): (s.id, s.user) for s in submissions.itertuples()}
    said = errors.groupby(["homework", "student", "snapshot"]).size().to_dict()
    made: list[tuple[Any, ...]] = []
    for row in snapshots.itertuples():
        submission, user = known[row.homework, row.student]
        errors_said = said.get((row.homework, row.student, row.snapshot), 0)
        for place, what in enumerate(_what(row, errors_said)):
            made.append((row.snapshot, submission, place, user, *what))
    made.sort(key=lambda event: event[:3])
    return pd.DataFrame(
        [
            (number, submission, user, *what, at)
            for number, (at, submission, _, user, *what) in enumerate(made, 1)
        ],
        columns=EVENT_COLUMNS,
    )


def _what(row: Any, said: int) -> list[tuple[str, str | None, str | None]]:
    """What a snapshot is made into: type, category and label of each event."""
    failed, crashed = row.t_failed not in ("0", ""), row.r_error not in ("0", "")
    if row.c_error not in ("0", "") or said:
        return [("File.Edit", None, None), *[("Compile.Error", None, None)] * max(said, 1)]
    passed = row.t_success not in ("0", "") and not failed and not crashed
    result = "Error" if crashed else "Success"
    return [
        ("Submit" if passed else "File.Edit", None, None),
        ("Run.Program", result, "TestFailed" if failed else None),
    ]


def _fill(engine: Engine, submissions: pd.DataFrame) -> None:
    execute(
        engine,
        f"INSERT INTO classroom.courses (id) VALUES ({COURSE})",
        f"INSERT INTO classroom.users (id) SELECT generate_series(1, {submissions.user.max()})",
        "INSERT INTO classroom.assignments (id, course_id) SELECT generate_series(1,"
        f" {submissions.assignment.max()}), {COURSE}",
        "INSERT INTO classroom.roles (user_id, course_id, name) SELECT id, 1, 'student'"
        " FROM classroom.users",
    )
    with _copying(engine, "submissions (id, assignment_id, course_id, user_id)") as copy:
        for s in submissions.itertuples():
            copy.write_row((s.id, s.assignment, COURSE, s.user))


def _copy(engine: Engine, events: pd.DataFrame) -> None:
    columns = "id, submission_id, course_id, subject_id, event_type, category, label, date_created"
    with _copying(engine, f"submission_log ({columns})") as copy:
        for e in events.itertuples():
            copy.write_row((e.id, e.submission, COURSE, e.user, e.type, e.category, e.label, e.at))


class _copying:  # noqa: N801 -- used as a statement
    """COPY into a table of the classroom, committed at the end."""

    def __init__(self, engine: Engine, table: str) -> None:
        self.connection = engine.connect()
        driver = self.connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        self.cursor = driver.cursor()
        self.copy = self.cursor.copy(f"COPY classroom.{table} FROM STDIN")

    def __enter__(self) -> psycopg.Copy:
        return self.copy.__enter__()

    def __exit__(self, *raised: Any) -> None:
        self.copy.__exit__(*raised)
        self.cursor.connection.commit()
        self.connection.close()


def figures(events: pd.DataFrame, submissions: pd.DataFrame) -> dict[int, dict[str, Any]]:
    """Every submission's row, in whole numbers."""
    ordered = events.sort_values(["submission", "at", "id"])
    at = pd.to_datetime(ordered["at"], utc=True, format="ISO8601")
    ordered["ms"] = at.astype("int64").floordiv(_unit(at))
    ordered["gap"] = ordered.groupby("submission").ms.diff().astype("Int64")
    for name, event_type in (("since_edit", "File.Edit"), ("since_attempt", "Submit")):
        of_kind = ordered[ordered.type == event_type]
        ordered[name] = of_kind.groupby("submission").ms.diff().astype("Int64")
    is_run = ordered.type == "Run.Program"
    ordered["is_runtime"] = is_run & (ordered.category == "Error")
    ordered["is_failed"] = is_run & (ordered.label == "TestFailed")
    found: dict[Any, dict[str, Any]] = {
        submission: _figures(group) for submission, group in ordered.groupby("submission")
    }
    return {int(submission): found[submission] for submission in submissions.id}


def _unit(at: pd.Series[Any]) -> int:
    """How many of the units that pandas counts in are a millisecond."""
    return {"ns": 1_000_000, "us": 1_000, "ms": 1}[str(at.dt.unit)]


def _figures(group: pd.DataFrame) -> dict[str, Any]:
    known = group[group.gap.notna()]
    edits = sorted(int(gap) for gap in group.since_edit.dropna())
    attempts = [int(gap) for gap in group.since_attempt.dropna()]
    before_edits = known[known.type == "File.Edit"].gap
    before_attempts = known[known.type == "Submit"].gap
    types = group.type.value_counts()
    return {
        "runs": int(types.get("Run.Program", 0)),
        "edits": int(types.get("File.Edit", 0)),
        "attempts": int(types.get("Submit", 0)),
        "syntax_errors": int(types.get("Compile.Error", 0)),
        "runtime_errors": int(group.is_runtime.sum()),
        "failed_instructor_tests": int(group.is_failed.sum()),
        "edit_gaps": len(edits),
        "edit_ms": sum(edits),
        "edit_ms_squared": sum(gap * gap for gap in edits),
        "median_edit_ms": _percentile(edits, 1, 2),
        "p90_edit_ms": _percentile(edits, 9, 10),
        "attempt_gaps": len(attempts),
        "attempt_ms": sum(attempts),
        "time_spent_ms": int(known.gap.clip(upper=IDLE_MS).sum()),
        "before_edit_gaps": len(before_edits),
        "before_edit_ms": int(before_edits.sum()),
        "before_attempt_gaps": len(before_attempts),
        "before_attempt_ms": int(before_attempts.sum()),
    }


def _percentile(ordered: list[int], part: int, of: int) -> int:
    """The first of the ordered values that part/of of them do not exceed; 0 of none."""
    return ordered[-(-len(ordered) * part // of) - 1] if ordered else 0


def test_every_submission_has_the_figures_that_pandas_finds(course: Course) -> None:
    expected = figures(course.events, course.submissions)
    names = list(next(iter(expected.values())))
    stored = rows(
        course.engine, f"SELECT submission_id, {', '.join(names)} FROM classroom.submission_counts"
    )
    assert len(stored) == len(expected) == 1973
    found = {s: dict(zip(names, (int(v) for v in values), strict=True)) for s, *values in stored}
    assert [s for s in expected if found[s] != expected[s]] == []
    # The course is worth counting.
    assert all(any(f[name] for f in expected.values()) for name in names)


def test_every_submission_is_read_with_the_times_that_pandas_finds(course: Course) -> None:
    expected = figures(course.events, course.submissions)
    with course.engine.connect() as connection:
        found = reads.submission_counts(connection, list(expected))
    edits = course.events[course.events.type == "File.Edit"].sort_values(["submission", "at", "id"])
    at = pd.to_datetime(edits["at"], utc=True, format="ISO8601")
    gap: Any = at.groupby(edits.submission).diff()
    edits["gap"] = gap.dt.total_seconds()
    gaps = edits[edits.gap.notna()].groupby("submission").gap
    mean, deviation = gaps.mean().to_dict(), gaps.std().fillna(0).to_dict()
    for submission, figure in expected.items():
        row = found[submission]
        assert row["average_edit_time"] == pytest.approx(mean.get(submission, 0), rel=1e-9)
        assert row["edit_time_deviation"] == pytest.approx(
            deviation.get(submission, 0), rel=1e-6, abs=1e-6
        )
        assert row["median_edit_time"] == figure["median_edit_ms"] / 1000
        assert row["estimated_time_spent"] == figure["time_spent_ms"] / 1000


def test_users_assignments_and_days_add_up_to_what_pandas_finds(course: Course) -> None:
    expected = pd.DataFrame.from_dict(
        figures(course.events, course.submissions), orient="index"
    ).join(course.submissions.set_index("id"))
    by_user = expected.groupby("user").time_spent_ms.agg(["size", "sum"])
    assert rows(
        course.engine,
        "SELECT user_id, submissions, time_spent_ms FROM classroom.user_time_spent ORDER BY 1",
    ) == [tuple(map(int, row)) for row in by_user.itertuples()]
    by_assignment = course.submissions.groupby("assignment").size()
    assert rows(
        course.engine,
        "SELECT assignment_id, total_submissions FROM classroom.assignment_counts ORDER BY 1",
    ) == list(by_assignment.to_dict().items())
    days = (
        course.events.groupby([course.events["at"].str[:10], "type"]).size().unstack(fill_value=0)
    )
    assert rows(
        course.engine,
        "SELECT to_char(day AT TIME ZONE 'UTC', 'YYYY-MM-DD'), events, runs, edits, attempts,"
        " syntax_errors FROM classroom.submission_daily_activity ORDER BY day",
    ) == [
        (
            day,
            int(n.sum()),
            *(int(n[t]) for t in ("Run.Program", "File.Edit", "Submit", "Compile.Error")),
        )
        for day, n in days.iterrows()
    ]


def test_verify_agrees(course: Course) -> None:
    for tally in system.tallies:
        assert verify(course.engine, tally).ok
