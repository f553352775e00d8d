"""A tally whose SELECT is the whole declaration.

What the SELECT says by itself (names of columns, sources, key and time column) is known without a
database; how it is maintained, the *plan*, and the types of its columns are compiled by `tally
migrate` and stored in the database, from where the tally is bound before anything works on it.

Each pending change is a row of the log with its sign and the columns that the SELECT uses of one
source. Invariant: refresh, live view and verify run the same statement, made of the plan, over the
log, the sources and the stored intermediate results of one snapshot.

Where nothing makes a row of the SELECT unique, or it has one row alone, the derived table has the
column `tally_copy` besides: equal rows are numbered by it.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from copy import copy
from dataclasses import replace
from threading import RLock
from typing import Any

from sqlalchemy import (
    ARRAY,
    Column,
    Connection,
    Date,
    DateTime,
    Integer,
    MetaData,
    Select,
    SmallInteger,
    Table,
    func,
    select,
)
from sqlalchemy import Text as TextType
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.sql import visitors
from sqlalchemy.types import NullType

from tallykeeper.catalog.state import refresh_costs, select_plans, stale_marks
from tallykeeper.database import sql
from tallykeeper.database.sqlstates import MISSING_RELATION, sqlstate_of
from tallykeeper.declarations import validation
from tallykeeper.declarations.batches import Batches
from tallykeeper.declarations.combining import SUM, Combine, Membership
from tallykeeper.declarations.tally import (
    SIDES,
    WHERE_FRESH,
    Event,
    Everything,
    KeyFilter,
    Keys,
    PendingRows,
    Tally,
    TimeKey,
)
from tallykeeper.declarations.windows import Windows
from tallykeeper.errors import DeclarationError, NotInstalled
from tallykeeper.faults import quarantine
from tallykeeper.select import plan_json, tables
from tallykeeper.select.column_types import INCOMPARABLE, column_type
from tallykeeper.select.outline import outline
from tallykeeper.select.plan import (
    COPY,
    MARKED,
    PART,
    SIGN,
    TOTAL,
    VERSION,
    CapturedSource,
    Node,
    Plan,
    lost_groups,
)
from tallykeeper.select.statements import captured_rows, changes_function, marked_keys
from tallykeeper.select.statements.changes_function import Compared
from tallykeeper.select.statements.summed_rows import SummedRows
from tallykeeper.strategies.counts_and_sums import CountsAndSums

# More keys than these are read from the live view.
MOST_KEYS = 200
# Tallies share the tables of their metadata, whichever thread binds one of them.
_BINDING = RLock()
_IDENTIFIER = r'(?:"(?:[^"]|"")+"|[A-Za-z_][\w$]*)'
_QUALIFIED = re.compile(rf"({_IDENTIFIER})\.({_IDENTIFIER})")


class SelectTally(Tally):
    """A tally that is declared by one SELECT.

    `name` is `<system>.<table>`; the derived table lies in the schema of the system's name, unless
    `schema` says another or `table` is the table itself. `select` is text or SQLAlchemy's.
    `key` names the columns that make a row unique, where the SELECT does not say it by GROUP BY;
    `time_key` the one that windows go by, where it is not plainly the start of a unit in a zone.
    `windows` are those of rebuilds and of Dagster's partitions, where they are others than the time
    column's own; False: there are none. `indexes` are columns that the derived table has an index
    over. `batches` say how it is built, where it is too big for one transaction. `totals` are key
    columns whose null stands for all values: those rows are the sum of the others. `formerly` are
    hashes of declarations that meant the same: a derived table that was kept by one of them is
    right, and is not built anew. By `tags` commands select it, and Dagster's assets have them.
    `place` says where a character of the SELECT stands, by its number from 1.
    The tables that the SELECT names are found in the metadata of the System, or made there.
    """

    kind = "select"
    may_count_derived = True

    def __init__(
        self,
        name: str,
        *,
        select: str | Select[Any],
        key: Sequence[str] | None = None,
        time_key: TimeKey | None = None,
        description: str = "",
        schema: str | None = None,
        table: Table | None = None,
        combine: Mapping[str, Combine] | None = None,
        memberships: Mapping[str, Membership] | None = None,
        totals: Sequence[str] = (),
        formerly: Collection[str] = (),
        windows: bool | Windows = True,
        indexes: Sequence[Sequence[str]] = (),
        batches: Batches | None = None,
        tags: Sequence[str] = (),
        place: Callable[[int], str] | None = None,
    ) -> None:
        system, dot, table_name = name.partition(".")
        if not dot or not system or not table_name:
            raise DeclarationError(
                f"{name!r} is no name of a tally; expected a system and a table, as in"
                " 'shop.revenue_daily'"
            )
        self._select = None if isinstance(select, str) else select
        named = () if self._select is None else visitors.iterate(self._select)
        self._declared = {(t.schema, t.name): t for t in named if isinstance(t, Table)}
        text = select if isinstance(select, str) else sql.render(select)
        self.text = text.strip().rstrip(";").strip()
        self.given_key = tuple(key) if key is not None else None
        self._given_time_key = time_key
        self._totals = tuple(totals)
        self.declared_combine = dict(combine or {})
        self._formerly = frozenset(formerly)
        self._windows = windows
        self._indexes = tuple(tuple(each) for each in indexes)
        self._given_batches = batches
        self.tags = tuple(tags)
        self.place = place
        self._own_table = table
        self.has_plain_table = table is None
        self._schema = schema or system
        self._plan: Plan | None = None
        self.resolved_text = ""
        # How it is captured and written where single rows add to it.
        self.summed: SummedRows | None = None
        self._digest = ""
        self._outline = outline(self.text)
        self._output = self._outline.columns
        self.definition_name = sql.in_engine_schema(f"{system}_{table_name}_definition")
        self.source_view = self.definition_name
        self.changes_function = sql.in_engine_schema(f"{system}_{table_name}_changes")
        self.raw_changes_function = sql.in_engine_schema(f"{system}_{table_name}_raw_changes")
        self.asked_function = sql.in_engine_schema(f"{system}_{table_name}_changes_of")
        self.lookup_function = sql.in_engine_schema(f"{system}_{table_name}_live_of")
        metadata = table.metadata if table is not None else MetaData()
        key = self.given_key or self._outline.key
        super().__init__(
            system=system,
            table=self._derived_table(metadata, table_name),
            key=key,
            measures=[n for n in self._output if n not in key],
            sources=[self._source(metadata, *named) for named in self._outline.sources],
            time_key=self._with_windows(time_key or self._outline.time_key) if windows else None,
            description=description,
            combine=combine,
            memberships=memberships,
        )
        self._find_lanes()

    @property
    def plan(self) -> Plan:
        """How it is maintained. Raises NotInstalled where it is not bound."""
        if self._plan is None:
            raise self._not_installed("its SELECT was not compiled for this database")
        return self._plan

    @property
    def definition(self) -> str:
        return self.text

    @property
    def columns(self) -> tuple[str, ...]:
        """The SELECT's columns in its order, then the number of equal rows where it is needed."""
        return (*self._output, COPY) if self.is_numbered else self._output

    @property
    def is_numbered(self) -> bool:
        """Whether the derived table numbers equal rows."""
        return self._plan is not None and (self._plan.is_bag or not self._plan.key)

    @property
    def group(self) -> tuple[str, ...]:
        if self.batches is not None:
            # They are computed together, and a key need not be known to be that of a row.
            return self.batches.group
        # Equal rows are written together; of the only row there is, its number is the key.
        return self._output if self._plan is not None and self._plan.is_bag else self.key

    def text_over(self, naive: Collection[Column[Any]]) -> str:
        """The text, with the columns `naive`, which lack the time zone they are declared with, UTC.

        Of a SELECT that was given as text nothing is known of how its columns are declared.
        """
        if self._select is None or not naive:
            return self.text

        def in_utc(element: Any, **_: Any) -> Any:
            if isinstance(element, Column) and element in naive:
                zoned = func.timezone("UTC", element, type_=DateTime(timezone=True))
                return zoned.label(element.name)
            return None

        replaced: Any = visitors.replacement_traverse(self._select, {}, in_utc)
        return sql.render(replaced)

    def as_declared(self) -> Select[Any]:
        return self._select if self._select is not None else super().as_declared()

    def enter(self, metadata: MetaData) -> None:
        if self.table.metadata is not metadata and self._own_table is None:
            self.table = self._derived_table(metadata, self.table.name)
            if self._plan is not None:
                self._fill_table(self._plan)
        if any(source.metadata is not metadata for source in self.sources):
            self.sources = tuple(
                self._source(metadata, source.schema, source.name) for source in self.sources
            )
            self._find_lanes()
            if self._plan is not None:
                tables.complete_sources(self.sources, self._plan)

    def over(self, text: str, schema: str, table: str) -> SelectTally:
        """The same tally where its SELECT is `text` and its derived table `schema.table`.

        Combinations by other tables (`memberships`) and batches are left out, whose tables are not
        known there.
        """
        declared = None
        if self._own_table is not None:
            declared = tables.renamed(self._own_table, schema, table)
        return SelectTally(
            f"{self.system}.{table}",
            select=text,
            key=self.given_key,
            time_key=self._given_time_key,
            description=self.description,
            schema=schema,
            table=declared,
            combine=self.declared_combine,
            totals=self._totals,
            windows=self._windows,
            indexes=self._indexes,
            tags=self.tags,
        )

    def bind(self, connection: Connection) -> None:
        for upstream in self.upstream:
            upstream.bind(connection)
        columns = select_plans.c
        read = select(columns.digest, columns.declaration_hash).where(columns.tally == self.name)
        try:
            stored = connection.execute(read).one_or_none()
        except ProgrammingError as error:
            if sqlstate_of(error) not in MISSING_RELATION:
                raise
            raise self._not_installed("this database is of an earlier release") from error
        if stored is None:
            raise self._not_installed("its SELECT was not compiled for this database")
        if stored.declaration_hash != self.declaration_hash():
            raise self._not_installed("its declaration changed")
        with _BINDING:
            # Another thread may be at it, or be done by now.
            if stored.digest != self._digest:
                self._bind_stored(connection)

    def _bind_stored(self, connection: Connection) -> None:
        columns = select_plans.c
        read_plan = select(columns.plan, columns.definition).where(columns.tally == self.name)
        document, definition = connection.execute(read_plan).one()
        if document.get("version") != VERSION:
            raise self._not_installed("its SELECT was compiled by another release")
        self.bind_to(plan_json.from_json(document), definition or "")

    def reading(self, relation: str) -> SelectTally:
        """The same tally, whose SELECT's rows are read from a relation, named as SQL writes it."""
        other = copy(self)
        other.definition_name = relation
        return other

    def bind_to(self, plan: Plan, definition: str) -> None:
        """Take the plan, and from it the types of all columns, the key and the sources.

        `definition` is the SELECT as the database has it, every name in it qualified.
        """
        with _BINDING:
            self._bind_to(plan, definition)

    def _bind_to(self, plan: Plan, definition: str) -> None:
        self.resolved_text = definition
        digest = plan_json.digest(plan_json.to_json(plan))
        if digest == self._digest:
            return
        self._plan, self._digest = plan, digest
        self.has_unique_index = not plan.is_bag
        self.summed = None
        self._output = tuple(column.name for column in plan.columns)
        self._check_names()
        if plan.is_bag:
            self.key = (*self._output, COPY)
        else:
            self.key = plan.key or (COPY,)
        self.measures = tuple(n for n in self._output if n not in self.key)
        self._relevant.clear()
        if self._own_table is None:
            self.table = self._derived_table(self.table.metadata, self.table.name)
        self._fill_table(plan)
        self._find_time_key()
        metadata = self.table.metadata
        names = dict.fromkeys((c.schema, c.table) for c in plan.captured)
        known = {(s.schema or "public", s.name): s for s in self.sources}
        self.sources = tuple(known[n] if n in known else self._source(metadata, *n) for n in names)
        tables.complete_sources(self.sources, plan)
        self._find_lanes()
        self._check_bound()
        self._sum_up(plan)

    def _sum_up(self, plan: Plan) -> None:
        self.log_has_deltas = plan.summed is not None
        if plan.summed is not None:
            sums = CountsAndSums(self, plan.summed.counter, self._pending_upstream)
            self.summed = SummedRows(plan.summed, sums)
            self.combine = dict.fromkeys(self.measures, SUM) | dict(self.combine)

    def declaration_hash(self) -> str:
        at = None
        if self._given_time_key is not None:
            # As it was when there were days and hours in UTC alone: what a table holds does not
            # depend on its windows.
            given = self._given_time_key
            unit = "day" if (given.unit, given.zone) == ("day", "UTC") else "hour"
            at = f"TimeKey(column={given.column!r}, unit={unit!r})"
        parts = [self.kind, self.text, repr(self.given_key), str(at)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]

    def summing_hash(self) -> str:
        if self.summed is None:
            return super().summing_hash()
        return hashlib.sha256(repr(self.summed.summed).encode()).hexdigest()[:16]

    def continues(self, declaration_hash: str) -> bool:
        return declaration_hash in self._formerly or super().continues(declaration_hash)

    def aggregate(self, scope: KeyFilter) -> Select[Any]:
        columns = [self.table.c[n] for n in self.columns]
        rows = sql.relation(self._definition(), columns).alias("s")
        keys = {n: rows.c[n] for n in self.group}
        return select(*(rows.c[n] for n in self.columns)).where(*scope(**keys))

    def rows(self, scope: KeyFilter) -> str:
        relation = self._definition(self._of_windows(scope))
        rows = (
            f"SELECT {sql.columns(self.columns, 's')} FROM {relation} AS s"
            f" WHERE {self._reached(scope)}{scope.condition(self, 's')}"
        )
        if self.summed is not None:
            return self.summed.sums.with_pruned(rows, scope)
        return self.with_frozen(rows, scope)

    def with_pruned(self, rows: str) -> str:
        if self.summed is not None:
            return self.summed.sums.with_pruned(rows, Everything())
        return super().with_pruned(rows)

    @property
    def freezes(self) -> bool:
        # What is built in batches is found by rows of its sources, which are not there any more.
        return self._plan is not None and bool(self._plan.losses) and self.batches is None

    def lost_groups(self, connection: Connection) -> str:
        read = f"SELECT l.{PART}, count(*) AS rows FROM {self.log_name} AS l GROUP BY l.{PART}"
        pending = {row[0]: row.rows for row in sql.execute(connection, read)}
        return lost_groups(self.plan, pending)

    def built_rows(self) -> str:
        """All rows, read from the states where these are enough; they have to be up to date."""
        relation = f"({self.plan.from_states})" if self.plan.from_states else None
        rows = f"SELECT {sql.columns(self.columns, 's')} FROM {self._definition(relation)} AS s"
        return self.with_frozen(rows, Everything())

    def log_columns(self) -> list[Column[Any]]:
        if self.summed is not None:
            return self.summed.sums.log_columns()
        columns: list[Column[Any]] = [
            Column(PART, SmallInteger, nullable=False),
            Column(SIGN, Integer, nullable=False),
        ]
        owners = {owner.part for owner in self.plan.owners}
        for source in self.plan.captured:
            for column in source.columns if source.part not in owners else ():
                type_ = TextType() if column.as_text else column_type(column.type)
                columns.append(Column(column.log_name, type_))
        types = {column.name: column_type(column.type) for column in self.plan.columns}
        columns += [Column(marked_keys.log_name(n), types[n]) for n in self.plan.marks]
        return columns

    def capture_one(self, source: Table, event: Event) -> list[str]:
        if self.summed is not None:
            return self.summed.one(source, event)
        return [self._logged(each, event, one=True) for each in self._captured(source)]

    def capture_update(self, source: Table) -> list[tuple[str, str]]:
        if self.summed is not None:
            return self.summed.update(source)
        return [
            (captured_rows.differs(each), self._logged(each, "update", one=True))
            for each in self._captured(source)
        ]

    def capture_many(self, source: Table, event: Event) -> list[str]:
        if self.summed is not None:
            return self.summed.many(source, event)
        return [self._logged(each, event, one=False) for each in self._captured(source)]

    def _logged(self, source: CapturedSource, event: Event, *, one: bool) -> str:
        """An INSERT of what a statement leaves in the log."""
        owner = next((each for each in self.plan.owners if each.part == source.part), None)
        if owner is not None:
            names = [marked_keys.log_name(name) for name in self.plan.marks]
            return captured_rows.marks(self.log_name, source, owner, names, event, one=one)
        images = captured_rows.all_images if one or event != "update" else captured_rows.net_images
        return images(self.log_name, source, event)

    def _make_good(self, event: Event, of: set[Any]) -> list[str] | None:
        if self.summed is not None:
            return self.summed.sums.make_good(event)
        has_marks = self._plan is not None and bool(self._plan.marks)
        if event == "delete" and has_marks and of <= set(self.sources):
            # The change of what the rows refer to is logged itself, and nothing cancels it.
            return []
        marked = self.mark_keys(event)
        return None if marked is None else [marked]

    def mark_keys(self, event: Event) -> str | None:
        if self._plan is None or not self._plan.marks:
            return None
        names = sql.columns(self._plan.marks)
        rows = " UNION ".join(f"SELECT {names} FROM {relation}" for relation in SIDES[event])
        return self.mark(f"({rows})")

    def mark(self, relation: str) -> str:
        """An INSERT of marks for the keys in a relation, where the plan has marks."""
        names = self.plan.marks
        logged = sql.columns([PART, SIGN, *(marked_keys.log_name(n) for n in names)])
        return (
            f"INSERT INTO {self.log_name} ({logged})\n"
            f"  SELECT DISTINCT {MARKED}, 1, {sql.columns(names, 'k')} FROM {relation} AS k"
        )

    @property
    def marks(self) -> tuple[str, ...] | None:
        """The columns of the key that marks are to have; None: those of the key, if needed."""
        if self.batches is not None:
            return self.batches.group
        # What was pending under another declaration is pending under this one.
        return None if self._formerly else ()

    def captured_values(self, source: Table) -> list[Any]:
        names = {c.name for each in self._captured(source) for c in each.columns}
        return [column for column in source.c if column.name in names]

    def may_raise(self, source: Table) -> bool:
        return self.summed is not None and any(each.may_raise for each in self.summed.of(source))

    def stored(self, scope: KeyFilter, *, wide: bool = False) -> str:
        if self.summed is not None:
            return self.summed.sums.stored(scope, wide=wide)
        if not self._has_changes:
            return (
                f"SELECT {self._comparable('d')} FROM {sql.name_of(self.table)} AS d"
                f" WHERE {scope.condition(self, 'd')} AND NOT {self._any_pending}"
            )
        return (
            f"SELECT {self._comparable('v')} FROM (\n"
            f"{self._live(sql.columns(self.columns, 'd'), 'true')}\n"
            f") AS v WHERE {scope.condition(self, 'v')}"
        )

    def expected(self, scope: KeyFilter) -> str:
        rows = self.rows(scope)
        where = "" if self._has_changes else f" WHERE NOT {self._any_pending}"
        return f"SELECT {self._comparable('e')} FROM (\n{rows}\n) AS e{where}"

    def _comparable(self, alias: str) -> str:
        """The columns; those of types that PostgreSQL does not compare as text."""
        types = {column.name: column.type for column in self.plan.columns}
        return ", ".join(
            f"{alias}.{sql.quote(n)}::text AS {sql.quote(n)}"
            if types.get(n) in INCOMPARABLE
            else f"{alias}.{sql.quote(n)}"
            for n in self.columns
        )

    def touched_groups(self, pending: str) -> str:
        if self.summed is not None:
            return self.summed.sums.touched_groups(pending)
        return (
            f"SELECT DISTINCT {sql.columns(self.group, 'c')} FROM {self._numbered(pending)} AS c"
            f" WHERE {self._may_alter('c')}"
        )

    def desired_rows(self, groups: str, pending: str) -> str:
        """As of all tallies; `pending` is what the statement of the changes returned."""
        if self.summed is not None:
            return self.summed.sums.desired_rows(groups, pending)
        # Keys in quarantine are computed from the sources: the derived table does not have them.
        free = f"NOT {quarantine.is_held(self, 'c')} AND {self._may_alter('c')}"
        rows = self._changed_rows(self._numbered(pending), free)
        held = self.rows(Keys(self, f"({quarantine.keys(self)})"))
        return (
            f"{rows}\nUNION ALL SELECT {sql.columns(self.columns, 'h')} FROM (\n{held}\n) AS h"
            f" WHERE {quarantine.any_held(self)}"
        )

    def changed_rows(self, changes: str) -> str:
        """The same where no key is in quarantine or frozen."""
        return self._changed_rows(self._numbered(changes))

    def log_has_whole_keys(self) -> bool:
        return self.summed is not None and not self.upstream

    def instants(self) -> list[tuple[Table, str]]:
        if self.time_key is None or len(self.sources) != 1:
            return []
        column, source = self.time_key.column, self.sources[0]
        found = (each.instant for each in self.plan.windowed if each.column == column)
        bare = (_of_source(instant, source) for instant in found)
        return [(source, instant) for instant in bare if instant is not None]

    def totals(self) -> list[str]:
        return list(self._totals)

    def live_sources(self) -> Select[Any]:
        if self.summed is None or not self.upstream:
            return self.aggregate(Everything())
        live = {(t.table.schema or "public", t.table.name): t.live_name for t in self.upstream}
        columns = [self.table.c[n] for n in self.columns]
        rows = sql.relation(f"({self.summed.rows(live)})", columns).alias("s")
        return select(*(rows.c[n] for n in self.columns))

    def _pending_upstream(self) -> str:
        """What counted derived tables change by when their own pending changes are consumed."""
        assert self.summed is not None
        parts = []
        for upstream in self.upstream:
            pending = upstream.pending_rows()
            keys = f"SELECT FROM {pending.groups} AS k"
            going = (
                f"(SELECT * FROM {sql.name_of(upstream.table)} AS d"
                f" WHERE EXISTS ({keys} WHERE {upstream.matches('k', 'd', upstream.group)}))"
            )
            shared = f"WITH {', '.join(pending.shared)} " if pending.shared else ""
            for each in self.summed.of(upstream.table):
                coming = self.summed.added(each, pending.rows, 1)
                changes = f"{coming} UNION ALL {self.summed.added(each, going, -1)}"
                parts.append(f"({shared}{changes})")
        return "".join(f"  UNION ALL {part}\n" for part in parts)

    def pending_rows(self) -> PendingRows:
        free = f"NOT {quarantine.is_held(self, 'c')}"
        changes = (
            f"tally_changes AS MATERIALIZED (SELECT * FROM {self.changes_function}() AS c"
            f" WHERE {free})"
        )
        group = sql.columns(self.group)
        groups = f"(SELECT {group} FROM tally_changes UNION {quarantine.keys(self)})"
        rows = f"{self._changed_rows('tally_changes')}\nUNION ALL {self._held('true', 'true')}"
        return PendingRows(groups, f"({rows})", (changes,))

    def consume_at_once(self) -> str | None:
        return self.summed.sums.consume_at_once() if self.summed is not None else None

    def sums_may_overflow(self, source: Table) -> bool:
        return self.summed is not None

    def live_rows(self, naive: frozenset[str] = frozenset()) -> str:
        if self.summed is not None:
            return self.summed.sums.live_rows(naive)
        stored = ", ".join(self.derived_column(n, naive) for n in self.columns)
        if not self._has_changes:
            return (
                f"SELECT {stored} FROM {sql.name_of(self.table)} AS d WHERE {WHERE_FRESH}\n"
                f"UNION ALL {self._held('true', WHERE_FRESH)}"
            )
        return self._live(stored, WHERE_FRESH)

    def beyond_live(self) -> str | None:
        if self.summed is not None:
            # Adding up what is pending costs less than reading the sources.
            return None
        if not self._has_changes:
            return self._any_pending
        most = f"SELECT FROM {self.log_name} AS l LIMIT c.most_pending + 1"
        return (
            f"EXISTS (SELECT FROM {sql.name_of(refresh_costs)} AS c"
            f" WHERE c.tally = {sql.literal(self.name)}"
            f" AND (SELECT count(*) FROM ({most}) AS p) > c.most_pending)"
        )

    def functions(self) -> list[str]:
        if self.summed is not None:
            return self.summed.sums.functions()
        if not self._has_changes:
            return []
        compared = Compared(
            self._definition(),
            sql.name_of(self.table),
            self.matches("e", "d", self.group),
            is_bag=self.plan.is_bag,
            may_alter=self._may_alter,
        )
        raw, asked = self.raw_changes_function, self.asked_function
        functions = [
            changes_function.create_raw(raw, self.log_name, self.plan),
            changes_function.create(self.changes_function, raw, self.plan, compared),
        ]
        if self.has_lookup:
            functions += [
                changes_function.create_raw(asked, self.log_name, self.plan, "asked"),
                self.create_lookup(self.lookup_function),
            ]
        return functions

    @property
    def has_lookup(self) -> bool:
        """Whether `lookup_function` returns rows of the live view by arrays of the key's columns.

        Where rows are added to the derived table one by one, its live view does that as fast.
        """
        return self._plan is not None and bool(self._plan.asked)

    def looked_up(self, values: Mapping[str, Sequence[str]]) -> str | None:
        if not self.has_lookup or not set(self.key) <= set(values):
            return None
        keys = list(itertools.islice(itertools.product(*(values[n] for n in self.key)), MOST_KEYS))
        if len(keys) == MOST_KEYS:
            return None
        arrays = (
            f"ARRAY[{', '.join(column)}]::{type_}[]"
            for column, type_ in zip(
                zip(*keys, strict=True), changes_function.key_types(self.plan), strict=True
            )
        )
        return f"{self.lookup_function}({', '.join(arrays)})"

    def create_lookup(
        self, name: str, arguments: Sequence[str] = (), types: Sequence[str] = ()
    ) -> str:
        """CREATE FUNCTION for the live rows of single keys, at the cost of what concerns them.

        `arguments` are names of the arrays, one for each column of the key; by default none.
        `types` are those of their elements, by default those of the key. They may be wider: no row
        has an integer that the key cannot hold.
        """
        own = changes_function.key_types(self.plan)
        types = types or own
        arrays = [
            f"${place}" if given == key else _held_by(f"${place}", key)
            for place, (given, key) in enumerate(zip(types, own, strict=True), 1)
        ]
        given = ", ".join(arrays)
        asked = f"(SELECT DISTINCT * FROM unnest({given}) AS k ({sql.columns(self.key)}))"

        def mine(alias: str) -> str:
            """A condition: a row has one of the keys."""
            each = [
                f"{alias}.{sql.quote(n)} = ANY ({a})" for n, a in zip(self.key, arrays, strict=True)
            ]
            if len(each) > 1:
                same = self.matches("k", alias, self.key)
                each.append(f"EXISTS (SELECT FROM {asked} AS k WHERE {same})")
            return " AND ".join(each)

        stored, found = (
            ", ".join(f"{alias}.{sql.quote(n)}::{self.type_of(n)}" for n in self.columns)
            for alias in "df"
        )
        changed = (
            f"SELECT * FROM {self.asked_function}({given}) AS c"
            f" WHERE {self._may_alter('c')} AND NOT {quarantine.is_held(self, 'c')}"
        )
        expected = self.rows(Keys(self, asked))
        body = f"""
#variable_conflict use_column
BEGIN
  IF NOT EXISTS (
    SELECT FROM {sql.name_of(stale_marks)} AS m WHERE m.tally = {sql.literal(self.name)}
  ) THEN
    BEGIN
      RETURN QUERY WITH tally_changes AS MATERIALIZED ({changed})
        SELECT {stored} FROM {sql.name_of(self.table)} AS d WHERE {mine("d")}
          AND NOT EXISTS (SELECT FROM tally_changes AS c WHERE {self.matches("c", "d", self.group)})
        UNION ALL SELECT {found} FROM (
{self._changed_rows("tally_changes")}
) AS f WHERE {mine("f")};
      IF {quarantine.any_held(self)} THEN
        RETURN QUERY SELECT {found} FROM (
{expected}
) AS f WHERE {quarantine.is_held(self, "f")};
      END IF;
      PERFORM {sql.unbroken([self.table])};
      RETURN;
    EXCEPTION WHEN {quarantine.CONDITIONS} THEN NULL;
    END;
  END IF;
  RETURN QUERY SELECT {found} FROM (
{expected}
) AS f WHERE {sql.unbroken(self.sources)};
END"""
        returns = ", ".join(f"{sql.quote(n)} {self.type_of(n)}" for n in self.columns)
        return sql.create_function(
            name,
            f"TABLE ({returns})",
            body,
            arguments=", ".join(
                f"{argument} {type_}[]".strip()
                for argument, type_ in itertools.zip_longest(arguments, types, fillvalue="")
            ),
            attributes="STABLE SECURITY DEFINER",
            settings={"timezone": "'UTC'", "jit": "off", "row_security": "off"},
        )

    def queries(self) -> list[str]:
        builds = [node.build for node in self.plan.nodes]
        return [*super().queries(), self.resolved_text, *builds]

    def own_relations(self) -> list[tuple[str, str]]:
        own = [("state", node.state) for node in self.plan.nodes]
        if self.summed is not None or self.freezes:
            own.append(("pruned", self.pruned_name))
        return [("definition", self.definition_name), *own]

    def function_names(self) -> list[str]:
        if self.summed is not None:
            return [self.summed.sums.held_function, self.aggregate_function]
        own = [self.changes_function, self.raw_changes_function] if self._has_changes else []
        own += [self.asked_function, self.lookup_function] if self.has_lookup else []
        return [self.aggregate_function, *own]

    def matches(self, left: str, right: str, names: Sequence[str] | None = None) -> str:
        same = super().matches(left, right, names)
        if not self._plan or not self._plan.is_bag:
            return same
        # Of any columns that may be null, and of long rows, an index has the hash alone.
        return f"{self._hash(left)} = {self._hash(right)} AND {same}"

    def differ(self, left: str, right: str) -> str:
        # By their images: what is equal may still show differently, and json has no equality.
        # The types of both sides have to be the same, and a declared table may have wider ones.
        typed = [f".{sql.quote(n)}::{self.type_of(n)}" for n in self.measures]
        sides = (", ".join(f"{alias}{column}" for column in typed) for alias in (left, right))
        return "ROW({})::record *<> ROW({})::record".format(*sides)

    @property
    def _has_changes(self) -> bool:
        return bool(self.plan.changes) or self.summed is not None

    def _may_alter(self, alias: str) -> str:
        """A condition: pending changes may alter the group of a row."""
        return f"NOT {self.is_frozen(alias)}" if self.freezes else "true"

    @property
    def _any_pending(self) -> str:
        return f"EXISTS (SELECT FROM {self.log_name} AS l)"

    def _hash(self, alias: str) -> str:
        """A number for the output columns of a row."""
        return f"hash_record_extended(ROW({sql.columns(self._output, alias)}), 0)"

    def _definition(self, relation: str | None = None) -> str:
        """The SELECT's rows, those of `relation` or of its view, as the derived table has them."""
        relation = relation or self.definition_name
        if not self.is_numbered:
            return relation
        copy = "1"
        if self.plan.is_bag:
            equal = sql.columns(self._output, "v")
            copy = f"(row_number() OVER (PARTITION BY {equal}))::integer"
        return f"(SELECT v.*, {copy} AS {COPY} FROM {relation} AS v)"

    def _of_windows(self, scope: KeyFilter) -> str | None:
        """The SELECT for the windows of the scope, a relation; None where it cannot be asked so."""
        for each in self.plan.windowed:
            if self.time_key is None or each.column != self.time_key.column:
                continue
            span = scope.span(self, each.unit, f"({each.instant})")
            if span is not None:
                return f"({each.before}{span}{each.after})"
        return None

    def _numbered(self, changes: str) -> str:
        """Changed rows with the columns of the group: a relation."""
        if self.plan.is_bag or self.plan.key:
            return changes
        return f"(SELECT c.*, 1 AS {COPY} FROM {changes} AS c)"

    def _changed_rows(self, changes: str, where: str = "true") -> str:
        """A SELECT of `columns` from changed rows: those that are there now."""
        columns, copies = sql.columns(self.columns, "c"), ""
        if self.plan.is_bag:
            outputs = sql.columns(self._output, "c")
            # Numbered among those that are equal, as 1.0 and 1.00 are.
            number = f"row_number() OVER (PARTITION BY {outputs})"
            columns = f"{outputs}, ({number})::integer AS {COPY}"
            copies = f" CROSS JOIN generate_series(1, c.{TOTAL})"
        return f"SELECT {columns} FROM {changes} AS c{copies} WHERE c.{TOTAL} > 0 AND {where}"

    def _live(self, stored: str, fresh: str) -> str:
        """A SELECT of `columns`: the derived table's rows but for those that pending changes alter.

        `stored` are the columns of the derived table `d`.
        """
        changed = self._numbered(f"{self.changes_function}()")
        same = self.matches("c", "d", self.group)
        return (
            f"WITH tally_changes AS MATERIALIZED (SELECT * FROM {changed} AS c WHERE {fresh}"
            f" AND NOT {quarantine.is_held(self, 'c')})\n"
            f"SELECT {stored} FROM {sql.name_of(self.table)} AS d WHERE {fresh}"
            f" AND NOT EXISTS (SELECT FROM tally_changes AS c WHERE {same})\n"
            f"UNION ALL {self._changed_rows('tally_changes', fresh)}\n"
            f"UNION ALL {self._held('true', fresh)}"
        )

    def _held(self, unchanged: str, fresh: str) -> str:
        """A SELECT of the rows that the derived table cannot hold, from the sources."""
        return (
            f"SELECT {sql.columns(self.columns, 's')} FROM {self.aggregate_function}() AS s"
            f" WHERE {fresh} AND {quarantine.any_held(self)}"
            f" AND {quarantine.is_held(self, 's')} AND {unchanged}"
        )

    def _reached(self, scope: KeyFilter) -> str:
        """A condition that PostgreSQL can move into the SELECT, where `scope` is single keys.

        A join it cannot move behind a GROUP BY, but a comparison with an array it can.
        """
        if not isinstance(scope, Keys):
            return ""
        conditions = []
        for name in self.group:
            if name == COPY or isinstance(self.table.c[name].type, ARRAY):
                # An array of arrays is one array of their elements.
                continue
            column = sql.quote(name)
            found = f"s.{column} = ANY (ARRAY(SELECT k.{column} FROM {scope.relation} AS k))"
            if self.table.c[name].nullable:
                found = f"({found} OR s.{column} IS NULL)"
            conditions.append(f"{found} AND ")
        return "".join(conditions)

    def _captured(self, source: Table) -> list[CapturedSource]:
        named = (source.schema or "public", source.name)
        return [c for c in self.plan.captured if (c.schema, c.table) == named]

    def _find_relevant(self, source: Table) -> list[str]:
        if self._plan is None:
            # As far as it is declared: nothing is known of a text before it is compiled.
            read = visitors.iterate(self._select) if self._select is not None else ()
            used = {
                getattr(each, "name", "") for each in read if getattr(each, "table", None) is source
            }
            return [column.name for column in source.c if column.name in used]
        return [column.name for column in self.captured_values(source)]

    def _check(self) -> None:
        """Nothing, before the plan is known."""

    def _check_names(self) -> None:
        """Raise DeclarationError where the declaration names a column that there is not."""
        if not self._output:
            raise DeclarationError(f"{self.name}: the SELECT returns no column")
        at = (self._given_time_key.column,) if self._given_time_key is not None else ()
        indexed = [name for each in self._indexes for name in each]
        named = (("key", self.given_key), ("window", at), ("index", indexed))
        for what, names in (*named, ("totals", self._totals)):
            for name in names or ():
                if name not in self._output:
                    known = ", ".join(self._output)
                    hint = validation.nearest(name, self._output) or f"; it has {known}"
                    raise DeclarationError(
                        f"{self.name}: `{what}` names {name!r}, but the SELECT has no such"
                        f" column{hint}"
                    )

    def _check_bound(self) -> None:
        for name in self._output:
            fault = validation.fault_of_type(self.table.c[name], name in self.key)
            if fault:
                raise DeclarationError(f"{self.name}: the column {name!r} {fault}")
        self._require_free(self._output, [n for n in self._output if n.startswith("tally_")])
        if self.time_key is not None:
            self._check_time_key(self.time_key)
        elif isinstance(self._windows, Windows):
            raise DeclarationError(
                f"{self.name}: it is to have a window for each {self._windows}, but none of its key"
                f" ({', '.join(self.key)}) is plainly a time; name the column by `window`"
            )
        self._check_upstream()
        self._check_batches()

    def _find_lanes(self) -> None:
        """Take the tables of the lanes for the tally's own sources of the same names."""
        if self._given_batches is not None:
            self.batches = self._given_batches.over(self.sources)

    def _check_batches(self) -> None:
        """Raise DeclarationError where the tally is to be built in batches, and cannot be."""
        if self.batches is None:
            return
        self.batches.require_fit(self.name, self.key, self.sources)
        for lane in self.batches.lanes.values():
            try:
                lane.position(lane.source.c)
            except KeyError as error:
                (name,) = error.args
                raise DeclarationError(
                    f"{self.name}: batches go by {name!r} of {lane.source.name}, which is no column"
                    f" that the SELECT reads{validation.nearest(name, lane.source.c.keys())}"
                ) from None
        why = self._why_no_batches(self.batches.group)
        if why:
            raise DeclarationError(f"{self.name} cannot be built in batches: {why}")

    def _why_no_batches(self, group: Sequence[str]) -> str:
        if self.plan.summed is not None:
            return "it counts and sums single rows"
        if self.plan.nodes:
            return "it has stored intermediate results, which no batch would compute"
        if not self.plan.changes:
            return "any change computes all of it"
        may_be_null = {column.name for column in self.plan.columns if column.nullable}
        nullable = [name for name in group if name in may_be_null]
        if nullable:
            return f"a row whose {nullable[0]!r} is null, as it may be, would be in none"
        if not self.plan.marks:
            return "its rows are not known by a row of a source each, of which they are made"
        return ""

    def _check_upstream(self) -> None:
        if self.upstream and self.plan.summed is None:
            raise DeclarationError(
                f"{self.name} counts {self.upstream[0].name}; a derived table can be counted only"
                " by a SELECT of counts and sums over its single rows, grouped by its columns"
            )
        for upstream in self.upstream:
            if isinstance(upstream, SelectTally) and not upstream.has_lookup:
                raise DeclarationError(
                    f"{self.name} counts {upstream.name}; a derived table can be counted only where"
                    " its rows have a key and are found by changes, and are no counts and sums of"
                    " single rows of one table"
                )

    def _check_time_key(self, time_key: TimeKey) -> None:
        named = f"{self.name}: the time key's column {time_key.column!r}"
        if time_key.column not in self.key:
            raise DeclarationError(f"{named} must be part of the key ({', '.join(self.key)})")
        type_ = self.table.c[time_key.column].type
        if not isinstance(type_, (Date, DateTime)):
            raise DeclarationError(
                f"{named} is {type_!r}; expected a date or a time, as"
                " date_trunc('year', placed_at, 'Europe/Berlin') is"
            )
        try:
            windows = time_key.windows
        except ValueError as error:
            raise DeclarationError(f"{named}: {error}") from None
        zoned = getattr(type_, "timezone", False)
        if windows.unit == "hour" and windows.zone != "UTC" and not zoned:
            raise DeclarationError(
                f"{named} has no time zone, so that an hour in {windows.zone} may be two; expected"
                " a timestamptz, as date_trunc('hour', placed_at, 'Europe/Berlin') is"
            )

    def _with_windows(self, time_key: TimeKey | None) -> TimeKey | None:
        if time_key is None or isinstance(self._windows, bool):
            return time_key
        if time_key.windows == self._windows:
            return time_key
        return replace(time_key, partitions=self._windows)

    def _is_time(self, column: str) -> bool:
        """Whether it is a column of the key that is a time."""
        return column in self.key and isinstance(self.table.c[column].type, (Date, DateTime))

    def _find_time_key(self) -> None:
        found = self._given_time_key
        if found is None and self._windows and not self.is_numbered:
            found = self._outline.time_key
            found = found if found is not None and self._is_time(found.column) else None
        self.time_key = self._with_windows(found)

    def _derived_table(self, metadata: MetaData, name: str) -> Table:
        if self._own_table is not None:
            return self._own_table
        known = metadata.tables.get(f"{self._schema}.{name}")
        if known is not None:
            metadata.remove(known)
        # That two have one name, PostgreSQL says when it makes the definition view.
        names = () if self._plan is not None else dict.fromkeys(self._output)
        columns = (Column(name, NullType()) for name in names)
        return Table(name, metadata, *columns, schema=self._schema)

    def _fill_table(self, plan: Plan) -> None:
        if not self.is_numbered:
            # In another database its rows may have been numbered.
            tables.remove_column(self.table, COPY)
        for column in tables.columns_of(plan, numbered=self.is_numbered):
            if column.name not in self.table.c:
                self.table.append_column(column)
        if self._own_table is None:
            tables.add_key(self.table, self.key, self._hash("") if plan.is_bag else None)
            tables.add_indexes(self.table, self._indexes)

    def _source(self, metadata: MetaData, schema: str | None, name: str) -> Table:
        """The table of that name: the SELECT's own, or the metadata's, else a new one in it."""
        if (schema, name) in self._declared:
            return self._declared[schema, name]
        return tables.source_of(metadata, schema, name)

    def _not_installed(self, why: str) -> NotInstalled:
        return NotInstalled(f"{self.name}: {why}; run `tally migrate`")

    def definition_of(self, node: Node) -> str:
        """A digest of what the state of a node holds."""
        parts = [node.state, node.build, repr(node.columns), repr(node.key)]
        parts += [repr(node.unique), repr(node.indexes)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _of_source(instant: str, source: Table) -> str | None:
    """An instant of the SELECT for rows of the source alone, whatever the SELECT calls it.

    None where it is not plainly made of the source's columns.
    """
    names = {sql.quote(column.name) for column in source.c}
    qualified = _QUALIFIED.findall(instant)
    if "'" in instant or not {name for _, name in qualified} <= names:
        return None
    return _QUALIFIED.sub(r"\2", instant)


Tally.select_class = SelectTally


def _held_by(array: str, type_: str) -> str:
    """Those of an array of integers that a narrower type of integers holds, as an array of it."""
    most = 2 ** {"smallint": 15, "integer": 31}[type_]
    return (
        f"ARRAY(SELECT i::{type_} FROM unnest({array}) AS i WHERE i BETWEEN {-most} AND {most - 1})"
    )
