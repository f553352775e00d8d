"""The images and videos of a folder, as files to be loaded.

Finding them is done here, reading their dates in `metadata.py`. Invariants: a file is found once,
under one path, however many ways lead to it; nothing that is found on the way ends the walk. A
file's path is its real one, so links to files are resolved; links to folders are not followed, so
there are no loops. Hidden files and folders (beginning with a dot: thumbnails, recycle bins,
macOS's `._` companions) are passed over, and so are the folders of `LEFT_OUT`.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path

from assets.media.input.metadata import (
    OTHER_IMAGES,
    READABLE_IMAGES,
    VIDEOS,
    Dated,
    Unreadable,
    capture_date,
    edit_date,
    modification_time,
)
from assets.media.input.seen_files import Stamp
from assets.media.input.sidecars import forget_folders, sidecar_date, sidecars_of
from tallykeeper.input.loading import indexed_text_fault

MEDIA = READABLE_IMAGES | OTHER_IMAGES | VIDEOS
LEFT_OUT = frozenset(
    (
        "@eadir",
        "@recycle",
        "#recycle",
        "#snapshot",
        "@recently-snapshot",
        "$recycle.bin",
        "recycler",
        "system volume information",
        "lost+found",
        "lost.dir",
        "__macosx",
        "ipod photo cache",
        "thumbnails",
        "thumbs",
    )
)
"""Folders of thumbnails, recycle bins and snapshots, in lower case."""

BY_MODIFICATION = "the file's modification time"
_LEFT_OUT_SUFFIX = ".lrdata"

Report = Callable[[str, str], None]
"""Called with the path and the reason, for what cannot be read."""


class Folder:
    """The media files below a folder; iterating yields path, original_created_at, created_at.

    Dates are ISO 8601 text or None. A file with a capture date has that alone, any other its
    modification time as created_at. What cannot be read goes to `report`, and each file that is
    dated by its modification time to `undated`. Files of which `unchanged` returns the path are not
    opened and not yielded. With `count`, the files are counted first, so that `total` is known.
    """

    columns = ("original_created_at", "created_at")
    chunk = 500  # Reading pictures is slow: little of it should be lost when a load is killed.

    def __init__(
        self,
        path: Path,
        report: Report,
        count: bool = False,
        *,
        undated: Report | None = None,
        unchanged: Callable[[Sequence[Stamp]], set[str]] | None = None,
    ) -> None:
        self._path = path.resolve()
        self._report = report
        self._undated = undated
        self._unchanged = unchanged
        self._seen = 0
        self._left_out: Counter[str] = Counter()
        self._dated_by: Counter[str] = Counter()
        self.stamps: dict[str, Stamp] = {}
        """What the files that were yielded look like; the caller may clear it."""
        self.skipped = 0
        self.total = sum(1 for _ in find_media(self._path, _ignore)) if count else None

    def done(self) -> int:
        """How many files were looked at so far."""
        return self._seen

    def notes(self) -> tuple[str, ...]:
        """By what the files were dated, and what was left out, a sentence each."""
        said = []
        if self._dated_by:
            counted = ", ".join(f"{by} {n:,}" for by, n in self._dated_by.most_common())
            said.append(f"files dated by: {counted}")
        if self.skipped:
            said.append(f"files as they were at the last load, not opened again: {self.skipped:,}")
        if self._left_out:
            names = ", ".join(f"{name} ({n:,})" for name, n in sorted(self._left_out.items()))
            said.append(f"folders of thumbnails, recycle bins and snapshots left out: {names}")
        return tuple(said)

    def __iter__(self) -> Iterator[tuple[str, str | None, str | None]]:
        forget_folders()
        paths = find_media(self._path, self._report, self._left_out)
        while batch := list(islice(paths, self.chunk)):
            stamps = list(self._stamped(batch))
            same = self._unchanged(stamps) if self._unchanged and stamps else set()
            self.skipped += len(same)
            for stamp in stamps:
                if stamp.path not in same:
                    yield from self._read(stamp)

    def _stamped(self, paths: Sequence[str]) -> Iterator[Stamp]:
        for path in paths:
            self._seen += 1
            fault = indexed_text_fault(path)
            if fault is not None:
                self._report(path, f"its path {fault}")
                continue
            try:
                yield stamp_of(Path(path))
            except Unreadable as reason:
                self._report(path, str(reason))

    def _read(self, stamp: Stamp) -> Iterator[tuple[str, str | None, str | None]]:
        try:
            captured, modified = dates_of(Path(stamp.path))
        except Unreadable as reason:
            self._report(stamp.path, str(reason))
            return
        self._dated_by[BY_MODIFICATION if captured is None else captured.by] += 1
        if modified is not None and self._undated is not None:
            self._undated(stamp.path, f"dated by {BY_MODIFICATION}, {modified.isoformat()}")
        self.stamps[stamp.path] = stamp
        yield stamp.path, _iso(captured.at if captured else None), _iso(modified)


def stamp_of(path: Path) -> Stamp:
    """Return what a file looks like from outside, its sidecars with it. Raises Unreadable."""
    try:
        status = path.stat()
        modified = max([status.st_mtime_ns, *(s.stat().st_mtime_ns for s in sidecars_of(path))])
    except OSError as error:
        raise Unreadable(error.strerror or str(error)) from error
    # What is no regular file is said when it is read.
    return Stamp(str(path), status.st_size, min(max(modified, -(2**63)), 2**63 - 1))


def dates_of(path: Path) -> tuple[Dated | None, datetime | None]:
    """The date of a media file by what it or a sidecar says, or else its modification time in UTC.

    One of the two. Raises Unreadable.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise Unreadable(error.strerror or str(error)) from error
    if not stat.S_ISREG(status.st_mode):
        # Opening a pipe would wait for somebody to write into it.
        raise Unreadable("no regular file")
    dated = capture_date(path) or sidecar_date(path) or edit_date(path)
    return (dated, None) if dated else (None, modification_time(status.st_mtime_ns))


def find_media(folder: Path, report: Report, left_out: Counter[str] | None = None) -> Iterator[str]:
    """The paths of the media files below a folder, in order of their names, folder by folder.

    Folders that are left out are counted in `left_out` by their name.
    """
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
            try:
                if entry.is_dir(follow_symlinks=False):
                    if not _is_left_out(entry.name, left_out):
                        inside.append(entry.path)
                elif Path(entry.name).suffix.lower() in MEDIA and not entry.is_dir():
                    yield os.path.realpath(entry.path) if entry.is_symlink() else entry.path
            except OSError as error:
                # A link that leads to itself, or into a folder that may not be read.
                report(entry.path, error.strerror or str(error))
        folders.extend(reversed(inside))


def _is_left_out(name: str, counted: Counter[str] | None) -> bool:
    found = name.lower() in LEFT_OUT or name.lower().endswith(_LEFT_OUT_SUFFIX)
    if found and counted is not None:
        counted[name] += 1
    return found


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _ignore(path: str, reason: str) -> None:
    """While files are counted, nothing is reported: it will be when they are read."""
