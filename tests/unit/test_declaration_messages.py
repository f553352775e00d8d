"""A slip in a declaration is one sentence that names the tally, the column and what is right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Integer,
    MetaData,
    Table,
    Text,
    func,
    select,
    text,
)

from tallykeeper import (
    Capture,
    DeclarationError,
    RecomputedTally,
    TimeKey,
)
from tallykeeper.declarations.combining import SUM, Combine, Membership, sum_over_all_but

metadata = MetaData(schema="shop")
sales = Table(
    "sales",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("customer", Text, nullable=False),
    Column("units", Integer, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
)
prices = Table("prices", metadata, Column("customer", Text, primary_key=True))
stock = Table(
    "stock",
    metadata,
    Column("customer", Text, primary_key=True),
    Column("lines", BigInteger, nullable=False),
    Column("units", BigInteger, nullable=False),
)


def recomputed(**arguments: Any) -> RecomputedTally:
    chosen = select(sales.c.customer, func.count().label("lines"), func.sum(sales.c.units))
    declared: dict[str, Any] = {
        "system": "shop",
        "table": stock,
        "key": ["customer"],
        "measures": ["lines", "units"],
        "captures": [Capture(sales, key=lambda row: {"customer": row.customer})],
        "aggregate": lambda scope: chosen.where(*scope(customer=sales.c.customer)),
    }
    return RecomputedTally(**(declared | arguments))


def captured(value: Callable[[Any], Any]) -> RecomputedTally:
    """A tally whose capture has this for its key."""
    return recomputed(captures=[Capture(sales, key=lambda row: {"customer": value(row)})])


def named(*columns: str) -> Table:
    keys = [Column(n, Text, primary_key=True) for n in columns]
    measures = [Column(n, BigInteger, nullable=False) for n in ("lines", "units")]
    return Table("odd", MetaData(schema="shop"), *keys, *measures)


SLIPS: dict[str, tuple[Callable[[], object], str]] = {
    "a mistyped column by its name": (
        lambda: recomputed(captures=[Capture(sales, key=lambda row: {"customer": row["custom"]})]),
        "shop.stock: the key of the capture of shop.sales: there is no column 'custom'",
    ),
    "a mistyped column in a capture": (
        lambda: recomputed(captures=[Capture(sales, key=lambda row: {"customer": row.custom})]),
        "shop.stock: the key of the capture of shop.sales: there is no column 'custom'",
    ),
    "a column like no other": (
        lambda: recomputed(captures=[Capture(sales, key=lambda row: {"customer": row.xyz})]),
        "; there are id, customer, units, at",
    ),
    "a mistyped column of the derived table": (
        lambda: recomputed(key=["custome"]),
        "shop.stock: 'custome' is declared but is no column of the table; did you mean 'customer'?",
    ),
    "a sum within an expression": (
        lambda: captured(lambda row: func.coalesce(func.sum(row.units), 0)),
        "shop.stock: 'customer' in the key of the capture of shop.sales is an aggregate (sum), but"
        " it is asked of one row",
    ),
    "a window function": (
        lambda: captured(lambda row: func.row_number().over()),
        "is a window function",
    ),
    "a subquery": (
        lambda: captured(lambda row: select(prices.c.customer).scalar_subquery()),
        "shop.stock: 'customer' in the key of the capture of shop.sales reads another table",
    ),
    "a key that is no dict": (
        lambda: recomputed(captures=[Capture(sales, key=lambda row: row.customer)]),
        "must be a dict from column names to values, as in {'customer': row.customer}",
    ),
    "a key of columns instead of names": (
        lambda: recomputed(captures=[Capture(sales, key=lambda row: {row.customer: row.customer})]),
        "must be a dict from column names",
    ),
    "a table for a value": (
        lambda: captured(lambda row: sales),
        "must be a column, an expression or a plain value; it is the table shop.sales",
    ),
    "an aggregate that is text": (
        lambda: recomputed(aggregate=lambda scope: text("SELECT 1")),
        "shop.stock: `aggregate` must return a select(...) of the key and measures",
    ),
    "a mistyped column in an aggregate": (
        lambda: recomputed(aggregate=lambda scope: select(sales.c.custmer)),
        "shop.stock: the aggregate: there is no column 'custmer'; did you mean 'customer'?",
    ),
    "a scope of another column": (
        lambda: recomputed(
            aggregate=lambda scope: select(sales.c.customer).where(
                *scope(customers=sales.c.customer)
            )
        ),
        "calls scope(customers=...), which is no column of the group (customer); did you mean",
    ),
    "an aggregate without return": (
        lambda: recomputed(aggregate=lambda scope: None),
        "it returns None",
    ),
    "an argument that there is not": (
        lambda: recomputed(time_kye=TimeKey("at", "day")),
        "shop.stock: RecomputedTally has no argument 'time_kye'; did you mean 'time_key'?",
    ),
    "an argument of the other kind": (
        lambda: recomputed(formerly=["abc"]),
        "shop.stock: RecomputedTally has no argument 'formerly'",
    ),
    "a month": (
        lambda: recomputed(time_key=TimeKey("customer", "month")),
        "shop.stock: the time key's unit is 'month'; expected one of day, hour in UTC; others need"
        " a SELECT, or `partitions`",
    ),
    "a name of the log's in a group": (
        lambda: recomputed(
            table=named("part"),
            key=["part"],
            captures=[Capture(sales, key=lambda row: {"part": row.customer})],
            aggregate=lambda scope: select(
                sales.c.customer.label("part"), func.count().label("lines"), sales.c.units
            ),
        ),
        "shop.odd: the engine has a column 'part' of its own",
    ),
    "a measure to combine that there is not": (
        lambda: recomputed(combine={"unit": SUM}),
        "shop.stock: `combine` names 'unit', which is no measure; did you mean 'units'?",
    ),
    "a key column to keep apart that there is not": (
        lambda: recomputed(combine={"units": sum_over_all_but("custmer")}),
        "`combine` of 'units' names 'custmer', which is no column of the key (customer); did you",
    ),
    "another way to combine": (
        lambda: recomputed(combine={"units": Combine("mean")}),  # type: ignore[arg-type]
        "`combine` of 'units' is 'mean'; expected one of sum, max, attribute",
    ),
    "a membership in no column": (
        lambda: recomputed(memberships={"region": Membership(prices, "customer")}),
        "shop.stock: `memberships` names 'region', which is no column of shop.prices",
    ),
    "a membership by a column that the tally has not": (
        lambda: recomputed(memberships={"units": Membership(sales, "id")}),
        "shop.stock: `memberships` goes by 'id', which is no column of the table",
    ),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_named_in_a_sentence(slip: str) -> None:
    declare, sentence = SLIPS[slip]
    with pytest.raises(DeclarationError) as caught:
        declare()
    assert sentence in str(caught.value)


def test_a_right_declaration_is_accepted() -> None:
    assert (
        recomputed(
            aggregate=lambda scope: select(
                sales.c.customer,
                func.count().label("lines"),
                func.sum(sales.c.units).label("units"),
            ).group_by(sales.c.customer)
        ).name
        == "shop.stock"
    )


def test_what_has_nothing_to_do_with_columns_is_not_mistaken_for_a_slip() -> None:
    with pytest.raises(AttributeError, match="nothing"):
        captured(lambda row: object().nothing)  # type: ignore[attr-defined]
