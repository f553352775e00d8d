"""The SERI-CS data, loaded as the guide has it, against pandas alone.

The expected figures are computed from the two published files, by what the guide says of them;
nothing here uses what the load made of them but the database.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
from sqlalchemy import Engine

from assets.classroom.load import load_classroom
from assets.classroom.tallies import submission_counts, system
from tallykeeper import refresh, verify
from tallykeeper.database.connections import open_engine
from tallykeeper.input.loading import Loaded
from tests.integration.support import create, rows, scalar
from tests.real.data import real_file
from tests.servers import VERSIONS, Servers

pytestmark = [pytest.mark.real, pytest.mark.slow]

SNAPSHOT = ["homework", "student", "snapshot"]
FIGURES = ["runs", "syntax_errors", "runtime_errors", "failed_instructor_tests"]
WORK = ["homework", "student"]


@dataclass(frozen=True)
class Published:
    """The published files, read by pandas, and the database that they were loaded into."""

    engine: Engine
    folder: Path
    snapshots: pd.DataFrame
    errors: pd.DataFrame
    loaded: tuple[Loaded, Loaded]


@pytest.fixture(scope="module")
def sericss(
    postgres_servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Published]:
    """Both files loaded, the snapshots first."""
    folder = tmp_path_factory.mktemp("sericss")
    names = ["sericss_snapshot_events.csv.gz", "sericss_compiler_errors.csv.gz"]
    paths = [real_file(name, folder) for name in names]
    frames = [pd.read_csv(path, dtype=str, keep_default_na=False) for path in paths]
    with postgres_servers.fresh_database(VERSIONS[0]) as url:
        engine = open_engine(url)
        create(engine, system)
        loaded = (load_classroom(engine, paths[0]), load_classroom(engine, paths[1]))
        yield Published(engine, folder, frames[0], frames[1], loaded)
        engine.dispose()


def expected(published: Published) -> pd.DataFrame:
    """Of each student's work on each homework, the figures, by pandas alone."""
    snapshots = published.snapshots.assign(
        **{
            name: pd.to_numeric(published.snapshots[name])
            for name in ["c_error", "r_error", "t_failed", "t_success"]
        }
    )
    messages = published.errors.groupby(SNAPSHOT).size().rename("messages").reset_index()
    each = snapshots.merge(messages, how="left", on=SNAPSHOT)
    tested = each["r_error"] + each["t_failed"] + each["t_success"] > 0
    broken = each["c_error"] > 0
    each["runs"] = tested | (each["c_error"] == 0)
    each["syntax_errors"] = each["messages"].fillna(0).clip(lower=broken.astype(int))
    each["runtime_errors"] = each["r_error"] > 0
    each["failed_instructor_tests"] = each["t_failed"] > 0
    at = pd.to_datetime(each["snapshot"]).astype("datetime64[ms, UTC]").astype("int64")
    each = each.assign(at=at).sort_values("at")
    gaps = each.groupby(WORK)["at"].diff()
    each["time_spent_ms"] = gaps.clip(upper=300_000).fillna(0)
    return each.groupby(WORK)[[*FIGURES, "time_spent_ms"]].sum().astype(int).reset_index()


def test_every_row_is_an_event_or_two_and_none_is_rejected(sericss: Published) -> None:
    snapshots, errors = sericss.loaded
    numbers = sericss.snapshots[["c_error", "r_error", "t_failed", "t_success"]]
    counted = numbers.apply(pd.to_numeric)
    # A snapshot of which a part did not compile, and the rest was tested.
    twice = (counted["c_error"] > 0) & (counted.iloc[:, 1:].sum(axis=1) > 0)
    assert snapshots.inserted == len(sericss.snapshots) + twice.sum()
    # The first message of a snapshot that did not compile is the error that it gave itself.
    first = len(sericss.errors[SNAPSHOT].drop_duplicates())
    assert (errors.inserted, errors.changed) == (len(sericss.errors) - first, first)
    assert [(each.rejected, each.unchanged) for each in sericss.loaded] == [(0, 0)] * 2
    # Of these, nothing is known: not even whether they compiled.
    unused = (counted["c_error"].isna() & ~(counted.iloc[:, 1:].sum(axis=1) > 0)).sum()
    assert snapshots.notes == (
        f"events of names that no figure counts, {unused} loaded: X-Snapshot ({unused})",
    )
    assert errors.notes == ()
    log = scalar(sericss.engine, "SELECT count(*) FROM classroom.submission_log")
    assert log == snapshots.inserted + errors.inserted


def test_every_submission_has_the_figures_that_pandas_finds(sericss: Published) -> None:
    refresh(sericss.engine, submission_counts)
    query = f"""
    SELECT a.name, u.name, {", ".join(FIGURES)}, time_spent_ms
    FROM classroom.submission_counts AS c
    JOIN classroom.assignments AS a ON a.id = c.assignment_id
    JOIN classroom.users AS u ON u.id = c.user_id
    """
    columns = [*WORK, *FIGURES, "time_spent_ms"]
    found = pd.DataFrame(rows(sericss.engine, query), columns=columns)
    found = found.sort_values(WORK, ignore_index=True)
    pd.testing.assert_frame_equal(found, expected(sericss), check_dtype=False)


def test_all_tables_are_exact_and_loading_again_changes_nothing(sericss: Published) -> None:
    for name in ("sericss_compiler_errors.csv.gz", "sericss_snapshot_events.csv.gz"):
        again = load_classroom(sericss.engine, sericss.folder / name)
        assert (again.inserted, again.changed, again.rejected) == (0, 0, 0)
    for tally in system.tallies:
        refresh(sericss.engine, tally)
        assert verify(sericss.engine, tally).ok


def test_rows_in_another_order_are_the_same_events(sericss: Published) -> None:
    for name, frame in (("snapshots", sericss.snapshots), ("errors", sericss.errors)):
        path = sericss.folder / f"shuffled_{name}.csv"
        frame.sample(frac=1, random_state=7).to_csv(path, index=False)
        shuffled = load_classroom(sericss.engine, path)
        assert (shuffled.inserted, shuffled.changed, shuffled.rejected) == (0, 0, 0)
        assert shuffled.unchanged > 40_000
