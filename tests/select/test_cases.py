"""What somebody with a store wants counted, and harder SELECTs, kept exactly among writers."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine

from tests.concurrency.conftest import new_seed
from tests.select import store
from tests.select.keeping import all_was_seen, install, keep


@pytest.mark.slow
@pytest.mark.concurrency
def test_every_select_is_exact_in_every_snapshot(engine: Engine, database_url: str) -> None:
    store.create(engine)
    system = install(engine, "store", store.SELECTS)
    seen = keep(database_url, engine, system, store.OPERATIONS, rounds=5, seed=new_seed())
    all_was_seen(seen, system, store.OPERATIONS)
