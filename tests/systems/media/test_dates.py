"""What a picture or video says of when it was made, wherever in the file or beside it."""

from __future__ import annotations

import json
import random
import struct
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from assets.media.input.containers import blocks_of
from assets.media.input.folder import BY_MODIFICATION, Folder, dates_of
from assets.media.input.metadata import Dated, Unreadable, capture_date, edit_date

TAKEN = datetime(2021, 3, 4, 5, 6, 7, tzinfo=UTC)
WRITTEN = "2021:03:04 05:06:07"
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description'
    b' xmp:CreateDate="2022-02-02T02:02:02Z">'
    b"<exif:DateTimeOriginal>2021-03-04T06:06:07+01:00</exif:DateTimeOriginal>"
    b"</rdf:Description></rdf:RDF></x:xmpmeta>"
)


def exif(tag: int = 0x9003, value: str = WRITTEN, inside: bool = True) -> bytes:
    """A block of EXIF with one date, as TIFF."""
    tags = Image.Exif()
    (tags.get_ifd(0x8769) if inside else tags)[tag] = value
    return tags.tobytes().removeprefix(b"Exif\0\0")


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", len(content) + 8, kind) + content


def heif(brand: bytes, exif_block: bytes = b"", xmp: bytes = b"") -> bytes:
    """A HEIF file with these items and no picture."""
    items = [(b"Exif", b"", b"\0\0\0\6Exif\0\0" + exif_block)] if exif_block else []
    items += [(b"mime", b"application/rdf+xml\0", xmp)] if xmp else []
    infos = b"".join(
        box(b"infe", b"\2\0\0\0" + struct.pack(">HH", n, 0) + kind + b"\0" + more)
        for n, (kind, more, _) in enumerate(items, 1)
    )
    head = box(b"ftyp", brand + b"\0\0\0\0mif1")

    def with_places(at: int) -> bytes:
        iloc = b"\1\0\0\0\x44\0" + struct.pack(">H", len(items))
        for n, (_, _, data) in enumerate(items, 1):
            iloc += struct.pack(">HHHHII", n, 0, 0, 1, at, len(data))
            at += len(data)
        iinf = b"\0\0\0\0" + struct.pack(">H", len(items)) + infos
        return box(b"meta", b"\0\0\0\0" + box(b"iinf", iinf) + box(b"iloc", iloc))

    at = len(head) + len(with_places(0)) + 8
    return head + with_places(at) + box(b"mdat", b"".join(data for _, _, data in items))


def movie(*boxes: bytes, moment: datetime = TAKEN) -> bytes:
    seconds = int((moment - datetime(1904, 1, 1, tzinfo=UTC)).total_seconds())
    header = box(b"mvhd", struct.pack(">IIIII", 0, seconds, seconds, 600, 0) + bytes(80))
    return (
        box(b"ftyp", b"qt  \0\0\0\0")
        + box(b"mdat", bytes(999))
        + box(b"moov", header + b"".join(boxes))
    )


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG with these chunks behind its pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    pixels = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    pixels += chunk(b"IDAT", zlib.compress(b"\0\0"))
    rest = b"".join(chunk(kind, data) for kind, data in chunks)
    return b"\x89PNG\r\n\x1a\n" + pixels + rest + chunk(b"IEND", b"")


CANON = box(b"uuid", bytes.fromhex("85c0b687820f11e08111f4ce462b6a48") + box(b"CMT2", exif(0x9003)))
APPLE = box(b"meta", b"keys" + b"data\0\0\0\1\0\0\0\0" + b"2021-03-04T06:06:07+0100")
XMP_BOX = box(b"uuid", bytes.fromhex("be7acfcb97a942e89c71999491e3afac") + XMP)
NANOSECONDS = int((TAKEN - datetime(2001, 1, 1, tzinfo=UTC)).total_seconds() * 1e9)
FILES = {
    "a.heic": (heif(b"heic", exif()), "EXIF"),
    "b.hif": (heif(b"heix", exif()), "EXIF"),
    "c.heic": (heif(b"heic", xmp=XMP), "XMP"),
    "d.avif": (heif(b"avif", exif()), "EXIF"),
    "iphone.jpg": (heif(b"heic", exif()), "EXIF"),
    "e.jxl": (box(b"JXL ", b"\r\n\x87\n") + box(b"Exif", b"\0\0\0\0" + exif()), "EXIF"),
    "f.cr3": (movie(CANON), "EXIF"),
    "g.mov": (movie(), "the video's header"),
    "h.mp4": (movie(APPLE, moment=TAKEN + timedelta(days=9)), "the video's header"),
    "i.mp4": (movie() + XMP_BOX, "XMP"),
    "j.mkv": (
        b"\x1a\x45\xdf\xa3" + bytes(40) + b"\x44\x61\x88" + struct.pack(">q", NANOSECONDS),
        "the video's header",
    ),
    "k.avi": (
        b"RIFF\0\0\0\0AVI LIST" + b"IDIT" + struct.pack("<I", 25) + b"Thu Mar 04 05:06:07 2021\n",
        "the video's header",
    ),
    "l.orf": (b"MMOR" + exif(0x9003)[4:], "EXIF"),
    "m.png": (png((b"eXIf", exif())), "EXIF"),
    "n.png": (png((b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)), "XMP"),
    "o.png": (png((b"tEXt", b"Creation Time\0Thu, 04 Mar 2021 05:06:07 +0000")), "PNG text"),
    "p.png": (
        png(
            (
                b"zTXt",
                b"Raw profile type exif\0\0"
                + zlib.compress(b"\nexif\n 9\n" + (b"Exif\0\0" + exif()).hex().encode()),
            )
        ),
        "EXIF",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_every_container_says_when_it_was_made(tmp_path: Path, name: str) -> None:
    content, by = FILES[name]
    path = tmp_path / name
    path.write_bytes(content)
    assert capture_date(path) == Dated(TAKEN, by)


def test_fujifilms_raw_has_the_tags_of_its_picture(tmp_path: Path) -> None:
    path = tmp_path / "a.raf"
    picture = tmp_path / "a.jpg"
    Image.new("RGB", (8, 8)).save(picture, exif=b"Exif\0\0" + exif())
    head = b"FUJIFILMCCD-RAW ".ljust(84, b"0") + struct.pack(">I", 160)
    path.write_bytes(head.ljust(160, b"\0") + picture.read_bytes())
    assert capture_date(path) == Dated(TAKEN, "EXIF")


def test_a_date_in_the_first_folder_counts(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.new("RGB", (8, 8)).save(path, exif=b"Exif\0\0" + exif(inside=False))
    assert capture_date(path) == Dated(TAKEN, "EXIF")


def test_xmp_comes_before_the_last_change_by_exif(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    changed = b"Exif\0\0" + exif(0x0132, "2023:01:01 00:00:00", inside=False)
    Image.new("RGB", (8, 8)).save(path, exif=changed, xmp=XMP)
    assert capture_date(path) == Dated(TAKEN, "XMP")
    assert edit_date(path) == Dated(datetime(2023, 1, 1, tzinfo=UTC), "EXIF")
    Image.new("RGB", (8, 8)).save(
        path, exif=b"Exif\0\0" + exif(value="2020:01:01 00:00:00"), xmp=XMP
    )
    assert capture_date(path) == Dated(datetime(2020, 1, 1, tzinfo=UTC), "EXIF")


def test_iptc_says_the_day_and_the_time(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.new("RGB", (8, 8)).save(path)
    records = b"\x1c\x02\x37\0\x0820210304" + b"\x1c\x02\x3c\0\x0b060607+0100"
    resource = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(records)) + records
    data = b"Photoshop 3.0\0" + resource
    content = path.read_bytes()
    path.write_bytes(
        content[:2] + b"\xff\xed" + struct.pack(">H", len(data) + 2) + data + content[2:]
    )
    assert capture_date(path) == Dated(TAKEN, "IPTC")


@pytest.mark.parametrize("packed", [False, True])
def test_a_png_with_a_text_of_megabytes_is_a_picture(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / "a.png"
    info = PngImagePlugin.PngInfo()
    info.add_text("workflow", "x" * 2_500_000, zip=packed)
    Image.new("RGB", (8, 8)).save(path, pnginfo=info)
    assert capture_date(path) is None


@pytest.mark.parametrize(
    ("picture", "sidecar", "content", "by"),
    [
        ("a.jpg", "a.jpg.xmp", XMP, "an XMP sidecar"),
        ("a.jpg", "A.XMP", XMP, "an XMP sidecar"),
        ("a.jpg", "a.jpg.json", "", "Google Takeout's JSON"),
        ("a.jpg", "a.jpg.supplemental-metadata.json", "", "Google Takeout's JSON"),
        ("a(2).jpg", "a.jpg(2).json", "", "Google Takeout's JSON"),
        ("a(2).jpg", "a.jpg.supplemental-metadata(2).json", "", "Google Takeout's JSON"),
        ("a-edited.jpg", "a.jpg.json", "", "Google Takeout's JSON"),
        ("x" * 40 + ".jpg", "x" * 40 + ".jpg.s.json", "", "Google Takeout's JSON"),
        ("x" * 60 + ".jpg", "x" * 46 + ".json", "", "Google Takeout's JSON"),
    ],
)
def test_what_stands_beside_a_picture_counts_where_it_says_nothing_itself(
    tmp_path: Path, picture: str, sidecar: str, content: bytes, by: str
) -> None:
    path = tmp_path / picture
    Image.new("RGB", (8, 8)).save(path)
    takeout = {"photoTakenTime": {"timestamp": str(int(TAKEN.timestamp()))}}
    (tmp_path / sidecar).write_bytes(content or json.dumps(takeout).encode())
    ((_, taken, modified),) = Folder(tmp_path, lambda *_: None)
    assert (taken, modified) == (TAKEN.isoformat(), None)
    dated, _ = dates_of(path)
    assert dated is not None
    assert dated.by == by
    Image.new("RGB", (8, 8)).save(path, exif=b"Exif\0\0" + exif(value="2020:01:01 00:00:00"))
    assert dates_of(path)[0] == Dated(datetime(2020, 1, 1, tzinfo=UTC), "EXIF")


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"photoTakenTime": {"timestamp": "x"}}', "[" * 9999]
)
def test_a_broken_sidecar_counts_as_none(tmp_path: Path, content: str) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg")
    (tmp_path / "a.jpg.json").write_text(content)
    (tmp_path / "a.xmp").write_text(content)
    assert dates_of(tmp_path / "a.jpg")[0] is None


def test_a_walk_ends_with_what_it_could_not_read_and_a_word_on_what_it_left_out(
    tmp_path: Path,
) -> None:
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    for folder in ("@eaDir", "#recycle", "$RECYCLE.BIN", "lost+found", "good", "x/Thumbs"):
        (tmp_path / folder).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / folder / "a.jpg")
    undated: list[str] = []
    reports: list[str] = []
    files = Folder(
        tmp_path,
        lambda path, why: reports.append(why),
        undated=lambda path, why: undated.append(f"{Path(path).name}: {why}"),
    )
    assert [Path(path).parent.name for path, _, _ in files] == ["good"]
    assert reports == ["Too many levels of symbolic links"]
    (listed,) = undated
    assert listed.startswith(f"a.jpg: dated by {BY_MODIFICATION}, 20")
    assert files.notes() == (
        f"files dated by: {BY_MODIFICATION} 1",
        "folders of thumbnails, recycle bins and snapshots left out: #recycle (1),"
        " $RECYCLE.BIN (1), @eaDir (1), Thumbs (1), lost+found (1)",
    )


@pytest.mark.parametrize("name", [*FILES])
def test_whatever_is_broken_in_a_container_the_answer_is_a_date_none_or_unreadable(
    tmp_path: Path, name: str
) -> None:
    rng = random.Random(name)
    content = FILES[name][0]
    path = tmp_path / name
    for _ in range(150):
        broken = bytearray(content)
        for _ in range(rng.randint(1, 8)):
            broken[rng.randrange(len(broken))] = rng.choice([0, 1, 127, 255, rng.randrange(256)])
        path.write_bytes(
            bytes(broken[: rng.randint(0, len(broken))] if rng.random() < 0.3 else broken)
        )
        try:
            found = capture_date(path)
        except Unreadable:
            continue
        assert found is None or found.at.tzinfo is UTC


def test_a_bomb_in_a_text_of_png_is_not_blown_up(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    bomb = zlib.compress(bytes(300 * 1024 * 1024), 9)
    path.write_bytes(png((b"zTXt", b"XML:com.adobe.xmp\0\0" + bomb)))
    with path.open("rb") as stream:
        (packet,) = blocks_of(stream).xmp
    assert len(packet) == 64 * 1024 * 1024
