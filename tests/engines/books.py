"""A small system of orders with odd values, whose tallies other engines compute."""

from __future__ import annotations

from sqlalchemy import Engine

from tallykeeper import System
from tests.integration.support import execute
from tests.select.keeping import install

TABLES = """
CREATE SCHEMA books;
CREATE TABLE books.orders (
    id bigint PRIMARY KEY, customer integer, placed_at timestamptz, cents bigint,
    amount numeric(12, 2), status text COLLATE "C", tags text[]
);
INSERT INTO books.orders
SELECT n, nullif(n % 7, 0), CASE WHEN n % 50 = 0 THEN 'infinity' WHEN n % 51 = 0 THEN '-infinity'
    WHEN n % 13 > 0 THEN timestamptz '2024-03-30 12:34:56.789+00' + n * interval '37 minutes' END,
    CASE WHEN n % 11 > 0 THEN 9000000000000000000 - n END, n * 1.01,
    (ARRAY['open', 'paid', '', NULL, 'it''s', E'back\\\\slash'])[n % 6 + 1],
    CASE n % 4 WHEN 0 THEN '{}' WHEN 1 THEN ARRAY['a', NULL, 'b'] WHEN 2 THEN ARRAY['b', 'b'] END
FROM generate_series(1, 400) AS n;
"""
SELECTS = {
    "by_hour": (
        "SELECT date_trunc('hour', placed_at, 'UTC') AS hour, count(*) AS orders,"
        " sum(cents) AS cents, sum(amount) AS amount, max(status) AS last, min(placed_at) AS first"
        " FROM books.orders GROUP BY 1"
    ),
    "by_tag": (
        "SELECT t.tag, count(DISTINCT o.customer) AS customers"
        " FROM books.orders AS o CROSS JOIN LATERAL unnest(o.tags) AS t (tag) GROUP BY t.tag"
    ),
    "by_customer": (
        "SELECT customer, array_agg(DISTINCT status) AS statuses FROM books.orders GROUP BY 1"
    ),
}


def make(engine: Engine, **more: str) -> System:
    """The system in an empty database, with more SELECTs by name."""
    execute(engine, TABLES)
    return install(engine, "books", {**SELECTS, **more})
