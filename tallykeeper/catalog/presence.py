"""Which tables a tally cannot do without, and which of them are not in the database.

Only the tallies that need a missing table are left out; the others of their system go on.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, Table, text

from tallykeeper.catalog import state
from tallykeeper.declarations.tally import Tally


def missing(connection: Connection, tables: Sequence[Table]) -> list[str]:
    """Those of the tables that are not in the database, as `media.media_files`."""
    wanted = list(dict.fromkeys((t.schema or "public", t.name) for t in tables))
    there = connection.execute(
        text(
            "SELECT n.nspname, c.relname FROM pg_class AS c"
            " JOIN pg_namespace AS n ON n.oid = c.relnamespace"
            " JOIN unnest(CAST(:schemas AS text[]), CAST(:names AS text[])) AS w (nsp, rel)"
            " ON n.nspname = w.nsp AND c.relname = w.rel WHERE c.relkind <> 'i'"
        ),
        {"schemas": [schema for schema, _ in wanted], "names": [name for _, name in wanted]},
    )
    present = {tuple(row) for row in there}
    return [f"{schema}.{name}" for schema, name in wanted if (schema, name) not in present]


def left_out(
    connection: Connection, tallies: Sequence[Tally], made: Sequence[Table] = ()
) -> dict[Tally, list[str]]:
    """The tallies that lack a table, with what they lack; `made` are tables that are made for them.

    What they count or refer to; who counts the derived table of such a tally lacks it too.
    """
    own = {*made, *(tally.table for tally in tallies)}
    found: dict[Tally, list[str]] = {}
    for tally in tallies:
        referred = [key.column.table for key in tally.table.foreign_keys]
        needed = [table for table in (*tally.sources, *referred) if table not in own]
        lacking = missing(connection, needed)
        for upstream in tally.upstream:
            lacking += [name for name in found.get(upstream, ()) if name not in lacking]
        if lacking:
            found[tally] = lacking
    return found


def beside(connection: Connection, tallies: Sequence[Tally]) -> list[Tally]:
    """The tallies with all that are installed beside them over their sources, in their own order.

    One that is left out now but was installed is still captured with the others.
    """
    siblings = list(dict.fromkeys(s for tally in tallies for s in (*tally.siblings, tally)))
    others = [tally for tally in siblings if tally not in tallies]
    if not others or not state.is_there(connection, state.tally_state):
        return list(tallies)
    known = set(connection.scalars(text(f"SELECT tally FROM {state.tally_state}")))
    return [tally for tally in siblings if tally in tallies or tally.name in known]
