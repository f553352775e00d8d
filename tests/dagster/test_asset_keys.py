"""Keys of assets: two tables of one name are two assets."""

from __future__ import annotations

import pytest
from sqlalchemy import BigInteger, Column, Integer, MetaData, Table, func, select, union_all

from tallykeeper import SelectTally, System
from tallykeeper.dagster.assets import build_assets
from tallykeeper.dagster.code_location import assemble
from tallykeeper.dagster.database import Database
from tallykeeper.dagster.metadata import columns
from tallykeeper.dagster.partitions import daily

NOWHERE = Database(url="postgresql://nobody@127.0.0.1:1/nothing")


def source(schema: str, name: str) -> Table:
    return Table(
        name,
        MetaData(),
        Column("id", BigInteger, primary_key=True),
        Column("kind", Integer, nullable=False),
        schema=schema,
    )


def counted(name: str, *sources: Table) -> SelectTally:
    table = Table(
        name,
        MetaData(),
        Column("kind", Integer, primary_key=True),
        Column("rows", BigInteger, nullable=False),
        schema="counts",
    )
    kinds = union_all(*(select(each.c.kind) for each in sources)).subquery("kinds")
    of_kinds = select(kinds.c.kind, func.count().label("rows")).group_by(kinds.c.kind)
    return SelectTally(f"shops.{name}", select=of_kinds, table=table)


SALES = (source("north", "sales"), source("south", "sales"), source("north", "visits"))


@pytest.mark.parametrize("apart", [True, False])
def test_sources_of_one_name_in_two_schemas_are_two_assets(apart: bool) -> None:
    if apart:
        tallies = [counted(f"of_{n}", each) for n, each in enumerate(SALES)]
    else:
        tallies = [counted("all", *SALES)]
    built = build_assets(System("shops", MetaData(), tallies), daily())
    keys = {spec.key.to_user_string() for spec in built.sources}
    assert keys == {"shops/north/sales", "shops/south/sales", "shops/visits"}
    parents = {key.to_user_string() for asset in built.assets for key in asset.dependency_keys}
    assert parents == keys
    assemble([built], NOWHERE).get_repository_def().load_all_definitions()
    lineage = [columns.lineage(tally).deps_by_column["kind"] for tally in tallies]
    assert {dep.asset_key.to_user_string() for deps in lineage for dep in deps} == keys


def test_a_source_named_as_a_derived_table_is_called_by_its_schema() -> None:
    tally = counted("sales", SALES[0])
    built = build_assets(System("shops", MetaData(), [tally]), daily())
    assert [spec.key.to_user_string() for spec in built.sources] == ["shops/north/sales"]
    assert [asset.key.to_user_string() for asset in built.assets] == ["shops/sales"]
    assemble([built], NOWHERE).get_repository_def().load_all_definitions()
