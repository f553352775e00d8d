"""The project itself: a row for each point of the card that it was begun with."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest
from sqlalchemy import Engine

from assets.media.load import load_media
from assets.media.reads import daily_counts
from assets.media.tallies import system as media
from tallykeeper.dagster.code_location import assets_of
from tallykeeper.dagster.partitions import daily
from tallykeeper.discovery import all_systems
from tallykeeper.reads.frames import as_frame
from tests.dagster.location import Location
from tests.documents.installation import checks_of, command, definitions, kept, schedule
from tests.integration.support import execute, scalar
from tests.servers import Servers

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def engine(postgres_servers: Servers) -> Iterator[Engine]:
    with kept(postgres_servers, "media") as engine:
        execute(
            engine,
            "INSERT INTO media.media_files (path, original_created_at)"
            " SELECT 'a' || n, now() FROM generate_series(1, 3) AS n",
        )
        yield engine


@pytest.fixture(scope="module")
def location(engine: Engine) -> Iterator[Location]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Location(instance, engine, [assets_of(media, daily())])


def tables() -> list[str]:
    return [f"{s.name}/{t.table.name}" for s in all_systems() for t in s.tallies]


@pytest.mark.parametrize(
    "name",
    [
        "pyproject.toml",
        "workspace.yaml",
        "dagster.yaml",
        "pipelines",
        "assets",
        "resources",
        "tests",
    ],
)
def test_the_project_has_the_folders_and_files_of_the_card(name: str) -> None:
    assert (ROOT / name).exists()


def test_it_is_written_in_python_with_dagster_and_postgresql() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    needed = [*project["dependencies"], *extras["dagster"], *extras["frames"]]
    for name in ("dagster>", "dagster-postgres", "psycopg", "SQLAlchemy", "pandas"):
        assert any(requirement.startswith(name) for requirement in needed), name


def test_every_derived_table_is_an_asset() -> None:
    keys = {
        key.to_user_string() for key in definitions().resolve_asset_graph().get_all_asset_keys()
    }
    assert set(tables()) <= keys


@pytest.mark.parametrize("name", tables())
def test_every_asset_has_checks_that_compare_it_with_its_sources(name: str) -> None:
    assert {"matches_source", "fresh"} <= checks_of(name)


def test_every_system_is_refreshed_by_a_schedule() -> None:
    for system in all_systems():
        assert schedule(f"{system.name}_hourly").cron_schedule == "0 * * * *"


def test_an_hourly_job_launched_by_hand_takes_what_is_pending(
    location: Location, engine: Engine
) -> None:
    location.build()
    execute(engine, "INSERT INTO media.media_files (path) VALUES ('later')")
    assert location.hourly().succeeded
    assert scalar(engine, "SELECT sum(count) FROM media.daily_contributions") == 4


def test_the_database_is_a_resource_that_can_be_exchanged(location: Location) -> None:
    assert "tally_database" in (location.definitions.resources or {})


def test_time_keyed_tables_have_a_partition_for_each_day() -> None:
    node = definitions().resolve_asset_graph().get(dg.AssetKey(["media", "daily_contributions"]))
    assert isinstance(node.partitions_def, dg.DailyPartitionsDefinition)


def test_reads_are_data_frames_where_that_is_wanted(tmp_path: Path) -> None:
    types = as_frame(daily_counts, folder=tmp_path).dtypes.astype(str)
    assert types.to_dict() == {"date": "datetime64[us, UTC]", "count": "Int64"}


def test_a_table_is_exported_for_pandas(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "days.parquet"
    command(engine, "export", "media.daily_contributions", "--to", "parquet", "--output", str(path))
    frame = pd.read_parquet(path)
    assert frame["count"].sum() == scalar(engine, "SELECT count(*) FROM media.media_files")


def test_a_data_frame_is_loaded_like_a_file(engine: Engine) -> None:
    frame = pd.DataFrame({"path": ["frame/1"], "original_created_at": [pd.Timestamp("2024-02-29")]})
    assert load_media(engine, frame).inserted == 1
    with engine.connect() as connection:
        day = date(2024, 2, 29)
        assert daily_counts(connection, day, day)["total_files"] == 1
