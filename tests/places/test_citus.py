"""Tallies on a real Citus cluster: exact at each place and at the coordinator, or refused."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import psycopg
import pytest

from tallykeeper import open_engine, refresh, verify
from tallykeeper.places.citus import places_of
from tallykeeper.places.distribute import distribute
from tallykeeper.places.place import Place
from tallykeeper.places.work import everywhere
from tests.places import cluster, network
from tests.places.race import Race

SHARDS = 4
SNAPSHOTS = 2_000 if os.environ.get("TALLY_TEST_LONG") else 40
FAMILY = ("network", "posts")


@pytest.fixture
def url() -> Iterator[str]:
    """The coordinator's end of a database with posts, not distributed."""
    with cluster.fresh_database(SHARDS) as url:
        network.create(Place("all", url))
        yield url


def change(connection: psycopg.Connection[tuple[object, ...]], rng: random.Random) -> None:
    """Change rows of one server or two, through the coordinator."""
    for _ in range(rng.randint(1, 2)):
        network.change(connection, Place("all", ""), rng, rng.randint(1, 12))


def test_exact_under_writers_at_each_place_and_at_the_coordinator(url: str) -> None:
    system, engine = network.system(), open_engine(url)
    done = distribute(engine, system)
    assert [each.error for each in done] == [None] * SHARDS
    race = Race(url, system.tallies, places_of(engine, FAMILY), change)
    counted = [f"place {number}" for number in range(1, SHARDS + 1)] + ["coordinator"]
    race.run(lambda race: all(race.done[name] >= SNAPSHOTS for name in counted))
    assert set(race.refused) <= {"write: DeadlockDetected"}, race.refused
    assert race.wrong == []
    for each in everywhere(system.tallies, race.places, refresh):
        assert each.error is None, each
    for each in everywhere(system.tallies, race.places, verify):
        assert getattr(each.result, "ok", False), each
    engine.dispose()
