"""By which columns the statements of a plan find rows of sources, and which indexes that wants."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, text

from tallykeeper.database import sql
from tallykeeper.select.plan import Lookup, Plan

# Of fewer rows all are read as fast as some are found.
FEW_ROWS = 1_000
# How many of all arrays hold a value is not known; PostgreSQL expects so many.
HELD_SHARE = 0.005

_TABLES = text("""
WITH RECURSIVE named AS (
  SELECT n AS name, to_regclass(n)::oid AS oid FROM unnest(CAST(:names AS text[])) AS n
), tree (name, oid) AS (
  SELECT name, oid FROM named WHERE oid IS NOT NULL
  UNION SELECT t.name, i.inhrelid FROM tree AS t JOIN pg_inherits AS i ON i.inhparent = t.oid
)
SELECT n.name, c.relkind = 'p' AS is_partitioned,
  (SELECT coalesce(sum(greatest(b.reltuples, 0)), 0)::float FROM tree AS t
   JOIN pg_class AS b ON b.oid = t.oid WHERE t.name = n.name AND b.relkind = 'r') AS rows,
  (SELECT coalesce(sum(pg_total_relation_size(t.oid)), 0)::bigint FROM tree AS t
   WHERE t.name = n.name) AS bytes,
  coalesce((SELECT jsonb_object_agg(s.attname, s.n_distinct) FROM pg_stats AS s
    JOIN pg_namespace AS m ON m.nspname = s.schemaname
    WHERE m.oid = c.relnamespace AND s.tablename = c.relname
    AND s.inherited = (c.relkind = 'p')), '{}') AS distinct,
  coalesce((SELECT jsonb_agg(jsonb_build_object('unique', i.indisunique, 'columns',
      (SELECT jsonb_agg(a.attname ORDER BY k.place) FROM unnest(i.indkey) WITH ORDINALITY
       AS k (number, place) JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = k.number
       WHERE k.place <= i.indnkeyatts)))
    FROM pg_index AS i JOIN pg_class AS x ON x.oid = i.indexrelid JOIN pg_am AS m ON m.oid = x.relam
    WHERE i.indrelid = c.oid AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
    AND m.amname IN ('btree', 'hash')), '[]') AS indexes,
  ARRAY(SELECT a.attname::text FROM pg_index AS i JOIN pg_class AS x ON x.oid = i.indexrelid
    JOIN pg_am AS m ON m.oid = x.relam JOIN pg_attribute AS a ON a.attrelid = c.oid
    AND a.attnum = ANY (i.indkey) WHERE i.indrelid = c.oid AND i.indisvalid AND i.indpred IS NULL
    AND m.amname = 'gin') AS held
FROM named AS n JOIN pg_class AS c ON c.oid = n.oid
""")


@dataclass(frozen=True)
class TableFigures:
    """What the database knows of a table: about how many rows, its size, values and indexes.

    `distinct` is about how many values a column has. An index is its columns, and whether they are
    unique. `held` are columns by whose elements a GIN index finds rows.
    """

    name: str
    rows: int
    bytes: int
    is_partitioned: bool
    distinct: dict[str, float]
    indexes: tuple[tuple[tuple[str, ...], bool], ...]
    held: frozenset[str] = frozenset()

    def rows_by(self, columns: tuple[str, ...]) -> float:
        """About how many rows have the same values of these columns."""
        if any(unique and set(found) <= set(columns) for found, unique in self.indexes):
            return 1.0
        most = max((self.distinct.get(name, 0.0) for name in columns), default=1.0)
        return max(self.rows / most, 1.0) if most else float(self.rows)

    def finds(self, lookup: Lookup) -> bool:
        """Whether an index begins with one of the columns, or has their elements."""
        if lookup.is_held:
            return bool(self.held & set(lookup.columns))
        return any(found[:1] and found[0] in lookup.columns for found, _ in self.indexes)


@dataclass(frozen=True)
class MissingIndex:
    """An index that a plan's statement would use. `rows` is about how many the table has."""

    table: str
    columns: tuple[str, ...]
    rows: int
    statement: str

    @property
    def matters(self) -> bool:
        """Whether the table is so large that it makes a difference."""
        return self.rows >= FEW_ROWS


def figures(connection: Connection, names: list[str]) -> dict[str, TableFigures]:
    """What is known of the tables of these names, as SQL writes them; those that there are."""
    found = {}
    for row in connection.execute(_TABLES, {"names": names}):
        rows = int(row.rows)
        # A share of the rows is named as a negative number.
        distinct = {n: d if d >= 0 else -d * rows for n, d in row.distinct.items()}
        indexes = tuple((tuple(i["columns"] or ()), i["unique"]) for i in row.indexes)
        found[row.name] = TableFigures(
            row.name, rows, row.bytes, row.is_partitioned, distinct, indexes, frozenset(row.held)
        )
    return found


def table_of(lookup: Lookup) -> str:
    """The table's name, as SQL writes it."""
    return f"{sql.quote(lookup.schema)}.{sql.quote(lookup.table)}"


def missing_indexes(plan: Plan, tables: dict[str, TableFigures]) -> list[MissingIndex]:
    """The indexes that the plan's statement would use, largest table first."""
    found: dict[tuple[str, tuple[str, ...]], MissingIndex] = {}
    for lookup in plan.lookups:
        name = table_of(lookup)
        table = tables.get(name)
        if table is None or not lookup.columns or table.finds(lookup):
            continue
        # Of a partitioned table an index cannot be built beside its writers.
        concurrently = "" if table.is_partitioned else "CONCURRENTLY "
        method = "USING gin " if lookup.is_held else ""
        columns = sql.columns(lookup.columns)
        statement = f"CREATE INDEX {concurrently}ON {name} {method}({columns})"
        missing = MissingIndex(name, lookup.columns, table.rows, statement)
        found[name, lookup.columns] = missing
    return sorted(found.values(), key=lambda m: (-m.rows, m.statement))


def rows_touched(plan: Plan, part: int, tables: dict[str, TableFigures]) -> float:
    """About how many rows a changed row of the source is joined with."""
    most: dict[str, float] = {}
    for lookup in plan.lookups:
        table = tables.get(table_of(lookup))
        if part in lookup.asked_by and table is not None:
            rows = table.rows_by(lookup.columns) if lookup.columns else float(table.rows)
            if lookup.is_held:
                rows = max(table.rows * HELD_SHARE, 1.0)
            most[table.name] = max(most.get(table.name, 1.0), rows)
    touched = 1.0
    for rows in most.values():
        touched *= rows
    return touched
