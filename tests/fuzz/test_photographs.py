"""Pictures, videos and sidecars with broken and odd bytes: dated, or said to be unreadable."""

from __future__ import annotations

import io
import json
import os
import struct
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sqlalchemy import Engine
from sqlalchemy.schema import CreateSchema

from assets.media.input.dates import exif_time, iptc_time, written_time
from assets.media.input.folder import MEDIA, dates_of
from assets.media.input.metadata import Unreadable
from assets.media.input.sidecars import forget_folders
from assets.media.load import load_media
from assets.media.tallies import system
from tallykeeper.database.connections import open_engine
from tests.fuzz.accounts import contents, loaded
from tests.fuzz.files import Damage, damaged, damages, json_values, odd_texts
from tests.fuzz.profile import examples
from tests.integration.support import execute
from tests.servers import VERSIONS, Servers
from tests.systems.media.test_dates import FILES, XMP, exif

FILES_TABLE = "media.media_files"
NUMBERS = [0, 1, 4, 8, 127, 255, 2**16 - 1, 2**31, 2**32 - 1, 2**63]


def _picture(form: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, form, **options)
    return stream.getvalue()


def _with_iptc() -> bytes:
    records = b"\x1c\x02\x37\0\x0820210304" + b"\x1c\x02\x3c\0\x0b060607+0100"
    data = b"Photoshop 3.0\x008BIM\x04\x04\0\0" + struct.pack(">I", len(records)) + records
    content = _picture("JPEG")
    return content[:2] + b"\xff\xed" + struct.pack(">H", len(data) + 2) + data + content[2:]


def _raf() -> bytes:
    head = b"FUJIFILMCCD-RAW ".ljust(84, b"0") + struct.pack(">I", 160)
    return head.ljust(160, b"\0") + _picture("JPEG", exif=b"Exif\0\0" + exif())


SEEDS: dict[str, bytes] = {
    **{name: content for name, (content, _) in FILES.items()},
    "exif.jpg": _picture("JPEG", exif=b"Exif\0\0" + exif(), xmp=XMP),
    "iptc.jpg": _with_iptc(),
    "a.tiff": _picture("TIFF", exif=exif()),
    "a.dng": _picture("TIFF", exif=exif()),
    "a.webp": _picture("WEBP", exif=exif(), xmp=XMP),
    "a.gif": _picture("GIF"),
    "a.bmp": _picture("BMP"),
    "a.raf": _raf(),
}
# A name says what a file should be, and what is in it may be something else.
_extensions = st.sampled_from(sorted(MEDIA))
_numbers = st.sampled_from(NUMBERS).map(lambda n: n.to_bytes(8)[-4:]) | st.binary(max_size=8)
_inside = st.lists(st.builds(Damage, st.integers(0, 1_000), st.integers(0, 8), _numbers))
_dates = st.sampled_from(
    ["2021:03:04 05:06:07", "0000:00:00 00:00:00", "9999:12:31 23:59:59", "2021:02:30 05:06"]
)


@st.composite
def _odd_exif(draw: st.DrawFn) -> bytes:
    """EXIF in which tags of dates have values of any type."""
    tags = Image.Exif()
    for tag in draw(st.lists(st.sampled_from([0x0132, 0x9003, 0x9004, 0x9010, 0x9011]))):
        value = draw(_dates | st.text(max_size=20) | st.integers(0, 2**32 - 1))
        (tags.get_ifd(0x8769) if draw(st.booleans()) else tags)[tag] = value
    try:
        return tags.tobytes()
    except (ValueError, TypeError, struct.error):
        return exif()


@st.composite
def media(draw: st.DrawFn) -> tuple[str, bytes]:
    """The name and the bytes of a picture or video in which something is odd."""
    name = draw(st.sampled_from(sorted(SEEDS)))
    content = SEEDS[name]
    if draw(st.integers(0, 3)) == 0:
        name, form = draw(st.sampled_from([("a.jpg", "JPEG"), ("a.webp", "WEBP")]))
        content = _picture(form, exif=draw(_odd_exif()))
    content = damaged(content, draw(damages | _inside))
    if draw(st.integers(0, 4)) == 0:
        content = content[: draw(st.integers(0, 200))]
    if draw(st.integers(0, 4)) == 0:
        name = f"a{draw(_extensions)}"
    return name, content


_sidecars = st.dictionaries(
    st.sampled_from(["{}.xmp", "{}.json", "{}.supplemental-metadata.json"]),
    st.builds(damaged, st.just(XMP), damages)
    | json_values(4).map(lambda value: json.dumps(value).encode())
    | json_values().map(lambda v: json.dumps({"photoTakenTime": {"timestamp": v}}).encode())
    | st.binary(max_size=30),
    max_size=2,
)


@given(media(), _sidecars)
@examples(1_000)
def test_a_file_has_a_date_or_is_unreadable(
    tmp_path: Path, file: tuple[str, bytes], sidecars: dict[str, bytes]
) -> None:
    path = _put(tmp_path, file, sidecars)
    try:
        dated, modified = dates_of(path)
    except Unreadable:
        return
    assert (dated is None) != (modified is None)
    moment = dated.at if dated else modified
    assert moment is not None
    assert moment.tzinfo is UTC


def _put(folder: Path, file: tuple[str, bytes], sidecars: dict[str, bytes]) -> Path:
    forget_folders()
    for each in folder.iterdir():
        each.unlink()
    name, content = file
    path = folder / name
    path.write_bytes(content)
    for pattern, beside in sidecars.items():
        (folder / pattern.format(name)).write_bytes(beside)
    return path


@given(
    st.from_regex(r"[0-9]{4}[:/.-][0-9 ]{1,3}[:/.-][0-9 ]{1,3}.{0,24}", fullmatch=True) | odd_texts
)
@examples(500)
def test_what_is_written_is_a_moment_in_utc_or_nothing(text: str) -> None:
    found: list[datetime | None] = [exif_time(text), exif_time(text, text), written_time(text)]
    raw = text.encode("utf-8", "surrogatepass")
    found += [exif_time(raw), iptc_time(raw, raw), exif_time(None, raw)]
    assert {moment.tzinfo for moment in found if moment is not None} <= {UTC}


@pytest.fixture(scope="module")
def database(postgres_servers: Servers) -> Iterator[Engine]:
    """A database with an empty library, without capture."""
    with postgres_servers.fresh_database(VERSIONS[0]) as url:
        engine = open_engine(url)
        with engine.begin() as connection:
            connection.execute(CreateSchema(str(system.metadata.schema)))
            system.metadata.create_all(connection)
        yield engine
        engine.dispose()


_moments = st.sampled_from([0, 1_600_000_000, -(2**31), 2**40, -62_135_596_801])


@given(st.lists(media(), max_size=4), _sidecars, _moments, odd_texts)
@examples(60)
def test_a_folder_is_loaded_and_then_not_opened_again(
    database: Engine,
    tmp_path: Path,
    files: list[tuple[str, bytes]],
    sidecars: dict[str, bytes],
    modified: int,
    name: str,
) -> None:
    execute(database, f"DELETE FROM {FILES_TABLE}")
    folder = _folder(tmp_path, files, sidecars, modified, name)
    there = sum(path.suffix.lower() in MEDIA for path in folder.iterdir())
    first = loaded(lambda path: load_media(database, path), folder)
    assert first is not None
    assert first.read == there
    stored = contents(database, [FILES_TABLE])
    again = loaded(lambda path: load_media(database, path), folder)
    assert again is not None
    assert (again.read, again.unreadable) == (there, first.unreadable)
    assert (again.inserted, again.changed) == (0, 0)
    assert contents(database, [FILES_TABLE]) == stored
    if there > again.unreadable:
        (note,) = [each for each in again.notes if "not opened again" in each]
        assert note.endswith(f": {there - again.unreadable}")


def _folder(
    parent: Path,
    files: list[tuple[str, bytes]],
    sidecars: dict[str, bytes],
    modified: int,
    odd: str,
) -> Path:
    folder = parent / "pictures"
    folder.mkdir(exist_ok=True)
    for each in folder.iterdir():
        each.unlink()
    for number, (name, content) in enumerate(files):
        path = folder / f"{number}{name}"
        path.write_bytes(content)
        os.utime(path, (modified, modified))
        for pattern, beside in sidecars.items():
            (folder / pattern.format(path.name)).write_bytes(beside)
    try:
        odd_name = odd.replace("/", "-").replace("\0", "0").encode("utf-8", "surrogateescape")[:200]
        with open(os.fsencode(folder) + b"/x" + odd_name + b".jpg", "wb") as stream:  # noqa: PTH123
            stream.write(SEEDS["exif.jpg"])
    except UnicodeError:
        pass
    return folder
