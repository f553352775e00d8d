"""The tree that PostgreSQL keeps of a view: what its names, operators and casts were resolved to.

`pg_depend` has none of the built-in functions, and the text of a view does not say which of several
functions of one name is called. The tree does, in a form that has been the same in all versions:
`{NAME :field value ...}`, `(value ...)`, and `<>` for nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, text

_TOKEN = re.compile(r'[(){}]|"(?:\\.|[^"\\])*"|(?:\\.|[^\s(){}\\])+', re.DOTALL)
_RULE = text(
    "SELECT ev_class, ev_action::text AS tree FROM pg_rewrite"
    " WHERE ev_class = {} AND ev_type = '1' AND is_instead"
)
_OF_VIEW = text(str(_RULE).format("to_regclass(:view)"))
_OF_OID = text(str(_RULE).format(":oid"))
# The field that has the type of a node's value.
_TYPES = {
    "VAR": "vartype",
    "CONST": "consttype",
    "AGGREF": "aggtype",
    "WINDOWFUNC": "wintype",
    "FUNCEXPR": "funcresulttype",
    "OPEXPR": "opresulttype",
    "NULLIFEXPR": "opresulttype",
    "ARRAYEXPR": "array_typeid",
    "ROWEXPR": "row_typeid",
    "CASEEXPR": "casetype",
    "COALESCEEXPR": "coalescetype",
    "COALESCE": "coalescetype",
    "MINMAXEXPR": "minmaxtype",
    "MINMAX": "minmaxtype",
    "CASE": "casetype",
    "ARRAY": "array_typeid",
    "ROW": "row_typeid",
    "SUBSCRIPTINGREF": "refrestype",
    "FIELDSELECT": "resulttype",
    "RELABELTYPE": "resulttype",
    "COERCEVIAIO": "resulttype",
    "ARRAYCOERCEEXPR": "resulttype",
    "CONVERTROWTYPEEXPR": "resulttype",
    "COERCETODOMAIN": "resulttype",
    "SQLVALUEFUNCTION": "type",
}


@dataclass
class Node:
    """A node of the tree; the value of a field is a node, a list, a text, or None."""

    name: str
    fields: dict[str, Any] = field(default_factory=dict)

    def walk(self, *, enter: Callable[[str], bool] = lambda _: True) -> Iterator[Node]:
        """This node and all below, but for fields that `enter` says no to."""
        yield self
        for key, value in self.fields.items():
            if enter(key):
                for node in _nodes(value):
                    yield from node.walk(enter=enter)

    def type_oid(self) -> int:
        """The type of the value, 0 where the node does not say."""
        if self.name == "COLLATEEXPR":
            return self.node("arg").type_oid()
        if self.name == "SUBLINK":
            return self.node("subselect").nodes("targetList")[0].node("expr").type_oid()
        return int(self.fields.get(_TYPES.get(self.name, ""), 0))

    def node(self, key: str) -> Node:
        """The node in a field."""
        value = self.fields[key]
        if not isinstance(value, Node):
            raise TypeError(f"{key} of {self.name} is no node")
        return value

    def nodes(self, key: str) -> list[Node]:
        """The nodes in a field, one or a list of them."""
        return list(_nodes(self.fields.get(key)))

    def number(self, key: str) -> int:
        """The number in a field."""
        return int(self.fields[key])


def rules(connection: Connection, view: str) -> list[Node]:
    """The queries of a view and of all views that it reads, each once."""
    row = connection.execute(_OF_VIEW, {"view": view}).one_or_none()
    found: dict[int, list[Node]] = {}
    waiting = [row] if row is not None else []
    while waiting:
        oid, tree = waiting.pop()
        if oid in found:
            continue
        found[oid] = parse(tree)
        for relation in (int(r.fields["relid"]) for r in relations(found[oid])):
            inner = connection.execute(_OF_OID, {"oid": relation}).one_or_none()
            waiting += [inner] if inner is not None and relation != oid else []
    return [query for queries in found.values() for query in queries]


def relations(queries: list[Node]) -> list[Node]:
    """The range table entries that are relations, but for the view's own OLD and NEW."""
    return [
        node
        for query in queries
        for node in query.walk()
        if node.name in ("RANGETBLENTRY", "RTE")
        and node.fields.get("rtekind") == "0"
        and node.fields.get("inFromCl") == "true"
    ]


def parse(tree: str) -> list[Node]:
    """Parse a tree as the catalog prints it."""
    tokens = _TOKEN.findall(tree)
    tokens.reverse()
    value = _value(tokens)
    if not isinstance(value, list):
        raise TypeError("a rule's action is a list of queries")
    return [query for query in value if isinstance(query, Node)]


def _value(tokens: list[str]) -> Any:
    token = tokens.pop()
    if token == "<>":  # noqa: S105 -- not a password
        return None
    if token == "(":  # noqa: S105
        items = []
        while tokens[-1] != ")":
            items.append(_value(tokens))
        tokens.pop()
        return items
    if token == "{":  # noqa: S105
        node = Node(tokens.pop())
        while tokens[-1] != "}":
            key = tokens.pop().removeprefix(":")
            node.fields[key] = _value(tokens)
            # The bytes of a constant follow their number.
            if tokens[-1] == "[" and key == "constvalue":
                end = len(tokens) - 1 - tokens[::-1].index("]")
                node.fields[key] = " ".join(reversed(tokens[end:]))
                del tokens[end:]
        tokens.pop()
        return node
    return token


def _nodes(value: Any) -> Iterator[Node]:
    if isinstance(value, Node):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _nodes(item)
