"""The images and videos of a folder, as files to be loaded.

Finding them is done here, reading their dates in `metadata.py`. What must stay true: a file is
found once, under one path, however many ways lead to it. A file's path is its real one, so links to
files are resolved; links to folders are not followed, so there are no loops. Hidden files and
folders (beginning with a dot: thumbnails, rubbish bins, macOS's `._` companions) are passed over.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from assets.loading import indexed_text_fault
from assets.media.metadata import (
    OTHER_IMAGES,
    READABLE_IMAGES,
    VIDEOS,
    Unreadable,
    capture_date,
    modification_time,
)

MEDIA = READABLE_IMAGES | OTHER_IMAGES | VIDEOS

Report = Callable[[str, str], None]
"""Called with the path and the reason, for what cannot be read."""


class Folder:
    """The media files below a folder; iterating yields path, original_created_at, created_at.

    Dates are ISO 8601 text or None. A file with a capture date has that alone, any other its
    modification time as created_at. What cannot be read goes to `report`. With `count`, the files
    are counted first, so that `total` is known.
    """

    columns = ("original_created_at", "created_at")
    chunk = 500  # Reading pictures is slow: little of it should be lost when a load is killed.

    def __init__(self, path: Path, report: Report, count: bool = False) -> None:
        self._path = path.resolve()
        self._report = report
        self._seen = 0
        self.total = sum(1 for _ in find_media(self._path, _unheard)) if count else None

    def done(self) -> int:
        """How many files were looked at so far."""
        return self._seen

    def __iter__(self) -> Iterator[tuple[str, str | None, str | None]]:
        for path in find_media(self._path, self._report):
            self._seen += 1
            fault = indexed_text_fault(path)
            if fault is not None:
                self._report(path, f"its path {fault}")
                continue
            try:
                taken, modified = dates_of(Path(path))
            except Unreadable as reason:
                self._report(path, str(reason))
                continue
            yield path, _iso(taken), _iso(modified)


def dates_of(path: Path) -> tuple[datetime | None, datetime | None]:
    """The capture date of a media file, or else its modification time: one of the two, in UTC.

    Raises Unreadable.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise Unreadable(error.strerror or str(error)) from error
    if not stat.S_ISREG(status.st_mode):
        # Opening a pipe would wait for somebody to write into it.
        raise Unreadable("no regular file")
    taken = capture_date(path)
    return (taken, None) if taken else (None, modification_time(status.st_mtime_ns))


def find_media(folder: Path, report: Report) -> Iterator[str]:
    """The paths of the media files below a folder, in order of their names, folder by folder."""
    folders = [str(folder)]
    while folders:
        here = folders.pop()
        try:
            with os.scandir(here) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            report(here, error.strerror or str(error))
            continue
        inside = []
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                inside.append(entry.path)
            elif Path(entry.name).suffix.lower() in MEDIA and not entry.is_dir():
                yield os.path.realpath(entry.path) if entry.is_symlink() else entry.path
        folders.extend(reversed(inside))


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _unheard(path: str, reason: str) -> None:
    """While files are counted, nothing is reported: it will be when they are read."""
