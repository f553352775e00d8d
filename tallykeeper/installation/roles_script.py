"""The SQL that divides the work among roles, for an administrator to run: `tally roles`.

It makes the roles, hands over what is installed, and grants; who may do what stands in
`tallykeeper/installation/roles.py`, by which every `tally migrate` goes on granting. Nothing is
executed here: the database is only looked at. Invariants: the SQL may be run twice; a
source never changes hands; and no role gets a superuser's rights by it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, Table, text

from tallykeeper import NotPermitted, System, Tally
from tallykeeper.database.connections import DAGSTER_SCHEMA
from tallykeeper.database.sessions import lock_timeout_of
from tallykeeper.database.sql import (
    ENGINE_SCHEMA,
    MAX_IDENTIFIER_BYTES,
    dollar_quoted,
    literal,
    name_of,
    quote,
)
from tallykeeper.discovery import is_kept, missing_sources
from tallykeeper.drift import event_triggers
from tallykeeper.installation.roles import READER, REFRESHER, ROLES, Names, grants
from tallykeeper.settings import dagster_pg_url

OWNER_NAME = "tallykeeper_owner"
REFRESHER_NAME = "tallykeeper_refresher"
READER_NAME = "tallykeeper_reader"
_LOCK_SECONDS = 10.0


@dataclass(frozen=True)
class Wanted:
    """The names of the three roles, without quotes."""

    owner: str = OWNER_NAME
    refresher: str = REFRESHER_NAME
    reader: str = READER_NAME

    def __iter__(self) -> Iterator[str]:
        return iter((self.owner, self.refresher, self.reader))


def roles_sql(engine: Engine, systems: Sequence[System], wanted: Wanted) -> str:
    """A script for psql that divides the work on those of the systems whose sources are there.

    Raises NotPermitted where that cannot be done safely, or SQLAlchemy's errors.
    """
    if len(set(wanted)) < 3 or any(not 0 < len(n.encode()) <= MAX_IDENTIFIER_BYTES for n in wanted):
        raise NotPermitted(
            f"expected three roles with names of their own, at most {MAX_IDENTIFIER_BYTES} bytes,"
            f" but they are {', '.join(map(repr, wanted))}; name them otherwise"
        )
    with engine.connect() as connection:
        there = [s for s in systems if is_kept(connection, s)]
        missing = {s.name: list(missing_sources(connection, s)) for s in systems if s not in there}
        lines = [
            *_beginning(connection, there, missing),
            *_roles(wanted),
            *_owner(connection, there, wanted),
            *_handed_over(connection, there, wanted),
            *_dagster(connection, wanted),
            *_granted(connection, there, wanted),
            "COMMIT;",
            *_afterwards(wanted),
        ]
    return "\n".join(lines) + "\n"


def _beginning(
    connection: Connection, systems: Sequence[System], missing: dict[str, list[str]]
) -> Iterator[str]:
    database = connection.scalar(text("SELECT current_database()"))
    yield f"-- Roles for Tallykeeper in the database {_comment(str(database))}."
    yield "-- An administrator runs it there, as often as need be; all of it happens, or nothing."
    yield f"-- Systems: {', '.join(s.name for s in systems) or 'none yet'}."
    for name, tables in missing.items():
        if tables:
            yield f"-- Left out: {name}, for there is no {_comment(', '.join(tables))}."
    yield r"\set ON_ERROR_STOP on"
    yield "BEGIN;"
    yield "SET LOCAL client_min_messages = warning;"
    yield f"{lock_timeout_of(_LOCK_SECONDS)};"


def _roles(wanted: Wanted) -> Iterator[str]:
    yield "\n-- Groups, into which those who log in are put; without passwords."
    for role in wanted:
        body = (
            f"BEGIN\n  IF to_regrole({literal(quote(role))}) IS NULL THEN\n"
            f"    CREATE ROLE {quote(role)} NOLOGIN;\n  END IF;\nEND"
        )
        yield f"DO {dollar_quoted(body)};"


def _owner(connection: Connection, systems: Sequence[System], wanted: Wanted) -> Iterator[str]:
    owner, database = quote(wanted.owner), quote(_database(connection))
    yield "\n-- The owner hangs capture on sources, which only a member of their owners may do."
    yield f"GRANT CONNECT, TEMPORARY ON DATABASE {database} TO {owner};"
    for role in _owners_of_sources(connection, systems, wanted):
        yield f"GRANT {quote(role)} TO {owner};"
    for schema in _schemas(systems):
        yield f"GRANT USAGE, CREATE ON SCHEMA {quote(schema)} TO {owner};"
    yield f"CREATE SCHEMA IF NOT EXISTS {ENGINE_SCHEMA} AUTHORIZATION {owner};"
    yield f"ALTER SCHEMA {ENGINE_SCHEMA} OWNER TO {owner};"
    yield (
        f"CREATE TABLE IF NOT EXISTS {ROLES}"
        " (part text PRIMARY KEY CHECK (part IN ('refresher', 'reader')), role text NOT NULL);"
    )
    yield f"ALTER TABLE {ROLES} OWNER TO {owner};"
    for part, role in ((REFRESHER, wanted.refresher), (READER, wanted.reader)):
        yield (
            f"INSERT INTO {ROLES} VALUES ({literal(part)}, {literal(role)})"
            " ON CONFLICT (part) DO UPDATE SET role = excluded.role;"
        )


def _handed_over(
    connection: Connection, systems: Sequence[System], wanted: Wanted
) -> Iterator[str]:
    relations = _relations(connection, systems, wanted)
    routines = _routines(connection, systems, wanted)
    if not relations and not routines:
        return
    owner = quote(wanted.owner)
    if event_triggers.are_there(connection):
        yield "\n-- Event triggers run as a superuser, who must not write tables of another role."
        for statement in event_triggers.DROP:
            yield f"{statement};"
    yield "\n-- What is installed already changes hands; sources never do."
    for name, _ in relations:
        yield f"ALTER TABLE {name} OWNER TO {owner};"
    for name in routines:
        yield f"ALTER ROUTINE {name} OWNER TO {owner};"
    before = dict.fromkeys(role for _, role in relations if role not in wanted)
    if before:
        yield "-- Its former owner goes on reading it."
    for role in before:
        if not _is_superuser(connection, role):
            yield f"GRANT {quote(wanted.reader)} TO {quote(role)};"


def _dagster(connection: Connection, wanted: Wanted) -> Iterator[str]:
    if dagster_pg_url() is not None:
        yield "\n-- Dagster's own storage is where DAGSTER_PG_URL says: not touched here."
        return
    refresher = quote(wanted.refresher)
    yield "\n-- Dagster's own storage belongs to the refresher, whose runs write it."
    yield f"CREATE SCHEMA IF NOT EXISTS {DAGSTER_SCHEMA} AUTHORIZATION {refresher};"
    yield f"ALTER SCHEMA {DAGSTER_SCHEMA} OWNER TO {refresher};"
    rows = connection.execute(
        text(
            "SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) FROM pg_class AS c"
            " JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE n.nspname = :schema"
            " AND c.relkind IN ('r', 'p') AND pg_get_userbyid(c.relowner) <> :refresher ORDER BY 1"
        ),
        {"schema": DAGSTER_SCHEMA, "refresher": wanted.refresher},
    )
    for name in rows.scalars():
        yield f"ALTER TABLE {name} OWNER TO {refresher};"


def _granted(connection: Connection, systems: Sequence[System], wanted: Wanted) -> Iterator[str]:
    database = quote(_database(connection))
    yield "\n-- What there is already; `tally migrate` grants what it makes."
    yield f"GRANT CONNECT, TEMPORARY ON DATABASE {database} TO {quote(wanted.refresher)};"
    yield f"GRANT CONNECT ON DATABASE {database} TO {quote(wanted.reader)};"
    names = Names(wanted.refresher, wanted.reader)
    for grant in dict.fromkeys(grants(connection, names, _tallies(systems), systems)):
        yield f"{grant.statement()};"


def _afterwards(wanted: Wanted) -> Iterator[str]:
    yield "\n-- Now put those who log in into a group each, as in:"
    for login, role in zip(("tally_deploy", "tally_runs", "web"), wanted, strict=True):
        yield f"--   GRANT {_comment(quote(role))} TO {login};"


def _owners_of_sources(
    connection: Connection, systems: Sequence[System], wanted: Wanted
) -> list[str]:
    """Who owns the sources, but for the owner itself. Raises NotPermitted of a superuser."""
    sources = [s for system in systems for s in _applications(system)]
    rows = connection.execute(
        text(
            "SELECT r.rolname, r.rolsuper, min(t) AS example"
            " FROM unnest(CAST(:tables AS text[])) AS t"
            " JOIN pg_class AS c ON c.oid = to_regclass(t)"
            " JOIN pg_roles AS r ON r.oid = c.relowner WHERE r.rolname <> :owner"
            " GROUP BY 1, 2 ORDER BY 1"
        ),
        {"tables": [name_of(source) for source in sources], "owner": wanted.owner},
    ).all()
    for row in rows:
        if row.rolsuper:
            raise NotPermitted(
                f"{row.example} belongs to {row.rolname!r}, a superuser. Capture on it would get"
                " such rights; give it and the other source tables to a role without"
                f" them (ALTER TABLE {row.example} OWNER TO <application>), and print this again"
            )
    return [row.rolname for row in rows]


def _applications(system: System) -> list[Table]:
    """The tables that Tallykeeper does not write, but reads or refers to."""
    derived = set(system.derived)
    referred = [key.column.table for t in system.derived for key in t.foreign_keys]
    found = dict.fromkeys((*system.sources, *referred))
    return [table for table in found if table not in derived]


def _relations(
    connection: Connection, systems: Sequence[System], wanted: Wanted
) -> list[tuple[str, str]]:
    """What is to be the owner's and is another's, with who that is."""
    names = [name_of(table) for s in systems for table in s.derived]
    names += [tally.live_name for tally in _tallies(systems)]
    rows = connection.execute(
        text(
            "WITH RECURSIVE ours AS ("
            " SELECT to_regclass(t)::oid AS oid FROM unnest(CAST(:names AS text[])) AS t"
            " UNION SELECT c.oid FROM pg_class AS c WHERE c.relkind IN ('r', 'p', 'v')"
            "  AND c.relnamespace = to_regnamespace(:schema)"
            " UNION SELECT i.inhrelid FROM pg_inherits AS i JOIN ours ON i.inhparent = ours.oid)"
            " SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name,"
            " pg_get_userbyid(c.relowner) AS role FROM ours JOIN pg_class AS c USING (oid)"
            " JOIN pg_namespace AS n ON n.oid = c.relnamespace"
            " WHERE pg_get_userbyid(c.relowner) <> :owner ORDER BY 1"
        ),
        {"names": names, "schema": ENGINE_SCHEMA, "owner": wanted.owner},
    )
    return [(row.name, row.role) for row in rows]


def _routines(connection: Connection, systems: Sequence[System], wanted: Wanted) -> list[str]:
    asked = [function for s in systems for function in s.access.asked]
    # With every name in the search path written out, whatever the session's is.
    path = connection.scalar(text("SELECT current_setting('search_path')"))
    connection.execute(text("SELECT set_config('search_path', 'pg_catalog', true)"))
    rows = connection.execute(
        text(
            "SELECT p.oid::regprocedure::text FROM pg_proc AS p WHERE"
            " (p.pronamespace = to_regnamespace(:schema) OR p.oid IN"
            "  (SELECT to_regprocedure(f) FROM unnest(CAST(:asked AS text[])) AS f))"
            " AND p.prorettype <> 'event_trigger'::regtype"
            " AND pg_get_userbyid(p.proowner) <> :owner ORDER BY 1"
        ),
        {"schema": ENGINE_SCHEMA, "asked": asked, "owner": wanted.owner},
    )
    found = list(rows.scalars())
    connection.execute(text("SELECT set_config('search_path', :path, true)"), {"path": path})
    return found


def _schemas(systems: Sequence[System]) -> list[str]:
    tables = [t for s in systems for t in (*_applications(s), *s.derived)]
    return list(dict.fromkeys(table.schema or "public" for table in tables))


def _tallies(systems: Sequence[System]) -> list[Tally]:
    return [tally for system in systems for tally in system.tallies]


def _database(connection: Connection) -> str:
    return str(connection.scalar(text("SELECT current_database()")))


def _is_superuser(connection: Connection, role: str) -> bool:
    found = text("SELECT rolsuper FROM pg_roles WHERE rolname = :role")
    return bool(connection.scalar(found, {"role": role}))


def _comment(name: str) -> str:
    """A name within a comment, which ends with its line."""
    return " ".join(name.split())
