"""What `tally new` writes: the text of a file that declares a tally."""

from __future__ import annotations

from pathlib import Path

from tallykeeper.select.files import parse

TEMPLATES = {
    "count": """\
SELECT date_trunc('day', o.placed_at, 'UTC') AS day, o.status, count(*) AS orders
FROM {schema}.orders AS o
GROUP BY 1, 2""",
    "sum": """\
SELECT date_trunc('day', o.placed_at, 'UTC') AS day, count(*) AS orders, sum(o.cents) AS cents
FROM {schema}.orders AS o
WHERE o.status <> 'cancelled'
GROUP BY 1""",
    "distinct": """\
SELECT date_trunc('day', o.placed_at, 'UTC') AS day, count(DISTINCT o.customer_id) AS customers
FROM {schema}.orders AS o
GROUP BY 1""",
    "top-n": """\
SELECT category, product_id, cents, place
FROM (
    SELECT p.category, p.id AS product_id, sum(l.cents) AS cents,
           row_number() OVER (PARTITION BY p.category ORDER BY sum(l.cents) DESC, p.id) AS place
    FROM {schema}.products AS p
    JOIN {schema}.order_lines AS l ON l.product_id = p.id
    GROUP BY p.category, p.id
) AS ranked
WHERE place <= 3""",
    "join": """\
SELECT date_trunc('day', o.placed_at, 'UTC') AS day, l.product_id,
       count(*) AS lines, sum(l.quantity * l.cents) AS revenue
FROM {schema}.orders AS o
JOIN {schema}.order_lines AS l ON l.order_id = o.id
WHERE o.status <> 'cancelled'
GROUP BY 1, 2""",
}

_LINES = """
-- Lines that may stand above the SELECT, for what it cannot say itself:
--     `key: day, product_id`       the columns that make a row unique
--     `window: day`                the column of the time that a row belongs to
--     `partitions: none`           no windows: Dagster shows the table as a whole
--     `index: product_id, day`     an index over the table; may be repeated
"""

EXAMPLE_NAME = "example.orders_daily"
EXAMPLE = """\
-- Orders by day and status, and what they came to.
-- tally: example.orders_daily
SELECT date_trunc('day', o.placed_at, 'UTC') AS day, o.status, count(*) AS orders,
       sum(o.cents) AS cents
FROM example.orders AS o
GROUP BY 1, 2;

-- An example. To try it, make its source table in a database, as in
--     CREATE SCHEMA example;
--     CREATE TABLE example.orders (
--         id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
--         status text NOT NULL,
--         cents integer NOT NULL,
--         placed_at timestamptz NOT NULL DEFAULT now()
--     );
--     INSERT INTO example.orders (status, cents) VALUES ('paid', 1200), ('open', 80);
-- and then `tally migrate`, `tally refresh`. Remove this file when you have tallies of your own.
"""


class OtherName(ValueError):
    """The SQL has a line that names the tally otherwise than the command does."""


def from_template(name: str, template: str) -> str:
    """The text of a file for the tally, with a SELECT to be changed."""
    schema = name.partition(".")[0]
    return _file(name, TEMPLATES[template].format(schema=schema))


def from_sql(name: str, sql: str) -> str:
    """The text of a file for the tally, with this SELECT.

    Raises BadFile where it is none, OtherName.
    """
    text = sql.replace("\r\n", "\n").strip()
    declared = parse(text, Path("the SQL"), name)
    if declared.name != name:
        raise OtherName(f"its line `-- tally:` says {declared.name}")
    header = declared.header
    if header.name is not None:
        return f"{text}\n"
    if header.description:
        first = text.index(declared.select)
        return f"{text[:first]}-- tally: {name}\n{text[first:]}\n"
    return _file(name, text)


def _file(name: str, sql: str) -> str:
    words = name.partition(".")[2].replace("_", " ").strip()
    end = "" if sql.endswith(";") else ";"
    text = f"-- {words.capitalize()}.\n-- tally: {name}\n{sql}{end}\n{_LINES}"
    parse(text, Path("the file"))
    return text
