"""A process that does much with Dagster's storage keeps its connections while it needs them."""

from __future__ import annotations

import time

import dagster as dg
import pytest
from sqlalchemy import Engine, text

from resources.dagster_instance import connected_instance
from resources.database import dagster_url, prepare_dagster_storage

# Dagster's name for its own connections, whoever it is that they belong to.
SESSIONS = """
SELECT count(*), (SELECT sessions FROM pg_stat_database WHERE datname = current_database())
FROM pg_stat_activity
WHERE application_name = 'dagster' AND datname = current_database()
"""


def sessions(engine: Engine) -> tuple[int, int]:
    """Dagster's connections now, and how many of anybody there ever were."""
    with engine.connect() as connection:
        now, ever = connection.execute(text(SESSIONS)).one()
        return now, ever


@pytest.mark.usefixtures("instance")
def test_connections_are_kept_over_a_run_and_closed_at_the_end(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    @dg.asset
    def something() -> None: ...

    prepare_dagster_storage(engine)
    monkeypatch.setenv("DAGSTER_PG_URL", dagster_url(engine.url))
    with connected_instance() as connected:
        dg.materialize([something], instance=connected)
        _, before = sessions(engine)
        dg.materialize([something], instance=connected)
        kept, after = sessions(engine)
        assert connected.get_runs_count() == 2
    assert 1 <= kept <= 3
    assert after - before <= 3
    # A server's process takes a moment to end.
    deadline = time.monotonic() + 30
    while sessions(engine)[0]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
