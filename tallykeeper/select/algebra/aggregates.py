"""What a node stores of the aggregates of a SELECT, and how their values follow from that.

An aggregate is *linear* if it follows from counts and sums, to which each row adds something of its
own: count, sum and avg, of distinct values too, variance and stddev, bool_and and bool_or. Others
(min, max, array_agg, percentiles) are computed anew for each group that changed, and stored as they
are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from sqlglot import exp

from tallykeeper.select.algebra.expressions import key_of, sql_of, stripped, template
from tallykeeper.select.algebra.relations import COUNT

LOGICAL = ("bool_or", "bool_and", "every")
INTEGERS = ("smallint", "integer", "bigint")
SPREADS = ("variance", "var_samp", "var_pop", "stddev", "stddev_samp", "stddev_pop")
# How often a sum's values were no finite numbers is counted in one column, by powers of this.
RADIX = "1000000000000000"


@dataclass(frozen=True)
class Stored:
    """A column of a node: what each row adds, and the aggregate that computes it from sources.

    `distinct` is the expression whose distinct values add, where rows do not.
    """

    amount: exp.Expr
    build: exp.Expr
    distinct: exp.Expr | None = None


@dataclass
class Decomposition:
    """The stored columns by name, and the value of each aggregate call by its text."""

    stored: dict[str, Stored] = field(default_factory=dict)
    values: dict[str, exp.Expr] = field(default_factory=dict)
    # Why the aggregates are not linear, where one is not.
    obstacle: str | None = None
    # Whether there is a row for each group alone, and not one where there are no rows at all.
    has_group: bool = True

    def distinct(self) -> list[exp.Expr]:
        """The expressions of which distinct values are aggregated, each once."""
        found = {key_of(s.distinct): s.distinct for s in self.stored.values() if s.distinct}
        return list(found.values())


def calls_in(
    expressions: Sequence[exp.Expr], is_aggregate: Callable[[exp.Expr], bool]
) -> list[exp.Expr]:
    """The aggregate calls in the expressions, each once; not those of window functions."""
    found: dict[str, exp.Expr] = {}

    def visit(node: exp.Expr) -> None:
        if isinstance(node, exp.Query | exp.Subquery):
            return
        if is_call(node, is_aggregate):
            found.setdefault(key_of(node), node)
            return
        if isinstance(node, exp.Window):
            # Its own function is none, but what it is over may be.
            inner = node.this.this if isinstance(node.this, exp.Filter) else node.this
            for child in inner.iter_expressions():
                visit(child)
            for child in node.iter_expressions():
                if child is not node.this:
                    visit(child)
            return
        for child in node.iter_expressions():
            visit(child)

    for expression in expressions:
        visit(expression)
    return list(found.values())


def is_call(node: exp.Expr, is_aggregate: Callable[[exp.Expr], bool]) -> bool:
    """Whether it is an aggregate's call, with its FILTER and WITHIN GROUP."""
    if isinstance(node, exp.Filter | exp.WithinGroup) or is_zero_sum(node):
        return is_call(node.this, is_aggregate)
    return is_aggregate(node)


def is_zero_sum(node: exp.Expr) -> bool:
    """Whether it is coalesce(sum(...), 0): the sum as it is stored."""
    if not isinstance(node, exp.Coalesce) or len(node.expressions) != 1:
        return False
    zero = stripped(node.expressions[0])
    if isinstance(zero, exp.Cast):
        zero = stripped(zero.this)
    if sql_of(zero) != "0":
        return False
    call = node.this
    return isinstance(call.this if isinstance(call, exp.Filter) else call, exp.Sum)


def decompose(
    calls: Sequence[exp.Expr],
    type_of: Callable[[exp.Expr], str],
    is_certain: Callable[[exp.Expr], bool],
    has_group: bool,
) -> Decomposition:
    """What to store for the calls, and how their values follow.

    `type_of` returns the type of a call's argument, `is_certain` whether an expression is never
    null. Without `has_group` there is one row, of no rows too.
    """
    made = Decomposition(has_group=has_group)
    for call in calls:
        obstacle = _linear(made, call, type_of, is_certain)
        if obstacle is not None:
            made = Decomposition(obstacle=obstacle)
            for number, each in enumerate(calls):
                made.stored[f"a{number}"] = Stored(exp.null(), each.copy())
                made.values[key_of(each)] = exp.column(f"a{number}")
            return made
    return made


def arguments_of(call: exp.Expr) -> list[exp.Expr]:
    """The arguments of which a decomposition may ask the type."""
    if is_zero_sum(call):
        call = call.this
    inner = call.this if isinstance(call, exp.Filter) else call
    argument = inner.this if isinstance(inner, exp.Sum | exp.Avg | exp.Count) else None
    alone = inner.expressions[0] if len(inner.expressions) == 1 else inner.this
    if _name_of(inner) in SPREADS or isinstance(alone, exp.Distinct):
        argument = alone if isinstance(alone, exp.Expr) else argument
    if isinstance(argument, exp.Distinct):
        argument = argument.expressions[0] if len(argument.expressions) == 1 else None
    elif isinstance(inner, exp.Count):
        argument = None
    return [argument] if argument is not None else []


def _linear(  # noqa: C901
    made: Decomposition,
    call: exp.Expr,
    type_of: Callable[[exp.Expr], str],
    is_certain: Callable[[exp.Expr], bool],
) -> str | None:
    """Store what the call needs; a reason where it is not linear."""
    condition: exp.Expr | None = None
    inner = call.this if is_zero_sum(call) else call
    if isinstance(inner, exp.Filter):
        condition, inner = inner.expression.this, inner.this
    name = _name_of(inner)
    argument = inner.this
    if isinstance(inner, exp.Anonymous):
        argument = inner.expressions[0] if len(inner.expressions) == 1 else None
    distinct = isinstance(argument, exp.Distinct)
    if distinct:
        if len(argument.expressions) != 1:
            return f"{name}(DISTINCT ...) of several values"
        argument = argument.expressions[0]
        if type_of(argument) == "record":
            return f"{name}(DISTINCT ...) of a row"
    if isinstance(argument, exp.Order):
        argument = argument.this if isinstance(inner, exp.Sum | exp.Avg | exp.Count) else argument
    if isinstance(inner, exp.Count) and (argument is None or isinstance(argument, exp.Star)):
        if condition is None:
            made.values[key_of(call)] = exp.column(COUNT)
        else:
            amount = template("CASE WHEN :c THEN 1 ELSE 0 END", c=condition)
            made.values[key_of(call)] = exp.column(_store(made, amount))
        return None
    if argument is not None and condition is not None:
        argument = template("CASE WHEN :c THEN :x END", c=condition, x=argument)
    of = argument if distinct else None
    always = argument is not None and of is None and condition is None and is_certain(argument)
    if isinstance(inner, exp.Count):
        if always:
            made.values[key_of(call)] = exp.column(COUNT)
            return None
        if argument is None or inner.args.get("expressions"):
            return "count of several values"
        made.values[key_of(call)] = exp.column(_store(made, _present(argument), of))
        return None
    if name in LOGICAL and argument is not None:
        wanted = "" if name == "bool_or" else "NOT "
        hits = _store(made, template(f"CASE WHEN {wanted}(:x) THEN 1 ELSE 0 END", x=argument))
        seen = _store(made, _present(argument))
        value = "h > 0" if not wanted else "h = 0"
        made.values[key_of(call)] = template(
            f"CASE WHEN :c > 0 THEN {value.replace('h', ':h')} END",
            c=exp.column(seen),
            h=exp.column(hits),
        )
        return None
    if isinstance(inner, exp.Sum | exp.Avg):
        assert argument is not None
        return _sum(made, call, inner, argument, type_of(_bare(call)), of, always=always)
    if name in SPREADS and argument is not None and not distinct:
        return _spread(made, call, name, argument, type_of(_bare(call)), always=always)
    return f"{name} does not follow from sums"


def _name_of(call: exp.Expr) -> str:
    return sql_of(call).partition("(")[0].lower()


def _bare(call: exp.Expr) -> exp.Expr:
    return arguments_of(call)[0]


def _sum(
    made: Decomposition,
    call: exp.Expr,
    inner: exp.Expr,
    argument: exp.Expr,
    type_: str,
    of: exp.Expr | None,
    *,
    always: bool,
) -> str | None:
    is_numeric = type_.startswith("numeric")
    if type_ not in INTEGERS and not is_numeric:
        return f"sums of {type_} are not exact"
    if isinstance(inner, exp.Avg) and type_ == "numeric":
        return "avg of numeric without a scale has digits that depend on all values"
    value: exp.Expr = exp.column(_store(made, _wide(_finite(argument, type_), type_), of))
    if is_numeric:
        counted = exp.column(_store(made, _strange(argument), of))
        value = template(
            f"CASE WHEN :f = 0 THEN :s WHEN mod(:f, {RADIX}) > 0"
            f" OR (mod(div(:f, {RADIX}), {RADIX}) > 0 AND div(div(:f, {RADIX}), {RADIX}) > 0)"
            f" THEN CAST('NaN' AS numeric) WHEN div(div(:f, {RADIX}), {RADIX}) > 0"
            " THEN CAST('-Infinity' AS numeric) ELSE CAST('Infinity' AS numeric) END",
            f=counted,
            s=value,
        )
    if is_zero_sum(call):
        made.values[key_of(call)] = value
        return None
    seen = exp.column(COUNT if always else _store(made, _present(argument), of))
    if isinstance(inner, exp.Avg):
        value = template("CAST(:s AS numeric) / :c", s=value, c=seen)
    if not (always and made.has_group):
        value = template("CASE WHEN :c > 0 THEN :v END", c=seen, v=value)
    made.values[key_of(call)] = value
    return None


def _spread(
    made: Decomposition,
    call: exp.Expr,
    name: str,
    argument: exp.Expr,
    type_: str,
    *,
    always: bool,
) -> str | None:
    """Variance or standard deviation, from the number of values, their sum and that of squares."""
    if type_ not in INTEGERS and not type_.startswith("numeric("):
        return f"{name} of {type_} has digits that depend on all values"
    finite = _finite(argument, type_)
    total = template("CAST(:s AS numeric)", s=exp.column(_store(made, _wide(finite, type_))))
    squares = template("CAST(:x AS numeric) * CAST(:x AS numeric)", x=finite)
    seen = exp.column(COUNT if always else _store(made, _present(argument)))
    numbers = {"c": template("CAST(:c AS numeric)", c=seen), "s": total}
    spread = template(":c * :q - :s * :s", q=exp.column(_store(made, squares)), **numbers)
    is_of_all = name.endswith("_pop")
    value = template(f":v / (:c * {':c' if is_of_all else '(:c - 1)'})", v=spread, **numbers)
    if name.startswith("stddev"):
        # The root has as many digits as the variance. It is rounded once more, so it is computed
        # with so many that they cannot all be nines or zeros behind the last of these.
        digits = "2 * scale(:v) + length(CAST(trunc(:v) AS text)) + 8"
        value = template(f"round(sqrt(round(:v, {digits})), scale(:v))", v=value)
    value = template("CASE WHEN :v > 0 THEN :d ELSE CAST(0 AS numeric) END", v=spread, d=value)
    if type_ not in INTEGERS:
        strange = exp.column(_store(made, _strange(argument)))
        value = template(
            "CASE WHEN :f = 0 THEN :v ELSE CAST('NaN' AS numeric) END", f=strange, v=value
        )
    least = 0 if is_of_all else 1
    made.values[key_of(call)] = template(f"CASE WHEN :c > {least} THEN :v END", c=seen, v=value)
    return None


def _finite(argument: exp.Expr, type_: str) -> exp.Expr:
    """The argument where it is a finite number, else null."""
    if not type_.startswith("numeric"):
        return argument
    return template("CASE WHEN :x NOT IN ('NaN', 'Infinity', '-Infinity') THEN :x END", x=argument)


def _wide(argument: exp.Expr, type_: str) -> exp.Expr:
    """The argument as a type that holds sums of it."""
    wide = "numeric" if type_.startswith("numeric") or type_ == "bigint" else "bigint"
    return template(f"CAST(:x AS {wide})", x=argument)


def _strange(argument: exp.Expr) -> exp.Expr:
    """A number by whose sum it is known how many values were no finite numbers, and which."""
    found = template(
        f"CASE :x WHEN 'NaN' THEN 1 WHEN 'Infinity' THEN {RADIX}"
        f" WHEN '-Infinity' THEN CAST({RADIX} AS numeric) * {RADIX} ELSE 0 END",
        x=argument,
    )
    return template("CAST(:x AS numeric)", x=found)


def _present(argument: exp.Expr) -> exp.Expr:
    return template("CASE WHEN :x IS NOT NULL THEN 1 ELSE 0 END", x=argument)


def _store(made: Decomposition, amount: exp.Expr, of: exp.Expr | None = None) -> str:
    """The name of the column with the sum of these amounts, one for all that need it."""
    identity = (key_of(amount), key_of(of) if of is not None else "")
    for name, stored in made.stored.items():
        known = key_of(stored.distinct) if stored.distinct is not None else ""
        if (key_of(stored.amount), known) == identity:
            return name
    name = f"a{len(made.stored)}"
    build = template("coalesce(sum(:x), 0)", x=amount) if of is None else _of_distinct(amount, of)
    made.stored[name] = Stored(amount, build, of)
    return name


def _of_distinct(amount: exp.Expr, of: exp.Expr) -> exp.Expr:
    """The sum of the amounts of distinct values, from sources."""
    if key_of(amount) == key_of(_present(of)):
        return template("count(DISTINCT :x)", x=of)
    return template("coalesce(sum(DISTINCT :x), 0)", x=amount)
