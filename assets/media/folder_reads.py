"""The questions of `reads.py` answered from a folder of pictures, where there is no database.

Files are found and dated as the loader finds and dates them, so that loading the folder and asking
the database has the same figures. What was read of a file is remembered while the file looks the
same from outside. Invariants: nothing is written; every answer says that a folder gave it; and a
folder that cannot be read is an error, never an empty library.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from assets.media.input.seen_files import Stamp
from tallykeeper.input.loading import LoadError

_BEGINNINGS: dict[str, Callable[[date], date]] = {
    "week": lambda day: day - timedelta(days=day.weekday()),
    "month": lambda day: day.replace(day=1),
    "year": lambda day: day.replace(month=1, day=1),
}


class FolderUnreadable(LoadError):
    """The folder is not there, or may not be read: says so, and what to do."""


@dataclass(frozen=True)
class Files:
    """When each file of a folder was made, as of the moment at which looking began.

    `unreadable` is how many files and folders below it could not be read, and are not counted.
    """

    as_of: datetime
    moments: Sequence[datetime]
    unreadable: int

    def per_day(self, first: date | None = None, last: date | None = None) -> dict[str, int]:
        """Files per UTC day, newest day first; both ends included, None is open."""
        return _newest_first(day.isoformat() for day in self._days(first, last))

    def per_period(
        self, unit: str, first: date | None = None, last: date | None = None
    ) -> dict[str, int]:
        """Files per week, month or year by its first day, of these days, newest first."""
        begin = _BEGINNINGS[unit]
        return _newest_first(begin(day).isoformat() for day in self._days(first, last))

    def per_hour(self, day: date) -> dict[str, int]:
        """Files per hour of one UTC day, newest hour first."""
        return _newest_first(
            f"{moment:%Y-%m-%dT%H}:00:00Z".rjust(20, "0")
            for moment in self.moments
            if moment.date() == day
        )

    def _days(self, first: date | None, last: date | None) -> Iterator[date]:
        for moment in self.moments:
            day = moment.date()
            if (first is None or day >= first) and (last is None or day <= last):
                yield day


class FolderLibrary:
    """A folder of pictures and videos that is asked again and again. For threads of a process."""

    def __init__(self, path: Path, patience_seconds: float = 60.0) -> None:
        self._path = path.resolve()
        self._patience = patience_seconds
        self._lock = threading.Lock()
        self._known: dict[str, tuple[Stamp, datetime]] = {}
        self._latest: Files | None = None

    def files(self) -> Files:
        """Return the files as they are now; opens those alone that changed.

        Another thread's look is waited for as long as the patience lasts. Raises FolderUnreadable.
        """
        asked = datetime.now(UTC)
        if not self._lock.acquire(timeout=self._patience):
            raise FolderUnreadable(
                f"Expected the folder {self._path} to be read within {self._patience:g} s, but that"
                " takes longer; ask again later."
            )
        try:
            # Another question's look that began after this question answers it as well.
            if self._latest is None or self._latest.as_of < asked:
                self._latest = self._look()
            return self._latest
        finally:
            self._lock.release()

    def require(self) -> None:
        """Raise FolderUnreadable where the folder cannot be listed."""
        try:
            with os.scandir(self._path):
                pass
        except OSError as error:
            raise self._unreadable(error.strerror or str(error)) from error

    def _unreadable(self, why: str) -> FolderUnreadable:
        return FolderUnreadable(
            f"Expected a folder of pictures at {self._path}, but it cannot be read ({why}); name"
            " one that is there."
        )

    def _look(self) -> Files:
        # Pillow is loaded with it, which who reads from a database never needs.
        from assets.media.input.folder import Folder

        self.require()
        as_of = datetime.now(UTC)
        seen: dict[str, tuple[Stamp, datetime]] = {}

        def unchanged(stamps: Sequence[Stamp]) -> set[str]:
            same = {s.path: self._known[s.path] for s in stamps if self._is_known(s)}
            seen.update(same)
            return set(same)

        unreadable: Counter[str] = Counter()

        def report(path: str, why: str) -> None:
            if path == str(self._path):
                raise self._unreadable(why)
            unreadable[path] += 1

        # What cannot be read is counted nowhere, as by the loader.
        found = Folder(self._path, report, unchanged=unchanged)
        for path, original, created in found:
            moment = original or created
            assert moment is not None
            seen[path] = found.stamps.pop(path), datetime.fromisoformat(moment).astimezone(UTC)
        self._known = seen
        return Files(as_of, [moment for _, moment in seen.values()], len(unreadable))

    def _is_known(self, stamp: Stamp) -> bool:
        known = self._known.get(stamp.path)
        return known is not None and known[0] == stamp


def _newest_first(keys: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(keys).items(), reverse=True))
