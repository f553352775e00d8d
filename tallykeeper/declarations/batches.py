"""How a tally too big for one transaction is cut into batches: lanes, and positions along them.

A lane is one source of the tally; batches go along an integer position of its rows. How far a batch
goes, and what is computed of it, is in `strategies/batches.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Table
from sqlalchemy.sql.elements import ColumnElement

from tallykeeper.database import sql

Row = Any


@dataclass(frozen=True)
class Lane:
    """One source of a tally that is built in batches.

    `position` is an integer column with an index and without nulls, along which batches go;
    `weight` is how many rows one row of the source about makes.
    """

    source: Table
    position: Callable[[Row], ColumnElement[int]]
    weight: Callable[[Row], ColumnElement[int]]


@dataclass(frozen=True)
class Batches:
    """How a tally too big for one transaction is built: lane by lane, along positions.

    `lane` and `along` are group columns: the value of the one chooses the lane, the other is the
    position of the row that a row is made of. A row is made of one row of its lane.
    """

    lane: str
    along: str
    lanes: Mapping[str, Lane]

    def strays(self, alias: str) -> str:
        """A condition for rows of the derived table that lie in no lane."""
        names = ", ".join(sql.literal(name) for name in self.lanes)
        return f"{alias}.{sql.quote(self.lane)} NOT IN ({names})"
