"""A system whose figures come to fit their derived tables and cease to, again and again.

Sums by customer of at most 16 bits: by a CHECK where they are added up, by the column's type where
they are computed anew. The table's owner has a CHECK beside it. Only tests use it: what is in
quarantine has to be exact under concurrent writers.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Identity,
    Integer,
    MetaData,
    Select,
    SmallInteger,
    Table,
    cast,
    func,
    select,
)

from tallykeeper import Capture, KeyFilter, RecomputedTally, SelectTally, System
from tests.oracle import Oracle

metadata = MetaData(schema="bank")

moves = Table(
    "moves",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("customer", Integer, nullable=False),
    Column("amount", Integer, nullable=False),
)

# Sums of amounts by thousands hit it now and then.
UNLUCKY = 13_000


def _by_customer(name: str, *columns: Column[Any] | CheckConstraint) -> Table:
    return Table(
        name,
        metadata,
        Column("customer", Integer, primary_key=True),
        *columns,
        CheckConstraint(f"amount <> {UNLUCKY}", name=f"{name}_lucky"),
    )


balances = _by_customer(
    "balances",
    Column("moves", Integer, nullable=False),
    Column("amount", BigInteger, nullable=False),
    CheckConstraint("amount BETWEEN -32768 AND 32767", name="balances_short"),
)
turnovers = _by_customer("turnovers", Column("amount", SmallInteger, nullable=False))


def _turnovers(scope: KeyFilter) -> Select[Any]:
    return (
        select(moves.c.customer, func.sum(func.abs(moves.c.amount)).label("amount"))
        .where(*scope(customer=moves.c.customer))
        .group_by(moves.c.customer)
    )


system = System(
    "bank",
    metadata,
    [
        SelectTally(
            "bank.balances",
            select=select(
                moves.c.customer,
                cast(func.count(), Integer).label("moves"),
                func.sum(moves.c.amount, type_=BigInteger).label("amount"),
            ).group_by(moves.c.customer),
            table=balances,
        ),
        RecomputedTally(
            system="bank",
            table=turnovers,
            key=["customer"],
            measures=["amount"],
            captures=[Capture(moves, key=lambda move: {"customer": move.customer})],
            aggregate=_turnovers,
        ),
    ],
)

_FITS = "CASE WHEN {0} BETWEEN -32768 AND 32767 THEN {0}::smallint END AS amount"
_HELD = (
    "SELECT (key ->> 'customer')::integer AS customer FROM tallykeeper.quarantine"
    " WHERE tally = 'bank.{0}'"
)
ORACLES = (
    Oracle(
        tally="bank.balances",
        key=("customer",),
        measures=("moves", "amount"),
        derived="bank.balances",
        truth="SELECT customer, count(*)::integer AS moves, sum(amount) AS amount"
        " FROM bank.moves GROUP BY 1",
        pending="SELECT customer FROM tallykeeper.bank_balances_log"
        f" UNION {_HELD.format('balances')}",
    ),
    Oracle(
        tally="bank.turnovers",
        key=("customer",),
        measures=("amount",),
        derived="bank.turnovers",
        truth=f"SELECT customer, {_FITS.format('sum(abs(amount))')} FROM bank.moves GROUP BY 1",
        pending="SELECT customer FROM tallykeeper.bank_turnovers_log"
        f" UNION {_HELD.format('turnovers')}",
        engine_pending="tallykeeper.bank_turnovers_pending_keys",
    ),
)

# What is in quarantine and has no change pending does not fit, and has no row.
AGREES = " AND ".join(
    f"""NOT EXISTS (
  SELECT FROM ({_HELD.format(name)}) AS q LEFT JOIN bank.{name}_live AS l USING (customer)
  WHERE (l.customer IS NULL OR l.amount <> {UNLUCKY} AND l.amount BETWEEN -32768 AND 32767
      OR EXISTS (SELECT FROM bank.{name} AS d WHERE d.customer = q.customer))
    AND NOT EXISTS (SELECT FROM tallykeeper.bank_{name}_log AS g WHERE g.customer = q.customer)
    AND NOT EXISTS (SELECT FROM tallykeeper.stale_marks AS m WHERE m.tally = 'bank.{name}'))"""
    for name in ("balances", "turnovers")
)
AGREES = f"SELECT {AGREES}"

# Customers from 20 on are healthy: nothing but their own statements touches them.
WRITES = (
    "INSERT INTO bank.moves (customer, amount) VALUES ({p}, {n} % 7 * 1000)",
    "INSERT INTO bank.moves (customer, amount) VALUES ({p} + {t}, 40000)",
    "INSERT INTO bank.moves (customer, amount) VALUES ({p} + {t}, -40000)",
    "INSERT INTO bank.moves (customer, amount) VALUES ({p} + 10, 13000)",
    "INSERT INTO bank.moves (customer, amount) VALUES (20 + {n}, {t})",
    "INSERT INTO bank.moves (customer, amount) VALUES (20 + {n}, -{p})",
    "INSERT INTO bank.moves (customer, amount)"
    " SELECT i, i % 5 * 10000 FROM generate_series({p}, {p} + 9) AS i",
    "UPDATE bank.moves SET amount = -amount WHERE customer < 20 AND id % 3 = {p} % 3",
    "UPDATE bank.moves SET amount = amount % 9000 WHERE customer < 20 AND id % 4 = {p} % 4",
    "UPDATE bank.moves SET customer = customer + 1 WHERE id = (SELECT max(id) FROM bank.moves)",
    "DELETE FROM bank.moves WHERE amount >= 40000",
    "DELETE FROM bank.moves WHERE customer < 20 AND id % 3 = {p} % 3",
    "DELETE FROM bank.moves WHERE customer = 20 + {n}",
    "TRUNCATE bank.moves",
)
