"""Queries of a SELECT's tree in an engine's SQL: FROM, GROUP BY, set operations and what they hold.

Items and columns have names of the translation's own, so that no name of the application means
anything to the engine.
"""

from __future__ import annotations

from dataclasses import replace

from tallykeeper.engines.translation import constants as types
from tallykeeper.engines.translation.dialects import Dialect
from tallykeeper.engines.translation.expressions import (
    CTE,
    FUNCTION,
    GROUP,
    JOIN,
    RELATION,
    SUBQUERY,
    Context,
    Expressions,
)
from tallykeeper.engines.translation.names import Names
from tallykeeper.engines.translation.refusal import Refused
from tallykeeper.engines.translation.scopes import Exports, Item, Level
from tallykeeper.engines.translation.values import Value, of_one_type, require_compared
from tallykeeper.parquet.columns import MOST_DIGITS
from tallykeeper.select.definition.rule_trees import Node

_JOINS = {"0": "INNER JOIN", "1": "LEFT JOIN", "2": "FULL JOIN", "3": "RIGHT JOIN"}
_SETS = {1: "UNION", 2: "INTERSECT", 3: "EXCEPT"}


class Queries:
    """Translates the queries of one SELECT."""

    def __init__(self, names: Names, dialect: Dialect) -> None:
        self.context = Context(names, dialect, Exports(names), self.query)
        self._aliases = 0

    def query(self, query: Node, around: Level | None) -> tuple[str, list[Value]]:
        """A query's text and columns, which it names `k1`, `k2` and so on. Raises Refused."""
        level = self._level(query, around)
        if isinstance(query.fields.get("setOperations"), Node):
            return self._set_query(query, level)
        source = self._from(level)
        expressions = Expressions(self.context, level)
        targets = [t for t in query.nodes("targetList") if t.fields["resjunk"] != "true"]
        shown, columns = [], []
        for number, target in enumerate(targets, 1):
            value, source = self._target(target.node("expr"), expressions, query, source)
            shown.append(f"{value.sql} AS k{number}")
            columns.append(Value(f"k{number}", value.type, value.scale))
        where = expressions.condition(query.node("jointree").fields.get("quals"))
        distinct = self._distinct(query, columns)
        return (
            f"SELECT {distinct}{', '.join(shown) or '1 AS k1'}"
            + (f" FROM {source}" if source else "")
            + (f" WHERE {where}" if where else "")
            + self._groups(query, expressions)
            + self._limit(query, expressions),
            columns,
        )

    def _level(self, query: Node, around: Level | None) -> Level:
        if query.fields.get("hasRecursive") == "true":
            raise Refused("WITH RECURSIVE")
        level = Level(query, around)
        for each in query.nodes("cteList"):
            level.with_queries[str(each.fields["ctename"])] = each.node("ctequery")
        for number, entry in enumerate(query.nodes("rtable"), 1):
            self._aliases += 1
            level.items[number] = Item(entry, f"r{self._aliases}")
        return level

    def _distinct(self, query: Node, columns: list[Value]) -> str:
        if query.fields.get("hasDistinctOn") == "true":
            raise Refused("DISTINCT ON")
        if not query.nodes("distinctClause"):
            return ""
        for each in columns:
            require_compared(self.context.names, each.type, "DISTINCT")
        return "DISTINCT "

    def _groups(self, query: Node, expressions: Expressions) -> str:
        if query.nodes("groupingSets"):
            raise Refused("GROUPING SETS, ROLLUP and CUBE")
        entries = _by_reference(query)
        by = [expressions.grouped(each, entries) for each in query.nodes("groupClause")]
        having = query.fields.get("havingQual")
        text = f" GROUP BY {', '.join(by)}" if by else ""
        if isinstance(having, Node):
            text += f" HAVING {expressions.of(having).sql}"
        return text

    def _limit(self, query: Node, expressions: Expressions) -> str:
        """LIMIT with the order that it needs; an order alone means nothing in a table."""
        limit, offset = (query.fields.get(key) for key in ("limitCount", "limitOffset"))
        if limit is None and offset is None:
            return ""
        if query.number("limitOption") != 0:
            raise Refused("FETCH FIRST ... WITH TIES")
        entries = _by_reference(query)
        order = [str(expressions.ordered(each, entries)) for each in query.nodes("sortClause")]
        text = f" ORDER BY {', '.join(order)}" if order else ""
        for word, value in (("LIMIT", limit), ("OFFSET", offset)):
            if isinstance(value, Node):
                text += f" {word} {self._number(value)}"
        return text

    def _number(self, node: Node) -> int:
        while node.name == "FUNCEXPR":
            (node,) = node.nodes("args")
        value = types.value_of(node) if node.name == "CONST" else None
        if not isinstance(value, int):
            raise Refused("LIMIT or OFFSET that is no number")
        return value

    # FROM.

    def _from(self, level: Level) -> str:
        text = ""
        for each in level.query.node("jointree").nodes("fromlist"):
            item = self._joined(each, level)
            text = f"{text} CROSS JOIN {item}" if text else item
        return text

    def _joined(self, node: Node, level: Level) -> str:
        if node.name == "RANGETBLREF":
            return self._item(level, node.number("rtindex"))
        kind = str(node.fields["jointype"])
        if kind not in _JOINS:
            raise Refused("a join of a kind that SELECTs do not have")
        left = self._joined(node.node("larg"), level)
        right = self._joined(node.node("rarg"), level)
        on = Expressions(self.context, level).condition(node.fields.get("quals")) or "TRUE"
        for side, kinds in (("larg", "23"), ("rarg", "12")):
            if kind in kinds:
                level.nulled |= _items_of(node.node(side))
        if node.node("rarg").name == "JOINEXPR":
            right = f"({right})"
        return f"{left} {_JOINS[kind]} {right} ON {on}"

    def _item(self, level: Level, number: int) -> str:
        item = level.items[number]
        entry = item.node
        if item.kind == RELATION:
            return self._table(item)
        lateral = "LATERAL " if entry.fields.get("lateral") == "true" else ""
        if item.kind == SUBQUERY:
            text, item.columns = self.query(entry.node("subquery"), level)
            return f"{lateral}({text}) AS {item.alias}"
        if item.kind == CTE:
            owner = level.above(entry.number("ctelevelsup"))
            text, item.columns = self.query(owner.with_queries[str(entry.fields["ctename"])], owner)
            return f"({text}) AS {item.alias}"
        if item.kind == FUNCTION:
            return self._function(level, item)
        raise Refused("VALUES, or a table of another kind, in FROM")

    def _table(self, item: Item) -> str:
        relid = item.node.number("relid")
        relation = self.context.names.relation(relid)
        if relation.kind == "v":
            text, item.columns = self.query(self.context.names.rule(relid), None)
            return f"({text}) AS {item.alias}"
        if isinstance(item.node.fields.get("tablesample"), Node):
            raise Refused("TABLESAMPLE")
        if item.node.fields.get("inh") == "false":
            raise Refused("ONLY")
        export = self.context.exports.export(relid)
        return f"{export.name} AS {item.alias}"

    def _function(self, level: Level, item: Item) -> str:
        functions = item.node.nodes("functions")
        if len(functions) != 1 or item.node.fields.get("funcordinality") == "true":
            raise Refused("several functions in FROM, or WITH ORDINALITY")
        array = Expressions(self.context, level).elements(functions[0].node("funcexpr"))
        element = self.context.names.type(array.type).element
        item.columns = [Value("e", element)]
        return self.context.dialect.elements(array.sql, item.alias, "e")

    def _target(
        self, node: Node, expressions: Expressions, query: Node, source: str
    ) -> tuple[Value, str]:
        """A column of the result, and FROM with what the column adds to it."""
        if node.fields.get("funcretset") != "true":
            return expressions.of(node), source
        busy = query.nodes("groupClause") or query.fields.get("hasAggs") == "true"
        if busy or query.fields.get("hasWindowFuncs") == "true" or " AS s_" in source:
            raise Refused("a function that returns rows, beside groups or another such function")
        array = expressions.elements(node)
        self._aliases += 1
        alias = f"s_{self._aliases}"
        added = self.context.dialect.elements(array.sql, alias, "e")
        element = self.context.names.type(array.type).element
        return Value(f"{alias}.e", element), f"{source} CROSS JOIN {added}" if source else added

    # Set operations.

    def _set_query(self, query: Node, level: Level) -> tuple[str, list[Value]]:
        if query.nodes("sortClause") and (
            query.fields.get("limitCount") or query.fields.get("limitOffset")
        ):
            raise Refused("LIMIT of a set operation")
        if query.fields.get("limitCount") or query.fields.get("limitOffset"):
            raise Refused("LIMIT without an order")
        operation = query.node("setOperations")
        wanted = [int(each) for each in operation.fields["colTypes"][1:]]
        leaves: dict[int, tuple[str, list[Value]]] = {}
        for number in _leaves_of(operation):
            text, columns = self.query(level.items[number].node.node("subquery"), level)
            leaves[number] = text, columns
        columns = [Value(f"k{n}", type_) for n, type_ in enumerate(wanted, 1)]
        for place, type_ in enumerate(wanted):
            of_column = [found[place] for _, found in leaves.values()]
            like = [*of_column, Value("", type_, 0)] if type_ != types.NUMERIC else of_column
            same = of_one_type(like, "a set operation")
            columns[place] = replace(columns[place], scale=same[0].scale)
        texts = {number: self._as_wide(text, columns) for number, (text, _) in leaves.items()}
        return self._set(operation, texts, wanted), columns

    def _as_wide(self, text: str, columns: list[Value]) -> str:
        """A side of a set operation with decimals of one type."""
        self._aliases += 1
        shown = [
            f"CAST({each.sql} AS DECIMAL({MOST_DIGITS}, {each.scale})) AS {each.sql}"
            if each.scale is not None
            else each.sql
            for each in columns
        ]
        return f"SELECT {', '.join(shown)} FROM ({text}) AS s{self._aliases}"

    def _set(self, node: Node, texts: dict[int, str], wanted: list[int]) -> str:
        if node.name == "RANGETBLREF":
            return texts[node.number("rtindex")]
        word = _SETS[node.number("op")]
        is_all = node.fields["all"] == "true"
        if not is_all or word != "UNION":
            for type_ in wanted:
                require_compared(self.context.names, type_, word)
        left, right = (self._set(node.node(side), texts, wanted) for side in ("larg", "rarg"))
        return f"({left}) {word}{' ALL' if is_all else ''} ({right})"


def _leaves_of(node: Node) -> list[int]:
    """The queries of a set operation, by their numbers in its range table."""
    if node.name == "RANGETBLREF":
        return [node.number("rtindex")]
    return [*_leaves_of(node.node("larg")), *_leaves_of(node.node("rarg"))]


def _by_reference(query: Node) -> dict[int, Node]:
    """The columns of a query that groups and orders refer to, by their number there."""
    return {each.number("ressortgroupref"): each.node("expr") for each in query.nodes("targetList")}


def _items_of(node: Node) -> set[int]:
    """The items below a join, and the joins themselves."""
    if node.name == "RANGETBLREF":
        return {node.number("rtindex")}
    return {node.number("rtindex"), *_items_of(node.node("larg")), *_items_of(node.node("rarg"))}


__all__ = ["GROUP", "JOIN", "Queries"]
