"""A table that was renamed, or replaced by another of its name, is noticed by an installation.

Views follow a renamed table, functions go by its name: after each case here both mean the table
that has the name now, and what had it before is left alone, without our triggers.
"""

from __future__ import annotations

import pytest
from sqlalchemy import Engine

from tallykeeper import System, install, status
from tests.integration import shop
from tests.integration.support import create_anew, execute, rows, scalar
from tests.integration.test_dependents import EXPECTED, LIVE, SALES, declare, settle

COPY = "CREATE TABLE shop.{0} (LIKE shop.{0}_old INCLUDING ALL)"
LEFT = (
    "SELECT c.relname::text, t.tgname::text FROM pg_trigger AS t JOIN pg_class AS c"
    " ON c.oid = t.tgrelid WHERE c.relname LIKE '%old' AND NOT t.tgisinternal ORDER BY 1, 2"
)


def renamed(engine: Engine, system: System, *statements: str) -> list[str]:
    """A built system after the statements; what the installation then says that it did."""
    create_anew(engine, system)
    execute(engine, SALES)
    settle(engine, system)
    execute(engine, *statements)
    with engine.begin() as connection:
        return install(connection, system.tallies)


def test_a_renamed_derived_table_is_left_and_another_is_built(any_postgres_engine: Engine) -> None:
    engine, system = any_postgres_engine, shop.stock()
    rename = "ALTER TABLE shop.stock RENAME TO stock_old"
    done = renamed(engine, system, rename, COPY.format("stock"))
    assert "installed shop.stock (its live view read another table than its own)" in done
    assert status(engine, system.tallies[0]).stale == (
        "its live view read another table than its own",
    )
    assert rows(engine, LIVE) == EXPECTED
    execute(engine, "UPDATE shop.stock_old SET units = 77", "DELETE FROM shop.stock_old")
    assert rows(engine, LEFT) == []
    assert rows(engine, "SELECT * FROM tallykeeper.hand_edits") == []
    settle(engine, system)
    assert rows(engine, LIVE) == EXPECTED
    execute(engine, "DROP TABLE shop.stock_old")
    with engine.begin() as connection:
        assert install(connection, system.tallies) == []


@pytest.mark.parametrize("kind", ["stock", "latest"])
def test_a_renamed_source_is_no_source_any_more(any_postgres_engine: Engine, kind: str) -> None:
    engine, system = any_postgres_engine, getattr(shop, kind)()
    rename = "ALTER TABLE shop.sales RENAME TO sales_old"
    done = renamed(engine, system, rename, COPY.format("sales"))
    assert f"shop.{kind} is stale: changes may have been missed" in done
    assert rows(engine, LEFT) == []
    execute(
        engine,
        "INSERT INTO shop.sales SELECT * FROM shop.sales_old WHERE id < 3",
        "DELETE FROM shop.sales_old",
    )
    settle(engine, system)
    execute(engine, "INSERT INTO shop.sales VALUES (9, '2025-11-23Z', 'bob', 8, 1)")
    execute(engine, "INSERT INTO shop.sales_old VALUES (9, '2025-11-23Z', 'old', 8, 1)")
    of_live = f"SELECT customer FROM shop.{kind}_live ORDER BY customer"
    assert rows(engine, of_live) == [("ann",), ("bob",)]
    settle(engine, system)
    assert rows(engine, of_live) == [("ann",), ("bob",)]


def test_two_sources_that_changed_names_are_told_apart(engine: Engine) -> None:
    system = shop.stock()
    renamed(
        engine,
        system,
        "ALTER TABLE shop.sales RENAME TO sales_old",
        COPY.format("sales"),
        "ALTER TABLE shop.sales RENAME TO sales_new",
        "ALTER TABLE shop.sales_old RENAME TO sales",
        "ALTER TABLE shop.sales_new RENAME TO sales_old",
    )
    assert rows(engine, LEFT) == []
    assert rows(engine, LIVE) == EXPECTED
    settle(engine, system)


@pytest.mark.parametrize("kind", ["stock", "latest"])
@pytest.mark.parametrize("copied", [False, True])
def test_a_renamed_log_is_replaced(any_postgres_engine: Engine, kind: str, copied: bool) -> None:
    engine, system = any_postgres_engine, getattr(shop, kind)()
    log = f"tallykeeper.shop_{kind}_log"
    # Pending, so that the log that goes takes a change along.
    sold = "INSERT INTO shop.sales VALUES (8, '2025-11-23Z', 'tim', 8, 1)"
    statements = [sold, f"ALTER TABLE {log} RENAME TO log_old"]
    if copied:
        statements.append(f"CREATE TABLE {log} (LIKE tallykeeper.log_old INCLUDING ALL)")
    renamed(engine, system, *statements)
    execute(engine, "INSERT INTO shop.sales VALUES (9, '2025-11-23Z', 'eve', 8, 1)")
    assert scalar(engine, f"SELECT count(*) FROM {log}") == 1
    assert scalar(engine, f"SELECT count(*) FROM shop.{kind}_live") == 4
    settle(engine, system)
    assert scalar(engine, f"SELECT count(*) FROM shop.{kind}_live") == 4


def test_a_tally_that_counts_a_renamed_derived_table_is_right(engine: Engine) -> None:
    system = shop.latest(counted=True)
    renamed(
        engine,
        system,
        "ALTER TABLE shop.latest RENAME TO latest_old",
        COPY.format("latest"),
    )
    execute(engine, "INSERT INTO shop.sales VALUES (9, '2025-11-23Z', 'eve', 8, 1)")
    counted = "SELECT * FROM shop.customers_live ORDER BY 1"
    assert rows(engine, counted) == [("ann", 1), ("bob", 1), ("eve", 1)]
    settle(engine, system)
    assert rows(engine, counted) == [("ann", 1), ("bob", 1), ("eve", 1)]
    assert rows(engine, LEFT) == []


def test_a_copy_of_a_source_with_its_triggers_writes_into_no_log(engine: Engine) -> None:
    system = shop.stock()
    create_anew(engine, system)
    execute(
        engine,
        SALES,
        "CREATE TABLE shop.copy_old (LIKE shop.sales)",
        "CREATE TRIGGER copied AFTER INSERT ON shop.copy_old REFERENCING NEW TABLE AS new_rows"
        " FOR EACH STATEMENT EXECUTE FUNCTION tallykeeper.capture_shop_sales_insert()",
    )
    declare(engine, system)
    assert rows(engine, LEFT) == []
    settle(engine, system)
