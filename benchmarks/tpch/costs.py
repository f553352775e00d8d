"""What tallies of SELECTs cost: the applications by capture, their readers, and the disk.

One-row transactions on the table of lines go with 1, 5 and 10 tallies over it, and without any, in
turn. Live views are read while rows are pending, of one key and of all.
"""

from __future__ import annotations

import time
from functools import partial

import psycopg
from sqlalchemy import Connection

import tallykeeper
from benchmarks.bench import Bench
from benchmarks.progress import announce
from benchmarks.report import Row, Section, count
from benchmarks.server import libpq
from benchmarks.timing import Contender, Sample, alternate, turns
from benchmarks.tpch import data
from benchmarks.tpch.world import World
from tallykeeper.database import sql
from tallykeeper.select.tally import SelectTally

TALLIES = (1, 5, 10)
TRANSACTIONS, WARM_UP = 1_500, 100
CAPTURE_SCALE = 0.01
PENDING = (0, 1_000, 10_000)
READS = 9
MEGABYTE = 1024**2

# Ten queries that read the table of lines; the first has but this one source.
OVER_LINES = ("q01", "q06", "q12", "q14", "q03", "q10", "q04", "q17", "q18", "q09")


def capture(bench: Bench) -> Section:
    """One-row transactions of insert, update and delete, with so many tallies and without."""
    scale = min(CAPTURE_SCALE, bench.scale)
    worlds = {
        number: World(
            bench.server,
            f"tpch_capture_{number}",
            scale,
            {name: data.query(name, scale) for name in OVER_LINES[:number]},
        )
        for number in (0, *TALLIES)
    }
    took = _transactions(worlds)
    rows = [
        Row(
            f"one-row transaction on `lineitem`: {what}, with {number} tallies",
            count(worlds[number].orders()),
            took[what, number],
            "without",
            took[what, 0],
        )
        for what in _WRITES
        for number in TALLIES
    ]
    return Section("tpch-capture", rows)


_WRITES = {
    "insert": "INSERT INTO tpch.lineitem SELECT (l).* FROM (SELECT tpch_rows.lines(ARRAY["
    "tpch_rows.new_orderkey({n})], {parts}, {suppliers}) AS l LIMIT 1) AS one",
    "update": "UPDATE tpch.lineitem SET l_quantity = l_quantity % 50 + 1, l_discount = 0.05"
    " WHERE (l_orderkey, l_linenumber) = (tpch_rows.new_orderkey({n}), 1)",
    "delete": "DELETE FROM tpch.lineitem"
    " WHERE (l_orderkey, l_linenumber) = (tpch_rows.new_orderkey({n}), 1)",
}


def _transactions(worlds: dict[int, World]) -> dict[tuple[str, int], Sample]:
    """Each kind of write in each world in turn; what is inserted is updated, then deleted."""
    connections = {n: psycopg.connect(libpq(w.engine.url)) for n, w in worlds.items()}
    sizes = worlds[0].sizes
    number = min(TRANSACTIONS + WARM_UP, sizes.orders)
    for number_of_tallies, world in worlds.items():
        announce(f"orders without lines, for {number_of_tallies} tallies")
        world.execute(
            "INSERT INTO tpch.orders SELECT tpch_rows.new_orderkey(n), 1, 'O', 0, '1995-01-01',"
            f" '5-LOW', 'x', 0, 'x' FROM generate_series(0, {number - 1}) AS n"
        )
    seconds: dict[tuple[str, int], list[float]] = {}
    for what, text in _WRITES.items():
        announce(f"one-row transactions: {what}")
        for n in range(number):
            statement = text.format(n=n, parts=sizes.parts, suppliers=sizes.suppliers).encode()
            for world_number in turns(list(connections), 1):
                connection = connections[world_number]
                started = time.perf_counter()
                connection.execute(statement)
                connection.commit()
                if n >= min(WARM_UP, number // 2):
                    taken = time.perf_counter() - started
                    seconds.setdefault((what, world_number), []).append(taken)
    for connection in connections.values():
        connection.close()
    return {name: Sample(tuple(values)) for name, values in seconds.items()}


# Besides the queries, one with many keys over one table, and one over a join.
SUPPLIER_DAYS = """
SELECT l_suppkey, l_shipdate, count(*) AS lines, sum(l_extendedprice * (1 - l_discount)) AS revenue
FROM tpch.lineitem GROUP BY l_suppkey, l_shipdate"""
CUSTOMERS = """
SELECT o.o_custkey, count(*) AS lines, sum(l.l_extendedprice * (1 - l.l_discount)) AS revenue
FROM tpch.orders AS o JOIN tpch.lineitem AS l ON l.l_orderkey = o.o_orderkey GROUP BY o.o_custkey"""
READ = {"supplier_days": SUPPLIER_DAYS, "customer_revenue": CUSTOMERS}
ONE_KEY = {
    "supplier_days": "l_suppkey = 7 AND l_shipdate = '1995-03-01'",
    "customer_revenue": "o_custkey = 7",
}


def reads(bench: Bench) -> Section:
    """Live views, of one key and of all, with so many pending rows, against the definition view."""
    selects = READ | {name: data.query(name, bench.scale) for name in ("q01", "q03", "q13")}
    world = World(bench.server, "tpch_reads", bench.scale, selects)
    rows = []
    for pending in PENDING:
        for tally in world.tallies:
            tallykeeper.refresh(world.engine, tally)
        world.vacuum()
        if pending:
            world.execute(_change_lines(pending))
        for tally in world.tallies:
            rows += _read(world, tally, pending)
    return Section("tpch-reads", rows)


def _change_lines(pending: int) -> str:
    # An update is two rows in the change log.
    return (
        "UPDATE tpch.lineitem SET l_quantity = l_quantity % 50 + 1, l_extendedprice ="
        " l_extendedprice + 1 WHERE (l_orderkey, l_linenumber) IN (SELECT l_orderkey, l_linenumber"
        f" FROM tpch.lineitem ORDER BY hashint8(l_orderkey), l_linenumber LIMIT {pending // 2})"
    )


def _read(world: World, tally: SelectTally, pending: int) -> list[Row]:
    name = tally.table.name
    questions = {"all rows": ""}
    if name in ONE_KEY:
        questions["one key"] = f" WHERE {ONE_KEY[name]}"
    rows = []
    for what, where in questions.items():
        count_rows = "SELECT count(*), max(r::text) FROM (SELECT * FROM {}{}) AS r"
        contenders = {
            place: Contender(partial(world.execute, count_rows.format(place, where)))
            for place in (tally.live_name, tally.definition_name)
        }
        alternate(contenders, 1)
        took = alternate(contenders, READS)
        rows.append(
            Row(
                f"live read of `{name}`, {what}, {count(pending)} rows pending",
                count(world.sizes.orders),
                took[tally.live_name],
                "the SELECT itself",
                took[tally.definition_name],
            )
        )
    return rows


def storage(bench: Bench) -> Section:
    """How large derived tables and stored intermediate results are, beside the sources."""
    world = World(bench.server, "tpch_storage", bench.scale)
    lines = ["| tally | derived table | intermediate results |", "|---|---|---|"]
    with world.engine.connect() as connection:
        for tally in world.tallies:
            own = _megabytes(connection, [sql.name_of(tally.table)])
            stored = _megabytes(connection, [node.state for node in tally.plan.nodes])
            lines.append(f"| {tally.name} | {own} | {stored} |")
        sources = _megabytes(connection, [f"tpch.{table}" for table in data.TABLES])
    note = f"The sources, at scale {world.scale:g}, are {sources}. Indexes are counted in."
    return Section("tpch-storage", notes=["\n".join(lines), note])


def _megabytes(connection: Connection, tables: list[str]) -> str:
    """How large the tables are together, with their indexes."""
    size = sql.execute(
        connection,
        "SELECT coalesce(sum(pg_total_relation_size(t::regclass)), 0)"
        f" FROM unnest(ARRAY[{', '.join(map(sql.literal, tables))}]::text[]) AS t",
    ).scalar_one()
    return f"{float(size) / MEGABYTE:,.1f} MB"
