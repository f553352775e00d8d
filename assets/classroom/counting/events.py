"""What the events of the log mean: the one place that names them, and the conditions made of it.

Names of events are compared as they stand, capital letters and all. How often what happened, and
how long it took, is counted in `tallies.py`; a name that stands nowhere here is an event like any
other: it ends a gap and begins the next. Invariants: a condition looks at one row of the
log alone, and is never null.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, false, func, or_

RUNS = ("Run", "X-run", "Run.Program", "run")
"""The program was run. `Run.Program` is ProgSnap2's."""

EDITS = ("File.Edit", "edit")
"""A file was changed. `File.Edit` is ProgSnap2's."""

ATTEMPTS = ("Submit", "X-submit", "X-Submission.LMS", "submit")
"""Work was handed in, to be judged. `Submit` is ProgSnap2's."""

FEEDBACK = ("feedback", "Intervention")
"""The learner was shown something: of what kind is in the category or the label. `Intervention` is
ProgSnap2's."""

STUDENTS = ("student", "learner")
"""Roles of those who learn, whatever their capital letters."""

INSTRUCTORS = ("instructor",)
"""Roles of those who teach, whatever their capital letters."""


@dataclass(frozen=True)
class Kind:
    """A kind of error, and which rows of the log are one.

    A row is one of the kind, once, where it is

    - an event of one of the names in `events`; or
    - feedback whose category or label has one of `words` in it; or
    - a run whose category or label is one of `results`.

    Categories and labels are compared without regard to capital letters (of A to Z). A row that is
    of several kinds counts for each.
    """

    words: tuple[str, ...]
    results: tuple[str, ...] = ()
    events: tuple[str, ...] = ()


ERRORS = {
    "syntax_errors": Kind(words=("syntax",), events=("Compile.Error",)),
    "runtime_errors": Kind(
        words=("runtime",),
        # ProgSnap2's ExecutionResult, and the category of a run that printed an error.
        results=("Error", "Timeout", "ProgramErrorOutput"),
    ),
    "failed_instructor_tests": Kind(words=("instructor", "test"), results=("TestFailed",)),
}
"""The kinds of errors, by the column that counts them."""

_COUNTED = frozenset(
    (*RUNS, *EDITS, *ATTEMPTS, *FEEDBACK, *(name for k in ERRORS.values() for name in k.events))
)


def is_run(event: Any) -> ColumnElement[bool]:
    """Whether a row of the log says that the program was run."""
    return _named(event, RUNS)


def is_edit(event: Any) -> ColumnElement[bool]:
    """Whether a row of the log says that a file was changed."""
    return _named(event, EDITS)


def is_attempt(event: Any) -> ColumnElement[bool]:
    """Whether a row of the log says that work was handed in."""
    return _named(event, ATTEMPTS)


def is_error(event: Any, kind: Kind) -> ColumnElement[bool]:
    """Whether a row of the log is an error of that kind."""
    said = [_plain(event.category), _plain(event.label)]
    found = or_(*(func.strpos(text, word) > 0 for text in said for word in kind.words))
    conditions = [_named(event, kind.events), and_(_named(event, FEEDBACK), found)]
    if kind.results:
        results = [result.lower() for result in kind.results]
        conditions.append(and_(_named(event, RUNS), or_(*(text.in_(results) for text in said))))
    return or_(*conditions)


def happened(event: Any) -> dict[str, ColumnElement[bool]]:
    """What a row of the log may be, by the column that counts it; it may be several things."""
    return {
        "runs": is_run(event),
        "edits": is_edit(event),
        "attempts": is_attempt(event),
        **{name: is_error(event, kind) for name, kind in ERRORS.items()},
    }


def counts(event_type: str) -> bool:
    """Whether an event of this name may be counted as something; any event ends a gap."""
    return event_type in _COUNTED


def is_student(role: Any) -> ColumnElement[bool]:
    """Whether a role is that of a student or learner."""
    return _plain(role.name).in_(STUDENTS)


def is_instructor(role: Any) -> ColumnElement[bool]:
    """Whether a role is that of an instructor."""
    return _plain(role.name).in_(INSTRUCTORS)


def _named(event: Any, names: tuple[str, ...]) -> ColumnElement[bool]:
    return func.coalesce(event.event_type, "").in_(names) if names else false()


def _plain(text: ColumnElement[Any]) -> ColumnElement[Any]:
    """The text in small letters, none for null; by bytes, whatever the database's collation."""
    return func.lower(func.coalesce(text, "").collate("C"))
