"""Forgetting incidents that were resolved long ago, but not how many there were.

Invariants: the number of incidents ever found, by kind, never falls. So what is deleted
is counted in the same transaction.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime

from sqlalchemy import BigInteger, Column, Connection, Table, Text, delete, func, select, union_all
from sqlalchemy.dialects.postgresql import insert

from tallykeeper.catalog.state import is_there, metadata
from tallykeeper.faults.incidents import CAPTURE, DIFFERS, PENDING, RUN, SCHEDULE, STALE, incidents

KINDS = (DIFFERS, CAPTURE, PENDING, STALE, RUN, SCHEDULE)

pruned_incidents = Table(
    "pruned_incidents",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("times", BigInteger, nullable=False, comment="how many of that kind were deleted"),
    comment="How many incidents were deleted because they were resolved long ago.",
)


def prune_incidents(connection: Connection, before: datetime) -> int:
    """Delete incidents that were resolved before a moment, and their messages; how many.

    An open one is never deleted. Nothing is where an earlier version made the engine's tables.
    """
    if not is_there(connection, pruned_incidents):
        return 0
    resolved_long_ago = delete(incidents).where(incidents.c.resolved_at < before)
    pruned = Counter(connection.scalars(resolved_long_ago.returning(incidents.c.kind)))
    if pruned:
        rows = [{"kind": kind, "times": times} for kind, times in sorted(pruned.items())]
        statement = insert(pruned_incidents).values(rows)
        statement = statement.on_conflict_do_update(
            index_elements=["kind"],
            set_={"times": pruned_incidents.c.times + statement.excluded.times},
        )
        connection.execute(statement)
    return pruned.total()


def incidents_ever(connection: Connection) -> dict[str, int]:
    """How many incidents were ever found, by kind, the usual kinds always among them.

    Empty where an earlier version made the engine's tables.
    """
    if not is_there(connection, pruned_incidents):
        return {}
    left = select(incidents.c.kind, func.count().label("times")).group_by(incidents.c.kind)
    pruned = select(pruned_incidents.c.kind, pruned_incidents.c.times)
    found = dict.fromkeys(KINDS, 0)
    for kind, times in connection.execute(union_all(left, pruned)):
        found[kind] = found.get(kind, 0) + times
    return found
