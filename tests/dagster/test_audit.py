"""The rolling audit in Dagster: what the hourly checks compare and say, and when it is late."""

from __future__ import annotations

import pytest

from tallykeeper.database.sql import CLAIM_WRITING
from tallykeeper.faults import incidents
from tallykeeper.maintain import stretches
from tests.dagster.location import Location, Metadata

UNSEEN = (
    CLAIM_WRITING,
    "UPDATE media.daily_contributions SET count = 7 WHERE date = '2025-06-11Z'",
)


@pytest.fixture
def library(location: Location, monkeypatch: pytest.MonkeyPatch) -> Location:
    """Twelve files on twelve days, all compared two hours ago; stretches of four days."""
    look(location)
    location.execute("DELETE FROM tallykeeper.incidents")
    monkeypatch.setattr(stretches, "FEWEST_ROWS", 3)
    monkeypatch.setattr(stretches, "MOST_BYTES", 0)
    location.add(*(f"2025-06-{day:02} 12:00Z" for day in range(1, 13)))
    location.build()
    pass_hours(location, 2)
    return location


def pass_hours(location: Location, hours: int) -> None:
    shifted = ", ".join(
        f"{name} = {name} - interval '{hours} hours'"
        for name in ("started_at", "compared_since", "compared_at")
    )
    location.execute(f"UPDATE tallykeeper.audits SET {shifted}")


def hour(location: Location) -> tuple[bool, Metadata]:
    """What the hourly run's check says, and whether it passes."""
    checked = location.hourly().checked("daily_contributions", "matches_source")
    pass_hours(location, 1)
    return checked.passed, {key: value.value for key, value in checked.metadata.items()}


def look(location: Location) -> dict[str, bool]:
    """Whether each incident is open, by its kind, after a look of the sensor."""
    location.look("alerts")
    with location.engine.connect() as connection:
        return {i.kind: i.is_open for i in incidents.listed(connection)}


@pytest.mark.slow
def test_each_hour_a_stretch_is_compared_and_the_check_says_how_far_it_is(
    library: Location,
) -> None:
    passed, found = hour(library)
    assert passed
    assert (found["compared"], found["scope"]) == (4, "touched windows, and the audit's stretches")
    words = str(found["audit"])
    assert "Compared beside what was written: date before 2025-06-05." in words
    assert "33% of the round that began at " in words
    assert "All keys compared since " in words
    assert found["audit_done"] == 0.333
    before = found["all_keys_compared_since"]
    for _ in range(9):
        passed, found = hour(library)
        assert passed
    shifted = before - 9 * 3600
    assert found["all_keys_compared_since"] > shifted, "the round is complete"
    assert "audit_done" not in found


def test_what_no_trigger_sees_is_found_by_an_hourly_run_repaired_and_found_right(
    library: Location,
) -> None:
    library.execute(*UNSEEN)
    failed: Metadata = {}
    for _ in range(10):
        passed, found = hour(library)
        if not passed:
            failed = found
            break
    assert failed["windows"] == "2025-06-11"
    assert failed["differing"] == 1
    assert look(library) == {incidents.DIFFERS: True}
    assert library.run(
        "repair",
        {
            "ops": {
                "rebuild": {
                    "config": {
                        "tally": "media.daily_contributions",
                        "days": [["2025-06-11", "2025-06-11"]],
                    }
                }
            }
        },
    ).succeeded
    assert look(library) == {incidents.DIFFERS: False}
    assert hour(library)[0]


def test_a_key_that_two_parts_of_a_check_find_counts_once(library: Location) -> None:
    assert hour(library)[0], "a round begins"
    library.execute(*UNSEEN)
    for _ in range(3):
        pass_hours(library, 11)
        passed, found = hour(library)
        assert (passed, found["differing"]) == (False, 1)


def test_an_audit_that_is_late_is_an_incident_until_all_is_compared(library: Location) -> None:
    assert look(library) == {}
    pass_hours(library, 23)
    assert look(library) == {incidents.UNCOMPARED: True}
    library.hourly()
    pass_hours(library, 11)
    library.hourly()
    assert look(library) == {incidents.UNCOMPARED: False}


def test_one_that_is_to_be_rebuilt_is_not_late(library: Location) -> None:
    library.execute("TRUNCATE media.media_files")
    pass_hours(library, 30)
    assert look(library) == {}
