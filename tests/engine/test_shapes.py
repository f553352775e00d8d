"""Tallies of every shape, written to at random and judged by the oracle after each statement.

One connection at a time: what concurrency can break is `tests/concurrency`'s business. Here it is
nulls in keys, sums, unions, conditions, arrays and tables without measures.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.schema import CreateSchema

from tallykeeper import System, install, rebuild, refresh, verify
from tests.integration.support import execute, rows
from tests.oracle import (
    BEST_SALES,
    ITEM_TAGS,
    PERSON_SUMS,
    SHOP_ITEMS,
    SHOP_SUMS,
    Oracle,
    look,
    settle,
)
from tests.shapes import (
    DESK_WRITES,
    MART_WRITES,
    SHELF_WRITES,
    desk,
    mart,
    person_sums_tally,
    shelf,
    written,
)

CASES = [
    pytest.param(shelf, (ITEM_TAGS,), SHELF_WRITES, id="shelf"),
    pytest.param(desk, (PERSON_SUMS, BEST_SALES), DESK_WRITES, id="desk"),
    pytest.param(mart, (SHOP_ITEMS, SHOP_SUMS), MART_WRITES, id="mart"),
]


def create(engine: Engine, system: System) -> None:
    with engine.begin() as connection:
        connection.execute(CreateSchema(str(system.metadata.schema)))
        system.metadata.create_all(connection)
        install(connection, system.tallies)


def driver(connection: Any) -> psycopg.Connection[Any]:
    found = connection.connection.driver_connection
    assert isinstance(found, psycopg.Connection)
    return found


@pytest.mark.parametrize(("system", "oracles", "writes"), CASES)
@pytest.mark.parametrize("seed", range(3))
def test_every_statement_is_seen_at_once_and_stays_right_over_refreshes(
    system: System,
    oracles: Sequence[Oracle],
    writes: Sequence[str],
    seed: int,
    any_postgres_engine: Engine,
) -> None:
    engine = any_postgres_engine
    create(engine, system)
    rng = random.Random(seed)
    weights = [0.2 if w.startswith("TRUNCATE") else 1 for w in writes]
    keep: Sequence[Callable[..., Any]] = (refresh, refresh, rebuild, verify)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for number in range(80):
            write = written(rng.choices(writes, weights)[0], rng)
            connection.exec_driver_sql(write.replace("%", "%%"))
            for oracle in oracles:
                look(driver(connection), oracle)
            if number % 4 == 3:
                tally = rng.choice(system.tallies)
                rng.choice(keep)(engine, tally)
                assert not verify(engine, tally).differing
        for tally, oracle in zip(system.tallies, oracles, strict=True):
            refresh(engine, tally)
            settle(driver(connection), oracle)
            assert verify(engine, tally).ok


def test_an_array_that_names_a_tag_twice_has_it_once(engine: Engine) -> None:
    create(engine, shelf)
    refresh(engine, shelf.tallies[0])
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO shelf.items VALUES (1, '{5,5,NULL,7}')"))
    assert refresh(engine, shelf.tallies[0]).inserted == 2
    with engine.begin() as connection:
        connection.execute(text("UPDATE shelf.items SET tags = '{7,7,8}'"))
    done = refresh(engine, shelf.tallies[0])
    assert (done.inserted, done.deleted) == (1, 1)
    with engine.begin() as connection:
        rows = connection.execute(text("SELECT tag_id FROM shelf.item_tags ORDER BY 1"))
        assert rows.scalars().all() == [7, 8]


def test_an_amount_that_is_no_number_can_be_taken_off_again(any_postgres_engine: Engine) -> None:
    create(any_postgres_engine, desk)
    rebuild(any_postgres_engine, person_sums_tally)
    amounts = "SELECT DISTINCT amount::text FROM desk.person_sums_live"
    execute(
        any_postgres_engine,
        "INSERT INTO desk.sales (shop_id, person_id, amount) VALUES (1, 1, 5), (1, 1, 'NaN')",
    )
    for act in (refresh, rebuild):
        assert rows(any_postgres_engine, amounts) == [("NaN",)]
        act(any_postgres_engine, person_sums_tally)
        assert verify(any_postgres_engine, person_sums_tally).ok
    execute(any_postgres_engine, "UPDATE desk.sales SET amount = 7 WHERE amount = 'NaN'")
    refresh(any_postgres_engine, person_sums_tally)
    assert rows(any_postgres_engine, amounts) == [("12.000",)]
    assert verify(any_postgres_engine, person_sums_tally).ok
