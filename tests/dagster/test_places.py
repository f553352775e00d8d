"""Assets and checks of tallies at several places: done place by place, and said so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from sqlalchemy import Engine

from tallykeeper.dagster import partitions
from tallykeeper.dagster.assets import SystemAssets, build_assets
from tallykeeper.dagster.automation.schedules import why_passed_over
from tallykeeper.dagster.database import Database
from tallykeeper.dagster.places import left_out
from tallykeeper.dagster_names import RESOURCE
from tallykeeper.database.connections import open_engine
from tallykeeper.places.place import Place
from tallykeeper.places.work import install_everywhere
from tests.places import network
from tests.servers import Servers

World = tuple[list[Place], Path, SystemAssets, dict[str, Any]]


class _Named(Database):
    """The database of an address."""

    url: str

    def engine(self) -> Any:
        return open_engine(self.url)


@pytest.fixture
def world(
    postgres_servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    """Two places with rows, the file that declares them, assets, and resources of a run."""
    system = network.system("hours", "top")
    with postgres_servers.fresh_database(18) as first, postgres_servers.fresh_database(18) as other:
        places = [network.place("a", first, "1"), network.place("b", other, "2")]
        for number, place in enumerate(places):
            network.create(place)
            with network.connect(place.url) as connection:
                posts = ".".join(place.table("network", "posts"))
                connection.execute(
                    f"INSERT INTO {posts} SELECT {number}, n, 'a', now(), 1, true"
                    " FROM generate_series(1, 5) AS n"
                )
        install_everywhere(system.tallies, lambda: places)
        file = tmp_path / "places.toml"
        declare(file, places)
        monkeypatch.setenv("TALLY_PLACES", str(file))
        yield places, file, build_assets(system, partitions.daily()), {RESOURCE: _Named(url=first)}


def declare(file: Path, places: list[Place]) -> None:
    """Write the file that declares the places."""
    file.write_text(
        "\n".join(
            f'[[places]]\nname = "{place.name}"\ndatabase = "{place.url}"\ntables = {{ '
            + ", ".join(f'"{".".join(o)}" = "{".".join(t)}"' for o, t in place.tables.items())
            + " }\n"
            for place in places
        ),
        encoding="utf-8",
    )


def run(assets: SystemAssets, resources: dict[str, Any]) -> dg.ExecuteInProcessResult:
    """Materialize all assets, with their checks."""
    with dg.DagsterInstance.ephemeral() as instance:
        return dg.materialize(
            [*assets.sources, *assets.assets, *assets.checks],
            resources=resources,
            instance=instance,
            raise_on_error=False,
        )


def checks(result: dg.ExecuteInProcessResult) -> dict[tuple[str, str], dg.AssetCheckEvaluation]:
    return {
        (each.asset_key.path[-1], each.check_name): each
        for each in result.get_asset_check_evaluations()
    }


def test_places_are_in_the_metadata(
    world: World,
) -> None:
    _, _, assets, resources = world
    result = run(assets, resources)
    assert result.success
    metadata: Any = result.asset_materializations_for_node("network__top")[-1].metadata
    assert metadata["dagster/row_count"].value == 2
    records = [record.data for record in metadata["places"].records]
    assert [(r["place"], r["answered"]) for r in records] == [("a", True), ("b", True)]
    assert records[0]["what"] == "rebuild, 1 keys changed, 1 rows"
    judged = checks(result)
    assert len(judged) == 6
    assert all(each.passed for each in judged.values())


def test_a_tally_that_was_left_out_is_passed_over(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = world[2].system
    hours, top = system.tallies
    places = [network.place("a", "postgresql:///a", "1", ["hours"])]
    monkeypatch.delenv("TALLY_PLACES")
    assert left_out(system, hours, lambda: places) is None
    outcome = left_out(system, top, lambda: places)
    assert outcome is not None
    assert "network.top was left out" in str(outcome.description)


def test_the_hourly_run_is_asked_for_where_the_tables_are_elsewhere(
    world: World, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = world[2].system
    assert why_passed_over(engine, system) is None
    monkeypatch.delenv("TALLY_PLACES")
    assert "network is not kept here" in str(why_passed_over(engine, system))


def test_a_place_that_does_not_answer_fails_checks_and_names_itself(
    world: World,
) -> None:
    places, file, assets, resources = world
    lost = network.place("c", "postgresql://nobody@127.0.0.1:1/nothing", "9")
    declare(file, [*places, lost])
    with network.connect(places[1].url) as connection:
        connection.execute("ALTER TABLE network.posts_2 DISABLE TRIGGER USER")
    result = run(assets, resources)
    assert result.success
    judged = checks(result)
    assert not judged["hours", "matches_source"].passed
    said = str(judged["hours", "capture_intact"].description)
    assert said.startswith("At 2 of 3 places: b: network.posts_2: the delete trigger is disabled")
    assert "c: expected a PostgreSQL database" in said
    assert "At 1 of 3 places: c: " in str(judged["hours", "fresh"].description)
    declare(file, [lost])
    assert not run(assets, resources).success
