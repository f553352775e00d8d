"""Reading PostgreSQL's plans of maintenance statements: which large tables are read to the end.

A change of a few rows must be looked up in large sources by an index, at any size. What is read so,
and by which condition it was wanted, is said with the indexes that are there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from tallykeeper.database import sql
from tallykeeper.select.plan import statement
from tallykeeper.select.statements.changes_function import settings_of
from tallykeeper.select.tally import SelectTally

_CONDITIONS = ("Hash Cond", "Merge Cond", "Join Filter", "Filter")


@dataclass(frozen=True)
class LargeScan:
    """A table that is read from end to end, how many rows it has, and what for."""

    table: str
    rows: int
    wanted_by: str

    def __str__(self) -> str:
        return f"{self.table} ({self.rows:,} rows) for {self.wanted_by}"


def large_scans(
    connection: Connection, tally: SelectTally, pending: Collection[int], *, above: int
) -> list[LargeScan]:
    """The sequential scans of tables with more rows, in the statement for these pending sources."""
    settings = settings_of(tally.plan)
    sql.execute(connection, "; ".join(f"SET LOCAL {n} = {v}" for n, v in settings.items()))
    text = statement(tally.plan, pending, apply=True)
    (plan,) = sql.execute(connection, f"EXPLAIN (FORMAT JSON, VERBOSE) {text}").scalar_one()
    for name in settings:
        sql.execute(connection, f"SET LOCAL {name} TO DEFAULT")
    sizes = _sizes(connection, above)
    return sorted(set(_found(plan["Plan"], sizes, "nothing")), key=str)


def _sizes(connection: Connection, above: int) -> dict[str, int]:
    """The rows of tables that have more."""
    rows = sql.execute(
        connection,
        "SELECT n.nspname || '.' || c.relname AS name, c.reltuples::bigint AS rows FROM pg_class AS"
        f" c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.reltuples > {above}",
    )
    return {row.name: row.rows for row in rows}


def _found(
    node: Mapping[str, Any], sizes: Mapping[str, int], condition: str
) -> Iterator[LargeScan]:
    """The scans below a node; `condition` is the last that was seen above."""
    name = f"{node.get('Schema')}.{node.get('Relation Name')}"
    own = next((node[c] for c in _CONDITIONS if c in node), None)
    if node["Node Type"] == "Seq Scan" and name in sizes:
        yield LargeScan(name, sizes[name], condition)
    for below in node.get("Plans", ()):
        yield from _found(below, sizes, own or condition)
