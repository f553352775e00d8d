"""`tallykeeper.Tally` declares a tally by one SELECT, as text or as SQLAlchemy's."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, Text, func, select

import tallykeeper
from tallykeeper import DeclarationError, SelectTally, System

declare: Any = tallykeeper.Tally
orders = Table("orders", MetaData(), Column("id", Integer), Column("country", Text), schema="shop")
COUNTED = select(orders.c.country, func.count().label("orders")).group_by(orders.c.country)


@pytest.mark.parametrize(
    "given", [COUNTED, "SELECT country, count(*) AS orders FROM shop.orders GROUP BY country;"]
)
def test_a_tally_is_declared_by_a_select_alone(given: Any) -> None:
    tally = declare("shop.per_country", select=given, description="Orders.")
    assert isinstance(tally, SelectTally)
    assert (tally.name, tally.key, tally.measures) == (
        "shop.per_country",
        ("country",),
        ("orders",),
    )
    assert [str(source) for source in tally.sources] == ["shop.orders"]
    assert System("shop", MetaData(), [tally]).tallies == (tally,)


def test_a_misspelt_argument_is_named() -> None:
    with pytest.raises(DeclarationError, match=r"shop.a: .* no argument 'selct'; did you mean"):
        declare("shop.a", selct="SELECT 1")
