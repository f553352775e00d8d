"""Figures over all places are those of one database with all rows, or are refused."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from sqlalchemy import Engine

from tallykeeper import DeclarationError, DoesNotFit, SelectTally, refresh
from tallykeeper.installation.migrate import migrate
from tallykeeper.places.columns import columns_at
from tallykeeper.places.place import Place
from tallykeeper.places.roll_ups import PlaceMissing, grouped_over
from tallykeeper.places.work import everywhere, install_everywhere
from tallykeeper.reads.grouping import Groups, grouped
from tallykeeper.system import System
from tests.places import network
from tests.servers import Servers

SYSTEM = network.system()
BY_NAME = {tally.table.name: tally for tally in SYSTEM.tallies}


@pytest.fixture(scope="module")
def world(postgres_servers: Servers) -> Iterator[tuple[list[Place], str]]:
    """Three places, and a database with the rows of all of them."""
    with ExitStack() as stack:
        urls = [stack.enter_context(postgres_servers.fresh_database(18)) for _ in range(3)]
        places = [
            network.place("a", urls[0], "1"),
            network.place("b", urls[0], "2"),
            network.place("c", urls[1], "1"),
        ]
        for number, place in enumerate(places):
            network.create(place)
            with network.connect(place.url) as connection:
                rng = random.Random(number)
                for _ in range(80):
                    network.change(connection, place, rng, 10 * number + rng.randint(1, 3))
        whole = Place("all", urls[2])
        network.create(whole)
        for place in places:
            for table in ("posts", "post_tags"):
                _copy(place, whole, table)
        install_everywhere(SYSTEM.tallies, lambda: places)
        everywhere(SYSTEM.tallies, lambda: places, refresh)
        with whole.connected() as engine:
            migrate(engine, [network.system()])
        # Some changes stay pending.
        with network.connect(places[0].url) as connection, network.connect(whole.url) as other:
            for each, place in ((connection, places[0]), (other, whole)):
                posts = ".".join(place.table("network", "posts"))
                each.execute(f"UPDATE {posts} SET likes = likes + 5 WHERE server_id = 1")
        yield places, whole.url


def _copy(source: Place, target: Place, table: str) -> None:
    here, there = (".".join(place.table("network", table)) for place in (source, target))
    with network.connect(source.url) as reading, network.connect(target.url) as writing:
        rows = reading.execute(f"SELECT * FROM {here}").fetchall()
        with writing.cursor() as cursor, cursor.copy(f"COPY {there} FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)


def _in_one(url: str, name: str, by: list[str], measures: list[str] | None) -> Groups:
    with Place("all", url).connected() as engine, engine.connect() as connection:
        return grouped(connection, BY_NAME[name], by, measures=measures)


@pytest.mark.parametrize(
    ("name", "by", "measures"),
    [
        ("hours", ["hour:day"], None),
        ("hours", ["hour"], ["likes", "posts"]),
        ("hours", [], None),
        ("hours", ["server_id"], None),
        ("hours", ["server_id", "hour"], None),
        ("tag_hours", ["label"], ["posts", "last_at"]),
        ("tag_hours", ["server_id", "label"], None),
        ("top", ["server_id", "author"], None),
    ],
)
def test_figures_are_those_of_one_database(
    world: tuple[list[Place], str], name: str, by: list[str], measures: list[str] | None
) -> None:
    places, whole = world
    found = grouped_over(BY_NAME[name], lambda: places, "server_id", by, measures=measures)
    expected = _in_one(whole, name, by, measures)
    assert found.groups
    assert sorted(map(str, found.groups)) == sorted(map(str, expected.groups))
    assert found.groups == sorted(found.groups, key=lambda row: [row[n.split(":")[0]] for n in by])


def test_what_does_not_merge_is_left_out_or_refused(world: tuple[list[Place], str]) -> None:
    places, _ = world
    tally = BY_NAME["tag_hours"]
    found = grouped_over(tally, lambda: places, "server_id", ["label"])
    assert set(found.groups[0]) == {"label", "posts", "last_at", "rows"}
    assert "authors" in found.left_out
    with pytest.raises(ValueError, match="has no authors"):
        grouped_over(tally, lambda: places, "server_id", ["label"], measures=["authors"])
    with pytest.raises(ValueError, match="Expected columns of"):
        grouped_over(tally, lambda: places, "server_id", ["lable"])


def test_without_a_place_nothing_is_said_of_all(world: tuple[list[Place], str]) -> None:
    places, _ = world
    lost = network.place("d", "postgresql://nobody@127.0.0.1:1/nothing", "9")
    with pytest.raises(PlaceMissing, match="nothing can be said of all places, for d"):
        grouped_over(BY_NAME["hours"], lambda: [*places, lost], "server_id", ["hour"])


def test_the_columns_by_which_derived_tables_are_divided(world: tuple[list[Place], str]) -> None:
    places, _ = world
    assert columns_at(SYSTEM, places[0]) == dict.fromkeys(
        ["network.hours", "network.tag_hours", "network.top"], "server_id"
    )


@pytest.mark.parametrize(
    ("select", "key", "why"),
    [
        (
            "SELECT author, count(*) AS n FROM network.posts GROUP BY author",
            None,
            "network.odd: GROUP BY does not contain server_id",
        ),
        (
            "SELECT server_id, author, id FROM network.posts",
            ["id"],
            "its key .id. does not contain server_id",
        ),
    ],
)
def test_a_tally_that_cannot_be_kept_at_places_is_refused(
    world: tuple[list[Place], str], select: str, key: list[str] | None, why: str
) -> None:
    places, _ = world
    odd = SelectTally("network.odd", select=select, key=key)
    system = System("network", SYSTEM.metadata, [odd], distribution=SYSTEM.distribution)
    with pytest.raises(DoesNotFit, match=why):
        columns_at(system, places[0])
    assert columns_at(system, places[0], ["network.odd"]) == {}


def test_a_system_that_does_not_say_how_it_is_divided_is_refused(engine: Engine) -> None:
    system = System("network", SYSTEM.metadata, [])
    with pytest.raises((DoesNotFit, DeclarationError), match="does not say how"):
        columns_at(system, Place("a", engine.url.render_as_string(hide_password=False)))
