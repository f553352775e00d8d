"""Two code locations on one database: each finds, repairs and resolves what is its own, at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest
from sqlalchemy import Engine

from assets.gallery.tallies import system as gallery
from assets.media.tallies import system as media
from tallykeeper import System
from tallykeeper.dagster.assets import build_assets
from tallykeeper.dagster.partitions import daily
from tests.dagster.location import Location
from tests.dagster.watching import all_incidents, look
from tests.templates import migrated


@dataclass(frozen=True)
class Team:
    """A project with a prefix of its own, for one system of the database that both share."""

    location: Location
    root: Path

    @contextmanager
    def at_work(self) -> Iterator[Location]:
        """In its code location, as in its own process."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TALLY_PROJECT", str(self.root))
            yield self.location

    def compares(self, table: str, *, passed: bool) -> None:
        """A check of one of its tables is evaluated: one key differs, or none."""
        with self.at_work() as location:
            key = dg.AssetKey([self.root.name, location.built[0].system.name, table])
            repair = {
                "tally": f"{key.path[1]}.{table}",
                "days": None,
                "keys": None,
                "everything": True,
            }
            evaluation = dg.AssetCheckEvaluation(
                asset_key=key,
                check_name="matches_source",
                passed=passed,
                metadata={"differing": 0 if passed else 1, "repair": repair},
            )
            location.instance.report_runless_asset_event(evaluation)

    def looks(self) -> list[str]:
        """The jobs that its sensor asks for."""
        with self.at_work() as location:
            return [request.job_name or "" for request in look(location).run_requests or ()]


@pytest.fixture
def teams(instance: dg.DagsterInstance, engine: Engine, tmp_path: Path) -> tuple[Team, Team]:
    migrated(engine, media, gallery)

    def team(name: str, system: System) -> Team:
        root = tmp_path / name
        root.mkdir()
        declared = f'[tool.tallykeeper]\ndagster_prefix = "{name}"\n'
        (root / "pyproject.toml").write_text(declared)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TALLY_PROJECT", str(root))
            built = build_assets(system, daily())
        return Team(Location(instance, engine, [built], f"location of {name}"), root)

    one, two = team("one", media), team("two", gallery)
    # What another test left in the log of the instance.
    one.compares("daily_contributions", passed=True)
    two.compares("gen_source_stats", passed=True)
    return one, two


def subjects(teams: tuple[Team, Team], kind: str = "differs") -> set[str]:
    """What is open and of that kind."""
    found = all_incidents(teams[0].location)
    return {incident.subject for incident in found if incident.is_open and incident.kind == kind}


def test_each_finds_and_repairs_what_is_its_own(teams: tuple[Team, Team]) -> None:
    one, two = teams
    for each in teams:
        each.looks()
    one.compares("daily_contributions", passed=False)
    two.compares("gen_source_stats", passed=False)
    assert two.looks() == ["two_repair"], "the first to look has not processed what is the other's"
    assert subjects(teams) == {"gallery.gen_source_stats"}
    assert one.looks() == ["one_repair"]
    assert subjects(teams) == {"gallery.gen_source_stats", "media.daily_contributions"}
    assert (one.looks(), two.looks()) == ([], []), "each is asked for once"


def test_a_request_that_was_lost_is_made_again_by_the_one_whose_it_is(
    teams: tuple[Team, Team],
) -> None:
    one, two = teams
    for each in teams:
        each.looks()
    one.compares("daily_contributions", passed=False)
    assert one.looks() == ["one_repair"]
    one.location.execute(
        "UPDATE tallykeeper.incidents SET repair_requested_at = now() - interval '3 minutes'"
    )
    assert two.looks() == []
    assert one.looks() == ["one_repair"]


def test_what_both_had_in_common_in_the_last_release_goes_on_with_the_first(
    teams: tuple[Team, Team],
) -> None:
    one, two = teams
    one.looks()
    one.location.execute(
        "UPDATE tallykeeper.processed_events SET log = split_part(log, ' location of ', 1)"
    )
    one.compares("daily_contributions", passed=False)
    two.compares("gen_source_stats", passed=False)
    one.looks()
    assert [i.times for i in all_incidents(one.location) if i.kind == "differs"] == [1]
    two.looks()
    assert subjects(teams) == {"gallery.gen_source_stats", "media.daily_contributions"}
    known = "SELECT count(DISTINCT log) FROM tallykeeper.processed_events"
    with one.location.engine.connect() as connection:
        assert connection.exec_driver_sql(known).scalar_one() == 2
