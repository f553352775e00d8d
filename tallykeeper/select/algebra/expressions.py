"""Small tools over sqlglot's expressions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache

from sqlglot import exp, parse_one

from tallykeeper.select.dialect import Dialect, is_equality, to_sql


def sql_of(expression: exp.Expr) -> str:
    """The expression as PostgreSQL's SQL."""
    return to_sql(expression)


def key_of(expression: exp.Expr) -> str:
    """A text by which equal expressions are known."""
    return sql_of(stripped(expression))


def stripped(expression: exp.Expr) -> exp.Expr:
    """The expression without parentheses around all of it."""
    while isinstance(expression, exp.Paren):
        expression = expression.this
    return expression


@cache
def _parsed(text: str) -> exp.Expr:
    return parse_one(text, read=Dialect)


def template(text: str, **values: exp.Expr) -> exp.Expr:
    """Parse `text`, in which `:name` stands for a value."""

    def replaced(node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.Column) and node.name.startswith("tally_") and not node.table:
            value = values.get(node.name.removeprefix("tally_"))
            if value is not None:
                plain = exp.Column | exp.Literal | exp.Paren | exp.Func
                copy = value.copy()
                return copy if isinstance(copy, plain) else exp.Paren(this=copy)
        return node

    return _parsed(text.replace(":", "tally_")).copy().transform(replaced, copy=False)


def conjuncts(expression: exp.Expr | None) -> list[exp.Expr]:
    """The conditions that AND combines."""
    if expression is None:
        return []
    expression = stripped(expression)
    if isinstance(expression, exp.And):
        return [c for side in (expression.this, expression.expression) for c in conjuncts(side)]
    return [expression]


def disjuncts(expression: exp.Expr) -> list[exp.Expr]:
    """The conditions that OR combines."""
    expression = stripped(expression)
    if isinstance(expression, exp.Or):
        return [d for side in (expression.this, expression.expression) for d in disjuncts(side)]
    return [expression]


def factored(condition: exp.Expr) -> list[exp.Expr]:
    """The condition, and before it what all branches of an OR have in common: join keys."""
    branches = disjuncts(condition)
    if len(branches) < 2:
        return [condition]
    sets = [{key_of(c): c for c in conjuncts(branch)} for branch in branches]
    common = [c for key, c in sets[0].items() if all(key in other for other in sets[1:])]
    return [*common, condition]


def own_nodes(expression: exp.Expr) -> Iterator[exp.Expr]:
    """All nodes of an expression that are not inside a subquery; the subqueries themselves are."""
    yield expression
    if isinstance(expression, exp.Query):
        return
    for child in expression.iter_expressions():
        yield from own_nodes(child)


def first_subquery(expression: exp.Expr) -> exp.Expr | None:
    """The first subquery not inside another, with the EXISTS, IN, ANY or ARRAY that it is of."""
    for node in own_nodes(expression):
        if isinstance(node, exp.Exists | exp.Subquery):
            return node
        if isinstance(node, exp.In) and node.args.get("query") is not None:
            return node
        if isinstance(node, exp.Any | exp.All) and node.find(exp.Query):
            return node.parent
        if isinstance(node, exp.Query):
            # As in ARRAY(SELECT ...): of these there may always be another.
            return node.parent
    return None


def selected(query: exp.Expr) -> exp.Query:
    """The query inside parentheses."""
    while isinstance(query, exp.Subquery | exp.Paren):
        query = query.this
    assert isinstance(query, exp.Query)
    return query


def as_type(expression: exp.Expr, type_: str) -> exp.Expr:
    """The expression cast to a type, written as PostgreSQL's catalog has it, with its schema."""
    cast = _parsed(f"CAST(NULL AS {type_})").copy()
    cast.set("this", expression.copy())
    return cast


def substituted(expression: exp.Expr, names: Mapping[tuple[str, str], exp.Expr]) -> exp.Expr:
    """A copy of the expression with columns replaced by what they stand for."""
    if not names:
        return expression.copy()

    def replaced(node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.Column):
            found = names.get((node.table, node.name))
            if found is not None:
                # Nothing but a column can have a subscript without parentheses.
                is_part = isinstance(node.parent, exp.Bracket | exp.Dot) and node.arg_key == "this"
                is_column = isinstance(found, exp.Column)
                return (
                    exp.Paren(this=found.copy())
                    if is_part and not is_column
                    else enclosed(found.copy())
                )
        return node

    return expression.copy().transform(replaced, copy=False)


def enclosed(expression: exp.Expr) -> exp.Expr:
    """The expression in parentheses, where precedence might otherwise matter."""
    plain = exp.Column | exp.Literal | exp.Paren | exp.Cast | exp.Func | exp.Subquery | exp.Null
    return expression if isinstance(expression, plain) else exp.Paren(this=expression)


def tables_of(expression: exp.Expr) -> set[str]:
    """The aliases that the columns of an expression refer to."""
    return {column.table for column in expression.find_all(exp.Column)}


def defined(query: exp.Expr) -> set[str]:
    """The aliases that FROM defines anywhere in a query."""
    return {
        item.alias_or_name
        for item in query.find_all(exp.Table, exp.Subquery, exp.Lateral, exp.Unnest, exp.Values)
        if item.alias_or_name
    }


def own_aliases(query: exp.Select) -> set[str]:
    """The aliases of the items of FROM themselves."""
    from_ = query.args.get("from_")
    items = [from_.this] if from_ is not None else []
    items += [j.this for j in query.args.get("joins") or []]
    return {item.alias_or_name for item in items}


def equal_sides(
    condition: exp.Expr, here: set[str], there: set[str]
) -> tuple[exp.Expr, exp.Expr] | None:
    """The sides of an equality, that of `here` first."""
    condition = stripped(condition)
    if not is_equality(condition):
        return None
    left, right = condition.this, condition.expression
    for one, other in ((left, right), (right, left)):
        if (
            tables_of(one)
            and tables_of(one) <= here
            and tables_of(other)
            and tables_of(other) <= there
        ):
            return one, other
    return None
