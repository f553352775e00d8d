"""A window of a SELECT is read through the index on the instants, and nothing else is."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from sqlalchemy import BigInteger, Column, Engine, Integer, MetaData, Table, func, select

from tallykeeper import (
    Capture,
    DeclarationError,
    RecomputedTally,
    SelectTally,
    System,
    TimeKey,
    rebuild,
    rebuild_keys,
    refresh,
    verify,
)
from tallykeeper.database import sql
from tallykeeper.declarations.tally import Between, InWindows, Keys
from tallykeeper.installation.migrate import migrate
from tests.integration.support import execute, rows, scalar

READINGS = (
    "CREATE SCHEMA shop",
    "CREATE TABLE shop.readings (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
    " taken timestamptz, sensor integer NOT NULL, value integer NOT NULL)",
    "CREATE INDEX readings_taken ON shop.readings (taken)",
    "INSERT INTO shop.readings (taken, sensor, value) SELECT timestamptz '2024-01-01Z'"
    " + i * interval '5 minutes', i % 7, i % 100 FROM generate_series(0, 40000) AS i",
    "INSERT INTO shop.readings (taken, sensor, value) VALUES (NULL, 1, 1), ('infinity', 1, 1)",
    "ANALYZE shop.readings",
)
BY_HOUR = (
    "SELECT date_trunc('hour', taken, 'UTC') AS hour, sensor, {figures} FROM shop.readings"
    " WHERE taken IS NOT NULL GROUP BY 1, 2"
)
FIGURES = {
    "added up": "count(*) AS n, sum(value) AS total",
    "groups": "count(*) AS n, max(value) AS largest",
    "a chain": "count(*) AS n, count(DISTINCT value) AS different",
}
START, END = datetime(2024, 2, 1, tzinfo=UTC), datetime(2024, 2, 2, tzinfo=UTC)


def keep(engine: Engine, text: str) -> SelectTally:
    execute(engine, *READINGS)
    tally = SelectTally("shop.by_hour", select=text)
    migrate(engine, [System("shop", MetaData(), [tally])])
    refresh(engine, tally)
    return tally


def write_unnoticed(engine: Engine, statement: str) -> None:
    """Write the derived table as the engine does, so that no trigger notes it."""
    execute(engine, sql.CLAIM_WRITING, statement)


def scans(engine: Engine, query: str) -> list[str]:
    return [line for (line,) in rows(engine, f"EXPLAIN {query}") if "Scan" in line]


@pytest.mark.parametrize("figures", FIGURES)
def test_one_day_is_found_by_the_index_and_is_right(engine: Engine, figures: str) -> None:
    tally = keep(engine, BY_HOUR.format(figures=FIGURES[figures]))
    assert tally.time_key == TimeKey("hour", "hour")
    day = tally.rows(Between(tally.time_key, START, END))
    (scan,) = (scan for scan in scans(engine, day) if "readings" in scan)
    assert "Index" in scan
    whole = f"SELECT * FROM {tally.definition_name} WHERE hour >= '{START}' AND hour < '{END}'"
    assert scalar(engine, f"SELECT count(*) FROM ({day}) AS d") == 24 * 7
    assert not rows(engine, f"({day}) EXCEPT ALL ({whole})")
    assert not rows(engine, f"({whole}) EXCEPT ALL ({day})")
    write_unnoticed(engine, "UPDATE shop.by_hour SET n = 99 WHERE hour = '2024-02-01 05:00Z'")
    assert not verify(engine, tally, [(START, END)]).ok
    rebuild(engine, tally, START, END)
    assert verify(engine, tally, [(START, END)]).ok
    write_unnoticed(engine, "DELETE FROM shop.by_hour WHERE hour = 'infinity'")
    assert not verify(engine, tally).ok
    rebuild_keys(engine, tally, [{"hour": "infinity", "sensor": 1}])
    assert verify(engine, tally).ok


def test_several_windows_and_single_keys_are_found_by_the_index(engine: Engine) -> None:
    tally = keep(engine, BY_HOUR.format(figures=FIGURES["added up"]))
    assert tally.time_key is not None
    windows = "(VALUES (timestamptz '2024-02-01Z', timestamptz '2024-02-02Z'))"
    keys = "(VALUES (timestamptz '2024-02-01 07:00Z', 3))"
    scopes = (
        InWindows(tally.time_key, f"(SELECT * FROM {windows} AS v (starts_at, ends_at))"),
        Keys(tally, f"(SELECT * FROM {keys} AS v (hour, sensor))"),
    )
    for scope, found in zip(scopes, (24 * 7, 1), strict=True):
        query = tally.rows(scope)
        assert not any("Seq Scan on readings" in line for line in scans(engine, query))
        assert scalar(engine, f"SELECT count(*) FROM ({query}) AS q") == found


@pytest.mark.parametrize(
    "text",
    [
        "SELECT date_trunc('hour', taken, 'UTC') AS hour, count(*) AS n,"
        " rank() OVER (ORDER BY count(*), date_trunc('hour', taken, 'UTC')) AS place"
        " FROM shop.readings WHERE taken IS NOT NULL GROUP BY 1",
        "SELECT date_trunc('hour', taken, 'UTC') AS hour, count(*) AS n FROM shop.readings"
        " WHERE taken IS NOT NULL GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 3",
        "SELECT date_trunc('hour', taken, 'UTC') AS hour, count(*) AS n FROM shop.readings"
        " WHERE taken IS NOT NULL GROUP BY GROUPING SETS (1, ())",
        "SELECT date_trunc('hour', max(taken), 'UTC') AS hour, sensor, count(*) AS n"
        " FROM shop.readings WHERE taken < 'infinity' GROUP BY sensor",
    ],
)
def test_rows_that_follow_from_other_windows_are_not_restricted(engine: Engine, text: str) -> None:
    assert keep(engine, text).plan.windowed == ()


def test_a_derived_table_is_counted_by_its_single_rows_alone(engine: Engine) -> None:
    metadata = MetaData(schema="shop")
    readings = Table(
        "readings",
        metadata,
        Column("id", BigInteger, primary_key=True),
        Column("sensor", Integer, nullable=False),
    )
    sensors = Table(
        "sensors",
        metadata,
        Column("sensor", Integer, primary_key=True, autoincrement=False),
        Column("largest", BigInteger, nullable=False),
    )
    execute(engine, *READINGS)
    counted = RecomputedTally(
        system="shop",
        table=sensors,
        key=["sensor"],
        measures=["largest"],
        captures=[Capture(readings, key=lambda row: {"sensor": row.sensor})],
        aggregate=lambda scope: (
            select(readings.c.sensor, func.max(readings.c.id).label("largest"))
            .where(*scope(sensor=readings.c.sensor))
            .group_by(readings.c.sensor)
        ),
    )
    widest = SelectTally("shop.widest", select="SELECT max(largest) AS widest FROM shop.sensors")
    system = System("shop", metadata, [counted, widest])
    with pytest.raises(DeclarationError, match=r"shop\.widest counts shop\.sensors; a derived"):
        migrate(engine, [system])


def test_totals_are_columns_of_the_select(engine: Engine) -> None:
    execute(engine, *READINGS)
    tally = SelectTally(
        "shop.n",
        select="SELECT sensor, count(*) AS n FROM shop.readings GROUP BY 1",
        totals=["sensr"],
    )
    with pytest.raises(DeclarationError, match=r"`totals` names 'sensr'.*'sensor'"):
        migrate(engine, [System("shop", MetaData(), [tally])])
