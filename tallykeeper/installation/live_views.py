"""Live views: the derived table with its pending changes, exact as of the last commit.

While a tally is stale its view answers from the sources. Which of the two it is, is decided by
the same snapshot that reads the rows, and the branch not taken is not run. Where a source is
truncated between the snapshot and the reading of it, the view fails rather than answer wrongly.
"""

from __future__ import annotations

from sqlalchemy import Connection, Text, text

from tallykeeper.catalog import fk_locks
from tallykeeper.catalog.state import stale_marks
from tallykeeper.database import sql
from tallykeeper.declarations.tally import WHERE_FRESH, Tally
from tallykeeper.installation.schema_check import naive_of


def create_functions(tally: Tally) -> list[str]:
    """Statements that create the functions that the live view calls, or that writing calls."""
    return [
        sql.create_unbroken(),
        sql.stable_function(
            tally.aggregate_function,
            sql.row_type(tally.table, tally.columns),
            _typed(tally),
        ),
        *tally.functions(),
        *fk_locks.statements(tally),
    ]


def creating(tally: Tally) -> str:
    """How the statement begins that creates or replaces the live view; its query follows."""
    return f"CREATE OR REPLACE VIEW {tally.live_name} AS\n"


def create_view(tally: Tally, naive: frozenset[str] = frozenset()) -> str:
    """The statement that creates the live view."""
    names = ", ".join(sql.literal(t.name) for t in (tally, *tally.upstream))
    stale = f"EXISTS (SELECT FROM {sql.name_of(stale_marks)} AS m WHERE m.tally IN ({names}))"
    if (beyond := tally.beyond_live()) is not None:
        stale = f"({stale} OR {beyond})"
    # A TRUNCATE empties them for older snapshots too, which do not see that they are stale.
    fresh = f"NOT {stale} AND {sql.unbroken([t.table for t in (tally, *tally.upstream)])}"
    rows = tally.live_rows(naive).replace(WHERE_FRESH, fresh)
    return (
        f"{creating(tally)}{rows}\nUNION ALL"
        f" SELECT {_as_declared(tally)} FROM {tally.stale_function}() AS s WHERE {stale}"
    )


def _as_declared(tally: Tally) -> str:
    """The columns of `s`; text of any length as the type that the derived table has for it."""
    return ", ".join(
        f"s.{sql.quote(n)}::character varying AS {sql.quote(n)}"
        if sql.is_text(tally.table.c[n].type) and not isinstance(tally.table.c[n].type, Text)
        else f"s.{sql.quote(n)}"
        for n in tally.columns
    )


def naive_columns(connection: Connection, tally: Tally) -> frozenset[str]:
    """The derived table's computed columns that lack the time zone that they are declared with."""
    computed = [tally.table.c[n] for n in tally.columns]
    return frozenset(c.name for c in naive_of(connection, tally.table, computed))


def misread(connection: Connection, tally: Tally, view: str) -> list[str]:
    """Tables that the live view should read but does not, as after one was renamed.

    A view goes on reading the table that it was made over, whatever name that has. `view` is the
    statement that creates it; of a view that is not there nothing is said.
    """
    named = [sql.name_of(t.table) for t in (tally, *tally.upstream)] + [tally.log_name]
    read = [name for name in named if f" FROM {name} AS " in view]
    rows = connection.execute(
        text(
            "SELECT n FROM unnest(CAST(:read AS text[])) AS n"
            " WHERE to_regclass(:live) IS NOT NULL AND NOT EXISTS ("
            " SELECT FROM pg_rewrite AS r JOIN pg_depend AS d"
            "  ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid"
            "  AND d.refclassid = 'pg_class'::regclass"
            " WHERE r.ev_class = to_regclass(:live) AND d.refobjid = to_regclass(n)) ORDER BY 1"
        ),
        {"read": read, "live": tally.live_name},
    )
    return [row[0] for row in rows]


def _typed(tally: Tally) -> str:
    """The aggregate over all sources as they are live, each column as the derived table has it."""
    columns = ", ".join(
        f"{sql.fitted(f's.{sql.quote(n)}', tally.table.c[n].type)} AS {sql.quote(n)}"
        for n in tally.columns
    )
    rows = tally.with_pruned(sql.render(tally.live_sources()))
    return f"SELECT {columns} FROM (\n{rows}\n) AS s WHERE {sql.unbroken(tally.sources)}"
