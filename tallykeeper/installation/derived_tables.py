"""Derived tables brought from what a database has to what is declared.

One that is missing is created with its schema, indexes and comments. One that is there gets the
columns, indexes and comments that it lacks, room for nulls, and types that hold more. A column of a
tally that is added is filled when the tally is built anew, as its declaration changed; one of a
table that processing writes has its default, and is filled by what the system brings for that
(`System.upgrade`). Invariants: no value changes and no row is lost; a table that is as declared is
not touched, not even locked; what PostgreSQL does not let be altered stays as it was. Whether the
result fits is `schema_check.py`'s question.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Float,
    Integer,
    Numeric,
    PrimaryKeyConstraint,
    Table,
    UniqueConstraint,
    cast,
    func,
    inspect,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import OID
from sqlalchemy.schema import CreateColumn, CreateIndex, SetColumnComment, SetTableComment

from tallykeeper.capture import change_log, derived_triggers, triggers
from tallykeeper.catalog import dependents, presence, state
from tallykeeper.database import sql
from tallykeeper.declarations.column_types import holds
from tallykeeper.declarations.tally import Tally
from tallykeeper.drift import dependencies
from tallykeeper.installation import live_views, view_replacement
from tallykeeper.installation.conversion import where_possible
from tallykeeper.installation.install import install_own
from tallykeeper.installation.schema_check import Found, columns_of, declared_type, is_unique

COLUMN_MISSING = "a column of its derived table was missing"
NUMBERS = (Integer, Numeric, Float)


@dataclass(frozen=True)
class _Step:
    """What is altered, in a few words, the statements for it, and a column of another type."""

    said: str
    statements: Sequence[str]
    retyped: Column[Any] | None = None
    filled_by: Tally | None = None


@dataclass(frozen=True)
class _There:
    """What a table has besides its columns: comments by column, its own under "", and indexes.

    Of an index its columns, whether it is unique, and whether it is of plain columns and all rows.
    A stripped table lacks those that a backfill builds.
    """

    comments: dict[str, str | None] = field(default_factory=dict)
    indexes: dict[str, tuple[tuple[str, ...], bool, bool]] = field(default_factory=dict)
    is_stripped: bool = False


def existing(connection: Connection, tables: Sequence[Table]) -> list[Table]:
    """Those of the tables in whose place the database has anything."""
    missing = set(presence.missing(connection, tables))
    return [t for t in tables if f"{t.schema or 'public'}.{t.name}" not in missing]


def create(connection: Connection, wanted: Sequence[Table], kind: str) -> list[str]:
    """Create those of the tables that are missing, of the `kind` derived or source."""
    there = existing(connection, wanted)
    missing = [table for table in wanted if table not in there]
    done = []
    for schema in dict.fromkeys(t.schema for t in missing if t.schema):
        if not inspect(connection).has_schema(schema):
            connection.exec_driver_sql(f"CREATE SCHEMA {sql.quote(schema)}")
            done.append(f"created the schema {schema}")
    for metadata in dict.fromkeys(table.metadata for table in missing):
        own = [table for table in missing if table.metadata is metadata]
        # Types that they share with tables which are there are there, too.
        metadata.create_all(connection, tables=own, checkfirst=True)
    if kind == "derived":
        for table in filter(_is_updated, missing):
            sql.execute(connection, f"ALTER TABLE {sql.name_of(table)} SET ({sql.WITH_ROOM})")
    return done + [f"created the {kind} table {sql.name_of(table)}" for table in missing]


def _is_updated(table: Table) -> bool:
    """Whether a refresh updates rows of the table where they are, and it says nothing of that."""
    options = table.dialect_options["postgresql"]
    keys = [
        c.columns
        for c in table.constraints
        if isinstance(c, UniqueConstraint | PrimaryKeyConstraint)
    ]
    keys += [i.columns for i in table.indexes if i.unique]
    is_all_key = any(set(table.columns) <= set(columns) for columns in keys)
    return not (is_all_key or options["with"] or options["partition_by"])


def complete(
    connection: Connection,
    tables: Sequence[Table],
    tallies: Sequence[Tally],
    adopted: Collection[Table] = (),
) -> list[str]:
    """Bring the tables that are there to their declarations; what was done, a sentence a table.

    `tallies` are those that keep one of the tables or read one: nothing counts as a difference of
    theirs that is altered here. Those of the tables that are `adopted` were filled by somebody
    else, and are not built anew: their columns stay as they are.
    """
    keepers = {tally.table: tally for tally in tallies}
    steps = [
        (table, step)
        for table, there in _there(connection, tables).items()
        for step in _steps(connection, table, there, keepers.get(table), table in adopted)
    ]
    if not steps:
        return []
    done: dict[Table, list[str]] = {}
    with dependencies.unchanged(connection, [tally.name for tally in tallies]):
        # A live view that is made anew may read any column that is added.
        for table, step in sorted(steps, key=lambda each: each[1].retyped is not None):
            with where_possible(connection):
                _run(connection, step, keepers.get(table))
                done.setdefault(table, []).append(step.said)
    for table, step in steps:
        if step.filled_by is not None and step.said in done.get(table, ()):
            _require_rebuild(connection, step.filled_by)
    return [
        f"altered the derived table {sql.name_of(table)}: {', '.join(said)}"
        for table, said in done.items()
    ]


def remake(connection: Connection, tally: Tally) -> list[str]:
    """Empty a derived table of the engine's own making and give it the columns that it should have.

    Where its columns, their types or its key are others. It is altered in place, so that grants
    on it stay, and the tally is stale: all that was in it can be computed. Returns what was done.
    Raises HasDependents where something of others depends on a column that would go.
    """
    table, name = tally.table, sql.name_of(tally.table)
    kind, columns = columns_of(connection, table)
    oid = connection.scalar(select(cast(func.to_regclass(name), OID)))
    if kind is None or oid is None:
        return []
    wanted = {c.name: (declared_type(connection, c), c.nullable) for c in table.c}
    present = {n: (found.type, found.nullable) for n, found in columns.items()}
    keys = [{c.name for c in index.columns} for index in table.indexes if index.unique]
    key = {c.name for c in table.primary_key} or (keys[0] if keys else set())
    is_keyed = key <= columns.keys() and is_unique(connection, table, key, columns)
    if wanted == present and (is_keyed or not key):
        return []
    surplus = [n for n, found in present.items() if wanted.get(n) != found]
    view_replacement.stand_on_nothing(connection, tally)
    triggers.drop_calling(connection, name, derived_triggers.own_functions(tally))
    dependents.require_none(
        [
            each
            for each in dependents.on_relation(connection, oid, surplus)
            if each.kind not in {"table constraint", "index"}
        ],
        f"{tally.name}: columns of its derived table {name} change",
    )
    sql.execute(connection, f"TRUNCATE {name}")
    for statement in connection.scalars(text(_DROP_KEYS), {"table": name}).all():
        sql.execute(connection, statement)
    changes = [f"DROP COLUMN {sql.quote(n)}" for n in surplus]
    changes += [
        f"ADD COLUMN {sql.render(CreateColumn(table.c[n]))}"
        for n in wanted
        if n in surplus or n not in present
    ]
    if table.primary_key.columns:
        changes.append(f"ADD PRIMARY KEY ({sql.columns([c.name for c in table.primary_key])})")
    else:
        changes.append("REPLICA IDENTITY FULL")
    sql.execute(connection, f"ALTER TABLE {name} {', '.join(changes)}")
    for index in table.indexes:
        connection.execute(CreateIndex(index, if_not_exists=True))
    state.mark_stale(connection, tally, state.DECLARATION_CHANGED)
    return [f"altered the derived table {name}, whose columns or key are others now"]


def _run(connection: Connection, step: _Step, keeper: Tally | None) -> None:
    """Run the statements; what is installed and names a retyped column makes room meanwhile."""
    column = step.retyped
    if keeper is None or column is None or not _is_live(connection, keeper):
        for statement in step.statements:
            sql.execute(connection, statement)
        return
    view_replacement.stand_on_nothing(connection, keeper)
    own = derived_triggers.own_functions(keeper)
    triggers.drop_calling(connection, sql.name_of(keeper.table), own)
    for statement in step.statements:
        sql.execute(connection, statement)
    if not state.bound(connection, [keeper]):
        # A SELECT in place of what was done by hand: it is installed once it is compiled.
        return
    change_log.retype(connection, keeper, column.name)
    reading = [_live_view(connection, t) for t in keeper.siblings if keeper in t.upstream]
    wanted = _live_view(connection, keeper)
    view_replacement.replace(connection, wanted, reading, alter_log=False)
    install_own(connection, keeper)


def _require_rebuild(connection: Connection, keeper: Tally) -> None:
    """Mark the tally stale whose declaration had the column before: somebody dropped it."""
    known = state.declared(connection, keeper)
    if known is not None and keeper.continues(known):
        state.mark_stale(connection, keeper, COLUMN_MISSING)


def _is_live(connection: Connection, tally: Tally) -> bool:
    return connection.scalar(select(func.to_regclass(tally.live_name))) is not None


def _live_view(connection: Connection, tally: Tally) -> view_replacement.LiveView:
    view = live_views.create_view(tally, live_views.naive_columns(connection, tally))
    return view_replacement.LiveView(tally, live_views.create_functions(tally), view)


def _steps(
    connection: Connection, table: Table, there: _There, keeper: Tally | None, adopted: bool
) -> Iterator[_Step]:
    kind, columns = columns_of(connection, table)
    if kind is None or kind not in "rp":
        return
    written = keeper.columns if keeper else [c.name for c in table.c if c.identity is None]
    names = set(columns)
    for column in table.c if not adopted else ():
        found = columns.get(column.name)
        if found is None:
            added = [*_added(column, keeper)]
            names |= {column.name for _ in added}
            yield from added
        elif column.name in written and not found.computed and column.computed is None:
            yield from _loosened(connection, column, found, keeper)
    if not there.is_stripped:
        yield from _indexes(table, there, names)
    yield from _comments(table, there, names)


def _added(column: Column[Any], keeper: Tally | None) -> Iterator[_Step]:
    """The column, unless it is part of what tells rows apart, or there is no value for them."""
    if column.primary_key or (keeper is not None and column.name in keeper.key):
        return
    filled_by = keeper if keeper is not None and column.name in keeper.columns else None
    table, said = sql.name_of(column.table), f"added the column {column.name}"
    add = f"ALTER TABLE {table} ADD COLUMN {sql.render(CreateColumn(column))}"
    if column.nullable or column.server_default is not None or column.computed is not None:
        yield _Step(said, [add], filled_by=filled_by)
    elif keeper is not None and isinstance(column.type, NUMBERS):
        # Nobody is shown it: the tally is stale until it is built with this column.
        drop = f"ALTER TABLE {table} ALTER COLUMN {sql.quote(column.name)} DROP DEFAULT"
        yield _Step(said, [f"{add} DEFAULT 0", drop], filled_by=filled_by)


def _loosened(
    connection: Connection, column: Column[Any], found: Found, keeper: Tally | None
) -> Iterator[_Step]:
    """Room for nulls, and a type that holds every value of the present one and more.

    A coarser clock stays: whole hours, and the time of a change, lose nothing by it.
    """
    alter = f"ALTER TABLE {sql.name_of(column.table)} ALTER COLUMN {sql.quote(column.name)}"
    if keeper is None and column.nullable and not found.nullable:
        yield _Step(f"{column.name} may be null", [f"{alter} DROP NOT NULL"])
    declared = declared_type(connection, column)
    is_wider = holds(declared, found.type) and not holds(found.type, declared)
    if is_wider and "time" not in declared.name:
        said = f"{column.name} became {declared} from {found.type}"
        yield _Step(said, [f"{alter} TYPE {sql.type_name(column.type)}"], retyped=column)


def _indexes(table: Table, there: _There, names: set[str]) -> Iterator[_Step]:
    """The indexes that are missing, but for those that another one stands for."""
    for index in sorted(table.indexes, key=lambda each: str(each.name)):
        if index.name in there.indexes or not {c.name for c in index.columns} <= names:
            continue
        plain = all(isinstance(each, Column) for each in index.expressions)
        partial = index.dialect_options["postgresql"]["where"] is not None
        shape = tuple(c.name for c in index.columns)
        if plain and not partial and _stands_for(there, shape, unique=bool(index.unique)):
            continue
        yield _Step(f"created the index {index.name}", [sql.render(CreateIndex(index))])


def _stands_for(there: _There, shape: tuple[str, ...], *, unique: bool) -> bool:
    """Whether an index of another name has the same columns in the same order, and all rows."""
    return any(
        columns == shape and whole and (is_unique or not unique)
        for columns, is_unique, whole in there.indexes.values()
    )


def _comments(table: Table, there: _There, names: set[str]) -> Iterator[_Step]:
    said: list[str] = [
        sql.render(SetColumnComment(column))
        for column in table.c
        if column.name in names
        and column.comment
        and column.comment != there.comments.get(column.name)
    ]
    if table.comment and table.comment != there.comments.get(""):
        said.append(sql.render(SetTableComment(table)))
    if said:
        yield _Step("wrote comments", said)


def _stripped(connection: Connection) -> set[str]:
    """The tables of which a backfill has dropped indexes, and builds them when they are full."""
    if not state.is_there(connection, state.unbuilt):
        return set()
    return set(connection.scalars(select(state.unbuilt.c.tally)))


def _there(connection: Connection, tables: Sequence[Table]) -> dict[Table, _There]:
    """What the database has of those tables that exist."""
    by_name = {(table.schema or "public", table.name): table for table in tables}
    wanted = {"schemas": [s for s, _ in by_name], "names": [n for _, n in by_name]}
    rows = connection.execute(text(_COMMENTS), wanted)
    stripped = _stripped(connection)
    found: dict[Table, _There] = {}
    for schema, name, column, comment in rows:
        there = _There(is_stripped=f"{schema}.{name}" in stripped)
        found.setdefault(by_name[schema, name], there).comments[column] = comment
    for schema, name, index, columns, unique, whole in connection.execute(text(_INDEXES), wanted):
        found[by_name[schema, name]].indexes[index] = (tuple(columns), unique, whole)
    return {table: found[table] for table in tables if table in found}


# Of a table whose key changes: constraints that hold an index, and unique indexes of none.
_DROP_KEYS = """
SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname)
FROM pg_constraint WHERE conrelid = to_regclass(:table) AND contype IN ('p', 'u')
UNION ALL SELECT format('DROP INDEX %s', i.indexrelid::regclass) FROM pg_index AS i
WHERE i.indrelid = to_regclass(:table) AND i.indisunique
AND NOT EXISTS (SELECT FROM pg_constraint AS c WHERE c.conindid = i.indexrelid)"""

_WANTED = """
WITH wanted AS (
  SELECT n.nspname, c.relname, c.oid FROM pg_class AS c
  JOIN pg_namespace AS n ON n.oid = c.relnamespace
  JOIN unnest(CAST(:schemas AS text[]), CAST(:names AS text[])) AS w (nsp, rel)
    ON n.nspname = w.nsp AND c.relname = w.rel)
"""
_COMMENTS = f"""{_WANTED}
SELECT w.nspname, w.relname, '', obj_description(w.oid, 'pg_class') FROM wanted AS w
UNION ALL SELECT w.nspname, w.relname, a.attname, col_description(w.oid, a.attnum)
FROM wanted AS w JOIN pg_attribute AS a ON a.attrelid = w.oid AND a.attnum > 0
WHERE NOT a.attisdropped"""
_INDEXES = f"""{_WANTED}
SELECT w.nspname, w.relname, i.relname, ARRAY(SELECT CAST(a.attname AS text)
    FROM unnest((CAST(x.indkey AS int2[]))[0 : x.indnkeyatts - 1])
      WITH ORDINALITY AS k (number, place)
    JOIN pg_attribute AS a ON a.attrelid = w.oid AND a.attnum = k.number ORDER BY k.place),
  x.indisunique, x.indpred IS NULL AND x.indexprs IS NULL AND x.indisvalid
FROM wanted AS w JOIN pg_index AS x ON x.indrelid = w.oid JOIN pg_class AS i ON i.oid = x.indexrelid
"""
