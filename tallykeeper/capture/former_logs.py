"""Change logs of tallies that were declared by hand, taken over by the SELECT that does the same.

Such a log had marks of what had changed, which a function of the database resolved to keys. Where
the SELECT computes each of its keys anew, a mark of a key is an image of the source that has it; of
other SELECTs the log has marks too. So what was pending stays pending, and nothing is built anew.
Invariant: a key that was pending is so afterwards, or the tally is stale.
"""

from __future__ import annotations

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from tallykeeper.catalog import dependents
from tallykeeper.database import sql
from tallykeeper.declarations.tally import Keys, Tally
from tallykeeper.select.plan import PART, SIGN
from tallykeeper.select.tally import SelectTally

FORMER = "pg_temp.tally_former"
# The sign of an image of a key. The image of a row that is deleted later has the sign -1; were this
# 1, the two could cancel out, and nothing would say that the key changed.
_UNCANCELLED = 2**30
# What the live view of a tally declared by hand called.
_FUNCTIONS = ("pending_keys", "pending_rows", "rows_of_keys", "lenient_rows", "live_sources")
_OVERLOADS = text(
    "SELECT p.oid, p.oid::regprocedure::text FROM pg_proc AS p"
    " WHERE p.pronamespace = CAST(:schema AS regnamespace) AND p.proname = ANY (:names)"
)


def read(connection: Connection, tally: Tally) -> SelectTally | None:
    """Note which keys are pending in the log that there is; the tally, where that can be known."""
    if not isinstance(tally, SelectTally):
        return None
    function = _named(tally, "pending_keys")
    found = connection.scalar(text("SELECT to_regproc(:name)"), {"name": function})
    if found is None or not tally.has_lookup or tally.plan.nodes:
        return None
    sql.execute(connection, f"DROP TABLE IF EXISTS {FORMER}")
    keys = sql.columns(tally.group, "k")
    savepoint = connection.begin_nested()
    try:
        sql.execute(
            connection,
            f"CREATE TEMPORARY TABLE {FORMER.partition('.')[2]} ON COMMIT DROP AS"
            f" SELECT DISTINCT {keys} FROM {function}() AS k",
        )
    except DBAPIError:
        # What it reads is of other types by now.
        savepoint.rollback()
        return None
    savepoint.commit()
    return tally


def carry_over(connection: Connection, tally: SelectTally) -> bool:
    """Log the keys that were noted; whether the live view finds them pending again."""
    if tally.plan.marks:
        sql.execute(connection, tally.mark(FORMER))
        return True
    places = list(range(len(tally.key)))
    carrying = next((a for a in tally.plan.asked if sorted(a.places) == places), None)
    if carrying is None:
        return False
    values = ", ".join(f"f.{sql.quote(tally.key[place])}" for place in carrying.places)
    columns = ", ".join([PART, SIGN, *carrying.columns])
    sql.execute(
        connection,
        f"INSERT INTO {tally.log_name} ({columns})"
        f" SELECT {carrying.part}, {_UNCANCELLED}, {values} FROM {FORMER} AS f",
    )
    here = f"EXISTS (SELECT FROM {sql.name_of(tally.table)} AS d WHERE {tally.matches('d', 'f')})"
    known = f"EXISTS (SELECT FROM {tally.changes_function}() AS c WHERE {tally.matches('c', 'f')})"
    lost = (
        f"SELECT FROM {FORMER} AS f WHERE {here} AND NOT {known}"
        # A key without a derived row is lost where it ought to have one.
        f" UNION ALL SELECT FROM ({tally.rows(Keys(tally, FORMER))}) AS f"
        f" WHERE NOT {here} AND NOT {known}"
    )
    return not sql.execute(connection, f"SELECT EXISTS ({lost})").scalar_one()


def drop_functions(connection: Connection, tally: Tally) -> None:
    """Drop what the live view called before; not what something of others calls."""
    if not isinstance(tally, SelectTally):
        return
    names = [_named(tally, suffix).partition(".")[2].strip('"') for suffix in _FUNCTIONS]
    for oid, signature in connection.execute(
        _OVERLOADS, {"schema": sql.ENGINE_SCHEMA, "names": names}
    ).all():
        if not dependents.on_function(connection, oid):
            sql.execute(connection, f"DROP FUNCTION {signature}")


def _named(tally: Tally, suffix: str) -> str:
    return sql.in_engine_schema(f"{tally.system}_{tally.table.name}_{suffix}")
