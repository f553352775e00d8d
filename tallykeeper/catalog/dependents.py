"""What others have built on an object of the engine's, such as a view on a live view.

Nothing of it is ever dropped to get at the object: what cannot be done without is refused, with
the names of what is in the way and the statements that drop it and create it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, text

from tallykeeper.catalog import attributes
from tallykeeper.errors import HasDependents

# Views stand on a relation by their rule, and on each other; a row type stands for its relation.
_HUNG = """
WITH RECURSIVE hung (classid, objid, subid, level) AS (
  SELECT CAST(CAST(:catalog AS regclass) AS oid), CAST(:oid AS oid), 0, 0
  UNION
  SELECT n.classid, n.objid, n.subid, h.level + 1
  FROM hung AS h
  JOIN pg_depend AS d ON d.refclassid = h.classid AND d.refobjid = h.objid
  LEFT JOIN pg_rewrite AS r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
    AND r.rulename = '_RETURN'
  CROSS JOIN LATERAL (
    SELECT CASE WHEN r.oid IS NULL THEN d.classid ELSE 'pg_class'::regclass::oid END,
           coalesce(r.ev_class, d.objid), d.objsubid
  ) AS n (classid, objid, subid)
  WHERE (n.classid, n.objid) <> (h.classid, h.objid) AND h.level < 100
  -- A column of somebody's table is not the table.
  AND h.subid = 0
  AND (h.level > 0 OR d.refobjsubid = 0 AND :whole OR d.refobjsubid IN (
    SELECT attnum FROM pg_attribute
    WHERE attrelid = :oid AND (:whole OR attname = ANY (CAST(:columns AS text[])))
  ) OR h.classid <> 'pg_class'::regclass)
), latest AS (
  SELECT classid, objid, subid, max(level) AS level FROM hung WHERE level > 0
  GROUP BY classid, objid, subid
)
SELECT l.objid AS oid, i.type AS kind, i.identity AS name,
  CASE l.classid
    WHEN 'pg_class'::regclass THEN CASE
      WHEN c.relkind IN ('v', 'm') THEN
        format('CREATE %s %s AS%s%s', upper(i.type), i.identity, E'\\n', pg_get_viewdef(l.objid))
      WHEN c.relkind = 'i' THEN pg_get_indexdef(l.objid) || ';' END
    WHEN 'pg_proc'::regclass THEN pg_get_functiondef(l.objid) || ';'
    WHEN 'pg_trigger'::regclass THEN pg_get_triggerdef(l.objid) || ';'
    WHEN 'pg_rewrite'::regclass THEN pg_get_ruledef(l.objid)
  END AS creation,
  (SELECT string_agg(pg_get_indexdef(x.indexrelid) || ';', E'\\n' ORDER BY x.indexrelid)
   FROM pg_index AS x WHERE c.relkind = 'm' AND x.indrelid = c.oid) AS indexes
FROM latest AS l
CROSS JOIN LATERAL pg_identify_object(l.classid, l.objid, l.subid) AS i
LEFT JOIN pg_class AS c ON l.classid = 'pg_class'::regclass AND c.oid = l.objid
WHERE NOT (l.classid = 'pg_type'::regclass AND EXISTS (
  SELECT FROM pg_type AS t WHERE t.oid = l.objid AND (t.typrelid <> 0 OR t.typelem <> 0)
))
AND NOT (coalesce(c.relkind IN ('i', 't'), false) AND l.level > 1)
ORDER BY l.level, i.type, i.identity"""


@dataclass(frozen=True)
class Dependent:
    """An object that stands on one of ours, and how to create it again.

    `creation` is empty where only its owner knows.
    """

    kind: str
    name: str
    creation: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"

    @property
    def drop(self) -> str:
        """The statement that drops it, or a line that says that it has to go."""
        if not self.creation:
            return f"-- the {self} has to be removed by its owner"
        return f"DROP {self.kind.upper()} {self.name};"


def on_relation(
    connection: Connection, oid: int, columns: Sequence[str] | None = None
) -> list[Dependent]:
    """What stands on a view or table, or on some of its columns, in the order of its creation."""
    return _find(connection, "pg_class", oid, columns)


def on_function(connection: Connection, oid: int) -> list[Dependent]:
    """What stands on a function."""
    return _find(connection, "pg_proc", oid, None)


def require_none(found: Sequence[Dependent], what: str) -> None:
    """Raise HasDependents where something was found. `what` says why they are in the way."""
    if not found:
        return
    names = ", ".join(map(str, found))
    drops = "\n".join(each.drop for each in reversed(found))
    creations = "\n".join(each.creation for each in found if each.creation)
    raise HasDependents(
        f"{what}, and this stands on it: {names}. Nothing was changed. Drop it, run"
        " `tally migrate`, and create it again as far as it still holds:\n"
        f"{drops}\n-- run `tally migrate` here\n{creations}".rstrip()
    )


def _find(
    connection: Connection, catalog: str, oid: int, columns: Sequence[str] | None
) -> list[Dependent]:
    # Definitions name what is not in the search path with its schema: so they hold in any session.
    path = connection.scalar(text("SELECT current_setting('search_path')"))
    connection.execute(text("SELECT set_config('search_path', 'pg_catalog', true)"))
    rows = connection.execute(
        text(_HUNG),
        {
            "catalog": catalog,
            "oid": oid,
            "whole": columns is None,
            "columns": list(columns or ()),
        },
    ).all()
    found = [Dependent(row.kind, row.name, _creation(connection, row)) for row in rows]
    connection.execute(text("SELECT set_config('search_path', :path, true)"), {"path": path})
    return found


def _creation(connection: Connection, row: Row[Any]) -> str:
    settings: list[attributes.Attribute] = []
    if row.kind in {"view", "materialized view"}:
        settings = attributes.of_view(connection, row.oid)
    elif row.kind == "function":
        settings = attributes.of_function(connection, row.oid)
    again = (f"{attribute.of(row.name)};" for attribute in settings)
    return "\n".join(filter(None, [row.creation, row.indexes, *again]))
