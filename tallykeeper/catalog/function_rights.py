"""Who may execute the functions of the engine's schema: nobody who was not granted it.

PostgreSQL lets PUBLIC execute every new function. A trigger function that runs with its owner's
rights could then be hung on anybody's table, and made to read that table's rows as the source's.
So EXECUTE is revoked from PUBLIC for all of them, in the transaction that creates them.

Invariants: no function of the schema is executable by PUBLIC. Who may read a live view, or a view
that reads one, may execute the functions it calls, for PostgreSQL asks the reader and not the
view's owner. Who owns a partitioned source may execute the guard that its new partitions copy.
"""

from __future__ import annotations

from sqlalchemy import Connection, text

from tallykeeper.database import sql
from tallykeeper.database.sql_files import sql_file

SIGNATURE = (
    "quote_ident(n.nspname) || '.' || quote_ident(p.proname)"
    " || '(' || oidvectortypes(p.proargtypes) || ')'"
)
OF_ENGINE = (
    "pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace"
    f" AND n.nspname = {sql.literal(sql.ENGINE_SCHEMA)}"
)
OPEN = (
    "EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a"
    " WHERE a.grantee = 0 AND a.privilege_type = 'EXECUTE')"
)

_HARMLESS = "NOT p.prosecdef AND p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)"

_READERS = sql_file(__name__, "function_readers")


def close(connection: Connection) -> list[str]:
    """Revoke EXECUTE from PUBLIC, and grant it to those who read views that need it.

    In the caller's transaction, whose role owns the functions. Returns a sentence for each view
    that PUBLIC may read, which not everybody can any more.
    """
    rows = connection.execute(
        text(
            f"SELECT {SIGNATURE} FROM {OF_ENGINE}"
            f" WHERE {OPEN} AND pg_has_role(p.proowner, 'USAGE') ORDER BY 1"
        )
    )
    for (signature,) in rows.all():
        sql.execute(connection, f"REVOKE EXECUTE ON ROUTINE {signature} FROM PUBLIC")
    _grant_readers(connection)
    views = connection.scalars(
        text(f"{_READERS} SELECT DISTINCT view::regclass::text FROM readers WHERE role = 0")
    )
    return [
        f"{view} is granted to PUBLIC, but its functions are not: grant SELECT on it to the roles"
        " that read it, and run `tally migrate` again"
        for view in sorted(views)
    ]


def _grant_readers(connection: Connection) -> None:
    rows = connection.execute(
        text(
            f"{_READERS} SELECT DISTINCT {SIGNATURE}, quote_ident(g.rolname)"
            f" FROM readers AS r JOIN pg_roles AS g ON g.oid = r.role"
            f" JOIN {OF_ENGINE} ON p.oid = r.function"
            " WHERE NOT has_function_privilege(g.oid, p.oid, 'EXECUTE')"
            " AND pg_has_role(p.proowner, 'USAGE') ORDER BY 1, 2"
        )
    )
    for signature, role in rows.all():
        sql.execute(connection, f"GRANT EXECUTE ON ROUTINE {signature} TO {role}")


def harmless(connection: Connection) -> list[str]:
    """Functions that run with the rights of their caller, and are no trigger's."""
    rows = connection.scalars(
        text(f"SELECT {SIGNATURE} FROM {OF_ENGINE} WHERE {_HARMLESS} ORDER BY 1")
    )
    return list(rows)
