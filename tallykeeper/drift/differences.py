"""A difference between the record and what is there now, and what may follow from it.

Which differences there are, and which consequence each has, is in `rules.py` and the modules that
it asks for each kind of object.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

Facts = Mapping[str, Any]

MOVED = "another database"
GRANTS = "function grants"
OWNER = "function owner"
# How the triggers are called that a derived table itself and its log have.
OF_HAND = ("tallykeeper_hand", "tallykeeper_log", "tallykeeper_pruned")
OWN = (*OF_HAND, "tallykeeper_cascade")
ROW_SECURITY = "row security"
# The role of a function that only notes what is done by hand.
HAND = "hand"


class Consequence(IntEnum):
    """What follows from a difference, the gravest last."""

    INFORMATION = 0
    """Nothing: it is written down by the next refresh or migration."""
    STALE = 1
    """Rows may have changed without any trigger; the next refresh rebuilds the tally."""
    REINSTALL = 2
    """What is installed is not what was; `tally migrate` puts it back."""
    REFUSE = 3
    """It cannot be kept exact as it is; `tally migrate` says so, until somebody changes it."""


@dataclass(frozen=True)
class Drift:
    """One difference between what a tally was installed on and what is there now.

    `kind` names it, `what` says it of the object `name`. `missed` says that changes may have been
    missed, so that the figures are not proven; `of_hand` that only a note of manual writes may be.
    `repairs` are statements that `tally migrate` runs. `objects` are the places in the record.
    """

    tally: str
    kind: str
    name: str
    what: str
    consequence: Consequence
    missed: bool = False
    of_hand: bool = False
    repairs: tuple[str, ...] = ()
    objects: tuple[tuple[str, str, str], ...] = ()

    def __str__(self) -> str:
        return f"{self.name}: {self.what}"

    @property
    def is_fault(self) -> bool:
        """Whether somebody has to know: anything but information."""
        return self.consequence > Consequence.INFORMATION


@dataclass(frozen=True)
class Found:
    """One object that differs, as the query found it, with what was found of the others."""

    tally: str
    role: str
    kind: str
    name: str
    part: str
    # Empty where it was not recorded, or is not there any more.
    was: Facts
    now: Facts
    was_identity: Facts
    now_identity: Facts
    filtered: Sequence[str]
    # What the relation that was recorded under this name is named now, or this one was before.
    elsewhere: str | None
    bytes: int | None
    # Whether it is a tally's derived table, be it this one's or another's that this one reads.
    is_derived: bool
    context: Context

    @property
    def place(self) -> tuple[str, str, str]:
        """Where the record has it."""
        return self.kind, self.name, self.part

    def changed(self, fact: str) -> bool:
        """Whether a fact of an object that was and is there differs."""
        return bool(self.was.get(fact) != self.now.get(fact))

    def replaced(self, fact: str) -> bool:
        """Whether a part of its identity differs, in a database where that means anything."""
        if self.context.is_elsewhere or fact not in self.was_identity:
            return False
        return bool(self.was_identity[fact] != self.now_identity.get(fact))

    @property
    def is_handed_over(self) -> bool:
        """Whether it changed hands to the owner of the engine's schema, as `tally roles` does."""
        return self.changed("owner") and self.now["owner"] == self.context.keeper

    @property
    def owner(self) -> str:
        """Whose it is to be where it belongs to another role."""
        return self.context.keeper if self.context.is_handed_over else str(self.was["owner"])

    def drift(self, kind: str, what: str, consequence: Consequence, **more: Any) -> Drift:
        return Drift(self.tally, kind, self.name, what, consequence, objects=(self.place,), **more)


@dataclass(frozen=True)
class Context:
    """What concerns all objects of a tally."""

    # Another database, server or major version than the one that was recorded: a restored dump.
    is_elsewhere: bool
    # Of a later major version, which may write definitions otherwise.
    is_upgraded: bool
    # Relations that came, or that differ in which files they are, and functions that were recorded.
    new: frozenset[str]
    lost: frozenset[str]
    rewritten: bool
    # The owner of the engine's schema, and so of what is installed, however it came to it.
    keeper: str
    # Functions were handed to that owner, so what they belonged to before is not to have them back.
    is_handed_over: bool
    # Its plan depends on unique keys of the sources, and on columns that are never null.
    has_plan: bool = False


def of_facts(each: Found, names: Sequence[str]) -> str:
    """Say of each fact what it is now, and what it was."""
    return ", ".join(
        "another text"
        if n == "text"
        else f"{n} {_spelled(each.now[n])}, not {_spelled(each.was[n])}"
        for n in names
    )


def _spelled(value: object) -> str:
    if isinstance(value, list):
        return " ".join(str(v) for v in value) or "none"
    return "none" if value is None else str(value)
