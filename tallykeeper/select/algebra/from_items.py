"""FROM: tables, derived tables, functions, and the joins between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlglot import exp

from tallykeeper.select.algebra import uniqueness
from tallykeeper.select.algebra.expressions import (
    as_type,
    conjuncts,
    enclosed,
    equal_sides,
    factored,
    first_subquery,
    selected,
    sql_of,
    tables_of,
    template,
)
from tallykeeper.select.algebra.laterals import Laterals, resolved
from tallykeeper.select.algebra.nodes import ONE
from tallykeeper.select.algebra.relations import (
    COUNT,
    Arm,
    Expansion,
    Input,
    Leaf,
    NotLinear,
    Product,
    is_impossible,
    reads_tables,
)


class FromItems(Laterals):
    """FROM: tables, derived tables, functions, and the joins between them."""

    def _tables(self, query: exp.Select) -> list[Product]:
        from_ = query.args.get("from_")
        if from_ is None:
            return [Product()]
        item = self._item(from_.this)
        products = item if isinstance(item, list) else [Product(expansions=(item,))]
        seen: list[exp.Expr] = [from_.this]
        tree = exp.select("*").from_(from_.this.copy())
        for each in query.args.get("joins") or []:
            join = self._apart(each)
            products = self._join(products, seen, tree, join)
            seen.append(join.this)
            tree.append("joins", join.copy())
            self._check_number(products)
        return products

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

    def _item_of_rows(self, item: exp.Expr) -> list[Product] | Expansion:
        """The same of an item that may be LATERAL: a subquery without a table is a function."""
        before = len(self.nodes)
        try:
            return self._item(item)
        except NotLinear:
            if not isinstance(item, exp.Lateral) or reads_tables(item):
                raise
            del self.nodes[before:]
            return Expansion(item.alias_or_name, item)

    def _join(
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
        values = self._row_of_values(join)
        if values is not None:
            rows = [replace(p, names={**p.names, **resolved(p, values)}) for p in products]
            return [f for r in rows for f in self._all_filtered([r], on)]
        right = self._item_of_rows(join.this)
        if isinstance(right, Expansion):
            return [self._expanded(p, right, side, on) for p in products]
        if isinstance(join.this, exp.Lateral):
            if side:
                raise NotLinear("LEFT JOIN LATERAL of a subquery")
            joined = [_times_lateral(p, r) for p in products for r in right]
        else:
            joined = [p.times(r) for p in products for r in right]
        matched = self._all_filtered(joined, on)
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

    def _all_filtered(
        self, products: Sequence[Product], conditions: Sequence[exp.Expr]
    ) -> list[Product]:
        rows = list(products)
        for condition in conditions:
            for each in factored(condition):
                rows = self._filtered(rows, each)
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
        local, outer, pairs, is_equal = [], [], [], True
        for condition in on:
            used = tables_of(condition)
            pair = equal_sides(condition, here, there)
            if used <= there:
                local.append(condition)
            elif used <= here:
                outer.append(condition)
            elif pair is not None:
                pairs.append(pair)
            else:
                is_equal = False
        if not is_equal:
            asked = tree.copy()
            asked.set("expressions", [ONE.copy()])
            for condition in on:
                asked.where(condition.copy(), copy=False)
            alone = self._filtered(products, exp.Not(this=exp.Exists(this=asked)))
            return [replace(p, names={**p.names, **nulls}) for p in alone]
        keys = self._keys(others, local, [inner for _, inner in pairs], tree)
        rows = []
        for product in products:
            rows.append(replace(product, names={**product.names, **nulls}))
            for key in keys:
                both = product.times(key.product)
                equal = [
                    exp.EQ(this=enclosed(product.resolve(o)), expression=enclosed(k.copy()))
                    for (o, _), k in zip(pairs, key.outputs, strict=True)
                ]
                conditions = [*equal, *(product.resolve(c) for c in outer)]
                matching = both.where(*conditions)
                if not is_impossible(matching):
                    rows.append(
                        replace(
                            matching,
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


def _times_lateral(left: Product, right: Product) -> Product:
    """A product with one that reads its columns."""
    own = replace(
        right,
        conditions=tuple(left.resolve(c) for c in right.conditions),
        names={k: left.resolve(v) for k, v in right.names.items()},
    )
    return left.times(own)
