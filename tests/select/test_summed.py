"""Counts and sums over single rows: the derived table is the state, and the log has sums."""

from __future__ import annotations

import random
import threading

import pytest
from sqlalchemy import Engine, MetaData
from sqlalchemy.exc import DBAPIError

from tallykeeper import System, migrate, rebuild, refresh, status, verify
from tallykeeper.select.tally import SelectTally
from tests.integration.support import execute, rows, scalar
from tests.select.support import differences

SCHEMA = """
CREATE SCHEMA store;
CREATE TABLE store.sales (
  id int PRIMARY KEY, shop int NOT NULL, kind text, cents int NOT NULL, pieces bigint,
  at timestamptz NOT NULL, open boolean
);
CREATE TABLE store.returns (id int PRIMARY KEY, shop int NOT NULL, cents int)
"""
SELECTS = {
    "by_shop": "SELECT shop, count(*) AS sales, sum(cents) AS cents FROM store.sales GROUP BY shop",
    "measures_first": (
        "SELECT coalesce(sum(pieces), 0) AS pieces, count(*) AS n, kind FROM store.sales"
        " GROUP BY kind"
    ),
    "by_hour": (
        "SELECT date_trunc('hour', at, 'UTC') AS hour, shop, count(*) AS n,"
        " count(*) FILTER (WHERE open) AS open, count(kind) AS kinds FROM store.sales"
        " WHERE kind IS DISTINCT FROM 'test' GROUP BY 1, 2"
    ),
    "both": (
        "SELECT shop, what, count(*) AS n, coalesce(sum(cents), 0) AS cents FROM ("
        "SELECT shop, 'sale' AS what, cents FROM store.sales"
        " UNION ALL SELECT shop, 'return', -cents FROM store.returns"
        " UNION ALL SELECT NULL, 'sale', cents FROM store.sales) AS u GROUP BY shop, what"
    ),
}
KINDS = "(ARRAY['a', 'b', 'test', NULL])[1 + (random() * 3.9)::int % 4]"
SALE = (
    f"(SELECT :id, :shop, {KINDS}, (random() * 50)::int, nullif((random() * 5)::int, 2),"
    " timestamptz '2026-03-28 20:00Z' + random() * interval '9 hours', random() < 0.5)"
)


@pytest.fixture
def store(engine: Engine) -> System:
    """The tallies over an empty store, installed and built."""
    execute(engine, SCHEMA)
    tallies = [SelectTally(f"store.{name}", select=text) for name, text in SELECTS.items()]
    system = System("store", MetaData(), tallies)
    migrate(engine, [system])
    for tally in tallies:
        refresh(engine, tally)
    return system


def statement(random_: random.Random) -> str:
    number, shop = random_.randint(1, 40), random_.randint(1, 4)
    row = SALE.replace(":id", str(number)).replace(":shop", str(shop))
    return random_.choice(
        [
            f"INSERT INTO store.sales {row} ON CONFLICT (id) DO UPDATE SET cents = excluded.cents,"
            " kind = excluded.kind, at = excluded.at",
            f"INSERT INTO store.sales {row} ON CONFLICT DO NOTHING",
            f"UPDATE store.sales SET shop = {shop} WHERE id = {number}",
            f"UPDATE store.sales SET cents = cents + 1 WHERE shop = {shop}",
            f"UPDATE store.sales SET open = NOT open, kind = {KINDS} WHERE shop = {shop}",
            f"DELETE FROM store.sales WHERE id = {number}",
            f"INSERT INTO store.returns VALUES ({number}, {shop}, nullif({number % 7}, 3))"
            " ON CONFLICT (id) DO UPDATE SET shop = excluded.shop, cents = excluded.cents",
            f"DELETE FROM store.returns WHERE shop = {shop}",
        ]
    )


def test_all_are_planned_as_sums(store: System) -> None:
    for tally in store.tallies:
        assert isinstance(tally, SelectTally)
        assert tally.plan.summed is not None, tally.name
        assert not any(each.may_raise for each in tally.plan.summed.sources) or "both" in tally.name


def test_what_needs_more_than_single_rows_is_no_sum(engine: Engine) -> None:
    execute(engine, SCHEMA)
    for number, text in enumerate(
        (
            "SELECT shop, sum(cents) AS cents FROM store.sales GROUP BY shop",
            "SELECT shop, count(*) AS n, sum(pieces) AS pieces FROM store.sales GROUP BY shop",
            "SELECT shop, count(*) AS n, avg(cents) AS a FROM store.sales GROUP BY shop",
            "SELECT count(*) AS n FROM store.sales",
            "SELECT shop, count(*) AS n FROM store.sales GROUP BY shop HAVING count(*) > 1",
            "SELECT s.shop, count(*) AS n FROM store.sales s JOIN store.returns r USING (id)"
            " GROUP BY s.shop",
        )
    ):
        tally = SelectTally(f"store.odd_{number}", select=text)
        migrate(engine, [System("store", MetaData(), [tally])])
        assert tally.plan.summed is None, text


def test_exact_under_every_change_live_and_refreshed(engine: Engine, store: System) -> None:
    random_ = random.Random(5)
    for step in range(60):
        execute(engine, statement(random_))
        for tally in store.tallies:
            assert differences(engine, tally, tally.live_name) == [], (step, tally.name)
            if step % 3 == 0:
                refresh(engine, tally)
                assert differences(engine, tally, str(tally.table)) == [], (step, tally.name)
    for tally in store.tallies:
        assert status(engine, tally).pending == scalar(
            engine, f"SELECT count(*) FROM {tally.log_name}"
        )
        assert verify(engine, tally).ok


def test_the_log_has_one_row_for_a_key_of_a_statement(engine: Engine, store: System) -> None:
    by_shop = store.tallies[0]
    insert = "INSERT INTO store.sales (id, shop, cents, at) SELECT n, 1, n, now()"
    execute(engine, f"{insert} FROM generate_series(1, 100) AS n")
    assert rows(engine, f"SELECT shop, sales, cents FROM {by_shop.log_name}") == [(1, 100, 5050)]
    execute(engine, "UPDATE store.sales SET pieces = 1")
    assert scalar(engine, f"SELECT count(*) FROM {by_shop.log_name}") == 1


def test_exact_among_writers_refreshes_rebuilds_and_verifies(engine: Engine, store: System) -> None:
    stop, faults = threading.Event(), []

    def write(seed: int) -> None:
        random_ = random.Random(seed)
        while not stop.is_set():
            try:
                execute(engine, statement(random_))
            except DBAPIError as error:
                if "deadlock" not in str(error):
                    faults.append(error)

    writers = [threading.Thread(target=write, args=(seed,)) for seed in range(3)]
    for writer in writers:
        writer.start()
    try:
        for step in range(10):
            for tally in store.tallies:
                assert differences(engine, tally, tally.live_name) == []
                (rebuild if step % 4 == 3 else refresh)(engine, tally)
                assert verify(engine, tally).ok, tally.name
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert not faults
