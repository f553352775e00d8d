"""The database's functions that make the partitions of `stream_events`.

They have the rights of their owner, for the role that runs the housekeeping need not own the log,
and nobody may call them who was not let. What drops partitions is of the library. Invariants: they
touch partitions of that one table only; and the caller says nothing that becomes part of a
statement.
"""

from __future__ import annotations

from assets.fediverse.tables import stream_events
from tallykeeper.database.sql import in_engine_schema, literal, name_of, quote

MAKE = in_engine_schema("fediverse_make_partition")
STRAYS = in_engine_schema("fediverse_stray_days")

SIGNATURES = (f"{MAKE}(date)", f"{STRAYS}(date)")

_EVENTS = literal(name_of(stream_events))
_SCHEMA, _NAME = literal(quote(stream_events.schema or "public")), literal(stream_events.name)
_DEFAULT = (
    "SELECT p.partdefid::regclass FROM pg_partitioned_table AS p"
    f" WHERE p.partrelid = {_EVENTS}::regclass AND p.partdefid <> 0"
)


def statements() -> dict[str, str]:
    """CREATE FUNCTION by name, with who may not call it."""
    return {
        MAKE: _function(MAKE, "day date", "text", _MAKE),
        STRAYS: _function(STRAYS, "until date", "SETOF date", _STRAYS),
    }


def _function(name: str, argument: str, returns: str, body: str) -> str:
    # In UTC, so that a midnight is one whether or not the key has a time zone.
    return (
        f"CREATE OR REPLACE FUNCTION {name}({argument}) RETURNS {returns}\n"
        "LANGUAGE plpgsql SECURITY DEFINER SET search_path TO pg_catalog, pg_temp"
        " SET timezone TO 'UTC' SET datestyle TO 'ISO' AS $body$\n"
        f"#variable_conflict use_variable\n{body}\n$body$;\n"
        f"REVOKE EXECUTE ON FUNCTION {name}({argument.split()[1]}) FROM PUBLIC"
    )


# Nothing can be attached that numbers its rows itself; the parent does. The default partition is
# locked before the statement that looks: what a writer has just committed is then moved, too.
_MAKE = f"""DECLARE
  made text := {_SCHEMA} || '.' || quote_ident({_NAME} || '_' || coalesce(
    to_char(day, 'YYYYMMDD'), 'default'));
  strays regclass := ({_DEFAULT});
  owner text;
  named text;
  starts text := quote_literal(day::timestamp || '+00');
  ends text := quote_literal((day + 1)::timestamp || '+00');
BEGIN
  IF to_regclass(made) IS NOT NULL THEN
    RETURN 'left ' || made || ' alone: it is there, but is no partition of ' || {_EVENTS}
      || '; attach it, or rename it and run `tally migrate`';
  END IF;
  SELECT quote_ident(pg_get_userbyid(c.relowner)) INTO owner
  FROM pg_class AS c WHERE c.oid = {_EVENTS}::regclass;
  EXECUTE format('CREATE TABLE %s (LIKE %s INCLUDING ALL EXCLUDING IDENTITY)', made, {_EVENTS});
  EXECUTE format('ALTER TABLE %s OWNER TO %s', made, owner);
  IF day IS NULL THEN
    EXECUTE format('ALTER TABLE %s ATTACH PARTITION %s DEFAULT', {_EVENTS}, made);
    RETURN 'created the partition ' || made;
  END IF;
  IF strays IS NOT NULL THEN
    EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', strays);
    SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) INTO named FROM pg_attribute
    WHERE attrelid = {_EVENTS}::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = '';
    EXECUTE format('WITH moved AS (DELETE FROM %1$s WHERE received_at >= %2$s'
      ' AND received_at < %3$s RETURNING %4$s) INSERT INTO %5$s (%4$s) SELECT %4$s FROM moved',
      strays, starts, ends, named, made);
  END IF;
  EXECUTE format('ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (%s) TO (%s)',
    {_EVENTS}, made, starts, ends);
  RETURN 'created the partition ' || made;
END"""

_STRAYS = f"""DECLARE
  strays regclass := ({_DEFAULT});
BEGIN
  IF strays IS NOT NULL THEN
    RETURN QUERY EXECUTE format('SELECT DISTINCT received_at::date AS day FROM %s'
      ' WHERE received_at::date <= $1 ORDER BY 1', strays) USING until;
  END IF;
END"""
