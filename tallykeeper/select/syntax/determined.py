"""Which values of a SELECT's rows follow from others: by keys, equalities and groups.

Invariants: what is not known to follow counts as not following.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sqlglot import exp

from tallykeeper.select.definition.sources import Source
from tallykeeper.select.dialect import is_equality, to_sql
from tallykeeper.select.syntax.scopes import column

# Aggregates whose value depends on the order of their rows.
ORDERED = {
    "array_agg",
    "string_agg",
    "json_agg",
    "jsonb_agg",
    "json_agg_strict",
    "jsonb_agg_strict",
    "json_object_agg",
    "jsonb_object_agg",
    "json_object_agg_strict",
    "jsonb_object_agg_strict",
    "json_object_agg_unique",
    "jsonb_object_agg_unique",
    "xmlagg",
    "any_value",
}


_AGGREGATES = {
    *ORDERED,
    *("bool_and", "bool_or", "every", "bit_and", "bit_or", "bit_xor", "mode"),
    *("stddev", "stddev_pop", "stddev_samp", "variance", "var_pop", "var_samp"),
    *("percentile_cont", "percentile_disc", "range_agg", "range_intersect_agg"),
}


# Stands for all columns of a table.
_ALL = "*"


class Rows:
    """The rows of a SELECT before its ORDER BY, and what makes them unique."""

    def __init__(self, select: exp.Select, sources: Mapping[tuple[str, str], Source]) -> None:
        self._sources = sources
        self._keys: dict[str, list[tuple[str, ...]]] = {}
        self._equal: list[tuple[exp.Expr, exp.Expr]] = []
        self._outer: list[tuple[str, list[exp.Expr]]] = []
        group = select.args.get("group")
        self._is_grouped = group is not None or any(
            is_aggregate(n) and not isinstance(outermost(n), exp.Window)
            for p in select.expressions
            for n in (p.this, *own_nodes(p.this))
        )
        self._group = list(group.expressions) if group is not None else []
        self._has_sets = group is not None and any(
            group.args.get(k) for k in ("rollup", "cube", "grouping_sets")
        )
        items = [select.args.get("from_"), *(select.args.get("joins") or [])]
        where = select.args.get("where")
        self._equalities(_conjuncts(where.this if where is not None else None))
        for item in items:
            if item is None:
                continue
            self._keys[item.this.alias] = self._keys_of(item.this)
            conditions = _conjuncts(item.args.get("on"))
            if item.args.get("side") == "LEFT":
                self._outer.append((item.this.alias, conditions))
            elif not item.args.get("side"):
                self._equalities(conditions)

    def _equalities(self, conditions: Iterable[exp.Expr]) -> None:
        self._equal += [(c.this, c.expression) for c in conditions if is_equality(c)]

    def _keys_of(self, item: exp.Expr) -> list[tuple[str, ...]]:
        if isinstance(item, exp.Table):
            source = self._sources.get((item.db, item.name))
            return list(source.unique_keys) if source is not None else []
        if not isinstance(item, exp.Subquery) or not isinstance(item.this, exp.Select):
            return []
        select = item.this
        if isinstance(select.args.get("distinct"), exp.Distinct):
            on = select.args["distinct"].args.get("on")
            return [] if on is not None else [tuple(select.named_selects)]
        outputs = {_text(p.this): p.alias for p in select.expressions}
        rows = Rows(select, self._sources)
        if rows._has_sets:
            return []
        if rows._is_grouped:
            names = [outputs.get(_text(g)) for g in rows._group]
            return [tuple(n for n in names if n is not None)] if all(names) else []
        whole = [column(a, c) for a, keys in rows._keys.items() for c in (keys or [()])[0]]
        key = {p.alias: p.this for p in select.expressions if isinstance(p.this, exp.Column)}
        if not rows._keys or not all(rows._keys.values()):
            return []
        if not rows.determine([*key.values()], whole):
            return []
        for name in list(key):
            fewer = {n: c for n, c in key.items() if n != name}
            if rows.determine([*fewer.values()], whole):
                key = fewer
        return [tuple(key)]

    def determine(
        self, known: Sequence[exp.Expr], wanted: Iterable[exp.Expr], *, of_group: bool = True
    ) -> bool:
        """Whether rows that are equal in what is known are equal in what is wanted.

        `of_group`: the rows are those after GROUP BY; otherwise those of one group before it.
        """
        if not of_group and not self._has_sets:
            known = [*known, *self._group]
        known = [*map(bare, known), *map(_uncollated, known)]
        texts = {_text(k) for k in known}
        columns = {(k.table, k.name) for k in known if isinstance(k, exp.Column)}
        columns = self._closed(columns, texts)
        has_groups = of_group and self._is_grouped and not self._has_sets
        if has_groups and all(self._follows(g, texts, columns) for g in self._group):
            # A group has one row.
            return True
        return all(self._follows(w, texts, columns) for w in wanted)

    def _follows(self, node: exp.Expr, texts: set[str], columns: set[tuple[str, str]]) -> bool:
        node = bare(node)
        if _text(node) in texts:
            return True
        if isinstance(node, exp.Column):
            return self._is_known((node.table, node.name), columns)
        if is_aggregate(node):
            return False
        return all(self._follows(child, texts, columns) for child in node.iter_expressions())

    def _is_known(self, named: tuple[str, str], columns: set[tuple[str, str]]) -> bool:
        table = named[0]
        return named in columns or (table, _ALL) in columns or table not in self._keys

    def _closed(self, columns: set[tuple[str, str]], texts: set[str]) -> set[tuple[str, str]]:
        """The columns that follow from some, by keys and equalities."""
        while True:
            grown = set(columns)
            for a, b in self._equal:
                for one, other in ((a, b), (b, a)):
                    if isinstance(bare(one), exp.Column) and self._are_in(other, texts, grown):
                        grown |= _columns(one)
            for alias, conditions in self._outer:
                grown |= self._of_outer(alias, conditions, grown)
            for alias, keys in self._keys.items():
                if any(all(self._is_known((alias, c), grown) for c in key) for key in keys):
                    grown.add((alias, _ALL))
            if grown == columns:
                return grown
            columns = grown

    def _of_outer(
        self, alias: str, conditions: list[exp.Expr], columns: set[tuple[str, str]]
    ) -> set[tuple[str, str]]:
        """The key of an outer joined row, where all else that the condition names is known."""
        others = {c for on in conditions for c in _columns(on) if c[0] != alias}
        if not all(self._is_known(c, columns) for c in others):
            return set()
        return {
            of_key
            for on in conditions
            if is_equality(on)
            for one, other in ((on.this, on.expression), (on.expression, on.this))
            if isinstance(bare(one), exp.Column) and alias not in {t for t, _ in _columns(other)}
            for of_key in _columns(one)
            if of_key[0] == alias
        }

    def _are_in(self, node: exp.Expr, texts: set[str], columns: set[tuple[str, str]]) -> bool:
        if node.find(exp.Query) is not None:
            return False
        return _text(node) in texts or all(self._is_known(c, columns) for c in _columns(node))


def name_of(node: exp.Expr) -> str:
    """The name of the function that a node calls, in small letters; empty for other nodes."""
    if isinstance(node, exp.Anonymous):
        return str(node.name).lower()
    return node.sql_name().lower() if isinstance(node, exp.Func) else ""


def is_aggregate(node: exp.Expr) -> bool:
    """Whether the node is the call of an aggregate, or of one as a window function."""
    if isinstance(node, exp.Filter | exp.WithinGroup):
        return True
    is_numbering = isinstance(node, exp.RowNumber | exp.Rank | exp.DenseRank)
    return (isinstance(node, exp.AggFunc) and not is_numbering) or name_of(node) in _AGGREGATES


def bare(node: exp.Expr) -> exp.Expr:
    """The expression without parentheses around all of it."""
    while isinstance(node, exp.Paren):
        node = node.this
    return node


def _uncollated(node: exp.Expr) -> exp.Expr:
    """What a collation is given to: it is equal where that is, as collations tell all texts apart.

    Those that do not are refused wherever they are.
    """
    while isinstance(node, exp.Paren | exp.Collate):
        node = node.this
    return node


def outermost(node: exp.Expr) -> exp.Expr | None:
    """What a call is in, past its FILTER and WITHIN GROUP."""
    parent = node.parent
    while isinstance(parent, exp.Filter | exp.WithinGroup | exp.IgnoreNulls | exp.RespectNulls):
        parent = parent.parent
    return parent


def own_nodes(node: exp.Expr) -> Iterable[exp.Expr]:
    """All nodes of a SELECT but those of SELECTs inside it."""
    for child in node.iter_expressions():
        if not isinstance(child, exp.Select | exp.SetOperation):
            yield child
            yield from own_nodes(child)


def _conjuncts(node: exp.Expr | None) -> list[exp.Expr]:
    if node is None:
        return []
    node = bare(node)
    if isinstance(node, exp.And):
        return [*_conjuncts(node.this), *_conjuncts(node.expression)]
    return [node]


def _text(node: exp.Expr) -> str:
    """A text by which equal expressions are known, whatever the tables within them are called."""
    if node.find(exp.Query) is not None:
        node = node.copy()
        within = [n for q in node.find_all(exp.Select) for n in _items_of(q)]
        names = {item.alias: f"_{number}" for number, item in enumerate(within)}
        for each in node.find_all(exp.Column, exp.TableAlias):
            key = "table" if isinstance(each, exp.Column) else "this"
            name = each.args[key].name if each.args.get(key) is not None else ""
            if name in names:
                each.set(key, exp.to_identifier(names[name], quoted=True))
    return to_sql(bare(node))


def _items_of(select: exp.Select) -> list[exp.Expr]:
    """The items of a FROM clause."""
    joined = [select.args.get("from_"), *(select.args.get("joins") or [])]
    return [each.this for each in joined if each is not None]


def _columns(node: exp.Expr) -> set[tuple[str, str]]:
    return {(c.table, c.name) for c in node.find_all(exp.Column)}
