"""Subqueries by what they share with the outer row, so that they can be joined to it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from sqlglot import exp

from tallykeeper.select.algebra import aggregates, uniqueness
from tallykeeper.select.algebra.expressions import (
    conjuncts,
    defined,
    enclosed,
    equal_sides,
    first_subquery,
    selected,
    substituted,
    tables_of,
    template,
)
from tallykeeper.select.algebra.from_items import FromItems
from tallykeeper.select.algebra.nodes import ONE
from tallykeeper.select.algebra.relations import (
    COUNT,
    Arm,
    Bag,
    Input,
    Leaf,
    NotLinear,
    Product,
    is_impossible,
)

# Types that are ordered and have no min and max.
WITHOUT_EXTREMES = ("boolean", "uuid", "jsonb", "bytea")


@dataclass(frozen=True)
class Keyed:
    """A subquery by the values that the outer row has for it.

    Rows of `bag` belong to an outer row where each of `pairs` (an expression of the outer row, a
    column's place in the bag) is equal. `outer` are conditions on the outer row alone.
    `value` is the column's place of the subquery's value, `empty` its value where there is no row;
    None: there always is one.
    """

    bag: Bag
    pairs: tuple[tuple[exp.Expr, int], ...]
    outer: tuple[exp.Expr, ...]
    value: int | None = None
    empty: exp.Expr | None = None
    extra: tuple[exp.Expr, ...] = ()


class Subqueries(FromItems):
    """Subqueries by what they share with the outer row, so that they can be joined to it."""

    def _joined(self, product: Product, keyed: Keyed) -> list[Product]:
        return [p for p, _ in self._joined_with(product, keyed)]

    def _joined_with(
        self, product: Product, keyed: Keyed
    ) -> list[tuple[Product, tuple[exp.Expr, ...]]]:
        """The product with the subquery's rows that belong to each of its rows."""
        rows = []
        for arm in keyed.bag.arms:
            renamed, outputs = self._renamed(arm.product, arm.outputs)
            both = product.times(replace(renamed, names={}))
            both = replace(both, names=product.names)
            for outer, place in keyed.pairs:
                both = both.where(
                    exp.EQ(
                        this=enclosed(product.resolve(outer)),
                        expression=enclosed(outputs[place].copy()),
                    )
                )
            both = both.where(*(product.resolve(c) for c in keyed.outer))
            if keyed.value is None and not keyed.pairs and keyed.extra:
                both = both.where(*(substituted(c, {}) for c in keyed.extra))
            if not is_impossible(both):
                rows.append((both, tuple(outputs)))
        return rows

    def _keyed(self, query: exp.Query, *, value: bool) -> Keyed:  # noqa: C901
        """A subquery by what it shares with the outer row. Raises NotLinear."""
        if value and len(query.selects) != 1:
            raise NotLinear("a subquery of several columns")
        if not isinstance(query, exp.Select) or not self._is_simple(query, value):
            if self._outer_aliases(query):
                raise NotLinear("a subquery of several levels that depends on the outer row")
            alias = self._alias()
            names = [o.alias_or_name for o in query.selects]
            query = exp.select(*(exp.column(n, alias) for n in names[:1])).from_(
                exp.alias_(exp.Subquery(this=query.copy()), alias, table=True)
            )
            assert isinstance(query, exp.Select)
        inner = query.copy()
        kept, outer, pairs = self._divided(inner)
        inner.set("where", None)
        for condition in kept:
            inner.where(condition, copy=False)
        for clause in ("order", "limit", "distinct"):
            inner.set(clause, None)
        keys = [pair[1] for pair in pairs]
        selects = [exp.alias_(k.copy(), f"k{i}") for i, k in enumerate(keys)]
        output = query.selects[0].unalias().copy() if query.selects else ONE.copy()
        grouped = bool(aggregates.calls_in([output], self.is_aggregate))
        if not value and grouped:
            raise NotLinear("EXISTS of an aggregate, which always has a row")
        if value:
            selects.append(exp.alias_(output.copy(), "v"))
        inner.set("expressions", selects)
        if self._outer_aliases(inner):
            raise NotLinear("a subquery that depends on the outer row by more than equalities")
        places = tuple((o, i) for i, (o, _) in enumerate(pairs))
        if value and grouped:
            if keys:
                inner.set("group", exp.Group(expressions=[k.copy() for k in keys]))
            bag = self._linear(inner)
            empty = self._of_nothing(output) if keys else None
            return Keyed(bag, places, tuple(outer), len(keys), empty)
        bag = self._linear(inner)
        single = bag.single
        determined = single is not None and uniqueness.is_determined(
            single.product, single.outputs[: len(keys)]
        )
        if value:
            if not determined:
                raise NotLinear("a subquery that might return several rows")
            return Keyed(bag, places, tuple(outer), len(keys), exp.null())
        if determined and keys:
            return Keyed(bag, places, tuple(outer))
        names = [f"k{i}" for i in range(len(keys))]
        if not keys:
            inner.set("expressions", [exp.alias_(ONE.copy(), "k0")])
            bag = self._linear(inner)
        arms = self._keys_of(bag, inner, names)
        return Keyed(Bag(tuple(names), tuple(arms)), places, tuple(outer))

    def _keys_of(self, bag: Bag, query: exp.Select, names: Sequence[str]) -> list[Arm]:
        """The distinct rows of a bag; without names, one row where there is any."""
        alias = self._alias()
        tree = exp.select("*").from_(exp.alias_(exp.Subquery(this=query.copy()), alias, table=True))
        node = self._group(
            tree,
            [Input(a.product, a.outputs[: len(names)], {COUNT: ONE}) for a in bag.arms],
            [exp.column(n, alias) for n in names],
            {COUNT: template("count(*)")},
            "rows by the values that a subquery is asked for",
        )
        own = self._alias()
        product = Product(leaves=(Leaf(own, node),))
        if not names:
            product = product.where(template(":n > 0", n=exp.column(COUNT, own)))
        return [Arm(product, tuple(exp.column(k, own) for k in node.key))]

    def _is_simple(self, query: exp.Select, value: bool) -> bool:
        clauses = ["group", "having", "offset", "with_", "qualify"]
        limit = query.args.get("limit")
        if value or (limit is not None and not isinstance(limit.expression, exp.Literal)):
            clauses.append("limit")
        return not any(query.args.get(c) for c in clauses) and (
            not value or query.args.get("distinct") is None
        )

    def _divided(
        self, query: exp.Select
    ) -> tuple[list[exp.Expr], list[exp.Expr], list[tuple[exp.Expr, exp.Expr]]]:
        """A subquery's conditions: its own, those on the outer row, and pairs of equal values."""
        inside = defined(query)
        joins = query.args.get("joins") or []
        conditions = conjuncts(query.args["where"].this if query.args.get("where") else None)
        if not any(j.side for j in joins):
            for join in joins:
                on = join.args.get("on")
                if on is not None and not tables_of(on) <= inside:
                    conditions += conjuncts(on)
                    join.set("on", exp.true())
        kept, outer, pairs = [], [], []
        for condition in conditions:
            used = tables_of(condition)
            if used <= inside:
                kept.append(condition.copy())
                continue
            pair = equal_sides(condition, used - inside, inside)
            if pair is not None and first_subquery(condition) is None:
                pairs.append((pair[0].copy(), pair[1].copy()))
            elif not used & inside and first_subquery(condition) is None:
                outer.append(condition.copy())
            else:
                raise NotLinear("a subquery that depends on the outer row by more than equalities")
        return kept, outer, pairs

    def _of_nothing(self, value: exp.Expr) -> exp.Expr:
        """The value of an aggregate's expression over no rows."""

        def emptied(node: exp.Expr) -> exp.Expr:
            if aggregates.is_call(node, self.is_aggregate):
                inner = node.this if isinstance(node, exp.Filter) else node
                return exp.Literal.number(0) if isinstance(inner, exp.Count) else exp.null()
            return node

        return value.copy().transform(emptied, copy=False)

    def _matches(
        self, product: Product, condition: exp.In, *, positive: bool = False
    ) -> list[exp.Expr]:
        """What decides `x IN (SELECT ...)`, in order.

        There is an equal row: true. Where nulls are possible: x is null, or a row is: unknown.
        """
        query = selected(condition.args["query"])
        plain = isinstance(query, exp.Select) and self._is_simple(query, False)
        if not plain or aggregates.calls_in(query.selects, self.is_aggregate):
            alias = self._alias()
            names = [o.alias_or_name for o in query.selects]
            query = exp.select(*(exp.column(n, alias) for n in names)).from_(
                exp.alias_(exp.Subquery(this=query.copy()), alias, table=True)
            )
        assert isinstance(query, exp.Select)
        left = condition.this
        lefts = left.expressions if isinstance(left, exp.Tuple) else [left]
        if len(lefts) != len(query.selects):
            raise NotLinear("IN of a record")
        inner = [s.unalias() for s in query.selects]

        def exists(conditions: Iterable[exp.Expr]) -> exp.Exists:
            asked = query.copy()
            for each in conditions:
                asked.where(each, copy=False)
            asked.set("expressions", [ONE.copy()])
            return exp.Exists(this=asked)

        equal = exists(
            exp.EQ(this=enclosed(i.copy()), expression=enclosed(o.copy()))
            for o, i in zip(lefts, inner, strict=True)
        )
        if positive:
            return [equal]
        if len(lefts) > 1:
            raise NotLinear("NOT IN of a record")
        certain = uniqueness.is_not_null(product, lefts[0]) and self._is_certain(query, inner[0])
        if certain:
            return [equal]
        missing = exp.And(
            this=exp.Is(this=enclosed(lefts[0].copy()), expression=exp.null()),
            expression=exists([]),
        )
        null = exists([exp.Is(this=enclosed(inner[0].copy()), expression=exp.null())])
        return [equal, exp.Paren(this=missing), null]

    def _is_certain(self, query: exp.Select, expression: exp.Expr) -> bool:
        """Whether a subquery's value is never null."""
        if any(j.side for j in query.args.get("joins") or []):
            return False
        leaves = [
            Leaf(t.alias_or_name, self.sources[t.db, t.name])
            for t in query.find_all(exp.Table)
            if (t.db, t.name) in self.sources
        ]
        return uniqueness.is_not_null(Product(leaves=tuple(leaves)), expression)

    def _theta(self, exists: exp.Exists) -> exp.Expr | None:  # noqa: C901
        """EXISTS with one comparison that is no equality, by counts or by an extreme value."""
        query = selected(exists.this)
        if not isinstance(query, exp.Select) or not self._is_simple(query, False):
            return None
        inside = defined(query)
        where = query.args.get("where")
        odd = []
        for condition in conjuncts(where.this if where else None):
            used = tables_of(condition)
            if used <= inside or not used & inside:
                continue
            if equal_sides(condition, used - inside, inside) is None:
                odd.append(condition)
        if len(odd) != 1 or first_subquery(odd[0]) is not None:
            return None
        condition = odd[0]
        if not isinstance(condition, exp.NEQ | exp.LT | exp.LTE | exp.GT | exp.GTE):
            return None
        left, right = condition.this, condition.expression
        operator: type[exp.Binary] = type(condition)
        if tables_of(left) <= inside and not tables_of(right) & inside:
            inner, outer = left, right
        elif tables_of(right) <= inside and not tables_of(left) & inside:
            inner, outer = right, left
            operator = {exp.LT: exp.GT, exp.LTE: exp.GTE, exp.GT: exp.LT, exp.GTE: exp.LTE}.get(
                operator, operator
            )
        else:
            return None
        others = query.copy()
        rest = [c for c in conjuncts(where.this if where else None) if c is not condition]

        def scalar(value: exp.Expr, *more: exp.Expr) -> exp.Expr:
            asked = others.copy()
            asked.set("where", None)
            for each in (*rest, *more):
                asked.where(each.copy(), copy=False)
            asked.set("expressions", [value])
            for clause in ("order", "limit", "distinct"):
                asked.set(clause, None)
            return exp.Subquery(this=asked)

        if operator is exp.NEQ:
            every = scalar(template("count(:x)", x=inner))
            same = scalar(template("count(*)"), exp.EQ(this=inner.copy(), expression=outer.copy()))
            return template(
                "coalesce(:o IS NOT NULL AND :every > :same, FALSE)",
                o=outer,
                every=every,
                same=same,
            )
        asked = others.copy()
        asked.set("where", None)
        asked.set("expressions", [exp.alias_(inner.copy(), "v")])
        if self._outer_aliases(asked) or self.describe(asked)[0] in WITHOUT_EXTREMES:
            raise NotLinear("a comparison of values of which there is no least and no greatest")
        extreme = "max" if operator in (exp.GT, exp.GTE) else "min"
        found = scalar(template(f"{extreme}(:x)", x=inner))
        compared = operator(this=found, expression=enclosed(outer.copy()))
        return template("coalesce(:c, FALSE)", c=compared)
