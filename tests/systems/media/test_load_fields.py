"""Which files a folder or a list holds and when they were made, without a database."""

from __future__ import annotations

import logging
import os
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from assets.media.input import metadata
from assets.media.input.dates import exif_time
from assets.media.input.folder import Folder, find_media
from assets.media.input.listing import Listing, Row
from assets.media.input.metadata import Unreadable, modification_time
from tallykeeper.input.csv_input import CsvFile
from tallykeeper.input.loading import LoadError

ORIGINAL, DIGITIZED, CHANGED = 0x9003, 0x9004, 0x0132
OFFSET_OF = {ORIGINAL: 0x9011, DIGITIZED: 0x9012, CHANGED: 0x9010}
NOWHERE = 1_600_000_000  # a modification time, 2020-09-13T12:26:40Z


def picture(path: Path, tags: dict[int, Any] | None = None, form: str | None = None) -> Path:
    """A small picture with these EXIF tags, last modified at NOWHERE."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    for tag, value in (tags or {}).items():
        (exif if tag == CHANGED else exif.get_ifd(0x8769))[tag] = value
    image = Image.new("RGB", (8, 8), "olive")
    if tags is None:
        image.save(path, form)
    else:
        image.save(path, form, exif=exif.tobytes())
    os.utime(path, (NOWHERE, NOWHERE))
    return path


def at(*numbers: int) -> datetime:
    year, month, day, hour, minute, second = numbers
    return datetime(year, month, day, hour, minute, second, tzinfo=UTC)


def capture_date(path: Path) -> datetime | None:
    """When the file itself says that it was made, the last change by EXIF included."""
    found = metadata.capture_date(path) or metadata.edit_date(path)
    return found.at if found else None


@pytest.mark.parametrize("form", ["jpg", "png", "tiff", "webp", "avif"])
def test_the_capture_date_is_date_time_original_with_its_offset(tmp_path: Path, form: str) -> None:
    tags = {ORIGINAL: "2020:07:29 00:29:41", OFFSET_OF[ORIGINAL]: "+02:00"}
    tags |= {DIGITIZED: "2021:01:01 00:00:00", CHANGED: "2022:01:01 00:00:00"}
    assert capture_date(picture(tmp_path / f"a.{form}", tags)) == at(2020, 7, 28, 22, 29, 41)


def test_without_an_offset_the_capture_date_is_read_as_utc(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.jpg", {ORIGINAL: "2020:07:29 00:29:41"})
    assert capture_date(path) == at(2020, 7, 29, 0, 29, 41)


@pytest.mark.parametrize("tag", [DIGITIZED, CHANGED])
@pytest.mark.parametrize("original", [None, "0000:00:00 00:00:00", "", "    :  :     :  :  "])
def test_where_the_original_date_is_absent_the_next_best_counts(
    tmp_path: Path, tag: int, original: str | None
) -> None:
    tags = {tag: "2020:07:29 00:29:41", OFFSET_OF[tag]: "-03:30"}
    tags |= {} if original is None else {ORIGINAL: original, OFFSET_OF[ORIGINAL]: "+09:00"}
    assert capture_date(picture(tmp_path / "a.jpg", tags)) == at(2020, 7, 29, 3, 59, 41)


@pytest.mark.parametrize(
    ("value", "offset", "moment"),
    [
        ("2020:07:29 05:29:41\0", "Z", at(2020, 7, 29, 5, 29, 41)),
        (b"2020:07:29 05:29:41\0\0", b"+02:00\0", at(2020, 7, 29, 3, 29, 41)),
        ("2020-07-29T05:29:41.123", "+0200", at(2020, 7, 29, 3, 29, 41)),
        ("2020/7/29 5:29:41", "-3:30", at(2020, 7, 29, 8, 59, 41)),
        ("2020:07:29 05:29:41", " ", at(2020, 7, 29, 5, 29, 41)),
        ("2020:07:29 05:29:41", "+99:99", at(2020, 7, 29, 5, 29, 41)),
        ("2020:07:29 05:29:41", "+01:75", at(2020, 7, 29, 5, 29, 41)),
        ("2025:01:14 18:31:30+0000", "+05:00", at(2025, 1, 14, 18, 31, 30)),
        ("2025-01-14T18:31:30Z", None, at(2025, 1, 14, 18, 31, 30)),
        ("2025:01:14 18:31", "+01:00", at(2025, 1, 14, 17, 31, 0)),
        ("2025: 1:14  8: 3: 5", None, at(2025, 1, 14, 8, 3, 5)),
        ("2025:01:14:18:31:30", None, at(2025, 1, 14, 18, 31, 30)),
        ("2025.01.14 18:31:30", None, at(2025, 1, 14, 18, 31, 30)),
        ("2025:01:14 18:31:30", "+08", at(2025, 1, 14, 10, 31, 30)),
        ("2025:01:14 18:31:30", "+9", at(2025, 1, 14, 9, 31, 30)),
        ("2025:01:14 18:31:30-3", "", at(2025, 1, 14, 21, 31, 30)),
        ("2025:01:14", None, at(2025, 1, 14, 0, 0, 0)),
        ("2025:01:14 18", None, None),
        ("2020:07:29 05:29:41", 2, at(2020, 7, 29, 5, 29, 41)),
        ("0000:00:00 00:00:00", None, None),
        ("2020:02:30 05:29:41", None, None),
        ("2020:07:29 24:00:00", None, None),
        ("0001:01:01 00:00:00", "+02:00", None),
        ("9999:12:31 23:59:59", "-02:00", None),
        ("\u0662020:07:29 05:29:41", None, None),
        ("", None, None),
        (b"\xff\xfe", b"\xff", None),
        ((2020, 7, 29), None, None),
        (1595999999, None, None),
        (None, None, None),
    ],
)
def test_oddities_of_cameras_are_a_date_or_absent(
    value: object, offset: object, moment: datetime | None
) -> None:
    assert exif_time(value, offset) == moment


odd = st.text() | st.binary() | st.integers() | st.none() | st.tuples(st.integers())
dates = st.from_regex(r"[0-9]{4}[:/-][0-9]{2}[:/-][0-9]{2}[ T][0-9]{2}:[0-9]{2}:[0-9]{2}\0?")
zones = st.from_regex(r"[+-][0-9]{1,2}:?[0-9]{2}", fullmatch=True)


@given(odd | dates, odd | zones)
def test_whatever_the_tags_hold_the_date_is_in_utc_or_absent(value: object, offset: object) -> None:
    moment = exif_time(value, offset)
    assert moment is None or moment.tzinfo is UTC


def test_an_image_without_exif_says_nothing_of_when_it_was_taken(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png", "a.gif", "a.bmp"):
        assert capture_date(picture(tmp_path / name)) is None


def test_a_broken_exif_block_in_a_good_picture_counts_as_absent(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.jpg", {ORIGINAL: "2020:07:29 00:29:41"})
    content = path.read_bytes()
    assert content.count(b"Exif\0\0MM\0*") == 1
    path.write_bytes(content.replace(b"Exif\0\0MM\0*", b"Exif\0\0xxxx"))
    assert capture_date(path) is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "empty"), (b"no picture", "no image"), (b"\x89PNG\r\n\x1a\n\0", "no image")],
)
def test_a_file_that_is_no_image_for_all_its_name_is_unreadable(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(Unreadable, match=reason):
        capture_date(path)


@pytest.mark.parametrize("name", ["a.heic", "a.CR3", "a.mp4"])
def test_a_format_that_cannot_be_read_says_nothing_of_when_it_was_taken(
    tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    path.write_bytes(b"something else")
    assert capture_date(path) is None


def test_a_phone_s_heic_under_the_name_of_a_jpeg_is_no_broken_file(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    assert capture_date(path) is None


def test_a_raw_picture_that_is_tiff_inside_has_its_date(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.dng", {ORIGINAL: "2020:07:29 00:29:41"}, form="TIFF")
    assert capture_date(path) == at(2020, 7, 29, 0, 29, 41)


def test_a_huge_panorama_has_its_date_without_being_decoded(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.jpg", {ORIGINAL: "2020:07:29 00:29:41"})
    content = path.read_bytes()
    small, huge = b"\x08\x00\x08\x00\x08", b"\x08\xff\xff\xff\xff"
    assert content.count(small) == 1
    path.write_bytes(content.replace(small, huge))
    limit = Image.MAX_IMAGE_PIXELS
    with pytest.raises(Image.DecompressionBombError):
        Image.open(path)
    assert capture_date(path) == at(2020, 7, 29, 0, 29, 41)
    assert limit == Image.MAX_IMAGE_PIXELS


def test_pillow_s_own_messages_are_kept_from_the_terminal(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = picture(tmp_path / "a.tif", {ORIGINAL: "2020:07:29 00:29:41"})
    content = bytearray(path.read_bytes())
    # SamplesPerPixel (tag 277) of a TIFF: more than Pillow decodes, which it logs as an error.
    place = content.index(b"\x15\x01\x03\x00")
    content[place + 8 : place + 10] = b"\xff\xff"
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with suppress(OSError):
            Image.open(path)
    assert "samples per pixel" in caplog.text
    caplog.clear()
    with pytest.raises(Unreadable):
        capture_date(path)
    assert caplog.text == ""
    assert logging.getLogger("PIL").level == logging.NOTSET


@pytest.mark.parametrize("form", ["jpg", "png", "tiff", "webp", "avif", "gif", "bmp"])
def test_whatever_bytes_are_broken_the_answer_is_a_date_none_or_unreadable(
    tmp_path: Path, form: str
) -> None:
    tags = {ORIGINAL: "2020:07:29 00:29:41", OFFSET_OF[ORIGINAL]: "+02:00"}
    path = picture(tmp_path / f"a.{form}", None if form in ("gif", "bmp") else tags)
    content = path.read_bytes()
    chance = random.Random(form)
    unreadable = 0
    for _ in range(300):
        broken = bytearray(content)
        for _ in range(chance.choice([1, 2, 20])):
            place = chance.randrange(min(len(broken), chance.choice([32, 300, 10_000])))
            broken[place] = chance.choice([0, 1, 128, 255, chance.randrange(256)])
        path.write_bytes(
            broken[: chance.randrange(len(broken))] if chance.random() < 0.3 else broken
        )
        try:
            moment = capture_date(path)
        except Unreadable:
            unreadable += 1
        else:
            assert moment is None or moment.tzinfo is UTC
    assert 0 < unreadable < 300


@given(st.integers(-(2**63), 2**63 - 1))
def test_any_modification_time_is_a_moment_to_the_microsecond(nanoseconds: int) -> None:
    moment = modification_time(nanoseconds)
    assert (moment - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1) == (
        pytest.approx(nanoseconds // 1000)
    )


def test_a_modification_time_beyond_python_s_years_is_unreadable() -> None:
    with pytest.raises(Unreadable, match="years 1 to 9999"):
        modification_time(10**21)


Reports = list[tuple[str, str]]


def files_of(folder: Path) -> tuple[dict[str, tuple[str | None, str | None]], Reports]:
    """Each file's two dates by its path below the folder, and what could not be read."""
    reports: Reports = []
    files = Folder(folder, lambda *what: reports.append(what))
    root = f"{folder.resolve()}/"
    found = {path.removeprefix(root): (taken, made) for path, taken, made in files}
    return found, [(path.removeprefix(root), reason) for path, reason in reports]


def test_a_file_has_its_capture_date_or_else_its_modification_time(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg", {ORIGINAL: "2020:07:29 00:29:41"})
    picture(tmp_path / "b" / "c.JPG")
    (tmp_path / "b" / "d.MP4").write_bytes(b"moving")
    os.utime(tmp_path / "b" / "d.MP4", ns=(0, NOWHERE * 10**9 + 123_456_789))
    (tmp_path / "notes.txt").write_text("no picture")
    assert files_of(tmp_path) == (
        {
            "a.jpg": ("2020-07-29T00:29:41+00:00", None),
            "b/c.JPG": (None, "2020-09-13T12:26:40+00:00"),
            "b/d.MP4": (None, "2020-09-13T12:26:40.123456+00:00"),
        },
        [],
    )


def test_unreadable_files_are_reported_and_the_others_found(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"broken")
    picture(tmp_path / "b.jpg")
    (tmp_path / "c.jpg").symlink_to(tmp_path / "gone.jpg")
    os.mkfifo(tmp_path / "d.mp4")
    long = tmp_path
    for _ in range(11):
        long = long / ("x" * 250)
        long.mkdir()
    picture(long / "e.jpg")
    found, reports = files_of(tmp_path)
    assert list(found) == ["b.jpg"]
    *plain, (_, about_path) = sorted(reports, key=lambda report: report[1].startswith("its path"))
    assert sorted((Path(path).name, reason) for path, reason in plain) == [
        ("a.jpg", "no image that can be read"),
        ("d.mp4", "no regular file"),
        ("gone.jpg", "No such file or directory"),
    ]
    assert "its path is 2," in about_path


def test_a_name_that_is_not_utf_8_is_reported(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/\xe9.jpg"
    with suppress(OSError):  # a file system that takes UTF-8 alone has no such names
        picture(tmp_path / "a.jpg").rename(os.fsdecode(name))
        assert files_of(tmp_path)[1][0][1] == "its path is not UTF-8"


@contextmanager
def without_rights() -> Iterator[None]:
    """As a user who may do nothing special, where the tests are run by root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_folder_that_may_not_be_read_is_reported_and_the_others_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture(tmp_path / "locked" / "a.jpg")
    picture(tmp_path / "open" / "b.jpg")
    monkeypatch.chdir(tmp_path)
    tmp_path.chmod(0o755)
    (tmp_path / "locked").chmod(0)
    reports: Reports = []
    try:
        with without_rights():
            found = list(find_media(Path(), lambda *what: reports.append(what)))
    finally:
        (tmp_path / "locked").chmod(0o755)
    assert found == ["./open/b.jpg"]
    assert reports == [("./locked", "Permission denied")]


def test_hidden_files_and_folders_are_passed_over(tmp_path: Path) -> None:
    picture(tmp_path / ".thumbnails" / "a.jpg")
    picture(tmp_path / "b.jpg")
    (tmp_path / "._b.jpg").write_bytes(b"a companion that macOS writes, no picture")
    assert list(files_of(tmp_path)[0]) == ["b.jpg"]
    assert list(files_of(tmp_path / ".thumbnails")[0]) == ["a.jpg"]


def test_links_to_folders_are_not_followed_and_links_to_files_are_resolved(tmp_path: Path) -> None:
    library = tmp_path / "library"
    picture(library / "a.jpg")
    outside = picture(tmp_path / "outside" / "b.jpg")
    (library / "loop").symlink_to(library)
    (library / "odd.jpg").symlink_to(library)
    (library / "again.jpg").symlink_to(library / "a.jpg")
    (library / "other.jpg").symlink_to(outside)
    (tmp_path / "link").symlink_to(library)
    reports: Reports = []
    for start in (library, tmp_path / "link"):
        paths = [row[0] for row in Folder(start, lambda *what: reports.append(what))]
        assert sorted(paths) == sorted(map(str, [library / "a.jpg", library / "a.jpg", outside]))
    assert reports == []


def test_files_are_counted_first_where_the_total_is_wanted(tmp_path: Path) -> None:
    for name in ("a.jpg", "b/c.jpg", "b/d.mov"):
        picture(tmp_path / name, form="JPEG")
    (tmp_path / "broken.jpg").write_bytes(b"")
    reports: Reports = []
    files = Folder(tmp_path, lambda *what: reports.append(what), count=True)
    assert files.total == 4
    assert reports == []
    assert len(list(files)) == 3
    assert files.done() == 4


def test_files_are_found_in_order_of_their_names(tmp_path: Path) -> None:
    names = ["b.jpg", "a/z.jpg", "a/b/c.jpg", "c/a.jpg", "a.jpg"]
    for name in names:
        picture(tmp_path / name)
    reports: Reports = []
    paths = find_media(tmp_path, lambda *what: reports.append(what))
    found = [Path(path).relative_to(tmp_path) for path in paths]
    assert list(map(str, found)) == ["a.jpg", "b.jpg", "a/z.jpg", "a/b/c.jpg", "c/a.jpg"]


def listed(path: Path, content: str) -> tuple[list[Row], list[tuple[int, str]]]:
    path.write_text(content)
    rejected: list[tuple[int, str]] = []
    with CsvFile(path) as file:
        rows = list(Listing(file, lambda line, why, _: rejected.append((line, why))))
    return rows, rejected


def test_a_list_s_columns_may_stand_in_any_order_with_others_between(tmp_path: Path) -> None:
    rows, rejected = listed(
        tmp_path / "in.csv",
        "created_at,size,path,original_created_at\n"
        "2021-01-01,9,a.jpg,2020-07-29T00:29:41+02:00\n"
        ",,b.jpg,\n",
    )
    assert rows == [
        ("a.jpg", "2020-07-28T22:29:41+00:00", "2021-01-01T00:00:00+00:00"),
        ("b.jpg", None, None),
    ]
    assert rejected == []


def test_a_row_that_does_not_say_which_file_or_when_is_rejected(tmp_path: Path) -> None:
    rows, rejected = listed(
        tmp_path / "in.csv",
        "path,original_created_at,created_at\n"
        " ,2020-07-29,\n"
        "a.jpg,42Z,\n"
        "b.jpg,,yesterday\n"
        "c\0.jpg,,\n"
        "d.jpg,,\n",
    )
    assert [row[0] for row in rows] == ["d.jpg"]
    assert [line for line, _ in rejected] == [2, 3, 4, 5]
    assert [why[:34] for _, why in rejected] == [
        "no path",
        "original_created_at: '42Z' is no I",
        "created_at: 'yesterday' is no ISO ",
        "path contains a NUL byte",
    ]


def test_camtrap_dp_without_file_path_is_known_by_deployment_medium_and_name(
    tmp_path: Path,
) -> None:
    rows, rejected = listed(
        tmp_path / "media.csv",
        "mediaID,deploymentID,timestamp,fileName\n"
        "m1,d1,2020-05-30T04:57:37+02:00,IMG1.JPG\n"
        "m2,d2,2020-05-30T04:57:37Z,IMG1.JPG\n"
        "m3,,2020-05-30T04:57:37Z,\n"
        "m4,d1,,IMG4.JPG\n"
        ",d1,2020-05-30T04:57:37Z,IMG5.JPG\n",
    )
    assert rows == [
        ("d1/m1/IMG1.JPG", "2020-05-30T02:57:37+00:00", None),
        ("d2/m2/IMG1.JPG", "2020-05-30T04:57:37+00:00", None),
        ("m3", "2020-05-30T04:57:37+00:00", None),
    ]
    assert rejected == [(5, "no timestamp"), (6, "neither filePath nor mediaID")]


def test_camtrap_dp_with_file_path_is_known_by_its_url_or_its_place_beside_the_csv(
    tmp_path: Path,
) -> None:
    rows, rejected = listed(
        tmp_path / "media.csv",
        "mediaID,timestamp,filePath\n"
        "m1,2020-05-30T04:57:37Z,https://example.org/m1/a.jpg\n"
        "m2,2020-05-30T04:57:37Z,media/../media/a.jpg\n"
        "m3,2020-05-30T04:57:37Z,/data/a.jpg\n"
        "m4,2020-05-30T04:57:37Z,\n",
    )
    paths = ["https://example.org/m1/a.jpg", f"{tmp_path}/media/a.jpg", "/data/a.jpg", "m4"]
    assert [row[0] for row in rows] == paths
    assert rejected == []


def test_a_csv_that_is_neither_a_list_nor_camtrap_dp_is_reported(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="has no column path"):
        listed(tmp_path / "in.csv", "mediaID,when\nm1,2020-05-30\n")


def test_a_list_of_paths_alone_speaks_of_no_dates(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("path\na.jpg\n")
    with CsvFile(path) as file:
        listing = Listing(file, lambda *_: None)
        assert list(listing) == [("a.jpg", None, None)]
        assert listing.done() == listing.total == 11
        assert list(listing.columns) == []
