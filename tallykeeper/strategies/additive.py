"""The additive way: counts and sums over one source, or over a union of them.

The change log holds signed deltas by key: an INSERT adds, a DELETE subtracts, an UPDATE does
both and leaves nothing where they cancel. A refresh adds up the pending deltas and applies them;
the live view adds them on the fly. The sources are read only to rebuild and to verify.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    FromClause,
    Integer,
    Numeric,
    Select,
    Table,
    case,
    cast,
    func,
    literal_column,
    null,
    select,
    union_all,
)
from sqlalchemy import literal as bound
from sqlalchemy.sql.elements import ColumnElement, Label
from sqlalchemy.types import TypeEngine

from tallykeeper.database import sql
from tallykeeper.declarations import validation
from tallykeeper.declarations.combining import SUM
from tallykeeper.declarations.tally import (
    LOGGED_AT,
    WHERE_FRESH,
    Event,
    Everything,
    KeyFilter,
    Tally,
    TimeKey,
    may_be_null,
)
from tallykeeper.errors import DeclarationError
from tallykeeper.faults import quarantine

# The columns of one source row, by name: `file.created_at`.
Row = Any


@dataclass(frozen=True)
class Contribution:
    """What one row of a source adds to which key.

    `key` and `measures` map a row to values by column name; for the window's column give the
    instant, the engine takes the day or hour of it. The measure that is plainly 1 counts rows,
    and a key whose count reaches zero leaves the derived table. A row whose key is null where
    the derived table's column may not be, counts nowhere; a measure that is null, NaN or infinite
    counts as 0.
    """

    source: Table
    key: Callable[[Row], Mapping[str, Any]]
    measures: Callable[[Row], Mapping[str, Any]]
    where: Callable[[Row], ColumnElement[bool]] | None = None


class AdditiveTally(Tally):
    """A tally of counts and sums."""

    kind = "additive"
    log_has_deltas = True
    may_count_derived = True

    def __init__(
        self,
        *,
        system: str,
        table: Table,
        contributions: Sequence[Contribution],
        time_key: TimeKey | None = None,
        description: str = "",
    ) -> None:
        if not contributions:
            raise DeclarationError(f"{system}.{table.name}: an additive tally needs contributions")
        first = contributions[0]
        self.contributions = tuple(contributions)
        for each in contributions:
            _check_contribution(f"{system}.{table.name}", each)
        measures = tuple(first.measures(first.source.c))
        super().__init__(
            system=system,
            table=table,
            key=tuple(first.key(first.source.c)),
            measures=measures,
            sources=[c.source for c in contributions],
            time_key=time_key,
            description=description,
            combine=dict.fromkeys(measures, SUM),
        )
        self._require_free(self.columns, (LOGGED_AT,))
        self.counter = self._find_counter()
        self.held_function = sql.in_engine_schema(f"{system}_{table.name}_held_rows")

    def aggregate(self, scope: KeyFilter) -> Select[Any]:
        return self._union([self._aggregate_of(c, scope, c.source) for c in self.contributions])

    def live_sources(self) -> Select[Any]:
        live = {t.table: self._live_table(t) for t in self.upstream}
        return self._union(
            [
                self._aggregate_of(c, Everything(), live.get(c.source, c.source))
                for c in self.contributions
            ]
        )

    def _live_table(self, upstream: Tally) -> FromClause:
        columns = [upstream.table.c[n] for n in upstream.columns]
        return sql.relation(upstream.live_name, columns).alias(f"live_{upstream.table.name}")

    def _union(self, parts: list[Select[Any]]) -> Select[Any]:
        if len(parts) == 1:
            return parts[0]
        rows = union_all(*parts).subquery("contributions")
        key = [rows.c[n] for n in self.key]
        sums = [func.sum(rows.c[n]).label(n) for n in self.measures]
        return select(*key, *sums).group_by(*key)

    def log_columns(self) -> list[Column[Any]]:
        keys = [Column(n, sql.lasting_type(self.table.c[n])) for n in self.key]
        deltas = [Column(n, self._delta_type(n), nullable=False) for n in self.measures]
        return [*keys, *deltas]

    def capture_one(self, source: Table, event: Event) -> list[str]:
        relation, sign = ("new_rows", 1) if event == "insert" else ("old_rows", -1)
        parts = [
            sql.render(self._signed(contribution, source, relation, sign))
            for contribution in self._contributions_of(source)
        ]
        return [self._insert_into_log("\n  UNION ALL ".join(parts))]

    def capture_update(self, source: Table) -> list[tuple[str, str]]:
        pairs = []
        for contribution in self._contributions_of(source):
            removed = sql.render(self._signed(contribution, source, "old_rows", -1))
            added = sql.render(self._signed(contribution, source, "new_rows", 1))
            both = self._insert_into_log(f"{removed}\n  UNION ALL {added}")
            pairs.append((self._differs(contribution, source), both))
        return pairs

    def capture_many(self, source: Table, event: Event) -> list[str]:
        parts: list[str] = []
        start = sql.utc_start_of_many
        for contribution in self._contributions_of(source):
            if event != "insert":
                parts.append(sql.render(self._signed(contribution, source, "old_rows", -1, start)))
            if event != "delete":
                parts.append(sql.render(self._signed(contribution, source, "new_rows", 1, start)))
        key = sql.columns(self.key)
        sums = ", ".join(f"sum({sql.quote(n)}) AS {sql.quote(n)}" for n in self.measures)
        changed = " OR ".join(f"sum({sql.quote(n)}) <> 0" for n in self.measures)
        union = "\n    UNION ALL ".join(parts)
        return [
            self._insert_into_log(
                f"SELECT {key}, {sums} FROM (\n    {union}\n  ) AS deltas"
                f" GROUP BY {key} HAVING {changed}"
            )
        ]

    def captured_values(self, source: Table) -> list[Any]:
        values: list[Any] = []
        for contribution in self._contributions_of(source):
            values += contribution.key(source.c).values()
            values += contribution.measures(source.c).values()
            values += [contribution.where(source.c)] if contribution.where is not None else []
        return values

    def sums_may_overflow(self, source: Table) -> bool:
        measured = (
            value
            for contribution in self._contributions_of(source)
            for value in contribution.measures(source.c).values()
        )
        return any(isinstance(getattr(value, "type", None), BigInteger) for value in measured)

    def _make_good(self, event: Event, of: set[Any]) -> list[str] | None:
        # The log, which says what became of the source rows, goes by what they were.
        columns = sql.columns(self.columns)
        given_back = f"SELECT {columns} FROM old_rows"
        if event == "update":
            negative = ", ".join(f"-{sql.quote(n)}::numeric" for n in self.measures)
            given_back += f"\n  UNION ALL SELECT {sql.columns(self.key)}, {negative} FROM new_rows"
        return [self._insert_into_log(given_back)]

    def stored(self, scope: KeyFilter, *, wide: bool = False) -> str:
        condition = scope.condition(self, "d")
        # A row that says zero is a fault even where nothing is pending: it should not be there.
        zero = f"bool_or(rows.tally_is_stored AND rows.{sql.quote(self.counter)} = 0)"
        sums = self._sums(_widely if wide else _comparably)
        return (
            f"SELECT {sql.columns(self.key, 'rows')}, {sums} FROM (\n"
            f"  SELECT {sql.columns(self.columns, 'd')}, true AS tally_is_stored"
            f" FROM {sql.name_of(self.table)} AS d WHERE {condition}\n"
            f"  UNION ALL SELECT {sql.columns(self.columns, 'd')}, false"
            f" FROM {self.log_name} AS d WHERE {condition}\n"
            f") AS rows GROUP BY {sql.columns(self.key, 'rows')}\n"
            f"HAVING sum(rows.{sql.quote(self.counter)}) <> 0 OR {zero}"
        )

    def expected(self, scope: KeyFilter) -> str:
        return self.rows(scope)

    def live_rows(self, naive: frozenset[str] = frozenset()) -> str:
        stored = ", ".join(self.derived_column(n, naive) for n in self.columns)
        return (
            f"SELECT {sql.columns(self.key, 'rows')}, {self._sums(sql.fitted)} FROM (\n"
            f"  SELECT {stored} FROM {sql.name_of(self.table)} AS d\n"
            f"{self._pending()}"
            f") AS rows WHERE {WHERE_FRESH} AND NOT {quarantine.is_held(self, 'rows')}"
            f" GROUP BY {sql.columns(self.key, 'rows')}"
            f" HAVING sum(rows.{sql.quote(self.counter)}) <> 0\n"
            f"UNION ALL SELECT {sql.columns(self.columns, 'h')} FROM {self.held_function}() AS h"
            f" WHERE {WHERE_FRESH} AND {quarantine.any_held(self)}"
        )

    def functions(self) -> list[str]:
        pending = (
            f"SELECT * FROM (\n  SELECT {sql.columns(self.columns)} FROM {self.log_name}"
            f" WHERE false\n{self._pending()}) AS p WHERE {quarantine.is_held(self, 'p')}"
        )
        rows = (
            f"SELECT {sql.columns(self.key, 'rows')}, {self._sums(sql.fitted)} FROM (\n"
            f"  {self.held_rows()}\n  UNION ALL {pending}\n"
            f") AS rows GROUP BY {sql.columns(self.key, 'rows')}"
            f" HAVING sum(rows.{sql.quote(self.counter)}) <> 0"
        )
        return [sql.stable_function(self.held_function, self._row_type(), rows)]

    def function_names(self) -> list[str]:
        return [self.held_function, self.aggregate_function]

    def held_rows(self) -> str:
        """A SELECT of `columns`: what the quarantined keys hold without their pending changes."""
        measures = ", ".join(f"{sql.quote(n)} numeric" for n in self.measures)
        return (
            f"SELECT {sql.columns(self.key, 'k')}, {sql.columns(self.measures, 'm')}"
            f" FROM {quarantine.TABLE} AS q, jsonb_to_record(q.key) AS k ({self.group_types}),"
            f" jsonb_to_record(q.rows -> 0) AS m ({measures})"
            f" WHERE q.tally = {sql.literal(self.name)}"
        )

    def touched_groups(self, pending: str) -> str:
        return f"SELECT DISTINCT {sql.columns(self.key)} FROM {pending}"

    def desired_rows(self, groups: str, pending: str) -> str:
        sums = ", ".join(f"sum(rows.{sql.quote(n)}) AS {sql.quote(n)}" for n in self.measures)
        return (
            f"SELECT {sql.columns(self.key, 'rows')}, {sums} FROM (\n"
            f"  SELECT {sql.columns(self.columns, 'd')} FROM {sql.name_of(self.table)} AS d"
            f" WHERE EXISTS (SELECT FROM {groups} AS k WHERE {self.matches('k', 'd')})"
            f" AND NOT {quarantine.is_held(self, 'd')}\n"
            f"  UNION ALL {self.held_rows()}\n"
            f"  UNION ALL SELECT {sql.columns(self.columns, 'l')} FROM {pending} AS l\n"
            f") AS rows GROUP BY {sql.columns(self.key, 'rows')}"
            f" HAVING sum(rows.{sql.quote(self.counter)}) <> 0"
        )

    def log_has_whole_keys(self) -> bool:
        return not self.upstream

    def totals(self) -> list[str]:
        keys = [each.key(each.source.c) for each in self.contributions]
        return [n for n in self.key if len({key[n] is None for key in keys}) == 2]

    def _row_type(self) -> str:
        return ", ".join(f"{sql.quote(n)} {self._type_of(n)}" for n in self.columns)

    def _pending(self) -> str:
        """The changes of this log, and those that pending changes upstream will make."""
        log = f"  UNION ALL SELECT {sql.columns(self.columns, 'l')} FROM {self.log_name} AS l\n"
        return log + self._pending_upstream()

    def _pending_upstream(self) -> str:
        """What counted derived tables change by when their own pending changes are consumed."""
        parts = []
        for contribution in self.contributions:
            for upstream in self.upstream:
                if upstream.table is contribution.source:
                    parts += self._will_change(contribution, upstream)
        return "".join(f"  UNION ALL {part}\n" for part in parts)

    def _will_change(self, contribution: Contribution, upstream: Tally) -> list[str]:
        pending = upstream.pending_functions
        assert pending is not None
        columns = [upstream.table.c[n] for n in upstream.columns]
        coming = sql.relation(f"{pending.rows}()", columns).alias("coming")
        keys = f"SELECT FROM {pending.groups}() AS k"
        going = sql.relation(
            f"(SELECT * FROM {sql.name_of(upstream.table)} AS d"
            f" WHERE EXISTS ({keys} WHERE {upstream.matches('k', 'd', upstream.group)}))",
            columns,
        ).alias("going")
        return [
            sql.render(self._signed_rows(contribution, coming, 1)),
            sql.render(self._signed_rows(contribution, going, -1)),
        ]

    def consume_at_once(self) -> str:
        derived = sql.name_of(self.table)
        key = sql.columns(self.key)
        sums = ", ".join(f"sum({sql.quote(n)}) AS {sql.quote(n)}" for n in self.measures)
        changed = " OR ".join(f"sum({sql.quote(n)}) <> 0" for n in self.measures)
        added = ", ".join(
            f"{sql.quote(n)} = d.{sql.quote(n)} + c.{sql.quote(n)}" for n in self.measures
        )
        total = f"d.{sql.quote(self.counter)} + c.{sql.quote(self.counter)}"
        touch = ", updated_at = now()" if self.has_updated_at else ""
        into = f", {sql.quote('updated_at')}" if self.has_updated_at else ""
        value = ", now()" if self.has_updated_at else ""
        if any(self.table.c[n].nullable for n in self.key):
            placed, at = self._places(derived), "_at"
            same = "d.ctid = c.tally_place AND d.tableoid = c.tally_relation"
            absent = "c.tally_place IS NULL"
        else:
            placed, at, same = "", "", self.matches("d", "c")
            absent = f"NOT EXISTS (SELECT FROM {derived} AS d WHERE {same})"
        return f"""
WITH consumed AS (
  DELETE FROM {self.log_name} RETURNING {sql.columns(self.columns)}, {LOGGED_AT}
), changed AS MATERIALIZED (
  SELECT {key}, {sums} FROM consumed GROUP BY {key} HAVING {changed}
){placed}, deleted AS (
  DELETE FROM {derived} AS d USING changed{at} AS c WHERE {same} AND {total} = 0
  RETURNING {self.day_of("d")} AS day
), updated AS (
  UPDATE {derived} AS d SET {added}{touch} FROM changed{at} AS c WHERE {same} AND {total} <> 0
  RETURNING {self.day_of("d")} AS day
), inserted AS (
  INSERT INTO {derived} AS d ({sql.columns(self.columns)}{into})
  SELECT {sql.columns(self.columns, "c")}{value} FROM changed{at} AS c
  WHERE c.{sql.quote(self.counter)} <> 0 AND {absent}
  RETURNING {self.day_of("d")} AS day
)
SELECT NULL AS day, count(*) AS consumed, 0 AS inserted, 0 AS updated, 0 AS deleted,
       min({LOGGED_AT}) AS oldest FROM consumed
UNION ALL
SELECT day, NULL, sum(i), sum(u), sum(r), NULL FROM (
  SELECT day, 1 AS i, 0 AS u, 0 AS r FROM inserted
  UNION ALL SELECT day, 0, 1, 0 FROM updated
  UNION ALL SELECT day, 0, 0, 1 FROM deleted
) AS written GROUP BY day ORDER BY 1"""

    def _places(self, derived: str) -> str:
        """A CTE of the changed keys with the place of each one's row, found by index.

        Nulls compare equal by no operator that an index knows, so there is a search for each way
        in which the key may have nulls in it.
        """
        nullable = [n for n in self.key if self.table.c[n].nullable]
        searches = []
        for nulls in product((False, True), repeat=len(nullable)):
            absent = {n for n, is_null in zip(nullable, nulls, strict=True) if is_null}
            same = " AND ".join(
                f"d.{sql.quote(n)} IS NULL AND c.{sql.quote(n)} IS NULL"
                if n in absent
                else f"d.{sql.quote(n)} = c.{sql.quote(n)}"
                for n in self.key
            )
            searches.append(f"SELECT ctid, tableoid FROM {derived} AS d WHERE {same}")
        return (
            ", changed_at AS MATERIALIZED (\n"
            "  SELECT c.*, d.ctid AS tally_place, d.tableoid AS tally_relation FROM changed AS c"
            f" LEFT JOIN LATERAL (\n  {' UNION ALL '.join(searches)}\n  ) AS d ON true\n)"
        )

    def _contributions_of(self, source: Table) -> list[Contribution]:
        return [c for c in self.contributions if c.source is source]

    def _insert_into_log(self, rows: str) -> str:
        return f"INSERT INTO {self.log_name} ({sql.columns(self.columns)})\n  {rows}"

    def _sums(self, typed: Callable[[str, TypeEngine[Any]], str]) -> str:
        return ", ".join(
            f"{typed(f'sum(rows.{sql.quote(n)})', self.table.c[n].type)} AS {sql.quote(n)}"
            for n in self.measures
        )

    def _key_of(
        self, contribution: Contribution, row: Row, start: sql.Truncate = sql.utc_start
    ) -> dict[str, Label[Any]]:
        key: dict[str, Label[Any]] = {}
        for name, value in contribution.key(row).items():
            if self.time_key is not None and name == self.time_key.column:
                expression = start(self.time_key.unit, value)
            elif isinstance(value, ColumnElement):
                expression = value
            else:
                given = null() if value is None else bound(value)
                expression = sql.cast_like(given, self.table.c[name])
            key[name] = expression.label(name)
        return key

    def _conditions(self, contribution: Contribution, row: Row) -> list[ColumnElement[bool]]:
        conditions = []
        if contribution.where is not None:
            conditions.append(contribution.where(row))
        for name, value in contribution.key(row).items():
            certain = isinstance(value, Column) and not may_be_null(value)
            if isinstance(value, ColumnElement) and not self.table.c[name].nullable and not certain:
                conditions.append(value.is_not(None))
        return conditions

    def _aggregate_of(
        self, contribution: Contribution, scope: KeyFilter, source: FromClause
    ) -> Select[Any]:
        row = source.c
        key = self._key_of(contribution, row)
        instants = {n: v for n, v in contribution.key(row).items() if isinstance(v, ColumnElement)}
        sums = [
            (func.count() if _is_one(v) else func.coalesce(func.sum(_finite(v)), 0)).label(n)
            for n, v in contribution.measures(row).items()
        ]
        return (
            select(*key.values(), *sums)
            .select_from(source)
            .where(*self._conditions(contribution, row), *scope(**instants))
            .group_by(*(label.element for label in key.values()))
        )

    def _signed(
        self,
        contribution: Contribution,
        source: Table,
        relation: str,
        sign: int,
        start: sql.Truncate = sql.utc_start,
    ) -> Select[Any]:
        return self._signed_rows(contribution, sql.relation(relation, source.c), sign, start)

    def _signed_rows(
        self,
        contribution: Contribution,
        rows: FromClause,
        sign: int,
        start: sql.Truncate = sql.utc_start,
    ) -> Select[Any]:
        row = rows.c
        measures = []
        for name, value in contribution.measures(row).items():
            if _is_one(value):
                measures.append(bound(sign).label(name))
            else:
                known: ColumnElement[Any] = func.coalesce(_finite(value), 0)
                if isinstance(known.type, Integer):
                    # The smallest integer has no negative of its own type.
                    known = cast(known, BigInteger)
                measures.append((known if sign > 0 else -known).label(name))
        return (
            select(*self._key_of(contribution, row, start).values(), *measures)
            .select_from(rows)
            .where(*self._conditions(contribution, row))
        )

    def _differs(self, contribution: Contribution, source: Table) -> str:
        """Whether the one old row and the one new row contribute differently."""
        sides = []
        for relation in ("old_rows", "new_rows"):
            row = sql.relation(relation, source.c).c
            key = self._key_of(contribution, row)
            # That a key may not be null needs no comparing of its own: nulls are equal here.
            values = [label.element for label in key.values()]
            values += [v for v in contribution.measures(row).values() if not _is_one(v)]
            values += [contribution.where(row)] if contribution.where is not None else []
            sides.append([sql.render(value) for value in values])
        pairs = [f"({a}) IS DISTINCT FROM ({b})" for a, b in zip(*sides, strict=True) if a != b]
        return " OR ".join(pairs) or "false"

    def _delta_type(self, measure: str) -> TypeEngine[Any]:
        declared = self.table.c[measure].type
        if isinstance(declared, Integer):
            return BigInteger()
        if isinstance(declared, Numeric) and declared.asdecimal:
            return Numeric()
        raise DeclarationError(
            f"{self.name}: the measure {measure!r} is {declared!r}; an additive measure must be"
            " an integer or numeric (floats drift: store an integer sum)"
        )

    def _find_counter(self) -> str:
        for contribution in self.contributions:
            key, measures = (
                contribution.key(contribution.source.c),
                contribution.measures(contribution.source.c),
            )
            if tuple(key) != self.key or tuple(measures) != self.measures:
                raise DeclarationError(
                    f"{self.name}: every contribution must return the same columns in the same"
                    f" order; expected {self.columns}, {contribution.source.name} returns"
                    f" {(*key, *measures)}"
                )
            for name, value in measures.items():
                self._check_sums_exactly(name, value)
        counters = [
            name
            for name in self.measures
            if all(_is_one(c.measures(c.source.c)[name]) for c in self.contributions)
        ]
        if not counters:
            raise DeclarationError(
                f"{self.name}: one measure must be plainly 1, the count of rows: without it"
                " nothing says when a key is empty"
            )
        return counters[0]

    def _check_sums_exactly(self, measure: str, value: object) -> None:
        """A sum that is rounded at every refresh drifts from the sum rounded once."""
        self._delta_type(measure)
        declared, given = self.table.c[measure].type, getattr(value, "type", None)
        loses = isinstance(given, Float)
        if isinstance(given, Numeric):
            loses = isinstance(declared, Integer) or (
                isinstance(declared, Numeric)
                and declared.scale is not None
                and (given.scale is None or given.scale > declared.scale)
            )
        if loses:
            raise DeclarationError(
                f"{self.name}: the measure {measure!r} is {declared!r}, which cannot hold sums of"
                f" {given!r} exactly; declare it numeric without a scale, and sum no floats"
            )


def _comparably(expression: str, type_: TypeEngine[Any]) -> str:
    """SQL: a sum as an aggregate has it, so that both sides of a comparison are alike."""
    # sum() widens. A sum that the derived table cannot hold is compared all the same.
    wide = BigInteger() if isinstance(type_, Integer) else Numeric()
    return f"({expression})::{sql.type_name(wide)}"


def _widely(expression: str, _type: TypeEngine[Any]) -> str:
    return f"({expression})::numeric"


def _check_contribution(name: str, contribution: Contribution) -> None:
    source = contribution.source
    validation.columns(name, "the key", source, contribution.key)
    validation.measures(name, source, contribution.measures)
    if contribution.where is not None:
        validation.condition(name, source, contribution.where)


def _finite(value: Any) -> Any:
    """`value`, or null where it is no number: what was once added could not be taken off again."""
    if not isinstance(getattr(value, "type", None), Numeric):
        return value
    strange: list[ColumnElement[Any]] = [
        literal_column(f"NUMERIC '{name}'") for name in ("NaN", "Infinity", "-Infinity")
    ]
    return case((value.in_(strange), None), else_=value)


def _is_one(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value == 1
