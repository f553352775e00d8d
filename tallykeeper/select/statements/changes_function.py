"""The functions that a live view calls: what the pending changes of a tally alter.

One looks which sources have pending changes, and runs the statement that the plan has for them. The
text of that statement is put together in the function, of the pieces that are needed. It may raise
for rows that were never there together, as where a divisor changed with what made it fit; then the
other function answers, by comparing the SELECT's rows with those that are stored.

A third is asked for single keys, by an array for each column of the key. It is like the first, and
reads of what is pending what may matter to these keys.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from tallykeeper.database import sql
from tallykeeper.faults import quarantine
from tallykeeper.select.plan import PART, TOTAL, Plan, Purpose, Step, Text
from tallykeeper.select.statements.asked import matters

_FIXED = {"timezone": "'UTC'", "row_security": "off"}
# The order of joins is the compiler's.
SETTINGS = {"jit": "off", "join_collapse_limit": "1", "from_collapse_limit": "1"}
# Groups are computed anew from the FROM of the SELECT, whose order says nothing.
_OWN_ORDER = {"jit": "off", "join_collapse_limit": "8", "from_collapse_limit": "8"}


@dataclass(frozen=True)
class Compared:
    """Two relations of all rows, those of the SELECT and those stored, and when keys are the same.

    `same` is a condition on the aliases `e` and `d`. `is_bag`: there may be equal rows.
    `may_alter` makes a condition on an alias: other rows are left as they are.
    """

    expected: str
    stored: str
    same: str
    is_bag: bool
    may_alter: Callable[[str], str]


def settings_of(plan: Plan) -> dict[str, str]:
    """The settings with which the statement of a plan runs."""
    anew = bool(plan.owners) or any(node.strategy != "delta" for node in plan.nodes)
    return _OWN_ORDER if anew else SETTINGS


def create_raw(name: str, log: str, plan: Plan, purpose: Purpose = "changes") -> str:
    """CREATE FUNCTION for the one that may raise; `asked` for single keys."""
    arguments = ", ".join(f"{type_}[]" for type_ in key_types(plan)) if purpose == "asked" else ""
    return sql.create_function(
        name,
        _returns(plan),
        _of_pending(log, plan, purpose),
        arguments=arguments,
        attributes="STABLE SECURITY DEFINER",
        settings={**_FIXED, **settings_of(plan)},
    )


def key_types(plan: Plan) -> list[str]:
    """The types of the columns of the key, as SQL writes them."""
    types = {column.name: column.type for column in plan.columns}
    return [types[name] for name in plan.key]


def create(name: str, raw_name: str, plan: Plan, compared: Compared) -> str:
    """CREATE FUNCTION for the one that answers always; `raw_name` is the other's."""
    return sql.create_function(
        name,
        _returns(plan),
        _of_all(raw_name, plan, compared),
        attributes="STABLE SECURITY DEFINER",
        settings=_FIXED,
    )


def _returns(plan: Plan) -> str:
    columns = [f"{sql.quote(c.name)} {c.type}" for c in plan.columns]
    return f"TABLE ({', '.join([*columns, f'{TOTAL} bigint'])})"


def _of_pending(log: str, plan: Plan, purpose: Purpose) -> str:
    is_asked = purpose == "asked"
    matter = f" WHERE {matters(plan.asked, len(plan.key))}" if is_asked else ""
    given = ", ".join(f"${place}" for place, _ in enumerate(plan.key, 1)) if is_asked else ""
    using = f" USING {given}" if given else ""
    typed = "".join(f"c.{sql.quote(c.name)}::{c.type}, " for c in plan.columns)
    steps = ",\n    ".join(_step(step, purpose) for step in plan.steps) or "NULL"
    return f"""
#variable_conflict use_column
DECLARE
  counts jsonb := (SELECT jsonb_object_agg(g.part, g.rows) FROM (
    SELECT l.{PART} AS part, count(*) AS rows FROM {log} AS l{matter} GROUP BY l.{PART}) AS g);
  pending smallint[] := ARRAY(SELECT k::smallint FROM jsonb_object_keys(counts) AS k);
  steps text;
BEGIN
  IF pending = '{{}}' THEN RETURN; END IF;
  steps := array_to_string(ARRAY[
    {steps}
  ]::text[], ', ');
  RETURN QUERY EXECUTE
    {sql.literal(f"SELECT {typed}c.{TOTAL}::bigint FROM (")}
    || CASE WHEN steps <> '' THEN 'WITH ' || steps || ' ' ELSE '' END
    || {_text(plan.changes, purpose)}
    || {sql.literal(f") AS c WHERE {sql.unbroken_names(_relations(plan))}")}{using};
END"""


def _of_all(raw_name: str, plan: Plan, compared: Compared) -> str:
    """What is stored and not expected is there no more; what is expected is there."""
    names = [c.name for c in plan.columns]
    expected, stored = (
        ", ".join(f"{alias}.{sql.quote(c.name)}::{c.type}" for c in plan.columns) for alias in "ed"
    )
    copies, grouped = "1::bigint", ""
    if compared.is_bag:
        copies, grouped = "count(*)", f" GROUP BY {sql.columns(names, 'e')}"
    return f"""
#variable_conflict use_column
BEGIN
  BEGIN
    RETURN QUERY SELECT * FROM {raw_name}() AS c WHERE {compared.may_alter("c")};
    RETURN;
  EXCEPTION WHEN {quarantine.CONDITIONS} THEN NULL;
  END;
  RETURN QUERY SELECT {expected}, {copies} FROM {compared.expected} AS e
    WHERE {sql.unbroken_names(_relations(plan))} AND {compared.may_alter("e")}{grouped};
  RETURN QUERY SELECT DISTINCT {stored}, 0::bigint FROM {compared.stored} AS d
    WHERE NOT EXISTS (SELECT FROM {compared.expected} AS e WHERE {compared.same})
    AND {compared.may_alter("d")};
END"""


def _relations(plan: Plan) -> list[str]:
    """All tables that are read."""
    sources = dict.fromkeys(f"{sql.quote(c.schema)}.{sql.quote(c.table)}" for c in plan.captured)
    return [*sources, *(node.state for node in plan.nodes)]


def _step(step: Step, purpose: Purpose) -> str:
    head = sql.literal(f"{step.name} AS MATERIALIZED (\n")
    limit = "" if step.source is None else f" || ' LIMIT ' || (counts ->> '{step.source}')"
    body = f"{head} || {_text(step.text, purpose)}{limit} || ')'"
    return f"CASE WHEN {_is_pending([step.parts])} THEN {body} END"


def _text(text: Text, purpose: Purpose) -> str:
    pieces = [
        f"CASE WHEN {_is_pending(piece.needs)} THEN {sql.literal(piece.sql)} ELSE '' END"
        if piece.needs
        else sql.literal(piece.sql)
        for piece in text
        if piece.is_for(purpose)
    ]
    return " || ".join(pieces) or "''"


def _is_pending(needs: Iterable[Collection[int]]) -> str:
    """A condition: of each of these sets of sources something is pending."""
    sets = (", ".join(str(part) for part in sorted(parts)) for parts in needs)
    return " AND ".join(f"pending && '{{{numbers}}}'" for numbers in sets)
