"""GROUP BY: what is stored for each group, and what the SELECT's columns make of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlglot import exp

from tallykeeper.select.algebra import aggregates, uniqueness
from tallykeeper.select.algebra.conditions import Conditions
from tallykeeper.select.algebra.expressions import (
    conjuncts,
    defined,
    enclosed,
    first_subquery,
    key_of,
    own_aliases,
    sql_of,
    stripped,
    template,
)
from tallykeeper.select.algebra.nodes import ONE
from tallykeeper.select.algebra.relations import (
    COUNT,
    Arm,
    Bag,
    Input,
    Leaf,
    Node,
    NotLinear,
    Product,
)


class Groups(Conditions):
    """GROUP BY: what is stored for each group, and what the SELECT's columns make of it."""

    @staticmethod
    def group_keys(query: exp.Select) -> list[exp.Expr]:
        """The expressions of GROUP BY. Raises NotLinear where there are several sets of them."""
        group = query.args.get("group")
        if group is not None and any(
            group.args.get(c) for c in ("grouping_sets", "cube", "rollup", "all", "totals")
        ):
            raise NotLinear("GROUPING SETS, ROLLUP and CUBE are not followed")
        keys = [stripped(e) for e in (group.expressions if group else [])]
        if any(isinstance(k, exp.Cube | exp.Rollup | exp.GroupingSets) for k in keys):
            raise NotLinear("GROUPING SETS, ROLLUP and CUBE are not followed")
        return keys

    def _aggregated(self, query: exp.Select, products: Sequence[Product]) -> Bag:
        if self._outer_aliases(query):
            raise NotLinear("groups that depend on the outer row")
        keys, has_group = self.group_keys(query), query.args.get("group") is not None
        # A constant is no expression of a row, and groups by nothing.
        having = query.args.get("having")
        outputs = [o.unalias() for o in query.selects]
        conditions = conjuncts(having.this if having else None)
        calls = aggregates.calls_in([*outputs, *conditions], self.is_aggregate)
        known = {key_of(k) for k in keys}
        for column in self._dependents([*outputs, *conditions], known, own_aliases(query)):
            keys.append(column)
            known.add(key_of(column))
        tree = query.copy()
        for clause in ("group", "having", "order", "distinct"):
            tree.set(clause, None)
        types = self._types(tree, [a for c in calls for a in aggregates.arguments_of(c)])
        made = aggregates.decompose(
            calls,
            lambda argument: types[key_of(argument)],
            lambda e: all(uniqueness.is_not_null(p, p.resolve(e)) for p in products),
            has_group,
        )
        node = self._aggregate_node(tree, products, keys, made, has_group)
        alias = self._alias()
        columns = {key_of(k): exp.column(n, alias) for k, n in zip(keys, node.key, strict=True)}
        values = {
            text: value.transform(
                lambda n: exp.column(n.name, alias) if isinstance(n, exp.Column) else n
            )
            for text, value in made.values.items()
        }
        product = Product(leaves=(Leaf(alias, node),))

        def replaced(expression: exp.Expr) -> exp.Expr:
            return self._over(expression, columns, values)

        rows = [product]
        for condition in conditions:
            rows = self._filtered(rows, replaced(condition))
        names = tuple(o.alias_or_name for o in query.selects)
        arms = []
        for row in rows:
            arms += [Arm(p, tuple(e)) for p, e in self._split(row, [replaced(o) for o in outputs])]
        return Bag(names, tuple(arms))

    def _aggregate_node(
        self,
        tree: exp.Select,
        products: Sequence[Product],
        keys: Sequence[exp.Expr],
        made: aggregates.Decomposition,
        has_group: bool,
    ) -> Node:
        amounts = {COUNT: ONE} | {n: s.amount for n, s in made.stored.items() if s.distinct is None}
        if made.obstacle is not None:
            used = {
                key_of(c): c for s in made.stored.values() for c in s.build.find_all(exp.Column)
            }
            used = {k: c for k, c in used.items() if c.table in defined(tree)}
            if any(first_subquery(s.build) is not None for s in made.stored.values()):
                raise NotLinear("a subquery inside an aggregate that is computed anew")
            amounts = {COUNT: ONE} | {f"u{i}": c for i, c in enumerate(used.values())}
        inputs = []
        for product in products:
            expressions = [product.resolve(e) for e in (*keys, *amounts.values())]
            for part, split in self._split(product, expressions):
                named = dict(zip(amounts, split[len(keys) :], strict=True))
                inputs.append(Input(part, tuple(split[: len(keys)]), named))
        builds = {COUNT: template("count(*)")} | {n: s.build for n, s in made.stored.items()}
        feeders = [self._distinct_values(tree, products, keys, of) for of in made.distinct()]
        for feeder, of in zip(feeders, made.distinct(), strict=True):
            alias = self._alias()
            value = exp.column(feeder.key[-1], alias)
            given = {
                n: _instead(s.amount, of, value)
                for n, s in made.stored.items()
                if s.distinct is not None and key_of(s.distinct) == key_of(of)
            }
            inputs.append(
                Input(
                    Product(leaves=(Leaf(alias, feeder),)),
                    tuple(exp.column(k, alias) for k in feeder.key[:-1]),
                    given,
                )
            )
        reason = made.obstacle or "counts and sums"
        node = self._group(
            tree, inputs, keys, builds, reason, "group" if made.obstacle else "delta"
        )
        node.is_global = not keys and not has_group
        if not keys and has_group:
            raise NotLinear("GROUP BY of constants")
        return node

    def _distinct_values(
        self,
        tree: exp.Select,
        products: Sequence[Product],
        keys: Sequence[exp.Expr],
        of: exp.Expr,
    ) -> Node:
        inputs = []
        for product in products:
            expressions = [product.resolve(e) for e in (*keys, of)]
            for part, split in self._split(product, expressions):
                inputs.append(Input(part, tuple(split), {COUNT: ONE}))
        return self._group(
            tree,
            inputs,
            [*keys, of],
            {COUNT: template("count(*)")},
            f"the values of {sql_of(of)} that are counted once",
        )

    def _dependents(
        self, expressions: Sequence[exp.Expr], known: set[str], own: set[str]
    ) -> list[exp.Expr]:
        """Columns outside of aggregates that the group determines, as a primary key does."""
        found: dict[str, exp.Expr] = {}

        def visit(node: exp.Expr, nested: bool) -> None:
            if key_of(node) in known or (
                not nested and aggregates.is_call(node, self.is_aggregate)
            ):
                return
            if isinstance(node, exp.Column):
                if node.table in own:
                    found.setdefault(key_of(node), node)
                return
            for child in node.iter_expressions():
                visit(child, nested or isinstance(node, exp.Query))

        for expression in expressions:
            visit(expression, False)
        return list(found.values())

    def _over(
        self,
        expression: exp.Expr,
        columns: Mapping[str, exp.Expr],
        values: Mapping[str, exp.Expr],
        nested: bool = False,
    ) -> exp.Expr:
        """An expression over groups, read from their node."""
        text = key_of(expression)
        if text in columns:
            return columns[text].copy()
        if not nested and text in values:
            return enclosed(values[text].copy())
        copy = expression.copy()
        inside = nested or isinstance(expression, exp.Query)
        for name, value in list(expression.args.items()):
            if isinstance(value, exp.Expr):
                copy.set(name, self._over(value, columns, values, inside))
            elif isinstance(value, list):
                copy.set(
                    name,
                    [
                        self._over(v, columns, values, inside) if isinstance(v, exp.Expr) else v
                        for v in value
                    ],
                )
        return copy


def _instead(amount: exp.Expr, of: exp.Expr, value: exp.Expr) -> exp.Expr:
    text = key_of(of)

    def replaced(node: exp.Expr) -> exp.Expr:
        return value.copy() if key_of(node) == text else node

    return amount.copy().transform(replaced, copy=False)
