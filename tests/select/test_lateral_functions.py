"""LATERAL subqueries that read no table: each row of theirs follows from the row before them."""

from __future__ import annotations

import random

import pytest
from sqlalchemy import Engine

from tallykeeper import refresh, verify
from tallykeeper.select.tally import SelectTally
from tests.integration.support import execute, rows
from tests.select.keeping import install

SELECTS = {
    "each once, joined": (
        "delta",
        "SELECT c.id, t.id AS tag FROM loft.boxes AS c JOIN LATERAL (SELECT DISTINCT"
        " unnest(c.tags) AS el) AS e ON true JOIN loft.tags AS t ON t.id = e.el",
    ),
    "each once": (
        "delta",
        "SELECT c.id, e.el FROM loft.boxes AS c"
        " CROSS JOIN LATERAL (SELECT DISTINCT unnest(c.tags) AS el) AS e",
    ),
    "grouped above": (
        "delta",
        "SELECT c.owner, count(*) AS n FROM loft.boxes AS c"
        " CROSS JOIN LATERAL (SELECT DISTINCT x FROM unnest(c.tags) AS x) AS e GROUP BY 1",
    ),
    "outer": (
        "delta",
        "SELECT c.id, e.el FROM loft.boxes AS c"
        " LEFT JOIN LATERAL (SELECT DISTINCT unnest(c.tags) AS el) AS e ON true",
    ),
    "the first two": (
        "delta",
        "SELECT e.el, count(*) AS n FROM loft.boxes AS c CROSS JOIN LATERAL"
        " (SELECT x AS el FROM unnest(c.tags) AS x ORDER BY x DESC LIMIT 2) AS e GROUP BY 1",
    ),
    "with another value": (
        "delta",
        "SELECT e.el, count(*) AS n FROM loft.boxes AS c CROSS JOIN LATERAL"
        " (SELECT x AS el FROM unnest(c.tags) AS x UNION SELECT c.id) AS e GROUP BY 1",
    ),
    "a value of them": (
        "group",
        "SELECT c.id, (SELECT max(x) FROM unnest(c.tags) AS x) AS most,"
        " ARRAY(SELECT x + 1 FROM unnest(c.tags) AS x ORDER BY 1) AS more FROM loft.boxes AS c",
    ),
    "how many of them": (
        "whole",
        "SELECT c.id, e.n FROM loft.boxes AS c CROSS JOIN LATERAL"
        " (SELECT count(*) AS n FROM unnest(c.tags) AS x WHERE x > 1) AS e WHERE e.n > 0",
    ),
    "whether there is one": (
        "group",
        "SELECT c.id FROM loft.boxes AS c"
        " WHERE EXISTS (SELECT 1 FROM unnest(c.tags) AS x WHERE x > 2)",
    ),
}


@pytest.mark.parametrize("name", SELECTS)
def test_they_are_maintained(engine: Engine, name: str) -> None:
    strategy, select = SELECTS[name]
    execute(
        engine,
        "CREATE SCHEMA loft",
        "CREATE TABLE loft.boxes (id integer PRIMARY KEY, owner integer, tags integer[])",
        "CREATE TABLE loft.tags (id integer PRIMARY KEY)",
        "INSERT INTO loft.tags SELECT generate_series(1, 3)",
    )
    (tally,) = install(engine, "loft", {"kept": select}).tallies
    assert isinstance(tally, SelectTally)
    assert tally.plan.strategy == strategy
    columns = ", ".join(column.name for column in tally.plan.columns)
    live = f"SELECT {columns} FROM {tally.live_name}"
    rng = random.Random(name)
    for number in range(1, 40):
        tags = [rng.choice(("1", "2", "3", "4", "NULL")) for _ in range(rng.randint(0, 4))]
        written = rng.choice((f"ARRAY[{', '.join(tags)}]::integer[]", "NULL"))
        execute(
            engine,
            f"INSERT INTO loft.boxes VALUES ({number}, {rng.randint(1, 3)}, {written})",
            rng.choice(
                (
                    f"UPDATE loft.boxes SET tags = {written} WHERE id % 3 = {number % 3}",
                    f"UPDATE loft.boxes SET owner = 4 - owner WHERE id = {rng.randint(1, number)}",
                    f"DELETE FROM loft.boxes WHERE id = {rng.randint(1, number)}",
                    f"DELETE FROM loft.tags WHERE id = {rng.randint(1, 4)}",
                    f"INSERT INTO loft.tags VALUES ({rng.randint(1, 4)}) ON CONFLICT DO NOTHING",
                )
            ),
        )
        if number % 4 == 0:
            assert sorted(rows(engine, live), key=str) == sorted(rows(engine, select), key=str)
        if number % 8 == 0:
            refresh(engine, tally)
            assert verify(engine, tally).ok
