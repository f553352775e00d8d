"""What `tally explain` prints: to people within 80 columns, to programs as JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import asdict

from tallykeeper.cli.output.documents import document
from tallykeeper.cli.output.tallies import size
from tallykeeper.maintain.explanation.explain import Explanation, SourceCost, StoredNode

WIDTH = 80


def in_words(found: Explanation) -> Iterator[str]:
    """The explanation, line by line."""
    yield f"{found.tally}: {found.strategy}"
    yield from _tally(found)
    yield "sources:"
    for source in found.sources:
        yield from _source(source)
    if found.nodes:
        yield "stored intermediate results:"
    for node in found.nodes:
        yield from _node(node)
    yield from _advice(found)
    if found.analysis:
        yield "pending changes, computed now:"
    for line in found.analysis:
        yield f"  {line}"


def _tally(found: Explanation) -> Iterator[str]:
    key = ", ".join(found.key) or "none: it has one row"
    yield from _filled(f"key: {key}{' (all columns: rows may be equal)' if found.is_bag else ''}")
    if found.windows is not None:
        yield from _filled(f"windows: each {found.windows}")
    for reason in found.reasons:
        yield from _filled(f"reason: {reason}")
    yield from _filled(f"installed: {found.installed}")
    if found.table_bytes is not None:
        rows = f"about {found.rows:,} rows, " if found.rows is not None else ""
        yield from _filled(
            f"size: {rows}{size(found.table_bytes)}; change log {size(found.log_bytes)},"
            f" {found.pending or 0:,} pending"
        )
    if found.seconds is not None:
        yield from _filled(f"all of it computed anew: {_seconds(found.seconds)}")
    for each in found.pruned:
        yield from _filled(each.in_words)


def _advice(found: Explanation) -> Iterator[str]:
    yield "what would make it cheaper:" if found.advice else "what would make it cheaper: nothing"
    for sentence in found.advice:
        # Not filled up, for statements are to be copied.
        yield f"  {sentence}"
    small = [m for m in found.missing_indexes if not m.matters]
    if small:
        yield "indexes that will matter when these tables are larger:"
    for missing in small:
        yield f"  {missing.statement}"


def _source(source: SourceCost) -> Iterator[str]:
    rows = "" if source.rows is None else f", about {source.rows:,} rows"
    pending = "" if source.pending is None else f", {source.pending:,} pending"
    yield f"  {source.table}{rows}{pending}"
    columns = ", ".join(source.columns) or "no column: only that rows are there"
    yield from _filled(f"captured: {columns}", 4)
    if source.condition:
        yield from _filled(f"only where {source.condition}", 4)
    cost = f"one change: joined with about {_counted(source.joined)}"
    if source.row_seconds is not None:
        cost += f", {_seconds(source.row_seconds)} when last measured"
    yield from _filled(cost, 4)


def _node(node: StoredNode) -> Iterator[str]:
    figures = "" if node.bytes is None else f", {size(node.bytes)}"
    rows = "" if node.rows is None else f", about {node.rows:,} rows"
    yield f"  {node.table}: {node.strategy}{rows}{figures}"
    yield from _filled(f"reason: {node.reason}", 4)
    yield from _filled(f"by {', '.join(node.key) or 'nothing: one row'}", 4)


def _counted(rows: int) -> str:
    return "1 row" if rows == 1 else f"{rows:,} rows"


def _seconds(seconds: float) -> str:
    if seconds < 0.001:
        return f"{seconds * 1_000_000:.0f} us"
    return f"{seconds * 1_000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _filled(text: str, indent: int = 2) -> list[str]:
    blanks = " " * indent
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=blanks,
        subsequent_indent=f"{blanks}  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def as_json(found: Explanation) -> str:
    """The same for programs."""
    return document("explain", **asdict(found))
