"""What is known of a translated expression: its text, its type, and what may be done with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from tallykeeper.engines.translation import constants as types
from tallykeeper.engines.translation.dialects import Dialect
from tallykeeper.engines.translation.names import Names
from tallykeeper.engines.translation.refusal import Refused
from tallykeeper.parquet.columns import MOST_DIGITS

INTEGERS = (types.INT2, types.INT4, types.INT8)
MOMENTS = (types.TIMESTAMP, types.TIMESTAMPTZ)
TEXTS = (types.TEXT, types.VARCHAR)
# Of these, equality is that of what crosses.
_COMPARED = (
    *INTEGERS,
    *MOMENTS,
    *TEXTS,
    types.BOOL,
    types.NUMERIC,
    types.DATE,
    types.UUID,
    types.BPCHAR,
)
_CAST_TO = {
    types.BOOL: "BOOLEAN",
    types.INT2: "SMALLINT",
    types.INT4: "INTEGER",
    types.INT8: "BIGINT",
    types.DATE: "INTEGER",
    types.TIMESTAMP: "BIGINT",
    types.TIMESTAMPTZ: "BIGINT",
}


@dataclass(frozen=True)
class Value:
    """An expression of the engine; `type` is PostgreSQL's number of its type.

    `scale` is that of a decimal; None where only its values say it. `is_digit` is true of a decimal
    of one digit, and of a null.
    """

    sql: str
    type: int
    scale: int | None = None
    is_digit: bool = False


def of_one_type(values: Sequence[Value], what: str) -> list[Value]:
    """Values one of which is chosen, of one type. Raises Refused where they are not.

    Decimals get one scale: where an engine has to find a type for several, it may drop digits. A
    scale that is not known is that of all only where the others are digits.
    """
    if any(
        each.type != values[0].type and {each.type, values[0].type} - {*TEXTS} for each in values
    ):
        raise Refused(f"{what} of different types")
    if values[0].type != types.NUMERIC or len(values) == 1:
        return list(values)
    unknown = [each for each in values if each.scale is None]
    if not unknown:
        scale = max(each.scale or 0 for each in values)
        wide = f"DECIMAL({MOST_DIGITS}, {scale})"
        return [Value(f"CAST({each.sql} AS {wide})", each.type, scale) for each in values]
    if len(unknown) > 1 or not all(each.is_digit for each in values if each is not unknown[0]):
        raise Refused(f"{what} of decimals whose scale is not known")
    return [Value(each.sql, each.type) for each in values]


def is_compared(names: Names, type_: int) -> bool:
    """Whether equality of what crosses is PostgreSQL's equality."""
    return type_ in _COMPARED or names.type(type_).kind == "e"


def is_list(names: Names, type_: int) -> bool:
    """Whether an array of the type crosses as one, and not as text."""
    element = names.type(type_).element
    if not element:
        return False
    crosses = (*INTEGERS, *MOMENTS, *TEXTS, types.BOOL, types.DATE, types.UUID)
    return element in crosses or names.type(element).kind == "e"


def require_compared(names: Names, type_: int, what: str) -> None:
    """Raise Refused where values of the type cannot be compared in the engine."""
    if not is_compared(names, type_):
        raise Refused(f"{what} compares values of {names.type(type_).name}")


def require_ordered(names: Names, type_: int, collation: int, what: str) -> None:
    """Raise Refused where the order of what crosses is not PostgreSQL's."""
    require_compared(names, type_, what)
    if type_ == types.BOOL:
        return
    if names.type(type_).kind == "e":
        raise Refused(f"{what} orders values of the enum {names.type(type_).name}")
    if type_ in (*TEXTS, types.BPCHAR) and not names.is_ordered_by_bytes(collation):
        raise Refused(f'{what} depends on a collation; under COLLATE "C" it would not')


def cast_to(names: Names, dialect: Dialect, type_: int) -> str:
    """The engine's type for what crosses of a type, but for numeric."""
    if type_ in _CAST_TO:
        return _CAST_TO[type_]
    element = names.type(type_).element
    if element:
        return dialect.list_type(cast_to(names, dialect, element))
    return dialect.text_type


def constant(names: Names, dialect: Dialect, value: object, type_: int) -> Value:
    """A constant that `constants.value_of` read."""
    if value is None:
        if type_ == types.NUMERIC:
            return Value("CAST(NULL AS DECIMAL(1, 0))", type_, 0, is_digit=True)
        return Value(f"CAST(NULL AS {cast_to(names, dialect, type_)})", type_)
    if isinstance(value, bool):
        return Value("TRUE" if value else "FALSE", type_)
    if isinstance(value, int):
        written = f"'{value}'" if abs(value) >= 2**31 else str(value)
        return Value(f"CAST({written} AS {cast_to(names, dialect, type_)})", type_)
    if isinstance(value, Decimal):
        digits = f"{abs(value):f}".replace(".", "").lstrip("0")
        scale = max(0, -int(value.as_tuple().exponent))
        width = max(len(digits), scale, 1)
        if width > MOST_DIGITS:
            raise Refused(f"a constant has {width} digits, and decimals have {MOST_DIGITS}")
        text = f"CAST('{value:f}' AS DECIMAL({width}, {scale}))"
        return Value(text, type_, scale, is_digit=(width, scale) == (1, 0))
    if isinstance(value, str):
        text = value.rstrip(" ") if type_ == types.BPCHAR else value
        return Value(dialect.literal(text), type_)
    raise Refused(f"constants of {names.type(type_).name} are not written")
