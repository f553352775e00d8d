"""The media reads over a folder, without any database."""

from __future__ import annotations

import os
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from assets.media.folder_reads import FolderLibrary, FolderUnreadable
from assets.media.folder_service import create_app
from assets.media.input import folder
from assets.media.reads import daily_counts, hourly_counts, period_counts
from tallykeeper.settings import SettingError
from tests.integration.serving_client import Client

DAILY = "/api/media/daily-counts"
HOURLY = "/api/media/hourly-counts"


def picture(path: Path, taken: str | None = None, modified: str = "2020-09-13T12:26:40Z") -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    tags = Image.Exif()
    if taken is not None:
        tags.get_ifd(0x8769)[0x9003] = taken
    Image.new("RGB", (8, 8)).save(path, exif=tags.tobytes() if taken else b"")
    moment = datetime.fromisoformat(modified).timestamp()
    os.utime(path, (moment, moment))
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three by their own dates, one by its modification time, one broken, one thumbnail."""
    picture(tmp_path / "a.jpg", "2025:11:20 10:00:00")
    picture(tmp_path / "b/c.jpg", "2025:11:20 10:59:59")
    picture(tmp_path / "b/d.jpg", "2025:11:19 23:59:59")
    picture(tmp_path / "e.jpg")
    picture(tmp_path / "@eaDir/a.jpg", "2025:11:20 10:00:00")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "a.jpg")
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    (tmp_path / "notes.txt").write_text("no picture either")
    return tmp_path


def test_files_are_counted_by_day_and_say_that_a_folder_was_asked(pictures: Path) -> None:
    assert daily_counts(folder=pictures) == {
        "daily_counts": {"2025-11-20": 2, "2025-11-19": 1, "2020-09-13": 1},
        "total_files": 4,
        "total_days": 3,
        "source": "folder",
        "unreadable": 1,
    }
    assert daily_counts(None, date(2025, 11, 1), date(2025, 11, 19), folder=pictures) == {
        "daily_counts": {"2025-11-19": 1},
        "total_files": 1,
        "total_days": 1,
        "source": "folder",
        "unreadable": 1,
    }
    for unit, first_days in {
        "week": {"2025-11-17": 3, "2020-09-07": 1},
        "month": {"2025-11-01": 3, "2020-09-01": 1},
        "year": {"2025-01-01": 3, "2020-01-01": 1},
    }.items():
        assert period_counts(None, unit, folder=pictures) == {
            "period_counts": first_days,
            "total_files": 4,
            "source": "folder",
            "unreadable": 1,
        }
    assert hourly_counts(None, date(2025, 11, 20), folder=pictures) == {
        "hourly_counts": {"2025-11-20T10:00:00Z": 2},
        "total_files": 2,
        "total_hours": 1,
        "source": "folder",
        "unreadable": 1,
    }


def test_years_of_few_digits_are_written_as_the_database_writes_them(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg", "0099:01:02 03:00:00")
    assert daily_counts(folder=tmp_path)["daily_counts"] == {"0099-01-02": 1}
    day = date(99, 1, 2)
    assert hourly_counts(None, day, folder=tmp_path)["hourly_counts"] == {"0099-01-02T03:00:00Z": 1}


def test_a_library_opens_only_what_changed(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    read = folder.dates_of

    def count(path: Path) -> object:
        opened.append(path.name)
        return read(path)

    monkeypatch.setattr(folder, "dates_of", count)
    library = FolderLibrary(pictures)
    assert len(library.files().moments) == 4
    opened.clear()
    picture(pictures / "b/c.jpg", "2024:01:01 00:00:00", "2021-01-01T00:00:00Z")
    picture(pictures / "new.jpg", "2024:01:01 00:00:00")
    (pictures / "e.jpg").unlink()
    assert daily_counts(folder=library.files())["daily_counts"] == {
        "2025-11-20": 1,
        "2025-11-19": 1,
        "2024-01-01": 2,
    }
    # What cannot be read is tried again.
    assert sorted(opened) == ["broken.jpg", "c.jpg", "new.jpg"]


@pytest.mark.parametrize("name", ["nothing", "file.jpg"])
def test_what_is_no_folder_is_an_error_and_no_empty_library(tmp_path: Path, name: str) -> None:
    (tmp_path / "file.jpg").touch()
    with pytest.raises(FolderUnreadable, match="Expected a folder of pictures at"):
        daily_counts(folder=tmp_path / name)
    answer = Client(create_app(tmp_path / name)).get(DAILY)
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:tallykeeper:problem:not-ready")
    assert Client(create_app(tmp_path / name)).get("/ready").status_code == 503


@pytest.mark.parametrize("failing", ["b", ""])
def test_a_folder_below_that_cannot_be_read_is_counted_and_the_folder_itself_an_error(
    pictures: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    library = FolderLibrary(pictures)
    # It could be listed a moment ago.
    monkeypatch.setattr(library, "require", lambda: None)
    listed = os.scandir

    def scandir(path: str | Path) -> Any:
        if Path(path) == pictures / failing:
            raise OSError(5, "Input/output error")
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    if failing:
        answer = daily_counts(folder=library.files())
        assert (answer["total_files"], answer["unreadable"]) == (2, 2)
    else:
        with pytest.raises(FolderUnreadable, match=r"cannot be read \(Input/output error\)"):
            library.files()


def test_a_folder_that_takes_too_long_is_an_error(pictures: Path) -> None:
    library = FolderLibrary(pictures, patience_seconds=0.05)
    with library._lock, pytest.raises(FolderUnreadable, match=r"within 0\.05 s, but that takes"):
        library.files()


def test_a_service_without_a_folder_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TALLY_SERVE_FOLDER", raising=False)
    with pytest.raises(SettingError, match="a folder of pictures"):
        create_app()


def test_either_a_connection_or_a_folder_is_asked(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="neither is there"):
        daily_counts()
    with pytest.raises(TypeError, match="both are there"):
        daily_counts(object(), folder=tmp_path)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Expected a day"):
        hourly_counts(folder=tmp_path)


def test_it_is_served_with_the_shape_of_the_database_and_a_word(pictures: Path) -> None:
    before = datetime.now(UTC)
    client = Client(create_app(pictures))
    answer = client.get(f"{DAILY}?start=2025-11-20")
    body = answer.json()
    assert list(body) == [
        *("daily_counts", "total_files", "total_days", "source", "unreadable", "as_of")
    ]
    assert (body["daily_counts"], body["source"]) == ({"2025-11-20": 2}, "folder")
    assert datetime.fromisoformat(body["as_of"]) >= before
    assert client.get(f"{HOURLY}?day=2025-11-19").json()["total_files"] == 1
    months = client.get("/api/media/period-counts?unit=month&start=2025-11-20").json()
    assert (months["period_counts"], months["source"]) == ({"2025-11-01": 2}, "folder")
    assert client.get("/ready").json()["source"] == "folder"
    assert client.get("/health").json() == {"status": "alive"}
    assert client.get("/").status_code == 200
    known = {"if-none-match": answer.headers["etag"]}
    assert client.get(f"{DAILY}?start=2025-11-20", headers=known).status_code == 304
    picture(pictures / "new.jpg", "2025:11:20 00:00:00")
    assert client.get(f"{DAILY}?start=2025-11-20", headers=known).json()["total_files"] == 3


def test_what_cannot_be_asked_is_a_problem_as_with_a_database(pictures: Path) -> None:
    client = Client(create_app(pictures))
    for address in (f"{DAILY}?start=2025-11-21&end=2025-11-20", f"{DAILY}?star=1", HOURLY):
        assert client.get(address).status_code == 422
    assert client.get("/api/courses").status_code == 404
