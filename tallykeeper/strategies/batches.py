"""How a tally too big for one transaction is cut into batches: lanes, positions, stretches.

A lane is one source of the tally; batches go along an integer position of its rows. What a batch
does with its stretch, and in which order batches come, is in `run.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, func, select
from sqlalchemy import literal as bound
from sqlalchemy.sql.elements import ColumnElement

from tallykeeper.database import sql
from tallykeeper.declarations.tally import KeyFilter, Tally

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


@dataclass(frozen=True)
class Stretch(KeyFilter):
    """The keys of one lane with positions in (after, upto]; None is an open end."""

    batches: Batches
    lane: str
    after: int | None = None
    upto: int | None = None

    def condition(self, tally: Tally, alias: str) -> str:
        along = f"{alias}.{sql.quote(self.batches.along)}"
        conditions = [f"{alias}.{sql.quote(self.batches.lane)} = {sql.literal(self.lane)}"]
        if self.after is not None:
            conditions.append(f"{along} > {self.after}")
        if self.upto is not None:
            conditions.append(f"{along} <= {self.upto}")
        return " AND ".join(conditions)

    def __call__(self, **expressions: ColumnElement[Any]) -> list[ColumnElement[bool]]:
        # Of a constant the planner sees that other lanes have nothing to give.
        conditions = [expressions[self.batches.lane] == bound(self.lane)]
        along = expressions[self.batches.along]
        if self.after is not None:
            conditions.append(along > bound(self.after))
        if self.upto is not None:
            conditions.append(along <= bound(self.upto))
        return conditions


@dataclass(frozen=True)
class Walked:
    """Where a batch ends: `upto` is None at the end of the lane; how many source rows it has."""

    upto: int | None
    items: int


def walk(connection: Connection, lane: Lane, after: int | None, rows: int, most: int) -> Walked:
    """Go along the lane from `after` until the weights add up to `rows`, `most` items at most.

    A row of the source counts for one at least: it has to be looked at even if it makes nothing.
    """
    source = lane.source.c
    position = lane.position(source)
    weight = func.greatest(func.coalesce(lane.weight(source), 1), 1)
    before = func.sum(weight).over(order_by=position) - weight
    onward = select(position.label("position"), before.label("before"))
    if after is not None:
        onward = onward.where(position > bound(after))
    steps = onward.order_by(position).limit(bound(most)).subquery("steps")
    inside = steps.c.before < bound(rows)
    found = select(
        func.count().label("walked"),
        func.count().filter(inside).label("inside"),
        func.max(steps.c.position).filter(inside).label("upto"),
    ).select_from(steps)
    row = sql.execute(connection, sql.render(found)).one()
    at_end = row.walked < most and row.inside == row.walked
    return Walked(None if at_end else int(row.upto), int(row.inside))


def count_items(connection: Connection, lane: Lane) -> int:
    """How many rows the lane's source has."""
    query = f"SELECT count(*) FROM {sql.name_of(lane.source)}"
    return int(sql.execute(connection, query).scalar_one())
