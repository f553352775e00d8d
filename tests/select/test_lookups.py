"""Live rows of single keys: those of the live view, at the cost of what concerns these keys."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, MetaData

from tallykeeper import System, refresh
from tallykeeper.database import sql
from tallykeeper.installation.migrate import migrate
from tallykeeper.reads.rows import tally_rows
from tallykeeper.select.tally import MOST_KEYS, SelectTally
from tests.integration.support import execute, rows, scalar
from tests.select import store
from tests.select.lookups import half_looked_up

# Chains of nodes, sums and groups computed anew, joins that follow the key and that do not.
NAMES = ("product_days", "last_order_times", "buyers_daily", "customer_orders", "last_orders")
LATEST = """
SELECT c.id AS customer_id, c.region, o.latest, o.orders
FROM store.customers AS c LEFT JOIN (
  SELECT customer_id, max(placed) AS latest, count(*) AS orders FROM store.orders GROUP BY 1
) AS o ON o.customer_id = c.id"""

# Of one source two rows, of which one alone has the key.
FOLLOWED = """
SELECT o.customer_id, count(*) AS orders, count(p.customer_id) AS before
FROM store.orders AS o JOIN store.orders AS p ON p.id = o.id - 1
GROUP BY o.customer_id"""


@pytest.fixture
def tallies(engine: Engine) -> dict[str, SelectTally]:
    """Tallies over a store of 400 orders, with 40 changes pending."""
    execute(
        engine,
        *filter(str.strip, store.SCHEMA.split(";")),
        "INSERT INTO store.customers SELECT i, 'r' || i % 3, false FROM generate_series(1, 40) i",
        "INSERT INTO store.orders SELECT i, i % 40, timestamptz '2026-01-01Z' + i * interval '5 h',"
        " 'paid' FROM generate_series(1, 400) i",
        "INSERT INTO store.lines SELECT i, i % 400, i % 7, 1, i FROM generate_series(1, 900) i",
    )
    selects = {name: store.SELECTS[name] for name in NAMES}
    selects |= {"latest": LATEST, "followed": FOLLOWED}
    made = {n: SelectTally(f"store.{n}", select=s, schema="kept") for n, s in selects.items()}
    migrate(engine, [System("store", MetaData(), list(made.values()))])
    for tally in made.values():
        refresh(engine, tally)
    execute(
        engine,
        "UPDATE store.orders SET placed = placed + interval '30 days' WHERE id % 20 = 0",
        "UPDATE store.orders SET customer_id = 3 WHERE id % 50 = 1",
        "DELETE FROM store.orders WHERE id % 60 = 2",
        "DELETE FROM store.customers WHERE id = 5",
        "INSERT INTO store.customers VALUES (99, NULL, true)",
        "UPDATE store.lines SET cents = 1 WHERE id % 30 = 0",
    )
    return made


def differences(engine: Engine, tally: SelectTally) -> list[tuple[object, ...]]:
    """Rows in which looking up half of the keys differs from the SELECT."""
    columns = sql.columns(list(tally.columns))
    looked_up = f"SELECT {columns} FROM {half_looked_up(tally)} AS x"
    wanted = f"SELECT {columns} FROM {tally.definition_name} AS x"
    return rows(
        engine,
        f"(({looked_up}) EXCEPT ALL ({wanted})) UNION ALL (({wanted}) EXCEPT ALL ({looked_up}))",
    )


def test_keys_are_looked_up_as_the_select_has_them(
    engine: Engine, tallies: dict[str, SelectTally]
) -> None:
    looked_up = [name for name, tally in tallies.items() if tally.has_lookup]
    assert set(looked_up) >= {
        "product_days",
        "last_order_times",
        "buyers_daily",
        "latest",
        "followed",
    }
    for tally in tallies.values():
        assert differences(engine, tally) == [], tally.name
        refresh(engine, tally)
        assert differences(engine, tally) == [], tally.name


def test_what_is_pending_for_other_keys_is_not_computed(
    engine: Engine, tallies: dict[str, SelectTally]
) -> None:
    tally = tallies["latest"]

    def reads(query: str) -> int:
        with engine.begin() as connection:
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
            connection.exec_driver_sql(query).all()
            return int(
                connection.exec_driver_sql(
                    "SELECT idx_tup_fetch FROM pg_stat_xact_user_tables"
                    " WHERE relid = 'store.orders'::regclass"
                ).scalar_one()
                or 0
            )

    engine.dispose()
    one = reads(f"SELECT * FROM {tally.lookup_function}(ARRAY[7]::bigint[])")
    engine.dispose()
    everything = reads(f"SELECT * FROM {tally.live_name} WHERE customer_id = 7")
    assert one < 20 < everything


def test_a_tally_that_is_stale_is_looked_up_in_its_sources(
    engine: Engine, tallies: dict[str, SelectTally]
) -> None:
    tally = tallies["latest"]
    execute(engine, "TRUNCATE store.orders")
    query = f"SELECT orders FROM {tally.lookup_function}(ARRAY[7, 8]::bigint[])"
    assert rows(engine, query) == [(None,), (None,)]


def test_a_key_whose_value_raises_costs_itself_alone(engine: Engine) -> None:
    execute(
        engine,
        *filter(str.strip, store.SCHEMA.split(";")),
        "INSERT INTO store.orders SELECT i, i % 4 FROM generate_series(1, 20) i",
    )
    select = "SELECT customer_id, max(100 / id) AS most FROM store.orders GROUP BY 1"
    tally = SelectTally("store.most", select=select, schema="kept")
    migrate(engine, [System("store", MetaData(), [tally])])
    refresh(engine, tally)
    execute(engine, "INSERT INTO store.orders VALUES (0, 1), (30, 2)")
    query = f"SELECT customer_id, most FROM {tally.lookup_function}(ARRAY[2, 3]::bigint[])"
    assert rows(engine, f"{query} ORDER BY 1") == [(2, 50), (3, 33)]


def test_reads_of_whole_keys_look_them_up(engine: Engine, tallies: dict[str, SelectTally]) -> None:
    tally = tallies["latest"]
    with engine.connect() as connection:
        found = tally_rows(connection, tally, where={"customer_id": [3, 99, 5]})
    assert [row["customer_id"] for row in found.rows] == [3, 99]
    assert found.rows[0]["orders"] == scalar(
        engine, "SELECT count(*) FROM store.orders WHERE customer_id = 3"
    )
    assert tally.looked_up({"customer_id": ["7"]}) == f"{tally.lookup_function}(ARRAY[7]::bigint[])"
    assert tally.looked_up({"customer_id": ["7"] * MOST_KEYS}) is None
    assert tallies["product_days"].looked_up({"product_id": ["7"]}) is None


def test_who_may_read_the_live_view_may_look_up_keys(
    engine: Engine, tallies: dict[str, SelectTally]
) -> None:
    tally = tallies["latest"]
    execute(
        engine,
        "CREATE ROLE lookup_reader",
        "CREATE ROLE lookup_of_a_column",
        f"GRANT SELECT ON {tally.live_name} TO lookup_reader",
        f"GRANT SELECT (region) ON {tally.live_name} TO lookup_of_a_column",
    )
    try:
        migrate(engine, [System("store", MetaData(), list(tallies.values()))])
        may = "SELECT has_function_privilege('{}', '{}(bigint[])', 'EXECUTE')"
        assert scalar(engine, may.format("lookup_reader", tally.lookup_function)) is True
        assert scalar(engine, may.format("lookup_of_a_column", tally.lookup_function)) is False
        assert scalar(engine, may.format("public", tally.lookup_function)) is False
    finally:
        execute(
            engine,
            "DROP OWNED BY lookup_reader, lookup_of_a_column",
            "DROP ROLE lookup_reader, lookup_of_a_column",
        )
