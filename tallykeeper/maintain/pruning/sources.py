"""The source that is to be pruned, as the database has it, and the tallies that count it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, Table, case, func, select, text

from tallykeeper.catalog.state import prunings, stands_on
from tallykeeper.database import sql
from tallykeeper.declarations.tally import CHANGES, Tally
from tallykeeper.errors import CannotPrune
from tallykeeper.select.tally import SelectTally
from tallykeeper.strategies import pruned_rows

_MOMENTS = {"timestamptz": "timestamptz", "timestamp": "timestamp", "date": "date"}
# The tables that lie below and above one, and those whose rows go with rows of it.
_TREE = """
WITH RECURSIVE below (relation) AS (
  SELECT CAST(:name AS regclass)::oid
  UNION SELECT i.inhrelid FROM pg_inherits AS i JOIN below ON i.inhparent = below.relation
), above (relation) AS (
  SELECT CAST(:name AS regclass)::oid
  UNION SELECT i.inhparent FROM pg_inherits AS i JOIN above ON i.inhrelid = above.relation
), reached (relation) AS (
  SELECT relation FROM below UNION SELECT k.conrelid FROM pg_constraint AS k
  JOIN reached AS r ON k.confrelid = r.relation WHERE k.contype = 'f' AND k.confdeltype = 'c'
)"""


@dataclass(frozen=True)
class Source:
    """A source as the database has it: `relations` are it, its partitions and heirs with rows.

    `tallies` count its rows, or those of the tables `cascades`, which a foreign key deletes with
    them.
    `condition` is SQL for an alias that is to be put in: a row is old; `late`: and it came after
    rows as old had been pruned.
    """

    name: str
    by: str
    condition: str
    late: str
    relations: tuple[str, ...]
    tallies: tuple[Tally, ...]
    cascades: tuple[str, ...]

    @property
    def freezing(self) -> tuple[Tally, ...]:
        """The tallies that freeze the groups that lose rows."""
        return tuple(tally for tally in self.tallies if tally.freezes)


def found(
    connection: Connection,
    source: str,
    before: datetime,
    tallies: Sequence[Tally],
    by: str | None,
    *,
    freeze: bool,
) -> Source:
    """The source, and the tallies that count it. Raises CannotPrune.

    `freeze`: tallies may freeze groups.
    """
    name = _existing(connection, source)
    counting, cascades = _counting(connection, name)
    concerned = _concerned(connection, name, counting, tallies, freeze=freeze)
    column, condition = _age(connection, name, before, by)
    finished, late = _finished(connection, name, column, concerned), "false"
    if finished is not None:
        _, late = _age(connection, name, finished, column)
    relations = _relations(connection, name)
    return Source(name, column, condition, late, relations, concerned, cascades)


def _finished(
    connection: Connection, name: str, by: str, tallies: Sequence[Tally]
) -> datetime | None:
    """Before when all rows had been pruned that all the tallies count."""
    columns = prunings.c
    found: datetime | None = connection.scalar(
        select(
            case((func.count(columns.finished) == len(tallies), func.min(columns.finished)))
        ).where(
            columns.source == name,
            columns.by_column == by,
            columns.tally.in_([tally.name for tally in tallies]),
        )
    )
    return found.astimezone(UTC) if found is not None else None


def tables_of(connection: Connection, tally: Tally, name: str) -> list[Table]:
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


def _require_to_stay(tally: Tally) -> None:
    """Raise CannotPrune where a foreign key would delete or change rows of frozen groups."""
    for key in tally.table.foreign_keys:
        if {key.ondelete, key.onupdate} & CHANGES:
            raise CannotPrune(
                f"the foreign key of {tally.name} to {sql.name_of(key.column.table)} deletes or"
                " changes its rows, so groups of it cannot be frozen; let it restrict"
            )


def number_of_rows(connection: Connection, source: Source) -> int:
    """How many old rows there are."""
    counts = [
        f"(SELECT count(*) FROM ONLY {relation} AS r WHERE {source.condition.format('r')})"
        for relation in source.relations
    ]
    return int(sql.execute(connection, f"SELECT {' + '.join(counts)}").scalar_one())


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


def _counting(connection: Connection, name: str) -> tuple[list[str], tuple[str, ...]]:
    """The tallies that count the table or what goes with its rows, and the tables of that.

    Raises CannotPrune where one of them could not go on.
    """
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
    also = _reached(connection, name)
    tables = tuple(dict.fromkeys(table for _, table in also))
    return sorted({*counting, *(tally for tally, _ in also)}), tables


def _reached(connection: Connection, name: str) -> list[tuple[str, str]]:
    """The tallies that count what a foreign key deletes with rows of the table, and from where."""
    rows = connection.execute(
        text(
            f"{_TREE} SELECT DISTINCT s.tally, s.name, s.role, k.confdeltype = 'c' AS deletes"
            " FROM pg_constraint AS k JOIN reached AS r ON k.confrelid = r.relation"
            f" JOIN {sql.name_of(stands_on)} AS s ON to_regclass(s.name) = k.conrelid"
            " WHERE k.contype = 'f' AND k.confdeltype IN ('c', 'n', 'd')"
            " AND s.role IN ('source', 'derived') AND s.kind = 'relation' ORDER BY 1, 2"
        ),
        {"name": name},
    ).all()
    for row in rows:
        if row.role == "derived":
            does = "deletes" if row.deletes else "changes"
            raise CannotPrune(
                f"a foreign key {does} rows of {row.name}, the derived table of {row.tally}, with"
                f" those of {name}; drop that foreign key, or let it restrict"
            )
        if not row.deletes:
            raise CannotPrune(
                f"a foreign key changes rows of {row.name} with those of {name}, and {row.tally}"
                f" counts them, which are not old; prune {row.name} first, and let the foreign key"
                " restrict"
            )
    return [(row.tally, row.name) for row in rows]


def _concerned(
    connection: Connection,
    name: str,
    counting: Sequence[str],
    tallies: Sequence[Tally],
    *,
    freeze: bool,
) -> tuple[Tally, ...]:
    """The tallies of these names. Raises CannotPrune where what they count could not stay."""
    known = {tally.name: tally for tally in tallies}
    unknown = [each for each in counting if each not in known]
    if unknown:
        raise CannotPrune(
            f"{', '.join(unknown)} counts rows of {name} too, or what goes with them, and is not"
            " declared here; prune where all tallies are declared that do"
        )
    found = tuple(known[each] for each in counting)
    for tally in found:
        tally.bind(connection)
        if tally.freezes and freeze:
            _require_to_stay(tally)
            continue
        if not pruned_rows.has_table(tally):
            why = "nor is each of its rows one group, which could be frozen"
            if tally.batches is not None:
                why = "and is built in batches, which go by those rows"
            raise CannotPrune(
                f"{tally.name} counts {name}, and is not made of counts and sums over its single"
                f" rows ({_how(tally)}), {why}: without them it could not be computed any more"
            )
        if tally.freezes:
            raise CannotPrune(
                f"{tally.name} counts {name}, and is not made of counts and sums over its single"
                f" rows ({_how(tally)}): groups that lose rows could only be frozen, to stay what"
                " they are whatever changes later. `tally prune --freeze` does that, and with"
                " `--dry-run` says to how many"
            )
    return found


def _how(tally: Tally) -> str:
    """How the tally is maintained, in a few words."""
    if not isinstance(tally, SelectTally):
        return f"it is {tally.kind}"
    reasons = "; ".join(tally.plan.reasons)
    return f"it is maintained as `{tally.plan.strategy}`" + (f": {reasons}" if reasons else "")


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
