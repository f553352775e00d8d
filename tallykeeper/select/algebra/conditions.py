"""WHERE and HAVING, with the subqueries in them put in as joins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlglot import exp

from tallykeeper.select.algebra.expressions import (
    conjuncts,
    enclosed,
    factored,
    first_subquery,
    selected,
    sql_of,
    stripped,
    template,
)
from tallykeeper.select.algebra.relations import NotLinear, Product, is_impossible
from tallykeeper.select.algebra.subqueries import Subqueries


class Conditions(Subqueries):
    """WHERE and HAVING, with the subqueries in them put in as joins."""

    def _where(self, query: exp.Select, products: list[Product]) -> list[Product]:
        where = query.args.get("where")
        for condition in conjuncts(where.this if where else None):
            for each in factored(condition):
                products = self._filtered(products, each)
                self._check_number(products)
        return products

    def _filtered(self, products: Sequence[Product], condition: exp.Expr) -> list[Product]:
        """The rows of the products for which the condition is true."""
        found: list[Product] = []
        for product in products:
            found += self._filtered_one(product, product.resolve(condition))
        return [p for p in found if not is_impossible(p)]

    def _filtered_one(self, product: Product, condition: exp.Expr) -> list[Product]:
        condition = stripped(condition)
        if first_subquery(condition) is None:
            return [product.where(condition)]
        negated, inner = False, condition
        while isinstance(inner, exp.Not | exp.Paren):
            negated ^= isinstance(inner, exp.Not)
            inner = inner.this
        if isinstance(inner, exp.In) and inner.args.get("query") is not None and negated:
            spelled = exp.and_(
                *(exp.Not(this=c) for c in self._matches(product, inner)), copy=False
            )
            rows = [product]
            for each in conjuncts(spelled):
                rows = [r for p in rows for r in self._filtered_one(p, each)]
            return rows
        if isinstance(inner, exp.In) and inner.args.get("query") is not None:
            inner = self._matches(product, inner, positive=True)[0]
        if isinstance(inner, exp.Exists):
            spelled_out = self._theta(inner)
            if spelled_out is not None:
                if negated:
                    spelled_out = exp.Not(this=exp.Paren(this=spelled_out))
                rows = [product]
                for each in conjuncts(spelled_out):
                    rows = [r for p in rows for r in self._filtered_one(p, each)]
                return rows
            keyed = self._keyed(selected(inner.this), value=False)
            joined = self._joined(product, keyed)
            return [product, *map(_negative, joined)] if negated else joined
        return [
            p.where(e[0])
            for p, e in self._split(product, [condition])
            if not is_impossible(p.where(e[0]))
        ]

    def _split(
        self, product: Product, expressions: Sequence[exp.Expr]
    ) -> list[tuple[Product, list[exp.Expr]]]:
        """The product by what the subqueries in the expressions are, with their values put in."""
        for expression in expressions:
            found = first_subquery(expression)
            if found is not None:
                break
        else:
            return [(product, list(expressions))]
        cases: list[tuple[Product, exp.Expr]]
        if isinstance(found, exp.In):
            tests = self._matches(product, found)
            values = {f"test{i}": test for i, test in enumerate(tests)}
            unknown = "".join(f" WHEN :test{i} THEN NULL" for i in range(1, len(tests)))
            text = f"CASE WHEN :test0 THEN TRUE{unknown}"
            spelled = template(f"{text} ELSE FALSE END", **values)
            return self._split(product, _with(expressions, found, exp.Paren(this=spelled)))
        if isinstance(found, exp.Exists):
            spelled_out = self._theta(found)
            if spelled_out is not None:
                return self._split(product, _with(expressions, found, exp.Paren(this=spelled_out)))
            joined = self._joined(product, self._keyed(selected(found.this), value=False))
            cases = [(p, exp.true()) for p in joined]
            cases += [(p, exp.false()) for p in (product, *map(_negative, joined))]
        elif isinstance(found, exp.Subquery):
            keyed = self._keyed(selected(found), value=True)
            assert keyed.value is not None
            pairs = self._joined_with(product, keyed)
            cases = [(p, enclosed(outputs[keyed.value])) for p, outputs in pairs]
            if keyed.empty is not None:
                without = (product, *(_negative(p) for p, _ in pairs))
                cases += [(p, keyed.empty) for p in without]
        else:
            raise NotLinear("a subquery of which all rows are looked at: ANY, ALL, ARRAY")
        rows: list[tuple[Product, list[exp.Expr]]] = []
        for case, value in cases:
            rows += self._split(case, _with(expressions, found, value))
            self._check_number([p for p, _ in rows])
        return rows


def _negative(product: Product) -> Product:
    return replace(product, sign=-product.sign)


def _with(expressions: Sequence[exp.Expr], found: exp.Expr, value: exp.Expr) -> list[exp.Expr]:
    """The expressions with a subquery replaced by a value, wherever it is."""
    text = sql_of(found)

    def replaced(node: exp.Expr) -> exp.Expr:
        if type(node) is type(found) and sql_of(node) == text:
            return value.copy()
        return node

    return [e.copy().transform(replaced, copy=False) for e in expressions]
