"""The tables with their rows at a scale, and the queries.

Rows are made inside PostgreSQL by the functions of `generator.sql`, which know a row by its key
alone. Scale 1 has 1.5 M orders and 6 M lines. Below 0.005 there are more parts, suppliers and
customers than the scale asks for, so that queries still return rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources

from sqlalchemy import Engine

from tallykeeper.database import sql

NAMES = tuple(f"q{number:02}" for number in range(1, 23))
TABLES = ("region", "nation", "supplier", "part", "partsupp", "customer", "orders", "lineitem")
_ORDERS_AT_ONCE = 250_000
# What q11 asks for at scale 1; at smaller ones more, but so much that something is left.
_FRACTION, _LARGEST_FRACTION = 0.0001, 0.01
_REGIONS = {
    "AFRICA": "ALGERIA,ETHIOPIA,KENYA,MOROCCO,MOZAMBIQUE",
    "AMERICA": "ARGENTINA,BRAZIL,CANADA,PERU,UNITED STATES",
    "ASIA": "CHINA,INDIA,INDONESIA,JAPAN,VIETNAM",
    "EUROPE": "FRANCE,GERMANY,ROMANIA,RUSSIA,UNITED KINGDOM",
    "MIDDLE EAST": "EGYPT,IRAN,IRAQ,JORDAN,SAUDI ARABIA",
}


@dataclass(frozen=True)
class Sizes:
    """How many rows tables have at first."""

    suppliers: int
    parts: int
    customers: int
    orders: int


def sizes(scale: float) -> Sizes:
    """The sizes at a scale."""
    large = max(scale, 0.005)
    return Sizes(
        suppliers=int(10_000 * large),
        parts=int(200_000 * large),
        customers=int(150_000 * large),
        orders=max(int(1_500_000 * scale), 100),
    )


def query(name: str, scale: float = 1) -> str:
    """The SELECT of one query, with its comment."""
    text = _file(f"queries/{name}.sql")
    if name == "q11":
        text = text.replace(f"{_FRACTION}", f"{min(_FRACTION / scale, _LARGEST_FRACTION):.4f}")
    return text


def create(engine: Engine, scale: float) -> Sizes:
    """Make the tables with their rows, keys and indexes in an empty database."""
    made = sizes(scale)
    with engine.begin() as connection:
        for file in ("schema.sql", "generator.sql"):
            sql.execute(connection, _file(file))
        for statement in _small_tables(made):
            sql.execute(connection, statement)
    for first in range(0, made.orders, _ORDERS_AT_ONCE):
        after = min(first + _ORDERS_AT_ONCE, made.orders)
        with engine.begin() as connection:
            sql.execute(connection, insert_orders("tpch_rows.orderkey(n)", first, after, made))
    with engine.begin() as connection:
        sql.execute(connection, _file("indexes.sql"))
        sql.execute(connection, "ANALYZE")
    return made


def insert_orders(key: str, first: int, after: int, made: Sizes) -> str:
    """The statement that inserts orders with their lines; `key` makes keys of numbers `n`."""
    return (
        "SELECT tpch_rows.insert_orders(ARRAY(SELECT"
        f" {key} FROM generate_series({first}::bigint, {after - 1}) AS n),"
        f" {made.customers}, {made.parts}, {made.suppliers})"
    )


def _small_tables(made: Sizes) -> list[str]:
    nations = sorted(
        (nation, region)
        for region, names in enumerate(_REGIONS.values())
        for nation in names.split(",")
    )
    return [
        "INSERT INTO tpch.region VALUES "
        + ", ".join(f"({key}, '{name}', 'a region')" for key, name in enumerate(_REGIONS)),
        "INSERT INTO tpch.nation VALUES "
        + ", ".join(
            f"({key}, '{name}', {region}, 'a nation')" for key, (name, region) in enumerate(nations)
        ),
        f"INSERT INTO tpch.supplier SELECT * FROM tpch_rows.suppliers(1, {made.suppliers})",
        f"INSERT INTO tpch.part SELECT * FROM tpch_rows.parts(1, {made.parts})",
        "INSERT INTO tpch.partsupp SELECT *"
        f" FROM tpch_rows.partsupps(1, {made.parts}, {made.suppliers})",
        f"INSERT INTO tpch.customer SELECT * FROM tpch_rows.customers(1, {made.customers})",
    ]


@cache
def _file(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
