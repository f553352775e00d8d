"""A schema at random: tables with keys, references and columns of many types, and its values.

There are few distinct values of each type, and nulls everywhere, so that groups merge, appear and
vanish, and joins find many rows or none.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

SCHEMA = "src"
KEYS = 24
"""Keys are made of the numbers 1 to this."""


@dataclass(frozen=True)
class Kind:
    """A type of columns: how it is declared, and the values that are tried."""

    sql: str
    values: tuple[str, ...]


def _typed(type_: str, *values: str) -> tuple[str, ...]:
    return tuple(f"'{v}'::{type_}" for v in values)


_UUIDS = [f"0000000{n}-0000-4000-8000-000000000000" for n in range(1, 5)]
# Around both changes of the clocks in Berlin, a leap day and the end of a year.
_MOMENTS = (
    "2024-03-30 23:30:00",
    "2024-03-31 00:30:00",
    "2024-03-31 01:30:00",
    "2024-10-26 22:15:00",
    "2024-10-27 00:30:00",
    "2024-10-27 01:30:00",
    "2024-12-31 23:30:00",
    "2024-02-29 12:00:00",
)
_JSON = (
    "{}",
    '{"k": "a", "n": 1, "a": [1, 2]}',
    '{"k": "b", "n": 2, "a": [{"q": 1}, {"q": 2}]}',
    '{"k": null, "n": null, "a": null}',
    '{"k": "a", "n": 3, "a": []}',
    '[1, null, "x"]',
    "null",
    '"s"',
)

KINDS: dict[str, Kind] = {
    "int": Kind("integer", ("-1", "0", "1", "2", "3", "7")),
    "bigint": Kind("bigint", ("-5", "0", "1", "2", "3", "10000000000")),
    "smallint": Kind("smallint", ("0", "1", "2", "3")),
    "money": Kind("numeric(8,2)", ("-3.10", "0", "1.50", "2.25", "10.00")),
    # Equal values that are not identical.
    "num": Kind("numeric", ("1", "1.0", "1.00", "2.5", "2.50", "-0.125", "0")),
    "text": Kind("text", ("'a'", "'b'", "'B'", "''", "'ab'", "'a_b'", "'ä'")),
    "varchar": Kind("varchar(8)", ("'a'", "'b'", "'c'", "''")),
    "enum": Kind(f"{SCHEMA}.mood", _typed(f"{SCHEMA}.mood", "new", "paid", "sent", "void")),
    "uuid": Kind("uuid", _typed("uuid", *_UUIDS)),
    "bool": Kind("boolean", ("true", "false")),
    "date": Kind(
        "date", _typed("date", "2024-02-29", "2024-03-30", "2024-03-31", "2024-10-27", "2024-12-31")
    ),
    "tstz": Kind("timestamptz", tuple(f"'{m}+00'::timestamptz" for m in _MOMENTS)),
    "ts": Kind("timestamp", _typed("timestamp", *_MOMENTS)),
    "ints": Kind("integer[]", _typed("integer[]", "{}", "{1}", "{1,2}", "{2,1,1}", "{NULL,1}")),
    "texts": Kind("text[]", _typed("text[]", "{}", "{a}", "{a,b,a}", "{NULL}")),
    "jsonb": Kind("jsonb", _typed("jsonb", *_JSON)),
    "float": Kind("double precision", _typed("float8", "0", "0.1", "1.5", "-2")),
}
NUMBERS = ("int", "bigint", "smallint", "money", "num")
TEXTS = ("text", "varchar")
# A column of each kind has the same name in all tables, so that USING finds it.
NAMES = {
    "int": ("n", "qty"),
    "bigint": ("big",),
    "smallint": ("small",),
    "money": ("amount", "price"),
    "num": ("weight",),
    "text": ("name", "city"),
    "varchar": ("code",),
    "enum": ("mood",),
    "uuid": ("token",),
    "bool": ("flag",),
    "date": ("day",),
    "tstz": ("placed",),
    "ts": ("noted",),
    "ints": ("marks",),
    "texts": ("tags",),
    "jsonb": ("doc",),
    "float": ("ratio",),
}
_WEIGHTS = {"int": 5, "money": 4, "text": 4, "enum": 4, "tstz": 4, "float": 0.3, "varchar": 1}


@dataclass(frozen=True)
class Column:
    """A column; `domain` is the table whose key it holds, its own or a reference."""

    name: str
    kind: str
    not_null: bool = False
    domain: str = ""


@dataclass(frozen=True)
class Reference:
    """Columns that hold the key of another table, with a foreign key or without."""

    columns: tuple[str, ...]
    target: str
    constraint: str | None


@dataclass(frozen=True)
class Table:
    """A table. `form` is plain, partitioned, inherited (another has rows of it too) or unkeyed."""

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    references: tuple[Reference, ...]
    form: str
    indexes: tuple[str, ...]

    @property
    def sql(self) -> str:
        return f"{SCHEMA}.{self.name}"

    @property
    def is_unique(self) -> bool:
        """Whether its key names a row: not where another table has rows of it too."""
        return self.form in ("plain", "partitioned")

    def column(self, name: str) -> Column:
        return next(c for c in self.columns if c.name == name)

    @property
    def writable(self) -> tuple[str, ...]:
        """What rows may be inserted into: the table, its partitions, its heirs."""
        parts = {"partitioned": ("_p1", "_p2"), "inherited": ("_heir",)}.get(self.form, ())
        return (self.sql, *(self.sql + part for part in parts))


def key_value(kind: str, number: int) -> str:
    """The number as a key of that kind."""
    if kind == "uuid":
        return f"'{number:08d}-0000-4000-8000-000000000000'::uuid"
    return f"'k{number}'" if kind == "text" else str(number)


def value(rng: random.Random, column: Column, *, nulls: float = 0.2) -> str:
    """A value for the column: of a key, or any of its kind."""
    if not column.not_null and rng.random() < nulls:
        return "NULL"
    if column.domain:
        return key_value(column.kind, rng.randint(1, KEYS))
    return rng.choice(KINDS[column.kind].values)


def schema(rng: random.Random) -> list[Table]:
    """One to five tables; later ones refer to earlier ones and to themselves."""
    tables: list[Table] = []
    for number in range(1, rng.choices(range(1, 6), (1, 4, 5, 3, 2))[0] + 1):
        tables.append(_table(rng, f"t{number}", tables))
    return tables


def _table(rng: random.Random, name: str, others: Sequence[Table]) -> Table:
    form = rng.choices(("plain", "partitioned", "inherited", "unkeyed"), (80, 9, 6, 5))[0]
    key_kind = rng.choices(("int", "bigint", "uuid", "text"), (5, 3, 2, 1))[0]
    key = [Column("id", key_kind, not_null=True, domain=f"{name}.id")]
    if rng.random() < 0.15:
        key.append(Column("line", "int", not_null=True, domain=f"{name}.line"))
    references, columns = [], []
    targets = [o for o in others if rng.random() < 0.6] or list(others[-1:])
    for target in targets:
        held, reference = _reference(rng, target)
        columns += held
        references.append(reference)
    if rng.random() < 0.15:
        columns += [Column(f"parent_{c.name}", c.kind, domain=c.domain) for c in key]
        references.append(Reference(tuple(f"parent_{c.name}" for c in key), name, None))
    columns += _columns(rng)
    indexes = [c.name for c in columns if c.domain and rng.random() < 0.5]
    names = tuple(c.name for c in key)
    return Table(name, (*key, *columns), names, tuple(references), form, tuple(indexes))


def _reference(rng: random.Random, target: Table) -> tuple[list[Column], Reference]:
    columns = [target.column(k) for k in target.key]
    not_null = rng.random() < 0.25
    held = [Column(f"{target.name}_{c.name}", c.kind, not_null, c.domain) for c in columns]
    constraint = None
    if target.is_unique and rng.random() < 0.5:
        actions = ["", " ON DELETE CASCADE", " ON DELETE CASCADE ON UPDATE CASCADE"]
        actions += [] if not_null else [" ON DELETE SET NULL"]
        constraint = rng.choice(actions)
    return held, Reference(tuple(c.name for c in held), target.name, constraint)


def _columns(rng: random.Random) -> list[Column]:
    columns: dict[str, Column] = {}
    kinds = list(KINDS)
    weights = [_WEIGHTS.get(k, 2) for k in kinds]
    for _ in range(rng.randint(3, 7)):
        kind = rng.choices(kinds, weights)[0]
        name = rng.choice(NAMES[kind])
        columns.setdefault(name, Column(name, kind, not_null=rng.random() < 0.2))
    return list(columns.values())


def ddl(tables: Sequence[Table]) -> list[str]:
    """The statements that create the tables."""
    statements = [
        f"CREATE SCHEMA {SCHEMA}",
        f"CREATE TYPE {SCHEMA}.mood AS ENUM ('new', 'paid', 'sent', 'void')",
    ]
    for table in tables:
        statements += _create(table)
    return statements


def _create(table: Table) -> list[str]:
    parts = [
        f"{c.name} {KINDS[c.kind].sql}{' NOT NULL' if c.not_null else ''}" for c in table.columns
    ]
    key = ", ".join(table.key)
    if table.form != "unkeyed":
        parts.append(f"PRIMARY KEY ({key})")
    parts += [
        f"FOREIGN KEY ({', '.join(reference.columns)})"
        f" REFERENCES {SCHEMA}.{reference.target}{reference.constraint}"
        for reference in table.references
        if reference.constraint is not None
    ]
    name, suffix, after = table.sql, "", []
    if table.form == "inherited":
        after = [f"CREATE TABLE {name}_heir (PRIMARY KEY ({key})) INHERITS ({name})"]
    if table.form == "partitioned":
        suffix, bounds = " PARTITION BY HASH (id)", ("WITH (MODULUS 2, REMAINDER {})", (0, 1))
        after = [
            f"CREATE TABLE {name}_p{n} PARTITION OF {name} FOR VALUES {bounds[0].format(remainder)}"
            for n, remainder in enumerate(bounds[1], 1)
        ]
    after += [f"CREATE INDEX ON {name} ({column})" for column in table.indexes]
    return [f"CREATE TABLE {name} ({', '.join(parts)}){suffix}", *after]
