"""What the catalogue says of a table's columns: their types, their meaning, where they come from.

Read from the SQLAlchemy tables and the tallies' own SELECTs, so there is nothing to keep in step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import dagster as dg
from sqlalchemy import ClauseElement, Column, ColumnClause, Table, TableValuedAlias
from sqlalchemy.sql import visitors
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.types import NullType

from tallykeeper import Tally
from tallykeeper.dagster.metadata.column_descriptions import BY_NAME
from tallykeeper.dagster_names import asset_path
from tallykeeper.database.sql import type_name


def table_name(table: Table) -> str:
    """The table's qualified name, as one types it in psql: `media.media_files`."""
    return f"{table.schema or 'public'}.{table.name}"


def schema_of_table(table: Table) -> dg.TableSchema:
    """The table's columns with type, comment and constraints."""
    return dg.TableSchema([_column(c) for c in table.columns])


def key_of_table(tallies: Sequence[Tally], table: Table) -> dg.AssetKey:
    """The asset of a table that tallies of one system count or keep.

    A derived table's is its name alone; a source of the same name as another table of the system
    is called by its schema too.
    """
    system = tallies[0].system
    derived = [tally.table for tally in tallies]
    if table in derived:
        return dg.AssetKey(asset_path(system, table.name))
    others = {t for t in (*derived, *(s for tally in tallies for s in tally.sources)) if t != table}
    if any(other.name == table.name for other in others):
        return dg.AssetKey(asset_path(system, table.schema or "public", table.name))
    return dg.AssetKey(asset_path(system, table.name))


def lineage(tally: Tally) -> dg.TableColumnLineage:
    """From which source columns each key and measure is computed.

    A column that depends on no source column (a count of rows) is left out.
    """
    origins: dict[str, list[dg.TableColumnDep]] = {}
    for computed in tally.as_declared().selected_columns:
        under = set(_origins(computed))
        found = [
            dg.TableColumnDep(key_of_table(tally.siblings, source), column.name)
            for source in tally.sources
            for column in source.columns
            if column in under
        ]
        if found:
            origins[computed.name] = found
    return dg.TableColumnLineage(origins)


def _column(column: Column[object]) -> dg.TableColumn:
    return dg.TableColumn(
        name=column.name,
        type="unknown" if isinstance(column.type, NullType) else type_name(column.type).lower(),
        description=column.comment or BY_NAME.get(column.name),
        constraints=dg.TableColumnConstraints(
            nullable=bool(column.nullable),
            unique=bool(column.unique or _is_whole_primary_key(column)),
        ),
    )


def _is_whole_primary_key(column: Column[object]) -> bool:
    return list(column.table.primary_key) == [column] if isinstance(column.table, Table) else False


def _origins(element: ClauseElement) -> Iterator[Column[object]]:
    """The table columns under an expression: through labels, functions, subqueries, unnest()."""
    for part in visitors.iterate(element):
        if isinstance(part, Column) and isinstance(part.table, Table):
            yield part
        elif isinstance(part, ColumnClause) and isinstance(part.table, TableValuedAlias):
            yield from _origins(part.table.element)
        elif isinstance(part, ColumnElement):
            for base in getattr(part, "base_columns", ()):
                if base is not part and base is not element:
                    yield from _origins(base)
