"""A SELECT of SQLAlchemy over declared tables: naive times, counted derived tables, adoption."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Engine,
    ForeignKey,
    Identity,
    Integer,
    MetaData,
    Select,
    Table,
    cast,
    func,
    select,
)
from sqlalchemy.schema import CreateSchema

from tallykeeper import (
    Capture,
    DeclarationError,
    KeyFilter,
    RecomputedTally,
    SelectTally,
    System,
    install,
    refresh,
    status,
    verify,
)
from tallykeeper.declarations.tally import Everything
from tallykeeper.installation.migrate import migrate
from tests.integration.support import execute, rows, scalar

metadata = MetaData(schema="shop")
readings = Table(
    "readings",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("taken", DateTime(timezone=True), nullable=False),
    Column("sensor", Integer, nullable=False),
)
days = Table(
    "days",
    metadata,
    Column("day", DateTime(timezone=True), primary_key=True),
    Column("n", Integer, nullable=False),
)
largest = Table(
    "largest",
    metadata,
    Column("sensor", Integer, primary_key=True, autoincrement=False),
    Column("latest", BigInteger, nullable=False),
)
by_latest = Table(
    "by_latest",
    metadata,
    Column("latest", BigInteger, primary_key=True, autoincrement=False),
    Column("sensors", Integer, nullable=False),
)
_day = func.date_trunc("day", readings.c.taken, "UTC").label("day")
OF_DAYS = select(_day, cast(func.count(), Integer).label("n")).group_by(_day)


def latest_of(scope: KeyFilter) -> Select[Any]:
    return (
        select(readings.c.sensor, (func.max(readings.c.id) % 3).label("latest"))
        .where(*scope(sensor=readings.c.sensor))
        .group_by(readings.c.sensor)
    )


def add(engine: Engine, taken: str, sensor: int) -> None:
    execute(engine, f"INSERT INTO shop.readings (taken, sensor) VALUES ('{taken}', {sensor})")


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "America/Anchorage"])
def test_times_without_a_zone_are_read_as_utc(engine: Engine, zone: str) -> None:
    tally = SelectTally("shop.days", select=OF_DAYS, table=days)
    with engine.begin() as connection:
        connection.execute(CreateSchema("shop"))
        readings.create(connection)
        days.create(connection)
        for table, column in (("readings", "taken"), ("days", "day")):
            change = f"ALTER TABLE shop.{table} ALTER {column} TYPE timestamp USING NULL"
            connection.exec_driver_sql(change)
    system = System("shop", metadata, [tally])
    with engine.begin() as connection:
        install(connection, system.tallies)
    refresh(engine, tally)
    in_zone = f"SET LOCAL timezone = '{zone}'"
    execute(
        engine,
        in_zone,
        "INSERT INTO shop.readings (taken, sensor) VALUES ('2024-03-01 00:00', 1),"
        " ('2024-03-01 23:59', 1)",
    )
    shown = "SELECT (day AT TIME ZONE 'UTC')::text, n FROM shop.days_live"
    with engine.begin() as connection:
        connection.exec_driver_sql(in_zone)
        found = connection.exec_driver_sql(shown).all()
    assert [tuple(row) for row in found] == [("2024-03-01 00:00:00", 2)]
    refresh(engine, tally)
    assert rows(engine, "SELECT day::text, n FROM shop.days") == [("2024-03-01 00:00:00", 2)]
    assert verify(engine, tally).ok


def counting(engine: Engine) -> tuple[RecomputedTally, SelectTally]:
    """A recomputed tally, and a SELECT that counts its derived table."""
    recomputed = RecomputedTally(
        system="shop",
        table=largest,
        key=["sensor"],
        measures=["latest"],
        captures=[Capture(readings, key=lambda row: {"sensor": row.sensor})],
        aggregate=latest_of,
    )
    counted = SelectTally(
        "shop.by_latest",
        select=select(largest.c.latest, cast(func.count(), Integer).label("sensors")).group_by(
            largest.c.latest
        ),
        table=by_latest,
    )
    migrate(engine, [System("shop", metadata, [recomputed, counted])], with_sources=True)
    return recomputed, counted


OF_LATEST = (
    "SELECT latest, count(*) FROM (SELECT max(id) % 3 AS latest FROM shop.readings"
    " GROUP BY sensor) AS s GROUP BY 1 ORDER BY 1"
)


def test_a_counted_derived_table_is_live_with_what_is_pending_there(engine: Engine) -> None:
    recomputed, counted = counting(engine)
    truth = OF_LATEST
    live = "SELECT latest, sensors FROM shop.by_latest_live ORDER BY 1"
    for step in range(12):
        add(engine, "2024-03-01 12:00Z", step % 5)
        if step % 4 == 3:
            execute(engine, f"DELETE FROM shop.readings WHERE sensor = {step % 5}")
        # Stale at first, then with changes pending in the one, the other, and both.
        assert rows(engine, live) == rows(engine, truth)
        if step in (2, 5, 6):
            refresh(engine, recomputed)
            assert rows(engine, live) == rows(engine, truth)
        if step in (3, 6, 8):
            refresh(engine, counted)
            assert rows(engine, live) == rows(engine, truth)
    refresh(engine, recomputed)
    refresh(engine, counted)
    assert rows(engine, live.replace("_live", "")) == rows(engine, truth)
    assert verify(engine, counted).ok


def test_no_snapshot_of_a_counted_derived_table_is_wrong_among_writers(engine: Engine) -> None:
    recomputed, counted = counting(engine)
    truth = OF_LATEST.removesuffix(" ORDER BY 1")
    live = "SELECT latest, sensors::bigint FROM shop.by_latest_live"
    wrong = f"(({truth}) EXCEPT ALL ({live})) UNION ALL (({live}) EXCEPT ALL ({truth}))"
    pending = (
        "SELECT EXISTS (SELECT FROM tallykeeper.shop_largest_log),"
        " EXISTS (SELECT FROM tallykeeper.shop_by_latest_log)"
    )
    stop, failures = threading.Event(), list[BaseException]()

    def write(seed: int) -> None:
        rng = random.Random(seed)
        try:
            while not stop.is_set():
                sensor, other = rng.randrange(12), rng.randrange(12)
                # One statement each: of several, two writers could wait for each other.
                statements = (
                    "INSERT INTO shop.readings (taken, sensor)"
                    f" SELECT now(), {sensor} FROM generate_series(1, {other})",
                    f"DELETE FROM shop.readings WHERE sensor = {sensor} AND id % 3 = 0",
                    f"UPDATE shop.readings SET sensor = {other} WHERE id ="
                    f" (SELECT max(id) FROM shop.readings WHERE sensor = {sensor})",
                )
                execute(engine, rng.choice(statements))
                time.sleep(rng.uniform(0, 0.01))
        except BaseException as error:  # noqa: BLE001 - raised by the thread that runs the test
            failures.append(error)

    threads = [threading.Thread(target=write, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    seen: Counter[tuple[bool, bool]] = Counter()
    rng = random.Random(7)
    try:
        deadline = time.monotonic() + 120
        # With changes pending in the one, the other, both.
        while sum(seen.values()) < 150 or {(True, True), (True, False)} - seen.keys():
            assert time.monotonic() < deadline, seen
            if rng.random() < 0.4:
                refresh(engine, rng.choice((recomputed, counted)))
            with engine.begin() as connection:
                connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                seen[tuple(connection.exec_driver_sql(pending).one())] += 1
                assert connection.exec_driver_sql(wrong.replace("%", "%%")).all() == []
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []
    for tally in (recomputed, counted):
        refresh(engine, tally)
        assert verify(engine, tally).ok


@pytest.mark.parametrize("is_known", [True, False])
def test_what_another_declaration_kept_is_adopted_where_it_meant_the_same(
    engine: Engine, is_known: bool
) -> None:
    before = SelectTally("shop.days", select=OF_DAYS, table=days)
    migrate(engine, [System("shop", metadata, [before])], with_sources=True)
    add(engine, "2024-03-01 12:00Z", 1)
    refresh(engine, before)
    add(engine, "2024-03-02 12:00Z", 1)
    # As one that was declared in another way left it.
    execute(engine, "UPDATE tallykeeper.tally_state SET declaration_hash = 'another'")
    known = ["another"] if is_known else []
    after = SelectTally("shop.days", select=OF_DAYS, table=days, formerly=known)
    migrate(engine, [System("shop", metadata, [after])])
    stale = status(engine, after).stale
    assert (stale == ()) is is_known
    assert scalar(engine, "SELECT count(*) FROM shop.days_live") == 2
    assert refresh(engine, after).how == ("refresh" if is_known else "rebuild")
    assert verify(engine, after).ok


def test_a_new_key_that_was_pending_by_hand_is_not_lost(engine: Engine) -> None:
    """The image of a key alone does not meet a condition on what is no key."""
    since = datetime(2024, 3, 1, tzinfo=UTC)

    def latest_since(scope: KeyFilter) -> Select[Any]:
        return latest_of(scope).where(readings.c.taken >= since)

    before = RecomputedTally(
        system="shop",
        table=largest,
        key=["sensor"],
        measures=["latest"],
        captures=[Capture(readings, key=lambda row: {"sensor": row.sensor})],
        aggregate=latest_since,
    )
    migrate(engine, [System("shop", metadata, [before])], with_sources=True)
    refresh(engine, before)
    add(engine, "2024-03-01 12:00Z", 1)
    after = SelectTally(
        "shop.largest",
        select=latest_since(Everything()),
        table=largest,
        formerly=[before.declaration_hash()],
    )
    migrate(engine, [System("shop", metadata, [after])])
    assert rows(engine, "SELECT sensor FROM shop.largest_live") == [(1,)]
    assert refresh(engine, after).how == "rebuild"
    assert verify(engine, after).ok


def test_a_row_that_a_foreign_key_took_along_comes_back_with_what_it_refers_to(
    engine: Engine,
) -> None:
    """What was logged of the row that went and of the row that came cancels out."""
    ours = MetaData(schema="shop")
    sensors = Table("sensors", ours, Column("id", Integer, primary_key=True, autoincrement=False))
    taken = Table("taken", ours, Column("sensor", Integer), Column("at", Integer))
    latest = Table(
        "latest",
        ours,
        Column("id", ForeignKey(sensors.c.id, ondelete="CASCADE"), primary_key=True),
        Column("at", Integer),
    )
    tally = SelectTally(
        "shop.latest",
        select=select(sensors.c.id, func.max(taken.c.at).label("at"))
        .select_from(sensors.outerjoin(taken, taken.c.sensor == sensors.c.id))
        .group_by(sensors.c.id),
        table=latest,
    )
    migrate(engine, [System("shop", ours, [tally])], with_sources=True)
    execute(
        engine, "INSERT INTO shop.sensors VALUES (1), (2)", "INSERT INTO shop.taken VALUES (1, 5)"
    )
    refresh(engine, tally)
    execute(engine, "DELETE FROM shop.sensors WHERE id = 1", "INSERT INTO shop.sensors VALUES (1)")
    expected = [(1, 5), (2, None)]
    assert rows(engine, "SELECT id, at FROM shop.latest_live ORDER BY 1") == expected
    refresh(engine, tally)
    assert rows(engine, "SELECT id, at FROM shop.latest ORDER BY 1") == expected
    assert verify(engine, tally).ok


def test_one_whose_source_is_missing_is_left_out_until_it_comes(engine: Engine) -> None:
    other = Table("others", metadata, Column("sensor", Integer), extend_existing=True)
    per_sensor = Table(
        "per_sensor",
        metadata,
        Column("sensor", Integer, primary_key=True, autoincrement=False),
        Column("n", BigInteger, nullable=False),
        extend_existing=True,
    )
    of_days = SelectTally("shop.days", select=OF_DAYS, table=days)
    of_others = SelectTally(
        "shop.per_sensor",
        select=select(other.c.sensor, func.count().label("n"))
        .select_from(other.join(readings, readings.c.sensor == other.c.sensor))
        .group_by(other.c.sensor),
        table=per_sensor,
    )
    joined = "SELECT id FROM shop.readings AS r JOIN shop.others AS o ON o.sensor = r.sensor"
    plain = SelectTally("shop.plain", select=joined)
    system = System("shop", metadata, [of_days, of_others, plain])
    with engine.begin() as connection:
        connection.execute(CreateSchema("shop"))
        readings.create(connection)
    result = migrate(engine, [system])
    assert result.left_out == {
        "shop.per_sensor": ["shop.others"],
        "shop.plain": ["shop.others"],
    }
    add(engine, "2024-03-01 12:00Z", 1)
    refresh(engine, of_days)
    assert verify(engine, of_days).ok
    assert status(engine, of_days).faults == ()
    assert migrate(engine, [system]).done == []
    with engine.begin() as connection:
        other.create(connection)
    assert migrate(engine, [system]).left_out == {}
    execute(engine, "INSERT INTO shop.others VALUES (1), (1), (NULL)")
    for tally in system.tallies:
        refresh(engine, tally)
        assert verify(engine, tally).ok
    assert rows(engine, "SELECT sensor, n FROM shop.per_sensor") == [(1, 2)]


def test_tables_of_other_metadata_are_the_sources_and_the_derived_table_is_known_by_its_name(
    engine: Engine,
) -> None:
    """A SELECT of SQLAlchemy names its tables itself, whichever metadata they belong to."""
    recomputed, _ = counting(engine)
    elsewhere = MetaData(schema="shop")
    copy = Table("largest", elsewhere, *(Column(c.name, c.type) for c in largest.c))
    over_copy = SelectTally(
        "shop.by_latest",
        select=select(copy.c.latest, cast(func.count(), Integer).label("sensors")).group_by(
            copy.c.latest
        ),
        table=Table("by_latest", elsewhere, *(Column(c.name, c.type) for c in by_latest.c)),
    )
    assert over_copy.sources == (copy,)
    system = System("shop", MetaData(schema="shop"), [recomputed, over_copy])
    assert over_copy.upstream == (recomputed,)
    assert system.sources == (readings,)
    assert not system.metadata.tables, "no table without columns was made in it"
    with pytest.raises(DeclarationError, match=r"shop\.largest, which must come before it"):
        System("shop", MetaData(schema="shop"), [over_copy, recomputed])
