"""Live views: the derived table with its pending changes, exact as of the last commit.

While a tally is stale its view answers from the sources. Which of the two it is, is decided by
the same snapshot that reads the rows, and the branch not taken is not run. Where a source is
truncated between the snapshot and the reading of it, the view fails rather than answer wrongly.
"""

from __future__ import annotations

from sqlalchemy import Connection, text

from tallies import holding, sql
from tallies.state import stale_marks
from tallies.tally import Tally


def create_view(tally: Tally, naive: frozenset[str] = frozenset()) -> list[str]:
    """Statements that create the live view and the functions it calls, or that writing calls."""
    names = ", ".join(sql.literal(t.name) for t in (tally, *tally.upstream))
    stale = f"EXISTS (SELECT FROM {sql.name_of(stale_marks)} AS m WHERE m.tally IN ({names}))"
    fresh = f"NOT {stale}"
    # A TRUNCATE of what they refer to, with CASCADE, empties them for older snapshots too.
    referring = [t.table for t in (tally, *tally.upstream) if t.table.foreign_keys]
    if referring:
        fresh += f" AND {sql.unbroken(referring)}"
    rows = tally.live_rows(naive).replace("{fresh}", fresh)
    view = (
        f"CREATE OR REPLACE VIEW {tally.live_name} AS\n{rows}\nUNION ALL"
        f" SELECT {sql.columns(tally.columns, 's')} FROM {tally.aggregate_function}() AS s"
        f" WHERE {stale}"
    )
    return [
        sql.create_unbroken(),
        sql.stable_function(
            tally.aggregate_function,
            sql.row_type(tally.table, tally.columns),
            _typed(tally),
        ),
        *tally.functions(),
        *holding.statements(tally),
        view,
    ]


def naive_columns(connection: Connection, tally: Tally) -> frozenset[str]:
    """The derived table's computed columns that are timestamps without time zone."""
    rows = connection.execute(
        text(
            "SELECT attname FROM pg_attribute WHERE attrelid = CAST(:relation AS regclass)"
            " AND attnum > 0 AND NOT attisdropped AND atttypid = 'timestamp'::regtype"
        ),
        {"relation": sql.name_of(tally.table)},
    )
    return frozenset(row[0] for row in rows) & frozenset(tally.columns)


def _typed(tally: Tally) -> str:
    """The aggregate over all sources as they are live, each column as the derived table has it."""
    columns = ", ".join(
        f"s.{sql.quote(n)}::{sql.type_name(tally.table.c[n].type)}" for n in tally.columns
    )
    return (
        f"SELECT {columns} FROM (\n{sql.render(tally.live_sources())}\n) AS s"
        f" WHERE {sql.unbroken(tally.sources)}"
    )
