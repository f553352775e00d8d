"""Real pictures and videos of other libraries' tests: dated as exiftool dates them.

`TALLY_TEST_PHOTOGRAPHS` names a folder of them, such as the unpacked sources of pillow,
pillow-heif, piexif, exifread and hachoir; and exiftool has to be installed. Skipped where one is
missing.
"""

from __future__ import annotations

import json
import os
import subprocess
from datetime import datetime
from pathlib import Path
from shutil import which

import pytest

from assets.media.input.dates import exif_time
from assets.media.input.folder import MEDIA
from assets.media.input.metadata import Unreadable, capture_date, edit_date

FOLDER = os.environ.get("TALLY_TEST_PHOTOGRAPHS")
# The order in which dates count, as exiftool names them; with the name of an offset of its own.
ORDER = {
    "ExifIFD:DateTimeOriginal": "ExifIFD:OffsetTimeOriginal",
    "IFD0:DateTimeOriginal": "ExifIFD:OffsetTimeOriginal",
    "XMP-exif:DateTimeOriginal": None,
    "XMP-photoshop:DateCreated": None,
    "Composite:DateTimeCreated": None,
    "ExifIFD:CreateDate": "ExifIFD:OffsetTimeDigitized",
    "IFD0:CreateDate": "ExifIFD:OffsetTimeDigitized",
    "XMP-xmp:CreateDate": None,
    "XMP-exif:DateTimeDigitized": None,
    "Composite:DigitalCreationDateTime": None,
    "Keys:CreationDate": None,
    "Matroska:DateTimeOriginal": None,
    "RIFF:DateTimeOriginal": None,
    "QuickTime:CreateDate": None,
    "PNG:CreationTime": None,
    "IFD0:ModifyDate": "ExifIFD:OffsetTime",
}
EXCEPTIONS: dict[str, str] = {}
"""Files by name that are dated otherwise, and why."""


@pytest.mark.real
@pytest.mark.skipif(
    FOLDER is None or which("exiftool") is None,
    reason="TALLY_TEST_PHOTOGRAPHS names no folder, or exiftool is not installed",
)
def test_pictures_are_dated_as_exiftool_dates_them(tmp_path: Path) -> None:
    assert FOLDER is not None
    files = [p for p in Path(FOLDER).rglob("*") if p.suffix.lower() in MEDIA and p.is_file()]
    names = tmp_path / "names"
    names.write_text("\n".join(map(str, files)))
    asked = ["exiftool", "-j", "-G1", "-s", "-a", "-time:all", "-api", "QuickTimeUTC=1", "-@"]
    done = subprocess.run(
        [*asked, str(names)],
        capture_output=True,
        check=False,
        env={**os.environ, "TZ": "UTC", "LC_ALL": "C.UTF-8"},
    )
    dated = {s["SourceFile"]: at for s in json.loads(done.stdout) if (at := _by_exiftool(s))}
    differing = [
        f"{path}: exiftool {at}, here {found}"
        for path, at in dated.items()
        if (found := _here(Path(path))) != at and Path(path).name not in EXCEPTIONS
    ]
    assert len(dated) >= 50
    assert differing == []
    assert len(EXCEPTIONS) <= len(dated) / 100


def _by_exiftool(said: dict[str, str]) -> datetime | None:
    for name, offset in ORDER.items():
        found = exif_time(said.get(name), said.get(offset) if offset else None)
        if found is not None:
            return found
    return None


def _here(path: Path) -> datetime | None:
    try:
        found = capture_date(path) or edit_date(path)
    except Unreadable:
        return None
    return found.at if found else None
