"""Tables and columns of the schema `tallykeeper` that an earlier release named otherwise.

Invariants: nothing is copied and no row is lost; where all names are those of this release,
nothing is locked and nothing is written.
"""

from __future__ import annotations

from sqlalchemy import Connection

from tallykeeper.database import sql

TABLES = {"heard": "processed_events"}
COLUMNS = {
    ("incidents", "mended_at"): "resolved_at",
    ("incidents", "mended_by"): "resolved_by",
    ("processed_events", "heard_at"): "processed_at",
    ("tally_state", "pending_taken"): "pending_consumed",
    ("unbuilt", "mending"): "repair",
}
# What rows say in the words of that release; run where the column that goes with them had its name.
VALUES = {
    ("incidents", "mended_at"): (
        "UPDATE {schema}.messages SET kind = replace(kind, 'mended', 'resolved')"
        " WHERE kind IN ('mended', 'not mended')",
        "UPDATE {schema}.incidents SET details = details - 'to_mend'"
        " || jsonb_build_object('to_resolve', details -> 'to_mend') WHERE details ? 'to_mend'",
    ),
    ("tally_state", "pending_taken"): (
        "UPDATE {schema}.stale_marks SET reason = 'its capture was found broken and repaired'"
        " WHERE reason = 'its capture was found broken and mended'",
    ),
}


def apply(connection: Connection) -> None:
    """Rename what has an earlier release's name, in the caller's transaction."""
    known = columns_there(connection)
    for old, new in TABLES.items():
        if old in known and new not in known:
            _alter(connection, old, f"RENAME TO {sql.quote(new)}")
            known[new] = known.pop(old)
    for (table, old), new in COLUMNS.items():
        if old in known.get(table, ()) and new not in known[table]:
            _alter(connection, table, f"RENAME COLUMN {sql.quote(old)} TO {sql.quote(new)}")
            for statement in VALUES.get((table, old), ()):
                sql.execute(connection, statement.format(schema=sql.ENGINE_SCHEMA))


def columns_there(connection: Connection) -> dict[str, set[str]]:
    """Return the columns of each table of the schema `tallykeeper`."""
    rows = connection.exec_driver_sql(
        "SELECT c.relname, array_agg(a.attname::text) FROM pg_class AS c"
        " JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"
        f" WHERE c.relnamespace = '{sql.ENGINE_SCHEMA}'::regnamespace AND c.relkind = 'r'"
        " GROUP BY c.relname"
    )
    return {name: set(columns) for name, columns in rows}


def _alter(connection: Connection, table: str, action: str) -> None:
    sql.execute(connection, f"ALTER TABLE {sql.ENGINE_SCHEMA}.{sql.quote(table)} {action}")
