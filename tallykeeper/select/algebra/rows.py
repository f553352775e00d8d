"""Rows that are computed anew, each with all that the SELECT looks up for it.

A row of FROM stands for a *key* of it, a unique key of its tables that are not outer joined. What
outer joins and subqueries look up for a row changes only with rows that are equal to it in what
they are looked up by; so a change of those leads to the keys that are concerned. That follows what
sums of products do not, or only with so many products that their statements would be too long.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from sqlglot import exp

from tallykeeper.select.algebra import uniqueness
from tallykeeper.select.algebra.expressions import (
    conjuncts,
    defined,
    equal_sides,
    key_of,
    own_aliases,
    own_nodes,
    selected,
    stripped,
    substituted,
    tables_of,
)
from tallykeeper.select.algebra.groups import Groups
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
    is_impossible,
)
from tallykeeper.select.dialect import is_equality

# The alias of the rows that are grouped.
ROWS = "tally_rows"


@dataclass
class Lookup:
    """An outer joined item: what it is, and the conditions by which its rows are found."""

    products: list[Product]
    conditions: list[exp.Expr] = field(default_factory=list)


class Rows(Groups):
    """Rows by a key of FROM, and groups over them."""

    def _over_rows(self, query: exp.Select, reason: str) -> Bag:
        """A grouped SELECT over rows that are computed anew."""
        having = query.args.get("having")
        group = query.args.get("group")
        above = [o.unalias() for o in query.selects]
        above += [having.this] if having else []
        above += list(group.expressions) if group else []
        if any(isinstance(n, exp.Query) for e in above for n in e.walk()):
            raise NotLinear(reason)
        own = own_aliases(query)
        used = {key_of(c): c for e in above for c in e.find_all(exp.Column) if c.table in own}
        names = {text: f"c{place}" for place, text in enumerate(used)}
        inner = query.copy()
        for clause in ("group", "having", "order", "distinct"):
            inner.set(clause, None)
        inner.set("expressions", [exp.alias_(c.copy(), names[t]) for t, c in used.items()])
        outer = query.copy()
        for clause in ("where", "joins"):
            outer.set(clause, None)

        def replaced(node: exp.Expr) -> exp.Expr:
            if isinstance(node, exp.Column) and key_of(node) in names:
                return exp.column(names[key_of(node)], ROWS)
            return node

        wrapped = exp.alias_(exp.Subquery(this=inner), ROWS, table=True)
        outer.set("from_", None)
        above_rows = outer.transform(replaced, copy=False)
        assert isinstance(above_rows, exp.Select)
        above_rows = above_rows.from_(wrapped)
        bag = self._by_row(inner, reason)
        products = [
            replace(
                arm.product,
                names={(ROWS, n): o for n, o in zip(bag.names, arm.outputs, strict=True)},
            )
            for arm in bag.arms
        ]
        return self._aggregated(above_rows, products)

    def _by_row(self, query: exp.Select, reason: str) -> Bag:
        """The rows of a SELECT without groups. Raises NotLinear where no key leads to them."""
        base, lookups, more = self._base_and_lookups(query, reason)
        return self._by_row_of(query, base, lookups, more, reason)

    def _by_own_groups(self, query: exp.Select) -> Bag | None:
        """Rows that are outer joined with groups by their own keys, as totals of them are.

        Such a group is computed anew for each change, and belongs to one row: so it is computed
        with the row, from the sources, and nothing of it is stored. None where there is none.
        """
        before = len(self.nodes)
        reason = "each with the group that belongs to it"
        try:
            base, lookups, more = self._base_and_lookups(query, reason)
            if lookups and self._own_groups(base, lookups, self._row_key(query, base, reason)):
                return self._by_row_of(query, base, lookups, more, reason)
        except NotLinear:
            pass
        del self.nodes[before:]
        return None

    def _own_groups(
        self, base: Product, lookups: Mapping[str, Lookup], key: Sequence[exp.Expr]
    ) -> dict[str, dict[str, int]]:
        """The outer joined groups that belong to one row each, which are computed anew.

        By alias: the columns that are equal to columns of the row's key, with their places there.
        """
        places = {key_of(column): place for place, column in enumerate(key)}
        visible = base.aliases() | {alias for alias, _ in base.names}
        found = {}
        for name, lookup in lookups.items():
            node = _group_of(lookup)
            if node is None or any(isinstance(leaf.relation, Node) for leaf in base.leaves):
                continue
            (product,) = lookup.products
            same = node.same_as_key()
            equal, covered = {}, set()
            for condition in lookup.conditions:
                sides = equal_sides(condition, visible, {name})
                if sides is None or not isinstance(column := stripped(sides[1]), exp.Column):
                    continue
                own = stripped(product.resolve(column))
                place = places.get(key_of(sides[0]))
                if place is not None and isinstance(own, exp.Column) and own.name in same:
                    equal[column.name] = place
                    covered.add(same[own.name])
            if covered == set(node.key):
                found[name] = equal
        return found

    def _by_row_of(
        self,
        query: exp.Select,
        base: Product,
        lookups: dict[str, Lookup],
        more: Sequence[exp.Expr],
        reason: str,
    ) -> Bag:
        where = query.args.get("where")
        conditions = [*more, *conjuncts(where.this if where else None)]
        plain = [c for c in conditions if not c.find(exp.Query) and self._is_of(base, c)]
        base = base.where(*(base.resolve(c) for c in plain))
        key = self._row_key(query, base, reason)
        found_by = tuple(base.resolve(k) for k in key)
        outputs = [o.unalias() for o in query.selects]
        inputs = [Input(base, found_by, {COUNT: ONE})]
        own = self._own_groups(base, lookups, key)
        for name in lookups:
            reached = self._reached(base, lookups, {name}, reason)
            if name in own:
                reached = [f for p in reached for f in self._of_sources(p)]
            inputs += [Input(p, found_by, {COUNT: ONE}) for p in reached]
        joined = [c for lookup in lookups.values() for c in lookup.conditions]
        for expression in (*outputs, *conditions, *joined):
            for found in own_nodes(expression):
                if isinstance(found, exp.Query):
                    asked = self._asked(base, lookups, found, reason)
                    inputs += [Input(p, found_by, {COUNT: ONE}) for p in asked]
        return self._row_node(query, inputs, key, base, lookups, own, reason)

    def _of_sources(self, product: Product) -> list[Product]:
        """The product with its nodes replaced by the rows that they are grouped from.

        It has the rows of all groups that were in it, by their keys. Conditions on other columns of
        nodes are left out: groups that do not meet them are there as well.
        """
        leaf = next((each for each in product.leaves if isinstance(each.relation, Node)), None)
        if leaf is None:
            return [product]
        assert isinstance(leaf.relation, Node)
        node = leaf.relation
        if node.strategy == "whole" or not node.key or product.expansions:
            raise NotLinear("a group of what is computed as a whole")
        found = []
        for each in node.inputs:
            inner, keys = self._renamed(each.product, each.key)
            by_name = dict(zip(node.key, keys, strict=True))
            names = {(leaf.alias, c): by_name[k] for c, k in node.same_as_key().items()}
            kept = [
                substituted(condition, names)
                for condition in product.conditions
                if all(
                    (c.table, c.name) in names
                    for c in condition.find_all(exp.Column)
                    if c.table == leaf.alias
                )
            ]
            joined = Product(
                leaves=(*(other for other in product.leaves if other is not leaf), *inner.leaves),
                expansions=inner.expansions,
                conditions=(*kept, *inner.conditions),
            )
            if not is_impossible(joined):
                found += self._of_sources(joined)
        self._check_number(found)
        return found

    def _row_node(
        self,
        query: exp.Select,
        inputs: Sequence[Input],
        key: Sequence[exp.Expr],
        base: Product,
        lookups: dict[str, Lookup],
        own: Mapping[str, Mapping[str, int]],
        reason: str,
    ) -> Bag:
        names = tuple(f"g{i}" for i in range(len(key)))
        build = query.copy()
        build.set("order", None)
        outputs = [o.unalias() for o in query.selects]
        selects = [exp.alias_(k.copy(), n) for k, n in zip(key, names, strict=True)]
        selects += [exp.alias_(o.copy(), f"c{i}") for i, o in enumerate(outputs)]
        build.set("expressions", selects)
        for each in inputs:
            if not all(tables_of(c) <= each.product.aliases() for c in each.product.conditions):
                raise NotLinear(reason)
        node = self._node(build, inputs, names, f"each row by its key: {reason}", "group")
        within = {name: {c: names[i] for c, i in columns.items()} for name, columns in own.items()}
        node.restricted = self._reading_nodes(node, build, within)
        node.is_global = False
        node.is_of_rows = True
        is_unique = all(
            uniqueness.is_determined(p, inputs[0].key)
            for name in lookups
            for p in self._reached(base, lookups, {name}, reason)
        )
        node.unique = is_unique
        node.row_keys = row_keys(names, key, outputs) if is_unique else ()
        alias = self._alias()
        listed = tuple(exp.column(f"c{i}", alias) for i in range(len(outputs)))
        product = Product(leaves=(Leaf(alias, node),))
        return Bag(tuple(o.alias_or_name for o in query.selects), (Arm(product, listed),))

    def _base_and_lookups(
        self, query: exp.Select, reason: str
    ) -> tuple[Product, dict[str, Lookup], list[exp.Expr]]:
        """The product of the items that are not outer joined, the others, and conditions."""
        from_ = query.args.get("from_")
        if from_ is None:
            raise NotLinear(reason)
        base = Product()
        lookups: dict[str, Lookup] = {}
        more: list[exp.Expr] = []
        for item, side, on in [
            (from_.this, "", None),
            *((j.this, j.side, j.args.get("on")) for j in query.args.get("joins") or []),
        ]:
            found = self._item(item)
            if not isinstance(found, list) or isinstance(item, exp.Lateral):
                raise NotLinear(reason)
            if side == "LEFT":
                lookups[item.alias_or_name] = Lookup(found, conjuncts(on))
            elif side or len(found) != 1 or found[0].sign < 0:
                raise NotLinear(reason)
            else:
                base = base.times(found[0])
                more += conjuncts(on)
        return base, lookups, more

    def _is_of(self, base: Product, condition: exp.Expr) -> bool:
        return tables_of(base.resolve(condition)) <= base.aliases()

    def _row_key(self, query: exp.Select, base: Product, reason: str) -> list[exp.Expr]:
        """Columns that make a row of the base unique, as the SELECT names them."""
        own = own_aliases(query)
        visible: list[exp.Expr] = [
            exp.column(name, table, quoted=True) for table, name in base.names if table in own
        ]
        for leaf in base.leaves:
            if leaf.alias in own:
                columns = dict.fromkeys(c for key in uniqueness.unique_keys(leaf) for c in key)
                visible += [exp.column(c, leaf.alias, quoted=True) for c in columns]
        arm = Arm(
            replace(base, is_one_select=True), tuple(base.resolve(column) for column in visible)
        )
        places = uniqueness.key_places([arm])
        if not places:
            raise NotLinear(reason)
        return [visible[i] for i in places]

    def _reached(
        self, base: Product, lookups: dict[str, Lookup], wanted: set[str], reason: str
    ) -> list[Product]:
        """The base joined with the lookups in `wanted`, and those that they are found by."""
        needed: dict[str, None] = {}

        def need(name: str) -> None:
            for condition in lookups[name].conditions:
                for other in sorted(tables_of(condition)):
                    if other != name and other in lookups and other not in needed:
                        need(other)
            needed[name] = None

        for name in sorted(wanted):
            if name not in needed:
                need(name)
        rows = [base]
        for name in needed:
            lookup = lookups[name]
            equal = [c for c in lookup.conditions if is_equality(stripped(c))]
            equal = [c for c in equal if not c.find(exp.Query)]
            joined = [r.times(p) for r in rows for p in lookup.products]
            rows = [p.where(*(p.resolve(c) for c in equal)) for p in joined]
            if not any(len(tables_of(c)) > 1 for c in equal):
                raise NotLinear(reason)
            rows = [p for p in rows if not is_impossible(p)]
        return rows

    def _asked(
        self, base: Product, lookups: dict[str, Lookup], found: exp.Query, reason: str
    ) -> list[Product]:
        """The base joined with the rows of a subquery that belong to it."""
        query = selected(found)
        if not isinstance(query, exp.Select):
            raise NotLinear(reason)
        beyond = [*query.selects, query.args.get("having"), query.args.get("order")]
        if any(e is not None and e.find(exp.Query) for e in beyond):
            raise NotLinear(reason)
        kept, pairs, outer = _correlated(query, reason)
        inner = query.copy()
        inner.set("where", None)
        rows = self._tables(inner)
        for condition in kept:
            rows = self._filtered(rows, condition)
        behind = {n for n in outer if n in lookups}
        bases = self._reached(base, lookups, behind, reason) if behind else [base]
        joined = []
        for one in bases:
            for row in rows:
                both = one.times(row)
                both = both.where(*(both.resolve(c) for c in pairs))
                if not is_impossible(both):
                    joined.append(both)
        return joined


def _correlated(query: exp.Select, reason: str) -> tuple[list[exp.Expr], list[exp.Expr], set[str]]:
    """A subquery's own conditions, its equalities with the outer row, and the aliases of that.

    Other conditions on the outer row are left out: more rows may belong to it than do.
    """
    inside = defined(query)
    where = query.args.get("where")
    kept, pairs, outer = [], [], set()
    for condition in conjuncts(where.this if where else None):
        used = tables_of(condition)
        if used <= inside:
            kept.append(condition)
        elif condition.find(exp.Query):
            raise NotLinear(reason)
        elif equal_sides(condition, used - inside, inside) is not None:
            pairs.append(condition)
            outer |= used - inside
    return kept, pairs, outer


def _group_of(lookup: Lookup) -> Node | None:
    """The group that an outer joined item is, where it is one that is computed anew."""
    if len(lookup.products) != 1 or len(lookup.products[0].leaves) != 1:
        return None
    relation = lookup.products[0].leaves[0].relation
    if lookup.products[0].expansions or not isinstance(relation, Node):
        return None
    return relation if relation.strategy == "group" and relation.unique and relation.key else None


def row_keys(
    names: Sequence[str], keys: Sequence[exp.Expr], outputs: Sequence[exp.Expr]
) -> tuple[tuple[str, ...], ...]:
    """The columns of a node that are its key: `names`, and outputs that are the same."""
    places = {key_of(o): f"c{i}" for i, o in enumerate(outputs)}
    same = [places.get(key_of(k)) for k in keys]
    found = tuple(name for name in same if name is not None)
    return (tuple(names), found) if len(found) == len(keys) else (tuple(names),)
