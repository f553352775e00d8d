"""How all keys of a tally are cut into stretches that can be compared one after the other.

Stretches follow one key column, the *axis*: the window's column, or for a tally without windows
one that heads an index. Where a stretch ends is found by walking the derived table. Where its keys
are missing, it is found by walking a source that has an index for that.
Invariant: the stretches of a round cover every key there can be, once. The first has no beginning
and the last no end, and the last has the nulls too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, literal_column, or_
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql import visitors
from sqlalchemy.sql.elements import ColumnElement

from tallykeeper.database import sql
from tallykeeper.database.sql_files import sql_file
from tallykeeper.database.sqlstates import DATA_EXCEPTION, sqlstate_of
from tallykeeper.declarations.tally import Everything, KeyFilter, Tally, reaching
from tallykeeper.declarations.windows import Unit

FIRST_ROWS = 100_000
FEWEST_ROWS = 1_000
MOST_ROWS = 2_000_000
# Both sides of a comparison are sorted or hashed on disk: a gigabyte of temporary files at most.
MOST_BYTES = 128 * 1024**2
LEAST_WIDTH = 64
# A stretch for whose keys a source has so many times more rows than usual may miss keys.
UNUSUAL = 4
# A column of fewer values than this makes stretches that cannot be cut further.
FEW_VALUES = 20
TARGET_SECONDS = 5.0
# What the next stretch may differ by from the last.
MOST_GROWTH = 4.0
MOST_SHRINKING = 20.0
# The class of SQLSTATE of a value that is none of a type.
# Where Python's dates end, stretches do not: these are at the first and last that have a date.
FIRST_INSTANT = "0001-01-01T00:00:00Z"
LAST_INSTANT = "9999-12-31T00:00:00Z"

_COLUMNS = sql_file(__name__, "stretches")


@dataclass(frozen=True)
class Axis:
    """The key column that stretches follow. `unit` is the window's, where it is one's column."""

    column: str
    type: str
    collation: str | None
    unit: str | None = None

    @property
    def name(self) -> str:
        """The column with its type and collation: a position is good for no other axis."""
        return f"{self.column} {self.type} {self.collation or ''}".rstrip()

    def ordered(self, expression: str) -> str:
        """The expression in the order of the axis, whatever collation it has by itself."""
        return f"({expression}) COLLATE {self.collation}" if self.collation else expression

    def value(self, position: str) -> str:
        """SQL for a position."""
        return f"{sql.literal(position)}::{self.type}"


@dataclass(frozen=True)
class KeyRange(KeyFilter):
    """The keys of one stretch: up to and including `upto` after `after`; None is an open end.

    Along windows it is the other end that is included, as everywhere. The last has the nulls.
    """

    axis: Axis
    after: str | None
    upto: str | None

    def condition(self, tally: Tally, alias: str) -> str:
        return self.of(f"{alias}.{sql.quote(self.axis.column)}")

    def __call__(self, **expressions: ColumnElement[Any]) -> list[ColumnElement[bool]]:
        value = expressions.get(self.axis.column)
        if value is None:
            return []
        rendered = sql.render(value)
        conditions: list[ColumnElement[bool]] = []
        above, below = (">=", "<") if self.axis.unit else (">", "<=")
        ordered: ColumnElement[Any] = literal_column(self.axis.ordered(rendered))
        if self.after is not None:
            conditions.append(ordered.op(above, is_comparison=True)(self._bound(self.after)))
        if self.upto is not None:
            conditions.append(ordered.op(below, is_comparison=True)(self._bound(self.upto)))
        elif conditions:
            conditions = [or_(*conditions, value.is_(None))]
        return conditions

    def of(self, value: str) -> str:
        """The condition in SQL, for an expression that is the axis."""
        above, below = (">=", "<") if self.axis.unit else (">", "<=")
        ordered = self.axis.ordered(value)
        conditions = []
        if self.after is not None:
            conditions.append(f"{ordered} {above} {self.axis.value(self.after)}")
        if self.upto is not None:
            conditions.append(f"{ordered} {below} {self.axis.value(self.upto)}")
        elif conditions:
            conditions = [f"({conditions[0]} OR {value} IS NULL)"]
        return " AND ".join(conditions) or "true"

    def span(self, tally: Tally, unit: Unit, instant: str) -> str | None:
        if tally.time_key is None or self.axis.column != tally.time_key.column:
            return None
        after, upto = (
            self.axis.value(each) if each is not None else None for each in (self.after, self.upto)
        )
        return reaching(unit, instant, after, upto, with_nulls=upto is None)

    def _bound(self, position: str) -> ColumnElement[Any]:
        return literal_column(self.axis.value(position))


@dataclass(frozen=True)
class Stretch:
    """One stretch: its keys, where it ends (None: at the end of all), and the axis it follows."""

    scope: KeyFilter
    axis: Axis
    after: str | None
    upto: str | None

    @property
    def in_words(self) -> str:
        """Which keys it has: `all keys`, `date from 2024-01-01 to 2024-03-01`."""
        if self.after is None and self.upto is None:
            return "all keys"
        words = [self.axis.column]
        if self.after is not None:
            words.append(f"{'from' if self.axis.unit else 'after'} {_short(self.axis, self.after)}")
        if self.upto is not None:
            words.append(f"{'before' if self.axis.unit else 'to'} {_short(self.axis, self.upto)}")
        else:
            words.append("to the end")
        return " ".join(words)


@dataclass(frozen=True)
class Size:
    """How many rows a stretch is to have, and what any stretch takes however few it has.

    `last_rows` and `last_seconds` are of the stretch before.
    """

    rows: int = FIRST_ROWS
    fixed_seconds: float = 0.0
    last_rows: int | None = None
    last_seconds: float | None = None

    def after(self, seconds: float, at_end: bool) -> Size:
        """The size of the next stretch, where one of this size took so long.

        Where stretches of very different size take about as long (a source without an index has to
        be read whole for each), fewer and larger ones are cheaper. The last of a round may be
        short, so it lets none grow.
        """
        fixed = min(self.fixed_seconds, seconds)
        if self.last_rows and self.last_seconds and not at_end:
            more = self.rows - self.last_rows
            if abs(more) * 3 > self.rows:
                per_row = max(0.0, (seconds - self.last_seconds) / more)
                fixed = max(0.0, seconds - per_row * self.rows)
        target = max(TARGET_SECONDS, 2 * fixed)
        factor = (target - fixed) / max(seconds - fixed, 0.001)
        factor = min(max(factor, 1 / MOST_SHRINKING), 1.0 if at_end else MOST_GROWTH)
        rows = min(max(round(self.rows * factor), FEWEST_ROWS), MOST_ROWS)
        return Size(rows, fixed, self.rows, seconds)


def axis_of(connection: Connection, tally: Tally, before: str | None = None) -> Axis:
    """The axis of the tally's stretches; the one that `before` names, as long as it can be."""
    names = [tally.time_key.column] if tally.time_key is not None else list(tally.group)
    relation = sql.name_of(tally.table)
    rows = connection.exec_driver_sql(_COLUMNS, (relation, names, names)).all()
    # Stretches end with a day in UTC, whatever the windows are: any moment would do.
    unit = None if tally.time_key is None else "hour" if tally.time_key.unit == "hour" else "day"
    kind = "timestamp with time zone"
    axes = [
        (Axis(r.name, kind if unit else r.type, None if unit else r.collation, unit), r)
        for r in rows
    ]
    for axis, _ in axes:
        if axis.name == before:
            return axis
    return max(axes, key=lambda each: _fitness(each[1]))[0]


def next_stretch(
    connection: Connection, tally: Tally, axis: Axis, after: str | None, rows: int
) -> Stretch:
    """The stretch after the position, with about as many rows of the derived table at most.

    A single value of the axis is never cut. Run in the snapshot that the stretch is compared in.
    """
    upto = _end(connection, tally, axis, after, min(rows, _most_rows(connection, tally)))
    whole = after is None and upto is None
    return Stretch(Everything() if whole else KeyRange(axis, after, upto), axis, after, upto)


def _fitness(row: Any) -> tuple[bool, float]:
    few = 0 < row.distinct_values < FEW_VALUES
    return (row.heads and not few, min(row.distinct_values, 1e6) if few or row.heads else 0)


def _most_rows(connection: Connection, tally: Tally) -> int:
    """How many rows of the derived table may be compared at once, by their width on disk."""
    found = sql.execute(
        connection,
        "SELECT sum(pg_table_size(c.oid)) AS bytes, sum(greatest(c.reltuples, 0)) AS rows"
        " FROM pg_class AS c WHERE c.oid IN"
        f" (SELECT relid FROM pg_partition_tree({sql.literal(sql.name_of(tally.table))}::regclass)"
        f" UNION SELECT {sql.literal(sql.name_of(tally.table))}::regclass)",
    ).one()
    width = float(found.bytes or 0) / found.rows if found.rows else 0.0
    return max(FEWEST_ROWS, int(MOST_BYTES / max(width, LEAST_WIDTH)))


def _end(
    connection: Connection, tally: Tally, axis: Axis, after: str | None, rows: int
) -> str | None:
    """Where the stretch ends; None: nowhere.

    At the end that a walk along the derived table finds. Only where a source seems to have far
    more rows up to there than usual, so that keys may be missing, it is walked along too.
    """
    # Settings too end with the savepoint. An index is worth more here than the planner thinks.
    savepoint = connection.begin_nested()
    try:
        sql.execute(connection, "SET LOCAL enable_sort = off")
        sql.execute(connection, "SET LOCAL enable_seqscan = off")
        walks = [_walk(axis, tally.table, sql.quote(axis.column), after, rows)]
        upto = _nearest(connection, axis, walks)
        for source, value in _source_values(tally, axis):
            most = _most_source_rows(connection, tally, source, rows)
            if _estimated(connection, KeyRange(axis, after, upto), source, value) > most:
                walk = _walk(axis, source, value, after, most)
                walks += [walk] if _finds_by_index(connection, walk) else []
        return upto if len(walks) == 1 else _nearest(connection, axis, walks)
    finally:
        savepoint.rollback()


def _nearest(connection: Connection, axis: Axis, walks: list[str]) -> str | None:
    """The position at the nearest of the values that were walked to."""
    ends = f"SELECT value FROM ({' UNION ALL '.join(walks)}) AS ends"
    nearest = f"{ends} ORDER BY {axis.ordered('value')} LIMIT 1"
    found = sql.execute(connection, f"SELECT {_position(axis)} FROM ({nearest}) AS e").scalar()
    return None if found is None else str(found)


def _most_source_rows(connection: Connection, tally: Tally, source: Table, rows: int) -> int:
    """How many rows of the source a stretch of so many rows may have: some times as usual."""
    of_source, of_tally = connection.exec_driver_sql(
        "SELECT (SELECT sum(greatest(c.reltuples, 0)) FROM pg_class AS c WHERE c.oid = %s::regclass"
        " OR c.oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = %s::regclass)),"
        f" (SELECT s.rows FROM {sql.ENGINE_SCHEMA}.tally_state AS s WHERE s.tally = %s)",
        (sql.name_of(source), sql.name_of(source), tally.name),
    ).one()
    usual = float(of_source or 0) / of_tally if of_tally else 1.0
    return max(FEWEST_ROWS, int(rows * UNUSUAL * usual))


def _estimated(connection: Connection, scope: KeyRange, source: Table, value: str) -> float:
    """How many rows of the source the planner expects in the range."""
    query = f"SELECT FROM {sql.name_of(source)} WHERE {scope.of(value)}"
    plan = sql.execute(connection, f"EXPLAIN (FORMAT JSON) {query}").scalar_one()
    return float(plan[0]["Plan"]["Plan Rows"])


def _walk(axis: Axis, table: Table, value: str, after: str | None, rows: int) -> str:
    """SQL for the value of the axis that lies so many rows of the table behind the position."""
    ordered = axis.ordered(value)
    onward = "true"
    if after is not None:
        onward = f"{ordered} {'>=' if axis.unit else '>'} {axis.value(after)}"
    return (
        f"(SELECT ({value})::{axis.type} AS value FROM {sql.name_of(table)}"
        f" WHERE {onward} AND ({value}) IS NOT NULL ORDER BY {ordered} OFFSET {rows:d} LIMIT 1)"
    )


def _position(axis: Axis) -> str:
    """SQL for a stretch's end as text, from the value `e.value` that was walked to.

    The end of a window: what a stray row may say of a time within one cuts no window in two.
    """
    if axis.unit is None:
        return "e.value::text"
    first, last = (f"'{at}'::timestamptz" for at in (FIRST_INSTANT, LAST_INSTANT))
    end = f"date_trunc('{axis.unit}', e.value, 'UTC') + interval '1 {axis.unit}'"
    form = '\'YYYY-MM-DD"T"HH24:MI:SS"Z"\''
    return (
        f"CASE WHEN e.value < {first} THEN '{FIRST_INSTANT}' WHEN e.value < {last}"
        f" THEN to_char(({end}) AT TIME ZONE 'UTC', {form})"
        " END"
    )


def _finds_by_index(connection: Connection, walk: str) -> bool:
    """Whether the walk reads no more than it has to, and each value it passes can be a key."""
    inner = connection.begin_nested()
    try:
        plan = list(sql.execute(connection, f"EXPLAIN {walk}").scalars())
        if any("Sort" in line or "Seq Scan" in line for line in plan):
            return False
        sql.execute(connection, walk)
    except DBAPIError as error:
        if not sqlstate_of(error).startswith(DATA_EXCEPTION):
            raise
        return False
    else:
        return True
    finally:
        inner.rollback()


class _Asked(KeyFilter):
    """A scope that restricts nothing, and remembers what the axis is in each source."""

    def __init__(self, column: str) -> None:
        self.column = column
        self.found: list[ColumnElement[Any]] = []

    def condition(self, tally: Tally, alias: str) -> str:
        return "true"

    def __call__(self, **expressions: ColumnElement[Any]) -> list[ColumnElement[bool]]:
        if self.column in expressions:
            self.found.append(expressions[self.column])
        return []


def _source_values(tally: Tally, axis: Axis) -> list[tuple[Table, str]]:
    """SQL for the values that the axis may have by each source that says it alone."""
    asked = _Asked(axis.column)
    tally.aggregate(asked)
    found: dict[str, tuple[Table, str]] = {}
    for expression in asked.found:
        tables = {getattr(e, "table", None) for e in visitors.iterate(expression)} - {None}
        table = tables.pop() if len(tables) == 1 else None
        if isinstance(table, Table):
            value = sql.render(expression)
            found.setdefault(value, (table, value))
    if axis.unit:
        found |= {value: (table, value) for table, value in tally.instants()}
    return list(found.values())


def _short(axis: Axis, position: str) -> str:
    if axis.unit is None:
        return position
    day, time = position[:10], position[11:16]
    return day if time == "00:00" else f"{day} {time} UTC"
