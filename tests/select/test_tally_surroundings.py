"""What a SELECT's tally has around it: roles, what it depends on, indexes, costs, other clients."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine, MetaData
from sqlalchemy.exc import ProgrammingError

from tallykeeper import SelectTally, System, prune, refresh, status, verify
from tallykeeper.database.connections import open_engine
from tallykeeper.installation.migrate import migrate
from tallykeeper.select import refresh_costs
from tallykeeper.select.refresh_costs import Costs
from tests.integration.support import execute, rows, scalar
from tests.role_world import APPLICATION, LOGINS, World, world_of
from tests.select.support import ORDERS, differences
from tests.servers import Servers

SPENT = "SELECT customer_id, sum(cents) AS spent FROM shop.orders GROUP BY customer_id"
ROWS = "SELECT customer_id, cents FROM shop.orders"
ADD = "INSERT INTO shop.orders (customer_id, cents) VALUES"

MANY = (
    "INSERT INTO shop.orders (customer_id, cents) SELECT n, n FROM generate_series(1, 20000) AS n"
)


def shop(select: str = SPENT) -> tuple[System, SelectTally]:
    tally = SelectTally("shop.spent", select=select)
    return System("shop", MetaData(), [tally]), tally


@pytest.fixture
def orders(engine: Engine) -> Engine:
    execute(engine, *ORDERS, f"{ADD} (1, 10), (1, 5), (2, 7.50), (NULL, 3)")
    return engine


@pytest.fixture
def spent(orders: Engine) -> SelectTally:
    system, tally = shop()
    migrate(orders, [system])
    refresh(orders, tally)
    return tally


@pytest.fixture(scope="module")
def divided(postgres_servers: Servers) -> Iterator[World]:
    """The shop's work divided among roles, as `tally roles` does, which then know no tally yet."""
    with postgres_servers.fresh_database(18) as url:
        admin = open_engine(url)
        system, _ = shop()
        with world_of(admin, [System("shop", MetaData(schema="shop"), [])]) as world:
            app = _quoted(APPLICATION)
            execute(
                admin,
                f"SET LOCAL ROLE {app}",
                ORDERS[1],
                "GRANT SELECT, INSERT, UPDATE, DELETE ON shop.orders TO web",
            )
            world.run_script([system])
            execute(admin, *(f"GRANT {_quoted(role)} TO {login}" for login, role in LOGINS.items()))
            migrate(world.deploy, [system])
            yield world
        admin.dispose()


def _quoted(role: str) -> str:
    return '"' + role.replace('"', '""') + '"'


def test_roles_do_their_own_work_and_no_others(divided: World) -> None:
    _, tally = shop()
    refresh(divided.runs, tally)
    execute(divided.web, f"{ADD} (1, 10), (2, 4)")
    _, read = shop()
    assert differences(divided.admin, tally, tally.live_name) == []
    live = "SELECT customer_id, spent FROM shop.spent_live ORDER BY 1"
    assert [row[0] for row in rows(divided.look, live)] == [1, 2]
    assert status(divided.look, read).pending == 2
    refresh(divided.runs, tally)
    assert verify(divided.runs, tally).ok
    for statement in (
        "DELETE FROM shop.spent",
        "DELETE FROM shop.orders",
        f"SELECT * FROM {tally.definition_name}",
        f"SELECT * FROM {tally.plan.nodes[0].state}",
    ):
        with pytest.raises(ProgrammingError, match="permission denied"):
            execute(divided.look, statement)
    with pytest.raises(ProgrammingError, match="permission denied"):
        execute(divided.web, f"DELETE FROM {tally.log_name}")


def test_roles_see_and_note_frozen_groups(divided: World) -> None:
    _, tally = shop()
    owner = _quoted(LOGINS["deploy"])
    execute(
        divided.admin,
        "ALTER TABLE shop.orders ADD COLUMN at date",
        "UPDATE shop.orders SET at = '2026-01-01' WHERE customer_id = 1",
        f"GRANT SELECT, UPDATE, DELETE ON shop.orders TO {owner}",
    )
    day = datetime(2026, 2, 1, tzinfo=UTC)
    done = prune(divided.deploy, "shop.orders", day, tallies=[tally], by="at", freeze=True)
    assert done.frozen == {"shop.spent": 1}
    execute(divided.web, f"{ADD} (1, 10), (3, 4)")
    refresh(divided.runs, tally)
    assert verify(divided.runs, tally).ok
    (found,) = status(divided.look, tally).pruned
    assert found.frozen is not None
    assert (found.frozen.groups, found.frozen.changed) == (1, 1)
    with pytest.raises(ProgrammingError, match="permission denied"):
        execute(divided.runs, f"UPDATE {tally.pruned_name} SET spent = 7")


def test_the_definition_view_is_found_changed_and_made_again(
    orders: Engine, spent: SelectTally
) -> None:
    execute(
        orders,
        f"CREATE OR REPLACE VIEW {spent.definition_name} AS"
        " SELECT customer_id, max(cents) AS spent FROM shop.orders GROUP BY 1",
    )
    found = verify(orders, spent)
    assert not found.ok
    assert "the definition view is not the one that was installed" in found.faults[0]
    system, tally = shop()
    migrate(orders, [system])
    assert verify(orders, tally).ok
    execute(orders, f"DROP VIEW {spent.definition_name}")
    assert any("does not exist" in fault for fault in status(orders, tally).faults)
    system, tally = shop()
    migrate(orders, [system])
    refresh(orders, tally)
    assert verify(orders, tally).ok


def test_a_state_that_was_dropped_is_made_again(orders: Engine, spent: SelectTally) -> None:
    (node,) = spent.plan.nodes
    execute(orders, f"DROP TABLE {node.state}")
    assert any(node.state in fault for fault in status(orders, spent).faults)
    system, tally = shop()
    assert migrate(orders, [system]).done
    assert status(orders, tally).stale
    execute(orders, f"{ADD} (2, 1)")
    assert differences(orders, tally, tally.live_name) == []
    refresh(orders, tally)
    assert verify(orders, tally).ok


def test_the_functions_of_the_select_are_among_what_it_depends_on(orders: Engine) -> None:
    execute(
        orders,
        "CREATE FUNCTION shop.twice(n numeric) RETURNS numeric IMMUTABLE STRICT"
        " LANGUAGE sql AS 'SELECT 2 * n'",
    )
    system, tally = shop(
        "SELECT customer_id, sum(shop.twice(cents)) AS spent FROM shop.orders GROUP BY 1"
    )
    migrate(orders, [system])
    refresh(orders, tally)
    execute(
        orders,
        "CREATE OR REPLACE FUNCTION shop.twice(n numeric) RETURNS numeric IMMUTABLE STRICT"
        " LANGUAGE sql AS 'SELECT 3 * n'",
    )
    assert verify(orders, tally).stale or verify(orders, tally).faults
    refresh(orders, tally)
    assert verify(orders, tally).ok


@pytest.mark.parametrize("select", [SPENT, ROWS])
def test_a_filter_on_the_key_uses_the_derived_tables_index(orders: Engine, select: str) -> None:
    system, tally = shop(select)
    migrate(orders, [system])
    execute(orders, MANY)
    if select == ROWS:
        execute(orders, "CREATE INDEX ON shop.spent (customer_id)")
    refresh(orders, tally)
    execute(orders, "ANALYZE shop.spent", f"{ADD} (77, 1)")
    plan = "\n".join(
        row[0]
        for row in rows(
            orders,
            "EXPLAIN (ANALYZE, COSTS off, TIMING off)"
            " SELECT * FROM shop.spent_live WHERE customer_id = 77",
        )
    )
    assert "Seq Scan on spent" not in plan, plan
    assert "using spent_" in plan or "on spent_" in plan, plan


def test_a_refresh_finds_keys_with_nulls_by_the_index(orders: Engine, spent: SelectTally) -> None:
    execute(orders, MANY)
    refresh(orders, spent)
    execute(orders, "ANALYZE shop.spent")
    scans = "SELECT seq_scan FROM pg_stat_user_tables WHERE relid = 'shop.spent'::regclass"
    execute(orders, "SELECT pg_stat_force_next_flush()")
    before = scalar(orders, scans)
    execute(orders, f"{ADD} (NULL, 3), (5, 5)")
    refresh(orders, spent)
    execute(orders, "SELECT pg_stat_force_next_flush()")
    # That it is not empty is looked at by reading a row.
    assert scalar(orders, scans) - before <= 1
    assert verify(orders, spent).ok


def test_costs_tell_when_all_is_less() -> None:
    sizes = {1: 1_000_000.0, 2: 100.0, 3: 10_000.0}
    assert not Costs(None, {}, sizes).is_less_for_all({1: 10_000_000})
    measured = Costs(10.0, {1: 0.001, 2: 0.1}, sizes)
    assert not measured.is_less_for_all({1: 9_000})
    assert measured.is_less_for_all({1: 11_000})
    # However few, where it was measured what one takes.
    assert not measured.is_less_for_all({2: 99})
    assert measured.is_less_for_all({2: 101})
    # Of a source of which nothing was measured all rows take as long as everything.
    assert not measured.is_less_for_all({3: 9_000})
    assert measured.is_less_for_all({3: 11_000})
    assert measured.most_pending == 10_000
    assert Costs(10.0, {2: 0.1}, sizes).most_pending == refresh_costs.FEWEST


def test_what_a_refresh_takes_is_remembered(orders: Engine, spent: SelectTally) -> None:
    read = "SELECT all_seconds, row_seconds FROM tallykeeper.refresh_costs"
    ((all_seconds, by_part),) = rows(orders, read)
    assert all_seconds > 0
    assert by_part == {}
    started = time.perf_counter()
    execute(orders, f"{ADD} {', '.join(['(1, 1)'] * 200)}")
    refresh(orders, spent)
    taken = time.perf_counter() - started
    ((_, by_part),) = rows(orders, read)
    assert 0 < by_part["1"] <= max(all_seconds, taken)
