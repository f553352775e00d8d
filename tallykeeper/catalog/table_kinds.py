"""Which kinds of tables can be captured and kept, and why others are refused.

What is refused here accepts triggers, or seems to, and then loses changes or fails every write of
the application. Extensions are known by the tables in which they note what is theirs.
"""

from __future__ import annotations

from sqlalchemy import Connection, Table, text

from tallykeeper.database import sql
from tallykeeper.errors import NotInstalled

_KIND = """
SELECT c.relkind::text AS kind, c.relpersistence::text AS persistence, a.amname AS method,
       to_regclass('pg_dist_partition') IS NOT NULL AS citus,
       to_regclass('_timescaledb_catalog.hypertable') IS NOT NULL AS timescale
FROM pg_class AS c LEFT JOIN pg_am AS a ON a.oid = c.relam WHERE c.oid = to_regclass(:name)"""
_DISTRIBUTED = "SELECT FROM pg_dist_partition WHERE logicalrelid = CAST(:name AS regclass)"
_HYPERTABLE = (
    "SELECT FROM _timescaledb_catalog.hypertable"
    " WHERE format('%I.%I', schema_name, table_name)::regclass = CAST(:name AS regclass)"
)


def require_keepable(connection: Connection, tally: str, table: Table, role: str) -> None:
    """Check that the table is there and of a kind that is kept exactly.

    `role` is what it is to the tally, source or derived. Raises NotInstalled.
    """
    name = {"name": sql.name_of(table)}
    row = connection.execute(text(_KIND), name).one_or_none()
    if row is None:
        raise NotInstalled(f"{tally}: the {role} table {name['name']} does not exist")
    refused = None
    if row.kind not in {"r", "p"}:
        refused = (
            "is not a table; capture needs a table or a partitioned table, not a view or a foreign"
            " table"
        )
    elif row.persistence == "t":
        refused = "is a temporary table, which other sessions do not see; use one that stays"
    elif row.method not in {None, "heap"}:
        refused = (
            f"is stored by the access method {row.method!r}, of which it is not known whether"
            " triggers see each change; move it to heap with ALTER TABLE ... SET ACCESS METHOD"
        )
    elif row.citus and connection.execute(text(_DISTRIBUTED), name).first() is not None:
        refused = (
            "is distributed by Citus: on its shards there would be no change log, and every write"
            " would fail. Use `tally migrate --distribute`, or a table that is not distributed"
        )
    elif row.timescale and connection.execute(text(_HYPERTABLE), name).first() is not None:
        refused = (
            "is a hypertable of TimescaleDB, which is not supported: what compression and retention"
            " do to its chunks passes by the triggers. Use a plain or a partitioned table"
        )
    if refused is not None:
        raise NotInstalled(f"{tally}: {name['name']} {refused}. Nothing was changed")
