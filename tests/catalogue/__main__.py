"""Writes the page of the documentation that lists the catalogue: `python -m tests.catalogue`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.catalogue.change import OUTCOMES, Change
from tests.catalogue.changes import ALL, GROUPS

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "changes.md"

INTRODUCTION = f"""\
# Changes of a database, and what comes of them

A database changes in more ways than by INSERT, UPDATE and DELETE. {len(ALL)} changes that an
application's role, the owner of the tallies or a superuser can make are tried by the project's
tests, each on a fresh installation: the application then goes on writing, live views are compared
with the sources, and `tally status`, `tally migrate`, `tally refresh` and `tally verify` run. No
figure may be wrong without being reported.

This page is made from the tests' data (`tests/catalogue/changes/`) by `python -m tests.catalogue`.
"""
WORDS = {
    "unharmed": "stays right",
    "named": "reported",
    "refused": "reads fail",
    "blocked": "is refused",
    "audited": "found by comparison",
}
LEGEND = {WORDS[outcome]: meaning for outcome, meaning in OUTCOMES.items()}


def page() -> str:
    """The page's text."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield INTRODUCTION
    yield "| outcome | means |"
    yield "|---|---|"
    for word, meaning in LEGEND.items():
        yield f"| {word} | {meaning} |"
    yield ""
    yield "After that, `tally migrate` and `tally refresh` make everything right again, or say in"
    yield "one sentence why they cannot."
    for title, changes in GROUPS.items():
        yield f"\n## {title}\n"
        yield "| change | by | outcome | then |"
        yield "|---|---|---|---|"
        yield from map(_row, changes)


def _row(change: Change) -> str:
    then = "right" if change.after == "right" else "refused: the cause has to be removed"
    outcome = WORDS[change.outcome]
    if change.because:
        outcome += f" ({change.because})"
    only = f" (PostgreSQL {change.since} on)" if change.since > 15 else ""
    return f"| {change.name}{only} | {change.role} | {outcome} | {then} |"


if __name__ == "__main__":
    PAGE.write_text(page())
