"""In which order a tally's rows are read, and the part of that order between two places in it.

An order ends with all columns of the key, so that no two rows share a place. Nulls come after all
values, as PostgreSQL has it; in a descending order before them. An order that an index has
is read from the place where a page begins; any other takes a sort. No query is made here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

from sqlalchemy import JSON, Index, UniqueConstraint
from sqlalchemy.dialects.postgresql import JSONB

from tallykeeper import Tally
from tallykeeper.database import sql
from tallykeeper.declarations.validation import nearest
from tallykeeper.reads.conditions import Conditions
from tallykeeper.reads.cursors import BadCursor, Place

DESCENDING = "-"

# The rows between two places are those that meet all conditions of one of these.
Arms = list[list[str]]


@dataclass(frozen=True)
class By:
    """A column of an order."""

    name: str
    descending: bool
    nullable: bool

    def __str__(self) -> str:
        return f"{DESCENDING if self.descending else ''}{self.name}"

    @property
    def column(self) -> str:
        return f"v.{sql.quote(self.name)}"

    @property
    def sql(self) -> str:
        """As in ORDER BY."""
        return f"{self.column}{' DESC' if self.descending else ''}"


@dataclass(frozen=True)
class Order:
    """The columns that rows are ordered by, without those that have one value in all of them.

    `is_cheap`: an index has it, or nothing else was asked for.
    """

    by: tuple[By, ...]
    is_cheap: bool
    is_of_key: bool

    @property
    def sql(self) -> str:
        """An ORDER BY; nothing where there can be no two rows."""
        return f" ORDER BY {', '.join(each.sql for each in self.by)}" if self.by else ""

    def checked(self, place: Place) -> Place:
        """The place, where it is one in this order. Raises BadCursor."""
        nulls = [
            value is None and not by.nullable for by, value in zip(self.by, place, strict=False)
        ]
        if len(place) != len(self.by) or any(nulls):
            raise BadCursor("Expected a cursor of this tally's rows; begin without one.")
        return place

    def between(self, conditions: Conditions, after: Place | None, to: Place | None) -> Arms:
        """What keeps the rows behind the place `after`, up to the place `to`; None: open."""
        simple = len({each.descending for each in self.by}) == 1
        if simple and not any(each.nullable for each in self.by):
            sign = "<" if self.by[0].descending else ">"
            opposite = ">=" if sign == "<" else "<="
            bounds = [(sign, after), (opposite, to)]
            return [[self._compared(conditions, s, at) for s, at in bounds if at is not None]]
        return list(_between(self.by, after, to, conditions))

    def span(self, conditions: Conditions, after: Place | None, to: Place | None) -> list[str]:
        """Conditions that hold for all rows between the places, each on one column alone.

        A view passes those on to its tables, and a condition on several columns only where none of
        them has different types in different parts of it.
        """
        found: list[str] = []
        for place, by in enumerate(self.by):
            low, high = (None if each is None else each[place : place + 1] for each in (after, to))
            if low is not None and low == high:
                found.append(_is(by, low[0], conditions))
                continue
            low, high = (high, low) if by.descending else (low, high)
            below_null = high is not None and high[0] is not None
            if low is not None and low[0] is None:
                found.append(f"{by.column} IS NULL")
            elif low is not None and low[0] is not None:
                least = f"{by.column} >= {conditions.compared(by.name, low[0])}"
                or_null = by.nullable and not below_null
                found.append(f"({least} OR {by.column} IS NULL)" if or_null else least)
            if high is not None and high[0] is not None:
                found.append(f"{by.column} <= {conditions.compared(by.name, high[0])}")
            break
        return found

    def _compared(self, conditions: Conditions, sign: str, place: Place) -> str:
        columns = ", ".join(each.column for each in self.by)
        pairs = zip(self.by, place, strict=True)
        values = ", ".join(conditions.compared(by.name, value or "") for by, value in pairs)
        return f"({columns}) {sign} ({values})"


def chosen(tally: Tally, given: Sequence[str], fixed: Collection[str], ranged: bool) -> Order:
    """The order asked for, or else the one of the index that serves the question best.

    `given` are columns, each with a minus for a descending order. Columns of the key that it leaves
    out follow, in the direction of its last one. `fixed` columns have one value alone; `ranged`:
    the time column is asked for between bounds. Raises ValueError.
    """
    names = [each.removeprefix(DESCENDING) for each in given]
    known = orderable(tally)
    for name in names:
        if name not in known:
            raise ValueError(
                f"Expected columns of {tally.name} to order by, of {', '.join(known)}, but there is"
                f" {name!r}{nearest(name, known)}."
            )
    if len(set(names)) < len(names):
        raise ValueError(f"Expected each column once in {', '.join(given)}; leave one out.")
    indexes = _indexes(tally)
    rest = tally.key if given else _best(tally, indexes, fixed, ranged)
    last = bool(given) and given[-1].startswith(DESCENDING)
    directions = {n: g.startswith(DESCENDING) for n, g in zip(names, given, strict=True)}
    directions |= {n: last for n in rest if n not in directions}
    by = tuple(
        By(name, descending, bool(tally.table.c[name].nullable))
        for name, descending in directions.items()
        if name not in fixed
    )
    # By another column the derived table does not say where a row will be: its changes are pending.
    is_of_key = {each.name for each in by} <= set(tally.key)
    is_served = is_of_key and any(_serves(index, by, fixed) for index in indexes)
    return Order(by, not given or not by or is_served, is_of_key)


def orderable(tally: Tally) -> list[str]:
    """The columns that rows can be ordered by: those of which PostgreSQL can say which is less."""
    types = {name: tally.table.c[name].type for name in tally.columns}
    return [n for n, t in types.items() if not isinstance(t, JSON) or isinstance(t, JSONB)]


def cheap_orders(tally: Tally, fixed: Collection[str]) -> list[str]:
    """The orders by the key that an index has, as they are asked for."""
    found = []
    for index in _indexes(tally):
        names = [n for n in index if n not in fixed]
        if names and set(names) <= set(tally.key):
            found.append(",".join(names))
    return list(dict.fromkeys(found))


def _indexes(tally: Tally) -> list[tuple[str, ...]]:
    """The columns of each index over the derived table that has all rows."""
    table = tally.table
    unique = [c for c in table.constraints if isinstance(c, UniqueConstraint)]
    indexes = sorted(table.indexes, key=lambda index: str(index.name))
    found = [[c.name for c in table.primary_key], *([c.name for c in u.columns] for u in unique)]
    found += [_columns_of(index) for index in indexes]
    known = set(tally.columns)
    leading = (tuple(takewhile(known.__contains__, names)) for names in found)
    return [names for names in leading if names]


def _columns_of(index: Index) -> list[str]:
    options = index.dialect_options["postgresql"]
    if options.get("where") is not None or options.get("using") not in (None, False, "btree"):
        return []
    if len(index.columns) < len(list(index.expressions)):
        return []
    return [column.name for column in index.columns]


def _best(
    tally: Tally, indexes: Sequence[tuple[str, ...]], fixed: Collection[str], ranged: bool
) -> list[str]:
    """All columns of the key, in the order of the index that finds the rows asked for soonest."""
    time = tally.time_key.column if tally.time_key and ranged else None

    def found_by(index: tuple[str, ...]) -> tuple[int, bool, int]:
        leading = list(takewhile(lambda n: n in fixed, index))
        following = index[len(leading) : len(leading) + 1]
        return len(leading), following == (time,), -indexes.index(index)

    candidates = [i for i in indexes if any(n in tally.key for n in i)]
    best = max(candidates, key=found_by, default=())
    return list(dict.fromkeys(n for n in (*best, *tally.key) if n in tally.key))


def _serves(index: tuple[str, ...], by: Sequence[By], fixed: Collection[str]) -> bool:
    """Whether reading the index is reading rows in that order.

    Where it has the first columns of the order alone, rows that are equal in these are sorted.
    """
    if len({each.descending for each in by}) > 1:
        return False
    names = [n for n in index if n not in fixed]
    wanted = [each.name for each in by]
    return bool(names) and wanted[: len(names)] == names[: len(wanted)]


def _between(
    by: Sequence[By], after: Place | None, to: Place | None, conditions: Conditions
) -> Iterator[list[str]]:
    """The same column by column."""
    if not by:
        # Of a place that is open there is nothing to compare; `after` itself is no part.
        if after is None:
            yield []
        return
    first, rest = by[0], by[1:]
    if after is not None and to is not None and after[0] == to[0]:
        same = _is(first, after[0], conditions)
        yield from _with(same, _between(rest, after[1:], to[1:], conditions))
        return
    if after is not None:
        same = _is(first, after[0], conditions)
        yield from _with(same, _between(rest, after[1:], None, conditions))
    yield from _strictly(first, after and after[:1], to and to[:1], conditions)
    if to is not None:
        same = _is(first, to[0], conditions)
        yield from _with(same, _between(rest, None, to[1:], conditions))


def _with(condition: str, arms: Iterator[list[str]]) -> Iterator[list[str]]:
    return ([condition, *arm] for arm in arms)


def _is(by: By, value: str | None, conditions: Conditions) -> str:
    if value is None:
        return f"{by.column} IS NULL"
    return f"{by.column} = {conditions.compared(by.name, value)}"


def _strictly(
    by: By, after: Place | None, to: Place | None, conditions: Conditions
) -> Iterator[list[str]]:
    """Values of one column between two, neither included; null is the highest of all."""
    low, high = (to, after) if by.descending else (after, to)
    if low is not None and low[0] is None:
        return
    found = []
    if low is not None and low[0] is not None:
        found.append(f"{by.column} > {conditions.compared(by.name, low[0])}")
    if high is not None and high[0] is not None:
        found.append(f"{by.column} < {conditions.compared(by.name, high[0])}")
    if high is not None and not found:
        found.append(f"{by.column} IS NOT NULL")
    if high is None and found and by.nullable:
        yield [f"{by.column} IS NULL"]
    yield found
