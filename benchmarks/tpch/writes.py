"""What several writers do at once, for as long as they like: each a small statement or two.

Written for `tests/concurrency/writers.py`: a writer draws an operation, and may run into another.
The tables are those of a small scale; keys are drawn, so some statements find nothing.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import psycopg

from benchmarks.tpch.changes import rf1, rf2
from benchmarks.tpch.data import Sizes

Cursor = psycopg.Cursor[Any]
Statement = Callable[[Cursor, random.Random], None]


class Writes:
    """The statements over tables of given sizes, by the share of each."""

    def __init__(self, made: Sizes) -> None:
        self.made = made

    def operations(self) -> dict[Statement, float]:
        """Each with its weight."""
        return {
            self.insert_orders: 8,
            self.delete_orders: 6,
            self.change_lines: 5,
            self.delete_line: 2,
            self.move_line: 2,
            self.change_order: 4,
            self.merge_order: 2,
            self.change_customer: 4,
            self.insert_customer: 1,
            self.change_supplier: 2,
            self.insert_supplier: 1,
            self.delete_supplier: 0.5,
            self.change_part: 3,
            self.change_partsupp: 3,
            self.delete_partsupp: 1,
            self.move_nation: 0.7,
            self.rename_nation: 0.5,
            self.rename_region: 0.3,
        }

    def insert_orders(self, cursor: Cursor, rng: random.Random) -> None:
        first = rng.randrange(self.made.orders)
        cursor.execute(rf1(first, first + rng.randint(1, 3), self.made))

    def delete_orders(self, cursor: Cursor, rng: random.Random) -> None:
        first = rng.randrange(self.made.orders)
        if rng.random() < 0.3:
            # Those that were inserted, too.
            key = f"tpch_rows.new_orderkey({first})"
            cursor.execute(f"DELETE FROM tpch.lineitem WHERE l_orderkey = {key}")
            cursor.execute(f"DELETE FROM tpch.orders WHERE o_orderkey = {key}")
            return
        for statement in rf2(first, first + rng.randint(1, 3)):
            cursor.execute(statement)

    def change_lines(self, cursor: Cursor, rng: random.Random) -> None:
        days = rng.randint(-40, 40)
        cursor.execute(
            "UPDATE tpch.lineitem SET l_quantity = l_quantity % 50 + 1, l_tax = 0.05,"
            f" l_discount = (l_discount * 100 + 1) % 11 / 100, l_shipdate = l_shipdate + {days},"
            f" l_receiptdate = l_receiptdate + {days}, l_commitdate = l_commitdate - {days},"
            f" l_returnflag = '{rng.choice('ANR')}', l_shipmode = '{rng.choice(('AIR', 'MAIL'))}'"
            f" WHERE l_orderkey = {self._order(rng)} AND l_linenumber < {rng.randint(2, 7)}"
        )

    def delete_line(self, cursor: Cursor, rng: random.Random) -> None:
        cursor.execute(
            f"DELETE FROM tpch.lineitem WHERE l_orderkey = {self._order(rng)}"
            f" AND l_linenumber = {rng.randint(1, 7)}"
        )

    def move_line(self, cursor: Cursor, rng: random.Random) -> None:
        """To another order, part and supplier: keys change."""
        cursor.execute(
            "UPDATE tpch.lineitem SET l_orderkey = o_orderkey, l_partkey = ps_partkey,"
            f" l_suppkey = ps_suppkey, l_linenumber = {rng.randint(8, 99)} FROM ("
            f" SELECT o_orderkey FROM tpch.orders WHERE o_orderkey > {self._order(rng)}"
            " ORDER BY 1 LIMIT 1) AS o, ("
            " SELECT ps_partkey, ps_suppkey FROM tpch.partsupp"
            f" WHERE ps_partkey = {self._part(rng)} ORDER BY 2 LIMIT 1) AS ps"
            f" WHERE l_orderkey = {self._order(rng)} AND l_linenumber = 1"
        )

    def change_order(self, cursor: Cursor, rng: random.Random) -> None:
        comment = rng.choice(("slow theodolites", "a special pack of requests"))
        cursor.execute(
            f"UPDATE tpch.orders SET o_orderstatus = '{rng.choice('FOP')}',"
            f" o_comment = '{comment}', o_orderdate = o_orderdate + {rng.randint(-60, 60)},"
            f" o_custkey = {self._customer(rng)}, o_totalprice = o_totalprice + 1,"
            f" o_orderpriority = '{rng.choice(('1-URGENT', '3-MEDIUM'))}'"
            f" WHERE o_orderkey = {self._order(rng)}"
        )

    def merge_order(self, cursor: Cursor, rng: random.Random) -> None:
        cursor.execute(
            "INSERT INTO tpch.orders SELECT o_orderkey, c_custkey, 'F', 1000, date '1994-02-01',"
            " '2-HIGH', 'Clerk#000000001', 0, 'upserted' FROM tpch.customer,"
            f" (VALUES ({self._order(rng)})) AS o (o_orderkey)"
            f" WHERE c_custkey = {self._customer(rng)}"
            " ON CONFLICT (o_orderkey) DO UPDATE"
            " SET o_custkey = EXCLUDED.o_custkey, o_orderdate = EXCLUDED.o_orderdate"
        )

    def change_customer(self, cursor: Cursor, rng: random.Random) -> None:
        nation = rng.randrange(25)
        cursor.execute(
            f"UPDATE tpch.customer SET c_acctbal = c_acctbal + {rng.randint(-900, 900)},"
            f" c_nationkey = {nation}, c_phone = '{10 + nation}-000-000-0000',"
            f" c_mktsegment = '{rng.choice(('BUILDING', 'MACHINERY'))}'"
            f" WHERE c_custkey = {self._customer(rng)}"
        )

    def insert_customer(self, cursor: Cursor, rng: random.Random) -> None:
        key = self.made.customers + rng.randint(1, 50)
        if rng.random() < 0.5:
            cursor.execute(f"DELETE FROM tpch.customer WHERE c_custkey = {key}")
        else:
            cursor.execute(
                f"INSERT INTO tpch.customer SELECT * FROM tpch_rows.customers({key}, {key})"
            )

    def change_supplier(self, cursor: Cursor, rng: random.Random) -> None:
        comment = rng.choice(("fine", "fine", "many a Customer with Complaints"))
        cursor.execute(
            f"UPDATE tpch.supplier SET s_nationkey = {rng.randrange(25)},"
            f" s_comment = '{comment}', s_acctbal = s_acctbal + {rng.randint(-900, 900)}"
            f" WHERE s_suppkey = {rng.randint(1, self.made.suppliers)}"
        )

    def insert_supplier(self, cursor: Cursor, rng: random.Random) -> None:
        key = self.made.suppliers + rng.randint(1, 10)
        cursor.execute(f"INSERT INTO tpch.supplier SELECT * FROM tpch_rows.suppliers({key}, {key})")
        cursor.execute(
            f"INSERT INTO tpch.partsupp SELECT p_partkey, {key}, 5000, 1, 'cheap' FROM tpch.part"
            f" WHERE p_size = 15 AND p_partkey % 5 = {rng.randrange(5)} ON CONFLICT DO NOTHING"
        )

    def delete_supplier(self, cursor: Cursor, rng: random.Random) -> None:
        """One that was inserted, with all that it supplies."""
        key = self.made.suppliers + rng.randint(1, 10)
        for table, column in (
            ("lineitem", "l_suppkey"),
            ("partsupp", "ps_suppkey"),
            ("supplier", "s_suppkey"),
        ):
            cursor.execute(f"DELETE FROM tpch.{table} WHERE {column} = {key}")

    def change_part(self, cursor: Cursor, rng: random.Random) -> None:
        """Sets its name, brand, kind, size and container of another."""
        other = rng.choice((rng.randint(1, 60), self._part(rng)))
        cursor.execute(
            "UPDATE tpch.part SET (p_name, p_brand, p_type, p_size, p_container) ="
            " (SELECT p_name, p_brand, p_type, p_size, p_container"
            f" FROM tpch_rows.parts({other}, {other})) WHERE p_partkey = {self._part(rng)}"
        )

    def change_partsupp(self, cursor: Cursor, rng: random.Random) -> None:
        cursor.execute(
            "UPDATE tpch.partsupp SET ps_supplycost = 1 + (ps_supplycost * 7) % 1000,"
            " ps_availqty = 1 + (ps_availqty * 3) % 9999"
            f" WHERE ps_partkey = {rng.choice((rng.randint(1, 60), self._part(rng)))}"
        )

    def delete_partsupp(self, cursor: Cursor, rng: random.Random) -> None:
        """With the lines that refer to it."""
        at = self._part(rng), rng.randrange(3)
        cursor.execute(
            "DELETE FROM tpch.lineitem WHERE l_partkey = {} AND l_suppkey % 3 = {}".format(*at)
        )
        cursor.execute(
            "DELETE FROM tpch.partsupp WHERE ps_partkey = {} AND ps_suppkey % 3 = {}".format(*at)
        )

    def move_nation(self, cursor: Cursor, rng: random.Random) -> None:
        cursor.execute(
            f"UPDATE tpch.nation SET n_regionkey = {rng.randrange(5)}"
            f" WHERE n_nationkey = {rng.randrange(25)}"
        )

    def rename_nation(self, cursor: Cursor, rng: random.Random) -> None:
        """Two nations exchange their names."""
        one, other = rng.sample(range(25), 2)
        cursor.execute(
            "UPDATE tpch.nation AS n SET n_name = o.n_name FROM tpch.nation AS o"
            f" WHERE (n.n_nationkey, o.n_nationkey) IN (({one}, {other}), ({other}, {one}))"
        )

    def rename_region(self, cursor: Cursor, rng: random.Random) -> None:
        one, other = rng.sample(range(5), 2)
        cursor.execute(
            "UPDATE tpch.region AS r SET r_name = o.r_name FROM tpch.region AS o"
            f" WHERE (r.r_regionkey, o.r_regionkey) IN (({one}, {other}), ({other}, {one}))"
        )

    def _order(self, rng: random.Random) -> str:
        function = rng.choice(("orderkey", "orderkey", "new_orderkey"))
        return f"tpch_rows.{function}({rng.randrange(self.made.orders)})"

    def _customer(self, rng: random.Random) -> int:
        return rng.randint(1, self.made.customers)

    def _part(self, rng: random.Random) -> int:
        return rng.randint(1, self.made.parts)
