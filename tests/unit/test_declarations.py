"""A tally that cannot be kept exactly is refused where it is declared, with the reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Double,
    FromClause,
    Index,
    Integer,
    MetaData,
    Numeric,
    Select,
    Table,
    UniqueConstraint,
    func,
    select,
)

from tallykeeper import (
    Capture,
    DeclarationError,
    KeyFilter,
    RecomputedTally,
    SelectTally,
    System,
    TimeKey,
)
from tests.shapes import person_sums_tally
from tests.shapes import sales as desk_sales

metadata = MetaData(schema="shop")
sales = Table(
    "sales",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("shop_id", BigInteger, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("amount", Numeric(12, 3), nullable=False),
    Column("weight", Double, nullable=False),
)
lines = Table(
    "lines",
    metadata,
    Column("sale_id", BigInteger, primary_key=True),
    Column("item_id", BigInteger, primary_key=True),
)
shelves = Table(
    "shelves",
    metadata,
    Column("shop_id", BigInteger, primary_key=True),
    Column("item_id", BigInteger, primary_key=True),
)


def derived(**measures: Any) -> Table:
    columns = [Column(name, type_, nullable=False) for name, type_ in measures.items()]
    return Table(
        "sums", MetaData(schema="shop"), Column("shop_id", BigInteger, primary_key=True), *columns
    )


OF_SHOPS = select(
    sales.c.shop_id, func.count().label("count"), func.sum(sales.c.amount).label("amount")
).group_by(sales.c.shop_id)


def selected(table: Table | None = None, of: Select[Any] = OF_SHOPS) -> SelectTally:
    if table is None:
        table = derived(count=Integer, amount=Numeric)
    return SelectTally(f"shop.{table.name}", select=of, table=table)


def by_item(scope: KeyFilter) -> Select[Any]:
    return (
        select(sales.c.shop_id, lines.c.item_id, func.count().label("count"))
        .join_from(sales, lines, lines.c.sale_id == sales.c.id)
        .where(*scope(shop_id=sales.c.shop_id, item_id=lines.c.item_id))
        .group_by(sales.c.shop_id, lines.c.item_id)
    )


ITEMS = Table(
    "items",
    MetaData(schema="shop"),
    Column("shop_id", BigInteger, primary_key=True),
    Column("item_id", BigInteger, primary_key=True),
    Column("count", Integer, nullable=False),
)
OF_SALES = Capture(
    sales, entity=lambda sale: {"sale_id": sale.id}, key=lambda sale: {"shop_id": sale.shop_id}
)
OF_LINES = Capture(
    lines,
    entity=lambda line: {"sale_id": line.sale_id},
    key=lambda line: {"item_id": line.item_id},
)


# A mark of a line that finds its keys: the shops of the sales that have the line now.
def shops_of_lines(marked: FromClause) -> Select[Any]:
    return (
        select(sales.c.shop_id, lines.c.item_id)
        .join_from(sales, lines, lines.c.sale_id == sales.c.id)
        .where(lines.c.sale_id.in_(select(marked.c.sale_id)))
    )


OF_BOTH = Capture(
    sales,
    entity=lambda sale: {"sale_id": sale.id},
    key=lambda sale: {"shop_id": sale.shop_id, "item_id": sale.id},
)


def found(**options: Any) -> Capture:
    settings: dict[str, Any] = {
        "entity": lambda line: {"sale_id": line.sale_id},
        "keys": shops_of_lines,
    }
    return Capture(lines, **settings | options)


def recomputed(**options: Any) -> RecomputedTally:
    settings: dict[str, Any] = {
        "system": "shop",
        "table": ITEMS,
        "key": ["shop_id", "item_id"],
        "measures": ["count"],
        "captures": [OF_SALES, OF_LINES],
        "aggregate": by_item,
    }
    return RecomputedTally(**settings | options)


def counted(source: Table, table: str = "sums") -> SelectTally:
    """A tally that counts the rows of a derived table."""
    made = Table(
        table,
        MetaData(schema="shop"),
        Column("shop_id", BigInteger, primary_key=True),
        Column("count", Integer, nullable=False),
    )
    of = select(source.c.shop_id, func.count().label("count")).group_by(source.c.shop_id)
    return SelectTally(f"shop.{table}", select=of, table=made)


def recomputed_over_items() -> RecomputedTally:
    table = Table("tops", MetaData(schema="shop"), Column("shop_id", BigInteger, primary_key=True))
    return RecomputedTally(
        system="shop",
        table=table,
        key=["shop_id"],
        measures=[],
        captures=[
            Capture(
                ITEMS,
                entity=lambda item: {"shop_id": item.shop_id},
                key=lambda item: {"shop_id": item.shop_id},
            )
        ],
        aggregate=lambda scope: (
            select(ITEMS.c.shop_id).where(*scope(shop_id=ITEMS.c.shop_id)).distinct()
        ),
    )


REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "no key": (lambda: recomputed(key=[]), "needs a key"),
    "a measure that is no column": (
        lambda: recomputed(measures=["number"]),
        "'number' is declared but is no column",
    ),
    "a window outside the key": (
        lambda: recomputed(time_key=TimeKey("date", "day")),
        "time key's column 'date' must be part of the key",
    ),
    "a key that is not unique": (
        lambda: recomputed(table=_items()),
        "nothing makes the key (shop_id, item_id) unique",
    ),
    "a key that is unique but for its nulls": (
        lambda: recomputed(table=_items(UniqueConstraint("shop_id", "item_id"))),
        "nothing makes the key (shop_id, item_id) unique",
    ),
    "a key that is unique for some rows only": (
        lambda: recomputed(table=_partly_unique()),
        "nothing makes the key (shop_id, item_id) unique",
    ),
    "an aggregate over a table that nothing watches": (
        lambda: recomputed(captures=[OF_SALES]),
        "reads lines, which no capture watches",
    ),
    "an aggregate with other columns": (
        lambda: recomputed(key=["item_id", "shop_id"]),
        "must return the columns ('item_id', 'shop_id', 'count') in this order",
    ),
    "a key column that no capture logs": (
        lambda: recomputed(
            captures=[OF_SALES, Capture(lines, entity=lambda line: {"sale_id": line.sale_id})]
        ),
        "must be given by exactly one set of captures",
    ),
    "entities that cannot be joined": (
        lambda: recomputed(
            captures=[
                OF_SALES,
                Capture(
                    lines,
                    entity=lambda line: {"line_of": line.sale_id},
                    key=lambda line: {"item_id": line.item_id},
                ),
            ]
        ),
        "where the key is split over sources all must use",
    ),
    "a group that is no part of the key": (
        lambda: recomputed(group=["shop_id", "count"]),
        "the group ('shop_id', 'count') must be some of the key's columns",
    ),
    "found keys with other columns": (
        lambda: recomputed(captures=[OF_BOTH, found(keys=lambda m: select(m.c.sale_id))]),
        "`keys` of the capture of lines must return the columns ('shop_id', 'item_id'); it returns"
        " ('sale_id',)",
    ),
    "found keys without an entity": (
        lambda: recomputed(captures=[OF_BOTH, found(entity=lambda _: {})]),
        "the capture of lines finds its keys, so it must name an entity and carry no key",
    ),
    "found keys beside carried ones": (
        lambda: recomputed(captures=[OF_BOTH, found(key=lambda line: {"item_id": line.item_id})]),
        "the capture of lines finds its keys, so it must name an entity and carry no key",
    ),
    "keys found in a table that nothing watches": (
        lambda: recomputed(
            captures=[
                OF_BOTH,
                found(keys=lambda _: select(shelves.c.shop_id, shelves.c.item_id)),
            ]
        ),
        "the aggregate reads shelves, which no capture watches",
    ),
    "found keys where carried ones leave a column out": (
        lambda: recomputed(captures=[OF_SALES, found()]),
        "must be given by exactly one set of captures",
    ),
    "a count of a table that comes later": (
        lambda: System("shop", metadata, [counted(ITEMS), recomputed()]),
        "shop.sums counts shop.items, which must come before it in the system",
    ),
    "a derived table recomputed from another": (
        lambda: System("shop", metadata, [recomputed(), recomputed_over_items()]),
        "only counts and sums can be taken of a derived table",
    ),
    "two tallies of one table": (
        lambda: System("shop", metadata, [selected(), selected()]),
        "two tallies keep the same table (sums, sums)",
    ),
    "a tally of another system": (
        lambda: System("store", metadata, [selected()]),
        "shop.sums does not belong to the system 'store'",
    ),
}


def _items(*more: UniqueConstraint) -> Table:
    columns = (Column(n, BigInteger) for n in ("shop_id", "item_id"))
    return Table("items", MetaData(schema="shop"), *columns, Column("count", Integer), *more)


def _partly_unique() -> Table:
    table = _items()
    key = (table.c.shop_id, table.c.item_id)
    Index("some", *key, unique=True, postgresql_where=table.c.count > 5)
    return table


@pytest.mark.parametrize("declaration", REFUSED)
def test_a_declaration_that_cannot_be_kept_is_refused(declaration: str) -> None:
    declare, sentence = REFUSED[declaration]
    with pytest.raises(DeclarationError) as refused:
        declare()
    assert sentence in str(refused.value)


def test_the_same_declarations_are_accepted_when_whole() -> None:
    assert selected().measures == ("count", "amount")
    assert recomputed().entity == ("sale_id",)
    assert recomputed(captures=[OF_BOTH, found()]).captures[1].keys is shops_of_lines
    items = recomputed()
    assert System("shop", metadata, [items, counted(ITEMS)]).tallies[1].upstream == (items,)
    assert System("shop", metadata, [recomputed(), counted(ITEMS)]).sources == (sales, lines)


def test_names_too_long_for_postgresql_are_refused() -> None:
    table = derived(count=Integer, amount=Numeric)
    table.name = "s" * 60
    with pytest.raises(DeclarationError, match="longer than PostgreSQL's 63 bytes"):
        selected(table)


def test_a_source_s_columns_that_a_tally_does_not_read_are_known() -> None:
    sums_of_numbers = person_sums_tally.relevant(desk_sales)
    assert sums_of_numbers == ["shop_id", "person_id", "amount", "is_void"]
