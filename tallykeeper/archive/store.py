"""The place where archived files are: a folder, or an object store that fsspec knows.

Credentials are the environment's: this knows none, and no message shows more than the address
without them. Invariants: a file appears whole or not at all; a file that was removed is not there
any more, or that is an error.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tallykeeper import extras, settings
from tallykeeper.errors import TallyError
from tallykeeper.partitions.records import ArchivedFile

_PIECE = 4 << 20


class ArchiveUnavailable(TallyError):
    """The archive cannot be used: says what failed, at which file, and what to do."""


class FileMissing(ArchiveUnavailable):
    """A file that is recorded is not in the archive."""


class FileDamaged(ArchiveUnavailable):
    """A file in the archive is not the one that is recorded."""


def open_store(address: str | None = None) -> Store:
    """The archive at that address, by default TALLY_ARCHIVE.

    Raises SettingError where none is named, MissingExtra, ArchiveUnavailable.
    """
    extras.require("archive")
    if address is None:
        address = settings.archive_address()
    if address is None:
        raise settings.SettingError(
            "TALLY_ARCHIVE",
            "a folder, or an address like s3://bucket/folder",
            "nothing" if not settings.loses_unarchived() else settings.NO_ARCHIVE,
            "name where archived files are to be",
        )
    return Store(address)


class Store:
    """An archive. All paths are relative to its address, with slashes."""

    def __init__(self, address: str) -> None:
        import fsspec

        self.address = address.rstrip("/")
        with self._failing("open the archive"):
            self._files, self._root = fsspec.core.url_to_fs(self.address)
        self._is_folder = "file" in _protocols(self._files)

    def put(self, local: Path, path: str) -> None:
        """Copy a file into the archive, where it appears at once and whole."""
        target = self._at(path)
        with self._failing(f"write {path}"):
            if self._is_folder:
                _put_in_folder(local, Path(target))
            else:
                self._files.makedirs(target.rpartition("/")[0], exist_ok=True)
                self._files.put_file(str(local), target)

    def get(self, path: str, local: Path) -> tuple[int, str]:
        """Copy a file out of the archive; its size in bytes and SHA-256. Raises FileMissing."""
        digest, size = hashlib.sha256(), 0
        with (
            self._failing(f"read {path}"),
            self._files.open(self._at(path), "rb") as source,
            local.open("wb") as copy,
        ):
            while piece := source.read(_PIECE):
                copy.write(piece)
                digest.update(piece)
                size += len(piece)
        return size, digest.hexdigest()

    def remove(self, path: str) -> None:
        """Delete a file, which may be missing. Raises ArchiveUnavailable if it is still there."""
        target = self._at(path)
        with self._failing(f"delete {path}"):
            for each in (target, _part_of(target)) if self._is_folder else (target,):
                try:
                    self._files.rm_file(each)
                except FileNotFoundError:
                    continue
            self._files.invalidate_cache()
            still_there = self._files.exists(target)
        if still_there:
            raise ArchiveUnavailable(
                f"{path} was deleted from the archive {self.address}, but is still there; delete it"
                " by hand, and run `tally archive` again"
            )

    def _at(self, path: str) -> str:
        return f"{self._root.rstrip('/')}/{path}"

    @contextmanager
    def _failing(self, doing: str) -> Iterator[None]:
        """Turn what the store raises into a sentence, which shows nothing of its text.

        That may hold credentials.
        """
        try:
            yield
        except ArchiveUnavailable:
            raise
        except FileNotFoundError as error:
            raise FileMissing(
                f"cannot {doing}: it is not in the archive {self.address}; restore it from a copy"
            ) from error
        except ImportError as error:
            raise ArchiveUnavailable(
                f"cannot {doing}: {self.address} needs a package of its own, which is not installed"
                f" ({error.name or 'see the documentation of fsspec'}); install it, like s3fs for"
                " s3://"
            ) from error
        except Exception as error:  # noqa: BLE001 -- each store has errors of its own
            raise ArchiveUnavailable(
                f"cannot {doing}: the archive {self.address} failed ({_said(error)}); see that it"
                " can be reached, has room and lets this process write, and try again"
            ) from None


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder of this machine for a file on its way, deleted afterwards."""
    try:
        with tempfile.TemporaryDirectory(prefix="tally-archive-") as folder:
            yield Path(folder)
    except OSError as error:
        raise ArchiveUnavailable(
            f"a file on its way to the archive cannot be kept in {tempfile.gettempdir()}"
            f" ({error.strerror or type(error).__name__}); make room there, or name another folder"
            " in TMPDIR"
        ) from error


def fetch(store: Store, file: ArchivedFile, local: Path) -> None:
    """Copy a file out of the archive. Raises FileMissing, FileDamaged."""
    size, checksum = store.get(file.address, local)
    if (size, checksum) != (file.bytes, file.checksum):
        raise FileDamaged(
            f"{file.address} is not the file that was archived: expected {file.bytes:,} bytes with"
            f" the checksum {str(file.checksum)[:12]}, found {size:,} with {checksum[:12]}; restore"
            " it from a copy"
        )


def checksum_of(local: Path) -> tuple[int, str]:
    """The size in bytes and the SHA-256 of a file on this machine."""
    digest, size = hashlib.sha256(), 0
    with local.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
            size += len(piece)
    return size, digest.hexdigest()


def _said(error: Exception) -> str:
    kind = type(error).__name__
    if isinstance(error, OSError) and error.errno is not None:
        return f"{kind}: {os.strerror(error.errno)}"
    return kind


def _protocols(files: Any) -> tuple[str, ...]:
    return (files.protocol,) if isinstance(files.protocol, str) else tuple(files.protocol)


def _part_of(target: str) -> str:
    folder, _, name = target.rpartition("/")
    return f"{folder}/.{name}.part"


def _put_in_folder(local: Path, target: Path) -> None:
    """By another name first, and on the disk before it has its own."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = Path(_part_of(str(target)))
    try:
        with local.open("rb") as source, part.open("wb") as copy:
            shutil.copyfileobj(source, copy, _PIECE)
            copy.flush()
            os.fsync(copy.fileno())
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
