"""What keeps a SELECT's tally right when something went wrong: rebuilds, quarantine, marks."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from sqlalchemy import Engine

from tallykeeper import audit, rebuild, rebuild_keys, refresh, status, verify
from tallykeeper.database.sql import CLAIM_WRITING
from tallykeeper.select.plan import Piece, Plan
from tallykeeper.select.tally import SelectTally
from tests.integration.support import execute, rows, scalar
from tests.select import plans
from tests.select.support import PLANS, differences, installed, planned

ADD = "INSERT INTO shop.orders (customer_id, cents) VALUES"


@pytest.fixture(autouse=True)
def _planned(monkeypatch: pytest.MonkeyPatch) -> None:
    planned(monkeypatch)


def one(engine: Engine, name: str) -> SelectTally:
    """That tally over a few orders, refreshed."""
    (found,) = installed(engine, name).tallies
    assert isinstance(found, SelectTally)
    execute(
        engine,
        f"{ADD} (1, 10), (1, 5), (1, 5), (2, 7.50), (NULL, 3), (3, NULL)",
        "INSERT INTO shop.orders (customer_id, cents, placed_at)"
        " VALUES (4, 1, '2026-01-02 23:59Z')",
    )
    refresh(engine, found)
    return found


def spoil(engine: Engine, change: str) -> None:
    """Change the derived table as if the engine did."""
    execute(engine, CLAIM_WRITING, change)


@pytest.mark.parametrize("name", PLANS)
def test_rebuild_of_everything_repairs_the_table_and_its_states(engine: Engine, name: str) -> None:
    tally = one(engine, name)
    execute(engine, f"{ADD} (7, 7)")
    for node in tally.plan.nodes:
        execute(engine, f"DELETE FROM {node.state} WHERE ctid = '(0,1)'")
    spoil(engine, f"DELETE FROM {tally.table}")
    done = rebuild(engine, tally)
    assert done.pending_consumed == 1
    assert differences(engine, tally, str(tally.table)) == []
    assert verify(engine, tally).ok
    execute(engine, "UPDATE shop.orders SET cents = 3")
    refresh(engine, tally)
    assert verify(engine, tally).ok


def test_verify_of_everything_finds_a_wrong_intermediate_result(engine: Engine) -> None:
    tally = one(engine, "shop.spent")
    assert verify(engine, tally).ok
    execute(engine, "UPDATE tallykeeper.shop_spent_state SET spent = spent + 1")
    found = verify(engine, tally)
    assert not found.ok
    assert found.differing == 0
    assert "tallykeeper.shop_spent_state" in found.faults[0]
    assert status(engine, tally).stale == (
        "a stored intermediate result of it was not what it should be",
    )
    refresh(engine, tally)
    assert verify(engine, tally).ok


def test_audit_looks_at_intermediate_results_too(engine: Engine) -> None:
    tally = one(engine, "shop.spent")
    execute(engine, "UPDATE tallykeeper.shop_spent_state SET spent = spent + 1")
    found = audit(engine, tally).found
    assert found is not None
    assert found.faults
    assert status(engine, tally).stale


def test_rebuild_of_a_window_consumes_what_is_pending_first(engine: Engine) -> None:
    tally = one(engine, "shop.days")
    assert tally.time_key is not None
    spoil(engine, "UPDATE shop.days SET n = n + 1")
    execute(engine, f"{ADD} (9, 2)", "DELETE FROM shop.orders WHERE customer_id = 4")
    start = datetime(2026, 1, 1, tzinfo=UTC)
    done = rebuild(engine, tally, start, start.replace(day=2))
    assert done.pending_consumed == 2
    assert status(engine, tally).pending == 0
    assert differences(engine, tally, "shop.days") == []


def test_rebuild_of_a_stale_tallys_window_leaves_the_rest_for_its_refresh(engine: Engine) -> None:
    tally = one(engine, "shop.days")
    execute(engine, f"{ADD} (9, 2)")
    execute(engine, "INSERT INTO tallykeeper.stale_marks (tally, reason) VALUES ('shop.days', 'x')")
    start = datetime(2026, 1, 1, tzinfo=UTC)
    assert rebuild(engine, tally, start, start.replace(day=2)).pending_consumed == 0
    assert status(engine, tally).stale == ("x",)
    assert refresh(engine, tally).how == "rebuild"
    assert verify(engine, tally).ok


@pytest.mark.parametrize("name", PLANS)
def test_rebuild_of_single_keys_repairs_them(engine: Engine, name: str) -> None:
    tally = one(engine, name)
    spoil(engine, f"DELETE FROM {tally.table}")
    found = verify(engine, tally)
    assert found.differing
    execute(engine, f"{ADD} (8, 8)")
    done = rebuild_keys(engine, tally, [each.key for each in found.differences])
    assert done.pending_consumed == 1
    assert verify(engine, tally).differing == 0
    assert differences(engine, tally, str(tally.table)) == []


def test_a_key_that_the_table_cannot_hold_costs_itself_alone(engine: Engine) -> None:
    tally = one(engine, "shop.spent")
    execute(engine, "ALTER TABLE shop.spent ADD CHECK (spent < 100)")
    execute(engine, f"{ADD} (5, 500), (6, 6), (1, 1)")
    refresh(engine, tally)
    assert status(engine, tally).quarantined == 1
    assert rows(engine, "SELECT spent FROM shop.spent WHERE customer_id IN (5, 6)") == [
        (Decimal(6),)
    ]
    assert differences(engine, tally, tally.live_name) == []
    execute(engine, f"{ADD} (5, 1), (6, 1)")
    assert differences(engine, tally, tally.live_name) == []
    refresh(engine, tally)
    assert differences(engine, tally, tally.live_name) == []
    execute(engine, "DELETE FROM shop.orders WHERE cents = 500")
    refresh(engine, tally)
    assert status(engine, tally).quarantined == 0
    assert verify(engine, tally).ok
    execute(engine, f"{ADD} (5, 500)")
    refresh(engine, tally)
    execute(engine, "ALTER TABLE shop.spent DROP CONSTRAINT spent_spent_check")
    refresh(engine, tally)
    assert status(engine, tally).quarantined == 0
    assert differences(engine, tally, "shop.spent") == []


@pytest.mark.parametrize("name", PLANS)
def test_a_write_by_hand_makes_it_stale_and_live_reads_right(engine: Engine, name: str) -> None:
    tally = one(engine, name)
    execute(engine, f"DELETE FROM {tally.table}")
    assert status(engine, tally).stale
    assert differences(engine, tally, tally.live_name) == []
    assert refresh(engine, tally).how == "rebuild"
    assert verify(engine, tally).ok


@pytest.mark.parametrize("name", PLANS)
def test_truncate_of_a_source_makes_it_stale(engine: Engine, name: str) -> None:
    tally = one(engine, name)
    execute(engine, f"{ADD} (7, 7)", "TRUNCATE shop.orders", f"{ADD} (1, 1)")
    assert status(engine, tally).stale == ("shop.orders was truncated",)
    assert differences(engine, tally, tally.live_name) == []
    refresh(engine, tally)
    assert verify(engine, tally).ok
    assert differences(engine, tally, str(tally.table)) == []


def test_a_plan_without_changes_is_computed_anew_for_any(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned(monkeypatch, {"shop.spent": plans.whole})
    tally = one(engine, "shop.spent")
    assert verify(engine, tally).ok
    execute(engine, f"{ADD} (1, 1)")
    assert differences(engine, tally, tally.live_name) == []
    assert verify(engine, tally).ok
    refresh(engine, tally)
    assert differences(engine, tally, "shop.spent") == []
    assert verify(engine, tally).compared == 5
    assert scalar(engine, "SELECT count(*) FROM tallykeeper.shop_spent_log") == 0


def test_when_much_is_pending_all_is_computed_and_live_views_read_the_select(
    engine: Engine,
) -> None:
    tally = one(engine, "shop.spent")
    execute(engine, f"{ADD} {', '.join(['(1, 1)'] * 1500)}")
    before = scalar(engine, "SELECT xmin FROM tallykeeper.shop_spent_state LIMIT 1")
    execute(
        engine,
        "UPDATE tallykeeper.refresh_costs SET all_seconds = 0.001,"
        " row_seconds = '{\"0\": 0.1}', most_pending = 1000",
    )
    # Nothing of the changes is read: they are not there, but counted.
    execute(engine, "UPDATE tallykeeper.shop_spent_log SET t0_cents = 77")
    execute(engine, "DELETE FROM tallykeeper.stale_marks")
    assert differences(engine, tally, tally.live_name) == []
    done = refresh(engine, tally)
    assert done.pending_consumed == 1500
    assert differences(engine, tally, "shop.spent") == []
    assert verify(engine, tally).ok
    assert before != scalar(
        engine, "SELECT xmin FROM tallykeeper.shop_spent_state WHERE customer_id = 1"
    )
    assert scalar(engine, "SELECT all_seconds FROM tallykeeper.refresh_costs") != 0.001


@pytest.mark.parametrize("name", PLANS)
def test_what_raises_for_rows_that_were_never_there_together_is_computed_anew(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def raising(name: str) -> Plan:
        plan = PLANS[name]()
        failing = Piece(") AS c WHERE 1 / (SELECT count(*) - count(*) FROM shop.orders) = 1")
        return replace(plan, changes=(Piece("SELECT * FROM ("), *plan.changes, failing))

    planned(monkeypatch, {name: lambda: raising(name)})
    tally = one(engine, name)
    execute(engine, f"{ADD} (1, 1), (8, 8)", "DELETE FROM shop.orders WHERE customer_id = 2")
    assert differences(engine, tally, tally.live_name) == []
    assert verify(engine, tally).ok
    assert refresh(engine, tally).pending_consumed == 3
    assert differences(engine, tally, str(tally.table)) == []
    assert verify(engine, tally).ok
