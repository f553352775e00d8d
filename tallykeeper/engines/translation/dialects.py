"""How DuckDB and Spark write the same thing: types, literals, and what they name differently.

Values cross as in `parquet`: times are microseconds since 1970, dates days, both as integers, so
that no engine's idea of zones, calendars or infinity takes part in anything.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from tallykeeper.engines.translation.refusal import Refused

_OTHER_ORDER = "array_agg() in the order of other values"

_PLAIN_TEXT = re.compile(r"[A-Za-z0-9 _.,:;/@#%+*()=<>!?|-]*")


class Dialect(ABC):
    """What is written differently."""

    name: str
    text_type: str

    def literal(self, value: str) -> str:
        """A text; one with odd characters by its bytes, which need no rules for escaping."""
        if _PLAIN_TEXT.fullmatch(value):
            return f"'{value}'"
        return self.of_bytes(value.encode().hex())

    @abstractmethod
    def of_bytes(self, digits: str) -> str:
        """The text whose bytes in UTF-8 are these, in hexadecimal."""

    @abstractmethod
    def distinct(self, left: str, right: str, *, negated: bool) -> str:
        """Whether two values differ, nulls being equal."""

    @abstractmethod
    def without(self, array: str, value: str | None) -> str:
        """The array without the elements that are the value, or without nulls."""

    @abstractmethod
    def distinct_array(self, value: str, condition: str | None) -> str:
        """An aggregate: the distinct values in order, a null last; null over no rows."""

    @abstractmethod
    def ordered_array(self, value: str, order: Sequence[Order], condition: str | None) -> str:
        """An aggregate: the values in order, nulls among them; null over no rows."""

    @abstractmethod
    def elements(self, array: str, alias: str, column: str) -> str:
        """An item of FROM: the elements of an array of the items before it."""

    @abstractmethod
    def list_type(self, element: str) -> str:
        """The type of arrays."""


@dataclass(frozen=True)
class Order:
    """An expression to order by."""

    sql: str
    descending: bool
    nulls_first: bool

    def __str__(self) -> str:
        direction = "DESC" if self.descending else "ASC"
        return f"{self.sql} {direction} NULLS {'FIRST' if self.nulls_first else 'LAST'}"


class DuckDB(Dialect):
    """DuckDB's SQL."""

    name = "duckdb"
    text_type = "VARCHAR"

    def of_bytes(self, digits: str) -> str:
        return f"decode(unhex('{digits}'))"

    def distinct(self, left: str, right: str, *, negated: bool) -> str:
        return f"({left} IS {'NOT ' if negated else ''}DISTINCT FROM {right})"

    def without(self, array: str, value: str | None) -> str:
        kept = "IS NOT NULL" if value is None else f"IS DISTINCT FROM {value}"
        return f"list_filter({array}, lambda e: e {kept})"

    def distinct_array(self, value: str, condition: str | None) -> str:
        return f"list_sort(array_agg(DISTINCT {value}){_filter(condition)}, 'ASC', 'NULLS LAST')"

    def ordered_array(self, value: str, order: Sequence[Order], condition: str | None) -> str:
        by = ", ".join(map(str, order))
        return f"array_agg({value} ORDER BY {by}){_filter(condition)}"

    def elements(self, array: str, alias: str, column: str) -> str:
        return f"LATERAL (SELECT unnest({array}) AS {column}) AS {alias}"

    def list_type(self, element: str) -> str:
        return f"{element}[]"


class Spark(Dialect):
    """Spark's SQL, in ANSI mode."""

    name = "spark"
    text_type = "STRING"

    def of_bytes(self, digits: str) -> str:
        return f"CAST(X'{digits}' AS STRING)"

    def distinct(self, left: str, right: str, *, negated: bool) -> str:
        same = f"({left} <=> {right})"
        return same if negated else f"(NOT {same})"

    def without(self, array: str, value: str | None) -> str:
        kept = "e IS NOT NULL" if value is None else f"NOT (e <=> {value})"
        return f"filter({array}, e -> {kept})"

    def distinct_array(self, value: str, condition: str | None) -> str:
        # Its aggregates of arrays leave out nulls, and are empty over no rows.
        missing = f"({value}) IS NULL" + (f" AND ({condition})" if condition else "")
        return (
            f"CASE WHEN count(*){_filter(condition)} > 0 THEN"
            f" concat(sort_array(collect_set({value}){_filter(condition)}),"
            f" CASE WHEN count(*) FILTER (WHERE {missing}) > 0 THEN array(NULL) ELSE array() END)"
            " END"
        )

    def ordered_array(self, value: str, order: Sequence[Order], condition: str | None) -> str:
        if len(order) != 1 or order[0].sql != value:
            raise Refused(_OTHER_ORDER)
        flags = (order[0].descending, order[0].nulls_first)
        if flags not in ((False, False), (True, True)):
            raise Refused(_OTHER_ORDER)
        values = (
            f"sort_array(collect_list({value}){_filter(condition)}, {str(not flags[0]).lower()})"
        )
        missing = f"({value}) IS NULL" + (f" AND ({condition})" if condition else "")
        nulls = f"array_repeat(NULL, CAST(count(*) FILTER (WHERE {missing}) AS INT))"
        parts = f"{nulls}, {values}" if flags[1] else f"{values}, {nulls}"
        return f"CASE WHEN count(*){_filter(condition)} > 0 THEN concat({parts}) END"

    def elements(self, array: str, alias: str, column: str) -> str:
        return f"LATERAL explode({array}) AS {alias}({column})"

    def list_type(self, element: str) -> str:
        return f"ARRAY<{element}>"


def _filter(condition: str | None) -> str:
    return f" FILTER (WHERE {condition})" if condition else ""


DIALECTS: dict[str, Dialect] = {each.name: each for each in (DuckDB(), Spark())}
"""The engines by their names."""
