"""Files beside a picture that say when it was made: XMP sidecars, and Google Takeout's JSON.

They count where the picture itself says nothing of when it was taken.
"""

from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

from assets.media.input.dates import seconds_after
from assets.media.input.metadata import Dated, sidecar_time

_LONGEST_SIDECAR = 4 * 1024 * 1024
_LONGEST_TAKEOUT_NAME = 46
_NUMBERED = re.compile(r"(.+)(\(\d+\))(\.[^.]+)")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def sidecars_of(path: Path) -> list[Path]:
    """Return the sidecars that a picture has, the most telling first."""
    there = _candidates(str(path.parent))
    return [path.parent / there[name] for name in _names(path) if name in there]


def sidecar_date(path: Path) -> Dated | None:
    """Return what the sidecars of a picture say; None where there are none or they say nothing."""
    for sidecar in sidecars_of(path):
        is_xmp = sidecar.suffix.lower() == ".xmp"
        try:
            with sidecar.open("rb") as stream:
                content = stream.read(_LONGEST_SIDECAR)
        except OSError:
            continue
        at = sidecar_time(content) if is_xmp else _taken_by_takeout(content)
        if at is not None:
            return Dated(at, "an XMP sidecar" if is_xmp else "Google Takeout's JSON")
    return None


def forget_folders() -> None:
    """Look at folders anew: what is in them is remembered while they are read."""
    _candidates.cache_clear()


@lru_cache(maxsize=64)
def _candidates(folder: str) -> dict[str, str]:
    """The names in a folder that may be sidecars, by their lower case."""
    try:
        names = [entry.name for entry in os.scandir(folder)]
    except OSError:
        return {}
    return {name.lower(): name for name in names if name.lower().endswith((".xmp", ".json"))}


def _names(path: Path) -> list[str]:
    name = path.name
    found = [f"{name}.xmp", f"{path.stem}.xmp"]
    plain, number = name, ""
    if match := _NUMBERED.fullmatch(name):
        # Takeout writes IMG(1).jpg, and beside it IMG.jpg(1).json.
        plain, number = match[1] + match[3], match[2]
    found += [
        f"{(plain + suffix)[:_LONGEST_TAKEOUT_NAME]}{number}.json"
        for suffix in (".supplemental-metadata", "")
    ]
    if "-edited." in name:
        found.append(f"{name.replace('-edited.', '.')}.json")
    return list(dict.fromkeys(each.lower() for each in found))


def _taken_by_takeout(content: bytes) -> datetime | None:
    try:
        said = json.loads(content)
        return seconds_after(_EPOCH, int(said["photoTakenTime"]["timestamp"]))
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
