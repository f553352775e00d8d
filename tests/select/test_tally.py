"""A tally that is declared by one SELECT, from installation to proof."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine

from tallykeeper import refresh, status, verify
from tallykeeper.select.tally import SelectTally
from tests.integration.support import execute, rows, scalar
from tests.select.support import PLANS, differences, installed, planned

ADD = "INSERT INTO shop.orders (customer_id, cents) VALUES"
NAMES = tuple(PLANS)


@pytest.fixture(autouse=True)
def _planned(monkeypatch: pytest.MonkeyPatch) -> None:
    planned(monkeypatch)


@pytest.fixture(params=NAMES)
def tally(request: pytest.FixtureRequest, engine: Engine) -> SelectTally:
    """Each tally over a few orders, refreshed."""
    (found,) = installed(engine, request.param).tallies
    assert isinstance(found, SelectTally)
    execute(engine, f"{ADD} (1, 10), (1, 5), (1, 5), (2, 7.50), (NULL, 3), (3, NULL)")
    assert differences(engine, found, found.live_name) == []
    refresh(engine, found)
    return found


def is_exact(engine: Engine, tally: SelectTally) -> None:
    assert differences(engine, tally, tally.live_name) == []
    found = verify(engine, tally)
    assert found.ok, found


def test_live_view_and_refresh_follow_every_kind_of_change(
    engine: Engine, tally: SelectTally
) -> None:
    is_exact(engine, tally)
    for statement in (
        f"{ADD} (4, 1)",
        f"{ADD} (4, 1), (5, 2), (5, NULL), (NULL, 8)",
        "UPDATE shop.orders SET cents = cents + 1 WHERE customer_id = 2",
        "UPDATE shop.orders SET cents = cents * 2",
        "UPDATE shop.orders SET customer_id = 9 WHERE customer_id IS NULL",
        "UPDATE shop.orders SET note = 'nothing that matters'",
        "DELETE FROM shop.orders WHERE customer_id = 1 AND cents = 20",
        "DELETE FROM shop.orders WHERE customer_id = 1",
        "DELETE FROM shop.orders",
    ):
        execute(engine, statement)
        is_exact(engine, tally)
        refresh(engine, tally)
        assert differences(engine, tally, str(tally.table)) == [], statement
        is_exact(engine, tally)
        assert status(engine, tally).pending == 0


def test_what_changes_nothing_that_is_read_is_not_logged(
    engine: Engine, tally: SelectTally
) -> None:
    execute(engine, "UPDATE shop.orders SET note = 'x' WHERE customer_id = 2")
    execute(engine, "UPDATE shop.orders SET note = 'y'")
    assert scalar(engine, f"SELECT count(*) FROM {tally.log_name}") == 0
    execute(engine, "UPDATE shop.orders SET cents = 10 - cents WHERE cents IN (7.50, 5)")
    assert scalar(engine, f"SELECT count(*) FROM {tally.log_name}") == 2
    assert rows(engine, f"SELECT tally_part, tally_sign FROM {tally.log_name} ORDER BY 2") == [
        (0, -1),
        (0, 1),
    ]
    execute(engine, "UPDATE shop.orders SET id = DEFAULT")
    assert scalar(engine, f"SELECT count(*) FROM {tally.log_name}") == 2


def test_what_is_equal_but_shows_differently_is_logged(engine: Engine, tally: SelectTally) -> None:
    execute(engine, "UPDATE shop.orders SET cents = 7.5 WHERE customer_id = 2")
    assert scalar(engine, f"SELECT count(*) FROM {tally.log_name}") == 2
    execute(engine, "UPDATE shop.orders SET cents = 7.500 WHERE customer_id > 1")
    assert scalar(engine, f"SELECT count(*) FROM {tally.log_name}") == 6
