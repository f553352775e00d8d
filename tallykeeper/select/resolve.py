"""From a definition view to a SELECT in normal form, with the tables that it reads.

PostgreSQL has resolved the names already: the text is the view's, printed under an empty search
path, where every table carries its schema and renames are followed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, text
from sqlglot import exp
from sqlglot.errors import SqlglotError

from tallykeeper.select import dialect
from tallykeeper.select.definition import sources
from tallykeeper.select.definition.sources import Source, SourceColumn
from tallykeeper.select.syntax import set_returning
from tallykeeper.select.syntax.normal_form import Normaliser, NotUnderstood

__all__ = ["NotUnderstood", "OutputColumn", "Resolved", "Source", "SourceColumn", "resolve"]

_OUTPUT = text("""
SELECT attname AS name, format_type(atttypid, atttypmod) AS type, atttypmod AS typmod
FROM pg_attribute WHERE attrelid = to_regclass(:view) AND attnum > 0 AND NOT attisdropped
ORDER BY attnum""")


@dataclass(frozen=True)
class OutputColumn:
    """A column that the SELECT returns; `type` as SQL writes it."""

    name: str
    type: str
    typmod: int


@dataclass(frozen=True)
class Resolved:
    """A SELECT in normal form.

    `parsed` is the tree as the view prints it, `tree` the same in normal form (see
    `normal_form.Normaliser`), `columns` what the view returns, `sources` the relations read, by
    schema and name. `view` is the definition view.
    """

    tree: exp.Query
    columns: tuple[OutputColumn, ...]
    sources: Mapping[tuple[str, str], Source]
    parsed: exp.Query
    view: str


def view_text(connection: Connection, view: str) -> str:
    """The SELECT of a view, every name in it qualified."""
    before = connection.execute(text("SELECT current_setting('search_path')")).scalar_one()
    set_path = text("SELECT pg_catalog.set_config('search_path', :path, true)")
    connection.execute(set_path, {"path": ""})
    definition = connection.execute(
        text("SELECT pg_catalog.pg_get_viewdef(pg_catalog.to_regclass(:view))"), {"view": view}
    ).scalar_one()
    connection.execute(set_path, {"path": before})
    if definition is None:
        raise LookupError(f"{view} is not there, or is not a view")
    return str(definition)


def view_columns(connection: Connection, view: str) -> tuple[OutputColumn, ...]:
    """What a view returns."""
    found = connection.execute(_OUTPUT, {"view": view})
    return tuple(OutputColumn(c.name, c.type, c.typmod) for c in found)


def resolve(connection: Connection, view: str) -> Resolved:
    """Resolve a definition view, named as SQL writes it, with its schema.

    Raises:
        NotUnderstood: the SELECT is valid, but not one that the compiler can take apart.
    """
    columns = view_columns(connection, view)
    try:
        parsed = dialect.parse(view_text(connection, view))
    except SqlglotError as error:
        raise NotUnderstood(f"it could not be parsed: {str(error).splitlines()[0]}") from error
    found: dict[tuple[str, str], Source] = {}

    def source(schema: str, name: str) -> Source | None:
        if (schema, name) not in found:
            read = sources.read(connection, schema, name)
            if read is None:
                return None
            found[schema, name] = read
        return found[schema, name]

    def view_query(relation: Source) -> exp.Query:
        del found[relation.schema, relation.name]
        name = exp.table_(relation.name, relation.schema, quoted=True).sql("postgres")
        read = dialect.parse(view_text(connection, name))
        set_returning.put_into_from(connection, name, read)
        return read

    changed = parsed.copy()
    set_returning.put_into_from(connection, view, changed)
    tree = Normaliser(source, view_query).top(changed, [c.name for c in columns])
    return Resolved(tree, columns, found, parsed, view)
