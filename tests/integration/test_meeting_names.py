"""Sources, systems and tallies whose names meet: each keeps what is its own."""

from __future__ import annotations

import pytest
from sqlalchemy import BigInteger, Column, Engine, Integer, MetaData, Table

from tallies import (
    AdditiveTally,
    Contribution,
    DeclarationError,
    System,
    capture_faults,
    install,
    refresh,
    verify,
)
from tests.integration.support import execute, stale_reasons


def source(schema: str, name: str) -> Table:
    return Table(
        name,
        MetaData(),
        Column("id", BigInteger, primary_key=True, autoincrement=True),
        Column("kind", Integer, nullable=False),
        schema=schema,
    )


def counted(system: str, name: str, *sources: Table, schema: str = "counts") -> AdditiveTally:
    table = Table(
        name,
        MetaData(),
        Column("kind", Integer, primary_key=True, autoincrement=False),
        Column("rows", BigInteger, nullable=False),
        schema=schema,
    )
    return AdditiveTally(
        system=system,
        table=table,
        contributions=[
            Contribution(s, key=lambda row: {"kind": row.kind}, measures=lambda row: {"rows": 1})
            for s in sources
        ],
    )


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
