"""Events made of the CSVs of snapshots and of compiler errors that the SERI-CS group published.

A *snapshot* is a state of a student's work on a homework, with what came out when it was compiled
and tested. It has no id, and its rows become these events:

- tests ran (one of `r_error`, `t_failed`, `t_success` is above zero), or it compiled: a
  `Run.Program`. Its category is `Error` where tests ended in a runtime error, else `TestFailed`
  where tests failed, else `Success`; where both happened, the label is `TestFailed`.
- it did not compile, or not all of it (`c_error` is not zero): a `Compile.Error`.
- nothing is known of what came out: an `X-Snapshot`, which counts as an event, but as nothing else.

A *compiler error* is a `Compile.Error` with the compiler's message. The first one of a snapshot is
that which the snapshot itself has: the two files tell of it together, whichever comes first.

Invariants: an event is known by homework, student, time, what it is and, of errors, its
number in the order of file, line and message. So it does not matter in which order rows stand.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime

from assets.classroom.input.fields import Event, Notes, given, moment
from tallykeeper.input.loading import Reject, Table, indexed_text_fault, text_fault

COURSE = "SERI-CS"
"""The course that the homeworks are put into; the files name none."""

SNAPSHOTS = ["homework", "student", "snapshot", "c_error"]
RESULTS = ["r_error", "t_failed", "t_success"]
ERRORS = ["homework", "student", "snapshot", "error"]

_NUMBER = re.compile(r"([0-9]{1,9})(?:\.0*)?")

Snapshot = tuple[str, str, datetime]
"""Homework, student and time."""


def read_snapshots(file: Table, reject: Reject, notes: Notes) -> Iterator[Event]:
    """The events of a file of snapshots; malformed rows go to `reject`."""
    places = file.columns(SNAPSHOTS, ["datetime_raw", *RESULTS])
    for line, cells, raw in file.rows(reject):
        values = ["" if place is None else cells[place] for place in places]
        try:
            snapshot = _snapshot(values[:3], raw, values[4], notes)
            compiled = _number("c_error", values[3])
            results = [_number(n, v) for n, v in zip(RESULTS, values[5:], strict=True)]
        except ValueError as error:
            reject(line, str(error), raw)
            continue
        yield from _of_snapshot(line, snapshot, compiled, results)


def read_errors(file: Table, reject: Reject, notes: Notes) -> Iterator[Event]:
    """The events of a file of compiler errors; malformed rows go to `reject`.

    The file is read whole before the first event: which error of a snapshot is which is known only
    when all of them are.
    """
    places = file.columns(ERRORS, ["file", "line", "datetime_raw"])
    found: dict[Snapshot, list[tuple[str, int, str, int]]] = defaultdict(list)
    for line, cells, raw in file.rows(reject):
        values = ["" if place is None else cells[place] for place in places]
        try:
            snapshot = _snapshot(values[:3], raw, values[6], notes)
            at_line = _number("line", values[5])
        except ValueError as error:
            reject(line, str(error), raw)
            continue
        found[snapshot].append((values[4].strip(), at_line or 0, values[3], line))
    for snapshot, errors in found.items():
        for number, (path, at_line, message, line) in enumerate(sorted(errors), start=1):
            yield _event(
                line,
                snapshot,
                f"error {number}",
                "Compile.Error",
                label=f"line {at_line}" if at_line else None,
                message=message if message.strip() else None,
                file_path=path or None,
            )


def _of_snapshot(
    line: int, snapshot: Snapshot, compiled: int | None, results: Sequence[int | None]
) -> Iterator[Event]:
    runtime, failed, passed = (result or 0 for result in results)
    if compiled:
        yield _event(line, snapshot, "error 1", "Compile.Error")
    if compiled == 0 or runtime or failed or passed:
        yield _event(
            line,
            snapshot,
            "run",
            "Run.Program",
            category="Error" if runtime else "TestFailed" if failed else "Success",
            label="TestFailed" if runtime and failed else None,
            message=f"r_error {runtime}, t_failed {failed}, t_success {passed}",
        )
    elif compiled is None:
        yield _event(line, snapshot, "snapshot", "X-Snapshot")


def _event(
    line: int,
    snapshot: Snapshot,
    what: str,
    event_type: str,
    *,
    category: str | None = None,
    label: str | None = None,
    message: str | None = None,
    file_path: str | None = None,
) -> Event:
    homework, student, at = snapshot
    return Event(
        line=line,
        course=COURSE,
        group=None,
        assignment=homework,
        subject=student,
        event_id=f"{homework} {student} {at.isoformat()} {what}",
        event_type=event_type,
        at=at,
        category=category,
        label=label,
        message=message,
        file_path=file_path,
    )


def _snapshot(names: Sequence[str], raw: str, second_time: str, notes: Notes) -> Snapshot:
    """Which snapshot a row is of. Raises ValueError where that is not certain."""
    fault = text_fault(raw)
    if fault is not None:
        raise ValueError(f"the row {fault}")
    homework, student, time = (name.strip() for name in names)
    for what, name in (("homework", homework), ("student", student)):
        if not name:
            raise ValueError(f"no {what}")
        fault = indexed_text_fault(2 * name)
        if fault is not None:
            raise ValueError(f"{what} {fault}")
    if given(time):
        return homework, student, _moment("snapshot", time)
    if not given(second_time):
        raise ValueError("no time: snapshot does not say when")
    at = _moment("datetime_raw", second_time)
    notes.count("no snapshot time")
    return homework, student, at


def _moment(what: str, text: str) -> datetime:
    try:
        return moment(text)
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from error


def _number(what: str, text: str) -> int | None:
    """A count, zero or more; None where there is none."""
    if not given(text):
        return None
    found = _NUMBER.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{what}: expected a number, found {text[:40]!r}")
    return int(found[1])
