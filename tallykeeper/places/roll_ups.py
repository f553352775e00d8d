"""Figures over all places: rows one after the other, or put together where they merge.

Groups that have the column by which rows are divided are at one place each, and stand as they are.
Of others the parts of several places are put together: sums are added, of maxima the greatest
counts. Invariant: a figure that does not follow from those of places, such as distinct accounts
over all of them, is refused, and nothing is said of all places while one does not answer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Any

from sqlalchemy import Engine

from tallykeeper.declarations.tally import Tally
from tallykeeper.errors import TallyError
from tallykeeper.places.work import Done, Places, everywhere
from tallykeeper.reads.conditions import formulas
from tallykeeper.reads.grouping import MOST_GROUPS, ROWS, Groups, grouped

MERGED: Mapping[str, Callable[[Any, Any], Any]] = {"sum": lambda a, b: a + b, "max": max}
"""How a figure of two places together follows from theirs."""


class PlaceMissing(TallyError):
    """A place has no result, so that there is none of all places; says which, and why."""


def grouped_over(
    tally: Tally,
    places: Places,
    column: str,
    by: Sequence[str] = (),
    *,
    measures: Collection[str] | None = None,
    where: Mapping[str, Any] | None = None,
    start: date | None = None,
    end: date | None = None,
) -> Groups:
    """The tally's rows of all places put together by the columns `by`, as `reads.grouped` does.

    `column` is the one by which the derived table is divided. Each place answers as of its last
    commit, and groups are in the order of their columns. `measures` are those wanted; without them
    all that have a value for a group.

    Raises ValueError for a measure that does not merge, for a column that there is not, and where a
    place has more than 100,000 groups, PlaceMissing where one does not answer.
    """
    done = everywhere(
        [tally],
        places,
        partial(_grouped_at, by=by, measures=measures, where=where, start=start, end=end),
    )
    parts = [_result(each) for each in done]
    if any(part.groups.more for part in parts):
        raise ValueError(
            f"Expected at most {MOST_GROUPS:,} groups of {tally.name} at each place, but one has"
            " more; restrict them."
        )
    rows = [row for part in parts for row in part.groups.groups]
    left_out = dict(item for part in parts for item in part.groups.left_out.items())
    if column in by:
        return Groups(_ordered(rows, by), more=False, left_out=left_out)
    names = list(dict.fromkeys(name for row in rows for name in row if name not in _bare(by)))
    for name in names:
        why = _why_not(parts[0], name, column)
        if why and measures is not None:
            raise ValueError(f"{tally.name} has no {name} of all places together: {why}.")
        if why:
            left_out[name] = why
    kept = [name for name in names if name not in left_out]
    merged = _merged(parts[0].hows, rows, _bare(by), kept)
    return Groups(_ordered(merged, by), more=False, left_out=left_out)


@dataclass(frozen=True)
class _Part:
    """The groups of a place, and how each measure is put together, which the SELECT shows."""

    groups: Groups
    hows: Mapping[str, str]
    formulas: Collection[str]


def _grouped_at(engine: Engine, tally: Tally, **arguments: Any) -> _Part:
    with engine.connect() as connection:
        groups = grouped(connection, tally, limit=MOST_GROUPS, **arguments)
    hows = {name: combine.how for name, combine in tally.combine.items()}
    return _Part(groups, hows | {ROWS: "sum"}, formulas(tally))


def _result(done: Done[_Part]) -> _Part:
    if done.error is not None or done.result is None:
        raise PlaceMissing(
            f"{done.tally}: nothing can be said of all places, for {done.place} did not answer"
            f" ({done.error})"
        ) from done.error
    return done.result


def _why_not(part: _Part, name: str, column: str) -> str:
    """Why the figure of several places does not follow from theirs; empty where it does."""
    if name in part.formulas:
        return f"it is computed from other figures; group by {column} for it"
    if part.hows.get(name) not in MERGED:
        return (
            "it does not follow from those of places (as distinct counts and percentiles do not);"
            f" group by {column} for it"
        )
    return ""


def _merged(
    hows: Mapping[str, str],
    rows: Sequence[Mapping[str, Any]],
    by: Sequence[str],
    names: Sequence[str],
) -> Iterator[dict[str, Any]]:
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        key = tuple(row[name] for name in by)
        empty = dict(zip(by, key, strict=True)) | dict.fromkeys(names)
        known = groups.setdefault(key, empty)
        for name in names:
            parts = [part for part in (known[name], row[name]) if part is not None]
            merge = MERGED[hows[name]]
            known[name] = merge(*parts) if len(parts) == 2 else next(iter(parts), None)
    yield from groups.values()


def _bare(by: Sequence[str]) -> list[str]:
    """The columns without their units: `hour:week` is `hour`."""
    return [each.partition(":")[0] for each in by]


def _ordered(rows: Any, by: Sequence[str]) -> list[dict[str, Any]]:
    names = _bare(by)
    # Nulls last, as PostgreSQL has them.
    return sorted(rows, key=lambda row: [(row[n] is None, row[n] or 0) for n in names])
