"""Faults of the compiler, made on purpose: each must be found by the fuzzer."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from sqlglot import exp

from tallykeeper.select.algebra import aggregates, conditions, expressions, uniqueness
from tallykeeper.select.algebra.relations import COUNT, Leaf, Node
from tallykeeper.select.algebra.translation import Translation
from tallykeeper.select.statements import steps
from tallykeeper.select.statements import terms as terms_module
from tallykeeper.select.statements.steps import NodeSteps
from tallykeeper.select.statements.terms import Images, M, name_of, quoted
from tallykeeper.select.statements.text import text
from tallykeeper.select.syntax import grouping_sets
from tests.select_fuzz import direct

Fault = Callable[[], AbstractContextManager[object]]
FAULTS: dict[str, Fault] = {}


def fault(made: Callable[[], Iterator[None]]) -> Callable[[], Iterator[None]]:
    """Register a fault by its name; its docstring says what is wrong."""
    FAULTS[made.__name__] = contextmanager(made)
    return made


@contextmanager
def _without_what_differs(is_left_out: Callable[[Leaf], bool]) -> Iterator[None]:
    """Some relations of a join are read as they are stored, where they should not be."""
    adjusted, subsets = terms_module._adjusted, terms_module._subsets

    def as_stored(leaf: Leaf, images: Images) -> Any:
        if not is_left_out(leaf):
            return adjusted(leaf, images)
        columns = "".join(f'"{n}", ' for n in images.columns_of(leaf.relation))
        return text(
            f"(SELECT {columns}1::bigint AS {M} FROM {name_of(leaf.relation)})"
            f" AS {quoted(leaf.alias)}"
        )

    def fewer(leaves: Sequence[Leaf]) -> Any:
        return [c for c in subsets(leaves) if not any(is_left_out(leaf) for leaf in c)]

    with (
        patch.object(terms_module, "_adjusted", as_stored),
        patch.object(terms_module, "_subsets", fewer),
    ):
        yield


@fault
def old_sources_are_read_as_new() -> Iterator[None]:
    """What is pending is not taken off the other tables of a join."""
    with _without_what_differs(lambda leaf: not isinstance(leaf.relation, Node)):
        yield


@fault
def new_states_are_read_as_old() -> Iterator[None]:
    """The changes of a stored result are left out where another one is joined with it."""
    with _without_what_differs(lambda leaf: isinstance(leaf.relation, Node)):
        yield


@fault
def signs_of_products_are_ignored() -> Iterator[None]:
    """What inclusion and exclusion takes off is added."""
    original = terms_module.terms

    def made(product: Any, images: Images) -> Any:
        return original(replace(product, sign=1), images)

    with ExitStack() as stack:
        for name, module in list(sys.modules.items()):
            if name.startswith("tallykeeper.select") and vars(module).get("terms") is original:
                stack.enter_context(patch.object(module, "terms", made))
        yield


@fault
def a_join_condition_is_dropped() -> Iterator[None]:
    """The last condition of a product with several is left out."""
    original = terms_module.from_clause

    def made(product: Any, *arguments: Any) -> Any:
        if len(product.conditions) > 1:
            product = replace(product, conditions=product.conditions[:-1])
        return original(product, *arguments)

    with patch.object(terms_module, "from_clause", made):
        yield


@fault
def rows_without_a_match_are_left_out() -> Iterator[None]:
    """An outer join has no row of nulls."""
    with patch.object(Translation, "_unmatched", lambda *_: []):
        yield


@fault
def a_grouping_set_is_left_out() -> Iterator[None]:
    """The rows of the last of several grouping sets are not there."""
    original = grouping_sets.sets_of
    with patch.object(grouping_sets, "sets_of", lambda query: original(query)[:-1]):
        yield


@fault
def keys_of_other_sets_are_kept() -> Iterator[None]:
    """A key that is not of a grouping set has its value there, and more groups for it."""
    original = grouping_sets.of_one_set

    def made(query: Any, keys: Any, _: Any, is_call: Any) -> Any:
        return original(query, keys, lambda _: None, is_call)

    with patch.object(grouping_sets, "of_one_set", made):
        yield


@fault
def not_exists_takes_nothing_off() -> Iterator[None]:
    """NOT EXISTS leaves the rows that exist."""
    with patch.object(conditions, "_negative", lambda product: product):
        yield


@fault
def touched_groups_only_of_new_rows() -> Iterator[None]:
    """A group that only lost rows is not computed anew."""
    original = NodeSteps._changed_rows

    def changed(self: NodeSteps, each: Any, term: Any) -> Any:
        condition = exp.GT(this=exp.column(M, term.leaf.alias), expression=exp.Literal.number(0))
        product = each.product.where(condition)
        found = [
            made
            for made in terms_module.terms(product, self.images)
            if (made.leaf.alias, made.needs) == (term.leaf.alias, term.needs)
        ]
        return original(self, each, found[0])

    with patch.object(NodeSteps, "_changed_rows", changed):
        yield


@fault
def states_are_not_brought_up_to_date() -> Iterator[None]:
    """A refresh writes the derived table alone."""
    with patch.object(NodeSteps, "apply", lambda _: []):
        yield


@fault
def null_keys_do_not_match() -> Iterator[None]:
    """The stored row of a group whose key is null is not found."""

    def matches(node: Node, left: str, right: str) -> str:
        return " AND ".join(f"{left}.{k} = {right}.{k}" for k in node.key)

    with patch.object(steps, "matches", matches):
        yield


@fault
def everything_is_unique() -> Iterator[None]:
    """Rows are assumed to be unique whatever they are made of."""
    with patch.object(uniqueness, "is_determined", lambda *_: True):
        yield


@fault
def nothing_is_null() -> Iterator[None]:
    """Values are assumed to be there, as for NOT IN."""
    with patch.object(uniqueness, "is_not_null", lambda *_: True):
        yield


@fault
def filters_of_aggregates_are_ignored() -> Iterator[None]:
    """count(*) FILTER counts all rows."""
    original = expressions.template

    def template(written: str, **values: Any) -> Any:
        if written.startswith("CASE WHEN :c THEN"):
            values["c"] = exp.true()
        return original(written, **values)

    with patch(f"{aggregates.__name__}.template", template):
        yield


@fault
def groups_stay_when_their_last_row_is_deleted() -> Iterator[None]:
    """The old image of a group is left out where there is no new one."""
    original = NodeSteps._images
    before = f"WHERE old_{COUNT} IS NOT NULL"

    def images(self: NodeSteps) -> Any:
        made = original(self)
        assert self.node.is_global or any(before in piece.sql for piece in made)
        return tuple(
            replace(piece, sql=piece.sql.replace(before, f"{before} AND {COUNT} <> 0"))
            for piece in made
        )

    with patch.object(NodeSteps, "_images", images):
        yield


@fault
def having_is_ignored() -> Iterator[None]:
    """Groups are shown whatever HAVING says."""
    original = Translation._aggregated

    def aggregated(self: Translation, query: exp.Select, products: Any) -> Any:
        if query.args.get("having") is not None:
            query = query.copy()
            query.set("having", exp.Having(this=exp.true()))
        return original(self, query, products)

    with patch.object(Translation, "_aggregated", aggregated):
        yield


@fault
def deletes_are_not_captured() -> Iterator[None]:
    """A DELETE leaves nothing in the log."""
    sides = {**direct._SIDES, "delete": {}}
    with patch.object(direct, "_SIDES", sides):
        yield


@fault
def old_images_of_updates_are_not_captured() -> Iterator[None]:
    """An UPDATE logs the new rows alone."""
    sides = {**direct._SIDES, "update": {"new_rows": 1}}
    with patch.object(direct, "_SIDES", sides):
        yield


@fault
def a_source_of_a_group_is_forgotten() -> Iterator[None]:
    """Changes of the last table of a join touch no group."""
    original = NodeSteps._all_terms

    def all_terms(self: NodeSteps, *, only_keys: bool = False) -> Any:
        if not only_keys:
            return original(self, only_keys=only_keys)
        made = terms_module.terms

        def fewer(product: Any, images: Images) -> Any:
            found = made(product, images)
            return found[:-1] if len(found) > 1 else found

        with patch.object(steps, "terms", fewer):
            return original(self, only_keys=only_keys)

    with patch.object(NodeSteps, "_all_terms", all_terms):
        yield
