"""DataFrames in place of files: what is written, rejected and said is what a file of it brings."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import Engine

from assets.classroom.load import load_classroom
from assets.fediverse.load import load_fediverse
from assets.gallery.load import load_gallery
from assets.media.load import load_media
from tallykeeper.database.connections import open_engine
from tallykeeper.discovery import all_systems
from tallykeeper.input.loading import Loaded, LoadError
from tests.integration.support import rows, scalar
from tests.servers import VERSIONS, Servers
from tests.templates import migrated

TAKEN = datetime(2024, 2, 29, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def engine(postgres_servers: Servers) -> Iterator[Engine]:
    with postgres_servers.fresh_database(VERSIONS[0]) as url:
        engine = open_engine(url)
        migrated(engine, *all_systems())
        yield engine
        engine.dispose()


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def reasons(loaded: Loaded) -> dict[int, str]:
    assert loaded.reject_file == Path.cwd() / "frame.rejects.csv"
    with loaded.reject_file.open(newline="") as stream:
        return {int(row["line"]): row["reason"] for row in csv.DictReader(stream)}


def counts(loaded: Loaded) -> tuple[int, int, int, int, int]:
    return loaded.read, loaded.inserted, loaded.changed, loaded.unchanged, loaded.rejected


FILES = """path,original_created_at,created_at,note
frame/a.jpg,2024-02-29T12:00:00Z,,1
frame/b.jpg,,2024-03-01,
frame/c.jpg,yesterday,,3
,2024-02-29,,4
frame/a.jpg,2024-02-29T12:00:00Z,,5
"""


@pytest.mark.parametrize("types", [None, "str", "string"])
def test_a_frame_of_a_list_of_files_is_that_list(
    engine: Engine, tmp_path: Path, types: Any
) -> None:
    path = tmp_path / "files.csv"
    path.write_text(FILES)
    from_file = load_media(engine, path)
    frame = pd.read_csv(path, dtype=types)
    from_frame = load_media(engine, frame)
    assert (from_frame.inserted, from_frame.changed) == (0, 0)
    assert (from_frame.read, from_frame.rejected) == (from_file.read, from_file.rejected) == (5, 2)
    assert list(reasons(from_frame)) == [3, 4]


def test_moments_of_a_frame_are_moments_whatever_their_kind(engine: Engine) -> None:
    kinds: dict[str, Any] = {
        "moment": pd.Series([TAKEN]),
        "zoned": pd.Series([TAKEN]).dt.tz_convert("America/St_Johns"),
        "naive": pd.Series([TAKEN.replace(tzinfo=None)]),
        "nanoseconds": pd.Series([TAKEN]).astype("datetime64[ns, UTC]"),
        "object": pd.Series([TAKEN], dtype="object"),
        "text": pd.Series(["2024-02-29T12:00:00Z"]),
        "day": pd.Series([TAKEN.date()]),
        "nothing": pd.Series([pd.NaT]),
    }
    for name, cells in kinds.items():
        frame = pd.DataFrame({"path": [f"kind/{name}"], "original_created_at": cells})
        assert counts(load_media(engine, frame)) == (1, 1, 0, 0, 0), name
    stored = dict(
        rows(engine, "SELECT path, original_created_at FROM media.media_files WHERE path ~ 'kind'")
    )
    assert stored.pop("kind/nothing") is None
    assert stored.pop("kind/day") == TAKEN.replace(hour=0)
    assert set(stored.values()) == {TAKEN}


def test_what_no_file_could_hold_costs_its_own_row(engine: Engine) -> None:
    odd = ["odd/\0", "odd/\ud800", b"odd", object(), "odd/good", None, np.float64("nan")]
    loaded = load_media(engine, pd.DataFrame({"path": odd}, dtype="object"))
    assert counts(loaded) == (7, 1, 0, 0, 6)
    assert list(reasons(loaded)) == [1, 2, 3, 4, 6, 7]
    assert "found bytes" in reasons(loaded)[3]


def test_a_frame_that_lacks_a_column_or_has_it_twice_is_a_sentence(engine: Engine) -> None:
    with pytest.raises(LoadError, match="The frame has no column path"):
        load_media(engine, pd.DataFrame({"file": ["a"]}))
    with pytest.raises(LoadError, match="column path more than once"):
        load_media(engine, pd.DataFrame([["a", "b"]], columns=["path", "path"]))
    with pytest.raises(LoadError, match="expected each of id"):
        load_gallery(engine, pd.DataFrame({"id": [1]}))
    with pytest.raises(LoadError, match="no table of events"):
        load_classroom(engine, pd.DataFrame({"id": [1]}))


def test_items_come_as_cells_or_as_values(engine: Engine, tmp_path: Path) -> None:
    cat = UUID(int=2)
    frame = pd.DataFrame(
        {
            "id": [1, 2, 3, None],
            "source": ["regular", "auto", "auto", "auto"],
            "creator": ["ann;bob", ["ann", "bob"], None, "ann"],
            "tags": ["sea;sky", np.array(["sea", "sky"]), [cat], "nan"],
            "created_at": [TAKEN, TAKEN, None, TAKEN],
            "is_private": pd.array([True, None, False, True], dtype="boolean"),
            "title": [None, "a", "b", "c"],
        }
    )
    loaded = load_gallery(engine, frame)
    assert counts(loaded) == (4, 3, 0, 0, 1)
    assert reasons(loaded) == {4: "no id"}
    assert "cells of tags that say nan" in loaded.notes[0]
    query = """
    SELECT i.id, u.username, i.is_private,
      ARRAY(SELECT t.name FROM unnest(i.tags) AS n (id) JOIN gallery.tags AS t USING (id)
        ORDER BY 1)
    FROM gallery.{} AS i JOIN gallery.users AS u ON u.id = i.creator_id ORDER BY 1"""
    assert rows(engine, query.format("content_items")) == [(1, "ann", True, ["sea", "sky"])]
    assert rows(engine, query.format("content_items_auto")) == [
        (2, "ann", False, ["sea", "sky"]),
        (3, "unknown", False, []),
    ]
    assert counts(load_gallery(engine, frame)) == (4, 0, 0, 3, 1)
    frame = frame.iloc[:2].assign(creator="ann")
    frame["tags"] = pd.Series([["sea", "sky"]] * 2)
    frame.to_parquet(tmp_path / "items.parquet")
    assert counts(load_gallery(engine, tmp_path / "items.parquet")) == (2, 0, 0, 2, 0)


EVENTS = """EventType,EventID,SubjectID,ToolInstances,CodeStateID,ServerTimestamp,Order,Score
Run.Program,1,7,x,0,2024-09-02T10:00:00,1,0.5
Run.Program,2,7,x,0,soon,2,
Submit,3,8,x,0,2024-09-02T10:00:05,3,1
Submit,3,8,x,0,2024-09-02T10:00:05,3,1
"""


def test_events_of_a_classroom_come_as_a_frame(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "MainTable.csv"
    path.write_text(EVENTS)
    # Beside a file this would be read, and here it is nothing of the frame's.
    (tmp_path / "DatasetMetadata.csv").write_text("no metadata")
    frame = pd.read_csv(path)
    loaded = load_classroom(engine, frame)
    assert counts(loaded) == (4, 2, 0, 1, 1)
    assert list(reasons(loaded)) == [2]
    (tmp_path / "DatasetMetadata.csv").unlink()
    assert counts(load_classroom(engine, path)) == (4, 0, 0, 3, 1)


def test_fediverse_events_come_as_a_frame(engine: Engine) -> None:
    payload = {"id": "1", "content": "x", "account": {"id": "7", "acct": "a"}, "score": 1.5}
    frame = pd.DataFrame(
        {
            "event": ["update", "delete", None, "update"],
            "payload": [payload, "1", payload, json.dumps(payload)],
            "received_at": [TAKEN, "2024-02-29T12:00:01Z", None, TAKEN],
            "worth": [Decimal("1.10"), None, None, None],
        }
    )
    loaded = load_fediverse(engine, frame, instance="https://a.example")
    assert counts(loaded) == (4, 3, 0, 0, 1)
    assert list(reasons(loaded)) == [3]
    log = "SELECT event_type, payload, received_at FROM fediverse.stream_events ORDER BY id"
    stored = rows(engine, log)
    assert stored[0] == ("update", payload, TAKEN)
    assert [row[0] for row in stored] == ["update", "delete", "update"]
    assert scalar(engine, "SELECT count(*) FROM fediverse.instances") == 1
    odd = pd.DataFrame({"event": ["update"], "payload": [{"a": object()}]})
    assert "no JSON can say this" in reasons(
        load_fediverse(engine, odd, instance="https://a.example")
    ).get(1, "")


def test_the_frame_itself_stays_as_it_is(engine: Engine) -> None:
    frame = pd.DataFrame({"path": ["same/a", None]})
    before = frame.copy(deep=True)
    load_media(engine, frame)
    pd.testing.assert_frame_equal(frame, before)
