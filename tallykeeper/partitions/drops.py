"""Dropping a partition whose rows a file has: compared once more under the lock, by the database.

A function in the database does it, with the rights of its owner, for the role that keeps house need
not own the source, and nobody may call it who was not let. Invariants: it drops partitions of that
one source only, and none that is not over or has a row that is still to change; rows that no file
has are dropped only where the caller declares them to be lost; and the caller says nothing that
becomes part of a statement.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from sqlalchemy import Connection, text

from tallykeeper.database import sql
from tallykeeper.partitions.records import CURRENT, archive_files
from tallykeeper.partitions.sources import ArchivedSource, Partition, rows_of

CHANGED = "has changed since it was archived"
NOT_ARCHIVED = "is not archived"
_ARGUMENTS = "text, boolean"


@dataclass(frozen=True)
class Drop:
    """What came of dropping a partition: the bytes that are free now, or why it was kept."""

    freed: int
    why: str | None


def signature(source: ArchivedSource) -> str:
    """The function that drops partitions of the source, with the types of its arguments."""
    return f"{source.dropping}({_ARGUMENTS})"


def contents_of(connection: Connection, source: ArchivedSource, partition: Partition) -> str:
    """What identifies the partition's rows; in a transaction of the engine's."""
    listed = sql.execute(connection, _COLUMNS.format(source=sql.literal(source.relation)))
    rows = rows_of(source, partition)
    return str(sql.execute(connection, _contents(rows, listed.scalar_one())).scalar_one())


# In the order of the source: a partition may have another one.
_COLUMNS = (
    "SELECT string_agg(format('%I', attname), ', ' ORDER BY attnum) FROM pg_attribute"
    " WHERE attrelid = {source}::regclass AND attnum > 0 AND NOT attisdropped"
)


def _contents(relation: str, columns: str) -> str:
    """A query of what identifies the rows of a relation: their number, and a digest of them all.

    Of each row, as text, the SHA-256; of these the sums of two halves of 64 bits. The order of the
    rows does not matter. The session writes values as the engine's transactions do.
    """
    halves = ", ".join(
        f"coalesce(sum(('x' || substr(d.hash, {at}, 16))::bit(64)::bigint), 0)" for at in (1, 17)
    )
    return (
        f"SELECT concat_ws('/', count(*), {halves}) FROM (SELECT"
        f" encode(sha256(convert_to(ROW({columns})::text, 'UTF8')), 'hex') AS hash"
        f" FROM {relation} AS r) AS d"
    )


def drop(connection: Connection, source: ArchivedSource, partition: str, *, lost: bool) -> Drop:
    """Drop a partition in the connection's transaction, if a file has its rows as they are.

    `lost`: also if none has. A lock that is not to be had within the transaction's lock_timeout
    is the server's error 55P03.
    """
    found = connection.execute(
        text(f"SELECT * FROM {source.dropping}(:partition, :lost)"),
        {"partition": partition, "lost": lost},
    ).one()
    return Drop(int(found.freed), found.why)


def install(connection: Connection, source: ArchivedSource) -> list[str]:
    """Create the function, or replace it where it is another one; what was done."""
    body = _body(source)
    comment = f"Tallykeeper {hashlib.sha256(body.encode()).hexdigest()[:16]}"
    present = sql.execute(
        connection,
        "SELECT p.oid::regprocedure::text AS signature, oidvectortypes(p.proargtypes) AS arguments,"
        " obj_description(p.oid, 'pg_proc') AS comment FROM pg_proc AS p"
        " JOIN pg_namespace AS n ON n.oid = p.pronamespace"
        f" WHERE quote_ident(n.nspname) || '.' || quote_ident(p.proname) ="
        f" {sql.literal(source.dropping)}",
    ).all()
    if [(row.arguments, row.comment) for row in present] == [(_ARGUMENTS, comment)]:
        return []
    for row in present:
        # An earlier release's, which asks for no file.
        if row.arguments != _ARGUMENTS:
            sql.execute(connection, f"DROP FUNCTION {row.signature}")
    sql.execute(
        connection,
        f"CREATE OR REPLACE FUNCTION {source.dropping}(name text, lost boolean)"
        " RETURNS TABLE (freed bigint, why text)\n"
        "LANGUAGE plpgsql SECURITY DEFINER SET search_path TO pg_catalog, pg_temp"
        " SET timezone TO 'UTC' SET datestyle TO 'ISO, MDY' SET intervalstyle TO 'postgres'"
        " SET bytea_output TO 'hex' SET extra_float_digits TO 1"
        f" AS {sql.dollar_quoted(body)}",
    )
    named = signature(source)
    sql.execute(connection, f"REVOKE EXECUTE ON FUNCTION {named} FROM PUBLIC")
    sql.execute(connection, f"COMMENT ON FUNCTION {named} IS {sql.literal(comment)}")
    return [f"created the function {source.dropping}"]


def _body(source: ArchivedSource) -> str:
    """First writers of this partition alone are kept out, while its rows are compared.

    Then, for a moment, everybody. Locked in the order in which DROP TABLE does.
    """
    events, records = sql.literal(source.relation), sql.name_of(archive_files)
    unsettled = source.unsettled.replace("'", "''").replace("%", "%%")
    alone = f"PERFORM pg_advisory_xact_lock({source.lock});" if source.lock else ""

    def run(statements: str) -> str:
        return f"EXECUTE format({sql.literal(statements)}, dropped);" if statements else ""

    return f"""
#variable_conflict use_variable
DECLARE
  dropped regclass := name;
  bound text;
  holds boolean;
  archived boolean;
  found_contents text;
  file record;
  columns text := ({_COLUMNS.format(source=events)});
BEGIN
  freed := 0;
  SELECT pg_get_expr(c.relpartbound, c.oid) INTO bound
  FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
  WHERE i.inhrelid = dropped AND i.inhparent = {events}::regclass;
  IF coalesce((regexp_match(bound, 'TO \\(''([^'']+)''\\)'))[1]::timestamptz > now(), true) THEN
    why := 'is no partition of a time that is over';
    RETURN NEXT;
    RETURN;
  END IF;
  {alone}
  EXECUTE format('LOCK TABLE ONLY %s IN SHARE MODE', dropped);
  EXECUTE format('SELECT EXISTS (SELECT FROM %s WHERE {unsettled})', dropped) INTO holds;
  IF holds THEN
    why := 'has rows that are still to be processed';
    RETURN NEXT;
    RETURN;
  END IF;
  EXECUTE format('SELECT EXISTS (SELECT FROM %s)', dropped) INTO holds;
  SELECT f.id, f.contents INTO file FROM {records} AS f
  WHERE f.source = {sql.literal(source.name)} AND f.partition = dropped::text
    AND f.state = '{CURRENT}' AND f.dropped_at IS NULL;
  IF file.id IS NOT NULL THEN
    EXECUTE format({sql.literal(_contents("%s", "%s"))}, columns, dropped)
      INTO found_contents;
  END IF;
  archived := NOT holds OR (file.id IS NOT NULL AND found_contents = file.contents);
  IF NOT archived AND NOT lost THEN
    why := CASE WHEN file.id IS NULL THEN '{NOT_ARCHIVED}' ELSE '{CHANGED}' END;
    RETURN NEXT;
    RETURN;
  END IF;
  EXECUTE format('LOCK TABLE ONLY %s IN ACCESS EXCLUSIVE MODE', {events});
  EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', dropped);
  freed := pg_total_relation_size(dropped);
  BEGIN
    {run(source.on_drop)}
    IF NOT archived THEN
      {run(source.on_loss) or "NULL;"}
    END IF;
    UPDATE {records} AS f SET dropped_at = now() WHERE f.id = file.id;
    EXECUTE format('DROP TABLE %s', dropped);
  EXCEPTION WHEN dependent_objects_still_exist THEN
    freed := 0;
    why := 'something depends on it (' || SQLERRM || ')';
  END;
  RETURN NEXT;
END"""
