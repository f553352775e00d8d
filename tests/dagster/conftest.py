"""A Dagster instance configured by the project's dagster.yaml, and code locations to run in it."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg
import pytest
from sqlalchemy import Engine

from assets.media.tallies import system as media
from pipelines.definitions import assets_of
from pipelines.partitions import daily
from resources.database import dagster_url, open_engine, prepare_dagster_storage
from resources.settings import project_root
from tests.dagster.location import Location
from tests.servers import VERSIONS, Servers
from tests.templates import migrated


@pytest.fixture(scope="session")
def instance(
    postgres_servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dg.DagsterInstance]:
    """One instance for all tests, for making its storage takes seconds; runs tell them apart."""
    home = tmp_path_factory.mktemp("dagster-home")
    (home / "dagster.yaml").symlink_to(project_root() / "dagster.yaml")
    with postgres_servers.fresh_database(VERSIONS[0]) as url, pytest.MonkeyPatch.context() as env:
        storage = open_engine(url)
        prepare_dagster_storage(storage)
        storage.dispose()
        env.setenv("DAGSTER_HOME", str(home))
        env.setenv("DAGSTER_PG_URL", dagster_url(url))
        env.setenv("DAGSTER_EVENT_BATCH_SIZE", "500")
        with dg.DagsterInstance.get() as instance:
            yield instance


@pytest.fixture
def location(instance: dg.DagsterInstance, engine: Engine) -> Location:
    """The media system, migrated into an empty database; nothing was ever built."""
    migrated(engine, media)
    return Location(instance, engine, [assets_of(media, daily())])


@pytest.fixture
def unmigrated(instance: dg.DagsterInstance, engine: Engine) -> Location:
    """The media system over a database that has none of its tables."""
    return Location(instance, engine, [assets_of(media, daily())])
