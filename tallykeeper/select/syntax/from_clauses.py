"""The FROM clause of one SELECT, from joins in parentheses to a list of joins from the left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlglot import exp

from tallykeeper.select.syntax.scopes import (
    Join,
    Kind,
    NotUnderstood,
    Relation,
    Scope,
    column,
    merged,
)

if TYPE_CHECKING:
    from tallykeeper.select.syntax.normal_form import Cte, Normaliser


class FromClause:
    """Takes the items of a FROM clause into a scope, and places them into the SELECT again."""

    def __init__(self, normaliser: Normaliser, scope: Scope, ctes: Mapping[str, Cte]) -> None:
        self._of = normaliser
        self._scope = scope
        self._ctes = ctes
        # Single items, by their new name.
        self._leaves: dict[str, Relation] = {}
        self._apart: list[_Apart] = []

    def add(self, first: exp.Expr, joins: Sequence[exp.Join]) -> None:
        """Take the clause: its first item and what is joined to it, as parsed."""
        tree = self._item(first)
        for join in joins:
            tree = self._joined(tree, join)
        self._scope.top = [tree]

    def place(self, select: exp.Select) -> None:
        """Put the joins into the SELECT, from the left."""
        if not self._scope.top:
            return
        first, joins, conditions = self._flat(self._scope.top[0])
        select.set("from_", exp.From(this=first))
        select.set("joins", joins)
        for condition in conditions:
            select.where(condition, copy=False)
        if self._apart:
            self._replace(select, list(reversed(self._apart)))
            for apart in reversed(self._apart):
                apart.drop_unused(select)

    # Into the scope.

    def _item(self, node: exp.Expr) -> Relation:
        inner = node.args.get("joins")
        if inner:
            node.set("joins", None)
            tree = self._item(node)
            for join in inner:
                tree = self._joined(tree, join)
            return tree
        if isinstance(node, exp.Subquery) and not isinstance(node.this, exp.Query):
            return self._renamed(self._item(node.this), node)
        if (
            isinstance(node, exp.Subquery)
            and isinstance(node.this, exp.Subquery)
            and not node.alias
        ):
            return self._item(node.this)
        if isinstance(node, exp.Subquery):
            return self._derived(node, node.this, lateral=False)
        if isinstance(node, exp.Lateral) and isinstance(node.this, exp.Subquery):
            return self._derived(node, node.this.this, lateral=True)
        if isinstance(node, exp.Table) and isinstance(node.this, exp.Identifier):
            return self._table(node)
        if isinstance(node, exp.Table | exp.Lateral | exp.Unnest | exp.Values):
            return self._function(node)
        raise NotUnderstood(f"{type(node).__name__} in a FROM clause")

    def _renamed(self, relation: Relation, node: exp.Subquery) -> Relation:
        """Joins in parentheses, which may have a name that hides those within."""
        if not node.alias:
            return relation
        names = [c.name for c in node.args["alias"].columns]
        names += [n for n, _ in relation.columns[len(names) :]]
        columns = [(n, e) for n, (_, e) in zip(names, relation.columns, strict=True)]
        named = Relation(columns, join=relation.join, item=relation.item, alias=relation.alias)
        self._scope.named[node.alias] = named
        self._scope.top = [named if r is relation else r for r in self._scope.top]
        return named

    def _name(self, relation: Relation, name: str) -> Relation:
        self._leaves[relation.alias] = relation
        self._scope.named[name] = relation
        self._scope.top.append(relation)
        return relation

    def _table(self, node: exp.Table) -> Relation:
        if set(_given(node)) - {"this", "db", "alias", "only", "sample"}:
            raise NotUnderstood(f"{node.sql('postgres')} in a FROM clause")
        cte, source = self._of.relation_query(node.db, node.name, self._ctes)
        if cte is not None and cte.recursive is None:
            return self._inlined(node, cte)
        name = node.alias or node.name
        new = self._of.unique(name)
        if cte is not None and cte.recursive is not None:
            table, names = cte.recursive
            item: exp.Expr = exp.Table(this=exp.to_identifier(table, quoted=True))
            # Columns keep the names under which the CTE's own SELECT returns them.
        else:
            assert source is not None
            names = tuple(c.name for c in source.columns)
            self._of.types.update({(new, c.name): c.type for c in source.columns})
            item = exp.Table(
                this=exp.to_identifier(source.name, quoted=True),
                db=exp.to_identifier(source.schema, quoted=True),
                only=node.args.get("only"),
                sample=node.args.get("sample"),
            )
        item.set("alias", _alias(new))
        columns = [
            (shown, column(new, own)) for own, shown in zip(names, _shown(node, names), strict=True)
        ]
        return self._name(Relation(list(columns), item=item, alias=new), name)

    def _inlined(self, node: exp.Table, cte: Cte) -> Relation:
        name = node.alias or node.name
        query = self._of.query(cte.query.copy(), None, cte.ctes, cte.columns or None)
        return self._query(node, name, query)

    def _derived(self, node: exp.Expr, query: exp.Expr, *, lateral: bool) -> Relation:
        names = [c.name for c in node.args["alias"].columns]
        around = self._scope if lateral else self._scope.parent
        made = self._of.query(query, around, self._ctes, names or None)
        return self._query(node, node.alias, made, lateral=lateral)

    def _query(
        self, node: exp.Expr, name: str, query: exp.Query, *, lateral: bool = False
    ) -> Relation:
        new = self._of.unique(name)
        own = query.named_selects
        item: exp.Expr
        if lateral:
            item = exp.Lateral(this=exp.Subquery(this=query), alias=_alias(new))
        else:
            item = exp.Subquery(this=query, alias=_alias(new))
        columns = [(s, column(new, o)) for o, s in zip(own, _shown(node, own), strict=True)]
        return self._name(Relation(list(columns), item=item, alias=new), name)

    def _function(self, node: exp.Expr) -> Relation:
        alias = node.args.get("alias")
        name = node.alias or node.name
        node.set("alias", None)
        item = self._of.expression(node, self._scope, self._ctes)
        new = self._of.unique(name)
        names = list(alias.columns) if alias is not None else []
        # UNNEST has the name of the column with the ordinality apart from others.
        unnest = item if isinstance(item, exp.Unnest) else item.this
        if isinstance(unnest, exp.Unnest) and isinstance(unnest.args.get("offset"), exp.Identifier):
            names.append(unnest.args["offset"])
            unnest.set("offset", True)
        item.set("alias", _alias(new))
        item.args["alias"].set("columns", [c.copy() for c in names])
        columns: list[tuple[str, exp.Expr]] = [(c.name, column(new, c.name)) for c in names]
        return self._name(Relation(columns, item=item, alias=new, is_open=not names), name)

    def _joined(self, left: Relation, node: exp.Join) -> Relation:
        if node.method or node.kind not in ("", "INNER", "CROSS", "OUTER"):
            raise NotUnderstood(f"{node.method} {node.kind} JOIN".strip())
        right = self._item(node.this)
        kind: Kind = "inner"
        if node.side == "FULL":
            kind = "full"
        elif node.side:
            kind = "left"
        first, second = (right, left) if node.side == "RIGHT" else (left, right)
        columns = [*left.columns, *right.columns]
        on = node.args.get("on")
        using = node.args.get("using") or []
        if using:
            on, columns = self._using(kind, left, right, [u.name for u in using], first is right)
        elif on is not None:
            on = self._of.expression(on, self._scope, self._ctes)
        relation = Relation(columns, join=Join(kind, first, second, on))
        if using and using[0].meta.get("join_alias") is not None:
            merged_columns = columns[: len(using)]
            self._scope.named[using[0].meta["join_alias"].name] = Relation(merged_columns)
        self._scope.top = [r for r in self._scope.top if r is not left and r is not right]
        self._scope.top.append(relation)
        return relation

    def _using(
        self, kind: Kind, left: Relation, right: Relation, names: list[str], turned: bool
    ) -> tuple[exp.Expr, list[tuple[str, exp.Expr]]]:
        conditions: list[exp.Expr] = []
        columns: list[tuple[str, exp.Expr]] = []
        for name in names:
            a, b = left.column(name), right.column(name)
            if a is None or b is None:
                raise NotUnderstood(f"the column {name} of USING was not found")
            conditions.append(exp.EQ(this=a.copy(), expression=b.copy()))
            same = self._type(a) is not None and self._type(a) == self._type(b)
            kept, other = (b, a) if turned else (a, b)
            columns.append((name, merged(kind, kept, other, same_type=same)))
        rest = [*left.columns, *right.columns]
        columns += [(n, e) for n, e in rest if n not in names]
        return exp.and_(*conditions, copy=False), columns

    def _type(self, expression: exp.Expr) -> str | None:
        if not isinstance(expression, exp.Column):
            return None
        return self._of.types.get((expression.table, expression.name))

    # Out of it.

    def _flat(self, relation: Relation) -> tuple[exp.Expr, list[exp.Join], list[exp.Expr]]:
        """First item, joins, and conditions that belong into WHERE."""
        join = relation.join
        if join is None:
            assert relation.item is not None
            return relation.item, [], []
        first, joins, conditions = self._flat(join.left)
        if join.kind == "full" and conditions:
            first, joins, conditions = self._set_apart(join.left, first, joins, conditions), [], []
        if join.right.join is None:
            assert join.right.item is not None
            joins.append(_join(join.kind, join.right.item, join.on))
            return first, joins, conditions
        right, right_joins, right_conditions = self._flat(join.right)
        if join.kind != "inner" or any(j.side == "FULL" for j in right_joins):
            item = self._set_apart(join.right, right, right_joins, right_conditions)
            joins.append(_join(join.kind, item, join.on))
            return first, joins, conditions
        # Outer joins of the right side's rows may as well follow the inner join.
        conditions = [*conditions, *right_conditions]
        on = join.on
        later = {j.this.alias for j in right_joins}
        if on is None or later.isdisjoint(c.table for c in on.find_all(exp.Column)):
            joins.append(_join("inner", right, on))
            return first, [*joins, *right_joins], conditions
        joins += [_join("inner", right, None), *right_joins]
        if joins[-1].side:
            conditions.append(on)
        else:
            before = joins[-1].args.get("on")
            joins[-1].set("on", exp.and_(before, on, copy=False) if before else on)
            joins[-1].set("kind", None)
        return first, joins, conditions

    def _set_apart(
        self,
        relation: Relation,
        first: exp.Expr,
        joins: list[exp.Join],
        conditions: list[exp.Expr],
    ) -> exp.Expr:
        """Joins that must happen before others: a derived table."""
        new = self._of.unique("joined")
        projections: list[exp.Expr] = []
        names: dict[tuple[str, str], str] = {}
        for alias in sorted(relation.aliases()):
            leaf = self._leaves[alias]
            if leaf.is_open:
                raise NotUnderstood("a function without column names in a join in parentheses")
            for _, own in leaf.columns:
                assert isinstance(own, exp.Column)
                name, number = own.name, 1
                while name in names.values():
                    number += 1
                    name = f"{own.name}_{number}"
                names[alias, own.name] = name
                projections.append(exp.alias_(own.copy(), name, quoted=True))
        select = exp.Select(expressions=projections, from_=exp.From(this=first), joins=joins)
        for condition in conditions:
            select.where(condition, copy=False)
        self._apart.append(_Apart(new, select, names))
        outside = set(self._leaves) - relation.aliases()
        subquery = exp.Subquery(this=select)
        if outside.isdisjoint(c.table for c in select.find_all(exp.Column)):
            subquery.set("alias", _alias(new))
            return subquery
        return exp.Lateral(this=subquery, alias=_alias(new))

    def _replace(self, node: exp.Expr, active: list[_Apart]) -> None:
        """Have columns name the derived table that their table is in, the outermost first."""
        active = [a for a in active if a.select is not node]
        for child in list(node.iter_expressions()):
            if not isinstance(child, exp.Column):
                self._replace(child, active)
                continue
            for apart in active:
                if child.table not in {alias for alias, _ in apart.names}:
                    continue
                if isinstance(child.this, exp.Star):
                    raise NotUnderstood("a whole row as a value, from a join in parentheses")
                child.replace(column(apart.alias, apart.names[child.table, child.name]))
                break


@dataclass
class _Apart:
    """A derived table that was made of joins, and its names of their columns."""

    alias: str
    select: exp.Select
    names: dict[tuple[str, str], str]

    def drop_unused(self, around: exp.Expr) -> None:
        """Drop the columns that nothing reads."""
        used = {c.name for c in around.find_all(exp.Column) if c.table == self.alias}
        kept = [p for p in self.select.expressions if p.alias in used]
        self.select.set("expressions", kept or self.select.expressions[:1])


def _join(kind: Kind, item: exp.Expr, on: exp.Expr | None) -> exp.Join:
    if kind == "inner" and on is None:
        return exp.Join(this=item, kind="CROSS")
    return exp.Join(this=item, side=None if kind == "inner" else kind.upper(), on=on or exp.true())


def _alias(name: str) -> exp.TableAlias:
    return exp.TableAlias(this=exp.to_identifier(name, quoted=True))


def _given(node: exp.Expr) -> list[str]:
    return [key for key, value in node.args.items() if value]


def _shown(node: exp.Expr, own: Sequence[str]) -> list[str]:
    """The names under which columns are known outside: of the alias, as far as it has some."""
    alias = node.args.get("alias")
    names = [c.name for c in alias.columns] if alias is not None else []
    return [*names, *own[len(names) :]]
