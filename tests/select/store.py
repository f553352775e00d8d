"""A store in two schemas: what people who have one want counted, and harder SELECTs over it.

Columns of all kinds may be null, also those that are joined and grouped by; nothing refers to
anything by a foreign key, so every key may change and every row may vanish.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import psycopg
from sqlalchemy import Engine

from tallykeeper.database import sql

SCHEMA = """
CREATE SCHEMA store;
CREATE SCHEMA crm;
CREATE TYPE store.order_status AS ENUM ('cart', 'placed', 'paid', 'cancelled');
CREATE TABLE crm.accounts (id bigint PRIMARY KEY, customer_id bigint, manager text);
CREATE TABLE store.customers (id bigint PRIMARY KEY, region text, vip boolean);
CREATE TABLE store.products (id bigint PRIMARY KEY, category text);
CREATE TABLE store.orders (
    id bigint PRIMARY KEY, customer_id bigint, placed timestamptz, status store.order_status,
    is_test boolean NOT NULL DEFAULT false
);
CREATE TABLE store.lines (
    id bigint PRIMARY KEY, order_id bigint, product_id bigint, qty integer, cents bigint
);
CREATE TABLE store.refunds (id bigint PRIMARY KEY, order_id bigint, cents bigint);
CREATE TABLE store.stock_moves (id bigint PRIMARY KEY, product_id bigint, pieces integer NOT NULL);
CREATE INDEX ON crm.accounts (customer_id);
CREATE INDEX ON store.orders (customer_id);
CREATE INDEX ON store.lines (order_id);
CREATE INDEX ON store.lines (product_id);
CREATE INDEX ON store.refunds (order_id);
"""

DAY = "date_trunc('day', o.placed, 'Europe/Berlin')"

# What somebody with a store wants first.
WISHES = {
    "product_days": f"""
SELECT {DAY} AS day, l.product_id, sum(l.qty * l.cents) AS revenue, count(*) AS lines
FROM store.orders AS o JOIN store.lines AS l ON l.order_id = o.id
GROUP BY 1, 2""",
    "customer_orders": """
SELECT customer_id, status, count(*) AS orders FROM store.orders GROUP BY customer_id, status""",
    "buyers_daily": f"""
SELECT {DAY} AS day, count(DISTINCT o.customer_id) AS buyers, count(*) AS orders
FROM store.orders AS o GROUP BY 1""",
    "last_orders": """
SELECT DISTINCT ON (customer_id) customer_id, id, placed, status
FROM store.orders ORDER BY customer_id, placed DESC NULLS LAST, id DESC""",
    "last_order_times": """
SELECT customer_id, max(placed) AS last_placed FROM store.orders GROUP BY customer_id""",
    "stock_on_hand": """
SELECT m.product_id, sum(m.pieces) AS pieces FROM (
    SELECT product_id, pieces FROM store.stock_moves
    UNION ALL
    SELECT l.product_id, -l.qty FROM store.lines AS l
    JOIN store.orders AS o ON o.id = l.order_id WHERE o.status <> 'cart'
) AS m GROUP BY m.product_id""",
    "revenue_monthly": """
SELECT date_trunc('month', o.placed, 'Europe/Berlin') AS month, sum(l.qty * l.cents) AS revenue,
    avg(l.cents) AS average_cents
FROM store.orders AS o JOIN store.lines AS l ON l.order_id = o.id GROUP BY 1""",
    "weeks": """
SELECT date_trunc('week', o.placed, 'Europe/Berlin') AS week, count(*) AS orders,
    count(*) FILTER (WHERE o.status = 'paid') AS paid
FROM store.orders AS o GROUP BY 1""",
    "dates": """
SELECT (o.placed AT TIME ZONE 'Europe/Berlin')::date AS date, count(*) AS orders
FROM store.orders AS o GROUP BY 1""",
    "top_three": """
SELECT category, product_id, pieces, place FROM (
    SELECT p.category, l.product_id, sum(l.qty) AS pieces, row_number()
        OVER (PARTITION BY p.category ORDER BY sum(l.qty) DESC NULLS LAST, l.product_id) AS place
    FROM store.lines AS l JOIN store.products AS p ON p.id = l.product_id
    GROUP BY p.category, l.product_id
) AS ranked WHERE place <= 3""",
    "managers": """
SELECT a.manager, count(*) AS orders, count(DISTINCT o.customer_id) AS customers
FROM crm.accounts AS a JOIN store.orders AS o ON o.customer_id = a.customer_id
GROUP BY a.manager""",
    "without_tests": f"""
SELECT {DAY} AS day, count(*) AS orders FROM store.orders AS o WHERE NOT o.is_test GROUP BY 1""",
    "categories": """
SELECT DISTINCT p.category, o.status
FROM store.products AS p JOIN store.lines AS l ON l.product_id = p.id
JOIN store.orders AS o ON o.id = l.order_id""",
}

# What is harder to keep.
HARDER = {
    # A day in Berlin, over the night the clocks change; a distinct count beside sums.
    "region_days": f"""
SELECT c.region, p.category, {DAY} AS day, sum(l.qty * l.cents) AS revenue, count(*) AS lines,
    count(DISTINCT c.id) AS buyers
FROM store.customers AS c
JOIN store.orders AS o ON o.customer_id = c.id
JOIN store.lines AS l ON l.order_id = o.id
JOIN store.products AS p ON p.id = l.product_id
WHERE o.status <> 'cancelled' GROUP BY 1, 2, 3""",
    # A group column of the side that may be missing.
    "customer_statuses": """
SELECT c.id AS customer_id, o.status, count(o.id) AS orders, max(o.placed) AS last_placed
FROM store.customers AS c LEFT JOIN store.orders AS o ON o.customer_id = c.id
GROUP BY c.id, o.status""",
    # Two outer joins in a row, and a condition on the last.
    "regions_refunded": """
SELECT c.region, count(DISTINCT o.id) AS orders, coalesce(sum(r.cents), 0) AS refunded
FROM store.customers AS c
LEFT JOIN store.orders AS o ON o.customer_id = c.id
LEFT JOIN store.refunds AS r ON r.order_id = o.id
WHERE r.cents IS NULL OR r.cents > 20 GROUP BY c.region""",
    "regions_unpaid": """
SELECT c.region, count(*) AS customers FROM store.customers AS c
WHERE NOT EXISTS (
    SELECT 1 FROM store.orders AS o WHERE o.customer_id = c.id AND o.status = 'paid'
) GROUP BY c.region""",
    "unusual_lines": """
SELECT l.product_id, count(*) AS lines FROM store.lines AS l
WHERE l.qty > (SELECT avg(m.qty) FROM store.lines AS m WHERE m.product_id = l.product_id)
GROUP BY l.product_id""",
    "customer_medians": """
SELECT o.customer_id, sum(l.cents) AS total,
    percentile_disc(0.5) WITHIN GROUP (ORDER BY l.cents) AS median
FROM store.orders AS o JOIN store.lines AS l ON l.order_id = o.id
GROUP BY o.customer_id HAVING sum(l.cents) > 100""",
    "status_pairs": """
SELECT a.status AS earlier, b.status AS later, count(*) AS pairs
FROM store.orders AS a JOIN store.orders AS b ON a.customer_id = b.customer_id AND a.id < b.id
GROUP BY a.status, b.status""",
    "best_sellers": """
SELECT x.category, x.product_id, x.total FROM (
    SELECT p.category, p.id AS product_id, sum(l.cents) AS total, row_number()
        OVER (PARTITION BY p.category ORDER BY sum(l.cents) DESC, p.id) AS place
    FROM store.products AS p JOIN store.lines AS l ON l.product_id = p.id
    GROUP BY p.category, p.id
) AS x WHERE x.place <= 3""",
    # A null in either makes NOT IN neither true nor false.
    "never_refunded": """
SELECT o.status, count(*) AS orders FROM store.orders AS o
WHERE o.id NOT IN (SELECT r.order_id FROM store.refunds AS r WHERE r.cents > 50)
GROUP BY o.status""",
    "totals": """
SELECT count(*) AS lines, sum(qty * cents) AS revenue, avg(cents) AS average_cents,
    count(DISTINCT product_id) AS products
FROM store.lines""",
    # A key that is null in some rows of its own, beside sets that leave it out.
    "region_totals": """
SELECT c.region, p.category, grouping(c.region, p.category) AS level, count(*) AS lines,
    sum(l.cents) AS cents, count(DISTINCT c.id) AS buyers
FROM store.customers AS c JOIN store.orders AS o ON o.customer_id = c.id
JOIN store.lines AS l ON l.order_id = o.id JOIN store.products AS p ON p.id = l.product_id
GROUP BY ROLLUP (c.region, p.category)""",
    "status_cube": f"""
SELECT {DAY} AS day, o.status, o.is_test, count(*) AS orders, max(o.id) AS last_id
FROM store.orders AS o GROUP BY CUBE ({DAY}, (o.status, o.is_test)) HAVING count(*) > 1""",
    "customer_sets": """
SELECT coalesce(o.customer_id, -1) AS customer_id, o.status, sum(o.customer_id) AS sum_of_ids,
    grouping(o.status) AS is_all
FROM store.orders AS o WHERE o.id % 3 = 0
GROUP BY GROUPING SETS ((o.customer_id), (o.customer_id, o.status), (o.status), (), ())""",
    "only_keys": """
SELECT o.status, o.is_test FROM store.orders AS o WHERE o.id % 5 = 0
GROUP BY o.is_test, ROLLUP (o.status)""",
    "vip_shares": """
SELECT c.region, sum(l.cents) FILTER (WHERE c.vip) AS vip_cents, sum(l.cents) AS cents,
    bool_or(c.vip) AS any_vip
FROM store.customers AS c JOIN store.orders AS o ON o.customer_id = c.id
JOIN store.lines AS l ON l.order_id = o.id
GROUP BY c.region""",
}
SELECTS = WISHES | HARDER

Cursor = psycopg.Cursor[Any]
Statement = Callable[[Cursor, random.Random], None]
CUSTOMERS, PRODUCTS, ORDERS, LINES = 30, 12, 120, 300
REGIONS = ("'north'", "'south'", "'West'", "NULL")
CATEGORIES = ("'books'", "'tools'", "''", "NULL")
STATUSES = ("'cart'", "'placed'", "'paid'", "'paid'", "'cancelled'", "NULL")
# Around the two nights of 2024 in which the clocks of Berlin change, and the turn of the year.
MOMENTS = (
    *("2024-03-30 22:59:59+00", "2024-03-30 23:00+00", "2024-03-31 00:59:59+00"),
    *("2024-03-31 01:00+00", "2024-03-31 21:59:59+00", "2024-03-31 22:00+00"),
    *("2024-10-26 21:59+00", "2024-10-26 22:00+00", "2024-10-27 00:30+00", "2024-10-27 01:30+00"),
    *("2024-10-27 22:59:59+00", "2024-10-27 23:00+00", "2024-12-31 22:59+00", "infinity"),
)


def create(engine: Engine) -> None:
    """Make the tables, and a first few rows."""
    rng = random.Random(7)
    with engine.begin() as connection:
        sql.execute(connection, SCHEMA)
        for number in range(CUSTOMERS):
            sql.execute(connection, f"INSERT INTO store.customers VALUES {_customer(rng, number)}")
        for number in range(PRODUCTS):
            values = f"({number}, {rng.choice(CATEGORIES)})"
            sql.execute(connection, f"INSERT INTO store.products VALUES {values}")
        for number in range(ORDERS // 2):
            sql.execute(connection, f"INSERT INTO store.orders VALUES {_order(rng, number)}")
        for number in range(LINES // 2):
            sql.execute(connection, f"INSERT INTO store.lines VALUES {_line(rng, number)}")


def change_customers(cursor: Cursor, rng: random.Random) -> None:
    cursor.execute(
        f"INSERT INTO store.customers VALUES {_customer(rng)}"
        " ON CONFLICT (id) DO UPDATE SET region = EXCLUDED.region, vip = EXCLUDED.vip"
    )


def change_customer_key(cursor: Cursor, rng: random.Random) -> None:
    cursor.execute(
        f"UPDATE store.customers SET id = {rng.randrange(CUSTOMERS)}"
        f" WHERE id = {rng.randrange(CUSTOMERS)}"
    )


def change_products(cursor: Cursor, rng: random.Random) -> None:
    cursor.execute(
        f"INSERT INTO store.products VALUES ({rng.randrange(PRODUCTS)}, {rng.choice(CATEGORIES)})"
        " ON CONFLICT (id) DO UPDATE SET category = EXCLUDED.category"
    )


def upsert_orders(cursor: Cursor, rng: random.Random) -> None:
    for _ in range(rng.randint(1, 3)):
        cursor.execute(
            f"INSERT INTO store.orders VALUES {_order(rng)} ON CONFLICT (id) DO UPDATE"
            " SET placed = EXCLUDED.placed, customer_id = EXCLUDED.customer_id,"
            " status = EXCLUDED.status"
        )


def merge_order(cursor: Cursor, rng: random.Random) -> None:
    cursor.execute(
        "MERGE INTO store.orders AS o USING (VALUES"
        f" ({rng.randrange(ORDERS)}, {rng.randrange(CUSTOMERS)})) AS v (id, customer_id)"
        " ON o.id = v.id"
        f" WHEN MATCHED AND {rng.choice(('true', 'false'))} THEN DELETE"
        " WHEN MATCHED THEN UPDATE SET customer_id = v.customer_id"
        " WHEN NOT MATCHED THEN INSERT (id, customer_id) VALUES (v.id, v.customer_id)"
    )


def change_order_key(cursor: Cursor, rng: random.Random) -> None:
    cursor.execute(
        f"UPDATE store.orders SET id = {rng.randrange(ORDERS)} WHERE id = {rng.randrange(ORDERS)}"
    )


def change_statuses(cursor: Cursor, rng: random.Random) -> None:
    cursor.execute(
        f"UPDATE store.orders SET status = {rng.choice(STATUSES)},"
        f" is_test = {rng.choice(('true', 'false', 'false'))}"
        f" WHERE id % 7 = {rng.randrange(7)} AND customer_id % 3 = {rng.randrange(3)}"
    )


def upsert_lines(cursor: Cursor, rng: random.Random) -> None:
    for _ in range(rng.randint(1, 4)):
        cursor.execute(
            f"INSERT INTO store.lines VALUES {_line(rng)} ON CONFLICT (id) DO UPDATE"
            " SET qty = EXCLUDED.qty, cents = EXCLUDED.cents, product_id = EXCLUDED.product_id"
        )


def move_lines(cursor: Cursor, rng: random.Random) -> None:
    cursor.execute(
        f"UPDATE store.lines SET order_id = {_maybe(rng, ORDERS)},"
        f" product_id = {_maybe(rng, PRODUCTS)} WHERE id % 40 = {rng.randrange(40)}"
    )


def change_nothing(cursor: Cursor, rng: random.Random) -> None:
    cursor.execute(f"UPDATE store.lines SET qty = qty WHERE id % 9 = {rng.randrange(9)}")


def delete_some(cursor: Cursor, rng: random.Random) -> None:
    table, most = rng.choice(
        (
            *(("customers", 10), ("products", 5), ("orders", 30), ("lines", 50)),
            *(("refunds", 9), ("stock_moves", 9)),
        )
    )
    cursor.execute(f"DELETE FROM store.{table} WHERE id % {most} = {rng.randrange(most)}")


def upsert_refund(cursor: Cursor, rng: random.Random) -> None:
    cursor.execute(
        "INSERT INTO store.refunds VALUES"
        f" ({rng.randrange(60)}, {_maybe(rng, ORDERS, 0.03)}, {_maybe(rng, 90)})"
        " ON CONFLICT (id) DO UPDATE SET order_id = EXCLUDED.order_id, cents = EXCLUDED.cents"
    )


def move_stock(cursor: Cursor, rng: random.Random) -> None:
    cursor.execute(
        "INSERT INTO store.stock_moves VALUES"
        f" ({rng.randrange(60)}, {_maybe(rng, PRODUCTS)}, {rng.randint(-9, 30)})"
        " ON CONFLICT (id) DO UPDATE SET pieces = EXCLUDED.pieces"
    )


def change_account(cursor: Cursor, rng: random.Random) -> None:
    manager = rng.choice(("'Ada'", "'Grace'", "NULL"))
    cursor.execute(
        "INSERT INTO crm.accounts VALUES"
        f" ({rng.randrange(20)}, {_maybe(rng, CUSTOMERS)}, {manager})"
        " ON CONFLICT (id) DO UPDATE SET manager = EXCLUDED.manager,"
        " customer_id = EXCLUDED.customer_id"
    )


def truncate(cursor: Cursor, rng: random.Random) -> None:
    cursor.execute(f"TRUNCATE store.{rng.choice(('refunds', 'stock_moves'))}")


OPERATIONS: dict[Statement, float] = {
    change_customers: 3,
    change_customer_key: 1,
    change_products: 2,
    upsert_orders: 6,
    merge_order: 2,
    change_order_key: 1,
    change_statuses: 2,
    upsert_lines: 8,
    move_lines: 2,
    change_nothing: 1,
    delete_some: 2,
    upsert_refund: 4,
    move_stock: 3,
    change_account: 2,
    truncate: 0.2,
}


def _customer(rng: random.Random, number: int | None = None) -> str:
    key = rng.randrange(CUSTOMERS) if number is None else number
    return f"({key}, {rng.choice(REGIONS)}, {rng.choice(('true', 'false', 'NULL'))})"


def _order(rng: random.Random, number: int | None = None) -> str:
    key = rng.randrange(ORDERS) if number is None else number
    placed = rng.choice((*(f"'{m}'" for m in MOMENTS), "NULL"))
    return (
        f"({key}, {_maybe(rng, CUSTOMERS)}, {placed}, {rng.choice(STATUSES)},"
        f" {rng.choice(('true', 'false', 'false', 'false'))})"
    )


def _line(rng: random.Random, number: int | None = None) -> str:
    key = rng.randrange(LINES) if number is None else number
    return (
        f"({key}, {_maybe(rng, ORDERS)}, {_maybe(rng, PRODUCTS)}, {_maybe(rng, 9)},"
        f" {_maybe(rng, 200)})"
    )


def _maybe(rng: random.Random, below: int, nulls: float = 0.08) -> str:
    """A number below, or null."""
    return "NULL" if rng.random() < nulls else str(rng.randrange(below))
