"""What header lines of a file do to the tally that it declares."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine, MetaData

from tallykeeper import DeclarationError, System, migrate, rebuild, refresh, verify
from tallykeeper.declarations.tally import TimeKey
from tallykeeper.declarations.windows import Windows
from tallykeeper.select.files import parse, tally_of
from tallykeeper.select.tally import SelectTally
from tests.integration.support import execute, rows

SOURCES = (
    "CREATE SCHEMA shop",
    "CREATE TABLE shop.orders (id integer PRIMARY KEY, country text NOT NULL,"
    " placed_at timestamptz NOT NULL)",
    "INSERT INTO shop.orders SELECT n, 'c' || n % 3, '2025-03-29 12:00+00'::timestamptz"
    " + n * interval '7 hours' FROM generate_series(0, 20) AS n",
)
BY_DAY = (
    "SELECT date_trunc('day', o.placed_at, '{zone}') AS day, o.country, count(*) AS orders"
    " FROM shop.orders AS o GROUP BY 1, 2"
)
BERLIN, UTC_DAYS = BY_DAY.format(zone="Europe/Berlin"), BY_DAY.format(zone="UTC")
LISTED = "SELECT o.country, o.id, o.placed_at FROM shop.orders AS o"


def declared(header: str, select: str) -> SelectTally:
    return tally_of(parse(f"{header}\n{select}", Path("tallies/shop/a.sql"), "shop.a"))


def months(zone: str) -> TimeKey:
    return TimeKey("day", "day", "Europe/Berlin", Windows("month", zone))


def installed(engine: Engine, header: str, select: str) -> SelectTally:
    execute(engine, *SOURCES)
    tally = declared(header, select)
    migrate(engine, [System("shop", MetaData(), [tally])])
    refresh(engine, tally)
    assert verify(engine, tally).ok
    return tally


@pytest.mark.parametrize(
    ("header", "select", "expected"),
    [
        ("-- A.", UTC_DAYS, TimeKey("day", "day")),
        ("-- window: day", UTC_DAYS, TimeKey("day", "day")),
        ("-- window: DAY", BERLIN, TimeKey("day", "day", "Europe/Berlin")),
        ("-- A.", BERLIN, TimeKey("day", "day", "Europe/Berlin")),
        ("-- partitions: monthly", BERLIN, months("Europe/Berlin")),
        ("-- partitions: monthly Asia/Kathmandu", BERLIN, months("Asia/Kathmandu")),
        ("-- partitions: none", UTC_DAYS, None),
        ("-- partitions: daily", UTC_DAYS, TimeKey("day", "day")),
    ],
)
def test_windows_go_by_the_time_that_is_named(
    engine: Engine, header: str, select: str, expected: TimeKey | None
) -> None:
    assert declared(header, select).time_key == expected, "without a database, too"
    assert installed(engine, header, select).time_key == expected


def test_a_window_of_days_in_another_zone_is_rebuilt(engine: Engine) -> None:
    tally = installed(engine, "-- window: day", BERLIN)
    execute(
        engine,
        "ALTER TABLE shop.orders DISABLE TRIGGER USER",
        "UPDATE shop.orders SET country = 'c9' WHERE placed_at < '2025-03-31 00:00+02'",
        "ALTER TABLE shop.orders ENABLE TRIGGER USER",
    )
    berlin = ZoneInfo("Europe/Berlin")
    start, end = datetime(2025, 3, 1, tzinfo=berlin), datetime(2025, 4, 1, tzinfo=berlin)
    rebuild(engine, tally, start, end)
    wanted = f"SELECT * FROM ({BERLIN}) AS s ORDER BY 1, 2"
    assert rows(engine, "SELECT * FROM shop.a ORDER BY 1, 2") == rows(engine, wanted)


def test_a_key_that_the_select_does_not_show_is_taken_at_its_word(engine: Engine) -> None:
    tally = installed(engine, "-- key: id", LISTED)
    assert (tally.key, tally.is_numbered) == (("id",), False)
    assert rows(
        engine,
        "SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND"
        " a.attnum = ANY (i.indkey) WHERE i.indrelid = 'shop.a'::regclass AND i.indisunique",
    ) == [("id",)]


def test_indexes_are_made_with_the_table_and_added_to_one_that_is_there(engine: Engine) -> None:
    query = (
        "SELECT (SELECT string_agg(a.attname, ',' ORDER BY k.place) FROM unnest(i.indkey)"
        " WITH ORDINALITY AS k (number, place) JOIN pg_attribute AS a ON a.attrelid = i.indrelid"
        " AND a.attnum = k.number) FROM pg_index AS i WHERE i.indrelid = 'shop.a'::regclass"
        " AND NOT i.indisunique ORDER BY 1"
    )
    installed(engine, "-- index: country, day", UTC_DAYS)
    assert rows(engine, query) == [("country,day",)]
    tally = declared("-- index: country, day\n-- index: orders", UTC_DAYS)
    done = migrate(engine, [System("shop", MetaData(), [tally])]).done
    assert any("orders" in sentence for sentence in done)
    assert rows(engine, query) == [("country,day",), ("orders",)]
    assert verify(engine, tally).ok


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("-- key: contry", r"shop\.a: `key` names 'contry', but .* such column; did you mean 'cou"),
        ("-- window: at", r"`window` names 'at', but the SELECT has no such column; it has day, "),
        ("-- index: order", r"`index` names 'order', .* no such column; did you mean 'orders'"),
        ("-- window: country", r"time key's column 'country' is .*; expected a date or a time, as"),
        ("-- window: orders", r"time key's column 'orders' must be part of the key"),
    ],
)
def test_a_column_that_does_not_fit_is_refused(engine: Engine, header: str, message: str) -> None:
    execute(engine, *SOURCES)
    system = System("shop", MetaData(), [declared(header, UTC_DAYS)])
    with pytest.raises(DeclarationError, match=message):
        migrate(engine, [system])
    assert rows(engine, "SELECT to_regclass('shop.a')::text") == [(None,)]


def test_a_description_is_that_of_the_tally(engine: Engine) -> None:
    assert installed(engine, "-- Orders a day.", UTC_DAYS).description == "Orders a day."
