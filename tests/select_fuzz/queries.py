"""SELECTs at random over a schema: every kind of join, subquery, grouping and window.

They are deterministic: where order matters, it is total; what is equal but not identical is never
turned into text.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.select_fuzz.expressions import (
    COMPARABLE,
    Expressions,
    Field,
    Fields,
    family,
    fields_of,
)
from tests.select_fuzz.schemas import NUMBERS, TEXTS, Reference, Table

_GROUPED = ("text", "varchar", "enum", "int", "bool", "date", "tstz", "uuid", "bigint", "num", "ts")


@dataclass
class Source:
    """What stands in FROM, its fields, and expressions that name a row of it."""

    sql: str
    fields: list[Field]
    order: list[str]
    tables: list[tuple[str, Table]] = field(default_factory=list)


@dataclass
class Query:
    """A SELECT, with the names and kinds of its columns."""

    sql: str
    columns: list[tuple[str, str]]


class Queries:
    """Writes SELECTs over the tables."""

    def __init__(self, rng: random.Random, tables: Sequence[Table], rare: float = 0.01) -> None:
        self.rng = rng
        self.tables = {t.name: t for t in tables}
        self.e = Expressions(rng, rare)
        self._aliases = 0
        self._ctes: list[tuple[str, Query]] = []

    def select(self) -> str:
        """A whole SELECT."""
        self._aliases = 0
        self._ctes = []
        query = self.query(depth=2)
        if not self._ctes:
            return query.sql
        ctes = ",\n".join(f"{name} AS ({made.sql})" for name, made in self._ctes)
        return f"WITH {ctes}\n{query.sql}"

    def query(self, depth: int) -> Query:
        """A SELECT, with subqueries as deep as that."""
        makers = {
            self.rows: 17,
            self.grouped: 44,
            self.overall: 9,
            self.distinct: 5,
            self.distinct_on: 3,
            self.combined: 7 if depth > 0 else 0,
            self.windowed: 6,
            self.top: 4 if depth > 0 else 0,
            self.limited: 3,
            self.regrouped: 8 if depth > 0 else 0,
            self.totals: 4 if depth > 0 else 0,
        }
        return self.rng.choices(list(makers), list(makers.values()))[0](depth)

    def _alias(self) -> str:
        self._aliases += 1
        letter = "abcdefghijklmnpqrsuvwxyz"[(self._aliases - 1) % 24]
        return letter + (str(self._aliases // 24) if self._aliases > 24 else "")

    def _chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    # FROM.

    def source(self, depth: int) -> Source:
        """A table, a subquery or a CTE."""
        kind = self.rng.choices(
            ("table", "derived", "cte"), (80, 13, 7) if depth > 0 else (1, 0, 0)
        )[0]
        alias = self._alias()
        if kind == "table":
            return self._table(self.rng.choice(list(self.tables.values())), alias)
        if kind == "derived":
            query = self.query(depth - 1)
            text = f"({query.sql}) AS {alias}"
        else:
            name, query = self._cte(depth)
            text = f"{name} AS {alias}"
        fields = [Field(f"{alias}.{name}", kind) for name, kind in query.columns]
        return Source(text, fields, [f.sql for f in fields])

    def _cte(self, depth: int) -> tuple[str, Query]:
        if self._ctes and self._chance(0.4):
            return self.rng.choice(self._ctes)
        query = self.query(depth - 1)
        self._ctes.append((f"w{len(self._ctes) + 1}", query))
        return self._ctes[-1]

    def _table(self, table: Table, alias: str) -> Source:
        fields = [Field(f"{alias}.{c.name}", c.kind, c.domain) for c in table.columns]
        order = [f"{alias}.{k}" for k in table.key]
        if not table.is_unique:
            order = [f"{alias}.{c.name}" for c in table.columns]
        return Source(f"{table.sql} AS {alias}", fields, order, [(alias, table)])

    def from_(self, depth: int, most: int = 5) -> Source:
        """One to `most` of them, joined."""
        number = self.rng.choices(range(1, most + 1), (40, 33, 16, 7, 3)[:most])[0]
        left = self.source(depth)
        for _ in range(number - 1):
            left = self._join(left, depth)
        if self._chance(0.06):
            left = self._unnest(left)
        if number == 1 and most > 1 and self._chance(0.03):
            right = self._related(left)
            left = self._both(f"{left.sql}, {right.sql}", left, right)
        return left

    def _join(self, left: Source, depth: int) -> Source:
        kind = self.rng.choices(
            ("JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN", "CROSS JOIN", "LATERAL"),
            (48, 32, 5, 5, 3, 4 if depth > 0 else 0),
        )[0]
        if kind == "LATERAL":
            return self._lateral(left)
        right = self._related(left) if self._chance(0.6) else self.source(depth)
        if self._chance(0.08):
            inner = self._related(right)
            on = self._on(right, inner, "JOIN")
            other = self.rng.choice(("JOIN", "LEFT JOIN"))
            right = self._both(f"({right.sql} {other} {inner.sql} ON {on})", right, inner)
        if kind == "CROSS JOIN":
            return self._both(f"{left.sql} CROSS JOIN {right.sql}", left, right)
        using = self._using(left, right)
        if using is not None:
            return self._both(f"{left.sql} {kind} {right.sql} {using}", left, right)
        on = self._on(left, right, kind)
        return self._both(f"{left.sql} {kind} {right.sql} ON {on}", left, right)

    def _both(self, text: str, left: Source, right: Source) -> Source:
        return Source(
            text, left.fields + right.fields, left.order + right.order, left.tables + right.tables
        )

    def _related(self, source: Source) -> Source:
        """A table that the source refers to, or that refers to it; or any."""
        names: list[str] = []
        for _, table in source.tables:
            names += [r.target for r in table.references]
            names += [
                t.name
                for t in self.tables.values()
                if any(r.target == table.name for r in t.references)
            ]
        name = self.rng.choice(names or list(self.tables))
        return self._table(self.tables[name], self._alias())

    def _using(self, left: Source, right: Source) -> str | None:
        if not (self._chance(0.12) and len(left.tables) == len(right.tables) == 1):
            return None
        if len(left.fields) != len(left.tables[0][1].columns):
            return None
        ours = {c.name: c for c in left.tables[0][1].columns}
        both = [
            c.name
            for c in right.tables[0][1].columns
            if c.name in ours
            and ours[c.name].kind == c.kind
            and c.kind in COMPARABLE
            and not c.domain
        ]
        return f"USING ({self.rng.choice(both)})" if both and len(right.fields) else None

    def _on(self, left: Source, right: Source, kind: str) -> str:
        links = self._links(left, right)
        pairs = [
            (a.sql, b.sql)
            for a in left.fields
            for b in right.fields
            if b.kind in family(a.kind)
            and a.kind in COMPARABLE - {"bool", "float"}
            and not a.domain
            and not b.domain
        ]
        if not links and not pairs:
            return "true"
        if kind != "FULL JOIN" and pairs and self._chance(0.08):
            a, b = self.rng.choice(pairs)
            return f"{a} {self.rng.choice(('<', '>=', '<>'))} {b}"
        link = self.rng.choice(links) if links and (not pairs or self._chance(0.8)) else None
        parts = [f"{a} = {b}" for a, b in (link or [self.rng.choice(pairs)])]
        if kind != "FULL JOIN" and self._chance(0.2):
            fields = self.rng.choice((left.fields, right.fields, left.fields + right.fields))
            parts.append(self.e.condition(fields, 0))
        return " AND ".join(parts)

    def _links(self, left: Source, right: Source) -> list[list[tuple[str, str]]]:
        links = [
            *self._references(left, right),
            *[[(b, a) for a, b in link] for link in self._references(right, left)],
        ]
        if not links:
            links = [
                [(a.sql, b.sql)]
                for a in left.fields
                for b in right.fields
                if a.domain and a.domain == b.domain and a.kind == b.kind
            ]
        return links

    def _references(self, from_: Source, to: Source) -> list[list[tuple[str, str]]]:
        links = []
        for alias, table in from_.tables:
            for other, target in to.tables:
                links += [
                    _link(alias, reference, other, target)
                    for reference in table.references
                    if reference.target == target.name
                ]
        return links

    def _unnest(self, left: Source) -> Source:
        arrays = fields_of(left.fields, "ints", "texts", "jsonb")
        if not arrays:
            return left
        array, alias = self.rng.choice(arrays), self._alias()
        if array.kind == "jsonb":
            guarded = (
                f"CASE WHEN jsonb_typeof({array.sql} -> 'a') = 'array' THEN {array.sql} -> 'a'"
                " ELSE '[]'::jsonb END"
            )
            item = Field(f"{alias}.item", "jsonb")
            call = f"jsonb_array_elements({guarded}) AS {alias}(item)"
        else:
            item = Field(f"{alias}.item", array.kind[:-1])
            call = f"unnest({array.sql}) AS {alias}(item)"
        fields, order = [*left.fields, item], [*left.order, item.sql]
        if self._chance(0.2):
            call = call.replace(f" AS {alias}(item)", f" WITH ORDINALITY AS {alias}(item, nr)")
            fields.append(Field(f"{alias}.nr", "bigint"))
            order.append(f"{alias}.nr")
        join = self.rng.choice(
            (
                f" CROSS JOIN LATERAL {call}",
                f" LEFT JOIN LATERAL {call} ON true",
                f" CROSS JOIN {call}",
            )
        )
        return Source(left.sql + join, fields, order, left.tables)

    def _lateral(self, left: Source) -> Source:
        inner = self._related(left)
        alias = self._alias()
        where = self._on(left, inner, "JOIN")
        if self._chance(0.5):
            text, kind = self.e.aggregate(inner.fields)
            body, columns = f"SELECT {text} AS v1, count(*) AS v2", [("v1", kind), ("v2", "bigint")]
            tail = ""
        else:
            chosen = self.rng.sample(inner.fields, min(2, len(inner.fields)))
            body = "SELECT " + ", ".join(f"{f.sql} AS v{n}" for n, f in enumerate(chosen, 1))
            columns = [(f"v{n}", f.kind) for n, f in enumerate(chosen, 1)]
            tail = f" ORDER BY {', '.join([chosen[0].sql, *inner.order])} LIMIT 1"
        join = self.rng.choice((" CROSS JOIN LATERAL ", " LEFT JOIN LATERAL "))
        on = " ON true" if "LEFT" in join else ""
        text = f"{left.sql}{join}({body} FROM {inner.sql} WHERE {where}{tail}) AS {alias}{on}"
        fields = [Field(f"{alias}.{n}", k) for n, k in columns]
        return Source(text, left.fields + fields, left.order + [f.sql for f in fields], left.tables)

    # WHERE and its subqueries.

    def where(self, source: Source, probability: float = 0.55) -> str:
        if not self._chance(probability):
            return ""
        return f" WHERE {self.e.condition(source.fields, 2, self.subcondition)}"

    def subcondition(self, fields: Fields, depth: int) -> str:
        """EXISTS, IN, a comparison with a scalar subquery, or the negation of one."""
        maker = self.rng.choice((self._exists, self._exists, self._in, self._in, self._against))
        return maker(fields, depth)

    def _inner(self, fields: Fields, *, correlated: float = 0.75) -> tuple[Source, str]:
        """A subquery's FROM and WHERE, correlated by equality mostly."""
        outer = Source("", list(fields), [])
        inner = self.from_(0, most=2) if self._chance(0.25) else self.source(0)
        parts = []
        if self._chance(correlated):
            on = self._correlation(outer, inner)
            parts += [on] if on else []
        if self._chance(0.5):
            parts.append(self.e.condition(inner.fields, 1))
        return inner, f" WHERE {' AND '.join(parts)}" if parts else ""

    def _correlation(self, outer: Source, inner: Source) -> str:
        links = [
            (a.sql, b.sql)
            for a in outer.fields
            for b in inner.fields
            if a.domain and a.domain == b.domain and a.kind == b.kind
        ]
        pairs = [
            (a.sql, b.sql)
            for a in outer.fields
            for b in inner.fields
            if a.kind in COMPARABLE and b.kind in family(a.kind) and not a.domain and not b.domain
        ]
        if links and (not pairs or self._chance(0.75)):
            a, b = self.rng.choice(links)
            return f"{b} = {a}"
        if not pairs:
            return ""
        a, b = self.rng.choice(pairs)
        return f"{b} {'=' if self._chance(0.85) else self.rng.choice(('<', '>', '<>'))} {a}"

    def _exists(self, fields: Fields, depth: int) -> str:
        inner, where = self._inner(fields, correlated=0.93)
        not_ = "NOT " if self._chance(0.45) else ""
        return f"{not_}EXISTS (SELECT 1 FROM {inner.sql}{where})"

    def _in(self, fields: Fields, depth: int) -> str:
        inner, where = self._inner(fields, correlated=0.25)
        pairs = [
            (a.sql, b.sql)
            for a in fields
            for b in inner.fields
            if a.kind in COMPARABLE
            and b.kind in family(a.kind)
            and (a.domain == b.domain or self._chance(0.1))
        ]
        if not pairs:
            return self._exists(fields, depth)
        a, b = self.rng.choice(pairs)
        not_ = " NOT" if self._chance(0.4) else ""
        group = ""
        if self._chance(0.15):
            group = f" GROUP BY {b} HAVING count(*) > 1"
        return f"{a}{not_} IN (SELECT {b} FROM {inner.sql}{where}{group})"

    def _against(self, fields: Fields, depth: int) -> str:
        """A comparison with an aggregate of a subquery."""
        inner, where = self._inner(fields, correlated=0.6)
        own = [f for f in fields_of(fields, *NUMBERS) if not f.domain]
        numbers = [f for f in fields_of(inner.fields, "int", "money", "bigint") if not f.domain]
        if not own or not numbers:
            return f"(SELECT count(*) FROM {inner.sql}{where}) {self.rng.choice(('>', '=', '<'))} 1"
        name = self.rng.choice(("avg", "max", "min", "sum"))
        operator = self.rng.choice((">", "<", "=", ">="))
        return (
            f"{self.rng.choice(own).sql} {operator}"
            f" (SELECT {name}({self.rng.choice(numbers).sql}) FROM {inner.sql}{where})"
        )

    def scalar(self, fields: Fields) -> tuple[str, str]:
        """A scalar subquery: an aggregate, or a column of the row that a reference names."""
        if self._chance(0.35):
            looked = self._looked_up(fields)
            if looked is not None:
                return looked
        inner, where = self._inner(fields, correlated=0.8)
        text, kind = self.e.aggregate(inner.fields)
        return f"(SELECT {text} FROM {inner.sql}{where})", kind

    def _looked_up(self, fields: Fields) -> tuple[str, str] | None:
        named = [f for f in fields if f.domain.endswith(".id")]
        self.rng.shuffle(named)
        for held in named:
            table = self.tables[held.domain.split(".")[0]]
            if table.is_unique and len(table.key) == 1:
                inner = self._table(table, self._alias())
                column = self.rng.choice(inner.fields)
                where = f"{inner.order[0]} = {held.sql}"
                return f"(SELECT {column.sql} FROM {inner.sql} WHERE {where})", column.kind
        return None

    # Kinds of SELECTs.

    def _kinds(self, fields: Fields, wanted: Sequence[str]) -> list[str]:
        return [k for k in wanted if fields_of(fields, k)]

    def _item(self, source: Source, depth: int) -> tuple[str, str]:
        """A column of a SELECT without GROUP BY."""
        if depth > 0 and self._chance(0.12):
            return self.scalar(source.fields)
        kinds = self._kinds(source.fields, _GROUPED)
        if kinds and self._chance(0.35):
            kind = self.rng.choice(kinds)
            return self.e.expression(kind, source.fields, 1), kind
        chosen = self.rng.choice(source.fields)
        return chosen.sql, chosen.kind

    def rows(self, depth: int) -> Query:
        """Rows without GROUP BY: a bag."""
        source = self.from_(depth)
        items = [self._item(source, depth) for _ in range(self.rng.randint(1, 4))]
        if source.tables and self._chance(0.4):
            alias, table = source.tables[0]
            items = [(f"{alias}.{k}", table.column(k).kind) for k in table.key] + items
        return _written(items, f" FROM {source.sql}{self.where(source)}")

    def distinct(self, depth: int) -> Query:
        source = self.from_(depth)
        items = [self._item(source, depth) for _ in range(self.rng.randint(1, 3))]
        return _written(items, f" FROM {source.sql}{self.where(source)}", head="SELECT DISTINCT ")

    def distinct_on(self, depth: int) -> Query:
        """The first row of each group."""
        source = self.from_(depth, most=2)
        group = self._group(source)[0]
        first = self.rng.choice(source.fields).sql
        items = [group, *(self._item(source, 0) for _ in range(2))]
        desc = self.rng.choice(("", " DESC", " DESC NULLS LAST"))
        order = ", ".join([group[0], first + desc, *source.order])
        tail = f" FROM {source.sql}{self.where(source)} ORDER BY {order}"
        return _written(items, tail, head=f"SELECT DISTINCT ON ({group[0]}) ")

    def _group(self, source: Source) -> list[tuple[str, str]]:
        kinds = self._kinds(source.fields, _GROUPED)
        kinds += [
            k for k in ("date", "tstz", "text") if fields_of(source.fields, "tstz", "ts", "jsonb")
        ]
        groups: dict[str, str] = {}
        for _ in range(self.rng.choices((1, 2, 3), (5, 4, 1))[0]):
            if kinds and self._chance(0.75):
                kind = self.rng.choice(kinds)
                text = self.e.expression(kind, source.fields, 1)
            else:
                chosen = self.rng.choice(source.fields)
                text, kind = chosen.sql, chosen.kind
            if text[0] not in "'-0123456789" and text not in ("true", "false", "NULL"):
                groups[text] = kind
        if not groups:
            groups[source.fields[0].sql] = source.fields[0].kind
        return list(groups.items())

    def grouped(self, depth: int) -> Query:
        """GROUP BY with aggregates."""
        source = self.from_(depth)
        groups = self._group(source)
        shown = groups if self._chance(0.9) else groups[1:]
        items, having = self._aggregates(source, depth)
        by = ", ".join(text for text, _ in groups)
        if len(groups) > 1 and self._chance(0.04):
            first = groups[0][0]
            sets = (f"ROLLUP ({by})", f"CUBE ({by})", f"GROUPING SETS (({by}), ({first}), ())")
            if self._chance(0.5):
                items = [(f"grouping({by})", "int"), *items]
            by = self.rng.choice(sets)
        else:
            items = self._dependent(source, groups) + items
            if shown is groups and self._chance(0.3):
                by = ", ".join(str(n) for n in range(1, len(groups) + 1))
        tail = f" FROM {source.sql}{self.where(source)} GROUP BY {by}{having}"
        return _written([*shown, *items], tail)

    def _aggregates(self, source: Source, depth: int) -> tuple[list[tuple[str, str]], str]:
        subquery = self.subcondition if depth > 0 and self._chance(0.1) else None
        made = [
            self.e.aggregate(source.fields, subquery)
            for _ in range(self.rng.choices((1, 2, 3, 4), (3, 4, 2, 1))[0])
        ]
        items = list(made)
        over = self.e.over(made) if self._chance(0.25) else None
        if over is not None:
            items.append(over)
        having = ""
        if self._chance(0.18):
            having = f" HAVING {self._having(source)}"
        return items, having

    def _having(self, source: Source) -> str:
        numbers = [f for f in fields_of(source.fields, "int", "money", "bigint") if not f.domain]
        if numbers and self._chance(0.6):
            name = self.rng.choice(("sum", "max", "min", "avg"))
            left = f"{name}({self.rng.choice(numbers).sql})"
            if self._chance(0.2):
                inner, where = self._inner([], correlated=0)
                return (
                    f"{left} > (SELECT avg(length({inner.order[0]}::text)) FROM {inner.sql}{where})"
                )
            return f"{left} {self.rng.choice(('>', '<', '>='))} {self.rng.choice('123')}"
        return f"count(*) {self.rng.choice(('>', '<', '=', '>='))} {self.rng.choice('1234')}"

    def _dependent(self, source: Source, groups: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """A column that follows from the group, where this is a key; or an expression over it."""
        by = {text for text, _ in groups}
        if self._chance(0.15):
            texts = [t for t, k in groups if k in TEXTS]
            if texts:
                return [(f"upper({texts[0]})", "text")]
        for alias, table in source.tables:
            if table.is_unique and {f"{alias}.{k}" for k in table.key} <= by and self._chance(0.5):
                column = self.rng.choice(table.columns)
                return [(f"{alias}.{column.name}", column.kind)]
        return []

    def overall(self, depth: int) -> Query:
        """Aggregates without GROUP BY: one row."""
        source = self.from_(depth)
        items, having = self._aggregates(source, depth)
        return _written(items, f" FROM {source.sql}{self.where(source)}{having}")

    def regrouped(self, depth: int) -> Query:
        """Aggregates over aggregates."""
        inner = self.grouped(depth - 1)
        alias = self._alias()
        fields = [Field(f"{alias}.{name}", kind) for name, kind in inner.columns]
        source = Source(f"({inner.sql}) AS {alias}", fields, [f.sql for f in fields])
        if self._chance(0.25):
            source = self._join(source, 0)
        items, having = self._aggregates(source, 0)
        tail = f" FROM {source.sql}{self.where(source, 0.3)}"
        if self._chance(0.25):
            return _written(items, tail + having)
        groups = self._group(source)
        by = ", ".join(text for text, _ in groups)
        return _written([*groups, *items], f"{tail} GROUP BY {by}{having}")

    def totals(self, _depth: int) -> Query:
        """Groups of several tables by values of one kind, outer joined with those of the first."""
        kind = self.rng.choice([c.kind for t in self.tables.values() for c in t.columns])
        having = [t for t in self.tables.values() if any(c.kind == kind for c in t.columns)]
        froms, items = "", []
        for number in range(self.rng.choice((2, 3, 4, 5))):
            source = self._table(self.rng.choice(having), self._alias())
            by = self.rng.choice(fields_of(source.fields, kind)).sql
            made = [self.e.aggregate(source.fields) for _ in range(self.rng.choice((1, 2)))]
            where = self.where(source, 0.3)
            query = _written([(by, kind), *made], f" FROM {source.sql}{where} GROUP BY {by}")
            alias = self._alias()
            if number == 0:
                froms, first = f" FROM ({query.sql}) AS {alias}", f"{alias}.c1"
                items.append((first, kind))
            else:
                froms += f" LEFT JOIN ({query.sql}) AS {alias} ON {alias}.c1 = {first}"
            items += [(f"{alias}.{name}", k) for name, k in query.columns[1:]]
        return _written(items, froms)

    def combined(self, depth: int) -> Query:
        """Two or three SELECTs by UNION, EXCEPT or INTERSECT."""
        first = self.query(depth - 1)
        kinds = [kind for _, kind in first.columns]
        operator = self.rng.choices(
            (
                " UNION ALL ",
                " UNION ",
                " EXCEPT ",
                " INTERSECT ",
                " EXCEPT ALL ",
                " INTERSECT ALL ",
            ),
            (45, 25, 12, 10, 4, 4),
        )[0]
        texts = [first.sql] + [self._of_kinds(kinds) for _ in range(1 + self._chance(0.15))]
        return Query(f" {operator} ".join(f"({t})" for t in texts), first.columns)

    def _of_kinds(self, kinds: Sequence[str]) -> str:
        source = self.from_(0, most=2)
        if self._chance(0.4) and any(k == "bigint" for k in kinds):
            plain = [(self.e.expression(k, source.fields), k) for k in kinds if k != "bigint"]
            groups = ", ".join(t for t, _ in plain if not _is_constant(t))
            texts = iter(plain)
            items = [self.e.aggregate([], None) if k == "bigint" else next(texts) for k in kinds]
            by = f" GROUP BY {groups}" if groups else ""
            return _written(items, f" FROM {source.sql}{self.where(source)}{by}").sql
        items = [(self.e.expression(k, source.fields, 1), k) for k in kinds]
        return _written(items, f" FROM {source.sql}{self.where(source)}").sql

    def _over(self, source: Source) -> tuple[str, str]:
        """A window function."""
        part = self.rng.choice(source.fields).sql
        partition = f"PARTITION BY {part} " if self._chance(0.85) else ""
        first = self.rng.choice(source.fields).sql
        total = ", ".join([first + self.rng.choice(("", " DESC")), *source.order])
        numbers = [f for f in fields_of(source.fields, "int", "money") if not f.domain]
        number = self.rng.choice(numbers).sql if numbers else "1"
        chosen = self.rng.choice(source.fields)
        return self.rng.choice(
            (
                (f"row_number() OVER ({partition}ORDER BY {total})", "bigint"),
                (f"rank() OVER ({partition}ORDER BY {first})", "bigint"),
                (f"dense_rank() OVER ({partition}ORDER BY {first} DESC)", "bigint"),
                (f"sum({number}) OVER ({partition.strip()})", "num"),
                (f"count(*) OVER ({partition}ORDER BY {first})", "bigint"),
                (f"lag({chosen.sql}) OVER ({partition}ORDER BY {total})", chosen.kind),
                (f"first_value({chosen.sql}) OVER ({partition}ORDER BY {total})", chosen.kind),
                (f"sum({number}) OVER ({partition}ORDER BY {total} ROWS 1 PRECEDING)", "num"),
            )
        )

    def windowed(self, depth: int) -> Query:
        source = self.from_(depth, most=2)
        items = [self._item(source, 0) for _ in range(2)]
        items += [self._over(source) for _ in range(self.rng.choice((1, 1, 2)))]
        return _written(items, f" FROM {source.sql}{self.where(source)}")

    def top(self, depth: int) -> Query:
        """The first rows of each group, by a row number; over rows or over aggregates."""
        source = self.from_(depth - 1, most=2)
        desc = self.rng.choice(("", " DESC"))
        if self._chance(0.6):
            groups = self._group(source)
            text, kind = self.e.aggregate(source.fields)
            if kind == "jsonb":
                text, kind = "count(*)", "bigint"
            by = ", ".join(t for t, _ in groups)
            over = f"row_number() OVER (PARTITION BY {groups[0][0]} ORDER BY {text}{desc}, {by})"
            items = [*groups, (text, kind), (over, "bigint")]
            inner = _written(items, f" FROM {source.sql}{self.where(source)} GROUP BY {by}")
        else:
            items = [self._item(source, 0) for _ in range(2)]
            part = self.rng.choice(source.fields).sql
            order = ", ".join([self.rng.choice(source.fields).sql + desc, *source.order])
            over = f"row_number() OVER (PARTITION BY {part} ORDER BY {order})"
            inner = _written([*items, (over, "bigint")], f" FROM {source.sql}{self.where(source)}")
        alias = self._alias()
        outer = [(f"{alias}.{name}", kind) for name, kind in inner.columns]
        if self._chance(0.3):
            outer.pop()
        number = inner.columns[-1][0]
        return _written(outer, f" FROM ({inner.sql}) AS {alias} WHERE {alias}.{number} <= 2")

    def limited(self, depth: int) -> Query:
        """The first rows in a total order."""
        maker = self.rng.choice((self.rows, self.grouped))
        inner = maker(depth)
        order = [
            f"{n}{self.rng.choice(('', ' DESC', ' NULLS FIRST'))}"
            for n in range(1, len(inner.columns) + 1)
        ]
        offset = " OFFSET 1" if self._chance(0.2) else ""
        limit = self.rng.randint(1, 6)
        return Query(
            f"{inner.sql} ORDER BY {', '.join(order)} LIMIT {limit}{offset}", inner.columns
        )


def _is_constant(text: str) -> bool:
    return text[0] in "'-0123456789" or text in ("true", "false", "NULL")


def _link(alias: str, reference: Reference, other: str, target: Table) -> list[tuple[str, str]]:
    return [
        (f"{alias}.{column}", f"{other}.{key}")
        for column, key in zip(reference.columns, target.key, strict=True)
    ]


def _written(items: Sequence[tuple[str, str]], tail: str, head: str = "SELECT ") -> Query:
    columns = [(f"c{n}", kind) for n, (_, kind) in enumerate(items, 1)]
    listed = ", ".join(
        f"{text} AS {name}" for (text, _), (name, _) in zip(items, columns, strict=True)
    )
    return Query(f"{head}{listed}{tail}", columns)
