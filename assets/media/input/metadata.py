"""When a picture or video was made, by what the file says of itself; else its modification time.

Reads headers only, never pixels, and never writes. Invariant: whatever bytes a file holds, the
answer is a moment, None, or `Unreadable`; a date that cannot be one counts as absent.
"""

from __future__ import annotations

import logging
import re
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from PIL import Image, IptcImagePlugin, PngImagePlugin, UnidentifiedImageError

from assets.media.input.containers import LARGEST_BLOCK, Blocks, blocks_of
from assets.media.input.dates import exif_time, iptc_time


def _extensions(names: str) -> frozenset[str]:
    return frozenset(f".{name}" for name in names.split())


READABLE_IMAGES = _extensions("jpg jpeg jpe jfif mpo png tif tiff webp gif bmp avif")
"""Extensions of formats that Pillow reads: if it cannot, the file is broken."""

OTHER_IMAGES = _extensions("heic heif hif jxl dng nef nrw cr2 cr3 arw srf sr2 raf orf rw2 pef srw")
"""Extensions of formats that Pillow reads in part (raw images, TIFF inside) or not at all."""

VIDEOS = _extensions("mp4 m4v mov avi mkv webm mts m2ts mpg mpeg 3gp 3g2 wmv flv ogv")

# Only formats of photographs: the others of Pillow's readers would be work and risk for nothing.
# (MPO, several JPEGs in one file, comes with JPEG.)
_FORMATS = ["JPEG", "PNG", "TIFF", "WEBP", "GIF", "BMP", "AVIF"]

# What Pillow's readers raise on broken bytes: OSErrors of its own, and by accident much of what
# Python knows. Nothing but calls of Pillow stands under their protection.
_DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    AssertionError,
    EOFError,
    RuntimeError,
    struct.error,
    zlib.error,
)

_EXIF_FOLDER = 0x8769
_ORIGINAL, _DIGITIZED, _CHANGED = (0x9003, 0x9011), (0x9004, 0x9012), (0x0132, 0x9010)
"""The tag of a date, and of its offset: DateTimeOriginal, DateTimeDigitized, DateTime."""

_XMP_ORIGINAL = ("exif:DateTimeOriginal", "photoshop:DateCreated")
_XMP_DIGITIZED = ("xmp:CreateDate", "xap:CreateDate", "exif:DateTimeDigitized")

# Raw images that are TIFF but for the first bytes: Panasonic's, Olympus's, Leica's.
_TIFF_LIKE = (b"IIU\0", b"IIRO", b"IIRS", b"MMOR")
_TIFF_LIKE_BYTES = 16 * 1024 * 1024
"""Of such a file, and of the JPEG in Fujifilm's, this much has all tags."""

_FUJIFILM = b"FUJIFILMCCD-RAW "
_TIFF_HEADER = {b"II": b"II*\0", b"MM": b"MM\0*"}

_pillow_log = logging.getLogger("PIL")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Dated:
    """When a file was made, in UTC, and what says so: `EXIF`, `XMP`, ..."""

    at: datetime
    by: str


class Unreadable(Exception):
    """The file cannot be read as what its name says: why, in a few words."""


@contextmanager
def _headers_only() -> Iterator[None]:
    """Let Pillow open images of any size, and silently, while no pixel is decoded.

    Its limit on pixels protects against images that explode when decoded; here it would only cost
    large panoramas their capture date. What it has to say about broken files is said by Unreadable.
    """
    limit = Image.MAX_IMAGE_PIXELS
    texts = PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY
    level = _pillow_log.level
    Image.MAX_IMAGE_PIXELS = None
    # A valid PNG may carry long texts, such as the workflow that made it.
    PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY = LARGEST_BLOCK
    _pillow_log.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        _pillow_log.setLevel(level)
        Image.MAX_IMAGE_PIXELS = limit
        PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY = texts


def capture_date(path: Path) -> Dated | None:
    """Return when the picture or video was taken; None where nothing in the file says so.

    In this order: the date of the original by EXIF, XMP and IPTC; the date of digitizing by EXIF,
    XMP; what a video says of its recording; the text of a PNG. The last change by EXIF is
    `edit_date`. A date without offset is read as UTC. Raises Unreadable.
    """
    return next(_read_dates(path), None)


def edit_date(path: Path) -> Dated | None:
    """Return the date of EXIF's last change, which is better than the file's own; or None."""
    return next((found for found in _read_dates(path, edited=True)), None)


def modification_time(nanoseconds: int) -> datetime:
    """A file's `st_mtime_ns` as a moment in UTC, whole microseconds. Raises Unreadable."""
    try:
        return _EPOCH + timedelta(microseconds=nanoseconds // 1000)
    except OverflowError as error:
        raise Unreadable("its modification time lies outside the years 1 to 9999") from error


def _read_dates(path: Path, edited: bool = False) -> Iterator[Dated]:
    try:
        with path.open("rb") as stream, _headers_only():
            said = _said_by(stream, path.suffix.lower())
    except OSError as error:
        raise Unreadable(error.strerror or str(error)) from error
    for at, by in said.edited() if edited else said.captured():
        if at is not None:
            yield Dated(at, by)


@dataclass
class _Said:
    """All that a file says: folders of EXIF tags, packets of XMP, IPTC's records, own dates."""

    exif: list[dict[int, object]]
    xmp: list[bytes]
    iptc: dict[tuple[int, int], object]
    blocks: Blocks

    def captured(self) -> Iterator[tuple[datetime | None, str]]:
        yield from self._exif(_ORIGINAL)
        yield from self._xmp(_XMP_ORIGINAL)
        yield self._iptc(55, 60), "IPTC"
        yield from self._exif(_DIGITIZED)
        yield from self._xmp(_XMP_DIGITIZED)
        yield self._iptc(62, 63), "IPTC"
        yield self.blocks.recorded, "the video's header"
        yield self.blocks.written, "PNG text"

    def edited(self) -> Iterator[tuple[datetime | None, str]]:
        yield from self._exif(_CHANGED)

    def _exif(self, tags: tuple[int, int]) -> Iterator[tuple[datetime | None, str]]:
        for folder in self.exif:
            # Of a date in the first folder the offset may stand in the Exif folder.
            offset = folder.get(
                tags[1], next((f[tags[1]] for f in self.exif if tags[1] in f), None)
            )
            yield exif_time(folder.get(tags[0]), offset), "EXIF"

    def _xmp(self, names: Sequence[str]) -> Iterator[tuple[datetime | None, str]]:
        for packet in self.xmp:
            for name in names:
                yield xmp_time(packet, name), "XMP"

    def _iptc(self, day: int, time: int) -> datetime | None:
        date, clock = self.iptc.get((2, day)), self.iptc.get((2, time), b"")
        if not isinstance(date, bytes):
            return None
        return iptc_time(date, clock if isinstance(clock, bytes) else b"")


def xmp_time(packet: bytes, name: str) -> datetime | None:
    """Return the moment of a property of XMP, written as attribute or as element."""
    wanted = re.escape(name.encode())
    match = re.search(wanted + rb"""(?:\s*=\s*["']([^"'<>]{4,40})["']|>([^<>]{4,40})<)""", packet)
    return exif_time(match[1] or match[2]) if match else None


def sidecar_time(packet: bytes) -> datetime | None:
    """Return the date of the original, or of digitizing, that a packet of XMP says."""
    moments = (xmp_time(packet, name) for name in (*_XMP_ORIGINAL, *_XMP_DIGITIZED))
    return next((moment for moment in moments if moment is not None), None)


def _said_by(stream: BinaryIO, extension: str) -> _Said:
    said = _Said([], [], {}, blocks_of(stream))
    said.xmp += said.blocks.xmp
    for block in said.blocks.exif:
        said.exif += _folders(_loaded(block))
    stream.seek(0)
    head = stream.read(128)
    if extension in VIDEOS or head[4:8] == b"ftyp":
        # An iPhone's HEIC under the name of a JPEG is a good picture that Pillow has no reader for.
        return said
    start = 0
    if head.startswith(_FUJIFILM):
        start = int.from_bytes(head[84:88])
    if head.startswith(_TIFF_LIKE):
        stream.seek(4)
        said.exif += _folders(_loaded(_TIFF_HEADER[head[:2]] + stream.read(_TIFF_LIKE_BYTES)))
        return said
    _ask_pillow(stream, start, head, extension in READABLE_IMAGES, said)
    return said


def _ask_pillow(stream: BinaryIO, start: int, head: bytes, must_open: bool, said: _Said) -> None:
    stream.seek(start)
    source = stream if not start else BytesIO(stream.read(_TIFF_LIKE_BYTES))
    try:
        image = Image.open(source, formats=_FORMATS)
    except _DECODER_ERRORS as error:
        if must_open:
            raise Unreadable(_reason(head, error)) from error
        return
    if image.format != "PNG":
        said.exif += _folders(_exif_of(image))
    packet = image.info.get("xmp", b"")
    said.xmp += [packet.encode() if isinstance(packet, str) else bytes(packet)] if packet else []
    with suppress(*_DECODER_ERRORS):
        said.iptc = dict(IptcImagePlugin.getiptcinfo(image) or {})


def _exif_of(image: Image.Image) -> Image.Exif:
    try:
        return image.getexif()
    except _DECODER_ERRORS:
        # The picture is good and its EXIF is broken: it does not say when it was taken.
        return Image.Exif()


def _loaded(block: bytes) -> Image.Exif:
    exif = Image.Exif()
    with suppress(*_DECODER_ERRORS):
        exif.load(block if block[:4] == b"Exif" else b"Exif\0\0" + block)
    return exif


def _folders(exif: Image.Exif) -> list[dict[int, object]]:
    """The tags of the Exif folder, which is more telling, and of the first one."""
    folders: list[dict[int, object]] = []
    with suppress(*_DECODER_ERRORS):
        folders.append(dict(exif.get_ifd(_EXIF_FOLDER)))
    with suppress(*_DECODER_ERRORS):
        folders.append({tag: exif.get(tag) for tag in exif})
    return folders


def _reason(head: bytes, error: BaseException) -> str:
    if not head:
        return "the file is empty"
    if isinstance(error, UnidentifiedImageError):
        return "no image that can be read"
    return f"no image that can be read: {error}"
