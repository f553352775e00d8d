"""Events of a ProgSnap2 main table: the standard format of programming process data.

Source of the columns' meaning: the ProgSnap2 specification, whose versions so far differ for our
purpose in one column's name (`Compile.Result`, later `CompileResult`). Of a dataset the main table
and the metadata are read, and of its link tables those that say which roles subjects have; code
states are not, for nothing here counts code. Invariants: an event goes to the log under
its own type, and an event of which it is not certain when, or whose it is, is a ValueError with the
reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from assets.classroom.counting import events
from assets.classroom.input.fields import APART, UNKNOWN, Event, Notes, given, moment
from tallykeeper.input.csv_input import CsvFile
from tallykeeper.input.loading import LoadError, Reject, Table, indexed_text_fault, text_fault

METADATA = "DatasetMetadata.csv"
LINK_TABLES = "LinkTables"
ROLES = ["SubjectID", "X-Roles"]
"""What a link table has that says which roles subjects have, separated by commas. The standard
leaves the columns of link tables to the dataset; these are BlockPy's."""

REQUIRED = ["EventType", "EventID", "SubjectID"]
NOT_NEEDED = ["ToolInstances", "CodeStateID"]
"""Required by the standard; nothing here is made of them."""

OPTIONAL = [
    "ServerTimestamp",
    "ServerTimezone",
    "ClientTimestamp",
    "ClientTimezone",
    "Order",
    "CourseID",
    "TermID",
    "AssignmentID",
    "ProblemID",
    "CodeStateSection",
    "EditType",
    "CompileResult",
    "Compile.Result",
    "CompileMessageType",
    "CompileMessageData",
    "ExecutionResult",
    "ProgramErrorOutput",
    "TestID",
    "Score",
    "InterventionCategory",
    "InterventionType",
    "InterventionMessage",
]

KNOWN_VERSIONS = range(1, 9)
"""Drafts are numbered up to 8; 1.0 is the latest."""

NOBODY = "UNKNOWN"
"""The standard's SubjectID of an event of which it is not known whose it is."""

# Where category, label and message of a row of the log come from: the first that says something.
_OF_FEEDBACK = {"category": ["InterventionCategory"], "label": ["InterventionType"]}
_OF_OTHERS = {
    "category": [
        "ExecutionResult",
        "CompileResult",
        "Compile.Result",
        "InterventionCategory",
        "EditType",
    ],
    "label": ["CompileMessageType", "InterventionType", "TestID"],
}
_INTEGER = re.compile(r"([+-]?[0-9]{1,18})(?:\.0*)?")
_MESSAGE = ["CompileMessageData", "InterventionMessage", "Score"]


@dataclass(frozen=True)
class Metadata:
    """What the metadata of a dataset say, or that there are none."""

    properties: dict[str, str] = field(default_factory=dict)
    there: bool = False

    @property
    def orders(self) -> bool:
        """Whether the column Order tells which of several events of one instant came first.

        The standard's default is that it does not; without any metadata there is no better guide.
        """
        scope = self.properties.get("EventOrderScope", self.properties.get("EventOrderingScope"))
        return not self.there or (scope or "None").strip().lower() != "none"


def read_metadata(folder: Path, notes: Notes) -> Metadata:
    """The metadata that stand beside a main table, which may be missing.

    Raises LoadError where they have other columns than Property and Value.
    """
    path = folder / METADATA
    if not path.exists():
        return Metadata()

    with CsvFile(path) as file:
        name, value = (place or 0 for place in file.columns(["Property", "Value"], []))
        passed_over = _passed_over(METADATA, notes)
        found = {fields[name].strip(): fields[value] for _, fields, _ in file.rows(passed_over)}
    version = found.get("Version", "1.0").strip()
    major = version.partition(".")[0]
    if not (major.isascii() and major.isdigit() and int(major) in KNOWN_VERSIONS):
        notes.say(
            f"{METADATA} says version {version!r}; known are {KNOWN_VERSIONS[0]} to"
            f" {KNOWN_VERSIONS[-1]}, and it was read like those"
        )
    return Metadata(found, there=True)


def read_roles(folder: Path, notes: Notes) -> Iterator[tuple[str, str]]:
    """Subjects and their roles, as the link tables beside a main table say."""
    for path in sorted((folder / LINK_TABLES).glob("*.csv")):
        with CsvFile(path) as file:
            if not set(ROLES) <= set(file.header):
                continue
            subject, roles = (place or 0 for place in file.columns(ROLES, []))
            passed_over = _passed_over(f"{LINK_TABLES}/{path.name}", notes)
            for line, fields, raw in file.rows(passed_over):
                fault = text_fault(raw)
                if fault is not None:
                    passed_over(line, f"the row {fault}", raw)
                    continue
                named = filter(None, map(str.strip, fields[roles].split(",")))
                yield from ((fields[subject].strip(), role) for role in named)


def _passed_over(what: str, notes: Notes) -> Reject:
    def say(line: int, reason: str, _row: str) -> None:
        notes.say(f"{what} line {line} was passed over: {reason}")

    return say


def read_main_table(
    file: Table, metadata: Metadata, reject: Reject, notes: Notes
) -> Iterator[Event]:
    """The events of a main table; rows of which something is not certain go to `reject`.

    Raises LoadError where a column is missing without which nothing can be loaded.
    """
    places = file.columns(REQUIRED, OPTIONAL)
    here = {
        name: place
        for name, place in zip(REQUIRED + OPTIONAL, places, strict=True)
        if place is not None
    }
    if not {"ServerTimestamp", "ClientTimestamp"} & here.keys():
        raise LoadError(
            f"{file.path} has neither a column ServerTimestamp nor ClientTimestamp, and events"
            " without a time cannot be counted; add one of them (ISO 8601)."
        )
    lacking = [name for name in NOT_NEEDED if name not in file.header]
    if lacking:
        notes.say(f"no column {' and no column '.join(lacking)}: required by the standard, unused")
    for line, cells, raw in file.rows(reject):
        values = dict.fromkeys(OPTIONAL, "")
        values.update((name, cells[place]) for name, place in here.items())
        try:
            fault = text_fault(raw)
            if fault is not None:
                raise ValueError(f"the row {fault}")
            event = _event(line, values, metadata, notes)
        except ValueError as error:
            reject(line, str(error), raw)
            continue
        yield event


def _event(line: int, values: dict[str, str], metadata: Metadata, notes: Notes) -> Event:
    event_type, event_id, subject = (_required(name, values) for name in REQUIRED)
    if subject == NOBODY:
        raise ValueError(f"SubjectID is {NOBODY}: nobody's event")
    fault = indexed_text_fault(event_id)
    if fault is not None:
        raise ValueError(f"EventID {fault}")
    ours = _OF_FEEDBACK if event_type in events.FEEDBACK else _OF_OTHERS
    category = _first(values, ours["category"])
    if category is None and event_type in events.RUNS and values["ProgramErrorOutput"].strip():
        category = "ProgramErrorOutput"
    at, client_at = _times(values, notes)
    course, group, assignment = _where(values, notes)
    return Event(
        line=line,
        course=course,
        group=group,
        assignment=assignment,
        subject=subject,
        event_id=event_id,
        event_type=event_type,
        at=at,
        category=category,
        label=_first(values, ours["label"]),
        message=_first(values, _MESSAGE),
        file_path=_first(values, ["CodeStateSection"]),
        client_at=client_at,
        place=_place(values["Order"], notes) if metadata.orders else None,
    )


def _required(name: str, values: dict[str, str]) -> str:
    value = values[name].strip()
    if not value:
        raise ValueError(f"no {name}")
    return value


def _times(values: dict[str, str], notes: Notes) -> tuple[datetime, datetime | None]:
    """The server's time, or where it says none the client's; and the client's."""
    at = _time(values, "Server")
    client_at = None
    try:
        client_at = _time(values, "Client")
    except ValueError:
        if at is None:
            raise
        notes.count("bad client time")
    if at is None:
        if client_at is None:
            raise ValueError("no time: neither ServerTimestamp nor ClientTimestamp says when")
        notes.count("no server time")
        return client_at, client_at
    if client_at is not None and abs(client_at - at) > APART:
        notes.count("apart")
    return at, client_at


def _time(values: dict[str, str], clock: str) -> datetime | None:
    text = values[f"{clock}Timestamp"]
    if not given(text):
        return None
    try:
        return moment(text, values[f"{clock}Timezone"])
    except ValueError as error:
        raise ValueError(f"{clock}Timestamp: {error}") from error


def _where(values: dict[str, str], notes: Notes) -> tuple[str, str | None, str]:
    """The names of the course, of the group of assignments if there is one, and the assignment.

    A problem is what a subject works on; an assignment of several problems is a group of them.
    """
    course = values["CourseID"].strip()
    term = values["TermID"].strip()
    if not course:
        notes.count("no course")
        course = UNKNOWN
    if term:
        course = f"{course} ({term})"
    assignment, problem = values["AssignmentID"].strip(), values["ProblemID"].strip()
    if assignment and problem:
        return course, assignment, f"{assignment} / {problem}"
    if not assignment and not problem:
        notes.count("no assignment")
    return course, None, assignment or problem or UNKNOWN


def _first(values: dict[str, str], names: list[str]) -> str | None:
    """The first of these columns that says something."""
    return next((values[name] for name in names if values[name].strip()), None)


def _place(text: str, notes: Notes) -> int | None:
    if not given(text):
        return None
    found = _INTEGER.fullmatch(text.strip())
    if found is None:
        notes.count("bad order")
        return None
    return int(found[1])
