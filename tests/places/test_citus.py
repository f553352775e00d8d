"""Tallies on a real Citus cluster: exact at each place and at the coordinator, or refused."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Sequence

import psycopg
import pytest
from sqlalchemy.exc import DBAPIError

from tallykeeper import Tally, Verification, open_engine, refresh, status, verify
from tallykeeper.database import sql
from tallykeeper.places.citus import places_of
from tallykeeper.places.distribute import distribute
from tallykeeper.places.place import Place
from tallykeeper.places.work import everywhere
from tests.places import cluster, network
from tests.places.race import Race, set_of

SHARDS = 4
SNAPSHOTS = 2_000 if os.environ.get("TALLY_TEST_LONG") else 40
CRASHES = 10 if os.environ.get("TALLY_TEST_LONG") else 2
MOVES = 5 if os.environ.get("TALLY_TEST_LONG") else 1
BETWEEN = 10
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


@pytest.mark.timeout(3_600)
def test_exact_under_writers_at_each_place_and_at_the_coordinator(url: str) -> None:
    system, engine = network.system(), open_engine(url)
    done = distribute(engine, system)
    assert [each.error for each in done] == [None] * SHARDS
    race = Race(url, system.tallies, places_of(engine, FAMILY), change)
    counted = [f"place {number}" for number in range(1, SHARDS + 1)] + ["coordinator"]
    race.run(lambda race: all(race.done[name] >= SNAPSHOTS for name in counted))
    assert set(race.refused) <= {"write: DeadlockDetected"}, race.refused
    assert race.wrong == []
    require_right(system.tallies, race.places)
    engine.dispose()


@pytest.mark.timeout(3_600)
def test_a_worker_that_crashes_leaves_nothing_wrong(url: str) -> None:
    system, engine = network.system(), open_engine(url)
    distribute(engine, system)
    race = Race(url, system.tallies, places_of(engine, FAMILY), change)
    crashes = iter([*[cluster.workers(url)[0], cluster.workers(url)[1]] * (CRASHES // 2), None])
    begun: list[int] = [0]

    def until(race: Race) -> bool:
        if race.done["coordinator"] < begun[0] + BETWEEN:
            return False
        worker = next(crashes)
        begun[0] = race.done["coordinator"]
        if worker is not None:
            cluster.crash(url, worker)
        return worker is None

    race.run(until)
    assert race.wrong == []
    cluster.recover(url)
    require_right(system.tallies, race.places)
    engine.dispose()


@pytest.mark.timeout(3_600)
def test_a_shard_that_moves_under_load_is_refused_until_it_is_installed(url: str) -> None:
    system, engine = network.system(), open_engine(url)
    distribute(engine, system)
    race = Race(url, system.tallies, places_of(engine, FAMILY), change)
    steps = iter(
        [lambda: cluster.move(url, "network.posts"), lambda: distribute(engine, system)] * MOVES
    )
    begun: list[int] = [0]

    def until(race: Race) -> bool:
        if sum(race.done.values()) < begun[0] + 20 * BETWEEN:
            return False
        step = next(steps, None)
        if step is not None:
            step()
        begun[0] = sum(race.done.values())
        return step is None

    race.run(until)
    assert race.wrong == []
    assert any("NotInstalled" in name or "PlaceMoved" in name for name in race.refused), (
        race.refused
    )
    require_right(system.tallies, race.places)
    engine.dispose()


def test_a_place_that_moved_is_refused_with_what_to_do(url: str) -> None:
    system, engine = network.system("hours"), open_engine(url)
    distribute(engine, system)
    places = places_of(engine, FAMILY)
    require_right(system.tallies, places)
    cluster.move(url, "network.posts")
    errors = [each.error for each in everywhere(system.tallies, places, verify) if each.error]
    assert len(errors) == 1
    assert "tally migrate" in str(errors[0])
    with engine.connect() as connection, pytest.raises(DBAPIError, match="is not at this place"):
        set_of(connection, "SELECT * FROM network.hours_live")
    distribute(engine, system)
    require_right(system.tallies, places)
    engine.dispose()


@pytest.mark.parametrize("how", ["block_writes", "force_logical"])
def test_a_shard_that_comes_back_is_refused_and_built_anew(url: str, how: str) -> None:
    system, engine = network.system(), open_engine(url)
    distribute(engine, system)
    places = places_of(engine, FAMILY)
    rng = random.Random(3)
    with cluster.connected(url) as connection:
        for _ in range(40):
            change(connection, rng)
        require_right(system.tallies, places)
        first = places()[0]
        for _ in range(2):
            cluster.move(url, "network.posts", first.table("network", "posts")[1], how)
            # Not captured anywhere: as long as nothing is installed there, nothing is said.
            for _ in range(40):
                change(connection, rng)
            compared = everywhere(system.tallies, places, verify)
            assert [each.place for each in compared if each.error] == [first.name] * 3
            refreshed = everywhere(system.tallies, places, refresh)
            assert [each.place for each in refreshed if each.error] == [first.name] * 3
            distribute(engine, system)
            for _ in range(10):
                change(connection, rng)
            require_right(system.tallies, places)
            for tally in system.tallies:
                with engine.connect() as reading:
                    columns = ", ".join(tally.columns)
                    stored = set_of(reading, f"SELECT {columns} FROM {tally.table}")
                    assert stored == set_of(
                        reading, f"SELECT {columns} FROM ({tally.definition}) e"
                    )
    assert places()[0] == first
    engine.dispose()


def test_truncate_and_faults_are_noticed_at_their_places(url: str) -> None:
    system, engine = network.system(), open_engine(url)
    rng = random.Random(5)
    distribute(engine, system)
    places = places_of(engine, FAMILY)
    with cluster.connected(url) as connection:
        for _ in range(60):
            change(connection, rng)
        require_right(system.tallies, places)
        connection.execute("TRUNCATE network.posts")
        assert all(
            isinstance(each.result, Verification) and each.result.stale
            for each in everywhere(system.tallies, places, verify)
        )
        require_right(system.tallies, places)
        for _ in range(60):
            change(connection, rng)
        require_right(system.tallies, places)
        # By hand, in the derived table: stale where it was.
        connection.execute("UPDATE network.hours SET posts = posts + 1")
        with engine.connect() as reading:
            columns = "server_id, hour, posts, likes"
            live = set_of(reading, f"SELECT {columns} FROM network.hours_live")
            assert live == set_of(reading, f"SELECT {columns} FROM ({network.COUNTS}) AS e")
        require_right(system.tallies, places)
        # A label of a reference table, which all places have.
        connection.execute("UPDATE network.tags SET label = label || '!' WHERE id < 4")
        require_right(system.tallies, places)
        connection.execute("ALTER TABLE network.posts ADD COLUMN note text")
        require_right(system.tallies, places)
        with pytest.raises(psycopg.Error):
            connection.execute("ALTER TABLE network.posts DROP COLUMN likes")
        require_right(system.tallies, places)
    place = places()[0]
    posts = ".".join(place.table("network", "posts"))
    with place.connected() as there, there.begin() as connection:
        sql.execute(connection, f"ALTER TABLE {posts} DISABLE TRIGGER USER")
    faults = {
        each.place: each.result.faults
        for each in everywhere(system.tallies, places, status)
        if each.result is not None and each.result.faults
    }
    assert list(faults) == [place.name]
    distribute(engine, system)
    require_right(system.tallies, places)
    engine.dispose()


def require_right(tallies: Sequence[Tally], places: Callable[[], Sequence[Place]]) -> None:
    """Refresh and verify everywhere."""
    refreshed = everywhere(tallies, places, refresh)
    assert [each.error for each in refreshed] == [None] * len(refreshed)
    for each in everywhere(tallies, places, verify):
        assert getattr(each.result, "ok", False), each
