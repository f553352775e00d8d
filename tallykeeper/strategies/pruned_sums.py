"""What rows had added that were pruned: a table of sums by key beside a tally of counts and sums.

Pruning deletes rows of a source and adds to this table what they had added to the derived table, in
one statement. Invariant: the derived table and what is pending equal the SELECT over the rows that
are there, plus these sums. They can be computed from nothing any more, so a tally whose rows add
something else than those of the table did is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, delete, func, select

from tallykeeper.catalog import state
from tallykeeper.catalog.state import prunings
from tallykeeper.database import sql
from tallykeeper.database.sessions import begin_work
from tallykeeper.declarations.tally import Tally
from tallykeeper.errors import DoesNotFit

GIVEN_UP = "what pruned rows had added was given up"


@dataclass(frozen=True)
class Pruning:
    """Rows of `source` older than `before` by its column `by` were deleted, and count still."""

    source: str
    by: str
    before: datetime
    rows: int
    at: datetime

    @property
    def in_words(self) -> str:
        """What follows the tally's name in a sentence."""
        return (
            f"counts {self.rows:,} pruned row{'' if self.rows == 1 else 's'} of {self.source},"
            f" with {self.by} before {self.before.astimezone(UTC):%Y-%m-%d}"
        )


def has_table(tally: Tally) -> bool:
    """Whether the tally has such a table."""
    return ("pruned", tally.pruned_name) in tally.own_relations()


def is_missing(connection: Connection, tally: Tally) -> bool:
    """Whether the table should be there and is not."""
    found = select(func.to_regclass(tally.pruned_name).is_(None))
    return has_table(tally) and bool(connection.scalar(found))


def ddl(tally: Tally) -> list[str]:
    """The statements that create the table."""
    name = tally.pruned_name
    columns = [
        *(f"{sql.quote(n)} {tally.type_of(n)}" for n in tally.key),
        *(f"{sql.quote(n)} numeric NOT NULL" for n in tally.measures),
    ]
    create = [
        f"CREATE TABLE {name} ({', '.join(columns)})",
        f"CREATE UNIQUE INDEX ON {name} ({sql.columns(tally.key)}) NULLS NOT DISTINCT",
        # A publication of all tables must not make the engine's own changes fail.
        f"ALTER TABLE {name} REPLICA IDENTITY FULL",
    ]
    comment = f"what pruned rows added to {tally.name}: {_digest(create)}"
    return [*create, f"COMMENT ON TABLE {name} IS {sql.literal(comment)}"]


def bring_up(connection: Connection, tally: Tally) -> None:
    """Make the table as it should be.

    Raises DoesNotFit where rows were pruned whose sums are missing, or were of another declaration.
    """
    require_same(connection, tally)
    name = sql.literal(tally.pruned_name)
    shown = f"SELECT obj_description(to_regclass({name}), 'pg_class')"
    present = sql.execute(connection, shown).scalar()
    statements = ddl(tally) if has_table(tally) else []
    if statements and present is not None and sql.literal(present) in statements[-1]:
        return
    if pruned(connection, tally):
        # What it has is kept, whatever became of its comment.
        return
    for statement in (f"DROP TABLE IF EXISTS {tally.pruned_name}", *statements):
        sql.execute(connection, statement)


def require_same(connection: Connection, tally: Tally) -> None:
    """Raise DoesNotFit where rows were pruned that the tally, as declared now, would lose."""
    if not state.is_there(connection, prunings):
        return
    of_tally = select(prunings).where(prunings.c.tally == tally.name)
    rows = connection.execute(of_tally.order_by(prunings.c.source)).all()
    if not rows:
        return
    which = ", ".join(f"{row.source} before {row.before:%Y-%m-%d}" for row in rows)
    found = f"{tally.name} counts rows that were pruned ({which})"
    way_out = (
        f" Nothing was changed; or give up what they count by `tally prune --forget {tally.name}`"
    )
    if not has_table(tally) or any(row.summing_hash != tally.summing_hash() for row in rows):
        raise DoesNotFit(
            f"{found}, by another declaration than this one, which cannot be computed for them any"
            f" more; go back to that declaration.{way_out}"
        )
    if is_missing(connection, tally):
        raise DoesNotFit(
            f"{found}, but {tally.pruned_name}, which has what they count, is not there; restore it"
            f" from a backup.{way_out}"
        )


def pruned(connection: Connection, tally: Tally) -> list[Pruning]:
    """Of which sources rows were pruned that the tally counts still."""
    if not connection.scalar(select(state.may_read(prunings))):
        return []
    of_tally = select(prunings).where(prunings.c.tally == tally.name)
    return [
        Pruning(row.source, row.by_column, row.before, row.rows, row.pruned_at)
        for row in connection.execute(of_tally.order_by(prunings.c.source))
    ]


def forget(connection: Connection, tally: Tally) -> int:
    """Give up what pruned rows had added; how many rows they were.

    The tally becomes stale: its next refresh computes it from the rows that are there.
    """
    rows = sum(each.rows for each in pruned(connection, tally))
    # Waits for who writes the derived table; its own writes are not by hand.
    begin_work(connection)
    sql.execute(connection, sql.CLAIM_WRITING)
    connection.execute(delete(prunings).where(prunings.c.tally == tally.name))
    if connection.scalar(select(func.to_regclass(tally.pruned_name).is_not(None))):
        sql.execute(connection, f"DELETE FROM {tally.pruned_name}")
    state.mark_stale(connection, tally, GIVEN_UP)
    return rows


def _digest(statements: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(statements).encode()).hexdigest()[:16]
