"""The last steps: which rows of the derived table change, and how often each is there then."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlglot import exp

from tallykeeper.database import sql
from tallykeeper.select.algebra.expressions import sql_of, stripped
from tallykeeper.select.algebra.relations import COUNT, Bag, Node
from tallykeeper.select.plan import TOTAL, Column, Step, Text
from tallykeeper.select.statements.asked import where
from tallykeeper.select.statements.steps import NodeSteps, by_value, is_identical, of_value
from tallykeeper.select.statements.terms import Images, M, quoted, terms
from tallykeeper.select.statements.text import only_if, text

_SAME: Mapping[str, str] = {}
_INTEGERS = ("smallint", "integer", "bigint")


@dataclass(frozen=True)
class Unstored:
    """The last node, where the derived table has all that its state would have.

    `names` are the derived table's columns by the state's.
    """

    node: Node
    names: dict[str, str]
    outputs: tuple[exp.Expr, ...]


def unstored(
    bag: Bag, columns: Sequence[Column], key: Sequence[str] | None, nodes: Sequence[Node]
) -> Unstored | None:
    """The last node, if the derived table can stand for its state."""
    arm = bag.single
    if arm is None or not key or arm.product.conditions or arm.product.expansions:
        return None
    if len(arm.product.leaves) != 1 or not isinstance(arm.product.leaves[0].relation, Node):
        return None
    node = arm.product.leaves[0].relation
    read = {r.name for n in nodes for r in n.reads.values()}
    read |= {
        leaf.relation.name
        for n in nodes
        for each in n.inputs
        for leaf in each.product.leaves
        if isinstance(leaf.relation, Node)
    }
    is_fit = node.strategy == "delta" or (node.strategy == "group" and node.unique)
    if node.name in read or node.is_global or not is_fit:
        return None
    names: dict[str, str] = {}
    for output, column in zip(arm.outputs, columns, strict=True):
        plain = stripped(output)
        if isinstance(plain, exp.Cast) and column.type in _INTEGERS and node.strategy == "delta":
            plain = stripped(plain.this)
        if isinstance(plain, exp.Column):
            names.setdefault(plain.name, column.name)
        elif node.strategy == "delta":
            return None
    if node.strategy == "group":
        names |= _same(node, names)
    wanted = node.key if node.strategy == "group" else [c.name for c in node.columns]
    if not set(wanted) <= set(names) or any(node.column(k).nullable for k in node.key):
        return None
    return Unstored(node, names, arm.outputs) if {names[k] for k in node.key} == set(key) else None


def _same(node: Node, names: dict[str, str]) -> dict[str, str]:
    """The derived table's columns of the key, where outputs are the same as it."""
    for found in node.row_keys[1:]:
        if all(name in names for name in found):
            return {k: names[n] for k, n in zip(node.key, found, strict=True)}
    return {}


def stored_columns(last: Unstored, derived: str) -> str:
    """The derived table as the node's state, as far as it is that."""
    listed = "".join(f", d.{sql.quote(name)} AS {own}" for own, name in last.names.items())
    return f"(SELECT d.ctid{listed} FROM {derived} AS d)"


def last_changes(last: Unstored, columns: Sequence[Column], made: NodeSteps, derived: str) -> Text:
    """The changed rows of the derived table, from the steps of the last node."""
    nothing = _nothing(columns)
    listed = ", ".join(
        f"CAST({sql_of(_of(o, 'c'))} AS {c.type}) AS {sql.quote(c.name)}"
        for o, c in zip(last.outputs, columns, strict=True)
    )
    if last.node.strategy == "delta":
        rows = (
            f"\nUNION ALL SELECT {listed}, CASE WHEN c.{COUNT} <> 0 THEN 1 ELSE 0 END"
            f" FROM {made.c} AS c"
        )
    else:
        stored = ", ".join(f"d.{sql.quote(c.name)}" for c in columns)
        same = " AND ".join(f"d.{sql.quote(last.names[k])} = x.{k}" for k in last.node.key)
        again = " AND ".join(f"c.{k} = x.{k}" for k in last.node.key)
        rows = (
            f"\nUNION ALL SELECT {listed}, 1 FROM {made.new} AS c"
            f"\nUNION ALL SELECT {stored}, 0 FROM {made.x} AS x JOIN {derived} AS d ON {same}"
            f" WHERE NOT EXISTS (SELECT 1 FROM {made.new} AS c WHERE {again})"
        )
    return text(f"SELECT {nothing}, 0 AS {TOTAL} WHERE false", only_if(made.parts, text(rows)))


def losses(bag: Bag, columns: Sequence[Column], images: Images, key: Sequence[str] | None) -> Text:
    """A SELECT of the keys of all groups that pending changes concern.

    Empty where that cannot be known: where a row of the derived table is not one group of a node.
    """
    selects: list[Text] = []
    for arm in bag.arms:
        leaf = arm.product.leaves[0].relation if len(arm.product.leaves) == 1 else None
        keyed = [
            (output, column)
            for output, column in zip(arm.outputs, columns, strict=True)
            if column.name in (key or ())
        ]
        if not isinstance(leaf, Node):
            return ()
        same = leaf.same_as_key()
        used = {same.get(c.name) for output, _ in keyed for c in output.find_all(exp.Column)}
        if (
            leaf.strategy == "whole"
            or leaf.is_global
            or arm.product.expansions
            or not keyed
            or used != set(leaf.key)
        ):
            return ()
        listed = ", ".join(
            f"CAST({sql_of(_of(o, 'x', same))} AS {c.type}) AS {sql.quote(c.name)}"
            for o, c in keyed
        )
        chosen = text(f"\nUNION SELECT {listed} FROM tally_x_{leaf.name} AS x")
        selects.append(only_if(images.node_parts[leaf.name], chosen))
    nothing = _nothing([c for c in columns if c.name in (key or ())])
    return text(f"SELECT {nothing} WHERE false", *selects) if selects else ()


def from_states(bag: Bag, columns: Sequence[Column]) -> str:
    """A SELECT of all rows from the state of the last node; empty where others are needed."""
    arm = bag.single
    if (
        arm is None
        or arm.product.sign < 0
        or arm.product.expansions
        or len(arm.product.leaves) != 1
    ):
        return ""
    leaf = arm.product.leaves[0]
    if not isinstance(leaf.relation, Node):
        return ""
    listed = ", ".join(
        f"CAST({sql_of(o)} AS {c.type}) AS {sql.quote(c.name)}"
        for o, c in zip(arm.outputs, columns, strict=True)
    )
    where = " AND ".join(f"({sql_of(c)})" for c in arm.product.conditions) or "true"
    return f"SELECT {listed} FROM {leaf.relation.state} AS {quoted(leaf.alias)} WHERE {where}"


def _of(expression: exp.Expr, alias: str, names: Mapping[str, str] = _SAME) -> exp.Expr:
    def renamed(node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.Column):
            node.set("table", exp.to_identifier(alias))
            node.set("this", exp.to_identifier(names.get(node.name, node.name)))
        return node

    return expression.copy().transform(renamed, copy=False)


def _nothing(columns: Sequence[Column]) -> str:
    return ", ".join(f"CAST(NULL AS {c.type}) AS {sql.quote(c.name)}" for c in columns)


def changes(
    bag: Bag,
    columns: Sequence[Column],
    images: Images,
    key: tuple[str, ...] | None,
    derived: str,
) -> tuple[list[Step], Text]:
    """The steps and the SELECT of the changed rows; without a `key` equal rows are counted."""
    names = [sql.quote(c.name) for c in columns]
    types = [(c.name, c.type) for c in columns]
    nothing = _nothing(columns)
    selects: list[Text] = []
    parts: set[int] = set()
    for arm in bag.arms:
        for term in terms(arm.product, images):
            listed = ", ".join(
                f"CAST({sql_of(o)} AS {c.type}) AS {sql.quote(c.name)}"
                for o, c in zip(arm.outputs, columns, strict=True)
            )
            chosen = text(f"\nUNION ALL SELECT {listed}, {term.weight} AS {M}\n", term.source)
            selects.append(term.only_if_needed(chosen))
            parts |= term.needs[0]
    rows = text(f"SELECT {nothing}, 0::bigint AS {M} WHERE false", *selects)
    listed = ", ".join(names)
    net = text(
        f"SELECT {of_value(types)}, sum({M})::bigint AS {M} FROM (\n",
        rows,
        "\n) AS q",
        where({sql.quote(name): place for place, name in enumerate(key or ())}, "\nWHERE "),
        f" GROUP BY {by_value(types)} HAVING sum({M}) <> 0",
    )
    everything = frozenset(images.numbers.values())
    step = Step("tally_changed", net, everything)
    if key == ():
        final = (
            f"SELECT {listed}, CASE WHEN {M} > 0 THEN 1 ELSE 0 END AS {TOTAL}"
            f" FROM tally_changed ORDER BY {M} DESC LIMIT 1"
        )
        return [step], text(final)
    if key is not None:
        # A key that the declaration names may not be unique: then the derived table says so.
        by = ", ".join(sql.quote(k) for k in key)
        final = (
            f"SELECT {listed}, CASE WHEN {M} > 0 THEN 1 ELSE 0 END AS {TOTAL} FROM ("
            f"SELECT {listed}, {M}, max({M}) OVER (PARTITION BY {by}) AS tally_best"
            f" FROM tally_changed) AS q CROSS JOIN generate_series(1, greatest({M}, 1))"
            f" WHERE {M} > 0 OR tally_best < 0"
        )
        return [step], text(final)
    # The derived table has an index of this number.
    numbers = (
        f"hash_record_extended(ROW({', '.join(f'{a}.{n}' for n in names)}), 0)" for a in "dq"
    )
    same = " AND ".join(
        ["{} = {}".format(*numbers), *(f"d.{n} IS NOT DISTINCT FROM q.{n}" for n in names)]
    )
    if all(is_identical(t) for _, t in types):
        final = (
            f"SELECT {', '.join(f'q.{n}' for n in names)}, (q.{M} + (SELECT count(*)"
            f" FROM {derived} AS d WHERE {same}))::integer AS {TOTAL}"
            " FROM tally_changed AS q"
        )
        return [step], text(final)
    # Rows that are equal are written together, and so all of them are returned. One may have been
    # stored as another that is equal: what is taken off is so of any of them.
    stored = ", ".join(f"d.{n}" for n in names)
    final = (
        f"SELECT {listed}, greatest(least({M}, tally_all - tally_before), 0)::integer"
        f" AS {TOTAL} FROM (\n"
        f"SELECT {listed}, {M}, sum({M}) OVER (PARTITION BY {listed}) AS tally_all,"
        f" coalesce(sum(greatest({M}, 0)) OVER (PARTITION BY {listed} ORDER BY {M} DESC"
        " ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS tally_before FROM (\n"
        f"SELECT {listed}, sum({M}) AS {M} FROM (\n"
        f"SELECT {listed}, {M} FROM tally_changed\n"
        f"UNION ALL SELECT {stored}, 1 FROM {derived} AS d"
        f" WHERE EXISTS (SELECT 1 FROM tally_changed AS q WHERE {same})\n"
        f") AS q GROUP BY {by_value(types)}) AS q) AS q"
    )
    return [step], text(final)
