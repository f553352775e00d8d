"""Functions in the database that give the counts of a few entities, exact as of the last commit.

A live view computes all that is pending, whichever of its rows is asked for. These compute of what
is pending only what is asked for, so that a page that shows one submission does not pay for the
thousands that were worked on since the last refresh. They are the functions by which any tally is
looked up, under a name beside the derived table. They have the rights of their owner; who may call
them is granted apart. Invariants: each answers from the snapshot of the statement that calls it.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, Table, text

from assets.classroom import tables
from tallykeeper import SelectTally
from tallykeeper.database import sql
from tallykeeper.installation import view_replacement


def lookup_of(table: Table) -> str:
    """The function of an array of ids: key and measures of those of them that have a row."""
    return f"{sql.quote(str(table.schema))}.{sql.quote(table.name + '_of')}"


USER_TIME = lookup_of(tables.user_time_spent)
"""The function of an array of users: (user_id, time_spent_ms) of those who have submissions."""


def create_lookups(connection: Connection, tallies: Sequence[SelectTally]) -> list[str]:
    """Create the functions for these tallies, or replace them where they are others; says which."""
    statements = {
        name: tally.create_lookup(name, ["ids"], ["bigint"])
        for tally in tallies
        for name in (lookup_of(tally.table),)
    }
    statements[USER_TIME] = _user_time()
    done = []
    for name, create in statements.items():
        signature = f"{name}(bigint[])"
        present = connection.scalar(
            text("SELECT prosrc FROM pg_proc WHERE oid = to_regprocedure(:signature)"),
            {"signature": signature},
        )
        if present is not None and present.strip() in create:
            continue
        view_replacement.replace_function(connection, name, create, "classroom")
        sql.execute(connection, f"REVOKE EXECUTE ON FUNCTION {signature} FROM PUBLIC")
        done.append(f"created the function {name}")
    return done


def _user_time() -> str:
    """CREATE FUNCTION for the sum over each user's submissions."""
    submissions = sql.renamed(tables.submissions, "s", ["id", "user_id"])
    counts = lookup_of(tables.submission_counts)
    body = f"""#variable_conflict use_column
BEGIN
  RETURN QUERY SELECT c.user_id::bigint, sum(c.time_spent_ms)::bigint FROM {counts}(
    ARRAY(SELECT s.id FROM {submissions} WHERE s.user_id = ANY (ids))
  ) AS c GROUP BY c.user_id;
  PERFORM {sql.unbroken([tables.submissions])};
END"""
    returns = "user_id bigint, time_spent_ms bigint"
    return sql.stable_function(USER_TIME, returns, body, "ids bigint[]", "plpgsql")
