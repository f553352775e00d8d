"""The tables that a SELECT reads, as the catalog has them: columns, keys, indexes, estimates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, text

_COLUMNS = text("""
SELECT a.attname, format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull, a.atttypmod,
       coalesce(l.collisdeterministic, true) AS deterministic,
       -- An array is compared by its elements, a domain as what it is made of.
       EXISTS (SELECT FROM pg_opclass AS o JOIN pg_am AS m ON m.oid = o.opcmethod
         WHERE o.opcdefault AND m.amname IN ('btree', 'hash') AND (o.opcintype = e.typ
           OR EXISTS (SELECT FROM pg_cast AS k WHERE k.castsource = e.typ
             AND k.casttarget = o.opcintype AND k.castmethod = 'b' AND k.castcontext = 'i')))
         OR e.kind IN ('e', 'r', 'm', 'c') AS has_equality
FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid
LEFT JOIN pg_collation AS l ON l.oid = a.attcollation
LEFT JOIN pg_type AS b ON b.oid = t.typbasetype
CROSS JOIN LATERAL (SELECT CASE WHEN coalesce(b.typcategory, t.typcategory) = 'A'
  AND coalesce(b.typelem, t.typelem) <> 0 THEN coalesce(b.typelem, t.typelem)
  ELSE coalesce(b.oid, t.oid) END AS typ) AS x
JOIN LATERAL (SELECT y.oid AS typ, y.typtype AS kind FROM pg_type AS y WHERE y.oid = x.typ)
  AS e ON true
WHERE a.attrelid = :oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum""")

_INDEXES = text("""
SELECT i.indisunique AND i.indimmediate AND i.indisvalid AS is_unique, i.indisprimary,
       i.indnullsnotdistinct, m.amname = 'btree' AS is_btree,
       (SELECT array_agg(a.attname ORDER BY k.n) FROM unnest(i.indkey::int2[])
        WITH ORDINALITY AS k (attnum, n) JOIN pg_attribute AS a ON a.attrelid = i.indrelid
        AND a.attnum = k.attnum WHERE k.n <= i.indnkeyatts) AS columns
FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid JOIN pg_am AS m ON m.oid = c.relam
WHERE i.indrelid = :oid AND i.indpred IS NULL AND i.indexprs IS NULL AND i.indisvalid
ORDER BY NOT i.indisprimary, c.relname""")

_RELATION = text("""
SELECT c.oid, c.relkind,
       c.relkind <> 'p' AND EXISTS (SELECT FROM pg_inherits AS h WHERE h.inhparent = c.oid)
         AS has_heirs,
       CASE WHEN c.relkind = 'p' THEN (SELECT sum(greatest(l.reltuples, 0))
         FROM pg_partition_tree(c.oid) AS p JOIN pg_class AS l ON l.oid = p.relid WHERE p.isleaf)
         ELSE greatest(c.reltuples, 0) END AS rows
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = :schema AND c.relname = :name""")

_DISTINCT = text("""
SELECT attname, n_distinct FROM pg_stats WHERE schemaname = :schema AND tablename = :name
ORDER BY inherited""")


@dataclass(frozen=True)
class SourceColumn:
    """A column of a source table; `type` as SQL writes it, `numeric(12,2)`."""

    name: str
    type: str
    not_null: bool
    typmod: int
    collation_deterministic: bool
    has_equality: bool


@dataclass(frozen=True)
class Source:
    """A relation that a SELECT reads.

    `unique_keys`: the primary key first, then unique indexes over columns, of all rows, under which
    no two rows are equal; with a nullable column only where nulls count as equal. `indexes`: the
    columns of each btree index over columns, of all rows. `rows` is the planner's estimate,
    `distinct` that of the number of values of a column, where there is one.
    """

    schema: str
    name: str
    oid: int
    kind: str
    columns: tuple[SourceColumn, ...]
    unique_keys: tuple[tuple[str, ...], ...]
    indexes: tuple[tuple[str, ...], ...]
    rows: float
    distinct: Mapping[str, float]

    def column(self, name: str) -> SourceColumn:
        """The column of that name. Raises `KeyError` where there is none."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)


def read(connection: Connection, schema: str, name: str) -> Source | None:
    """The relation of that name, or None where there is none."""
    names = {"schema": schema, "name": name}
    relation = connection.execute(_RELATION, names).one_or_none()
    if relation is None:
        return None
    oid = {"oid": relation.oid}
    columns = tuple(
        SourceColumn(c.attname, c.type, c.attnotnull, c.atttypmod, c.deterministic, c.has_equality)
        for c in connection.execute(_COLUMNS, oid)
    )
    not_null = {c.name for c in columns if c.not_null}
    indexes = connection.execute(_INDEXES, oid).all()
    # Rows of heirs are in no index of the table above them.
    keys = [
        tuple(i.columns)
        for i in indexes
        if not relation.has_heirs
        and i.is_unique
        and (i.indnullsnotdistinct or not_null.issuperset(i.columns))
    ]
    rows = float(relation.rows or 0)
    # Negative: a share of the rows.
    distinct = {
        s.attname: float(s.n_distinct) if s.n_distinct > 0 else -float(s.n_distinct) * rows
        for s in connection.execute(_DISTINCT, names)
        if s.n_distinct != 0
    }
    return Source(
        schema=schema,
        name=name,
        oid=relation.oid,
        kind=relation.relkind,
        columns=columns,
        unique_keys=tuple(dict.fromkeys(keys)),
        indexes=tuple(dict.fromkeys(tuple(i.columns) for i in indexes if i.is_btree)),
        rows=rows,
        distinct=distinct,
    )
