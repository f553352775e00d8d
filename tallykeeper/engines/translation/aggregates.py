"""Aggregates in an engine's SQL, by a list of what is the same there."""

from __future__ import annotations

from collections.abc import Callable

from tallykeeper.engines.translation import constants as types
from tallykeeper.engines.translation.dialects import Dialect, Order
from tallykeeper.engines.translation.names import Names
from tallykeeper.engines.translation.refusal import Refused
from tallykeeper.engines.translation.values import (
    INTEGERS,
    Value,
    is_list,
    require_compared,
    require_ordered,
)
from tallykeeper.select.definition.rule_trees import Node

_OF_BOOLEANS = {"bool_and": "bool_and", "every": "bool_and", "bool_or": "bool_or"}


class Aggregates:
    """Translates aggregates; `of` translates their arguments."""

    def __init__(self, names: Names, dialect: Dialect, of: Callable[[Node], Value]) -> None:
        self._names = names
        self._dialect = dialect
        self._of = of

    def of(self, node: Node) -> Value:
        """An aggregate. Raises Refused."""
        routine = self._names.routine(node.number("aggfnoid"))
        if not routine.is_own or node.nodes("aggdirectargs"):
            raise Refused(f"the aggregate {routine.name}()")
        entries = node.nodes("args")
        condition = node.fields.get("aggfilter")
        kept = self._of(condition).sql if isinstance(condition, Node) else None
        is_distinct = bool(node.nodes("aggdistinct"))
        if routine.name == "count" and node.fields["aggstar"] == "true":
            return Value(f"count(*){_filter(kept)}", types.INT8)
        if len(entries) != 1 and routine.name != "array_agg":
            raise Refused(f"the aggregate {routine.name}() of several values")
        value = self._of(entries[0].node("expr"))
        if is_distinct:
            require_compared(self._names, value.type, f"{routine.name}(DISTINCT)")
        if routine.name == "array_agg":
            return self._array(node, value, kept, is_distinct)
        if node.nodes("aggorder"):
            raise Refused(f"the aggregate {routine.name}() with ORDER BY")
        translate = getattr(self, f"_{_OF_BOOLEANS.get(routine.name, routine.name)}", None)
        if translate is None:
            raise Refused(f"the aggregate {routine.name}()")
        found: Value = translate(node, value, "DISTINCT " if is_distinct else "", _filter(kept))
        return found

    def _count(self, node: Node, value: Value, distinct: str, kept: str) -> Value:
        return Value(f"count({distinct}{value.sql}){kept}", types.INT8)

    def _sum(self, node: Node, value: Value, distinct: str, kept: str) -> Value:
        type_ = node.number("aggtype")
        if value.type == types.INT8:
            # No engine's integers hold what numeric holds.
            wide = f"CAST({value.sql} AS DECIMAL(19, 0))"
            return Value(f"sum({distinct}{wide}){kept}", type_, 0)
        if value.type in INTEGERS:
            return Value(f"CAST(sum({distinct}{value.sql}){kept} AS BIGINT)", type_)
        if value.type == types.NUMERIC:
            return Value(f"sum({distinct}{value.sql}){kept}", type_, value.scale)
        raise Refused(f"the sum of {self._names.type(value.type).name}")

    def _extreme(self, node: Node, value: Value, word: str, kept: str) -> Value:
        require_ordered(self._names, value.type, node.number("inputcollid"), f"{word}()")
        return Value(f"{word}({value.sql}){kept}", value.type, value.scale)

    def _min(self, node: Node, value: Value, distinct: str, kept: str) -> Value:
        return self._extreme(node, value, "min", kept)

    def _max(self, node: Node, value: Value, distinct: str, kept: str) -> Value:
        return self._extreme(node, value, "max", kept)

    def _bool_and(self, node: Node, value: Value, distinct: str, kept: str) -> Value:
        return Value(f"bool_and({value.sql}){kept}", types.BOOL)

    def _bool_or(self, node: Node, value: Value, distinct: str, kept: str) -> Value:
        return Value(f"bool_or({value.sql}){kept}", types.BOOL)

    def _array(self, node: Node, value: Value, kept: str | None, is_distinct: bool) -> Value:
        type_ = node.number("aggtype")
        collation = node.number("inputcollid")
        orders = node.nodes("aggorder")
        require_ordered(self._names, value.type, collation, "array_agg()")
        if not is_list(self._names, type_):
            raise Refused(f"array_agg() of {self._names.type(value.type).name}")
        by = {each.number("ressortgroupref"): each.node("expr") for each in node.nodes("args")}
        order = [self.order(each, by, collation) for each in orders]
        if is_distinct:
            if any(each.descending or each.nulls_first for each in order):
                raise Refused("array_agg(DISTINCT) in another order than the values'")
            return Value(self._dialect.distinct_array(value.sql, kept), type_)
        if not order:
            raise Refused("array_agg() without ORDER BY")
        return Value(self._dialect.ordered_array(value.sql, order, kept), type_)

    def order(self, clause: Node, entries: dict[int, Node], collation: int = 0) -> Order:
        """What rows are ordered by. Raises Refused where the engine's order is another."""
        node = entries[clause.number("tleSortGroupRef")]
        value = self._of(node)
        operator = self._names.operator(clause.number("sortop"))
        if not operator.is_own or operator.name not in ("<", ">"):
            raise Refused(f"ORDER BY ... USING {operator.name}")
        require_ordered(self._names, value.type, collation_of(node) or collation, "ORDER BY")
        return Order(value.sql, operator.name == ">", clause.fields["nulls_first"] == "true")


def collation_of(node: Node) -> int:
    """The collation of an expression; 0 where it has none."""
    for key in (
        "collOid",
        "varcollid",
        "constcollid",
        "resultcollid",
        "funccollid",
        "opcollid",
        "aggcollid",
        "casecollid",
        "coalescecollid",
        "minmaxcollid",
    ):
        if key in node.fields:
            return node.number(key)
    return 0


def _filter(condition: str | None) -> str:
    return f" FILTER (WHERE {condition})" if condition else ""
