"""A shop with a tally of each kind.

By hand: recomputed, and recomputed in batches. By a SELECT: added up in triggers, by
deltas through a chain, by groups, as a whole, and of a source with partitions.
"""

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
    Batches,
    Capture,
    KeyFilter,
    Lane,
    RecomputedTally,
    SelectTally,
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

# Read by a SELECT alone, so that no tally needs it declared.
CREATE_VISITS = (
    "CREATE TABLE golden.visits (id bigint, day date, page text NOT NULL, PRIMARY KEY (id, day))"
    " PARTITION BY RANGE (day)",
    "CREATE TABLE golden.visits_2026 PARTITION OF golden.visits"
    " FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')",
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

selected = [
    SelectTally(
        "summed.sales_daily",
        select="SELECT date_trunc('day', s.sold_at, 'UTC') AS day, s.product, count(*) AS lines,"
        " sum(s.cents) AS cents FROM golden.sales AS s GROUP BY 1, 2",
    ),
    SelectTally(
        "chain.words_by_sales",
        select="SELECT d.lines, count(*) AS products, sum(d.cents) AS cents FROM (SELECT s.product,"
        " count(*) AS lines, sum(s.cents) AS cents FROM golden.sales AS s"
        " JOIN golden.products AS p ON p.id = s.product GROUP BY s.product) AS d GROUP BY d.lines",
    ),
    SelectTally(
        "grouped.sale_extremes",
        select="SELECT s.product, min(s.cents) AS least, max(s.cents) AS most"
        " FROM golden.sales AS s GROUP BY s.product",
    ),
    SelectTally(
        "whole.first_sales",
        select="SELECT s.id, s.cents FROM golden.sales AS s ORDER BY s.cents DESC, s.id LIMIT 3",
    ),
    SelectTally(
        "partitioned.visit_pages",
        select="SELECT v.page, count(*) AS visits, max(v.day) AS latest FROM golden.visits AS v"
        " GROUP BY v.page",
    ),
]

# Each of its own, so that none of their capture functions serves two.
systems = [System(tally.system, metadata, [tally]) for tally in (recomputed, batched)]
select_systems = [System(tally.system, MetaData(), [tally]) for tally in selected]
