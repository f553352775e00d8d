"""Each SELECT is maintained by the strategies that the documentation names."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine

from tallykeeper.catalog import schema_version
from tallykeeper.installation.select_plans import try_plan
from tallykeeper.select.tally import SelectTally
from tests.select import strategies
from tests.select.strategies import FAMILIES, TPCH, WHOLE, without_limit


@pytest.mark.parametrize("name", FAMILIES)
def test_nodes_have_the_expected_strategies(engine: Engine, name: str) -> None:
    family = FAMILIES[name]
    family.create(engine)
    found = {}
    with engine.begin() as connection:
        schema_version.bring_up(connection)
        for table, select in family.selects.items():
            tally = SelectTally(f"{name}.{table}", select=without_limit(select))
            with connection.begin_nested() as tried:
                plan = try_plan(connection, tally)
                tried.rollback()
            found[table] = " ".join(node.strategy for node in plan.nodes) or plan.strategy
    assert found == family.expected


def test_most_of_tpch_is_maintained_by_deltas_alone() -> None:
    deltas = [name for name, nodes in TPCH.items() if set(nodes.split()) == {"delta"}]
    assert len(deltas) >= 18


@pytest.mark.parametrize("name", ["q02", "q03", "q10", "q18", "q21"])
def test_a_limit_is_computed_from_what_is_stored(engine: Engine, name: str) -> None:
    family = FAMILIES["tpch"]
    family.create(engine)
    with engine.begin() as connection:
        schema_version.bring_up(connection)
        plan = try_plan(connection, SelectTally(f"tpch.{name}", select=family.selects[name]))
    nodes = [] if name in WHOLE else [*TPCH[name].split(), "whole"]
    assert ([node.strategy for node in plan.nodes], plan.strategy) == (nodes, "whole")


def test_the_page_is_of_what_is_expected() -> None:
    assert strategies.PAGE.read_text(encoding="utf-8") == strategies.page(), (
        "write it anew: python -m tests.select.strategies"
    )
