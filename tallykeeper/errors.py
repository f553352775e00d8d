"""What can go wrong in the engine, each error with a sentence that says what to do about it."""

from __future__ import annotations

from pathlib import Path


class TallyError(Exception):
    """Any failure that the engine itself reports."""


class DeclarationError(TallyError):
    """A tally is declared in a way that cannot be kept exactly."""


class BadFile(DeclarationError):
    """A file that declares a tally is malformed: says where, what was expected, what to do."""

    def __init__(
        self, path: Path, line: int, column: int, expected: str, found: str, todo: str
    ) -> None:
        end = "" if todo.endswith("?") else "."
        super().__init__(f"{path}:{line}:{column}: expected {expected}, found {found}; {todo}{end}")
        self.path, self.line, self.column = path, line, column


class NotInstalled(TallyError):
    """The tally's derived table, change log or state is not in this database."""


class DoesNotFit(TallyError):
    """A table that exists already is not what the declaration needs; says each column."""


class HasDependents(TallyError):
    """Something of others depends on what would have to be dropped; says how to go on."""


class NotPermitted(TallyError):
    """The role that connects lacks a right that installing needs."""


class TallyBusy(TallyError):
    """Another refresh, rebuild or migration held the tally for longer than we wait."""


class BadWindow(TallyError):
    """Bounds that begin no window of the tally, or an end before the start."""


class BadLane(TallyError):
    """A backfill of lanes that the tally does not have, or of a tally that has none."""


class CannotPrune(TallyError):
    """Rows of a source cannot be deleted so that what they count stays; says why."""
