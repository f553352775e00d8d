"""Sources, systems and tallies whose names meet: each keeps what is its own."""

from __future__ import annotations

import pytest
from sqlalchemy import (
    BigInteger,
    Column,
    Engine,
    Integer,
    MetaData,
    Table,
    func,
    select,
    union_all,
)

from tallykeeper import (
    DeclarationError,
    SelectTally,
    System,
    capture_faults,
    install,
    refresh,
    verify,
)
from tests.integration.support import execute, rows, stale_reasons


def source(schema: str, name: str) -> Table:
    return Table(
        name,
        MetaData(),
        Column("id", BigInteger, primary_key=True, autoincrement=True),
        Column("kind", Integer, nullable=False),
        schema=schema,
    )


def counted(system: str, name: str, *sources: Table, schema: str = "counts") -> SelectTally:
    table = Table(
        name,
        MetaData(),
        Column("kind", Integer, primary_key=True, autoincrement=False),
        Column("rows", BigInteger, nullable=False),
        schema=schema,
    )
    kinds = union_all(*(select(each.c.kind) for each in sources)).subquery("kinds")
    of_kinds = select(kinds.c.kind, func.count().label("rows")).group_by(kinds.c.kind)
    return SelectTally(f"{system}.{name}", select=of_kinds, table=table)


def put(engine: Engine, *systems: System) -> None:
    """Each system's tables, and its capture, one after another, as two projects would."""
    with engine.begin() as connection:
        for system in systems:
            for tally in system.tallies:
                for table in (*tally.sources, tally.table):
                    connection.exec_driver_sql(f'CREATE SCHEMA IF NOT EXISTS "{table.schema}"')
                    table.create(connection, checkfirst=True)
            install(connection, system.tallies)


def exact(engine: Engine, *systems: System) -> None:
    """Nothing to be done, no fault, nothing stale, and right as it is and after a refresh."""
    for system in systems:
        with engine.begin() as connection:
            assert install(connection, system.tallies) == []
            for tally in system.tallies:
                assert capture_faults(connection, tally) == []
        for tally in system.tallies:
            for _ in range(2):
                assert verify(engine, tally).ok, tally
                refresh(engine, tally)


def write(engine: Engine, *tables: Table) -> None:
    for table in tables:
        name = f'"{table.schema}"."{table.name}"'
        execute(
            engine,
            f"INSERT INTO {name} (kind) VALUES (1)",
            f"INSERT INTO {name} (kind) VALUES (1), (2), (2), (3)",
            f"UPDATE {name} SET kind = 9 WHERE kind = 3",
            f"DELETE FROM {name} WHERE kind = 1",
        )


LONG = "x" * 58
PAIRS = {
    "schema and table put together": (source("a_b", "c"), source("a", "b_c")),
    "names that differ in case alone": (source("shop", "Sales"), source("shop", "sales")),
    "names that are shortened": (source("shop", f"{LONG}1"), source("shop", f"{LONG}2")),
    "a table named like an event": (source("shop", "sales"), source("shop", "sales_insert")),
}


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("of_one_tally", [True, False])
def test_sources_whose_names_meet_are_captured_each(
    engine: Engine, pair: str, of_one_tally: bool
) -> None:
    first, second = PAIRS[pair]
    if of_one_tally:
        tallies = [counted("one", "both", first, second)]
    else:
        tallies = [counted("one", "firsts", first), counted("one", "seconds", second)]
    system = System("one", MetaData(), tallies)
    put(engine, system)
    for tally in tallies:
        refresh(engine, tally)
    write(engine, first, second)
    exact(engine, system)


def test_two_systems_over_one_source_leave_each_other_alone(engine: Engine) -> None:
    shared = source("shop", "sales")
    one = System("one", MetaData(), [counted("one", "ones", shared)])
    two = System("two", MetaData(), [counted("two", "twos", shared)])
    put(engine, one, two)
    for system in (one, two):
        refresh(engine, system.tallies[0])
    write(engine, shared)
    exact(engine, one, two)
    execute(engine, "TRUNCATE shop.sales")
    assert all(stale_reasons(engine, system.tallies[0].name) for system in (one, two))
    exact_after_refresh = [refresh(engine, s.tallies[0]).how for s in (one, two)]
    assert exact_after_refresh == ["rebuild", "rebuild"]
    put(engine, two, one)
    write(engine, shared)
    exact(engine, one, two)


def test_two_tallies_with_one_log_or_one_table_are_refused(engine: Engine) -> None:
    rows_of = source("shop", "sales")
    put(engine, System("a_b", MetaData(), [counted("a_b", "c", rows_of)]))
    met = System("a", MetaData(), [counted("a", "b_c", rows_of)])
    with pytest.raises(DeclarationError, match="have the same change log"):
        put(engine, met)
    twice = [counted("x", "same", rows_of), counted("y", "same", rows_of)]
    with engine.begin() as connection, pytest.raises(DeclarationError, match="same derived table"):
        install(connection, twice)


def test_derived_tables_whose_names_meet_have_triggers_each(engine: Engine) -> None:
    rows_of = source("shop", "sales")
    first = counted("one", "c", rows_of, schema="a_b")
    second = counted("one", "b_c", rows_of, schema="a")
    system = System("one", MetaData(), [first, second])
    put(engine, system)
    for tally in (first, second):
        refresh(engine, tally)
    exact(engine, system)
    execute(engine, "TRUNCATE a.b_c")
    assert [bool(stale_reasons(engine, t.name)) for t in (first, second)] == [False, True]


def two_over(shared: Table) -> tuple[System, System]:
    one = System("one", MetaData(), [counted("one", "ones", shared)])
    return one, System("two", MetaData(), [counted("two", "twos", shared)])


def partitioned_sales(engine: Engine) -> None:
    """Sales by id in three partitions of a hundred each, and a fourth that is not attached."""
    execute(
        engine,
        "CREATE SCHEMA shop; CREATE SCHEMA counts",
        "CREATE TABLE shop.sales (id bigint GENERATED BY DEFAULT AS IDENTITY, kind integer NOT"
        " NULL, PRIMARY KEY (id)) PARTITION BY RANGE (id)",
        *(
            f"CREATE TABLE shop.sales_{n} PARTITION OF shop.sales"
            f" FOR VALUES FROM ({n}00) TO ({n + 1}00)"
            for n in (0, 1, 2)
        ),
        "CREATE TABLE shop.sales_3 (LIKE shop.sales INCLUDING ALL EXCLUDING IDENTITY)",
        "ALTER TABLE shop.sales ALTER COLUMN id RESTART WITH 251",
        "INSERT INTO shop.sales SELECT n, n % 7 FROM generate_series(1, 250) AS n",
        "INSERT INTO shop.sales_3 SELECT n, n % 5 FROM generate_series(300, 350) AS n",
    )


def ours(engine: Engine, relation: str) -> list[str]:
    """The triggers of the engine on a table."""
    query = (
        "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal AND tgname LIKE 'tallykeeper%'"
        f" AND tgname <> 'tallykeeper_merge' AND tgrelid = '{relation}'::regclass ORDER BY 1"
    )
    return [name for (name,) in rows(engine, query)]


def live_is_exact(engine: Engine, of: str, *systems: System) -> None:
    """Each live view says how many rows of each kind the table has."""
    counts = f"SELECT kind, count(*) FROM {of} GROUP BY kind ORDER BY kind"
    for system in systems:
        live = f"SELECT kind, rows FROM {system.tallies[0].live_name} ORDER BY kind"
        assert rows(engine, live) == rows(engine, counts), system


def migrate_in_turn(engine: Engine, of: str, *systems: System) -> None:
    """Both systems installed, in that order; then each is built, and neither has anything to do."""
    for system in systems:
        with engine.begin() as connection:
            install(connection, system.tallies)
    live_is_exact(engine, of, *systems)
    for system in systems:
        refresh(engine, system.tallies[0])
    live_is_exact(engine, of, *systems)
    exact(engine, *systems)


REARRANGEMENTS = {
    "detached": ["ALTER TABLE shop.sales DETACH PARTITION shop.sales_1"],
    "detached and another attached": [
        "ALTER TABLE shop.sales DETACH PARTITION shop.sales_1",
        "ALTER TABLE shop.sales ATTACH PARTITION shop.sales_3 FOR VALUES FROM (300) TO (400)",
    ],
    "detached and renamed": [
        "ALTER TABLE shop.sales DETACH PARTITION shop.sales_1",
        "ALTER TABLE shop.sales_1 RENAME TO old_sales",
    ],
    "a partition renamed": ["ALTER TABLE shop.sales_1 RENAME TO old_sales"],
}


@pytest.mark.parametrize("rearranged", REARRANGEMENTS)
@pytest.mark.parametrize("first", [0, 1])
def test_two_systems_follow_the_partitions_of_one_source(
    engine: Engine, rearranged: str, first: int
) -> None:
    shared = source("shop", "sales")
    systems = two_over(shared)
    partitioned_sales(engine)
    put(engine, *systems)
    migrate_in_turn(engine, "shop.sales", *systems)
    execute(engine, *REARRANGEMENTS[rearranged])
    in_turn = systems if first == 0 else systems[::-1]
    migrate_in_turn(engine, "shop.sales", *in_turn)
    left = {name for (name,) in rows(engine, "SELECT relname FROM pg_class WHERE relkind = 'r'")}
    for name in left & {"sales_1", "old_sales"}:
        belongs = rearranged == "a partition renamed"
        assert len(ours(engine, f"shop.{name}")) == (8 if belongs else 0)
        execute(engine, f"INSERT INTO shop.{name} VALUES (199999, 1)" if not belongs else "")
    execute(engine, "INSERT INTO shop.sales VALUES (51, 90), (250, 91) ON CONFLICT DO NOTHING")
    execute(engine, "DELETE FROM shop.sales WHERE id < 20", "UPDATE shop.sales SET kind = kind + 1")
    live_is_exact(engine, "shop.sales", *systems)
    exact(engine, *systems)


@pytest.mark.parametrize("first", [0, 1])
def test_two_systems_over_one_partition_leave_the_table_it_was_detached_from(
    engine: Engine, first: int
) -> None:
    shared = source("shop", "sales_1")
    systems = two_over(shared)
    partitioned_sales(engine)
    put(engine, *systems)
    migrate_in_turn(engine, "shop.sales_1", *systems)
    assert len(ours(engine, "shop.sales")) == 6
    execute(
        engine,
        "ALTER TABLE shop.sales DETACH PARTITION shop.sales_1",
        "CREATE TABLE shop.sales_1b PARTITION OF shop.sales FOR VALUES FROM (100) TO (200)",
    )
    migrate_in_turn(engine, "shop.sales_1", *(systems if first == 0 else systems[::-1]))
    assert ours(engine, "shop.sales") == []
    execute(
        engine, "INSERT INTO shop.sales VALUES (150, 3)", "DELETE FROM shop.sales_1 WHERE id < 120"
    )
    live_is_exact(engine, "shop.sales_1", *systems)
    exact(engine, *systems)


def test_two_systems_follow_a_source_that_is_another_table_now(engine: Engine) -> None:
    shared = source("shop", "sales")
    systems = two_over(shared)
    partitioned_sales(engine)
    put(engine, *systems)
    migrate_in_turn(engine, "shop.sales", *systems)
    execute(
        engine,
        "ALTER TABLE shop.sales RENAME TO old_sales",
        "CREATE TABLE shop.sales (id bigint PRIMARY KEY, kind integer NOT NULL)",
        "INSERT INTO shop.sales VALUES (1, 1), (2, 1)",
    )
    migrate_in_turn(engine, "shop.sales", *systems[::-1])
    assert ours(engine, "shop.old_sales") == ours(engine, "shop.sales_1") == []
    execute(engine, "DELETE FROM shop.old_sales", "DELETE FROM shop.sales WHERE id = 1")
    live_is_exact(engine, "shop.sales", *systems)
    exact(engine, *systems)


def nothing_differs(engine: Engine, system: System) -> None:
    """Its tally is as it was: no fault, not stale, nothing to install, and no rebuild."""
    (tally, *_) = system.tallies
    with engine.begin() as connection:
        assert capture_faults(connection, tally) == []
        assert stale_reasons(engine, tally.name) == []
        assert install(connection, system.tallies) == []
    assert refresh(engine, tally).how != "rebuild"
    assert verify(engine, tally).ok


def uninstall(engine: Engine, system: System) -> None:
    """Drop the capture functions of its tally, and the triggers that call them."""
    (tally,) = system.tallies
    found = rows(
        engine,
        "SELECT oid::regprocedure::text FROM pg_proc WHERE proname LIKE 'capture_shop_sales_%'"
        f" AND (prosrc LIKE '%''{tally.name}''%' OR prosrc LIKE '%{tally.log_name} %')",
    )
    assert len(found) == 4
    execute(engine, *(f"DROP FUNCTION {name} CASCADE" for (name,) in found))


@pytest.mark.parametrize("of", ["shop.sales", "shop.sales_1"])
def test_what_one_system_does_is_no_difference_to_the_other(engine: Engine, of: str) -> None:
    partitioned_sales(engine)
    shared = source(*of.split("."))
    one, two = two_over(shared)
    put(engine, one)
    refresh(engine, one.tallies[0])
    nothing_differs(engine, one)
    put(engine, two)
    nothing_differs(engine, one)
    refresh(engine, two.tallies[0])
    more = [counted("two", "twos", shared), counted("two", "more", shared)]
    again = System("two", MetaData(), more)
    put(engine, again)
    nothing_differs(engine, one)
    for tally in again.tallies:
        refresh(engine, tally)
    write(engine, source("shop", "sales"))
    live_is_exact(engine, of, one, again)
    exact(engine, one, again)


@pytest.mark.parametrize("goes", [0, 1])
def test_a_system_that_is_uninstalled_or_renamed_leaves_the_other(
    engine: Engine, goes: int
) -> None:
    partitioned_sales(engine)
    shared = source("shop", "sales")
    systems = two_over(shared)
    put(engine, *systems)
    migrate_in_turn(engine, "shop.sales", *systems)
    stays = systems[1 - goes]
    uninstall(engine, systems[goes])
    nothing_differs(engine, stays)
    assert len(ours(engine, "shop.sales")) == 4
    named = System("three", MetaData(), [counted("three", "threes", shared)])
    put(engine, named)
    nothing_differs(engine, stays)
    refresh(engine, named.tallies[0])
    write(engine, shared)
    live_is_exact(engine, "shop.sales", stays, named)
    exact(engine, stays, named)


def test_a_system_over_all_partitions_leaves_the_capture_of_one_of_them(engine: Engine) -> None:
    partitioned_sales(engine)
    whole = System("whole", MetaData(), [counted("whole", "all", source("shop", "sales"))])
    part = System("part", MetaData(), [counted("part", "some", source("shop", "sales_0"))])
    put(engine, whole, part)
    for system in (whole, part):
        refresh(engine, system.tallies[0])
    before = {n: ours(engine, f"shop.sales_{n}") for n in (0, 1, 2)}
    for system in (whole, part):
        nothing_differs(engine, system)
    execute(engine, "ALTER TABLE shop.sales_0 DISABLE TRIGGER tallykeeper_insert")
    put(engine, part, whole)
    assert {n: ours(engine, f"shop.sales_{n}") for n in (0, 1, 2)} == before
    for system in (whole, part):
        refresh(engine, system.tallies[0])
    write(engine, source("shop", "sales"))
    live_is_exact(engine, "shop.sales", whole)
    live_is_exact(engine, "shop.sales_0", part)


@pytest.mark.parametrize("part_first", [True, False])
def test_one_system_over_a_table_and_one_of_its_partitions(
    engine: Engine, part_first: bool
) -> None:
    partitioned_sales(engine)
    tallies = [
        counted("one", "all", source("shop", "sales")),
        counted("one", "some", source("shop", "sales_0")),
    ]
    system = System("one", MetaData(), tallies[::-1] if part_first else tallies)
    put(engine, system)
    for tally in tallies:
        refresh(engine, tally)
    write(engine, source("shop", "sales"))
    execute(engine, "DELETE FROM shop.sales_0 WHERE id < 30")
    exact(engine, system)


@pytest.mark.parametrize("whole_first", [True, False])
def test_a_table_with_capture_of_its_own_becomes_a_partition(
    engine: Engine, whole_first: bool
) -> None:
    partitioned_sales(engine)
    whole = System("whole", MetaData(), [counted("whole", "all", source("shop", "sales"))])
    part = System("part", MetaData(), [counted("part", "some", source("shop", "sales_3"))])
    put(engine, whole, part)
    for system in (whole, part):
        refresh(engine, system.tallies[0])
    execute(
        engine,
        "ALTER TABLE shop.sales ATTACH PARTITION shop.sales_3 FOR VALUES FROM (300) TO (400)",
    )
    put(engine, *((whole, part) if whole_first else (part, whole)))
    for system in (whole, part):
        refresh(engine, system.tallies[0])
        nothing_differs(engine, system)
    write(engine, source("shop", "sales"))
    execute(engine, "UPDATE shop.sales_3 SET kind = 8 WHERE id < 320")
    live_is_exact(engine, "shop.sales", whole)
    live_is_exact(engine, "shop.sales_3", part)
    exact(engine, whole, part)
    assert len(ours(engine, "shop.sales_3")) == 8
    assert len(ours(engine, "shop.sales_1")) == 4
