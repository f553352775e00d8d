"""How a tally too big for one transaction is cut into batches: lanes, and positions along them.

A lane is one source of the tally; batches go along an integer position of its rows. How far a batch
goes, and what is computed of it, is in `strategies/batches.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Table, literal
from sqlalchemy.sql.elements import ColumnElement

from tallykeeper.database import sql
from tallykeeper.declarations.validation import nearest
from tallykeeper.errors import DeclarationError

Row = Any


def _one(_row: Row) -> ColumnElement[int]:
    return literal(1)


@dataclass(frozen=True)
class Lane:
    """One source of a tally that is built in batches.

    `position` is an integer column with an index and without nulls, along which batches go;
    `weight` is how many rows one row of the source about makes, by default one. How long a batch
    takes is measured, so it need not be exact.
    """

    source: Table
    position: Callable[[Row], ColumnElement[int]]
    weight: Callable[[Row], ColumnElement[int]] = _one


@dataclass(frozen=True)
class Batches:
    """How a tally too big for one transaction is built: lane by lane, along positions.

    `lane` and `along` are group columns: the value of the one chooses the lane, the other is the
    position of the row that a row is made of. A row is made of one row of its lane. Without `lane`
    there is one lane, which all rows are in.
    """

    along: str
    lanes: Mapping[str, Lane]
    lane: str | None = None

    @property
    def group(self) -> tuple[str, ...]:
        """The columns that say which row of a lane a row is made of."""
        return (self.along,) if self.lane is None else (self.along, self.lane)

    def strays(self, alias: str) -> str:
        """A condition for rows of the derived table that lie in no lane."""
        if self.lane is None:
            return "false"
        names = ", ".join(sql.literal(name) for name in self.lanes)
        return f"{alias}.{sql.quote(self.lane)} NOT IN ({names})"

    def over(self, sources: Sequence[Table]) -> Batches:
        """The same whose lanes have these sources, where they are tables of the same names."""
        known = {sql.name_of(source): source for source in sources}
        lanes = {
            name: replace(lane, source=known.get(sql.name_of(lane.source), lane.source))
            for name, lane in self.lanes.items()
        }
        return replace(self, lanes=lanes)

    def require_fit(self, tally: str, group: Sequence[str], sources: Sequence[Table]) -> None:
        """Raise DeclarationError where a tally with this group and these sources has not them."""
        for name in self.group:
            if name not in group:
                raise DeclarationError(
                    f"{tally}: batches go by {name!r}, which must be one of the group's columns"
                    f" {tuple(group)}{nearest(name, group)}"
                )
        unread = [n for n, lane in self.lanes.items() if lane.source not in sources]
        if unread or not self.lanes:
            raise DeclarationError(
                f"{tally}: each lane of its batches must be one of its sources; of"
                f" {tuple(self.lanes)} these are not: {tuple(unread)}"
            )
        if self.lane is None and len(self.lanes) > 1:
            raise DeclarationError(
                f"{tally}: of {len(self.lanes)} lanes of its batches, a column of the group must"
                " say which one a row is in; name it by `lane`"
            )
