"""Partitions of a unit in a time zone: their keys, and materializing some of them."""

from __future__ import annotations

from datetime import UTC, datetime

import dagster as dg
import pytest
from sqlalchemy import Engine, MetaData, text

from tallykeeper import SelectTally, System, migrate
from tallykeeper.dagster.assets import build_assets, span_of
from tallykeeper.dagster.partitions import daily, of_windows
from tallykeeper.database.sql import CLAIM_WRITING
from tallykeeper.declarations.windows import UNITS, Windows
from tests.dagster.location import Location

FIRST = "2024-02-14"
NOW = datetime(2026, 3, 29, 12, tzinfo=UTC)
# With clocks that change at night, over midnight and by half an hour.
ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kathmandu",
    "America/Santiago",
    "America/Havana",
    "Atlantic/Azores",
    "Africa/Cairo",
    "Australia/Lord_Howe",
    "Pacific/Apia",
)
SOURCES = (
    "CREATE SCHEMA shop",
    "CREATE TABLE shop.orders (id integer PRIMARY KEY, cents integer, placed_at timestamptz)",
    "INSERT INTO shop.orders SELECT n, n, '2024-01-01 00:00Z'::timestamptz"
    " + n * interval '7 hours 7 minutes' FROM generate_series(1, 2500) AS n",
    "INSERT INTO shop.orders VALUES (0, 1, '1904-03-01Z'), (-1, 1, '2099-01-01Z'), (-2, 1, NULL)",
)
SELECTS = {
    "months": "date_trunc('month', o.placed_at, 'Europe/Berlin')",
    "weeks": "date_trunc('week', o.placed_at AT TIME ZONE 'America/New_York')",
    "quarters": "date_trunc('quarter', o.placed_at AT TIME ZONE 'Asia/Kathmandu')::date",
    "days": "date_trunc('day', o.placed_at, 'UTC')",
}


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("unit", UNITS)
def test_dagster_names_partitions_as_their_windows_are_named(
    unit: str, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TALLY_START_DATE", FIRST)
    windows = Windows(unit, zone)  # type: ignore[arg-type]
    partitions = of_windows(windows)
    keys = partitions.get_partition_keys(current_time=NOW)
    first = windows.of_day(datetime.fromisoformat(FIRST).date())
    assert keys == windows.between(first, windows.label(NOW))
    assert all(partitions.has_partition_key(key) for key in keys[-100:])


@pytest.fixture
def shop(instance: dg.DagsterInstance, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Location:
    """Four tallies of one system, each with partitions of its own."""
    monkeypatch.setenv("TALLY_START_DATE", FIRST)
    with engine.begin() as connection:
        for statement in SOURCES:
            connection.execute(text(statement))
    tallies = [
        SelectTally(
            f"shop.{name}",
            select=f"SELECT {time} AS at, sum(o.cents) AS cents FROM shop.orders AS o GROUP BY 1",
        )
        for name, time in SELECTS.items()
    ]
    system = System("shop", MetaData(), tallies)
    migrate(engine, [system])
    return Location(instance, engine, [build_assets(system, daily())])


def spoil(shop: Location) -> None:
    shop.execute(CLAIM_WRITING, *(f"UPDATE shop.{name} SET cents = -99" for name in SELECTS))


def right(shop: Location, table: str) -> list[str]:
    """The days in the zone of the rows that are not -99."""
    zone = {"months": "AT TIME ZONE 'Europe/Berlin'"}.get(table, "")
    query = f"SELECT (at {zone})::date::text FROM shop.{table} WHERE cents <> -99 ORDER BY at"
    with shop.engine.connect() as connection:
        return [day or "none" for (day,) in connection.execute(text(query))]


def rebuild(shop: Location, table: str, first: str, last: str) -> dict[str | None, object]:
    ran = shop.run(
        "__ASSET_JOB",
        asset_selection=[dg.AssetKey(["shop", table])],
        tags={
            "dagster/asset_partition_range_start": first,
            "dagster/asset_partition_range_end": last,
        },
    )
    assert ran.succeeded
    return dict(ran.materialized(table, "shop"))


@pytest.mark.parametrize(
    ("table", "partition"),
    [("months", "2025-03-01"), ("weeks", "2025-03-03"), ("quarters", "2025-04-01")],
)
def test_one_partition_is_materialized_and_nothing_beside_it(
    shop: Location, table: str, partition: str
) -> None:
    assert shop.hourly("shop").succeeded
    spoil(shop)
    found = rebuild(shop, table, partition, partition)
    assert list(found) == [partition]
    assert right(shop, table) == [partition]


def test_a_backfill_of_several_materializes_exactly_these(shop: Location) -> None:
    assert shop.hourly("shop").succeeded
    spoil(shop)
    months = ["2025-03-01", "2025-04-01", "2025-05-01"]
    found = rebuild(shop, "months", months[0], months[-1])
    assert list(found) == months
    assert right(shop, "months") == months


def test_the_first_and_the_last_partition_are_open(shop: Location) -> None:
    assert shop.hourly("shop").succeeded
    spoil(shop)
    partitions = of_windows(Windows("month", "Europe/Berlin"))
    last = partitions.get_last_partition_key() or ""
    rebuild(shop, "months", "2024-02-01", "2024-02-01")
    assert right(shop, "months") == ["1904-03-01", "2024-01-01", "2024-02-01", "none"]
    rebuild(shop, "months", last, last)
    assert "2099-01-01" in right(shop, "months")


def test_the_hourly_run_reports_each_partition_that_it_touched(shop: Location) -> None:
    first = shop.hourly("shop")
    assert first.succeeded
    assert first.failures() == []
    shop.execute("UPDATE shop.orders SET cents = 5 WHERE placed_at < '2024-01-03Z' AND id > 0")
    shop.execute("UPDATE shop.orders SET cents = 5 WHERE placed_at = '2024-01-01 07:07Z'")
    shop.execute("UPDATE shop.orders SET placed_at = '2025-03-31 22:00Z' WHERE id = 700")
    second = shop.hourly("shop")
    assert second.failures() == []
    months = second.materialized("months", "shop")
    assert set(months) == {"2024-02-01", "2024-07-01", "2025-04-01", None}
    reported = months["2025-04-01"]
    assert str(reported["reason"]).startswith("late data: ")
    assert str(reported["reason"]).endswith(" months late")


def test_what_a_check_finds_is_repaired_by_its_windows(shop: Location) -> None:
    assert shop.hourly("shop").succeeded
    shop.execute(CLAIM_WRITING, "UPDATE shop.months SET cents = 0 WHERE at = '2025-03-31 22:00Z'")
    ran = shop.audit()
    failed = ran.checked("months", "matches_source", "shop")
    assert not failed.passed
    repair = failed.metadata["repair"].value
    assert isinstance(repair, dict)
    assert repair["days"] == [["2025-04-01", "2025-04-01"]]
    command = "tally rebuild shop.months --from 2025-04-01 --to 2025-05-01"
    assert failed.metadata["to_resolve"].value == command
    repaired = shop.run("repair", {"ops": {"rebuild": {"config": {**repair, "incident": None}}}})
    assert repaired.succeeded
    assert set(repaired.materialized("months", "shop")) == {"2025-04-01", None}
    assert shop.audit().failures() == []


def test_a_span_knows_its_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALLY_START_DATE", FIRST)
    windows = Windows("quarter", "Asia/Kathmandu")
    span = span_of(of_windows(windows), windows)
    assert span.partition_of("1904-01-01") == span.first
    ((start, end),) = span.windows(["2025-04-01"])
    assert (start, end) == (
        datetime(2025, 3, 31, 18, 15, tzinfo=UTC),
        datetime(2025, 6, 30, 18, 15, tzinfo=UTC),
    )
