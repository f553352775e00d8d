"""A shop whose tallies are SELECTs with plans written by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
from sqlalchemy import Connection, Engine, MetaData

from tallykeeper import System, Tally
from tallykeeper.installation import select_plans
from tallykeeper.installation.migrate import migrate
from tallykeeper.select.plan import Plan
from tallykeeper.select.tally import SelectTally
from tests.integration.support import execute, rows
from tests.select import plans

ORDERS = (
    "CREATE SCHEMA shop",
    "CREATE TABLE shop.orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
    " customer_id integer, cents numeric, note text,"
    " placed_at timestamptz NOT NULL DEFAULT '2026-01-01 10:00Z')",
)
PLANS: Mapping[str, Callable[[], Plan]] = {
    "shop.spent": plans.spent,
    "shop.rows": plans.bag,
    "shop.totals": plans.totals,
    "shop.days": plans.days,
}
SELECTS = {
    "shop.spent": plans.SPENT,
    "shop.rows": plans.ROWS,
    "shop.totals": plans.TOTALS,
    "shop.days": plans.DAYS,
}


def shop(*names: str) -> System:
    """A system of these tallies."""
    return System("shop", MetaData(), [SelectTally(n, select=SELECTS[n]) for n in names])


def planned(
    monkeypatch: pytest.MonkeyPatch, made: Mapping[str, Callable[[], Plan]] = PLANS
) -> None:
    """Have these plans in place of the compiler's."""

    def compiled(_: Connection, tally: SelectTally) -> Plan:
        return made[tally.name]()

    monkeypatch.setattr(select_plans, "compile_plan", compiled)


def installed(engine: Engine, *names: str) -> System:
    """The shop's tables with these tallies, never refreshed."""
    execute(engine, *ORDERS)
    system = shop(*names)
    migrate(engine, [system])
    return system


def differences(engine: Engine, tally: Tally, relation: str) -> list[tuple[object, ...]]:
    """The rows in which a relation of the tally's columns and its SELECT differ."""
    assert isinstance(tally, SelectTally)
    columns = ", ".join(c.name for c in tally.plan.columns)
    chosen = f"SELECT {columns} FROM {relation}"
    return rows(
        engine,
        f"(({chosen}) EXCEPT ALL ({tally.text})) UNION ALL (({tally.text}) EXCEPT ALL ({chosen}))",
    )
