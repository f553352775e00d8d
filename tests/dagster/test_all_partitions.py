"""All days of all four tallies of the fediverse in one run, as the UI launches and cancels it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest
from sqlalchemy import text

from assets.fediverse.tallies import system
from tests.dagster.deployment import Deployment, deployed
from tests.dagster.location import Ran, days_ago
from tests.servers import Servers

DAYS = 4_400
TABLES = [tally.table.name for tally in system.tallies]
POSTS = """
INSERT INTO fediverse.stream_events (instance_id, event_type, payload)
SELECT 1, 'update', jsonb_build_object(
    'id', n::text, 'created_at', now() - n * interval '300 days', 'visibility', 'public',
    'content', 'a post', 'account', jsonb_build_object('id', '1', 'acct', 'a', 'username', 'a'),
    'tags', jsonb_build_array(jsonb_build_object('name', 'News')))
FROM generate_series(0, 14) AS n"""
CANCEL = """
mutation ($id: String!) { cancelPartitionBackfill(backfillId: $id) { __typename } }"""
STATS = """
query ($keys: [AssetKeyInput!]!) { assetNodes(assetKeys: $keys) {
  partitionStats { numPartitions numMaterialized numMaterializing numFailed } } }"""

# Dagster's own server still calls what Dagster has deprecated.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Function `AssetSelection.sources`:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def deployment(
    postgres_servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    """Fifteen posts over twelve years."""
    home = tmp_path_factory.mktemp("all-partitions")
    with deployed(postgres_servers, home, [system], first=days_ago(DAYS - 1)) as deployment:
        deployment.location.execute(
            "INSERT INTO fediverse.instances (base_url) VALUES ('https://a.example')", POSTS
        )
        assert deployment.location.hourly(system.name).succeeded
        yield deployment


def launch(deployment: Deployment) -> tuple[str, dg.DagsterRun]:
    """Materialize everything: the backfill, and its one run in the queue."""
    days = [days_ago(n) for n in range(DAYS)]
    backfill = deployment.launch_backfill(system.name, TABLES, days)
    (run,) = deployment.runs_after(deployment.turn_backfills)
    return backfill, run


def require_all_materialized(deployment: Deployment) -> None:
    """What the assets' pages show."""
    keys = [{"path": [system.name, table]} for table in TABLES]
    for node in deployment.ask(STATS, keys=keys)["assetNodes"]:
        stats = node["partitionStats"]
        # The day may change meanwhile.
        assert stats["numMaterialized"] >= DAYS
        assert stats["numPartitions"] - stats["numMaterialized"] <= 1
        assert (stats["numMaterializing"], stats["numFailed"]) == (0, 0)


def planned(ran: Ran) -> list[Any]:
    kind = dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
    entries = ran.instance.all_logs(ran.run_id, of_type=kind)
    return [entry.get_dagster_event().asset_materialization_planned_data for entry in entries]


def test_all_days_of_four_tallies_are_materialized_by_one_run(deployment: Deployment) -> None:
    _, run = launch(deployment)
    ran = deployment.finish(run)
    assert ran.succeeded
    assert ran.failures() == []
    plans = planned(ran)
    assert sorted(plan.asset_key.path[-1] for plan in plans) == sorted(TABLES)
    assert all(len(plan.partitions_subset) == DAYS for plan in plans)
    require_all_materialized(deployment)
    with deployment.location.engine.connect() as connection:
        counted = connection.execute(text("SELECT sum(post_count) FROM fediverse.hourly_stats"))
        assert counted.scalar_one() == 15


@pytest.mark.parametrize("when", ["in the queue", "at work"])
def test_cancelling_it_leaves_every_day_as_it_was(deployment: Deployment, when: str) -> None:
    require_all_materialized(deployment)
    backfill, run = launch(deployment)
    if when == "at work":
        deployment.wait_for(run, lambda found: bool(_materialized(deployment, found)))
    answer = deployment.ask(CANCEL, id=backfill)
    assert answer["cancelPartitionBackfill"]["__typename"] == "CancelBackfillSuccess"
    deployment.turn_backfills()
    ran = deployment.wait_for(run, lambda found: found.is_finished)
    ended = deployment.instance.get_run_by_id(ran.run_id)
    assert ended is not None
    assert ended.status is dg.DagsterRunStatus.CANCELED
    assert len(_materialized(deployment, run)) < DAYS * len(TABLES)
    require_all_materialized(deployment)
    for tally in system.tallies:
        key = dg.AssetCheckKey(dg.AssetKey([system.name, tally.table.name]), "matches_source")
        (latest,) = deployment.instance.event_log_storage.get_asset_check_execution_history(
            key, limit=1
        )
        assert latest.status.value == "SUCCEEDED"


def _materialized(deployment: Deployment, run: dg.DagsterRun) -> list[Any]:
    kind = dg.DagsterEventType.ASSET_MATERIALIZATION
    return list(deployment.instance.all_logs(run.run_id, of_type=kind))
