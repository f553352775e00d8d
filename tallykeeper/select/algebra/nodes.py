"""Making nodes: what they are grouped by, their types, and the SELECT that builds them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence

from sqlglot import exp

from tallykeeper.select.algebra import aggregates, uniqueness
from tallykeeper.select.algebra.expressions import defined, key_of, sql_of, tables_of
from tallykeeper.select.algebra.relations import (
    COUNT,
    Bag,
    Input,
    Node,
    NotLinear,
    Product,
    require_followed,
)
from tallykeeper.select.plan import Column
from tallykeeper.select.resolve import Source

# A SELECT with more products than this is maintained as a whole: each is a part of a statement.
MOST_PRODUCTS = 12
# Types that no column of a table may have.
UNSTORED = ("record", "record[]")
ONE = exp.Literal.number(1)
# Marks of conditions on the groups that a row is computed with.
WITHIN = "tally_within_"
NOTHING: Mapping[str, Mapping[str, str]] = {}
# The alias of a query that stands alone in FROM.
WRAPPED = "tally_q"


class NodeMaker(ABC):
    """Makes the nodes of one SELECT.

    `nodes` are those made so far. `describe` returns the types of a query's columns, `state_of` the
    name of a node's table.
    """

    def __init__(
        self,
        sources: Mapping[tuple[str, str], Source],
        describe: Callable[[exp.Query], list[str]],
        is_aggregate: Callable[[exp.Expr], bool],
        state_of: Callable[[str], str],
    ) -> None:
        self.sources = sources
        self._describe = describe
        self.is_aggregate = is_aggregate
        self.state_of = state_of
        self.nodes: list[Node] = []
        self.reasons: list[str] = []
        self._aliases = 0

    def describe(self, query: exp.Query) -> list[str]:
        """The types of a query's columns. Raises NotLinear where it reads rows around it."""
        if self._outer_aliases(query) - {""}:
            raise NotLinear("a subquery that depends on the outer row by more than equalities")
        return self._describe(query)

    @abstractmethod
    def query(self, query: exp.Expr) -> Bag:
        """The rows of a query; a part that cannot be followed becomes a node of its own."""

    @abstractmethod
    def _linear(self, query: exp.Query) -> Bag:
        """The rows of a query. Raises NotLinear where they cannot be followed."""

    @abstractmethod
    def _filtered(self, products: Sequence[Product], condition: exp.Expr) -> list[Product]:
        """The rows of the products for which the condition is true."""

    @abstractmethod
    def _reading_nodes(
        self,
        node: Node,
        query: exp.Query,
        within: Mapping[str, Mapping[str, str]] = NOTHING,
    ) -> exp.Query:
        """The query with derived tables replaced by the states of the nodes that they became."""

    def _alias(self) -> str:
        self._aliases += 1
        return f"t{self._aliases}_"

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
            require_followed([*each.key, *each.amounts.values(), *each.product.expressions()])
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
        if any(type_ in UNSTORED for type_ in types):
            raise NotLinear("a row without a type of its own, which no table can hold")
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
            row_keys=(key,) if key else (),
        )
        self.nodes.append(node)
        return node

    def _outer_aliases(self, query: exp.Expr) -> set[str]:
        """Aliases that a query refers to and does not define."""
        return {c.table for c in query.find_all(exp.Column)} - defined(query)

    def is_grouped(self, query: exp.Select) -> bool:
        """Whether the SELECT has one row for a group of its rows."""
        having = query.args.get("having")
        expressions = [*query.selects, *([having.this] if having else [])]
        return bool(
            query.args.get("group") or having or aggregates.calls_in(expressions, self.is_aggregate)
        )

    def _check_number(self, products: Sequence[Product]) -> None:
        if len(products) > MOST_PRODUCTS:
            raise NotLinear("so many outer joins and subqueries that statements would be too long")
