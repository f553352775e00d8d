"""Who may do what: what the refresher and the reader are granted, and keeping it granted.

The names of the roles are the administrator's, and stand in `tallykeeper.roles`; without that table
nothing is granted to anybody. Roles are not made here, and nothing changes hands: an administrator
runs SQL for that (`roles_script.py` writes it). Invariants: neither role may write a
source or a change log, or run anything as the owner but the functions made for it; and what the
owner runs later (`unbuilt` holds statements) is written by the owner alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

from tallykeeper.catalog import fk_locks, function_rights, state
from tallykeeper.catalog.privileges import MAINTAIN_SINCE, server_version
from tallykeeper.database import sql
from tallykeeper.declarations.tally import LOGGED_AT, Tally
from tallykeeper.partitions import drops
from tallykeeper.strategies.pruned_rows import CHANGED_AT, FROZEN_AT
from tallykeeper.system import Access, System

ROLES = sql.in_engine_schema("roles")
REFRESHER, READER = "refresher", "reader"
"""The parts that a role can have, as `tallykeeper.roles` calls them."""

READ, WRITE = ("SELECT",), ("SELECT", "INSERT", "UPDATE", "DELETE")
# What the refresher does with the engine's tables; others are the owner's alone.
KEPT = {
    "tally_state": ("SELECT", "UPDATE"),
    "stale_marks": ("SELECT", "INSERT", "DELETE"),
    "unverified": ("SELECT", "INSERT", "DELETE"),
    "unverified_keys": ("SELECT", "INSERT", "DELETE"),
    "hand_edits": ("SELECT", "DELETE"),
    "cascaded": ("SELECT", "DELETE"),
    "verifications": ("SELECT", "INSERT", "UPDATE"),
    "quarantine": WRITE,
    "audits": ("SELECT", "INSERT", "UPDATE"),
    "backfills": WRITE,
    "incidents": WRITE,
    "messages": WRITE,
    "deliveries": WRITE,
    "processed_events": WRITE,
    "pruned_incidents": ("SELECT", "INSERT", "UPDATE"),
    "captured_relations": READ,
    "captured_identities": READ,
    "stands_on": READ,
    "dependencies": WRITE,
    "unbuilt": READ,
    "select_plans": READ,
    "suspensions": READ,
    "refresh_costs": ("SELECT", "INSERT", "UPDATE"),
    "schema_version": READ,
    "prunings": READ,
    "translations": ("SELECT", "INSERT", "UPDATE"),
    "archive_files": WRITE,
    "archive_redactions": WRITE,
    "archive_replays": WRITE,
}
# What tells readers how things stand.
SHOWN_TO_READERS = (
    "tally_state",
    "stale_marks",
    "verifications",
    "audits",
    "backfills",
    "cascaded",
    "quarantine",
    "select_plans",
    "stands_on",
    "dependencies",
    "incidents",
    "pruned_incidents",
    "prunings",
    "archive_files",
)


@dataclass(frozen=True)
class Names:
    """The names of the roles, as they are, without quotes. None: there is no such role."""

    refresher: str | None
    reader: str | None

    def __iter__(self) -> Iterator[str | None]:
        return iter((self.refresher, self.reader))


@dataclass(frozen=True)
class Grant:
    """Privileges of one role on one object, whose name is quoted as SQL wants it.

    `kind` is table, function or schema; `columns` are those of a table, all where there are none.
    """

    role: str
    privileges: tuple[str, ...]
    kind: str
    name: str
    columns: tuple[str, ...] = ()

    def statement(self) -> str:
        """GRANT."""
        of = f" ({sql.columns(self.columns)})" if self.columns else ""
        what = ", ".join(f"{privilege}{of}" for privilege in self.privileges)
        return f"GRANT {what} ON {self.kind.upper()} {self.name} TO {sql.quote(self.role)}"

    def is_had(self) -> str:
        """A condition: the role has all of it, by whatever way."""
        role, name = sql.literal(self.role), sql.literal(self.name)
        asked = f"has_{self.kind}_privilege({role}, {name}, {{}})"
        if self.columns:
            each = (sql.literal(c) for c in self.columns)
            asked = " AND ".join(f"has_column_privilege({role}, {name}, {c}, {{}})" for c in each)
        return " AND ".join(asked.replace("{}", sql.literal(p)) for p in self.privileges)


def recorded(connection: Connection) -> Names:
    """Which roles the administrator has made for this database."""
    if connection.scalar(text("SELECT to_regclass(:name)"), {"name": ROLES}) is None:
        return Names(None, None)
    rows = connection.execute(text(f"SELECT part, role FROM {ROLES}"))
    found = {row.part: row.role for row in rows}
    return Names(found.get(REFRESHER), found.get(READER))


def keep(
    connection: Connection, tallies: Sequence[Tally], systems: Sequence[System] = ()
) -> list[str]:
    """Grant the recorded roles what they lack for these tallies and systems; says what was done.

    In the caller's transaction, whose role has to own what is granted.
    """
    names = recorded(connection)
    lost = [role for role in names if role is not None and not _is_there(connection, role)]
    there = Names(*(role if role not in lost else None for role in names))
    lacking = missing(connection, grants(connection, there, tallies, systems))
    for grant in lacking:
        sql.execute(connection, grant.statement())
    granted = dict.fromkeys(grant.role for grant in lacking)
    return [f"granted {role} what it lacked" for role in granted] + [
        f"granted nothing to {role}, which {ROLES} names: there is no such role on this server;"
        " see `tally roles`"
        for role in lost
    ]


def _is_there(connection: Connection, role: str) -> bool:
    found = text("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = :role)")
    return bool(connection.scalar(found, {"role": role}))


def missing(connection: Connection, wanted: Iterable[Grant]) -> list[Grant]:
    """Those of the grants that are not had."""
    asked = list(dict.fromkeys(wanted))
    if not asked:
        return []
    had = sql.execute(
        connection, f"SELECT ARRAY[{', '.join(grant.is_had() for grant in asked)}]"
    ).scalar_one()
    return [grant for grant, is_had in zip(asked, had, strict=True) if not is_had]


def grants(
    connection: Connection, names: Names, tallies: Sequence[Tally], systems: Sequence[System] = ()
) -> list[Grant]:
    """What the roles are to have on what there is of these tallies and systems."""
    # What a SELECT depends on is known once it is installed, and granted then.
    tallies = state.bound(connection, tallies)
    wanted: list[Grant] = []
    if names.refresher is not None:
        wanted += _of_refresher(connection, names.refresher, tallies, systems)
    if names.reader is not None:
        wanted += _of_reader(connection, names.reader, tallies, systems)
    there = _existing(connection, wanted)
    return [grant for grant in wanted if grant.name in there]


def _of_refresher(
    connection: Connection, role: str, tallies: Sequence[Tally], systems: Sequence[System]
) -> Iterator[Grant]:
    yield from _usage(role, tallies)
    yield from _executed(connection, role, tallies)
    for name, allowed in KEPT.items():
        yield Grant(role, allowed, "table", sql.in_engine_schema(name))
    may_clear = ("MAINTAIN",) if server_version(connection) >= MAINTAIN_SINCE else ()
    for tally in tallies:
        yield Grant(role, ("SELECT", "DELETE", *may_clear), "table", tally.log_name)
        yield Grant(role, READ, "table", tally.live_name)
        yield from _of_own_relations(role, tally)
        for function in fk_locks.signatures(tally):
            yield Grant(role, ("EXECUTE",), "function", function)
    derived = [t.table for t in tallies] + [t for s in systems for t in s.processed]
    sources = [s for t in tallies for s in t.sources] + [r for s in systems for r in s.raw]
    for table in derived:
        yield Grant(role, WRITE, "table", sql.name_of(table))
    for source in sources:
        if source not in derived:
            yield Grant(role, READ, "table", sql.name_of(source))
    for sequence in _sequences(connection, [sql.name_of(table) for table in derived]):
        yield Grant(role, ("USAGE",), "sequence", sequence)
    for system in systems:
        yield from _of_processing(role, system.access)
        yield from _of_archiving(role, system)


def _of_own_relations(role: str, tally: Tally) -> Iterator[Grant]:
    for kind, name in tally.own_relations():
        yield Grant(role, WRITE if kind == "state" else READ, "table", name)
    if tally.freezes:
        yield Grant(role, ("UPDATE",), "table", tally.pruned_name, (CHANGED_AT,))


def _of_processing(role: str, access: Access) -> Iterator[Grant]:
    for kept in access.kept:
        yield Grant(role, ("SELECT", "UPDATE"), "table", kept)
    for table, columns in access.marked.items():
        yield Grant(role, ("UPDATE",), "table", sql.name_of(table), tuple(columns))
    for function in (*access.asked, *access.called):
        yield Grant(role, ("EXECUTE",), "function", function)


def _of_archiving(role: str, system: System) -> Iterator[Grant]:
    for source in system.archived:
        yield Grant(role, ("EXECUTE",), "function", drops.signature(source))
        if source.staged is not None:
            yield Grant(role, (*WRITE, "TRUNCATE"), "table", source.staged)


def _of_reader(
    connection: Connection, role: str, tallies: Sequence[Tally], systems: Sequence[System]
) -> Iterator[Grant]:
    yield from _usage(role, tallies)
    yield from _executed(connection, role, tallies)
    for tally in tallies:
        yield Grant(role, READ, "table", sql.name_of(tally.table))
        yield Grant(role, READ, "table", tally.live_name)
        # How many changes are pending, since when, and of which keys, which `fingerprint` tells
        # states by; not what they are, nor whose.
        yield Grant(role, READ, "table", tally.log_name, ("xmin", LOGGED_AT, *_shown_keys(tally)))
        if tally.freezes:
            shown = (FROZEN_AT, CHANGED_AT, *tally.group)
            yield Grant(role, READ, "table", tally.pruned_name, shown)
    for table in SHOWN_TO_READERS:
        yield Grant(role, READ, "table", sql.in_engine_schema(table))
    for system in systems:
        for each in (*system.processed, *system.access.read):
            yield Grant(role, READ, "table", sql.name_of(each))
        for each, columns in system.access.counted.items():
            yield Grant(role, READ, "table", sql.name_of(each), tuple(columns))
        for function in system.access.asked:
            yield Grant(role, ("EXECUTE",), "function", function)


def _executed(connection: Connection, role: str, tallies: Sequence[Tally]) -> Iterator[Grant]:
    """What live views call, and what runs with the caller's own rights."""
    functions = dict.fromkeys(name for tally in tallies for name in tally.function_names())
    signatures = connection.scalars(
        text(
            f"SELECT {function_rights.SIGNATURE} FROM {function_rights.OF_ENGINE}"
            " WHERE quote_ident(n.nspname) || '.' || quote_ident(p.proname) = ANY (:names)"
            " ORDER BY 1"
        ),
        {"names": list(functions)},
    ).all()
    for function in (*signatures, *function_rights.harmless(connection)):
        yield Grant(role, ("EXECUTE",), "function", function)


def _shown_keys(tally: Tally) -> list[str]:
    """Columns of the log that are the derived table's own key, which readers see there."""
    return [c.name for c in tally.log_columns() if c.name in tally.group]


def _usage(role: str, tallies: Sequence[Tally]) -> Iterator[Grant]:
    tables = [x for t in tallies for x in (*t.sources, t.table)]
    schemas = dict.fromkeys([sql.ENGINE_SCHEMA, *(x.schema or "public" for x in tables)])
    for schema in schemas:
        yield Grant(role, ("USAGE",), "schema", sql.quote(schema))


def _sequences(connection: Connection, tables: Sequence[str]) -> list[str]:
    """What numbers the rows of the tables by a column's default, as of an adopted table's serial.

    An identity column needs no grant.
    """
    rows = connection.execute(
        text(
            "SELECT quote_ident(n.nspname) || '.' || quote_ident(s.relname) FROM pg_class AS s"
            " JOIN pg_namespace AS n ON n.oid = s.relnamespace JOIN pg_depend AS d"
            " ON d.objid = s.oid AND d.classid = 'pg_class'::regclass AND d.deptype = 'a'"
            " WHERE s.relkind = 'S' AND d.refobjid IN"
            " (SELECT to_regclass(t) FROM unnest(CAST(:tables AS text[])) AS t) ORDER BY 1"
        ),
        {"tables": list(tables)},
    )
    return list(rows.scalars())


def _existing(connection: Connection, wanted: Sequence[Grant]) -> set[str]:
    """The names of those objects that there are."""
    found = {
        "table": "to_regclass(n)",
        "sequence": "to_regclass(n)",
        "function": "to_regprocedure(n)",
        "schema": "to_regnamespace(n)",
    }
    there: set[str] = set()
    for kind, looked_up in found.items():
        names = list(dict.fromkeys(grant.name for grant in wanted if grant.kind == kind))
        there.update(
            connection.execute(
                text(
                    "SELECT n FROM unnest(CAST(:names AS text[])) AS n"
                    f" WHERE {looked_up} IS NOT NULL"
                ),
                {"names": names},
            ).scalars()
        )
    return there
