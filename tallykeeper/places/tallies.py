"""Declared tallies as they are at a place: the same SELECT over what its tables are called there.

At a place a tally is an ordinary one, of an ordinary system, so that everything that keeps, proves
and watches tallies works on it as it is. Invariant: its SELECT is the declared one, word for word
but for the names of tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import MetaData

from tallykeeper.declarations.tally import Tally
from tallykeeper.errors import DeclarationError
from tallykeeper.places.place import Place
from tallykeeper.places.renaming import renamed
from tallykeeper.select.tally import SelectTally
from tallykeeper.settings import schema_of
from tallykeeper.system import System


@dataclass(frozen=True)
class Kept:
    """A declared tally, a place, and the tally there with the system that it belongs to there."""

    declared: Tally
    place: Place
    tally: SelectTally
    system: System

    def __str__(self) -> str:
        return f"{self.declared.name} at {self.place.name}"


def tally_at(tally: Tally, place: Place) -> SelectTally:
    """The tally as it is at the place. Raises DeclarationError where it cannot be kept there."""
    if not isinstance(tally, SelectTally):
        raise DeclarationError(
            f"{tally.name} is not declared by a SELECT alone, and cannot be kept at places"
        )
    schema, table = place.table(tally.table.schema or "public", tally.table.name)
    try:
        text = renamed(tally.text, place.tables)
    except DeclarationError as error:
        raise DeclarationError(f"{tally.name}: {error}") from error
    return tally.over(text, schema, table)


def kept_at(tallies: Sequence[Tally], places: Sequence[Place]) -> list[Kept]:
    """Each of the tallies at each of the places, place by place.

    Tallies of a system at places in one database belong together there: a table that several of
    them read is captured once. Raises DeclarationError.
    """
    found: list[Kept] = []
    for name in dict.fromkeys(tally.system for tally in tallies):
        of_system = [tally for tally in tallies if tally.system == name]
        for url in dict.fromkeys(place.url for place in places):
            there = [place for place in places if place.url == url]
            made = [(t, place, tally_at(t, place)) for place in there for t in of_system]
            system = System(name, MetaData(schema=schema_of(name)), [tally for *_, tally in made])
            found += [Kept(*each, system) for each in made]
    order = {place.name: number for number, place in enumerate(places)}
    return sorted(found, key=lambda kept: order[kept.place.name])
