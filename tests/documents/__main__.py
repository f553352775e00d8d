"""Writes the page of the documentation that lists the rows: `python -m tests.documents`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from tests.documents.audit import Answer, Row, rows_of

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "documents.md"

INTRODUCTION = """\
# What the first documents ask for, and what there is

Tallykeeper was begun for five applications, each with a document that says what its counts should
be. Every point of these documents is a test of the project, whose name says the point; this page is
made from the tests (`tests/documents/`) by `python -m tests.documents`.

*Yes* means as the document has it; *differently*, that the purpose is met in another way, and how;
*no*, that it is not there, and why. Which old table, column, function or command became what, is in
the pages linked.
"""

DOCUMENTS = {
    "test_contributions": ("Daily contributions", "names-contributions.md"),
    "test_generation_sources": ("Counts by generation source", "names-generation-sources.md"),
    "test_tag_junction": ("The junction of items and tags", "names-tag-junction.md"),
    "test_counts": ("Tables of counts", "names-counts.md"),
    "test_fediverse": ("The fediverse's data model", "names-fediverse.md"),
    "test_design_card": ("The project itself", None),
}
"""By module: what the document is about, and the page that maps its names."""

ANSWERS: tuple[Answer, ...] = ("yes", "differently", "no")


def audited() -> dict[str, list[Row]]:
    """The rows of each document, by module."""
    return {name: rows_of(import_module(f"tests.documents.{name}")) for name in DOCUMENTS}


def page() -> str:
    """The page's text."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    documents = audited()
    yield INTRODUCTION
    yield "| document | points | yes | differently | no |"
    yield "|---|---|---|---|---|"
    for name, rows in documents.items():
        yield _counted(DOCUMENTS[name][0], rows)
    yield _counted("all", [row for rows in documents.values() for row in rows])
    for name, rows in documents.items():
        title, names = DOCUMENTS[name]
        yield f"\n## {title}\n"
        if names is not None:
            yield f"[Old names and new]({names})\n"
        yield "| point | | |"
        yield "|---|---|---|"
        for row in rows:
            yield f"| {row.point} | {row.answer} | {row.why} |"


def _counted(name: str, rows: list[Row]) -> str:
    counts = Counter(row.answer for row in rows)
    return f"| {name} | {len(rows)} | {' | '.join(str(counts[a]) for a in ANSWERS)} |"


if __name__ == "__main__":
    PAGE.write_text(page())
