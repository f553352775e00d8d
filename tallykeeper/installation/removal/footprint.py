"""What a tally has in a database, found from the database alone.

The declaration is not needed: it may be deleted by the time the tally is dropped. Relations and
functions are those that the installation recorded (`stands_on`); a trigger function is a tally's
where its text writes the tally's log or marks the tally stale. A function that others write too is
shared with these.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select, text

from tallykeeper.capture.trigger_bodies import COLUMNS_ARE, LOG_AT
from tallykeeper.capture.triggers import QUALIFIED
from tallykeeper.catalog.state import stale_marks, stands_on, tally_state
from tallykeeper.database import sql
from tallykeeper.errors import NotInstalled

GUARD = sql.in_engine_schema("guard_merge")
"""The function that partitions with captured tables share."""
_OF_ALL = (COLUMNS_ARE, LOG_AT, GUARD, sql.in_engine_schema("require_unbroken"))


@dataclass(frozen=True)
class Footprint:
    """What belongs to one tally; all names are quoted.

    `states` are intermediate results, and what pruned rows had added. `functions` have their
    arguments. `capturing` are trigger functions, each with the other tallies that it serves.
    `sources` are the tables that are read, with the other tallies that read them.
    """

    tally: str
    derived: str
    live: str
    log: str
    pending: int
    definition: str | None
    states: Sequence[str]
    functions: Sequence[str]
    capturing: dict[str, frozenset[str]]
    sources: dict[str, frozenset[str]]
    readers: frozenset[str]

    @property
    def views(self) -> list[str]:
        """The live view first, which may read the definition view."""
        return [self.live, *([self.definition] if self.definition is not None else [])]

    @property
    def tables(self) -> list[str]:
        """The tables that the engine made for itself."""
        return [self.log, *self.states]


def installed_names(connection: Connection) -> list[str]:
    """The tallies that are installed in this database."""
    return list(connection.scalars(select(tally_state.c.tally).order_by(tally_state.c.tally)))


def footprint(connection: Connection, tally: str) -> Footprint:
    """What the tally has in this database. Raises NotInstalled where that is not recorded."""
    known = installed_names(connection)
    if tally not in known:
        raise NotInstalled(
            f"no tally called {tally!r} is installed in this database; there are"
            f" {', '.join(known) or 'none'}"
        )
    columns = stands_on.c
    rows = connection.execute(select(columns.role, columns.name).where(columns.tally == tally))
    roles: dict[str, list[str]] = {}
    for role, name in rows:
        roles.setdefault(role, []).append(name)
    if not {"derived", "live", "log"} <= roles.keys():
        raise NotInstalled(
            f"{tally}: an earlier release installed it, which did not record what belongs to it;"
            " run `tally migrate` first, with its declaration"
        )
    (derived,), (live,), (log,) = roles["derived"], roles["live"], roles["log"]
    states = [name for name in roles.get("state", ()) if name != sql.name_of(stale_marks)]
    states += roles.get("pruned", ())
    others = {o: _reading(connection, o, tally) for o in (*roles.get("source", ()), derived)}
    readers = others.pop(derived)
    return Footprint(
        tally=tally,
        derived=derived,
        live=live,
        log=log,
        pending=_rows_of(connection, log),
        definition=next(iter(roles.get("definition", ())), None),
        states=_that_exist(connection, states),
        functions=_functions(connection, tally),
        capturing=_capturing(connection, tally),
        sources=others,
        readers=readers,
    )


def carriers(connection: Connection, functions: Collection[str]) -> list[str]:
    """The relations with triggers that call one of the functions, those above others first."""
    rows = connection.scalars(
        text(
            f"SELECT {QUALIFIED} FROM pg_class AS c JOIN pg_namespace AS n ON n.oid ="
            " c.relnamespace WHERE c.oid IN (SELECT t.tgrelid FROM pg_trigger AS t WHERE t.tgfoid"
            " IN (SELECT to_regproc(f) FROM unnest(CAST(:functions AS text[])) AS f))"
            " ORDER BY c.relkind = 'p' DESC, c.oid"
        ),
        {"functions": list(functions)},
    )
    return list(rows)


def guarded_alone(connection: Connection, functions: Collection[str]) -> list[str]:
    """The roots of partitions whose guard of merges is needed for these functions alone."""
    rows = connection.scalars(
        text(
            f"SELECT {QUALIFIED} FROM pg_trigger AS g JOIN pg_class AS c ON c.oid = g.tgrelid"
            " JOIN pg_namespace AS n ON n.oid = c.relnamespace"
            " WHERE g.tgfoid = to_regproc(:guard) AND g.tgparentid = 0 AND NOT EXISTS ("
            "  SELECT FROM pg_partition_tree(g.tgrelid) AS p"
            "  JOIN pg_trigger AS t ON t.tgrelid = p.relid JOIN pg_proc AS f ON f.oid = t.tgfoid"
            "  JOIN pg_namespace AS s ON s.oid = f.pronamespace AND s.nspname = :schema"
            "  WHERE f.oid <> g.tgfoid AND f.oid NOT IN ("
            "   SELECT to_regproc(o) FROM unnest(CAST(:functions AS text[])) AS o"
            "   WHERE to_regproc(o) IS NOT NULL)) ORDER BY c.oid"
        ),
        {"guard": GUARD, "schema": sql.ENGINE_SCHEMA, "functions": list(functions)},
    )
    return list(rows)


def _reading(connection: Connection, relation: str, tally: str) -> frozenset[str]:
    """The other tallies that read a relation."""
    columns = stands_on.c
    query = select(columns.tally).where(
        columns.role == "source", columns.name == relation, columns.tally != tally
    )
    return frozenset(connection.scalars(query))


def _rows_of(connection: Connection, log: str) -> int:
    if not _that_exist(connection, [log]):
        return 0
    return int(sql.execute(connection, f"SELECT count(*) FROM {log}").scalar_one())


def _that_exist(connection: Connection, relations: Sequence[str]) -> list[str]:
    rows = connection.scalars(
        text(
            "SELECT r FROM unnest(CAST(:relations AS text[])) WITH ORDINALITY AS u (r, n)"
            " WHERE to_regclass(r) IS NOT NULL ORDER BY n"
        ),
        {"relations": list(relations)},
    )
    return list(rows)


def _functions(connection: Connection, tally: str) -> list[str]:
    """The functions of the engine that it alone calls, but for triggers', with their arguments."""
    rows = connection.scalars(
        text(
            "SELECT quote_ident(n.nspname) || '.' || quote_ident(p.proname)"
            " || '(' || pg_get_function_identity_arguments(p.oid) || ')' AS signature"
            " FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace"
            f" JOIN {stands_on} AS s ON s.kind = 'function' AND s.tally = :tally"
            " AND s.columns = ARRAY[p.proname, n.nspname]::text[]"
            " WHERE n.nspname = :schema AND p.prorettype <> 'trigger'::regtype"
            " AND s.name <> ALL (CAST(:shared AS text[]))"
            f" AND NOT EXISTS (SELECT FROM {stands_on} AS o"
            "  WHERE o.tally <> :tally AND o.kind = 'function' AND o.name = s.name) ORDER BY 1"
        ),
        {"tally": tally, "schema": sql.ENGINE_SCHEMA, "shared": list(_OF_ALL)},
    )
    return list(rows)


def _capturing(connection: Connection, tally: str) -> dict[str, frozenset[str]]:
    """The trigger functions that write for the tally, with the other tallies they write for."""
    rows = connection.execute(
        text(
            "WITH known AS (SELECT t.tally, 'INTO ' || (SELECT s.name"
            f"  FROM {stands_on} AS s WHERE s.tally = t.tally AND s.role = 'log') || ' ' AS log,"
            f"  '(' || quote_literal(t.tally) || ', ' AS mark FROM {tally_state} AS t),"
            " written AS (SELECT quote_ident(n.nspname) || '.' || quote_ident(p.proname) AS name,"
            "  k.tally FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace"
            "  JOIN known AS k ON position(k.log IN p.prosrc) > 0 OR position(k.mark IN p.prosrc)"
            "  > 0 WHERE n.nspname = :schema AND p.prorettype = 'trigger'::regtype)"
            " SELECT name, array_agg(tally) AS tallies FROM written GROUP BY name"
            " HAVING bool_or(tally = :tally) ORDER BY name"
        ),
        {"tally": tally, "schema": sql.ENGINE_SCHEMA},
    )
    return {row.name: frozenset(row.tallies) - {tally} for row in rows}
