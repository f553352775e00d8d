"""Counts and sums that a derived table holds as they are, and their pending changes beside them.

The change log has signed amounts by key. A refresh adds up what is pending, and adds that to the
derived table; the live view adds it on the fly. A key whose count becomes zero is deleted.

What pruned rows had added is in a table of its own, by key (`pruned_rows.py`). What the derived
table must hold is the SELECT over the rows that are there, plus those sums.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

from sqlalchemy import BigInteger, Column, Integer, Numeric
from sqlalchemy.types import TypeEngine

from tallykeeper.database import sql
from tallykeeper.declarations.tally import LOGGED_AT, WHERE_FRESH, Event, KeyFilter, Tally
from tallykeeper.errors import DeclarationError
from tallykeeper.faults import quarantine


class CountsAndSums:
    """What is written to, and read from, the derived table and the log of such a tally.

    `counter` is the measure that counts rows. `upstream` is SQL for what pending changes of derived
    tables that the tally counts add to it, each with UNION ALL before it.
    """

    def __init__(
        self, tally: Tally, counter: str, upstream: Callable[[], str] = lambda: ""
    ) -> None:
        self.tally = tally
        self.counter = counter
        self.upstream = upstream
        name = f"{tally.system}_{tally.table.name}_held_rows"
        self.held_function = sql.in_engine_schema(name)

    def log_columns(self) -> list[Column[Any]]:
        """The columns of the change log."""
        tally = self.tally
        table = tally.table
        keys = [Column(n, sql.lasting_type(table.c[n])) for n in tally.key]
        return [
            *keys,
            *(Column(n, self.delta_type(n), nullable=False) for n in tally.measures),
        ]

    def delta_type(self, measure: str) -> TypeEngine[Any]:
        """The type of what is added to a measure. Raises DeclarationError: there is none."""
        declared = self.tally.table.c[measure].type
        if isinstance(declared, Integer):
            return BigInteger()
        if isinstance(declared, Numeric) and declared.asdecimal:
            return Numeric()
        raise DeclarationError(
            f"{self.tally.name}: the measure {measure!r} is {declared!r}; what is added up must be"
            " an integer or numeric (floats drift: store an integer sum)"
        )

    def insert_into_log(self, rows: str) -> str:
        """An INSERT of the rows of a SELECT into the log."""
        return f"INSERT INTO {self.tally.log_name} ({sql.columns(self.tally.columns)})\n  {rows}"

    def insert_summed(self, parts: list[str]) -> str:
        """An INSERT of the rows of several SELECTs into the log, added up by key."""
        return self.insert_into_log(self._summed(parts))

    def _summed(self, parts: list[str]) -> str:
        """A SELECT of the rows of several SELECTs, added up by key."""
        key = sql.columns(self.tally.key)
        changed = " OR ".join(f"sum({sql.quote(n)}) <> 0" for n in self.tally.measures)
        union = "\n    UNION ALL ".join(parts)
        return (
            f"SELECT {self._listed('deltas', _plainly)} FROM (\n    {union}\n  ) AS deltas"
            f" GROUP BY {key} HAVING {changed}"
        )

    def with_pruned(self, rows: str, scope: KeyFilter) -> str:
        """A SELECT of the columns: `rows`, a SELECT for the scope, and what pruned rows added."""
        tally = self.tally
        pruned = (
            f"SELECT {sql.columns(tally.columns, 'p')} FROM {tally.pruned_name} AS p"
            f" WHERE {scope.condition(tally, 'p')}"
        )
        return (
            f"SELECT {self._listed('rows', _plainly)} FROM (\n"
            f"  SELECT {sql.columns(tally.columns, 's')} FROM (\n{rows}\n  ) AS s\n"
            f"  UNION ALL {pruned}\n"
            f") AS rows GROUP BY {sql.columns(tally.key, 'rows')}"
            f" HAVING sum(rows.{sql.quote(self.counter)}) <> 0"
        )

    def prune(self, number: int, parts: list[str]) -> str:
        """Common table expressions that keep what the rows of `old_rows` had added.

        `parts` are SELECTs of what their deletion takes off, as capture logs it. The log gets the
        opposite, so that both together alter nothing, and the table of pruned rows gets it too.
        """
        tally = self.tally
        amounts = f"tally_amounts_{number}"
        given_back = ", ".join(
            f"a.{sql.quote(n)}" if n in tally.key else f"-a.{sql.quote(n)}" for n in tally.columns
        )
        return (
            f"{amounts} AS MATERIALIZED (\n  {self._summed(parts)}\n),"
            f" tally_logged_{number} AS (\n"
            f"  {self.insert_into_log(f'SELECT {given_back} FROM {amounts} AS a')}\n),"
            f" tally_kept_{number} AS (\n"
            f"  {self._into_pruned(f'SELECT {given_back} FROM {amounts} AS a')}\n)"
        )

    def keep_logged(self) -> str:
        """A statement that makes what the log takes off what pruned rows had added.

        The log has to have the deletion of pruned rows, and nothing else.
        """
        tally = self.tally
        columns = sql.columns(tally.columns)
        given_back = ", ".join(
            f"a.{sql.quote(n)}" if n in tally.key else f"-a.{sql.quote(n)}" for n in tally.columns
        )
        pending = self._summed([f"SELECT {sql.columns(tally.columns, 't')} FROM consumed AS t"])
        return (
            f"WITH consumed AS (DELETE FROM {tally.log_name} RETURNING {columns})\n"
            f"{self._into_pruned(f'SELECT {given_back} FROM ({pending}) AS a')}"
        )

    def _into_pruned(self, rows: str) -> str:
        """An INSERT that adds the rows of a SELECT to what pruned rows had added."""
        tally = self.tally
        added = ", ".join(
            f"{sql.quote(n)} = p.{sql.quote(n)} + excluded.{sql.quote(n)}" for n in tally.measures
        )
        return (
            f"INSERT INTO {tally.pruned_name} AS p ({sql.columns(tally.columns)})\n"
            f"  {rows}\n  ON CONFLICT ({sql.columns(tally.key)}) DO UPDATE SET {added}"
        )

    def stored(self, scope: KeyFilter, *, wide: bool = False) -> str:
        """A SELECT of the columns: what the derived table and the log claim for the scope."""
        tally = self.tally
        condition = scope.condition(tally, "d")
        # A row that says zero is a fault even where nothing is pending: it should not be there.
        zero = f"bool_or(rows.tally_is_stored AND rows.{sql.quote(self.counter)} = 0)"
        sums = self._listed("rows", _widely if wide else _comparably)
        return (
            f"SELECT {sums} FROM (\n"
            f"  SELECT {sql.columns(tally.columns, 'd')}, true AS tally_is_stored"
            f" FROM {sql.name_of(tally.table)} AS d WHERE {condition}\n"
            f"  UNION ALL SELECT {sql.columns(tally.columns, 'd')}, false"
            f" FROM {tally.log_name} AS d WHERE {condition}\n"
            f") AS rows GROUP BY {sql.columns(tally.key, 'rows')}\n"
            f"HAVING sum(rows.{sql.quote(self.counter)}) <> 0 OR {zero}"
        )

    def live_rows(self, naive: frozenset[str] = frozenset()) -> str:
        """A SELECT of the columns that is exact while the tally is not stale."""
        tally = self.tally
        stored = ", ".join(tally.derived_column(n, naive) for n in tally.columns)
        return (
            f"SELECT {self._listed('rows', sql.fitted)} FROM (\n"
            f"  SELECT {stored} FROM {sql.name_of(tally.table)} AS d\n"
            f"{self._pending()}"
            f") AS rows WHERE {WHERE_FRESH} AND NOT {quarantine.is_held(tally, 'rows')}"
            f" GROUP BY {sql.columns(tally.key, 'rows')}"
            f" HAVING sum(rows.{sql.quote(self.counter)}) <> 0\n"
            f"UNION ALL SELECT {sql.columns(tally.columns, 'h')} FROM {self.held_function}() AS h"
            f" WHERE {WHERE_FRESH} AND {quarantine.any_held(tally)}"
        )

    def functions(self) -> list[str]:
        """CREATE FUNCTION for what the live view calls."""
        tally = self.tally
        pending = (
            f"SELECT * FROM (\n  SELECT {sql.columns(tally.columns)} FROM {tally.log_name}"
            f" WHERE false\n{self._pending()}) AS p WHERE {quarantine.is_held(tally, 'p')}"
        )
        rows = (
            f"SELECT {self._listed('rows', sql.fitted)} FROM (\n"
            f"  {self.held_rows()}\n  UNION ALL {pending}\n"
            f") AS rows GROUP BY {sql.columns(tally.key, 'rows')}"
            f" HAVING sum(rows.{sql.quote(self.counter)}) <> 0"
        )
        return [sql.stable_function(self.held_function, self.row_type(), rows)]

    def added_up(self, rows: str) -> str:
        """A SELECT of the columns: the rows of a SELECT added up by key."""
        return (
            f"SELECT {self._listed('rows', sql.fitted)} FROM (\n    {rows}\n  ) AS rows"
            f" GROUP BY {sql.columns(self.tally.key, 'rows')}"
            f" HAVING sum(rows.{sql.quote(self.counter)}) <> 0"
        )

    def make_good(self, event: Event) -> list[str]:
        """What is logged of rows that a foreign key deletes or changes.

        The log, which says what became of the source rows, goes by what they were.
        """
        tally = self.tally
        given_back = f"SELECT {sql.columns(tally.columns)} FROM old_rows"
        if event == "update":
            negative = ", ".join(
                sql.quote(n) if n in tally.key else f"-{sql.quote(n)}::numeric"
                for n in tally.columns
            )
            given_back += f"\n  UNION ALL SELECT {negative} FROM new_rows"
        return [self.insert_into_log(given_back)]

    def held_rows(self) -> str:
        """A SELECT of `columns`: what the quarantined keys hold without their pending changes."""
        tally = self.tally
        measures = ", ".join(f"{sql.quote(n)} numeric" for n in tally.measures)
        listed = ", ".join(
            f"{'k' if n in tally.key else 'm'}.{sql.quote(n)}" for n in tally.columns
        )
        return (
            f"SELECT {listed}"
            f" FROM {quarantine.TABLE} AS q, jsonb_to_record(q.key) AS k ({tally.group_types}),"
            f" jsonb_to_record(q.rows -> 0) AS m ({measures})"
            f" WHERE q.tally = {sql.literal(tally.name)}"
        )

    def touched_groups(self, pending: str) -> str:
        """The keys that the rows of `pending` concern."""
        return f"SELECT DISTINCT {sql.columns(self.tally.key)} FROM {pending}"

    def desired_rows(self, groups: str, pending: str) -> str:
        """What the derived table must hold for the groups."""
        tally = self.tally
        return (
            f"SELECT {self._listed('rows', _plainly)} FROM (\n"
            f"  SELECT {sql.columns(tally.columns, 'd')} FROM {sql.name_of(tally.table)} AS d"
            f" WHERE EXISTS (SELECT FROM {groups} AS k WHERE {tally.matches('k', 'd')})"
            f" AND NOT {quarantine.is_held(tally, 'd')}\n"
            f"  UNION ALL {self.held_rows()}\n"
            f"  UNION ALL SELECT {sql.columns(tally.columns, 'l')} FROM {pending} AS l\n"
            f") AS rows GROUP BY {sql.columns(tally.key, 'rows')}"
            f" HAVING sum(rows.{sql.quote(self.counter)}) <> 0"
        )

    def row_type(self) -> str:
        """The columns with their types."""
        return ", ".join(f"{sql.quote(n)} {self.tally.type_of(n)}" for n in self.tally.columns)

    def consume_at_once(self) -> str:
        """One statement that consumes all pending changes and applies them.

        The row of each changed key is looked up once, and found by its place after that.
        """
        tally = self.tally
        derived = sql.name_of(tally.table)
        key, counter = sql.columns(tally.key), sql.quote(self.counter)
        sums = ", ".join(f"sum({sql.quote(n)}) AS {sql.quote(n)}" for n in tally.measures)
        changed = " OR ".join(f"sum({sql.quote(n)}) <> 0" for n in tally.measures)
        totals = ", ".join(
            f"coalesce(d.{sql.quote(n)}, 0) + c.{sql.quote(n)} AS {sql.quote(n)}"
            for n in tally.measures
        )
        assigned = ", ".join(f"{sql.quote(n)} = c.{sql.quote(n)}" for n in tally.measures)
        touch = ", updated_at = now()" if tally.has_updated_at else ""
        into = f", {sql.quote('updated_at')}" if tally.has_updated_at else ""
        value = ", now()" if tally.has_updated_at else ""
        same = "d.ctid = c.tally_place AND d.tableoid = c.tally_relation"
        return f"""
WITH consumed AS (
  DELETE FROM {tally.log_name} RETURNING {sql.columns(tally.columns)}, {LOGGED_AT}
), changed AS MATERIALIZED (
  SELECT {key}, {sums} FROM consumed GROUP BY {key} HAVING {changed}
), changed_at AS MATERIALIZED (
  SELECT {sql.columns(tally.key, "c")}, {totals},
         d.ctid AS tally_place, d.tableoid AS tally_relation
  FROM changed AS c LEFT JOIN {self._found_by_key(derived)}
), deleted AS (
  DELETE FROM {derived} AS d USING changed_at AS c WHERE {same} AND c.{counter} = 0
  RETURNING {tally.day_of("d")} AS day
), updated AS (
  UPDATE {derived} AS d SET {assigned}{touch} FROM changed_at AS c
  WHERE {same} AND c.{counter} <> 0
  RETURNING {tally.day_of("d")} AS day
), inserted AS (
  INSERT INTO {derived} AS d ({sql.columns(tally.columns)}{into})
  SELECT {sql.columns(tally.columns, "c")}{value} FROM changed_at AS c
  WHERE c.{counter} <> 0 AND c.tally_place IS NULL
  RETURNING {tally.day_of("d")} AS day
)
SELECT NULL AS day, count(*) AS consumed, 0 AS inserted, 0 AS updated, 0 AS deleted,
       min({LOGGED_AT}) AS oldest FROM consumed
UNION ALL
SELECT day, NULL, sum(i), sum(u), sum(r), NULL FROM (
  SELECT day, 1 AS i, 0 AS u, 0 AS r FROM inserted
  UNION ALL SELECT day, 0, 1, 0 FROM updated
  UNION ALL SELECT day, 0, 0, 1 FROM deleted
) AS written GROUP BY day ORDER BY 1"""

    def _found_by_key(self, derived: str) -> str:
        """The derived table as `d`, with the condition that a row has the key of `c`.

        Nulls compare equal by no operator that an index knows, so there is a search for each way
        in which the key may have nulls in it.
        """
        tally = self.tally
        nullable = [n for n in tally.key if tally.table.c[n].nullable]
        if not nullable:
            return f"{derived} AS d ON {tally.matches('d', 'c')}"
        listed = ", ".join(["ctid", "tableoid", *(f"d.{sql.quote(n)}" for n in tally.measures)])
        searches = []
        for nulls in product((False, True), repeat=len(nullable)):
            absent = {n for n, is_null in zip(nullable, nulls, strict=True) if is_null}
            same = " AND ".join(
                f"d.{sql.quote(n)} IS NULL AND c.{sql.quote(n)} IS NULL"
                if n in absent
                else f"d.{sql.quote(n)} = c.{sql.quote(n)}"
                for n in tally.key
            )
            searches.append(f"SELECT {listed} FROM {derived} AS d WHERE {same}")
        return f"LATERAL (\n  {' UNION ALL '.join(searches)}\n  ) AS d ON true"

    def _listed(self, alias: str, typed: Callable[[str, TypeEngine[Any]], str]) -> str:
        """The tally's columns, in its order, from rows that are grouped by key."""
        table, key = self.tally.table, self.tally.key
        return ", ".join(
            f"{alias}.{sql.quote(n)}"
            if n in key
            else f"{typed(f'sum({alias}.{sql.quote(n)})', table.c[n].type)} AS {sql.quote(n)}"
            for n in self.tally.columns
        )

    def _pending(self) -> str:
        """The changes of the log, and those that pending changes upstream will make."""
        columns = sql.columns(self.tally.columns, "l")
        return f"  UNION ALL SELECT {columns} FROM {self.tally.log_name} AS l\n{self.upstream()}"


def _plainly(expression: str, _type: TypeEngine[Any]) -> str:
    return expression


def _comparably(expression: str, type_: TypeEngine[Any]) -> str:
    """SQL: a sum as an aggregate has it, so that both sides of a comparison are alike."""
    # sum() widens. A sum that the derived table cannot hold is compared all the same.
    wide = BigInteger() if isinstance(type_, Integer) else Numeric()
    return f"({expression})::{sql.type_name(wide)}"


def _widely(expression: str, _type: TypeEngine[Any]) -> str:
    return f"({expression})::numeric"
