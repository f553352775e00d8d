"""Keys that a derived table cannot hold: put aside with the reason, so that all others go on.

A sum that overflows, a key that is too long for an index, a row that breaks a constraint of an
adopted table. Such a key has no row in the derived table; what it should hold and why it cannot
stands in `tallykeeper.quarantine`. Here is how single keys are found and put aside, in the
caller's transaction. Every refresh tries them again.

Invariants:
- What is in quarantine is exact. Of counts and sums it is what the source rows add up to without
  the pending changes, like a row of the derived table; of any other tally it is for people to
  read, and such a key counts as pending.
- A set of rows is written by one statement. Only where that is refused, by an error of the data,
  is it done again in parts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Connection, func, select
from sqlalchemy.exc import DBAPIError

from tallykeeper.catalog import state
from tallykeeper.database import sql
from tallykeeper.database.sqlstates import (
    DATA_EXCEPTION,
    INTEGRITY_CONSTRAINT_VIOLATION,
    PROGRAM_LIMIT_EXCEEDED,
    RAISE_EXCEPTION,
    WITH_CHECK_OPTION_VIOLATION,
    sqlstate_of,
)
from tallykeeper.declarations.tally import KeyFilter, Keys, Tally

T = TypeVar("T")

# Classes of SQLSTATE that tell of the data: values, constraints, limits; and RAISE in a trigger.
DATA_CLASSES = (
    DATA_EXCEPTION,
    INTEGRITY_CONSTRAINT_VIOLATION,
    WITH_CHECK_OPTION_VIOLATION,
    PROGRAM_LIMIT_EXCEEDED,
)
# The same, as PL/pgSQL names them.
CONDITIONS = (
    "data_exception OR integrity_constraint_violation OR with_check_option_violation"
    " OR program_limit_exceeded OR raise_exception"
)
# So many groups are tried one by one, within one statement.
LEAF = 64
# Of so many keys that cannot be computed it is tried what they would hold, for people to read.
SHOWN = 20

TABLE = sql.name_of(state.quarantine)
GROUPS = "pg_temp.tally_groups"
WRITTEN = "pg_temp.tally_written"
REFUSED = "pg_temp.tally_refused"
UNCOMPUTED = "pg_temp.tally_uncomputed"
NUMBER = "tally_number"
REASON = "tally_reason"


@dataclass(frozen=True)
class Quarantined:
    """A key that is not in the derived table, because that cannot hold it.

    `key` are the columns by which rows are recomputed together; `rows` what there should be for
    it, None where that cannot even be computed. `reason` is PostgreSQL's code and message.
    """

    key: dict[str, Any]
    rows: list[dict[str, Any]] | None
    reason: str
    since: Any


def is_refusal(error: DBAPIError) -> bool:
    """Whether the data are at fault, and not the statement or the server."""
    code = sqlstate_of(error)
    return code[:2] in DATA_CLASSES or code == RAISE_EXCEPTION


def attempt(connection: Connection, work: Callable[[], T]) -> T | None:
    """Do `work`; None, with nothing done, where the data do not allow it."""
    try:
        with connection.begin_nested():
            # What is checked at the end of a transaction would be found too late.
            sql.execute(connection, "SET CONSTRAINTS ALL IMMEDIATE")
            return work()
    except DBAPIError as error:
        if not is_refusal(error) or not state.is_there(connection, state.quarantine):
            raise
        return None


def held(connection: Connection, tally: Tally) -> int:
    """How many keys of the tally are in quarantine."""
    if not state.is_there(connection, state.quarantine):
        return 0
    of_tally = state.quarantine.c.tally == tally.name
    return int(connection.scalar(select(func.count()).where(of_tally)) or 0)


def listed(connection: Connection, tally: Tally, most: int) -> tuple[Quarantined, ...]:
    """The tally's quarantined keys, oldest first, at most so many."""
    if not state.is_there(connection, state.quarantine):
        return ()
    columns = state.quarantine.c
    found = connection.execute(
        select(columns.key, columns.rows, columns.reason, columns.since)
        .where(columns.tally == tally.name)
        .order_by(columns.since, columns.digest)
        .limit(most)
    )
    return tuple(Quarantined(row.key, row.rows, row.reason, row.since) for row in found)


def keys(tally: Tally) -> str:
    """A SELECT of the group columns of the quarantined keys."""
    return (
        f"SELECT {sql.columns(tally.group, 'k')} FROM {TABLE} AS q,"
        f" jsonb_to_record(q.key) AS k ({tally.group_types})"
        f" WHERE q.tally = {sql.literal(tally.name)}"
    )


def is_held(tally: Tally, alias: str) -> str:
    """A condition: the key of a row is in quarantine."""
    return (
        f"EXISTS (SELECT FROM ({keys(tally)}) AS held_key"
        f" WHERE {tally.matches('held_key', alias, tally.group)})"
    )


def any_held(tally: Tally) -> str:
    """A condition without columns: some key of the tally is in quarantine."""
    return f"EXISTS (SELECT FROM {TABLE} AS q WHERE q.tally = {sql.literal(tally.name)})"


def number_held(tally: Tally) -> str:
    """A scalar subquery: how many keys of the tally are in quarantine."""
    return f"(SELECT count(*) FROM {TABLE} AS q WHERE q.tally = {sql.literal(tally.name)})"


def lift(connection: Connection, tally: Tally, scope: KeyFilter) -> None:
    """Remove from quarantine the keys in `scope` that this transaction did not put there."""
    if not held(connection, tally):
        return
    needed = scope.condition(tally, "k")
    time_key = tally.time_key
    if time_key is not None and time_key.column not in tally.group and needed != "true":
        return
    sql.execute(
        connection,
        f"DELETE FROM {TABLE} AS q WHERE q.tally = {sql.literal(tally.name)}"
        " AND q.tried_at <> now()"
        f" AND EXISTS (SELECT FROM jsonb_to_record(q.key) AS k ({tally.group_types})"
        f" WHERE {needed})",
    )


def put_aside(connection: Connection, tally: Tally, refused: str) -> None:
    """Put keys into quarantine: a relation of the group columns, `rows` (jsonb) and the reason."""
    fields = _object(tally.group, "r")
    sql.execute(
        connection,
        f"INSERT INTO {TABLE} AS q (tally, digest, key, rows, reason)"
        f" SELECT {sql.literal(tally.name)}, md5(r.key::text), r.key, r.rows, r.{REASON}"
        f" FROM (SELECT {fields} AS key, r.rows, r.{REASON} FROM {refused} AS r) AS r"
        " ON CONFLICT (tally, digest) DO UPDATE"
        " SET rows = excluded.rows, reason = excluded.reason, tried_at = now()",
    )


def put_uncomputed_aside(connection: Connection, tally: Tally, tried: str) -> None:
    """Put those keys of the temporary table `tried` aside that have a reason."""
    group = sql.columns(tally.group, "t")
    sql.execute(
        connection,
        f"CREATE TEMPORARY TABLE {UNCOMPUTED.partition('.')[2]} ON COMMIT DROP AS"
        f" SELECT row_number() OVER () AS {NUMBER}, {group}, NULL::jsonb AS rows, t.{REASON}"
        f" FROM {tried} AS t WHERE t.{REASON} IS NOT NULL",
    )
    count = sql.execute(connection, f"SELECT count(*) FROM {UNCOMPUTED}").scalar_one()
    for number in range(1, min(count, SHOWN) + 1):
        attempt(connection, partial(_compute_wide, connection, tally, number))
    put_aside(connection, tally, UNCOMPUTED)
    sql.execute(connection, f"DROP TABLE {UNCOMPUTED}")


def _compute_wide(connection: Connection, tally: Tally, number: int) -> None:
    """Note the rows of a key that cannot be computed as the derived table has its columns."""
    key = f"(SELECT {sql.columns(tally.group)} FROM {UNCOMPUTED} WHERE {NUMBER} = {number})"
    rows = _object([n for n in tally.columns if n not in tally.group], "s")
    sql.execute(
        connection,
        f"UPDATE {UNCOMPUTED} SET rows = (SELECT jsonb_agg({rows})"
        f" FROM (\n{tally.rows(Keys(tally, key))}\n) AS s) WHERE {NUMBER} = {number}",
    )


def write_in_parts(
    connection: Connection,
    tally: Tally,
    fresh: str,
    stored: str,
    statement: Callable[[str, str], tuple[str, str]],
    run: Callable[[str], list[Any]],
) -> list[Any]:
    """Write what of `fresh` can be written, and put the other keys aside, with their rows deleted.

    `fresh` and `stored` are temporary tables; `statement` makes, for two relations like them, the
    WITH clause and the SELECT that write the one over the other; `run` executes that and returns
    what was written. Returns all of it.
    """
    _number(connection, tally, fresh, stored)
    sides = (f"{fresh}_numbered", f"{stored}_numbered")
    written: list[Any] = []
    row = sql.execute(
        connection,
        f"SELECT count(*) AS every, count(*) FILTER (WHERE NOT is_held) AS fresh FROM {GROUPS}",
    ).one()
    ranges: list[tuple[int, int]] = [(row.fresh + 1, row.every), (1, row.fresh)]
    while ranges:
        first, last = ranges.pop()
        if first > last:
            continue
        narrowed = f"WHERE {NUMBER} BETWEEN {first} AND {last}"
        fresh_part, stored_part = (f"(SELECT * FROM {side} {narrowed})" for side in sides)
        parts = "\n".join(statement(fresh_part, stored_part))
        done = attempt(connection, partial(run, parts))
        if done is not None:
            written += done
        elif last - first < LEAF:
            _one_by_one(connection, tally, first, last, sides, statement)
        else:
            middle = (first + last) // 2
            ranges += [(middle + 1, last), (first, middle)]
    rows = _object([n for n in tally.columns if n not in tally.group], "f")
    group = sql.columns(tally.group, "g")
    put_aside(
        connection,
        tally,
        f"(SELECT {group}, r.{REASON}, (SELECT jsonb_agg({rows}) FROM {sides[0]} AS f"
        f" WHERE f.{NUMBER} = r.{NUMBER}) AS rows FROM {REFUSED} AS r JOIN {GROUPS} AS g"
        f" USING ({NUMBER}))",
    )
    return written + run(f"SELECT * FROM {WRITTEN}")


def _number(connection: Connection, tally: Tally, fresh: str, stored: str) -> None:
    """Number the groups of both sides, those that were in quarantine last."""
    group = sql.columns(tally.group)
    for name in (GROUPS, f"{fresh}_numbered", f"{stored}_numbered", WRITTEN, REFUSED):
        sql.execute(connection, f"DROP TABLE IF EXISTS {name}")
    create = "CREATE TEMPORARY TABLE {} ON COMMIT DROP AS\n"
    sql.execute(
        connection,
        create.format(GROUPS.partition(".")[2])
        + f"SELECT row_number() OVER (ORDER BY is_held) AS {NUMBER}, * FROM ("
        f"SELECT {sql.columns(tally.group, 'g')}, {is_held(tally, 'g')} AS is_held FROM"
        f" (SELECT {group} FROM {fresh} UNION SELECT {group} FROM {stored}) AS g) AS g",
    )
    for side in (fresh, stored):
        sql.execute(
            connection,
            create.format(f"{side.partition('.')[2]}_numbered")
            + f"SELECT g.{NUMBER}, s.* FROM {side} AS s JOIN {GROUPS} AS g"
            f" ON {tally.matches('g', 's', tally.group)}",
        )
        sql.execute(connection, f"CREATE INDEX ON {side}_numbered ({NUMBER})")
        sql.execute(connection, f"ANALYZE {side}_numbered")
    sql.execute(
        connection,
        create.format(WRITTEN.partition(".")[2])
        + "SELECT NULL::text AS day, NULL::bigint AS consumed, NULL::bigint AS inserted,"
        " NULL::bigint AS updated, NULL::bigint AS deleted, NULL::timestamptz AS oldest LIMIT 0",
    )
    sql.execute(
        connection,
        create.format(REFUSED.partition(".")[2])
        + f"SELECT NULL::bigint AS {NUMBER}, NULL::text AS {REASON} LIMIT 0",
    )


def _one_by_one(
    connection: Connection,
    tally: Tally,
    first: int,
    last: int,
    sides: tuple[str, str],
    statement: Callable[[str, str], tuple[str, str]],
) -> None:
    """Write each group by itself; what is refused is noted, and its stored rows are deleted."""
    only = f"WHERE {NUMBER} = tally_this"
    fresh_part, stored_part = (f"(SELECT * FROM {side} {only})" for side in sides)
    clauses, chosen = statement(fresh_part, stored_part)
    # A row that cannot even be deleted is not shown by the live view.
    deleted = (
        f"WITH deleted AS (DELETE FROM {sql.name_of(tally.table)} AS d USING {sides[1]} AS h"
        f" WHERE d.ctid = h.tally_place AND d.tableoid = h.tally_relation"
        f" AND h.{NUMBER} = tally_this RETURNING {tally.day_of('d')} AS day)\n"
        f"INSERT INTO {WRITTEN} SELECT day, NULL, 0, 0, count(*), NULL FROM deleted GROUP BY day"
    )
    body = f"""
#variable_conflict use_column
BEGIN
  FOR tally_this IN {first}..{last} LOOP
    BEGIN
      {clauses}
      INSERT INTO {WRITTEN} {chosen};
    EXCEPTION WHEN {CONDITIONS} THEN
      INSERT INTO {REFUSED} VALUES (tally_this, SQLSTATE || ': ' || SQLERRM);
      BEGIN
        {deleted};
      EXCEPTION WHEN {CONDITIONS} THEN NULL;
      END;
    END;
  END LOOP;
END"""
    sql.execute(connection, f"DO {sql.dollar_quoted(body)}")


def _object(names: list[str] | tuple[str, ...], alias: str) -> str:
    fields = ", ".join(f"{sql.literal(n)}, {alias}.{sql.quote(n)}" for n in names)
    return f"jsonb_build_object({fields})"
