"""A SELECT over tables of other names: the same text, but for what the tables are called."""

from __future__ import annotations

import pytest

from tallykeeper.errors import DeclarationError
from tallykeeper.places.renaming import name_of, renamed

NAMES = {
    ("shop", "orders"): ("shop", "orders_102008"),
    ("shop", "Order Lines"): ("elsewhere", "Lines 1"),
}


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (
            "SELECT orders.id FROM shop.orders",
            "SELECT orders.id FROM shop.orders_102008 AS orders",
        ),
        ("SELECT o.id FROM Shop.ORDERS AS o", "SELECT o.id FROM shop.orders_102008 AS o"),
        ("SELECT o.id FROM shop.orders o", "SELECT o.id FROM shop.orders_102008 o"),
        (
            "SELECT shop.orders.id, 'shop.orders' FROM shop.orders -- of shop.orders",
            "SELECT orders.id, 'shop.orders' FROM shop.orders_102008 AS orders -- of shop.orders",
        ),
        (
            'SELECT "Order Lines".id FROM "shop"."Order Lines"',
            'SELECT "Order Lines".id FROM elsewhere."Lines 1" AS "Order Lines"',
        ),
        (
            "WITH orders AS (SELECT id FROM shop.orders) SELECT id FROM orders",
            "WITH orders AS (SELECT id FROM shop.orders_102008 AS orders) SELECT id FROM orders",
        ),
        (
            "SELECT id FROM shop.other WHERE EXISTS (SELECT 1 FROM shop.orders WHERE a = b)",
            "SELECT id FROM shop.other WHERE EXISTS"
            " (SELECT 1 FROM shop.orders_102008 AS orders WHERE a = b)",
        ),
        (
            "SELECT sum(é) FROM shop.orders AS é, shop.orders AS b",
            "SELECT sum(é) FROM shop.orders_102008 AS é, shop.orders_102008 AS b",
        ),
    ],
)
def test_tables_are_called_otherwise_and_nothing_else_changes(written: str, expected: str) -> None:
    assert renamed(written, NAMES) == expected


def test_without_other_names_the_text_is_the_same() -> None:
    assert renamed("SELECT anything at all", {}) == "SELECT anything at all"


def test_a_table_without_its_schema_is_refused() -> None:
    with pytest.raises(DeclarationError, match="names the table 'orders' without its schema"):
        renamed("SELECT id FROM orders", NAMES)


def test_a_text_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(DeclarationError, match="cannot be read"):
        renamed("SELECT FROM FROM shop.orders WHERE (", NAMES)


@pytest.mark.parametrize("written", ["orders", "a.b.c", ".orders", "shop."])
def test_a_name_needs_schema_and_table(written: str) -> None:
    with pytest.raises(DeclarationError, match="expected a table as schema"):
        name_of(written)
