"""The rows of any tally, exact as of the last commit: some of them, in an order, page by page.

`tally_rows(connection, daily_contributions, start=date(2025, 11, 1))` reads the live view. A page
begins behind the last row of the one before it: no row is repeated or lost because others came or
went. Invariants: what is read of the derived table itself only says how far a page may reach, so
that a live view of any size is asked for a part of it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from sqlalchemy import Column, Connection, Date, DateTime

from tallykeeper import Tally
from tallykeeper.database import sql
from tallykeeper.declarations.validation import nearest
from tallykeeper.reads import cursors, orders
from tallykeeper.reads.conditions import DAY, HOUR, INSTANT, Conditions, formulas, shown
from tallykeeper.reads.cursors import Place
from tallykeeper.reads.live_reads import in_utc

MOST_ROWS = 100_000
MOST_SORTED = 100_000
"""How many rows are sorted, at most, in an order that no index has."""


@dataclass(frozen=True)
class Rows:
    """Rows of a tally in the order that `order` names, each a dict.

    `next_cursor` asks for the rows that follow; None: there are no more. A page may have fewer rows
    than were asked for, and more may follow all the same. Times are texts in ISO 8601, in UTC;
    those of the time column are days or hours. `columns` are those of the derived table.
    """

    rows: list[dict[str, Any]]
    next_cursor: str | None
    order: list[str]
    columns: Mapping[str, Column[Any]] = field(repr=False)


@dataclass(frozen=True)
class _Question:
    """Which rows are asked for, once everything in it is checked."""

    tally: Tally
    where: Mapping[str, Any]
    start: date | None
    end: date | None
    order: orders.Order
    shown: tuple[str, ...]
    limit: int
    after: Place | None = None

    def conditions(self) -> Conditions:
        """The filters, as SQL."""
        found = Conditions(self.tally)
        found.keep(self.where)
        found.within(self.start, self.end)
        return found


def tally_rows(
    connection: Connection,
    tally: Tally,
    *,
    where: Mapping[str, Any] | None = None,
    start: date | None = None,
    end: date | None = None,
    order: Sequence[str] = (),
    columns: Collection[str] | None = None,
    limit: int = 1_000,
    cursor: str | None = None,
) -> Rows:
    """Return rows of a tally's live view.

    `where` keeps rows with these values of key columns and attributes: one, a list of some, None
    for null. `start` and `end` keep those of the time column from the one up to the other, not
    included. `order` names columns, with a minus for a descending order (`-day`); by default it is
    that of the index which finds the rows. `columns` are those wanted, by default key, measures,
    and what the derived table computes from them. `cursor` is the `next_cursor` of the page before.

    Raises ValueError for a question that cannot be asked, and for an order that no index has where
    more than `MOST_SORTED` rows would be sorted; NotInstalled where there is no live view.
    """
    if not 1 <= limit <= MOST_ROWS:
        raise ValueError(f"Expected a limit within 1 to {MOST_ROWS:,}, but it is {limit}.")
    tally.bind(connection)
    kept = Conditions(tally)
    kept.keep(where or {})
    kept.within(start, end)
    by = orders.chosen(tally, order, kept.fixed, ranged=start is not None or end is not None)
    digest = json.dumps([tally.name, kept.sql, kept.values, [str(b) for b in by.by]], default=str)
    after = None if cursor is None else by.checked(cursors.decode(cursor, digest))
    names = _wanted(tally, columns)
    asked = _Question(tally, where or {}, start, end, by, names, limit, after)
    with in_utc(connection):
        if not by.is_cheap:
            _require_few(connection, asked)
        to = _end_of_page(connection, asked) if by.is_of_key else None
        found = _rows(connection, asked, to)
    page = found[:limit]
    last = tuple(page[-1][len(names) :]) if len(found) > limit else to
    return Rows(
        [dict(zip(names, row[: len(names)], strict=True)) for row in page],
        None if last is None else cursors.encode(last, digest),
        [str(each) for each in by.by],
        {name: tally.table.c[name] for name in names},
    )


def readable(tally: Tally) -> list[str]:
    """The columns that a tally's rows have: key, measures, and what is computed from these."""
    return [*tally.columns, *formulas(tally)]


def _wanted(tally: Tally, columns: Collection[str] | None) -> tuple[str, ...]:
    known = readable(tally)
    for name in columns or ():
        if name not in known:
            raise ValueError(
                f"Expected columns of {tally.name}, of {', '.join(known)}, but there is"
                f" {name!r}{nearest(name, known)}."
            )
    return tuple(dict.fromkeys(known if columns is None else columns))


def _require_few(connection: Connection, asked: _Question) -> None:
    """Raise ValueError where an order takes a sort of too many rows."""
    conditions = asked.conditions()
    rows = f"SELECT FROM {sql.name_of(asked.tally.table)} AS v{_where(conditions.sql)}"
    query = f"SELECT count(*) FROM ({rows} LIMIT {MOST_SORTED + 1}) AS v"
    ((count,),) = conditions.read(connection, query)
    if count > MOST_SORTED:
        cheap = orders.cheap_orders(asked.tally, conditions.fixed)
        raise ValueError(
            f"Expected an order that an index has ({'; '.join(cheap)}; or all of it descending),"
            f" or filters that leave at most {MOST_SORTED:,} rows to sort by"
            f" {', '.join(str(each) for each in asked.order.by)}; there are more."
        )


def _end_of_page(connection: Connection, asked: _Question) -> Place | None:
    """The place of the row behind the page, by the derived table alone; None: there is none.

    Rows up to there may be pending deletion, and others be pending that the table lacks: in the
    live view there are about as many up to that place as are asked for.
    """
    by = asked.order.by
    if not by:
        return None
    conditions = asked.conditions()
    columns = ", ".join(each.column for each in by)
    table = sql.name_of(asked.tally.table)
    parts = [
        f"(SELECT {columns} FROM {table} AS v{_where([*conditions.sql, *arm])}"
        f"{asked.order.sql} LIMIT {asked.limit + 1})"
        for arm in asked.order.between(conditions, asked.after, None)
    ]
    query = (
        f"SELECT {', '.join(_places(asked))} FROM ({' UNION ALL '.join(parts)}) AS v"
        f"{asked.order.sql} OFFSET {asked.limit} LIMIT 1"
    )
    found = conditions.read(connection, query) if parts else []
    return tuple(found[0]) if found else None


def _rows(connection: Connection, asked: _Question, to: Place | None) -> list[Any]:
    """The rows of the page, and one more where there are more; each with its place behind it."""
    tally, conditions = asked.tally, asked.conditions()
    arms = asked.order.between(conditions, asked.after, to)
    either = " OR ".join(f"({' AND '.join(arm) or 'true'})" for arm in arms) or "false"
    kept = [*conditions.sql, *asked.order.span(conditions, asked.after, to), f"({either})"]
    relation = tally.looked_up(conditions.listed) or tally.live_name
    rows = f"SELECT * FROM {relation} AS v{_where(kept)}{asked.order.sql} LIMIT {asked.limit + 1}"
    computed = formulas(tally)
    values = [
        shown(tally.table.c[n], f"({computed.get(n, f'v.{sql.quote(n)}')})", _form(tally, n))
        for n in asked.shown
    ]
    shown_sql = ", ".join([*values, *_places(asked)])
    return conditions.read(connection, f"SELECT {shown_sql} FROM ({rows}) AS v{asked.order.sql}")


def _places(asked: _Question) -> list[str]:
    """The values by which a row is ordered, as texts that lose nothing."""
    found = []
    for each in asked.order.by:
        column = asked.tally.table.c[each.name]
        # A derived table that was adopted may have times without zone.
        value = f"CAST({each.column} AS {sql.type_name(sql.lasting_type(column))})"
        is_time = isinstance(column.type, (DateTime, Date))
        found.append(shown(column, value) if is_time else f"CAST({value} AS text)")
    return found


def _form(tally: Tally, name: str) -> str:
    time = tally.time_key
    if time is None or time.column != name:
        return INSTANT
    return DAY if (time.unit, time.zone) == ("day", "UTC") else HOUR


def _where(conditions: Sequence[str]) -> str:
    return f" WHERE {' AND '.join(conditions)}" if conditions else ""
