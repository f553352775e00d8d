"""Plans written by hand, for tests of the engine alone."""

from __future__ import annotations

from tallykeeper.select.plan import (
    CapturedColumn,
    CapturedSource,
    Column,
    Node,
    Piece,
    Plan,
    Step,
)

SPENT = "SELECT customer_id, count(*) AS n, sum(cents) AS spent FROM shop.orders GROUP BY 1"
ROWS = "SELECT customer_id, cents FROM shop.orders"
TOTALS = "SELECT count(*) AS n, sum(cents) AS spent FROM shop.orders"
DAYS = (
    "SELECT date_trunc('day', placed_at, 'UTC') AS day, count(*) AS n, sum(cents) AS cents"
    " FROM shop.orders GROUP BY 1"
)

LOG = "tallykeeper.shop_{}_log"


def _orders() -> CapturedSource:
    return CapturedSource(
        0,
        "shop",
        "orders",
        (
            CapturedColumn("customer_id", "integer", "t0_customer_id"),
            CapturedColumn("cents", "numeric", "t0_cents"),
        ),
    )


def spent(name: str = "spent") -> Plan:
    """Of `SPENT`: sums by customer, null among them, added to a state."""
    state = f"tallykeeper.shop_{name}_state"
    log = LOG.format(name)
    sums = "sum(tally_sign) AS n, sum(tally_sign * t0_cents) AS spent, "
    sums += "sum(tally_sign) FILTER (WHERE t0_cents IS NOT NULL) AS known"
    delta = Step(
        "delta",
        (Piece(f"SELECT t0_customer_id AS customer_id, {sums} FROM {log} GROUP BY 1"),),
        frozenset({0}),
    )
    same = "s.customer_id IS NOT DISTINCT FROM d.customer_id"
    new = Step(
        "new_state",
        (
            Piece(
                "SELECT d.customer_id, coalesce(s.n, 0) + d.n AS n,"
                " coalesce(s.spent, 0) + coalesce(d.spent, 0) AS spent,"
                " coalesce(s.known, 0) + coalesce(d.known, 0) AS known, s.n IS NULL AS is_new"
                f" FROM delta AS d LEFT JOIN {state} AS s ON {same}"
            ),
        ),
        frozenset({0}),
    )
    applied = (
        Step(
            "deleted",
            (
                Piece(
                    f"DELETE FROM {state} AS s USING new_state AS d"
                    f" WHERE {same} AND d.n = 0 RETURNING 1"
                ),
            ),
            frozenset({0}),
        ),
        Step(
            "updated",
            (
                Piece(
                    f"UPDATE {state} AS s SET n = d.n, spent = d.spent, known = d.known"
                    f" FROM new_state AS d WHERE {same} AND d.n <> 0 RETURNING 1"
                ),
            ),
            frozenset({0}),
        ),
        Step(
            "inserted",
            (
                Piece(
                    f"INSERT INTO {state} SELECT customer_id, n, spent, known FROM new_state"
                    " WHERE is_new AND n <> 0 RETURNING 1"
                ),
            ),
            frozenset({0}),
        ),
    )
    node = Node(
        name="spent",
        state=state,
        strategy="delta",
        reason="sums of numerics",
        columns=(
            Column("customer_id", "integer"),
            Column("n", "bigint", nullable=False),
            Column("spent", "numeric", nullable=False),
            Column("known", "bigint", nullable=False),
        ),
        key=("customer_id",),
        build="SELECT customer_id, count(*) AS n, coalesce(sum(cents), 0) AS spent,"
        " count(cents) AS known FROM shop.orders GROUP BY 1",
        apply=applied,
        parts=frozenset({0}),
    )
    return Plan(
        columns=(
            Column("customer_id", "integer"),
            Column("n", "bigint", nullable=False),
            Column("spent", "numeric"),
        ),
        key=("customer_id",),
        is_bag=False,
        strategy="delta",
        captured=(_orders(),),
        nodes=(node,),
        steps=(delta, new),
        changes=(
            Piece(
                "SELECT customer_id, n, CASE WHEN known > 0 THEN spent END AS spent,"
                " CASE WHEN n > 0 THEN 1 ELSE 0 END AS tally_total FROM new_state"
            ),
        ),
    )


def bag(name: str = "rows") -> Plan:
    """Of `ROWS`: each row as often as it is there, without a state."""
    log = LOG.format(name)
    same = "o.customer_id IS NOT DISTINCT FROM d.customer_id AND o.cents IS NOT DISTINCT FROM"
    delta = Step(
        "delta",
        (Piece(f"SELECT DISTINCT t0_customer_id AS customer_id, t0_cents AS cents FROM {log}"),),
        frozenset({0}),
    )
    return Plan(
        columns=(Column("customer_id", "integer"), Column("cents", "numeric")),
        key=("customer_id", "cents"),
        is_bag=True,
        strategy="group",
        captured=(_orders(),),
        steps=(delta,),
        changes=(
            Piece(
                "SELECT d.customer_id, d.cents,"
                f" (SELECT count(*) FROM shop.orders AS o WHERE {same} d.cents) AS tally_total"
                " FROM delta AS d"
            ),
        ),
    )


def days() -> Plan:
    """Of `DAYS`: the days that changed are computed anew."""
    start = "date_trunc('day', {}, 'UTC')"
    touched = Step(
        "touched",
        (
            Piece(
                f"SELECT DISTINCT {start.format('t0_placed_at')} AS day FROM {LOG.format('days')}"
            ),
        ),
        frozenset({0}),
    )
    at = start.format("o.placed_at")
    placed_at = CapturedColumn("placed_at", "timestamp with time zone", "t0_placed_at")
    orders = _orders()
    return Plan(
        columns=(
            Column("day", "timestamp with time zone", nullable=False),
            Column("n", "bigint", nullable=False),
            Column("cents", "numeric"),
        ),
        key=("day",),
        is_bag=False,
        strategy="group",
        captured=(
            CapturedSource(0, "shop", "orders", (placed_at, orders.columns[1]), orders.condition),
        ),
        steps=(touched,),
        changes=(
            Piece(
                "SELECT t.day, count(o.id) AS n, sum(o.cents) AS cents,"
                " CASE WHEN count(o.id) > 0 THEN 1 ELSE 0 END AS tally_total"
                f" FROM touched AS t LEFT JOIN shop.orders AS o ON {at} = t.day GROUP BY t.day"
            ),
        ),
    )


def totals() -> Plan:
    """Of `TOTALS`: one row, computed anew where anything is pending."""
    return Plan(
        columns=(Column("n", "bigint", nullable=False), Column("spent", "numeric")),
        key=(),
        is_bag=False,
        strategy="group",
        captured=(_orders(),),
        changes=(
            Piece("SELECT count(*) AS n, sum(cents) AS spent, 1 AS tally_total FROM shop.orders"),
        ),
    )


def whole(name: str = "spent") -> Plan:
    """Of `SPENT`: computed anew whatever changes."""
    made = spent(name)
    return Plan(
        columns=made.columns,
        key=made.key,
        is_bag=False,
        strategy="whole",
        captured=made.captured,
        reasons=("a test asks for it",),
    )
