"""From measurements to the table: rows, and where they go in the documentation.

Each benchmark has its own part of the page, between two marks, so that one can be measured again
without the others; the figures of one part always come from one run.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.timing import Sample

MISSED = "**missed**"
"""The mark of a row whose target was missed."""

HEAD = (
    "| What | Size | Median (middle half) | Compared with | Median (middle half)"
    " | Ratio | Target |\n"
    "|---|---|---|---|---|---|---|\n"
)


@dataclass(frozen=True)
class Row:
    """One line: what was measured, and what it is compared with.

    `size` counts source rows. `at_most` is the ratio that was promised, if one was; `ratio` is
    the quotient of the medians unless it is given.
    """

    what: str
    size: str
    took: Sample
    against: str = ""
    against_took: Sample | None = None
    at_most: float | None = None

    @property
    def ratio(self) -> float | None:
        if self.against_took is None:
            return None
        return self.took.median / self.against_took.median

    @property
    def missed(self) -> bool:
        return self.at_most is not None and (self.ratio or 0.0) > self.at_most


@dataclass(frozen=True)
class Section:
    """What one benchmark has to show: rows of one run, or a note that says why there are none."""

    name: str
    rows: Sequence[Row] = ()
    notes: Sequence[str] = ()


def count(number: int) -> str:
    """`10 M`, `500,000`."""
    return f"{number // 1_000_000} M" if number and number % 1_000_000 == 0 else f"{number:,}"


def duration(seconds: float) -> str:
    """`412 µs`, `17.2 ms`, `2.61 s`: three digits."""
    for limit, unit, factor in ((1e-3, "µs", 1e6), (1.0, "ms", 1e3)):
        if seconds < limit:
            return f"{_three_digits(seconds * factor)} {unit}"
    return f"{_three_digits(seconds)} s"


def markdown(section: Section) -> str:
    """The section's table and notes."""
    table = HEAD + "\n".join(_line(row) for row in section.rows) if section.rows else ""
    return "\n\n".join(part for part in (table, *section.notes) if part)


def put_into(page: str, name: str, text: str) -> str:
    """`page` with `text` between the marks of that name.

    Raises ValueError where the page has no such marks.
    """
    opening, closing = f"<!-- measured: {name} -->", f"<!-- end of {name} -->"
    marked = re.compile(re.escape(opening) + r".*?" + re.escape(closing), re.DOTALL)
    if not marked.search(page):
        raise ValueError(
            f"the page has no place for {name!r}: expected a line {opening} and, after it, a line"
            f" {closing}"
        )
    return marked.sub(lambda _: f"{opening}\n{text}\n{closing}", page)


def _line(row: Row) -> str:
    against = "" if row.against_took is None else _sample(row.against_took)
    return (
        f"| {row.what} | {row.size} | {_sample(row.took)} | {row.against} | {against}"
        f" | {_ratio(row.ratio)} | {_target(row)} |"
    )


def _sample(sample: Sample) -> str:
    if len(sample.seconds) == 1:
        return duration(sample.median)
    low, high = sample.middle_half
    return f"{duration(sample.median)} ({duration(low)} to {duration(high)})"


def _ratio(ratio: float | None) -> str:
    if ratio is None:
        return ""
    return f"**{ratio:.3f}**" if ratio >= 0.1 else f"**1 : {1 / ratio:,.0f}**"


def _target(row: Row) -> str:
    if row.at_most is None:
        return ""
    return f"at most {row.at_most:g}" + (f", {MISSED}" if row.missed else "")


def _three_digits(number: float) -> str:
    if number >= 100:
        return f"{number:,.0f}"
    return f"{number:.1f}" if number >= 10 else f"{number:.2f}"
