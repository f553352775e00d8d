"""A computation of changes that takes longer than everything did is ended, and all is computed."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, MetaData
from sqlalchemy.exc import OperationalError

from tallykeeper import System, migrate, refresh, verify
from tallykeeper.maintain import select_changes
from tallykeeper.maintain.derived_rows import outcome_of
from tallykeeper.select import refresh_costs
from tallykeeper.select.tally import SelectTally
from tests.integration.support import execute, rows, scalar
from tests.select.support import differences

SCHEMA = """
CREATE SCHEMA store;
CREATE TABLE store.orders (id int PRIMARY KEY, customer_id int, cents int NOT NULL);
INSERT INTO store.orders SELECT n, n % 3, n FROM generate_series(1, 10) AS n
"""
SELECT = "SELECT customer_id, max(cents) AS most FROM store.orders GROUP BY customer_id"


@pytest.fixture
def slow(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> SelectTally:
    """A tally whose changes take two seconds to compute, and everything next to nothing."""
    execute(engine, SCHEMA)
    tally = SelectTally("store.most", select=SELECT)
    migrate(engine, [System("store", MetaData(), [tally])])
    refresh(engine, tally)
    monkeypatch.setattr(refresh_costs, "LEAST_SECONDS", 0.2)
    monkeypatch.setattr(
        select_changes,
        "outcome_of",
        lambda connection, text: outcome_of(connection, f"SELECT pg_sleep(2); {text}"),
    )
    execute(engine, "INSERT INTO store.orders VALUES (11, 1, 99)")
    return tally


def test_it_is_ended_and_remembered(engine: Engine, slow: SelectTally) -> None:
    assert refresh(engine, slow).pending_consumed == 1
    assert differences(engine, slow, "store.most") == []
    assert differences(engine, slow, slow.live_name) == []
    assert rows(engine, "SELECT most FROM store.most WHERE customer_id = 1") == [(99,)]
    took = str(scalar(engine, "SELECT row_seconds ->> '1' FROM tallykeeper.refresh_costs"))
    assert float(took) > 0.01
    # The next time it is known, and not tried.
    execute(engine, "INSERT INTO store.orders VALUES (12, 2, 100)")
    assert refresh(engine, slow).seconds < 1
    assert verify(engine, slow).ok


def test_what_was_measured_once_is_not_believed_for_ever(
    engine: Engine, slow: SelectTally, monkeypatch: pytest.MonkeyPatch
) -> None:
    refresh(engine, slow)
    monkeypatch.undo()
    # As if the machine had been busy, and is no longer.
    execute(
        engine, "UPDATE tallykeeper.refresh_costs SET all_seconds = 1, row_seconds = '{\"1\": 3}'"
    )
    believed = []
    for number in range(100):
        execute(engine, f"INSERT INTO store.orders VALUES ({number + 20}, 1, 99)")
        refresh(engine, slow)
        execute(engine, "UPDATE tallykeeper.refresh_costs SET all_seconds = 1")
        took = scalar(engine, "SELECT row_seconds ->> '1' FROM tallykeeper.refresh_costs")
        believed.append(float(str(took)))
        if believed[-1] <= 1:
            break
    assert believed == sorted(believed, reverse=True)
    # From here on changes are tried.
    assert 20 < len(believed) < 25
    monkeypatch.setattr(select_changes, "_write_all", None)
    execute(engine, "INSERT INTO store.orders VALUES (200, 1, 100)")
    refresh(engine, slow)
    assert differences(engine, slow, "store.most") == []


def test_a_limit_of_the_role_is_an_error_as_ever(
    engine: Engine, slow: SelectTally, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refresh_costs, "LEAST_SECONDS", 60.0)
    monkeypatch.setattr(
        select_changes,
        "outcome_of",
        lambda connection, text: outcome_of(
            connection, f"SET LOCAL statement_timeout = 50; SELECT pg_sleep(2); {text}"
        ),
    )
    with pytest.raises(OperationalError, match="statement timeout"):
        refresh(engine, slow)
    assert scalar(engine, f"SELECT count(*) FROM {slow.log_name}") == 1
