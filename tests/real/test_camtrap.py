"""Camera-trap media as their projects publish them, against a computation by pandas alone."""

from __future__ import annotations

import gzip
from pathlib import Path

import pandas as pd
import pytest
from sqlalchemy import Engine, text

from assets.media.load import load_media
from assets.media.reads import daily_counts, hourly_counts
from assets.media.tables import metadata
from assets.media.tallies import system
from tallykeeper import install, refresh, verify
from tallykeeper.input.loading import Loaded
from tests.real.data import real_file

pytestmark = pytest.mark.real


@pytest.fixture
def library(engine: Engine) -> Engine:
    """A database with an empty library and its tallies."""
    with engine.begin() as connection:
        connection.execute(text(f'CREATE SCHEMA "{metadata.schema}"'))
        metadata.create_all(connection)
        install(connection, system.tallies)
    return engine


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    return real_file("camtrapdp_media.csv.gz", tmp_path)


def expected_times(csv: Path) -> tuple[pd.Series, int]:
    """The time of each medium, in UTC, by its last well-formed row; and how many are not."""
    rows = pd.read_csv(csv, dtype=str)
    rows["taken"] = pd.to_datetime(rows["timestamp"], format="ISO8601", utc=True, errors="coerce")
    good = rows.dropna(subset="taken")
    return good.groupby(["deploymentID", "mediaID"])["taken"].last(), len(rows) - len(good)


def test_days_hours_and_rejects_are_those_that_pandas_finds(library: Engine, csv: Path) -> None:
    taken, malformed = expected_times(csv)
    days = taken.dt.strftime("%Y-%m-%d").value_counts()
    loaded = load_media(library, csv)
    assert loaded.rejected == malformed == 1
    assert loaded.inserted == len(taken) == 706
    assert loaded.read == 710
    with library.connect() as connection:
        counts = daily_counts(connection)
        assert counts["daily_counts"] == days.to_dict()
        assert counts["total_files"] == len(taken)
        assert counts["total_days"] == len(days)
        busiest = days.index[0]
        hours = taken[taken.dt.strftime("%Y-%m-%d") == busiest].dt.strftime("%Y-%m-%dT%H:00:00Z")
        found = hourly_counts(connection, pd.Timestamp(busiest).date())
        assert found["hourly_counts"] == hours.value_counts().to_dict()


def test_the_malformed_time_is_listed_with_its_line(library: Engine, csv: Path) -> None:
    reject_file = load_media(library, csv).reject_file
    assert reject_file is not None
    rejects = pd.read_csv(reject_file)
    lines = gzip.decompress(csv.read_bytes()).decode().splitlines()
    assert rejects["line"].to_list() == [709]
    assert rejects["row"].to_list() == [lines[708]]
    assert "2020-07-29TTT05:29:42Z" in rejects["reason"][0]


def test_loading_it_again_changes_nothing_and_the_tallies_stay_exact(
    library: Engine, csv: Path
) -> None:
    def loaded_and_refreshed() -> Loaded:
        loaded = load_media(library, csv)
        for tally in system.tallies:
            refresh(library, tally)
            assert verify(library, tally).ok
        return loaded

    assert loaded_and_refreshed().inserted == 706
    again = loaded_and_refreshed()
    assert (again.inserted, again.changed, again.unchanged) == (0, 0, 709)
