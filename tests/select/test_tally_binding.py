"""A SELECT's tally is bound from what the database stores of it, or is not used at all."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import (
    BigInteger,
    Column,
    Engine,
    Integer,
    MetaData,
    Numeric,
    Table,
    func,
    select,
)
from sqlalchemy.types import NullType

from tallykeeper import (
    Capture,
    DeclarationError,
    HasDependents,
    NotInstalled,
    RecomputedTally,
    SelectTally,
    System,
    TimeKey,
    audit,
    rebuild,
    rebuild_keys,
    refresh,
    status,
    verify,
)
from tallykeeper.installation.migrate import migrate
from tallykeeper.reads.exports import tally_frame
from tallykeeper.reads.grouping import grouped
from tallykeeper.reads.rows import tally_rows
from tallykeeper.select import plan
from tallykeeper.select.plan import Plan
from tests.integration.support import execute, rows, scalar
from tests.select.support import ORDERS, differences

SPENT = "SELECT customer_id, sum(cents) AS spent FROM shop.orders GROUP BY customer_id"
ADD = "INSERT INTO shop.orders (customer_id, cents) VALUES"


def shop(select: str = SPENT, **given: object) -> tuple[System, SelectTally]:
    """A system of one tally, known from its text alone."""
    tally = SelectTally("shop.spent", select=select, **given)  # type: ignore[arg-type]
    return System("shop", MetaData(), [tally]), tally


@pytest.fixture
def orders(engine: Engine) -> Engine:
    execute(engine, *ORDERS, f"{ADD} (1, 10), (1, 5), (2, 7.50), (NULL, 3)")
    return engine


def test_names_are_known_without_a_database() -> None:
    _, tally = shop(
        "SELECT date_trunc('day', o.at, 'UTC') AS day, l.product_id, count(*) AS n"
        " FROM shop.orders AS o JOIN shop.lines AS l ON l.order_id = o.id GROUP BY 1, 2"
    )
    assert tally.columns == ("day", "product_id", "n")
    assert tally.key == ("day", "product_id")
    assert tally.measures == ("n",)
    assert tally.time_key == TimeKey("day", "day")
    assert [str(source) for source in tally.sources] == ["shop.orders", "shop.lines"]
    assert str(tally.table) == "shop.spent"
    assert isinstance(tally.table.c.n.type, NullType)


def test_sources_are_the_tables_of_the_systems_metadata() -> None:
    first = SelectTally("shop.a", select=SPENT)
    second = SelectTally("shop.b", select=SPENT)
    metadata = MetaData()
    System("shop", metadata, [first, second])
    assert first.sources[0] is second.sources[0]
    assert first.sources[0].metadata is metadata
    assert first.table.metadata is metadata


def test_a_name_needs_a_system() -> None:
    with pytest.raises(DeclarationError, match=r"'spent' is no name of a tally"):
        SelectTally("spent", select=SPENT)


USES: dict[str, Callable[[Engine, SelectTally], object]] = {
    "refresh": refresh,
    "rebuild": rebuild,
    "rebuild_keys": lambda engine, tally: rebuild_keys(engine, tally, [{"customer_id": 1}]),
    "verify": verify,
    "audit": audit,
    "status": status,
    "rows": lambda engine, tally: tally_rows(engine.connect(), tally),
    "grouped": lambda engine, tally: grouped(engine.connect(), tally),
    "frame": lambda engine, tally: tally_frame(engine.connect(), tally),
}


@pytest.mark.parametrize("use", USES)
def test_nothing_works_on_a_tally_that_was_not_compiled(orders: Engine, use: str) -> None:
    system, _ = shop()
    migrate(orders, [system])
    execute(orders, "DELETE FROM tallykeeper.select_plans")
    _, tally = shop()
    with pytest.raises(NotInstalled, match="`tally migrate`"):
        USES[use](orders, tally)


@pytest.mark.parametrize("use", USES)
def test_nothing_works_on_a_tally_whose_select_changed(orders: Engine, use: str) -> None:
    system, _ = shop()
    migrate(orders, [system])
    _, tally = shop("SELECT customer_id, min(cents) AS spent FROM shop.orders GROUP BY 1")
    with pytest.raises(NotInstalled, match="`tally migrate`"):
        USES[use](orders, tally)


@pytest.mark.parametrize("use", USES)
def test_a_new_process_binds_it_from_the_database(orders: Engine, use: str) -> None:
    system, installed = shop()
    migrate(orders, [system])
    refresh(orders, installed)
    _, tally = shop()
    USES[use](orders, tally)
    assert tally.plan == installed.plan
    assert rows(orders, "SELECT customer_id, spent::text FROM shop.spent ORDER BY 1") == [
        (1, "15"),
        (2, "7.50"),
        (None, "3"),
    ]


CHANGED = {
    "a column more": "SELECT customer_id, sum(cents) AS spent, count(*) AS orders"
    " FROM shop.orders GROUP BY 1",
    "a column less": "SELECT customer_id FROM shop.orders GROUP BY 1",
    "another type": "SELECT customer_id, count(*) AS spent FROM shop.orders GROUP BY 1",
    "another key": "SELECT customer_id, note, sum(cents) AS spent FROM shop.orders GROUP BY 1, 2",
    "no key": "SELECT customer_id, cents AS spent FROM shop.orders",
    "one row": "SELECT sum(cents) AS spent FROM shop.orders",
    "other columns": "SELECT id, note FROM shop.orders",
    "another condition": f"{SPENT} HAVING sum(cents) > 8",
}


@pytest.mark.parametrize("what", CHANGED)
def test_another_select_takes_the_place_of_the_first_and_back(orders: Engine, what: str) -> None:
    for text in (SPENT, CHANGED[what], SPENT):
        system, tally = shop(text)
        migrate(orders, [system])
        execute(orders, f"{ADD} (3, 1)")
        assert differences(orders, tally, tally.live_name) == []
        refresh(orders, tally)
        execute(orders, f"{ADD} (1, 1), (4, 2)")
        assert differences(orders, tally, tally.live_name) == []
        refresh(orders, tally)
        assert differences(orders, tally, "shop.spent") == []
        assert verify(orders, tally).ok
    assert migrate(orders, [system]).done == []


def test_migrating_again_changes_nothing_and_drops_no_grant(orders: Engine) -> None:
    system, tally = shop()
    migrate(orders, [system])
    refresh(orders, tally)
    execute(orders, "GRANT SELECT ON shop.spent_live, shop.spent TO pg_monitor")
    before = rows(orders, "SELECT oid, relname, xmin FROM pg_class ORDER BY oid")
    system, tally = shop()
    assert migrate(orders, [system]).done == []
    assert rows(orders, "SELECT oid, relname, xmin FROM pg_class ORDER BY oid") == before
    system, tally = shop(CHANGED["a column more"])
    migrate(orders, [system])
    granted = "SELECT has_table_privilege('pg_monitor', '{}', 'SELECT')"
    assert scalar(orders, granted.format("shop.spent_live"))
    assert scalar(orders, granted.format("shop.spent"))


def test_what_others_built_on_it_is_not_dropped(orders: Engine) -> None:
    system, _ = shop()
    migrate(orders, [system])
    execute(orders, "CREATE VIEW public.mine AS SELECT spent FROM shop.spent")
    system, _ = shop(CHANGED["another type"])
    with pytest.raises(HasDependents, match=r"public\.mine"):
        migrate(orders, [system])
    assert scalar(orders, "SELECT count(*) FROM public.mine") == 0


def test_a_source_that_is_read_no_more_is_captured_no_more(orders: Engine) -> None:
    execute(
        orders,
        "CREATE TABLE shop.refunds (id bigint PRIMARY KEY, customer_id integer, cents numeric)",
    )
    of_both = (
        "SELECT b.customer_id, sum(b.cents) AS spent FROM (SELECT customer_id, cents FROM"
        " shop.orders UNION ALL SELECT customer_id, -cents FROM shop.refunds) AS b GROUP BY 1"
    )
    other = SelectTally("shop.others", select="SELECT count(*) AS n FROM shop.refunds")
    hooks = "SELECT count(*) FROM pg_trigger WHERE tgrelid = 'shop.refunds'::regclass"
    for beside in ([], [other]):
        tally = SelectTally("shop.spent", select=of_both)
        migrate(orders, [System("shop", MetaData(), [tally, *beside])])
        refresh(orders, tally)
        assert scalar(orders, hooks) == 4
        tally = SelectTally("shop.spent", select=SPENT)
        migrate(orders, [System("shop", MetaData(), [tally, *beside])])
        refresh(orders, tally)
        assert scalar(orders, hooks) == (4 if beside else 0)
        execute(orders, "INSERT INTO shop.refunds VALUES (1, 1, 2)", "TRUNCATE shop.refunds")
        assert status(orders, tally).stale == ()
        assert verify(orders, tally).ok
        assert migrate(orders, [System("shop", MetaData(), [tally, *beside])]).done == []


def test_another_tally_of_the_system_is_adopted_without_the_select(orders: Engine) -> None:
    def system(*measures: str) -> tuple[System, SelectTally]:
        spent = SelectTally("shop.spent", select=SPENT)
        metadata = MetaData(schema="shop")
        source = Table(
            "orders",
            metadata,
            Column("id", BigInteger, primary_key=True),
            Column("customer_id", Integer),
            Column("cents", Numeric),
        )
        counts = Table(
            "counts",
            metadata,
            Column("customer_id", Integer, primary_key=True),
            Column("n", BigInteger, nullable=False),
            Column("ids", BigInteger, nullable=False),
        )
        amounts = {"n": func.count().label("n"), "ids": func.sum(source.c.id).label("ids")}
        found = select(source.c.customer_id, *(amounts[name] for name in measures))
        found = found.where(source.c.customer_id.is_not(None))
        counted = RecomputedTally(
            system="shop",
            table=counts,
            key=["customer_id"],
            measures=measures,
            captures=[Capture(source, key=lambda row: {"customer_id": row.customer_id})],
            aggregate=lambda scope: found.where(*scope(customer_id=source.c.customer_id)).group_by(
                source.c.customer_id
            ),
        )
        return System("shop", metadata, [counted, spent]), spent

    made, spent = system("n", "ids")
    migrate(orders, [made])
    refresh(orders, spent)
    execute(orders, "ALTER TABLE shop.counts ALTER COLUMN ids SET DEFAULT 0")
    made, spent = system("n")
    assert refresh(orders, made.tallies[0]).how == "rebuild"
    execute(orders, f"{ADD} (1, 1)")
    refresh(orders, spent)
    assert verify(orders, spent).ok
    assert verify(orders, made.tallies[0]).ok


def test_threads_bind_one_tally_at_once(orders: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    system, _ = shop()
    migrate(orders, [system])
    _, tally = shop()
    fill_table = SelectTally._fill_table

    def slowly(tally: SelectTally, plan: Plan) -> None:
        time.sleep(0.2)
        fill_table(tally, plan)

    monkeypatch.setattr(SelectTally, "_fill_table", slowly)

    def read() -> list[dict[str, object]]:
        with orders.connect() as connection:
            return tally_rows(connection, tally).rows

    with ThreadPoolExecutor(4) as pool:
        found = [each.result() for each in [pool.submit(read) for _ in range(4)]]
    assert [len(each) for each in found] == [3] * 4


def test_a_declared_table_numbers_equal_rows_only_where_the_plan_does() -> None:
    """One process may work on two databases, of which one's PostgreSQL prints the SELECT badly."""
    declared = Table(
        "spent",
        MetaData(schema="shop"),
        Column("customer_id", Integer, primary_key=True, autoincrement=False),
        Column("orders", BigInteger, nullable=False),
    )
    select = "SELECT customer_id, count(*) AS orders FROM shop.orders GROUP BY 1"
    tally = SelectTally("shop.spent", select=select, table=declared)
    columns = (plan.Column("customer_id", "integer"), plan.Column("orders", "bigint"))
    source = plan.CapturedSource(
        1,
        "shop",
        "orders",
        (plan.CapturedColumn("customer_id", "integer", "1.customer_id", False),),
    )
    keyed = plan.Plan(columns, ("customer_id",), False, "whole", (source,))
    numbered = plan.Plan(columns, ("customer_id", "orders"), True, "whole", (source,))
    for bound, more in ((numbered, ["tally_copy"]), (keyed, []), (numbered, ["tally_copy"])):
        tally.bind_to(bound, "")
        assert list(declared.c.keys()) == ["customer_id", "orders", *more]
