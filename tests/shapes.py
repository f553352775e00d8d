"""Small systems, each of a shape that the media system has not. Only tests use them.

`shelf`: an exploded array, recomputed by item, with no measures at all. `desk`: counts and numeric
sums by person, with a null row for everybody, from two sources and under a condition; and a
recomputed tally with a null in its key. `mart`: a key in two parts, from two sources, while a third
source finds its keys by reading those; and sums over that derived table, whose rows are updated
too. Their hand-written truth is in `oracle.py`.
"""

from __future__ import annotations

import random
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    DateTime,
    Identity,
    Index,
    Integer,
    MetaData,
    Numeric,
    Select,
    Table,
    Text,
    cast,
    false,
    func,
    null,
    select,
    union_all,
)

from tallykeeper import Capture, KeyFilter, RecomputedTally, SelectTally, System

shelf_metadata = MetaData(schema="shelf")

items = Table(
    "items",
    shelf_metadata,
    Column("id", BigInteger, primary_key=True),
    Column("tags", ARRAY(Integer)),
    Column("title", Text),
)

item_tags = Table(
    "item_tags",
    shelf_metadata,
    Column("item_id", BigInteger, primary_key=True),
    Column("tag_id", Integer, primary_key=True),
    Index("item_tags_tag_id", "tag_id"),
)


def exploded(scope: KeyFilter) -> Select[Any]:
    """Each tag of each item once, however often the array names it."""
    tags = func.unnest(items.c.tags).table_valued("tag_id").render_derived("tags")
    return (
        select(items.c.id.label("item_id"), tags.c.tag_id)
        .select_from(items.join(tags, tags.c.tag_id.is_not(None)))
        .where(*scope(item_id=items.c.id))
        .distinct()
    )


item_tags_tally = RecomputedTally(
    system="shelf",
    table=item_tags,
    key=["item_id", "tag_id"],
    measures=[],
    group=["item_id"],
    captures=[
        Capture(items, entity=lambda item: {"item_id": item.id}, key=lambda i: {"item_id": i.id})
    ],
    aggregate=exploded,
)

shelf = System("shelf", shelf_metadata, [item_tags_tally])

desk_metadata = MetaData(schema="desk")

sales = Table(
    "sales",
    desk_metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("shop_id", BigInteger, nullable=False),
    # Narrower than in the derived tables, which must make no difference.
    Column("person_id", Integer),
    Column("amount", Numeric(12, 3)),
    Column("is_void", Boolean, nullable=False, server_default=false()),
    Index("sales_shop_person", "shop_id", "person_id"),
)

refunds = Table(
    "refunds",
    desk_metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("shop_id", BigInteger),
    Column("clerk_id", BigInteger, nullable=False),
    Column("amount", Numeric(12, 3), nullable=False),
)


def by_person(name: str, *measures: Column[Any]) -> Table:
    """A derived table keyed by shop and person, where a person may be null."""
    table = Table(
        name,
        desk_metadata,
        Column("id", BigInteger, Identity(), primary_key=True),
        Column("shop_id", BigInteger, nullable=False),
        Column("person_id", BigInteger),
        *measures,
        Column("updated_at", DateTime(timezone=True)),
    )
    person = table.c.person_id
    Index(f"{name}_one", "shop_id", person, unique=True, postgresql_where=person.is_not(None))
    Index(f"{name}_all", table.c.shop_id, unique=True, postgresql_where=person.is_(None))
    return table


person_sums = by_person(
    "person_sums",
    Column("moves", Integer, nullable=False),
    Column("amount", Numeric, nullable=False),
)

best_sales = by_person("best_sales", Column("amount", Numeric), Column("sales", Integer))


def _moves(of: Table, person: ColumnElement[Any] | None, amount: ColumnElement[Any]) -> Select[Any]:
    """Each row's shop, its person or nobody, whom null stands for here, and its amount."""
    found = cast(null() if person is None else person, BigInteger)
    return select(of.c.shop_id, found.label("person_id"), amount.label("amount"))


_sold = _moves(sales, sales.c.person_id, sales.c.amount).where(~sales.c.is_void)
_refunded = refunds.c.shop_id.is_not(None)
# A person's sales less refunds, and in the row without a person the shop's.
_all_moves = union_all(
    _sold.where(sales.c.person_id.is_not(None)),
    _moves(sales, None, sales.c.amount).where(~sales.c.is_void),
    _moves(refunds, refunds.c.clerk_id, -refunds.c.amount).where(_refunded),
    _moves(refunds, None, -refunds.c.amount).where(_refunded),
).subquery("moves")
person_sums_tally = SelectTally(
    "desk.person_sums",
    select=select(
        _all_moves.c.shop_id,
        _all_moves.c.person_id,
        cast(func.count(), Integer).label("moves"),
        func.coalesce(func.sum(_all_moves.c.amount), 0).label("amount"),
    ).group_by(_all_moves.c.shop_id, _all_moves.c.person_id),
    table=person_sums,
    totals=["person_id"],
)


def best(scope: KeyFilter) -> Select[Any]:
    """The largest sale of each person, and of nobody in particular; null where none is known."""
    return (
        select(
            sales.c.shop_id,
            sales.c.person_id,
            func.max(sales.c.amount).label("amount"),
            func.count().label("sales"),
        )
        .where(*scope(shop_id=sales.c.shop_id, person_id=sales.c.person_id))
        .group_by(sales.c.shop_id, sales.c.person_id)
    )


best_sales_tally = RecomputedTally(
    system="desk",
    table=best_sales,
    key=["shop_id", "person_id"],
    measures=["amount", "sales"],
    captures=[
        Capture(
            sales,
            entity=lambda sale: {"sale_id": sale.id},
            key=lambda sale: {"shop_id": sale.shop_id, "person_id": sale.person_id},
        )
    ],
    aggregate=best,
)

desk = System("desk", desk_metadata, [person_sums_tally, best_sales_tally])

mart_metadata = MetaData(schema="mart")

orders = Table(
    "orders",
    mart_metadata,
    Column("id", BigInteger, primary_key=True),
    Column("shop_id", BigInteger, nullable=False),
)

order_lines = Table(
    "order_lines",
    mart_metadata,
    Column("order_id", BigInteger, primary_key=True),
    Column("item_id", BigInteger, primary_key=True),
    Column("pieces", Integer, nullable=False),
    Index("order_lines_item", "item_id"),
)

listed = Table("listed", mart_metadata, Column("item_id", BigInteger, primary_key=True))

shop_items = Table(
    "shop_items",
    mart_metadata,
    Column("shop_id", BigInteger, primary_key=True),
    Column("item_id", BigInteger, primary_key=True),
    Column("pieces", BigInteger, nullable=False),
    Column("updated_at", DateTime(timezone=True)),
)

shop_sums = Table(
    "shop_sums",
    mart_metadata,
    Column("shop_id", BigInteger, primary_key=True),
    Column("items", Integer, nullable=False),
    Column("pieces", BigInteger, nullable=False),
)

ordered = order_lines.join(orders, orders.c.id == order_lines.c.order_id)


def pieces_of_listed(scope: KeyFilter) -> Select[Any]:
    """Pieces by shop and item, of items that are listed."""
    return (
        select(
            orders.c.shop_id,
            order_lines.c.item_id,
            func.sum(order_lines.c.pieces).label("pieces"),
        )
        .select_from(ordered.join(listed, listed.c.item_id == order_lines.c.item_id))
        .where(*scope(shop_id=orders.c.shop_id, item_id=order_lines.c.item_id))
        .group_by(orders.c.shop_id, order_lines.c.item_id)
    )


shop_items_tally = RecomputedTally(
    system="mart",
    table=shop_items,
    key=["shop_id", "item_id"],
    measures=["pieces"],
    captures=[
        Capture(orders, entity=lambda o: {"order_id": o.id}, key=lambda o: {"shop_id": o.shop_id}),
        Capture(
            order_lines,
            entity=lambda line: {"order_id": line.order_id},
            key=lambda line: {"item_id": line.item_id},
        ),
        Capture(
            listed,
            entity=lambda item: {"item_id": item.item_id},
            keys=lambda marked: (
                select(orders.c.shop_id, order_lines.c.item_id)
                .select_from(ordered)
                .where(order_lines.c.item_id.in_(select(marked.c.item_id)))
            ),
        ),
    ],
    aggregate=pieces_of_listed,
)

shop_sums_tally = SelectTally(
    "mart.shop_sums",
    select=select(
        shop_items.c.shop_id,
        cast(func.count(), Integer).label("items"),
        cast(func.sum(shop_items.c.pieces), BigInteger).label("pieces"),
    ).group_by(shop_items.c.shop_id),
    table=shop_sums,
)

mart = System("mart", mart_metadata, [shop_items_tally, shop_sums_tally])

# Statements to be drawn from; see `written` for what stands in the braces.
SHELF_WRITES = (
    "INSERT INTO shelf.items VALUES ({n}, ARRAY[{t}, {t}, {t}, NULL])"
    " ON CONFLICT (id) DO UPDATE SET tags = excluded.tags",
    "INSERT INTO shelf.items VALUES ({n}, NULL) ON CONFLICT DO NOTHING",
    "INSERT INTO shelf.items SELECT i, ARRAY[i % 3] FROM generate_series({n}, {n} + 3) AS i"
    " ON CONFLICT DO NOTHING",
    "UPDATE shelf.items SET tags = tags || {t} WHERE id % 3 = {p} % 3",
    "UPDATE shelf.items SET tags = array_remove(tags, {t}) WHERE id > {n}",
    "UPDATE shelf.items SET tags = '{{}}' WHERE id = {n}",
    "UPDATE shelf.items SET title = 'x' WHERE id = {n}",
    "UPDATE shelf.items SET id = id + (SELECT max(id) FROM shelf.items) WHERE id = {n}",
    "DELETE FROM shelf.items WHERE id % 4 = {p} % 4",
    "TRUNCATE shelf.items",
)
DESK_WRITES = (
    "INSERT INTO desk.sales (shop_id, person_id, amount) VALUES ({p} % 2, {p}, {n} * 0.125)",
    "INSERT INTO desk.sales (shop_id, person_id, amount) VALUES ({p} % 2, NULL, {n} * -0.5)",
    "INSERT INTO desk.sales (shop_id, person_id, amount) VALUES ({p} % 2, {p}, NULL)",
    "INSERT INTO desk.sales (shop_id, person_id, amount)"
    " SELECT i % 2, i % 3, i * 0.001 FROM generate_series({n}, {n} + 4) AS i",
    "INSERT INTO desk.refunds (shop_id, clerk_id, amount) VALUES ({p} % 2, {p}, {n} * 0.125)",
    "INSERT INTO desk.refunds (shop_id, clerk_id, amount) VALUES (NULL, {p}, {n})",
    "UPDATE desk.sales SET amount = amount + 0.001 WHERE id % 3 = {p} % 3",
    "UPDATE desk.sales SET person_id = nullif({p}, 2) WHERE id % 3 = {p} % 3",
    "UPDATE desk.sales SET is_void = NOT is_void WHERE id % 5 = {p}",
    "UPDATE desk.sales SET shop_id = 1 - shop_id WHERE id = (SELECT max(id) FROM desk.sales)",
    "UPDATE desk.refunds SET shop_id = nullif({p} % 3, 2) WHERE id % 2 = {p} % 2",
    "DELETE FROM desk.sales WHERE id % 4 = {p} % 4",
    "DELETE FROM desk.refunds WHERE clerk_id = {p}",
    "TRUNCATE desk.refunds",
)

MART_WRITES = (
    "INSERT INTO mart.orders VALUES ({n}, {p} % 3 + {t}) ON CONFLICT (id) DO UPDATE"
    " SET shop_id = excluded.shop_id",
    "INSERT INTO mart.orders SELECT i, i % 7 FROM generate_series({n}, {n} + 7) AS i"
    " ON CONFLICT DO NOTHING",
    "INSERT INTO mart.order_lines VALUES ({n}, {t}, {p}) ON CONFLICT (order_id, item_id)"
    " DO UPDATE SET pieces = excluded.pieces",
    "INSERT INTO mart.order_lines SELECT id, {t}, {p} FROM mart.orders ON CONFLICT DO NOTHING",
    "INSERT INTO mart.order_lines SELECT {n}, i, {p} FROM generate_series(0, 6) AS i"
    " ON CONFLICT DO NOTHING",
    "INSERT INTO mart.listed SELECT i FROM generate_series(0, 7) AS i ON CONFLICT DO NOTHING",
    "INSERT INTO mart.listed VALUES ({t}) ON CONFLICT DO NOTHING",
    "INSERT INTO mart.listed VALUES ({t}), ({t} + 1) ON CONFLICT DO NOTHING",
    "UPDATE mart.orders SET shop_id = (shop_id + 1) % 7 WHERE id % 3 = {p} % 3",
    "UPDATE mart.orders SET id = (SELECT max(id) + 1 FROM mart.orders) WHERE id = {n}",
    "UPDATE mart.order_lines SET pieces = pieces + {p} - 1 WHERE order_id % 3 = {p} % 3",
    "UPDATE mart.order_lines AS l SET item_id = item_id + 5 WHERE item_id = {t} AND order_id < {n}"
    " AND NOT EXISTS (SELECT FROM mart.order_lines WHERE item_id = {t} + 5"
    " AND order_id = l.order_id)",
    "UPDATE mart.order_lines SET order_id = {n} WHERE item_id = {t} AND order_id = {p}"
    " AND NOT EXISTS (SELECT FROM mart.order_lines WHERE item_id = {t} AND order_id = {n})",
    "UPDATE mart.listed SET item_id = item_id + 5 WHERE item_id = {t}"
    " AND NOT EXISTS (SELECT FROM mart.listed WHERE item_id = {t} + 5)",
    "DELETE FROM mart.listed WHERE item_id = {t}",
    "DELETE FROM mart.orders WHERE id % 7 = {p}",
    "DELETE FROM mart.order_lines WHERE item_id % 5 = {t} AND order_id % 2 = {p} % 2",
    "TRUNCATE mart.listed",
)


def written(template: str, rng: random.Random) -> str:
    """The statement with a number, a tag and a person drawn anew."""
    return template.format(n=rng.randrange(12), t=rng.randrange(5), p=rng.randrange(4))
