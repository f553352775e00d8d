"""Which type of Arrow each column of a query becomes, and how its values cross over.

A value crosses as text, by COPY. Times become whole microseconds and dates whole days on the
server, so that nothing depends on what a library reads of a time. Invariants: no value becomes
another one. What the natural type of a column cannot hold in these very rows (NaN beside numbers of
a fixed scale, a time in the year 294276, an array of two dimensions) makes the whole column text,
as PostgreSQL writes it.

The infinities of times and dates are the greatest number of Arrow's type and its negative, as
DuckDB has them. No other value of PostgreSQL is written as those.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import pyarrow as pa
from sqlalchemy import Connection, Row

from tallykeeper.database import sql

INFINITE_MOMENT = 2**63 - 1
INFINITE_DAY = 2**31 - 1
MOST_DIGITS = 38
"""The digits of Arrow's decimal128, and of the widest decimal of DuckDB and Spark."""

_TYPE = b"postgresql.type"
_ENCODING = b"postgresql.encoding"
# Of a list.
_ELEMENT = b"postgresql.element"

PLAIN, NUMBER, MOMENT, DAY, BYTES, LIST = "plain", "number", "moment", "day", "bytes", "list"

_NUMBERS = {
    "boolean": pa.bool_(),
    "smallint": pa.int16(),
    "integer": pa.int32(),
    "bigint": pa.int64(),
    "real": pa.float32(),
    "double precision": pa.float64(),
}
_MOMENTS = {
    "timestamp with time zone": pa.timestamp("us", "UTC"),
    "timestamp without time zone": pa.timestamp("us"),
}
# As text they compare by their bytes as PostgreSQL compares them, or under COLLATE "C".
_TEXTS = ("text", "character varying", "uuid")
_ENUM = "e"
# Elements that JSON has as they are.
_OF_LISTS = (*_MOMENTS, *_TEXTS, "boolean", "smallint", "integer", "bigint", "date")


@dataclass(frozen=True)
class Column:
    """A column of a query and of its file.

    `type` is PostgreSQL's, as `format_type` writes it, `base` the same without its modifier and
    domain, `kind` its `typtype`. `lacking` says why the values are text instead of the natural
    type; None where they are of that. `element` is the column of an array's elements.
    """

    name: str
    type: str
    base: str
    kind: str
    arrow: pa.DataType
    encoding: str
    element: Column | None = None
    lacking: str | None = None

    @property
    def field(self) -> pa.Field:
        """The field of the file's schema, from which `of_field` knows how to read it back."""
        said = {_TYPE: self.type.encode(), _ENCODING: self.encoding.encode()}
        if self.element is not None:
            said[_ELEMENT] = f"{self.element.encoding} {self.element.type}".encode()
        return pa.field(self.name, self.arrow, metadata=said)

    def shown(self, value: str) -> str:
        """The SQL of what crosses, of the SQL of a value."""
        match self.encoding:
            case "number":
                return f"trim_scale({value})"
            case "moment":
                return _micros(value)
            case "day":
                return _days(value)
            case "bytes":
                return f"encode({value}, 'hex')"
            case "list":
                return self._shown_list(value)
        return value

    def _shown_list(self, value: str) -> str:
        assert self.element is not None
        if self.element.encoding == PLAIN:
            return f"array_to_json({value})"
        shown = self.element.shown("u.e")
        return (
            f"CASE WHEN {value} IS NOT NULL THEN (SELECT coalesce(jsonb_agg({shown} ORDER BY u.n),"
            f" '[]') FROM unnest({value}) WITH ORDINALITY AS u(e, n)) END"
        )

    @property
    def crossing_type(self) -> str:
        """The type of PostgreSQL that a value has while it crosses back."""
        return {MOMENT: "bigint", DAY: "integer", BYTES: "text", LIST: "text"}.get(
            self.encoding, self.type
        )

    def restored(self, value: str) -> str:
        """The SQL of the value as it was, of the SQL of what crossed back."""
        match self.encoding:
            case "moment":
                return f"({_of_micros(value, self.base)})::{self.type}"
            case "day":
                return f"({_of_days(value)})::{self.type}"
            case "bytes":
                return f"decode({value}, 'hex')::{self.type}"
            case "list":
                assert self.element is not None
                crossed = f"u.e::{self.element.crossing_type}"
                return (
                    f"CASE WHEN {value} IS NOT NULL THEN (ARRAY(SELECT"
                    f" {self.element.restored(crossed)} FROM"
                    f" jsonb_array_elements_text({value}::jsonb) WITH ORDINALITY AS u(e, n)"
                    f" ORDER BY u.n))::{self.type} END"
                )
        return value


def columns_of(connection: Connection, query: str, *, by_value: bool = False) -> list[Column]:
    """The columns of `query`, each of the type that holds what it returns in this snapshot.

    Reads the query once if some type has values that Arrow's lacks. `by_value`: 1.0 and 1.00 need
    not be distinguished, so that `numeric` without a scale may be a decimal. Raises SQLAlchemy's
    errors.
    """
    found = [_natural(row) for row in _described(connection, query)]
    measured = _measured(connection, query, found, by_value)
    return [_fitting(column, measured, number, by_value) for number, column in enumerate(found)]


def of_field(field: pa.Field) -> Column:
    """The column of a field of a file's schema. Raises ValueError where it has no such column."""
    said = field.metadata or {}
    if _TYPE not in said or _ENCODING not in said:
        raise ValueError(f"the column {field.name!r} does not say which type of PostgreSQL it has")
    type_ = said[_TYPE].decode()
    element = None
    if _ELEMENT in said:
        encoding, _, of = said[_ELEMENT].decode().partition(" ")
        element = Column("", of, of, "b", field.type.value_type, encoding)
    return Column(
        field.name, type_, _bare(type_), "b", field.type, said[_ENCODING].decode(), element
    )


def _bare(type_: str) -> str:
    """`timestamp(3) with time zone` without its modifier."""
    head, _, rest = type_.partition("(")
    return head + rest.partition(")")[2]


def _described(connection: Connection, query: str) -> Sequence[Row[Any]]:
    """Each column: name, type, base type, kind, collation; the same of an array's elements."""
    driver: Any = connection.connection.driver_connection
    with driver.cursor() as cursor:
        cursor.execute(f"SELECT * FROM (\n{query}\n) AS q LIMIT 0")
        result = cursor.pgresult
        described = [
            (result.fname(n).decode(), result.ftype(n), result.fmod(n))
            for n in range(result.nfields)
        ]
    listed = ", ".join(
        f"({n}, {sql.literal(name)}, {oid}::oid, {mod})"
        for n, (name, oid, mod) in enumerate(described)
    )
    # A domain over a domain has its base at the end of the chain.
    return sql.execute(
        connection,
        f"""
WITH RECURSIVE columns (n, name, type, mod) AS (VALUES {listed}),
bases AS (
    SELECT c.n, t.oid, t.typtype, t.typbasetype, t.typelem, t.typcategory, t.typtypmod
    FROM columns AS c JOIN pg_type AS t ON t.oid = c.type
    UNION ALL
    SELECT b.n, t.oid, t.typtype, t.typbasetype, t.typelem, t.typcategory,
        coalesce(nullif(t.typtypmod, -1), b.typtypmod)
    FROM bases AS b JOIN pg_type AS t ON t.oid = b.typbasetype
)
SELECT c.name, format_type(c.type, c.mod) AS type, format_type(b.oid, NULL) AS base,
    b.typtype AS kind, CASE WHEN b.typtypmod <> -1 THEN b.typtypmod ELSE c.mod END AS mod,
    CASE WHEN b.typcategory = 'A' AND b.typelem <> 0 THEN format_type(b.typelem, NULL) END
        AS element,
    e.typtype AS element_kind
FROM columns AS c
JOIN bases AS b ON b.n = c.n AND b.typbasetype = 0
LEFT JOIN pg_type AS e ON e.oid = b.typelem
ORDER BY c.n""",
    ).all()


def _natural(row: Row[Any]) -> Column:
    """The column in the type that it has where every value fits."""
    text = Column(row.name, row.type, row.base, row.kind, pa.string(), PLAIN)
    if row.element is not None:
        if row.element not in _OF_LISTS and row.element_kind != _ENUM:
            return replace(text, lacking=f"arrays of {row.element} are text")
        element = _simple(
            Column("", row.element, row.element, row.element_kind, pa.string(), PLAIN)
        )
        return replace(text, arrow=pa.list_(element.arrow), encoding=LIST, element=element)
    if row.base == "numeric" and row.mod >= 4:
        digits, scale = _digits(row.mod)
        if 0 <= scale <= digits <= MOST_DIGITS:
            return replace(text, arrow=pa.decimal128(digits, scale))
    return _simple(text)


def _digits(mod: int) -> tuple[int, int]:
    """Precision and scale of a `numeric` by its modifier; the scale may be below 0."""
    packed = mod - 4
    return packed >> 16, ((packed & 0x7FF) ^ 1024) - 1024


def _simple(column: Column) -> Column:
    base = column.base
    if base in _NUMBERS:
        return replace(column, arrow=_NUMBERS[base])
    if base in _MOMENTS:
        return replace(column, arrow=_MOMENTS[base], encoding=MOMENT)
    if base == "date":
        return replace(column, arrow=pa.date32(), encoding=DAY)
    if base == "bytea":
        return replace(column, arrow=pa.binary(), encoding=BYTES)
    if base in _TEXTS or column.kind == _ENUM:
        return column
    if base == "numeric":
        return replace(column, lacking="numeric without a fixed scale is text")
    return replace(column, lacking=f"{base} is text")


def _measured(
    connection: Connection, query: str, columns: Sequence[Column], by_value: bool
) -> Row[Any] | None:
    """What the values of the columns need, in one pass; None where no type needs to know it."""
    wanted = []
    for number, column in enumerate(columns):
        value = f"q.{sql.quote(column.name)}"
        if column.base == "numeric":
            wanted.append(f"bool_and({_is_finite_number(value)}) AS fits_{number}")
            if by_value and column.lacking is not None:
                finite = f"CASE WHEN {_is_finite_number(value)} THEN {value} END"
                wanted.append(f"max(scale(trim_scale({finite}))) AS scale_{number}")
                wanted.append(f"max(abs(trunc({finite}))) AS greatest_{number}")
        elif (fits := _fits(column, value)) is not None:
            wanted.append(f"bool_and({fits}) AS fits_{number}")
    if not wanted:
        return None
    return sql.execute(connection, f"SELECT {', '.join(wanted)} FROM (\n{query}\n) AS q").one()


def _fits(column: Column, value: str) -> str | None:
    """The condition under which a value is one of the natural type; None: it always is."""
    if column.encoding == MOMENT:
        # Beyond it, microseconds since 1970 are no longer eight bytes.
        return f"({value} < '294247-01-01' OR {value} = 'infinity')"
    if column.encoding == LIST:
        assert column.element is not None
        is_list = f"array_ndims({value}) = 1 AND array_lower({value}, 1) = 1"
        shape = f"(cardinality({value}) = 0 OR {is_list})"
        each = _fits(column.element, "u.e")
        if each is not None:
            shape += f" AND NOT EXISTS (SELECT FROM unnest({value}) AS u(e) WHERE NOT {each})"
        return shape
    return None


def _is_finite_number(value: str) -> str:
    return f"({value} NOT IN ('NaN', 'Infinity', '-Infinity'))"


def _fitting(column: Column, measured: Row[Any] | None, number: int, by_value: bool) -> Column:
    """The column, as text where its values do not fit, by what was measured."""
    fits = True if measured is None else getattr(measured, f"fits_{number}", True)
    if fits is False:
        return replace(
            column,
            arrow=pa.string(),
            encoding=PLAIN,
            element=None,
            lacking=f"{column.type} with values that {column.arrow} lacks is text",
        )
    if not by_value or column.base != "numeric" or column.lacking is None:
        return column
    # As narrow as the values: products of decimals are as wide as both together.
    scale = getattr(measured, f"scale_{number}") or 0
    greatest = getattr(measured, f"greatest_{number}") or Decimal(0)
    digits = max(len(f"{greatest:f}".lstrip("0")), 1) + scale
    if digits > MOST_DIGITS:
        lacking = f"{column.type} with {digits} digits is text"
        return replace(column, arrow=pa.string(), lacking=lacking)
    return replace(column, arrow=pa.decimal128(digits, scale), encoding=NUMBER, lacking=None)


def _micros(value: str) -> str:
    return (
        f"CASE {value} WHEN 'infinity' THEN {INFINITE_MOMENT} WHEN '-infinity' THEN"
        f" -{INFINITE_MOMENT} ELSE (extract(epoch FROM {value}) * 1000000)::bigint END"
    )


def _of_micros(value: str, base: str) -> str:
    """Days and the rest apart: a number of microseconds would be rounded to a double."""
    moment = (
        f"timestamp 'epoch' + {value} / 86400000000 * interval '1 day'"
        f" + {value} % 86400000000 * interval '1 microsecond'"
    )
    if base == "timestamp with time zone":
        moment = f"({moment}) AT TIME ZONE 'UTC'"
    return (
        f"CASE {value} WHEN {INFINITE_MOMENT} THEN 'infinity' WHEN -{INFINITE_MOMENT}"
        f" THEN '-infinity' ELSE {moment} END"
    )


def _days(value: str) -> str:
    return (
        f"CASE {value} WHEN 'infinity' THEN {INFINITE_DAY} WHEN '-infinity' THEN -{INFINITE_DAY}"
        f" ELSE {value} - date '1970-01-01' END"
    )


def _of_days(value: str) -> str:
    return (
        f"CASE {value} WHEN {INFINITE_DAY} THEN 'infinity' WHEN -{INFINITE_DAY} THEN '-infinity'"
        f" ELSE date '1970-01-01' + {value} END"
    )
