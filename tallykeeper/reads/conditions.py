"""What a question of a tally's rows keeps: values of columns, and a range of the time column.

`Conditions` turns both into SQL over an alias `v` of the live view or of the derived table, with
every value as a parameter. Times are UTC. How values are shown is here too, so that what one read
shows can be asked of any other. No query is made here. Invariants: no value becomes SQL text; and
what a value means depends neither on the session nor on the day.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Connection,
    Date,
    DateTime,
    Integer,
    Numeric,
    String,
    Uuid,
)
from sqlalchemy.exc import DBAPIError

from tallykeeper import Tally
from tallykeeper.database import sql
from tallykeeper.database.sqlstates import (
    CHARACTER_NOT_IN_REPERTOIRE,
    DATETIME_FIELD_OVERFLOW,
    INVALID_DATETIME_FORMAT,
    INVALID_TEXT_REPRESENTATION,
    NUMERIC_VALUE_OUT_OF_RANGE,
    sqlstate_of,
)
from tallykeeper.declarations.validation import nearest
from tallykeeper.declarations.windows import DAYS, Windows
from tallykeeper.input.loading import parse_time, text_fault
from tallykeeper.reads.keys import INFINITE, value_of
from tallykeeper.reads.live_reads import read

END = datetime.max.replace(tzinfo=UTC)
"""The end of all days."""

INSTANT = 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'
DAY, HOUR = "YYYY-MM-DD", 'YYYY-MM-DD"T"HH24:MI:SS"Z"'
# What Python's dates can hold.
FIRST, LAST = "timestamptz '0001-01-01Z'", "timestamptz '9999-12-31 23:59:59Z'"
# What PostgreSQL says of a value that its column's type cannot have.
_BAD_VALUE = {
    INVALID_TEXT_REPRESENTATION,
    INVALID_DATETIME_FORMAT,
    DATETIME_FIELD_OVERFLOW,
    NUMERIC_VALUE_OUT_OF_RANGE,
    CHARACTER_NOT_IN_REPERTOIRE,
}
_SHOWN_AS_THEY_ARE = (Integer, Numeric, Boolean, String, Uuid, JSON)
MOST_VALUES = 1_000


class Conditions:
    """Conditions on rows of a tally, and their values by the names of the parameters."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self.sql: list[str] = []
        self.values: dict[str, Any] = {}
        self.fixed: set[str] = set()
        """The columns that can have one value alone."""
        self.listed: dict[str, list[str]] = {}
        """The values of columns that are compared with nothing else, as SQL."""

    def keep(self, where: Mapping[str, Any]) -> None:
        """Keep rows with these values by column: one, a list of some, None for null.

        Raises ValueError.
        """
        known = filterable(self._tally)
        for name, given in where.items():
            if name not in known:
                raise ValueError(
                    f"Expected columns of {self._tally.name} to look for, of {', '.join(known)},"
                    f" but there is {name!r}{nearest(name, known)}."
                )
            self._keep(name, list(given) if isinstance(given, (list, tuple, set)) else [given])

    def within(self, start: date | None, end: date | None) -> None:
        """Keep rows of the time column from `start` up to `end`, not included.

        A date is the day in the time zone of the column. Raises ValueError.
        """
        at = self._tally.time_key
        days = Windows("day", at.zone) if at is not None else DAYS
        first, last = _moment(start, days), _moment(end, days)
        for name, bound, sign in (("start", first, ">="), ("end", last, "<")):
            if bound is None:
                continue
            if at is None:
                raise ValueError(
                    f"Expected no {name}, for {self._tally.name} has no days; leave it out."
                )
            if at.unit == "day" and bound != END and days.why_no_bound(bound):
                raise ValueError(
                    f"Expected a day as {name}, for {at.column} is a {days}, but it is"
                    f" {bound.isoformat()}."
                )
            zoned = getattr(self._tally.table.c[at.column].type, "timezone", False)
            local = bound if zoned or bound == END else bound.astimezone(days.tzinfo)
            value = self.parameter(local if zoned else local.replace(tzinfo=None))
            self.sql.append(f"v.{sql.quote(at.column)} {sign} {value}")
        if first is not None and last is not None and first > last:
            raise ValueError(
                f"Expected a start that is not after the end, but {first.isoformat()} is after"
                f" {last.isoformat()}; exchange the two."
            )

    def parameter(self, value: Any) -> str:
        """The SQL that stands for the value; `read` makes it a parameter."""
        name = f"p{len(self.values)}"
        self.values[name] = value
        return f"\0{name}\0"

    def compared(self, name: str, value: str) -> str:
        """The SQL that stands for a column's value, given as text."""
        # A cast to `varchar(n)` would cut it silently.
        kind = sql.type_name(sql.lasting_type(self._tally.table.c[name]))
        return f"CAST(CAST({self.parameter(value)} AS text) AS {kind})"

    def read(self, connection: Connection, query: str) -> list[Any]:
        """All rows of a query of the tally's live view that has these parameters.

        Raises ValueError for a value that its column cannot have, NotInstalled.
        """
        filled = re.sub("\0(\\w+)\0", r"%(\1)s", query.replace("%", "%%"))
        try:
            view = f"the view {self._tally.live_name}"
            return read(connection, filled, view, self.values)
        except DBAPIError as error:
            if sqlstate_of(error) not in _BAD_VALUE:
                raise
            said = str(error.orig).splitlines()[0]
            raise ValueError(f"Expected values that the columns can have: {said}.") from error

    def _keep(self, name: str, given: list[Any]) -> None:
        column = f"v.{sql.quote(name)}"
        if len(given) > MOST_VALUES:
            raise ValueError(f"Expected at most {MOST_VALUES:,} values of {name}; ask in parts.")
        if len(given) == 1:
            self.fixed.add(name)
        values = [self._value(name, each) for each in given if each is not None]
        either = [f"{column} IS NULL"] if None in given else []
        if values and not either:
            self.listed[name] = values
        if len(values) == 1:
            either.append(f"{column} = {values[0]}")
        elif values:
            either.append(f"{column} IN ({', '.join(values)})")
        self.sql.append(f"({' OR '.join(either)})" if either else "false")

    def _value(self, name: str, given: Any) -> str:
        type_ = self._tally.table.c[name].type
        if isinstance(type_, DateTime) and str(given) not in INFINITE:
            # PostgreSQL would read it in the session's zone, and `today` each day anew.
            moment = _moment(given) if isinstance(given, date) else _moment_named(name, str(given))
            return self.parameter(moment if type_.timezone else moment.replace(tzinfo=None))
        written = str(given)
        fault = text_fault(written)
        if fault:
            raise ValueError(f"Expected a value of {name} that PostgreSQL can hold; it {fault}.")
        try:
            value_of(self._tally.table.c[name], written)
        except ValueError as error:
            raise ValueError(f"Expected values that the columns can have, but {error}.") from None
        return self.compared(name, written)


def filterable(tally: Tally) -> list[str]:
    """The columns whose values rows can be looked for by: the key, and attributes."""
    return [*tally.key, *(n for n, c in tally.combine.items() if c.how == "attribute")]


def formulas(tally: Tally) -> dict[str, str]:
    """The columns that the derived table itself computes from measures, and how."""
    return {
        c.name: str(c.computed.sqltext)
        for c in tally.table.c
        if c.computed is not None and c.name not in tally.columns
    }


def shown(column: Column[Any], expression: str, form: str = INSTANT) -> str:
    """A column's value in a form that JSON has, and that loses nothing: times are texts in UTC."""
    if isinstance(column.type, DateTime):
        return written(expression, form)
    if isinstance(column.type, Date):
        return written(f"CAST({expression} AS timestamp) AT TIME ZONE 'UTC'", DAY)
    if isinstance(column.type, _SHOWN_AS_THEY_ARE):
        return expression
    return f"to_jsonb({expression})"


def written(moment: str, form: str, zone: str = "UTC") -> str:
    """A time as text, as it may lie before the year 1, after 9999, or at infinity."""
    said = f"to_char({moment} AT TIME ZONE {sql.literal(zone)}, '{form}')"
    return (
        f"CASE WHEN NOT isfinite({moment}) THEN ({moment})::text"
        f" WHEN {moment} < {FIRST} THEN {said} || ' BC' ELSE {said} END"
    )


def _moment_named(name: str, given: str) -> datetime:
    try:
        return parse_time(given.removesuffix("Z"))
    except ValueError as error:
        raise ValueError(f"Expected a time in {name}: {error}.") from error


def _moment(given: date | None, days: Windows = DAYS) -> Any:
    if given is None:
        return None
    if not isinstance(given, datetime):
        return days.start_of_day(given)
    return given if given.tzinfo is not None else given.replace(tzinfo=UTC)
