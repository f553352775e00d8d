"""`tally explain`: how a tally is maintained, what that costs, which indexes are missing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from sqlalchemy import Engine, MetaData

from tallykeeper import DeclarationError, System, migrate, refresh
from tallykeeper.cli.output.explanations import as_json, in_words
from tallykeeper.maintain.explanation.explain import Explanation, explain, require_select
from tallykeeper.select.files import parse, tally_of
from tallykeeper.select.tally import SelectTally
from tests.integration.support import execute, rows, scalar
from tests.shapes import best_sales_tally

SOURCES = (
    "CREATE SCHEMA shop",
    "CREATE TABLE shop.customers (id integer PRIMARY KEY, region text NOT NULL)",
    "CREATE TABLE shop.orders (id integer PRIMARY KEY, customer_id integer NOT NULL,"
    " placed_at timestamptz NOT NULL, status text NOT NULL)",
    "CREATE TABLE shop.lines (order_id integer NOT NULL, cents integer NOT NULL)",
    "INSERT INTO shop.customers SELECT n, 'r' || n % 4 FROM generate_series(1, 50) AS n",
    "INSERT INTO shop.orders SELECT n, 1 + n % 50, now(), 'paid'"
    " FROM generate_series(1, 2000) AS n",
    "INSERT INTO shop.lines SELECT 1 + n % 2000, n FROM generate_series(1, 6000) AS n",
    "ANALYZE shop.customers, shop.orders, shop.lines",
)
REVENUE = (
    "SELECT c.region, sum(l.cents) AS cents, count(*) AS lines FROM shop.customers c"
    " JOIN shop.orders o ON o.customer_id = c.id JOIN shop.lines l ON l.order_id = o.id"
    " WHERE o.status <> 'cancelled' GROUP BY c.region"
)
LATEST = "SELECT o.customer_id, max(o.placed_at) AS latest FROM shop.orders o GROUP BY 1"
COUNTED = "SELECT o.status, count(*) AS orders FROM shop.orders o GROUP BY 1"
SELECTS: Mapping[str, str] = {"revenue": REVENUE, "latest": LATEST, "counted": COUNTED}


@pytest.fixture(autouse=True)
def _sources(engine: Engine) -> None:
    execute(engine, *SOURCES)


def declared(name: str) -> SelectTally:
    return SelectTally(f"shop.{name}", select=SELECTS[name])


def installed(engine: Engine, name: str) -> SelectTally:
    tally = declared(name)
    migrate(engine, [System("shop", MetaData(), [tally])])
    refresh(engine, tally)
    return tally


def statements(found: Explanation) -> list[str]:
    return [missing.statement for missing in found.missing_indexes]


def test_missing_indexes_are_statements_that_make_them(engine: Engine) -> None:
    found = explain(engine, installed(engine, "revenue"))
    wanted = [
        "CREATE INDEX CONCURRENTLY ON shop.lines (order_id)",
        "CREATE INDEX CONCURRENTLY ON shop.orders (customer_id)",
    ]
    assert statements(found) == wanted
    assert [sentence.split(";")[0] for sentence in found.advice] == wanted
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for statement in wanted:
            connection.exec_driver_sql(statement)
    again = explain(engine, declared("revenue"))
    assert (statements(again), again.advice) == ([], ())


def test_an_index_of_part_of_the_rows_or_that_is_invalid_does_not_count(engine: Engine) -> None:
    execute(
        engine,
        "CREATE INDEX ON shop.lines (order_id) WHERE cents > 0",
        "CREATE INDEX ON shop.lines (cents, order_id)",
        "CREATE INDEX ON shop.lines ((order_id + 0))",
        "CREATE INDEX ON shop.orders (customer_id, id)",
    )
    found = explain(engine, installed(engine, "revenue"))
    assert statements(found) == ["CREATE INDEX CONCURRENTLY ON shop.lines (order_id)"]


def test_groups_that_are_recomputed_are_looked_up(engine: Engine) -> None:
    found = explain(engine, installed(engine, "latest"))
    assert found.strategy == "group"
    assert "CREATE INDEX CONCURRENTLY ON shop.orders (customer_id)" in statements(found)
    assert found.reasons == ("max does not follow from sums",)


def test_what_one_change_costs_follows_from_the_statistics(engine: Engine) -> None:
    found = explain(engine, installed(engine, "revenue"))
    joined = {source.table: source.joined for source in found.sources}
    assert joined["shop.lines"] == 1
    assert joined["shop.orders"] == pytest.approx(3, abs=1)
    assert joined["shop.customers"] == pytest.approx(40 * 3, rel=0.3)


def test_figures_are_those_of_the_database(engine: Engine) -> None:
    tally = installed(engine, "revenue")
    execute(
        engine,
        "UPDATE shop.customers SET region = 'r9' WHERE id < 4",
        "INSERT INTO shop.lines VALUES (1, 1)",
        "ANALYZE shop.revenue",
    )
    found = explain(engine, tally)
    assert {s.table: s.pending for s in found.sources} == {
        "shop.customers": 6,
        "shop.orders": 0,
        "shop.lines": 1,
    }
    assert (found.installed, found.pending, found.rows) == ("as declared", 7, 4)
    size = scalar(engine, "SELECT pg_total_relation_size('shop.revenue')")
    assert found.table_bytes == size
    assert found.seconds is not None
    assert {s.table: s.columns for s in found.sources}["shop.lines"] == ("order_id", "cents")
    assert all(node.bytes for node in found.nodes)


def test_it_works_before_anything_is_installed_and_leaves_nothing(engine: Engine) -> None:
    found = explain(engine, declared("revenue"))
    assert found.installed.startswith("no: ")
    assert (found.strategy, found.rows, found.pending) == ("delta", None, None)
    assert len(statements(found)) == 2
    assert scalar(engine, "SELECT to_regnamespace('tallykeeper')") is None


def test_a_declaration_that_changed_is_explained_as_it_is_now(engine: Engine) -> None:
    installed(engine, "revenue")
    before = scalar(engine, "SELECT pg_get_viewdef('tallykeeper.shop_revenue_definition')")
    changed = SelectTally("shop.revenue", select=REVENUE.replace("sum(l.cents)", "max(l.cents)"))
    found = explain(engine, changed)
    assert found.installed == "no: its declaration changed; run `tally migrate`"
    assert found.strategy == "group"
    assert before == scalar(engine, "SELECT pg_get_viewdef('tallykeeper.shop_revenue_definition')")


def test_a_select_that_postgresql_refuses_is_placed_in_its_file(engine: Engine) -> None:
    text = "-- Orders.\n-- tally: shop.bad\nSELECT o.id,\n       o.colour\nFROM shop.orders o"
    tally = tally_of(parse(text, Path("tallies/shop/bad.sql")))
    with pytest.raises(DeclarationError) as refused:
        explain(engine, tally)
    assert str(refused.value) == (
        "tallies/shop/bad.sql:4:8: shop.bad: column o.colour does not exist"
    )
    with pytest.raises(DeclarationError, match=r"tallies/shop/bad\.sql:4:8: shop\.bad"):
        migrate(engine, [System("shop", MetaData(), [tally])])


def test_analyze_runs_what_is_pending_and_changes_nothing(engine: Engine) -> None:
    tally = installed(engine, "revenue")
    assert explain(engine, tally, analyze=True).analysis == (
        "nothing is pending, so there is nothing to run",
    )
    execute(engine, "INSERT INTO shop.lines VALUES (1, 1)")
    found = explain(engine, tally, analyze=True)
    assert any("actual" in line for line in found.analysis)
    assert found.analysis[-1].startswith("Execution Time")
    assert scalar(engine, f"SELECT count(*) FROM {tally.log_name}") == 1
    assert rows(engine, "SELECT sum(lines) FROM shop.revenue") == [(6000,)]


def test_counts_of_one_table_are_added_without_reading_it(engine: Engine) -> None:
    tally = installed(engine, "counted")
    found = explain(engine, tally, analyze=True)
    assert found.analysis == (
        "a refresh adds what the change log has to the derived table, and reads no source",
    )
    assert (found.strategy, found.missing_indexes, found.pending) == ("delta", (), 0)


def test_it_is_printed_within_80_columns_but_for_statements(engine: Engine) -> None:
    found = explain(engine, installed(engine, "revenue"))
    lines = list(in_words(found))
    assert lines[:2] == ["shop.revenue: delta", "  key: region"]
    assert "  installed: as declared" in lines
    assert "  shop.customers, about 50 rows, 0 pending" in lines
    assert [line for line in lines if len(line) > 80 and "CREATE INDEX" not in line] == []
    assert json.loads(as_json(found))["missing_indexes"][0]["table"] == "shop.lines"


def test_a_tally_of_another_kind_is_refused() -> None:
    with pytest.raises(DeclarationError, match=r"desk\.best_sales is not declared by a SELECT"):
        require_select(best_sales_tally, "desk.best_sales")
