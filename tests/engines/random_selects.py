"""Random SELECTs over rows of odd values, for what is translated to another engine.

Each is a SELECT that PostgreSQL may refuse (a sum that overflows), the translation may refuse, or
whose rows have to be the same in both.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")

TABLES = r"""
CREATE SCHEMA odd;
CREATE TYPE odd.mood AS ENUM ('sad', 'ok', 'Happy');
CREATE TABLE odd.a (
    id integer PRIMARY KEY, b boolean, s smallint, i integer, k bigint, n numeric(10, 2), m numeric,
    t text COLLATE "C", v varchar(6) COLLATE "C", d text, u uuid, p char(4) COLLATE "C",
    ts timestamptz, tn timestamp, da date, e odd.mood, l text[] COLLATE "C", li integer[],
    lt timestamptz[], j jsonb, f double precision
);
CREATE TABLE odd.b (LIKE odd.a);
"""
VALUES: dict[str, Sequence[str]] = {
    "b": ("true", "false"),
    "s": ("-32768", "32767", "0", "1", "-1"),
    "i": ("-2147483648", "2147483647", "0", "1", "2", "3", "-7"),
    "k": ("-9223372036854775808", "9223372036854775807", "0", "5", "-5", "1000000000000"),
    "n": ("0", "-0.01", "0.50", "1.50", "2.50", "-2.50", "99999999.99", "-99999999.99"),
    "m": ("0", "1.0", "1.00", "0.5", "-0.5", "123456789012.000000001", "-1e-9"),
    "t": (
        "''",
        "'a'",
        "'A'",
        "' a'",
        "'a '",
        "'\u00e9'",
        "'e\u0301'",
        "'\U0001f600x'",
        r"E'\\n'",
        r"E'it\'s'",
        "'\u00df'",
        "'Z'",
        "'\u0130'",
    ),
    "v": ("''", "'a'", "'abcdef'", "'\U0001f600\U0001f600\U0001f600'", "'a  '"),
    "d": ("''", "'a'", "'B'", "'b'", "'\u00e4'"),
    "u": (
        "'00000000-0000-0000-0000-000000000000'",
        "'ffffffff-ffff-ffff-ffff-ffffffffffff'",
        "'0a000000-0000-0000-0000-00000000000b'",
    ),
    "p": ("''", "'a'", "'a b'", "'abcd'"),
    "ts": (
        "'infinity'",
        "'-infinity'",
        "'2024-03-31 00:59:59.999999Z'",
        "'2024-03-31 01:00Z'",
        "'1969-12-31 23:59:59.999999Z'",
        "'0044-03-15 BC'",
        "'12000-01-01Z'",
        "'1970-01-01Z'",
        "'1883-11-18 12:03:58Z'",
    ),
    "tn": (
        "'infinity'",
        "'-infinity'",
        "'2024-02-29 12:34:56.5'",
        "'1969-12-31 23:59:59'",
        "'4713-01-01 BC'",
    ),
    "da": ("'infinity'", "'-infinity'", "'2024-02-29'", "'1969-12-31'", "'4713-01-01 BC'"),
    "e": ("'sad'", "'ok'", "'Happy'"),
    "l": ("'{}'", "'{NULL}'", "'{a,NULL,b}'", "'{a,a,\"\"}'", "'{\u00e9,\"it''s\"}'"),
    "li": ("'{}'", "'{1,NULL,2}'", "'{2147483647}'"),
    "lt": ("'{}'", "'{infinity,NULL,1970-01-01}'"),
    "j": ("'null'", "'[]'", "'{\"a\": [1, null]}'"),
    "f": ("'NaN'", "'-0'", "1e300"),
}
ROWS = 60
_INTEGERS, _NUMBERS, _TEXTS = ("s", "i"), ("n", "m"), ("t", "v")
_ORDERED = ("s", "i", "k", "n", "m", "t", "v", "u", "ts", "tn", "da", "p")
_COMPARED = (*_ORDERED, "b", "d", "e")


def fill(table: str, seed: str) -> str:
    """The statement that puts random rows into a table; a fifth of all values are nulls."""
    rng = random.Random(seed)
    rows = []
    for number in range(ROWS):
        values = [
            "NULL" if rng.random() < 0.2 else rng.choice(values) for values in VALUES.values()
        ]
        rows.append(f"({number}, {', '.join(values)})")
    return f"INSERT INTO odd.{table} (id, {', '.join(VALUES)}) VALUES {', '.join(rows)}"


class Selects:
    """Draws SELECTs."""

    def __init__(self, seed: str) -> None:
        self._rng = random.Random(seed)

    def next(self) -> str:
        """A SELECT."""
        return self._one_of(
            self._rows, self._rows, self._groups, self._groups, self._sets, self._windows,
            self._elements, self._correlated, self._groups_of_groups,
        )()  # fmt: skip

    def _one_of(self, *choices: T) -> T:
        return self._rng.choice(choices)

    # Expressions over the columns of an alias, by the kind of their value.

    def _condition(self, a: str, depth: int = 2) -> str:
        rng, one = self._rng, self._one_of
        column = one(*_COMPARED)
        simple: list[Callable[[], str]] = [
            lambda: f"{a}.{column} {one('=', '<>')} {one(*VALUES[column])}",
            lambda: f"{a}.{column} IS {one('', 'NOT ')}NULL",
            lambda: f"{a}.b IS {one('', 'NOT ')}{one('TRUE', 'FALSE', 'UNKNOWN')}",
            lambda: f"{a}.{column} IS {one('', 'NOT ')}DISTINCT FROM {one(*VALUES[column])}",
            lambda: self._in(a, one(*_COMPARED)),
            lambda: self._less(a, one(*_ORDERED)),
            lambda: f"isfinite({a}.{one('ts', 'tn', 'da')})",
            lambda: f"{a}.t LIKE 'a%'",
        ]
        if depth and rng.random() < 0.5:
            sides = (self._condition(a, depth - 1) for _ in range(2))
            return f"(({next(sides)}) {one('AND', 'OR')} {one('', 'NOT ')}({next(sides)}))"
        return one(*simple)()

    def _in(self, a: str, column: str) -> str:
        values = [self._one_of(*VALUES[column]) for _ in range(self._rng.randint(1, 3))]
        if self._rng.random() < 0.2:
            values.append("NULL")
        return f"{a}.{column} {self._one_of('', 'NOT ')}IN ({', '.join(values)})"

    def _less(self, a: str, column: str) -> str:
        return f"{a}.{column} {self._one_of('<', '<=', '>', '>=')} {self._one_of(*VALUES[column])}"

    def _value(self, a: str) -> str:
        one = self._one_of
        i, n, t, w = one(*_INTEGERS), one(*_NUMBERS), one(*_TEXTS), one("ts", "tn", "da")
        column = one(*_COMPARED)
        unit = one("second", "minute", "hour", "day", "week", "month", "quarter", "year")
        choices: list[Callable[[], str]] = [
            lambda: f"{a}.{one(*VALUES)}",
            lambda: f"{a}.{i} {one('+', '-', '*')} {one('2', '3', f'{a}.s')}",
            lambda: f"{a}.{n} {one('+', '-', '*')} {one('2', '0.01', f'{a}.{one(*_NUMBERS)}')}",
            lambda: f"{a}.i / {one('2', '-3')}",
            lambda: f"({a}.n)::{one('integer', 'bigint', 'numeric(8,1)', 'numeric')}",
            lambda: f"({a}.k)::numeric",
            lambda: f"- {a}.{one('s', 'n', 'm')}",
            lambda: f"({a}.t)::varchar({one('1', '2')})",
            lambda: f'({a}.v)::text COLLATE "C"',
            lambda: f"date_trunc('{unit}', {a}.ts, '{one('UTC', 'UTC', 'Europe/Berlin')}')",
            lambda: f"date_trunc('{unit}', {a}.tn)",
            lambda: f"{a}.ts {one('+', '-')} interval '90 minutes'",
            lambda: f"{a}.tn {one('+', '-')} interval '{one('36 hours', '2 days', '1 month')}'",
            lambda: f"{a}.da {one('+', '-')} {one('1', '40')}",
            lambda: f"extract(epoch FROM {a}.{one('ts', 'tn')})",
            lambda: f"extract(year FROM {a}.{w})",
            lambda: f"coalesce({a}.{column}, {one(*VALUES[column])})",
            lambda: f"nullif({a}.{column}, {one(*VALUES[column])})",
            lambda: f"CASE WHEN {self._condition(a, 1)} THEN {a}.{column} END",
            lambda: f"CASE {a}.i WHEN 1 THEN {a}.t WHEN 2 THEN 'two' ELSE '' END",
            lambda: self._extreme(a),
            lambda: f"({self._condition(a, 1)})",
            lambda: f"array_remove({a}.l, {one('NULL', chr(39) + 'a' + chr(39))})",
            lambda: f"cardinality({a}.{one('l', 'li')})",
            lambda: f"{one('lower', 'upper', 'length')}({a}.{t})",
            lambda: f"jsonb_typeof({a}.j)",
            # Not null of nulls, as of a row that an outer join did not find.
            lambda: f"concat({a}.t, 'x')",
            lambda: f"num_nulls({a}.i, {a}.t, {a}.m)",
            lambda: f"coalesce({a}.m, {a}.n, 0.125)",
        ]
        return one(*choices)()

    def _extreme(self, a: str) -> str:
        column = self._one_of(*_ORDERED)
        listed = f"{a}.{column}, {self._one_of(*VALUES[column])}"
        return f"{self._one_of('greatest', 'least')}({listed})"

    def _aggregate(self, a: str) -> str:
        one = self._one_of
        column, distinct = one(*_ORDERED), one("", "DISTINCT ")
        choices = [
            "count(*)",
            f"count({distinct}{a}.{one(*_COMPARED)})",
            f"sum({distinct}{a}.{one('s', 'i', 'k', 'n', 'm')})",
            f"sum(CASE WHEN {self._condition(a, 1)} THEN {a}.{one('i', 'n')} ELSE 0 END)",
            f"{one('min', 'max')}({a}.{column})" if column != "u" else f"max({a}.da)",
            f"{one('bool_and', 'bool_or', 'every')}({self._condition(a, 1)})",
            f"array_agg(DISTINCT {a}.{one('i', 't', 'u', 'ts')})",
            f"array_remove(array_agg(DISTINCT {a}.{one('i', 't')}), NULL)",
            f"avg({a}.{one('i', 'n')})",
        ]
        call = one(*choices)
        if self._rng.random() < 0.3 and not call.startswith("array_remove"):
            return f"{call} FILTER (WHERE {self._condition(a, 1)})"
        return call

    # SELECTs.

    def _from(self) -> tuple[str, list[str]]:
        one = self._one_of
        column = one("id", "i", "t", "u", "ts", "da", "e", "b")
        on = f"x.{column} = y.{column}"
        if self._rng.random() < 0.3:
            on += f" AND {self._condition(one('x', 'y'), 0)}"
        join = one("JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN")
        joined = f"odd.a AS x {join} odd.b AS y ON {on}"
        if join == "FULL JOIN":
            joined = f"odd.a AS x FULL JOIN odd.b AS y ON x.{column} = y.{column}"
        return one(("odd.a AS x", ["x"]), (joined, ["x", "y"]))

    def _where(self, aliases: list[str]) -> str:
        if self._rng.random() < 0.5:
            return ""
        return f" WHERE {self._condition(self._one_of(*aliases))}"

    def _rows(self) -> str:
        source, aliases = self._from()
        values = ", ".join(
            f"{self._value(self._one_of(*aliases))} AS c{n}" for n in range(self._rng.randint(2, 5))
        )
        return f"SELECT {aliases[0]}.id, {values} FROM {source}{self._where(aliases)}"

    def _key(self, aliases: list[str]) -> str:
        a = self._one_of(*aliases)
        return self._one_of(
            f"{a}.{self._one_of(*_COMPARED)}",
            f"date_trunc('{self._one_of('hour', 'day', 'week')}', {a}.ts, 'UTC')",
            f"coalesce({a}.t, 'none')",
            f"{a}.i + 1",
        )

    def _groups(self) -> str:
        source, aliases = self._from()
        keys = [self._key(aliases) for _ in range(self._rng.randint(0, 2))]
        shown = [
            *keys,
            *(self._aggregate(self._one_of(*aliases)) for _ in range(self._rng.randint(1, 4))),
        ]
        listed = ", ".join(f"{each} AS c{n}" for n, each in enumerate(shown))
        by = f" GROUP BY {', '.join(keys)}" if keys else ""
        having = self._one_of("", "", f" HAVING {self._aggregate('x')} IS NOT NULL")
        return f"SELECT {listed} FROM {source}{self._where(aliases)}{by}{having}"

    def _groups_of_groups(self) -> str:
        return (
            f"SELECT g.c0, sum(g.c1) AS total, count(*) AS n, max(g.c2) AS last FROM (SELECT"
            f" {self._key(['x'])} AS c0, count(*) AS c1, max(x.ts) AS c2 FROM odd.a AS x"
            f"{self._where(['x'])} GROUP BY 1) AS g GROUP BY 1"
        )

    def _sets(self) -> str:
        column = self._one_of(*_COMPARED)
        word = self._one_of("UNION", "UNION ALL", "INTERSECT", "EXCEPT", "EXCEPT ALL")
        sides = (
            f"SELECT {a}.{column} AS c, {a}.i FROM odd.{t} AS {a}{self._where([a])}"
            for a, t in (("x", "a"), ("y", "b"))
        )
        return f"{next(sides)} {word} {next(sides)}"

    def _windows(self) -> str:
        word = self._one_of("rank", "dense_rank", "row_number")
        columns = self._one_of(*_ORDERED)
        order = f"x.{columns} {self._one_of('ASC', 'DESC')} NULLS {self._one_of('FIRST', 'LAST')}"
        if word == "row_number":
            order += ", x.id"
        part = self._one_of("", f"PARTITION BY x.{self._one_of(*_COMPARED)} ")
        return f"SELECT x.id, {word}() OVER ({part}ORDER BY {order}) AS w FROM odd.a AS x"

    def _elements(self) -> str:
        array = self._one_of("l", "li", "lt")
        return self._one_of(
            f"SELECT x.id, u.v FROM odd.a AS x CROSS JOIN LATERAL unnest(x.{array}) AS u (v)",
            f"SELECT u.v, count(*) AS n FROM odd.a AS x, LATERAL unnest(x.{array}) AS u (v)"
            " GROUP BY 1",
            "SELECT x.id, d.v FROM odd.a AS x JOIN LATERAL"
            f" (SELECT DISTINCT unnest(x.{array}) AS v) AS d ON true",
            f"SELECT x.id, unnest(x.{array}) AS v FROM odd.a AS x WHERE {self._condition('x')}",
        )

    def _correlated(self) -> str:
        column = self._one_of("i", "t", "da", "e", "u")
        same = f"y.{column} = x.{column}"
        return self._one_of(
            f"SELECT x.id, (SELECT {self._aggregate('y')} FROM odd.b AS y WHERE {same}) AS c"
            " FROM odd.a AS x",
            f"SELECT x.id FROM odd.a AS x WHERE {self._one_of('', 'NOT ')}EXISTS (SELECT FROM odd.b"
            f" AS y WHERE {same} AND {self._condition('y', 1)})",
            f"SELECT x.id FROM odd.a AS x WHERE x.{column} {self._one_of('', 'NOT ')}IN (SELECT"
            f" y.{column} FROM odd.b AS y WHERE {self._condition('y', 1)})",
        )
