"""The Tate collection, made into a file as the guide has it, against pandas alone.

Nothing here uses what the guide's script made but the database: the expected figures are computed
from the three published files anew.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest
from sqlalchemy import Engine

from assets.gallery.load import load_gallery
from assets.gallery.tallies import system
from tallykeeper import refresh, verify
from tallykeeper.database.connections import open_engine
from tallykeeper.input.loading import Loaded
from tallykeeper.settings import project_root
from tests.integration.support import create, rows, scalar
from tests.real.data import real_file
from tests.servers import VERSIONS, Servers

pytestmark = [pytest.mark.real, pytest.mark.slow]

LIVE = "gallery.{}_live"


@dataclass(frozen=True)
class Collection:
    """The published files, read, and the database that they were loaded into."""

    engine: Engine
    folder: Path
    loaded: Loaded
    began: datetime
    artworks: pd.DataFrame
    links: pd.DataFrame
    subjects: pd.DataFrame


@pytest.fixture(scope="module")
def tate(
    postgres_servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Collection]:
    """The collection, loaded by the guide's script, its tallies not built yet."""
    folder = tmp_path_factory.mktemp("tate")
    frames = [
        pd.read_csv(real_file(f"tate_{name}.csv.gz", folder), dtype=str, keep_default_na=False)
        for name in ("artworks", "artwork_subjects", "subjects")
    ]
    guide = (project_root() / "docs/how-to/load-gallery.md").read_text()
    (script,) = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    subprocess.run([sys.executable, "-c", script], cwd=folder, check=True)
    with postgres_servers.fresh_database(VERSIONS[0]) as url:
        engine = open_engine(url)
        create(engine, system)
        began = datetime.now(UTC)
        loaded = load_gallery(engine, folder / "tate.jsonl")
        yield Collection(engine, folder, loaded, began, *frames)
        engine.dispose()


def frame(engine: Engine, query: str, columns: list[str]) -> pd.DataFrame:
    found = pd.DataFrame(rows(engine, query), columns=columns)
    return found.sort_values(columns, ignore_index=True)


def alike(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    expected = expected[list(found.columns)].sort_values(list(found.columns), ignore_index=True)
    pd.testing.assert_frame_equal(found, expected, check_dtype=False)


def check_counts(tate: Collection, table: str) -> None:
    """Items per creator, and of everybody."""
    query = (
        f"SELECT coalesce(username, ''), source_type, count FROM {table} AS s"
        " LEFT JOIN gallery.users AS u ON u.id = s.user_id"
    )
    found = frame(tate.engine, query, ["username", "source_type", "count"])
    first = tate.artworks["contributor_ids"].str.split("|").str[0]
    expected = first.value_counts().rename_axis("username").reset_index()
    assert expected["count"].max() == 39_389
    everybody = pd.DataFrame({"username": [""], "count": [len(tate.artworks)]})
    expected = pd.concat([expected, everybody])
    alike(found, expected.assign(source_type="regular"))


def subject_ids(tate: Collection) -> pd.Series:
    """The published subject of each name that the guide's script makes."""
    name, number = tate.subjects["name"], tate.subjects["subject_id"]
    times = name.map(name.value_counts())
    return pd.Series(number.values, index=name.where(times == 1, name + " (" + number + ")"))


def check_junction(tate: Collection, table: str) -> None:
    query = f"SELECT content_id, name FROM {table} JOIN gallery.tags AS t ON t.id = tag_id"
    found = frame(tate.engine, query, ["artwork_id", "name"])
    assert len(found) == 839_482
    found["subject_id"] = found.pop("name").map(subject_ids(tate)).astype(int)
    found = found.sort_values(["artwork_id", "subject_id"], ignore_index=True)
    alike(found, tate.links[["artwork_id", "subject_id"]].astype(int))


def check_cardinalities(tate: Collection, table: str) -> None:
    query = (
        f"SELECT name, content_source, cardinality FROM {table}"
        " JOIN gallery.tags AS t ON t.id = tag_id"
    )
    found = frame(tate.engine, query, ["name", "content_source", "cardinality"])
    assert len(found) == 16_632
    found["name"] = found["name"].map(subject_ids(tate))
    found = found.sort_values(list(found.columns), ignore_index=True)
    per_subject = tate.links["subject_id"].value_counts()
    expected = per_subject.rename_axis("name").reset_index(name="cardinality")
    alike(found, expected.assign(content_source="regular"))


def test_every_item_is_loaded_and_none_rejected(tate: Collection) -> None:
    assert (tate.loaded.inserted, tate.loaded.read, tate.loaded.rejected) == (69_202, 69_202, 0)
    columns = ["artwork_id", "created_at", "title"]
    found = frame(tate.engine, "SELECT id, created_at, title FROM gallery.content_items", columns)
    found = found.set_index("artwork_id")
    published = tate.artworks.set_index(tate.artworks["artwork_id"].astype(int)).sort_index()
    assert found["title"].to_list() == published["title"].to_list()
    year = pd.to_numeric(published["start_year"], errors="coerce")
    moments = pd.to_datetime(found["created_at"], utc=True)
    dated = year.notna()
    assert (~dated).sum() == 5397
    assert (moments[~dated] >= tate.began).all()
    expected = [datetime(int(each), 1, 1, tzinfo=UTC) for each in year[dated]]
    assert [moment.to_pydatetime() for moment in moments[dated]] == expected


def test_live_views_before_any_refresh_are_those_that_pandas_finds(tate: Collection) -> None:
    check_counts(tate, LIVE.format("gen_source_stats"))
    check_junction(tate, LIVE.format("content_tags"))
    check_cardinalities(tate, LIVE.format("tag_cardinality_stats"))


def test_derived_tables_are_those_that_pandas_finds(tate: Collection) -> None:
    for tally in system.tallies:
        refresh(tate.engine, tally)
    check_counts(tate, "gallery.gen_source_stats")
    check_junction(tate, "gallery.content_tags")
    check_cardinalities(tate, "gallery.tag_cardinality_stats")
    assert scalar(tate.engine, "SELECT count(*) FROM gallery.content_tags_left_out") == 0
    for tally in system.tallies:
        assert verify(tate.engine, tally).ok


def test_the_same_items_in_other_formats_change_nothing(tate: Collection) -> None:
    items = pd.read_json(tate.folder / "tate.jsonl", lines=True, dtype=False)
    items.to_parquet(tate.folder / "tate.parquet")
    again = load_gallery(tate.engine, tate.folder / "tate.parquet")
    assert (again.read, again.unchanged) == (69_202, 69_202)
    items["tags"] = items["tags"].map(json.dumps)
    items.to_csv(tate.folder / "tate.csv.gz", index=False)
    again = load_gallery(tate.engine, tate.folder / "tate.csv.gz")
    assert (again.read, again.unchanged) == (69_202, 69_202)
