"""Dagster's own storage, for tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest

from tallykeeper.database.connections import dagster_url, open_engine, prepare_dagster_storage
from tallykeeper.settings import project_root
from tests.servers import VERSIONS, Servers


@contextmanager
def own_instance(servers: Servers, home: Path) -> Iterator[dg.DagsterInstance]:
    """An instance as the project's dagster.yaml has it, with nothing in it; others' is as it was.

    `home` is an empty folder. Processes that are started meanwhile find the instance.
    """
    (home / "dagster.yaml").symlink_to(project_root() / "dagster.yaml")
    with servers.fresh_database(VERSIONS[0]) as url, pytest.MonkeyPatch.context() as env:
        storage = open_engine(url)
        prepare_dagster_storage(storage)
        storage.dispose()
        env.setenv("DAGSTER_HOME", str(home))
        env.setenv("DAGSTER_PG_URL", dagster_url(url))
        env.setenv("DAGSTER_EVENT_BATCH_SIZE", "500")
        with dg.DagsterInstance.get() as instance:
            yield instance
