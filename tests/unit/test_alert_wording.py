"""The text that people get: what it names, how it is shortened, and what never stands in it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tallykeeper.dagster.alerting.incident_rules import one_line
from tallykeeper.dagster.alerting.sensor_cursor import Memory
from tallykeeper.faults.incidents import Incident
from tallykeeper.operations import message_templates

AT = datetime(2025, 11, 20, 2, 30, tzinfo=UTC)
BASE = "http://127.0.0.1:3000"


def incident(kind: str = "differs", **values: Any) -> Incident:
    """An open incident, found once."""
    plain = Incident(
        id=7,
        subject="media.daily_contributions",
        kind=kind,
        what="3 keys differ.",
        cause=None,
        differing=None,
        details={},
        found_at=AT,
        last_found_at=AT,
        times=1,
        repairs=0,
        repair_requested_at=None,
        resolved_at=None,
        resolved_by=None,
    )
    return replace(plain, **values)


def record(day: int, stored: int) -> dict[str, str]:
    return {
        "date": f"2025-11-{day:02}T00:00:00+00:00",
        "count (stored)": str(stored),
        "count (expected)": "2",
    }


def test_ten_keys_are_shown_and_the_rest_is_counted() -> None:
    keys = [record(day, 9) for day in range(1, 11)]
    text = message_templates.message(
        incident(differing=1_203, details={"keys": keys}), message_templates.FOUND
    )
    assert text.title == "media.daily_contributions: 1,203 keys differ from the sources"
    lines = text.body.splitlines()
    assert lines[0] == "2025-11-01: stored 9, expected 2"
    assert lines[10] == "and 1,193 more"
    assert lines[11] == "Found at 2025-11-20 02:30 UTC."


def test_of_several_measures_those_are_shown_that_differ() -> None:
    key = {
        "course_id": "4",
        "day": "2025-11-20T00:00:00+00:00",
        "edits (stored)": "3",
        "edits (expected)": "3",
        "runs (stored)": "no row",
        "runs (expected)": "1",
    }
    text = message_templates.message(
        incident(differing=1, details={"keys": [key]}), message_templates.FOUND
    )
    assert text.body.splitlines()[0] == "4, 2025-11-20: runs stored no row, expected 1"


def test_the_cause_the_remedy_and_the_links_are_reported() -> None:
    found = incident(
        "capture",
        what="Changes may be missed.",
        cause="media.media_files: the update trigger is disabled",
        details={
            "to_resolve": "tally migrate",
            "run": "1a2b",
            "asset": "media/daily_contributions",
        },
        times=14,
        last_found_at=AT + timedelta(hours=13),
    )
    text = message_templates.message(found, message_templates.AGAIN)
    assert text.title == "media.daily_contributions: still wrong, changes may be missed"
    assert text.body.splitlines() == [
        "Changes may be missed.",
        "Found 14 times since 2025-11-20 02:30 UTC, the last at 2025-11-20 15:30 UTC.",
        "Likely cause: media.media_files: the update trigger is disabled.",
        "Nothing is done by itself: run `tally migrate`.",
        f"Run: {BASE}/runs/1a2b",
        f"Asset: {BASE}/assets/media/daily_contributions",
    ]


def test_a_recovery_says_when_by_what_and_after_how_many_repairs() -> None:
    resolved = incident(
        differing=1,
        resolved_at=AT + timedelta(minutes=5),
        resolved_by="the check matches_source",
        repairs=2,
    )
    assert message_templates.message(
        resolved, message_templates.RESOLVED
    ) == message_templates.Text(
        "media.daily_contributions: recovered (1 key differs from the sources)",
        "Resolved at 2025-11-20 02:35 UTC, as shown by: the check matches_source.\n"
        "Found at 2025-11-20 02:30 UTC.\nRepairs: 2.",
    )


def test_what_was_resolved_before_anybody_was_notified_is_one_message() -> None:
    resolved = incident(differing=1, resolved_at=AT, resolved_by="the check matches_source")
    text = message_templates.message(resolved, message_templates.RESOLVED, is_first=True)
    assert (
        text.title == "media.daily_contributions: 1 key differs from the sources, resolved already"
    )
    assert "Resolved at 2025-11-20 02:30 UTC: the check matches_source." in text.body


@pytest.mark.parametrize(
    ("kind", "short"),
    [
        ("pending", "a change waits too long"),
        ("stale", "was rebuilt: 3 keys differ."),
        ("run", "a run failed"),
        ("schedule", "does not run as it should"),
        ("nothing_left_out", "the check nothing_left_out failed"),
        ("differs", "differs from the sources"),
    ],
)
def test_each_kind_has_its_words(kind: str, short: str) -> None:
    assert message_templates.message(incident(kind), message_templates.FOUND).title.endswith(
        f": {short}"
    )


def test_of_very_many_at_once_fifty_are_listed() -> None:
    text = message_templates.together(
        [incident("run", subject=f"job_{n}") for n in range(60)], message_templates.FOUND
    )
    assert text.title == "60 things are wrong"
    lines = text.body.splitlines()
    assert lines[0] == "job_0: a run failed"
    assert lines[50] == "and 10 more"


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("\n\n  it failed\nat line 3", "it failed"),
        ("no postgresql://app:secret@db:5432/x", "no postgresql://***@db:5432/x"),
        ("GET https://h/p?token=secret&a=1", "GET https://h/***"),
        ("host=h password=secret user=u", "host=h password=*** user=u"),
        ("x" * 400, "x" * 297 + "..."),
        ("", "without a word"),
    ],
)
def test_an_error_is_one_line_without_passwords(said: str, line: str) -> None:
    assert one_line(said) == line


def test_memory_is_read_as_it_was_written_and_nothing_of_what_is_not() -> None:
    memory = Memory(event=3, looked_at=AT, looking_since=AT, unreachable_since=None)
    assert Memory.of(memory.spelled()) == memory
    for cursor in (None, "", "17", "[]", '{"event": 3}', "not json"):
        assert Memory.of(cursor) == Memory()
