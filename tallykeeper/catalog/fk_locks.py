"""Functions that hold what a derived table refers to, for a role that may not lock it itself.

Locking a row takes the right to change it, which a refresher must not have on the application's
tables. These have their owner's rights, lock against deletion and nothing else, and nobody may call
them who was not let. Why rows are held at all is said where it is done (`transactions.py`).
"""

from __future__ import annotations

from sqlalchemy import ForeignKeyConstraint

from tallykeeper.database import sql
from tallykeeper.database.sqlstates import LOCK_NOT_AVAILABLE
from tallykeeper.declarations.tally import Tally

PATIENCE_MILLISECONDS = 900
"""For how long rows that others have locked are tried: deletions may wait meanwhile."""


def statements(tally: Tally) -> list[str]:
    """CREATE FUNCTION for each foreign key of the derived table, which nobody may call yet."""
    made = []
    for key in tally.table.foreign_key_constraints:
        made += [
            _create(tally, key),
            f"REVOKE EXECUTE ON FUNCTION {signature(tally, key)} FROM PUBLIC",
        ]
    return made


def signatures(tally: Tally) -> list[str]:
    """The functions, with the types of their arguments."""
    return [signature(tally, key) for key in tally.table.foreign_key_constraints]


def signature(tally: Tally, key: ForeignKeyConstraint) -> str:
    """The function of one foreign key, with the types of its arguments."""
    return f"{_name(tally, key)}({_types(key)})"


def call(tally: Tally, key: ForeignKeyConstraint, rows: str | None) -> str:
    """A SELECT that holds what `rows`, a relation, refer to; None: all that may be referred to."""
    if rows is None:
        nothing = ", ".join("NULL" for _ in key.elements)
        return f"SELECT {_name(tally, key)}({nothing})"
    own = [e.parent.name for e in key.elements]
    arrays = ", ".join(
        f"coalesce(array_agg(r.{sql.quote(n)}), '{{}}')::{sql.type_name(e.column.type)}[]"
        for n, e in zip(own, key.elements, strict=True)
    )
    distinct = f"SELECT DISTINCT {sql.columns(own, 'r')} FROM {rows} AS r"
    return f"SELECT {_name(tally, key)}({arrays}) FROM ({distinct}) AS r"


def _types(key: ForeignKeyConstraint) -> str:
    return ", ".join(f"{sql.type_name(e.column.type)}[]" for e in key.elements)


def _name(tally: Tally, key: ForeignKeyConstraint) -> str:
    columns = "_".join(e.parent.name for e in key.elements)
    return sql.in_engine_schema(sql.shortened(f"hold_{tally.system}_{tally.table.name}_{columns}"))


def block(key: ForeignKeyConstraint, rows: str | None) -> str:
    """A statement that holds what `rows` refer to, by the rights of the role that runs it."""
    condition = "true"
    if rows is not None:
        own = sql.columns([e.parent.name for e in key.elements], "r")
        condition = f"({_referred(key)}) IN (SELECT {own} FROM {rows} AS r)"
    return f"DO {sql.dollar_quoted(_DECLARED + f'BEGIN{_loop(key, condition)}END')}"


# Rows that are free are held at once and stay held, so that each blocker is waited for only once.
# No lock is queued for: PostgreSQL never sees a deadlock in which it could end the other session.
# A deletion that waits for this very transaction never ends before it: that is given up at once.
_DECLARED = f"""
#variable_conflict use_column
DECLARE
  deadline timestamptz := clock_timestamp() + interval '{PATIENCE_MILLISECONDS} ms';
  wanted bigint;
  held bigint;
"""


def _loop(key: ForeignKeyConstraint, condition: str) -> str:
    parent = sql.name_of(key.referred_table)
    return f"""
  SELECT count(*) INTO wanted FROM {parent} AS p WHERE {condition};
  LOOP
    SELECT count(*) INTO held FROM (
      SELECT FROM {parent} AS p WHERE {condition} FOR KEY SHARE SKIP LOCKED
    ) AS locked;
    EXIT WHEN held >= wanted;
    IF clock_timestamp() > deadline OR EXISTS (
      SELECT FROM {parent} AS p WHERE {condition} AND p.xmax::text IN (
        SELECT l.transactionid::text FROM pg_locks AS l
        WHERE l.locktype = 'transactionid' AND l.granted AND l.pid <> pg_backend_pid()
          AND pg_backend_pid() = ANY (pg_blocking_pids(l.pid))
      )
    ) THEN
      RAISE SQLSTATE '{LOCK_NOT_AVAILABLE}' USING MESSAGE =
        format('%s of %s rows of %s that are referred to are locked by others',
               wanted - held, wanted, {sql.literal(parent)});
    END IF;
    PERFORM pg_sleep(0.02);
  END LOOP;
"""


def _referred(key: ForeignKeyConstraint) -> str:
    return sql.columns([e.column.name for e in key.elements], "p")


def _create(tally: Tally, key: ForeignKeyConstraint) -> str:
    parent = sql.name_of(key.referred_table)
    arrays = ", ".join(f"${number}" for number, _ in enumerate(key.elements, 1))
    condition = f"({_referred(key)}) IN (SELECT k.* FROM unnest({arrays}) AS k)"
    body = (
        f"{_DECLARED}BEGIN\n"
        f"  IF NOT has_any_column_privilege({sql.literal(parent)}, 'UPDATE') THEN RETURN; END IF;"
        f"\n  IF $1 IS NULL THEN{_loop(key, 'true')}  ELSE{_loop(key, condition)}  END IF;\nEND"
    )
    return sql.create_function(_name(tally, key), "void", body, arguments=_types(key))
