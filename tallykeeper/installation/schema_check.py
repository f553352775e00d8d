"""Whether a table that exists already fits its declaration.

Values flow from a source table through capture into a derived table, so the question is asked in
that direction: the declared type must hold whatever the source has, and the derived table's type
whatever is declared. Timestamps without time zone fit: they are read and written as UTC. Of a
source only those columns matter that a tally reads; of a derived table all, but those that the
engine does not write need only fill themselves. A processed table is both: processing writes all of
it, and tallies read it. Nothing is changed here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Numeric,
    PrimaryKeyConstraint,
    String,
    Table,
    UniqueConstraint,
    text,
)

from tallykeeper.capture.triggers import BY_SUBSCRIPTION, IS_FOREIGN, foreign, subscribed
from tallykeeper.database import sql
from tallykeeper.declarations.column_types import Type, holds
from tallykeeper.declarations.tally import Tally, may_be_null
from tallykeeper.errors import DoesNotFit
from tallykeeper.installation.deferred_indexes import is_stripped
from tallykeeper.select.column_types import NamedType

OF_SOURCES = (
    "of a source table alter those columns (where they are always filled: `ALTER TABLE ... ALTER"
    " COLUMN ... SET NOT NULL`), or declare them as they are"
)
OF_DERIVED = (
    "of a derived table alter those columns, or run `tally migrate --move-aside`, which moves it to"
    " a schema of its own and makes another"
)

UPDATED_AT = "updated_at"
JSONS = {"json", "jsonb"}
# PostgreSQL's names for its own types, by how they are written: alike in every database.
_BUILT_IN: dict[str, str] = {}
# What is in parentheses behind the name of a type.
_LIMITS = re.compile(r"\(([0-9,]+)\)")


@dataclass(frozen=True)
class Found:
    """A column as the database has it."""

    name: str
    type: Type
    nullable: bool
    fills_itself: bool
    computed: bool
    virtual: bool


def require_fit(
    connection: Connection,
    tallies: Sequence[Tally],
    processed: Sequence[Table] = (),
    raw: Sequence[Table] = (),
    *,
    of_sources: str = OF_SOURCES,
    of_systems: Sequence[tuple[Collection[Table], str]] = (),
) -> None:
    """Check the source and derived tables of `tallies`, and `processed` ones, as far as they exist.

    So the tables `raw`, which are processed. `of_sources` says what can be done where a source
    table does not fit, `of_systems` what else where one of these tables does not. Raises
    DoesNotFit, which lists everything that does not fit in any.
    """
    own = {table: raw_mismatches(connection, table) for table in raw}
    derived = {table: processed_mismatches(connection, table) for table in processed}
    derived |= {tally.table: derived_mismatches(connection, tally) for tally in tallies}
    for source in dict.fromkeys(s for t in tallies for s in t.sources):
        # What tallies cannot read of a table that is ours may well be written.
        found = derived[source] if source in derived else own.setdefault(source, [])
        mismatches = source_mismatches(connection, source, tallies)
        found += [mismatch for mismatch in mismatches if mismatch not in found]
    said = [
        f"the {kind} table {sql.name_of(table)}: {', '.join(what)}"
        for kind, place in (("source", own), ("derived", derived))
        for table, what in place.items()
        if what
    ]
    if said:
        unfit = {table for table, what in (own | derived).items() if what}
        ways = [of_sources] if any(own.values()) else []
        ways += [OF_DERIVED] if any(derived.values()) else []
        ways += [advice for tables, advice in of_systems if unfit.intersection(tables)]
        raise DoesNotFit(
            f"existing tables do not fit what their tallies declare: {'; '.join(said)}."
            f" Nothing was changed; {'; '.join(ways)}"
        )


def raw_mismatches(connection: Connection, table: Table) -> list[str]:
    """What keeps a raw table from being processed and added to; empty where it fits or is absent.

    Text and integers may be of any length, times without a zone are in UTC, and json is as good as
    jsonb: a value that does not go in costs its event. Columns that nobody writes fill themselves.
    """
    return _table_mismatches(connection, table, _is_alike, _raw_mismatches)[0]


def _raw_mismatches(column: Column[Any], there: Found) -> list[str]:
    found = []
    if there.computed and column.identity is None:
        found.append(f"{column.name} is generated, but Tallykeeper has to write it")
    # An identity that is no more than that is found by the role that writes a row.
    if column.autoincrement is True and not there.fills_itself:
        found.append(
            f"{column.name} is NOT NULL without a default, and nothing fills it"
            f" (`ALTER TABLE {sql.name_of(column.table)} ALTER COLUMN {sql.quote(column.name)}"
            " ADD GENERATED BY DEFAULT AS IDENTITY` does)"
        )
    if column.nullable and not there.nullable and not there.fills_itself:
        found.append(f"{column.name} is NOT NULL, but nulls belong in it")
    return found


def _table_mismatches(
    connection: Connection,
    table: Table,
    holds_it: Callable[[Type, Type], bool],
    mismatches: Callable[[Column[Any], Found], list[str]],
) -> tuple[list[str], dict[str, Found]]:
    """What keeps a table from being written, and its columns; nothing of one that is absent.

    `holds_it` is whether a declared type goes into the one that is there; `mismatches` is what else
    is to be said of a column.
    """
    kind, columns = columns_of(connection, table)
    if kind is None:
        return [], {}
    if kind not in "rp":
        return ["it is not a table"], {}
    found: list[str] = []
    for column in table.c:
        there = columns.get(column.name)
        if there is None:
            found.append(_missing(connection, column))
            continue
        declared = declared_type(connection, column)
        if not holds_it(declared, there.type):
            found.append(f"{column.name} is {there.type}, expected {declared}")
        found += mismatches(column, there)
    return found + _unfilled(table, columns), columns


def _is_alike(declared: Type, there: Type) -> bool:
    """Whether values of the types can stand for each other, but for their length."""
    if {declared.name, there.name} <= JSONS:
        return True
    return holds(declared.as_logged(), there) or holds(there, declared)


def source_mismatches(connection: Connection, source: Table, tallies: Iterable[Tally]) -> list[str]:
    """What keeps `tallies` from reading the source; empty where it fits or does not exist."""
    kind, columns = columns_of(connection, source)
    if kind is None:
        return []
    if kind not in "rp":
        return ["it is not a table (capture needs a table, plain or partitioned)"]
    read = {n for t in tallies if source in t.sources for n in t.relevant(source)}
    found = [f"{relation} {BY_SUBSCRIPTION}" for relation in subscribed(connection, source)]
    found += [
        f"{relation} {IS_FOREIGN}; detach it, or count a table that is copied from it"
        for relation in foreign(connection, source)
    ]
    for column in source.c:
        if column.name not in read:
            continue
        there = columns.get(column.name)
        if there is None:
            found.append(_missing(connection, column))
            continue
        declared = declared_type(connection, column)
        # The change log keeps text at any length, so only its length may differ.
        if not holds(declared.as_logged(), there.type):
            found.append(f"{column.name} is {there.type}, expected {declared}")
        if there.nullable and not may_be_null(column):
            found.append(f"{column.name} may be null, expected NOT NULL")
        if there.virtual:
            # PostgreSQL 18 shows null for it in the transition table of new rows.
            found.append(
                f"{column.name} is a virtual generated column, which triggers do not see;"
                " make it STORED"
            )
    return found


def derived_mismatches(connection: Connection, tally: Tally) -> list[str]:
    """What keeps the engine from writing the derived table; empty where it fits or is not there."""
    kind, columns = columns_of(connection, tally.table)
    if kind is None:
        return []
    if kind not in "rp":
        return ["it is not a table"]
    written = {*tally.columns, *([UPDATED_AT] if tally.has_updated_at else [])}
    found: list[str] = []
    for column in tally.table.c:
        there = columns.get(column.name)
        if there is None:
            found.append(_missing(connection, column))
        elif column.name in written:
            found += _written_mismatches(connection, tally, column, there)
        else:
            found += _unwritten_mismatches(column, there)
    found += _unfilled(tally.table, columns)
    found += _incomparable(connection, tally)
    keyed = all(n in columns for n in tally.key) and not is_stripped(connection, tally)
    keyed = keyed and tally.has_unique_index
    if keyed and not is_unique(connection, tally.table, set(tally.key), columns):
        found.append(f"no unique index on ({', '.join(tally.key)})")
    return found


def processed_mismatches(connection: Connection, table: Table) -> list[str]:
    """What keeps processing from writing the table; empty where it fits or is not there."""

    def mismatches(column: Column[Any], there: Found) -> list[str]:
        if column.computed is not None or column.identity is not None:
            return _unwritten_mismatches(column, there)
        return _unwritable(column, there)

    found, columns = _table_mismatches(
        connection, table, lambda declared, there: holds(there, declared), mismatches
    )
    for key in _unique_keys(table):
        if key <= columns.keys() and not is_unique(connection, table, key, columns, split=True):
            names = [c.name for c in table.c if c.name in key]
            found.append(f"no unique index on ({', '.join(names)})")
    return found


def _unique_keys(table: Table) -> list[set[str]]:
    """The columns of the primary key, and of each unique constraint."""
    constraints = [table.primary_key, *table.constraints]
    keys = (c for c in constraints if isinstance(c, PrimaryKeyConstraint | UniqueConstraint))
    return [{column.name for column in key.columns} for key in dict.fromkeys(keys)]


def _unfilled(table: Table, columns: dict[str, Found]) -> list[str]:
    return [
        f"{there.name} is NOT NULL without a default, and nothing fills it"
        for there in columns.values()
        if there.name not in table.c and not there.fills_itself
    ]


def _incomparable(connection: Connection, tally: Tally) -> list[str]:
    """Key columns of types whose values the engine's functions cannot compare."""
    rows = connection.execute(
        text(
            "SELECT a.attname AS name, format_type(a.atttypid, NULL) AS type,"
            " CAST(t.typtype AS text) AS kind"
            " FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid"
            " WHERE a.attrelid = to_regclass(:relation) AND a.attname = ANY (:key)"
            " AND t.typnamespace <> 'pg_catalog'::regnamespace AND t.typelem = 0"
            " AND (t.typtype = 'b' OR t.typtype = 'c' AND :recomputed) ORDER BY a.attnum"
        ),
        {
            "relation": sql.name_of(tally.table),
            "key": list(tally.key),
            "recomputed": tally.kind == "recomputed",
        },
    )
    advice = {
        "b": "a type of an extension, whose operators functions with a fixed search_path do not"
        " find; make the key text, as in cast(row.{0}, Text)",
        "c": "a row type; give each of its fields a key column of its own",
    }
    return [f"{r.name} is {r.type}, {advice[r.kind].format(r.name)}" for r in rows]


def _unwritable(column: Column[object], there: Found) -> list[str]:
    """What keeps a column of a fitting type from holding the declared one's values."""
    found = []
    if there.computed:
        found.append(f"{column.name} is generated, but Tallykeeper has to write it")
    if column.nullable and not there.nullable:
        found.append(f"{column.name} is NOT NULL, but nulls belong in it")
    if there.nullable and not column.nullable:
        found.append(f"{column.name} may be null, expected NOT NULL")
    return found


def _written_mismatches(
    connection: Connection, tally: Tally, column: Column[object], there: Found
) -> list[str]:
    found = []
    declared = declared_type(connection, column)
    type_ = there.type
    # Whole hours and the time of a change lose nothing by a coarser clock.
    if column.name == UPDATED_AT or (tally.time_key and column.name == tally.time_key.column):
        type_ = type_.without_limits()
    # Nullable keys are compared as records, which have to be of the same types.
    alike = column.name in tally.key and bool(column.nullable)
    if not (type_ == declared if alike else holds(type_, declared)):
        found.append(f"{column.name} is {there.type}, expected {declared}")
    if column.name == UPDATED_AT and column.name not in tally.columns:
        if there.computed:
            found.append(f"{column.name} is generated, but Tallykeeper has to write it")
        return found
    return found + _unwritable(column, there)


def _unwritten_mismatches(column: Column[object], there: Found) -> list[str]:
    if column.computed is not None and not there.computed:
        return [f"{column.name} is not generated, expected {_generated(column)}"]
    if not there.fills_itself:
        return [f"{column.name} is NOT NULL without a default, and nothing fills it"]
    return []


def _generated(column: Column[object]) -> str:
    assert column.computed is not None
    return f"GENERATED ALWAYS AS ({column.computed.sqltext}) STORED"


def _missing(connection: Connection, column: Column[object]) -> str:
    return f"{column.name} is missing, expected {declared_type(connection, column)}"


def declared_type(connection: Connection, column: Column[Any]) -> Type:
    """The column's declared type, by the name that PostgreSQL has for it."""
    written = sql.type_name(column.type)
    name = _BUILT_IN.get(written)
    if name is None:
        name, is_built_in = connection.execute(
            text(
                "SELECT format_type(oid, NULL), typnamespace = 'pg_catalog'::regnamespace"
                " FROM pg_type WHERE oid = CAST(:type AS regtype)"
            ),
            {"type": written},
        ).one()
        if is_built_in:
            _BUILT_IN[written] = name
    limits: tuple[int, ...] = ()
    if isinstance(column.type, String) and sql.is_text(column.type) and column.type.length:
        limits = (column.type.length,)
    elif isinstance(column.type, Numeric) and column.type.precision:
        limits = (column.type.precision, column.type.scale or 0)
    elif isinstance(column.type, NamedType) and (found := _LIMITS.search(written)):
        limits = tuple(int(limit) for limit in found[1].split(","))
    return Type(name, limits)


def naive_of(
    connection: Connection, table: Table, columns: Iterable[Column[Any]]
) -> list[Column[Any]]:
    """Those of a table's columns that lack the time zone that they are declared with."""
    rows = connection.execute(
        text(
            "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(:relation)"
            " AND attnum > 0 AND NOT attisdropped AND atttypid = 'timestamp'::regtype"
        ),
        {"relation": sql.name_of(table)},
    )
    found = set(rows.scalars())
    return [c for c in columns if c.name in found and getattr(c.type, "timezone", False)]


def columns_of(connection: Connection, table: Table) -> tuple[str | None, dict[str, Found]]:
    """The relation's kind, None where there is none, and its columns by name."""
    rows = connection.execute(
        text(
            "SELECT CAST(c.relkind AS text) AS kind, a.attname AS name,"
            " format_type(a.atttypid, NULL) AS type,"
            " CASE WHEN a.atttypmod < 0 THEN NULL"
            "  ELSE substring(format_type(a.atttypid, a.atttypmod) FROM '[(]([0-9,-]+)[)]')"
            " END AS limits,"
            " NOT a.attnotnull AS nullable,"
            " NOT a.attnotnull OR a.atthasdef OR a.attidentity <> '' AS fills_itself,"
            " a.attgenerated <> '' OR a.attidentity = 'a' AS computed,"
            " a.attgenerated = 'v' AS virtual"
            " FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
            " LEFT JOIN pg_attribute AS a"
            "  ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"
            " WHERE n.nspname = :schema AND c.relname = :name ORDER BY a.attnum"
        ),
        {"schema": table.schema or "public", "name": table.name},
    ).all()
    columns = {
        row.name: Found(
            row.name,
            Type(row.type, tuple(int(n) for n in (row.limits or "").split(",") if n)),
            row.nullable,
            row.fills_itself,
            row.computed,
            row.virtual,
        )
        for row in rows
        if row.name is not None
    }
    return (rows[0].kind if rows else None), columns


def is_unique(
    connection: Connection,
    table: Table,
    key: set[str],
    columns: dict[str, Found],
    *,
    split: bool = False,
) -> bool:
    """Whether an index keeps each key to one row, those with nulls in it included.

    With `split` the columns by which the table is partitioned may be in it besides: PostgreSQL
    demands them there, and processing looks a row up before it writes it.
    """
    rows = connection.execute(
        text(
            "SELECT (SELECT array_agg(CAST(a.attname AS text)) FROM pg_attribute AS a"
            "  WHERE a.attrelid = i.indrelid"
            "  AND a.attnum = ANY ((CAST(i.indkey AS int2[]))[0 : i.indnkeyatts - 1])) AS names,"
            " i.indpred IS NOT NULL AS partial, i.indnullsnotdistinct AS nulls_are_equal,"
            " ARRAY(SELECT CAST(a.attname AS text) FROM pg_partitioned_table AS p"
            "  JOIN pg_attribute AS a ON a.attrelid = p.partrelid"
            "  AND a.attnum = ANY (CAST(p.partattrs AS int2[]))"
            "  WHERE p.partrelid = i.indrelid) AS split_by"
            " FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indrelid"
            " JOIN pg_namespace AS n ON n.oid = c.relnamespace"
            " WHERE n.nspname = :schema AND c.relname = :name"
            " AND i.indisunique AND i.indisvalid AND i.indexprs IS NULL"
        ),
        {"schema": table.schema or "public", "name": table.name},
    ).all()
    nullable = {n for n in key if columns[n].nullable}
    more = {name for row in rows for name in row.split_by if split}
    whole = [row for row in rows if key <= set(row.names) <= key | more]
    if any(not row.partial and (row.nulls_are_equal or not nullable) for row in whole):
        return True
    # As declared: one index over the key, and one without what is null in it.
    return bool(nullable and whole) and any(set(row.names) == key - nullable for row in rows)
