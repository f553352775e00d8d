"""The additive way: counts and sums over one source, or over a union of them.

The change log holds signed deltas by key: an INSERT adds, a DELETE subtracts, an UPDATE does
both and leaves nothing where they cancel. A refresh adds up the pending deltas and applies them;
the live view adds them on the fly. The sources are read only to rebuild and to verify.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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

from tallykeeper.database import sql
from tallykeeper.declarations import validation
from tallykeeper.declarations.combining import SUM
from tallykeeper.declarations.tally import (
    LOGGED_AT,
    Event,
    Everything,
    KeyFilter,
    Tally,
    TimeKey,
    may_be_null,
)
from tallykeeper.errors import DeclarationError
from tallykeeper.strategies.counts_and_sums import CountsAndSums

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
        self.sums = CountsAndSums(self, self.counter, self._pending_upstream)

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

    def capture_one(self, source: Table, event: Event) -> list[str]:
        relation, sign = ("new_rows", 1) if event == "insert" else ("old_rows", -1)
        parts = [
            sql.render(self._signed(contribution, source, relation, sign))
            for contribution in self._contributions_of(source)
        ]
        return [self.sums.insert_into_log("\n  UNION ALL ".join(parts))]

    def capture_update(self, source: Table) -> list[tuple[str, str]]:
        pairs = []
        for contribution in self._contributions_of(source):
            removed = sql.render(self._signed(contribution, source, "old_rows", -1))
            added = sql.render(self._signed(contribution, source, "new_rows", 1))
            both = self.sums.insert_into_log(f"{removed}\n  UNION ALL {added}")
            pairs.append((self._differs(contribution, source), both))
        return pairs

    def capture_many(self, source: Table, event: Event) -> list[str]:
        return [self.sums.insert_summed(self.amounts(source, event))]

    def amounts(self, source: Table, event: Event) -> list[str]:
        """SELECTs of the columns: what the rows of a statement on `source` add and take off."""
        parts: list[str] = []
        start = sql.utc_start_of_many
        for contribution in self._contributions_of(source):
            if event != "insert":
                parts.append(sql.render(self._signed(contribution, source, "old_rows", -1, start)))
            if event != "delete":
                parts.append(sql.render(self._signed(contribution, source, "new_rows", 1, start)))
        return parts

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
        return self.sums.make_good(event)

    def expected(self, scope: KeyFilter) -> str:
        return self.rows(scope)

    def rows(self, scope: KeyFilter) -> str:
        return self.sums.with_pruned(super().rows(scope), scope)

    def with_pruned(self, rows: str) -> str:
        return self.sums.with_pruned(rows, Everything())

    def own_relations(self) -> list[tuple[str, str]]:
        return [("pruned", self.pruned_name)]

    def function_names(self) -> list[str]:
        return [self.sums.held_function, self.aggregate_function]

    def log_columns(self) -> list[Column[Any]]:
        return self.sums.log_columns()

    def stored(self, scope: KeyFilter, *, wide: bool = False) -> str:
        return self.sums.stored(scope, wide=wide)

    def live_rows(self, naive: frozenset[str] = frozenset()) -> str:
        return self.sums.live_rows(naive)

    def functions(self) -> list[str]:
        return self.sums.functions()

    def touched_groups(self, pending: str) -> str:
        return self.sums.touched_groups(pending)

    def desired_rows(self, groups: str, pending: str) -> str:
        return self.sums.desired_rows(groups, pending)

    def consume_at_once(self) -> str:
        return self.sums.consume_at_once()

    def log_has_whole_keys(self) -> bool:
        return not self.upstream

    def totals(self) -> list[str]:
        keys = [each.key(each.source.c) for each in self.contributions]
        return [n for n in self.key if len({key[n] is None for key in keys}) == 2]

    def _pending_upstream(self) -> str:
        """What counted derived tables change by when their own pending changes are consumed."""
        parts = []
        for contribution in self.contributions:
            for upstream in self.upstream:
                if upstream.table is contribution.source:
                    parts += self._will_change(contribution, upstream)
        return "".join(f"  UNION ALL {part}\n" for part in parts)

    def _will_change(self, contribution: Contribution, upstream: Tally) -> list[str]:
        pending = upstream.pending_rows()
        columns = [upstream.table.c[n] for n in upstream.columns]
        coming = sql.relation(pending.rows, columns).alias("coming")
        keys = f"SELECT FROM {pending.groups} AS k"
        going = sql.relation(
            f"(SELECT * FROM {sql.name_of(upstream.table)} AS d"
            f" WHERE EXISTS ({keys} WHERE {upstream.matches('k', 'd', upstream.group)}))",
            columns,
        ).alias("going")
        return [
            sql.render(self._signed_rows(contribution, coming, 1)),
            sql.render(self._signed_rows(contribution, going, -1)),
        ]

    def _contributions_of(self, source: Table) -> list[Contribution]:
        return [c for c in self.contributions if c.source is source]

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
        CountsAndSums(self, "").delta_type(measure)
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
