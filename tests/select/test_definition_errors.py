"""What is said where PostgreSQL or the engine refuses a SELECT, through `tally migrate`."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, MetaData

from tallykeeper.errors import DeclarationError
from tallykeeper.installation import select_plans
from tallykeeper.installation.migrate import migrate
from tallykeeper.select.tally import SelectTally
from tallykeeper.system import System


@pytest.fixture
def shop(engine: Engine) -> Engine:
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE SCHEMA shop; CREATE TABLE shop.orders"
            " (id int PRIMARY KEY, amount numeric(10, 2), placed_at timestamptz)"
        )
    installed = SelectTally("shop.n", select="SELECT count(*) AS n FROM shop.orders")
    migrate(engine, [System("shop", MetaData(), [installed])])
    return engine


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("SELECT id FROM shop.ordes", "did you mean shop.orders?"),
        ("SELECT id FROM shpo.orders", "did you mean shop.orders?"),
        ("SELECT id FROM orders", "did you mean shop.orders?"),
        ("SELECT o.amont FROM shop.orders AS o", "amount"),
        ("SELECT sum(amnt) FROM shop.orders", "did you mean amount?"),
        ("SELECT lowr(id::text) FROM shop.orders", "did you mean lower?"),
        ("SELECT lower(id) FROM shop.orders", "there is lower("),
        ("SELECT id,, amount FROM shop.orders", "syntax error"),
        ("SELECT id, amount AS id FROM shop.orders", 'column "id" specified more than once'),
        ("SELECT count(*), count(*) FROM shop.orders", 'column "count" specified more than once'),
        ("SELECT id, ROW(id, amount) AS r FROM shop.orders", "list the fields of the row"),
    ],
)
def test_a_name_that_is_not_there_is_said_with_one_that_is(
    shop: Engine, text: str, said: str
) -> None:
    tally = SelectTally("shop.days", select=text, place=lambda n: f"days.sql:{n}")
    with shop.begin() as connection, pytest.raises(DeclarationError) as caught:
        select_plans.prepare(connection, [tally])
    assert said in str(caught.value)
    assert str(caught.value).startswith("days.sql:")


def test_a_select_without_columns_is_refused(shop: Engine) -> None:
    tally = SelectTally("shop.days", select="SELECT FROM shop.orders")
    with shop.begin() as connection, pytest.raises(DeclarationError, match="returns no column"):
        select_plans.prepare(connection, [tally])


def test_what_is_refused_is_said_with_its_place(shop: Engine) -> None:
    text = "SELECT date_trunc('day', placed_at) AS day, count(*) FROM shop.orders GROUP BY 1"
    tally = SelectTally("shop.days", select=text, place=lambda n: f"days.sql:{n}")
    with shop.begin() as connection, pytest.raises(DeclarationError) as caught:
        select_plans.prepare(connection, [tally])
    assert str(caught.value) == (
        "days.sql:8: shop.days: date_trunc() depends on the time zone of the session;"
        " name the zone: date_trunc('day', placed_at, 'Europe/Berlin')"
    )
