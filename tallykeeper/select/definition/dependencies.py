"""What a definition view depends on, by the dependencies that PostgreSQL keeps of views.

Views that it reads are followed to their tables. Built-in objects are not among them: nothing can
happen to those but a new version of the server.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Connection, text

Kind = Literal["relation", "column", "function", "type", "collation", "other"]

# 'view' is the view whose SELECT names the object: the definition view, or one below.
_DEPENDENCIES = text("""
WITH RECURSIVE view (oid) AS (
  SELECT to_regclass(:view)::oid
  UNION
  SELECT d.refobjid FROM view AS v
  JOIN pg_rewrite AS w ON w.ev_class = v.oid AND w.ev_type = '1'
  JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
    AND d.refclassid = 'pg_class'::regclass AND d.deptype = 'n'
  JOIN pg_class AS c ON c.oid = d.refobjid AND c.relkind = 'v'
), found AS (
  SELECT DISTINCT v.oid AS view, d.refclassid, d.refobjid, d.refobjsubid FROM view AS v
  JOIN pg_rewrite AS w ON w.ev_class = v.oid AND w.ev_type = '1'
  JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
    AND d.deptype = 'n'
  -- Up to PostgreSQL 15 a view is also OLD and NEW of its own rule.
  WHERE d.refclassid <> 'pg_class'::regclass OR d.refobjid <> v.oid
)
SELECT CASE f.refclassid WHEN 'pg_class'::regclass THEN
         CASE WHEN f.refobjsubid = 0 THEN 'relation' ELSE 'column' END
         WHEN 'pg_proc'::regclass THEN 'function' WHEN 'pg_type'::regclass THEN 'type'
         WHEN 'pg_collation'::regclass THEN 'collation' ELSE 'other' END AS kind,
       f.refobjid AS oid, o.identity AS name, n.nspname AS schema, c.relname AS relation,
       a.attname AS column, f.view::regclass::text AS view
FROM found AS f
CROSS JOIN LATERAL pg_identify_object(f.refclassid, f.refobjid, f.refobjsubid) AS o
LEFT JOIN pg_class AS c ON f.refclassid = 'pg_class'::regclass AND c.oid = f.refobjid
LEFT JOIN pg_namespace AS n ON n.oid = c.relnamespace
LEFT JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = f.refobjsubid
  AND f.refobjsubid > 0
ORDER BY 1, 3, 7""")


@dataclass(frozen=True)
class Dependency:
    """An object that a view's SELECT names.

    `name` is its identity as PostgreSQL writes it, functions with the types of their arguments.
    `relation` is schema and name of a relation, or of that which a column is of.
    """

    kind: Kind
    oid: int
    name: str
    relation: tuple[str, str] | None
    column: str | None
    view: str


def dependencies_of(connection: Connection, view: str) -> list[Dependency]:
    """What the view, named as SQL writes it, and the views below it depend on."""
    return [
        Dependency(
            d.kind,
            d.oid,
            d.name,
            (d.schema, d.relation) if d.relation is not None else None,
            d.column,
            d.view,
        )
        for d in connection.execute(_DEPENDENCIES, {"view": view})
    ]


def columns_read(connection: Connection, view: str) -> dict[tuple[str, str], tuple[str, ...]]:
    """The columns that the view reads of each relation, by schema and name; perhaps none of one."""
    read: dict[tuple[str, str], tuple[str, ...]] = {}
    for each in dependencies_of(connection, view):
        if each.relation is None:
            continue
        before = read.get(each.relation, ())
        read[each.relation] = (*before, each.column) if each.column is not None else before
    return read
