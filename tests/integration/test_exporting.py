"""A tally's rows as a DataFrame and as files, read back, against the live view."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from zipfile import ZipFile

import pandas as pd
import pytest
from click.testing import CliRunner
from sqlalchemy import Engine

from assets.classroom import demo as classroom_demo
from assets.classroom.reads import user_counts
from assets.gallery.tallies import content_tags
from assets.media.reads import daily_counts
from assets.media.tallies import daily_contributions
from tallykeeper.cli.export import export as command
from tallykeeper.database.connections import open_engine
from tallykeeper.discovery import all_systems
from tallykeeper.errors import NotInstalled
from tallykeeper.reads import exports
from tallykeeper.reads.exports import ExportError, export, tally_frame
from tallykeeper.reads.frames import MOMENT, as_frame
from tests.integration.support import execute, rows, scalar
from tests.servers import VERSIONS, Servers
from tests.templates import migrated

UUID = "00000000-0000-0000-0000-00000000000"


@pytest.fixture(scope="module")
def engine(postgres_servers: Servers) -> Iterator[Engine]:
    with postgres_servers.fresh_database(VERSIONS[0]) as url:
        engine = open_engine(url)
        migrated(engine, *all_systems())
        execute(
            engine,
            "INSERT INTO media.media_files (path, original_created_at) SELECT 'a' || n,"
            " timestamptz '2025-11-20Z' + n * interval '5 h' FROM generate_series(1, 20) AS n",
            f"INSERT INTO gallery.users (id, username) VALUES ('{UUID}1', 'ann')",
            f"INSERT INTO gallery.tags (id, name) VALUES ('{UUID}2', 'cat'), ('{UUID}3', 'dog')",
            "INSERT INTO gallery.content_items (creator_id, tags)"
            f" VALUES ('{UUID}1', ARRAY['{UUID}2', '{UUID}3']::uuid[])",
        )
        classroom_demo.create_demo(engine, 300)
        yield engine
        engine.dispose()


@pytest.mark.parametrize("form", ["parquet", "csv"])
@pytest.mark.parametrize("at_once", [7, 50_000])
def test_what_is_exported_is_the_live_view(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, at_once: int
) -> None:
    monkeypatch.setattr(exports, "ROWS_AT_ONCE", at_once)
    for system in all_systems():
        for tally in system.tallies:
            path = tmp_path / f"{tally.name}.{form}"
            done = export(engine, tally, form, path)
            assert done.rows == scalar(engine, f"SELECT count(*) FROM {tally.live_name}")
            found = pd.read_parquet(path) if form == "parquet" else pd.read_csv(path)
            assert len(found) == done.rows
            assert list(found.columns) == list(tally.columns)
    days = tmp_path / f"{daily_contributions.name}.{form}"
    found = pd.read_parquet(days) if form == "parquet" else pd.read_csv(days, parse_dates=["date"])
    assert str(found["date"].dtype) == MOMENT
    stored = rows(
        engine,
        "SELECT date AT TIME ZONE 'UTC', count FROM media.daily_contributions_live ORDER BY 1",
    )
    assert [
        (at.replace(tzinfo=None).to_pydatetime(), n)
        for at, n in found.itertuples(index=False, name=None)
    ] == stored
    assert list(tmp_path.glob(".*")) == []


def test_a_spreadsheet_has_the_rows_and_its_times_are_utc(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "days.xlsx"
    assert export(engine, daily_contributions, "xlsx", path).rows == 5
    with ZipFile(path) as book:
        sheet = book.read("xl/worksheets/sheet1.xml").decode()
    assert sheet.count("<row ") == 6
    # Days since 1899-12-30, as spreadsheets count them.
    assert (
        f"<v>{(datetime(2025, 11, 20, tzinfo=UTC) - datetime(1899, 12, 30, tzinfo=UTC)).days}<"
        in (sheet)
    )


def test_more_rows_than_a_sheet_holds_are_refused_and_leave_no_file(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "MOST_ROWS_OF_A_SHEET", 4)
    with pytest.raises(ExportError, match="at most 4 rows"):
        export(engine, daily_contributions, "xlsx", tmp_path / "days.xlsx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("form", list(exports.FORMS))
def test_what_cannot_be_written_is_a_sentence(engine: Engine, tmp_path: Path, form: str) -> None:
    with pytest.raises(ExportError, match="cannot be written"):
        export(engine, daily_contributions, form, tmp_path / "nothing" / f"days.{form}")


def test_a_text_that_a_cell_does_not_hold_is_refused_and_early_times_are_texts(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = "INSERT INTO media.media_files (path, original_created_at) VALUES ('old', '1850-01-02Z')"
    execute(engine, file)
    path = tmp_path / "days.xlsx"
    export(engine, daily_contributions, "xlsx", path)
    with ZipFile(path) as book:
        assert b"1850-01-02T00:00:00+00:00" in b"".join(map(book.read, book.namelist()))
    monkeypatch.setattr(exports, "MOST_CHARACTERS_OF_A_CELL", 24)
    with pytest.raises(ExportError, match=r"at most 24 characters, .* date has one of 25"):
        export(engine, daily_contributions, "xlsx", path)
    execute(engine, "DELETE FROM media.media_files WHERE path = 'old'")


def test_a_failed_export_leaves_the_file_that_was_there(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "days.csv"
    export(engine, daily_contributions, "csv", path)
    before = path.read_text()
    monkeypatch.setattr(daily_contributions, "live_name", "media.nothing")
    with pytest.raises(NotInstalled, match=r"Expected the live view media\.nothing"):
        export(engine, daily_contributions, "csv", path)
    assert path.read_text() == before
    assert list(tmp_path.iterdir()) == [path]


def test_times_that_files_cannot_hold_are_left_empty_and_counted(
    engine: Engine, tmp_path: Path
) -> None:
    odd = ("infinity", "0044-03-15 BC", "10000-01-01")
    for moment in odd:
        execute(
            engine,
            "INSERT INTO media.media_files (path, original_created_at)"
            f" VALUES ('odd {moment}', timestamptz '{moment}')",
        )
    done = export(engine, daily_contributions, "parquet", tmp_path / "days.parquet")
    found = pd.read_parquet(tmp_path / "days.parquet")
    assert (done.outside, int(found["date"].isna().sum()), len(found)) == (3, 3, 8)
    with engine.connect() as connection:
        assert tally_frame(connection, daily_contributions)["date"].isna().sum() == 3
        assert len(as_frame(daily_counts, connection)) == 8
    execute(engine, "DELETE FROM media.media_files WHERE path LIKE 'odd%'")


def test_frames_of_tallies_and_reads_have_types_that_do_not_follow_the_rows(engine: Engine) -> None:
    with engine.connect() as connection:
        found = tally_frame(connection, content_tags)
        users = as_frame(user_counts, connection, [1, 2, 99_999])
        none = as_frame(user_counts, connection, [])
    assert [str(type_) for type_ in found.dtypes] == ["Int64", "str", "str"]
    assert sorted(found["tag_id"]) == [f"{UUID}2", f"{UUID}3"]
    assert users["id"].tolist() == [1, 2, 99_999]
    assert users.dtypes.to_dict() == none.dtypes.to_dict()
    assert str(users["last_edited"].dtype) == MOMENT


def test_arrays_and_objects_are_json(engine: Engine, tmp_path: Path) -> None:
    (left_out,) = [t for s in all_systems() for t in s.tallies if "left_out" in t.name]
    execute(
        engine,
        "INSERT INTO gallery.content_items (creator_id, tags)"
        f" VALUES ('{UUID}1', ARRAY['{UUID}9', NULL]::uuid[])",
    )
    export(engine, left_out, "csv", tmp_path / "a.csv")
    found = pd.read_csv(io.StringIO((tmp_path / "a.csv").read_text()))
    assert found["unknown_tags"].tolist() == [f'["{UUID}9"]']


def test_the_command_says_what_it_wrote(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TALLY_DATABASE_URL", engine.url.render_as_string(hide_password=False))
    monkeypatch.chdir(tmp_path)
    ran = CliRunner().invoke(command, ["media.daily_contributions", "--to", "csv"])
    assert ran.exit_code == 0, ran.output
    said = "daily_contributions.csv: 5 rows of media.daily_contributions, exact as of 20"
    assert ran.output.startswith(said)
    assert len(pd.read_csv("daily_contributions.csv")) == 5
    refused = CliRunner().invoke(command, ["daily_contributions", "--to", "csv", "--output", "x/y"])
    assert refused.exit_code == 1
    assert "cannot be written" in refused.output
