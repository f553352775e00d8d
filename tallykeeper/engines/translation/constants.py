"""The values of constants in a SELECT's tree, which has them as bytes of the server's memory."""

from __future__ import annotations

import re
import struct
from decimal import Decimal
from typing import Any

from tallykeeper.engines.translation.refusal import Refused
from tallykeeper.parquet.columns import INFINITE_DAY, INFINITE_MOMENT
from tallykeeper.select.definition.rule_trees import Node

BOOL, INT8, INT2, INT4, TEXT = 16, 20, 21, 23, 25
UNKNOWN, BPCHAR, VARCHAR = 705, 1042, 1043
DATE, TIMESTAMP, TIMESTAMPTZ, INTERVAL, NUMERIC, UUID = 1082, 1114, 1184, 1186, 1700, 2950
_TEXTS = (TEXT, VARCHAR, BPCHAR, UNKNOWN)
_INTEGERS = {INT2: "<h", INT4: "<i", INT8: "<q"}
# Between 1970 and 2000, from which the server counts.
_DAYS = 10957
_MICROS = _DAYS * 86_400_000_000
_LONGEST_SHORT = 0x8000


def value_of(node: Node) -> Any:
    """The value of a constant: times as microseconds and dates as days since 1970.

    An interval is its months, days and microseconds. None is a null. Raises Refused where the type
    is none that is read here.
    """
    if node.fields["constisnull"] == "true":
        return None
    type_ = node.number("consttype")
    data = _bytes(str(node.fields["constvalue"]))
    if type_ == BOOL:
        return data[0] != 0
    if type_ in _INTEGERS:
        form = _INTEGERS[type_]
        return struct.unpack(form, data[: struct.calcsize(form)])[0]
    if type_ in _TEXTS:
        return _body(data).decode() if type_ != UNKNOWN else data.rstrip(b"\0").decode()
    if type_ == NUMERIC:
        return _number(_body(data))
    if type_ == DATE:
        return _shifted(struct.unpack("<i", data[:4])[0], 31, INFINITE_DAY, _DAYS)
    if type_ in (TIMESTAMP, TIMESTAMPTZ):
        return _shifted(struct.unpack("<q", data[:8])[0], 63, INFINITE_MOMENT, _MICROS)
    if type_ == INTERVAL:
        micros, days, months = struct.unpack("<qii", data[:16])
        return months, days, micros
    if type_ == UUID:
        text = data[:16].hex()
        return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
    raise Refused(f"constants of the type {type_} are not read")


def number_of(node: Node) -> int:
    """The number that stands for an enum's value."""
    return int(struct.unpack("<I", _bytes(str(node.fields["constvalue"]))[:4])[0])


def _bytes(written: str) -> bytes:
    """`4 [ 1 0 0 -1 ]` as bytes."""
    inside = re.search(r"\[([^\]]*)\]", written)
    if inside is None:
        raise Refused("a constant is not written as expected")
    return bytes(int(each) & 0xFF for each in inside[1].split())


def _body(data: bytes) -> bytes:
    """What follows the length of a value that has one of four bytes."""
    (header,) = struct.unpack("<I", data[:4])
    if header & 3:
        raise Refused("a constant is compressed")
    return data[4 : header >> 2]


def _shifted(value: int, bits: int, infinite: int, shift: int) -> int:
    if value == (1 << bits) - 1:
        return infinite
    if value == -(1 << bits):
        return -infinite
    return value + shift


def _number(data: bytes) -> Decimal:
    (header,) = struct.unpack("<H", data[:2])
    if header & 0xC000 == 0xC000:
        raise Refused("NaN and the infinities are no decimals")
    if header & _LONGEST_SHORT:
        negative = bool(header & 0x2000)
        scale = (header & 0x1F80) >> 7
        weight = header & 0x3F
        weight -= 0x40 if header & 0x40 else 0
        digits = data[2:]
    else:
        negative = bool(header & 0x4000)
        scale = header & 0x3FFF
        (weight,) = struct.unpack("<h", data[2:4])
        digits = data[4:]
    total = 0
    count = len(digits) // 2
    for (digit,) in struct.iter_unpack("<h", digits[: 2 * count]):
        total = total * 10_000 + digit
    exponent = 4 * (weight + 1 - count)
    written = str(total * 10**exponent) if exponent >= 0 else str(total)
    number = Decimal(f"{'-' if negative else ''}{written}E{min(exponent, 0)}")
    # With as many digits after the point as it was written with.
    return Decimal(f"{number:.{scale}f}")
