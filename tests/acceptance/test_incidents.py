"""`tally incidents`: what was found wrong, for people, for programs, and for cron."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import Engine

from assets.media.tallies import system
from tallykeeper.faults import incidents
from tests.acceptance.command import Command
from tests.templates import migrated

DAILY = "media.daily_contributions"


@pytest.fixture
def kept(tally: Command, engine: Engine) -> Command:
    """A database with incidents: one resolved, one open of a tally, one open of a job."""
    migrated(engine, system)
    with engine.begin() as connection:
        incidents.report(connection, DAILY, "differs", "1 key differs.", differing=1)
        incidents.resolve(connection, DAILY, "differs", "the check matches_source")
        connection.exec_driver_sql(
            "UPDATE tallykeeper.incidents SET found_at = '2026-02-01 12:00Z',"
            " resolved_at = '2026-02-01 13:00Z'"
        )
        for times in range(2):
            incidents.report(
                connection,
                DAILY,
                "differs",
                "1,234 keys differ from the sources, on 2025-11-20 to 2025-12-24, 2026-01-03.",
                cause="edited by hand: UPDATE by ann through psql at 2026-03-01 11:58:03 UTC",
                differing=1234 - times,
                details={"to_resolve": f"tally rebuild {DAILY}"},
            )
        incidents.report(connection, "media_hourly", "run", "the step x failed: no such host")
        connection.exec_driver_sql(
            "UPDATE tallykeeper.incidents SET found_at = '2026-03-01 12:00Z',"
            " last_found_at = '2026-03-01 13:00Z' WHERE resolved_at IS NULL"
        )
    return tally


def test_incidents_read_well_in_80_columns_open_ones_first(kept: Command) -> None:
    lines = kept.ok("incidents").out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines == [
        "2026-03-01 12:00  media_hourly                                              OPEN",
        "  what     the step x failed: no such host",
        "  doing    Its next run does what this one left undone; the run's page says why",
        "           it failed.",
        "",
        "2026-03-01 12:00  media.daily_contributions                                 OPEN",
        "  what     1,234 keys differ from the sources, on 2025-11-20 to 2025-12-24,",
        "           2026-01-03.",
        "  cause    edited by hand: UPDATE by ann through psql at 2026-03-01 11:58:03 UTC",
        "  keys     1,234 differ",
        "  found    2 times, the last 2026-03-01 13:00",
        "  doing    Nothing is done by itself: run `tally rebuild",
        "           media.daily_contributions`.",
        "",
        "2026-02-01 12:00  media.daily_contributions                             resolved",
        "  what     1 key differs.",
        "  keys     1 differs",
        "  resolved 2026-02-01 13:00 (the check matches_source)",
        "",
        "2 open, 1 resolved",
    ]


def test_with_open_it_ends_with_1_while_anything_is_wrong(kept: Command, engine: Engine) -> None:
    found = kept.run("incidents", "--open")
    assert (found.code, found.err) == (1, "")
    assert "2026-02-01" not in found.out
    assert found.out.endswith("\n2 open, 0 resolved\n")
    assert kept.run("incidents").code == 0
    with engine.begin() as connection:
        for incident in incidents.listed(connection, open_only=True):
            incidents.resolve(connection, incident.subject, incident.kind, "a test")
    assert kept.ok("incidents", "--open").out == "no incidents\n"


def test_a_name_is_a_tally_or_whatever_it_is_about(kept: Command) -> None:
    assert kept.ok("incidents", "daily_contributions").out.endswith("1 open, 1 resolved\n")
    assert kept.ok("incidents", "media_hourly").out.endswith("1 open, 0 resolved\n")
    assert kept.ok("incidents", "--open", "hourly_contributions").out == "no incidents\n"
    unknown = kept.run("incidents", "nothing")
    assert (unknown.code, unknown.out) == (2, "")
    assert "no tally is called 'nothing'" in unknown.err


def test_programs_get_json(kept: Command) -> None:
    whole = json.loads(kept.ok("incidents", "--json").out)
    assert whole["open"] == 2
    _, differs, resolved = whole["incidents"]
    assert (differs["subject"], differs["kind"], differs["open"]) == (DAILY, "differs", True)
    assert (differs["differing"], differs["times"]) == (1234, 2)
    assert differs["doing"] == f"Nothing is done by itself: run `tally rebuild {DAILY}`."
    assert (resolved["open"], resolved["doing"], resolved["resolved_by"]) == (
        False,
        None,
        "the check matches_source",
    )
    assert resolved["resolved_at"].startswith("2026-02-01T13:00:00")


def test_status_says_that_incidents_are_open(kept: Command) -> None:
    hint = "2 incidents are open; see `tally incidents --open`"
    assert kept.ok("status").out.splitlines()[-1] == hint


def test_before_a_migration_it_says_what_to_do(tally: Command) -> None:
    found = tally.run("incidents")
    assert (found.code, found.out) == (1, "")
    assert found.err == (
        "tally: incidents are not written down in this database yet; run `tally migrate` first\n"
    )
