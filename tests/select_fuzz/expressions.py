"""Expressions, conditions and aggregates at random over given fields, typed so that they run."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.select_fuzz.schemas import KEYS, KINDS, NUMBERS, TEXTS, key_value

COMPARABLE = {"int", "bigint", "smallint", "money", "num", "text", "varchar", "enum", "uuid"}
COMPARABLE |= {"bool", "date", "tstz", "ts", "float"}
_OPERATORS = ("=", "=", "=", "<>", "<", "<=", ">", ">=")


@dataclass(frozen=True)
class Field:
    """Something that a scope has: how it is written, of which kind, and whose key it holds."""

    sql: str
    kind: str
    domain: str = ""


Fields = Sequence[Field]
Subquery = Callable[[Fields, int], str]


def fields_of(fields: Fields, *kinds: str) -> list[Field]:
    """The fields of these kinds, without keys of uuid or text, of which expressions make little."""
    return [f for f in fields if f.kind in kinds]


class Expressions:
    """Writes expressions; `rare` is how probable are those that may be refused or may fail."""

    def __init__(self, rng: random.Random, rare: float = 0.01) -> None:
        self.rng = rng
        self.rare = rare

    def maybe(self, probability: float) -> bool:
        return self.rng.random() < probability

    def literal(self, kind: str, domain: str = "") -> str:
        """A value of the kind, which is as likely as another one of a column."""
        if domain:
            return key_value(kind, self.rng.randint(1, KEYS))
        return self.rng.choice(KINDS[kind].values)

    # Expressions of a kind.

    def expression(self, kind: str, fields: Fields, depth: int = 1) -> str:
        """An expression of the kind: a field if there is one, or made of others."""
        own = fields_of(fields, kind)
        if own and (depth <= 0 or self.maybe(0.6)):
            return self.rng.choice(own).sql
        made = _MAKERS.get(kind)
        if depth > 0 and made is not None:
            text = made(self, fields, depth - 1)
            if text is not None:
                return text
        return self.rng.choice(own).sql if own else self.literal(kind)

    def int_(self, fields: Fields, depth: int) -> str | None:
        """An integer out of fields of any kind."""
        made = []
        for field in fields:
            made += [t.format(f=field.sql) for t in _INTEGERS.get(field.kind, ())]
        own = [f.sql for f in fields_of(fields, "int", "smallint") if not f.domain]
        if own:
            a, b = self.rng.choice(own), self.rng.choice(own)
            c = self.rng.choice(("2", "3", "7"))
            made += [f"{a} + {b}", f"{a} * {b}", f"{a} % {c}", f"{a} / {c}", f"abs({a} - {b})"]
            made += [f"coalesce({a}, {b}, 0)", f"nullif({a}, {b})", f"greatest({a}, {b})"]
            made += [f"-{a}", f"{a} / nullif({b}, 0)", f"least({a}, {c})"]
            if self.maybe(self.rare):
                made = [f"{a} / {b}"]
        if fields and self.maybe(0.3):
            one, other = (self.expression("int", fields, depth - 1) for _ in range(2))
            condition = self.condition(fields, 0)
            end = f" ELSE {other}" if self.maybe(0.6) else ""
            made.append(f"CASE WHEN {condition} THEN {one}{end} END")
        return f"({self.rng.choice(made)})" if made else None

    def money_(self, fields: Fields, depth: int) -> str | None:
        own = [f.sql for f in fields_of(fields, "money")]
        if not own:
            return None
        a, b = self.rng.choice(own), self.rng.choice(own)
        number = self.expression("int", fields, 0)
        return (
            f"({self.rng.choice((f'{a} + {b}', f'-{a}', f'coalesce({a}, 0)', f'{a} * {number}'))})"
        )

    def num_(self, fields: Fields, depth: int) -> str | None:
        own = [f.sql for f in fields_of(fields, "num", "money")]
        if not own:
            return None
        a = self.rng.choice(own)
        return self.rng.choice(
            (f"({a} * 2)", f"round({a}, 1)", f"({a} - 1.5)", f"coalesce({a}, 0.0)")
        )

    def text_(self, fields: Fields, depth: int) -> str | None:
        made = []
        for field in fields:
            made += [t.format(f=field.sql) for t in _WORDS.get(field.kind, ())]
        own = [f.sql for f in fields_of(fields, *TEXTS)]
        if len(own) > 1:
            a, b = self.rng.sample(own, 2)
            made += [
                f"({a} || '-' || {b})",
                f"coalesce({a}, {b}, '?')",
                f"concat_ws('/', {a}, {b})",
            ]
        if self.maybe(0.2) and fields:
            made.append(f"CASE WHEN {self.condition(fields, 0)} THEN 'yes' ELSE 'no' END")
        return self.rng.choice(made) if made else None

    def date_(self, fields: Fields, depth: int) -> str | None:
        made = []
        for field in fields:
            made += [t.format(f=field.sql) for t in _DATES.get(field.kind, ())]
        return self.rng.choice(made) if made else None

    def ts_(self, fields: Fields, depth: int) -> str | None:
        made = [f"date_trunc('hour', {f.sql})" for f in fields_of(fields, "ts")]
        made += [f"({f.sql} AT TIME ZONE 'Europe/Berlin')" for f in fields_of(fields, "tstz")]
        return self.rng.choice(made) if made else None

    def tstz_(self, fields: Fields, depth: int) -> str | None:
        made = []
        unit = self.rng.choice(("hour", "day", "week", "month", "year"))
        zone = self.rng.choice(("Europe/Berlin", "UTC", "America/St_Johns"))
        for f in fields_of(fields, "tstz"):
            made += [f"date_trunc('{unit}', {f.sql}, '{zone}')"] * 3
            made += [f"date_trunc('{unit}', {f.sql} AT TIME ZONE '{zone}') AT TIME ZONE '{zone}'"]
            if self.maybe(self.rare):
                made = [f"date_trunc('{unit}', {f.sql})"]
        return self.rng.choice(made) if made else None

    def bool_(self, fields: Fields, depth: int) -> str | None:
        return f"({self.condition(fields, 0)})" if fields else None

    # Conditions.

    def condition(self, fields: Fields, depth: int = 1, subquery: Subquery | None = None) -> str:
        """A condition over the fields; with `subquery` also EXISTS, IN and the like."""
        if depth > 0 and self.maybe(0.4):
            parts = [
                self.condition(fields, depth - 1, subquery)
                for _ in range(self.rng.choices((2, 3), (4, 1))[0])
            ]
            joined = self.rng.choice((" AND ", " AND ", " OR ")).join(parts)
            return f"({joined})" if self.maybe(0.85) else f"NOT ({joined})"
        if subquery is not None and depth > 0 and self.maybe(0.35):
            return subquery(fields, depth - 1)
        if not fields:
            return self.rng.choice(("true", "1 = 1"))
        return self._simple(self.rng.choice(fields), fields)

    def _simple(self, field: Field, fields: Fields) -> str:
        f = field.sql
        if self.maybe(0.15):
            return f"{f} IS {self.rng.choice(('NULL', 'NOT NULL', 'NOT NULL'))}"
        special = self._special(field)
        if special and (field.kind not in COMPARABLE or self.maybe(0.4)):
            return self.rng.choice(special)
        if field.kind not in COMPARABLE:
            return f"{f} IS NOT NULL"
        same = [o for o in fields_of(fields, *family(field.kind)) if o.sql != f and not o.domain]
        other = self.literal(field.kind, field.domain)
        if same and not field.domain and self.maybe(0.3):
            other = self.rng.choice(same).sql
        return f"{f} {self.rng.choice(_OPERATORS)} {other}"

    def _special(self, field: Field) -> list[str]:
        f, kind = field.sql, field.kind
        made = [c.format(f=f) for c in _SPECIAL.get(kind, ())]
        if kind in COMPARABLE and kind != "bool":
            a, b, c = (self.literal(kind, field.domain) for _ in range(3))
            made += [f"{f} IN ({a}, {b}, {c})", f"{f} NOT IN ({a}, {b})"]
            made += [f"{f} BETWEEN {a} AND {b}", f"{f} IS DISTINCT FROM {a}"]
            made += [f"{f} = ANY (ARRAY[{a}, {b}])", f"coalesce({f}, {a}) <> {b}"]
        return made

    # Aggregates.

    def aggregate(self, fields: Fields, subquery: Subquery | None = None) -> tuple[str, str]:
        """An aggregate with the kind of its result."""
        rng = self.rng
        for _ in range(20):
            name = rng.choices(list(_AGGREGATES), list(_AGGREGATES.values()))[0]
            made = getattr(self, f"_agg_{name}")(fields)
            if made is not None:
                text, kind = made
                if self.maybe(0.15) and "COALESCE" not in text and fields:
                    text += f" FILTER (WHERE {self.condition(fields, 0, subquery)})"
                return text, kind
        return "count(*)", "bigint"

    def _agg_count(self, fields: Fields) -> tuple[str, str]:
        return "count(*)", "bigint"

    def _agg_count_of(self, fields: Fields) -> tuple[str, str] | None:
        if not fields:
            return None
        return f"count({self.rng.choice(fields).sql})", "bigint"

    def _agg_count_distinct(self, fields: Fields) -> tuple[str, str] | None:
        kinds = sorted({f.kind for f in fields if f.kind in COMPARABLE})
        if not kinds:
            return None
        kind = self.rng.choice(kinds)
        return f"count(DISTINCT {self.expression(kind, fields, 1)})", "bigint"

    def _agg_sum(self, fields: Fields) -> tuple[str, str] | None:
        kind = self.rng.choice(("int", "int", "money", "money", "bigint", "num", "smallint"))
        if not fields_of(fields, kind):
            return None
        text = self.expression(kind, [f for f in fields if not f.domain], 1)
        if text.startswith("'"):
            return None
        if self.maybe(self.rare) and fields_of(fields, "float"):
            return f"sum({fields_of(fields, 'float')[0].sql})", "float"
        return f"sum({text})", {"int": "bigint", "smallint": "bigint"}.get(kind, "num")

    def _agg_sum_case(self, fields: Fields) -> tuple[str, str] | None:
        if not fields:
            return None
        value = self.expression("int", [f for f in fields if not f.domain], 0)
        return f"sum(CASE WHEN {self.condition(fields, 0)} THEN {value} ELSE 0 END)", "bigint"

    def _agg_avg(self, fields: Fields) -> tuple[str, str] | None:
        kind = self.rng.choice(("int", "int", "money", "money", "num"))
        own = [f for f in fields_of(fields, kind) if not f.domain]
        if not own:
            return None
        return f"avg({self.expression(kind, own, 1)})", "num"

    def _agg_extreme(self, fields: Fields) -> tuple[str, str] | None:
        kinds = sorted({f.kind for f in fields if f.kind in COMPARABLE - {"uuid", "bool"}})
        if not kinds:
            return None
        kind = self.rng.choice(kinds)
        text = self.expression(kind, fields, 1)
        return f"{self.rng.choice(('min', 'max'))}({text})", "text" if kind in TEXTS else kind

    def _agg_bool(self, fields: Fields) -> tuple[str, str] | None:
        if not fields:
            return None
        name = self.rng.choice(("bool_or", "bool_and", "every"))
        return f"{name}({self.condition(fields, 0)})", "bool"

    def _agg_list(self, fields: Fields) -> tuple[str, str] | None:
        kind = self.rng.choice(("int", "text"))
        if not fields_of(fields, kind):
            return None
        text = self.expression(kind, fields, 0)
        distinct = "DISTINCT " if self.maybe(0.3) else ""
        order = "" if distinct and self.maybe(0.3) else " DESC" if self.maybe(0.3) else ""
        return f"array_agg({distinct}{text} ORDER BY {text}{order})", f"{kind}s"

    def _agg_string(self, fields: Fields) -> tuple[str, str] | None:
        if not fields_of(fields, *TEXTS, "enum"):
            return None
        text = self.expression("text", fields, 1)
        return f"string_agg({text}, ',' ORDER BY {text})", "text"

    def _agg_percentile(self, fields: Fields) -> tuple[str, str] | None:
        kind = self.rng.choice(("int", "money", "bigint", "date"))
        if not fields_of(fields, kind):
            return None
        text = self.expression(kind, fields, 0)
        part = self.rng.choice(("0.5", "0.9", "0"))
        if kind != "date" and self.maybe(0.3):
            return f"percentile_cont({part}) WITHIN GROUP (ORDER BY {text})", "float"
        return f"percentile_disc({part}) WITHIN GROUP (ORDER BY {text})", kind

    def _agg_variance(self, fields: Fields) -> tuple[str, str] | None:
        own = [f for f in fields_of(fields, "int", "smallint") if not f.domain]
        if not own:
            return None
        name = self.rng.choice(("stddev", "variance", "var_pop", "stddev_pop"))
        return f"{name}({self.rng.choice(own).sql})", "num"

    def over(self, made: list[tuple[str, str]]) -> tuple[str, str] | None:
        """An expression over aggregates."""
        numbers = [(t, k) for t, k in made if k in ("bigint", "num")]
        if not numbers:
            return None
        (a, _), (b, _) = self.rng.choice(numbers), self.rng.choice(numbers)
        return self.rng.choice(
            (
                (f"coalesce({a}, 0)", "num"),
                (f"{a} + {b}", "num"),
                (f"{a} - coalesce({b}, 0)", "num"),
                (f"round(100.0 * {a} / nullif({b}, 0), 2)", "num"),
                (f"{a}::numeric / nullif({b}, 0)", "num"),
                (f"CASE WHEN {a} > 3 THEN 'many' ELSE 'few' END", "text"),
                (f"greatest({a}, {b})", "num"),
            )
        )


def family(kind: str) -> tuple[str, ...]:
    """The kinds that compare with this one."""
    for kinds in (NUMBERS, TEXTS):
        if kind in kinds:
            return kinds
    return (kind,)


_INTEGERS = {
    "date": ("extract(year FROM {f})::int", "extract(dow FROM {f})::int"),
    "ts": ("extract(hour FROM {f})::int", "extract(month FROM {f})::integer"),
    "tstz": ("extract(hour FROM {f} AT TIME ZONE 'Europe/Berlin')::int",),
    "text": ("length({f})", "strpos({f}, 'b')"),
    "varchar": ("char_length({f})",),
    "ints": ("cardinality({f})", "{f}[1]", "array_length({f}, 1)"),
    "texts": ("cardinality({f})",),
    "jsonb": ("CASE WHEN jsonb_typeof({f} -> 'n') = 'number' THEN ({f} ->> 'n')::int END",),
    "bool": ("{f}::int", "CASE {f} WHEN true THEN 1 ELSE 0 END"),
    "money": ("{f}::int", "floor({f})::int"),
    "bigint": ("({f} % 7)::int",),
}
_WORDS = {
    "text": ("upper({f})", "left({f}, 1)", "coalesce({f}, 'none')", "nullif({f}, '')"),
    "varchar": ("lower({f})", "{f}::text"),
    "enum": ("{f}::text", "CASE {f}::text WHEN 'new' THEN 'open' ELSE 'done' END"),
    "uuid": ("{f}::text",),
    "int": ("{f}::text",),
    "bigint": ("{f}::text",),
    "jsonb": ("({f} ->> 'k')", "jsonb_typeof({f})", "({f} #>> '{{a,0}}')"),
    "texts": ("{f}[1]",),
    "bool": ("CASE WHEN {f} THEN 'y' WHEN NOT {f} THEN 'n' ELSE '-' END",),
}
_DATES = {
    "date": ("({f} + 1)", "date_trunc('month', {f}::timestamp)::date"),
    "ts": ("{f}::date", "date_trunc('month', {f})::date"),
    "tstz": ("({f} AT TIME ZONE 'Europe/Berlin')::date",),
}
_SPECIAL = {
    "bool": ("{f}", "NOT {f}", "{f} IS TRUE", "{f} IS NOT TRUE", "{f} = false"),
    "text": ("{f} LIKE 'a%'", "{f} NOT LIKE '%b'", "{f} ILIKE 'A%'", "{f} ~ '^[ab]'", "{f} > ''"),
    "varchar": ("{f} LIKE '%a'",),
    "ints": ("1 = ANY ({f})", "{f} @> ARRAY[1]", "{f} = '{{}}'", "{f} && ARRAY[2,7]"),
    "texts": ("'a' = ANY ({f})", "{f} @> ARRAY['b']", "cardinality({f}) > 1"),
    "jsonb": ("{f} ? 'k'", "{f} @> '{{\"n\": 1}}'", "{f} ->> 'k' = 'a'", "{f} <> '{{}}'"),
    "tstz": ("extract(hour FROM {f} AT TIME ZONE 'Europe/Berlin') < 3",),
    "date": ("extract(month FROM {f}) = 3",),
}
_AGGREGATES = {
    "count": 14,
    "count_of": 8,
    "sum": 20,
    "sum_case": 5,
    "avg": 9,
    "extreme": 13,
    "count_distinct": 8,
    "bool": 3,
    "list": 4,
    "string": 4,
    "percentile": 4,
    "variance": 3,
}
_MAKERS: dict[str, Callable[[Expressions, Fields, int], str | None]] = {
    "int": Expressions.int_,
    "money": Expressions.money_,
    "num": Expressions.num_,
    "text": Expressions.text_,
    "date": Expressions.date_,
    "ts": Expressions.ts_,
    "tstz": Expressions.tstz_,
    "bool": Expressions.bool_,
}
