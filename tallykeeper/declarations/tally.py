"""What a tally is, apart from how it is kept.

A tally declares a derived table: which columns are its key, which its measures, and one plain
SELECT over its sources that says what the table must hold. The ways of keeping it are
`SelectTally` and `RecomputedTally`; both answer the questions that the abstract
methods here ask, and refresh, rebuild, verify and live views are written against those alone.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Literal

from sqlalchemy import (
    ClauseElement,
    Connection,
    DateTime,
    Index,
    MetaData,
    Select,
    Table,
    literal_column,
    select,
    tuple_,
)
from sqlalchemy import literal as bound
from sqlalchemy.sql import visitors
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.schema import Column, UniqueConstraint

from tallykeeper.database import sql
from tallykeeper.declarations import combining, validation
from tallykeeper.declarations.batches import Batches
from tallykeeper.declarations.combining import Combine, Membership
from tallykeeper.declarations.expression_risks import may_raise
from tallykeeper.declarations.windows import DAYS, Unit, Windows
from tallykeeper.errors import BadWindow, DeclarationError

Event = Literal["insert", "update", "delete"]

# Columns that a log has beside those of its tally.
LOGGED_AT = "logged_at"
PART = "part"
# Of columns that statements have beside them.
RESERVED_PREFIX = "tally_"
# No unit is longer, in any zone.
LONGEST: dict[Unit, str] = {
    "hour": "2 hours",
    "day": "2 days",
    "week": "9 days",
    "month": "33 days",
    "quarter": "95 days",
    "year": "369 days",
}
_FAR = "200000-01-01Z"

# The transition tables of a statement.
SIDES: dict[Event, tuple[str, ...]] = {
    "insert": ("new_rows",),
    "update": ("old_rows", "new_rows"),
    "delete": ("old_rows",),
}

# What a foreign key may do to the rows that refer to a row which changes or goes.
SETS = {"SET NULL", "SET DEFAULT"}
CHANGES = {"CASCADE", *SETS}

MAY_BE_NULL = {"may_be_null": True}
"""The `info` of a source's column that is made NOT NULL, and may be nullable in a table that is
adopted: the declarations over it are right with nulls."""

# Stands for a condition in the text of a SELECT; no name can have this character.
WHERE_FRESH = "\0fresh\0"


def may_be_null(column: Column[Any]) -> bool:
    """Whether a source's column may hold nulls, as it is declared or as it is adopted."""
    return bool(column.nullable) or column.info.get("may_be_null", False)


@dataclass(frozen=True)
class TimeKey:
    """The time column of a tally's key: the start of each `unit` in a time zone.

    `partitions` are the windows of rebuilds and of Dagster's partitions, where they are others than
    the unit's; those of hours are days.
    """

    column: str
    unit: Unit
    zone: str = "UTC"
    partitions: Windows | None = None

    @property
    def windows(self) -> Windows:
        """The half-open windows of rebuilds."""
        if self.partitions is not None:
            return self.partitions
        return Windows("day" if self.unit == "hour" else self.unit, self.zone)


def reaching(
    unit: Unit, instant: str, start: str | None, end: str | None, *, with_nulls: bool = False
) -> str | None:
    """A condition in SQL that keeps all instants of the units that begin from `start` to `end`.

    It keeps some later ones too; without bounds it is None.
    """
    conditions = []
    if start is not None:
        conditions.append(f"{instant} >= {start}")
    if end is not None:
        # What begins near the end of time has no end that could be computed.
        is_near = f"{end} < {sql.literal(_FAR)}::timestamptz"
        last = f"CASE WHEN {is_near} THEN {end} + interval '{LONGEST[unit]}' ELSE 'infinity' END"
        conditions.append(f"{instant} <= {last}")
    if conditions and with_nulls:
        return f"({' AND '.join(conditions)} OR {instant} IS NULL)"
    return " AND ".join(conditions) or None


class KeyFilter(ABC):
    """Which keys a tally's SELECT is asked for; an aggregate applies it to its own sources.

    Called with source expressions by key column, it returns conditions for WHERE. For the
    time key's column the expression is the *instant*, not the truncated one, so that an index on
    the instant serves. What an aggregate returns for other keys is dropped (`Tally.rows`).
    """

    @abstractmethod
    def condition(self, tally: Tally, alias: str) -> str:
        """The same in SQL, for rows that have the tally's own key columns."""

    @abstractmethod
    def __call__(self, **expressions: ColumnElement[Any]) -> list[ColumnElement[bool]]:
        """Conditions that keep the rows of this scope, and may keep others too."""

    def span(self, tally: Tally, unit: Unit, instant: str) -> str | None:
        """A condition on instants, SQL for which is given, that an index on them serves.

        Of an instant the tally's time column has the start of the `unit` that it lies in. Those of
        this scope are kept, and others may be too. None: it would keep all of them.
        """
        return None


class Everything(KeyFilter):
    """All keys there are."""

    def condition(self, tally: Tally, alias: str) -> str:
        return "true"

    def __call__(self, **expressions: ColumnElement[Any]) -> list[ColumnElement[bool]]:
        return []


@dataclass(frozen=True)
class Between(KeyFilter):
    """The keys from the start of a window up to that of another; None is an open end.

    Before the first there are also the nulls.
    """

    time_key: TimeKey
    start: datetime | None
    end: datetime | None

    def __post_init__(self) -> None:
        """Raise BadWindow where a bound is none of the windows', or the end not after the start."""
        for moment in (self.start, self.end):
            why = self.time_key.windows.why_no_bound(moment) if moment is not None else ""
            if why:
                raise BadWindow(f"{moment} {why}")
        if self.start is not None and self.end is not None and self.start >= self.end:
            first, last = (self.time_key.windows.label(at) for at in (self.start, self.end))
            raise BadWindow(
                f"the window ends ({last}) at or before it starts ({first});"
                " the end is exclusive and must be later"
            )

    def condition(self, tally: Tally, alias: str) -> str:
        at = f"{alias}.{sql.quote(self.time_key.column)}"
        conditions = []
        if self.start is not None:
            conditions.append(f"{at} >= {self._bound(tally, self.start)}")
        if self.end is not None:
            conditions.append(f"{at} < {self._bound(tally, self.end)}")
            if self.start is None and tally.table.c[self.time_key.column].nullable:
                conditions = [f"({conditions[0]} OR {at} IS NULL)"]
        return " AND ".join(conditions) or "true"

    def _bound(self, tally: Tally, moment: datetime) -> str:
        label = self.time_key.windows.label(moment)
        return tally.stored_windows.sql_start(sql.literal(label))

    def span(self, tally: Tally, unit: Unit, instant: str) -> str | None:
        start, end = (
            self._bound(tally, moment) if moment is not None else None
            for moment in (self.start, self.end)
        )
        return reaching(unit, instant, start, end, with_nulls=start is None)

    def __call__(self, **expressions: ColumnElement[Any]) -> list[ColumnElement[bool]]:
        instant = expressions.get(self.time_key.column)
        if instant is None:
            return []
        zoned = DateTime(timezone=True)
        conditions: list[ColumnElement[bool]] = []
        if self.start is not None:
            conditions.append(instant >= bound(self.start, zoned))
        if self.end is not None:
            conditions.append(instant < bound(self.end, zoned))
        return conditions


@dataclass(frozen=True)
class InWindows(KeyFilter):
    """The keys of several bounded windows, given as a relation of (starts_at, ends_at)."""

    time_key: TimeKey
    relation: str

    def condition(self, tally: Tally, alias: str) -> str:
        at = f"{alias}.{sql.quote(self.time_key.column)}"
        return (
            f"EXISTS (SELECT FROM {self.relation} AS w"
            f" WHERE {at} >= w.starts_at AND {at} < w.ends_at)"
        )

    def span(self, tally: Tally, unit: Unit, instant: str) -> str | None:
        return reaching(
            unit,
            instant,
            f"(SELECT min(w.starts_at) FROM {self.relation} AS w)",
            f"(SELECT max(w.ends_at) FROM {self.relation} AS w)",
        )

    def __call__(self, **expressions: ColumnElement[Any]) -> list[ColumnElement[bool]]:
        instant = expressions.get(self.time_key.column)
        if instant is None:
            return []
        zoned = DateTime(timezone=True)
        windows = sql.relation(
            self.relation, [Column("starts_at", zoned), Column("ends_at", zoned)]
        ).alias("touched_windows")
        return [instant >= windows.c.starts_at, instant < windows.c.ends_at]


@dataclass(frozen=True)
class Keys(KeyFilter):
    """The keys listed in a relation that has the tally's group columns, each key once.

    `first` and `last` are SQL for the first and the last instant of the windows that the keys
    lie in. Where they are given, sources are asked for all rows between them and nothing more: an
    index finds those, and from two instants, unlike from a join, the planner can tell how little
    of a long history they are.
    """

    tally: Tally
    relation: str
    first: str | None = None
    last: str | None = None

    def condition(self, tally: Tally, alias: str) -> str:
        return (
            f"EXISTS (SELECT FROM {self.relation} AS k"
            f" WHERE {tally.matches('k', alias, tally.group)})"
        )

    def span(self, tally: Tally, unit: Unit, instant: str) -> str | None:
        time_key = tally.time_key
        if time_key is None or time_key.column not in tally.group:
            return None
        start = f"k.{sql.quote(time_key.column)}"
        nulls = bool(tally.table.c[time_key.column].nullable)
        return reaching(
            unit,
            instant,
            f"(SELECT min({start}) FROM {self.relation} AS k)",
            f"(SELECT max({start}) FROM {self.relation} AS k)",
            with_nulls=nulls,
        )

    def __call__(self, **expressions: ColumnElement[Any]) -> list[ColumnElement[bool]]:
        columns = [self.tally.table.c[n] for n in self.tally.group]
        keys = sql.relation(self.relation, columns).alias("keys")
        time_key = self.tally.time_key
        if time_key is not None and time_key.column in expressions and self.first and self.last:
            instant = expressions[time_key.column]
            return [instant >= _instant(self.first), instant <= _instant(self.last)]
        wanted: list[ColumnElement[Any]] = []
        offered: list[ColumnElement[Any]] = []
        for name, expression in expressions.items():
            if time_key is not None and name == time_key.column:
                offered.append(sql.utc_start(time_key.unit, expression))
                wanted.append(keys.c[name])
                continue
            column = self.tally.table.c[name]
            offered.append(_comparable(expression, column))
            wanted.append(_comparable(keys.c[name], column))
        if len(offered) == 1 and any(self.tally.table.c[n].nullable for n in expressions):
            # A record alone would be mistaken for the row of its columns.
            offered.append(literal_column("0"))
            wanted.append(literal_column("0"))
        # Where all of a key is constant, the condition on the rows has to do.
        return [tuple_(*offered).in_(select(*wanted))] if offered else []


@dataclass(frozen=True)
class PendingRows:
    """Relations of a derived table's pending changes: its groups, and their rows as of now.

    `shared` are common table expressions that both read.
    """

    groups: str
    rows: str
    shared: tuple[str, ...] = ()


class Tally(ABC):
    """A derived table, and what it must hold.

    `system` and the table's name make its name, `media.daily_contributions`. `key` are the
    derived table's columns that name a row, `measures` the columns that the engine computes;
    other columns (an identity, `created_at`, `updated_at`) are left to their defaults, but
    `updated_at` is set to the time of each change.
    """

    kind: Literal["recomputed", "select"]
    tags: tuple[str, ...] = ()
    """Words by which commands select it, and which its asset in Dagster has."""
    batches: Batches | None = None
    """How it is built in batches; None: in one transaction."""
    log_has_deltas = False
    """Whether a row of the change log concerns the key that it names and no other, whatever is in
    the sources: it is consumed with that key, wherever that is computed anew."""
    source_view: str | None = None
    """A view that reads all sources; None: there is none."""
    has_unique_index = True
    """Whether a unique index keeps each key of the derived table to one row."""
    has_plain_table = False
    """Whether the derived table is known to be no partitioned one."""
    may_count_derived = False
    """Whether its sources may be derived tables."""

    select_class: ClassVar[type[Tally] | None] = None
    """What `Tally("shop.revenue_daily", select=...)` makes; the class of it says so itself."""

    def __new__(cls, *_positional: object, **arguments: object) -> Tally:
        """Check the names of the arguments before Python does, who would not name the tally."""
        if cls is Tally and cls.select_class is not None:
            # Python calls its __init__ then, for it is a Tally.
            return cls.select_class.__new__(cls.select_class, *_positional, **arguments)
        table = arguments.get("table")
        name = table.name if isinstance(table, Table) else "?"
        named = _positional[0] if _positional else f"{arguments.get('system', '?')}.{name}"
        validation.require_arguments(cls, str(named), arguments)
        return super().__new__(cls)

    def __init__(
        self,
        *,
        system: str,
        table: Table,
        key: Sequence[str],
        measures: Sequence[str],
        sources: Sequence[Table],
        time_key: TimeKey | None = None,
        description: str = "",
        combine: Mapping[str, Combine] | None = None,
        memberships: Mapping[str, Membership] | None = None,
    ) -> None:
        self.system = system
        self.table = table
        self.key = tuple(key)
        self.measures = tuple(measures)
        self.sources = tuple(dict.fromkeys(sources))
        self.time_key = time_key
        self.description = description or table.comment or ""
        self.name = f"{system}.{table.name}"
        self.log_name = sql.in_engine_schema(f"{system}_{table.name}_log")
        # What is kept of pruned rows of sources, where it has such a table.
        self.pruned_name = sql.in_engine_schema(f"{system}_{table.name}_pruned")
        self.aggregate_function = sql.in_engine_schema(f"{system}_{table.name}_from_sources")
        # What the live view calls while the tally is stale.
        self.stale_function = self.aggregate_function
        self.live_table = f"{table.name}_live"
        self.live_name = f"{sql.quote(table.schema or 'public')}.{sql.quote(self.live_table)}"
        # The tallies that share its sources, and so its capture functions; a System sets it.
        self.siblings: tuple[Tally, ...] = (self,)
        self._relevant: dict[Table, list[str]] = {}
        # How measures of several rows follow from theirs; no part of what the table must hold.
        self.combine = combining.checked(self.name, combine or {}, self.measures, self.key)
        self.memberships = combining.checked_memberships(self.name, memberships or {}, self.columns)
        self._check()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    def as_declared(self) -> Select[Any]:
        """The SELECT as it is declared, over the columns of the sources where these are known."""
        return self.aggregate(Everything())

    @property
    def definition(self) -> str:
        """The SELECT that says what the derived table must hold, for people."""
        return sql.render(self.aggregate(Everything()))

    @property
    def columns(self) -> tuple[str, ...]:
        """Key and measures: what the engine computes, and what a live view shows."""
        return self.key + self.measures

    @property
    def group(self) -> tuple[str, ...]:
        """The key columns by which rows are recomputed together."""
        return self.key

    def enter(self, metadata: MetaData) -> None:  # noqa: B027 -- most have no need of it
        """Take the tables of that metadata for those of the same names; a System calls it."""

    def bind(self, connection: Connection) -> None:  # noqa: B027 -- most have no need of it
        """Learn from the database what the declaration alone does not say.

        Everything that works on an installed tally calls it, by way of `state.installed`. Raises
        NotInstalled where the database does not know it either.
        """

    @abstractmethod
    def aggregate(self, scope: KeyFilter) -> Select[Any]:
        """What the derived table must hold for the keys in `scope`: columns as `columns`."""

    @abstractmethod
    def log_columns(self) -> list[Column[Any]]:
        """The change log's columns, without `logged_at`."""

    @abstractmethod
    def capture_one(self, source: Table, event: Event) -> list[str]:
        """INSERTs into the log for a statement that inserted or deleted at most one row."""

    @abstractmethod
    def capture_update(self, source: Table) -> list[tuple[str, str]]:
        """What a statement that updated at most one row of `source` leaves in the log.

        Pairs of a condition on `old_rows` and `new_rows`, of one row each, and the INSERT for
        when it holds. All conditions are looked at together, before anything is written.
        """

    @abstractmethod
    def capture_many(self, source: Table, event: Event) -> list[str]:
        """INSERTs into the log for any statement, at most one log row per key."""

    def mark_keys(self, event: Event) -> str | None:
        """An INSERT of marks for the keys of derived rows that a statement wrote.

        None where no mark can name a key that is to be computed anew, whatever became of it.
        """
        return None

    def capture_cascade(self, event: Event) -> list[str]:
        """What is noted of rows that a foreign key deletes from the derived table, or changes.

        What keeps the live view and the next refresh right, and of deleted rows how many there
        were. Nothing where no declared foreign key does that, or where that does not suffice.
        """
        keys = self.table.foreign_keys
        deletes = [k for k in keys if k.ondelete == "CASCADE"]
        if event == "delete" and deletes:
            counted = (
                f"INSERT INTO {sql.in_engine_schema('cascaded')} (tally, rows)"
                f" SELECT {sql.literal(self.name)}, count(*) FROM old_rows HAVING count(*) > 0"
            )
            made_good = self._make_good(event, {k.column.table for k in deletes})
            return [] if made_good is None else [counted, *made_good]
        own = [k for k in keys if k.parent.name in self.columns]
        if event == "update" and any(k.onupdate in CHANGES or k.ondelete in SETS for k in own):
            return self._make_good(event, set()) or []
        return []

    @abstractmethod
    def _make_good(self, event: Event, of: set[Any]) -> list[str] | None:
        """What is logged of rows that a foreign key to the tables `of` deletes or changes.

        None where nothing can be logged that makes it good.
        """

    @abstractmethod
    def captured_values(self, source: Table) -> list[Any]:
        """What capture computes from a row of `source`: expressions, and plain Python values."""

    def may_raise(self, source: Table) -> bool:
        """Whether a row of `source` could have values for which its capture cannot be computed."""
        return any(may_raise(value) for value in self.captured_values(source))

    def sums_may_overflow(self, source: Table) -> bool:
        """Whether the sums of one statement on `source` could be too large for the log."""
        return False

    @abstractmethod
    def stored(self, scope: KeyFilter, *, wide: bool = False) -> str:
        """A SELECT of `columns`: what the derived table and the log claim for the scope.

        `wide`: with sums that no integer holds.
        """

    @abstractmethod
    def expected(self, scope: KeyFilter) -> str:
        """A SELECT of `columns` from the sources, for the same keys as `stored`."""

    def consume_at_once(self) -> str | None:
        """One statement that consumes all pending changes and applies them; None: there is none.

        Returns rows of (day, consumed, inserted, updated, deleted, oldest): one with the totals
        consumed, whose day is null and `consumed` is not, and one for each day that was written.
        """
        return None

    @abstractmethod
    def touched_groups(self, pending: str) -> str:
        """A SELECT of the distinct group columns that the change-log rows in `pending` concern."""

    @abstractmethod
    def desired_rows(self, groups: str, pending: str) -> str:
        """A SELECT of `columns`: what the derived table must hold for the groups in a relation.

        `pending` has the change-log rows that were consumed for it. Sums may be wider than the
        derived table's columns.
        """

    def rows_of(self, relation: str) -> str:
        """A SELECT of `columns` from the sources for the distinct groups in `relation`."""
        return self.rows(Keys(self, relation))

    @abstractmethod
    def log_has_whole_keys(self) -> bool:
        """Whether each row of the log has the whole key of what it may alter, and that alone."""

    def differ(self, left: str, right: str) -> str:
        """A condition: two relations differ in a measure."""
        sides = (sql.columns(self.measures, alias) for alias in (left, right))
        return "ROW({}) IS DISTINCT FROM ROW({})".format(*sides)

    def beyond_live(self) -> str | None:
        """A condition: more is pending than a live view adds, so that it reads the sources."""
        return None

    def instants(self) -> list[tuple[Table, str]]:
        """SQL for what the time column is the window of, with the source that has it.

        As far as that does not show in what `aggregate` asks of its scope.
        """
        return []

    def totals(self) -> list[str]:
        """Key columns whose null stands for all values: those rows are the sum of the others."""
        return []

    @property
    def upstream(self) -> tuple[Tally, ...]:
        """The tallies of the same system whose derived tables are among the sources."""
        # By name: a SELECT is not given the tables, and may have found others of the same name.
        names = {sql.name_of(source) for source in self.sources}
        return tuple(t for t in self.siblings if t is not self and sql.name_of(t.table) in names)

    @abstractmethod
    def pending_rows(self) -> PendingRows:
        """What a tally that counts its derived table reads of its pending changes."""

    def live_sources(self) -> Select[Any]:
        """What the derived table must hold as of the last commit, pending changes upstream too."""
        return self.aggregate(Everything())

    @property
    def freezes(self) -> bool:
        """Whether groups that lose rows by pruning can be frozen: kept as they were then."""
        return False

    @abstractmethod
    def lost_groups(self, connection: Connection) -> str:
        """A SELECT of the distinct group columns that pending changes concern, altered or not."""

    def is_frozen(self, alias: str) -> str:
        """A condition: the group of a row is frozen."""
        return (
            f"EXISTS (SELECT FROM {self.pruned_name} AS z"
            f" WHERE {self.matches('z', alias, self.group)})"
        )

    def groups_of(self, scope: KeyFilter) -> str:
        """A SELECT of the distinct groups that `rows` has, for which no measure is computed."""
        group = sql.columns(self.group, "s")
        return f"SELECT DISTINCT {group} FROM (\n{self.rows(scope)}\n) AS s"

    def with_frozen(self, rows: str, scope: KeyFilter) -> str:
        """`rows`, a SELECT of `columns` for the scope, with frozen groups as they were."""
        if not self.freezes:
            return rows
        return (
            f"SELECT {sql.columns(self.columns, 'r')} FROM (\n{rows}\n) AS r"
            f" WHERE NOT {self.is_frozen('r')}\n"
            f"UNION ALL SELECT {sql.columns(self.columns, 'z')} FROM {self.pruned_name} AS z"
            f" WHERE {scope.condition(self, 'z')}"
        )

    def with_pruned(self, rows: str) -> str:
        """`rows`, a SELECT of `columns` for all keys, with what is kept of pruned rows."""
        return self.with_frozen(rows, Everything())

    @abstractmethod
    def live_rows(self, naive: frozenset[str] = frozenset()) -> str:
        """A SELECT of `columns` that is exact while the tally is not stale.

        Its text has `WHERE_FRESH` where the condition for that goes. `naive` are the derived
        table's columns that were found to be timestamps without time zone.
        """

    def relevant(self, source: Table) -> list[str]:
        """The columns of `source` on which the tally's SELECT or its capture depend."""
        # Capture asks for each event of each relation, and finding them costs milliseconds.
        if source not in self._relevant:
            self._relevant[source] = self._find_relevant(source)
        return self._relevant[source]

    def _find_relevant(self, source: Table) -> list[str]:
        used: set[str] = set()
        for expression in [self.aggregate(Everything()), *self.capture_reads(source)]:
            for element in visitors.iterate(expression):
                if sql.is_opaque(element):
                    # All that it might read; `optional` columns, nothing of ours does.
                    return [c.name for c in source.c if not c.info.get("optional")]
                used |= {
                    c.name
                    for c in getattr(element, "base_columns", ())
                    if getattr(c, "table", None) is source
                }
        return [c.name for c in source.c if c.name in used]

    def capture_reads(self, source: Table) -> list[ClauseElement]:
        """What capture reads of a row of `source` beyond what `aggregate` does."""
        return []

    def queries(self) -> list[str]:
        """What it runs over its sources, to find the functions that are called in it."""
        return [sql.render(self.aggregate(Everything()))]

    def own_relations(self) -> list[tuple[str, str]]:
        """What the engine made for it beside its log and live view, as pairs of a role and a name.

        The roles are `definition`, a view, `state`, a table that the engine writes, and `pruned`,
        a table of what is kept of pruned rows.
        """
        return [("pruned", self.pruned_name)] if self.freezes else []

    def functions(self) -> list[str]:
        """CREATE FUNCTION statements that the live view needs, beyond the aggregate's."""
        return []

    def function_names(self) -> list[str]:
        """The functions that the live view calls."""
        return [self.aggregate_function]

    def looked_up(self, values: Mapping[str, Sequence[str]]) -> str | None:
        """A relation with the rows of the live view that have these values, faster than the view.

        `values` are SQL by column, none of them null. None where there is no faster way.
        """
        return None

    @property
    def group_types(self) -> str:
        """The columns of `group` with their types, as SQL wants them to read records of JSON."""
        return ", ".join(f"{sql.quote(n)} {self.type_of(n)}" for n in self.group)

    @property
    def has_updated_at(self) -> bool:
        """Whether the derived table says when each row last changed."""
        return "updated_at" in self.table.c and "updated_at" not in self.columns

    def derived_column(self, name: str, naive: frozenset[str], alias: str = "d") -> str:
        """A column of the derived table as declared, whatever the reader's time zone."""
        stored = f"{alias}.{sql.quote(name)}"
        return f"{stored} AT TIME ZONE 'UTC' AS {sql.quote(name)}" if name in naive else stored

    @property
    def windows(self) -> Windows:
        """The windows that it is rebuilt by; without a time key it has none, and those are days."""
        return DAYS if self.time_key is None else self.time_key.windows

    @property
    def stored_windows(self) -> Windows:
        """The same for the values of the time column, which without time zone are read as UTC."""
        time_key = self.time_key
        if time_key is None or getattr(self.table.c[time_key.column].type, "timezone", False):
            return self.windows
        return Windows(self.windows.unit)

    def day_of(self, alias: str) -> str:
        """The label of a row's window, its first day; null for a tally without windows.

        PostgreSQL's times reach beyond the years that Python's dates can hold: those are the
        first and the last day.
        """
        if self.time_key is None:
            return "NULL::text"
        return self.stored_windows.sql_label(f"{alias}.{sql.quote(self.time_key.column)}")

    def lenient_rows(self, relation: str) -> str | None:
        """A SELECT of `columns` and of why a key cannot be computed, for the keys in `relation`.

        None where no single keys can be computed.
        """
        return None

    def rows(self, scope: KeyFilter) -> str:
        """A SELECT of `columns` from the sources for exactly the keys in `scope`."""
        rows = sql.render(self.aggregate(scope))
        return (
            f"SELECT {sql.columns(self.columns, 's')} FROM (\n{rows}\n) AS s"
            f" WHERE {scope.condition(self, 's')}"
        )

    def matches(self, left: str, right: str, names: Sequence[str] | None = None) -> str:
        """A join condition: the same key in two relations, null being equal to null."""
        names = self.key if names is None else names
        plain = [n for n in names if not self.table.c[n].nullable]
        nullable = [n for n in names if self.table.c[n].nullable]
        conditions = [f"{left}.{sql.quote(n)} = {right}.{sql.quote(n)}" for n in plain]
        if nullable:
            # As records, nulls compare equal, and unlike IS NOT DISTINCT FROM it can be hashed;
            # but the types of both sides have to be the same.
            typed = [f".{sql.quote(n)}::{self.type_of(n)}{self._collation_of(n)}" for n in nullable]
            sides = (f"ROW({side}{f', {side}'.join(typed)}, 0)::record" for side in (left, right))
            conditions.append(" = ".join(sides))
        return " AND ".join(conditions)

    def type_of(self, name: str) -> str:
        """The type of a column as SQL writes it, wide enough for what an enum may become."""
        return sql.type_name(sql.lasting_type(self.table.c[name]))

    def _collation_of(self, name: str) -> str:
        """One for both sides of a comparison of records, which does not settle it by itself."""
        return ' COLLATE "default"' if sql.is_text(self.table.c[name].type) else ""

    def declaration_hash(self) -> str:
        """Changes when the derived table would have to be built anew."""
        parts = [
            self.kind,
            ",".join(self.key),
            ",".join(self.measures),
            sql.render(self.aggregate(Everything())),
        ]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]

    def summing_hash(self) -> str:
        """Changes when a row of a source would add something else than before."""
        return self.declaration_hash()

    def continues(self, declaration_hash: str) -> bool:
        """Whether what was kept under that declaration is right under this one."""
        return declaration_hash == self.declaration_hash()

    def _check(self) -> None:
        if not self.key or not self.sources:
            raise DeclarationError(f"{self.name}: a tally needs a key and at least one source")
        self._check_columns()
        if self.time_key is not None:
            self._check_time_key(self.time_key)
        if not self._is_unique(set(self.key)):
            raise DeclarationError(
                f"{self.name}: nothing makes the key ({', '.join(self.key)}) unique; declare a"
                " primary key, a unique constraint or a unique index over it"
            )

    def _check_columns(self) -> None:
        known = self.table.c.keys()
        for name in self.columns:
            if name not in known:
                hint = validation.nearest(name, known) or f", which has {', '.join(known)}"
                raise DeclarationError(
                    f"{self.name}: {name!r} is declared but is no column of the table{hint}"
                )
            fault = validation.fault_of_type(self.table.c[name], name in self.key)
            if fault:
                raise DeclarationError(f"{self.name}: the column {name!r} {fault}")
        reserved = [n for n in self.columns if n.startswith(RESERVED_PREFIX)]
        self._require_free(self.columns, reserved)

    def _check_time_key(self, time_key: TimeKey) -> None:
        if time_key.column not in self.key:
            raise DeclarationError(
                f"{self.name}: the time key's column {time_key.column!r} must be part of the key"
                f" ({', '.join(self.key)})"
            )
        if time_key.unit not in ("day", "hour") or time_key.zone != "UTC":
            zone = "" if time_key.zone == "UTC" else f" in {time_key.zone}"
            raise DeclarationError(
                f"{self.name}: the time key's unit is {time_key.unit!r}{zone}; expected one of day,"
                " hour in UTC; others need a SELECT, or `partitions`"
            )
        at = self.table.c[time_key.column].type
        if not isinstance(at, DateTime) or not at.timezone:
            raise DeclarationError(
                f"{self.name}: the time key's column {time_key.column!r} is {at!r}; declare it"
                " DateTime(timezone=True), which a table without time zones fits as well"
            )

    def _require_free(self, columns: Sequence[str], reserved: Sequence[str]) -> None:
        """Raise DeclarationError where a column has a name that the engine's own one has."""
        for name in columns:
            if name in reserved:
                raise DeclarationError(
                    f"{self.name}: the engine has a column {name!r} of its own beside the tally's,"
                    " in its change log or while it compares; call the derived table's column"
                    f" otherwise, as in {name.removeprefix(RESERVED_PREFIX) + '_value'!r}"
                )

    def _is_unique(self, key: set[str]) -> bool:
        if {c.name for c in self.table.primary_key} == key:
            return True
        nullable = {n for n in key if self.table.c[n].nullable}
        indexes = [i for i in self.table.indexes if i.unique]
        constraints = [c for c in self.table.constraints if isinstance(c, UniqueConstraint)]
        either: list[Index | UniqueConstraint] = [*indexes, *constraints]
        for unique in either:
            options = unique.dialect_options["postgresql"]
            whole = {c.name for c in unique.columns} == key and options.get("where") is None
            if whole and (not nullable or options.get("nulls_not_distinct")):
                return True
        # A nullable column is covered by two partial indexes, one of them without it.
        indexed = [{c.name for c in i.columns} for i in indexes]
        return bool(nullable) and key in indexed and key - nullable in indexed


def _instant(expression: str) -> ColumnElement[Any]:
    return literal_column(expression, DateTime(timezone=True))


def _comparable(value: ColumnElement[Any], column: Column[Any]) -> ColumnElement[Any]:
    return sql.null_equals_null(value, column) if column.nullable else value
