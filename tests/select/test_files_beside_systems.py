"""A file that adds a tally to a system which is declared in Python."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from tallykeeper import discovery, migrate, refresh, verify
from tests.integration.support import execute, rows
from tests.stranger import DECLARED

COUNTED = "-- Orders by country.\nSELECT country, count(*) AS orders FROM shop.orders GROUP BY 1;\n"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("TALLY_PROJECT", str(tmp_path))
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "own_shop.py").write_text(DECLARED)
    (tmp_path / "tallies/shop").mkdir(parents=True)
    (tmp_path / "tallies/shop/per_country.sql").write_text(COUNTED)
    yield tmp_path
    del sys.modules["own_shop"]


@pytest.mark.parametrize(
    "named", ['systems = ["own_shop:system"]', 'tallies = ["own_shop:revenue_daily", "{}"]']
)
def test_both_are_kept_over_the_same_table(engine: Engine, project: Path, named: str) -> None:
    pattern = "tallies/**/*.sql"
    listed = named.format(pattern) if "{}" in named else f'{named}\ntallies = ["{pattern}"]'
    (project / "pyproject.toml").write_text(f"[tool.tallykeeper]\n{listed}\n")
    (system,) = discovery.all_systems()
    assert [tally.name for tally in system.tallies] == ["shop.revenue_daily", "shop.per_country"]
    assert [str(source) for source in system.sources] == ["shop.orders"]
    migrate(engine, [system], with_sources=True)
    execute(
        engine,
        "INSERT INTO shop.orders (country, cents, ordered_at)"
        " SELECT 'c' || n % 2, n, now() FROM generate_series(1, 9) AS n",
    )
    for tally in system.tallies:
        refresh(engine, tally)
    execute(engine, "UPDATE shop.orders SET country = 'c2' WHERE id = 1")
    wanted = [("c0", 4), ("c1", 4), ("c2", 1)]
    assert rows(engine, "SELECT country, orders FROM shop.per_country_live ORDER BY 1") == wanted
    for tally in system.tallies:
        assert verify(engine, tally).ok
        refresh(engine, tally)
        assert verify(engine, tally).ok
    assert migrate(engine, [system]).done == []
