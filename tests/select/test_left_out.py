"""A tally that is installed and declared no more is stale once others are captured without it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from sqlalchemy import Engine, MetaData

from tallykeeper import System, refresh, verify
from tallykeeper.catalog.state import NOT_CAPTURED
from tallykeeper.installation.migrate import migrate
from tallykeeper.select.tally import SelectTally
from tests.integration.support import execute, rows

SELECTS = {
    "summed": "SELECT kind, count(*) AS n FROM barn.sheep GROUP BY kind",
    "grouped": "SELECT kind, max(weight) AS n FROM barn.sheep GROUP BY kind",
    "joined": "SELECT s.kind, count(*) AS n FROM barn.sheep AS s"
    " JOIN barn.sheep AS t ON t.kind = s.kind GROUP BY 1",
    "apart": "SELECT color, count(*) AS n FROM barn.goats GROUP BY color",
}


@pytest.fixture
def barn(engine: Engine) -> Engine:
    execute(
        engine,
        "CREATE SCHEMA barn",
        "CREATE TABLE barn.sheep (id integer PRIMARY KEY, kind text NOT NULL, weight integer)",
        "CREATE TABLE barn.goats (id integer PRIMARY KEY, color text NOT NULL)",
    )
    installed = declared(SELECTS)
    migrate(engine, [installed])
    for tally in installed.tallies:
        refresh(engine, tally)
    return engine


def declared(names: Sequence[str] | dict[str, str]) -> System:
    tallies = [SelectTally(f"barn.{name}", select=SELECTS[name]) for name in names]
    return System("barn", MetaData(), tallies)


def live(engine: Engine, name: str) -> list[tuple[object, ...]]:
    return sorted(rows(engine, f"SELECT * FROM barn.{name}_live"))


def marked(engine: Engine) -> list[str]:
    found = rows(
        engine, f"SELECT tally FROM tallykeeper.stale_marks WHERE reason = '{NOT_CAPTURED}'"
    )
    return sorted(name for (name,) in found)


def test_its_live_view_stays_right(barn: Engine) -> None:
    done = migrate(barn, [declared(["summed"])]).done
    assert f"barn.grouped is stale: {NOT_CAPTURED}" in done
    # What is captured by itself is captured still.
    assert marked(barn) == ["barn.grouped", "barn.joined"]
    execute(
        barn,
        "INSERT INTO barn.sheep VALUES (1, 'merino', 7), (2, 'merino', 9)",
        "INSERT INTO barn.goats VALUES (1, 'white')",
    )
    assert live(barn, "summed") == [("merino", 2)]
    assert live(barn, "grouped") == [("merino", 9)]
    assert live(barn, "joined") == [("merino", 4)]
    assert live(barn, "apart") == [("white", 1)]
    # It is not marked again and again.
    assert migrate(barn, [declared(["summed"])]).done == []

    again = declared(SELECTS)
    migrate(barn, [again])
    for tally in again.tallies:
        refresh(barn, tally)
        assert verify(barn, tally).ok
    execute(barn, "INSERT INTO barn.sheep VALUES (3, 'merino', 11)")
    assert live(barn, "grouped") == [("merino", 11)]
    assert marked(barn) == []
