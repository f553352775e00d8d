"""Windows of a unit in a time zone: rebuilt, verified and read while writers change the sources.

The oracle is the SELECT itself, run in the same snapshot. Moments lie around changes of clocks.
"""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path

import psycopg
import pytest
from psycopg import errors
from sqlalchemy import Engine, MetaData

from tallykeeper import BadWindow, DeclarationError, System, rebuild, refresh, verify
from tallykeeper.database import sql
from tallykeeper.database.sql import CLAIM_WRITING
from tallykeeper.declarations.windows import UNITS, Windows
from tallykeeper.installation.migrate import migrate
from tallykeeper.reads.grouping import grouped
from tallykeeper.reads.rows import tally_rows
from tallykeeper.select.files import parse, tally_of
from tallykeeper.select.tally import SelectTally
from tests.integration.support import execute, rows

WRITERS = 3
STRANGE_ZONES = (
    "America/Santiago",
    "America/Havana",
    "Atlantic/Azores",
    "Australia/Lord_Howe",
    "Pacific/Apia",
)
ROUNDS = 4
PASSING = (errors.DeadlockDetected, errors.SerializationFailure, errors.LockNotAvailable)
SOURCES = (
    "CREATE SCHEMA shop",
    "CREATE TABLE shop.orders (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
    " country text NOT NULL, cents integer NOT NULL, placed_at timestamptz)",
    "INSERT INTO shop.orders (country, cents, placed_at) SELECT 'c' || n % 3, n,"
    " '2024-12-25 00:00Z'::timestamptz + n * interval '11 hours 13 minutes'"
    " FROM generate_series(1, 900) AS n",
    # Around the hours that there are not, or twice, and the starts of windows.
    "INSERT INTO shop.orders (country, cents, placed_at) SELECT 'c' || n % 3, n, at + off"
    " FROM unnest('{2025-03-30 01:00Z, 2025-10-26 01:00Z, 2025-02-28 23:00Z, 2025-03-31 22:00Z,"
    " 2025-03-09 07:00Z, 2025-11-02 06:00Z, 2025-03-03 05:00Z, 2025-03-10 04:00Z,"
    " 2025-03-31 18:15Z, 2025-06-30 18:15Z, 2025-11-02 04:30Z, 2025-11-02 05:00Z}'::timestamptz[])"
    " WITH ORDINALITY AS a (at, n), unnest('{0 s, -1 us, 30 min, 1 h, -1 h}'::interval[]) AS off",
    "INSERT INTO shop.orders (country, cents, placed_at) VALUES ('c1', 7, NULL)",
)
MEASURES = (
    "o.country, count(*) AS orders, sum(o.cents) AS cents FROM shop.orders AS o GROUP BY 1, 2"
)
# By the name of the tally: header, time, and what follows from them.
TALLIES: dict[str, tuple[str, str, Windows]] = {
    "months": (
        "-- A.",
        "date_trunc('month', o.placed_at, 'Europe/Berlin')",
        Windows("month", "Europe/Berlin"),
    ),
    "weeks": (
        "-- A.",
        "date_trunc('week', o.placed_at AT TIME ZONE 'America/New_York')",
        Windows("week", "America/New_York"),
    ),
    "quarters": (
        "-- A.",
        "date_trunc('quarter', o.placed_at AT TIME ZONE 'Asia/Kathmandu')"
        " AT TIME ZONE 'Asia/Kathmandu'",
        Windows("quarter", "Asia/Kathmandu"),
    ),
    "dates": (
        "-- A.",
        "(o.placed_at AT TIME ZONE 'Europe/Berlin')::date",
        Windows("day", "Europe/Berlin"),
    ),
    "havana": (
        "-- A.",
        "date_trunc('hour', o.placed_at, 'America/Havana')",
        Windows("day", "America/Havana"),
    ),
    "hours": (
        "-- partitions: hourly",
        "date_trunc('hour', o.placed_at, 'Asia/Kathmandu')",
        Windows("hour", "Asia/Kathmandu"),
    ),
    "years": (
        "-- window: at\n-- partitions: yearly America/New_York",
        "date_bin('6 hours', o.placed_at, '2000-01-01 00:00Z')",
        Windows("year", "America/New_York"),
    ),
}


def declared(header: str, time: str) -> SelectTally:
    select = f"SELECT {time} AS at, {MEASURES}"
    return tally_of(parse(f"{header}\n{select}", Path("tallies/shop/a.sql"), "shop.a"))


def installed(engine: Engine, header: str, time: str) -> SelectTally:
    execute(engine, *SOURCES)
    tally = declared(header, time)
    migrate(engine, [System("shop", MetaData(), [tally])])
    refresh(engine, tally)
    assert verify(engine, tally).ok
    return tally


def wrong(engine: Engine, tally: SelectTally, relation: str) -> list[tuple[object, ...]]:
    """The rows in which the relation and the SELECT differ, in one statement."""
    columns = sql.columns(tally.columns)
    query = (
        f"WITH kept AS MATERIALIZED (SELECT {columns} FROM {relation}),"
        f" expected AS MATERIALIZED (SELECT {columns} FROM ({tally.text}) AS e)"
        " SELECT 'too many' AS what, k.* FROM (TABLE kept EXCEPT ALL TABLE expected) AS k"
        " UNION ALL SELECT 'missing', e.* FROM (TABLE expected EXCEPT ALL TABLE kept) AS e LIMIT 5"
    )
    with engine.connect() as connection:
        return [tuple(row) for row in sql.execute(connection, query)]


@contextmanager
def writing(url: str) -> Iterator[None]:
    """Writers insert, move and delete orders until the block ends."""
    ended = threading.Event()
    failed: list[BaseException] = []
    moment = "'2024-12-25 00:00Z'::timestamptz + random() * interval '400 days'"
    statements = (
        "INSERT INTO shop.orders (country, cents, placed_at)"
        f" SELECT 'c' || n, n, {moment} FROM generate_series(1, 4) AS n",
        f"UPDATE shop.orders SET placed_at = {moment}, cents = cents + 1 WHERE id % 97 = %s",
        "UPDATE shop.orders SET placed_at = NULL WHERE id % 301 = %s",
        "DELETE FROM shop.orders WHERE id % 197 = %s",
    )

    def write(number: int) -> None:
        rng = random.Random(number)
        with psycopg.connect(url.replace("+psycopg", "")) as connection:
            while not ended.is_set():
                statement = rng.choice(statements)
                values = (rng.randrange(97),) if "%s" in statement else ()
                statement = statement.replace(" % ", " %% ") if values else statement
                try:
                    with connection.transaction():
                        connection.execute(statement.encode(), values)
                except PASSING:
                    pass
                except Exception as error:  # noqa: BLE001 -- raised again by the test
                    failed.append(error)
                    return

    threads = [threading.Thread(target=write, args=(number,)) for number in range(WRITERS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert not failed, failed


@pytest.mark.parametrize("name", TALLIES)
def test_windows_are_exact_while_others_write(engine: Engine, database_url: str, name: str) -> None:
    header, time, windows = TALLIES[name]
    tally = installed(engine, header, time)
    assert tally.windows == windows
    rng = random.Random(name)
    with writing(database_url):
        for _ in range(ROUNDS):
            assert wrong(engine, tally, tally.live_name) == []
            first = windows.of_day(date(2025, rng.randint(1, 12), rng.randint(1, 28)))
            bounds = windows.bounds(first, windows.next(first))
            rebuild(engine, tally, *bounds)
            assert verify(engine, tally, [bounds]).ok
            refresh(engine, tally)
            assert verify(engine, tally, "touched").ok
            assert verify(engine, tally).ok
    refresh(engine, tally)
    assert wrong(engine, tally, "shop.a") == []


@pytest.mark.parametrize("name", TALLIES)
def test_each_window_has_the_rows_of_its_label(engine: Engine, name: str) -> None:
    """What PostgreSQL calls a row's window, and the bounds that follow from it, are the same."""
    header, time, windows = TALLIES[name]
    tally = installed(engine, header, time)
    labels = [
        label for (label,) in rows(engine, f"SELECT DISTINCT {tally.day_of('d')} FROM shop.a AS d")
    ]
    keys = 0
    for label in labels:
        bounds = windows.bounds(label, label)
        counted = f"SELECT count(*) FROM shop.a AS d WHERE {tally.day_of('d')} = '{label}'"
        found = verify(engine, tally, [bounds])
        assert [(found.compared,)] == rows(engine, counted), label
        keys += found.compared
    assert rows(engine, "SELECT count(*) FROM shop.a") == [(keys,)]


@pytest.mark.parametrize("name", TALLIES)
def test_a_fault_is_found_in_its_window_and_repaired_there(engine: Engine, name: str) -> None:
    header, time, windows = TALLIES[name]
    tally = installed(engine, header, time)
    # As if the engine did it: at some times, and without one.
    change = "cents = cents + 1 WHERE at IS NULL OR hashtext(at::text) % 5 = 0"
    execute(engine, CLAIM_WRITING, f"UPDATE shop.a SET {change}")
    found = verify(engine, tally, limit=10_000)
    assert found.differing
    assert "0001-01-01" in found.days
    assert set(found.days) == {d.day for d in found.differences}
    before = wrong(engine, tally, "shop.a")
    assert before
    for first, last in windows.runs(found.days):
        rebuild(engine, tally, *windows.bounds(first, last))
    assert wrong(engine, tally, "shop.a") == []
    assert verify(engine, tally, "touched").ok


SAMPLES = (
    "SELECT at FROM generate_series('2025-01-01Z'::timestamptz, '2026-01-02Z', '30 minutes') AS at"
    " UNION ALL SELECT ('1700-01-01Z'::timestamptz + n * interval '370 days 5 hours 13 minutes')"
    " FROM generate_series(0, 600) AS n"
)


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Asia/Kathmandu", *STRANGE_ZONES])
def test_labels_are_the_same_in_python_and_in_postgresql(engine: Engine, zone: str) -> None:
    for unit in UNITS:
        of = Windows(unit, zone)
        label, utc = of.sql_label("at"), "'UTC'"
        moments = ("at", of.sql_start("label"), of.sql_end("label"))
        found = rows(
            engine,
            f"SELECT label, {', '.join(f'{each} AT TIME ZONE {utc}' for each in moments)}"
            f" FROM (SELECT at, {label} AS label FROM ({SAMPLES}) AS s (at)) AS labelled",
        )
        assert len(found) > 18_000
        in_utc = ((name, *(m.replace(tzinfo=UTC) for m in times)) for name, *times in found)
        differing = [
            (at, name, of.label(at))
            for name, at, start, end in in_utc
            if (of.label(at), *of.bounds(name, name)) != (name, start, end) or not start <= at < end
        ]
        assert not differing, differing[:3]


def test_bounds_that_begin_no_window_are_refused(engine: Engine) -> None:
    tally = installed(engine, *TALLIES["months"][:2])
    march, april = (tally.windows.start(f"2025-{month:02}-01") for month in (3, 4))
    for start, end, sentence in (
        (datetime(2025, 3, 1, tzinfo=UTC), None, "2025-03-01 00:00:00+00:00 begins no month in"),
        (
            None,
            datetime(2025, 4, 1, tzinfo=UTC),
            "the nearest that do are 2025-04-01 (2025-04-01T00",
        ),
        (datetime(2025, 3, 1), None, "has no time zone; the windows are each month in Europe/"),  # noqa: DTZ001
        (april, march, "the window ends (2025-03-01) at or before it starts (2025-04-01)"),
    ):
        for work in (
            lambda: rebuild(engine, tally, start, end),  # noqa: B023 -- called at once
            lambda: verify(engine, tally, [(start, end)]),  # noqa: B023 -- called at once
        ):
            with pytest.raises(BadWindow) as refused:
                work()
            assert sentence in str(refused.value)
    assert rebuild(engine, tally, march, april).keys_changed == 0


@pytest.mark.parametrize(
    ("header", "time", "sentence"),
    [
        (
            "-- partitions: monthly",
            "o.cents % 12",
            "is plainly a time; name the column by `window`",
        ),
        (
            "-- window: at\n-- partitions: yearly",
            "extract(year FROM o.placed_at AT TIME ZONE 'Europe/Berlin')",
            "time key's column 'at' is Numeric(); expected a date or a time, as",
        ),
        (
            "-- partitions: hourly",
            "date_trunc('hour', o.placed_at AT TIME ZONE 'Europe/Berlin')",
            "has no time zone, so that an hour in Europe/Berlin may be two; expected a timestamptz",
        ),
    ],
)
def test_windows_that_a_select_cannot_have_are_refused(
    engine: Engine, header: str, time: str, sentence: str
) -> None:
    execute(engine, *SOURCES)
    system = System("shop", MetaData(), [declared(header, time)])
    with pytest.raises(DeclarationError) as refused:
        migrate(engine, [system])
    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        ("date_trunc('YEAR', o.placed_at, 'europe/berlin')", ("year", "Europe/Berlin")),
        ("(date_trunc('month', o.placed_at AT TIME ZONE 'UTC'))::date", ("month", "UTC")),
        ("date_trunc('day', o.placed_at, 'Nowhere/Else')", None),
        ("date_trunc('decade', o.placed_at, 'UTC')", None),
        ("date_trunc('month', o.placed_at AT TIME ZONE 'UTC') AT TIME ZONE 'Asia/Tokyo'", None),
        ("date_trunc('month', o.placed_at)", None),
        ("o.placed_at", None),
    ],
)
def test_a_time_is_known_where_the_select_shows_it(
    time: str, expected: tuple[str, str] | None
) -> None:
    found = declared("-- A.", time).time_key
    assert (found and (found.unit, found.zone)) == expected


def test_windows_are_no_part_of_what_a_table_holds() -> None:
    """So a database of the release before, and one whose partitions change, is not rebuilt."""
    of_days = "date_trunc('day', o.placed_at, 'Europe/Berlin')"
    hashes = {declared(h, of_days).declaration_hash() for h in ("-- A.", "-- partitions: monthly")}
    assert hashes == {declared("-- partitions: none", of_days).declaration_hash()}
    named = declared("-- window: at", of_days)
    parts = ["select", named.text, "None", "TimeKey(column='at', unit='hour')"]
    before = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    assert named.declaration_hash() == before, "as the release before computed it"


def test_keys_touched_before_there_were_windows_are_verified(engine: Engine) -> None:
    """As in a database of the release before, which knew no windows but those in UTC."""
    header, time, _ = TALLIES["months"]
    without = installed(engine, "-- partitions: none", time)
    execute(engine, "UPDATE shop.orders SET cents = 1 WHERE placed_at < '2025-02-10Z'")
    refresh(engine, without)
    execute(engine, CLAIM_WRITING, "UPDATE shop.a SET cents = -1 WHERE at < '2024-12-31Z'")
    tally = declared(header, time)
    assert migrate(engine, [System("shop", MetaData(), [tally])]).done == []
    found = verify(engine, tally, "touched")
    assert (found.differing, found.days) == (3, ("2024-12-01",))
    rebuild(engine, tally, *tally.windows.bounds("2024-12-01", "2024-12-01"))
    assert verify(engine, tally, "touched").ok
    assert verify(engine, tally).ok


@pytest.mark.parametrize(
    ("name", "start", "end", "first"),
    [
        ("months", date(2025, 3, 1), date(2025, 5, 1), "2025-02-28T23:00:00Z"),
        ("quarters", date(2025, 4, 1), date(2025, 10, 1), "2025-03-31T18:15:00Z"),
        ("dates", date(2025, 3, 30), date(2025, 4, 1), "2025-03-30"),
    ],
)
def test_rows_of_a_range_are_those_of_days_in_the_zone(
    engine: Engine, name: str, start: date, end: date, first: str
) -> None:
    header, time, windows = TALLIES[name]
    tally = installed(engine, header, time)
    with engine.connect() as connection:
        found = tally_rows(connection, tally, start=start, end=end).rows
        groups = grouped(connection, tally, ["at:year"], start=start, end=end).groups
    assert str(found[0]["at"]) == first
    labels = windows.between(start.isoformat(), windows.label(windows.start_of_day(end)))[:-1]
    assert len({row["at"] for row in found}) == len(labels)
    assert [(str(g["at"]), g["rows"]) for g in groups] == [("2025-01-01", len(found))]
