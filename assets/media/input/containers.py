"""Where a file keeps what it says of itself: blocks of EXIF, XMP and IPTC, and a video's own times.

Containers that Pillow does not read: ISO media (HEIC, HIF, AVIF, CR3, JPEG XL, MP4, QuickTime),
PNG behind its pixels, Fujifilm's RAF, Matroska and AVI. Only headers are read, never pixels, so the
cost does not follow the size of a file. Invariant: whatever bytes a file holds, reading ends, in
bounded memory; what is broken is absent.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import BinaryIO

from assets.media.input.dates import exif_time, seconds_after, written_time

LARGEST_BLOCK = 64 * 1024 * 1024
_MOST_BOXES = 10_000
_QUICKTIME_EPOCH = datetime(1904, 1, 1, tzinfo=UTC)
_MATROSKA_EPOCH = datetime(2001, 1, 1, tzinfo=UTC)
_XMP_UUID = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_CANON_UUID = bytes.fromhex("85c0b687820f11e08111f4ce462b6a48")
_CREATION_DATE = re.compile(
    rb"data\0\0\0\x01.{4}(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[^\0]{0,8})|\xa9day.{4}([\dT:+.Z-]{8,32})",
    re.DOTALL,
)


@dataclass
class Blocks:
    """What was found in a file: EXIF blocks (each a TIFF), XMP packets, and dates as moments."""

    exif: list[bytes] = field(default_factory=list)
    xmp: list[bytes] = field(default_factory=list)
    recorded: datetime | None = None
    """When a video says that it was recorded."""
    written: datetime | None = None
    """What PNG's text says of its creation."""


def blocks_of(stream: BinaryIO) -> Blocks:
    """Find the blocks of a file of these kinds; of any other there are none."""
    found = Blocks()
    stream.seek(0, 2)
    size = stream.tell()
    stream.seek(0)
    head = stream.read(16)
    try:
        if head.startswith(b"\x89PNG\r\n\x1a\n"):
            _png(stream, found)
        elif head[4:8] in (b"ftyp", b"JXL ", b"moov", b"mdat", b"wide", b"free", b"skip"):
            _iso_media(stream, size, found)
        elif head.startswith(b"\x1a\x45\xdf\xa3"):
            found.recorded = _matroska(head + stream.read(1 << 20))
        elif head.startswith(b"RIFF") and head[8:12] == b"AVI ":
            found.recorded = _avi(head + stream.read(1 << 20))
    except (struct.error, IndexError, ValueError, OverflowError, zlib.error):
        pass  # What was found before the broken place counts.
    return found


def _png(stream: BinaryIO, found: Blocks) -> None:
    stream.seek(8)
    for _ in range(_MOST_BOXES):
        head = stream.read(8)
        if len(head) < 8:
            return
        length, kind = struct.unpack(">I4s", head)
        if kind not in (b"eXIf", b"iTXt", b"tEXt", b"zTXt") or length > LARGEST_BLOCK:
            stream.seek(length + 4, 1)
            continue
        data = stream.read(length)
        stream.seek(4, 1)
        if kind == b"eXIf":
            found.exif.append(data)
        else:
            _png_text(kind, data, found)


def _png_text(kind: bytes, data: bytes, found: Blocks) -> None:
    keyword, _, rest = data.partition(b"\0")
    packed = kind == b"zTXt"
    if kind == b"iTXt":
        packed = rest[:1] == b"\1"
        rest = rest[2:].split(b"\0", 2)[-1]
    elif packed:
        rest = rest[1:]
    if packed:
        rest = zlib.decompressobj().decompress(rest, LARGEST_BLOCK)
    if keyword == b"XML:com.adobe.xmp":
        found.xmp.append(rest)
    elif keyword.startswith(b"Raw profile type "):
        _raw_profile(keyword[len(b"Raw profile type ") :], rest, found)
    elif keyword.lower() in (b"creation time", b"create-date", b"creationtime"):
        found.written = found.written or written_time(rest.decode("latin-1"))


def _raw_profile(name: bytes, text: bytes, found: Blocks) -> None:
    # ImageMagick's: a name, a length, and the bytes in hexadecimal.
    data = bytes.fromhex(b"".join(text.split()[2:]).decode("latin-1"))
    if name == b"xmp" or b"<x:xmpmeta" in data:
        found.xmp.append(data)
    elif name in (b"exif", b"APP1"):
        found.exif.append(data)


def _boxes(stream: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Each box between these places: its kind, and where its content begins and ends."""
    for _ in range(_MOST_BOXES):
        if start + 8 > end:
            return
        stream.seek(start)
        size, kind = struct.unpack(">I4s", stream.read(8))
        content = start + 8
        if size == 1:
            (size,) = struct.unpack(">Q", stream.read(8))
            content += 8
        elif size == 0:
            size = end - start
        if size < content - start:
            return
        yield kind, content, min(start + size, end)
        start += size


def _iso_media(stream: BinaryIO, size: int, found: Blocks) -> None:
    for kind, start, end in _boxes(stream, 0, size):
        if kind == b"moov":
            _movie(stream, start, end, found)
        elif kind == b"meta":
            _items(stream, start, end, found)
        elif kind == b"Exif":
            found.exif.append(_exif_item(_read(stream, start, end)))
        elif kind == b"xml ":
            found.xmp.append(_read(stream, start, end))
        elif kind == b"uuid" and _read(stream, start, start + 16) == _XMP_UUID:
            found.xmp.append(_read(stream, start + 16, end))


def _movie(stream: BinaryIO, start: int, end: int, found: Blocks) -> None:
    for kind, inside, until in _boxes(stream, start, end):
        if kind == b"mvhd":
            head = _read(stream, inside, min(until, inside + 16))
            form = ">Q" if head[:1] == b"\1" else ">I"
            (seconds,) = struct.unpack_from(form, head, 4)
            found.recorded = found.recorded or seconds_after(_QUICKTIME_EPOCH, seconds)
        elif kind in (b"meta", b"udta"):
            # With its time zone, and by the phone's clock: it comes before the header's.
            match = _CREATION_DATE.search(_read(stream, inside, min(until, inside + (1 << 20))))
            found.recorded = (match and exif_time(match[1] or match[2])) or found.recorded
        elif kind == b"uuid" and _read(stream, inside, inside + 16) == _CANON_UUID:
            for part, at, stop in _boxes(stream, inside + 16, until):
                if part in (b"CMT1", b"CMT2"):
                    found.exif.append(_read(stream, at, stop))


def _items(stream: BinaryIO, start: int, end: int, found: Blocks) -> None:
    """The items of a HEIF file that are EXIF or XMP."""
    boxes = {kind: (a, b) for kind, a, b in _boxes(stream, start + 4, end)}
    if b"iinf" not in boxes or b"iloc" not in boxes:
        return
    wanted = dict(_named_items(stream, *boxes[b"iinf"]))
    for item, extents in _locations(_read(stream, *boxes[b"iloc"])):
        if item not in wanted:
            continue
        data = b"".join(_read(stream, at, at + length) for at, length in extents)
        if wanted[item] == b"Exif":
            found.exif.append(_exif_item(data))
        else:
            found.xmp.append(data)


def _named_items(stream: BinaryIO, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    head = _read(stream, start, start + 8)
    first = start + (6 if head[0] == 0 else 8)
    for kind, inside, until in _boxes(stream, first, end):
        data = _read(stream, inside, min(until, inside + 256))
        if kind != b"infe" or data[0] < 2:
            continue
        item, rest = (
            (struct.unpack_from(">H", data, 4)[0], data[8:])
            if data[0] == 2
            else (struct.unpack_from(">I", data, 4)[0], data[10:])
        )
        if rest[:4] == b"Exif" or (rest[:4] == b"mime" and b"rdf+xml" in rest):
            yield item, rest[:4]


def _locations(data: bytes) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    """Where items lie in the file, by ISO 14496-12: the item's id, and places with lengths."""
    version = data[0]
    offset_size, length_size = data[4] >> 4, data[4] & 15
    base_size, index_size = data[5] >> 4, data[5] & 15 if version else 0
    at = 6

    def number(size: int) -> int:
        nonlocal at
        value = int.from_bytes(data[at : at + size])
        if at + size > len(data):
            raise IndexError
        at += size
        return value

    for _ in range(number(2 if version < 2 else 4)):
        item = number(2 if version < 2 else 4)
        method = number(2) & 15 if version else 0
        number(2)
        base = number(base_size)
        extents = []
        for _ in range(number(2)):
            number(index_size)
            extents.append((base + number(offset_size), number(length_size)))
        if method == 0:
            yield item, extents


def _exif_item(data: bytes) -> bytes:
    """The TIFF of an item, which begins with its distance; some writers get it wrong."""
    (distance,) = struct.unpack_from(">I", data)
    block = data[4 + distance :]
    if block[:2] in (b"II", b"MM"):
        return block
    places = [at for mark in (b"II*\0", b"MM\0*") if (at := data.find(mark, 0, 64)) >= 0]
    return data[min(places) :] if places else b""


def _read(stream: BinaryIO, start: int, end: int) -> bytes:
    stream.seek(start)
    return stream.read(max(0, min(end - start, LARGEST_BLOCK)))


def _matroska(data: bytes) -> datetime | None:
    at = data.find(b"\x44\x61\x88")
    if at < 0:
        return None
    (nanoseconds,) = struct.unpack_from(">q", data, at + 3)
    return seconds_after(_MATROSKA_EPOCH, nanoseconds / 1e9)


def _avi(data: bytes) -> datetime | None:
    at = data.find(b"IDIT")
    if at < 0:
        return None
    (length,) = struct.unpack_from("<I", data, at + 4)
    text = data[at + 8 : at + 8 + min(length, 64)].decode("latin-1").strip("\0 \r\n")
    found = exif_time(text)
    if found is None:
        try:
            return datetime.strptime(text, "%a %b %d %H:%M:%S %Y").replace(tzinfo=UTC)
        except ValueError:
            return None
    return found
