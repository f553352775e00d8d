"""A shop whose declarations change: sales, added up and recomputed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import (
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
    select,
)

from tallykeeper import Capture, KeyFilter, RecomputedTally, SelectTally, System

TYPES: dict[str, Any] = {
    "customer": Text(),
    "product": Integer(),
    "lines": BigInteger(),
    "units": BigInteger(),
    "cents": BigInteger(),
    "latest": DateTime(timezone=True),
}
Values = Callable[[Any], dict[str, Any]]


def sources(metadata: MetaData) -> Table:
    """The one table that the shop writes."""
    return Table(
        "sales",
        metadata,
        Column("id", BigInteger, primary_key=True),
        Column("at", DateTime(timezone=True), nullable=False),
        Column("customer", Text, nullable=False),
        Column("product", Integer, nullable=False),
        Column("units", BigInteger, nullable=False),
    )


def derived(metadata: MetaData, name: str, key: Sequence[str], measures: Sequence[str]) -> Table:
    """A derived table of these columns."""
    columns = [Column(n, TYPES[n], primary_key=True) for n in key]
    return Table(name, metadata, *columns, *(Column(n, TYPES[n], nullable=False) for n in measures))


def stock(
    key: Sequence[str] = ("customer",),
    measures: Sequence[str] = ("lines", "units"),
    derived_types: dict[str, Any] | None = None,
) -> System:
    """A system with a tally of sums, `shop.stock`, of these columns."""
    metadata = MetaData(schema="shop")
    sales = sources(metadata)
    table = derived(metadata, "stock", key, measures)
    for name, type_ in (derived_types or {}).items():
        table.c[name].type = type_
    values = {
        "lines": func.count(),
        "units": func.sum(sales.c.units),
        "cents": func.sum(sales.c.id),
    }
    keys = [sales.c[n] for n in key]
    sums = [cast(values[n], table.c[n].type).label(n) for n in measures]
    tally = SelectTally("shop.stock", select=select(*keys, *sums).group_by(*keys), table=table)
    return System("shop", metadata, [tally])


def latest(
    key: Sequence[str] = ("customer",), measures: Sequence[str] = ("latest",), counted: bool = False
) -> System:
    """A system with a recomputed tally `shop.latest`, and a count of its rows if `counted`."""
    metadata = MetaData(schema="shop")
    sales = sources(metadata)
    found = {
        "latest": func.max(sales.c.at).label("latest"),
        "units": func.sum(sales.c.units).label("units"),
    }

    def aggregate(scope: KeyFilter) -> Select[Any]:
        keys = [sales.c[n] for n in key]
        chosen = select(*keys, *(found[n] for n in measures))
        return chosen.where(*scope(**{n: sales.c[n] for n in key})).group_by(*keys)

    tally = RecomputedTally(
        system="shop",
        table=derived(metadata, "latest", key, measures),
        key=key,
        measures=measures,
        captures=[Capture(sales, key=lambda row: {n: row[n] for n in key})],
        aggregate=aggregate,
    )
    if not counted:
        return System("shop", metadata, [tally])
    customers = derived(metadata, "customers", ("customer",), ("lines",))
    counting = SelectTally(
        "shop.customers",
        select=select(tally.table.c.customer, func.count().label("lines")).group_by(
            tally.table.c.customer
        ),
        table=customers,
    )
    return System("shop", metadata, [tally, counting])
