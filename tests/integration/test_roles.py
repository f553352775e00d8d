"""Who may do what, once the work is divided among roles: all of one's own work, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from assets.systems import all_systems
from pipelines.migrate import migrate
from tallies import rebuild, refresh, status, verify
from tests.role_world import World, divide, world_of


@pytest.fixture
def world(engine: Engine) -> Iterator[World]:
    with world_of(engine) as world:
        yield world


def test_every_role_does_its_daily_work(world: World) -> None:
    divide(world)
    world.run_script()
    assert migrate(world.deploy).done == []
    for system in all_systems():
        for tally in system.tallies:
            refresh(world.runs, tally)
            rebuild(world.runs, tally)
            assert verify(world.runs, tally).ok
            status(world.look, tally)
