"""What is done to tables that were there before, so that they can be adopted.

A derived table is written by Tallykeeper alone, so what its making lacks may be added: a number for
a surrogate key that nothing fills, a default, room for nulls, and another key where the table's
primary key contains a column in which nulls belong, which no primary key can hold. Its rows stay;
the first refresh compares and corrects them. One that cannot be converted can be moved aside. Of a
raw table, which processing marks, columns that processing alone writes are added. Invariants: no
row is lost, and a table that fits is not touched. Whether the result fits is `schema_check.py`'s
question.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from itertools import count

from sqlalchemy import Column, Connection, Index, Table, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import CreateIndex, DefaultClause

from tallykeeper.database import sql
from tallykeeper.database.sqlstates import (
    DATA_EXCEPTION,
    DEPENDENT_PRIVILEGE_DESCRIPTORS_STILL_EXIST,
    FEATURE_NOT_SUPPORTED,
    INSUFFICIENT_PRIVILEGE,
    INTEGRITY_CONSTRAINT_VIOLATION,
    SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION,
    sqlstate_of,
)
from tallykeeper.declarations.tally import Tally
from tallykeeper.installation.schema_check import Found, columns_of, is_unique

INTEGERS = ("smallint", "integer", "bigint")
# By class: something depends on it, it is of another kind or type, or a value does not fit.
_HINDERED = (
    FEATURE_NOT_SUPPORTED,
    DATA_EXCEPTION,
    INTEGRITY_CONSTRAINT_VIOLATION,
    DEPENDENT_PRIVILEGE_DESCRIPTORS_STILL_EXIST,
    SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION,
)


def convert(connection: Connection, tally: Tally) -> list[str]:
    """Convert the tally's derived table where that makes it fit; what was done, a sentence each.

    What other objects or the kind of table do not let be converted is left as it was.
    """
    kind, columns = columns_of(connection, tally.table)
    if kind is None or kind not in "rp":
        return []
    done: list[str] = []
    with where_possible(connection):
        done += _key_with_nulls(connection, tally, columns)
    if done:
        _, columns = columns_of(connection, tally.table)
    for column in tally.table.c:
        there = columns.get(column.name)
        if there is None or there.nullable:
            continue
        with where_possible(connection):
            if column.name not in tally.columns:
                done += _fill(connection, tally, column, there)
            elif column.nullable and column.name not in tally.key:
                table, name = sql.name_of(tally.table), sql.quote(column.name)
                sql.execute(connection, f"ALTER TABLE {table} ALTER COLUMN {name} DROP NOT NULL")
                done.append(f"{column.name} may be null")
    if not done:
        return []
    return [f"converted the derived table {sql.name_of(tally.table)}: {', '.join(done)}"]


@contextmanager
def where_possible(connection: Connection) -> Iterator[None]:
    """Undo what is done within where PostgreSQL refuses part of it for what the table is."""
    try:
        with connection.begin_nested():
            yield
    except DBAPIError as error:
        code = sqlstate_of(error)
        if not code.startswith(_HINDERED) or code == INSUFFICIENT_PRIVILEGE:
            raise


def complete(connection: Connection, raw: Table, marked: Collection[str]) -> list[str]:
    """Add those of the columns `marked` that a raw table lacks; what was done.

    Processing alone writes those. Any other one holds what there is to process.
    """
    kind, columns = columns_of(connection, raw)
    if kind is None or kind not in "rp":
        return []
    done = []
    for name in marked:
        if name not in columns:
            added = f"{sql.quote(name)} {sql.type_name(raw.c[name].type)}"
            sql.execute(connection, f"ALTER TABLE {sql.name_of(raw)} ADD COLUMN {added}")
            done.append(f"added the column {name} to {sql.name_of(raw)}")
    return done


def move_aside(
    connection: Connection,
    table: Table,
    why: str = "which does not fit",
    own: Collection[str] = (),
) -> str:
    """Move the table, with all that is in it, to a schema of its own; what was done.

    Partitions in its schema go with it. Views over it go on reading it, and foreign keys referring
    to it, so they are named; but for `own`, which are made anew or moved too.
    """
    schema = table.schema or "public"
    parts = connection.scalars(
        text(
            "SELECT CAST(c.relname AS text) FROM pg_partition_tree(to_regclass(:name)) AS p"
            " JOIN pg_class AS c ON c.oid = p.relid"
            " JOIN pg_namespace AS n ON n.oid = c.relnamespace"
            " WHERE n.nspname = :schema AND p.level > 0 ORDER BY p.level, 1"
        ),
        {"name": sql.name_of(table), "schema": schema},
    ).all()
    names = [table.name, *parts]
    aside = next(
        aside
        for number in count(1)
        for aside in [f"{schema}_aside" if number == 1 else f"{schema}_aside_{number}"]
        if not any(_is_there(connection, aside, name) for name in names)
    )
    hung = _hung(connection, table, aside, own)
    sql.execute(connection, f"CREATE SCHEMA IF NOT EXISTS {sql.quote(aside)}")
    for name in names:
        moved = f"{sql.quote(schema)}.{sql.quote(name)}"
        sql.execute(connection, f"ALTER TABLE {moved} SET SCHEMA {sql.quote(aside)}")
    done = f"moved {sql.name_of(table)}, {why}, to the schema {aside}"
    if hung:
        done += f"; what still goes by it is to be made anew: {', '.join(hung)}"
    return done


def _is_there(connection: Connection, schema: str, name: str) -> bool:
    place = f"{sql.quote(schema)}.{sql.quote(name)}"
    found = connection.scalar(text("SELECT to_regclass(:place)"), {"place": place})
    return found is not None


def _hung(connection: Connection, table: Table, aside: str, own: Collection[str]) -> list[str]:
    """The views over a table and the foreign keys to it, but for those of `own` or moved before."""
    rows = connection.scalars(
        text(
            "WITH moved (oid) AS (SELECT CAST(to_regclass(:name) AS oid) UNION"
            "  SELECT p.relid FROM pg_partition_tree(to_regclass(:name)) AS p),"
            " hung (kind, oid) AS ("
            "  SELECT CASE c.relkind WHEN 'm' THEN 'the materialized view ' ELSE 'the view ' END,"
            "   c.oid FROM pg_depend AS d"
            "  JOIN pg_rewrite AS r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid"
            "  JOIN pg_class AS c ON c.oid = r.ev_class AND c.relkind IN ('v', 'm')"
            "  WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid IN (SELECT oid FROM moved)"
            "  UNION SELECT 'the foreign key of ', k.conrelid FROM pg_constraint AS k"
            "  WHERE k.contype = 'f' AND k.confrelid = to_regclass(:name) AND k.conparentid = 0)"
            " SELECT format('%s%I.%I', h.kind, n.nspname, c.relname) FROM hung AS h"
            " JOIN pg_class AS c ON c.oid = h.oid JOIN pg_namespace AS n ON n.oid = c.relnamespace"
            " WHERE n.nspname <> :aside AND h.oid NOT IN (SELECT oid FROM moved)"
            " AND NOT EXISTS (SELECT FROM unnest(CAST(:own AS text[])) AS o"
            "  WHERE to_regclass(o) = h.oid) ORDER BY 1"
        ),
        {"name": sql.name_of(table), "aside": aside, "own": list(own)},
    )
    return list(rows)


def _key_with_nulls(connection: Connection, tally: Tally, columns: dict[str, Found]) -> list[str]:
    """Another key where the whole key is the primary key, though nulls belong in it."""
    name = sql.name_of(tally.table)
    nulls = [n for n in tally.key if tally.table.c[n].nullable]
    surrogate = [c for c in tally.table.primary_key if c.name not in tally.key]
    if not nulls or len(surrogate) != 1 or not all(n in columns for n in tally.key):
        return []
    primary = connection.execute(
        text(
            "SELECT k.conname AS name, (SELECT array_agg(CAST(a.attname AS text))"
            "  FROM pg_attribute AS a WHERE a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey))"
            " AS columns"
            " FROM pg_constraint AS k"
            " WHERE k.contype = 'p' AND k.conrelid = to_regclass(:name)"
        ),
        {"name": name},
    ).one_or_none()
    if primary is None or set(primary.columns) != set(tally.key):
        return []
    (number,) = surrogate
    steps = [f"DROP CONSTRAINT {sql.quote(primary.name)}"]
    steps += [f"ALTER COLUMN {sql.quote(n)} DROP NOT NULL" for n in nulls]
    if number.name not in columns:
        steps.append(
            f"ADD COLUMN {sql.quote(number.name)} {sql.type_name(number.type)}"
            " GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY"
        )
    sql.execute(connection, f"ALTER TABLE {name} {', '.join(steps)}")
    _, columns = columns_of(connection, tally.table)
    if not is_unique(connection, tally.table, set(tally.key), columns):
        for index in sorted(tally.table.indexes, key=lambda each: str(each.name)):
            if index.unique:
                _create(connection, index)
    return [
        f"the primary key ({', '.join(tally.key)}) became unique indexes, because"
        f" {' and '.join(nulls)} may be null"
    ]


def _create(connection: Connection, index: Index) -> None:
    connection.execute(CreateIndex(index, if_not_exists=True))


def _fill(connection: Connection, tally: Tally, column: Column[object], there: Found) -> list[str]:
    """Let a column fill itself as it is declared to, where nothing fills it."""
    if there.fills_itself:
        return []
    name, quoted = sql.name_of(tally.table), sql.quote(column.name)
    alter = f"ALTER TABLE {name} ALTER COLUMN {quoted}"
    if column.identity is not None and there.type.name in INTEGERS:
        sql.execute(connection, f"{alter} ADD GENERATED BY DEFAULT AS IDENTITY")
        sql.execute(
            connection,
            f"SELECT setval(pg_get_serial_sequence({sql.literal(name)},"
            f" {sql.literal(column.name)}), max({quoted})) FROM {name} HAVING max({quoted}) > 0",
        )
        return [f"{column.name} numbers itself"]
    default = column.server_default
    if isinstance(default, DefaultClause):
        given = default.arg
        value = sql.literal(given) if isinstance(given, str) else sql.render(given)
        sql.execute(connection, f"{alter} SET DEFAULT {value}")
        return [f"{column.name} has its default"]
    return []
