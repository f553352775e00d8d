"""Whether an ORDER BY leaves to chance which of several rows comes first.

It does not where the rows that tie are equal in all that is shown of them. That follows from keys:
what the ORDER BY names determines a row of a table if a unique key is among it, then all columns of
that row, then what is joined to it by equality.

Invariants: what is not known to be determined counts as not determined.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlglot import exp

from tallykeeper.select.definition.sources import Source
from tallykeeper.select.dialect import to_sql
from tallykeeper.select.syntax.determined import (
    ORDERED,
    Rows,
    bare,
    name_of,
    outermost,
    own_nodes,
)

# Window functions whose value for a row depends on how rows that tie are ordered.
_BY_PLACE = {
    "row_number",
    "ntile",
    "lag",
    "lead",
    "first_value",
    "last_value",
    "nth_value",
    "array_agg",
    "string_agg",
    "json_agg",
    "jsonb_agg",
}


def ties(query: exp.Query, sources: Mapping[tuple[str, str], Source]) -> list[str]:
    """What is left to chance in a SELECT in normal form, each in words; nothing where nothing is.

    LIMIT, OFFSET and DISTINCT ON, window functions that number rows, and aggregates that follow
    the order of their rows, in the SELECT and in all inside it.
    """
    found: list[str] = []
    for call in query.find_all(exp.Func):
        if name_of(call) == "array":
            found += _of_array(call, sources)
    for select in query.find_all(exp.Select):
        rows = Rows(select, sources)
        found += _of_limit(select, rows)
        for node in own_nodes(select):
            if isinstance(node, exp.Window):
                found += _of_window(node, select, rows)
            elif name_of(node) in ORDERED and not isinstance(outermost(node), exp.Window):
                found += _of_aggregate(node, rows)
    return list(dict.fromkeys(found))


def _of_limit(select: exp.Select, rows: Rows) -> list[str]:
    order = _order(select)
    outputs = [p.this for p in select.expressions]
    distinct = select.args.get("distinct")
    on = distinct.args.get("on") if distinct is not None else None
    limited = [k for k in ("limit", "offset") if select.args.get(k) is not None]
    found = []
    if on is not None:
        known = [*_items(on), *order]
        if not rows.determine(known, outputs):
            found.append(_said("DISTINCT ON", known, "which row of several is kept"))
    if limited and not _with_ties(select) and not _is_in_exists(select):
        # DISTINCT leaves no two equal rows; what remains is their order.
        if rows.determine(order, outputs):
            return found
        if not order:
            found.append(f"{limited[0].upper()} without ORDER BY keeps any rows")
        else:
            found.append(_said(limited[0].upper(), order, "which of the rows that tie are kept"))
    return found


def _of_array(array: exp.Func, sources: Mapping[tuple[str, str], Source]) -> list[str]:
    """ARRAY(SELECT ...), whose elements are in the order of the rows."""
    inner = array.expressions[0] if array.expressions else None
    while isinstance(inner, exp.Subquery | exp.Paren):
        inner = inner.this
    if not isinstance(inner, exp.Query):
        return []
    order = _order(inner)
    if isinstance(inner, exp.Select):
        outputs = [p.this for p in inner.expressions]
        if Rows(inner, sources).determine(order, outputs):
            return []
    if not order:
        return ["ARRAY(...) without ORDER BY takes the rows in any order"]
    return [_said("ARRAY(...)", order, "the order of rows that tie")]


def _with_ties(select: exp.Select) -> bool:
    limit = select.args.get("limit")
    options = limit.args.get("limit_options") if isinstance(limit, exp.Fetch) else None
    return options is not None and bool(options.args.get("with_ties"))


def _is_in_exists(select: exp.Select) -> bool:
    parent = select.parent
    while isinstance(parent, exp.Subquery | exp.Paren):
        parent = parent.parent
    return isinstance(parent, exp.Exists)


def _of_window(window: exp.Window, select: exp.Select, rows: Rows) -> list[str]:
    function = window.this
    while isinstance(function, exp.Filter | exp.IgnoreNulls | exp.RespectNulls):
        function = function.this
    name = name_of(function)
    known, spec = _over(window, select)
    by_rows = spec is not None and str(spec.args.get("kind")) == "ROWS" and not _is_whole(spec)
    if name not in _BY_PLACE and not by_rows:
        return []
    shown = [p.this for p in select.expressions if not p.find(exp.Window)]
    shown += [a for a in function.iter_expressions() if name not in ("row_number", "ntile")]
    if rows.determine(known, shown):
        return []
    return [_said(f"{name}() OVER", known, "the order of rows that tie")]


def _is_whole(spec: exp.WindowSpec) -> bool:
    return {spec.args.get("start"), spec.args.get("end")} == {"UNBOUNDED"}


def _over(window: exp.Window, select: exp.Select) -> tuple[list[exp.Expr], exp.WindowSpec | None]:
    """What the window is partitioned and ordered by, and its frame, also of the one it names."""
    known = [*(window.args.get("partition_by") or []), *_order(window)]
    name = window.args.get("alias")
    for named in select.args.get("windows") or []:
        if name is not None and named.name == name.name:
            more, spec = _over(named, select)
            return [*more, *known], window.args.get("spec") or spec
    return known, window.args.get("spec")


def _of_aggregate(node: exp.Expr, rows: Rows) -> list[str]:
    arguments: list[exp.Expr] = []
    known: list[exp.Expr] = []
    for argument in node.iter_expressions():
        value = argument
        if isinstance(argument, exp.Order):
            known += [o.this for o in argument.expressions]
            value = argument.this
        if isinstance(value, exp.Distinct):
            # Equal values are one, and they are sorted to find out.
            return []
        if value is not None:
            arguments.append(value)
    if rows.determine(known, arguments, of_group=False):
        return []
    name = name_of(node)
    if not known:
        return [f"{name}() without ORDER BY takes the rows in any order"]
    return [_said(f"{name}()", known, "the order of rows that tie")]


def _said(what: str, known: Sequence[exp.Expr], chance: str) -> str:
    listed = ", ".join(to_sql(bare(k)).replace('"', "") for k in known) or "nothing"
    return f"{what} ordered by {listed} leaves {chance} to chance"


def _order(node: exp.Expr) -> list[exp.Expr]:
    order = node.args.get("order")
    return [o.this for o in order.expressions] if order is not None else []


def _items(on: exp.Expr) -> list[exp.Expr]:
    return list(on.expressions) if isinstance(on, exp.Tuple) else [bare(on)]
