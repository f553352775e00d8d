"""The tables of a SELECT as SQLAlchemy has them: the derived one by its plan, and its sources.

They are in the metadata of the system, beside those that are declared by hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import (
    DDL,
    Column,
    Computed,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    UniqueConstraint,
    event,
    literal_column,
)

from tallykeeper.database import sql
from tallykeeper.select.column_types import column_type
from tallykeeper.select.plan import COPY, Plan

_REPLICATED = DDL("ALTER TABLE %(fullname)s REPLICA IDENTITY FULL")


def columns_of(plan: Plan, *, numbered: bool) -> list[Column[Any]]:
    """The derived table's columns; `numbered`: equal rows have a number."""
    columns: list[Column[Any]] = [
        # A key of one integer would be numbered by PostgreSQL.
        Column(c.name, column_type(c.type), nullable=c.nullable, autoincrement=False)
        for c in plan.columns
    ]
    if numbered:
        comment = "numbers equal rows"
        columns.append(Column(COPY, Integer, nullable=False, autoincrement=False, comment=comment))
    return columns


def remove_column(table: Table, name: str) -> None:
    """Take a column out of a table's declaration, where it is there."""
    if name in table.c:
        # As SQLAlchemy does where a column is replaced; it has no public way.
        table._columns.remove(table.c[name])  # noqa: SLF001


def add_key(table: Table, key: Sequence[str], whole_row: str | None) -> None:
    """A primary key, or where nulls belong in it a unique index in which they are equal.

    `whole_row` is SQL for the hash of a row, where whole rows are the key.
    """
    if whole_row is not None:
        # An index of whole rows has no room for long ones; the engine alone numbers them.
        Index(sql.shortened(f"{table.name}_rows"), literal_column(whole_row))
        event.listen(table, "after_create", _REPLICATED)
        return
    columns = [table.c[n] for n in key]
    if not any(c.nullable for c in columns):
        table.append_constraint(PrimaryKeyConstraint(*columns))
        return
    name = sql.shortened(f"{table.name}_key")
    Index(name, *columns, unique=True, postgresql_nulls_not_distinct=True)
    # Under a publication of all tables the engine's own changes of it would fail.
    event.listen(table, "after_create", _REPLICATED)


def add_indexes(table: Table, indexes: Iterable[Sequence[str]]) -> None:
    """Those that the declaration names; of columns that there are not, nothing."""
    for names in indexes:
        if set(names) <= set(table.c.keys()):
            name = sql.shortened(f"{table.name}_{'_'.join(names)}")
            Index(name, *(table.c[n] for n in names))


def renamed(table: Table, schema: str, name: str) -> Table:
    """The table with its columns and its unique keys under another name, in metadata of its own.

    Foreign keys and other indexes are left out, for what they are of has other names, too; and an
    identity, whose numbers would be the same in several such tables.
    """
    columns = [
        Column(
            c.name,
            c.type,
            *([Computed(c.computed.sqltext, c.computed.persisted)] if c.computed else []),
            key=c.key,
            primary_key=c.primary_key,
            nullable=c.nullable,
            autoincrement=False,
            server_default=None if c.computed else c.server_default,
            info=c.info,
            comment=c.comment,
        )
        for c in table.c
        if c.identity is None
    ]
    made = Table(name, MetaData(schema=schema), *columns, schema=schema, comment=table.comment)
    for index in table.indexes:
        if index.unique and {c.key for c in index.columns} <= {*made.c.keys()}:
            Index(
                sql.shortened(f"{name}_{index.name}"),
                *(made.c[c.key] for c in index.columns),
                unique=True,
                postgresql_where=index.dialect_options["postgresql"].get("where"),
                postgresql_nulls_not_distinct=index.dialect_options["postgresql"].get(
                    "nulls_not_distinct"
                ),
            )
    for constraint in table.constraints:
        if isinstance(constraint, UniqueConstraint) and set(constraint.columns.keys()) <= {
            *made.c.keys()
        }:
            made.append_constraint(UniqueConstraint(*(made.c[c.key] for c in constraint.columns)))
    return made


def source_of(metadata: MetaData, schema: str | None, name: str) -> Table:
    """The table of that name in the metadata, made there without columns where it is not."""
    if schema is None:
        alike = [table for table in metadata.tables.values() if table.name == name]
        if len(alike) == 1:
            return alike[0]
        schema = metadata.schema
    key = name if schema is None or schema == "public" else f"{schema}.{name}"
    found = metadata.tables.get(key)
    if found is None:
        found = metadata.tables.get(f"{schema or 'public'}.{name}")
    return found if found is not None else Table(name, metadata, schema=schema or "public")


def complete_sources(sources: Iterable[Table], plan: Plan) -> None:
    """Give the sources those of the captured columns that nobody declared."""
    for source in sources:
        named = (source.schema or "public", source.name)
        # By name: a column that is declared under another key has it still.
        known = {column.name for column in source.c}
        for each in plan.captured:
            if (each.schema, each.table) != named:
                continue
            for column in each.columns:
                if column.name not in known:
                    source.append_column(Column(column.name, column_type(column.type)))
