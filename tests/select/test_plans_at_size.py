"""No maintenance statement reads a large source from end to end for a small change."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, Engine, MetaData

from benchmarks.tpch import data
from benchmarks.tpch.changes import rf1, rf2
from tallykeeper import System
from tallykeeper.database import sql
from tallykeeper.database.connections import open_engine
from tallykeeper.installation.migrate import migrate
from tallykeeper.maintain.select_changes import pending_parts
from tallykeeper.select.tally import SelectTally
from tests.select.plan_reader import large_scans
from tests.servers import VERSIONS, Servers

# 1.1 M lines and 270,000 orders; all other tables have less than ABOVE.
SCALE, ABOVE = 0.18, 150_000
CHANGED = 100
OTHERS = (
    "UPDATE tpch.customer SET c_acctbal = c_acctbal + 1, c_mktsegment = 'BUILDING',"
    " c_nationkey = 3 WHERE c_custkey < 5",
    "UPDATE tpch.part SET p_size = 15, p_type = 'PROMO TIN', p_name = 'forest green',"
    " p_container = 'MED BOX', p_brand = 'Brand#23' WHERE p_partkey BETWEEN 500 AND 503",
    "UPDATE tpch.partsupp SET ps_supplycost = 1, ps_availqty = 2 WHERE ps_partkey < 3",
    "UPDATE tpch.supplier SET s_nationkey = 7, s_comment = 'x', s_acctbal = 1 WHERE s_suppkey = 9",
)


@pytest.fixture(scope="module")
def world(postgres_servers: Servers) -> Iterator[tuple[Engine, System]]:
    """TPC-H with the tallies of all queries installed, and about a thousand changes pending."""
    with postgres_servers.fresh_database(VERSIONS[0]) as url:
        engine = open_engine(url)
        made = data.create(engine, SCALE)
        tallies = [SelectTally(f"tpch.{n}", select=data.query(n, SCALE)) for n in data.NAMES]
        system = System("tpch", MetaData(), tallies)
        migrate(engine, [system])
        with engine.begin() as connection:
            for statement in (rf1(0, CHANGED, made), *rf2(0, CHANGED), *OTHERS):
                sql.execute(connection, statement)
            sql.execute(connection, "ANALYZE tpch.orders, tpch.lineitem")
        yield engine, system
        engine.dispose()


def scans(connection: Connection, tally: SelectTally) -> list[str]:
    pending = pending_parts(connection, tally)
    return [str(scan) for scan in large_scans(connection, tally, pending, above=ABOVE)]


@pytest.mark.slow
def test_a_small_change_is_looked_up_by_indexes(world: tuple[Engine, System]) -> None:
    engine, system = world
    found = {}
    with engine.begin() as connection:
        for tally in system.tallies:
            assert isinstance(tally, SelectTally)
            # Of some no change meets the conditions.
            if tally.plan.changes and pending_parts(connection, tally):
                found[tally.table.name] = scans(connection, tally)
    assert len(found) > len(system.tallies) / 2
    assert {name: each for name, each in found.items() if each} == {}


@pytest.mark.slow
def test_a_missing_index_is_noticed(world: tuple[Engine, System]) -> None:
    engine, system = world
    (tally,) = (t for t in system.tallies if t.table.name == "q12")
    assert isinstance(tally, SelectTally)
    with engine.connect() as connection:
        sql.execute(connection, "ALTER TABLE tpch.lineitem DROP CONSTRAINT lineitem_pkey")
        (scan,) = scans(connection, tally)
        connection.rollback()
    assert scan.startswith("tpch.lineitem (1,")
    assert "l_orderkey" in scan
