"""Three small systems, one in each database that the catalogue's changes are applied to.

`SALES` has SELECTs and a recomputed tally over one source, and a key that a function of the
application computes; `VISITS` a partitioned source; `LINES` a derived table with a foreign key that
cascades, a measure from a generated column, a key that is split over two sources, and a condition
on an enumeration. All bear the name `shop`: few tallies make a change quick to examine.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    DDL,
    BigInteger,
    Column,
    Computed,
    DateTime,
    Enum,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    Numeric,
    Select,
    Table,
    Text,
    cast,
    event,
    func,
    select,
)
from sqlalchemy.sql.elements import Label

from tallykeeper import (
    Capture,
    KeyFilter,
    RecomputedTally,
    SelectTally,
    System,
)

sales_metadata = MetaData(schema="shop")
visits_metadata = MetaData(schema="shop")
lines_metadata = MetaData(schema="shop")

# The application's own function, which the key of a tally calls.
SIZE_OF = """
CREATE FUNCTION shop.size_of(amount numeric) RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE WHEN amount < 10 THEN 'small' ELSE 'large' END"""

sales = Table(
    "sales",
    sales_metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("amount", Numeric(12, 2)),
    Column("customer", Text),
    Column("note", Text),
    Index("sales_customer", "customer"),
)

visits = Table(
    "visits",
    visits_metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("at", DateTime(timezone=True), primary_key=True),
    Column("pages", Integer, nullable=False),
    postgresql_partition_by="RANGE (at)",
)

products = Table(
    "products",
    lines_metadata,
    Column("id", BigInteger, primary_key=True),
    Column("name", Text, nullable=False),
)

lines = Table(
    "lines",
    lines_metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column(
        "product_id",
        ForeignKey(products.c.id, ondelete="CASCADE", onupdate="CASCADE"),
        nullable=False,
    ),
    Column("pieces", Integer, nullable=False),
    Column("weight", Integer, Computed("pieces * 2", persisted=True)),
    Column(
        "state",
        Enum("sold", "gift", name="line_state", schema="shop"),
        nullable=False,
        server_default="sold",
    ),
    Index("lines_product", "product_id"),
)

for _table, _when, _statement in (
    (sales, "before_create", SIZE_OF),
    *(
        (
            visits,
            "after_create",
            f"CREATE TABLE shop.visits_{year} PARTITION OF shop.visits"
            f" FOR VALUES FROM ('{year}-01-01Z') TO ('{year + 1}-01-01Z')",
        )
        for year in (2023, 2024)
    ),
):
    event.listen(_table, _when, DDL(_statement))

daily_sales = Table(
    "daily_sales",
    sales_metadata,
    Column("day", DateTime(timezone=True), primary_key=True),
    Column("sales", Integer, nullable=False),
    Column("cents", Numeric, nullable=False),
    Column("updated_at", DateTime(timezone=True)),
)

best_sales = Table(
    "best_sales",
    sales_metadata,
    Column("customer", Text, primary_key=True),
    Column("best", Numeric),
    Column("sales", Integer, nullable=False),
)

sizes = Table(
    "sizes",
    sales_metadata,
    Column("size", Text, primary_key=True),
    Column("sales", Integer, nullable=False),
)

daily_visits = Table(
    "daily_visits",
    visits_metadata,
    Column("day", DateTime(timezone=True), primary_key=True),
    Column("visits", Integer, nullable=False),
    Column("pages", BigInteger, nullable=False),
)

stock = Table(
    "stock",
    lines_metadata,
    Column(
        "product_id",
        ForeignKey(products.c.id, ondelete="CASCADE", onupdate="CASCADE"),
        primary_key=True,
    ),
    Column("lines", Integer, nullable=False),
    Column("pieces", BigInteger, nullable=False),
    Column("weight", BigInteger, nullable=False),
)

named_lines = Table(
    "named_lines",
    lines_metadata,
    Column("name", Text, primary_key=True),
    Column("lines", Integer, nullable=False),
    Column("pieces", BigInteger, nullable=False),
)


def best_of_customers(scope: KeyFilter) -> Select[Any]:
    """The largest sale of each customer."""
    return (
        select(
            sales.c.customer,
            func.max(sales.c.amount).label("best"),
            func.count().label("sales"),
        )
        .where(sales.c.customer.is_not(None), *scope(customer=sales.c.customer))
        .group_by(sales.c.customer)
    )


def lines_of_names(scope: KeyFilter) -> Select[Any]:
    """Lines and pieces that were no gifts, by the name of the product."""
    return (
        select(
            products.c.name,
            func.count().label("lines"),
            func.sum(lines.c.pieces).label("pieces"),
        )
        .select_from(lines.join(products, products.c.id == lines.c.product_id))
        .where(lines.c.state != "gift", *scope(name=products.c.name))
        .group_by(products.c.name)
    )


_day_sold = func.date_trunc("day", sales.c.at, "UTC").label("day")
_size: Label[Any] = func.shop.size_of(sales.c.amount, type_=Text()).label("size")
_day_visited = func.date_trunc("day", visits.c.at, "UTC").label("day")

SALES = System(
    "shop",
    sales_metadata,
    [
        SelectTally(
            "shop.daily_sales",
            select=select(
                _day_sold,
                cast(func.count(), Integer).label("sales"),
                func.coalesce(func.sum(cast(sales.c.amount * 100, BigInteger)), 0).label("cents"),
            )
            .where(sales.c.at.is_not(None))
            .group_by(_day_sold),
            table=daily_sales,
        ),
        RecomputedTally(
            system="shop",
            table=best_sales,
            key=["customer"],
            measures=["best", "sales"],
            captures=[
                Capture(
                    sales,
                    entity=lambda sale: {"sale_id": sale.id},
                    key=lambda sale: {"customer": sale.customer},
                )
            ],
            aggregate=best_of_customers,
        ),
        SelectTally(
            "shop.sizes",
            select=select(_size, cast(func.count(), Integer).label("sales"))
            .where(sales.c.amount > 0)
            .group_by(_size),
            table=sizes,
        ),
    ],
)

VISITS = System(
    "shop",
    visits_metadata,
    [
        SelectTally(
            "shop.daily_visits",
            select=select(
                _day_visited,
                cast(func.count(), Integer).label("visits"),
                func.sum(visits.c.pages, type_=BigInteger).label("pages"),
            ).group_by(_day_visited),
            table=daily_visits,
        ),
    ],
)

LINES = System(
    "shop",
    lines_metadata,
    [
        SelectTally(
            "shop.stock",
            select=select(
                lines.c.product_id,
                cast(func.count(), Integer).label("lines"),
                func.sum(lines.c.pieces, type_=BigInteger).label("pieces"),
                func.coalesce(func.sum(lines.c.weight, type_=BigInteger), 0).label("weight"),
            ).group_by(lines.c.product_id),
            table=stock,
        ),
        RecomputedTally(
            system="shop",
            table=named_lines,
            key=["name"],
            measures=["lines", "pieces"],
            captures=[
                Capture(
                    products,
                    entity=lambda product: {"product_id": product.id},
                    key=lambda product: {"name": product.name},
                ),
                Capture(lines, entity=lambda line: {"product_id": line.product_id}),
            ],
            aggregate=lines_of_names,
        ),
    ],
)

SYSTEMS = (SALES, VISITS, LINES)
