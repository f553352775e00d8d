"""Transactions at random: all that applications do to rows, and some of what they should not do."""

from __future__ import annotations

import random
from collections.abc import Sequence

from tests.select_fuzz.schemas import KEYS, Column, Table, key_value, value

Transaction = list[str]
"""Its statements; one that fails rolls all of it back."""


class Writes:
    """Writes to the tables."""

    def __init__(self, rng: random.Random, tables: Sequence[Table]) -> None:
        self.rng = rng
        self.tables = tables

    def initial(self) -> list[str]:
        """The first rows, a statement each."""
        statements = []
        for table in self.tables:
            for number in self.rng.sample(range(1, KEYS + 1), self.rng.randint(4, KEYS)):
                target = self.rng.choice(table.writable) if table.form == "inherited" else table.sql
                statements.append(self._insert(table, [number], target) + " ON CONFLICT DO NOTHING")
        return statements

    def transaction(self) -> Transaction:
        """One to four statements, with savepoints and roll backs sometimes."""
        statements = [
            self.statement() for _ in range(self.rng.choices((1, 2, 3, 4), (50, 25, 15, 9))[0])
        ]
        if self.rng.random() < 0.1:
            at = self.rng.randint(0, len(statements) - 1)
            undone = [f"SAVEPOINT s{at}", statements[at], f"ROLLBACK TO SAVEPOINT s{at}"]
            statements[at : at + 1] = undone
            statements.append(self.statement())
        if self.rng.random() < 0.04:
            statements.append("ROLLBACK")
        return statements

    def statement(self) -> str:
        """One statement."""
        name = self.rng.choices(list(_STATEMENTS), list(_STATEMENTS.values()))[0]
        written: str = getattr(self, f"_{name}")(self.rng.choice(self.tables))
        return written

    def _row(self, table: Table, number: int) -> str:
        values = []
        for column in table.columns:
            if column.name == "id":
                values.append(key_value(column.kind, number))
            elif column.name == "line" and column.name in table.key:
                values.append(str(self.rng.randint(1, 3)))
            else:
                values.append(self._of(column, table))
        return f"({', '.join(values)})"

    def _of(self, column: Column, table: Table) -> str:
        if column.name.endswith("_line") and column.domain:
            return self.rng.choice(("1", "2", "3") if column.not_null else ("1", "2", "3", "NULL"))
        return value(self.rng, column)

    def _insert(self, table: Table, numbers: Sequence[int], target: str) -> str:
        rows = ", ".join(self._row(table, n) for n in numbers)
        return f"INSERT INTO {target} ({', '.join(c.name for c in table.columns)}) VALUES {rows}"

    def _insert_one(self, table: Table) -> str:
        target = table.sql if self.rng.random() < 0.7 else self.rng.choice(table.writable)
        text = self._insert(table, [self.rng.randint(1, KEYS)], target)
        return text + (" ON CONFLICT DO NOTHING" if self.rng.random() < 0.8 else "")

    def _insert_many(self, table: Table) -> str:
        numbers = self.rng.sample(range(1, KEYS + 1), self.rng.randint(2, 6))
        return self._insert(table, numbers, table.sql) + " ON CONFLICT DO NOTHING"

    def _upsert(self, table: Table) -> str:
        if table.form == "unkeyed":
            return self._update(table)
        numbers = self.rng.sample(range(1, KEYS + 1), self.rng.randint(1, 5))
        insert = self._insert(table, numbers, table.sql)
        changed = [c.name for c in self._changed(table)]
        if not changed:
            return insert + " ON CONFLICT DO NOTHING"
        sets = ", ".join(f"{name} = excluded.{name}" for name in changed)
        return f"{insert} ON CONFLICT ({', '.join(table.key)}) DO UPDATE SET {sets}"

    def _changed(self, table: Table) -> list[Column]:
        others = [c for c in table.columns if c.name not in table.key]
        return self.rng.sample(others, min(len(others), self.rng.choices((1, 2, 3), (6, 3, 1))[0]))

    def _where(self, table: Table, alias: str = "") -> str:
        dot = f"{alias}." if alias else ""
        id_ = table.column("id")
        if self.rng.random() < 0.65:
            numbers = [
                key_value(id_.kind, self.rng.randint(1, KEYS))
                for _ in range(self.rng.randint(1, 4))
            ]
            return f"{dot}id IN ({', '.join(numbers)})"
        column = self.rng.choice(table.columns)
        literal = value(self.rng, column, nulls=0.25)
        if literal == "NULL":
            return f"{dot}{column.name} IS NULL"
        operator = self.rng.choice(
            ("=", "=", "=", "<>", "<") if column.kind != "bool" else ("=", "<>")
        )
        return f"{dot}{column.name} {operator} {literal}"

    def _update(self, table: Table) -> str:
        changed = self._changed(table) or [table.column("id")]
        sets = ", ".join(f"{c.name} = {self._of(c, table)}" for c in changed)
        where = f" WHERE {self._where(table)}" if self.rng.random() < 0.93 else ""
        return f"UPDATE {table.sql} SET {sets}{where}"

    def _update_by_row(self, table: Table) -> str:
        numbers = [
            c for c in table.columns if c.kind in ("int", "money", "bigint") and not c.domain
        ]
        if not numbers:
            return self._update(table)
        name = self.rng.choice(numbers).name
        return f"UPDATE {table.sql} SET {name} = {name} % 5 + 1 WHERE {self._where(table)}"

    def _update_nothing(self, table: Table) -> str:
        name = self.rng.choice(table.columns).name
        return f"UPDATE {table.sql} SET {name} = {name}" + (
            f" WHERE {self._where(table)}" if self.rng.random() < 0.7 else ""
        )

    def _update_key(self, table: Table) -> str:
        id_ = table.column("id")
        old, new = (key_value(id_.kind, self.rng.randint(1, KEYS)) for _ in range(2))
        return f"UPDATE {table.sql} SET id = {new} WHERE id = {old}"

    def _update_from(self, table: Table) -> str:
        """Rows take a value from the row that they refer to."""
        named = {t.name: t for t in self.tables}
        for reference in table.references:
            target = named[reference.target]
            same = [
                (c, d)
                for c in table.columns
                for d in target.columns
                if c.kind == d.kind and not c.domain and not d.domain
            ]
            if same and reference.target != table.name:
                to, from_ = self.rng.choice(same)
                matches = " AND ".join(
                    f"u.{c} = o.{k}" for c, k in zip(reference.columns, target.key, strict=True)
                )
                not_null = f" AND o.{from_.name} IS NOT NULL" if to.not_null else ""
                return (
                    f"UPDATE {table.sql} AS u SET {to.name} = o.{from_.name}"
                    f" FROM {target.sql} AS o"
                    f" WHERE {matches}{not_null} AND {self._where(target, 'o')}"
                )
        return self._update(table)

    def _move(self, table: Table) -> str:
        """A row of a dimension moves: all that refer to one row refer to another."""
        if not table.references:
            return self._update(table)
        reference = self.rng.choice(table.references)
        columns = [table.column(c) for c in reference.columns]
        sets = ", ".join(f"{c.name} = {self._of(c, table)}" for c in columns)
        first = columns[0]
        old = key_value(first.kind, self.rng.randint(1, KEYS))
        return f"UPDATE {table.sql} SET {sets} WHERE {first.name} = {old}"

    def _delete(self, table: Table) -> str:
        return f"DELETE FROM {table.sql} WHERE {self._where(table)}"

    def _delete_and_insert(self, table: Table) -> str:
        """Two tables, or one twice, in one statement."""
        other = self.rng.choice(self.tables)
        insert = self._insert(other, [self.rng.randint(1, KEYS)], other.sql)
        deleted = f"DELETE FROM {table.sql} WHERE {self._where(table)} RETURNING 1"
        return f"WITH d AS ({deleted}) {insert} ON CONFLICT DO NOTHING"

    def _merge(self, table: Table) -> str:
        id_ = table.column("id")
        changed = self._changed(table)
        if table.form != "plain" or len(table.key) > 1 or not changed:
            return self._delete(table)
        keys = ", ".join(
            f"({key_value(id_.kind, n)})" for n in self.rng.sample(range(1, KEYS + 1), 4)
        )
        column = changed[0]
        names = ", ".join(c.name for c in table.columns)
        values = ", ".join("m.id" if c.name == "id" else self._of(c, table) for c in table.columns)
        return (
            f"MERGE INTO {table.sql} AS t USING (VALUES {keys}) AS m (id) ON t.id = m.id"
            f" WHEN MATCHED AND t.{column.name} IS NULL THEN DELETE"
            f" WHEN MATCHED THEN UPDATE SET {column.name} = {self._of(column, table)}"
            f" WHEN NOT MATCHED THEN INSERT ({names}) VALUES ({values})"
        )

    def _empty(self, table: Table) -> str:
        return f"DELETE FROM {table.sql}"

    def _truncate(self, table: Table) -> str:
        target = self.rng.choice(table.writable)
        return f"TRUNCATE {target} CASCADE"


_STATEMENTS = {
    "insert_one": 16,
    "insert_many": 14,
    "upsert": 14,
    "update": 18,
    "update_by_row": 6,
    "update_nothing": 3,
    "update_key": 7,
    "update_from": 4,
    "move": 5,
    "delete": 10,
    "delete_and_insert": 3,
    "merge": 3,
    "empty": 0.7,
    "truncate": 0.7,
}
