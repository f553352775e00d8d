"""When a file was made: the capture date that an image carries, else the modification time.

Reads headers only, never pixels, and never writes. What must stay true: whatever bytes a file
holds, the answer is a moment, None, or `Unreadable`; a date that cannot be one counts as absent.
"""

from __future__ import annotations

import logging
import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError


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
# The tag of a date, its offset tag, and whether they stand in the Exif folder; most telling first.
_DATE_TAGS = [
    (0x9003, 0x9011, True),  # DateTimeOriginal, OffsetTimeOriginal
    (0x9004, 0x9012, True),  # DateTimeDigitized, OffsetTimeDigitized
    (0x0132, 0x9010, False),  # DateTime, OffsetTime
]
_EXIF_TIME = re.compile(
    r"(\d{4})[:/-](\d{1,2})[:/-](\d{1,2})[ T](\d{1,2}):(\d{1,2}):(\d{1,2})(?:\.\d*)?", re.ASCII
)
_EXIF_OFFSET = re.compile(r"([+-])(\d{1,2}):?(\d{2})", re.ASCII)
_pillow_log = logging.getLogger("PIL")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Unreadable(Exception):
    """The file cannot be read as what its name says: why, in a few words."""


@contextmanager
def _headers_only() -> Iterator[None]:
    """Let Pillow open images of any size, and silently, while no pixel is decoded.

    Its limit on pixels protects against images that explode when decoded; here it would only cost
    large panoramas their capture date. What it has to say about broken files is said by Unreadable.
    """
    limit = Image.MAX_IMAGE_PIXELS
    level = _pillow_log.level
    Image.MAX_IMAGE_PIXELS = None
    _pillow_log.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        _pillow_log.setLevel(level)
        Image.MAX_IMAGE_PIXELS = limit


def capture_date(path: Path) -> datetime | None:
    """When the image was taken, in UTC, by its EXIF; None where it does not say, or is no image.

    DateTimeOriginal, else DateTimeDigitized, else DateTime, each with its offset tag; without one
    the time is read as UTC. Raises Unreadable.
    """
    extension = path.suffix.lower()
    if extension in VIDEOS:
        return None
    try:
        with path.open("rb") as stream, _headers_only():
            return _capture_date(stream, must_open=extension in READABLE_IMAGES)
    except OSError as error:
        raise Unreadable(error.strerror or str(error)) from error


def modification_time(nanoseconds: int) -> datetime:
    """A file's `st_mtime_ns` as a moment in UTC, whole microseconds. Raises Unreadable."""
    try:
        return _EPOCH + timedelta(microseconds=nanoseconds // 1000)
    except OverflowError as error:
        raise Unreadable("its modification time lies outside the years 1 to 9999") from error


def _capture_date(stream: BinaryIO, must_open: bool) -> datetime | None:
    head = stream.read(12)
    stream.seek(0)
    try:
        image = Image.open(stream, formats=_FORMATS)
    except _DECODER_ERRORS as error:
        # An iPhone's HEIC under the name of a JPEG is a good picture that Pillow has no reader for.
        if must_open and head[4:8] != b"ftyp":
            raise Unreadable(_reason(head, error)) from error
        return None
    # A PNG without EXIF before its pixels would be decoded in search of it.
    if image.format == "PNG" and not {"exif", "Raw profile type exif"} & image.info.keys():
        return None
    try:
        exif = image.getexif()
        details = exif.get_ifd(_EXIF_FOLDER)
        said = [
            ((details if detailed else exif).get(date_tag), details.get(offset_tag))
            for date_tag, offset_tag, detailed in _DATE_TAGS
        ]
    except _DECODER_ERRORS:
        # The picture is good and its EXIF is broken: it does not say when it was taken.
        return None
    moments = (exif_time(value, offset) for value, offset in said)
    return next((moment for moment in moments if moment is not None), None)


def _reason(head: bytes, error: BaseException) -> str:
    if not head:
        return "the file is empty"
    if isinstance(error, UnidentifiedImageError):
        return "no image that can be read"
    return f"no image that can be read: {error}"


def exif_time(value: object, offset: object = None) -> datetime | None:
    """The moment in UTC that an EXIF date and its offset name; None where the date is none.

    Cameras write blanks, zeros, NULs and bytes there. An offset that is none counts as absent, and
    the date is then read as UTC.
    """
    match = _EXIF_TIME.fullmatch(_text(value))
    if match is None:
        return None
    year, month, day, hour, minute, second = map(int, match.groups())
    zone = _zone(_text(offset))
    try:
        return datetime(year, month, day, hour, minute, second, tzinfo=zone).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _zone(offset: str) -> timezone:
    match = _EXIF_OFFSET.fullmatch(offset)
    if match is None:
        return UTC
    sign, hours, minutes = match.groups()
    span = timedelta(hours=int(hours), minutes=int(minutes))
    if span >= timedelta(hours=24) or timedelta(minutes=int(minutes)) >= timedelta(hours=1):
        return UTC
    return timezone(-span if sign == "-" else span)


def _text(value: object) -> str:
    """What a tag says, without NULs and blanks around it; empty where it is no text."""
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    return value.strip("\0 \t\r\n") if isinstance(value, str) else ""
