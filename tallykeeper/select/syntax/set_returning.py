"""Functions that return rows, among the columns of a SELECT: they are put into its FROM.

`SELECT unnest(tags) FROM posts` has the rows of `SELECT s.v FROM posts CROSS JOIN LATERAL
unnest(tags) AS s (v)`. PostgreSQL computes such functions after grouping, unless the SELECT groups
by them, and after windows; several of them go in step. What is not the same is not understood.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from sqlalchemy import Connection, text
from sqlglot import exp

from tallykeeper.select import dialect
from tallykeeper.select.syntax.scopes import NotUnderstood

_TREE = text(
    "SELECT ev_action::text FROM pg_rewrite WHERE ev_class = to_regclass(:view)"
    " AND ev_type = '1' AND is_instead"
)
_FUNCTIONS = text(
    "SELECT p.proname, t.typtype IN ('c', 'p') AS is_row FROM unnest(:functions ::oid[],"
    " :types ::oid[]) AS f (function, type) JOIN pg_proc AS p ON p.oid = f.function"
    " JOIN pg_type AS t ON t.oid = f.type"
)
_CALL = re.compile(r"\{FUNCEXPR :funcid (\d+) :funcresulttype (\d+) :funcretset true")
_MIXED = "functions that return rows, among the columns: put them into FROM, behind LATERAL"


def put_into_from(connection: Connection, view: str, query: exp.Query) -> None:
    """Change the SELECT of a view, as it was parsed, where a column calls such a function.

    Raises NotUnderstood where the same rows cannot be written like that.
    """
    tree = connection.execute(_TREE, {"view": view}).scalar_one_or_none() or ""
    if ":hasTargetSRFs true" not in tree:
        return
    calls = _CALL.findall(tree)
    found = connection.execute(
        _FUNCTIONS,
        {"functions": [int(f) for f, _ in calls], "types": [int(t) for _, t in calls]},
    ).all()
    if any(each.is_row for each in found):
        # In FROM, the row would be its columns.
        raise NotUnderstood(_MIXED)
    names = {each.proname for each in found}
    aliases = (f"tally_set_{number}" for number in range(1, 1000))
    has_aggregates = ":hasAggs true" in tree
    changed = [_change(s, names, aliases, has_aggregates) for s in list(query.find_all(exp.Select))]
    if not any(changed):
        # PostgreSQL found one that was not recognised here.
        raise NotUnderstood(_MIXED)


def _change(
    select: exp.Select, names: Collection[str], aliases: Iterator[str], has_aggregates: bool
) -> bool:
    """Put the function that a SELECT calls into its FROM; whether it calls one."""
    places = list(select.expressions)
    for clause in ("group", "order"):
        part = select.args.get(clause)
        places += part.expressions if part is not None else []
    calls = [c for place in places for c in _calls(place, names)]
    if not calls:
        return False
    by_row = _is_row_by_row(select, names, has_aggregates)
    if len({dialect.to_sql(call) for call in calls}) > 1 or not by_row:
        raise NotUnderstood(_MIXED)
    alias = next(aliases)
    call = calls[0].copy()
    for each in calls:
        each.replace(exp.column("tally_value", alias, quoted=True))
    named = exp.TableAlias(
        this=exp.to_identifier(alias, quoted=True),
        columns=[exp.to_identifier("tally_value", quoted=True)],
    )
    item = exp.Lateral(this=call, alias=named)
    if select.args.get("from_") is None:
        select.set("from_", exp.From(this=item))
    else:
        select.append("joins", exp.Join(this=item, kind="CROSS"))
    return True


def _is_row_by_row(select: exp.Select, names: Collection[str], has_aggregates: bool) -> bool:
    """Whether the functions are called for the rows of FROM, and not for what becomes of these."""
    distinct = select.args.get("distinct")
    has_on = distinct is not None and distinct.args.get("on")
    if has_on or select.args.get("having") or select.args.get("windows"):
        return False
    if any(place.find(exp.Window) for place in select.expressions):
        return False
    group = select.args.get("group")
    if group is not None:
        keys = {dialect.to_sql(_bare(key)) for key in group.expressions}
        calling = [e for e in select.expressions if any(_calls(e, names))]
        return all(dialect.to_sql(_bare(each)) in keys for each in calling)
    # An aggregate would group all rows. Beside a column there is none.
    others = _others(select, names)
    return not has_aggregates or any(isinstance(_bare(each), exp.Column) for each in others)


def _others(select: exp.Select, names: Collection[str]) -> list[exp.Expr]:
    """The columns that call no such function."""
    return [place for place in select.expressions if not any(_calls(place, names))]


def _calls(expression: exp.Expr, names: Collection[str]) -> Iterator[exp.Expr]:
    """The calls of such functions, outermost ones, not those of a SELECT within."""
    if isinstance(expression, exp.Query):
        return
    if isinstance(expression, exp.Dot) and _is_call(expression.expression, names):
        yield expression
        return
    if _is_call(expression, names):
        if any(_calls_within(expression, names)):
            raise NotUnderstood(_MIXED)
        yield expression
        return
    for child in expression.iter_expressions():
        yield from _calls(child, names)


def _calls_within(call: exp.Expr, names: Collection[str]) -> Iterator[exp.Expr]:
    for child in call.iter_expressions():
        yield from _calls(child, names)


def _is_call(expression: exp.Expr, names: Collection[str]) -> bool:
    if not isinstance(expression, exp.Anonymous):
        return False
    name = expression.this
    if isinstance(name, exp.Identifier):
        name = name.name
    return name in names or str(name).lower() in names


def _bare(expression: exp.Expr) -> exp.Expr:
    """Without name and parentheses."""
    while isinstance(expression, exp.Alias | exp.Paren):
        expression = expression.this
    return expression
