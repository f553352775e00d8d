"""Systems of other shapes than media's: no windows, no measures, several sources, joins."""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg
import pytest
from sqlalchemy import Engine

import tallykeeper
from tallykeeper import System
from tallykeeper.dagster.assets import build_assets
from tallykeeper.dagster.metadata.columns import lineage
from tallykeeper.dagster.partitions import daily
from tallykeeper.database.sql import CLAIM_WRITING
from tests import shapes, tag_hours
from tests.dagster.location import Location


def install(engine: Engine, system: System) -> None:
    """The system's tables as they are declared, and the engine's over them."""
    with engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE SCHEMA {system.name}")
        system.metadata.create_all(connection)
        tallykeeper.install(connection, system.tallies)


@pytest.fixture
def others(instance: dg.DagsterInstance, engine: Engine) -> Location:
    """A code location of three systems, each with some rows, nothing built yet."""
    systems = (shapes.shelf, shapes.desk, tag_hours.system)
    for system in systems:
        install(engine, system)
    location = Location(instance, engine, [build_assets(s, daily()) for s in systems])
    location.execute(
        "INSERT INTO shelf.items (id, tags) VALUES (1, '{1,2}'), (2, '{2}')",
        "INSERT INTO desk.sales (shop_id, person_id, amount) VALUES (1, 7, 2.5), (1, NULL, 4)",
        "INSERT INTO forum.posts (id, author_id, created_at) OVERRIDING SYSTEM VALUE"
        " VALUES (1, 9, '2025-06-01 12:30Z')",
        "INSERT INTO forum.post_tags VALUES (1, 5)",
    )
    return location


def of(deps: Sequence[dg.TableColumnDep]) -> set[str]:
    return {f"{dep.asset_key.path[-1]}.{dep.column_name}" for dep in deps}


def test_a_tally_without_windows_is_an_asset_without_partitions(others: Location) -> None:
    graph = others.definitions.resolve_asset_graph()
    partitioned = {
        key.path[-1]: graph.get(key).partitions_def is not None
        for key in graph.materializable_asset_keys
    }
    assert partitioned == {
        "item_tags": False,
        "person_sums": False,
        "best_sales": False,
        "tag_hours": True,
    }


def test_a_tally_without_windows_refreshes_by_default(others: Location) -> None:
    others.build()
    for system, tables in {"shelf": ["item_tags"], "desk": ["person_sums", "best_sales"]}.items():
        ran = others.hourly(system)
        assert ran.failures() == []
        for table in tables:
            ((partition, done),) = ran.materialized(table, system).items()
            assert partition is None
            assert done["reason"] == "refresh: nothing was pending"


def test_a_tally_without_windows_rebuilds_on_request(others: Location) -> None:
    others.build()
    others.execute(CLAIM_WRITING, "UPDATE shelf.item_tags SET tag_id = 99 WHERE item_id = 2")
    assert others.audit().checked("item_tags", "matches_source", "shelf").passed is False
    ran = others.run("shelf_hourly", {"ops": {"shelf__item_tags": {"config": {"rebuild": True}}}})
    done = ran.materialized("item_tags", "shelf")[None]
    assert (done["reason"], done["keys_changed"]) == ("rebuild on request", 2)
    assert others.audit().checked("item_tags", "matches_source", "shelf").passed


def test_a_row_without_measures_that_differs_is_named(others: Location) -> None:
    others.build()
    others.execute(CLAIM_WRITING, "UPDATE shelf.item_tags SET tag_id = 99 WHERE item_id = 2")
    failed = others.audit().checked("item_tags", "matches_source", "shelf")
    assert failed.description == "2 keys differ from the sources."
    table = failed.metadata["keys"]
    assert isinstance(table, dg.TableMetadataValue)
    assert [dict(record.data) for record in table.records] == [
        {"item_id": "2", "tag_id": "2", "row (stored)": "no row", "row (expected)": "present"},
        {"item_id": "2", "tag_id": "99", "row (stored)": "present", "row (expected)": "no row"},
    ]
    assert failed.metadata["to_resolve"].value == "tally rebuild shelf.item_tags"


def test_a_null_in_a_key_is_shown_as_such(others: Location) -> None:
    others.build()
    others.execute(CLAIM_WRITING, "UPDATE desk.person_sums SET moves = 9 WHERE person_id IS NULL")
    failed = others.audit().checked("person_sums", "matches_source", "desk")
    table = failed.metadata["keys"]
    assert isinstance(table, dg.TableMetadataValue)
    (record,) = table.records
    assert record.data["person_id"] == "null"
    assert record.data["moves (stored)"] == "9"


def test_a_join_by_the_hour_reports_late_data_on_its_day(others: Location) -> None:
    others.build()
    others.execute(
        "INSERT INTO forum.posts (id, author_id, created_at) OVERRIDING SYSTEM VALUE"
        " VALUES (2, 9, '2025-08-01 08:00Z')",
        "INSERT INTO forum.post_tags VALUES (2, 5)",
    )
    ran = others.hourly("forum")
    assert list(ran.materialized("tag_hours", "forum")) == ["2025-08-01", None]
    assert ran.failures() == []


def test_the_lineage_reaches_through_joins_and_unions() -> None:
    through_join = lineage(tag_hours.tally).deps_by_column
    assert of(through_join["tag_id"]) == {"post_tags.tag_id"}
    assert of(through_join["hour"]) == {"posts.created_at"}
    assert of(through_join["authors"]) == {"posts.author_id"}
    assert "posts" not in through_join, "a count of rows depends on no column"
    through_union = lineage(shapes.person_sums_tally).deps_by_column
    assert of(through_union["shop_id"]) == {"sales.shop_id", "refunds.shop_id"}
    assert of(through_union["person_id"]) == {"sales.person_id", "refunds.clerk_id"}
    assert of(through_union["amount"]) == {"sales.amount", "refunds.amount"}
    assert of(lineage(shapes.item_tags_tally).deps_by_column["tag_id"]) == {"items.tags"}
