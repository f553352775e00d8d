"""What a plan depends on: unique keys, columns that are never null, and keys that are named."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, MetaData

from tallykeeper import System, migrate, rebuild, refresh, status, verify
from tallykeeper.select.tally import SelectTally
from tests.integration.support import execute, rows
from tests.select.support import differences

SCHEMA = """
CREATE SCHEMA store;
CREATE TABLE store.customers (id int PRIMARY KEY, region text NOT NULL);
CREATE TABLE store.orders (id int PRIMARY KEY, customer_id int, cents int NOT NULL);
INSERT INTO store.customers VALUES (1, 'N'), (2, 'S');
INSERT INTO store.orders VALUES (1, 1, 10), (2, 1, 20), (3, 2, 5), (4, NULL, 1)
"""
SELECT = """
SELECT o.id, o.cents, c.region FROM store.orders o
LEFT JOIN store.customers c ON c.id = o.customer_id
"""


def kept(engine: Engine, select: str, **more: object) -> SelectTally:
    tally = SelectTally("store.kept", select=select, **more)  # type: ignore[arg-type]
    migrate(engine, [System("store", MetaData(), [tally])])
    refresh(engine, tally)
    return tally


@pytest.fixture
def tally(engine: Engine) -> SelectTally:
    execute(engine, SCHEMA)
    return kept(engine, SELECT)


def test_a_unique_key_that_goes_is_named_and_what_was_wrong_is_built_anew(
    engine: Engine, tally: SelectTally
) -> None:
    assert tally.key == ("id",)
    execute(engine, "ALTER TABLE store.customers DROP CONSTRAINT customers_pkey")
    execute(engine, "INSERT INTO store.customers VALUES (1, 'W')")
    (fault,) = status(engine, tally).faults
    assert "nothing makes its rows unique by id any more" in str(fault)
    migrate(engine, [System("store", MetaData(), [tally])])
    refresh(engine, tally)
    assert differences(engine, tally, tally.live_name) == []
    assert rows(engine, "SELECT id, region FROM store.kept WHERE id = 1 ORDER BY 2") == [
        (1, "N"),
        (1, "W"),
    ]
    assert verify(engine, tally).ok


def test_a_refresh_notices_it_too(engine: Engine, tally: SelectTally) -> None:
    execute(engine, "ALTER TABLE store.customers DROP CONSTRAINT customers_pkey")
    assert "unique by id" in " ".join(refresh(engine, tally).faults)
    assert not verify(engine, tally).ok


def test_a_column_that_may_be_null_now_is_named(engine: Engine) -> None:
    execute(engine, SCHEMA)
    tally = kept(engine, "SELECT region, count(*) AS n FROM store.customers GROUP BY region")
    execute(engine, "ALTER TABLE store.customers ALTER COLUMN region DROP NOT NULL")
    execute(engine, "INSERT INTO store.customers VALUES (7, NULL), (8, NULL)")
    (fault,) = status(engine, tally).faults
    assert "region may be null now" in str(fault)
    migrate(engine, [System("store", MetaData(), [tally])])
    refresh(engine, tally)
    execute(engine, "INSERT INTO store.customers VALUES (9, NULL)")
    assert differences(engine, tally, tally.live_name) == []
    refresh(engine, tally)
    assert differences(engine, tally, "store.kept") == []


def test_a_named_key_that_is_not_unique_fails_the_verify(engine: Engine) -> None:
    execute(engine, SCHEMA)
    tally = kept(
        engine,
        "SELECT customer_id, cents FROM store.orders WHERE cents > 1",
        key=("customer_id", "cents"),
    )
    execute(engine, "INSERT INTO store.orders VALUES (9, 1, 10)")
    refresh(engine, tally)
    found = verify(engine, tally)
    assert not found.ok
    assert [d.key for d in found.differences] == [{"customer_id": 1, "cents": 10}]
    execute(engine, "DELETE FROM store.orders WHERE id = 9")
    rebuild(engine, tally)
    assert verify(engine, tally).ok
    assert differences(engine, tally, "store.kept") == []
