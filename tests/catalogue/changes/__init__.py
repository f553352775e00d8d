"""The changes, by what they are done to."""

from __future__ import annotations

from tests.catalogue.change import Change
from tests.catalogue.changes import capture, derived, engine, partitions, settings, sources

GROUPS: dict[str, tuple[Change, ...]] = {
    "Source tables, and functions that a tally calls": sources.CHANGES,
    "Partitions of a source": partitions.CHANGES,
    "Capture": capture.CHANGES,
    "Derived tables and live views": derived.CHANGES,
    "The engine's own tables": engine.CHANGES,
    "Grants, roles, settings, the database": settings.CHANGES,
}
ALL = tuple(change for changes in GROUPS.values() for change in changes)
