"""Functions that hold what a derived table refers to, for a role that may not lock it itself.

Locking a row takes the right to change it, which a refresher must not have on the application's
tables. These have their owner's rights, lock against deletion and nothing else, and nobody may call
them who was not let. Why rows are held at all is said where it is done (`transactions.py`).
"""

from __future__ import annotations

from sqlalchemy import ForeignKeyConstraint

from tallies import sql
from tallies.tally import Tally


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
    types = ", ".join(f"{sql.type_name(e.column.type)}[]" for e in key.elements)
    return f"{_name(tally, key)}({types})"


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


def _name(tally: Tally, key: ForeignKeyConstraint) -> str:
    columns = "_".join(e.parent.name for e in key.elements)
    return sql.in_engine_schema(sql.shortened(f"hold_{tally.system}_{tally.table.name}_{columns}"))


def _create(tally: Tally, key: ForeignKeyConstraint) -> str:
    parent = sql.name_of(key.referred_table)
    referred = sql.columns([e.column.name for e in key.elements], "p")
    arrays = ", ".join(f"${number}" for number, _ in enumerate(key.elements, 1))
    locked = f"PERFORM FROM {parent} AS p{{}} FOR KEY SHARE NOWAIT"
    some = f" WHERE ({referred}) IN (SELECT k.* FROM unnest({arrays}) AS k)"
    body = (
        "BEGIN\n"
        f"  IF NOT has_any_column_privilege({sql.literal(parent)}, 'UPDATE') THEN RETURN; END IF;\n"
        f"  IF $1 IS NULL THEN {locked.format('')};\n"
        f"  ELSE {locked.format(some)};\n"
        "  END IF;\nEND"
    )
    return (
        f"CREATE OR REPLACE FUNCTION {signature(tally, key)} RETURNS void\n"
        "LANGUAGE plpgsql SECURITY DEFINER SET search_path TO pg_catalog, pg_temp\n"
        f"AS {sql.dollar_quoted(body)}"
    )
