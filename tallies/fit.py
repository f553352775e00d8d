"""Whether a table that exists already fits its declaration.

Values flow from a source table through capture into a derived table, so the question is asked in
that direction: the declared type must hold whatever the source has, and the derived table's type
whatever is declared. Timestamps without time zone fit: they are read and written as UTC. Of a
source only those columns matter that a tally reads; of a derived table all, but those that the
engine does not write need only fill themselves. A processed table is both: processing writes all of
it, and tallies read it. Nothing is changed here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

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

from tallies import sql
from tallies.bare import is_stripped
from tallies.capture import BY_SUBSCRIPTION, IS_FOREIGN, foreign, subscribed
from tallies.column_types import Type, holds
from tallies.errors import DoesNotFit
from tallies.tally import Tally, may_be_null

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
    own = {table: raw_misfits(connection, table) for table in raw}
    derived = {table: processed_misfits(connection, table) for table in processed}
    derived |= {tally.table: derived_misfits(connection, tally) for tally in tallies}
    for source in dict.fromkeys(s for t in tallies for s in t.sources):
        # What tallies cannot read of a table that is ours may well be written.
        found = derived[source] if source in derived else own.setdefault(source, [])
        misfits = source_misfits(connection, source, tallies)
        found += [misfit for misfit in misfits if misfit not in found]
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


def raw_misfits(connection: Connection, table: Table) -> list[str]:
    """What keeps a raw table from being processed and added to; empty where it fits or is absent.

    Text and integers may be of any length, times without a zone are in UTC, and json is as good as
    jsonb: a value that does not go in costs its event. Columns that nobody writes fill themselves.
    """
    kind, columns = columns_of(connection, table)
    if kind is None:
        return []
    if kind not in "rp":
        return ["it is not a table"]
    found: list[str] = []
    for column in table.c:
        there = columns.get(column.name)
        if there is None:
            found.append(_missing(connection, column))
            continue
        declared = _declared(connection, column)
        if not _is_alike(declared, there.type):
            found.append(f"{column.name} is {there.type}, expected {declared}")
        if there.computed and column.identity is None:
            found.append(f"{column.name} is generated, but Tallykeeper has to write it")
        # An identity that is no more than that is found by whoever writes a row.
        if column.autoincrement is True and not there.fills_itself:
            found.append(
                f"{column.name} is NOT NULL without a default, and nothing fills it"
                f" (`ALTER TABLE {sql.name_of(table)} ALTER COLUMN {sql.quote(column.name)}"
                " ADD GENERATED BY DEFAULT AS IDENTITY` does)"
            )
        if column.nullable and not there.nullable and not there.fills_itself:
            found.append(f"{column.name} is NOT NULL, but nulls belong in it")
    return found + _unfilled(table, columns)


def _is_alike(declared: Type, there: Type) -> bool:
    """Whether values of the types can stand for each other, but for their length."""
    if {declared.name, there.name} <= JSONS:
        return True
    return holds(declared.as_logged(), there) or holds(there, declared)


def source_misfits(connection: Connection, source: Table, tallies: Iterable[Tally]) -> list[str]:
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
        declared = _declared(connection, column)
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


def derived_misfits(connection: Connection, tally: Tally) -> list[str]:
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
            found += _written_misfits(connection, tally, column, there)
        else:
            found += _unwritten_misfits(column, there)
    found += _unfilled(tally.table, columns)
    found += _incomparable(connection, tally)
    keyed = all(n in columns for n in tally.key) and not is_stripped(connection, tally)
    if keyed and not is_unique(connection, tally.table, set(tally.key), columns):
        found.append(f"no unique index on ({', '.join(tally.key)})")
    return found


def processed_misfits(connection: Connection, table: Table) -> list[str]:
    """What keeps processing from writing the table; empty where it fits or is not there."""
    kind, columns = columns_of(connection, table)
    if kind is None:
        return []
    if kind not in "rp":
        return ["it is not a table"]
    found: list[str] = []
    for column in table.c:
        there = columns.get(column.name)
        if there is None:
            found.append(_missing(connection, column))
            continue
        declared = _declared(connection, column)
        if not holds(there.type, declared):
            found.append(f"{column.name} is {there.type}, expected {declared}")
        if column.computed is not None or column.identity is not None:
            found += _unwritten_misfits(column, there)
        else:
            found += _unwritable(column, there)
    found += _unfilled(table, columns)
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


def _written_misfits(
    connection: Connection, tally: Tally, column: Column[object], there: Found
) -> list[str]:
    found = []
    declared = _declared(connection, column)
    type_ = there.type
    # Whole hours and the time of a change lose nothing by a coarser clock.
    if column.name == UPDATED_AT or (tally.window and column.name == tally.window.column):
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


def _unwritten_misfits(column: Column[object], there: Found) -> list[str]:
    if column.computed is not None and not there.computed:
        return [f"{column.name} is not generated, expected {_generated(column)}"]
    if not there.fills_itself:
        return [f"{column.name} is NOT NULL without a default, and nothing fills it"]
    return []


def _generated(column: Column[object]) -> str:
    assert column.computed is not None
    return f"GENERATED ALWAYS AS ({column.computed.sqltext}) STORED"


def _missing(connection: Connection, column: Column[object]) -> str:
    return f"{column.name} is missing, expected {_declared(connection, column)}"


def _declared(connection: Connection, column: Column[object]) -> Type:
    """The column's declared type, by the name that PostgreSQL gives it."""
    name = connection.scalar(
        text("SELECT format_type(CAST(:type AS regtype), NULL)"),
        {"type": sql.type_name(column.type)},
    )
    limits: tuple[int, ...] = ()
    if isinstance(column.type, String) and sql.is_text(column.type) and column.type.length:
        limits = (column.type.length,)
    elif isinstance(column.type, Numeric) and column.type.precision:
        limits = (column.type.precision, column.type.scale or 0)
    return Type(str(name), limits)


def columns_of(connection: Connection, table: Table) -> tuple[str | None, dict[str, Found]]:
    """The relation's kind, None where there is none, and its columns by name."""
    where = {"schema": table.schema or "public", "name": table.name}
    kind = connection.scalar(
        text(
            "SELECT CAST(c.relkind AS text) FROM pg_class AS c"
            " JOIN pg_namespace AS n ON n.oid = c.relnamespace"
            " WHERE n.nspname = :schema AND c.relname = :name"
        ),
        where,
    )
    rows = connection.execute(
        text(
            "SELECT a.attname AS name, format_type(a.atttypid, NULL) AS type,"
            " CASE WHEN a.atttypmod < 0 THEN NULL"
            "  ELSE substring(format_type(a.atttypid, a.atttypmod) FROM '[(]([0-9,-]+)[)]')"
            " END AS limits,"
            " NOT a.attnotnull AS nullable,"
            " NOT a.attnotnull OR a.atthasdef OR a.attidentity <> '' AS fills_itself,"
            " a.attgenerated <> '' OR a.attidentity = 'a' AS computed,"
            " a.attgenerated = 'v' AS virtual"
            " FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid"
            " JOIN pg_namespace AS n ON n.oid = c.relnamespace"
            " WHERE n.nspname = :schema AND c.relname = :name"
            " AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"
        ),
        where,
    )
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
    }
    return kind, columns


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
