"""Tallies at places that are ordinary databases, two of them in one database."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tallykeeper import NotInstalled, Tally, refresh, status, verify
from tallykeeper.catalog.state import NOT_CAPTURED
from tallykeeper.database import sql
from tallykeeper.database.connections import DatabaseUnavailable, open_engine
from tallykeeper.errors import DeclarationError
from tallykeeper.places.place import Place
from tallykeeper.places.tallies import kept_at, tally_at
from tallykeeper.places.work import PlaceMoved, everywhere, install_everywhere
from tests.places import network
from tests.servers import Servers

ROUNDS = 3


@pytest.fixture
def places(postgres_servers: Servers) -> Iterator[list[Place]]:
    """Three places, the first two in one database."""
    with (
        postgres_servers.fresh_database(18) as first,
        postgres_servers.fresh_database(15) as second,
    ):
        found = [
            network.place("a", first, "1"),
            network.place("b", first, "2"),
            network.place("c", second, "1"),
        ]
        for place in found:
            network.create(place)
        yield found


@contextmanager
def writing(places: list[Place]) -> Iterator[None]:
    """A writer at each place until the block ends."""
    ended = threading.Event()
    failed: list[BaseException] = []

    def write(number: int, place: Place) -> None:
        rng = random.Random(number)
        try:
            with network.connect(place.url) as connection:
                while not ended.is_set():
                    with connection.transaction():
                        network.change(connection, place, rng, 10 * number + rng.randint(1, 2))
        except BaseException as error:  # noqa: BLE001 -- raised again by the test
            failed.append(error)

    threads = [threading.Thread(target=write, args=each) for each in enumerate(places)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert not failed, failed


def test_exact_at_each_place_under_writers(places: list[Place]) -> None:
    tallies = network.system().tallies
    installed = install_everywhere(tallies, lambda: places)
    assert [(done.place, done.error) for done in installed] == [
        ("a", None),
        ("b", None),
        ("c", None),
    ]
    with writing(places):
        for _ in range(ROUNDS):
            refreshed = everywhere(tallies, lambda: places, refresh)
            assert [done.error for done in refreshed] == [None] * 9
            for done in everywhere(tallies, lambda: places, verify):
                assert getattr(done.result, "ok", False), done
            for each in kept_at(tallies, places):
                assert differences(each.place, each.tally) == []
    everywhere(tallies, lambda: places, refresh)
    for each in kept_at(tallies, places):
        with each.place.connected() as engine, engine.connect() as connection:
            each.tally.bind(connection)
            stored = sql.name_of(each.tally.table)
            assert sql.execute(connection, f"SELECT count(*) FROM {stored}").scalar_one() > 0
        assert differences(each.place, each.tally, stored) == []


def differences(place: Place, tally: Tally, relation: str | None = None) -> list[object]:
    """The rows in which the live view, or the relation, and the SELECT differ at the place."""
    with place.connected() as engine, engine.connect() as connection:
        tally.bind(connection)
        columns = sql.columns(tally.columns)
        kept = f"SELECT {columns} FROM {relation or tally.live_name}"
        expected = f"SELECT {columns} FROM ({tally.definition}) AS e"
        compared = (
            f"WITH k AS MATERIALIZED ({kept}), e AS MATERIALIZED ({expected})"
            " (TABLE k EXCEPT ALL TABLE e) UNION ALL (TABLE e EXCEPT ALL TABLE k)"
        )
        return list(sql.execute(connection, compared))


def test_what_is_wrong_at_one_place_is_found_there(places: list[Place]) -> None:
    tallies = network.system("hours").tallies
    install_everywhere(tallies, lambda: places)
    for place in places:
        with network.connect(place.url) as connection:
            network.change(connection, place, random.Random(3), 1)
            posts = ".".join(place.table("network", "posts"))
            connection.execute(f"INSERT INTO {posts} VALUES (1, 99, 'x', now(), 1, true)")
    everywhere(tallies, lambda: places, refresh)
    with network.connect(places[1].url) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute("ALTER TABLE network.hours_2 DISABLE TRIGGER ALL")
        connection.execute("UPDATE network.hours_2 SET posts = posts + 1")
    found = {done.place: done.result for done in everywhere(tallies, lambda: places, verify)}
    assert {name: result is not None and result.ok for name, result in found.items()} == {
        "a": True,
        "b": False,
        "c": True,
    }


def test_a_place_that_does_not_answer_fails_alone(places: list[Place]) -> None:
    tallies = network.system("hours").tallies
    install_everywhere(tallies, lambda: places)
    lost = network.place("d", "postgresql://nobody@127.0.0.1:1/nothing", "9")
    done = everywhere(tallies, lambda: [*places, lost], refresh)
    assert [each.succeeded for each in done] == [True, True, True, False]
    assert isinstance(done[3].error, DatabaseUnavailable)
    installed = install_everywhere(tallies, lambda: [lost, *places])
    assert [each.succeeded for each in installed] == [False, True, True, True]


def test_a_place_where_nothing_is_installed_is_refused(places: list[Place]) -> None:
    tallies = network.system("hours").tallies
    install_everywhere(tallies, lambda: places[:2])
    done = everywhere(tallies, lambda: places, verify)
    assert [type(each.error) for each in done] == [type(None), type(None), NotInstalled]


def test_a_place_that_moves_meanwhile_has_no_result(places: list[Place]) -> None:
    tallies = network.system("hours").tallies
    install_everywhere(tallies, lambda: places)
    moved = network.place("b", places[2].url, "2")
    answers = iter([places, [places[0], moved, places[2]]])
    done = everywhere(tallies, lambda: next(answers), refresh)
    assert [type(each.error) for each in done] == [type(None), PlaceMoved, type(None)]
    assert "network.hours at b" in str(done[1].error)


def test_truncate_at_a_place_makes_the_tally_stale_there(places: list[Place]) -> None:
    tallies = network.system("hours").tallies
    install_everywhere(tallies, lambda: places)
    everywhere(tallies, lambda: places, refresh)
    with network.connect(places[0].url) as connection:
        connection.execute("TRUNCATE network.posts_1")
    stale = {
        done.place: bool(done.result and done.result.stale)
        for done in everywhere(tallies, lambda: places, verify)
    }
    assert stale == {"a": True, "b": False, "c": False}
    assert [d.result and d.result.how for d in everywhere(tallies, lambda: places, refresh)] == [
        "rebuild",
        "refresh",
        "refresh",
    ]


def test_a_tally_that_is_left_out_is_stale_and_reads_its_sources(places: list[Place]) -> None:
    hours, top = network.system("hours", "top").tallies
    install_everywhere([hours, top], lambda: places)
    everywhere([hours, top], lambda: places, refresh)
    install_everywhere([hours], lambda: places)
    with network.connect(places[0].url) as connection:
        connection.execute("INSERT INTO network.posts_1 VALUES (1, 1, 'x', now(), 1, true)")
    for each in kept_at([hours, top], places):
        assert differences(each.place, each.tally) == []
    states = everywhere([top], lambda: places, status)
    assert all(done.result and NOT_CAPTURED in done.result.stale for done in states)
    install_everywhere([hours, top], lambda: places)
    everywhere([hours, top], lambda: places, refresh)
    assert all(d.result and d.result.ok for d in everywhere([top], lambda: places, verify))


def test_two_places_in_one_database_need_tables_of_their_own(places: list[Place]) -> None:
    tallies = network.system("hours").tallies
    twice = [Place("a", places[0].url), Place("b", places[0].url)]
    with pytest.raises(DeclarationError, match="two tallies keep the same table"):
        kept_at(tallies, twice)


def test_a_tally_that_is_no_select_is_refused() -> None:
    with pytest.raises(DeclarationError, match="is not declared by a SELECT alone"):
        tally_at(cast(Any, SimpleNamespace(name="network.other")), Place("a", "postgresql:///a"))


def test_the_select_of_a_place_is_the_declared_one(places: list[Place]) -> None:
    (tally,) = network.system("hours").tallies
    assert tally_at(tally, Place("a", places[0].url)).definition == tally.definition
    there = tally_at(tally, places[0])
    assert there.name == "network.hours_1"
    assert there.definition == tally.definition.replace(
        "FROM network.posts", "FROM network.posts_1 AS posts"
    )
    assert [sql.name_of(source) for source in there.sources] == ["network.posts_1"]
    engine = open_engine(places[0].url)
    engine.dispose()
