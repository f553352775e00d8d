"""Tallies that are declared by a SELECT, in Dagster: before anything is installed, and after."""

from __future__ import annotations

import dagster as dg
import pytest
from sqlalchemy import Engine, MetaData

from tallykeeper import SelectTally, System, migrate
from tallykeeper.dagster import definitions
from tests.integration.support import execute, rows

SOURCES = (
    "CREATE SCHEMA shop",
    "CREATE TABLE shop.orders (id integer PRIMARY KEY, country text NOT NULL, cents integer,"
    " placed_at timestamptz NOT NULL)",
    "INSERT INTO shop.orders SELECT n, 'c' || n % 3, n, now() - n * interval '1 day'"
    " FROM generate_series(1, 30) AS n",
)
REVENUE = (
    "SELECT o.country, sum(o.cents) AS cents\nFROM shop.orders AS o\n"
    "WHERE o.cents > 0\nGROUP BY o.country"
)
DAILY = (
    "SELECT date_trunc('day', o.placed_at, 'UTC') AS day, count(*) AS orders"
    " FROM shop.orders AS o GROUP BY 1"
)
KEY = dg.AssetKey(["shop", "revenue"])


def system() -> System:
    revenue = SelectTally("shop.revenue", select=REVENUE, description="Revenue by country.")
    return System("shop", MetaData(), [revenue, SelectTally("shop.daily", select=DAILY)])


@pytest.fixture
def location(engine: Engine, database_url: str, monkeypatch: pytest.MonkeyPatch) -> dg.Definitions:
    monkeypatch.setenv("TALLY_DATABASE_URL", database_url)
    execute(engine, *SOURCES)
    return definitions(systems=[system()])


def test_definitions_are_made_without_a_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALLY_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    graph = definitions(systems=[system()]).resolve_asset_graph()
    asset = graph.get(KEY)
    assert asset.parent_keys == {dg.AssetKey(["shop", "orders"])}
    assert asset.description is not None
    assert asset.description.startswith("Revenue by country.\n")
    assert "WHERE o.cents > 0" in asset.description, "as it was written"
    assert not asset.is_partitioned
    assert graph.get(dg.AssetKey(["shop", "daily"])).is_partitioned
    schema = asset.metadata["dagster/column_schema"]
    assert [(c.name, c.type) for c in schema.columns] == [
        ("country", "unknown"),
        ("cents", "unknown"),
    ]


def test_the_hourly_job_keeps_them_and_shows_their_types(
    location: dg.Definitions, engine: Engine
) -> None:
    migrate(engine, [system()])
    done = location.resolve_job_def("shop_hourly").execute_in_process()
    assert done.success
    assert rows(engine, "SELECT sum(cents) FROM shop.revenue") == [(465,)]
    checks = done.get_asset_check_evaluations()
    assert len(checks) == 6
    assert all(check.passed for check in checks)
    (made,) = [
        m for m in done.asset_materializations_for_node("shop__revenue") if m.asset_key == KEY
    ]
    schema = made.metadata["dagster/column_schema"]
    assert isinstance(schema, dg.TableSchemaMetadataValue)
    columns = [(c.name, c.type) for c in schema.schema.columns]
    assert columns == [("country", "text"), ("cents", "bigint")]
