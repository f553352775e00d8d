"""Functions in the database that give the counts of a few entities, exact as of the last commit.

A live view computes all that is pending, whichever of its rows is asked for. These compute of what
is pending only what is asked for, so that a page that shows one submission does not pay for the
thousands that were worked on since the last refresh. They stand beside the live views and have the
rights of their owner; who may call them is granted apart. Invariants: each answers from
the snapshot of the statement that calls it, and from what the declarations say, by themselves.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, Table, text

from assets.classroom import tables
from tallykeeper import RecomputedTally
from tallykeeper.catalog.state import stale_marks
from tallykeeper.database import sql
from tallykeeper.installation import view_replacement


def lookup_of(table: Table) -> str:
    """The function of an array of ids: key and measures of those of them that have a row."""
    return f"{sql.quote(str(table.schema))}.{sql.quote(table.name + '_of')}"


USER_TIME = lookup_of(tables.user_time_spent)
"""The function of an array of users: (user_id, time_spent_ms) of those who have submissions."""


def create_lookups(connection: Connection, tallies: Sequence[RecomputedTally]) -> list[str]:
    """Create the functions for these tallies, or replace them where they are others; says which."""
    statements = {lookup_of(tally.table): _lookup(tally) for tally in tallies}
    statements[USER_TIME] = _user_time()
    done = []
    for name, (body, returns) in statements.items():
        create = sql.stable_function(name, returns, body, "ids bigint[]", "plpgsql")
        present = connection.scalar(
            text("SELECT prosrc FROM pg_proc WHERE oid = to_regprocedure(:signature)"),
            {"signature": f"{name}(bigint[])"},
        )
        if present is not None and present.strip() == body.strip():
            continue
        signature = f"{name}(bigint[])"
        view_replacement.replace_function(connection, name, create, "classroom")
        sql.execute(connection, f"REVOKE EXECUTE ON FUNCTION {signature} FROM PUBLIC")
        done.append(f"created the function {name}")
    return done


def _lookup(tally: RecomputedTally) -> tuple[str, str]:
    """Body and result of a tally's function."""
    (key,) = tally.key
    pending = sql.render(tally.pending_keys(tally.log_name))
    types = {n: sql.type_name(tally.table.c[n].type) for n in tally.columns}
    # With their types, because an adopted table may have timestamps without time zone.
    stored = ", ".join(f"d.{sql.quote(n)}::{types[n]}" for n in tally.columns)
    computed = ", ".join(f"r.{sql.quote(n)}::{types[n]}" for n in tally.columns)
    body = f"""#variable_conflict use_column
DECLARE
  pending bigint[];
BEGIN
  IF EXISTS (
    SELECT FROM {sql.name_of(stale_marks)} AS m WHERE m.tally = {sql.literal(tally.name)}
  ) THEN
    pending := ARRAY(SELECT DISTINCT i FROM unnest(ids) AS i WHERE i IS NOT NULL);
  ELSE
    pending := ARRAY(SELECT k.{key} FROM (
{pending}
    ) AS k WHERE k.{key} = ANY (ids));
  END IF;
  RETURN QUERY SELECT {stored} FROM {sql.name_of(tally.table)} AS d
    WHERE d.{key} = ANY (ids) AND d.{key} <> ALL (pending);
  IF pending <> '{{}}' THEN
    RETURN QUERY SELECT {computed} FROM {tally.rows_function}(pending) AS r;
  END IF;
  PERFORM {sql.unbroken(_read(tally))};
END"""
    return body, _returns(types)


def _user_time() -> tuple[str, str]:
    """Body and result of the sum over each user's submissions."""
    submissions = sql.renamed(tables.submissions, "s", ["id", "user_id"])
    counts = lookup_of(tables.submission_counts)
    body = f"""#variable_conflict use_column
BEGIN
  RETURN QUERY SELECT c.user_id, sum(c.time_spent_ms)::bigint FROM {counts}(
    ARRAY(SELECT s.id FROM {submissions} WHERE s.user_id = ANY (ids))
  ) AS c GROUP BY c.user_id;
  PERFORM {sql.unbroken([tables.submissions])};
END"""
    return body, _returns({"user_id": "BIGINT", "time_spent_ms": "BIGINT"})


def _read(tally: RecomputedTally) -> list[Table]:
    """What has to be as the snapshot saw it: sources too, where they tell what is pending."""
    found_in = tally.sources if any(capture.keys for capture in tally.captures) else ()
    return [tally.table, *found_in]


def _returns(types: dict[str, str]) -> str:
    return ", ".join(f"{sql.quote(n)} {t}" for n, t in types.items())
