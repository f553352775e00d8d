"""`tally load classroom`, as it is called and what it says."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine

from assets.classroom.tallies import system
from tests.acceptance.command import Command
from tests.integration.support import scalar
from tests.templates import migrated


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    folder = tmp_path / "cs1"
    folder.mkdir()
    (folder / "DatasetMetadata.csv").write_text("Property,Value\nVersion,8\n")
    (folder / "MainTable.csv").write_text(
        "EventType,EventID,SubjectID,ToolInstances,CodeStateID,ServerTimestamp,CourseID,"
        "AssignmentID,ClientTimestamp\n"
        "File.Edit,1,ann,x,1,2024-09-02T12:00:00,cs1,hw1,2024-09-02T08:00:00\n"
        "Run.Program,2,ann,x,1,2024-09-02T12:00:09,cs1,hw1,\n"
        "Run.Program,3,ann,x,1,None,cs1,hw1,None\n"
    )
    return folder


def test_a_dataset_is_loaded_and_what_was_treated_is_reported(
    tally: Command, engine: Engine, dataset: Path
) -> None:
    migrated(engine, system)
    first, note = tally.ok("load", "classroom", str(dataset)).out.splitlines()
    assert first.startswith("3 events read in ")
    assert first.endswith(
        "2 inserted, 0 changed, 0 unchanged, 1 rejected (listed in"
        f" {dataset.parent / 'cs1.rejects.csv'})"
    )
    assert note == (
        "  events with client and server clocks more than an hour apart, dated by the server's: 1"
    )
    again = tally.ok("load", "classroom", str(dataset / "MainTable.csv")).out
    assert "0 inserted, 0 changed, 2 unchanged, 1 rejected" in again
    assert scalar(engine, "SELECT count(*) FROM classroom.submission_log") == 2


def test_what_is_no_dataset_is_refused_in_one_sentence(
    tally: Command, engine: Engine, tmp_path: Path
) -> None:
    migrated(engine, system)
    result = tally.run("load", "classroom", str(tmp_path))
    assert result.code == 1
    assert result.err == (
        f"tally: {tmp_path} has no MainTable.csv (or MainTable.csv.gz): expected a ProgSnap2"
        " dataset; name the folder that has it, or a CSV.\n"
    )
