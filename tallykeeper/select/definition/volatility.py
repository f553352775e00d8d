"""Functions and casts whose value does not follow from their arguments alone.

PostgreSQL marks them VOLATILE or STABLE. Some that are STABLE are safe as they are called, and
listed here; of all others it is said what to write instead.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from tallykeeper.select.definition.routines import Call, Types
from tallykeeper.select.definition.rule_trees import Node

_ZONED = "timestamptz"
_OF_ARGUMENTS = {
    "anytextcat",
    "array_to_string",
    "concat",
    "concat_ws",
    "format",
    "quote_literal",
    "quote_nullable",
    "textanycat",
}
_JSON = re.compile(r"(to_jsonb?|row_to_json|array_to_json|jsonb?_(build_\w+|agg\w*|object_agg\w*))")
_ALWAYS_SAFE = {
    "convert",
    "convert_from",
    "convert_to",
    "enum_first",
    "enum_last",
    "enum_range",
    "pg_collation_for",
    "pg_typeof",
}
_PATTERNS = {"to_char": r"TM|[LDG]", "to_date": "TM", "to_number": "[LDG]"}
_DATE_PATTERNS = "TM"
_AT = "name the zone first: (placed_at AT TIME ZONE 'Europe/Berlin')"
_SEVERAL = "a tally holds what follows from the rows alone"
_NOW = (
    "now",
    "transaction_timestamp",
    "statement_timestamp",
    "clock_timestamp",
    "timeofday",
    "age",
)
_VALUES = (
    "current_date",
    "current_time",
    "current_time",
    "current_timestamp",
    "current_timestamp",
    "localtime",
    "localtime",
    "localtimestamp",
    "localtimestamp",
    "current_role",
    "current_user",
    "user",
    "session_user",
    "current_catalog",
    "current_schema",
)

Said = tuple[str, str, str]


def obstacle(call: Call, types: Types) -> Said | None:
    """The word to look for in the SELECT, what is wrong with the call, and what to write instead.

    None where the call depends on nothing but its arguments.
    """
    routine = call.routine
    shown, word = call.shown, call.word
    if routine.volatility == "i":
        return None
    if routine.is_of_users:
        kind = "VOLATILE" if routine.volatility == "v" else "STABLE"
        return (
            word,
            f"{shown} is declared {kind}: it may read tables or settings",
            "declare it IMMUTABLE if its value follows from its arguments alone",
        )
    if routine.volatility == "v":
        return word, f"{shown} returns another value each time", f"take it out: {_SEVERAL}"
    if _is_safe(call, types):
        return None
    if routine.name in _NOW and (routine.name != "age" or len(routine.arguments) == 1):
        return (
            word,
            f"{shown} changes while no row does",
            "compare with the present where the tally is read, not in the SELECT",
        )
    return word, *_of_settings(call, types)


def _of_settings(call: Call, types: Types) -> tuple[str, str]:
    routine = call.routine
    shown = call.shown
    of_types = [types.name(t) for t in routine.arguments]
    zone = f"{shown} depends on the time zone of the session"
    if routine.name == "date_trunc":
        return zone, "name the zone: date_trunc('day', placed_at, 'Europe/Berlin')"
    if routine.name.endswith("_interval") or routine.name.startswith("interval_"):
        return (
            f"{shown} of days or months depends on the time zone of the session",
            "name the zone: (placed_at AT TIME ZONE 'UTC' + interval '1 day') AT TIME ZONE 'UTC'",
        )
    if call.operator is not None and _ZONED in of_types:
        return f"{zone}: it compares a moment with a date or a time of day", _AT
    if _ZONED in of_types:
        return zone, _AT
    if routine.name in ("timestamptz", "timezone", "make_timestamptz", "to_timestamp"):
        return zone, "name the zone that is meant: (day AT TIME ZONE 'Europe/Berlin')"
    if routine.name in _PATTERNS:
        return (
            f"{shown} depends on the language settings of the session",
            "write a constant pattern without TM, L, D and G",
        )
    if routine.name in _OF_ARGUMENTS or _JSON.fullmatch(routine.name):
        return (
            f"{shown} writes dates, times, money, floating-point numbers and bytea as the settings"
            " of the session say",
            "write times by to_char() with a pattern, moments at a named time zone, numbers as"
            " numeric, bytea by encode()",
        )
    if routine.name.endswith(("to_tsvector", "to_tsquery")):
        return (
            f"{shown} depends on the session's default_text_search_config",
            f"name the configuration: {routine.name}('simple', ...)",
        )
    return f"{shown} depends on the session or on other tables", f"take it out: {_SEVERAL}"


def _is_safe(call: Call, types: Types) -> bool:
    name, arguments = call.routine.name, call.arguments()
    if name in _ALWAYS_SAFE:
        return True
    if name in ("date_trunc", "generate_series", "make_timestamptz"):
        # The last argument is the time zone.
        return len(arguments) == {"date_trunc": 3, "generate_series": 4}.get(name, 7)
    if name in ("extract", "date_part"):
        return constant_text(arguments[0]).lower() == "epoch"
    if name in ("timestamptz_pl_interval", "timestamptz_mi_interval"):
        return _is_fixed_interval(arguments[1])
    if name == "interval_pl_timestamptz":
        return _is_fixed_interval(arguments[0])
    if name in _PATTERNS and types.name(call.routine.arguments[0]) != _ZONED:
        pattern = constant_text(arguments[-1])
        of_date = types.name(call.routine.arguments[0]) in ("timestamp", "interval")
        unsafe = _DATE_PATTERNS if of_date else _PATTERNS[name]
        return pattern != "" and re.search(unsafe, re.sub(r'"[^"]*"', "", pattern)) is None
    if name in _OF_ARGUMENTS:
        return _all_arguments(arguments, types.text_is_fixed)
    if _JSON.fullmatch(name):
        return _all_arguments(arguments, types.json_is_fixed)
    return False


def _all_arguments(arguments: list[Node], is_fixed: Callable[[int], bool]) -> bool:
    elements: list[Node] = []
    for each in arguments:
        # A row that is made on the spot says what it is made of.
        is_row = each.name in ("ROWEXPR", "ROW")
        elements += each.nodes("args") if is_row else [each]
    return all(e.type_oid() != 0 and is_fixed(e.type_oid()) for e in elements)


def bytes_of(node: Node) -> bytes:
    """The bytes of a constant, empty for others."""
    value = node.fields.get("constvalue")
    if node.name != "CONST" or not isinstance(value, str):
        return b""
    return bytes(int(b) & 255 for b in value.strip("[] ").split())


def constant_text(node: Node) -> str:
    """The text of a constant, empty for others. Four bytes before it are its length."""
    return bytes_of(node)[4:].decode("utf-8", "replace")


def _is_fixed_interval(node: Node) -> bool:
    value = bytes_of(node)
    return len(value) == 16 and not any(value[8:])


def cast_obstacle(node: Node, types: Types) -> Said | None:
    """Likewise for a cast by way of text."""
    source, target = node.node("arg").type_oid(), node.type_oid()
    if source and not types.text_is_fixed(source):
        name = types.name(source)
        way_out = "write a pattern: to_char(placed_at, 'YYYY-MM-DD')"
        if name in ("float4", "float8"):
            way_out = "write a number as numeric: amount::numeric::text"
        elif name == "bytea":
            way_out = "write its bytes: encode(payload, 'hex')"
        elif name == _ZONED:
            way_out = "to_char(placed_at AT TIME ZONE 'Europe/Berlin', 'YYYY-MM-DD HH24:MI')"
        return "::", f"the text of a {name} depends on the settings of the session", way_out
    if target and not types.input_is_fixed(target):
        return (
            "::",
            f"how text is read as {types.name(target)} depends on the settings of the session",
            "read it by to_date() or make_date(), or keep it as the type in the table",
        )
    return None


def value_obstacle(node: Node) -> Said:
    """Likewise for CURRENT_DATE and what is written like it."""
    name = _VALUES[node.number("op")]
    if "user" in name or "role" in name or "catalog" in name or "schema" in name:
        return name, f"{name} depends on who asks", f"take it out: {_SEVERAL}"
    return (
        name,
        f"{name} changes while no row does",
        "compare with the present where the tally is read, not in the SELECT",
    )
