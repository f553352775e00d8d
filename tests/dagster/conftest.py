"""A Dagster instance configured by the project's dagster.yaml, and code locations to run in it."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg
import pytest
from sqlalchemy import Engine

from assets.media.tallies import system as media
from tallykeeper.dagster.code_location import assets_of
from tallykeeper.dagster.partitions import daily
from tests.dagster.location import FIRST, Location
from tests.dagster.storage import own_instance
from tests.servers import Servers
from tests.templates import migrated


@pytest.fixture(scope="session")
def instance(
    postgres_servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dg.DagsterInstance]:
    """One instance for all tests, for making its storage takes seconds; runs tell them apart."""
    with own_instance(postgres_servers, tmp_path_factory.mktemp("dagster-home")) as instance:
        yield instance


@pytest.fixture(autouse=True)
def _first_partition(monkeypatch: pytest.MonkeyPatch) -> None:
    """So far away that a test may name the day of a row, and no farther.

    The first run of a tally reports each partition, and takes a millisecond for each.
    """
    monkeypatch.setenv("TALLY_START_DATE", FIRST)


@pytest.fixture
def location(instance: dg.DagsterInstance, engine: Engine) -> Location:
    """The media system, migrated into an empty database; nothing was ever built."""
    migrated(engine, media)
    return Location(instance, engine, [assets_of(media, daily())])


@pytest.fixture
def unmigrated(instance: dg.DagsterInstance, engine: Engine) -> Location:
    """The media system over a database that has none of its tables."""
    return Location(instance, engine, [assets_of(media, daily())])
