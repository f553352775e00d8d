"""From the tree of a SELECT to bags and nodes (`relations.py`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from sqlglot import exp

from tallykeeper.select import aggregates, uniqueness
from tallykeeper.select.expressions import (
    as_type,
    conjuncts,
    factored,
    first_subquery,
    key_of,
    own_nodes,
    selected,
    sql_of,
    stripped,
    template,
)
from tallykeeper.select.plan import Column
from tallykeeper.select.relations import (
    COUNT,
    Arm,
    Bag,
    Expansion,
    Input,
    Leaf,
    Node,
    NotLinear,
    Product,
    enclosed,
    substituted,
    tables_of,
)
from tallykeeper.select.resolve import Source

# A SELECT with more products than this is maintained as a whole: each is a part of a statement.
MOST_PRODUCTS = 40
ONE = exp.Literal.number(1)
# The alias of a query that stands alone in FROM.
WRAPPED = "tally_q"


@dataclass(frozen=True)
class Keyed:
    """A subquery by the values that the outer row gives it.

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


class Translation:
    """Translates one SELECT; `nodes` are those made for it so far, each after what it reads.

    `describe` returns the types of a query's columns, `state_of` the name of a node's table.
    """

    def __init__(
        self,
        sources: Mapping[tuple[str, str], Source],
        describe: Callable[[exp.Query], list[str]],
        is_aggregate: Callable[[exp.Expr], bool],
        state_of: Callable[[str], str],
    ) -> None:
        self.sources = sources
        self.describe = describe
        self.is_aggregate = is_aggregate
        self.state_of = state_of
        self.nodes: list[Node] = []
        self.reasons: list[str] = []
        self._aliases = 0

    # ---- queries

    def query(self, query: exp.Expr) -> Bag:
        """The rows of a query; a part that cannot be followed becomes a node of its own."""
        query = selected(query)
        before = len(self.nodes)
        try:
            return self._linear(query)
        except NotLinear as error:
            del self.nodes[before:]
            if self._outer_aliases(query):
                raise
            return self.whole(query, str(error))

    def _linear(self, query: exp.Expr) -> Bag:
        if isinstance(query, exp.SetOperation):
            if query.args.get("limit") or query.args.get("offset"):
                raise NotLinear("LIMIT of all rows")
            return self._set_operation(query)
        if not isinstance(query, exp.Select):
            raise NotLinear(f"{type(query).__name__.upper()} is not followed")
        for clause in ("qualify", "sample", "locks", "into"):
            if query.args.get(clause):
                raise NotLinear(f"{clause.upper()} is not followed")
        if query.args.get("with_") or query.args.get("with"):
            raise NotLinear("a recursive WITH")
        if query.args.get("limit") or query.args.get("offset"):
            return self._limited(query)
        distinct = query.args.get("distinct")
        if distinct is not None and distinct.args.get("on"):
            return self._distinct_on(query)
        if any(isinstance(n, exp.Window) for o in query.selects for n in own_nodes(o)):
            return self._windowed(query)
        bag = self._plain(query)
        return self._distinct(query, bag) if distinct is not None else bag

    def _plain(self, query: exp.Select) -> Bag:
        products = self._where(query, self._tables(query))
        if self.is_grouped(query):
            return self._aggregated(query, products)
        names = tuple(o.alias_or_name for o in query.selects)
        arms = []
        for product in products:
            outputs = [product.resolve(o.unalias()) for o in query.selects]
            arms += [Arm(p, tuple(e)) for p, e in self._split(product, outputs)]
        return Bag(names, tuple(arms))

    def is_grouped(self, query: exp.Select) -> bool:
        """Whether the SELECT has one row for a group of its rows."""
        having = query.args.get("having")
        expressions = [*query.selects, *([having.this] if having else [])]
        return bool(
            query.args.get("group") or having or aggregates.calls_in(expressions, self.is_aggregate)
        )

    # ---- FROM

    def _tables(self, query: exp.Select) -> list[Product]:
        from_ = query.args.get("from_")
        if from_ is None:
            return [Product()]
        item = self._item(from_.this)
        products = item if isinstance(item, list) else [Product(expansions=(item,))]
        seen: list[exp.Expr] = [from_.this]
        tree = exp.select("*").from_(from_.this.copy())
        for join in query.args.get("joins") or []:
            products = self._join(products, seen, tree, join)
            seen.append(join.this)
            tree.append("joins", join.copy())
            self._check_number(products)
        return products

    def _check_number(self, products: Sequence[Product]) -> None:
        if len(products) > MOST_PRODUCTS:
            raise NotLinear("so many outer joins and subqueries that statements would be too long")

    def _item(self, item: exp.Expr) -> list[Product] | Expansion:
        """What one item of FROM is: products, or a function of the rows before it."""
        alias = item.alias_or_name
        if isinstance(item, exp.Table) and isinstance(item.this, exp.Identifier):
            source = self.sources.get((item.db, item.name))
            if source is None:
                raise NotLinear(f"{item.db}.{item.name} is no table that changes are captured of")
            return [Product(leaves=(Leaf(alias, source),))]
        inner = item.this if isinstance(item, exp.Lateral) else item
        if isinstance(inner, exp.Subquery) and isinstance(selected(inner), exp.Query):
            bag = self.query(inner)
            named = item.args["alias"].args.get("columns") or []
            names = [n.name for n in named]
            names += list(bag.names[len(names) :])
            products = []
            for arm in bag.arms:
                visible = {(alias, n): e for n, e in zip(names, arm.outputs, strict=True)}
                is_one_select = bag.is_one and arm.product.is_one_select
                products.append(replace(arm.product, names=visible, is_one_select=is_one_select))
            return products
        return Expansion(alias, item)

    def _join(  # noqa: C901
        self,
        products: list[Product],
        seen: Sequence[exp.Expr],
        tree: exp.Select,
        join: exp.Join,
    ) -> list[Product]:
        side, on = join.side, conjuncts(join.args.get("on"))
        if join.args.get("using"):
            raise NotLinear("JOIN ... USING")
        if any(first_subquery(c) is not None for c in on) and side:
            raise NotLinear("a subquery in the condition of an outer join")
        right = self._item(join.this)
        if isinstance(right, Expansion):
            return [self._expanded(p, right, side, on) for p in products]
        if isinstance(join.this, exp.Lateral):
            if side:
                raise NotLinear("LEFT JOIN LATERAL of a subquery")
            joined = [_times_lateral(p, r) for p in products for r in right]
        else:
            joined = [p.times(r) for p in products for r in right]
        matched = joined
        for condition in on:
            for each in factored(condition):
                matched = self._filtered(matched, each)
        if not side:
            return matched
        left_columns = [c for item in seen for c in self._columns_of(item)]
        right_columns = self._columns_of(join.this)
        rows = list(matched)
        alone = exp.select("*").from_(join.this.copy())
        if side in ("LEFT", "FULL"):
            rows += self._unmatched(products, right, left_columns, right_columns, on, alone)
        if side in ("RIGHT", "FULL"):
            rows += self._unmatched(right, products, right_columns, left_columns, on, tree)
        return rows

    def _expanded(
        self, product: Product, expansion: Expansion, side: str, on: Sequence[exp.Expr]
    ) -> Product:
        if side not in ("", "LEFT") or (side and [sql_of(c) for c in on] not in ([], ["TRUE"])):
            raise NotLinear("an outer join with a function and a condition")
        item = product.resolve(expansion.item)
        grown = replace(
            product,
            expansions=(*product.expansions, Expansion(expansion.alias, item, bool(side))),
        )
        return grown.where(*(grown.resolve(c) for c in on if sql_of(c) != "TRUE"))

    def _columns_of(self, item: exp.Expr) -> list[tuple[str, str, str]]:
        """Alias, name and type of each column of an item of FROM."""
        alias = item.alias_or_name
        if isinstance(item, exp.Table) and isinstance(item.this, exp.Identifier):
            source = self.sources[item.db, item.name]
            return [(alias, c.name, c.type) for c in source.columns]
        query = exp.select("*").from_(item.copy())
        if isinstance(item, exp.Lateral) or not isinstance(item, exp.Subquery):
            # A function of rows before it; what it returns cannot be described by itself.
            raise NotLinear("an outer join after a function in FROM")
        inner = selected(item)
        names = [n.name for n in item.args["alias"].args.get("columns") or []]
        names += [o.alias_or_name for o in inner.selects][len(names) :]
        types = self.describe(query)
        return [(alias, n, t) for n, t in zip(names, types, strict=True)]

    def _unmatched(
        self,
        products: Sequence[Product],
        others: Sequence[Product],
        own: Sequence[tuple[str, str, str]],
        missing: Sequence[tuple[str, str, str]],
        on: Sequence[exp.Expr],
        tree: exp.Select,
    ) -> list[Product]:
        """The rows of `products` that no row of `others` matches, with nulls for its columns."""
        nulls = {(a, n): as_type(exp.null(), t) for a, n, t in missing}
        here, there = {a for a, _, _ in own}, {a for a, _, _ in missing}
        local, outer, pairs = [], [], []
        for condition in on:
            used = tables_of(condition)
            pair = _pair(condition, here, there)
            if used <= there:
                local.append(condition)
            elif used <= here:
                outer.append(condition)
            elif pair is not None:
                pairs.append(pair)
            else:
                raise NotLinear("an outer join on a condition that is no equality")
        keys = self._keys(others, local, [inner for _, inner in pairs], tree)
        rows = []
        for product in products:
            rows.append(replace(product, names={**product.names, **nulls}, is_one_select=False))
            for key in keys:
                both = product.times(key.product)
                equal = [
                    exp.EQ(this=enclosed(product.resolve(o)), expression=enclosed(k.copy()))
                    for (o, _), k in zip(pairs, key.outputs, strict=True)
                ]
                conditions = [*equal, *(product.resolve(c) for c in outer)]
                taken = both.where(*conditions)
                if not is_impossible(taken):
                    rows.append(
                        replace(
                            taken,
                            sign=-product.sign * key.product.sign,
                            names={**product.names, **nulls},
                        )
                    )
        return rows

    def _keys(
        self,
        products: Sequence[Product],
        local: Sequence[exp.Expr],
        keys: Sequence[exp.Expr],
        tree: exp.Select,
    ) -> list[Arm]:
        """The distinct values of `keys` over the products where `local` holds, each once.

        Without keys: one row where there is any.
        """
        filtered = [p.where(*(p.resolve(c) for c in local)) for p in products]
        if len(filtered) == 1 and filtered[0].sign > 0:
            product = filtered[0]
            resolved = [product.resolve(k) for k in keys]
            if keys and uniqueness.is_determined(product, resolved):
                renamed, outputs = self._renamed(product, resolved)
                return [Arm(renamed, tuple(outputs))]
        query = tree.copy()
        for condition in local:
            query.where(condition.copy(), copy=False)
        node = self._group(
            query,
            [Input(p, tuple(p.resolve(k) for k in keys), {COUNT: ONE}) for p in filtered],
            keys,
            {COUNT: template("count(*)")},
            "rows by the values that others are joined on",
        )
        alias = self._alias()
        product = Product(leaves=(Leaf(alias, node),))
        if not keys:
            product = product.where(template(":n > 0", n=exp.column(COUNT, alias)))
        return [Arm(product, tuple(exp.column(k, alias) for k in node.key))]

    def _renamed(
        self, product: Product, outputs: Sequence[exp.Expr]
    ) -> tuple[Product, list[exp.Expr]]:
        """The product with aliases of its own, so that it can be joined beside itself."""
        renamed = {a: self._alias() for a in product.aliases()}

        def rename(expression: exp.Expr) -> exp.Expr:
            def replaced(node: exp.Expr) -> exp.Expr:
                if isinstance(node, exp.Column) and node.table in renamed:
                    node.set("table", exp.to_identifier(renamed[node.table]))
                return node

            return expression.copy().transform(replaced, copy=False)

        def item(expansion: Expansion) -> Expansion:
            copy = rename(expansion.item)
            copy.args["alias"].set("this", exp.to_identifier(renamed[expansion.alias]))
            return Expansion(renamed[expansion.alias], copy, expansion.outer)

        made = Product(
            product.sign,
            tuple(Leaf(renamed[leaf.alias], leaf.relation) for leaf in product.leaves),
            tuple(item(e) for e in product.expansions),
            tuple(rename(c) for c in product.conditions),
            {k: rename(v) for k, v in product.names.items()},
            product.is_one_select,
        )
        return made, [rename(o) for o in outputs]

    # ---- WHERE

    def _where(self, query: exp.Select, products: list[Product]) -> list[Product]:
        where = query.args.get("where")
        for condition in conjuncts(where.this if where else None):
            for each in factored(condition):
                products = self._filtered(products, each)
                self._check_number(products)
        return products

    def _filtered(self, products: Sequence[Product], condition: exp.Expr) -> list[Product]:
        """The rows of the products for which the condition is true."""
        found: list[Product] = []
        for product in products:
            found += self._filtered_one(product, product.resolve(condition))
        return [p for p in found if not is_impossible(p)]

    def _filtered_one(self, product: Product, condition: exp.Expr) -> list[Product]:
        condition = stripped(condition)
        if first_subquery(condition) is None:
            return [product.where(condition)]
        negated, inner = False, condition
        while isinstance(inner, exp.Not | exp.Paren):
            negated ^= isinstance(inner, exp.Not)
            inner = inner.this
        if isinstance(inner, exp.In) and inner.args.get("query") is not None and negated:
            spelled = exp.and_(
                *(exp.Not(this=c) for c in self._matches(product, inner)), copy=False
            )
            rows = [product]
            for each in conjuncts(spelled):
                rows = [r for p in rows for r in self._filtered_one(p, each)]
            return rows
        if isinstance(inner, exp.In) and inner.args.get("query") is not None:
            inner = self._matches(product, inner, positive=True)[0]
        if isinstance(inner, exp.Exists):
            spelled_out = self._theta(inner)
            if spelled_out is not None:
                if negated:
                    spelled_out = exp.Not(this=exp.Paren(this=spelled_out))
                rows = [product]
                for each in conjuncts(spelled_out):
                    rows = [r for p in rows for r in self._filtered_one(p, each)]
                return rows
            keyed = self._keyed(selected(inner.this), value=False)
            joined = self._joined(product, keyed)
            return [product, *map(_negative, joined)] if negated else joined
        return [
            p.where(e[0])
            for p, e in self._split(product, [condition])
            if not is_impossible(p.where(e[0]))
        ]

    def _split(
        self, product: Product, expressions: Sequence[exp.Expr]
    ) -> list[tuple[Product, list[exp.Expr]]]:
        """The product by what the subqueries in the expressions are, with their values put in."""
        for expression in expressions:
            found = first_subquery(expression)
            if found is not None:
                break
        else:
            return [(product, list(expressions))]
        cases: list[tuple[Product, exp.Expr]]
        if isinstance(found, exp.In):
            same, empty, null = [*self._matches(product, found), None, None][:3]
            text = "CASE WHEN :same THEN TRUE"
            values: dict[str, exp.Expr] = {"same": same}
            if null is not None:
                text += " WHEN :empty THEN NULL WHEN :null THEN NULL"
                values |= {"empty": empty, "null": null}
            spelled = template(f"{text} ELSE FALSE END", **values)
            return self._split(product, _with(expressions, found, exp.Paren(this=spelled)))
        if isinstance(found, exp.Exists):
            spelled_out = self._theta(found)
            if spelled_out is not None:
                return self._split(product, _with(expressions, found, exp.Paren(this=spelled_out)))
            joined = self._joined(product, self._keyed(selected(found.this), value=False))
            cases = [(p, exp.true()) for p in joined]
            cases += [(p, exp.false()) for p in (product, *map(_negative, joined))]
        elif isinstance(found, exp.Subquery):
            keyed = self._keyed(selected(found), value=True)
            assert keyed.value is not None
            pairs = self._joined_with(product, keyed)
            cases = [(p, enclosed(outputs[keyed.value])) for p, outputs in pairs]
            if keyed.empty is not None:
                without = (product, *(_negative(p) for p, _ in pairs))
                cases += [(p, keyed.empty) for p in without]
        else:
            raise NotLinear("a comparison with ANY or ALL rows of a subquery")
        rows: list[tuple[Product, list[exp.Expr]]] = []
        for case, value in cases:
            rows += self._split(case, _with(expressions, found, value))
            self._check_number([p for p, _ in rows])
        return rows

    # ---- subqueries

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

    def _outer_aliases(self, query: exp.Expr) -> set[str]:
        """Aliases that a query refers to and does not define."""
        return {c.table for c in query.find_all(exp.Column)} - _defined(query)

    def _keyed(self, query: exp.Expr, *, value: bool) -> Keyed:  # noqa: C901
        """A subquery by what it shares with the outer row. Raises NotLinear."""
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
        output = query.selects[0].unalias().copy()
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
        defined = _defined(query)
        joins = query.args.get("joins") or []
        conditions = conjuncts(query.args["where"].this if query.args.get("where") else None)
        if not any(j.side for j in joins):
            for join in joins:
                on = join.args.get("on")
                if on is not None and not tables_of(on) <= defined:
                    conditions += conjuncts(on)
                    join.set("on", exp.true())
        kept, outer, pairs = [], [], []
        for condition in conditions:
            used = tables_of(condition)
            if used <= defined:
                kept.append(condition.copy())
                continue
            pair = _pair(condition, used - defined, defined)
            if pair is not None and first_subquery(condition) is None:
                pairs.append((pair[0].copy(), pair[1].copy()))
            elif not used & defined and first_subquery(condition) is None:
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
        defined = _defined(query)
        where = query.args.get("where")
        odd = []
        for condition in conjuncts(where.this if where else None):
            used = tables_of(condition)
            if used <= defined or not used & defined:
                continue
            if _pair(condition, used - defined, defined) is None:
                odd.append(condition)
        if len(odd) != 1 or first_subquery(odd[0]) is not None:
            return None
        condition = odd[0]
        if not isinstance(condition, exp.NEQ | exp.LT | exp.LTE | exp.GT | exp.GTE):
            return None
        left, right = condition.this, condition.expression
        operator = type(condition)
        if tables_of(left) <= defined and not tables_of(right) & defined:
            inner, outer = left, right
        elif tables_of(right) <= defined and not tables_of(left) & defined:
            inner, outer = right, left
            operator = {exp.LT: exp.GT, exp.LTE: exp.GTE, exp.GT: exp.LT, exp.GTE: exp.LTE}.get(
                operator, operator
            )
        else:
            return None
        others = query.copy()
        rest = [c for c in conjuncts(where.this) if c is not condition]

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
        extreme = "max" if operator in (exp.GT, exp.GTE) else "min"
        found = scalar(template(f"{extreme}(:x)", x=inner))
        compared = operator(this=found, expression=enclosed(outer.copy()))
        return template("coalesce(:c, FALSE)", c=compared)

    # ---- GROUP BY

    def _aggregated(self, query: exp.Select, products: Sequence[Product]) -> Bag:
        if self._outer_aliases(query):
            raise NotLinear("groups that depend on the outer row")
        group = query.args.get("group")
        if group is not None and any(
            group.args.get(c) for c in ("grouping_sets", "cube", "rollup", "all", "totals")
        ):
            raise NotLinear("GROUPING SETS, ROLLUP and CUBE are not followed")
        keys = [stripped(e) for e in (group.expressions if group else [])]
        if any(isinstance(k, exp.Cube | exp.Rollup | exp.GroupingSets) for k in keys):
            raise NotLinear("GROUPING SETS, ROLLUP and CUBE are not followed")
        # A constant is no expression of a row, and groups by nothing.
        having = query.args.get("having")
        outputs = [o.unalias() for o in query.selects]
        conditions = conjuncts(having.this if having else None)
        calls = aggregates.calls_in([*outputs, *conditions], self.is_aggregate)
        known = {key_of(k) for k in keys}
        for column in self._dependents([*outputs, *conditions], known, _own(query)):
            keys.append(column)
            known.add(key_of(column))
        tree = query.copy()
        for clause in ("group", "having", "order", "distinct"):
            tree.set(clause, None)
        types = self._types(tree, [a for c in calls for a in aggregates.arguments_of(c)])
        made = aggregates.decompose(calls, lambda call: types[key_of(call)])
        node = self._aggregate_node(tree, products, keys, made, bool(group))
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
            used = {k: c for k, c in used.items() if c.table in _defined(tree)}
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

    def _types(self, tree: exp.Select, expressions: Sequence[exp.Expr]) -> dict[str, str]:
        wanted = {key_of(e): e for e in expressions}
        if not wanted:
            return {}
        asked = tree.copy()
        asked.set(
            "expressions", [exp.alias_(e.copy(), f"e{i}") for i, e in enumerate(wanted.values())]
        )
        return dict(zip(wanted, self.describe(asked), strict=True))

    def _group(
        self,
        tree: exp.Select,
        inputs: Sequence[Input],
        keys: Sequence[exp.Expr],
        builds: Mapping[str, exp.Expr],
        reason: str,
        strategy: str = "delta",
    ) -> Node:
        """A node of the rows of `tree` by `keys`, each once."""
        for each in inputs:
            expressions = (*each.product.conditions, *each.key, *each.amounts.values())
            if any(not tables_of(e) <= each.product.aliases() for e in expressions):
                raise NotLinear("a subquery that depends on the outer row by more than equalities")
        names = tuple(f"g{i}" for i in range(len(keys)))
        build = tree.copy()
        build.set("order", None)
        selects = [exp.alias_(k.copy(), n) for k, n in zip(keys, names, strict=True)]
        selects += [exp.alias_(b.copy(), n) for n, b in builds.items()]
        build.set("expressions", selects)
        if keys:
            build.set("group", exp.Group(expressions=[k.copy() for k in keys]))
        node = self._node(build, inputs, names, reason, strategy)
        if strategy == "group":
            node.restricted = self._reading_nodes(node, build)
        return node

    def _node(
        self,
        build: exp.Query,
        inputs: Sequence[Input],
        key: tuple[str, ...],
        reason: str,
        strategy: str,
    ) -> Node:
        text = sql_of(build)
        for known in self.nodes:
            if known.build is not None and sql_of(known.build) == text and known.key == key:
                return known
        types = self.describe(build)
        certain = {
            name
            for place, name in enumerate(key)
            if all(
                place < len(i.key) and uniqueness.is_not_null(i.product, i.key[place])
                for i in inputs
            )
        }
        # Of counts and sums none is null; of what is computed anew nothing is known.
        columns = tuple(
            Column(
                s.alias_or_name,
                t,
                s.alias_or_name not in certain
                if s.alias_or_name in key
                else strategy != "delta" and s.alias_or_name != COUNT,
            )
            for s, t in zip(build.selects, types, strict=True)
        )
        name = f"n{len(self.nodes) + 1}"
        node = Node(
            name=name,
            state=self.state_of(name),
            strategy=strategy,  # type: ignore[arg-type]
            reason=reason,
            key=key,
            columns=columns,
            inputs=tuple(inputs),
            build=build,
            is_global=not key,
            row_key=key,
        )
        self.nodes.append(node)
        return node

    # ---- DISTINCT, set operations, windows, LIMIT

    def _distinct(self, query: exp.Select, bag: Bag) -> Bag:
        inner = query.copy()
        inner.set("distinct", None)
        inner.set("order", None)
        single = bag.single
        if single is not None and uniqueness.is_determined(single.product, single.outputs):
            return bag
        return self._each_once(inner, bag)

    def _each_once(self, query: exp.Query, bag: Bag) -> Bag:
        alias, own = WRAPPED, self._alias()
        tree = exp.select("*").from_(exp.alias_(exp.Subquery(this=query.copy()), alias, table=True))
        node = self._group(
            tree,
            [Input(a.product, a.outputs, {COUNT: ONE}) for a in bag.arms],
            [exp.column(n, alias, quoted=True) for n in bag.names],
            {COUNT: template("count(*)")},
            "each row once",
        )
        product = Product(leaves=(Leaf(own, node),))
        return Bag(bag.names, (Arm(product, tuple(exp.column(k, own) for k in node.key)),))

    def _set_operation(self, query: exp.SetOperation) -> Bag:
        left, right = self.query(query.this), self.query(query.expression)
        types = self.describe(query)
        sides = []
        for bag, side in ((left, query.this), (right, query.expression)):
            own = self.describe(side)
            sides.append(
                [
                    Arm(
                        a.product,
                        tuple(
                            o if t == w else as_type(o, w)
                            for o, t, w in zip(a.outputs, own, types, strict=True)
                        ),
                    )
                    for a in bag.arms
                ]
            )
        names = tuple(o.alias_or_name for o in query.selects)
        everything = bool(query.args.get("distinct")) is False
        plain = query.copy()
        plain.set("order", None)
        plain.set("distinct", False)
        if isinstance(query, exp.Union):
            both = Bag(names, (*sides[0], *sides[1]), is_one=False)
            return both if everything else self._each_once(plain, both)
        return self._by_both_sides(query, names, sides, everything)

    def _by_both_sides(
        self,
        query: exp.SetOperation,
        names: tuple[str, ...],
        sides: Sequence[Sequence[Arm]],
        everything: bool,
    ) -> Bag:
        """INTERSECT and EXCEPT, from how often a row is on either side."""
        alias, own = self._alias(), self._alias()
        zero = exp.Literal.number(0)
        marked = []
        for side, text in ((query.this, "1"), (query.expression, "0")):
            inner = self._alias()
            columns = [exp.column(o.alias_or_name, inner, quoted=True) for o in side.selects]
            listed = [exp.alias_(c, n, quoted=True) for c, n in zip(columns, names, strict=True)]
            marked.append(
                exp.select(*listed, exp.alias_(exp.Literal.number(int(text)), "tally_left")).from_(
                    exp.alias_(exp.Subquery(this=side.copy()), inner, table=True)
                )
            )
        union = exp.Union(this=marked[0], expression=marked[1], distinct=False)
        tree = exp.select("*").from_(exp.alias_(exp.Subquery(this=union), alias, table=True))
        mark = exp.column("tally_left", alias)
        inputs = [
            Input(a.product, a.outputs, {COUNT: ONE, "l": ONE if place == 0 else zero})
            for place, side in enumerate(sides)
            for a in side
        ]
        node = self._group(
            tree,
            inputs,
            [exp.column(n, alias, quoted=True) for n in names],
            {COUNT: template("count(*)"), "l": template("sum(:m)", m=mark)},
            "how often a row is on either side",
        )
        counts = {"l": exp.column("l", own), "n": exp.column(COUNT, own)}
        product = Product(leaves=(Leaf(own, node),))
        is_both = isinstance(query, exp.Intersect)
        if everything:
            often = "least(:l, :n - :l)" if is_both else "2 * :l - :n"
            series = template(f"generate_series(1, {often})", **counts)
            item = exp.Lateral(
                this=series, alias=exp.TableAlias(this=exp.to_identifier(self._alias()))
            )
            product = replace(product, expansions=(Expansion(item.alias_or_name, item),))
        else:
            text = ":l > 0 AND :n > :l" if is_both else ":n = :l"
            product = product.where(*conjuncts(template(text, **counts)))
        return Bag(names, (Arm(product, tuple(exp.column(k, own) for k in node.key)),))

    def _nested(self, query: exp.Select, beyond: Sequence[exp.Expr]) -> exp.Select:
        """A grouped SELECT in two: the groups in FROM, and over them what is beyond grouping."""
        group = query.args.get("group")
        keys = [stripped(e) for e in (group.expressions if group else [])]
        outputs = [o.unalias() for o in query.selects]
        expressions = [*outputs, *beyond]
        calls = aggregates.calls_in(expressions, self.is_aggregate)
        known = {key_of(k) for k in keys}
        keys += self._dependents(expressions, known, _own(query))
        alias = self._alias()
        inner = query.copy()
        for clause in ("order", "limit", "offset", "distinct"):
            inner.set(clause, None)
        listed = [*keys, *calls]
        inner.set("expressions", [exp.alias_(e.copy(), f"c{i}") for i, e in enumerate(listed)])
        columns = {key_of(e): exp.column(f"c{i}", alias) for i, e in enumerate(listed)}
        outer = exp.select(
            *(
                exp.alias_(self._over(o, columns, columns), s.alias_or_name, quoted=True)
                for o, s in zip(outputs, query.selects, strict=True)
            )
        ).from_(exp.alias_(exp.Subquery(this=inner), alias, table=True))
        for clause in ("order", "limit", "offset", "distinct"):
            value = query.args.get(clause)
            if value is not None:
                outer.set(clause, self._over(value, columns, columns))
        return outer

    def _windowed(self, query: exp.Select) -> Bag:
        if self.is_grouped(query):
            return self._windowed(self._nested(query, []))
        windows = [n for o in query.selects for n in own_nodes(o) if isinstance(n, exp.Window)]
        shared: dict[str, exp.Expr] = {}
        for place, window in enumerate(windows):
            parts = {key_of(p): stripped(p) for p in window.args.get("partition_by") or []}
            shared = parts if place == 0 else {k: p for k, p in shared.items() if k in parts}
        if not shared:
            raise NotLinear("a window over all rows")
        return self._by_group(query, list(shared.values()), "a window within a partition")

    def _distinct_on(self, query: exp.Select) -> Bag:
        if self.is_grouped(query):
            raise NotLinear("DISTINCT ON over groups")
        on = query.args["distinct"].args["on"]
        keys = on.expressions if isinstance(on, exp.Tuple) else [stripped(on)]
        return self._by_group(query, [stripped(k) for k in keys], "DISTINCT ON within a group")

    def _by_group(self, query: exp.Select, keys: Sequence[exp.Expr], reason: str) -> Bag:
        """A SELECT that is computed anew for each group of rows that changed."""
        products = self._where(query, self._tables(query))
        outputs = [o.unalias() for o in query.selects]
        if any(first_subquery(o) is not None for o in outputs):
            raise NotLinear("a subquery beside a window")
        order = query.args.get("order")
        read = [*outputs, *([order] if order else [])]
        used = {key_of(c): c for o in read for c in o.find_all(exp.Column)}
        inputs = [
            Input(
                p,
                tuple(p.resolve(k) for k in keys),
                {COUNT: ONE} | {f"u{i}": p.resolve(c) for i, c in enumerate(used.values())},
            )
            for p in products
        ]
        names = tuple(f"g{i}" for i in range(len(keys)))
        build = query.copy()
        selects = [exp.alias_(k.copy(), n) for k, n in zip(keys, names, strict=True)]
        selects += [exp.alias_(o.copy(), f"c{i}") for i, o in enumerate(outputs)]
        build.set("expressions", selects)
        node = self._node(build, inputs, names, reason, "group")
        node.restricted = self._reading_nodes(node, build)
        node.is_global = False
        distinct_on = query.args.get("distinct") is not None
        node.unique = distinct_on
        places = self._unique_places(products, outputs)
        if distinct_on:
            node.row_key = names
        elif places is not None:
            node.row_key = (*names, *(f"c{i}" for i in places))
        else:
            node.row_key = ()
        alias = self._alias()
        product = Product(leaves=(Leaf(alias, node),))
        listed = tuple(exp.column(f"c{i}", alias) for i in range(len(outputs)))
        return Bag(tuple(o.alias_or_name for o in query.selects), (Arm(product, listed),))

    def _unique_places(
        self, products: Sequence[Product], outputs: Sequence[exp.Expr]
    ) -> list[int] | None:
        arms = [Arm(p, tuple(p.resolve(o) for o in outputs)) for p in products]
        return uniqueness.key_places(arms)

    def _limited(self, query: exp.Select) -> Bag:
        if self.is_grouped(query):
            beyond = [query.args["order"]] if query.args.get("order") else []
            query = self._nested(query, beyond)
        if self._outer_aliases(query):
            raise NotLinear("LIMIT in a subquery that depends on the outer row")
        return self.whole(query, "LIMIT of all rows")

    def whole(self, query: exp.Query, reason: str) -> Bag:
        """A query that is run anew whenever something that it reads changed."""
        self.reasons.append(reason)
        alias = self._alias()
        inner = query.copy()
        names = [o.alias_or_name for o in inner.selects]
        listed = [
            exp.alias_(exp.column(n, alias, quoted=True), f"c{i}") for i, n in enumerate(names)
        ]
        build = exp.select(*listed).from_(exp.alias_(exp.Subquery(this=inner), alias, table=True))
        node = self._node(build, [], (), reason, "whole")
        node.unique = False
        node.is_global = False
        node.restricted = build
        if isinstance(query, exp.Select) and (query.args.get("limit") or query.args.get("offset")):
            inside = self._reading_nodes(node, inner)
            node.restricted = exp.select(*(s.copy() for s in listed)).from_(
                exp.alias_(exp.Subquery(this=inside), alias, table=True)
            )
        own = self._alias()
        product = Product(leaves=(Leaf(own, node),))
        return Bag(
            tuple(names),
            (Arm(product, tuple(exp.column(f"c{i}", own) for i in range(len(names)))),),
        )

    def _reading_nodes(self, node: Node, query: exp.Query) -> exp.Query:
        """The query with derived tables replaced by the states of the nodes that they became."""
        changed = query.copy()
        if not isinstance(changed, exp.Select) or changed.args.get("from_") is None:
            return changed
        items = [changed.args["from_"], *(changed.args.get("joins") or [])]
        reads: dict[str, Node] = {}
        for holder in items:
            item = holder.this
            if not isinstance(item, exp.Subquery):
                continue
            bag = self._again(item)
            if bag is None or not any(
                isinstance(leaf.relation, Node) for a in bag.arms for leaf in a.product.leaves
            ):
                continue
            arm = bag.single
            if arm is None or len(arm.product.leaves) != 1 or arm.product.expansions:
                arm = self._rows_arm(item, bag)
            leaf = arm.product.leaves[0]
            assert isinstance(leaf.relation, Node)
            placeholder = exp.Table(
                this=exp.to_identifier(f"tally_new_{leaf.relation.name}"),
                alias=exp.TableAlias(this=exp.to_identifier(leaf.alias)),
            )
            names = [n.name for n in item.args["alias"].args.get("columns") or []]
            names += list(bag.names[len(names) :])
            read = exp.select(
                *(
                    exp.alias_(o.copy(), n, quoted=True)
                    for o, n in zip(arm.outputs, names, strict=True)
                )
            ).from_(placeholder)
            for condition in arm.product.conditions:
                read.where(condition.copy(), copy=False)
            for expansion in arm.product.expansions:
                read.append("joins", exp.Join(this=expansion.item.copy(), kind="CROSS"))
            holder.set("this", exp.alias_(exp.Subquery(this=read), item.alias_or_name, table=True))
            reads[f"tally_new_{leaf.relation.name}"] = leaf.relation
        node.reads = reads
        return changed

    def _again(self, item: exp.Subquery) -> Bag | None:
        """The bag of a derived table, whose nodes are there already."""
        return self.query(item)

    def _rows_arm(self, item: exp.Subquery, bag: Bag) -> Arm:
        """All rows of a bag as the state of one node."""
        once = self._each_once(selected(item), bag)
        arm = once.arms[0]
        leaf = arm.product.leaves[0]
        series = template("generate_series(1, :n)", n=exp.column(COUNT, leaf.alias))
        lateral = exp.Lateral(
            this=series, alias=exp.TableAlias(this=exp.to_identifier(self._alias()))
        )
        product = replace(arm.product, expansions=(Expansion(lateral.alias_or_name, lateral),))
        return Arm(product, arm.outputs)

    def _alias(self) -> str:
        self._aliases += 1
        return f"t{self._aliases}_"


def _times_lateral(left: Product, right: Product) -> Product:
    """A product with one that reads its columns."""
    own = replace(
        right,
        conditions=tuple(left.resolve(c) for c in right.conditions),
        names={k: left.resolve(v) for k, v in right.names.items()},
    )
    return left.times(own)


def _negative(product: Product) -> Product:
    return replace(product, sign=-product.sign)


def _with(expressions: Sequence[exp.Expr], found: exp.Expr, value: exp.Expr) -> list[exp.Expr]:
    """The expressions with a subquery replaced by a value, wherever it is."""
    text = sql_of(found)

    def replaced(node: exp.Expr) -> exp.Expr:
        if type(node) is type(found) and sql_of(node) == text:
            return value.copy()
        return node

    return [e.copy().transform(replaced, copy=False) for e in expressions]


def _instead(amount: exp.Expr, of: exp.Expr, value: exp.Expr) -> exp.Expr:
    text = key_of(of)

    def replaced(node: exp.Expr) -> exp.Expr:
        return value.copy() if key_of(node) == text else node

    return amount.copy().transform(replaced, copy=False)


def _defined(query: exp.Expr) -> set[str]:
    """The aliases that FROM defines anywhere in a query."""
    return {
        item.alias_or_name
        for item in query.find_all(exp.Table, exp.Subquery, exp.Lateral, exp.Unnest, exp.Values)
        if item.alias_or_name
    }


def _own(query: exp.Select) -> set[str]:
    """The aliases of the items of FROM themselves."""
    from_ = query.args.get("from_")
    items = [from_.this] if from_ is not None else []
    items += [j.this for j in query.args.get("joins") or []]
    return {item.alias_or_name for item in items}


def _pair(condition: exp.Expr, here: set[str], there: set[str]) -> tuple[exp.Expr, exp.Expr] | None:
    """The sides of an equality, that of `here` first."""
    condition = stripped(condition)
    if not isinstance(condition, exp.EQ):
        return None
    left, right = condition.this, condition.expression
    for one, other in ((left, right), (right, left)):
        if (
            tables_of(one)
            and tables_of(one) <= here
            and tables_of(other)
            and tables_of(other) <= there
        ):
            return one, other
    return None


def is_impossible(product: Product) -> bool:
    """Whether a condition is a comparison with null, or plainly false."""
    return any(_never(c) for c in product.conditions)


def _never(condition: exp.Expr) -> bool:
    condition = stripped(condition)
    if isinstance(condition, exp.Boolean):
        return not condition.this
    if isinstance(condition, exp.Null):
        return True
    if isinstance(condition, exp.And):
        return _never(condition.this) or _never(condition.expression)
    compared = (exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE)
    if isinstance(condition, compared):
        return any(_is_null(s) for s in (condition.this, condition.expression))
    return False


def _is_null(expression: exp.Expr) -> bool:
    expression = stripped(expression)
    while isinstance(expression, exp.Cast):
        expression = stripped(expression.this)
    return isinstance(expression, exp.Null)
