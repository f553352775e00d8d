"""Whether the role that connects may install tallies here, and which ones it may read.

The first is asked before anything is tried. PostgreSQL would refuse as well, but one right at a
time and half-way through. Only an owner may hang a trigger on a table that fires always, so the
sources have to be owned, directly or through a role; the engine's own schema, the live views and
the triggers' functions have to be created.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, text

from tallykeeper.database import sql
from tallykeeper.declarations.tally import Tally
from tallykeeper.errors import NotPermitted

MAINTAIN_SINCE = 170_000
"""From this version on a role can be let clear and analyze a table that it does not own."""


def act_as_owner(connection: Connection) -> None:
    """Have what the transaction makes belong to the group that owns the engine's schema.

    Where a role that cannot log in does, and the one that connects is a member of it. What it made
    would belong to itself otherwise, and the group's other members could not replace it.
    """
    owner = connection.scalar(
        text(
            "SELECT r.rolname FROM pg_namespace AS n JOIN pg_roles AS r ON r.oid = n.nspowner"
            " WHERE n.nspname = :schema AND NOT r.rolcanlogin AND r.rolname <> current_user"
            " AND pg_has_role(r.oid, 'MEMBER')"
        ),
        {"schema": sql.ENGINE_SCHEMA},
    )
    if owner is not None:
        sql.execute(connection, f"SET LOCAL ROLE {sql.quote(owner)}")


def readable(connection: Connection, tallies: Sequence[Tally]) -> list[Tally]:
    """The tallies whose live view is there and may be read by the role that connects."""
    found = connection.execute(
        text(
            "SELECT n.nspname, c.relname FROM pg_class AS c"
            " JOIN pg_namespace AS n ON n.oid = c.relnamespace"
            " WHERE c.relname = ANY(:names) AND has_schema_privilege(n.oid, 'USAGE')"
            " AND has_table_privilege(c.oid, 'SELECT')"
        ),
        {"names": [tally.live_table for tally in tallies]},
    )
    there = {(schema, name) for schema, name in found}
    return [t for t in tallies if (t.table.schema or "public", t.live_table) in there]


def may_maintain(connection: Connection, table: str) -> bool:
    """Whether the role may clear and analyze the table; without it the server only warns."""
    # An earlier version does not know the word.
    maintain = (
        f"CASE WHEN current_setting('server_version_num')::integer >= {MAINTAIN_SINCE}"
        " THEN has_table_privilege(c.oid, 'MAINTAIN') ELSE false END"
    )
    return bool(
        connection.scalar(
            text(
                f"SELECT pg_has_role(c.relowner, 'USAGE') OR {maintain} FROM pg_class AS c"
                " WHERE c.oid = to_regclass(:table)"
            ),
            {"table": table},
        )
    )


def require_loader(connection: Connection, tally: Tally) -> None:
    """Check that the role may go on loading a table whose indexes were dropped for it.

    Raises NotPermitted.
    """
    lacking = _missing_on_table(connection, tally.table.schema or "public", tally.table.name)
    if lacking is not None:
        raise NotPermitted(
            f"{tally.name}: its table is half loaded, without indexes, and the role that connects"
            f" cannot build these: {lacking}. Nothing was changed; have `tally backfill"
            f" {tally.name}` run by its owner, who goes on from there"
        )


def server_version(connection: Connection) -> int:
    """PostgreSQL's version as a number: 180004 is 18.4."""
    number = connection.scalar(text("SELECT current_setting('server_version_num')::integer"))
    assert isinstance(number, int)
    return number


def require_privileges(connection: Connection, tallies: Sequence[Tally]) -> None:
    """Check that the role may install `tallies`, as far as their schemas and tables exist.

    Raises NotPermitted, which lists everything that is missing.
    """
    tables = dict.fromkeys(x for t in tallies for x in (*t.sources, t.table))
    schemas = dict.fromkeys([sql.ENGINE_SCHEMA, *(x.schema or "public" for x in tables)])
    found = [m for s in schemas if (m := _missing_on_schema(connection, s))]
    names = [(x.schema or "public", x.name) for x in tables]
    found += [m for s, t in names if (m := _missing_on_table(connection, s, t))]
    if not found:
        return
    role = connection.scalar(text("SELECT current_user"))
    raise NotPermitted(
        f"the role {role!r} may not install tallies here: {'; '.join(dict.fromkeys(found))}."
        " Nothing was changed; connect as the owner of these tables, or have an administrator"
        f" grant what is missing (a table's owner with `GRANT <owner> TO {role}`)"
    )


def _missing_on_schema(connection: Connection, schema: str) -> str | None:
    exists = connection.scalar(
        text("SELECT true FROM pg_namespace WHERE nspname = :schema"), {"schema": schema}
    )
    if not exists:
        row = connection.execute(
            text(
                "SELECT current_database() AS name,"
                " has_database_privilege(current_database(), 'CREATE') AS allowed"
            )
        ).one()
        return None if row.allowed else f"it may not create schemas in the database {row.name}"
    allowed = connection.scalar(
        text(
            "SELECT has_schema_privilege(CAST(:schema AS text), 'USAGE')"
            " AND has_schema_privilege(CAST(:schema AS text), 'CREATE')"
        ),
        {"schema": schema},
    )
    return None if allowed else f"it may not create anything in the schema {schema}"


def _missing_on_table(connection: Connection, schema: str, table: str) -> str | None:
    row = connection.execute(
        text(
            "SELECT pg_has_role(c.relowner, 'USAGE') AS owned,"
            " pg_get_userbyid(c.relowner) AS owner"
            " FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
            " WHERE n.nspname = :schema AND c.relname = :table"
        ),
        {"schema": schema, "table": table},
    ).one_or_none()
    if row is None or row.owned:
        return None
    return f"it does not own {schema}.{table}, which belongs to {row.owner!r}"
