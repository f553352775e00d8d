"""A shop with a tally of each kind: added up, recomputed, and recomputed in batches."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Column,
    DateTime,
    Integer,
    MetaData,
    Select,
    Table,
    Text,
    cast,
    func,
    literal,
    select,
    true,
)

from tallykeeper import (
    AdditiveTally,
    Batches,
    Capture,
    Contribution,
    KeyFilter,
    Lane,
    RecomputedTally,
    System,
    TimeKey,
)
from tallykeeper.database import sql

metadata = MetaData(schema="golden")

sales = Table(
    "sales",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("sold_at", DateTime(timezone=True), nullable=False),
    Column("customer", Text),
    Column("product", Integer, nullable=False),
    Column("cents", Integer, nullable=False),
)

products = Table(
    "products",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("words", ARRAY(Text), nullable=False),
)

revenue_daily = Table(
    "revenue_daily",
    metadata,
    Column("day", DateTime(timezone=True), primary_key=True),
    Column("product", Integer, primary_key=True),
    Column("lines", BigInteger, nullable=False),
    Column("cents", BigInteger, nullable=False),
)

customers_daily = Table(
    "customers_daily",
    metadata,
    Column("day", DateTime(timezone=True), primary_key=True),
    Column("customers", BigInteger, nullable=False),
)

product_words = Table(
    "product_words",
    metadata,
    Column("shelf", Text, primary_key=True),
    Column("product", Integer, primary_key=True),
    Column("word", Text, primary_key=True),
)

additive = AdditiveTally(
    system="additive",
    table=revenue_daily,
    time_key=TimeKey("day", "day"),
    contributions=[
        Contribution(
            sales,
            key=lambda sale: {"day": sale.sold_at, "product": sale.product},
            measures=lambda sale: {"lines": 1, "cents": sale.cents},
        )
    ],
)


def _customers(keys: KeyFilter) -> Select[Any]:
    day = sql.utc_start("day", sales.c.sold_at).label("day")
    customers = func.count(sales.c.customer.distinct()).label("customers")
    return select(day, customers).where(*keys(day=sales.c.sold_at)).group_by(day)


recomputed = RecomputedTally(
    system="recomputed",
    table=customers_daily,
    key=["day"],
    measures=["customers"],
    time_key=TimeKey("day", "day"),
    captures=[Capture(sales, key=lambda sale: {"day": sale.sold_at})],
    aggregate=_customers,
)


def _words(keys: KeyFilter) -> Select[Any]:
    shelf = cast(literal("all"), Text)
    word = func.unnest(products.c.words, type_=Text()).label("word")
    named = select(word).correlate(products).distinct().lateral("named")
    return (
        select(shelf.label("shelf"), products.c.id.label("product"), named.c.word)
        .select_from(products.join(named, true()))
        .where(named.c.word.is_not(None), *keys(shelf=shelf, product=products.c.id))
    )


batched = RecomputedTally(
    system="batched",
    table=product_words,
    key=["shelf", "product", "word"],
    measures=[],
    group=["shelf", "product"],
    captures=[Capture(products, key=lambda product: {"shelf": "all", "product": product.id})],
    aggregate=_words,
    batches=Batches(
        lane="shelf",
        along="product",
        lanes={
            "all": Lane(
                products,
                position=lambda product: product.id,
                weight=lambda product: func.cardinality(product.words),
            )
        },
    ),
)

# Each of its own, so that none of their capture functions serves two.
systems = [System(tally.system, metadata, [tally]) for tally in (additive, recomputed, batched)]
