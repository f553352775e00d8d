"""The terms of a product's change: each leaf's pending changes, joined with the other leaves.

With the leaves in an order, the change of their join is the sum over each leaf of its changes
joined with those before it as they are afterwards and those after it as they were before. Sources
are stored as they are afterwards, states as they were before; what differs is added to them by
UNION ALL, with signs in the column `tally_m`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlglot import exp

from tallykeeper.database import sql
from tallykeeper.select.algebra.expressions import defined, sql_of, stripped, tables_of
from tallykeeper.select.algebra.relations import Leaf, Node, Product
from tallykeeper.select.algebra.uniqueness import unique_keys
from tallykeeper.select.dialect import is_equality
from tallykeeper.select.plan import Text
from tallykeeper.select.resolve import Source
from tallykeeper.select.statements.asked import Asked
from tallykeeper.select.statements.containment import columns_held, with_held
from tallykeeper.select.statements.text import only_if, text

M = "tally_m"
ROWS = 1e6
# Of so many relations what differs is a term of its own. Each more doubles the terms.
MOST_SPLIT = 2


@dataclass(frozen=True)
class Term:
    """The change that comes of one leaf: FROM and WHERE, and how often a row of it counts.

    It is there while of each of the sets in `needs` something is pending; the first is the leaf's.
    """

    leaf: Leaf
    needs: tuple[frozenset[int], ...]
    source: Text
    weight: str

    def only_if_needed(self, inner: Text) -> Text:
        """A text that is there only while the term is."""
        for parts in self.needs:
            inner = only_if(parts, inner)
        return inner


@dataclass(frozen=True)
class Images:
    """Where the pending changes of relations are.

    `numbers` are the parts of sources, `columns` what is captured of them. `parts` are those that
    a relation depends on, `asked` is what of it matters where single keys are asked for.
    """

    numbers: Mapping[int, int]
    columns: Mapping[int, Sequence[str]]
    used: Mapping[str, Sequence[str]]
    node_parts: Mapping[str, frozenset[int]]
    asked: Asked

    def parts(self, relation: Source | Node) -> frozenset[int]:
        """The parts whose pending changes change the relation."""
        if isinstance(relation, Node):
            return self.node_parts[relation.name]
        return frozenset({self.numbers[relation.oid]})

    def name(self, relation: Source | Node) -> str:
        """The step that has the relation's changes."""
        if isinstance(relation, Node):
            return f"tally_d_{relation.name}"
        return f"tally_p{self.numbers[relation.oid]}"

    def columns_of(self, relation: Source | Node) -> Sequence[str]:
        """The columns that its changes have."""
        if isinstance(relation, Node):
            return self.used[relation.name]
        return self.columns[relation.oid]


def name_of(relation: Source | Node) -> str:
    """The relation's qualified and quoted name."""
    if isinstance(relation, Node):
        return relation.state
    return f"{sql.quote(relation.schema)}.{sql.quote(relation.name)}"


def terms(product: Product, images: Images) -> list[Term]:
    """All terms of the product's change; their sum is the change.

    Small relations come first, so that the changes of the largest are joined with what is stored
    alone. Of the relations that are not stored as they have to be read, the largest are read in
    two terms, as they are stored and by what differs: an index serves the one, a hash the other.
    """
    leaves = sorted(product.leaves, key=_size)
    found = []
    for place, driver in enumerate(leaves):
        adjusted = [
            other
            for other_place, other in enumerate(leaves)
            if other is not driver
            and (other_place < place) is not isinstance(other.relation, Source)
        ]
        split = adjusted[-MOST_SPLIT:]
        found += [
            _term(product, driver, adjusted, split, chosen, images) for chosen in _subsets(split)
        ]
    return found


def _term(
    product: Product,
    driver: Leaf,
    adjusted: Sequence[Leaf],
    split: Sequence[Leaf],
    chosen: Sequence[Leaf],
    images: Images,
) -> Term:
    """The term in which the leaves in `chosen`, of those in `split`, are read by what differs."""
    read: dict[str, Text] = {}
    sign = product.sign
    factors = [driver]
    for leaf in product.leaves:
        if leaf is driver:
            continue
        if leaf in chosen:
            read[leaf.alias] = text(f"{images.name(leaf.relation)} AS {quoted(leaf.alias)}")
            factors.append(leaf)
            sign = sign if isinstance(leaf.relation, Node) else -sign
        elif leaf in adjusted and leaf not in split:
            read[leaf.alias] = _adjusted(leaf, images)
            factors.append(leaf)
        else:
            read[leaf.alias] = text(f"{name_of(leaf.relation)} AS {quoted(leaf.alias)}")
    first = text(f"{images.name(driver.relation)} AS {quoted(driver.alias)}")
    changed = frozenset(leaf.alias for leaf in (driver, *chosen))
    source = from_clause(with_held(product, driver), driver, first, read, changed)
    weight = " * ".join(f"{quoted(leaf.alias)}.{M}" for leaf in factors)
    needs = tuple(dict.fromkeys(images.parts(leaf.relation) for leaf in (driver, *chosen)))
    return Term(driver, needs, source, f"-({weight})" if sign < 0 else weight)


def _subsets(leaves: Sequence[Leaf]) -> list[tuple[Leaf, ...]]:
    return [c for n in range(len(leaves) + 1) for c in itertools.combinations(leaves, n)]


def _size(leaf: Leaf) -> tuple[bool, float]:
    """Sources first, the smallest of them before."""
    return (True, 0.0) if isinstance(leaf.relation, Node) else (False, leaf.relation.rows)


def _adjusted(leaf: Leaf, images: Images) -> Text:
    """The leaf's relation as it is not stored: a source as it was, a state as it will be."""
    names = images.columns_of(leaf.relation)
    columns = "".join(f"{sql.quote(n)}, " for n in names)
    sign = "" if isinstance(leaf.relation, Node) else "-"
    # Without OFFSET the planner would know no way to look up both parts by a key.
    return text(
        f"(SELECT {columns}1::bigint AS {M} FROM {name_of(leaf.relation)}",
        only_if(
            images.parts(leaf.relation),
            text(
                f" UNION ALL SELECT * FROM (SELECT {columns}{sign}{M} AS {M}"
                f" FROM {images.name(leaf.relation)} OFFSET 0) AS i"
            ),
        ),
        f") AS {quoted(leaf.alias)}",
    )


def from_clause(
    product: Product,
    driver: Leaf | None,
    first: Text,
    read: Mapping[str, Text],
    changed: frozenset[str],
) -> Text:
    """FROM and WHERE with the leaves in the order in which they are best looked up.

    Of those in `changed`, by their aliases, changes are read.
    """
    done: set[str] = {driver.alias} if driver is not None else set()
    waiting = list(product.conditions)
    where = [c for c in waiting if tables_of(c) <= done]
    waiting = [c for c in waiting if c not in where]
    parts: list[str | Text] = ["FROM ", first]
    expansions = list(product.expansions)

    def expand() -> None:
        for expansion in list(expansions):
            needs = tables_of(expansion.item) - defined(expansion.item) - {expansion.alias}
            if needs <= done and parts != ["FROM ", ()]:
                done.add(expansion.alias)
                expansions.remove(expansion)
                kind, on = ("LEFT JOIN", " ON TRUE") if expansion.outer else ("CROSS JOIN", "")
                parts.append(f"\n  {kind} {sql_of(expansion.item)}{on}")
                ready()

    def ready() -> None:
        # Conditions on functions of FROM have no join to stand at.
        for condition in list(waiting):
            if tables_of(condition) <= done:
                where.append(condition)
                waiting.remove(condition)

    expand()
    left = [leaf for leaf in product.leaves if leaf is not driver]
    while left:
        best = min(left, key=lambda leaf: _cost(leaf, done, waiting))
        left.remove(best)
        done.add(best.alias)
        on = [c for c in waiting if tables_of(c) <= done]
        waiting = [c for c in waiting if c not in on]
        join = (
            text("\n  JOIN ", read[best.alias], f" ON {_all_of(on, changed)}")
            if on
            else text("\n  CROSS JOIN ", read[best.alias])
        )
        parts.append(join)
        expand()
    if where or waiting:
        parts.append(f"\n  WHERE {_all_of((*where, *waiting), changed)}")
    return text(*parts)


def _all_of(conditions: Sequence[exp.Expr], changed: frozenset[str]) -> str:
    """The conditions, with AND between them.

    Of changes the planner has no statistics: it expects that next to none meet a comparison, and
    would join those by nested loops. It expects that half of them meet a CASE.
    """
    of_changes = [c for c in conditions if len(tables_of(c)) == 1 and tables_of(c) <= changed]
    found = [f"({sql_of(c)})" for c in conditions if c not in of_changes]
    if of_changes:
        every = " AND ".join(f"({sql_of(c)})" for c in of_changes)
        found.append(f"CASE WHEN {every} THEN true ELSE false END")
    return " AND ".join(found)


def lookup_order(
    product: Product, driver: Leaf | None, given: Mapping[str, set[str]] | None = None
) -> Iterator[tuple[Leaf, set[str], set[str]]]:
    """Each other leaf in the order in which it is joined, with the columns it is looked up by.

    Those that are compared, and those of arrays or jsonb that hold a known value.
    `given` are columns, by alias, whose values are known before: those of groups to be computed.
    """
    done: set[str] = {driver.alias} if driver is not None else set()
    known = given or {}
    left = [leaf for leaf in product.leaves if leaf is not driver]
    while left:
        best = min(left, key=lambda leaf: _cost(leaf, done, product.conditions))
        if not done and known:
            best = next((leaf for leaf in left if leaf.alias in known), best)
        left.remove(best)
        found = lookup_columns(best, done, product.conditions)
        yield best, found | known.get(best.alias, set()), columns_held(best, done, product)
        done.add(best.alias)


def _cost(leaf: Leaf, done: set[str], conditions: Sequence[exp.Expr]) -> tuple[float, ...]:
    """How many rows of the leaf belong to one row so far, by what is known of its columns."""
    looked_up = lookup_columns(leaf, done, conditions)
    relation = leaf.relation
    if isinstance(relation, Node):
        if any(set(key) <= looked_up for key in unique_keys(leaf)):
            return (0, 1.0)
        if relation.is_global:
            return (0, 1.0)
        if looked_up & set(relation.key[:1]):
            return (1, 3.0)
        return (2, 1000.0) if looked_up else (3, ROWS)
    rows = max(relation.rows, 1.0) if relation.rows > 0 else 1000.0
    if any(set(key) <= looked_up for key in relation.unique_keys):
        return (0, 1.0)
    fan_out = rows
    for name in looked_up:
        fan_out /= max(relation.distinct.get(name, 10.0), 1.0)
    fan_out = max(fan_out, 1.0)
    indexed = any(index[0] in looked_up for index in relation.indexes)
    if looked_up:
        return (1, fan_out) if indexed else (2, fan_out)
    return (3, rows)


def lookup_columns(leaf: Leaf, done: set[str], conditions: Sequence[exp.Expr]) -> set[str]:
    """The columns of the leaf that conditions say are equal to what is known already."""
    found = set()
    for condition in map(stripped, conditions):
        if not is_equality(condition):
            continue
        sides = stripped(condition.this), stripped(condition.expression)
        for one, other in (sides, sides[::-1]):
            if (
                isinstance(one, exp.Column)
                and one.table == leaf.alias
                and tables_of(other) <= done
                and other.find(exp.Query) is None
            ):
                found.add(one.name)
    return found


def quoted(alias: str) -> str:
    """An alias in quotes, for it may be a word of SQL."""
    return sql_of(exp.to_identifier(alias, quoted=True))
