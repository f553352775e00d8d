"""Event triggers that mark tallies stale in the very transaction of the DDL they depend on.

They are optional: only a superuser may create them. Without them the same differences are found at
the next comparison (`dependencies.py`). One function serves both: it looks up which tallies stand
on what the command touched, and compares these alone with the record, by the same query
(`facts.py`). What counts as a difference here is what `rules.py` says changes may have
been missed for; the two are tested against each other.

Invariants: no command fails or waits longer than a second because of them, but for a CASCADE that
they are set to refuse. They run with a superuser's rights, so they do nothing where the engine's
tables belong to another role than their function: the owner of a table can hang code on it.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, text

from tallykeeper.catalog import function_rights
from tallykeeper.catalog.state import dependencies, stale_marks, stands_on
from tallykeeper.database import sql
from tallykeeper.drift import facts

OFF, AUTO, REFUSE = "off", "auto", "refuse"
"""Which to have: none; those that invalidate; those that also refuse a CASCADE over live views."""

FUNCTION = sql.in_engine_schema("mark_ddl")
TRIGGERS = {"tallykeeper_ddl": "ddl_command_end", "tallykeeper_drop": "sql_drop"}
INDEX = "dependencies_oid"
DROP = (
    *(f"DROP EVENT TRIGGER IF EXISTS {name}" for name in TRIGGERS),
    f"DROP FUNCTION IF EXISTS {FUNCTION}()",
    f"DROP INDEX IF EXISTS {sql.in_engine_schema(INDEX)}",
)

_SETTINGS = (
    ("search_path", "pg_catalog, pg_temp"),
    ("lock_timeout", "'1s'"),
    ("jit", "off"),
    ("quote_all_identifiers", "off"),
    # As the record is written: constants of an expression are spelled by these.
    ("TimeZone", "'UTC'"),
    ("DateStyle", "'ISO, MDY'"),
    ("IntervalStyle", "postgres"),
    ("row_security", "off"),
    # The plans of a session's first command are kept: planning takes most of the time.
    ("plan_cache_mode", "force_generic_plan"),
)
# What these change shows on other objects than the one that they name; and what is none at all.
_ALL_CONCERNED = "'ALTER EXTENSION', 'ALTER SCHEMA', 'ALTER SUBSCRIPTION', 'CREATE SUBSCRIPTION'"
_HARMLESS = "'COMMENT', 'GRANT', 'REVOKE', 'SECURITY LABEL', 'ANALYZE', 'CREATE INDEX', 'REINDEX'"
_TABLES = ", ".join(
    f"to_regclass({sql.literal(sql.name_of(table))})"
    for table in (dependencies, stands_on, stale_marks)
)

# Types are used by columns directly, or through arrays, domains and composite types of them.
_TOUCHED = """
    WITH RECURSIVE command AS MATERIALIZED (
      SELECT classid, objid FROM pg_event_trigger_ddl_commands() WHERE objid IS NOT NULL
    ), type (oid) AS (
      SELECT objid FROM command WHERE classid = 'pg_type'::regclass
      UNION SELECT reltype FROM pg_class WHERE relkind = 'c' AND oid IN (
        SELECT objid FROM command WHERE classid = 'pg_class'::regclass)
      UNION SELECT d.objid FROM type AS y JOIN pg_depend AS d
      ON d.refclassid = 'pg_type'::regclass AND d.refobjid = y.oid
      AND d.classid = 'pg_type'::regclass
    )
    SELECT array_agg(t.oid::text) INTO touched FROM (
      SELECT objid FROM command
      UNION SELECT r.oid FROM command AS c, LATERAL (
        SELECT tgrelid FROM pg_trigger WHERE oid = c.objid UNION ALL
        SELECT tgfoid FROM pg_trigger WHERE oid = c.objid) AS r (oid)
      WHERE c.classid = 'pg_trigger'::regclass
      UNION SELECT r.ev_class FROM command AS c JOIN pg_rewrite AS r ON r.oid = c.objid
      AND c.classid = 'pg_rewrite'::regclass
      UNION SELECT i.inhparent FROM command AS c JOIN pg_inherits AS i
      ON i.inhrelid = c.objid AND c.classid = 'pg_class'::regclass
      UNION SELECT d.objid FROM type AS y JOIN pg_depend AS d
      ON d.refclassid = 'pg_type'::regclass AND d.refobjid = y.oid
      AND d.classid = 'pg_class'::regclass
    ) AS t (oid);"""


def _changed(*facts: str) -> str:
    return "(" + " OR ".join(f"d.was -> '{f}' <> d.now -> '{f}'" for f in facts) + ")"


_CAPTURED = "d.role IN ('source', 'above')"
_RELATION = f"""CASE
      WHEN d.role = 'live' THEN CASE WHEN d.now IS NULL THEN 'does not exist any more' END
      WHEN d.role NOT IN ('source', 'above', 'derived', 'log', 'state') THEN NULL
      WHEN d.now IS NULL AND {_CAPTURED} AND d.was ->> 'parents' IS NOT NULL THEN
        CASE WHEN d.elsewhere IS NULL OR NOT EXISTS (SELECT FROM found AS n WHERE
          n.tally = d.tally AND n.kind = 'relation' AND n.was IS NULL AND n.name = d.elsewhere)
        THEN 'does not belong to the source any more' END
      WHEN d.now IS NULL THEN coalesce('is named ' || d.elsewhere || ' now',
        'does not exist any more')
      WHEN d.was IS NULL THEN CASE WHEN {_CAPTURED} AND d.elsewhere IS NULL
        AND (d.bytes > 0 OR d.role = 'above') THEN 'belongs to the source now' END
      WHEN d.was_identity -> 'oid' <> d.now_identity -> 'oid'
        THEN 'is another table than the one that was installed'
      WHEN {_changed("parents", "detaching")}
        OR d.was_identity -> 'parents' <> d.now_identity -> 'parents'
        THEN 'was attached or detached'
      WHEN {_changed("kind")} THEN 'is of another kind'
      WHEN {_changed("persistence")} THEN CASE d.now ->> 'persistence'
        WHEN 'u' THEN 'is UNLOGGED' ELSE 'was UNLOGGED' END
      WHEN {_changed("subscribed")} AND d.role = 'source' THEN 'is filled by a subscription'
      WHEN {_changed("rules")} AND NOT {_CAPTURED} THEN 'has other rules' END"""
_COLUMN = f"""CASE
      WHEN d.was IS NULL OR d.role NOT IN ('source', 'derived', 'log') THEN NULL
      WHEN d.now IS NULL THEN 'does not exist any more'
      WHEN d.was_identity -> 'number' <> d.now_identity -> 'number'
        THEN 'was dropped and added again'
      WHEN {_changed("type", "base", "fields", "collation", "generated", "expression", "extension")}
        OR NOT (d.now -> 'labels') @> (d.was -> 'labels') THEN 'changed'
      WHEN d.role = 'source' AND d.was_identity -> 'row' <> d.now_identity -> 'row'
        AND EXISTS (SELECT FROM found AS n WHERE n.tally = d.tally AND n.kind = 'relation'
          AND n.role = 'source' AND n.was_identity -> 'storage' <> n.now_identity -> 'storage')
        THEN 'had its rows rewritten' END"""
_TRIGGER = f"""CASE
      WHEN d.role = 'stray' THEN 'captures a table that is no source'
      WHEN d.was IS NULL THEN CASE WHEN (d.now ->> 'cloned')::boolean THEN NULL
        WHEN d.role IN ('log', 'state') THEN 'is not Tallykeeper''s'
        WHEN (d.now ->> 'ours')::boolean AND NOT starts_with(d.part, 'tallykeeper_')
        THEN 'captures once more' END
      WHEN NOT (d.was ->> 'ours')::boolean THEN NULL
      WHEN d.role = 'derived' AND d.part !~ '^tallykeeper_(hand|log|cascade)' THEN NULL
      WHEN d.now IS NULL THEN 'does not exist any more'
      WHEN {_changed("enabled")} THEN 'is disabled, or not enabled always'
      WHEN {_changed("function", "text", "ours")} THEN 'changed' END"""
_OUR_FUNCTION = f"starts_with(d.name, '{sql.ENGINE_SCHEMA}.')"
_FUNCTION = f"""CASE
      WHEN d.was IS NULL OR {_OUR_FUNCTION} AND d.was ->> 'returns' <> 'trigger' THEN NULL
      WHEN d.now IS NULL THEN 'does not exist any more'
      WHEN {_changed("text", "language", "definer", "settings", "volatility", "strict", "returns")}
        OR {_changed("extension")} OR {_OUR_FUNCTION} AND {_changed("owner")} THEN 'changed' END"""

_MARK = f"""
    WITH found AS MATERIALIZED (
{{compared}}
    ), lost AS MATERIALIZED (
      SELECT f.tally, n.name FROM found AS f, LATERAL (VALUES (f.name), (f.elsewhere)) AS n (name)
      WHERE f.kind = 'relation' AND n.name IS NOT NULL
      AND (f.now IS NULL OR f.was_identity -> 'oid' <> f.now_identity -> 'oid')
    ), judged AS (
      SELECT d.tally, d.name || ': ' || CASE WHEN d.kind IN ('column', 'trigger')
        THEN 'the ' || d.kind || ' ' || d.part || ' ' WHEN d.kind = 'function'
        THEN 'the function ' ELSE '' END || CASE d.kind
      WHEN 'relation' THEN {_RELATION}
      WHEN 'column' THEN {_COLUMN}
      WHEN 'trigger' THEN {_TRIGGER}
      WHEN 'function' THEN {_FUNCTION} END AS what
      FROM found AS d
      -- What a relation that left had is no matter of its own.
      WHERE (d.kind IN ('relation', 'function') OR (d.tally, d.name) NOT IN (TABLE lost))
      -- A dump that was restored here is recorded anew by the next comparison.
      AND NOT EXISTS (SELECT FROM found AS b WHERE b.tally = d.tally AND b.kind = 'database'
        AND (b.was IS DISTINCT FROM b.now OR b.was_identity IS DISTINCT FROM b.now_identity))
    ), invalidation AS (
      SELECT tally, TG_TAG || ' by ' || session_user || ': '
        || left(string_agg(DISTINCT what, '; '), 1000) AS reason
      FROM judged WHERE what IS NOT NULL GROUP BY tally
    )
    INSERT INTO {sql.name_of(stale_marks)} (tally, reason)
    SELECT m.tally, m.reason FROM invalidation AS m WHERE NOT EXISTS (
      SELECT FROM {sql.name_of(stale_marks)} AS s
      WHERE s.tally = m.tally AND s.reason = m.reason AND s.marked_at = now());"""

# Raised outside the blocks whose errors are swallowed.
_REFUSAL = f"""
  IF TG_EVENT = 'sql_drop' THEN
    BEGIN
      SELECT string_agg(object_identity, ', ' ORDER BY object_identity) INTO dragged
      FROM pg_event_trigger_dropped_objects()
      WHERE NOT original AND NOT is_temporary AND object_type IN ('view', 'table', 'function')
      AND (schema_name = '{sql.ENGINE_SCHEMA}' OR object_identity IN (
        SELECT name FROM {sql.name_of(stands_on)} WHERE role = 'live'));
    EXCEPTION WHEN OTHERS THEN
      RAISE LOG 'tallykeeper: what % drops could not be looked at: %', TG_TAG, SQLERRM;
    END;
    IF dragged IS NOT NULL THEN
      RAISE EXCEPTION USING ERRCODE = 'dependent_objects_still_exist',
        MESSAGE = TG_TAG || ' would drop ' || dragged || ' with it, which Tallykeeper needs',
        HINT = 'Write it without CASCADE, and change the declaration first. To drop them all the'
          ' same, first run ALTER EVENT TRIGGER tallykeeper_drop DISABLE.';
    END IF;
  END IF;"""


def create_function(*, refuse: bool) -> str:
    """CREATE FUNCTION for what both event triggers call."""
    return sql.create_function(FUNCTION, "event_trigger", _body(refuse), settings=dict(_SETTINGS))


def _body(refuse: bool) -> str:
    marked = _MARK.replace("{compared}", facts.compared("concerned"))
    return f"""#variable_conflict use_column
DECLARE
  touched text[];
  concerned text[];
  dragged text;
BEGIN
  IF TG_TAG IN ({_HARMLESS}) OR NOT ({sql.NOT_BY_ENGINE}) THEN
    RETURN;
  END IF;{_REFUSAL if refuse else ""}
  BEGIN
    IF EXISTS (SELECT FROM unnest(ARRAY[{_TABLES}]) AS t (oid) LEFT JOIN pg_class AS c USING (oid)
        WHERE c.relkind IS DISTINCT FROM 'r' OR pg_get_userbyid(c.relowner) <> current_user) THEN
      RETURN;
    END IF;
    IF TG_EVENT = 'sql_drop' THEN
      SELECT array_agg(objid::text) INTO touched FROM pg_event_trigger_dropped_objects()
      WHERE NOT is_temporary;
    ELSE
{_TOUCHED}
    END IF;
    SELECT array_agg(DISTINCT tally) INTO concerned FROM {sql.name_of(dependencies)}
    WHERE identity ->> 'oid' = ANY (touched) OR TG_TAG IN ({_ALL_CONCERNED});
    IF concerned IS NULL THEN
      RETURN;
    END IF;
{marked}
  EXCEPTION WHEN OTHERS THEN
    RAISE LOG 'tallykeeper: % could not be compared with what tallies stand on, so the next'
      ' refresh does it: %', TG_TAG, SQLERRM;
  END;
END"""


@dataclass(frozen=True)
class _Present:
    """What is there: the function, and how each event trigger differs from how it should be."""

    function: bool
    is_as_wanted: bool
    faults: dict[str, str]


def keep(connection: Connection, wanted: str) -> list[str]:
    """Install the event triggers or remove them, as is wanted and this role may; what was done.

    Quiet where the role is no superuser, where the engine's tables are not its own kind's, and
    where they are installed for the first time: that is no more than a part of the installation.
    """
    if not _may(connection):
        return []
    present = _look(connection, refuse=wanted == REFUSE)
    if wanted == OFF or not _is_safe(connection):
        if not are_there(connection):
            return []
        for statement in DROP:
            sql.execute(connection, statement)
        return ["removed the event triggers"]
    if present.is_as_wanted and not present.faults:
        return []
    if not connection.scalar(
        text("SELECT to_regclass(:name)"), {"name": sql.in_engine_schema(INDEX)}
    ):
        indexed = f"{sql.name_of(dependencies)} ((identity ->> 'oid'))"
        sql.execute(connection, f"CREATE INDEX {INDEX} ON {indexed}")
    if not present.is_as_wanted:
        sql.execute(connection, create_function(refuse=wanted == REFUSE))
        sql.execute(connection, f"ALTER FUNCTION {FUNCTION}() OWNER TO {_owner(connection)}")
        sql.execute(connection, f"REVOKE ALL ON FUNCTION {FUNCTION}() FROM PUBLIC")
    for name in present.faults:
        sql.execute(connection, f"DROP EVENT TRIGGER IF EXISTS {name}")
        sql.execute(
            connection,
            f"CREATE EVENT TRIGGER {name} ON {TRIGGERS[name]} EXECUTE FUNCTION {FUNCTION}()",
        )
        sql.execute(connection, f"ALTER EVENT TRIGGER {name} ENABLE ALWAYS")
    if not present.function:
        return []
    said = [f"repaired the event trigger {name}, which {f}" for name, f in present.faults.items()]
    return said if present.is_as_wanted else [*said, "replaced the function of the event triggers"]


def are_there(connection: Connection) -> bool:
    """Whether anything of them is there."""
    present = _look(connection, refuse=False)
    return present.function or len(present.faults) < len(TRIGGERS)


def faults(connection: Connection) -> list[str]:
    """What is wrong with the event triggers, where their function says that there should be some.

    Any role may ask, and none of it makes a figure wrong: comparisons find the same, only later.
    """
    present = _look(connection, refuse=False)
    if not present.function:
        return []
    return [f"the event trigger {name} {said}" for name, said in present.faults.items()]


def _look(connection: Connection, *, refuse: bool) -> _Present:
    # By the catalog alone: who asks need not be let into the schema.
    found = connection.execute(
        text(
            "SELECT p.oid, p.prosrc, p.prosecdef AND p.proconfig = CAST(:settings AS text[])"
            " AND p.proowner = c.relowner AS kept"
            f" FROM {function_rights.OF_ENGINE} AND p.proname = :function AND p.pronargs = 0"
            " LEFT JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = :marks"
        ),
        {
            "function": FUNCTION.partition(".")[2],
            "marks": stale_marks.name,
            "settings": [f"{name}={value.strip(chr(39))}" for name, value in _SETTINGS],
        },
    ).one_or_none()
    triggers = connection.execute(
        text(
            "SELECT evtname, evtevent, evtenabled, evttags IS NULL"
            " AND evtfoid = CAST(:function AS oid) AS ours"
            " FROM pg_event_trigger WHERE evtname = ANY (:names)"
        ),
        {"function": found.oid if found else None, "names": list(TRIGGERS)},
    )
    there = {row.evtname: row for row in triggers}
    said: dict[str, str] = {}
    for name, event in TRIGGERS.items():
        row = there.get(name)
        if row is None:
            said[name] = "is missing"
        elif not row.ours or row.evtevent != event:
            said[name] = "is another one"
        elif row.evtenabled != "A":
            said[name] = "is disabled, or not enabled always"
    as_wanted = found is not None and found.kept and found.prosrc == f"\n{_body(refuse)}\n"
    return _Present(found is not None, bool(as_wanted), said)


def _may(connection: Connection) -> bool:
    return bool(
        connection.scalar(text("SELECT rolsuper FROM pg_roles WHERE rolname = current_user"))
    )


def _owner(connection: Connection) -> str:
    owner = connection.scalar(
        text("SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = to_regclass(:marks)"),
        {"marks": sql.name_of(stale_marks)},
    )
    return sql.quote(str(owner))


def _is_safe(connection: Connection) -> bool:
    """Whether all that the function reads and writes belongs to one superuser."""
    return bool(
        sql.execute(
            connection,
            "SELECT count(DISTINCT c.relowner) = 1 AND bool_and(r.rolsuper) FROM"
            f" unnest(ARRAY[{_TABLES}]) AS t (oid) JOIN pg_class AS c USING (oid)"
            " JOIN pg_roles AS r ON r.oid = c.relowner",
        ).scalar()
    )
