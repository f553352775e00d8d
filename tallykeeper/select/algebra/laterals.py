"""LATERAL subqueries as what does not depend on the rows before: scalar subqueries, and joins."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence

from sqlglot import exp

from tallykeeper.select.algebra.expressions import conjuncts, enclosed, selected, sql_of
from tallykeeper.select.algebra.nodes import NodeMaker
from tallykeeper.select.algebra.relations import Product


class Laterals(NodeMaker):
    """LATERAL subqueries as what does not depend on the rows before."""

    @abstractmethod
    def _divided(
        self, query: exp.Select
    ) -> tuple[list[exp.Expr], list[exp.Expr], list[tuple[exp.Expr, exp.Expr]]]:
        """A subquery's conditions: its own, those on the outer row, and pairs of equal values."""

    def _row_of_values(self, join: exp.Join) -> dict[tuple[str, str], exp.Expr] | None:
        """The columns of LATERAL that has one row for each row before it, as scalar subqueries."""
        inner = _subquery(join.this)
        if not isinstance(inner, exp.Select) or not self.is_grouped(inner):
            return None
        if any(inner.args.get(c) for c in ("group", "having", "limit", "offset", "with_")):
            return None
        if join.side and not is_true(join.args.get("on")):
            return None
        alias = join.this.alias_or_name
        names = [n.name for n in join.this.args["alias"].args.get("columns") or []]
        names += [o.alias_or_name for o in inner.selects][len(names) :]
        values: dict[tuple[str, str], exp.Expr] = {}
        for name, output in zip(names, inner.selects, strict=True):
            asked = inner.copy()
            asked.set("expressions", [output.copy()])
            values[alias, name] = exp.Subquery(this=asked)
        return values

    def _apart(self, join: exp.Join) -> exp.Join:
        """LATERAL of a subquery that depends on the rows before by equalities, as a plain join."""
        item = join.this
        inner = _subquery(item)
        if not isinstance(inner, exp.Select) or not self._outer_aliases(inner):
            return join
        if self.is_grouped(inner) and not inner.args.get("group"):
            return join
        inner = inner.copy()
        kept, outer, pairs = self._divided(inner)
        inner.set("where", None)
        for condition in kept:
            inner.where(condition, copy=False)
        keys = [exp.alias_(k.copy(), f"tally_k{i}") for i, (_, k) in enumerate(pairs)]
        apart = self._by_keys(inner, keys)
        if apart is None or self._outer_aliases(apart):
            return join
        on = [*conjuncts(join.args.get("on")), *outer]
        on += [
            exp.EQ(this=enclosed(o), expression=exp.column(k.alias, item.alias_or_name))
            for (o, _), k in zip(pairs, keys, strict=True)
        ]
        derived = exp.Subquery(this=apart, alias=item.args["alias"].copy())
        condition = exp.and_(*(c for c in on if not is_true(c)), copy=True)
        return exp.Join(this=derived, side=join.side or None, on=condition)

    def _by_keys(self, inner: exp.Select, keys: Sequence[exp.Expr]) -> exp.Select | None:
        """The subquery for all values of the keys at once; None where it cannot be."""
        limit, distinct = inner.args.get("limit"), inner.args.get("distinct")
        if not keys or inner.args.get("offset") or inner.find(exp.Window):
            return None
        if distinct is not None and distinct.args.get("on"):
            return None
        if inner.args.get("group"):
            if limit is not None or not isinstance(inner.args["group"], exp.Group):
                return None
            inner.args["group"].set(
                "expressions",
                [*inner.args["group"].expressions, *(k.this.copy() for k in keys)],
            )
        if limit is not None:
            number = limit.expression
            if not (isinstance(number, exp.Literal) and number.this == "1") or distinct:
                return None
            order = inner.args.get("order")
            ordered = [exp.Ordered(this=k.this.copy()) for k in keys]
            ordered += order.expressions if order is not None else []
            inner.set("order", exp.Order(expressions=ordered))
            inner.set("limit", None)
            on = exp.Tuple(expressions=[k.this.copy() for k in keys])
            inner.set("distinct", exp.Distinct(on=on))
        inner.set("expressions", [*inner.selects, *keys])
        return inner


def _subquery(item: exp.Expr) -> exp.Query | None:
    """The SELECT of LATERAL; None where it is a function, or no LATERAL."""
    is_one = isinstance(item, exp.Lateral) and isinstance(item.this, exp.Subquery | exp.Query)
    return selected(item.this) if is_one else None


def is_true(condition: exp.Expr | None) -> bool:
    """Whether it is no condition at all."""
    return condition is None or sql_of(condition).upper() in ("TRUE", "(TRUE)")


def resolved(
    product: Product, values: Mapping[tuple[str, str], exp.Expr]
) -> dict[tuple[str, str], exp.Expr]:
    """The values over the leaves' own columns."""
    return {column: product.resolve(value) for column, value in values.items()}
