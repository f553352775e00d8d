"""Batches of a tally too big for one transaction: the stretch of one, and where it ends.

Lanes and positions are declared (`declarations/batches.py`). What a batch does with its stretch,
and in which order batches come, is in `run.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select
from sqlalchemy import literal as bound
from sqlalchemy.sql.elements import ColumnElement

from tallykeeper.database import sql
from tallykeeper.declarations.batches import Batches, Lane
from tallykeeper.declarations.tally import KeyFilter, Tally


@dataclass(frozen=True)
class Stretch(KeyFilter):
    """The keys of one lane with positions in (after, upto]; None is an open end."""

    batches: Batches
    lane: str
    after: int | None = None
    upto: int | None = None

    def condition(self, tally: Tally, alias: str) -> str:
        along, lane = f"{alias}.{sql.quote(self.batches.along)}", self.batches.lane
        conditions = []
        if lane is not None:
            conditions.append(f"{alias}.{sql.quote(lane)} = {sql.literal(self.lane)}")
        if self.after is not None:
            conditions.append(f"{along} > {self.after}")
        if self.upto is not None:
            conditions.append(f"{along} <= {self.upto}")
        return " AND ".join(conditions) or "true"

    def __call__(self, **expressions: ColumnElement[Any]) -> list[ColumnElement[bool]]:
        conditions: list[ColumnElement[bool]] = []
        if self.batches.lane is not None:
            # Of a constant the planner sees that other lanes have nothing to give.
            conditions.append(expressions[self.batches.lane] == bound(self.lane))
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
