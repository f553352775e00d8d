"""All that Dagster runs, and its own storage too, as the refresher: the role that owns no table."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from sqlalchemy import Engine

from assets.fediverse.tallies import system as fediverse
from assets.media.tallies import system as media
from tallykeeper.dagster.code_location import assets_of
from tallykeeper.dagster.partitions import daily
from tallykeeper.database.connections import dagster_url, prepare_dagster_storage
from tallykeeper.settings import project_root
from tests.dagster.location import Location
from tests.integration.support import rows
from tests.role_world import WANTED, World, change, divide, world_of, write

SYSTEMS = (media, fediverse)
EXACT = ("matches_source", "capture_intact", "matches_log")


@pytest.fixture
def world(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    # Dagster's records are to lie beside the tallies, whatever other tests have set.
    monkeypatch.delenv("DAGSTER_PG_URL", raising=False)
    with world_of(engine, SYSTEMS) as world:
        divide(world, SYSTEMS)
        yield world


@pytest.fixture
def location(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Location]:
    """Two systems, in an instance that keeps its records where the refresher may."""
    (tmp_path / "dagster.yaml").symlink_to(project_root() / "dagster.yaml")
    prepare_dagster_storage(world.runs)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.setenv("DAGSTER_PG_URL", dagster_url(world.runs.url))
    with dg.DagsterInstance.get() as instance:
        yield Location(instance, world.runs, [assets_of(s, daily()) for s in SYSTEMS])


@pytest.mark.slow
def test_the_refresher_runs_all_jobs_and_owns_nothing_but_their_records(
    world: World, location: Location
) -> None:
    for system in SYSTEMS:
        write(world, system)
        assert location.hourly(system.name).succeeded
        change(world, system)
        ran = location.hourly(system.name)
        assert ran.succeeded
        assert not {failed for failed in ran.failures() if failed.startswith(EXACT)}
    audit = location.audit()
    assert audit.succeeded
    assert not {failed for failed in audit.failures() if failed.startswith(EXACT)}
    for job in ("fediverse_daily", "inventory", "housekeeping"):
        ran = location.run(job)
        assert ran.succeeded, ran.logged()
    assert location.look("alerts") is not None
    owned = "SELECT DISTINCT relnamespace::regnamespace::text FROM pg_class WHERE relowner = {}"
    role = f"(SELECT oid FROM pg_roles WHERE rolname = '{WANTED.refresher}')"
    login = "'runs'::regrole"
    mine = {
        name
        for (name,) in rows(world.admin, owned.format(role) + " UNION ALL " + owned.format(login))
    }
    assert {name for name in mine if not name.startswith("pg_toast")} == {"dagster"}
