"""A SELECT's tally over tables of other kinds, and with a derived table that somebody declared."""

from __future__ import annotations

import pytest
from sqlalchemy import (
    BigInteger,
    Column,
    Engine,
    ForeignKey,
    Integer,
    MetaData,
    Table,
)

from tallykeeper import DoesNotFit, SelectTally, System, refresh, status, verify
from tallykeeper.installation.migrate import migrate
from tests.integration.support import execute, rows
from tests.select.support import differences

# The last order of each customer is no sum: its rows are captured, and its groups computed anew.
LATEST = "SELECT customer_id, max(cents) AS cents FROM shop.orders GROUP BY customer_id"
ADD = "INSERT INTO shop.orders (id, customer_id, cents) VALUES"


def kept(engine: Engine, select: str = LATEST, table: Table | None = None) -> SelectTally:
    """That SELECT as a tally, built."""
    tally = SelectTally("shop.latest", select=select, table=table)
    metadata = MetaData() if table is None else table.metadata
    migrate(engine, [System("shop", metadata, [tally])])
    refresh(engine, tally)
    return tally


def is_exact(engine: Engine, tally: SelectTally) -> None:
    assert differences(engine, tally, tally.live_name) == []
    found = verify(engine, tally)
    assert found.ok or found.stale
    refresh(engine, tally)
    assert differences(engine, tally, str(tally.table)) == []
    assert verify(engine, tally).ok


def test_partitions_written_through_each_other(engine: Engine) -> None:
    execute(
        engine,
        "CREATE SCHEMA shop",
        "CREATE TABLE shop.orders (id bigint, customer_id integer, cents integer,"
        " PRIMARY KEY (id)) PARTITION BY RANGE (id)",
        "CREATE TABLE shop.orders_1 PARTITION OF shop.orders FOR VALUES FROM (0) TO (100)",
        "CREATE TABLE shop.orders_2 PARTITION OF shop.orders FOR VALUES FROM (100) TO (200)",
        f"{ADD} (1, 1, 10), (2, 1, 20), (101, 2, 30)",
    )
    tally = kept(engine)
    execute(
        engine,
        "UPDATE shop.orders SET id = id + 100 WHERE id = 2",
        "INSERT INTO shop.orders_1 VALUES (3, 2, 40), (4, NULL, 1)",
        "DELETE FROM shop.orders_2 WHERE id = 101",
    )
    is_exact(engine, tally)
    execute(
        engine,
        "CREATE TABLE shop.orders_3 (id bigint PRIMARY KEY, customer_id integer, cents integer)",
        "INSERT INTO shop.orders_3 VALUES (201, 1, 99)",
        "ALTER TABLE shop.orders ATTACH PARTITION shop.orders_3 FOR VALUES FROM (200) TO (300)",
    )
    assert not verify(engine, tally).ok
    migrate(engine, [System("shop", MetaData(), [tally])])
    execute(engine, f"{ADD} (202, 5, 1)")
    is_exact(engine, tally)


def customers(engine: Engine) -> MetaData:
    execute(
        engine,
        "CREATE SCHEMA shop",
        "CREATE TABLE shop.customers (id integer PRIMARY KEY)",
        "CREATE TABLE shop.orders (id bigint PRIMARY KEY, customer_id integer NOT NULL"
        " REFERENCES shop.customers ON DELETE CASCADE, cents integer NOT NULL)",
        "INSERT INTO shop.customers VALUES (1), (2), (3)",
        f"{ADD} (1, 1, 10), (2, 1, 20), (3, 2, 30)",
    )
    metadata = MetaData()
    Table("customers", metadata, Column("id", Integer, primary_key=True), schema="shop")
    return metadata


def declared(metadata: MetaData, type_: type = Integer) -> Table:
    return Table(
        "latest",
        metadata,
        Column(
            "customer_id",
            ForeignKey("shop.customers.id", ondelete="CASCADE"),
            primary_key=True,
            autoincrement=False,
        ),
        Column("cents", type_),
        schema="shop",
    )


def test_a_declared_table_whose_rows_a_foreign_key_deletes(engine: Engine) -> None:
    tally = kept(engine, table=declared(customers(engine)))
    execute(engine, "DELETE FROM shop.customers WHERE id = 1", f"{ADD} (4, 3, 5)")
    assert rows(engine, "SELECT customer_id FROM shop.latest") == [(2,)]
    is_exact(engine, tally)
    execute(engine, "DELETE FROM shop.orders WHERE id = 3", "DELETE FROM shop.customers")
    is_exact(engine, tally)
    assert status(engine, tally).rows == 0


def test_a_declared_table_that_holds_more_is_filled_and_one_that_holds_less_is_refused(
    engine: Engine,
) -> None:
    metadata = customers(engine)
    execute(
        engine,
        "CREATE TABLE shop.latest (customer_id integer PRIMARY KEY, cents bigint)",
        "INSERT INTO shop.latest VALUES (9, 9)",
    )
    table = Table(
        "latest",
        metadata,
        Column("customer_id", Integer, primary_key=True, autoincrement=False),
        Column("cents", BigInteger),
        schema="shop",
    )
    is_exact(engine, kept(engine, table=table))
    wide = SelectTally(
        "shop.latest",
        select="SELECT customer_id, max(cents)::text AS cents FROM shop.orders GROUP BY 1",
        table=table,
    )
    with pytest.raises(DoesNotFit, match="cents"):
        migrate(engine, [System("shop", metadata, [wide])])


def test_a_table_of_that_name_that_is_nobodys_is_not_emptied(engine: Engine) -> None:
    customers(engine)
    execute(
        engine,
        "CREATE TABLE shop.latest (customer_id integer PRIMARY KEY, words text)",
        "INSERT INTO shop.latest VALUES (9, 'precious')",
    )
    tally = SelectTally("shop.latest", select=LATEST)
    with pytest.raises(DoesNotFit):
        migrate(engine, [System("shop", MetaData(), [tally])])
    assert rows(engine, "SELECT words FROM shop.latest") == [("precious",)]


def test_big_keys_are_numbered_by_nothing(engine: Engine) -> None:
    customers(engine)
    tally = kept(engine, "SELECT id, max(cents) AS cents FROM shop.orders GROUP BY id")
    assert isinstance(tally.table.c.id.type, BigInteger)
    assert rows(
        engine,
        "SELECT column_default FROM information_schema.columns"
        " WHERE table_schema = 'shop' AND table_name = 'latest'",
    ) == [(None,), (None,)]
    is_exact(engine, tally)
