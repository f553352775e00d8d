"""The places of a Citus cluster: its shard groups, each on the worker that has it now.

A table that is distributed has a shard for each range of hashes of its column; those of colocated
tables with one range lie together, and are a place. A reference table has one shard, of which each
worker has a copy. What there is follows from the coordinator's catalog each time that it is asked
for. Invariant: either all places of the group are known, or none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, text
from sqlalchemy.engine import Row

from tallykeeper.errors import TallyError
from tallykeeper.places.place import Place
from tallykeeper.places.renaming import Name

OPTIONS = {
    # Shards are hidden from pg_class, and may not be altered, but where this is said.
    "citus.override_table_visibility": "off",
    "citus.enable_manual_changes_to_shards": "on",
    # What is created at a place is that place's.
    "citus.enable_ddl_propagation": "off",
}
_LONGEST = 63

_SHARDS = text("""
SELECT n.nspname AS schema, c.relname AS name, s.shardid AS shard, p.partmethod::text AS method,
    p.colocationid AS colocation, s.shardminvalue AS first, d.nodename AS host, d.nodeport AS port,
    d.isactive AS is_active
FROM pg_dist_partition AS p
JOIN pg_class AS c ON c.oid = p.logicalrelid
JOIN pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_dist_shard AS s ON s.logicalrelid = p.logicalrelid
LEFT JOIN pg_dist_placement AS l ON l.shardid = s.shardid AND l.shardstate = 1
LEFT JOIN pg_dist_node AS d ON d.groupid = l.groupid AND d.noderole = 'primary'
WHERE p.partmethod = 'h' OR p.repmodel = 't'
ORDER BY s.shardminvalue::bigint, n.nspname, c.relname""")
_DIVIDED = text("""
SELECT n.nspname AS schema, c.relname AS name, p.partmethod::text AS method,
    p.repmodel::text AS copies, p.colocationid AS colocation,
    CASE WHEN p.partkey IS NOT NULL
        THEN column_to_column_name(p.logicalrelid, p.partkey) END AS column
FROM pg_dist_partition AS p
JOIN pg_class AS c ON c.oid = p.logicalrelid
JOIN pg_namespace AS n ON n.oid = c.relnamespace""")


class ClusterUnfit(TallyError):
    """A Citus cluster, or a table of it, that tallies cannot be kept in; says why."""


@dataclass(frozen=True)
class Divided:
    """How a table is divided: by the column, or None where each worker has all of its rows."""

    column: str | None
    colocation: int


def is_coordinator(connection: Connection) -> bool:
    """Whether the database is the coordinator of a Citus cluster with workers."""
    if connection.scalar(text("SELECT to_regproc('citus_is_coordinator') IS NULL")):
        return False
    workers = text(
        "SELECT count(*) FROM pg_dist_node WHERE shouldhaveshards AND noderole = 'primary'"
    )
    is_one = text("SELECT citus_is_coordinator()")
    return bool(connection.scalar(is_one)) and bool(connection.scalar(workers))


def divided_tables(connection: Connection) -> Mapping[Name, Divided]:
    """The tables that are distributed by hash, or are reference tables."""
    return {
        (row.schema, row.name): Divided(row.column, row.colocation)
        for row in connection.execute(_DIVIDED)
        if row.method == "h" or row.copies == "t"
    }


def places_of(coordinator: Engine, table: Name) -> Callable[[], Sequence[Place]]:
    """What finds the places of the tables that are colocated with `table`, as they are then."""

    def find() -> Sequence[Place]:
        with coordinator.connect() as connection:
            rows = connection.execute(_SHARDS).all()
        return _places(coordinator, table, rows)

    return find


def _places(
    coordinator: Engine, table: Name, rows: Sequence[Row[tuple[object, ...]]]
) -> list[Place]:
    own = [row for row in rows if (row.schema, row.name) == table and row.method == "h"]
    if not own:
        raise ClusterUnfit(
            f"{'.'.join(table)} is not distributed by Citus; run `tally migrate --distribute`"
        )
    group = [r for r in rows if r.method == "h" and r.colocation == own[0].colocation]
    everywhere = {(r.schema, r.name): _shard(r) for r in rows if r.method != "h"}
    found = []
    width = len(str(len(own)))
    for number, row in enumerate(own, 1):
        of_place = [r for r in group if r.first == row.first]
        name = f"{number:0{width}d}"
        where = {(r.host, r.port, r.is_active) for r in of_place}
        if len(where) != 1 or len({r.shard for r in of_place}) != len(of_place):
            raise ClusterUnfit(
                f"the shards of place {name} are not each on one worker and all on the same;"
                " tallies are kept where citus.shard_replication_factor is 1"
            )
        ((host, port, is_active),) = where
        if host is None or not is_active:
            raise ClusterUnfit(f"place {name} is on no active worker; add it to the cluster again")
        tables = everywhere | {(r.schema, r.name): _shard(r) for r in of_place}
        here = coordinator.url
        query = {k: v for k, v in here.query.items() if k not in ("host", "port")}
        address = here.set(host=host, port=port, query=query)
        found.append(Place(name, address.render_as_string(hide_password=False), tables, OPTIONS))
    return found


def _shard(row: Row[tuple[object, ...]]) -> Name:
    name = f"{row.name}_{row.shard}"
    if len(name.encode()) > _LONGEST:
        raise ClusterUnfit(
            f"the name of {row.schema}.{row.name} is too long for its shards to have it; rename it"
        )
    return str(row.schema), name
