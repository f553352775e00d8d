"""What can be examined without a database: versions of what is installed, and the disk."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from tallykeeper.extras import MODULES
from tallykeeper.operations.diagnosis.findings import Finding, fail, ok, warn

GIB = 1024**3
LITTLE_BYTES = 2 * GIB
TOO_LITTLE_BYTES = GIB // 4
LITTLE_SHARE = 0.05
SHOWN = ("tallykeeper", "SQLAlchemy", "psycopg", "dagster")


def examine_versions() -> Iterator[Finding]:
    """Versions of the packages that matter, and whether they are those that were declared."""
    found = [f"Python {platform.python_version()}"]
    found += [f"{name} {version}" for name in SHOWN if (version := _version(name))]
    wrong = list(_unfitting())
    if wrong:
        yield warn("versions", "; ".join(wrong), "install tallykeeper with its extras anew")
    else:
        yield ok("versions", ", ".join(found))


def examine_disk(folder: Path, what: str) -> Iterator[Finding]:
    """How much is left on the disk of a folder, or of the nearest one above it that there is."""
    there = next(each for each in (folder, *folder.parents) if each.exists())
    usage = shutil.disk_usage(there)
    said = f"{usage.free / GIB:,.1f} of {usage.total / GIB:,.1f} GB free for {what} ({there})"
    if usage.free < TOO_LITTLE_BYTES:
        yield fail("disk", said, "free some: a full disk stops the database")
    elif usage.free < min(LITTLE_BYTES, usage.total * LITTLE_SHARE):
        yield warn("disk", said, "free some before it is full")
    else:
        yield ok("disk", said)


def _unfitting() -> Iterator[str]:
    """The installed packages of which tallykeeper asks for another version."""
    if find_spec("packaging") is None:
        return
    from packaging.requirements import Requirement

    for text in metadata.requires("tallykeeper") or []:
        requirement = Requirement(text)
        version = _version(requirement.name)
        marker = requirement.marker
        applies = marker is None or any(marker.evaluate({"extra": e}) for e in ("", *MODULES))
        if version and applies and not requirement.specifier.contains(version, prereleases=True):
            yield f"{requirement.name} {version} is installed, not {requirement.specifier}"


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
