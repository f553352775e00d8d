"""The rows of any tally by fewer columns than its key has, exact as of the last commit.

`grouped(connection, hourly_stats, ["instance_id", "hour:week"])` answers from the live view. What
adds up is added up, the latest of latest moments counts, and averages are computed from the
group's own sums by the derived table's formula. Invariant: what does not follow from the rows, such
as distinct counts and percentiles, is never answered for several of them together.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import Column, Connection, Date, DateTime, Integer

from tallykeeper import Tally
from tallykeeper.database import sql
from tallykeeper.declarations.combining import Membership
from tallykeeper.declarations.validation import nearest
from tallykeeper.declarations.windows import UNITS, Unit
from tallykeeper.reads.conditions import (
    DAY,
    END,
    FIRST,
    HOUR,
    INSTANT,
    LAST,
    Conditions,
    filterable,
    written,
)
from tallykeeper.reads.conditions import formulas as all_formulas

ROWS = "rows"
"""How many rows of the tally are in a group; not there where a column has that name."""

PERIODS = ("week", "month", "year")
MOST_GROUPS = 100_000
_FORMS = dict.fromkeys(UNITS, DAY) | {"hour": HOUR}
_LARGEST = 2**63 - 1


@dataclass(frozen=True)
class Groups:
    """Groups in the order of their columns, each a dict; `more`: there are more than asked for.

    `left_out` says of each measure that was not asked for, and has no value for a group, why.
    """

    groups: list[dict[str, Any]]
    more: bool
    left_out: dict[str, str]


@dataclass(frozen=True)
class _By:
    """A column by which rows are put together; of a time, the unit and zone that it is cut to."""

    column: Column[Any]
    unit: Unit | None = None
    members: Membership | None = None
    zone: str = "UTC"

    @property
    def name(self) -> str:
        """As it is asked for; where it is in an application's table, that may call it otherwise."""
        return str(self.column.key)

    def expression(self) -> str:
        if self.members is not None:
            return f"{self.join_name}.{sql.quote(self.column.name)}"
        at = f"v.{sql.quote(self.column.name)}"
        if self.unit is None:
            return at
        if isinstance(self.column.type, Date):
            return f"CAST(date_trunc('{self.unit}', CAST({at} AS timestamp)) AS date)"
        if not getattr(self.column.type, "timezone", False):
            return f"date_trunc('{self.unit}', {at})"
        return f"date_trunc('{self.unit}', {at}, {sql.literal(self.zone)})"

    @property
    def join_name(self) -> str:
        return sql.quote(f"of_{self.name}")

    def join(self) -> str:
        """What brings the column in, where it is in another table: each pair once."""
        if self.members is None:
            return ""
        on, to = self.members.table.c[self.members.on].name, sql.quote(self.column.name)
        pairs = f"SELECT DISTINCT {sql.quote(on)}, {to} FROM {sql.name_of(self.members.table)}"
        return (
            f" JOIN ({pairs}) AS {self.join_name}"
            f" ON {self.join_name}.{sql.quote(on)} = v.{sql.quote(self.members.on)}"
        )

    def shown(self) -> str:
        name = f"g.{sql.quote(self.name)}"
        if not isinstance(self.column.type, DateTime):
            return name
        if not self.column.type.timezone:
            return written(f"({name} AT TIME ZONE 'UTC')", _FORMS[self.unit or "hour"])
        if self.unit is None or self.unit == "hour":
            return written(name, _FORMS[self.unit] if self.unit else INSTANT)
        return written(name, _FORMS[self.unit], self.zone)


def grouped(
    connection: Connection,
    tally: Tally,
    by: Sequence[str] = (),
    *,
    measures: Collection[str] | None = None,
    where: Mapping[str, Any] | None = None,
    start: date | None = None,
    end: date | None = None,
    limit: int = 10_000,
) -> Groups:
    """The tally's rows put together by the columns `by`: some of its key, or attributes; none: all.

    Where rows belong to groups by another table (`tally.memberships`), `by` may name these: a row
    that is in several counts in each. A time is cut to a unit by `hour:week` (hour, day, week from
    its Monday, month, quarter, year; in the time zone of the tally's windows, else UTC), and named
    by its first day or hour. `where` keeps rows with these
    values, `start` and `end` those of the time key's column from the one up to the other, not
    included. `measures` are those wanted; without them all that have a value for a group, and
    `rows`.

    Raises ValueError for a column that there is not and for a measure that has no value for several
    rows together, NotInstalled where there is no live view.
    """
    tally.bind(connection)
    columns = [_by(tally, each) for each in by]
    if len({each.name for each in columns}) < len(columns):
        raise ValueError(f"Expected each column once in {', '.join(by)}; leave one out.")
    if not 1 <= limit <= MOST_GROUPS:
        raise ValueError(f"Expected a limit within 1 to {MOST_GROUPS:,}, but it is {limit}.")
    values, formulas, left_out = _values(tally, columns)
    shown = [*values, *formulas] if measures is None else list(measures)
    _require_values(tally, shown, left_out)
    conditions = Conditions(tally)
    conditions.keep(where or {})
    conditions.within(start, end)
    totals = [n for n in tally.totals() if n not in {c.name for c in columns}]
    kept = conditions.sql
    kept += [f"v.{sql.quote(n)} IS NULL" for n in totals if n not in (where or {})]
    query = _query(tally, columns, values, formulas, shown, kept, limit)
    found = conditions.read(connection, query)
    whole = {n for n, c in tally.table.c.items() if isinstance(c.type, Integer)} | {ROWS}
    rows = [
        {name: _plain(value, name in whole) for name, value in zip(row._fields, row, strict=True)}
        for row in found[:limit]
    ]
    return Groups(rows, len(found) > limit, left_out if measures is None else {})


def after(day: datetime) -> datetime:
    """The midnight after, as the end of a span that includes `day`; of the last day, its end."""
    return END if day.date() == END.date() else day + timedelta(days=1)


def groupable(tally: Tally) -> list[str]:
    """The columns that a tally's rows can be put together by."""
    return [*filterable(tally), *tally.memberships]


def _by(tally: Tally, given: str) -> _By:
    name, colon, unit = given.partition(":")
    known = groupable(tally)
    if name not in known:
        raise ValueError(
            f"Expected columns of {tally.name} to group by, of {', '.join(known)}, but there is"
            f" {name!r}{nearest(name, known)}."
        )
    if name in tally.memberships:
        members = tally.memberships[name]
        column, by = members.table.c[name], _By(members.table.c[name], None, members)
    else:
        column = tally.table.c[name]
        by = _By(column)
    if not colon:
        return by
    at = tally.time_key if tally.time_key and tally.time_key.column == name else None
    is_day = isinstance(column.type, Date)
    finest = at.unit if at is not None else "day" if is_day else UNITS[0]
    units = UNITS[UNITS.index("day" if is_day and finest == "hour" else finest) :]
    if not isinstance(column.type, (Date, DateTime)):
        raise ValueError(f"Expected {name} without a unit, for it is no time; leave out {unit!r}.")
    known_unit = next((each for each in units if each == unit), None)
    if known_unit is None:
        raise ValueError(
            f"Expected a unit of {name}, of {', '.join(units)}, but there is {unit!r}"
            f"{nearest(unit, units)}."
        )
    return _By(column, known_unit, zone=at.zone if at is not None else "UTC")


def _values(
    tally: Tally, by: Sequence[_By]
) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """The SQL of each value of a group; of each that follows from others; why others have none."""
    single = _is_whole_key(tally, by)
    grouping = {each.name for each in by}
    values: dict[str, str] = {}
    formulas: dict[str, str] = {}
    left_out: dict[str, str] = {}
    for name in (n for n in tally.measures if n not in grouping):
        why = "" if single else _why_not(tally, name, grouping)
        column = f"v.{sql.quote(name)}"
        if why:
            left_out[name] = why
        else:
            values[name] = column if single else f"{tally.combine[name].how}({column})"
    if ROWS not in tally.table.c:
        values[ROWS] = "1" if single else "count(*)"
    for name, formula in all_formulas(tally).items():
        used = [n for n in tally.measures if re.search(rf"\b{re.escape(n)}\b", formula)]
        lacking = [n for n in used if n in left_out]
        if lacking:
            left_out[name] = f"it is computed from {lacking[0]}, and {left_out[lacking[0]]}"
        else:
            formulas[name] = formula
    return values, formulas, left_out


def _is_whole_key(tally: Tally, by: Sequence[_By]) -> bool:
    """Whether each group is one row."""
    uncut = {each.name for each in by if each.unit in (None, _unit_of(tally, each))}
    return set(tally.key) <= uncut


def _unit_of(tally: Tally, by: _By) -> str | None:
    time_key = tally.time_key
    return time_key.unit if time_key is not None and time_key.column == by.name else None


def _why_not(tally: Tally, measure: str, grouping: Collection[str]) -> str:
    """Why the measure has no value for several rows together; empty where it has one."""
    combine = tally.combine.get(measure)
    if combine is None or combine.how == "attribute":
        return (
            "it does not follow from the rows' (as distinct counts, percentiles and texts do not);"
            f" group by {', '.join(tally.key)} for it"
        )
    apart = sorted(combine.each - set(grouping))
    if apart:
        return f"what it counts may count in several rows; group by {', '.join(apart)} too for it"
    return ""


def _require_values(tally: Tally, wanted: Collection[str], left_out: Mapping[str, str]) -> None:
    known = [*tally.measures, *all_formulas(tally), *([] if ROWS in tally.table.c else [ROWS])]
    for name in wanted:
        if name in left_out:
            raise ValueError(f"{tally.name} has no {name} of these groups: {left_out[name]}.")
        if name not in known:
            raise ValueError(
                f"Expected measures of {tally.name}, of {', '.join(known)}, but there is"
                f" {name!r}{nearest(name, known)}."
            )


def _query(
    tally: Tally,
    by: Sequence[_By],
    values: Mapping[str, str],
    formulas: Mapping[str, str],
    shown: Sequence[str],
    conditions: Sequence[str],
    limit: int,
) -> str:
    names = [sql.quote(each.name) for each in by]
    inner = [f"{each.expression()} AS {n}" for each, n in zip(by, names, strict=True)]
    inner += [f"{value} AS {sql.quote(name)}" for name, value in values.items()]
    outer = [f"{each.shown()} AS {n}" for each, n in zip(by, names, strict=True)]
    outer += [f"{_shown(tally, name, formulas)} AS {sql.quote(name)}" for name in shown]
    rows = f"SELECT {', '.join(inner)} FROM {tally.live_name} AS v"
    rows += "".join(each.join() for each in by)
    if conditions:
        rows += f" WHERE {' AND '.join(conditions)}"
    if not _is_whole_key(tally, by) and by:
        rows += f" GROUP BY {', '.join(map(str, range(1, len(by) + 1)))}"
    order = f" ORDER BY {', '.join(f'g.{n}' for n in names)}" if by else ""
    # Of no row at all there is a group of nothing, unless rows are put together by something.
    return f"SELECT {', '.join(outer)} FROM ({rows}) AS g{order} LIMIT {limit + 1}"


def _shown(tally: Tally, name: str, formulas: Mapping[str, str]) -> str:
    if name in formulas:
        return formulas[name]
    column = f"g.{sql.quote(name)}"
    if name in tally.table.c and isinstance(tally.table.c[name].type, DateTime):
        # As Python's dates have it, which end sooner, whatever the session's time zone.
        within = f"timezone('UTC', least(greatest({column}, {FIRST}), {LAST}))"
        return f"CASE WHEN {column} IS NOT NULL THEN {within} END"
    if name in tally.table.c and isinstance(tally.table.c[name].type, Integer):
        return f"coalesce({column}, 0)"
    return column


def _plain(value: Any, whole: bool) -> Any:
    """Whole numbers as such, which PostgreSQL's sums of big ones are not; times in UTC."""
    if whole and isinstance(value, Decimal) and abs(value) <= _LARGEST:
        return int(value)
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) else value
