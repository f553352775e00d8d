"""Nexmark's aggregating queries, kept exactly while events come, and what came is changed."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine

from benchmarks.nexmark import data
from tests.concurrency.conftest import new_seed
from tests.select.keeping import all_was_seen, install, keep

EVENTS = 2_000


@pytest.mark.slow
@pytest.mark.concurrency
def test_every_query_is_exact_in_every_snapshot(engine: Engine, database_url: str) -> None:
    data.create(engine, EVENTS)
    system = install(engine, "nexmark", {name: data.query(name) for name in data.NAMES})
    operations = data.Writes(EVENTS).operations()
    seen = keep(database_url, engine, system, operations, rounds=5, seed=new_seed())
    all_was_seen(seen, system, operations)
