"""Derived rows that are written past the engine: by foreign keys, by hand, inside triggers."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import (
    BigInteger,
    Column,
    Engine,
    ForeignKey,
    Integer,
    MetaData,
    Select,
    Table,
    UniqueConstraint,
    func,
    select,
)

from assets.gallery.tallies import content_tags
from assets.gallery.tallies import system as gallery
from tallykeeper import (
    Capture,
    KeyFilter,
    RecomputedTally,
    SelectTally,
    System,
    refresh,
    status,
    verify,
)
from tests.integration.support import create, execute, rows, scalar, stale_reasons

metadata = MetaData(schema="shop")


def to_customer() -> ForeignKey:
    return ForeignKey("shop.customers.id", ondelete="SET NULL", onupdate="CASCADE")


customers = Table(
    "customers", metadata, Column("id", Integer, primary_key=True, autoincrement=False)
)
sales = Table(
    "sales",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=True),
    Column("customer", to_customer()),
    Column("amount", Integer, nullable=False),
)


def by_customer(name: str, *measures: Column[Any]) -> Table:
    """A derived table whose key refers to a table, and may be null."""
    return Table(
        name,
        metadata,
        Column("customer", Integer, to_customer()),
        *measures,
        UniqueConstraint("customer", postgresql_nulls_not_distinct=True),
    )


sums = by_customer("sums", Column("sales", BigInteger), Column("amount", BigInteger))
best = by_customer("best", Column("amount", Integer))


def best_of(scope: KeyFilter) -> Select[Any]:
    return (
        select(sales.c.customer, func.max(sales.c.amount).label("amount"))
        .where(*scope(customer=sales.c.customer))
        .group_by(sales.c.customer)
    )


sums_tally = SelectTally(
    "shop.sums",
    select=select(
        sales.c.customer,
        func.count().label("sales"),
        func.sum(sales.c.amount, type_=BigInteger).label("amount"),
    ).group_by(sales.c.customer),
    table=sums,
)
best_tally = RecomputedTally(
    system="shop",
    table=best,
    key=["customer"],
    measures=["amount"],
    captures=[
        Capture(
            sales,
            entity=lambda sale: {"sale_id": sale.id},
            key=lambda sale: {"customer": sale.customer},
        )
    ],
    aggregate=best_of,
)
shop = System("shop", metadata, [sums_tally, best_tally])
TALLIES = (sums_tally, best_tally)
SUMS = "SELECT customer, sales, amount FROM shop.sums_live ORDER BY customer"
BEST = "SELECT customer, amount FROM shop.best_live ORDER BY customer"


@pytest.fixture
def built(engine: Engine) -> Engine:
    create(engine, shop)
    execute(
        engine,
        "INSERT INTO shop.customers SELECT generate_series(1, 5)",
        "INSERT INTO shop.sales (customer, amount) VALUES (1, 10), (2, 20), (2, 21), (3, 30)",
    )
    settle(engine)
    return engine


def settle(engine: Engine) -> None:
    for tally in TALLIES:
        refresh(engine, tally)
        assert verify(engine, tally).ok, tally
        assert status(engine, tally).rows == scalar(engine, f"SELECT count(*) FROM {tally.table}")


def expect(engine: Engine, sums_of: list[Any], best_of_each: list[Any]) -> None:
    """Live at once, after the next refresh, and after one more."""
    for _ in range(2):
        assert rows(engine, SUMS) == sums_of
        assert rows(engine, BEST) == best_of_each
        settle(engine)


def test_a_key_that_is_renamed_takes_its_derived_rows_along(built: Engine) -> None:
    execute(built, "UPDATE shop.customers SET id = id + 100 WHERE id <= 2")
    expect(
        built,
        [(3, 1, 30), (101, 1, 10), (102, 2, 41)],
        [(3, 30), (101, 10), (102, 21)],
    )
    with_changes = "INSERT INTO shop.sales (customer, amount) VALUES (101, 7), (3, 70)"
    execute(built, with_changes, "UPDATE shop.customers SET id = 4000 WHERE id = 3")
    assert not any(stale_reasons(built, t.name) for t in TALLIES)
    expect(
        built,
        [(101, 2, 17), (102, 2, 41), (4000, 2, 100)],
        [(101, 10), (102, 21), (4000, 70)],
    )


def test_a_key_that_is_set_null_leaves_the_rows_to_nobody(built: Engine) -> None:
    execute(built, "DELETE FROM shop.customers WHERE id = 2")
    expect(
        built,
        [(1, 1, 10), (3, 1, 30), (None, 2, 41)],
        [(1, 10), (3, 30), (None, 21)],
    )


def with_action(engine: Engine, action: str, *tables: str) -> None:
    """Let the foreign keys of the database do something else than the declarations say."""
    for table in tables:
        execute(
            engine,
            f"ALTER TABLE shop.{table} DROP CONSTRAINT {table}_customer_fkey,"
            f" ALTER customer SET DEFAULT 5,"
            f" ADD FOREIGN KEY (customer) REFERENCES shop.customers {action}",
        )


def test_a_key_that_is_set_to_its_default(built: Engine) -> None:
    with_action(built, "ON DELETE SET DEFAULT", "sales", "sums", "best")
    execute(built, "DELETE FROM shop.customers WHERE id = 2")
    expect(built, [(1, 1, 10), (3, 1, 30), (5, 2, 41)], [(1, 10), (3, 30), (5, 21)])


def test_rows_deleted_by_a_foreign_key_that_no_declaration_names(built: Engine) -> None:
    with_action(built, "ON DELETE CASCADE", "sums", "best")
    execute(built, "DELETE FROM shop.customers WHERE id = 2")
    for tally in TALLIES:
        (reason,) = stale_reasons(built, tally.name)
        assert reason == f"edited by hand: a foreign key changed rows of {tally.table}"
    expect(
        built,
        [(1, 1, 10), (3, 1, 30), (None, 2, 41)],
        [(1, 10), (3, 30), (None, 21)],
    )


def test_a_deletion_deferred_to_the_commit_and_one_inside_a_trigger(built: Engine) -> None:
    execute(
        built,
        "CREATE TABLE shop.orders (customer integer)",
        "CREATE FUNCTION shop.follow() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN UPDATE shop.customers SET id = id + 50 WHERE id = NEW.customer; RETURN NULL; END'",
        "CREATE TRIGGER follow AFTER INSERT ON shop.orders FOR EACH ROW"
        " EXECUTE FUNCTION shop.follow()",
        "CREATE TABLE shop.more (customer integer)",
        "CREATE FUNCTION shop.further() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN INSERT INTO shop.orders VALUES (NEW.customer); RETURN NULL; END'",
        "CREATE TRIGGER further AFTER INSERT ON shop.more FOR EACH ROW"
        " EXECUTE FUNCTION shop.further()",
        "INSERT INTO shop.orders VALUES (1)",
        "INSERT INTO shop.more VALUES (2)",
    )
    assert not any(stale_reasons(built, t.name) for t in TALLIES)
    expect(built, [(3, 1, 30), (51, 1, 10), (52, 2, 41)], [(3, 30), (51, 10), (52, 21)])


EDITS = (
    "UPDATE shop.{0} SET amount = 7 WHERE customer = 1",
    "UPDATE shop.{0} SET customer = 4 WHERE customer = 1",
    "DELETE FROM shop.{0}",
    "INSERT INTO shop.{0} (customer, amount) VALUES (4, 1)",
    "TRUNCATE shop.{0}",
)


def test_edits_inside_triggers_and_under_a_leftover_setting_are_noted(built: Engine) -> None:
    right = ([(1, 1, 10), (2, 2, 41), (3, 1, 30)], [(1, 10), (2, 21), (3, 30)])
    execute(built, "CREATE TABLE shop.calls (statement text)", "CREATE TABLE shop.outer (s text)")
    execute(
        built,
        "CREATE FUNCTION shop.run() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN EXECUTE NEW.statement; RETURN NULL; END'",
        "CREATE TRIGGER run AFTER INSERT ON shop.calls FOR EACH ROW EXECUTE FUNCTION shop.run()",
        "CREATE FUNCTION shop.run_later() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN INSERT INTO shop.calls VALUES (NEW.s); RETURN NULL; END'",
        "CREATE TRIGGER run AFTER INSERT ON shop.outer FOR EACH ROW"
        " EXECUTE FUNCTION shop.run_later()",
    )
    for tally in TALLIES:
        for template in EDITS:
            edit = template.format(tally.table.name)
            for way in (
                (edit,),
                (f"INSERT INTO shop.calls VALUES ('{edit}')",),
                (f"INSERT INTO shop.outer VALUES ('{edit}')",),
                ("SET LOCAL tallykeeper.writing = 'on'", edit),
                ("SET LOCAL tallykeeper.transaction = '1 2'", edit),
            ):
                execute(built, *way)
                (reason,) = stale_reasons(built, tally.name)
                assert reason.startswith(f"edited by hand: {edit.split()[0]} by "), way
                assert (rows(built, SUMS), rows(built, BEST)) == right, way
                assert refresh(built, tally).how == "rebuild"
    expect(built, *right)


@pytest.mark.parametrize("edit", ["DELETE FROM {}", "TRUNCATE {}", "UPDATE {} SET customer = 3"])
def test_a_change_log_changed_by_hand_makes_its_tally_stale(built: Engine, edit: str) -> None:
    execute(built, "INSERT INTO shop.sales (customer, amount) VALUES (4, 40)")
    for tally in TALLIES:
        execute(built, edit.format(tally.log_name))
        (reason,) = stale_reasons(built, tally.name)
        operation = edit.split(maxsplit=1)[0]
        assert reason.startswith(f"edited by hand: {operation} of its change log by "), reason
    expect(
        built,
        [(1, 1, 10), (2, 2, 41), (3, 1, 30), (4, 1, 40)],
        [(1, 10), (2, 21), (3, 30), (4, 40)],
    )


def test_of_a_table_that_is_built_in_batches_the_keys_edited_are_pending(engine: Engine) -> None:
    create(engine, gallery)
    execute(
        engine,
        "INSERT INTO gallery.users (username) VALUES ('ann')",
        "INSERT INTO gallery.tags (name) VALUES ('a'), ('b'), ('c')",
        "INSERT INTO gallery.content_items (creator_id, tags)"
        " SELECT u.id, ARRAY(SELECT id FROM gallery.tags ORDER BY id) FROM gallery.users AS u,"
        " generate_series(1, 4)",
    )
    for tally in gallery.tallies:
        refresh(engine, tally)
    live = (
        "SELECT content_id, tag_id FROM gallery.content_tags_live ORDER BY 1, 2",
        "SELECT tag_id, cardinality FROM gallery.tag_cardinality_stats_live ORDER BY 1",
    )
    before = [rows(engine, query) for query in live]
    for edit in (
        "DELETE FROM gallery.content_tags WHERE content_id = 1",
        "UPDATE gallery.content_tags SET content_id = 77 WHERE content_id = 2",
    ):
        execute(engine, edit)
        assert stale_reasons(engine, content_tags.name) == [], edit
        assert [rows(engine, query) for query in live] == before, edit
        assert scalar(engine, "SELECT count(*) FROM tallykeeper.hand_edits") == 1
        for tally in gallery.tallies:
            assert refresh(engine, tally).how == "refresh"
            assert verify(engine, tally).ok
    execute(
        engine, "INSERT INTO gallery.content_tags SELECT 9, 'auto', id FROM gallery.tags LIMIT 1"
    )
    (reason,) = stale_reasons(engine, content_tags.name)
    assert reason.startswith("edited by hand: INSERT by ")
    assert [rows(engine, query) for query in live] == before
