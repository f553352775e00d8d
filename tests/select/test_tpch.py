"""The 22 queries of TPC-H, kept exactly while writers insert, delete and change every table."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine

from benchmarks.tpch import data
from benchmarks.tpch.writes import Writes
from tests.concurrency.conftest import new_seed
from tests.select.keeping import all_was_seen, install, keep

SCALE = 0.002


@pytest.mark.slow
@pytest.mark.concurrency
def test_every_query_is_exact_in_every_snapshot(engine: Engine, database_url: str) -> None:
    made = data.create(engine, SCALE)
    system = install(engine, "tpch", {name: data.query(name, SCALE) for name in data.NAMES})
    operations = Writes(made).operations()
    seen = keep(database_url, engine, system, operations, rounds=6, seed=new_seed())
    all_was_seen(seen, system, operations)
