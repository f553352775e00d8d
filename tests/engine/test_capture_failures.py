"""No write of an application fails for what capture cannot do: the tally becomes stale instead."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Engine,
    Identity,
    Integer,
    MetaData,
    Table,
    Text,
    cast,
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
    install,
    refresh,
    status,
    verify,
)
from tallykeeper.declarations.expression_risks import may_raise
from tallykeeper.faults import incidents
from tests.integration.support import create, execute, rows, scalar, stale_reasons

metadata = MetaData(schema="shop")
sales = Table(
    "sales",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("amount", Integer),
    Column("big", BigInteger, nullable=False, server_default="0"),
    Column("customer", Text, nullable=False, server_default="x"),
)
days = Table(
    "days",
    metadata,
    Column("day", DateTime(timezone=True), primary_key=True),
    Column("sales", BigInteger, nullable=False),
    Column("amount", BigInteger, nullable=False),
)
best = Table(
    "best",
    metadata,
    Column("customer", Text, primary_key=True),
    Column("amount", Integer),
)
sums = Table(
    "sums",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("sales", BigInteger, nullable=False),
    Column("big", BigInteger, nullable=False),
)


def best_of(scope: KeyFilter) -> object:
    return (
        select(sales.c.customer, func.max(sales.c.amount).label("amount"))
        .where(*scope(customer=sales.c.customer))
        .group_by(sales.c.customer)
    )


_day = func.date_trunc("day", sales.c.at, "UTC").label("day")
by_day = SelectTally(
    "shop.days",
    select=select(
        _day,
        func.count().label("sales"),
        func.coalesce(func.sum(sales.c.amount, type_=BigInteger), 0).label("amount"),
    ).group_by(_day),
    table=days,
)
best_sales = RecomputedTally(
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
    aggregate=best_of,  # type: ignore[arg-type]
)
shop = System("shop", metadata, [by_day, best_sales])
# Its key is a cast that fails for most texts, and its sums may be too large for the log.
_number: Label[Any] = cast(sales.c.customer, Integer).label("number")
by_number = SelectTally(
    "shop.sums",
    select=select(
        _number,
        func.count().label("sales"),
        cast(func.sum(sales.c.big), BigInteger).label("big"),
    ).group_by(_number),
    table=sums,
)
TALLIES = (by_day, best_sales)
INSERT = "INSERT INTO shop.sales (at, amount, customer) VALUES ('2024-05-01 12:00Z', 3, 'ann')"
LIVE_DAYS = "SELECT to_char(day AT TIME ZONE 'UTC', 'MM-DD'), sales, amount FROM shop.days_live"
LIVE_BEST = "SELECT customer, amount FROM shop.best_live"


@pytest.fixture
def built(any_postgres_engine: Engine) -> Engine:
    return _built(any_postgres_engine)


def _built(engine: Engine) -> Engine:
    create(engine, shop)
    execute(engine, INSERT)
    for tally in TALLIES:
        refresh(engine, tally)
        assert verify(engine, tally).ok
    # A session that has its plans already is the one that would fail.
    execute(engine, INSERT, "UPDATE shop.sales SET amount = 4 WHERE id = 1")
    return engine


def test_a_column_renamed_and_back_again_fails_no_write(built: Engine) -> None:
    with built.connect() as connection:
        for statement in (
            INSERT,
            "ALTER TABLE shop.sales RENAME COLUMN amount TO cents",
            INSERT.replace("amount", "cents"),
            "UPDATE shop.sales SET cents = 5 WHERE id = 1",
            "UPDATE shop.sales SET cents = cents + 1",
            "DELETE FROM shop.sales WHERE id = 2",
        ):
            connection.exec_driver_sql(statement)
            connection.commit()
    for tally in TALLIES:
        for reason in stale_reasons(built, tally.name):
            assert reason.startswith("capture of shop.sales failed: column "), reason
            assert reason.endswith("amount does not exist"), reason
        assert stale_reasons(built, tally.name)
    execute(built, "ALTER TABLE shop.sales RENAME COLUMN cents TO amount")
    marks = scalar(built, "SELECT count(*) FROM tallykeeper.stale_marks")
    execute(built, INSERT, "UPDATE shop.sales SET amount = 9 WHERE id = 1")
    assert scalar(built, "SELECT count(*) FROM tallykeeper.stale_marks") == marks
    for tally in TALLIES:
        assert refresh(built, tally).how == "rebuild"
        assert verify(built, tally).ok
    assert rows(built, LIVE_DAYS) == [("05-01", 4, 20)]
    with built.begin() as connection:
        found = {(i.subject, i.kind, i.is_open) for i in incidents.listed(connection)}
    assert found == {(t.name, "stale", False) for t in TALLIES}


# PostgreSQL changes no type of a column that a view reads.
UNREAD = "DROP VIEW tallykeeper.shop_days_definition CASCADE"
ALTERATIONS = {
    "dropped": "ALTER TABLE shop.sales DROP COLUMN amount CASCADE",
    "dropped and added with another type": "ALTER TABLE shop.sales DROP COLUMN amount CASCADE,"
    " ADD COLUMN amount text",
    "of another type": f"{UNREAD}; ALTER TABLE shop.sales ALTER COLUMN amount TYPE text",
    "of a type without a maximum": f"{UNREAD}; ALTER TABLE shop.sales ALTER COLUMN amount TYPE json"
    " USING to_json(amount)",
    "the table renamed": "ALTER TABLE shop.sales RENAME TO sold; CREATE VIEW shop.sales AS"
    " SELECT * FROM shop.sold",
    "the table in another schema": "CREATE SCHEMA old; ALTER TABLE shop.sales SET SCHEMA old;"
    " CREATE VIEW shop.sales AS SELECT * FROM old.sales",
    "a log dropped": "DROP TABLE tallykeeper.shop_days_log CASCADE",
    "a log renamed": "ALTER TABLE tallykeeper.shop_best_log RENAME TO lost",
}


@pytest.mark.parametrize("how", ALTERATIONS)
def test_no_change_of_the_tables_fails_a_write(engine: Engine, how: str) -> None:
    _built(engine)
    before = {t: len(stale_reasons(engine, t.name)) for t in TALLIES}
    insert = "INSERT INTO shop.sales (at, customer) VALUES ('2024-05-01 13:00Z', 'ann')"
    every_event = (
        insert,
        "UPDATE shop.sales SET amount = 5",
        "DELETE FROM shop.sales WHERE id > 2",
    )
    with engine.connect() as connection:
        for statement in (
            # A session that ran a statement several times keeps its plan, and asks no more.
            *every_event * 8,
            insert,
            *ALTERATIONS[how].split("; "),
            insert,
            "UPDATE shop.sales SET customer = 'ben' WHERE id = 1",
            "UPDATE shop.sales SET customer = 'cid'",
            "DELETE FROM shop.sales WHERE id = 2",
            "DELETE FROM shop.sales",
        ):
            connection.exec_driver_sql(statement)
            connection.commit()
    marked = {t for t in TALLIES if len(stale_reasons(engine, t.name)) > before[t]}
    if how.startswith("the table"):
        assert not marked, "its rows are known by their names in the statement"
    elif how == "a log renamed":
        assert marked == {best_sales}
    elif "text" in ALTERATIONS[how]:
        # The text of a number is cast to the number: it is the declaration that does not fit.
        assert status(engine, by_day).faults
    else:
        assert by_day in marked


def test_a_transaction_with_an_older_snapshot_sees_the_change_too(engine: Engine) -> None:
    _built(engine)
    older = engine.connect().execution_options(isolation_level="REPEATABLE READ")
    with older as connection:
        connection.exec_driver_sql("SELECT count(*) FROM pg_class")
        execute(engine, "ALTER TABLE shop.sales RENAME COLUMN amount TO cents")
        connection.exec_driver_sql(INSERT.replace("amount", "cents"))
        connection.commit()
    assert stale_reasons(engine, by_day.name)
    execute(engine, "ALTER TABLE shop.sales RENAME COLUMN cents TO amount")
    refresh(engine, by_day)
    assert verify(engine, by_day).ok


def test_a_wider_column_overflows_no_log(engine: Engine) -> None:
    """Of a column that was an integer when it was declared, and is larger now."""
    _built(engine)
    execute(engine, UNREAD, "ALTER TABLE shop.sales ALTER COLUMN amount TYPE bigint")
    execute(engine, INSERT, INSERT.replace("3,", "3000000000,"))
    assert stale_reasons(engine, by_day.name) == []
    logged = "SELECT sum(sales), sum(amount) FROM tallykeeper.shop_days_log"
    assert rows(engine, logged) == [(3, 7 + 3_000_000_000)]


def test_a_value_that_no_expression_can_compute_fails_no_write(built: Engine) -> None:
    sums.create(built, checkfirst=True)
    odd = System("shop", metadata, [*TALLIES, by_number])
    try:
        execute(built, "UPDATE shop.sales SET customer = '7'")
        with built.begin() as connection:
            install(connection, odd.tallies)
        for tally in odd.tallies:
            refresh(built, tally)
        execute(built, INSERT.replace("ann", "8"), INSERT)
        assert stale_reasons(built, by_number.name) == [
            "capture of shop.sales failed: SQLSTATE 22P02"
        ]
        for tally in TALLIES:
            assert not stale_reasons(built, tally.name), "one tally's fault is no other's"
            assert verify(built, tally).ok
        execute(built, "UPDATE shop.sales SET customer = '9' WHERE customer = 'ann'")
        execute(built, "UPDATE shop.sales SET customer = 'ann' WHERE customer = '9'")
        execute(built, "DELETE FROM shop.sales WHERE customer = 'ann'")
        assert refresh(built, by_number).how == "rebuild"
        assert verify(built, by_number).ok
        most = 2**63 - 1
        values = ", ".join([f"('2024-05-01 12:00Z', {most}, '1')"] * 2)
        execute(built, f"INSERT INTO shop.sales (at, big, customer) VALUES {values}")
        assert stale_reasons(built, by_number.name) == [
            "capture of shop.sales failed: SQLSTATE 22003"
        ]
    finally:
        for tally in TALLIES:
            tally.siblings = shop.tallies


def test_what_could_raise_is_known_and_what_is_plain_is_not_mistaken_for_it() -> None:
    risky = (
        cast(sales.c.customer, Integer),
        sales.c.amount / 2,
        sales.c.amount + 1,
        func.sqrt(sales.c.amount),
        func.shop.own(sales.c.amount),
        func.coalesce(cast(sales.c.customer, Integer), 0),
        sales.c.customer.like("x\\"),
    )
    plain = (
        1,
        None,
        sales.c.amount,
        func.coalesce(sales.c.amount, 0),
        (sales.c.amount > 3) & sales.c.customer.in_(["a", "b"]),
        cast(sales.c.amount, BigInteger),
        cast(sales.c.amount, Text),
        func.date_trunc("day", sales.c.at, "UTC"),
    )
    assert all(may_raise(expression) for expression in risky)
    assert not any(may_raise(expression) for expression in plain)
    assert not any(t.may_raise(s) for t in TALLIES for s in t.sources)
