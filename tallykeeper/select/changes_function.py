"""The function that a live view calls: what the pending changes of a tally alter.

It looks which sources have pending changes, and runs the statement that the plan has for them. The
text of that statement is put together in the function, of the pieces that are needed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from tallykeeper.database import sql
from tallykeeper.select.plan import PART, TOTAL, Plan, Step, Text

# The order of joins is the compiler's, as in a refresh.
SETTINGS = {"jit": "off", "join_collapse_limit": "1", "from_collapse_limit": "1"}


def create(name: str, log: str, plan: Plan) -> str:
    """CREATE FUNCTION."""
    columns = [f"{sql.quote(c.name)} {c.type}" for c in plan.columns]
    returns = ", ".join([*columns, f"{TOTAL} bigint"])
    typed = "".join(f"c.{sql.quote(c.name)}::{c.type}, " for c in plan.columns)
    sources = dict.fromkeys(f"{sql.quote(c.schema)}.{sql.quote(c.table)}" for c in plan.captured)
    relations = [*sources, *(node.state for node in plan.nodes)]
    steps = ",\n    ".join(_step(step) for step in plan.steps) or "NULL"
    body = f"""
#variable_conflict use_column
DECLARE
  pending smallint[] := ARRAY(SELECT DISTINCT l.{PART} FROM {log} AS l);
  steps text;
BEGIN
  IF pending = '{{}}' THEN RETURN; END IF;
  steps := array_to_string(ARRAY[
    {steps}
  ]::text[], ', ');
  RETURN QUERY EXECUTE
    {sql.literal(f"SELECT {typed}c.{TOTAL}::bigint FROM (")}
    || CASE WHEN steps <> '' THEN 'WITH ' || steps || ' ' ELSE '' END
    || {_text(plan.changes)}
    || {sql.literal(f") AS c WHERE {sql.unbroken_names(relations)}")};
END"""
    return sql.create_function(
        name,
        f"TABLE ({returns})",
        body,
        attributes="STABLE SECURITY DEFINER",
        settings={"timezone": "'UTC'", "row_security": "off", **SETTINGS},
    )


def _step(step: Step) -> str:
    head = sql.literal(f"{step.name} AS MATERIALIZED (\n")
    return f"CASE WHEN {_is_pending([step.parts])} THEN {head} || {_text(step.text)} || ')' END"


def _text(text: Text) -> str:
    pieces = [
        f"CASE WHEN {_is_pending(piece.needs)} THEN {sql.literal(piece.sql)} ELSE '' END"
        if piece.needs
        else sql.literal(piece.sql)
        for piece in text
    ]
    return " || ".join(pieces) or "''"


def _is_pending(needs: Iterable[Collection[int]]) -> str:
    """A condition: of each of these sets of sources something is pending."""
    sets = (", ".join(str(part) for part in sorted(parts)) for parts in needs)
    return " AND ".join(f"pending && '{{{numbers}}}'" for numbers in sets)
