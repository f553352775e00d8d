"""What people set on a view or function: grants, comments, options and owner.

Read before such an object has to be dropped, and set again on the one that comes in its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

from tallykeeper.database import sql

_RELATION = """
SELECT NULL AS column_name, 'GRANT ' || g.privilege_type || ' ON ' AS before,
       ' TO ' || coalesce(quote_ident(r.rolname), 'PUBLIC')
         || CASE WHEN g.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END AS after
FROM pg_class AS c CROSS JOIN aclexplode(c.relacl) AS g LEFT JOIN pg_roles AS r ON r.oid = g.grantee
WHERE c.oid = :oid AND g.grantee <> c.relowner
UNION ALL
SELECT a.attname, format('GRANT %s (%I) ON ', g.privilege_type, a.attname),
       ' TO ' || coalesce(quote_ident(r.rolname), 'PUBLIC')
         || CASE WHEN g.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
FROM pg_attribute AS a CROSS JOIN aclexplode(a.attacl) AS g
LEFT JOIN pg_roles AS r ON r.oid = g.grantee
WHERE a.attrelid = :oid AND a.attnum > 0 AND NOT a.attisdropped
UNION ALL
SELECT a.attname, 'COMMENT ON ' || CASE d.objsubid WHEN 0 THEN k.kind ELSE 'COLUMN ' END,
       coalesce('.' || quote_ident(a.attname), '') || ' IS ' || quote_literal(d.description)
FROM pg_description AS d CROSS JOIN of_kind AS k
LEFT JOIN pg_attribute AS a ON a.attrelid = :oid AND a.attnum = d.objsubid AND d.objsubid > 0
WHERE d.classoid = 'pg_class'::regclass AND d.objoid = :oid
UNION ALL
SELECT NULL, 'ALTER ' || k.kind, ' SET (' || array_to_string(c.reloptions, ', ') || ')'
FROM pg_class AS c CROSS JOIN of_kind AS k WHERE c.oid = :oid AND c.reloptions IS NOT NULL
UNION ALL
SELECT NULL, 'ALTER ' || k.kind, ' OWNER TO ' || quote_ident(pg_get_userbyid(c.relowner))
FROM pg_class AS c CROSS JOIN of_kind AS k
WHERE c.oid = :oid AND pg_get_userbyid(c.relowner) <> current_user
"""
_KIND = """
WITH of_kind AS (
  SELECT CASE relkind WHEN 'm' THEN 'MATERIALIZED VIEW ' WHEN 'v' THEN 'VIEW ' ELSE 'TABLE ' END
    AS kind
  FROM pg_class WHERE oid = :oid
)"""
# Everybody may call a function that is made anew. What is made for it decides that, not this.
_FUNCTION = """
SELECT NULL AS column_name, 'GRANT EXECUTE ON FUNCTION ' AS before,
       ' TO ' || quote_ident(r.rolname)
         || CASE WHEN g.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END AS after
FROM pg_proc AS p CROSS JOIN aclexplode(p.proacl) AS g JOIN pg_roles AS r ON r.oid = g.grantee
WHERE p.oid = :oid AND g.grantee <> p.proowner
UNION ALL
SELECT NULL, 'COMMENT ON FUNCTION ', ' IS ' || quote_literal(d.description)
FROM pg_description AS d WHERE d.classoid = 'pg_proc'::regclass AND d.objoid = :oid
UNION ALL
SELECT NULL, 'ALTER FUNCTION ', ' OWNER TO ' || quote_ident(pg_get_userbyid(p.proowner))
FROM pg_proc AS p WHERE p.oid = :oid AND pg_get_userbyid(p.proowner) <> current_user
"""


@dataclass(frozen=True)
class Attribute:
    """A statement that sets one thing, in two parts: the object's name goes between them."""

    before: str
    after: str
    # The column that it is about, where it is about one.
    column: str | None = None

    def of(self, name: str) -> str:
        """The statement for the object of that name."""
        return f"{self.before}{name}{self.after}"


def of_view(connection: Connection, oid: int) -> list[Attribute]:
    """What is set on a view, materialized view or table."""
    return _read(connection, f"{_KIND}{_RELATION}", oid)


def of_function(connection: Connection, oid: int) -> list[Attribute]:
    """What is set on a function, but what everybody may do."""
    return _read(connection, _FUNCTION, oid)


def options_of_view(connection: Connection, name: str) -> str | None:
    """The options of a view as `ALTER VIEW ... SET` takes them.

    Not security_invoker: readers have no rights on what a live view reads.
    """
    options: str | None = connection.scalar(
        text(
            "SELECT array_to_string(ARRAY(SELECT o FROM unnest(reloptions) AS o"
            " WHERE o NOT LIKE 'security_invoker=%'), ', ')"
            " FROM pg_class WHERE oid = to_regclass(:name)"
        ),
        {"name": name},
    )
    return options


def set_again(
    connection: Connection, name: str, attributes: Sequence[Attribute], columns: Sequence[str] = ()
) -> None:
    """Set on the object `name`, which has these columns, what was set on its predecessor."""
    for attribute in attributes:
        if attribute.column is None or attribute.column in columns:
            sql.execute(connection, attribute.of(name))


def _read(connection: Connection, query: str, oid: int) -> list[Attribute]:
    rows = connection.execute(text(query), {"oid": oid})
    return [Attribute(row.before, row.after, row.column_name) for row in rows]
