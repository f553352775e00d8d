"""Event triggers mark tallies stale in the transaction of the DDL itself, and block no DDL.

The cases are those of the comparison (`test_dependencies.py`), so that the two agree on what
matters. Nothing here refreshes or asks for a status before it reads.
"""

from __future__ import annotations

from decimal import Decimal

import pytest
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from assets.media.tallies import system as media
from tallykeeper import install, refresh, status, verify
from tallykeeper.drift import dependencies, event_triggers, facts
from tallykeeper.drift.event_triggers import AUTO, OFF, REFUSE
from tallykeeper.installation.migrate import migrate
from tests.integration.support import execute, rows, scalar, stale_reasons
from tests.integration.test_dependencies import (
    CASES,
    HARMLESS,
    build,
    has_icu,
    ordered,
    returned,
    shop,
)
from tests.role_world import world_of

MARKS = "SELECT tally, reason FROM tallykeeper.stale_marks ORDER BY 1, 2"
# Noted by hand triggers alone, which the next comparison repairs without a rebuild; or nobody can
# read what would be wrong.
MARKED_TOO = {"note of manual writes lost", "live view renamed", "log with a column less"}
# Renamed away first: a session that reads in between must not read the old name's rows.
NOT_HARMLESS_BETWEEN = {"schema renamed and back"}


def keep(engine: Engine, wanted: str = AUTO) -> list[str]:
    with engine.begin() as connection:
        return event_triggers.keep(connection, wanted)


@pytest.fixture
def market(any_postgres_engine: Engine) -> Engine:
    build(any_postgres_engine)
    assert keep(any_postgres_engine) == []
    return any_postgres_engine


@pytest.fixture
def one_market(engine: Engine) -> Engine:
    build(engine)
    assert keep(engine) == []
    return engine


def marks(connection: Connection) -> list[tuple[str, str]]:
    return [tuple(row) for row in connection.exec_driver_sql(MARKS)]


def test_what_may_miss_changes_marks_at_once_and_what_matters_to_no_figure_does_not(
    market: Engine,
) -> None:
    wrong: dict[str, object] = {}
    with market.connect() as connection:
        icu = has_icu(connection)
        for name, (tally, statements, _, _) in CASES.items():
            if not icu and "icu" in statements[0]:
                continue
            for statement in statements:
                connection.exec_driver_sql(statement)
            marked = tally.name in {marked for marked, _ in marks(connection)}
            missed = any(d.missed for d in dependencies.drifts_of(connection, tally))
            if marked != (missed or name in MARKED_TOO):
                wrong[name] = (marked, missed)
            connection.rollback()
        assert wrong == {}
        for name, statements in HARMLESS.items():
            for statement in statements:
                connection.exec_driver_sql(statement)
            found = [] if name in NOT_HARMLESS_BETWEEN or name == "truncate" else marks(connection)
            if found:
                wrong[name] = found
            connection.rollback()
    assert wrong == {}


LIVE = "SELECT region, amount FROM shop.{}_live ORDER BY 1"
# What is done to the sources, what is done to its rows then, and what live reads have to show.
UNSEEN = {
    "rows of another type": (
        "ALTER TABLE shop.returns ALTER region TYPE text USING upper(region)",
        "SELECT 1",
        [("NORTH", 3), ("SOUTH", 4)],
    ),
    "trigger disabled": (
        "ALTER TABLE shop.returns DISABLE TRIGGER tallykeeper_delete",
        "DELETE FROM shop.returns WHERE id = 1",
        [("south", 4)],
    ),
    "all triggers disabled": (
        "ALTER TABLE shop.returns DISABLE TRIGGER ALL",
        "DELETE FROM shop.returns WHERE id = 1",
        [("south", 4)],
    ),
    "swapped": (
        "ALTER TABLE shop.returns RENAME TO returns_old; CREATE TABLE shop.returns"
        " (LIKE shop.returns_old INCLUDING ALL)",
        "INSERT INTO shop.returns (id, region, amount) VALUES (7, 'west', 1)",
        [("west", 2)],
    ),
    "function replaced": (
        "CREATE OR REPLACE FUNCTION shop.plain(text) RETURNS text LANGUAGE sql IMMUTABLE"
        " AS 'SELECT left($1, 1)'",
        "SELECT 1",
        [("n", 3), ("s", 4)],
    ),
}


@pytest.mark.parametrize("name", UNSEEN)
def test_live_reads_are_right_before_anything_compares(one_market: Engine, name: str) -> None:
    ddl, change, wanted = UNSEEN[name]
    execute(one_market, ddl, change)
    assert rows(one_market, LIVE.format("returned")) == [(r, Decimal(a)) for r, a in wanted]


def test_without_them_the_same_reads_are_wrong_until_something_compares(engine: Engine) -> None:
    build(engine)
    ddl, change, wanted = UNSEEN["trigger disabled"]
    execute(engine, ddl, change)
    assert rows(engine, LIVE.format("returned")) != [(r, Decimal(a)) for r, a in wanted]


def test_a_partition_that_leaves_or_comes_with_rows_is_counted_at_once(market: Engine) -> None:
    live = LIVE.format("ordered")
    with market.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        # Nothing is committed in between, so the default partition goes first.
        connection.exec_driver_sql(
            "ALTER TABLE shop.orders DETACH PARTITION shop.orders_1 CONCURRENTLY"
        )
    assert rows(market, live) == []
    assert refresh(market, ordered).how == "rebuild"
    execute(
        market,
        "CREATE TABLE shop.orders_3 (LIKE shop.orders_1 INCLUDING ALL)",
        "INSERT INTO shop.orders_3 (id, region, amount) VALUES (5, 'west', 1)",
        "ALTER TABLE shop.orders ATTACH PARTITION shop.orders_3 FOR VALUES FROM (0) TO (1000)",
    )
    assert rows(market, live) == [("west", 2)]


def test_types_of_columns_are_followed(one_market: Engine) -> None:
    execute(
        one_market,
        "CREATE TYPE shop.mood AS ENUM ('glad', 'sad')",
        "ALTER TABLE shop.returns ADD felt shop.mood[]",
    )
    with one_market.begin() as connection:
        # As if the declaration read the new column.
        connection.exec_driver_sql(
            "UPDATE tallykeeper.stands_on SET columns = columns || '{felt}' WHERE role = 'source'"
            " AND tally = 'shop.returned'"
        )
        facts.record(connection, [returned.name])
    execute(one_market, "ALTER TYPE shop.mood ADD VALUE 'calm'")
    assert rows(one_market, MARKS) == []
    execute(one_market, "ALTER TYPE shop.mood RENAME VALUE 'glad' TO 'happy'")
    assert stale_reasons(one_market, returned.name) == [
        "ALTER TYPE by postgres: shop.returns: the column felt changed"
    ]


def test_the_engines_own_work_leaves_no_mark(one_market: Engine) -> None:
    with one_market.begin() as connection:
        assert install(connection, shop.tallies) == []
    execute(
        one_market,
        "CREATE TABLE shop.orders_3 PARTITION OF shop.orders FOR VALUES FROM (3000) TO (4000)",
    )
    with one_market.begin() as connection:
        assert install(connection, shop.tallies)
    for tally in shop.tallies:
        refresh(one_market, tally)
        assert verify(one_market, tally).ok
    assert rows(one_market, MARKS) == []
    execute(
        one_market,
        "CREATE TEMPORARY TABLE mine ON COMMIT DROP AS SELECT 1 AS i",
        "CREATE TABLE shop.orders_9 PARTITION OF shop.orders FOR VALUES FROM (9000) TO (9999)",
        "ALTER TABLE shop.returns ADD note text, ADD CHECK (amount > -1)",
    )
    assert rows(one_market, MARKS) == []


def test_the_next_refresh_rebuilds_and_the_mark_ends(one_market: Engine) -> None:
    execute(one_market, "ALTER TABLE shop.returns ALTER region TYPE varchar(20)")
    assert stale_reasons(one_market, returned.name) == [
        "ALTER TABLE by postgres: shop.returns: the column region changed"
    ]
    assert stale_reasons(one_market, ordered.name) == []
    assert refresh(one_market, returned).how == "rebuild"
    assert rows(one_market, MARKS) == []
    assert refresh(one_market, returned).how == "refresh"
    assert status(one_market, returned).faults == ()


def test_nothing_that_breaks_them_blocks_a_command(one_market: Engine) -> None:
    execute(one_market, "ALTER TABLE tallykeeper.dependencies RENAME COLUMN facts TO fact")
    execute(one_market, "ALTER TABLE shop.returns ALTER region TYPE varchar(20)")
    execute(one_market, "DROP TABLE tallykeeper.dependencies")
    execute(one_market, "CREATE TABLE shop.another ()", "DROP TABLE shop.another")
    execute(one_market, "DROP SCHEMA tallykeeper CASCADE")
    execute(one_market, "CREATE TABLE shop.another ()", "DROP SCHEMA shop CASCADE")
    assert scalar(one_market, "SELECT count(*) FROM pg_event_trigger") == 0


def test_a_record_that_is_locked_is_not_waited_for(one_market: Engine) -> None:
    with one_market.connect() as other:
        other.exec_driver_sql("LOCK TABLE tallykeeper.dependencies IN ACCESS EXCLUSIVE MODE")
        execute(one_market, "CREATE TABLE shop.another ()")


def test_they_do_nothing_where_another_role_owns_what_they_write(one_market: Engine) -> None:
    """Its owner could hang a trigger on it, which would run as the superuser who owns them."""
    execute(one_market, "CREATE ROLE events_other")
    try:
        execute(one_market, "ALTER TABLE tallykeeper.stale_marks OWNER TO events_other")
        execute(one_market, "ALTER TABLE shop.returns ALTER region TYPE varchar(20)")
        assert rows(one_market, MARKS) == []
        assert keep(one_market) == ["removed the event triggers"]
        assert keep(one_market) == []
    finally:
        execute(one_market, "DROP OWNED BY events_other CASCADE", "DROP ROLE events_other")


def test_a_role_that_is_no_superuser_leaves_them_as_they_are(one_market: Engine) -> None:
    with one_market.connect() as connection:
        connection.exec_driver_sql("CREATE ROLE events_other")
        connection.exec_driver_sql("SET LOCAL ROLE events_other")
        assert event_triggers.keep(connection, OFF) == []
        assert event_triggers.faults(connection) == []
        connection.rollback()


def test_they_are_repaired_and_removed(one_market: Engine) -> None:
    assert keep(one_market) == []
    execute(
        one_market,
        "DROP EVENT TRIGGER tallykeeper_drop",
        "ALTER EVENT TRIGGER tallykeeper_ddl DISABLE",
    )
    said = {
        "tallykeeper_ddl": "is disabled, or not enabled always",
        "tallykeeper_drop": "is missing",
    }
    with one_market.connect() as connection:
        assert event_triggers.faults(connection) == [
            f"the event trigger {name} {what}" for name, what in said.items()
        ]
    assert keep(one_market) == [
        f"repaired the event trigger {name}, which {what}" for name, what in said.items()
    ]
    execute(one_market, "ALTER FUNCTION tallykeeper.mark_ddl() SECURITY INVOKER")
    assert keep(one_market) == ["replaced the function of the event triggers"]
    assert keep(one_market) == []
    assert keep(one_market, OFF) == ["removed the event triggers"]
    assert keep(one_market, OFF) == []
    assert scalar(one_market, "SELECT count(*) FROM pg_event_trigger") == 0
    assert keep(one_market) == []
    with one_market.connect() as connection:
        assert event_triggers.faults(connection) == []


@pytest.mark.parametrize("statement", ["DROP TABLE shop.returned CASCADE", "DROP OWNED BY {}"])
def test_a_cascade_over_a_live_view_is_refused_where_that_is_wanted(
    one_market: Engine, statement: str
) -> None:
    execute(one_market, "CREATE ROLE events_other")
    try:
        execute(one_market, "ALTER TABLE shop.returned OWNER TO events_other")
        statement = statement.format("events_other") + (" CASCADE" if "OWNED" in statement else "")
        with one_market.connect() as connection:
            connection.exec_driver_sql(statement)
            connection.rollback()
        assert keep(one_market, REFUSE) == ["replaced the function of the event triggers"]
        with pytest.raises(DBAPIError, match=r"would drop .*shop\.returned_live.* with it"):
            execute(one_market, statement)
        # What is dropped by its own name is nobody's accident.
        with one_market.connect() as connection:
            connection.exec_driver_sql("DROP VIEW shop.returned_live")
            connection.rollback()
    finally:
        execute(
            one_market,
            "ALTER EVENT TRIGGER tallykeeper_drop DISABLE",
            "DROP OWNED BY events_other CASCADE",
            "DROP ROLE events_other",
        )


def test_nobody_else_may_execute_their_function_and_dividing_the_work_removes_them(
    engine: Engine,
) -> None:
    with world_of(engine, [media]) as world:
        migrate(world.admin, [media])
        assert scalar(engine, "SELECT count(*) FROM pg_event_trigger") == 2
        granted = "SELECT proacl::text FROM pg_proc WHERE proname = 'mark_ddl'"
        assert rows(engine, granted) == [("{postgres=X/postgres}",)]
        assert migrate(world.admin, [media]).done == []
        world.run_script([media])
        assert scalar(engine, "SELECT count(*) FROM pg_event_trigger") == 0
        assert rows(engine, granted) == []
