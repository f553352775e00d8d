"""OpenLineage events of runs: what they say, that they are off by default, and harm nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from tallykeeper.dagster.lineage_events import SETTINGS
from tests.dagster.location import Location

Event = dict[str, Any]


@pytest.fixture
def events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that OpenLineage's client writes events into, a line each."""
    path = tmp_path / "events.jsonl"
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__TYPE", "file")
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__LOG_FILE_PATH", str(path))
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__APPEND", "true")
    monkeypatch.setenv("OPENLINEAGE_NAMESPACE", "figures")
    return path


def read(path: Path, tally: str = "media.daily_contributions") -> list[Event]:
    """The events of that tally, in order."""
    found = [json.loads(line) for line in path.read_text().splitlines() if line]
    return [event for event in found if event["job"]["name"] == tally]


def test_a_refresh_says_what_it_reads_and_writes(location: Location, events: Path) -> None:
    location.add("2025-06-01 12:00Z")
    ran = location.hourly()
    assert ran.succeeded
    started, ended = read(events)
    assert (started["eventType"], ended["eventType"]) == ("START", "COMPLETE")
    assert started["run"]["runId"] == ended["run"]["runId"]
    parent = ended["run"]["facets"]["parent"]
    assert (parent["run"]["runId"], parent["job"]["name"]) == (ran.run_id, "media_hourly")
    assert ended["job"]["namespace"] == "figures"
    assert "media_files" in ended["job"]["facets"]["sql"]["query"]
    database = location.engine.url.database
    (source,), (derived,) = ended["inputs"], ended["outputs"]
    assert source["name"] == f"{database}.media.media_files"
    assert derived["name"] == f"{database}.media.daily_contributions"
    assert source["namespace"] == derived["namespace"]
    assert derived["namespace"].startswith("postgres://")
    assert derived["outputFacets"]["outputStatistics"]["rowCount"] == 1
    fields = derived["facets"]["columnLineage"]["fields"]
    origins = {field["field"] for field in fields["date"]["inputFields"]}
    assert origins == {"original_created_at", "created_at"}
    typed = {field["name"]: field["type"] for field in derived["facets"]["schema"]["fields"]}
    assert typed["date"] == "timestamp with time zone"


def test_a_repair_is_sent_too(location: Location, events: Path) -> None:
    location.build()
    repair = {"tally": "media.daily_contributions", "everything": True}
    assert location.run("repair", {"ops": {"rebuild": {"config": repair}}}).succeeded
    assert [event["eventType"] for event in read(events)] == ["START", "COMPLETE"]


def test_a_refresh_that_fails_says_so(location: Location, events: Path) -> None:
    location.build()
    location.execute("DROP TABLE media.daily_contributions CASCADE")
    assert not location.hourly().succeeded
    failed = read(events)[-1]
    assert failed["eventType"] == "FAIL"
    assert failed["run"]["facets"]["errorMessage"]["message"]


def test_nothing_is_sent_where_no_setting_says_where(
    location: Location, events: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    assert location.hourly().succeeded
    assert not events.exists()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"TYPE": "nothing"}, "no OpenLineage event: "),
        ({"TYPE": "http", "URL": "http://127.0.0.1:1", "RETRY": "{}"}, "no OpenLineage event: "),
    ],
)
def test_what_cannot_be_sent_is_a_warning_of_a_run_that_succeeds(
    location: Location, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], said: str
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(f"OPENLINEAGE__TRANSPORT__{name}", value)
    ran = location.run(
        "media_hourly", asset_selection=[dg.AssetKey(["media", "daily_contributions"])]
    )
    assert ran.succeeded
    assert ran.logged().count(said) == 1
