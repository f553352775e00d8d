"""The query of what tallies depend on: facts of each object as the catalog has them now.

Nothing is judged here (`rules.py` does that), and nothing is written but the record. Facts that a
restored dump keeps are in `facts`; `identity` has those that it does not: numbers in the catalog,
files, and the transaction that last wrote an object's row (`xmin`), by which an object that was
changed and changed back is found. Names are the keys, so that a table which took the name of
another one shows as the same name with another number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from tallykeeper.catalog.state import dependencies, stands_on
from tallykeeper.database import sql
from tallykeeper.database.sql_files import sql_file
from tallykeeper.drift import catalog_rows

# Facts that another version of this query recorded are not comparable.
FORMAT = 4

# Names, definitions and constants in them are written alike whatever the session's settings are.
_SETTINGS = (
    ("search_path", "pg_catalog"),
    ("quote_all_identifiers", "off"),
    ("timezone", "UTC"),
    ("datestyle", "ISO, MDY"),
    ("intervalstyle", "postgres"),
    ("jit", "off"),
)

_OURS = f"{sql.literal(sql.ENGINE_SCHEMA)}::regnamespace"

_NOW = sql_file(__name__, "facts").replace(":format", str(FORMAT))

_COMPARED = f"""{_NOW}, was AS MATERIALIZED (
  SELECT tally, role, kind, name, part, facts, identity - '{catalog_rows.KEPT_AS}' AS identity
  FROM {sql.name_of(dependencies)} WHERE tally = ANY (%(tallies)s)
)
SELECT tally, kind, name, part, coalesce(now.role, was.role) AS role, was.facts AS was,
  now.facts AS now, was.identity AS was_identity, now.identity AS now_identity, now.filtered,
  (SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE oid = {_OURS}) AS keeper,
  EXISTS (SELECT FROM was AS w WHERE w.tally = coalesce(now.tally, was.tally)
    AND w.role = 'definition') AS is_select,
  kind = 'relation' AND EXISTS (SELECT FROM {sql.name_of(stands_on)} AS d
    WHERE d.role = 'derived'
    AND to_regclass(d.name) = to_regclass(coalesce(now.name, was.name))) AS is_derived,
  CASE WHEN now.facts IS NULL AND kind = 'relation' AND was.identity ? 'oid' THEN
    (SELECT format('%%I.%%I', n.nspname, c.relname) FROM pg_class AS c
     JOIN pg_namespace AS n ON n.oid = c.relnamespace
     WHERE c.oid = (was.identity ->> 'oid')::oid)
  WHEN kind = 'relation' AND (now.identity -> 'oid') <> (was.identity -> 'oid') THEN
    (SELECT format('%%I.%%I', n.nspname, c.relname) FROM pg_class AS c
     JOIN pg_namespace AS n ON n.oid = c.relnamespace
     WHERE c.oid = (was.identity ->> 'oid')::oid)
  WHEN was.facts IS NULL AND kind = 'relation' THEN (SELECT w.name FROM was AS w
     WHERE w.kind = 'relation' AND w.tally = now.tally
     AND w.identity -> 'oid' = now.identity -> 'oid' LIMIT 1) END AS elsewhere,
  CASE WHEN was.facts IS NULL AND kind = 'relation' THEN
    pg_relation_size((now.identity ->> 'oid')::oid) END AS bytes
FROM was FULL JOIN now USING (tally, kind, name, part)
WHERE was.facts IS DISTINCT FROM now.facts OR was.identity IS DISTINCT FROM now.identity
  OR now.filtered IS NOT NULL OR kind = 'database' OR now.role = 'stray'
  OR now.facts @> '{{"deterministic": false}}' OR now.facts @> '{{"generated": "v"}}'
  OR now.facts @> '{{"subscribed": true}}'
  OR now.facts @> '{{"persistence": "u"}}'
ORDER BY kind, name, part"""

_RECORD = f"""{_NOW}
INSERT INTO {sql.name_of(dependencies)} (tally, role, kind, name, part, facts, identity)
SELECT tally, role, kind, name, part, facts, identity FROM now WHERE role <> 'stray'"""

# All of a relation, or single objects.
_AT = """unnest(%(kinds)s::text[], %(names)s::text[], %(parts)s::text[]) AS p (kind, name, part)
  ON n.name = p.name AND (p.kind = 'relation' OR (p.kind, p.part) = (n.kind, n.part))"""

_FORGET = f"""
DELETE FROM {sql.name_of(dependencies)} AS d WHERE tally = ANY (%(tallies)s)
AND EXISTS (SELECT FROM (SELECT d.kind, d.name, d.part) AS n JOIN {_AT})"""

_SETTLE = f"""{_NOW}
INSERT INTO {sql.name_of(dependencies)} (tally, role, kind, name, part, facts, identity)
SELECT DISTINCT n.tally, n.role, n.kind, n.name, n.part, n.facts, n.identity FROM now AS n
JOIN {_AT} WHERE n.role <> 'stray'"""


def compared(tallies: str) -> str:
    """The query of `compare` as the body of a function has it, where `tallies` is an expression."""
    return _COMPARED.replace("%(tallies)s", tallies).replace("%%", "%")


def compare(connection: Connection, tallies: Sequence[str]) -> list[Any]:
    """The objects of the named tallies that differ from the record, or are fit for no tally."""
    return _run(connection, _COMPARED, {"tallies": list(tallies)})


def record(connection: Connection, tallies: Sequence[str]) -> None:
    """Write down the facts of the named tallies as they are, in place of what was recorded."""
    named = {"tallies": list(tallies)}
    connection.exec_driver_sql(
        f"DELETE FROM {sql.name_of(dependencies)} WHERE tally = ANY (%(tallies)s)", named
    )
    _run(connection, _RECORD, named)


def settle(connection: Connection, tally: str, places: Sequence[tuple[str, str, str]]) -> None:
    """Write down single objects of one tally as they are now, of a relation all that is on it."""
    kinds, names, parts = (list(values) for values in zip(*places, strict=True))
    given = {"tallies": [tally], "kinds": kinds, "names": names, "parts": parts}
    connection.exec_driver_sql(_FORGET, given)
    _run(connection, _SETTLE, given)


def accept_triggers(connection: Connection, relation: str) -> None:
    """Let it be no difference that triggers of the relation were off in this transaction.

    For the code that marks the tallies stale that count the relation.
    """
    connection.exec_driver_sql(
        f"UPDATE {sql.name_of(dependencies)} AS d"
        " SET identity = jsonb_set(d.identity, '{row}', to_jsonb(t.xmin::text))"
        " FROM pg_trigger AS t WHERE t.tgrelid = %s::regclass AND NOT t.tgisinternal"
        " AND d.kind = 'trigger' AND d.part = t.tgname AND d.name = ("
        "  SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) FROM pg_class AS c"
        "  JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = t.tgrelid)",
        (relation,),
    )


def _run(connection: Connection, statement: str, given: dict[str, Any]) -> list[Any]:
    # In one statement; the sub-select is not merged into it, and so is evaluated first.
    names = ", ".join(f"current_setting('{name}') AS {name}" for name, _ in _SETTINGS)
    wanted = ", ".join(f"set_config('{name}', '{value}', true)" for name, value in _SETTINGS)
    before = connection.exec_driver_sql(
        f"SELECT {wanted}, was.* FROM (SELECT {names} OFFSET 0) AS was"
    ).one()[len(_SETTINGS) :]
    result = connection.exec_driver_sql(statement, given)
    rows = list(result.all()) if result.returns_rows else []
    settings = ", ".join(f"set_config('{name}', %s, true)" for name, _ in _SETTINGS)
    connection.exec_driver_sql(f"SELECT {settings}", tuple(before))
    return rows
