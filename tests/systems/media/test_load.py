"""Loading media files into a real database: what is written, what is left alone."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError

from assets.media.demo import create_demo
from assets.media.input import folder, seen_files
from assets.media.input.folder import dates_of
from assets.media.input.listing import Listing
from assets.media.load import load_media
from assets.media.reads import daily_counts, hourly_counts, period_counts
from assets.media.tables import media_files, metadata
from assets.media.tallies import system
from tallykeeper import install
from tallykeeper.input.loading import Loaded, LoadError

Write = Callable[..., Path]
BEFORE = datetime(2001, 1, 1, tzinfo=UTC)


@pytest.fixture
def library(engine: Engine) -> Engine:
    """A database with an empty `media_files`."""
    with engine.begin() as connection:
        connection.execute(text(f'CREATE SCHEMA "{metadata.schema}"'))
        metadata.create_all(connection)
    return engine


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes `files.csv`, without the header that a list of paths and both dates has."""

    def write(rows: str, header: str = "path,original_created_at,created_at") -> Path:
        path = tmp_path / "files.csv"
        path.write_text(f"{header}\n{rows}")
        return path

    return write


def files(engine: Engine) -> dict[str, tuple[Any, Any]]:
    """The stored files: capture date and date of creation by path."""
    stored = media_files.c
    with engine.connect() as connection:
        rows = connection.execute(
            media_files.select().with_only_columns(
                stored.path, stored.original_created_at, stored.created_at
            )
        )
        return {path: (taken, created) for path, taken, created in rows}


def counts(loaded: Loaded) -> tuple[int, int, int, int]:
    assert loaded.read == (
        loaded.inserted + loaded.changed + loaded.unchanged + loaded.rejected + loaded.unreadable
    )
    return loaded.inserted, loaded.changed, loaded.unchanged, loaded.rejected + loaded.unreadable


def test_a_list_is_loaded_and_malformed_rows_are_listed(library: Engine, write: Write) -> None:
    path = write(
        "a.jpg,2020-07-29T00:29:41+02:00,2021-01-01T00:00:00Z\n"
        "b.jpg,,2021-01-02\n"
        "c.jpg,2020-07-29TTT05:29:42Z,\n"
        ",2020-07-29,\n"
        "d.jpg\n"
    )
    loaded = load_media(library, path)
    assert counts(loaded) == (2, 0, 0, 3)
    assert loaded.rejected == 3
    assert loaded.seconds > 0
    assert files(library) == {
        "a.jpg": (
            datetime(2020, 7, 28, 22, 29, 41, tzinfo=UTC),
            datetime(2021, 1, 1, tzinfo=UTC),
        ),
        "b.jpg": (None, datetime(2021, 1, 2, tzinfo=UTC)),
    }
    assert loaded.reject_file == path.with_name("files.csv.rejects.csv")
    assert loaded.reject_file.read_text().splitlines()[1:] == [
        "4,original_created_at: '2020-07-29TTT05:29:42Z' is no ISO 8601 time "
        '(like 2020-07-29T05:29:42Z),"c.jpg,2020-07-29TTT05:29:42Z,"',
        '5,no path,",2020-07-29,"',
        '6,"expected 3 columns, found 1",d.jpg',
    ]


def test_loading_the_same_list_again_writes_nothing(library: Engine, write: Write) -> None:
    path = write("a.jpg,2020-07-29,\nb.jpg,,\nc.jpg,,2021-01-01\n")
    assert counts(load_media(library, path)) == (3, 0, 0, 0)
    versions = "SELECT path, xmin::text, xmax::text, updated_at FROM media.media_files"
    with library.connect() as connection:
        before = connection.execute(text(versions)).all()
    assert counts(load_media(library, path)) == (0, 0, 3, 0)
    with library.connect() as connection:
        assert connection.execute(text(versions)).all() == before


def test_a_changed_date_moves_the_file_and_says_when(library: Engine, write: Write) -> None:
    load_media(library, write("a.jpg,2020-07-29,2021-01-01\nb.jpg,2020-07-29,2021-01-01\n"))
    loaded = load_media(library, write("a.jpg,2020-07-30,2021-01-01\nb.jpg,2020-07-29,\n"))
    assert counts(loaded) == (0, 1, 1, 0)
    assert files(library)["a.jpg"][0] == datetime(2020, 7, 30, tzinfo=UTC)
    with library.connect() as connection:
        touched = connection.scalars(
            text("SELECT path FROM media.media_files WHERE updated_at <= now()")
        )
        assert touched.all() == ["a.jpg"]


def test_an_empty_capture_date_clears_the_stored_one(library: Engine, write: Write) -> None:
    load_media(library, write("a.jpg,2020-07-29,2021-01-01\n"))
    assert counts(load_media(library, write("a.jpg,,\n"))) == (0, 1, 0, 0)
    assert files(library) == {"a.jpg": (None, datetime(2021, 1, 1, tzinfo=UTC))}


def test_an_empty_date_of_creation_is_the_moment_of_loading_and_then_stays(
    library: Engine, write: Write
) -> None:
    before = datetime.now(UTC)
    load_media(library, write("a.jpg,,\n"))
    first = files(library)["a.jpg"][1]
    assert before <= first <= datetime.now(UTC)
    assert counts(load_media(library, write("a.jpg,2020-07-29,\n"))) == (0, 1, 0, 0)
    assert files(library)["a.jpg"][1] == first
    assert counts(load_media(library, write("a.jpg,2020-07-29,2001-01-01\n"))) == (0, 1, 0, 0)
    assert files(library)["a.jpg"][1] == BEFORE


@pytest.mark.parametrize(
    ("header", "row"),
    [("path", "a.jpg"), ("path,created_at", "a.jpg,2001-01-01"), ("created_at,path", ",a.jpg")],
)
def test_a_column_that_the_list_does_not_have_is_left_alone(
    library: Engine, write: Write, header: str, row: str
) -> None:
    load_media(library, write("a.jpg,2020-07-29,2001-01-01\n"))
    path = write(f"{row}\n{row.replace('a.jpg', 'b.jpg')}\n", header)
    assert counts(load_media(library, path)) == (1, 0, 1, 0)
    assert files(library)["a.jpg"] == (datetime(2020, 7, 29, tzinfo=UTC), BEFORE)
    assert files(library)["b.jpg"][0] is None


@pytest.mark.parametrize("chunk", [1, 50_000])
def test_an_empty_created_at_leaves_that_of_an_earlier_row(
    library: Engine, write: Write, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(Listing, "chunk", chunk)
    load_media(
        library, write("path,original_created_at,created_at\na,,2020-06-01\na,2021-06-01,\n")
    )
    taken, created = files(library)["a"][:2]
    assert (taken.year, created.year) == (2021, 2020)


@pytest.mark.parametrize("chunk", [1, 2, 50_000])
def test_of_rows_with_the_same_path_the_last_one_counts(
    library: Engine, write: Write, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(Listing, "chunk", chunk)
    rows = "a.jpg,2020-07-29,\nb.jpg,2020-07-29,\na.jpg,2020-07-30,\na.jpg,bad,\na.jpg,,\n"
    loaded = load_media(library, write(rows))
    assert (loaded.read, loaded.inserted, loaded.rejected) == (5, 2, 1)
    assert files(library)["a.jpg"][0] is None


def test_a_load_that_stopped_half_way_can_be_run_again(
    library: Engine, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Listing, "chunk", 10)
    path = write("".join(f"{n}.jpg,2020-07-29,\n" for n in range(100)))
    seen: list[tuple[int, int, int | None]] = []

    def stop(rows: int, done: int, total: int | None) -> None:
        seen.append((rows, done, total))
        if rows == 50:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_media(library, path, progress=stop)
    assert len(files(library)) == 50
    assert counts(load_media(library, path)) == (50, 0, 50, 0)
    assert [rows for rows, _, _ in seen] == [10, 20, 30, 40, 50]
    assert {total for _, _, total in seen} == {path.stat().st_size}


def test_a_gzipped_list_that_breaks_off_is_reported_and_keeps_whole_chunks(
    library: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Listing, "chunk", 1000)
    path = tmp_path / "files.csv.gz"
    whole = gzip.compress(b"path\n" + b"".join(b"%d.jpg\n" % n for n in range(50_000)))
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(LoadError, match="cannot be read beyond line"):
        load_media(library, path)
    assert len(files(library)) % 1000 == 0
    path.write_bytes(whole)
    assert load_media(library, path).read == 50_000
    assert len(files(library)) == 50_000


def test_paths_of_any_spelling_are_stored_as_they_are(library: Engine, write: Write) -> None:
    names = ["a\\b\t.jpg", "ä 写真 🐦.jpg", "'; DROP TABLE media_files; --.jpg", "\\N", "\\.", "a"]
    load_media(library, write("".join(f"{name},,\n" for name in names) + '"x,""y""\nz",,\n'))
    assert set(files(library)) == {*names, 'x,"y"\nz'}


def test_a_path_too_long_for_the_index_is_rejected_and_the_longest_kept(
    library: Engine, write: Write
) -> None:
    # Random letters: the index would compress anything regular.
    longest = os.urandom(1346).hex()
    loaded = load_media(library, write(f"{longest},,\n{longest}x,,\n"))
    assert counts(loaded) == (1, 0, 0, 1)
    assert set(files(library)) == {longest}


def test_times_go_into_an_adopted_table_without_time_zone_as_utc(
    engine: Engine, write: Write
) -> None:
    with engine.begin() as connection:
        connection.execute(text(f'CREATE SCHEMA "{metadata.schema}"'))
        connection.execute(
            text(
                "CREATE TABLE media.media_files (id bigint GENERATED ALWAYS AS IDENTITY,"
                " path varchar(200) UNIQUE NOT NULL, original_created_at timestamp,"
                " created_at timestamp NOT NULL DEFAULT now(), updated_at timestamp)"
            )
        )
    path = write("a.jpg,2020-07-29T00:29:41+02:00,2001-01-01\n")
    assert counts(load_media(engine, path)) == (1, 0, 0, 0)
    assert counts(load_media(engine, path)) == (0, 0, 1, 0)
    assert files(engine) == {
        "a.jpg": (datetime(2020, 7, 28, 22, 29, 41), datetime(2001, 1, 1))  # noqa: DTZ001
    }


def test_nothing_is_left_behind_in_the_connection(library: Engine, write: Write) -> None:
    load_media(library, write("a.jpg,,\n"))
    with library.connect() as connection:
        assert connection.scalar(text("SHOW TimeZone")) != "UTC"
        left = "SELECT count(*) FROM pg_class WHERE relpersistence = 't' AND relkind = 'r'"
        assert connection.scalar(text(left)) == 0


def test_a_value_that_the_table_refuses_stops_the_load(library: Engine, write: Write) -> None:
    with library.begin() as connection:
        connection.execute(text("ALTER TABLE media.media_files ADD CHECK (path NOT LIKE '%.exe')"))
    with pytest.raises(IntegrityError):
        load_media(library, write("a.exe,,\n"))
    assert files(library) == {}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.csv", None, r"gone\.csv cannot be read \(No such file or directory\)"),
        ("a.txt", "x", "is neither a folder nor a CSV file"),
        ("a.csv", "", "is empty: expected a header line"),
        ("a.csv", "file,when\n", "has no column path: expected a header line with path, "),
        ("a.csv", "path,path\n", "more than once"),
    ],
)
def test_an_input_that_cannot_be_loaded_is_reported_in_one_sentence(
    library: Engine, tmp_path: Path, name: str, content: str | None, message: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    with pytest.raises(LoadError, match=message):
        load_media(library, path)
    assert files(library) == {}


def test_a_database_without_the_table_is_reported_before_anything_is_read(
    engine: Engine, write: Write
) -> None:
    with pytest.raises(LoadError, match=r"no table media\.media_files .*`tally migrate"):
        load_media(engine, write("a.jpg,bad,\n"))
    assert not write("").with_name("files.csv.rejects.csv").exists()


def test_a_folder_of_pictures_is_loaded_by_real_path(library: Engine, tmp_path: Path) -> None:
    pictures = tmp_path / "Pictures"
    pictures.mkdir()
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9003] = "2020:07:29 00:29:41"
    exif.get_ifd(0x8769)[0x9011] = "+02:00"
    Image.new("RGB", (8, 8)).save(pictures / "a.jpg", exif=exif)
    Image.new("RGB", (8, 8)).save(pictures / "b.png")
    (pictures / "broken.jpg").write_bytes(b"")
    os.utime(pictures / "b.png", (10**9, 10**9))
    (tmp_path / "link").symlink_to(pictures)
    seen: list[tuple[int, int, int | None]] = []

    def follow(rows: int, done: int, total: int | None) -> None:
        seen.append((rows, done, total))

    loaded = load_media(library, tmp_path / "link", progress=follow)
    assert counts(loaded) == (2, 0, 0, 1)
    assert (loaded.rejected, loaded.unreadable) == (0, 1)
    assert seen[-1] == (3, 3, 3)
    stored = files(library)
    assert stored[f"{pictures}/a.jpg"][0] == datetime(2020, 7, 28, 22, 29, 41, tzinfo=UTC)
    assert stored[f"{pictures}/b.png"] == (None, datetime.fromtimestamp(10**9, UTC))
    assert loaded.reject_file == tmp_path / "Pictures.rejects.csv"
    assert loaded.reject_file.read_text() == (
        f"line,reason,row\n,the file is empty,{pictures}/broken.jpg\n"
    )

    Image.new("RGB", (8, 8)).save(pictures / "broken.jpg")
    assert counts(load_media(library, pictures)) == (1, 0, 2, 0)
    assert not loaded.reject_file.exists()

    os.utime(pictures / "b.png", (10**9, 10**9 + 86400))
    assert counts(load_media(library, pictures)) == (0, 1, 2, 0)


def test_an_empty_folder_loads_nothing(library: Engine, tmp_path: Path) -> None:
    assert counts(load_media(library, tmp_path)) == (0, 0, 0, 0)


def test_the_demo_library_is_as_large_as_wished_and_ends_today(library: Engine) -> None:
    assert create_demo(library, files=5000, days=400) == 5000
    now = datetime.now(UTC)
    stored = files(library).values()
    taken = [(original or created).astimezone(UTC) for original, created in stored]
    assert max(taken) <= now
    assert (now.date() - max(taken).date()).days <= 1
    recent = [moment for moment in taken if (now.date() - moment.date()).days < 401]
    assert 0.98 < len(recent) / 5000 < 1
    assert 0.05 < sum(original is None for original, _ in stored) / 5000 < 0.09
    weekend = sum(moment.weekday() >= 5 for moment in recent)
    assert weekend / 2 > (len(recent) - weekend) / 5
    assert all(original is None or original <= created <= now for original, created in stored)


def test_the_demo_library_is_made_up_once_and_alike(library: Engine) -> None:
    create_demo(library, files=500, days=30)
    first = files(library)
    assert create_demo(library, files=500, days=30) == 0
    assert files(library) == first
    with library.begin() as connection:
        connection.execute(media_files.delete())
    create_demo(library, files=500, days=30)
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    past = {path: dates for path, dates in first.items() if dates[1] < midnight}
    assert past.items() <= files(library).items()
    assert len(past) > 400


@pytest.mark.parametrize("numbers", [(-1, 1, 0.0), (1, 0, 0.0), (1, 1, 1.5)])
def test_a_demo_of_impossible_size_is_reported(
    library: Engine, numbers: tuple[int, int, float]
) -> None:
    size, days, seed = numbers
    with pytest.raises(ValueError, match="Expected at least 0 files, at least 1 day"):
        create_demo(library, size, days, seed)


def test_files_that_did_not_change_are_not_opened_again(
    library: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        Image.new("RGB", (8, 8)).save(pictures / name)
    assert load_media(library, pictures).inserted == 3
    opened: list[str] = []

    def watched(path: Path) -> Any:
        opened.append(path.name)
        return dates_of(path)

    monkeypatch.setattr(folder, "dates_of", watched)
    loaded = load_media(library, pictures)
    assert (opened, loaded.read, loaded.unchanged) == ([], 3, 3)
    assert "files as they were at the last load, not opened again: 3" in loaded.notes
    # A file that is another one by its time, one with a sidecar now, and one that somebody changed.
    os.utime(pictures / "a.jpg", (1_600_000_000, 1_600_000_000))
    (pictures / "b.xmp").write_text("<exif:DateTimeOriginal>2021-06-01</exif:DateTimeOriginal>")
    with library.begin() as connection:
        connection.execute(
            text(
                "UPDATE media.media_files SET original_created_at = now() WHERE path LIKE '%c.jpg'"
            )
        )
    assert load_media(library, pictures).changed == 3
    assert opened == ["a.jpg", "b.jpg", "c.jpg"]
    taken = {Path(path).name: dates[0] for path, dates in files(library).items()}
    assert taken["b.jpg"].year == 2021
    assert taken["c.jpg"] is None
    opened.clear()
    assert load_media(library, pictures).unchanged == 3
    assert opened == []


def test_a_role_that_may_not_remember_files_loads_them_all_the_same(
    library: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg")
    monkeypatch.setattr(seen_files, "prepare", lambda _connection: False)
    assert load_media(library, tmp_path).inserted == 1
    assert load_media(library, tmp_path).unchanged == 1


def test_a_folder_says_of_its_files_what_the_database_says_once_it_is_loaded(
    library: Engine, tmp_path: Path
) -> None:
    for number in range(8):
        tags = Image.Exif()
        tags.get_ifd(0x8769)[0x9003] = f"2024:02:29 {20 + number % 4}:30:00"
        tags.get_ifd(0x8769)[0x9011] = f"-0{number}:00"
        path = tmp_path / f"{number}.jpg"
        Image.new("RGB", (8, 8)).save(path, exif=b"" if number == 3 else tags.tobytes())
        os.utime(path, (1_600_000_000, 1_600_000_000))
    (tmp_path / "broken.jpg").touch()
    with library.begin() as connection:
        install(connection, system.tallies)
    load_media(library, tmp_path)
    with library.connect() as connection:
        # A folder cannot say when a file that it could not read was taken: it says how many.
        unread = {"source": "folder", "unreadable": 1}
        stored = {**daily_counts(connection), **unread}
        assert daily_counts(folder=tmp_path) == stored
        hours = {**hourly_counts(connection, date(2024, 3, 1)), **unread}
        for unit in ("week", "month", "year"):
            periods = {**period_counts(connection, unit), **unread}
            assert period_counts(None, unit, folder=tmp_path) == periods
    assert hourly_counts(folder=tmp_path, day=date(2024, 3, 1)) == hours
    assert stored["total_files"] == 8
