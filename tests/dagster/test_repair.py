"""Repair of what a failed check named: requested once per evaluation, so often a day, and told."""

from __future__ import annotations

from typing import Any

import dagster as dg
import pytest

from assets.checks import REPAIR
from pipelines.repairing import doing, repair_requests
from tallies import Incident, incidents
from tests.dagster.location import Location

NAME = "media.daily_contributions"
ONE_DAY = {
    "tally": NAME,
    "days": [["2020-06-02", "2020-06-02"]],
    "keys": None,
    "everything": False,
}


@pytest.fixture
def library(location: Location) -> Location:
    """Twelve files on twelve days, and all tallies built."""
    location.add(*(f"2020-06-{day:02} 12:00Z" for day in range(1, 13)))
    location.build()
    return location


def found(library: Location, evaluation: str, **other: Any) -> None:
    """What the sensor writes down when it hears of a failed evaluation."""
    details = {"evaluation": evaluation, "repair": ONE_DAY, "to_mend": f"tally rebuild {NAME}"}
    with library.engine.begin() as connection:
        incidents.report(connection, NAME, "differs", "1 key", details=details | other)


def requests(library: Location) -> list[dg.RunRequest]:
    """What the sensor asks for."""
    with library.engine.begin() as connection:
        return repair_requests(library.instance, connection)


def incident(library: Location) -> Incident:
    """The open incident."""
    with library.engine.begin() as connection:
        (only,) = incidents.listed(connection, open_only=True)
    return only


def mend(library: Location) -> None:
    """What the sensor writes down when the check passes again."""
    with library.engine.begin() as connection:
        assert incidents.mend(connection, NAME, "differs", "matches_source")


@pytest.mark.parametrize(
    ("statement", "days"),
    [
        ("UPDATE media.daily_contributions SET count = 7 WHERE date = '2020-06-02Z'", ["02", "02"]),
        ("DELETE FROM media.daily_contributions WHERE date > '2020-06-10Z'", ["11", "12"]),
    ],
)
def test_a_failed_check_says_what_a_repair_has_to_rebuild(
    library: Location, statement: str, days: list[str]
) -> None:
    library.execute(statement)
    failed = library.audit().checked("daily_contributions", "matches_source")
    assert failed.metadata[REPAIR].value == ONE_DAY | {
        "days": [[f"2020-06-{days[0]}", f"2020-06-{days[1]}"]]
    }


def test_a_repair_is_requested_once_for_each_evaluation(library: Location) -> None:
    found(library, "run 1")
    (request,) = requests(library)
    assert (request.job_name, request.run_config) == (
        "repair",
        {"ops": {"repair": {"config": ONE_DAY | {"incident": incident(library).id}}}},
    )
    assert requests(library) == []
    assert doing(incident(library)) == (
        f"A repair was requested: {NAME} is rebuilt on 2020-06-02; then it is checked again. It is"
        " repair 1 of this incident."
    )
    found(library, "run 2")
    (again,) = requests(library)
    assert again.run_key != request.run_key
    assert incident(library).repairs == 2


def test_a_tally_is_repaired_so_often_within_a_day_whatever_the_incident(
    library: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TALLY_REPAIRS_PER_DAY", "2")
    for number in range(2):
        found(library, f"run {number}")
        assert len(requests(library)) == 1
        mend(library)
    found(library, "run 2")
    assert requests(library) == []
    assert doing(incident(library)) == (
        "It is not repaired again: the tally was repaired as often as TALLY_REPAIRS_PER_DAY allows"
        f" in 24 hours, and differs again. Find the cause; then run `tally rebuild {NAME}`."
    )
    library.execute(
        "UPDATE tallykeeper.incidents SET repair_requested_at = now() - interval '25 hours'"
        " WHERE repair_requested_at IS NOT NULL"
    )
    assert requests(library) == [], "that evaluation was answered"
    found(library, "run 3")
    assert len(requests(library)) == 1


def test_without_repairs_it_is_said_what_to_do_by_hand(
    library: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TALLY_REPAIRS_PER_DAY", "0")
    found(library, "run 1")
    assert requests(library) == []
    assert doing(incident(library)) == (
        f"Repairs are switched off (TALLY_REPAIRS_PER_DAY is 0): run `tally rebuild {NAME}`."
    )


def test_what_no_rebuild_can_mend_is_left_to_people(library: Location) -> None:
    with library.engine.begin() as connection:
        incidents.report(
            connection, NAME, "capture", "a trigger is off", details={"to_mend": "tally migrate"}
        )
    assert requests(library) == []
    assert doing(incident(library)) == "Nothing is done by itself: run `tally migrate`."
