"""The text of a SELECT over tables of other names, word for word otherwise.

Invariant: what a name stands for changes together with the table, and nothing else does: a table
without an alias has its former name as one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sqlglot import exp
from sqlglot.errors import SqlglotError

from tallykeeper.database import sql
from tallykeeper.errors import DeclarationError
from tallykeeper.select.dialect import parse

Name = tuple[str, str]
"""A table's schema and name."""


def name_of(written: str) -> Name:
    """The name that is written as `schema.table`. Raises DeclarationError."""
    schema, _, table = written.partition(".")
    if not schema or not table or "." in table:
        raise DeclarationError(
            f"expected a table as schema.table, as in 'shop.orders', but it is {written!r}"
        )
    return schema, table


def renamed(select: str, names: Mapping[Name, Name]) -> str:
    """The SELECT with the tables of `names` called as these say; others stay.

    Raises DeclarationError where the text cannot be read, or names a table without its schema that
    `names` may mean.
    """
    if not names:
        return select
    try:
        tree = parse(select)
    except SqlglotError as error:
        raise DeclarationError(
            "its SELECT cannot be written for tables of other names, for it cannot be read:"
            f" {str(error).splitlines()[0]}"
        ) from error
    edits = sorted([*_tables(tree, names), *_columns(tree, names)], reverse=True)
    for start, end, text in edits:
        select = select[:start] + text + select[end:]
    return select


def _tables(tree: exp.Query, names: Mapping[Name, Name]) -> Iterator[tuple[int, int, str]]:
    common = {each.alias_or_name for each in tree.find_all(exp.CTE)}
    unqualified = {table for _, table in names}
    for table in tree.find_all(exp.Table):
        if not isinstance(table.this, exp.Identifier):
            continue
        own, schema = _folded(table.this), table.args.get("db")
        if schema is None:
            if own in unqualified and own not in common:
                raise DeclarationError(
                    f"its SELECT names the table {own!r} without its schema; write the schema, so"
                    " that it can be another table at each place"
                )
            continue
        wanted = names.get((_folded(schema), own))
        if wanted is None:
            continue
        alias = "" if table.alias else f" AS {sql.quote(own)}"
        start, _ = _span(schema)
        _, end = _span(table.this)
        yield start, end, f"{sql.quote(wanted[0])}.{sql.quote(wanted[1])}{alias}"


def _columns(tree: exp.Query, names: Mapping[Name, Name]) -> Iterator[tuple[int, int, str]]:
    """Columns that name their table with its schema: they name it alone."""
    for column in tree.find_all(exp.Column):
        schema = column.args.get("db")
        if schema is None or (_folded(schema), _folded(column.args["table"])) not in names:
            continue
        start, _ = _span(schema)
        yield start, _span(column.args["table"])[0], ""


def _folded(identifier: exp.Identifier) -> str:
    """The name as PostgreSQL has it."""
    name = str(identifier.this)
    return name if identifier.args.get("quoted") else name.lower()


def _span(identifier: exp.Identifier) -> tuple[int, int]:
    """Where it begins and ends in the text, quotes included."""
    return int(identifier.meta["start"]), int(identifier.meta["end"]) + 1
