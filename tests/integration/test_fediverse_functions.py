"""The functions that read what an event says, wherever PostgreSQL chooses to run them."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine

from assets.fediverse.functions import HASHTAG, JSON_OF, NUMBER, PLAIN_TEXT, TIME
from assets.fediverse.tallies import system
from tests.integration.support import create, execute, rows

FORCED = ("debug_parallel_query", "force_parallel_mode")


@pytest.mark.parametrize("function", [HASHTAG, JSON_OF, NUMBER, PLAIN_TEXT, TIME])
def test_a_query_that_may_run_in_parallel_can_call_each(
    any_postgres_engine: Engine, function: str
) -> None:
    engine = any_postgres_engine
    create(engine, system)
    execute(engine, "CREATE TABLE written AS SELECT '<b>&amp;1' AS words")
    ((forced,),) = rows(
        engine, f"SELECT name FROM pg_settings WHERE name IN {FORCED} ORDER BY name LIMIT 1"
    )
    with engine.begin() as connection:
        connection.exec_driver_sql(f"SET LOCAL {forced} = on")
        # What it gives is tested elsewhere; here, that it gives anything and does not fail.
        assert connection.exec_driver_sql(f"SELECT {function}(words) FROM written").all()
