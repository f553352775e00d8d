"""Deleting old rows of a source while what they count stays.

A batch is one statement: it deletes rows, adds up what they had added to each tally, writes that
into the table of pruned rows beside the tally, and returns it to the log of the tally, to which
capture writes what the deletion takes off. Invariants: capture sees the deletion as any other, so
there is nothing by which a writer could hide a change from it; at every snapshot the derived table
and what is pending equal the SELECT over the rows that are there, plus what pruned rows had added.
No batch waits for a refresh, a rebuild or a verify, and what dies leaves whole batches.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sqlalchemy import Connection, Engine, Table, case, func, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError

from tallykeeper.catalog.state import prunings, stands_on
from tallykeeper.catalog.transactions import retried
from tallykeeper.database import sql
from tallykeeper.database.lock_holders import ROWS, Wanted
from tallykeeper.database.sessions import begin_computing
from tallykeeper.database.sqlstates import FOREIGN_KEY_VIOLATION, RESTRICT_VIOLATION, sqlstate_of
from tallykeeper.declarations.tally import Event, Tally
from tallykeeper.drift import dependencies
from tallykeeper.errors import CannotPrune
from tallykeeper.installation.declaration_version import require_same_declaration
from tallykeeper.maintain.status import faults_of
from tallykeeper.select.tally import SelectTally
from tallykeeper.strategies import pruned_sums
from tallykeeper.strategies.additive import AdditiveTally
from tallykeeper.strategies.counts_and_sums import CountsAndSums

BATCH_ROWS = 20_000
# One at a time: two would wait for each other's keys.
_KEY = "hashtext('tallykeeper.prune')"
_MOMENTS = {"timestamptz": "timestamptz", "timestamp": "timestamp", "date": "date"}


@dataclass(frozen=True)
class Pruned:
    """What a pruning did, or would do.

    `rows` were deleted, in `batches`, of those of `source` whose column `by` is before `before`;
    `tallies` count them still. With `dry_run` they are those that there are, and nothing is done.
    """

    source: str
    by: str
    before: datetime
    rows: int
    batches: int
    tallies: tuple[str, ...]
    dry_run: bool
    seconds: float = field(compare=False)


@dataclass(frozen=True)
class PruneProgress:
    """How far it is: rows deleted so far, of how many there were when it began."""

    source: str
    rows: int
    total: int


@dataclass(frozen=True)
class _Source:
    """A source as the database has it: `relations` are it, its partitions and heirs with rows."""

    name: str
    by: str
    condition: str
    relations: tuple[str, ...]
    tallies: tuple[Tally, ...]


def prune(
    engine: Engine,
    source: str,
    before: datetime,
    *,
    tallies: Sequence[Tally],
    by: str | None = None,
    dry_run: bool = False,
    batch_rows: int = BATCH_ROWS,
    on_progress: Callable[[PruneProgress], None] | None = None,
) -> Pruned:
    """Delete the rows of `source` that are older than `before`; what they count stays.

    `source` is a table with its schema, `tallies` are those that are declared; all that count the
    table have to be among them. `by` is the column that says how old a row is, by default the only
    one of a time or a date; times without zone are in UTC. Rows are deleted in batches of at most
    `batch_rows`, each committed. What was interrupted goes on when it is called again.

    Raises CannotPrune where what rows count could not stay, with nothing deleted; TallyBusy, or
    SQLAlchemy's errors, with the batches deleted that were committed.
    """
    if before.tzinfo is None:
        raise CannotPrune(f"{before} has no time zone; expected one, as in {before}+00:00")
    started = time.perf_counter()
    with engine.connect() as connection, connection.begin() as transaction:
        begin_computing(connection)
        found = _found(connection, source, before.astimezone(UTC), tallies, by)
        for tally in found.tallies:
            _require_proven(connection, tally)
        total = _count(connection, found)
        transaction.rollback()
    names = tuple(tally.name for tally in found.tallies)
    if dry_run:
        seconds = time.perf_counter() - started
        return Pruned(found.name, found.by, before, total, 0, names, True, seconds)

    def batch(relation: str) -> int:
        with engine.connect() as connection, connection.begin():
            begin_computing(connection)
            sql.execute(connection, f"SELECT pg_advisory_xact_lock({_KEY})")
            # Who installs or alters anything over the source waits for this.
            sql.execute(connection, f"LOCK TABLE {found.name} IN ROW EXCLUSIVE MODE")
            now = _found(connection, source, before.astimezone(UTC), tallies, by)
            sql.execute(connection, sql.CLAIM_WRITING)
            return _prune_batch(connection, now, before, relation, batch_rows)

    rows = batches = 0
    for relation in found.relations:
        while deleted := _retried(engine, found, lambda: batch(relation)):  # noqa: B023
            rows, batches = rows + deleted, batches + 1
            if on_progress is not None:
                on_progress(PruneProgress(found.name, rows, total))
    seconds = time.perf_counter() - started
    return Pruned(found.name, found.by, before, rows, batches, names, False, seconds)


def _retried(engine: Engine, found: _Source, batch: Callable[[], int]) -> int:
    try:
        wanted = [Wanted(found.name, ROWS)]
        with dependencies.explaining(engine, found.tallies):
            return retried(batch, f"pruning {found.name}", engine, wanted, _KEY)
    except DBAPIError as error:
        if sqlstate_of(error) not in (FOREIGN_KEY_VIOLATION, RESTRICT_VIOLATION):
            raise
        said = str(error.orig).splitlines()[0]
        raise CannotPrune(
            f"rows of {found.name} are referred to ({said}); delete the rows that refer to them"
            " first. Batches that were done stay"
        ) from error


def _prune_batch(
    connection: Connection, source: _Source, before: datetime, relation: str, most: int
) -> int:
    """Delete at most so many rows of a relation; how many they were."""
    for tally in source.tallies:
        require_same_declaration(connection, tally)
        _require_proven(connection, tally)
    parts, used = [], dict[str, None]()
    for number, tally in enumerate(source.tallies, 1):
        sums, amounts = _amounts_of(tally)
        for table in _named(connection, tally, source.name):
            used |= dict.fromkeys(tally.relevant(table))
            parts.append(sums.prune(number, amounts(table, "delete")))
    columns = sql.columns(list(used), "r") or "true"
    old = f"SELECT o.ctid FROM ONLY {relation} AS o WHERE {source.condition.format('o')}"
    deleted = sql.execute(
        connection,
        f"WITH old_rows AS (\n"
        f"  DELETE FROM ONLY {relation} AS r\n"
        f"  WHERE r.ctid = ANY (ARRAY({old} LIMIT {most:d} FOR UPDATE))\n"
        f"  AND {source.condition.format('r')} RETURNING {columns}\n"
        f"), {', '.join(parts)}\nSELECT count(*) FROM old_rows",
    ).scalar_one()
    if deleted:
        _record(connection, source, before, int(deleted))
    return int(deleted)


def _record(connection: Connection, source: _Source, before: datetime, rows: int) -> None:
    columns = prunings.c
    for tally in source.tallies:
        values = {"by_column": source.by, "summing_hash": tally.summing_hash()}
        statement = insert(prunings).values(
            tally=tally.name, source=source.name, before=before, rows=rows, **values
        )
        # An earlier day adds nothing where another column decides.
        latest = case(
            (
                columns.by_column == statement.excluded.by_column,
                func.greatest(columns.before, statement.excluded.before),
            ),
            else_=statement.excluded.before,
        )
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=["tally", "source"],
                set_={
                    **values,
                    "before": latest,
                    "rows": columns.rows + statement.excluded.rows,
                    "pruned_at": func.now(),
                },
            )
        )


def _require_proven(connection: Connection, tally: Tally) -> None:
    """Raise CannotPrune where the deletion may not be captured as it was declared."""
    faults = [str(fault) for fault in faults_of(connection, tally)]
    if faults:
        raise CannotPrune(
            f"{tally.name} may not see every change ({'; '.join(faults)}), so nothing that it"
            " counts is pruned; run `tally migrate`, then `tally refresh`"
        )
    pruned_sums.require_same(connection, tally)


def _amounts_of(
    tally: Tally,
) -> tuple[CountsAndSums, Callable[[Table, Event], list[str]]]:
    if isinstance(tally, AdditiveTally):
        return tally.sums, tally.amounts
    assert isinstance(tally, SelectTally)
    assert tally.summed is not None
    return tally.summed.sums, tally.summed.amounts


def _found(
    connection: Connection, source: str, before: datetime, tallies: Sequence[Tally], by: str | None
) -> _Source:
    """The source, and the tallies that count it. Raises CannotPrune."""
    name = _existing(connection, source)
    concerned = _concerned(connection, name, tallies)
    _require_no_actions(connection, name)
    column, condition = _age(connection, name, before, by)
    return _Source(name, column, condition, _relations(connection, name), concerned)


def _existing(connection: Connection, source: str) -> str:
    """The table's name with its schema, quoted; as PostgreSQL reads it, or as it is."""
    schema, dot, table = source.partition(".")
    found = connection.scalar(
        text(
            "SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) FROM pg_class AS c"
            " JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p')"
            " AND n.nspname = :schema AND c.relname = :table"
        ),
        {"schema": schema if dot else "public", "table": table if dot else schema},
    )
    if found is None:
        raise CannotPrune(f"there is no table {source}; name a source table with its schema")
    return str(found)


_TREE = """
WITH RECURSIVE below (relation) AS (
  SELECT CAST(:name AS regclass)::oid
  UNION SELECT i.inhrelid FROM pg_inherits AS i JOIN below ON i.inhparent = below.relation
), above (relation) AS (
  SELECT CAST(:name AS regclass)::oid
  UNION SELECT i.inhparent FROM pg_inherits AS i JOIN above ON i.inhrelid = above.relation
)"""


def _concerned(connection: Connection, name: str, tallies: Sequence[Tally]) -> tuple[Tally, ...]:
    """The tallies that count the table. Raises CannotPrune where one of them could not go on."""
    rows = connection.execute(
        text(
            f"{_TREE} SELECT s.tally, s.role, s.name, r.oid = CAST(:name AS regclass) AS is_it"
            f" FROM {sql.name_of(stands_on)} AS s CROSS JOIN LATERAL"
            " (SELECT to_regclass(s.name)::oid) AS r (oid) WHERE s.kind = 'relation' AND r.oid IN"
            " (SELECT relation FROM below UNION ALL SELECT relation FROM above) ORDER BY s.tally"
        ),
        {"name": name},
    ).all()
    for row in rows:
        if row.role == "derived":
            raise CannotPrune(f"{name} is the derived table of {row.tally}; prune what it counts")
        if row.role == "source" and not row.is_it:
            raise CannotPrune(
                f"{row.tally} counts {row.name}, which shares rows with {name}; prune {row.name}"
                " where all tallies count that"
            )
    counting = [row.tally for row in rows if row.role == "source"]
    if not counting:
        raise CannotPrune(f"no tally that is installed counts {name}")
    known = {tally.name: tally for tally in tallies}
    unknown = [each for each in counting if each not in known]
    if unknown:
        raise CannotPrune(
            f"{', '.join(unknown)} counts {name} too, and is not declared here; prune where all"
            " tallies are declared that count it"
        )
    found = tuple(known[each] for each in dict.fromkeys(counting))
    for tally in found:
        tally.bind(connection)
        if not pruned_sums.has_table(tally):
            raise CannotPrune(
                f"{tally.name} counts {name}, and is not made of counts and sums over its single"
                f" rows ({_how(tally)}): without them it could not be computed any more"
            )
    return found


def _how(tally: Tally) -> str:
    """How the tally is maintained, in a few words."""
    if not isinstance(tally, SelectTally):
        return f"it is {tally.kind}"
    reasons = "; ".join(tally.plan.reasons)
    return f"it is maintained as `{tally.plan.strategy}`" + (f": {reasons}" if reasons else "")


def _named(connection: Connection, tally: Tally, name: str) -> list[Table]:
    """The table of the tally's metadata that the source is."""
    names = [sql.name_of(source) for source in tally.sources]
    is_it = connection.execute(
        text(
            "SELECT n FROM unnest(CAST(:names AS text[])) AS n"
            " WHERE to_regclass(n) = CAST(:name AS regclass)"
        ),
        {"names": names, "name": name},
    ).scalars()
    wanted = set(is_it)
    return [source for source in tally.sources if sql.name_of(source) in wanted]


def _require_no_actions(connection: Connection, name: str) -> None:
    """Raise CannotPrune where a foreign key would change what tallies count besides."""
    rows = connection.execute(
        text(
            f"{_TREE}, reached (relation) AS (SELECT relation FROM below"
            " UNION SELECT k.conrelid FROM pg_constraint AS k JOIN reached AS r"
            "  ON k.confrelid = r.relation WHERE k.contype = 'f' AND k.confdeltype = 'c')"
            " SELECT DISTINCT s.tally, s.name, k.confdeltype = 'c' AS deletes"
            " FROM pg_constraint AS k JOIN reached AS r ON k.confrelid = r.relation"
            f" JOIN {sql.name_of(stands_on)} AS s ON to_regclass(s.name) = k.conrelid"
            " WHERE k.contype = 'f' AND k.confdeltype IN ('c', 'n', 'd')"
            " AND s.role IN ('source', 'derived') AND s.kind = 'relation' ORDER BY 1, 2"
        ),
        {"name": name},
    ).all()
    for row in rows:
        does = "deletes" if row.deletes else "changes"
        raise CannotPrune(
            f"a foreign key {does} rows of {row.name} with those of {name}, and {row.tally} stands"
            f" on them; prune {row.name} first, and let the foreign key restrict"
        )


def _relations(connection: Connection, name: str) -> tuple[str, ...]:
    rows = connection.execute(
        text(
            f"{_TREE} SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name,"
            " c.relkind = 'f' AS is_foreign FROM below JOIN pg_class AS c ON c.oid = relation"
            " JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'f')"
            " ORDER BY 1"
        ),
        {"name": name},
    ).all()
    foreign = [row.name for row in rows if row.is_foreign]
    if foreign:
        raise CannotPrune(f"{', '.join(foreign)} is a foreign table, whose rows are not ours")
    return tuple(row.name for row in rows)


def _age(connection: Connection, name: str, before: datetime, by: str | None) -> tuple[str, str]:
    """The column that says how old a row is, and a condition on an alias that is to be put in."""
    rows = connection.execute(
        text(
            "SELECT a.attname AS name, t.typname AS type FROM pg_attribute AS a"
            " JOIN pg_type AS t ON t.oid = a.atttypid WHERE a.attrelid = CAST(:name AS regclass)"
            " AND a.attnum > 0 AND NOT a.attisdropped"
            " AND t.typnamespace = 'pg_catalog'::regnamespace ORDER BY a.attnum"
        ),
        {"name": name},
    ).all()
    moments = {row.name: row.type for row in rows if row.type in _MOMENTS}
    if by is None and len(moments) == 1:
        (by,) = moments
    if by is None or by not in moments:
        asked = "name the one that says how old a row is" if by is None else f"{by!r} is none"
        listed = ", ".join(moments) or "none"
        raise CannotPrune(f"{name} has these columns of a time or a date: {listed}; {asked}")
    moment = before if moments[by] == "timestamptz" else before.replace(tzinfo=None)
    literal = f"{sql.literal(moment.isoformat())}::{_MOMENTS[moments[by]]}"
    column = sql.quote(by).replace("{", "{{").replace("}", "}}")
    return by, f"{{0}}.{column} < {literal}"


def _count(connection: Connection, source: _Source) -> int:
    counts = [
        f"(SELECT count(*) FROM ONLY {relation} AS r WHERE {source.condition.format('r')})"
        for relation in source.relations
    ]
    return int(sql.execute(connection, f"SELECT {' + '.join(counts)}").scalar_one())
