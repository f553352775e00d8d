"""A live view of which half of the rows are looked up by their keys instead."""

from __future__ import annotations

from tallykeeper.database import sql
from tallykeeper.select.tally import SelectTally


def half_looked_up(tally: SelectTally) -> str:
    """A relation with the rows of the live view; where keys cannot be looked up, the view."""
    if not tally.has_lookup:
        return tally.live_name
    keys = sql.columns(list(tally.key), "a")
    sides = (
        f"SELECT {keys} FROM {r} AS a" for r in (tally.definition_name, sql.name_of(tally.table))
    )
    present = " AND ".join(f"a.{sql.quote(n)} IS NOT NULL" for n in tally.key)
    text = " || ".join(f"a.{sql.quote(n)}::text" for n in tally.key)
    columns = {alias: sql.columns(list(tally.columns), alias) for alias in "vl"}
    arrays = ", ".join(f"array_agg(a.{sql.quote(n)}) AS c{i}" for i, n in enumerate(tally.key))
    given = ", ".join(f"g.c{i}" for i, _ in enumerate(tally.key))
    same = " AND ".join(f"a.{sql.quote(n)} = v.{sql.quote(n)}" for n in tally.key)
    return (
        f"(WITH asked AS MATERIALIZED (SELECT DISTINCT {keys} FROM ({' UNION '.join(sides)}) AS a"
        f" WHERE {present} AND mod(hashtext({text}), 2) = 0)"
        f" SELECT {columns['v']} FROM {tally.live_name} AS v"
        f" WHERE NOT EXISTS (SELECT FROM asked AS a WHERE {same})"
        f" UNION ALL SELECT {columns['l']} FROM (SELECT {arrays} FROM asked AS a) AS g,"
        f" {tally.lookup_function}({given}) AS l)"
    )
