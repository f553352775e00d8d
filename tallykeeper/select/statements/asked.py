"""Which changes matter to a reader who asks for single keys of the result.

A condition on the key is carried from the result down to nodes and sources: to every column that is
equal to a column of the key in all places that read its relation. What is left of the changes is
more than enough: rows of other keys may remain, none of the keys asked for is missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlglot import exp

from tallykeeper.database import sql
from tallykeeper.select.algebra.expressions import stripped
from tallykeeper.select.algebra.relations import Bag, Leaf, Node, Product
from tallykeeper.select.dialect import is_equality
from tallykeeper.select.plan import PART, AskedSource, CapturedSource, Column, Text
from tallykeeper.select.statements.text import only_for, text

Places = dict[str, int]


@dataclass(frozen=True)
class Asked:
    """By node and by number of a source: its columns that are columns of the key, by place."""

    nodes: Mapping[str, Places] = field(default_factory=dict)
    sources: Mapping[int, Places] = field(default_factory=dict)


def asked(
    bag: Bag,
    columns: Sequence[Column],
    key: Sequence[str] | None,
    nodes: Sequence[Node],
    numbers: Mapping[int, int],
) -> Asked:
    """What of each relation matters; `nodes` come after those that they read."""
    places = {column.name: place for place, column in enumerate(columns)}
    # What the declaration names and the SELECT does not return is refused elsewhere.
    names = [name for name in key or () if name in places]
    found = _Found(numbers, [columns[places[name]].type for name in names])
    for arm in bag.arms:
        outputs = [arm.outputs[places[name]] for name in names]
        found.read(arm.product, [(output, place) for place, output in enumerate(outputs)])
    for node in reversed(nodes):
        found.read_by(node)
    return Asked(found.nodes, found.sources)


class _Found:
    """What is known of each relation by those that read it so far."""

    def __init__(self, numbers: Mapping[int, int], types: Sequence[str]) -> None:
        self.numbers = numbers
        self.types = types
        self.nodes: dict[str, Places] = {}
        self.sources: dict[int, Places] = {}

    def read(self, product: Product, known: Sequence[tuple[exp.Expr, int]]) -> None:
        """Note what a product reads, of which some expressions are known to be of the key."""
        equal = _equal_columns(product, known, self.types)
        for leaf in product.leaves:
            places = {name: place for (alias, name), place in equal.items() if alias == leaf.alias}
            relation = leaf.relation
            if isinstance(relation, Node):
                same = relation.same_as_key()
                own = {same[n]: p for n, p in places.items() if n in same}
                self.nodes[relation.name] = _both(self.nodes.get(relation.name), own)
            else:
                number = self.numbers[relation.oid]
                self.sources[number] = _both(self.sources.get(number), places)

    def read_by(self, node: Node) -> None:
        """Note what a node reads, once all that read the node itself is noted."""
        own = self.nodes.setdefault(node.name, {})
        products = [each.product for each in node.inputs]
        leaves = [leaf.relation for product in products for leaf in product.leaves]
        followed = {relation.name for relation in leaves if isinstance(relation, Node)}
        if node.strategy == "whole":
            own.clear()
            followed = set()
        for other in node.reads.values():
            if other.name not in followed:
                self.nodes[other.name] = {}
        for each in node.inputs:
            pairs = zip(node.key, each.key, strict=False)
            self.read(each.product, [(value, own[name]) for name, value in pairs if name in own])


def _both(known: Places | None, places: Places) -> Places:
    """What holds in all places that read a relation."""
    return places if known is None else {n: p for n, p in known.items() if places.get(n) == p}


def logged_as(source: CapturedSource, found: Asked) -> Places:
    """The columns of the log, as SQL, that are columns of the key where they are of that source."""
    own = found.sources.get(source.part, {})
    return {
        sql.quote(column.log_name): own[column.name]
        for column in source.columns
        if column.name in own and not column.as_text
    }


def matters(asked: Sequence[AskedSource], width: int) -> str:
    """A condition on rows of the log: they may matter to the keys, which have so many columns.

    The columns of other sources are null in a row.
    """
    conditions = []
    for place in range(width):
        found = [c for a in asked for c, p in zip(a.columns, a.places, strict=True) if p == place]
        columns = list(dict.fromkeys(found))
        others = [str(a.part) for a in asked if place not in a.places]
        either = [f"{PART} IN ({', '.join(others)})"] if others else []
        either += [f"coalesce({', '.join(columns)}) = ANY (${place + 1})"] if columns else []
        conditions.append(f"({' OR '.join(either)})")
    return " AND ".join(conditions)


def where(places: Mapping[str, int], before: str) -> Text:
    """A condition on columns, given as SQL, while single keys are asked for; `before` leads it."""
    return only_for("asked", f"{before}{_conditions(places)}") if places else text()


def _conditions(places: Mapping[str, int]) -> str:
    return " AND ".join(f"{column} = ANY (${place + 1})" for column, place in places.items())


def _equal_columns(
    product: Product, known: Sequence[tuple[exp.Expr, int]], types: Sequence[str]
) -> dict[tuple[str, str], int]:
    """The product's columns that are equal to known ones, by alias and name."""
    leaves = {leaf.alias: leaf for leaf in product.leaves}
    equal: dict[tuple[str, str], int] = {}

    def add(expression: exp.Expr, place: int) -> bool:
        column = stripped(expression)
        if not isinstance(column, exp.Column) or column.table not in leaves:
            return False
        name = (column.table, column.name)
        # Values of another type may be equal and be none of the key's.
        if name in equal or _type_of(leaves[column.table], column.name) != types[place]:
            return False
        equal[name] = place
        return True

    for expression, at in known:
        add(expression, at)
    grown = bool(equal)
    while grown:
        grown = False
        for condition in map(stripped, product.conditions):
            if not is_equality(condition):
                continue
            sides = stripped(condition.this), stripped(condition.expression)
            for one, other in (sides, sides[::-1]):
                place = equal.get((one.table, one.name)) if isinstance(one, exp.Column) else None
                if place is not None:
                    grown |= add(other, place)
    return equal


def _type_of(leaf: Leaf, name: str) -> str | None:
    return next((c.type for c in leaf.relation.columns if c.name == name), None)
