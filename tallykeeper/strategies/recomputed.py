"""The recomputed way: joins, distinct counts, minima, gaps, several sources, explosions.

The change log holds *dirty entities*: which entity (a post, a submission) a change concerned, with
the old and the new value of those key columns that the changed row itself carries. A refresh
resolves them to keys in its own snapshot, every combination of an entity's logged and current
parts, and computes exactly those keys anew. A trigger that did the resolving would see a snapshot
in which a concurrent writer's row is missing, and the tally would be silently wrong.

Why that is complete: an entity touched the key K before or after a change only if each part of K
was the entity's at that time. A part it still has is current; one it has lost was logged when it
was lost, for no source row changes without a row in the log.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ARRAY,
    JSON,
    ClauseElement,
    Column,
    Connection,
    FromClause,
    Select,
    SmallInteger,
    Table,
    and_,
    cast,
    except_all,
    select,
    true,
    tuple_,
    union,
    union_all,
)
from sqlalchemy import literal as bound
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql import visitors
from sqlalchemy.sql.elements import ColumnElement, Label
from sqlalchemy.types import Text

from tallykeeper.database import sql
from tallykeeper.declarations import validation
from tallykeeper.declarations.batches import Batches
from tallykeeper.declarations.combining import Combine, Membership
from tallykeeper.declarations.tally import (
    LOGGED_AT,
    PART,
    SIDES,
    WHERE_FRESH,
    Event,
    Everything,
    KeyFilter,
    PendingRows,
    Tally,
    TimeKey,
)
from tallykeeper.errors import DeclarationError
from tallykeeper.faults import quarantine
from tallykeeper.strategies import key_ranges

Row = Any


@dataclass(frozen=True)
class Capture:
    """What a change to one row of a source leaves in the log.

    `entity` names what the row belongs to; all captures of a tally that has split keys name it by
    the same columns. `key` returns those key columns that this row itself carries (for the window's
    column: the instant). Neither may look at another table.

    A row that carries no key may give `keys` instead: the SELECT of the group columns that the
    marked entities concern, from a relation of them. It is run in the refresh's own snapshot and
    may read all sources of the tally, so it has to find what is so now; what ceases to be so must
    be logged by the source that says it.
    """

    source: Table
    entity: Callable[[Row], Mapping[str, Any]] = lambda _row: {}
    key: Callable[[Row], Mapping[str, Any]] = lambda _row: {}
    keys: Callable[[FromClause], Select[Any]] | None = None


class RecomputedTally(Tally):
    """A tally whose keys are computed anew from the sources whenever they may have changed.

    `aggregate` receives a scope and must put `*scope(column=expression, ...)` into the WHERE of
    its SELECT (of each one, where it reads sources in several), giving for each `group` column
    the source expression, and for the window's column the instant. `group` are the key columns
    by which rows are recomputed together, by default the key. `combine` says of measures how those
    of several rows follow from theirs (`combining.py`); those of which it says nothing do not.
    """

    kind = "recomputed"

    def __init__(
        self,
        *,
        system: str,
        table: Table,
        key: Sequence[str],
        measures: Sequence[str],
        captures: Sequence[Capture],
        aggregate: Callable[[KeyFilter], Select[Any]],
        group: Sequence[str] | None = None,
        time_key: TimeKey | None = None,
        batches: Batches | None = None,
        description: str = "",
        combine: Mapping[str, Combine] | None = None,
        memberships: Mapping[str, Membership] | None = None,
    ) -> None:
        self.captures = tuple(captures)
        self.batches = batches
        self._aggregate = aggregate
        self._group = tuple(group) if group is not None else tuple(key)
        for capture in captures:
            name, source = f"{system}.{table.name}", capture.source
            validation.columns(name, "the entity of the capture", source, capture.entity)
            validation.columns(name, "the key of the capture", source, capture.key)
        super().__init__(
            system=system,
            table=table,
            key=key,
            measures=measures,
            sources=[c.source for c in captures],
            time_key=time_key,
            description=description,
            combine=combine,
            memberships=memberships,
        )
        self.pending_keys_function = sql.in_engine_schema(f"{system}_{table.name}_pending_keys")
        self.pending_rows_function = sql.in_engine_schema(f"{system}_{table.name}_pending_rows")
        self.rows_function = sql.in_engine_schema(f"{system}_{table.name}_rows_of_keys")
        self.stale_function = sql.in_engine_schema(f"{system}_{table.name}_live_sources")
        self.lenient_function = sql.in_engine_schema(f"{system}_{table.name}_lenient_rows")
        self.entity = self._entity_columns()
        self._require_free((*self.group, *self.entity), (LOGGED_AT, PART))
        self._check_captures()

    @property
    def group(self) -> tuple[str, ...]:
        return self._group

    def aggregate(self, scope: KeyFilter) -> Select[Any]:
        found = validation.resolved(
            self.name, "the aggregate", self.sources, lambda: self._aggregate(scope)
        )
        return _named_by_keys(validation.query(self.name, found))

    def log_columns(self) -> list[Column[Any]]:
        columns: list[Column[Any]] = [Column(PART, SmallInteger, nullable=False)]
        types = {
            name: expression.type
            for capture in self.captures
            for name, expression in self._entity_of(capture, capture.source.c).items()
        }
        columns += [
            Column(n, Text() if sql.is_text(t) else t)
            for n, t in types.items()
            if n not in self.group
        ]
        columns += [Column(n, sql.lasting_type(self.table.c[n])) for n in self.group]
        return columns

    def capture_one(self, source: Table, event: Event) -> list[str]:
        return self._captured(source, event, one=True)

    def capture_update(self, source: Table) -> list[tuple[str, str]]:
        new, old = (sql.relation(name, source.c) for name in ("new_rows", "old_rows"))
        pairs = (
            [sql.render(_comparable(side.c[key])) for side in (old, new)]
            for key in self._relevant_keys(source)
        )
        differs = " OR ".join(f"({a}) IS DISTINCT FROM ({b})" for a, b in pairs)
        return [(differs or "false", insert) for insert in self.capture_one(source, "update")]

    def capture_many(self, source: Table, event: Event) -> list[str]:
        return self._captured(source, event, one=False)

    def _make_good(self, event: Event, of: set[Any]) -> list[str] | None:
        if event == "delete" and of <= set(self.sources):
            # The change of what they refer to is logged itself.
            return []
        marked = self.mark_keys(event)
        return None if marked is None else [marked]

    def mark_keys(self, event: Event) -> str | None:
        part = next((n for n, c in enumerate(self.captures) if c.keys is None), None)
        if part is None or not self._keys_are_whole():
            return None
        group = sql.columns(self.group)
        rows = " UNION ".join(
            f"SELECT {part}, {group} FROM {relation}" for relation in SIDES[event]
        )
        return f"INSERT INTO {self.log_name} ({PART}, {group})\n  {rows}"

    def captured_values(self, source: Table) -> list[Any]:
        captures = [c for c in self.captures if c.source is source]
        return [
            v for c in captures for v in (*c.entity(source.c).values(), *c.key(source.c).values())
        ]

    def pending_rows(self) -> PendingRows:
        return PendingRows(f"{self.pending_keys_function}()", f"{self.pending_rows_function}()")

    @property
    def freezes(self) -> bool:
        # What is built in batches is found by rows of its sources, which are not there any more.
        return self.batches is None

    def rows(self, scope: KeyFilter) -> str:
        return self.with_frozen(super().rows(scope), scope)

    def groups_of(self, scope: KeyFilter) -> str:
        # Of a UNION, PostgreSQL computes also what nobody asks for.
        if not self.freezes:
            return super().groups_of(scope)
        return (
            f"SELECT {sql.columns(self.group, 's')} FROM (\n{super().rows(scope)}\n) AS s\n"
            f"UNION SELECT {sql.columns(self.group, 'z')} FROM {self.pruned_name} AS z"
            f" WHERE {scope.condition(self, 'z')}"
        )

    def lost_groups(self, connection: Connection) -> str:
        return sql.render(self.pending_keys(self.log_name))

    def touched_groups(self, pending: str) -> str:
        return self._unfrozen(sql.render(self.pending_keys(pending)))

    def _unfrozen(self, keys: str) -> str:
        """Those of the groups that are not frozen."""
        if not self.freezes:
            return keys
        return (
            f"SELECT {sql.columns(self.group, 'f')} FROM (\n{keys}\n) AS f"
            f" WHERE NOT {self.is_frozen('f')}"
        )

    def desired_rows(self, groups: str, pending: str) -> str:
        return self.rows_of(groups)

    def log_has_whole_keys(self) -> bool:
        return all(
            capture.keys is None and set(capture.key(capture.source.c)) == set(self.group)
            for capture in self.captures
        )

    def pending_keys(self, log: str) -> Select[Any]:
        """The distinct groups that the dirty entities in the relation `log` may have altered."""
        dirty = sql.relation(log, self.log_columns()).alias("dirty")
        found = [self._found_by(capture, dirty) for capture in self.captures if capture.keys]
        if found:
            keys = union(self._carried_keys(dirty), *found).subquery("keys")
            return select(*(keys.c[n] for n in self.group))
        return self._carried_keys(dirty)

    def _found_by(self, capture: Capture, dirty: FromClause) -> Select[Any]:
        """The keys that the entities marked by `capture` concern, as its `keys` finds them."""
        assert capture.keys is not None
        names = self._entity_of(capture, capture.source.c)
        number = self.captures.index(capture)
        entities = select(*(dirty.c[n] for n in names)).where(dirty.c[PART] == number).distinct()
        keys = capture.keys(entities.subquery(f"marked_{capture.source.name}")).subquery()
        return select(*(keys.c[n] for n in self.group))

    def _carried_keys(self, dirty: FromClause) -> Select[Any]:
        """The keys that dirty entities carry, whole or in parts."""
        if self._keys_are_whole():
            keys = select(*(dirty.c[n] for n in self.group)).select_from(dirty).distinct()
            carrying = [n for n, c in enumerate(self.captures) if c.keys is None]
            if len(carrying) < len(self.captures):
                keys = keys.where(dirty.c[PART].in_(carrying))
            return keys.where(*self._present(dirty))
        parts = [self._part(names, captures, dirty) for names, captures in self._by_key_columns()]
        joined: FromClause = parts[0]
        for part in parts[1:]:
            same = (joined_column(parts, n) == part.c[n] for n in self.entity)
            joined = joined.join(part, and_(*same))
        found = {n: joined_column(parts, n) for n in self.group}
        return (
            select(*(found[n].label(n) for n in self.group))
            .select_from(joined)
            .where(*(c.is_not(None) for n, c in found.items() if not self.table.c[n].nullable))
            .distinct()
        )

    def stored(self, scope: KeyFilter, *, wide: bool = False) -> str:
        return (
            f"SELECT {sql.columns(self.columns, 'd')} FROM {sql.name_of(self.table)} AS d\n"
            f"WHERE {scope.condition(self, 'd')} AND {self._not_pending('d')}"
        )

    def expected(self, scope: KeyFilter) -> str:
        return (
            f"SELECT {sql.columns(self.columns, 'r')} FROM (\n{self.rows(scope)}\n) AS r\n"
            f"WHERE {self._not_pending('r')}"
        )

    def live_rows(self, naive: frozenset[str] = frozenset()) -> str:
        stored = ", ".join(self.derived_column(n, naive) for n in self.columns)
        rows = f"SELECT {stored} FROM {sql.name_of(self.table)} AS d"
        if naive:
            rows = f"SELECT * FROM ({rows}) AS d"
        return (
            f"{rows} WHERE {WHERE_FRESH} AND {self._not_pending('d')}\n"
            f"UNION ALL SELECT {sql.columns(self.columns, 'p')}"
            f" FROM {self.pending_rows_function}() AS p WHERE {WHERE_FRESH}"
        )

    def _not_pending(self, alias: str) -> str:
        return (
            f"NOT EXISTS (SELECT FROM {self.pending_keys_function}() AS k"
            f" WHERE {self.matches('k', alias, self.group)})"
        )

    def functions(self) -> list[str]:
        keys = sql.render(self.pending_keys(self.log_name))
        group = ", ".join(
            f"{sql.quote(n)} {sql.type_name(sql.lasting_type(self.table.c[n]))}" for n in self.group
        )
        if not self._keys_are_whole() or any(c.keys for c in self.captures):
            keys = f"SELECT k.* FROM (\n{keys}\n) AS k WHERE {sql.unbroken(self.sources)}"
        keys = f"({self._unfrozen(keys)})\nUNION {quarantine.keys(self)}"
        # What cannot be computed is null, where there is something that may be.
        shown = (
            "true" if self.group == self.key and self.measures else f"r.{quarantine.REASON} IS NULL"
        )
        return [
            sql.stable_function(self.pending_keys_function, group, keys),
            key_ranges.create_function(self, self.rows_function),
            key_ranges.create_lenient(self, self.lenient_function, self.rows_function),
            self._create_stale(shown),
            sql.stable_function(
                self.pending_rows_function,
                sql.row_type(self.table, self.columns),
                f"SELECT {sql.columns(self.columns, 'r')} FROM ("
                f"{self.lenient_rows(f'{self.pending_keys_function}()')}) AS r WHERE {shown}",
            ),
        ]

    def _create_stale(self, shown: str) -> str:
        """CREATE FUNCTION for what the sources say, key by key where some cannot be computed."""
        aggregate = sql.render(self.live_sources())
        keys = f"SELECT DISTINCT {sql.columns(self.group, 's')} FROM (\n{aggregate}\n) AS s"
        if self.freezes:
            group = sql.columns(self.group, "z")
            keys = f"{keys}\nUNION SELECT {group} FROM {self.pruned_name} AS z"
        typed = ", ".join(f"s.{sql.quote(n)}::{self.type_of(n)}" for n in self.columns)
        body = f"""
#variable_conflict use_column
BEGIN
  BEGIN
    RETURN QUERY SELECT {typed} FROM {self.aggregate_function}() AS s;
    RETURN;
  EXCEPTION WHEN {quarantine.CONDITIONS} THEN NULL;
  END;
  RETURN QUERY SELECT {sql.columns(self.columns, "r")} FROM (
{self.lenient_rows(f"({keys})")}
) AS r WHERE {shown};
END"""
        returns = ", ".join(f"{sql.quote(n)} {self.type_of(n)}" for n in self.columns)
        return sql.stable_function(self.stale_function, returns, body, language="plpgsql")

    def rows_of(self, relation: str) -> str:
        return key_ranges.call(self, self.rows_function, relation)

    def lenient_rows(self, relation: str) -> str:
        return key_ranges.call(self, self.lenient_function, relation, (quarantine.REASON,))

    def function_names(self) -> list[str]:
        return [
            self.aggregate_function,
            self.pending_rows_function,
            self.stale_function,
            self.lenient_function,
            self.rows_function,
            self.pending_keys_function,
        ]

    def capture_reads(self, source: Table) -> list[ClauseElement]:
        expressions: list[Any] = []
        for capture in self.captures:
            if capture.source is source:
                expressions += self._entity_of(capture, source.c).values()
                expressions += self._key_of(capture, source.c).values()
        dirty = sql.relation(self.log_name, self.log_columns()).alias("dirty")
        return expressions + [self._found_by(c, dirty) for c in self.captures if c.keys]

    def _captured(self, source: Table, event: Event, one: bool) -> list[str]:
        statements = []
        for part, capture in enumerate(self.captures):
            if capture.source is not source:
                continue
            names, dirty = self._dirty_entities(part, capture, source, event, one)
            statements.append(
                f"INSERT INTO {self.log_name} ({sql.columns(names)})\n  {sql.render(dirty)}"
            )
        return statements

    def _dirty_entities(
        self, part: int, capture: Capture, source: Table, event: Event, one: bool
    ) -> tuple[list[str], Select[Any]]:
        rows = self._changed_rows(source, event, one)
        dirty = {
            **self._entity_of(capture, rows.c),
            **self._key_of(capture, rows.c, sql.utc_start if one else sql.utc_start_of_many),
        }
        chosen = select(bound(part).label(PART), *dirty.values())
        chosen = chosen.select_from(rows)
        alone = one and event != "update"
        return [PART, *dirty], chosen if alone else chosen.distinct()

    def _changed_rows(self, source: Table, event: Event, one: bool) -> FromClause:
        """The old and new rows of a statement.

        Of an update only those that differ in a column that matters, compared as bags, which
        needs no primary key and lets it change too. One old and one new row are known to differ.
        """
        new, old = (sql.relation(name, source.c) for name in ("new_rows", "old_rows"))
        if event == "insert":
            return new
        if event == "delete":
            return old
        relevant = self._relevant_keys(source)
        if one:
            both = (select(*(side.c[n] for n in relevant)) for side in (old, new))
            return union_all(*both).subquery("changed_rows")

        def sides(first: FromClause, second: FromClause) -> Select[Any]:
            removed = except_all(
                select(*(_comparable(first.c[n]) for n in relevant)),
                select(*(_comparable(second.c[n]) for n in relevant)),
            ).subquery()
            return select(*removed.c)

        return union_all(sides(old, new), sides(new, old)).subquery("changed_rows")

    def _relevant_keys(self, source: Table) -> list[str]:
        """The relevant columns as declarations know them, whatever their names."""
        names = self.relevant(source)
        return [c.key for c in source.c if c.name in names]

    def _entity_of(self, capture: Capture, row: Row) -> dict[str, Label[Any]]:
        return {name: value.label(name) for name, value in capture.entity(row).items()}

    def _key_of(
        self, capture: Capture, row: Row, start: sql.Truncate = sql.utc_start
    ) -> dict[str, Label[Any]]:
        key: dict[str, Label[Any]] = {}
        for name, value in capture.key(row).items():
            expression = value
            if self.time_key is not None and name == self.time_key.column:
                expression = start(self.time_key.unit, value)
            elif not isinstance(value, ColumnElement):
                expression = sql.cast_like(bound(value), self.table.c[name])
            key[name] = expression.label(name)
        return key

    def _key_columns(self, capture: Capture) -> tuple[str, ...]:
        given = capture.key(capture.source.c)
        return tuple(n for n in self.group if n in given)

    def _keys_are_whole(self) -> bool:
        return all(self._key_columns(c) == self.group for c in self.captures if c.keys is None)

    def _by_key_columns(self) -> list[tuple[tuple[str, ...], list[Capture]]]:
        sets: dict[tuple[str, ...], list[Capture]] = {}
        for capture in self.captures:
            names = self._key_columns(capture)
            if names and capture.keys is None:
                sets.setdefault(names, []).append(capture)
        return list(sets.items())

    def _part(
        self, names: tuple[str, ...], captures: list[Capture], dirty: FromClause
    ) -> FromClause:
        """(entity, part of the key): as logged, and as it is now, for the pending entities."""
        wanted = (*self.entity, *names)
        numbers = [self.captures.index(c) for c in captures]
        logged = select(*(dirty.c[n] for n in wanted)).where(dirty.c[PART].in_(numbers))
        entities = select(*(dirty.c[n] for n in self.entity)).distinct()
        current = []
        for capture in captures:
            rows = capture.source.alias(f"current_{capture.source.name}")
            entity = self._entity_of(capture, rows.c)
            key = self._key_of(capture, rows.c)
            whose = tuple_(*(entity[n].element for n in self.entity))
            current.append(select(*entity.values(), *key.values()).where(whose.in_(entities)))
        return union(logged, *current).subquery(f"part_{'_'.join(names)}")

    def _present(self, dirty: FromClause) -> list[ColumnElement[bool]]:
        required = [n for n in self.group if not self.table.c[n].nullable]
        return [dirty.c[n].is_not(None) for n in required] or [true()]

    def _check_aggregate(self) -> None:
        asked = _Asked()
        aggregate = self.aggregate(asked)
        for name in asked.names:
            if name not in self.group:
                raise DeclarationError(
                    f"{self.name}: the aggregate calls scope({name}=...), which is no column of"
                    f" the group ({', '.join(self.group)}){validation.nearest(name, self.group)}"
                )
        read = {e for e in visitors.iterate(aggregate) if isinstance(e, Table)}
        for capture in self.captures:
            if capture.keys is not None:
                read |= self._read_by_keys(capture)
        unwatched = sorted(t.name for t in read - set(self.sources))
        if unwatched:
            raise DeclarationError(
                f"{self.name}: the aggregate reads {', '.join(unwatched)}, which no capture"
                " watches: changes there would go unnoticed"
            )
        computed = [c.name for c in aggregate.selected_columns]
        if tuple(computed) != self.columns:
            raise DeclarationError(
                f"{self.name}: the aggregate must return the columns {self.columns} in this order;"
                f" it returns {tuple(computed)}"
            )

    def _read_by_keys(self, capture: Capture) -> set[Table]:
        """The tables that the capture's `keys` reads. Raises DeclarationError where it is unfit."""
        assert capture.keys is not None
        if capture.key(capture.source.c) or not capture.entity(capture.source.c):
            raise DeclarationError(
                f"{self.name}: the capture of {capture.source.name} finds its keys, so it must name"
                " an entity and carry no key"
            )
        dirty = sql.relation(self.log_name, self.log_columns()).alias("dirty")
        names = [dirty.c[n] for n in self._entity_of(capture, capture.source.c)]
        found = capture.keys(select(*names).subquery("marked"))
        given = tuple(c.key for c in found.selected_columns)
        if set(given) != set(self.group):
            raise DeclarationError(
                f"{self.name}: `keys` of the capture of {capture.source.name} must return the"
                f" columns {self.group}; it returns {given}"
            )
        return {e for e in visitors.iterate(found) if isinstance(e, Table)}

    def _entity_columns(self) -> tuple[str, ...]:
        carrying = [c for c in self.captures if c.keys is None]
        return tuple(dict.fromkeys(n for c in carrying for n in c.entity(c.source.c)))

    def _check_captures(self) -> None:
        if not self.group or not set(self.group) <= set(self.key):
            raise DeclarationError(
                f"{self.name}: the group {self.group} must be some of the key's columns {self.key}"
            )
        arrays = [n for n in self.group if isinstance(self.table.c[n].type, ARRAY)]
        if arrays:
            raise DeclarationError(
                f"{self.name}: {', '.join(arrays)} is an array, which cannot be part of the key of"
                " a recomputed tally; let each element have a row, or leave it out of `group`"
            )
        self._check_aggregate()
        if self.batches is not None:
            self.batches.require_fit(self.name, self.group, self.sources)
        if self._keys_are_whole():
            return
        covered = [n for names, _ in self._by_key_columns() for n in names]
        if sorted(covered) != sorted(self.group):
            raise DeclarationError(
                f"{self.name}: each column of {self.group} must be given by exactly one set of"
                f" captures; they give {tuple(covered)}"
            )
        for capture in self.captures:
            given = tuple(capture.entity(capture.source.c))
            if capture.keys is None and set(given) != set(self.entity):
                raise DeclarationError(
                    f"{self.name}: the capture of {capture.source.name} names its entity by"
                    f" {given}; where the key is split over sources all must use {self.entity}"
                )


class _Asked(Everything):
    """All keys there are; remembers the columns with which the aggregate calls the filter."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def __call__(self, **expressions: ColumnElement[Any]) -> list[ColumnElement[bool]]:
        self.names += expressions
        return super().__call__(**expressions)


def joined_column(parts: list[FromClause], name: str) -> ColumnElement[Any]:
    """The column of that name from the first part that has it."""
    return next(part.c[name] for part in parts if name in part.c)


def _named_by_keys(found: Select[Any]) -> Select[Any]:
    """The SELECT with its columns named as declarations know them."""
    columns = list(found.selected_columns)
    if all(c.name == c.key for c in columns):
        return found
    return found.with_only_columns(*(c if c.name == c.key else c.label(c.key) for c in columns))


def _comparable(value: ColumnElement[Any]) -> ColumnElement[Any]:
    # json has no equality of its own; its text does, and telling too much apart is safe.
    is_json = isinstance(value.type, JSON) and not isinstance(value.type, JSONB)
    return cast(value, Text).label(value.key) if is_json else value
