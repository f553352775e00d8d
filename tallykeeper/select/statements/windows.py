"""The SELECT restricted to windows of time: only the rows that lie in them are read.

Where a column that the SELECT groups by is the start of the window that an instant lies in, a
condition on the column is moved to the instant, which an index may be over.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlglot import exp

from tallykeeper.declarations.windows import UNITS, Unit
from tallykeeper.select.algebra.expressions import sql_of, stripped
from tallykeeper.select.plan import Windowed

# Stands for the condition while the SELECT is printed.
_HERE = "tally_window_here"
# With these a row of one window follows from rows of others.
_BEYOND = ("limit", "offset", "distinct", "qualify")


def windowed(query: exp.Query) -> tuple[Windowed, ...]:
    """The columns of the SELECT that windows are found by; none where it cannot be restricted."""
    if not isinstance(query, exp.Select) or any(query.args.get(name) for name in _BEYOND):
        return ()
    group = query.args.get("group")
    if group is None or any(group.args.get(n) for n in ("grouping_sets", "cube", "rollup")):
        return ()
    if any(isinstance(each, exp.Window) for item in query.selects for each in item.walk()):
        return ()
    keys = {sql_of(stripped(each)) for each in group.expressions}
    return tuple(_windowed(query, keys))


def _windowed(query: exp.Select, keys: set[str]) -> Iterator[Windowed]:
    for item in query.selects:
        start = stripped(item.unalias())
        found = _start(start)
        if found is None or sql_of(start) not in keys:
            continue
        unit, instant = found
        here = exp.column(_HERE)
        before, _, after = sql_of(query.copy().where(here, copy=False)).partition(_HERE)
        yield Windowed(item.alias_or_name, unit, sql_of(instant), before, after)


def _start(expression: exp.Expr) -> tuple[Unit, exp.Expr] | None:
    """The unit of which the expression is the start, in a named zone, and the instant."""
    if not isinstance(expression, exp.Anonymous) or str(expression.this).lower() != "date_trunc":
        return None
    if len(expression.expressions) != 3:
        return None
    given, instant = map(stripped, expression.expressions[:2])
    named = given.this.name if isinstance(given, exp.Cast) else given.name
    unit = next((each for each in UNITS if each == named.lower()), None)
    if unit is None or instant.find(exp.Subquery, exp.AggFunc, exp.Window):
        return None
    return unit, instant
