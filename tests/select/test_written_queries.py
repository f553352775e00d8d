"""The SELECTs that others are compared with return rows, and their writers change all tables."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine

from benchmarks.nexmark import data as nexmark
from benchmarks.tpch import data as tpch
from benchmarks.tpch.changes import MOVED_NATIONS, percent, refresh_functions
from tallykeeper.database import sql
from tests.select import store

SCALE, EVENTS = 0.002, 3_000


def empty(engine: Engine, selects: dict[str, str]) -> list[str]:
    """Which of them return no row."""
    with engine.connect() as connection:
        return [
            name
            for name, text in selects.items()
            if not sql.execute(connection, f"SELECT EXISTS (SELECT FROM ({text}) AS s)").scalar()
        ]


def test_every_query_of_tpch_returns_rows(engine: Engine) -> None:
    tpch.create(engine, SCALE)
    assert empty(engine, {name: tpch.query(name, SCALE) for name in tpch.NAMES}) == []


def test_every_query_of_nexmark_returns_rows(engine: Engine) -> None:
    nexmark.create(engine, EVENTS)
    assert empty(engine, {name: nexmark.query(name) for name in nexmark.NAMES}) == []


def test_every_select_over_the_store_returns_rows(engine: Engine) -> None:
    store.create(engine)
    left_empty = empty(engine, store.SELECTS)
    # Nobody has moved stock, and nobody has an account yet.
    assert left_empty == ["managers"]


def test_a_row_follows_from_its_key_alone(engine: Engine) -> None:
    made = tpch.create(engine, SCALE)
    with engine.begin() as connection:
        again = sql.execute(
            connection,
            "SELECT count(*) FROM (SELECT * FROM tpch.lineitem EXCEPT ALL SELECT * FROM"
            f" tpch_rows.lines(ARRAY(SELECT o_orderkey FROM tpch.orders), {made.parts},"
            f" {made.suppliers})) AS l",
        ).scalar()
    assert again == 0


def test_refresh_functions_insert_and_delete_a_thousandth_of_the_orders(engine: Engine) -> None:
    made = tpch.create(engine, SCALE)
    counted = "SELECT count(*), min(o_orderkey) FROM tpch.orders"
    functions = refresh_functions(made)
    with engine.begin() as connection:
        before = sql.execute(connection, counted).one()
        for _ in range(2):
            for statement in next(functions):
                assert sql.execute(connection, statement).rowcount != 0, statement
        after = sql.execute(connection, counted).one()
    # Three are inserted and deleted at a time.
    assert (tuple(before), tuple(after)) == ((3000, 1), (3000, 7))


@pytest.mark.parametrize("step", [0, 5])
def test_five_percent_of_every_larger_table_change(engine: Engine, step: int) -> None:
    made = tpch.create(engine, 0.01)
    with engine.begin() as connection:
        for statement in percent(5, step):
            changed = sql.execute(connection, statement).rowcount
            table = statement.split()[1]
            rows = sql.execute(connection, f"SELECT count(*) FROM {table}").scalar_one()
            assert 0.03 < changed / rows < 0.07, (statement, changed, rows)
        assert sql.execute(connection, MOVED_NATIONS).rowcount == 2
    assert made.orders == 15_000
