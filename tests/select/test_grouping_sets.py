"""Groups by several sets of keys: what makes their rows unique, and what is not followed."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine

from tallykeeper.catalog import schema_version
from tallykeeper.installation.select_plans import try_plan
from tallykeeper.select.plan import Plan
from tallykeeper.select.tally import SelectTally
from tests.integration.support import execute

SUM = "sum(t.a) AS s FROM src.t AS t GROUP BY"


@pytest.fixture(autouse=True)
def table(engine: Engine) -> None:
    execute(engine, "CREATE SCHEMA src", "CREATE TABLE src.t (a int, b int, c int, d int)")


def planned(engine: Engine, select: str) -> Plan:
    with engine.begin() as connection:
        schema_version.bring_up(connection)
        return try_plan(connection, SelectTally("src.tally", select=select))


@pytest.mark.parametrize(
    ("select", "key"),
    [
        (f"SELECT t.a, t.b, grouping(t.a, t.b) AS g, {SUM} ROLLUP (t.a, t.b)", ("a", "b", "g")),
        (f"SELECT t.a, grouping(t.a) AS g, {SUM} CUBE (t.a)", ("a", "g")),
        # Which set a row is of cannot be seen.
        (f"SELECT t.a, t.b, {SUM} ROLLUP (t.a, t.b)", None),
        (f"SELECT t.a, t.b, grouping(t.a) AS g, {SUM} ROLLUP (t.a, t.b)", None),
        (f"SELECT t.a, grouping(t.a) AS g, {SUM} GROUPING SETS ((t.a), (t.a))", None),
        (f"SELECT grouping(t.a) AS g, {SUM} ROLLUP (t.a)", None),
        # A number that is another in each part of any UNION ALL.
        (
            "SELECT 1 AS g, t.a, count(*) FROM src.t AS t GROUP BY t.a UNION ALL"
            " SELECT 2, t.b, count(*) FROM src.t AS t GROUP BY t.b",
            ("g", "a"),
        ),
        (
            "SELECT 1 AS g, t.a, count(*) FROM src.t AS t GROUP BY t.a UNION ALL"
            " SELECT 1, t.b, count(*) FROM src.t AS t GROUP BY t.b",
            None,
        ),
    ],
)
def test_rows_are_unique_where_grouping_tells_their_set(
    engine: Engine, select: str, key: tuple[str, ...] | None
) -> None:
    plan = planned(engine, select)
    assert plan.strategy == "delta"
    assert (plan.is_bag, None if plan.is_bag else plan.key) == (key is None, key)


def test_one_set_alone_is_a_plain_group(engine: Engine) -> None:
    plan = planned(engine, f"SELECT t.a, t.b, {SUM} GROUPING SETS ((t.a, t.b))")
    assert (plan.strategy, plan.is_bag, plan.key) == ("delta", False, ("a", "b"))


@pytest.mark.parametrize(
    ("select", "reason"),
    [
        (f"SELECT t.a, {SUM} CUBE (t.a, t.b, t.c, t.d)", "so many grouping sets"),
        (
            f"SELECT t.a, (SELECT count(*) FROM src.t AS u WHERE u.a = t.a) AS n, {SUM}"
            " ROLLUP (t.a)",
            "a subquery beside grouping sets",
        ),
    ],
)
def test_what_is_not_followed_is_computed_anew(engine: Engine, select: str, reason: str) -> None:
    plan = planned(engine, select)
    assert plan.strategy == "whole"
    assert reason in plan.reasons[0]
