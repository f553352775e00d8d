"""What is kept of pruned rows, in a table beside the tally.

Of a tally of counts and sums these are sums by key: pruning deletes rows of a source and adds to
this table what they had added to the derived table. Invariant: the derived table and what is
pending equal the SELECT over the rows that are there, plus these sums.

Of any other tally these are the rows of the groups that lost rows, as they were then: such a group
is *frozen*. Invariant: the derived table and what is pending equal the SELECT over the rows that
are there, but for frozen groups, which are these rows.

Either can be computed from nothing any more, so another declaration of the tally is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from sqlalchemy import Connection, delete, func, select
from sqlalchemy.dialects.postgresql import JSONB

from tallykeeper.catalog import state
from tallykeeper.catalog.state import prunings
from tallykeeper.database import sql
from tallykeeper.database.sessions import begin_work
from tallykeeper.declarations.tally import Tally
from tallykeeper.errors import DoesNotFit
from tallykeeper.faults import quarantine

GIVEN_UP = "what was kept of pruned rows was given up"
# When a group was frozen, and when a later change of it was first found.
FROZEN_AT = "tally_frozen_at"
CHANGED_AT = "tally_changed_at"


@dataclass(frozen=True)
class Frozen:
    """How many groups are frozen, since when, and how many of them were changed since.

    Changes of a frozen group alter nothing of it.
    """

    groups: int
    since: datetime
    changed: int

    @property
    def in_words(self) -> str:
        """What may stand between commas in a sentence."""
        groups = f"{self.groups:,} group{' is' if self.groups == 1 else 's are'} frozen"
        changed = f", {self.changed:,} of them changed later in vain" if self.changed else ""
        return f"{groups} since {self.since.astimezone(UTC):%Y-%m-%d}{changed}"


@dataclass(frozen=True)
class Pruning:
    """Rows of `source` older than `before` by its column `by` were deleted, and count still.

    `late` of the rows came after rows as old had been pruned: where they repeat those, they count
    twice. `frozen` are the groups that keep what they held; None for a tally of counts and sums.
    """

    source: str
    by: str
    before: datetime
    rows: int
    at: datetime
    frozen: Frozen | None = None
    late: int = 0

    @property
    def in_words(self) -> str:
        """What follows the tally's name in a sentence."""
        frozen = f": {self.frozen.in_words}" if self.frozen is not None else ""
        late = f", {self.late:,} of them late" if self.late else ""
        return (
            f"counts {self.rows:,} pruned row{'' if self.rows == 1 else 's'} of {self.source},"
            f" with {self.by} before {self.before.astimezone(UTC):%Y-%m-%d}{late}{frozen}"
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
    columns = [f"{sql.quote(n)} {tally.type_of(n)}" for n in tally.key]
    if tally.freezes:
        columns += [f"{sql.quote(n)} {tally.type_of(n)}" for n in tally.measures]
        columns += [
            f"{FROZEN_AT} timestamptz NOT NULL DEFAULT now()",
            f"{CHANGED_AT} timestamptz",
        ]
    else:
        columns += [f"{sql.quote(n)} numeric NOT NULL" for n in tally.measures]
    create = [
        f"CREATE TABLE {name} ({', '.join(columns)})",
        f"CREATE UNIQUE INDEX ON {name} ({sql.columns(tally.key)}) NULLS NOT DISTINCT",
        # A publication of all tables must not make the engine's own changes fail.
        f"ALTER TABLE {name} REPLICA IDENTITY FULL",
    ]
    what = "frozen groups of" if tally.freezes else "what pruned rows added to"
    comment = f"{what} {tally.name}: {_digest(create)}"
    return [*create, f"COMMENT ON TABLE {name} IS {sql.literal(comment)}"]


def bring_up(connection: Connection, tally: Tally) -> None:
    """Make the table as it should be.

    Raises DoesNotFit where rows were pruned and what is kept of them is missing, or is of another
    declaration.
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
    columns = prunings.c
    of_tally = select(columns.source, columns.before, columns.summing_hash).where(
        columns.tally == tally.name
    )
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
    columns = prunings.c
    # Which a database may lack that is not migrated yet.
    late = func.to_jsonb(prunings.table_valued(), type_=JSONB)["late"].as_integer()
    of_tally = (
        select(columns.source, columns.by_column, columns.before, columns.rows, columns.pruned_at)
        .add_columns(func.coalesce(late, 0).label("late"))
        .where(columns.tally == tally.name)
    )
    found = [
        Pruning(row.source, row.by_column, row.before, row.rows, row.pruned_at, late=row.late)
        for row in connection.execute(of_tally.order_by(columns.source))
    ]
    if not found or not tally.freezes or is_missing(connection, tally):
        return found
    groups = frozen(connection, tally)
    return [replace(each, frozen=groups) for each in found]


def frozen(connection: Connection, tally: Tally) -> Frozen | None:
    """The groups of the tally that are frozen; None where there are none."""
    group = sql.columns(tally.group)
    row = sql.execute(
        connection,
        f"SELECT count(*) AS groups, min(at) AS since, count(changed) AS changed FROM ("
        f"SELECT min({FROZEN_AT}) AS at, min({CHANGED_AT}) AS changed FROM {tally.pruned_name}"
        f" GROUP BY {group}) AS g",
    ).one()
    return Frozen(row.groups, row.since, row.changed) if row.groups else None


def any_frozen(tally: Tally) -> str:
    """A condition without columns: some group of the tally is frozen."""
    return f"EXISTS (SELECT FROM {tally.pruned_name} AS z)" if tally.freezes else "false"


def freeze(connection: Connection, tally: Tally) -> int:
    """Freeze the groups that pending changes concern, as the derived table has them; how many.

    Called in a transaction that alone may write the derived table, where nothing is pending but
    the deletion of pruned rows.
    """
    rows = sql.columns(tally.columns)
    found = sql.execute(
        connection,
        f"WITH lost AS MATERIALIZED (\n{tally.lost_groups(connection)}\n), kept AS (\n"
        f"INSERT INTO {tally.pruned_name} ({rows})"
        f" SELECT {sql.columns(tally.columns, 'd')} FROM {sql.name_of(tally.table)} AS d"
        f" WHERE EXISTS (SELECT FROM lost AS k WHERE {tally.matches('k', 'd', tally.group)})"
        f" AND NOT {tally.is_frozen('d')} RETURNING {sql.columns(tally.group)}\n)"
        f" SELECT count(*) FROM (SELECT DISTINCT * FROM kept) AS g",
    )
    return int(found.scalar_one())


def note_changes(connection: Connection, tally: Tally) -> None:
    """Note which frozen groups pending changes concern: these alter nothing of them.

    Called by what consumes them, before it does.
    """
    if not tally.freezes:
        return
    pending = f"EXISTS (SELECT FROM {tally.log_name} AS l)"
    needed = sql.execute(connection, f"SELECT {any_frozen(tally)} AND {pending}")
    if not needed.scalar_one():
        return

    def note() -> bool:
        sql.execute(
            connection,
            f"WITH altered AS MATERIALIZED (\n{tally.lost_groups(connection)}\n)"
            f" UPDATE {tally.pruned_name} AS z SET {CHANGED_AT} = now()"
            f" WHERE z.{CHANGED_AT} IS NULL"
            f" AND EXISTS (SELECT FROM altered AS k WHERE {tally.matches('k', 'z', tally.group)})",
        )
        return True

    # Of rows that were never there together it may raise; then that is not known.
    quarantine.attempt(connection, note)


def forget(connection: Connection, tally: Tally) -> int:
    """Give up what is kept of pruned rows; how many rows they were.

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
