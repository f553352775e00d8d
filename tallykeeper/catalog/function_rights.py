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

# Views that call the engine's functions, views that read those, and so on; with what is called.
_CALLING = f"""
WITH RECURSIVE calling AS (
  SELECT r.ev_class AS view, p.oid AS function
  FROM {OF_ENGINE} JOIN pg_depend AS d ON d.refclassid = 'pg_proc'::regclass
    AND d.refobjid = p.oid AND d.classid = 'pg_rewrite'::regclass
  JOIN pg_rewrite AS r ON r.oid = d.objid
  UNION
  SELECT r.ev_class, c.function
  FROM calling AS c JOIN pg_depend AS d ON d.refclassid = 'pg_class'::regclass
    AND d.refobjid = c.view AND d.classid = 'pg_rewrite'::regclass
  JOIN pg_rewrite AS r ON r.oid = d.objid
)"""
_READERS = f"""{_CALLING}, readers AS (
  SELECT v.oid AS view, v.relowner AS role, c.function
  FROM calling AS c JOIN pg_class AS v ON v.oid = c.view
  UNION
  SELECT v.oid, a.grantee, c.function
  FROM calling AS c JOIN pg_class AS v ON v.oid = c.view, aclexplode(v.relacl) AS a
  WHERE a.privilege_type = 'SELECT'
  UNION
  SELECT v.oid, a.grantee, c.function
  FROM calling AS c JOIN pg_class AS v ON v.oid = c.view
  JOIN pg_attribute AS t ON t.attrelid = v.oid, aclexplode(t.attacl) AS a
  WHERE a.privilege_type = 'SELECT'
  UNION
  SELECT c.view, 'pg_read_all_data'::regrole, c.function FROM calling AS c
  UNION
  -- What runs with the caller's own rights, and is part of what applications ask.
  SELECT c.view, a.grantee, p.oid
  FROM calling AS c JOIN pg_class AS v ON v.oid = c.view, aclexplode(v.relacl) AS a, {OF_ENGINE}
  WHERE a.privilege_type = 'SELECT' AND a.grantee <> 0 AND {_HARMLESS}
  UNION
  -- A partition created later copies the guard of its root, and its creator is asked for EXECUTE.
  SELECT r.oid, r.relowner, t.tgfoid
  FROM pg_trigger AS t JOIN pg_class AS r ON r.oid = t.tgrelid
  JOIN {OF_ENGINE} ON p.oid = t.tgfoid
  WHERE t.tgtype & 1 = 1
)"""


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
