"""From the tree of a SELECT to bags and nodes (`relations.py`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from sqlglot import exp

from tallykeeper.select.algebra import aggregates, uniqueness
from tallykeeper.select.algebra.expressions import (
    as_type,
    conjuncts,
    first_subquery,
    key_of,
    own_aliases,
    own_nodes,
    selected,
    sql_of,
    stripped,
    template,
)
from tallykeeper.select.algebra.nodes import MOST_PRODUCTS, NOTHING, ONE, WITHIN, WRAPPED
from tallykeeper.select.algebra.relations import (
    COUNT,
    Arm,
    Bag,
    Expansion,
    Input,
    Leaf,
    Node,
    NotLinear,
    Product,
    require_followed,
)
from tallykeeper.select.algebra.rows import Rows, row_keys
from tallykeeper.select.syntax import grouping_sets


class Translation(Rows):
    """From the tree of a SELECT to bags and nodes (`relations.py`)."""

    def query(self, query: exp.Expr) -> Bag:
        """The rows of a query; a part that cannot be followed becomes a node of its own."""
        asked = selected(query)
        before = len(self.nodes)
        try:
            bag = self._linear(asked)
            for arm in bag.arms:
                require_followed([*arm.outputs, *arm.product.expressions()])
            return bag
        except NotLinear as error:
            del self.nodes[before:]
            if self._outer_aliases(asked):
                raise
            return self.whole(asked, str(error))

    def _linear(self, query: exp.Query) -> Bag:
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
        """A SELECT without windows: as sums of products, or else row by row."""
        if grouping_sets.has_sets(query):
            return self._by_sets(query)
        before = len(self.nodes)
        try:
            own = None if self.is_grouped(query) else self._by_own_groups(query)
            return own or self._as_products(query)
        except NotLinear as error:
            if self._outer_aliases(query):
                raise
            del self.nodes[before:]
            rows = self._over_rows if self.is_grouped(query) else self._by_row
            return rows(query, str(error))

    def _by_sets(self, query: exp.Select) -> Bag:
        """GROUPING SETS, ROLLUP, CUBE: the rows of each set of keys."""
        sets = grouping_sets.sets_of(query)
        if len(sets) > MOST_PRODUCTS:
            raise NotLinear("so many grouping sets that statements would be too long")
        having = query.args.get("having")
        read = [*query.selects, *([having] if having is not None else [])]
        if any(first_subquery(e) is not None for e in read):
            raise NotLinear("a subquery beside grouping sets")
        tree = query.copy()
        for clause in ("group", "having", "order", "distinct"):
            tree.set(clause, None)
        types = self._types(tree, [key for keys in sets for key in keys])

        def null_of(key: exp.Expr) -> exp.Expr | None:
            type_ = types.get(key_of(key))
            return None if type_ is None else as_type(exp.null(), type_)

        branches = [
            grouping_sets.of_one_set(
                query, keys, null_of, lambda n: aggregates.is_call(n, self.is_aggregate)
            )
            for keys in sets
        ]
        arms = [a for b in branches for a in self._typed_arms(self._plain(b), b, query)]
        return Bag(tuple(o.alias_or_name for o in query.selects), tuple(arms), len(sets) == 1)

    def _typed_arms(self, bag: Bag, side: exp.Expr, whole: exp.Query) -> list[Arm]:
        """The rows of one side of a query, with the types of the whole."""
        pairs = list(zip(self.describe(selected(side)), self.describe(whole), strict=True))
        return [
            Arm(
                a.product,
                tuple(
                    o if t == w else as_type(o, w)
                    for o, (t, w) in zip(a.outputs, pairs, strict=True)
                ),
            )
            for a in bag.arms
        ]

    def _as_products(self, query: exp.Select) -> Bag:
        products = self._where(query, self._tables(query))
        if self.is_grouped(query):
            return self._aggregated(query, products)
        names = tuple(o.alias_or_name for o in query.selects)
        arms = []
        for product in products:
            outputs = [product.resolve(o.unalias()) for o in query.selects]
            arms += [Arm(p, tuple(e)) for p, e in self._split(product, outputs)]
        return Bag(names, tuple(arms))

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
        sides = [
            self._typed_arms(bag, side, query)
            for bag, side in ((left, query.this), (right, query.expression))
        ]
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
        keys = self.group_keys(query)
        outputs = [o.unalias() for o in query.selects]
        expressions = [*outputs, *beyond]
        calls = aggregates.calls_in(expressions, self.is_aggregate)
        known = {key_of(k) for k in keys}
        keys += self._dependents(expressions, known, own_aliases(query))
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
            node.row_keys = row_keys(names, keys, outputs)
        elif places is not None:
            node.row_keys = (tuple(f"c{i}" for i in places),)
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

    def _reading_nodes(
        self,
        node: Node,
        query: exp.Query,
        within: Mapping[str, Mapping[str, str]] = NOTHING,
    ) -> exp.Query:
        """The query with derived tables replaced by the states of the nodes that they became.

        Those of the aliases in `within` are read from the sources, for values of the node's key in
        the columns that are given.
        """
        changed = query.copy()
        if not isinstance(changed, exp.Select) or changed.args.get("from_") is None:
            return changed
        items = [changed.args["from_"], *(changed.args.get("joins") or [])]
        reads: dict[str, Node] = {}
        for holder in items:
            item = holder.this
            if not isinstance(item, exp.Subquery):
                continue
            if item.alias_or_name in within:
                for column, key in within[item.alias_or_name].items():
                    mark = f"{WITHIN}{len(node.within)}"
                    own = exp.column(column, item.alias_or_name, quoted=True)
                    node.within[mark] = (sql_of(own), key)
                    holder.set("on", exp.and_(holder.args.get("on"), exp.column(mark)))
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
