"""GROUPING SETS, ROLLUP and CUBE as several SELECTs, each with one set of keys.

Their rows together are those of the SELECT: keys that are not of a set are null in its rows, and
grouping() is a constant.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

from sqlglot import exp

from tallykeeper.select.algebra.expressions import key_of, stripped

Keys = tuple[exp.Expr, ...]
# Each set is a part of the statement.
MOST_SETS = 32
_SETS = (exp.Rollup, exp.Cube, exp.GroupingSets)


def has_sets(query: exp.Select) -> bool:
    """Whether GROUP BY of the SELECT has sets of keys."""
    group = query.args.get("group")
    return group is not None and any(isinstance(e, _SETS) for e in group.expressions)


def sets_of(query: exp.Select) -> list[Keys]:
    """The sets of keys of a SELECT that has some, each as often as it counts; () is of all rows."""
    group = query.args["group"]
    products = itertools.product(*(_alternatives(e) for e in group.expressions))
    found = [
        tuple({key_of(k): k for keys in chosen for k in keys}.values())
        for chosen in itertools.islice(products, MOST_SETS + 1)
    ]
    if group.args.get("all") is False:
        # GROUP BY DISTINCT.
        return list({frozenset(map(key_of, keys)): keys for keys in found}.values())
    return found


def of_one_set(
    query: exp.Select,
    keys: Keys,
    null_of: Callable[[exp.Expr], exp.Expr | None],
    is_call: Callable[[exp.Expr], bool],
) -> exp.Select:
    """The SELECT of the rows of one set.

    `null_of` returns a null for an expression that is a key of some set, and None for others;
    `is_call` says what is an aggregate, in which keys have their values.
    """
    own = {key_of(k) for k in keys}

    def replaced(node: exp.Expr) -> exp.Expr:
        if _is_grouping(node):
            bits = (str(int(key_of(e) not in own)) for e in node.expressions)
            return exp.Literal.number(int("".join(bits), 2))
        if key_of(node) in own or is_call(node):
            return node.copy()
        if (null := null_of(node)) is not None:
            return null
        copy = node.copy()
        for name, value in node.args.items():
            if isinstance(value, exp.Expr):
                copy.set(name, replaced(value))
            elif isinstance(value, list):
                copy.set(name, [replaced(v) if isinstance(v, exp.Expr) else v for v in value])
        return copy

    branch = query.copy()
    branch.set("order", None)
    branch.set(
        "expressions",
        [exp.alias_(replaced(o.unalias()), o.alias_or_name, quoted=True) for o in query.selects],
    )
    having = query.args.get("having")
    condition = replaced(having.this) if having is not None else None
    if not keys:
        # One row, though there may be no aggregate, and no row that it is of.
        condition = condition if condition is not None else exp.true()
    branch.set("group", exp.Group(expressions=[k.copy() for k in keys]) if keys else None)
    branch.set("having", exp.Having(this=condition) if condition is not None else None)
    return branch


def _is_grouping(node: exp.Expr) -> bool:
    return isinstance(node, exp.Grouping) or (
        isinstance(node, exp.Anonymous) and str(node.this).lower() == "grouping"
    )


def _alternatives(item: exp.Expr) -> list[Keys]:
    """The sets that one item of GROUP BY stands for."""
    if isinstance(item, exp.GroupingSets):
        return [keys for each in item.expressions for keys in _alternatives(each)]
    parts = [_keys(e) for e in item.expressions] if isinstance(item, _SETS) else []
    if isinstance(item, exp.Rollup):
        return [_together(parts[:size]) for size in range(len(parts), -1, -1)]
    if isinstance(item, exp.Cube):
        return [_together(chosen) for chosen in _subsets(parts)]
    return [_keys(item)]


def _keys(item: exp.Expr) -> Keys:
    """The keys of one pair of parentheses, or one key alone."""
    if isinstance(item, exp.Tuple):
        return tuple(stripped(e) for e in item.expressions)
    return (stripped(item),)


def _together(parts: Sequence[Keys]) -> Keys:
    return tuple(key for part in parts for key in part)


def _subsets(parts: Sequence[Keys]) -> Iterator[tuple[Keys, ...]]:
    for size in range(len(parts), -1, -1):
        yield from itertools.combinations(parts, size)
