"""A SELECT in the form that the compiler takes apart: unique names, plain joins, no CTEs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sqlglot import exp

from tallykeeper.select.definition.sources import Source
from tallykeeper.select.syntax.from_clauses import FromClause
from tallykeeper.select.syntax.scopes import NotUnderstood, Scope, column

__all__ = ["Normaliser", "NotUnderstood"]


@dataclass(frozen=True)
class Cte:
    """A common table expression as it was written, and what its text can name."""

    query: exp.Query
    columns: tuple[str, ...]
    ctes: Mapping[str, Cte]
    # The new name and the columns, where it names itself and so has to stay.
    recursive: tuple[str, tuple[str, ...]] | None = None


class Normaliser:
    """Makes the normal form of a SELECT.

    In it every table has its schema and an alias that no other has in the whole tree; every column
    has its table; every result column of every SELECT has a name; FROM is one item with a list of
    joins from the left, RIGHT turned to LEFT; USING is ON; a CTE or view stands as a derived table
    wherever it is read, except a recursive one; positions in GROUP BY and ORDER BY are expressions.
    """

    def __init__(
        self,
        source: Callable[[str, str], Source | None],
        view_query: Callable[[Source], exp.Query],
    ) -> None:
        self._source = source
        self._view_query = view_query
        self._used: set[str] = set()
        # Of the columns of base tables, by the new name of the table.
        self.types: dict[tuple[str, str], str] = {}

    def top(self, query: exp.Query, names: Sequence[str]) -> exp.Query:
        """The normal form of a whole SELECT whose result columns have these names."""
        return self.query(query, None, {}, names)

    def unique(self, name: str) -> str:
        """An alias that nothing else in the tree has, like the name where that is free."""
        candidate, number = name, 1
        while candidate in self._used:
            number += 1
            candidate = f"{name}_{number}"
        self._used.add(candidate)
        return candidate

    def query(
        self,
        query: exp.Expr,
        parent: Scope | None,
        ctes: Mapping[str, Cte],
        names: Sequence[str] | None = None,
    ) -> exp.Query:
        """The normal form of a SELECT inside another, whose columns and CTEs it can name."""
        with_ = query.args.get("with_")
        kept: list[exp.CTE] = []
        if with_ is not None:
            query.set("with_", None)
            ctes, kept = self._with(with_, parent, ctes)
        if isinstance(query, exp.Subquery):
            made = self._parentheses(query, parent, ctes, names)
        elif isinstance(query, exp.SetOperation):
            made = self._set_operation(query, parent, ctes, names)
        elif isinstance(query, exp.Select):
            made = self._select(query, parent, ctes, names)
        else:
            raise NotUnderstood(f"{type(query).__name__.upper()} stands where a SELECT should")
        if kept:
            inner = made.args.get("with_")
            inner_ctes = inner.expressions if inner is not None else []
            made.set("with_", exp.With(expressions=[*kept, *inner_ctes], recursive=True))
        return made

    def _with(
        self, with_: exp.With, parent: Scope | None, outer: Mapping[str, Cte]
    ) -> tuple[dict[str, Cte], list[exp.CTE]]:
        ctes, kept = dict(outer), []
        for cte in with_.expressions:
            columns = tuple(c.name for c in cte.args["alias"].columns)
            name, body = cte.alias, cte.this
            names_itself = with_.args.get("recursive") and any(
                t.name == name and not t.db for t in body.find_all(exp.Table)
            )
            if not names_itself:
                ctes[name] = Cte(body, columns, dict(ctes))
                continue
            if set(cte.args) - {"this", "alias", "materialized", "scalar", "key_expressions"}:
                raise NotUnderstood("SEARCH and CYCLE of a recursive WITH")
            columns = columns or tuple(_names(_leftmost(body)))
            new = self.unique(name)
            ctes[name] = Cte(body, columns, {}, (new, columns))
            made = self.query(body.copy(), parent, ctes, columns)
            alias = exp.TableAlias(this=exp.to_identifier(new, quoted=True))
            kept.append(exp.CTE(this=made, alias=alias))
        return ctes, kept

    def _parentheses(
        self,
        query: exp.Subquery,
        parent: Scope | None,
        ctes: Mapping[str, Cte],
        names: Sequence[str] | None,
    ) -> exp.Query:
        modified = any(query.args.get(k) for k in ("order", "limit", "offset"))
        if not modified:
            return self.query(query.this, parent, ctes, names)
        inner = exp.Subquery(this=query.this)
        return self._wrapped(query, inner, parent, ctes, names)

    def _set_operation(
        self,
        query: exp.SetOperation,
        parent: Scope | None,
        ctes: Mapping[str, Cte],
        names: Sequence[str] | None,
    ) -> exp.Query:
        if query.args.get("order") or query.args.get("limit") or query.args.get("offset"):
            bare = query.copy()
            for key in ("order", "limit", "offset"):
                bare.set(key, None)
            return self._wrapped(query, bare, parent, ctes, names)
        names = names or _names(_leftmost(query))
        for side in ("this", "expression"):
            made = self.query(query.args[side], parent, ctes, names)
            # What binds otherwise without parentheses keeps them.
            bare_select = isinstance(made, exp.Select) and not any(
                made.args.get(k) for k in ("order", "limit", "offset", "with_")
            )
            query.set(side, made if bare_select else exp.Subquery(this=made))
        return query

    def _wrapped(
        self,
        query: exp.Expr,
        inner: exp.Query,
        parent: Scope | None,
        ctes: Mapping[str, Cte],
        names: Sequence[str] | None,
    ) -> exp.Query:
        """ORDER BY and LIMIT of a set operation: those of a SELECT from it."""
        names = names or _names(_leftmost(inner))
        alias = self.unique("rows")
        columns = [_alias(column(alias, n), n) for n in names]
        made = self.query(inner, parent, ctes, names)
        select = exp.Select(
            expressions=columns, from_=exp.From(this=_derived(made, alias)), joins=[]
        )
        scope = Scope(parent)
        for key in ("order", "limit", "offset"):
            part = query.args.get(key)
            if part is not None:
                self._positions(part, select)
                select.set(key, self.expression(part, scope, ctes))
        return select

    def _select(
        self,
        select: exp.Select,
        parent: Scope | None,
        ctes: Mapping[str, Cte],
        names: Sequence[str] | None,
    ) -> exp.Query:
        scope = Scope(parent)
        clause = FromClause(self, scope, ctes)
        joins = select.args.get("joins") or []
        from_ = select.args.get("from_")
        select.set("from_", None)
        select.set("joins", None)
        if select.args.get("laterals"):
            raise NotUnderstood("LATERAL VIEW")
        if from_ is not None:
            clause.add(from_.this, joins)
        self._named(select, names)
        for projection in select.expressions:
            projection.set("this", self.expression(projection.this, scope, ctes))
        for key in ("group", "order"):
            if select.args.get(key) is not None:
                self._positions(select.args[key], select, by_name=key == "order")
        for key, value in list(select.args.items()):
            if key in ("expressions", "hint", "kind") or not value:
                continue
            if isinstance(value, list):
                select.set(key, [self.expression(v, scope, ctes) for v in value])
            elif isinstance(value, exp.Expr):
                select.set(key, self.expression(value, scope, ctes))
        clause.place(select)
        return select

    def expression(self, node: exp.Expr, scope: Scope, ctes: Mapping[str, Cte]) -> exp.Expr:
        """An expression in normal form: columns with their tables, SELECTs inside it likewise."""
        if node.meta.get("done"):
            return node
        if isinstance(node, exp.Column):
            return _column(node, scope)
        if isinstance(node, exp.Subquery):
            if isinstance(node.this, exp.Query) and not node.alias:
                made = self.query(node, scope, ctes)
                return exp.Subquery(this=made)
            raise NotUnderstood("a subquery in an expression that is no SELECT")
        if isinstance(node, exp.Query):
            return self.query(node, scope, ctes)
        for key, value in list(node.args.items()):
            if isinstance(value, list):
                node.set(
                    key,
                    [
                        self.expression(v, scope, ctes) if isinstance(v, exp.Expr) else v
                        for v in value
                    ],
                )
            elif isinstance(value, exp.Expr):
                node.set(key, self.expression(value, scope, ctes))
        return node

    def relation_query(
        self, schema: str, name: str, ctes: Mapping[str, Cte]
    ) -> tuple[Cte | None, Source | None]:
        """What a table of a FROM clause is: a CTE, or a view as one; or a source."""
        if not schema and name in ctes:
            return ctes[name], None
        source = self._source(schema or "pg_catalog", name)
        if source is None:
            raise NotUnderstood(f"the table {schema}.{name} was not found")
        if source.kind == "v":
            columns = tuple(c.name for c in source.columns)
            return Cte(self._view_query(source), columns, {}), None
        return None, source

    def _named(self, select: exp.Select, names: Sequence[str] | None) -> None:
        names = names or _names(select)
        if len(names) < len(select.expressions):
            names = [*names, *_names(select)[len(names) :]]
        select.set(
            "expressions",
            [_alias(e, n) for e, n in zip(select.expressions, names, strict=True)],
        )

    def _positions(self, part: exp.Expr, select: exp.Select, *, by_name: bool = True) -> None:
        """Replace positions, and names of result columns, by the expressions there."""
        named = {p.alias: p.this for p in select.expressions}
        for item in part.expressions:
            holder = item if isinstance(item, exp.Ordered) else part
            node = item.this if isinstance(item, exp.Ordered) else item
            found: exp.Expr | None = None
            if isinstance(node, exp.Literal) and not node.is_string:
                found = select.expressions[int(node.name) - 1].this
            elif by_name and isinstance(node, exp.Column) and not node.table:
                found = named.get(node.name)
            if found is None:
                continue
            made = found.copy()
            for inner in made.walk():
                inner.meta["done"] = True
            if holder is item:
                item.set("this", made)
            else:
                node.replace(made)


def _column(node: exp.Column, scope: Scope) -> exp.Expr:
    if isinstance(node.this, exp.Star):
        relation = scope.relation(node.table)
        if relation is None or relation.join is not None:
            raise NotUnderstood(f"{node.sql('postgres')} as a value")
        node.set("table", exp.to_identifier(relation.alias, quoted=True))
        return node
    if node.args.get("db"):
        raise NotUnderstood(f"the name {node.sql('postgres')}")
    return scope.column(node.table, node.name)


def _leftmost(query: exp.Expr) -> exp.Expr:
    while not isinstance(query, exp.Select):
        query = query.this
    return query


def _names(select: exp.Expr) -> list[str]:
    """The names of result columns as written; a column without one is numbered."""
    return [e.alias_or_name or f"column_{i}" for i, e in enumerate(select.expressions, 1)]


def _alias(projection: exp.Expr, name: str) -> exp.Alias:
    if isinstance(projection, exp.Alias):
        projection = projection.this
    elif isinstance(projection, exp.Subquery):
        projection.set("alias", None)
    return exp.Alias(this=projection, alias=exp.to_identifier(name, quoted=True))


def _derived(query: exp.Query, alias: str) -> exp.Subquery:
    return exp.Subquery(
        this=query, alias=exp.TableAlias(this=exp.to_identifier(alias, quoted=True))
    )
