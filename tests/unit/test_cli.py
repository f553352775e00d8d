"""The command line's own parts: names, sentences for errors, what is printed."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

import psycopg
import pytest
from rich.console import Console
from sqlalchemy import (
    Column,
    DateTime,
    Integer,
    MetaData,
    Table,
    cast,
    func,
    select,
)
from sqlalchemy.exc import DBAPIError

from assets.media.tallies import daily_contributions, hourly_contributions
from tallykeeper import (
    Difference,
    Refreshed,
    SelectTally,
    Status,
    System,
    TallyBusy,
    Verification,
    Waiting,
    Written,
)
from tallykeeper.cli import main as cli
from tallykeeper.cli import selection
from tallykeeper.cli.failures import explain
from tallykeeper.cli.output.tallies import (
    age,
    refreshed_line,
    show_status,
    show_verification,
    size,
    status_as_json,
    verifications_as_json,
    verified_line,
)
from tallykeeper.cli.selection import UnknownTally, find_tally
from tallykeeper.discovery import all_systems

NOW = datetime(2025, 11, 20, 12, tzinfo=UTC)

STATUS = Status(
    tally="media.daily_contributions",
    how="additive",
    rows=23_712_345,
    built_at=NOW - timedelta(days=200),
    refreshed_at=NOW - timedelta(minutes=59),
    seconds=0.1,
    pending=1_234_567,
    oldest_pending=NOW - timedelta(hours=23),
    stale=(),
    verified_at=NOW - timedelta(minutes=12),
    verified_whole=True,
    differing=0,
    as_of=NOW,
    table_bytes=1_300_000_000,
    log_bytes=24_000_000,
)

VERIFICATION = Verification(
    tally="media.daily_contributions",
    whole=True,
    compared=3,
    differing=0,
    differences=(),
    days=(),
    stale=(),
    as_of=NOW,
    seconds=1.234,
)


def other_system(name: str) -> System:
    """A system that keeps a table of the same name as the media system."""
    metadata = MetaData(schema=name)
    source = Table(
        "notes",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("at", DateTime(timezone=True), nullable=False),
    )
    derived = Table(
        "daily_contributions",
        metadata,
        Column("date", DateTime(timezone=True), primary_key=True),
        Column("count", Integer, nullable=False),
    )
    date = func.date_trunc("day", source.c.at, "UTC").label("date")
    counted = select(date, cast(func.count(), Integer).label("count")).group_by(date)
    tally = SelectTally(f"{name}.daily_contributions", select=counted, table=derived)
    return System(name, metadata, [tally])


@pytest.mark.parametrize(
    "name", ["daily_contributions", "media.daily_contributions", "media/daily_contributions"]
)
def test_a_tally_has_three_spellings(name: str) -> None:
    assert find_tally(name) is daily_contributions


@pytest.mark.parametrize(
    "name", ["", "media", "contributions", "media.media_files", "media//daily_contributions"]
)
def test_an_unknown_name_lists_the_known_ones(name: str) -> None:
    with pytest.raises(UnknownTally) as caught:
        find_tally(name)
    assert str(caught.value).startswith(f"no tally is called {name!r}; there are ")
    assert "media.daily_contributions, media.hourly_contributions" in str(caught.value)


def test_a_name_of_two_tallies_asks_which(monkeypatch: pytest.MonkeyPatch) -> None:
    systems = (*all_systems(), other_system("notes"))
    monkeypatch.setattr(selection, "all_systems", lambda: systems)
    with pytest.raises(UnknownTally) as caught:
        find_tally("daily_contributions")
    assert str(caught.value) == (
        "'daily_contributions' is ambiguous; write media.daily_contributions"
        " or notes.daily_contributions"
    )
    assert find_tally("notes/daily_contributions").system == "notes"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-1, "0 s"),
        (0, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (3599, "59 min"),
        (3600, "1 h"),
        (86399, "23 h"),
        (86400, "1 d"),
        (364 * 86400, "364 d"),
        (365 * 86400, "1 y"),
        (4000 * 86400, "10 y"),
    ],
)
def test_an_age_is_in_one_unit(seconds: float, shown: str) -> None:
    assert age(NOW - timedelta(seconds=seconds), NOW) == shown


def test_what_never_was_has_no_age() -> None:
    assert age(None, NOW) == "-"


@pytest.mark.parametrize(
    ("taken", "shown"),
    [
        (None, "-"),
        (0, "0 B"),
        (8_192, "8 kB"),
        (122_880, "120 kB"),
        (1_023_000, "999 kB"),
        (1_024_000, "1 MB"),
        (1_258_291, "1.2 MB"),
        (10_434_000, "10 MB"),
        (24_000_000_000, "22 GB"),
        (5_000 * 1024**4, "5000 TB"),
    ],
)
def test_a_size_is_as_brief_as_tells(taken: int | None, shown: str) -> None:
    assert size(taken) == shown


def shown_status(*found: Any, waiting: Mapping[str, Waiting] = MappingProxyType({})) -> list[str]:
    stream = io.StringIO()
    show_status(found, waiting, Console(file=stream, width=80))
    return stream.getvalue().splitlines()


def test_large_numbers_stay_in_one_line_of_80_columns() -> None:
    wrong = replace(STATUS, differing=1_234)
    lines = shown_status((daily_contributions, STATUS), (hourly_contributions, wrong))
    assert max(map(len, lines)) <= 80
    assert " ".join(lines[2].split()) == (
        "daily_contributions 23,712,345 1.2 GB 59 min 1,234,567 23 h ok 12 min"
    )
    assert lines[3].endswith("1,234 WRONG")


def test_below_the_table_stands_what_wants_doing() -> None:
    stale = replace(STATUS, stale=("never built", "never built"))
    wrong = replace(STATUS, differing=3)
    assert shown_status((daily_contributions, stale))[-1] == (
        "media.daily_contributions: the next refresh rebuilds it (never built)"
    )
    assert shown_status((daily_contributions, wrong))[-1] == (
        "media.daily_contributions: wrong when last verified; see `tally verify`"
    )
    assert shown_status((daily_contributions, None))[-1] == (
        "media.daily_contributions: not installed; run `tally migrate`"
    )


def test_a_log_that_was_not_cleared_is_reported_below_the_table() -> None:
    long = replace(STATUS, log_bytes=900_000_000, pending=1_000)
    assert shown_status((daily_contributions, long))[-1] == (
        "media.daily_contributions: its change log takes 858 MB for 1,000 pending changes, which"
        " live reads go through; end old transactions (pg_stat_activity), and then `VACUUM"
        " tallykeeper.media_daily_contributions_log` in psql"
    )
    # Much is pending, or it is not so much.
    quiet = len(shown_status((daily_contributions, STATUS)))
    for log_bytes, pending in ((900_000_000, 1_000_000), (60_000_000, 0), (None, 0)):
        short = replace(STATUS, log_bytes=log_bytes, pending=pending)
        assert len(shown_status((daily_contributions, short))) == quiet


def test_what_waits_in_a_raw_log_is_reported_below_the_table() -> None:
    now = datetime.now(UTC)
    row = (daily_contributions, STATUS)
    lines = shown_status(row, waiting={"fediverse": Waiting(1_339, now - timedelta(minutes=3))})
    assert lines[-1] == (
        "fediverse: 1,339 events wait to be processed, the oldest for 3 min;"
        " `tally refresh` processes them"
    )
    assert shown_status(row, waiting={"fediverse": Waiting(0, None)}) == shown_status(row)


def test_status_in_json_says_what_is_not_installed() -> None:
    found = json.loads(
        status_as_json(
            [(daily_contributions, STATUS), (hourly_contributions, None)],
            {"fediverse": Waiting(7, NOW)},
        )
    )
    assert found["waiting"] == {"fediverse": {"rows": 7, "oldest": NOW.isoformat()}}
    known, unknown = found["tallies"]
    assert known["pending_seconds"] == 23 * 3600
    assert (known["table_bytes"], known["log_bytes"]) == (1_300_000_000, 24_000_000)
    assert known["built_at"] == (NOW - timedelta(days=200)).isoformat()
    assert unknown == {"tally": "media.hourly_contributions", "installed": False}


def test_a_refresh_is_reported_in_one_line() -> None:
    result = Refreshed(
        tally="media.daily_contributions",
        how="refresh",
        reason=None,
        rows=3_652,
        pending_consumed=1,
        oldest_change=NOW,
        changes_by_day=(Written("2025-11-20", 1, 2, 1_000),),
        as_of=NOW,
        seconds=0.123,
    )
    assert refreshed_line(result) == (
        "media.daily_contributions: refreshed in 0.12 s;"
        " 1 pending change consumed, 1,003 keys changed, 3,652 rows"
    )
    rebuilt = replace(result, how="rebuild", reason="never built")
    assert refreshed_line(rebuilt).startswith(
        "media.daily_contributions: rebuilt in 0.12 s (never built); 1 pending"
    )


def test_keys_that_differ_are_shown_as_they_are_and_no_more_than_can_be_read() -> None:
    key = {"name": "[red]a[/red]"}
    differences = tuple(Difference(None, {**key, "n": n}, None, {"count": n}) for n in range(100))
    result = replace(VERIFICATION, differing=1_000, differences=differences)
    stream = io.StringIO()
    show_verification(result, Console(file=stream, width=80))
    lines = stream.getvalue().splitlines()
    assert lines[0] == (
        "media.daily_contributions: 1,000 keys WRONG, 3 keys compared in 1.23 s;"
        " `tally rebuild media.daily_contributions` repairs it"
    )
    assert lines[2].startswith("name [red]a[/red], n 0")
    assert lines[2].split()[-5:] == ["no", "such", "row", "count", "0"]
    assert lines[-1] == "... and 980 more keys"
    assert len(lines) == 23


def test_a_verify_names_the_day_that_is_wrong() -> None:
    wrong = replace(VERIFICATION, differing=1, days=("2025-11-20",))
    assert ": 1 key WRONG, 3 keys compared in 1.23 s, on 2025-11-20; " in verified_line(wrong)


def test_a_stale_tally_makes_a_verification_fail() -> None:
    stale = replace(VERIFICATION, stale=("never built",))
    assert json.loads(verifications_as_json([VERIFICATION]))["ok"] is True
    assert json.loads(verifications_as_json([VERIFICATION, stale]))["ok"] is False


def failure(error: psycopg.Error, *, invalidated: bool = False) -> DBAPIError:
    """What SQLAlchemy makes of a driver's error."""
    wrapped = DBAPIError.instance(
        "SELECT 's3cret'", {}, error, psycopg.Error, connection_invalidated=invalidated
    )
    assert isinstance(wrapped, DBAPIError)
    return wrapped


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (TallyBusy("try later"), "try later"),
        (
            failure(psycopg.errors.InsufficientPrivilege("permission denied for table t\nHINT: x")),
            "the role that connects may not do this (permission denied for table t)",
        ),
        (
            failure(psycopg.errors.ReadOnlySqlTransaction("cannot execute INSERT")),
            "the database takes no writes (cannot execute INSERT)",
        ),
        (
            failure(psycopg.errors.AdminShutdown("terminating connection"), invalidated=True),
            "the database went away (terminating connection)",
        ),
        (
            failure(psycopg.errors.DiskFull("No space left on device.")),
            "the database refused: No space left on device. What was under way was undone",
        ),
    ],
)
def test_an_error_that_can_be_expected_is_one_sentence(error: Exception, sentence: str) -> None:
    said = explain(error)
    assert said is not None
    assert said.startswith(sentence)
    assert "\n" not in said
    assert "s3cret" not in said


@pytest.mark.parametrize(
    "error",
    [
        ZeroDivisionError(),
        KeyError("count"),
        failure(psycopg.errors.SyntaxError("syntax error at or near")),
        failure(psycopg.errors.UniqueViolation("duplicate key")),
    ],
)
def test_a_bug_is_not_explained_away(error: Exception) -> None:
    assert explain(error) is None


def test_a_bug_shows_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["tally", "stop"])
    monkeypatch.setattr("tallykeeper.embedded.shared_server.stop", lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        cli.main()
