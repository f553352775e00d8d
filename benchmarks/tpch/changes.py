"""What changes the tables: the refresh functions, and updates of every table.

All are single statements, so they also run inside a transaction of somebody else's. RF1 uses the
room that order keys leave, and RF2 deletes the oldest orders; both go on where the last one ended.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.tpch.data import Sizes, insert_orders

# Of the orders, what a refresh function inserts or deletes.
SHARE = 0.001


def refresh_functions(made: Sizes) -> Iterator[tuple[str, ...]]:
    """RF1 and RF2 of 0.1 % of the orders, time after time."""
    number = max(1, round(made.orders * SHARE))
    for first in range(0, made.orders, number):
        yield rf1(first, first + number, made), *rf2(first, first + number)


def rf1(first: int, after: int, made: Sizes) -> str:
    """The insertion of the orders from one number to before another, with their lines."""
    return insert_orders("tpch_rows.new_orderkey(n)", first, after, made)


def rf2(first: int, after: int) -> tuple[str, ...]:
    """The deletion of the orders that were made at first, from one number to before another."""
    between = f"BETWEEN tpch_rows.orderkey({first}) AND tpch_rows.orderkey({after - 1})"
    # The next eight keys of each 32 are those of insertions.
    made = "AND ({0} - 1) % 32 < 8"
    return (
        f"DELETE FROM tpch.lineitem WHERE l_orderkey {between} {made.format('l_orderkey')}",
        f"DELETE FROM tpch.orders WHERE o_orderkey {between} {made.format('o_orderkey')}",
    )


# A dimension of a few rows that nearly everything hangs on.
MOVED_NATIONS = (
    "UPDATE tpch.nation SET n_regionkey = (n_regionkey + 1) % 5 WHERE n_name IN ('JAPAN', 'PERU')"
)


def percent(share: int, step: int = 0) -> tuple[str, ...]:
    """Updates of that many percent of all rows of the larger tables, others at each `step`."""

    def some(key: str) -> str:
        return f"(({key}) + {step}) % 100 < {share}"

    return (
        "UPDATE tpch.lineitem SET l_quantity = l_quantity % 50 + 1, l_discount = (l_discount * 100"
        f" + 1) % 11 / 100, l_shipdate = l_shipdate + 1 WHERE {some('l_orderkey / 4')}",
        "UPDATE tpch.orders SET o_orderdate = o_orderdate + 1, o_totalprice = o_totalprice + 1,"
        " o_orderpriority = CASE o_orderpriority WHEN '1-URGENT' THEN '5-LOW' ELSE '1-URGENT' END"
        f" WHERE {some('o_orderkey / 4')}",
        "UPDATE tpch.customer SET c_acctbal = c_acctbal + 1, c_mktsegment ="
        " CASE c_mktsegment WHEN 'BUILDING' THEN 'MACHINERY' ELSE 'BUILDING' END"
        f" WHERE {some('c_custkey')}",
        "UPDATE tpch.part SET p_size = p_size % 50 + 1, p_container = 'MED BOX'"
        f" WHERE {some('p_partkey')}",
        "UPDATE tpch.partsupp SET ps_supplycost = ps_supplycost % 1000 + 1,"
        f" ps_availqty = ps_availqty % 9999 + 1 WHERE {some('ps_partkey')}",
        "UPDATE tpch.supplier SET s_acctbal = s_acctbal + 1, s_nationkey = (s_nationkey + 1) % 25"
        f" WHERE {some('s_suppkey')}",
    )
